package pixelsql_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/pgtest"
	"github.com/rasterloom/rasterloom/internal/pixelsql"
)

// cell is a stored value at an index of the layer's own north-up grid; nil is
// NULL.
type cell struct {
	row, col int
	value    any
}

// point is a row of the answer; coordinates by their bits.
type point struct {
	x, y, value uint64
}

// storage is one way in which tables hold cells.
type storage struct {
	name string
	// columns beside value, and what a cell has in them.
	columns string
	of      func(l layer.Layer, c cell) []any
	set     func(l *layer.Layer)
}

func centre(l layer.Layer, c cell) (x, y float64) {
	return l.Grid.X(int64(c.col)), l.Grid.Y(int64(c.row))
}

func corner(l layer.Layer, c cell) (x, y float64) {
	return l.Grid.OriginX + float64(c.col)*l.Grid.StepX, l.Grid.OriginY - float64(c.row)*l.Grid.StepY
}

var storages = []storage{
	{"legacy", "row_idx int, col_idx int", func(_ layer.Layer, c cell) []any { return []any{c.row, c.col} },
		func(l *layer.Layer) { l.Format, l.HasIndices = layer.FormatLegacy, true }},
	{"legacy, south-up", "row_idx int, col_idx int",
		func(l layer.Layer, c cell) []any { return []any{l.Grid.Rows - 1 - c.row, c.col} },
		func(l *layer.Layer) { l.Format, l.HasIndices, l.SouthUp = layer.FormatLegacy, true, true }},
	{"coordinate", "row_idx int, col_idx int, x_coord float8, y_coord float8",
		func(l layer.Layer, c cell) []any { x, y := centre(l, c); return []any{c.row, c.col, x, y} },
		func(l *layer.Layer) { l.Format, l.HasIndices, l.HasCoordinates = layer.FormatCoordinate, true, true }},
	{"windowed, by corners", "row_idx int, col_idx int, x_coord float8, y_coord float8",
		func(l layer.Layer, c cell) []any { x, y := corner(l, c); return []any{c.row, c.col, x, y} },
		func(l *layer.Layer) {
			l.Format, l.HasIndices, l.HasCoordinates, l.Registration = layer.FormatWindowed, true, true, grid.RegistrationUpperLeft
		}},
	{"coordinates only", "x_coord float8, y_coord float8",
		func(l layer.Layer, c cell) []any { x, y := centre(l, c); return []any{x, y} },
		func(l *layer.Layer) { l.Format, l.HasCoordinates = layer.FormatCoordinate, true }},
	{"coordinates only, by corners, of float32", "x_coord float8, y_coord float8",
		func(l layer.Layer, c cell) []any {
			x, y := corner(l, c)
			return []any{float64(float32(x)), float64(float32(y))}
		},
		func(l *layer.Layer) {
			l.Format, l.HasCoordinates, l.Registration = layer.FormatCoordinate, true, grid.RegistrationUpperLeft
		}},
}

// store makes a table with a name that needs every quoting rule.
func store(t *testing.T, pool *pgxpool.Pool, l *layer.Layer, s storage, valueType string, cells []cell) {
	t.Helper()
	ctx := t.Context()
	s.set(l)
	l.Table = layer.Table{Schema: `Da"ta`, Name: valueType + " of " + s.name + `; "DROP" --%s`}
	id := pgx.Identifier{l.Table.Schema, l.Table.Name}
	for _, statement := range []string{
		"CREATE SCHEMA IF NOT EXISTS " + pgx.Identifier{l.Table.Schema}.Sanitize(),
		"DROP TABLE IF EXISTS " + id.Sanitize(),
		fmt.Sprintf("CREATE TABLE %s (%s, value %s)", id.Sanitize(), s.columns, valueType),
	} {
		if _, err := pool.Exec(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for column := range strings.SplitSeq(s.columns, ", ") {
		names = append(names, strings.Fields(column)[0])
	}
	_, err := pool.CopyFrom(ctx, id, append(names, "value"), pgx.CopyFromSlice(len(cells), func(i int) ([]any, error) {
		return append(s.of(*l, cells[i]), cells[i].value), nil
	}))
	if err != nil {
		t.Fatal(err)
	}
}

func run(ctx context.Context, t *testing.T, pool *pgxpool.Pool, q pixelsql.Query) (map[point]int, error) {
	t.Helper()
	args := make([]any, len(q.Parameters))
	for i, p := range q.Parameters {
		args[i] = p.Value
	}
	rows, err := pool.Query(ctx, q.SQL, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	got := make(map[point]int)
	for rows.Next() {
		var x, y, value float64
		if err := rows.Scan(&x, &y, &value); err != nil {
			return nil, err
		}
		got[point{math.Float64bits(x), math.Float64bits(y), math.Float64bits(value)}]++
	}
	return got, rows.Err()
}

// expect places cells in Go.
func expect(ref grid.Grid, p grid.Placement, cells []cell, missing func(any) bool) map[point]int {
	want := make(map[point]int)
	for _, c := range cells {
		if c.value == nil || missing(c.value) || int64(c.row) < p.RowStart || int64(c.row) >= p.RowStop {
			continue
		}
		for _, s := range p.Segments {
			if int64(c.col) >= s.SrcStart && int64(c.col) < s.SrcStop {
				x, y := ref.X(s.DstStart+int64(c.col)-s.SrcStart), ref.Y(int64(c.row)+p.RowShift)
				want[point{math.Float64bits(x), math.Float64bits(y), math.Float64bits(toFloat(c.value))}]++
			}
		}
	}
	return want
}

func toFloat(v any) float64 {
	switch v := v.(type) {
	case float32:
		return float64(v)
	case int16:
		return float64(v)
	default:
		return v.(float64)
	}
}

// Every storage, on lattices that are awkward in binary, over the globe's seam,
// with a shift: coordinates equal grid.X and grid.Y to the last bit.
func TestQueriesGiveTheCoordinatesOfTheLattice(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	pool := pgtest.Pool(t)
	third := 1.0 / 3
	lattices := map[string]struct{ src, ref grid.Grid }{
		"thirds of a degree, half a pixel off, over the seam": {
			grid.Grid{CRS: "EPSG:4326", Rows: 12, Cols: 40, OriginX: 353.5, OriginY: 30.1, StepX: third, StepY: third},
			grid.Grid{CRS: "OGC:CRS84", Rows: 540, Cols: 1080, OriginX: -180 + third/2, OriginY: 90, StepX: third, StepY: third},
		},
		"30 arc seconds from two origins": {
			grid.Grid{CRS: "EPSG:4326", Rows: 25, Cols: 31, OriginX: -35.5, OriginY: -7.5, StepX: 1.0 / 120, StepY: 1.0 / 120},
			grid.Grid{CRS: "EPSG:4326", Rows: 21600, Cols: 43200, OriginX: -180.00013888888890, OriginY: 89.99986111111111, StepX: 1.0 / 120, StepY: 1.0 / 120},
		},
		"a Landsat scene": {
			grid.Grid{CRS: "EPSG:31985", Rows: 20, Cols: 30, OriginX: 288776.25000080315, OriginY: 9120760.750028737, StepX: 28.49999999927454, StepY: 28.49999999927454},
			grid.Grid{CRS: "EPSG:31985", Rows: 10, Cols: 10, OriginX: 288776.25000080315 + 285, OriginY: 9120760.750028737 - 57.1, StepX: 28.5, StepY: 28.5},
		},
	}
	for name, g := range lattices {
		relation, err := grid.Relate(g.src, g.ref, grid.DefaultTolerancePixels)
		if err != nil || relation.Verdict != grid.VerdictShift && relation.Verdict != grid.VerdictAligned {
			t.Fatalf("%s: %v, %v", name, relation.Verdict, err)
		}
		var cells []cell
		for row := range g.src.Rows {
			for col := range g.src.Cols {
				switch random.IntN(10) {
				case 0: // not stored
				case 1:
					cells = append(cells, cell{row, col, nil})
				case 2:
					cells = append(cells, cell{row, col, math.NaN()})
				case 3:
					cells = append(cells, cell{row, col, -9999.0})
				case 4:
					cells = append(cells, cell{row, col, 0.0})
				case 5:
					cells = append(cells, cell{row, col, math.Inf(1)})
				default:
					cells = append(cells, cell{row, col, random.NormFloat64()})
				}
			}
		}
		random.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
		whole := relation.Window(g.src)
		windows := map[string]grid.Window{
			"whole": whole,
			"part":  {RowStart: whole.RowStart + 3, RowStop: whole.RowStop - 2, ColStart: whole.ColStart + 4, ColStop: whole.ColStop - 5},
			"cells in a box": g.ref.CellsIn(grid.Bounds{
				MinX: g.ref.X(whole.ColStart + 2), MaxX: g.ref.X(whole.ColStart + 9),
				MinY: g.ref.Y(whole.RowStart + 9), MaxY: g.ref.Y(whole.RowStart + 1),
			}),
		}
		if relation.TurnCols > 0 {
			windows["reference"] = g.ref.Window()
		}
		nodata := -9999.0
		missing := func(v any) bool { return v != v || v.(float64) == nodata }
		for _, s := range storages {
			l := layer.Layer{Name: s.name, Grid: g.src, HasGrid: true, StoredType: layer.Float64, Nodata: &nodata}
			store(t, pool, &l, s, "float8", cells)
			for label, w := range windows {
				place := relation.Place(g.src, w)
				q, err := pixelsql.AlignedCells(l, g.ref, place)
				if err != nil {
					t.Fatal(err)
				}
				got, err := run(t.Context(), t, pool, q)
				if err != nil {
					t.Fatalf("%s, %s, %s: %v\n%s", name, s.name, label, err, q.SQL)
				}
				want := expect(g.ref, place, cells, missing)
				if len(want) == 0 || !equal(got, want) {
					t.Errorf("%s, %s, %s: %d points, want %d\n%s\n%v", name, s.name, label, len(got), len(want), q.SQL, q.Parameters)
				}
			}
		}
	}
}

func equal(a, b map[point]int) bool {
	if len(a) != len(b) {
		return false
	}
	for k, n := range a {
		if b[k] != n {
			return false
		}
	}
	return true
}

// Nodata is compared in the type that is stored.
func TestNodataInTheStoredType(t *testing.T) {
	pool := pgtest.Pool(t)
	g := grid.Grid{CRS: "EPSG:4326", Rows: 1, Cols: 3, OriginY: 1, StepX: 1, StepY: 1}
	for name, c := range map[string]struct {
		sqlType string
		stored  layer.DataType
		values  []any
		nodata  float64
		want    int
	}{
		"real, 1e20":                 {"real", layer.Float32, []any{float32(1e20), float32(0), float32(math.NaN())}, 1e20, 1},
		"real, 0.1":                  {"real", layer.Float32, []any{float32(0.1), float32(0.2), nil}, 0.1, 1},
		"smallint":                   {"int2", layer.Int16, []any{int16(-32768), int16(0), int16(7)}, -32768, 2},
		"smallint, not a number":     {"int2", layer.Int16, []any{int16(-32768), int16(0), int16(7)}, math.NaN(), 3},
		"smallint, out of range":     {"int2", layer.Int16, []any{int16(-32768), int16(0), int16(7)}, 1e20, 3},
		"smallint, half":             {"int2", layer.Int16, []any{int16(1), int16(0), nil}, 0.5, 2},
		"double, infinity":           {"float8", layer.Float64, []any{math.Inf(1), math.Inf(-1), 0.0}, math.Inf(1), 2},
		"double, zero is catalogued": {"float8", layer.Float64, []any{0.0, math.Copysign(0, -1), 1.0}, 0, 1},
	} {
		l := layer.Layer{Name: "l", Grid: g, HasGrid: true, StoredType: c.stored, Nodata: &c.nodata}
		cells := []cell{{0, 0, c.values[0]}, {0, 1, c.values[1]}, {0, 2, c.values[2]}}
		store(t, pool, &l, storages[0], c.sqlType, cells)
		q, err := pixelsql.AlignedCells(l, g, grid.Placement{RowStop: 1, Segments: []grid.Segment{{SrcStop: 3}}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := run(t.Context(), t, pool, q)
		if err != nil || len(got) != c.want {
			t.Errorf("%s: %d cells, want %d (%v)\n%s", name, len(got), c.want, err, q.SQL)
		}
	}
}

// A point that is not on the lattice stops the query, and is named.
func TestPointsOffTheLatticeFailTheQuery(t *testing.T) {
	pool := pgtest.Pool(t)
	g := grid.Grid{CRS: "EPSG:4326", Rows: 4, Cols: 4, OriginY: 4, StepX: 1, StepY: 1}
	only := storages[4]
	for name, bad := range map[string][]any{
		"between": {1.25, 2.5}, "NaN": {math.NaN(), 2.5}, "infinite": {math.Inf(1), 2.5}, "NULL": {nil, 2.5}, "NULL y": {1.5, nil},
	} {
		l := layer.Layer{Name: "l", Grid: g, HasGrid: true, StoredType: layer.Float64}
		store(t, pool, &l, only, "float8", []cell{{0, 0, 1.0}})
		if _, err := pool.Exec(t.Context(), "INSERT INTO "+pgx.Identifier{l.Table.Schema, l.Table.Name}.Sanitize()+" VALUES ($1, $2, 1)", bad...); err != nil {
			t.Fatal(err)
		}
		q, err := pixelsql.AlignedCells(l, g, grid.Placement{RowStop: 4, Segments: []grid.Segment{{SrcStop: 4}}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := run(t.Context(), t, pool, q)
		pgErr, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || !strings.Contains(pgErr.Message, "is off the lattice of the layer") {
			t.Errorf("%s: %d points and %v", name, len(got), err)
		}
	}
}

func TestLayersThatSQLCannotRead(t *testing.T) {
	g := grid.Grid{CRS: "EPSG:4326", Rows: 1, Cols: 1, OriginY: 1, StepX: 1, StepY: 1}
	good := layer.Layer{Name: "l", Grid: g, HasGrid: true, Format: layer.FormatLegacy, HasIndices: true, Table: layer.Table{Schema: "public", Name: "t"}}
	place := grid.Placement{RowStop: 1, Segments: []grid.Segment{{SrcStop: 1}}}
	for name, c := range map[string]struct {
		change func(*layer.Layer)
		reason fault.Reason
	}{
		"invalid":             {func(l *layer.Layer) { l.Format = layer.FormatInvalid }, fault.LayerUnreadable},
		"tiles":               {func(l *layer.Layer) { l.Format = layer.FormatTiled }, fault.NotSupported},
		"nothing to place by": {func(l *layer.Layer) { l.HasIndices = false }, fault.LayerUnreadable},
		"no table":            {func(l *layer.Layer) { l.Table = layer.Table{} }, fault.InvalidArgument},
		"a long name":         {func(l *layer.Layer) { l.Table.Name = strings.Repeat("x", 64) }, fault.InvalidArgument},
		"NUL":                 {func(l *layer.Layer) { l.Table.Name = "a\x00b" }, fault.InvalidArgument},
		"newline":             {func(l *layer.Layer) { l.Table.Name = "a\nb" }, fault.InvalidArgument},
		"right-to-left":       {func(l *layer.Layer) { l.Table.Schema = "a\u202eb" }, fault.InvalidArgument},
		"not UTF-8":           {func(l *layer.Layer) { l.Table.Name = "a\xff" }, fault.InvalidArgument},
	} {
		l := good
		c.change(&l)
		if _, err := pixelsql.AlignedCells(l, g, place); fault.From(err) == nil || fault.From(err).Reason != c.reason {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What PostgreSQL reads out of the quotes is what went in.
func FuzzQuote(f *testing.F) {
	for _, name := range []string{"t", `x"; DROP TABLE y; --`, "Ω", "", "\x00", strings.Repeat("é", 40), `""`, `\`, "$1", "%s"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		quoted, err := pixelsql.Quote("name", name)
		if err != nil {
			if quoted != "" || fault.KindOf(err) != fault.Invalid {
				t.Fatalf("%q: %q, %v", name, quoted, err)
			}
			return
		}
		if len(name) > 63 || strings.ContainsAny(name, "\x00\n\r\u202e\u2066") {
			t.Fatalf("%q is let through", name)
		}
		inner := strings.TrimSuffix(strings.TrimPrefix(quoted, `"`), `"`)
		if len(inner) != len(quoted)-2 || strings.ReplaceAll(inner, `""`, `"`) != name || strings.Count(inner, `"`)%2 != 0 ||
			strings.Contains(strings.ReplaceAll(inner, `""`, ""), `"`) {
			t.Fatalf("%q is quoted as %s", name, quoted)
		}
	})
}
