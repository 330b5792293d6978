package merge

import (
	"math/bits"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/bitmap"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// Batch is a run of rows of the table, columnar. It belongs to the engine: its
// buffers are used again once the receiver returns.
type Batch struct {
	// Sequence counts the batches of a run, from 0.
	Sequence int64
	// FirstRow is the lattice row of the first cell.
	FirstRow int64
	// Last is the last cell.
	Last Cell
	// Rows is the number of rows, at least 1.
	Rows int
	// Columns are the columns, as Plan.Columns lists them.
	Columns []Vector
}

// Vector is the content of one column.
type Vector struct {
	// Values is a flat slice of the column's type, as long as the batch has
	// rows: an []int16 for Int16. A value under a null is zero.
	Values any
	// Valid has a bit for each row, the least significant first: 1 for a value
	// and 0 for a null. Bits past the last row are zero. Nil for a column that
	// cannot be null.
	Valid []uint64
	// Nulls is the number of nulls.
	Nulls int
}

// column collects one column of a batch.
type column interface {
	// add appends the cells [start, start+n) of a band whose first row is row.
	add(band int, row int64, start, n int)
	// lend is add for an empty column, without a copy where it can be: the band must
	// not be filled again before clear.
	lend(band int, row int64, start, n int)
	// vector gives what was collected, and clear starts again.
	vector() Vector
	clear()
}

// valueColumn collects the values of a thread.
type valueColumn[T layer.Value] struct {
	windows *[bandsInFlight]window[T]
	own     []T // what values are collected in, empty
	values  []T
	valid   []uint64
	nulls   int
	kept    *int64
}

func newValueColumn[T layer.Value](windows *[bandsInFlight]window[T], kept *int64, capacity int) column {
	own := make([]T, 0, capacity)
	return &valueColumn[T]{windows: windows, own: own, values: own, valid: make([]uint64, bitmap.Words(capacity)), kept: kept}
}

func (c *carrier[S, T]) column(capacity int) column {
	return newValueColumn(&c.windows, &c.counted.kept, capacity)
}

func (c *valueColumn[T]) add(band int, _ int64, start, n int) {
	at := len(c.values)
	c.values = append(c.values, c.windows[band].values[start:start+n]...)
	c.mark(band, start, at, n)
}

func (c *valueColumn[T]) lend(band int, _ int64, start, n int) {
	c.values = c.windows[band].values[start : start+n : start+n]
	c.mark(band, start, 0, n)
}

// mark takes over which of the cells from start of a band have a value, for the
// values from at on, and makes the others zero.
func (c *valueColumn[T]) mark(band, start, at, n int) {
	w := &c.windows[band]
	for done := 0; done < n; done += 64 {
		k := min(64, n-done)
		valid := bitmap.Load(w.valid, start+done, k)
		bitmap.Store(c.valid, at+done, k, valid)
		missing := ^valid & bitmap.Low(k)
		if missing == 0 {
			continue
		}
		c.nulls += bits.OnesCount64(missing)
		for ; missing != 0; missing &= missing - 1 {
			c.values[at+done+bits.TrailingZeros64(missing)] = 0
		}
	}
}

func (c *valueColumn[T]) vector() Vector {
	*c.kept += int64(len(c.values) - c.nulls)
	return Vector{Values: c.values, Valid: c.valid[:bitmap.Words(len(c.values))], Nulls: c.nulls}
}

func (c *valueColumn[T]) clear() {
	c.values, c.nulls = c.own, 0
	clear(c.valid)
}

// placeColumn collects a coordinate or an index, which follow from the place of
// a cell. at gives it from a row and a column of the lattice.
type placeColumn[T layer.Value] struct {
	window grid.Window
	values []T
	// byRow is set for what depends on the row, line for what depends on the
	// column: it has the values of a row of the window.
	byRow func(int64) T
	line  []T
}

// lineOf gives what depends on the column, for the columns of a window.
func lineOf[T layer.Value](w grid.Window, byCol func(int64) T) []T {
	line := make([]T, w.Cols())
	for i := range line {
		line[i] = byCol(w.ColStart + int64(i))
	}
	return line
}

func (c *placeColumn[T]) add(_ int, row int64, start, n int) {
	width := int(c.window.Cols())
	row += int64(start / width)
	for col := start % width; n > 0; row, col = row+1, 0 {
		k := min(n, width-col)
		if c.byRow != nil {
			v := c.byRow(row)
			for range k {
				c.values = append(c.values, v)
			}
		} else {
			c.values = append(c.values, c.line[col:col+k]...)
		}
		n -= k
	}
}

func (c *placeColumn[T]) lend(band int, row int64, start, n int) { c.add(band, row, start, n) }

func (c *placeColumn[T]) vector() Vector { return Vector{Values: c.values} }
func (c *placeColumn[T]) clear()         { c.values = c.values[:0] }

// newColumns makes the columns of a plan, with room for capacity rows.
func newColumns(p *Plan, shuttles []shuttle, capacity int) []column {
	x := &placeColumn[float64]{}
	y := &placeColumn[float64]{byRow: p.Lattice.Y}
	row := &placeColumn[int32]{byRow: func(r int64) int32 { return int32(r) }}
	col := &placeColumn[int32]{}
	var columns []column
	if p.Coordinates.XY {
		x.window, y.window, x.line = p.Window, p.Window, lineOf(p.Window, p.Lattice.X)
		x.values, y.values = make([]float64, 0, capacity), make([]float64, 0, capacity)
		columns = append(columns, x, y)
	}
	if p.Coordinates.RowCol {
		row.window, col.window, col.line = p.Window, p.Window, lineOf(p.Window, func(c int64) int32 { return int32(c) })
		row.values, col.values = make([]int32, 0, capacity), make([]int32, 0, capacity)
		columns = append(columns, row, col)
	}
	for i, t := range p.Threads {
		if t.Selected() {
			columns = append(columns, shuttles[i].column(capacity))
		}
	}
	return columns
}
