package pgstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/pgtest"
	"github.com/rasterloom/rasterloom/internal/tile"
)

// storage is one way in which a layer's cells can be stored.
type storage struct {
	name    string
	columns string
	// place gives the two place values of a cell in SQL, in order of columns.
	place func(g grid.Grid, row, col int) string
	// describe sets what the catalog says.
	describe func(*layer.Layer)
}

func byIndex(_ grid.Grid, row, col int) string { return fmt.Sprintf("%d, %d", row, col) }

func byCoordinate(registration float64, noise float64) func(g grid.Grid, row, col int) string {
	return func(g grid.Grid, row, col int) string {
		wobble := noise * float64((row*7+col*3)%5-2)
		x := g.OriginX + (float64(col)+registration+wobble)*g.StepX
		y := g.OriginY - (float64(row)+registration-wobble)*g.StepY
		return fmt.Sprintf("%v::float8, %v::float8", x, y)
	}
}

func indices(l *layer.Layer) { l.Format, l.HasIndices = layer.FormatLegacy, true }

func coordinates(r grid.Registration) func(*layer.Layer) {
	return func(l *layer.Layer) { l.Format, l.HasCoordinates, l.Registration = layer.FormatCoordinate, true, r }
}

var storages = []storage{
	{"legacy with a key", "row_idx int NOT NULL, col_idx int NOT NULL, value %s, PRIMARY KEY (row_idx, col_idx)", byIndex, indices},
	{"legacy without a key", "row_idx int, col_idx int, value %s", byIndex, indices},
	{"narrow indices", "row_idx smallint, col_idx bigint, value %s", byIndex, indices},
	{"south-up", "row_idx int NOT NULL, col_idx int NOT NULL, value %s, PRIMARY KEY (row_idx, col_idx)",
		func(g grid.Grid, row, col int) string { return byIndex(g, g.Rows-1-row, col) },
		func(l *layer.Layer) { indices(l); l.SouthUp = true }},
	{"coordinates beside the indices", "row_idx int, col_idx int, x_coord float8, y_coord float8, value %s, UNIQUE (row_idx, col_idx)",
		func(g grid.Grid, row, col int) string {
			return byIndex(g, row, col) + ", " + byCoordinate(0, 0)(g, row, col)
		},
		func(l *layer.Layer) { indices(l); coordinates(grid.RegistrationUpperLeft)(l) }},
	{"centres alone", "x_coord float8, y_coord float8, value %s", byCoordinate(0.5, 0.005), coordinates(grid.RegistrationCenter)},
	{"centres alone, with a key", "x_coord float8, y_coord float8, value %s, UNIQUE (y_coord, x_coord)", byCoordinate(0.5, 0), coordinates(grid.RegistrationCenter)},
	{"corners alone", "x_coord float8, y_coord float8, value %s", byCoordinate(0, 0.005), coordinates(grid.RegistrationUpperLeft)},
	{"tiles", "", byIndex, func(l *layer.Layer) { l.Format = layer.FormatTiled }},
	{"single-precision centres", "x_coord float4, y_coord float4, value %s", byCoordinate(0.5, 0), coordinates(grid.RegistrationCenter)},
}

var valueTypes = []struct {
	sql string
	typ layer.DataType
}{
	{"double precision", layer.Float64}, {"real", layer.Float32}, {"smallint", layer.Int16}, {"integer", layer.Int32}, {"bigint", layer.Int64},
}

// storedCell is what should come out.
type storedCell struct {
	row, col int32
	value    float64
}

// store makes a table of a storage with generated cells in random order, some
// of them without a value, and gives the ones that have one in row-major order.
func store(t *testing.T, pool *pgxpool.Pool, rng *rand.Rand, s storage, name string, g grid.Grid, valueType int) (layer.Layer, []storedCell) {
	t.Helper()
	nodata := -9999.0
	l := layer.Layer{
		Name: name, Grid: g, HasGrid: true, StoredType: valueTypes[valueType].typ, DeclaredType: valueTypes[valueType].typ,
		Table: layer.Table{Schema: "public", Name: name}, Nodata: &nodata, Generation: 1,
	}
	s.describe(&l)
	var rows []string
	var want []storedCell
	for r := range g.Rows {
		if rng.IntN(5) == 0 {
			continue
		}
		for c := range g.Cols {
			value := float64(rng.IntN(18000) - 9000) // never the nodata value
			text := fmt.Sprint(value)
			has := true
			switch rng.IntN(12) {
			case 0:
				continue // absent
			case 1:
				text, has = "NULL", false
			case 2:
				text, has = "-9999", false
			case 3:
				text, value = "0", 0
			case 4:
				if valueType < 2 {
					text, has = "'NaN'", false
				}
			case 5:
				if valueType < 2 {
					text, value = "'-Infinity'", math.Inf(-1)
				}
			case 6:
				if valueType < 2 {
					text, value = "'-0'", math.Copysign(0, -1)
				}
			}
			rows = append(rows, "("+s.place(g, r, c)+", "+text+")")
			if has {
				want = append(want, storedCell{int32(r), int32(c), value})
			}
		}
	}
	if l.Format == layer.FormatTiled {
		storeTiles(t, pool, &l, tile.Chains()[rng.IntN(3)], want)
		return l, want
	}
	rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	run(t, pool, fmt.Sprintf(`CREATE TABLE public.%q (`+s.columns+`)`, name, valueTypes[valueType].sql))
	if len(rows) > 0 {
		run(t, pool, fmt.Sprintf(`INSERT INTO public.%q VALUES `, name)+strings.Join(rows, ", "))
	}
	return l, want
}

func run(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%v: %.200s", err, sql)
	}
}

func readAll(ctx context.Context, s *CellStream) ([]storedCell, error) {
	var cells []storedCell
	for {
		c, err := s.Next(ctx)
		if errors.Is(err, io.EOF) {
			return cells, nil
		}
		if err != nil {
			return cells, err
		}
		if len(c.Runs) == 0 {
			return nil, errors.New("an empty chunk")
		}
		i := 0
		for _, run := range c.Runs {
			if run.Cells < 1 {
				return nil, errors.New("an empty run")
			}
			for col := run.Col; col < run.Col+run.Cells; col++ {
				if c.Valid != nil && c.Valid[i>>6]>>(i&63)&1 == 0 {
					i++
					continue
				}
				var v float64
				switch values := c.Values.(type) {
				case []uint8:
					v = float64(values[i])
				case []int8:
					v = float64(values[i])
				case []uint16:
					v = float64(values[i])
				case []uint32:
					v = float64(values[i])
				case []float64:
					v = values[i]
				case []float32:
					v = float64(values[i])
				case []int16:
					v = float64(values[i])
				case []int32:
					v = float64(values[i])
				case []int64:
					v = float64(values[i])
				}
				cells = append(cells, storedCell{run.Row, col, v})
				i++
			}
		}
		s.Recycle(c)
	}
}

func newReader(t *testing.T, opts CellOptions) (*CellReader, *pgxpool.Pool) {
	t.Helper()
	s, err := Open(t.Context(), pgtest.URL(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return NewCellReader(s, opts), s.pool
}

// Every storage gives the same cells, in order, whatever the window, the chunk
// size and the number of connections.
func TestCellsOfEveryStorage(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	reader, pool := newReader(t, CellOptions{})
	var layers []layer.Layer
	var cells [][]storedCell
	for i, s := range storages {
		for v := range valueTypes {
			g := grid.Grid{CRS: "EPSG:32633", Rows: 3 + rng.IntN(20), Cols: 3 + rng.IntN(20), OriginX: 3e5, OriginY: 5e6 + 7, StepX: 30, StepY: 20}
			l, want := store(t, pool, rng, s, fmt.Sprintf("%s %d %d", s.name, i, v), g, v)
			layers, cells = append(layers, l), append(cells, want)
		}
	}
	for round := range 24 {
		reader.opts.Connections = 1 + rng.IntN(6)
		reader.fits = fitsSlices
		if round%2 == 1 {
			reader.fits = canSlice
		}
		requests := make([]layer.CellRequest, len(layers))
		for i, l := range layers {
			w := l.Grid.Window()
			if round > 0 {
				w.RowStart, w.RowStop = span(rng, w.RowStop)
				w.ColStart, w.ColStop = span(rng, w.ColStop)
			}
			requests[i] = layer.CellRequest{Layer: l, Window: w, ChunkCells: 1 + rng.IntN(120)}
		}
		if round > 6 {
			requests = requests[:1+rng.IntN(4)] // each one alone on its connection
		}
		set, err := reader.Open(t.Context(), requests)
		if err != nil {
			t.Fatal(fault.From(err).Detail())
		}
		t.Cleanup(set.Close)
		for i, request := range requests {
			var want []storedCell
			for _, c := range cells[i] {
				if request.Window.Contains(int64(c.row), int64(c.col)) {
					want = append(want, c)
				}
			}
			got, err := readAll(t.Context(), set.Stream(i))
			if err != nil {
				t.Fatalf("%s, %s: %v", request.Layer.Name, request.Window, fault.From(err).Detail())
			}
			if !slices.IsSortedFunc(got, func(a, b storedCell) int { return cmp.Compare(a.row, b.row) }) {
				t.Fatalf("%s, %s: rows fall: %v", request.Layer.Name, request.Window, got)
			}
			// Within a row, cells come as their stored coordinates order them.
			slices.SortFunc(got, func(a, b storedCell) int {
				return cmp.Or(cmp.Compare(a.row, b.row), cmp.Compare(a.col, b.col))
			})
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%s, %s: %d cells, want %d: %v, want %v", request.Layer.Name, request.Window, len(got), len(want), got, want)
			}
		}
		set.Close()
		set.Close()
	}
	requireQuiet(t, pool)
}

// span is a random part of [0, n), maybe empty.
func span(rng *rand.Rand, n int64) (start, stop int64) {
	start = rng.Int64N(n)
	return start, start + rng.Int64N(n-start+1)
}

func TestCellsRefuseBadRows(t *testing.T) {
	t.Parallel()
	reader, pool := newReader(t, CellOptions{})
	g := grid.Grid{CRS: "EPSG:32633", Rows: 4, Cols: 5, OriginX: 100, OriginY: 200, StepX: 10, StepY: 10}
	full, top, bottom := g.Window(), grid.Window{RowStop: 2, ColStop: 5}, grid.Window{RowStart: 2, RowStop: 4, ColStop: 5}
	const (
		plain = "row_idx int, col_idx int, value float8"
		named = "x_coord float8, y_coord float8, value float8"
	)
	center := coordinates(grid.RegistrationCenter)
	southUp := func(l *layer.Layer) { indices(l); l.SouthUp = true }
	for i, test := range []struct {
		name, columns, rows string
		describe            func(*layer.Layer)
		windows             []grid.Window // each one must refuse
		reason              fault.Reason
		fields              map[string]string
	}{
		{"stored twice", plain, "(1, 2, 5), (0, 0, 1), (1, 2, 6)", indices, []grid.Window{full, top}, fault.DuplicateCell, map[string]string{"row": "1", "col": "2"}},
		{"twice, once NULL", plain, "(1, 2, 5), (1, 2, NULL)", indices, []grid.Window{full}, fault.DuplicateCell, map[string]string{"row": "1", "col": "2"}},
		{"twice, both NULL", plain, "(1, 2, NULL), (1, 2, NULL)", indices, []grid.Window{full}, fault.DuplicateCell, nil},
		{"wobbling, once NULL", named, "(115, 195.1, 3), (105, 195, 1), (115, 194.9, NULL)", center, []grid.Window{full, top}, fault.DuplicateCell, map[string]string{"row": "0", "col": "1"}},
		{"NULL row, asked for further south", plain, "(0, 0, 1), (NULL, 2, 5)", indices, []grid.Window{bottom, {RowStart: 1, RowStop: 2, ColStart: 1, ColStop: 3}}, fault.CellOffGrid, map[string]string{"row_idx": "NULL"}},
		{"NULL under a key", plain + ", UNIQUE (row_idx, col_idx)", "(0, 0, 1), (3, NULL, 5)", indices, []grid.Window{full, bottom, {RowStart: 2, RowStop: 4, ColStart: 1, ColStop: 2}}, fault.CellOffGrid, map[string]string{"col_idx": "NULL"}},
		{"row past the grid", plain, "(0, 0, 1), (4, 2, 5)", indices, []grid.Window{full, bottom}, fault.CellOffGrid, map[string]string{"row_idx": "4", "col_idx": "2"}},
		{"row before the grid", plain, "(0, 0, 1), (-1, 2, 5)", indices, []grid.Window{full, top}, fault.CellOffGrid, map[string]string{"row_idx": "-1"}},
		{"south-up, past the grid", plain, "(0, 0, 1), (4, 2, 5)", southUp, []grid.Window{full, top}, fault.CellOffGrid, map[string]string{"row_idx": "4"}},
		{"column past the grid", plain, "(0, 5, 1)", indices, []grid.Window{full, top}, fault.CellOffGrid, map[string]string{"col_idx": "5"}},
		{"NULL row", plain, "(0, 0, 1), (NULL, 2, 5)", indices, []grid.Window{full, top}, fault.CellOffGrid, map[string]string{"row_idx": "NULL", "col_idx": "2"}},
		{"NULL column", plain, "(0, 0, 1), (1, NULL, 5)", indices, []grid.Window{full, {RowStop: 2, ColStart: 1, ColStop: 2}}, fault.CellOffGrid, nil},
		{"off the lattice", named, "(105, 195, 1), (118, 195, 5)", center, []grid.Window{full, top}, fault.CellOffGrid, map[string]string{"x_coord": "118", "y_coord": "195", "limit": "0.05"}},
		{"corners said to be centres", named, "(100, 200, 1)", center, []grid.Window{full, top}, fault.CellOffGrid, nil},
		{"coordinate past the grid", named, "(155, 195, 1)", center, []grid.Window{full, top}, fault.CellOffGrid, map[string]string{"x_coord": "155"}},
		{"coordinate south of the grid", named, "(105, 155, 1)", center, []grid.Window{full, bottom}, fault.CellOffGrid, nil},
		{"NaN coordinate", named, "(105, 'NaN', 1)", center, []grid.Window{full, top}, fault.CellOffGrid, nil},
		{"infinite coordinate", named, "('Infinity', 195, 1)", center, []grid.Window{full, top}, fault.CellOffGrid, nil},
		{"NULL coordinate", named, "(105, NULL, 1)", center, []grid.Window{full, top}, fault.CellOffGrid, nil},
		{"point stored twice", named, "(105, 195, 1), (105.1, 195.1, 1)", center, []grid.Window{full, top}, fault.DuplicateCell, map[string]string{"row": "0", "col": "0"}},
		{"centres or corners", named, "(105, 195, 1)", coordinates(grid.RegistrationUnknown), []grid.Window{full}, fault.LayerUnreadable, nil},
		{"values of another type", "row_idx int, col_idx int, value text", "(1, 2, 'x')", indices, []grid.Window{full}, fault.LayerChanged, nil},
		{"indices of another type", "row_idx text, col_idx int, value float8", "('1', 2, 3)", indices, []grid.Window{full}, fault.LayerChanged, nil},
		{"coordinates gone", plain, "(1, 2, 3)", center, []grid.Window{full}, fault.LayerChanged, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := layer.Layer{
				Name: "birds", Grid: g, HasGrid: true, StoredType: layer.Float64,
				Table: layer.Table{Schema: "public", Name: fmt.Sprintf("bad_%d", i)},
			}
			test.describe(&l)
			run(t, pool, fmt.Sprintf("CREATE TABLE %s (%s)", l.Table, test.columns))
			run(t, pool, fmt.Sprintf("INSERT INTO %s VALUES %s", l.Table, test.rows))
			for _, w := range test.windows {
				err := func() error {
					set, err := reader.Open(t.Context(), []layer.CellRequest{{Layer: l, Window: w, ChunkCells: 2}})
					if err != nil {
						return err
					}
					defer set.Close()
					_, err = readAll(t.Context(), set.Stream(0))
					return err
				}()
				f := fault.From(err)
				if f == nil || f.Reason != test.reason || f.Fields["layer"] != "birds" {
					t.Fatalf("%s: error %v (%+v), want %s naming the layer", w, err, f, test.reason)
				}
				for k, v := range test.fields {
					if f.Fields[k] != v {
						t.Errorf("%s: field %s is %q, want %q (%v)", w, k, f.Fields[k], v, f.Message)
					}
				}
			}
		})
	}
	t.Run("table gone", func(t *testing.T) {
		l := layer.Layer{Name: "birds", Grid: g, HasIndices: true, StoredType: layer.Float64, Table: layer.Table{Schema: "public", Name: "nowhere"}}
		_, err := reader.Open(t.Context(), []layer.CellRequest{{Layer: l, Window: full, ChunkCells: 2}})
		if f := fault.From(err); f == nil || f.Kind != fault.Conflict || f.Reason != fault.LayerChanged {
			t.Errorf("error %v, want LAYER_CHANGED", err)
		}
	})
	requireQuiet(t, pool)
}

// Each rule takes what it says of a cell stored more than once, whatever the
// chunks and however cells are named; rows without a value are no candidates.
func TestCellsResolveDuplicates(t *testing.T) {
	t.Parallel()
	reader, pool := newReader(t, CellOptions{})
	g := grid.Grid{CRS: "EPSG:32633", Rows: 3, Cols: 4, OriginX: 100, OriginY: 200, StepX: 10, StepY: 10}
	center := coordinates(grid.RegistrationCenter)
	southUp := func(l *layer.Layer) { indices(l); l.SouthUp = true }
	nodata := -1.0
	for i, test := range []struct {
		name, columns, rows string
		describe            func(*layer.Layer)
		stored              layer.DataType
		first, last, mean   string
	}{
		{"by index", "row_idx int, col_idx int, value float8",
			"(1, 2, 6), (0, 0, 1), (1, 2, NULL), (1, 2, -1), (1, 2, 4), (1, 2, 'NaN'), (1, 2, 5), (2, 1, NULL), (2, 1, NULL), (2, 2, 7), (1, 2, NULL)",
			indices, layer.Float64, "[{0 0 1} {1 2 6} {2 2 7}]", "[{0 0 1} {1 2 5} {2 2 7}]", "[{0 0 1} {1 2 5} {2 2 7}]"},
		{"south-up", "row_idx int, col_idx int, value float4", "(0, 3, 1), (2, 3, 8), (0, 3, 2), (2, 3, 9)",
			southUp, layer.Float32, "[{0 3 8} {2 3 1}]", "[{0 3 9} {2 3 2}]", "[{0 3 8.5} {2 3 1.5}]"},
		// 115 and 114.9 are one cell, and 105 lies between them in no order of y.
		{"by coordinate", "x_coord float8, y_coord float8, value float8",
			"(115, 195.1, 3), (105, 195, 1), (114.9, 194.9, 5), (135, 175, 2), (115.1, 195, NULL)",
			center, layer.Float64, "[{0 0 1} {0 1 3} {2 3 2}]", "[{0 0 1} {0 1 5} {2 3 2}]", "[{0 0 1} {0 1 4} {2 3 2}]"},
		{"infinities", "row_idx int, col_idx int, value float8", "(0, 0, 'Infinity'), (0, 0, '-Infinity'), (0, 1, 1e308), (0, 1, 1e308)",
			indices, layer.Float64, "[{0 0 +Inf} {0 1 1e+308}]", "[{0 0 -Inf} {0 1 1e+308}]", "[{0 1 1e+308}]"},
		{"integers", "row_idx int, col_idx int, value smallint", "(1, 1, 3), (1, 1, 4)",
			indices, layer.Int16, "[{1 1 3}]", "[{1 1 4}]", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := layer.Layer{
				Name: "birds", Grid: g, HasGrid: true, StoredType: test.stored, DeclaredType: test.stored, Nodata: &nodata,
				Table: layer.Table{Schema: "public", Name: fmt.Sprintf("twice_%d", i)},
			}
			test.describe(&l)
			run(t, pool, fmt.Sprintf("CREATE TABLE %s (%s)", l.Table, test.columns))
			run(t, pool, fmt.Sprintf("INSERT INTO %s VALUES %s", l.Table, test.rows))
			for rule, want := range map[layer.Duplicates]string{
				layer.DuplicatesFirst: test.first, layer.DuplicatesLast: test.last, layer.DuplicatesMean: test.mean, layer.DuplicatesError: "",
			} {
				for chunk := 1; chunk < 5; chunk++ {
					// One request is a query, and two over one connection are cursors.
					for requests := 1; requests < 3; requests++ {
						reader.opts.Connections = 1
						request := layer.CellRequest{Layer: l, Window: g.Window(), ChunkCells: chunk, Duplicates: rule}
						got, err := func() ([]storedCell, error) {
							set, err := reader.Open(t.Context(), []layer.CellRequest{request, request}[:requests])
							if err != nil {
								return nil, err
							}
							defer set.Close()
							return readAll(t.Context(), set.Stream(0))
						}()
						switch f := fault.From(err); {
						case rule == layer.DuplicatesError:
							if f == nil || f.Reason != fault.DuplicateCell {
								t.Fatalf("%s: %v (%v), want DUPLICATE_CELL", rule, err, got)
							}
						case want == "":
							if f == nil || f.Kind != fault.Invalid || f.Fields["field"] != "duplicates" {
								t.Fatalf("%s: %v (%v), want Invalid", rule, err, got)
							}
						case err != nil || fmt.Sprint(got) != want:
							t.Fatalf("%s, chunks of %d, %d streams: %v (%v), want %s", rule, chunk, requests, got, err, want)
						}
					}
				}
			}
		})
	}
}

// big makes a table of side² cells, larger than what is read ahead.
func big(t *testing.T, pool *pgxpool.Pool, name string, side int) layer.Layer {
	t.Helper()
	l := layer.Layer{
		Name: name, Grid: grid.Grid{CRS: "EPSG:32633", Rows: side, Cols: side, OriginY: float64(side), StepX: 1, StepY: 1},
		HasGrid: true, HasIndices: true, StoredType: layer.Float64, Table: layer.Table{Schema: "public", Name: name},
	}
	run(t, pool, fmt.Sprintf(`CREATE TABLE %s AS SELECT r AS row_idx, c AS col_idx, (r * %d + c)::float8 AS value
		FROM generate_series(0, %d) r, generate_series(0, %d) c`, l.Table, side, side-1, side-1))
	return l
}

// All streams see the state at which they were opened.
func TestCellsAtOneSnapshot(t *testing.T) {
	t.Parallel()
	reader, pool := newReader(t, CellOptions{Connections: 3})
	var requests []layer.CellRequest
	for i := range 7 {
		l := big(t, pool, fmt.Sprintf("layer_%d", i), 60)
		requests = append(requests, layer.CellRequest{Layer: l, Window: l.Grid.Window(), ChunkCells: 100})
	}
	set, err := reader.Open(t.Context(), requests)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	for _, request := range requests {
		run(t, pool, fmt.Sprintf("DELETE FROM %s", request.Layer.Table))
	}
	for i := range requests {
		got, err := readAll(t.Context(), set.Stream(i))
		if err != nil || len(got) != 3600 {
			t.Fatalf("layer %d has %d cells (%v), want all 3600", i, len(got), err)
		}
	}
}

// Closing in the middle, or the end of the context, stops the queries in the
// database and gives the connections back.
func TestCellsStopInTheDatabase(t *testing.T) {
	t.Parallel()
	reader, pool := newReader(t, CellOptions{Connections: 2})
	a, b, c := big(t, pool, "a", 400), big(t, pool, "b", 400), big(t, pool, "c", 400)
	for name, layers := range map[string][]layer.Layer{"queries": {a, b}, "cursors": {a, b, c}} {
		for _, stop := range []string{"close", "cancel"} {
			t.Run(name+" "+stop, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var requests []layer.CellRequest
				for _, l := range layers {
					requests = append(requests, layer.CellRequest{Layer: l, Window: l.Grid.Window(), ChunkCells: 50})
				}
				set, err := reader.Open(ctx, requests)
				if err != nil {
					t.Fatal(err)
				}
				defer set.Close()
				if _, err := set.Stream(0).Next(ctx); err != nil {
					t.Fatal(err)
				}
				if stop == "cancel" {
					cancel()
					for err = nil; err == nil; {
						_, err = set.Stream(1).Next(context.Background())
					}
					if !errors.Is(err, context.Canceled) {
						t.Errorf("cancelled, and the error is %v", err)
					}
				}
				set.Close()
				requireQuiet(t, pool)
			})
		}
	}
}

// requireQuiet fails when a backend of this database but ours is in a query or a
// transaction after a second.
func requireQuiet(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	pgtest.Within(t, time.Second, func() string {
		var busy int
		err := pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'`).Scan(&busy)
		if err != nil {
			t.Fatal(err)
		}
		if taken := pool.Stat().AcquiredConns(); busy > 0 || taken > 0 {
			return fmt.Sprintf("%d backends are busy and %d connections taken", busy, taken)
		}
		return ""
	})
}

// A backend that dies ends the set with an error, never with fewer cells.
func TestCellsLoseTheDatabase(t *testing.T) {
	t.Parallel()
	reader, pool := newReader(t, CellOptions{Connections: 2})
	a, b := big(t, pool, "a", 400), big(t, pool, "b", 400)
	set, err := reader.Open(t.Context(), []layer.CellRequest{
		{Layer: a, Window: a.Grid.Window(), ChunkCells: 50}, {Layer: b, Window: b.Grid.Window(), ChunkCells: 50},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	run(t, pool, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL`)
	for i := range 2 {
		_, err := readAll(t.Context(), set.Stream(i))
		if f := fault.From(err); f == nil || f.Kind != fault.Unavailable {
			t.Errorf("stream %d: error %v, want Unavailable", i, err)
		}
	}
}

// A mean is within its values, also where their sum is more than float64 holds.
func TestMeanOfLargeValues(t *testing.T) {
	t.Parallel()
	reader, pool := newReader(t, CellOptions{})
	l := layer.Layer{
		Name: "large", Grid: grid.Grid{CRS: "EPSG:32633", Rows: 1, Cols: 4, OriginY: 1, StepX: 1, StepY: 1}, HasGrid: true,
		HasIndices: true, StoredType: layer.Float64, Table: layer.Table{Schema: "public", Name: "large"},
	}
	run(t, pool, "CREATE TABLE public.large (row_idx int, col_idx int, value float8)")
	run(t, pool, `INSERT INTO public.large VALUES (0, 0, 1.5e308), (0, 0, 1.5e308), (0, 0, 1.5e308),
		(0, 1, 1.5e308), (0, 1, 1.5e308), (0, 1, -1.5e308), (0, 2, 'Infinity'), (0, 2, 1), (0, 3, 3), (0, 3, 4)`)
	set, err := reader.Open(t.Context(), []layer.CellRequest{{Layer: l, Window: l.Grid.Window(), ChunkCells: 10, Duplicates: layer.DuplicatesMean}})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	got, err := readAll(t.Context(), set.Stream(0))
	if err != nil {
		t.Fatal(err)
	}
	for col, want := range []float64{1.5e308, 0.5e308, math.Inf(1), 3.5} {
		if len(got) != 4 || got[col].value != want && math.Abs(got[col].value/want-1) > 1e-15 {
			t.Errorf("means %v, want %v at column %d", got, want, col)
		}
	}
}
