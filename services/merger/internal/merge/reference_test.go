package merge

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cell is a stored value in the plainest form.
type cell struct {
	row, col int32
	value    float64
}

// slices of cells served as chunks of random sizes.
type listSource struct {
	stored layer.DataType
	cells  []cell
	size   func() int
	fail   error // given instead of io.EOF
	// marked: runs go over cells without a value, as those of tiles do.
	marked bool
}

func (s *listSource) Next(context.Context) (*layer.Chunk, error) {
	if len(s.cells) == 0 {
		if s.fail != nil {
			return nil, s.fail
		}
		return nil, io.EOF
	}
	n := min(len(s.cells), s.size())
	part := s.cells[:n]
	s.cells = s.cells[n:]
	switch s.stored {
	case layer.Float64:
		return chunkAs[float64](part, s.marked), nil
	case layer.Float32:
		return chunkAs[float32](part, s.marked), nil
	case layer.Int16:
		return chunkAs[int16](part, s.marked), nil
	case layer.Int32:
		return chunkAs[int32](part, s.marked), nil
	default:
		return chunkAs[int64](part, s.marked), nil
	}
}

func (*listSource) Recycle(c *layer.Chunk) {
	// What was given back may be filled with something else at once.
	for i := range c.Runs {
		c.Runs[i] = layer.Run{Row: math.MaxInt32, Col: math.MaxInt32, Cells: math.MaxInt32}
	}
}

// chunkAs makes a chunk of cells, and with marked one run a row of them, with bits
// and anything at all where there is no value.
func chunkAs[T layer.Value](cells []cell, marked bool) *layer.Chunk {
	if !marked {
		return chunkOf[T](cells)
	}
	c, values := &layer.Chunk{}, []T{}
	for _, v := range cells {
		last := len(c.Runs) - 1
		if last < 0 || c.Runs[last].Row != v.row {
			c.Runs = append(c.Runs, layer.Run{Row: v.row, Col: v.col})
			last++
		}
		run := &c.Runs[last]
		for ; run.Col+run.Cells < v.col; run.Cells++ {
			values = append(values, 77)
		}
		c.Valid = append(c.Valid, make([]uint64, 1+len(values)/64-len(c.Valid))...)
		c.Valid[len(values)>>6] |= 1 << (len(values) & 63)
		values = append(values, T(v.value))
		run.Cells++
	}
	c.Values = values
	return c
}

func chunkOf[T layer.Value](cells []cell) *layer.Chunk {
	c := layer.NewChunk[T](len(cells))
	values := c.Values.([]T)
	for _, v := range cells {
		c.Runs, values = layer.Append(c.Runs, values, v.row, v.col, T(v.value))
	}
	c.Values = values
	return c
}

// table is a merged table, cell by cell, with the exact bits of its values.
type table struct {
	columns []string
	batches []int
	rows    [][]uint64 // bits of a float64 for each column
	null    [][]bool
}

func (t *table) add(p *Plan, b *Batch) {
	t.batches = append(t.batches, b.Rows)
	for r := range b.Rows {
		row, null := make([]uint64, len(b.Columns)), make([]bool, len(b.Columns))
		for i, c := range b.Columns {
			row[i] = math.Float64bits(valueAt(c.Values, r))
			null[i] = c.Valid != nil && c.Valid[r>>6]>>(r&63)&1 == 0
		}
		t.rows, t.null = append(t.rows, row), append(t.null, null)
	}
	if t.columns == nil {
		for _, c := range p.Columns() {
			t.columns = append(t.columns, c.Name)
		}
	}
}

func valueAt(values any, i int) float64 {
	switch v := values.(type) {
	case []uint8:
		return float64(v[i])
	case []int8:
		return float64(v[i])
	case []uint16:
		return float64(v[i])
	case []int16:
		return float64(v[i])
	case []uint32:
		return float64(v[i])
	case []int32:
		return float64(v[i])
	case []int64:
		return float64(v[i])
	case []float32:
		return float64(v[i])
	case []float64:
		return v[i]
	}
	panic(fmt.Sprintf("%T", values))
}

// naive merges cell by cell over the whole window, by the definition.
func naive(p *Plan, rows Rows, cells [][]cell) *table {
	t := &table{}
	lookup := make([]map[[2]int64]float64, len(p.Threads))
	for i, thread := range p.Threads {
		lookup[i] = map[[2]int64]float64{}
		if thread.Resampling != nil {
			lookup[i] = resampledCells(p, thread, cells[i])
			continue
		}
		for _, c := range cells[i] {
			row := int64(c.row) + thread.Relation.OffsetRows
			col := int64(c.col) + thread.Relation.OffsetCols
			if turn := thread.Relation.TurnCols; turn > 0 {
				if int64(c.col) >= turn {
					continue // past the layer's own first turn
				}
				col = p.Window.ColStart + ((col-p.Window.ColStart)%turn+turn)%turn
			}
			lookup[i][[2]int64{row, col}] = c.value
		}
	}
	for r := rows.Start; r < rows.Stop; r++ {
		for c := p.Window.ColStart; c < p.Window.ColStop; c++ {
			if a := p.After; a != nil && (r < a.Row || r == a.Row && c <= a.Col) {
				continue
			}
			var row []uint64
			var null []bool
			if p.Coordinates.XY {
				row = append(row, math.Float64bits(p.Lattice.X(c)), math.Float64bits(p.Lattice.Y(r)))
				null = append(null, false, false)
			}
			if p.Coordinates.RowCol {
				row = append(row, math.Float64bits(float64(r)), math.Float64bits(float64(c)))
				null = append(null, false, false)
			}
			anyone, all := false, true
			for i, thread := range p.Threads {
				if thread.Selected() {
					v, ok := lookup[i][[2]int64{r, c}]
					row, null = append(row, math.Float64bits(v)), append(null, !ok)
					anyone, all = anyone || ok, all && ok
				}
			}
			kept := anyone
			switch p.Keep {
			case KeepAll:
				kept = all
			case KeepEvery:
				kept = true
			case KeepReference:
				_, kept = lookup[p.Reference][[2]int64{r, c}]
			}
			if kept {
				t.rows, t.null = append(t.rows, row), append(t.null, null)
			}
		}
	}
	for left := len(t.rows); left > 0; left -= p.BatchRows {
		t.batches = append(t.batches, min(left, p.BatchRows))
	}
	return t
}

func requireSame(t *testing.T, got, want *table) {
	t.Helper()
	if !slices.Equal(got.batches, want.batches) {
		t.Fatalf("batches of %v rows, want %v", got.batches, want.batches)
	}
	for r := range want.rows {
		if !slices.Equal(got.rows[r], want.rows[r]) || !slices.Equal(got.null[r], want.null[r]) {
			t.Fatalf("row %d is %x (null %v), want %x (null %v)", r, got.rows[r], got.null[r], want.rows[r], want.null[r])
		}
	}
}

// generated is a random merge and its cells.
type generated struct {
	plan   *Plan
	cells  [][]cell
	marked bool // of the chunks that are served
}

var storedTypes = []layer.DataType{layer.Float64, layer.Float32, layer.Int16, layer.Int32, layer.Int64}

func generate(t *testing.T, rng *rand.Rand) generated {
	t.Helper()
	ref := grid.Grid{
		CRS: "EPSG:32633", Rows: 1 + rng.IntN(40), Cols: 1 + rng.IntN(40),
		OriginX: rng.Float64() * 1e6, OriginY: rng.Float64() * 1e6, StepX: 30, StepY: 20,
	}
	turn := 0
	if rng.IntN(3) == 0 {
		turn = ref.Cols + rng.IntN(20)
	}
	p := &Plan{
		Lattice: ref, Reference: 0, Keep: RowsKept(rng.IntN(4)), BatchRows: 1 + rng.IntN(200),
		Coordinates: Coordinates{XY: rng.IntN(2) == 0, RowCol: rng.IntN(2) == 0},
	}
	var g generated
	var placed []grid.Placed
	for i := range 1 + rng.IntN(4) {
		src := grid.Grid{CRS: ref.CRS, Rows: 1 + rng.IntN(40), Cols: 1 + rng.IntN(40), OriginX: ref.OriginX, OriginY: ref.OriginY, StepX: 30, StepY: 20}
		rel := grid.Relation{
			Verdict: grid.VerdictAligned, OffsetRows: int64(rng.IntN(60) - 30), OffsetCols: int64(rng.IntN(60) - 30),
			TurnCols: int64(turn),
		}
		if i == 0 {
			src, rel.OffsetRows, rel.OffsetCols = ref, 0, 0
		}
		if turn > 0 {
			src.Cols = min(src.Cols, turn)
		}
		stored := storedTypes[rng.IntN(len(storedTypes))]
		var cells []cell
		density := []float64{1, 0.9, 0.5, 0.05, 0}[rng.IntN(5)]
		for r := range src.Rows {
			if rng.IntN(4) == 0 {
				continue // an empty row
			}
			for c := range src.Cols {
				if rng.Float64() < density {
					v := []float64{0, 1, -7, float64(rng.IntN(30000))}[rng.IntN(4)]
					if stored == layer.Float64 && rng.IntN(8) == 0 {
						v = []float64{math.Copysign(0, -1), math.Inf(1), rng.NormFloat64()}[rng.IntN(3)]
					}
					cells = append(cells, cell{int32(r), int32(c), v})
				}
			}
		}
		p.Threads = append(p.Threads, Thread{
			Layer:    layer.Layer{Name: fmt.Sprintf("layer %d", i), Grid: src, HasGrid: true, Format: layer.FormatLegacy, StoredType: stored},
			Relation: rel, Column: fmt.Sprintf("c%d", i), Type: stored,
		})
		g.cells = append(g.cells, cells)
		placed = append(placed, grid.Placed{Grid: src, Relation: rel})
	}
	switch rng.IntN(3) {
	case 0:
		p.Window = grid.UnionWindow(ref, placed)
	case 1:
		p.Window = ref.Window()
	default:
		r, c := int64(rng.IntN(ref.Rows)), int64(rng.IntN(ref.Cols))
		p.Window = grid.Window{RowStart: r, RowStop: r + 1 + int64(rng.IntN(30)), ColStart: c, ColStop: c + 1 + int64(rng.IntN(30))}
	}
	// The reference may decide without being selected.
	if p.Keep == KeepReference && len(p.Threads) > 1 && rng.IntN(2) == 0 {
		last := len(p.Threads) - 1
		p.Threads[0], p.Threads[last] = p.Threads[last], p.Threads[0]
		g.cells[0], g.cells[last] = g.cells[last], g.cells[0]
		p.Reference = last
		p.Threads[last].Column = ""
	}
	g.plan = p
	return g
}

// sizes makes the sizes of the chunks of one source.
type sizes func() func() int

func fixedSize(n int) sizes { return func() func() int { return func() int { return n } } }

func randomSizes(seed uint64) sizes {
	return func() func() int {
		// Sources are read in parallel: each has its own generator.
		rng := rand.New(rand.NewPCG(seed, 1))
		return func() int { return 1 + rng.IntN(50) }
	}
}

// sources serves what the plan asks for, and nothing else.
func (g generated) sources(rows Rows, size sizes) []Source {
	sources := make([]Source, len(g.cells))
	for i, request := range g.plan.Requests(rows) {
		var cells []cell
		for _, c := range g.cells[i] {
			if request.Window.Contains(int64(c.row), int64(c.col)) {
				cells = append(cells, c)
			}
		}
		sources[i] = &listSource{stored: request.Layer.StoredType, cells: cells, size: size(), marked: g.marked}
	}
	return sources
}

func (g generated) weave(t *testing.T, rows Rows, size sizes) *table {
	t.Helper()
	got := &table{}
	result, err := Weave(t.Context(), g.plan, rows, g.sources(rows, size), func(b *Batch) error {
		got.add(g.plan, b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if result.Rows != int64(len(got.rows)) || result.Batches != int64(len(got.batches)) {
		t.Fatalf("result says %d rows in %d batches, and there are %d in %d", result.Rows, result.Batches, len(got.rows), len(got.batches))
	}
	return got
}

// seedOf prints the seed of a generated test, so that a failure can be seen again.
func seedOf(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// chunkSource serves ready chunks, for benchmarks.
type chunkSource struct{ chunks []*layer.Chunk }

func (s *chunkSource) Next(context.Context) (*layer.Chunk, error) {
	if len(s.chunks) == 0 || len(s.chunks[0].Runs) == 0 {
		return nil, io.EOF
	}
	c := s.chunks[0]
	s.chunks = s.chunks[1:]
	return c, nil
}

func (*chunkSource) Recycle(*layer.Chunk) {}
