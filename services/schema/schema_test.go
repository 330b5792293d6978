package schema_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap/zaptest"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/rasterloom/rasterloom/fault"
	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/internal/pgtest"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/schema"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// patience is far more than anything here takes: a test that waits for it fails.
const patience = time.Minute

// world is a database as the old system left it, with the service on it.
type world struct {
	t      *testing.T
	url    string
	pool   *pgxpool.Pool // of the database's owner, not the service's
	client schemav1connect.SchemaServiceClient
}

// catalogDDL is the old system's own.
const catalogDDL = `CREATE TABLE public.resampled_datasets (
	id SERIAL PRIMARY KEY, name VARCHAR(255), source_path TEXT, target_resolution NUMERIC,
	target_crs VARCHAR(100), bounds DOUBLE PRECISION[], shape_height INTEGER, shape_width INTEGER,
	data_type VARCHAR(50), resampling_method VARCHAR(50), band_name VARCHAR(100), data_table_name VARCHAR(100),
	metadata JSONB, created_at TIMESTAMP DEFAULT now())`

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, url: pgtest.URL(t)}
	w.pool = pgtest.Connect(t, w.url)
	w.exec(catalogDDL)
	w.client = serve(t, w.url)
	return w
}

// serve runs the service over a real protocol and gives its client.
func serve(t *testing.T, databaseURL string) schemav1connect.SchemaServiceClient {
	t.Helper()
	log := zaptest.NewLogger(t)
	service, err := schema.New(t.Context(), schema.Config{DatabaseURL: databaseURL}, boot.Deps{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for path, handler := range service.Handlers {
		mux.Handle(path, handler)
	}
	server := httptest.NewServer(wire.Edge(log, access.Everybody(), mux))
	t.Cleanup(func() {
		server.Close()
		service.Close()
	})
	if err := service.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	return schemav1connect.NewSchemaServiceClient(server.Client(), server.URL)
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.pool.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

// row is a catalog row; its zero fields take those of a grid of 4 × 6 cells of
// 10 m with the corner at (1000, 2000).
type row struct {
	name          string
	bounds        []float64
	height, width any
	resolution    any
	crs           any
	dataType      any
	table         any
	metadata      any
}

func (w *world) add(r row) {
	w.t.Helper()
	if r.bounds == nil {
		r.bounds = []float64{1000, 1960, 1060, 2000}
	}
	if r.height == nil {
		r.height, r.width = 4, 6
	}
	if r.resolution == nil {
		r.resolution = 10.0
	}
	if r.crs == nil {
		r.crs = "EPSG:32633"
	}
	if r.dataType == nil {
		r.dataType = "float64"
	}
	w.exec(`INSERT INTO public.resampled_datasets (name, target_resolution, target_crs, bounds, shape_height, shape_width, data_type, band_name, data_table_name, metadata)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 'b1', $8, $9)`,
		r.name, r.resolution, r.crs, r.bounds, r.height, r.width, r.dataType, r.table, r.metadata)
}

// legacy makes a table of indices and values, full, with a key.
func (w *world) legacy(table string) {
	w.t.Helper()
	w.exec(fmt.Sprintf(`CREATE TABLE public.%q (row_idx int, col_idx int, value double precision, PRIMARY KEY (row_idx, col_idx))`, table))
	w.exec(fmt.Sprintf(`INSERT INTO public.%q SELECT r, c, r * 10 + c FROM generate_series(0, 3) r, generate_series(0, 5) c`, table))
}

// coordinate makes a table with coordinates as well, by expressions of r and c.
func (w *world) coordinate(table, x, y string) {
	w.t.Helper()
	w.exec(fmt.Sprintf(`CREATE TABLE public.%q (row_idx int, col_idx int, x_coord double precision, y_coord double precision, value real, PRIMARY KEY (row_idx, col_idx))`, table))
	w.exec(fmt.Sprintf(`INSERT INTO public.%q SELECT r, c, %s, %s, r * 10 + c FROM generate_series(0, 3) r, generate_series(0, 5) c`, table, x, y))
}

const (
	centerX, centerY = "1000 + (c + 0.5::float8) * 10", "2000 - (r + 0.5::float8) * 10"
	cornerX, cornerY = "1000 + c * 10::float8", "2000 - r * 10::float8"
	southY           = "1960 + (r + 0.5::float8) * 10"
)

func (w *world) adopt() *schemav1.AdoptCatalogResponse {
	w.t.Helper()
	res, err := w.client.AdoptCatalog(w.t.Context(), connect.NewRequest(&schemav1.AdoptCatalogRequest{}))
	if err != nil {
		w.t.Fatal(err)
	}
	return res.Msg
}

func (w *world) layer(name string) *layerv1.Layer {
	w.t.Helper()
	res, err := w.client.GetLayer(w.t.Context(), connect.NewRequest(&schemav1.GetLayerRequest{Name: name}))
	if err != nil {
		w.t.Fatal(err)
	}
	return res.Msg.GetLayer()
}

func (w *world) detect(name string, scan bool) (*layerv1.Layer, int64) {
	w.t.Helper()
	res, err := w.client.DetectFormat(w.t.Context(), connect.NewRequest(&schemav1.DetectFormatRequest{Name: name, Scan: scan}))
	if err != nil {
		w.t.Fatal(err)
	}
	return res.Msg.GetLayer(), res.Msg.GetRowsRead()
}

func codes(l *layerv1.Layer) []string {
	var list []string
	for _, p := range l.GetProblems() {
		list = append(list, p.GetCode())
	}
	return list
}

func problemOf(t *testing.T, l *layerv1.Layer, code string) *layerv1.Problem {
	t.Helper()
	for _, p := range l.GetProblems() {
		if p.GetCode() == code {
			return p
		}
	}
	t.Fatalf("layer %q has no problem %s, but %v", l.GetName(), code, l.GetProblems())
	return nil
}

// wantError checks code and reason and gives the fields. No word of the
// database's own may have come through.
func wantError(t *testing.T, err error, code connect.Code, reason string) map[string]string {
	t.Helper()
	ce, ok := errors.AsType[*connect.Error](err)
	if !ok || ce.Code() != code {
		t.Fatalf("got %v, want %v", err, code)
	}
	for _, leak := range []string{"SELECT", "SQLSTATE", "postgres://rasterloom", "canary", "/tmp", "host="} {
		if strings.Contains(ce.Message(), leak) {
			t.Errorf("the message leaks %q: %s", leak, ce.Message())
		}
	}
	for _, d := range ce.Details() {
		if m, err := d.Value(); err == nil {
			if info, ok := m.(*errdetails.ErrorInfo); ok {
				if info.GetReason() != reason {
					t.Errorf("reason %s, want %s: %v", info.GetReason(), reason, err)
				}
				return info.GetMetadata()
			}
		}
	}
	t.Fatalf("no reason in %v", err)
	return nil
}

// dump is everything in the database outside of the system catalogs: columns,
// indexes, triggers, grants and rows of each table.
func (w *world) dump(schema string) string {
	w.t.Helper()
	var b strings.Builder
	query := func(sql string, args ...any) {
		rows, err := w.pool.Query(w.t.Context(), sql, args...)
		if err != nil {
			w.t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			values, err := rows.Values()
			if err != nil {
				w.t.Fatal(err)
			}
			fmt.Fprintln(&b, values...)
		}
		if err := rows.Err(); err != nil {
			w.t.Fatal(err)
		}
	}
	query(`SELECT c.oid, c.relname::text, c.relkind::text, c.relfilenode, c.relacl::text, a.attname::text, a.atttypid, a.attnotnull
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relnamespace = $1::regnamespace AND a.attnum > 0 ORDER BY 2, a.attnum`, schema)
	query(`SELECT t.tgname::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = $1::regnamespace ORDER BY 1`, schema)
	var tables []string
	rows, err := w.pool.Query(w.t.Context(), `SELECT relname::text FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind = 'r' ORDER BY 1`, schema)
	if err != nil {
		w.t.Fatal(err)
	}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			w.t.Fatal(err)
		}
		tables = append(tables, name)
	}
	for _, name := range tables {
		query(fmt.Sprintf(`SELECT %s, ctid::text, xmin::text, t::text FROM %q.%q t ORDER BY ctid`, "'"+name+"'", schema, name))
	}
	return b.String()
}

func TestTheThreeFormats(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(row{name: "old", metadata: `{"nodata": -9999}`})
	w.legacy("resampled_old")
	w.add(row{name: "as-is", metadata: `{"passthrough": true}`, dataType: "Byte"})
	w.legacy("passthrough_as_is")
	w.add(row{name: "located"})
	w.coordinate("resampled_located", centerX, centerY)
	w.add(row{name: "named", metadata: `{"memory_aware": true, "storage_table": "chunks_7"}`})
	w.coordinate("chunks_7", centerX, centerY)
	w.add(row{name: "win-dow", metadata: `{"memory_aware": "true"}`})
	w.coordinate("windowed_win_dow", centerX, centerY)
	w.add(row{name: "stated", table: "MyTable", resolution: 10.5})
	w.legacy("MyTable")
	w.add(row{name: "UpperCase"})
	w.legacy("resampled_uppercase") // as unquoted SQL makes it
	w.add(row{name: "places"})
	w.exec(`CREATE TABLE public.resampled_places (x_coord double precision, y_coord double precision, value smallint, UNIQUE (y_coord, x_coord))`)
	w.exec(`INSERT INTO public.resampled_places SELECT ` + cornerX + `, ` + cornerY + `, c FROM generate_series(0, 3) r, generate_series(0, 5) c`)
	w.exec(`ANALYZE public.resampled_old`)

	res := w.adopt()
	if res.GetAdded() != 8 || res.GetChanged()+res.GetUnchanged()+res.GetInvalid() != 0 {
		t.Errorf("added %d, changed %d, unchanged %d, invalid %d", res.GetAdded(), res.GetChanged(), res.GetUnchanged(), res.GetInvalid())
	}
	for _, want := range []struct {
		name, table      string
		format           layerv1.Format
		registration     string
		stored, declared string
		codes            []string
	}{
		{"old", "resampled_old", layerv1.Format_FORMAT_LEGACY, "UNSPECIFIED", "FLOAT64", "FLOAT64", nil},
		{"as-is", "passthrough_as_is", layerv1.Format_FORMAT_LEGACY, "UNSPECIFIED", "FLOAT64", "UINT8", nil},
		{"located", "resampled_located", layerv1.Format_FORMAT_COORDINATE, "CENTER", "FLOAT32", "FLOAT64", nil},
		{"named", "chunks_7", layerv1.Format_FORMAT_WINDOWED, "CENTER", "FLOAT32", "FLOAT64", nil},
		{"win-dow", "windowed_win_dow", layerv1.Format_FORMAT_WINDOWED, "CENTER", "FLOAT32", "FLOAT64", nil},
		{"stated", "MyTable", layerv1.Format_FORMAT_LEGACY, "UNSPECIFIED", "FLOAT64", "FLOAT64", []string{"RESOLUTION_DRIFT"}},
		{"UpperCase", "resampled_uppercase", layerv1.Format_FORMAT_LEGACY, "UNSPECIFIED", "FLOAT64", "FLOAT64", nil},
		{"places", "resampled_places", layerv1.Format_FORMAT_COORDINATE, "UPPER_LEFT", "INT16", "FLOAT64", []string{"REGISTRATION_CORNER"}},
	} {
		l := w.layer(want.name)
		got := fmt.Sprintln(l.GetTable().GetSchema(), l.GetTable().GetName(), l.GetFormat(), l.GetRegistration(), l.GetStoredType(), l.GetDeclaredType(), codes(l), l.GetHasKey(), l.GetGeneration())
		wanted := fmt.Sprintln("public", want.table, want.format, "REGISTRATION_"+want.registration, "DATA_TYPE_"+want.stored, "DATA_TYPE_"+want.declared, want.codes, true, 1)
		if got != wanted {
			t.Errorf("%s:\n got %swant %s%v", want.name, got, wanted, l.GetProblems())
		}
		g := l.GetGrid()
		if g.GetOriginX() != 1000 || g.GetOriginY() != 2000 || g.GetStepX() != 10 || g.GetStepY() != 10 || g.GetRows() != 4 || g.GetCols() != 6 || g.GetCrs() != "EPSG:32633" {
			t.Errorf("%s: grid %v", want.name, g)
		}
	}
	if l := w.layer("old"); l.GetNodata() != -9999 || l.Nodata == nil || l.GetEstimatedRows() != 24 || l.GetBand() != "b1" || l.GetTargetResolution() != 10 {
		t.Errorf("old: %v", l)
	}
	if l := w.layer("located"); l.Nodata != nil || l.GetEstimatedRows() != -1 || !l.GetHasIndices() || !l.GetHasCoordinates() {
		t.Errorf("located: %v", l)
	}
	if l := w.layer("places"); l.GetHasIndices() {
		t.Errorf("places: %v", l)
	}
	// 0.5 m on steps of 10 m over 6 columns.
	drift, err := strconv.ParseFloat(problemOf(t, w.layer("stated"), "RESOLUTION_DRIFT").GetFields()["drift_pixels"], 64)
	if err != nil || math.Abs(drift-0.3) > 1e-12 {
		t.Errorf("drift is %v pixels, want 0.3 (%v)", drift, err)
	}
}

func TestAdoptingAgainChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"a", "b", "c"} {
		w.add(row{name: name, metadata: `{"nodata": "nan"}`})
		w.coordinate("resampled_"+name, cornerX, southY)
	}
	w.add(row{name: "gone"})
	theirs := w.dump("public")
	w.adopt()
	ours := w.dump("rasterloom")
	again := w.adopt()
	if again.GetUnchanged() != 4 || again.GetAdded() != 0 || again.GetChanged() != 0 || again.GetInvalid() != 1 {
		t.Errorf("again: %v", again)
	}
	if now := w.dump("public"); now != theirs {
		t.Errorf("their tables have changed:\n%s\nwere\n%s", now, theirs)
	}
	if now := w.dump("rasterloom"); now != ours {
		t.Errorf("our catalog has changed:\n%s\nwas\n%s", now, ours)
	}
}

func TestGenerationsGrowWithFacts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"still", "nodata", "table", "truncated", "key", "row-gone"} {
		w.add(row{name: name})
		w.legacy("resampled_" + strings.ReplaceAll(name, "-", "_"))
	}
	dry, err := w.client.AdoptCatalog(t.Context(), connect.NewRequest(&schemav1.AdoptCatalogRequest{DryRun: true}))
	if err != nil || dry.Msg.GetAdded() != 6 || len(dry.Msg.GetLayers()) != 6 {
		t.Errorf("dry run: %v, %v", dry, err)
	}
	if list, err := w.client.ListLayers(t.Context(), connect.NewRequest(&schemav1.ListLayersRequest{})); err != nil || list.Msg.GetTotalSize() != 0 {
		t.Errorf("a dry run has written: %v, %v", list, err)
	}
	w.adopt()
	w.exec(`UPDATE public.resampled_datasets SET metadata = '{"nodata": 0}' WHERE name = 'nodata'`)
	w.exec(`ALTER TABLE public.resampled_table ADD COLUMN x_coord double precision, ADD COLUMN y_coord double precision`)
	w.exec(`TRUNCATE public.resampled_truncated`)
	w.exec(`ALTER TABLE public.resampled_key DROP CONSTRAINT resampled_key_pkey`)
	w.exec(`DELETE FROM public.resampled_datasets WHERE name = 'row-gone'`)
	res := w.adopt()
	if res.GetChanged() != 4 || res.GetUnchanged() != 1 || len(res.GetLayers()) != 5 {
		t.Errorf("changed %d, unchanged %d, of %d layers", res.GetChanged(), res.GetUnchanged(), len(res.GetLayers()))
	}
	for name, want := range map[string]string{
		"still": "1 FORMAT_LEGACY []", "nodata": "2 FORMAT_LEGACY []", "table": "2 FORMAT_PARTIAL [COORDINATES_HALF_FILLED]",
		"truncated": "2 FORMAT_LEGACY [EMPTY]", "key": "2 FORMAT_LEGACY [NO_KEY]", "row-gone": "1 FORMAT_LEGACY [CATALOG_ROW_GONE]",
	} {
		l := w.layer(name)
		if got := fmt.Sprint(l.GetGeneration(), " ", l.GetFormat(), " ", codes(l)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	before := w.dump("rasterloom")
	if w.adopt(); w.dump("rasterloom") != before {
		t.Error("a third adoption has changed something")
	}
}

func TestListing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var all []string
	for i := range 25 {
		name := fmt.Sprintf("layer_%02d", i)
		all = append(all, name)
		w.add(row{name: name})
		if i%5 != 0 {
			w.legacy("resampled_" + name)
		}
	}
	w.add(row{name: "Éclair"})
	w.add(row{name: "layer_06\tcopy"}) // the last of the first page
	all = append(all[:7], append([]string{"layer_06\tcopy"}, all[7:]...)...)
	all = append(all, "Éclair")
	w.adopt()
	list := func(req *schemav1.ListLayersRequest) (names []string, res *schemav1.ListLayersResponse) {
		t.Helper()
		answer, err := w.client.ListLayers(t.Context(), connect.NewRequest(req))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range answer.Msg.GetLayers() {
			names = append(names, l.GetName())
		}
		return names, answer.Msg
	}
	var paged []string
	pages, token := 0, ""
	for {
		names, res := list(&schemav1.ListLayersRequest{PageSize: 8, PageToken: token})
		paged = append(paged, names...)
		pages++
		if res.GetTotalSize() != 27 {
			t.Errorf("total is %d", res.GetTotalSize())
		}
		if token = res.GetNextPageToken(); token == "" {
			break
		}
	}
	if !slices.Equal(paged, all) || pages != 4 {
		t.Errorf("%d pages: %v", pages, paged)
	}
	if names, res := list(&schemav1.ListLayersRequest{Formats: []layerv1.Format{layerv1.Format_FORMAT_INVALID}}); len(names) != 7 || res.GetTotalSize() != 7 {
		t.Errorf("invalid ones: %v", names)
	}
	if names, _ := list(&schemav1.ListLayersRequest{NameContains: "éCL"}); !slices.Equal(names, []string{"Éclair"}) {
		t.Errorf("by name: %v", names)
	}
	if names, _ := list(&schemav1.ListLayersRequest{NameContains: "r_1%"}); len(names) != 0 {
		t.Errorf("%% is no wildcard: %v", names)
	}
	for _, token := range []string{"!", "AAA", strings.Repeat("A", 1000)} {
		_, err := w.client.ListLayers(t.Context(), connect.NewRequest(&schemav1.ListLayersRequest{PageToken: token}))
		wantError(t, err, connect.CodeInvalidArgument, "INVALID_ARGUMENT")
	}
}

func TestUnknownLayersAreNamedWithTheNearest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.client.GetLayer(t.Context(), connect.NewRequest(&schemav1.GetLayerRequest{Name: "elevation"}))
	if f := wantError(t, err, connect.CodeNotFound, "LAYER_NOT_FOUND"); f["layer"] != "elevation" || f["nearest"] != "" {
		t.Errorf("fields %v", f)
	}
	for _, name := range []string{"Elevation_10m", "elevaton", "birds"} {
		w.add(row{name: name})
	}
	w.adopt()
	_, err = w.client.BatchGetLayers(t.Context(), connect.NewRequest(&schemav1.BatchGetLayersRequest{Names: []string{"birds", "elevation", "zzzzzzzz", "elevation"}}))
	f := wantError(t, err, connect.CodeNotFound, "LAYER_NOT_FOUND")
	if f["nearest"] != "elevaton, Elevation_10m" || f["layers"] != `"elevation", "zzzzzzzz"` {
		t.Errorf("fields %v", f)
	}
	res, err := w.client.BatchGetLayers(t.Context(), connect.NewRequest(&schemav1.BatchGetLayersRequest{Names: []string{"elevaton", "birds", "elevaton"}}))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range res.Msg.GetLayers() {
		names = append(names, l.GetName())
	}
	if !slices.Equal(names, []string{"elevaton", "birds", "elevaton"}) {
		t.Errorf("in request order: %v", names)
	}
	_, err = w.client.DetectFormat(t.Context(), connect.NewRequest(&schemav1.DetectFormatRequest{Name: "nobody"}))
	wantError(t, err, connect.CodeNotFound, "LAYER_NOT_FOUND")
}

func TestDatabaseOutOfReach(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	_, err = schema.New(context.Background(), schema.Config{DatabaseURL: "postgres://u:canary@" + address + "/d"}, boot.Deps{})
	wantError(t, wire.ToConnect(err), connect.CodeUnavailable, "DATABASE_UNAVAILABLE")
	_, err = schema.New(context.Background(), schema.Config{DatabaseURL: "postgres://u:canary@[::bad/d"}, boot.Deps{})
	wantError(t, wire.ToConnect(err), connect.CodeInvalidArgument, "INVALID_ARGUMENT")
	if detail := fault.From(err).Detail(); strings.Contains(detail, "canary") {
		t.Errorf("the password is in the log: %s", detail)
	}
}

// roleURL is the database's URL for another role.
func (w *world) roleURL(name, password string) string {
	w.t.Helper()
	u, err := url.Parse(w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	u.User = url.UserPassword(name, password)
	return u.String()
}
