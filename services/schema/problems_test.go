package schema_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/schema"
)

const invalid = "FORMAT_INVALID"

// damage is a layer of the old system with something wrong, and what adoption
// has to say of it.
type damage struct {
	name   string
	row    row
	make   func(w *world)
	format string
	codes  []string
	tells  string            // in the message of the first problem
	fields map[string]string // of the first problem
}

func damages() []damage {
	legacy := func(table string) func(*world) { return func(w *world) { w.legacy(table) } }
	located := func(table, x, y string) func(*world) { return func(w *world) { w.coordinate(table, x, y) } }
	after := func(f func(*world), sql ...string) func(*world) {
		return func(w *world) {
			f(w)
			for _, s := range sql {
				w.exec(s)
			}
		}
	}
	bare := func(ddl ...string) func(*world) { return after(func(*world) {}, ddl...) }
	const columns = "(row_idx int, col_idx int, value double precision"
	return []damage{
		// The catalog row.
		{name: "three_bounds", row: row{bounds: []float64{1, 2, 3}}, make: legacy("resampled_three_bounds"), format: invalid, codes: []string{"GRID_INVALID"}, tells: "3 numbers"},
		{name: "empty_box", row: row{bounds: []float64{10, 0, 10, 5}}, make: legacy("resampled_empty_box"), format: invalid, codes: []string{"GRID_INVALID"}, tells: "min_x 10 is not below max_x 10", fields: map[string]string{"field": "min_x"}},
		{name: "nan_bounds", row: row{bounds: []float64{math.NaN(), 0, 10, 5}}, make: legacy("resampled_nan_bounds"), format: invalid, codes: []string{"GRID_INVALID"}, tells: "NaN"},
		{name: "no_rows", row: row{height: 0, width: 6}, make: legacy("resampled_no_rows"), format: invalid, codes: []string{"GRID_INVALID"}, tells: "rows is 0"},
		{name: "null_shape", row: row{height: nilInt(), width: 6}, make: legacy("resampled_null_shape"), format: invalid, codes: []string{"GRID_INVALID"}, tells: "NULL"},
		{name: "no_crs", row: row{crs: ""}, make: legacy("resampled_no_crs"), format: "FORMAT_LEGACY", codes: []string{"CRS_MISSING"}},
		{name: "bad_type", row: row{dataType: "complex64"}, make: legacy("resampled_bad_type"), format: "FORMAT_LEGACY", codes: []string{"TYPE_UNKNOWN"}, tells: "complex64"},
		{name: "bad_resolution", row: row{resolution: -1}, make: legacy("resampled_bad_resolution"), format: "FORMAT_LEGACY", codes: []string{"RESOLUTION_INVALID"}},
		{name: "drift", row: row{resolution: 10.02}, make: legacy("resampled_drift"), format: "FORMAT_LEGACY", codes: []string{"RESOLUTION_DRIFT"}, tells: "0.012 pixels"},
		{name: "metadata_list", row: row{metadata: `[1, 2]`}, make: legacy("resampled_metadata_list"), format: "FORMAT_LEGACY", codes: []string{"METADATA_UNREADABLE"}},
		{name: "nodata_word", row: row{metadata: `{"nodata": "none"}`}, make: legacy("resampled_nodata_word"), format: "FORMAT_LEGACY", codes: []string{"NODATA_UNREADABLE"}, fields: map[string]string{"key": "nodata", "value": "none"}},
		{name: "nodata_twice", row: row{metadata: `{"no_data": -1, "nodata": -9999, "nodata_value": "-9999"}`}, make: legacy("resampled_nodata_twice"), format: "FORMAT_LEGACY", codes: []string{"NODATA_CONFLICT"}, fields: map[string]string{"used": "-9999", "other": "-1"}},
		{name: "tab\tname", make: legacy("resampled_tab\tname"), format: invalid, codes: []string{"NAME_INVALID", "TABLE_NAME_INVALID"}, tells: "U+0009"},
		{name: "bidi\u202ename", format: invalid, codes: []string{"NAME_INVALID", "TABLE_NAME_INVALID"}, tells: "U+202E"},
		// The table.
		{name: "nowhere", format: invalid, codes: []string{"TABLE_MISSING"}, tells: "there is no table public.resampled_nowhere", fields: map[string]string{"candidates": "public.resampled_nowhere"}},
		{name: `x"; DROP TABLE y; --`, format: invalid, codes: []string{"TABLE_MISSING"}},
		{name: strings.Repeat("n", 60), make: bare("CREATE TABLE public.resampled_" + strings.Repeat("n", 53) + columns + ", PRIMARY KEY (row_idx, col_idx))"), format: invalid, codes: []string{"TABLE_NAME_INVALID"}, tells: "has 70 bytes, and the limit is 63"},
		{name: "Two", make: after(legacy("resampled_Two"), `CREATE TABLE public.resampled_two `+columns+`)`), format: invalid, codes: []string{"TABLE_AMBIGUOUS"}, fields: map[string]string{"tables": "public.resampled_Two, public.resampled_two"}},
		{name: "view", make: bare(`CREATE VIEW public.resampled_view AS SELECT 1 AS row_idx, 1 AS col_idx, 1.0::float8 AS value`), format: invalid, codes: []string{"TABLE_KIND"}, tells: "is a view"},
		{name: "parted", make: bare(`CREATE TABLE public.resampled_parted ` + columns + `) PARTITION BY RANGE (row_idx)`), format: invalid, codes: []string{"TABLE_KIND"}, tells: "partitioned"},
		{name: "frozen", make: bare(`CREATE MATERIALIZED VIEW public.resampled_frozen AS SELECT r AS row_idx, c AS col_idx, 1.0::float8 AS value FROM generate_series(0, 3) r, generate_series(0, 5) c`, `CREATE UNIQUE INDEX ON public.resampled_frozen (col_idx, row_idx)`), format: "FORMAT_LEGACY", codes: []string{"TABLE_KIND"}, tells: "materialized"},
		{name: "rls", make: after(legacy("resampled_rls"), `ALTER TABLE public.resampled_rls ENABLE ROW LEVEL SECURITY`), format: "FORMAT_LEGACY", codes: []string{"ROW_SECURITY"}},
		{name: "no_value", make: bare(`CREATE TABLE public.resampled_no_value (row_idx int, col_idx int, val double precision)`), format: invalid, codes: []string{"COLUMN_MISSING"}, tells: "no column value"},
		{name: "no_indices", make: bare(`CREATE TABLE public.resampled_no_indices (row_idx int, value double precision)`), format: invalid, codes: []string{"COLUMN_MISSING"}},
		{name: "text_x", make: bare(`CREATE TABLE public.resampled_text_x ` + columns + `, x_coord text, y_coord double precision)`), format: invalid, codes: []string{"COLUMN_TYPE"}, tells: "x_coord is of type text", fields: map[string]string{"column": "x_coord", "type": "text"}},
		{name: "numeric_value", make: bare(`CREATE TABLE public.resampled_numeric_value (row_idx int, col_idx int, value numeric(10, 2))`), format: invalid, codes: []string{"COLUMN_TYPE"}, fields: map[string]string{"column": "value", "type": "numeric"}},
		{name: "half_pair", make: after(legacy("resampled_half_pair"), `ALTER TABLE public.resampled_half_pair ADD COLUMN x_coord double precision`), format: "FORMAT_PARTIAL", codes: []string{"COLUMN_MISSING"}, fields: map[string]string{"column": "y_coord"}},
		{name: "keyless", make: bare(`CREATE TABLE public.resampled_keyless `+columns+`)`, `INSERT INTO public.resampled_keyless VALUES (0, 0, 1)`), format: "FORMAT_LEGACY", codes: []string{"NO_KEY"}},
		{name: "partial_key", make: bare(`CREATE TABLE public.resampled_partial_key `+columns+`)`, `INSERT INTO public.resampled_partial_key VALUES (0, 0, 1)`, `CREATE UNIQUE INDEX ON public.resampled_partial_key (row_idx, col_idx) WHERE row_idx > 2`, `CREATE INDEX ON public.resampled_partial_key (row_idx, col_idx)`, `CREATE UNIQUE INDEX ON public.resampled_partial_key (row_idx, col_idx, value)`), format: "FORMAT_LEGACY", codes: []string{"NO_KEY"}},
		// The rows.
		{name: "empty", make: bare(`CREATE TABLE public.resampled_empty ` + columns + `, PRIMARY KEY (row_idx, col_idx))`), format: "FORMAT_LEGACY", codes: []string{"EMPTY"}},
		{name: "null_index", make: bare(`CREATE TABLE public.resampled_null_index `+columns+`, UNIQUE (row_idx, col_idx))`, `INSERT INTO public.resampled_null_index VALUES (0, 0, 1), (NULL, 3, 1)`), format: "FORMAT_LEGACY", codes: []string{"INDEX_NULL"}, fields: map[string]string{"rows": "3"}}, // seen by the heap and twice by the ends of the key
		{name: "outside", make: after(legacy("resampled_outside"), `INSERT INTO public.resampled_outside VALUES (4, 0, 1), (0, -1, 1)`), format: "FORMAT_LEGACY", codes: []string{"CELLS_OUTSIDE_GRID"}, fields: map[string]string{"max_row": "4", "min_col": "-1"}},
		{name: "half_filled", make: after(located("resampled_half_filled", centerX, centerY), `UPDATE public.resampled_half_filled SET x_coord = NULL WHERE row_idx = 1`), format: "FORMAT_PARTIAL", codes: []string{"COORDINATES_HALF_FILLED"}},
		{name: "never_filled", make: located("resampled_never_filled", "NULL", "NULL"), format: "FORMAT_PARTIAL", codes: []string{"COORDINATES_HALF_FILLED"}},
		{name: "corner", make: located("resampled_corner", cornerX, cornerY), format: "FORMAT_COORDINATE", codes: []string{"REGISTRATION_CORNER"}},
		{name: "south", make: located("resampled_south", centerX, southY), format: "FORMAT_COORDINATE", codes: []string{"SOUTH_UP"}},
		{name: "south_told", row: row{metadata: `{"south_up": true}`}, make: legacy("resampled_south_told"), format: "FORMAT_LEGACY", codes: []string{"SOUTH_UP"}},
		{name: "south_transform", row: row{metadata: `{"transform": [10, 0, 1000, 0, 10, 1960]}`}, make: legacy("resampled_south_transform"), format: "FORMAT_LEGACY", codes: []string{"SOUTH_UP"}},
		{name: "conflict", row: row{metadata: `{"south_up": true}`}, make: located("resampled_conflict", centerX, centerY), format: "FORMAT_COORDINATE", codes: []string{"ORIENTATION_CONFLICT"}},
		{name: "off", make: located("resampled_off", centerX+" + 3", centerY+" - 2"), format: "FORMAT_COORDINATE", codes: []string{"COORDINATES_OFF_GRID"}, tells: "x +0.30 and y +0.20 pixels from the centres", fields: map[string]string{"offset_x_pixels": "+0.30", "offset_y_pixels": "+0.20"}},
		{name: "one_off", make: after(located("resampled_one_off", centerX, centerY), `UPDATE public.resampled_one_off SET x_coord = 'NaN' WHERE row_idx = 1 AND col_idx = 1`, `UPDATE public.resampled_one_off SET y_coord = '1e308' WHERE row_idx = 2 AND col_idx = 1`), format: "FORMAT_COORDINATE", codes: []string{"COORDINATES_OFF_GRID"}},
		{name: "lost", make: bare(`CREATE TABLE public.resampled_lost (x_coord real, y_coord real, value integer, PRIMARY KEY (x_coord, y_coord))`, `INSERT INTO public.resampled_lost VALUES (1003, 1997, 1)`), format: invalid, codes: []string{"COORDINATES_OFF_GRID"}},
		{name: "lost_outside", make: bare(`CREATE TABLE public.resampled_lost_outside (x_coord real, y_coord real, value bigint, PRIMARY KEY (x_coord, y_coord))`, `INSERT INTO public.resampled_lost_outside VALUES (1005, 1995, 1), (995, 1995, 1), (1065, 1955, 1)`), format: "FORMAT_COORDINATE", codes: []string{"CELLS_OUTSIDE_GRID"}},
		{name: "lost_null", make: bare(`CREATE TABLE public.resampled_lost_null (x_coord real, y_coord real, value bigint)`, `INSERT INTO public.resampled_lost_null VALUES (1005, 1995, 1), (NULL, 1995, 1)`), format: invalid, codes: []string{"NO_KEY", "COORDINATES_HALF_FILLED"}},
	}
}

func nilInt() *int64 { return nil }

func TestEachDamageIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	list := damages()
	for _, d := range list {
		d.row.name = d.name
		w.add(d.row)
		if d.make != nil {
			d.make(w)
		}
	}
	w.add(row{name: "twin"})
	w.add(row{name: "twin"})
	w.legacy("resampled_twin")
	w.add(row{name: "share-d"})
	w.add(row{name: "share_d"})
	w.legacy("resampled_share_d")
	w.exec(`INSERT INTO public.resampled_datasets (name, bounds) VALUES (NULL, '{}'), ('', '{}')`)
	res := w.adopt()

	for _, d := range list {
		t.Run(d.name, func(t *testing.T) {
			l := w.layer(d.name)
			if got := l.GetFormat().String(); got != d.format {
				t.Errorf("format %s, want %s", got, d.format)
			}
			got := codes(l)
			slices.Sort(got)
			want := slices.Sorted(slices.Values(d.codes))
			if !slices.Equal(got, want) {
				t.Fatalf("problems %v, want %v:\n%v", got, want, l.GetProblems())
			}
			p := problemOf(t, l, d.codes[0])
			t.Log(p.GetSeverity(), p.GetMessage())
			if !strings.Contains(p.GetMessage(), d.tells) {
				t.Errorf("%q does not tell %q", p.GetMessage(), d.tells)
			}
			for key, value := range d.fields {
				if p.GetFields()[key] != value {
					t.Errorf("field %s = %q, want %q in %v", key, p.GetFields()[key], value, p.GetFields())
				}
			}
			critical := slices.ContainsFunc(l.GetProblems(), func(p *layerv1.Problem) bool { return p.GetSeverity() == layerv1.Severity_SEVERITY_CRITICAL })
			if d.format == invalid && !critical {
				t.Error("it is invalid without a critical problem")
			}
		})
	}
	twin := w.layer("twin")
	var ids []int64
	rows, err := w.pool.Query(t.Context(), `SELECT id FROM public.resampled_datasets WHERE name = 'twin' ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if p := problemOf(t, twin, "NAME_DUPLICATE"); twin.GetFormat().String() != invalid || p.GetFields()["ids"] != fmt.Sprintf("%d, %d", ids[0], ids[1]) {
		t.Errorf("twin: %v", twin)
	}
	if p := problemOf(t, w.layer("share-d"), "TABLE_SHARED"); p.GetFields()["other"] != "share_d" {
		t.Errorf("shared: %v", p)
	}
	// Rows without a name are told, and cannot be kept.
	nameless := res.GetLayers()[0]
	if nameless.GetName() != "" || nameless.GetFormat().String() != invalid || nameless.GetGeneration() != 0 {
		t.Errorf("nameless: %v", nameless)
	}
	wantInvalid := int32(2) // twin, nameless
	for _, d := range list {
		if d.format == invalid {
			wantInvalid++
		}
	}
	if res.GetInvalid() != wantInvalid || int(res.GetAdded()) != len(list)+3 {
		t.Errorf("invalid %d, want %d; added %d, want %d", res.GetInvalid(), wantInvalid, res.GetAdded(), len(list)+3)
	}
	if south := w.layer("south"); !south.GetSouthUp() || south.GetRegistration().String() != "REGISTRATION_CENTER" {
		t.Errorf("south: %v", south)
	}
	if conflict := w.layer("conflict"); conflict.GetSouthUp() {
		t.Error("metadata have won over the rows")
	}
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	role := "rl_reader_" + strings.ToLower(rand.Text()) // roles belong to the server, not to a database
	w.exec(fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD 'secret'`, role))
	t.Cleanup(func() {
		for _, sql := range []string{`DROP OWNED BY `, `DROP ROLE `} {
			if _, err := w.pool.Exec(context.Background(), sql+role); err != nil {
				t.Error(err)
			}
		}
	})
	w.add(row{name: "open"})
	w.legacy("resampled_open")
	w.add(row{name: "closed"})
	w.legacy("resampled_closed")
	// Without a right on our own schema the service does not start.
	_, err := schema.New(t.Context(), schema.Config{DatabaseURL: w.roleURL(role, "secret")}, boot.Deps{})
	wantError(t, wire.ToConnect(err), connect.CodePermissionDenied, "DATABASE_PERMISSION")

	w.exec(fmt.Sprintf(`GRANT USAGE ON SCHEMA rasterloom, public TO %s`, role))
	w.exec(fmt.Sprintf(`GRANT ALL ON ALL TABLES IN SCHEMA rasterloom TO %s`, role))
	c := serve(t, w.roleURL(role, "secret"))
	_, err = c.AdoptCatalog(t.Context(), connect.NewRequest(&schemav1.AdoptCatalogRequest{}))
	wantError(t, err, connect.CodePermissionDenied, "DATABASE_PERMISSION")

	w.exec(fmt.Sprintf(`GRANT SELECT ON public.resampled_datasets, public.resampled_open TO %s`, role))
	res, err := c.AdoptCatalog(t.Context(), connect.NewRequest(&schemav1.AdoptCatalogRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	if res.Msg.GetInvalid() != 1 || len(res.Msg.GetLayers()) != 2 {
		t.Fatalf("answer %v", res.Msg)
	}
	problemOf(t, res.Msg.GetLayers()[0], "TABLE_PERMISSION")
	if got := codes(res.Msg.GetLayers()[1]); len(got) != 0 {
		t.Errorf("open: %v", got)
	}
}

func TestCatalogsThatAreNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`CREATE SCHEMA other`)
	w.exec(`CREATE TABLE other.shapeless (name text, bounds text, shape_height int)`)
	w.exec(`CREATE TABLE other.lenient (name text, bounds real[], shape_height bigint, shape_width smallint, metadata json, target_resolution real)`)
	w.exec(`INSERT INTO other.lenient VALUES ('mine', '{1000,1960,1060,2000}', 4, 6, NULL, 10)`)
	w.exec(`CREATE TABLE other.resampled_mine (row_idx smallint, col_idx bigint, value integer, PRIMARY KEY (col_idx, row_idx))`)
	w.exec(`CREATE SEQUENCE other.numbers`)
	adopt := func(schemaName, name string) (*schemav1.AdoptCatalogResponse, error) {
		res, err := w.client.AdoptCatalog(t.Context(), connect.NewRequest(&schemav1.AdoptCatalogRequest{Table: &layerv1.Table{Schema: schemaName, Name: name}}))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	}
	for _, c := range []struct {
		schema, name string
		code         connect.Code
		reason       string
	}{
		{"public", "nothing", connect.CodeNotFound, "CATALOG_NOT_FOUND"},
		{"nowhere", "resampled_datasets", connect.CodeNotFound, "CATALOG_NOT_FOUND"},
		{"public", `x"; DROP TABLE y; --`, connect.CodeNotFound, "CATALOG_NOT_FOUND"},
		{"other", "numbers", connect.CodeFailedPrecondition, "CATALOG_NOT_FOUND"},
		{"pg_catalog", "pg_class", connect.CodePermissionDenied, "DATABASE_PERMISSION"},
		{"information_schema", "tables", connect.CodePermissionDenied, "DATABASE_PERMISSION"},
		{"rasterloom", "layer", connect.CodePermissionDenied, "DATABASE_PERMISSION"},
		{"pg_temp", "x", connect.CodeInvalidArgument, "INVALID_ARGUMENT"},
		{"public", "", connect.CodeInvalidArgument, "INVALID_ARGUMENT"},
		{"public", "a\nb", connect.CodeInvalidArgument, "INVALID_ARGUMENT"},
		{"public", "a\x00b", connect.CodeInvalidArgument, "INVALID_ARGUMENT"},
		{"public", "a\u202eb", connect.CodeInvalidArgument, "INVALID_ARGUMENT"},
		{"public", strings.Repeat("x", 64), connect.CodeInvalidArgument, "INVALID_ARGUMENT"},
	} {
		_, err := adopt(c.schema, c.name)
		t.Log(err)
		wantError(t, err, c.code, c.reason)
	}
	_, err := adopt("other", "shapeless")
	f := wantError(t, err, connect.CodeFailedPrecondition, "CATALOG_NOT_FOUND")
	if f["missing_columns"] != "shape_width" || f["wrong_columns"] != "bounds" {
		t.Errorf("fields %v", f)
	}
	res, err := adopt("other", "lenient")
	if err != nil {
		t.Fatal(err)
	}
	if l := res.GetLayers()[0]; l.GetFormat().String() != "FORMAT_LEGACY" || !slices.Equal(codes(l), []string{"CRS_MISSING", "EMPTY"}) || !l.GetHasKey() || l.GetStoredType().String() != "DATA_TYPE_INT32" {
		t.Errorf("lenient: %v", l)
	}
	// A name belongs to one catalog, as long as that is there.
	w.add(row{name: "mine"})
	_, err = adopt("public", "resampled_datasets")
	if f := wantError(t, err, connect.CodeAlreadyExists, "LAYER_AMBIGUOUS"); f["layer"] != "mine" || f["catalog"] != "other.lenient" {
		t.Errorf("fields %v", f)
	}
	// It is the problem of its row, unless there are no others.
	w.add(row{name: "yours"})
	res, err = adopt("public", "resampled_datasets")
	if err != nil {
		t.Fatal(err)
	}
	if p := problemOf(t, res.GetLayers()[0], "NAME_TAKEN"); p.GetFields()["catalog"] != "other.lenient" || res.GetInvalid() != 2 || res.GetAdded() != 1 {
		t.Errorf("taken: %v", res)
	}
	if l := w.layer("mine"); l.GetFormat().String() != "FORMAT_LEGACY" || l.GetGeneration() != 1 {
		t.Errorf("the layer of the other catalog: %v", l)
	}
	w.exec(`DROP TABLE other.lenient`)
	if res, err := adopt("public", "resampled_datasets"); err != nil || res.GetChanged() != 1 {
		t.Errorf("taken over: %v, %v", res, err)
	}
}
