package merge

import (
	"cmp"
	"errors"
	"iter"
	"math"

	"github.com/rasterloom/rasterloom/internal/layer"
)

// maxDifferences is how many cells a comparison names.
const maxDifferences = 100

// Comparison is how two tables of one plan compare, cell by cell.
type Comparison struct {
	// Woven and Joined are what the two runs did.
	Woven, Joined Result
	// Differing counts, for each thread of the plan, the cells of the lattice
	// where one table has a value and the other none, or another one by its bits.
	Differing []int64
	// Differences are the first of these: from the north, from the west, by column.
	Differences []Difference
}

// Equal reports whether both tables have the same rows and values.
func (c Comparison) Equal() bool {
	return c.Woven.Rows == c.Joined.Rows && len(c.Differences) == 0
}

// Difference is one cell where two tables differ.
type Difference struct {
	Thread   int
	Row, Col int64 // of the reference lattice
	// Woven and Joined are the values as float64; nil where there is none.
	Woven, Joined *float64
}

// Run makes the table of a plan, and gives its batches to emit.
type Run func(p *Plan, emit func(*Batch) error) (Result, error)

// Compare runs a merge both ways, side by side and in step, and compares the
// tables by the cells of the lattice. Memory is that of both runs. Errors: those
// of the runs.
func Compare(p *Plan, weave, join Run) (Comparison, error) {
	// Cells are told by row and column, whatever columns were asked for.
	indexed := *p
	indexed.Coordinates = Coordinates{RowCol: true}
	out := Comparison{Differing: make([]int64, len(p.Threads))}
	woven, joined := newTableReader(&indexed, weave), newTableReader(&indexed, join)
	defer woven.stop()
	defer joined.stop()
	c := comparer{plan: &indexed, out: &out}
	a, b := woven.next(), joined.next()
	for a && b {
		switch order := cmp.Or(cmp.Compare(woven.row(), joined.row()), cmp.Compare(woven.col(), joined.col())); {
		case order < 0:
			c.compare(woven, nil)
			a = woven.next()
		case order > 0:
			c.compare(nil, joined)
			b = joined.next()
		default:
			c.compare(woven, joined)
			a, b = woven.next(), joined.next()
		}
	}
	for ; a && joined.err == nil; a = woven.next() {
		c.compare(woven, nil)
	}
	for ; b && woven.err == nil; b = joined.next() {
		c.compare(nil, joined)
	}
	out.Woven, out.Joined = woven.result, joined.result
	return out, errors.Join(woven.err, joined.err)
}

// tableReader goes through the rows of a run.
type tableReader struct {
	pull    func() (*Batch, bool)
	stop    func()
	batch   *Batch
	at      int
	rows    []int32
	cols    []int32
	columns []func(int) (bits uint64, number float64, ok bool)
	result  Result
	err     error
}

// errStopped ends a run whose rows nobody wants any more.
var errStopped = errors.New("the comparison has ended")

func newTableReader(p *Plan, run Run) *tableReader {
	t := &tableReader{}
	// A batch belongs to the run until emit returns, which is when the next one
	// is pulled.
	t.pull, t.stop = iter.Pull(func(yield func(*Batch) bool) {
		t.result, t.err = run(p, func(b *Batch) error {
			if !yield(b) {
				return errStopped
			}
			return nil
		})
		if errors.Is(t.err, errStopped) {
			t.err = nil
		}
	})
	return t
}

// next goes to the next row; false after the last.
func (t *tableReader) next() bool {
	if t.at++; t.batch != nil && t.at < t.batch.Rows {
		return true
	}
	batch, ok := t.pull()
	if !ok {
		return false
	}
	t.batch, t.at = batch, 0
	t.rows, t.cols = batch.Columns[0].Values.([]int32), batch.Columns[1].Values.([]int32)
	t.columns = t.columns[:0]
	for _, v := range batch.Columns[2:] {
		t.columns = append(t.columns, cellsOf(v))
	}
	return true
}

func (t *tableReader) row() int32 { return t.rows[t.at] }
func (t *tableReader) col() int32 { return t.cols[t.at] }

// comparer counts and keeps differences.
type comparer struct {
	plan *Plan
	out  *Comparison
}

// compare takes the row at hand of both tables, or of one where the other has
// none.
func (c *comparer) compare(woven, joined *tableReader) {
	column := 0
	for i, thread := range c.plan.Threads {
		if !thread.Selected() {
			continue
		}
		a, aNumber, aOK := woven.value(column)
		b, bNumber, bOK := joined.value(column)
		column++
		if aOK == bOK && a == b {
			continue
		}
		c.out.Differing[i]++
		if len(c.out.Differences) == maxDifferences {
			continue
		}
		d := Difference{Thread: i}
		if aOK {
			d.Woven = &aNumber
		}
		if bOK {
			d.Joined = &bNumber
		}
		from := cmp.Or(woven, joined)
		d.Row, d.Col = int64(from.row()), int64(from.col())
		c.out.Differences = append(c.out.Differences, d)
	}
}

// value is a column's at the row at hand: its bits, and as a number. A table
// without the row has none.
func (t *tableReader) value(column int) (bits uint64, number float64, ok bool) {
	if t == nil {
		return 0, 0, false
	}
	return t.columns[column](t.at)
}

// cellsOf gives the cells of a column.
func cellsOf(v Vector) func(int) (bits uint64, number float64, ok bool) {
	switch values := v.Values.(type) {
	case []float64:
		return cellsBy(v, values, math.Float64bits)
	case []float32:
		return cellsBy(v, values, func(x float32) uint64 { return uint64(math.Float32bits(x)) })
	case []uint8:
		return cellsBy(v, values, whole[uint8])
	case []int8:
		return cellsBy(v, values, whole[int8])
	case []uint16:
		return cellsBy(v, values, whole[uint16])
	case []int16:
		return cellsBy(v, values, whole[int16])
	case []uint32:
		return cellsBy(v, values, whole[uint32])
	case []int32:
		return cellsBy(v, values, whole[int32])
	default:
		return cellsBy(v, v.Values.([]int64), whole[int64])
	}
}

func whole[T layer.Value](v T) uint64 { return uint64(int64(v)) }

func cellsBy[T layer.Value](v Vector, values []T, bits func(T) uint64) func(int) (uint64, float64, bool) {
	return func(i int) (uint64, float64, bool) {
		if v.Valid[i>>6]>>(i&63)&1 == 0 {
			return 0, 0, false
		}
		return bits(values[i]), float64(values[i]), true
	}
}
