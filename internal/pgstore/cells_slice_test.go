package pgstore

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

const keyed = "row_idx int NOT NULL, col_idx int NOT NULL, value float8, PRIMARY KEY (row_idx, col_idx)"

// Slices of one layer, read over several connections, come in order and hold
// every cell, through rows that are complete, lack cells, or are absent.
func TestSlicesOverConnections(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	const side = 500
	for _, southUp := range []bool{false, true} {
		t.Run(fmt.Sprintf("south-up %v", southUp), func(t *testing.T) {
			t.Parallel()
			reader, pool := newReader(t, CellOptions{Connections: 4})
			l := layer.Layer{
				Name: "birds", Grid: grid.Grid{CRS: "EPSG:32633", Rows: side, Cols: side, OriginY: side, StepX: 1, StepY: 1},
				HasGrid: true, HasIndices: true, StoredType: layer.Float64, SouthUp: southUp, Table: layer.Table{Schema: "public", Name: "birds"},
			}
			run(t, pool, fmt.Sprintf("CREATE TABLE %s (%s)", l.Table, keyed))
			// Rows 100 to 149 lack cells at random, 150 to 159 are absent, and 200
			// to 209 have a NULL in each fifth cell.
			run(t, pool, fmt.Sprintf(`INSERT INTO %s SELECT r, c, CASE WHEN r / 10 = 20 AND c %% 5 = 0 THEN NULL ELSE r * %d + c END
				FROM generate_series(0, %d) r, generate_series(0, %d) c
				WHERE NOT (r / 50 = 2 AND (r * 31 + c * 17) %% 7 = 0) AND r / 10 <> 15`, l.Table, side, side-1, side-1))
			run(t, pool, "ANALYZE "+l.Table.String())
			request := layer.CellRequest{Layer: l, Window: l.Grid.Window(), ChunkCells: side + rng.IntN(20*side)}
			set, err := reader.Open(t.Context(), []layer.CellRequest{request})
			if err != nil {
				t.Fatal(err)
			}
			defer set.Close()
			if set.slicer.empty() || len(set.lines) != 4 {
				t.Fatalf("%d connections (sliced: %v), want 4 that take slices", len(set.lines), !set.slicer.empty())
			}
			got, err := readAll(t.Context(), set.Stream(0))
			if err != nil {
				t.Fatal(err)
			}
			i := 0
			for row := range int32(side) {
				r := row
				if southUp {
					r = side - 1 - row
				}
				for c := range int32(side) {
					if r/50 == 2 && (r*31+c*17)%7 == 0 || r/10 == 15 || r/10 == 20 && c%5 == 0 {
						continue
					}
					if want := (storedCell{row, c, float64(r*side + c)}); i >= len(got) || got[i] != want {
						t.Fatalf("cell %d of %d is not %v", i, len(got), want)
					}
					i++
				}
			}
			if i != len(got) {
				t.Fatalf("%d cells, want %d", len(got), i)
			}
		})
	}
}

// What is read in slices is refused like what is read as a whole: the key does
// not keep cells on the grid, and as many cells as columns are no proof alone.
func TestSlicesRefuseBadRows(t *testing.T) {
	t.Parallel()
	reader, pool := newReader(t, CellOptions{Connections: 1})
	reader.fits = canSlice
	g := grid.Grid{CRS: "EPSG:32633", Rows: 4, Cols: 3, OriginX: 100, OriginY: 200, StepX: 10, StepY: 10}
	for i, test := range []struct {
		name, rows string
		southUp    bool
		fields     map[string]string
	}{
		{"a column too many", "(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 3, 1)", false, map[string]string{"row_idx": "0", "col_idx": "3"}},
		{"as many columns, the last one off", "(0, 1, 1), (0, 2, 1), (0, 3, 1)", false, map[string]string{"row_idx": "0", "col_idx": "3"}},
		{"as many columns, the first one off", "(0, -1, 1), (0, 0, 1), (0, 1, 1)", false, map[string]string{"row_idx": "0", "col_idx": "-1"}},
		{"between both ends, and past them", "(1, -1, 1), (1, 1, 1), (1, 3, 1)", false, map[string]string{"row_idx": "1", "col_idx": "-1"}},
		{"a row past the grid", "(0, 0, 1), (4, 0, 1), (4, 1, 1), (4, 2, 1)", false, map[string]string{"row_idx": "4"}},
		{"a row before the grid", "(-1, 0, 1), (-1, 1, 1), (-1, 2, 1), (0, 0, 1)", false, map[string]string{"row_idx": "-1"}},
		{"south-up", "(0, 0, 1), (-1, 0, 1)", true, map[string]string{"row_idx": "-1"}},
	} {
		for chunk := 3; chunk < 14; chunk += 5 {
			t.Run(fmt.Sprintf("%s %d", test.name, chunk), func(t *testing.T) {
				l := layer.Layer{
					Name: "birds", Grid: g, HasGrid: true, HasIndices: true, StoredType: layer.Float64, SouthUp: test.southUp,
					Table: layer.Table{Schema: "public", Name: fmt.Sprintf("bad_%d_%d", i, chunk)},
				}
				run(t, pool, fmt.Sprintf("CREATE TABLE %s (%s)", l.Table, keyed))
				run(t, pool, fmt.Sprintf("INSERT INTO %s VALUES %s", l.Table, test.rows))
				set, err := reader.Open(t.Context(), []layer.CellRequest{{Layer: l, Window: g.Window(), ChunkCells: chunk}})
				if err != nil {
					t.Fatal(err)
				}
				defer set.Close()
				cells, err := readAll(t.Context(), set.Stream(0))
				f := fault.From(err)
				if f == nil || f.Reason != fault.CellOffGrid || f.Fields["layer"] != "birds" {
					t.Fatalf("error %v (%v), want CELL_OFF_GRID naming the layer", err, cells)
				}
				for k, v := range test.fields {
					if f.Fields[k] != v {
						t.Errorf("field %s is %q, want %q (%v)", k, f.Fields[k], v, f.Message)
					}
				}
			})
		}
	}
}

// Only what the statistics, the key and the order on disk speak for is read in
// slices.
func TestFitsSlices(t *testing.T) {
	t.Parallel()
	reader, pool := newReader(t, CellOptions{})
	const all = "SELECT i / 50, i % 50, 1 FROM generate_series(0, 4999) i"
	nullable := "row_idx int, col_idx int, value float8, UNIQUE (row_idx, col_idx)"
	for name, test := range map[string]struct {
		columns, rows, then string
		chunk               int
		fits                bool
	}{
		"dense":                 {keyed, all, "ANALYZE public.%s", 100, true},
		"half of it":            {keyed, all + " WHERE i % 2 = 0", "ANALYZE public.%s", 100, true},
		"never analysed":        {keyed, all, "", 100, false},
		"empty":                 {keyed, all + " WHERE i < 0", "ANALYZE public.%s", 100, false},
		"a tenth of it":         {keyed, all + " WHERE i % 10 = 0", "ANALYZE public.%s", 100, false},
		"scattered":             {keyed, all + " ORDER BY random()", "ANALYZE public.%s", 100, false},
		"wider than a chunk":    {keyed, all, "ANALYZE public.%s", 49, false},
		"NULL can be stored":    {nullable, all, "ANALYZE public.%s", 100, false},
		"no key":                {"row_idx int NOT NULL, col_idx int NOT NULL, value float8", all, "ANALYZE public.%s", 100, false},
		"columns first":         {"row_idx int NOT NULL, col_idx int NOT NULL, value float8, PRIMARY KEY (col_idx, row_idx)", all, "ANALYZE public.%s", 100, false},
		"more than a key":       {"row_idx int NOT NULL, col_idx int NOT NULL, value float8 NOT NULL, PRIMARY KEY (row_idx, col_idx, value)", all, "ANALYZE public.%s", 100, false},
		"deferrable":            {"row_idx int NOT NULL, col_idx int NOT NULL, value float8, PRIMARY KEY (row_idx, col_idx) DEFERRABLE", all, "ANALYZE public.%s", 100, false},
		"a key for some":        {"row_idx int NOT NULL, col_idx int NOT NULL, value float8", all, "CREATE UNIQUE INDEX ON public.%[1]s (row_idx, col_idx) WHERE value > 0; ANALYZE public.%[1]s", 100, false},
		"more cells in a child": {keyed, all, "CREATE TABLE public.child () INHERITS (public.%[1]s); ANALYZE public.%[1]s", 100, false},
	} {
		t.Run(name, func(t *testing.T) {
			table := strings.ReplaceAll(strings.ToLower(name), " ", "_")
			run(t, pool, fmt.Sprintf("CREATE TABLE public.%s (%s)", table, test.columns))
			run(t, pool, fmt.Sprintf("INSERT INTO public.%s %s", table, test.rows))
			if test.then != "" {
				for sql := range strings.SplitSeq(fmt.Sprintf(test.then, table), "; ") {
					run(t, pool, sql)
				}
			}
			l := layer.Layer{
				Name: name, Grid: grid.Grid{CRS: "EPSG:32633", Rows: 100, Cols: 50, OriginY: 100, StepX: 1, StepY: 1},
				HasGrid: true, HasIndices: true, StoredType: layer.Float64, Table: layer.Table{Schema: "public", Name: table},
			}
			set, err := reader.Open(t.Context(), []layer.CellRequest{{Layer: l, Window: l.Grid.Window(), ChunkCells: test.chunk}})
			if err != nil {
				t.Fatal(err)
			}
			defer set.Close()
			if fits := !set.slicer.empty(); fits != test.fits {
				t.Errorf("read in slices: %v, want %v (%+v)", fits, test.fits, set.Stream(0).table)
			}
		})
	}
}

// dense makes an analysed table of side² cells and the request to read it.
func dense(t *testing.T, pool *pgxpool.Pool, name string, side int) layer.CellRequest {
	t.Helper()
	l := layer.Layer{
		Name: name, Grid: grid.Grid{CRS: "EPSG:32633", Rows: side, Cols: side, OriginY: float64(side), StepX: 1, StepY: 1},
		HasGrid: true, HasIndices: true, StoredType: layer.Float64, Table: layer.Table{Schema: "public", Name: name},
	}
	run(t, pool, fmt.Sprintf("CREATE TABLE %s (%s)", l.Table, keyed))
	run(t, pool, fmt.Sprintf("INSERT INTO %s SELECT r, c, 1 FROM generate_series(0, %[2]d) r, generate_series(0, %[2]d) c", l.Table, side-1))
	run(t, pool, "VACUUM ANALYZE "+l.Table.String())
	return layer.CellRequest{Layer: l, Window: l.Grid.Window(), ChunkCells: 4 * side}
}

// A connection keeps one statement for all slices of a layer, which scans the
// key and sorts nothing, and leaves none behind.
func TestSlicesShareAPlan(t *testing.T) {
	t.Parallel()
	reader, pool := newReader(t, CellOptions{Connections: 1})
	request := dense(t, pool, "birds", 400)
	for range 2 { // the pool gives the same connection again
		set, err := reader.Open(t.Context(), []layer.CellRequest{request})
		if err != nil {
			t.Fatal(err)
		}
		cells, err := readAll(t.Context(), set.Stream(0))
		if err != nil || len(cells) != 400*400 {
			t.Fatalf("%d cells, %v", len(cells), err)
		}
		set.pumps.Wait()
		l := set.lines[0]
		var names []string
		rows, err := l.tx.Query(t.Context(), "SELECT name FROM pg_prepared_statements WHERE name LIKE 'rasterloom%'")
		if err != nil {
			t.Fatal(err)
		}
		if names, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || len(names) != 1 {
			t.Fatalf("prepared: %v, %v", names, err)
		}
		if rows, err = l.tx.Query(t.Context(), "EXPLAIN EXECUTE "+names[0]+" (100, 200)", pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		plan := strings.Join(lines, "\n")
		if err != nil || !strings.Contains(plan, "Index Scan using birds_pkey") || strings.Contains(plan, "Sort") || strings.Contains(plan, "Bitmap") {
			t.Errorf("%v; the plan of a slice is\n%s", err, plan)
		}
		set.Close()
		var left int
		err = reader.store.pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'rasterloom%'").Scan(&left)
		if err != nil || left != 0 {
			t.Errorf("%d statements are left behind, %v", left, err)
		}
	}
}

// A connection that has nothing to do while the consumer is slow tells the
// database that it is still needed.
func TestIdleConnectionsGiveSigns(t *testing.T) {
	t.Parallel()
	// The one that a set needs: what is surplus goes back when it is idle.
	reader, pool := newReader(t, CellOptions{Connections: 1})
	reader.sign, reader.idle = 20*time.Millisecond, time.Hour
	set, err := reader.Open(t.Context(), []layer.CellRequest{dense(t, pool, "birds", 400)})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	pid := set.lines[0].conn.Conn().PgConn().PID()
	for first := (time.Time{}); ; {
		var query string
		var changed time.Time
		err := pool.QueryRow(t.Context(), "SELECT query, state_change FROM pg_stat_activity WHERE pid = $1", pid).Scan(&query, &changed)
		if err != nil {
			t.Fatal(err)
		}
		if query != "SELECT" {
			continue
		}
		if first.IsZero() {
			first = changed
		} else if changed.After(first) {
			break
		}
	}
	if cells, err := readAll(t.Context(), set.Stream(0)); err != nil || len(cells) != 400*400 {
		t.Errorf("%d cells, %v", len(cells), err)
	}
}

// The first slice has no more rows than are waited for, and at least one.
func TestFirstSliceIsWhatIsWaitedFor(t *testing.T) {
	t.Parallel()
	const cols = 300
	for name, c := range map[string]struct{ chunk, waited, rows int }{
		"nobody said":           {1 << 16, 0, firstSliceCells / cols},
		"less than a row":       {1 << 16, cols - 1, 1},
		"some rows":             {1 << 16, 5 * cols, 5},
		"more than is sensible": {1 << 16, 1 << 20, firstSliceCells / cols},
		"more than a chunk":     {3 * cols, 1 << 20, 3},
	} {
		t.Run(name, func(t *testing.T) {
			l := layer.Layer{Grid: grid.Grid{Rows: 1000, Cols: cols}}
			s := slicer{}
			s.add(&CellStream{request: layer.CellRequest{Layer: l, Window: l.Grid.Window(), ChunkCells: c.chunk, FirstCells: c.waited}})
			if got := s.streams[0].height; got != int64(c.rows) {
				t.Errorf("the first slice has %d rows, want %d", got, c.rows)
			}
		})
	}
}
