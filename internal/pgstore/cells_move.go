package pgstore

import (
	"math"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/bitmap"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// moveCells puts the cells of a chunk of a pixel table where tiles have them: as
// values of type T, and bits. place says where a cell goes, and for how many cells
// eastward the places follow each other. Errors: Precondition NARROWING_LOSS, naming
// the first cell whose value T cannot hold exactly.
func moveCells[T layer.Value](l layer.Layer, c *layer.Chunk, values []T, valid []uint64, place func(row, col int32) (at, room int)) error {
	switch stored := c.Values.(type) {
	case []T:
		return moveRuns(c.Runs, stored, valid, place, func(at int, _ layer.Run, from []T) error {
			copy(values[at:], from)
			return nil
		})
	case []float64:
		return moveRuns(c.Runs, stored, valid, place, converted[T, float64](l, values))
	case []float32:
		return moveRuns(c.Runs, stored, valid, place, converted[T, float32](l, values))
	case []int16:
		return moveRuns(c.Runs, stored, valid, place, converted[T, int16](l, values))
	case []int32:
		return moveRuns(c.Runs, stored, valid, place, converted[T, int32](l, values))
	case []int64:
		return moveRuns(c.Runs, stored, valid, place, converted[T, int64](l, values))
	default:
		return fault.New(fault.Internal, fault.Bug, "internal error").With("type", l.StoredType)
	}
}

// moveRuns goes through runs in pieces whose places follow each other.
func moveRuns[S layer.Value](runs []layer.Run, stored []S, valid []uint64, place func(row, col int32) (at, room int),
	move func(at int, run layer.Run, from []S) error,
) error {
	for _, run := range runs {
		for run.Cells > 0 {
			at, room := place(run.Row, run.Col)
			n := min(int(run.Cells), room)
			if err := move(at, run, stored[:n]); err != nil {
				return err
			}
			bitmap.Set(valid, at, n)
			stored = stored[n:]
			run.Col, run.Cells = run.Col+int32(n), run.Cells-int32(n)
		}
	}
	return nil
}

func converted[T, S layer.Value](l layer.Layer, values []T) func(at int, run layer.Run, from []S) error {
	return func(at int, run layer.Run, from []S) error {
		for i, v := range from {
			t, ok := exactly[T](v)
			if !ok {
				row, col := run.Row, run.Col+int32(i)
				return fault.New(fault.Precondition, fault.NarrowingLoss, "layer %q: the cell at row %d, column %d holds %v, which %s cannot hold exactly",
					l.Name, row, col, v, layer.TypeOf[T]()).
					With("layer", l.Name).With("row", row).With("col", col).With("value", v).With("type", layer.TypeOf[T]())
			}
			values[at+i] = t
		}
		return nil
	}
}

// exactly gives a value in another type; false where that cannot hold it. -0 is no
// whole number: integers do not tell it from 0.
func exactly[T, S layer.Value](v S) (T, bool) {
	t, f := T(v), float64(v)
	switch from, to := isFloat[S](), isFloat[T](); {
	case from && to:
		return t, S(t) == v
	case from:
		lo, hi := layer.TypeOf[T]().Limits()
		return t, lo <= f && f < hi && math.Trunc(f) == f && !(f == 0 && math.Signbit(f))
	case to:
		// 2^63 is what the largest int64 are rounded to, and no int64.
		return t, float64(t) < 1<<63 && int64(t) == int64(v)
	default:
		return t, int64(t) == int64(v)
	}
}

func isFloat[T layer.Value]() bool {
	t := layer.TypeOf[T]()
	return t == layer.Float32 || t == layer.Float64
}

// empty takes all cells out of a chunk of a pixel table.
func empty(c *layer.Chunk) {
	c.Runs = c.Runs[:0]
	switch v := c.Values.(type) {
	case []float64:
		c.Values = v[:0]
	case []float32:
		c.Values = v[:0]
	case []int16:
		c.Values = v[:0]
	case []int32:
		c.Values = v[:0]
	case []int64:
		c.Values = v[:0]
	}
}
