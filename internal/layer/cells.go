package layer

import (
	"math"
	"slices"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
)

// Value is a Go type that holds values of a DataType.
type Value interface {
	uint8 | int8 | uint16 | int16 | uint32 | int32 | int64 | float32 | float64
}

// TypeOf is the data type that T holds.
func TypeOf[T Value]() DataType {
	var v T
	switch any(v).(type) {
	case uint8:
		return Uint8
	case int8:
		return Int8
	case uint16:
		return Uint16
	case int16:
		return Int16
	case uint32:
		return Uint32
	case int32:
		return Int32
	case int64:
		return Int64
	case float32:
		return Float32
	default:
		return Float64
	}
}

// Run is a run of cells that lie side by side in a row, from Col eastward.
type Run struct {
	Row, Col, Cells int32
}

// Chunk is a part of a layer's cells that have a value, columnar. Cells that are
// stored without one (see Missing) are not in it, or marked: they read the same as
// cells that are not stored. Rows never fall from one run to the next, nor from one
// chunk to the next of the same stream.
//
// A chunk belongs to whoever got it from a stream, until it is given back.
type Chunk struct {
	// Runs place the cells on the layer's own north-up grid, within its shape.
	// Each has a cell with a value.
	Runs []Run
	// Values is a flat slice of the layer's stored type, run after run: an
	// []int16 for Int16.
	Values any
	// Valid has a bit for each value (internal/bitmap): 0 where the cell has none,
	// and also past the last. Nil where all cells of the runs have one.
	Valid []uint64
}

// NewChunk makes an empty chunk with room for so many cells of type T.
func NewChunk[T Value](cells int) *Chunk { return &Chunk{Values: make([]T, 0, cells)} }

// Append adds a cell: to the last run where it lies next to it.
func Append[T Value](runs []Run, values []T, row, col int32, v T) ([]Run, []T) {
	if last := len(runs) - 1; last >= 0 && runs[last].Row == row && runs[last].Col+runs[last].Cells == col {
		runs[last].Cells++
	} else {
		runs = append(runs, Run{Row: row, Col: col, Cells: 1})
	}
	return runs, append(values, v)
}

// CellBytes is the memory that a cell of a chunk takes at most: its value, and a
// run of its own. A chunk of a tiled layer has bits instead, and a run for a row.
func CellBytes(l Layer) int64 {
	if l.Format == FormatTiled {
		return int64(1 + l.StoredType.Width())
	}
	return int64(12 + l.StoredType.Width())
}

// ChunkBytes is the largest memory of a chunk with room for so many cells.
func ChunkBytes(l Layer, cells int) int64 { return int64(cells) * CellBytes(l) }

// ChunksPerStream is how many chunks a stream of a layer's cells has in
// circulation: one being used, and the others waiting or being filled, maybe over
// a connection each. It bounds how far a stream reads ahead. Those of tiled layers
// are large.
func ChunksPerStream(l Layer) int {
	if l.Format == FormatTiled {
		return 2
	}
	return 4
}

// CellRequest asks for the stored cells of a layer in a window.
type CellRequest struct {
	Layer Layer
	// Window is on the layer's own north-up grid, inside its shape. A side of
	// the window that is a side of the grid is open: rows stored beyond it are
	// seen, and refused, by the request that touches that side.
	Window grid.Window
	// ChunkCells is the largest number of cells in a chunk.
	ChunkCells int
	// FirstCells is about how many cells are waited for first: the first chunk need
	// have no more. 0: nobody said.
	FirstCells int
	// Duplicates says what to do about a cell that is stored more than once.
	Duplicates Duplicates
}

// Duplicates is a rule for a cell that is stored more than once, as tables
// without a key can. Rows that are stored without a value (see Missing) are no
// candidates for First, Last and Mean; they are refused like the others under Error.
type Duplicates uint8

// The rules.
const (
	// DuplicatesError is an error that names the cell.
	DuplicatesError Duplicates = iota
	// DuplicatesFirst and DuplicatesLast take the value that lies first, or
	// last, in the table as it is stored. A table has no other order: an UPDATE
	// of a row, or VACUUM FULL, may move it.
	DuplicatesFirst
	DuplicatesLast
	// DuplicatesMean takes the mean, computed in float64 in stored order and
	// rounded once. Only for values stored as floats.
	DuplicatesMean
)

var duplicatesNames = [...]string{"ERROR", "FIRST", "LAST", "MEAN"}

// String names the rule as the contract does.
func (d Duplicates) String() string { return nameOf(duplicatesNames[:], int(d)) }

// Check says whether the rule can be applied to a layer. Errors: Invalid
// INVALID_ARGUMENT for a mean of integers.
func (d Duplicates) Check(l Layer) error {
	if d == DuplicatesMean && l.StoredType != Float64 && l.StoredType != Float32 {
		return fault.New(fault.Invalid, fault.InvalidArgument,
			"layer %q is stored as %s: a mean of cells stored more than once is only taken of float32 and float64", l.Name, l.StoredType).
			With("layer", l.Name).With("type", l.StoredType).With("field", "duplicates")
	}
	return nil
}

// Missing is the one rule of which stored values mean that a cell has none:
// NaN, and the layer's nodata value. (NULL and absence never get this far.)
// Zero is a value like any other.
type Missing[T Value] struct {
	nodata [2]T
	n      int
}

// MissingOf makes the rule of a layer whose stored type is T. A nodata value
// that T cannot hold matches nothing; one of a float32 layer also matches as
// float32, even where the values are stored wider, since the catalog writes it
// in decimals that float64 would tell apart.
func MissingOf[T Value](l Layer) Missing[T] {
	var m Missing[T]
	if l.Nodata == nil {
		return m
	}
	candidates := []float64{*l.Nodata}
	if single := float64(float32(*l.Nodata)); l.DeclaredType == Float32 && !math.IsInf(single, 0) {
		candidates = append(candidates, single)
	}
	for _, c := range candidates {
		if v, ok := nodataAs[T](c); ok && (m.n == 0 || m.nodata[0] != v) {
			m.nodata[m.n] = v
			m.n++
		}
	}
	return m
}

// nodataAs rounds to a float type, and takes whole numbers in range for the
// others.
func nodataAs[T Value](nodata float64) (T, bool) {
	switch t := TypeOf[T](); t {
	case Float64:
		return T(nodata), !math.IsNaN(nodata)
	case Float32:
		// Rounded, but not from a number out of range to infinity.
		fits := math.IsInf(nodata, 0) || math.Abs(nodata) <= math.MaxFloat32
		return T(nodata), fits
	default:
		lo, hi := t.Limits()
		if nodata != math.Trunc(nodata) || nodata < lo || nodata >= hi {
			return 0, false
		}
		return T(nodata), true
	}
}

// Is reports whether a stored value means that the cell has none.
func (m Missing[T]) Is(v T) bool {
	return v != v || m.n > 0 && (v == m.nodata[0] || m.n > 1 && v == m.nodata[1])
}

// Any reports whether any of the stored values means that.
func (m Missing[T]) Any(values []T) bool {
	if m.n == 0 {
		for _, v := range values {
			if v != v {
				return true
			}
		}
		return false
	}
	return slices.ContainsFunc(values, m.Is)
}

// Limits gives the half-open range [lo, hi) of an integer type: every whole
// number in it, and no other, is a value of the type. Both ends are exact as
// float64. It is (-Inf, +Inf) for the others.
func (t DataType) Limits() (lo, hi float64) {
	switch t {
	case Uint8:
		return 0, 1 << 8
	case Int8:
		return -1 << 7, 1 << 7
	case Uint16:
		return 0, 1 << 16
	case Int16:
		return -1 << 15, 1 << 15
	case Uint32:
		return 0, 1 << 32
	case Int32:
		return -1 << 31, 1 << 31
	case Int64:
		return -1 << 63, 1 << 63
	default:
		return math.Inf(-1), math.Inf(1)
	}
}
