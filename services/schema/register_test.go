package schema_test

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"go.uber.org/zap/zaptest"
	"google.golang.org/protobuf/proto"

	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/schema"
)

// protocols gives a client of each protocol, all of one replica.
func (w *world) protocols() map[string]schemav1connect.SchemaServiceClient {
	w.t.Helper()
	log := zaptest.NewLogger(w.t)
	service, err := schema.New(w.t.Context(), schema.Config{DatabaseURL: w.url}, boot.Deps{Log: log})
	if err != nil {
		w.t.Fatal(err)
	}
	mux := http.NewServeMux()
	for path, handler := range service.Handlers {
		mux.Handle(path, handler)
	}
	server := httptest.NewUnstartedServer(wire.Edge(log, access.Everybody(), mux))
	server.EnableHTTP2 = true
	server.StartTLS()
	w.t.Cleanup(func() {
		server.Close()
		service.Close()
	})
	clients := make(map[string]schemav1connect.SchemaServiceClient)
	for name, options := range map[string][]connect.ClientOption{
		"Connect": nil, "Connect JSON": {connect.WithProtoJSON()}, "gRPC": {connect.WithGRPC()},
	} {
		clients[name] = schemav1connect.NewSchemaServiceClient(server.Client(), server.URL, options...)
	}
	return clients
}

// registration is of a table in public with the usual grid of 4 × 6 cells.
func registration(name, table string, change ...func(*schemav1.RegisterLayerRequest)) *schemav1.RegisterLayerRequest {
	req := &schemav1.RegisterLayerRequest{
		Name: name, Table: &layerv1.Table{Name: table},
		Lattice: &schemav1.RegisterLayerRequest_Extent{Extent: &gridv1.Extent{
			Crs: "EPSG:32633", Bounds: []float64{1000, 1960, 1060, 2000}, Rows: 4, Cols: 6,
		}},
	}
	for _, f := range change {
		f(req)
	}
	return req
}

func extent(f func(*gridv1.Extent)) func(*schemav1.RegisterLayerRequest) {
	return func(r *schemav1.RegisterLayerRequest) { f(r.GetExtent()) }
}

func inSchema(name string) func(*schemav1.RegisterLayerRequest) {
	return func(r *schemav1.RegisterLayerRequest) { r.Table.Schema = name }
}

func (w *world) register(req *schemav1.RegisterLayerRequest) *schemav1.RegisterLayerResponse {
	w.t.Helper()
	res, err := w.client.RegisterLayer(w.t.Context(), connect.NewRequest(req))
	if err != nil {
		w.t.Fatal(err)
	}
	return res.Msg
}

func (w *world) drop(name string, generation int64) (*layerv1.Layer, error) {
	res, err := w.client.DropLayer(w.t.Context(), connect.NewRequest(&schemav1.DropLayerRequest{Name: name, Generation: generation}))
	if err != nil {
		return nil, err
	}
	return res.Msg.GetLayer(), nil
}

func TestRegisterReadsTheTable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.legacy("plain")
	w.coordinate("corners", cornerX, cornerY)
	w.coordinate("southern", centerX, southY)
	w.exec(`CREATE TABLE public."Places-2" (x_coord double precision, y_coord double precision, value smallint)`)
	w.exec(`INSERT INTO public."Places-2" SELECT ` + centerX + `, ` + centerY + `, c FROM generate_series(0, 3) r, generate_series(0, 5) c`)
	theirs := w.dump("public")
	nodata := -9999.0
	grid := &gridv1.Grid{Crs: "EPSG:32633", Rows: 4, Cols: 6, OriginX: 1000, OriginY: 2000, StepX: 10, StepY: 10}
	for _, test := range []struct {
		req    *schemav1.RegisterLayerRequest
		format layerv1.Format
		facts  string // registration, south-up, stored and declared type, key
		codes  string
	}{
		{
			registration("plain", "plain", func(r *schemav1.RegisterLayerRequest) {
				r.Band, r.Nodata, r.DeclaredType = "b2", &nodata, layerv1.DataType_DATA_TYPE_UINT8
			}), layerv1.Format_FORMAT_LEGACY, "UNSPECIFIED false FLOAT64 UINT8 true", "[]",
		},
		{
			registration("turned", "plain", func(r *schemav1.RegisterLayerRequest) { r.SouthUp = new(true) }),
			layerv1.Format_FORMAT_LEGACY, "UNSPECIFIED true FLOAT64 FLOAT64 true", "[SOUTH_UP TABLE_SHARED]",
		},
		{
			registration("corners", "corners", extent(func(e *gridv1.Extent) { e.Rows, e.Cols, e.Resolution = 0, 0, new(10.0) })),
			layerv1.Format_FORMAT_COORDINATE, "UPPER_LEFT false FLOAT32 FLOAT32 true", "[REGISTRATION_CORNER]",
		},
		{
			registration("southern", "southern", func(r *schemav1.RegisterLayerRequest) {
				r.Lattice = &schemav1.RegisterLayerRequest_Grid{Grid: grid}
				r.Registration, r.SouthUp = gridv1.Registration_REGISTRATION_CENTER, new(true)
			}), layerv1.Format_FORMAT_COORDINATE, "CENTER true FLOAT32 FLOAT32 true", "[SOUTH_UP]",
		},
		{
			registration("Plätze 2", "Places-2", extent(func(e *gridv1.Extent) { e.Crs = "" })),
			layerv1.Format_FORMAT_COORDINATE, "CENTER false INT16 INT16 false", "[CRS_MISSING NO_KEY]",
		},
	} {
		res := w.register(test.req)
		l := res.GetLayer()
		facts := strings.TrimPrefix(l.GetRegistration().String(), "REGISTRATION_") + fmt.Sprint(" ", l.GetSouthUp(), " ",
			strings.TrimPrefix(l.GetStoredType().String(), "DATA_TYPE_"), " ", strings.TrimPrefix(l.GetDeclaredType().String(), "DATA_TYPE_"), " ", l.GetHasKey())
		if !res.GetAdded() || res.GetRowsRead() != 24 || l.GetFormat() != test.format || facts != test.facts || fmt.Sprint(codes(l)) != test.codes ||
			l.GetGeneration() != 1 || l.GetUpdateTime() == nil {
			t.Errorf("%s: %v %v", test.req.GetName(), facts, res)
		}
		grid.Crs = l.GetGrid().GetCrs()
		if !proto.Equal(l.GetGrid(), grid) {
			t.Errorf("%s: grid %v", test.req.GetName(), l.GetGrid())
		}
		if kept := w.layer(test.req.GetName()); !proto.Equal(kept, l) {
			t.Errorf("%s: kept is\n%v, told was\n%v", test.req.GetName(), kept, l)
		}
		if found, rows := w.detect(test.req.GetName(), true); rows != 24 || strings.Contains(fmt.Sprint(codes(found)), "FACTS_CHANGED") || found.GetFormat() != test.format {
			t.Errorf("%s looked at again: %d rows, %v", test.req.GetName(), rows, found)
		}
	}
	if w.dump("public") != theirs {
		t.Error("their tables have changed")
	}
	if l := w.layer("plain"); l.GetNodata() != -9999 || l.GetBand() != "b2" {
		t.Errorf("plain: %v", l)
	}
}

func TestRegisterAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.legacy("plain")
	dry := w.register(registration("plain", "plain", func(r *schemav1.RegisterLayerRequest) { r.DryRun = true }))
	if _, err := w.client.GetLayer(t.Context(), connect.NewRequest(&schemav1.GetLayerRequest{Name: "plain"})); !dry.GetAdded() || connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("a dry run: %v, %v", dry, err)
	}
	first := w.register(registration("plain", "plain"))
	before := w.dump("rasterloom")
	again := w.register(registration("plain", "plain"))
	if again.GetAdded() || !proto.Equal(again.GetLayer(), first.GetLayer()) || w.dump("rasterloom") != before {
		t.Errorf("again: %v", again)
	}
	// Other facts under the name are refused; those of the table are followed.
	_, err := w.client.RegisterLayer(t.Context(), connect.NewRequest(registration("plain", "plain", extent(func(e *gridv1.Extent) { e.Crs = "EPSG:4326" }))))
	if f := wantError(t, err, connect.CodeAlreadyExists, "LAYER_EXISTS"); f["differs"] != "grid" {
		t.Errorf("fields %v", f)
	}
	w.exec(`ALTER TABLE public.plain DROP CONSTRAINT plain_pkey`)
	if l, _ := w.detect("plain", false); !strings.Contains(fmt.Sprint(codes(l)), "FACTS_CHANGED") {
		t.Errorf("the lost key was not seen: %v", l)
	}
	if l := w.register(registration("plain", "plain")).GetLayer(); l.GetGeneration() != 2 || l.GetHasKey() {
		t.Errorf("without its key: %v", l)
	}
	// Adoption and registration do not take names from each other.
	w.add(row{name: "plain"})
	w.add(row{name: "other"})
	w.legacy("resampled_other")
	a := w.adopt()
	problemOf(t, a.GetLayers()[1], "NAME_TAKEN")
	if a.GetAdded() != 1 || a.GetInvalid() != 1 || w.layer("other").GetFormat() != layerv1.Format_FORMAT_LEGACY {
		t.Errorf("one name that is taken: %v", a)
	}
	if l := w.layer("plain"); l.GetGeneration() != 2 || len(codes(l)) != 1 {
		t.Errorf("adoption changed the registered layer: %v", l)
	}
	w.exec(`DELETE FROM public.resampled_datasets WHERE name = 'other'`)
	w.exec(`UPDATE public.resampled_datasets SET name = 'adopted'`)
	w.adopt()
	_, err = w.client.RegisterLayer(t.Context(), connect.NewRequest(registration("adopted", "plain")))
	if f := wantError(t, err, connect.CodeAlreadyExists, "LAYER_EXISTS"); f["catalog"] != "public.resampled_datasets" {
		t.Errorf("fields %v", f)
	}
}

func TestDrop(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.legacy("plain")
	w.register(registration("plain", "plain"))
	w.add(row{name: "adopted"})
	w.legacy("resampled_adopted")
	w.adopt()
	theirs := w.dump("public")
	_, err := w.drop("plane", 0)
	if f := wantError(t, err, connect.CodeNotFound, "LAYER_NOT_FOUND"); f["nearest"] != "plain" {
		t.Errorf("fields %v", f)
	}
	_, err = w.drop("plain", 2)
	if f := wantError(t, err, connect.CodeAborted, "LAYER_CHANGED"); f["generation"] != "1" {
		t.Errorf("fields %v", f)
	}
	_, err = w.drop("plain", -1)
	wantError(t, err, connect.CodeInvalidArgument, "INVALID_ARGUMENT")
	for _, name := range []string{"plain", "adopted"} {
		if l, err := w.drop(name, 1); err != nil || l.GetName() != name {
			t.Errorf("drop %s: %v, %v", name, l, err)
		}
		_, err = w.drop(name, 1)
		wantError(t, err, connect.CodeNotFound, "LAYER_NOT_FOUND")
	}
	if w.dump("public") != theirs {
		t.Error("their tables have changed")
	}
	// What comes back is another generation, whoever brings it.
	if l := w.register(registration("plain", "plain")).GetLayer(); l.GetGeneration() != 2 {
		t.Errorf("registered again: %v", l)
	}
	if res := w.adopt(); res.GetAdded() != 1 || res.GetLayers()[0].GetGeneration() != 2 || w.layer("adopted").GetGeneration() != 2 {
		t.Errorf("adopted again: %v", res)
	}
	before := w.dump("rasterloom")
	if w.adopt(); w.dump("rasterloom") != before {
		t.Error("adopting once more has changed something")
	}

	m, err := w.migrations().StartMigration(t.Context(), start("plain", "k"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.drop("plain", 2)
	if f := wantError(t, err, connect.CodeFailedPrecondition, "MIGRATION_STATE"); f["migration"] != m.Msg.GetMigration().GetId() {
		t.Errorf("fields %v", f)
	}
}

// badRegistrations are requests that each protocol has to refuse.
func badRegistrations(temporary string) []struct {
	name   string
	req    *schemav1.RegisterLayerRequest
	code   connect.Code
	reason string
	fields map[string]string
} {
	type list = []struct {
		name   string
		req    *schemav1.RegisterLayerRequest
		code   connect.Code
		reason string
		fields map[string]string
	}
	var all list
	add := func(name string, req *schemav1.RegisterLayerRequest, code connect.Code, reason string, fields map[string]string) {
		all = append(all, struct {
			name   string
			req    *schemav1.RegisterLayerRequest
			code   connect.Code
			reason string
			fields map[string]string
		}{name, req, code, reason, fields})
	}
	for _, name := range []string{"", strings.Repeat("x", 64), "a\x00b", "a\nb", "a\u202eb", `x"; DROP TABLE y; --`, "pg_temp.x", strings.Repeat("x", 256)} {
		add(fmt.Sprintf("layer %.20q", name), registration(name, "plain"), connect.CodeInvalidArgument, "INVALID_ARGUMENT", nil)
		add(fmt.Sprintf("table %.20q", name), registration("l", name), connect.CodeInvalidArgument, "INVALID_ARGUMENT", nil)
		if name != "" {
			add(fmt.Sprintf("schema %.20q", name), registration("l", "plain", inSchema(name)), connect.CodeInvalidArgument, "INVALID_ARGUMENT", nil)
		}
	}
	add("no table", registration("l", "", func(r *schemav1.RegisterLayerRequest) { r.Table = nil }), connect.CodeInvalidArgument, "INVALID_ARGUMENT", nil)
	add("pg_temp", registration("l", "x", inSchema("pg_temp")), connect.CodeInvalidArgument, "INVALID_ARGUMENT", nil)
	for _, s := range []string{"pg_catalog", "information_schema", "rasterloom", "pg_toast"} {
		add(s, registration("l", "pg_class", inSchema(s)), connect.CodePermissionDenied, "DATABASE_PERMISSION", nil)
	}
	add("missing table", registration("l", "nothing"), connect.CodeNotFound, "TABLE_NOT_FOUND", map[string]string{"layer": "l", "table": "public.nothing"})
	add("missing schema", registration("l", "plain", inSchema("nowhere")), connect.CodeNotFound, "TABLE_NOT_FOUND", nil)

	kind := func(table, words string, change ...func(*schemav1.RegisterLayerRequest)) {
		add(table, registration("l", table, change...), connect.CodeFailedPrecondition, "LAYER_UNREADABLE", map[string]string{"problem": "TABLE_KIND", "kind": words})
	}
	kind("a_view", "a view")
	kind("a_foreign", "a foreign table")
	kind("a_parted", "a partitioned table")
	kind("a_temporary", "a temporary table", inSchema(temporary))
	add("x_coord of text", registration("l", "text_x"), connect.CodeFailedPrecondition, "LAYER_UNREADABLE", map[string]string{"problem": "COLUMN_TYPE", "column": "x_coord", "type": "text"})
	add("no value", registration("l", "no_value"), connect.CodeFailedPrecondition, "LAYER_UNREADABLE", map[string]string{"problem": "COLUMN_MISSING", "column": "value"})
	add("duplicates", registration("l", "twice"), connect.CodeFailedPrecondition, "DUPLICATE_CELL", map[string]string{"cells": "2", "surplus_rows": "3", "rows_read": "27"})
	add("NULL indices", registration("l", "nulls"), connect.CodeFailedPrecondition, "LAYER_UNREADABLE", map[string]string{"problem": "INDEX_NULL", "rows": "2", "rows_read": "26"})
	add("outside", registration("l", "outside"), connect.CodeFailedPrecondition, "CELL_OFF_GRID", map[string]string{"rows": "2", "max_row": "4", "min_col": "-1"})
	add("off the lattice", registration("l", "off"), connect.CodeFailedPrecondition, "LAYER_UNREADABLE", map[string]string{"problem": "COORDINATES_OFF_GRID", "rows": "24"})
	add("centres said", registration("l", "corners", func(r *schemav1.RegisterLayerRequest) { r.Registration = gridv1.Registration_REGISTRATION_CENTER }),
		connect.CodeFailedPrecondition, "LAYER_UNREADABLE", map[string]string{"said": "CENTER", "found": "UPPER_LEFT"})
	add("south said", registration("l", "corners", func(r *schemav1.RegisterLayerRequest) { r.SouthUp = new(true) }),
		connect.CodeFailedPrecondition, "LAYER_UNREADABLE", map[string]string{"field": "south_up", "found": "false"})
	add("coordinates said", registration("l", "plain", func(r *schemav1.RegisterLayerRequest) {
		r.Registration = gridv1.Registration_REGISTRATION_UPPER_LEFT
	}), connect.CodeFailedPrecondition, "LAYER_UNREADABLE", map[string]string{"field": "registration"})

	grid := func(name, field string, change func(*gridv1.Extent)) {
		add(name, registration("l", "plain", extent(change)), connect.CodeInvalidArgument, "INVALID_GRID", map[string]string{"field": field})
	}
	for _, r := range []float64{0, -1, math.NaN(), math.Inf(1), 1e-300} {
		grid(fmt.Sprint("resolution ", r), "resolution", func(e *gridv1.Extent) { e.Rows, e.Cols, e.Resolution = 0, 0, &r })
	}
	grid("a part of a cell", "resolution", func(e *gridv1.Extent) { e.Rows, e.Cols, e.Resolution = 0, 0, new(7.0) })
	grid("another shape", "resolution", func(e *gridv1.Extent) { e.Resolution = new(5.0) })
	grid("too fine", "rows", func(e *gridv1.Extent) { e.Rows, e.Cols, e.Resolution = 0, 0, new(1e-9) })
	grid("2^53+1 cells in a row", "cols", func(e *gridv1.Extent) { e.Rows, e.Cols = 1, 1<<53+1 })
	grid("over 2^53 cells", "cells", func(e *gridv1.Extent) { e.Rows, e.Cols = 94906267, 94906267 })
	grid("no shape", "rows", func(e *gridv1.Extent) { e.Rows, e.Cols = 0, 0 })
	grid("three bounds", "bounds", func(e *gridv1.Extent) { e.Bounds = e.Bounds[:3] })
	grid("five bounds", "bounds", func(e *gridv1.Extent) { e.Bounds = append(e.Bounds, 1) })
	grid("min above max", "min_x", func(e *gridv1.Extent) { e.Bounds[0] = 2000 })
	grid("min at max", "min_y", func(e *gridv1.Extent) { e.Bounds[1] = e.Bounds[3] })
	grid("NaN bounds", "max_y", func(e *gridv1.Extent) { e.Bounds[3] = math.NaN() })
	explicit := func(name, field string, g *gridv1.Grid) {
		add(name, registration("l", "plain", func(r *schemav1.RegisterLayerRequest) {
			r.Lattice = &schemav1.RegisterLayerRequest_Grid{Grid: g}
		}), connect.CodeInvalidArgument, "INVALID_GRID", map[string]string{"field": field})
	}
	explicit("an empty grid", "rows", &gridv1.Grid{})
	explicit("a step of NaN", "step_x", &gridv1.Grid{Rows: 4, Cols: 6, StepX: math.NaN(), StepY: 10})
	explicit("a step of 0", "step_y", &gridv1.Grid{Rows: 4, Cols: 6, StepX: 10})
	add("no grid", registration("l", "plain", func(r *schemav1.RegisterLayerRequest) { r.Lattice = nil }), connect.CodeInvalidArgument, "INVALID_ARGUMENT", nil)
	add("a type of nobody's", registration("l", "plain", func(r *schemav1.RegisterLayerRequest) { r.DeclaredType = 99 }), connect.CodeInvalidArgument, "INVALID_ARGUMENT", nil)
	return all
}

func TestBadRegistrations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.legacy("plain")
	w.coordinate("corners", cornerX, cornerY)
	for _, sql := range []string{
		`CREATE VIEW public.a_view AS SELECT * FROM public.plain`,
		`CREATE FOREIGN DATA WRAPPER nothing`,
		`CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing`,
		`CREATE FOREIGN TABLE public.a_foreign (row_idx int, col_idx int, value double precision) SERVER nowhere`,
		`CREATE TABLE public.a_parted (row_idx int, col_idx int, value double precision) PARTITION BY RANGE (row_idx)`,
		`CREATE TABLE public.text_x (row_idx int, col_idx int, x_coord text, y_coord double precision, value real)`,
		`CREATE TABLE public.no_value (row_idx int, col_idx int, val real)`,
		`CREATE TABLE public.twice AS SELECT * FROM public.plain`,
		`INSERT INTO public.twice VALUES (1, 1, 0), (1, 1, 2), (2, 2, NULL)`,
		`CREATE TABLE public.nulls AS SELECT * FROM public.plain`,
		`INSERT INTO public.nulls VALUES (NULL, 1, 0), (1, NULL, 2)`,
		`CREATE TABLE public.outside AS SELECT * FROM public.plain`,
		`INSERT INTO public.outside VALUES (4, 1, 0), (1, -1, 2)`,
		`CREATE TABLE public.off AS SELECT 1000 + (c + 0.25::float8) * 10 AS x_coord, 2000 - (r + 0.5::float8) * 10 AS y_coord, 1 AS value
			FROM generate_series(0, 3) r, generate_series(0, 5) c`,
	} {
		w.exec(sql)
	}
	// A temporary table lasts as long as the session that made it.
	session, err := w.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Release()
	var temporary string
	if _, err := session.Exec(t.Context(), `CREATE TEMPORARY TABLE a_temporary (row_idx int, col_idx int, value real)`); err != nil {
		t.Fatal(err)
	}
	if err := session.QueryRow(t.Context(), `SELECT nspname::text FROM pg_namespace WHERE oid = pg_my_temp_schema()`).Scan(&temporary); err != nil {
		t.Fatal(err)
	}
	ours, theirs := w.dump("rasterloom"), w.dump("public")
	for protocol, client := range w.protocols() {
		t.Run(protocol, func(t *testing.T) {
			for _, bad := range badRegistrations(temporary) {
				_, err := client.RegisterLayer(t.Context(), connect.NewRequest(bad.req))
				t.Logf("%s: %v", bad.name, err)
				if connect.CodeOf(err) != bad.code {
					t.Errorf("%s: %v, want %v", bad.name, err, bad.code)
					continue
				}
				f := wantError(t, err, bad.code, bad.reason)
				for key, value := range bad.fields {
					if f[key] != value {
						t.Errorf("%s: field %s is %q, want %q in %v", bad.name, key, f[key], value, f)
					}
				}
			}
			// It is still there, and can do it.
			if res, err := client.RegisterLayer(t.Context(), connect.NewRequest(registration("good", "plain", func(r *schemav1.RegisterLayerRequest) { r.DryRun = true }))); err != nil || !res.Msg.GetAdded() {
				t.Errorf("a good one: %v, %v", res, err)
			}
		})
	}
	if w.dump("rasterloom") != ours || w.dump("public") != theirs {
		t.Error("refused registrations have changed something")
	}

	// What adoption says of the same tables.
	w.add(row{name: "foreign", table: "a_foreign"})
	w.adopt()
	if p := problemOf(t, w.layer("foreign"), "TABLE_KIND"); p.GetFields()["kind"] != "a foreign table" {
		t.Errorf("foreign: %v", p)
	}
	w.exec(`CREATE SCHEMA other`)
	w.exec(`CREATE TABLE other.catalog AS SELECT 'brief'::text AS name, bounds, shape_height, shape_width, 'a_temporary'::text AS data_table_name FROM public.resampled_datasets`)
	res, err := w.client.AdoptCatalog(t.Context(), connect.NewRequest(&schemav1.AdoptCatalogRequest{
		Table: &layerv1.Table{Schema: "other", Name: "catalog"}, DataSchema: temporary,
	}))
	if err != nil {
		t.Fatal(err)
	}
	if p := problemOf(t, res.Msg.GetLayers()[0], "TABLE_KIND"); p.GetFields()["kind"] != "a temporary table" || p.GetSeverity() != layerv1.Severity_SEVERITY_CRITICAL {
		t.Errorf("temporary: %v", p)
	}
}
