package pgstore

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/rasterloom/rasterloom/internal/layer"
)

// cellUnpacker reads packed rows of a layer into one chunk.
type cellUnpacker interface {
	// complete reads (row_idx, min col_idx, max col_idx, values), if that is the
	// given row of the layer and nothing of it is missing: as many values as the
	// window has columns, between its first and its last, are one for each, since
	// the key lets no column come twice. Else it reads nothing and gives false.
	complete(row int64, raw [][]byte) (bool, error)
	// explicit reads (row_idx, cells), each cell a column and a value, and gives
	// their number.
	explicit(raw [][]byte) (cells int, err error)
}

// cellUnpackerOf unpacks values of type T.
type cellUnpackerOf[T layer.Value] struct {
	request layer.CellRequest
	chunk   *layer.Chunk
	bulk    func(dst []T, raw []byte)
	value   func(raw []byte) T
	missing layer.Missing[T]
	// colBytes is the size of a column in packed cells.
	colBytes int
}

func (u *cellUnpackerOf[T]) complete(row int64, raw [][]byte) (bool, error) {
	l, w := u.request.Layer, u.request.Window
	stored := row
	if l.SouthUp {
		stored = int64(l.Grid.Rows) - 1 - row
	}
	width, values := int64(layer.TypeOf[T]().Width()), raw[3]
	if int64(len(values)) != width*w.Cols() || raw[1] == nil || raw[2] == nil ||
		intOf(raw[0]) != stored || intOf(raw[1]) != w.ColStart || intOf(raw[2]) != w.ColStop-1 {
		return false, nil
	}
	kept := u.chunk.Values.([]T)
	n := int(w.Cols())
	kept = slices.Grow(kept, n)
	into := kept[len(kept) : len(kept)+n]
	u.bulk(into, values)
	if !u.missing.Any(into) {
		u.chunk.Runs = append(u.chunk.Runs, layer.Run{Row: int32(row), Col: int32(w.ColStart), Cells: int32(n)})
		u.chunk.Values = kept[:len(kept)+n]
		return true, nil
	}
	// Values move towards the front over those that are missing.
	for i, v := range into {
		if !u.missing.Is(v) {
			u.chunk.Runs, kept = layer.Append(u.chunk.Runs, kept, int32(row), int32(w.ColStart)+int32(i), v)
		}
	}
	u.chunk.Values = kept
	return true, nil
}

func (u *cellUnpackerOf[T]) explicit(raw [][]byte) (int, error) {
	l, stored, packed := u.request.Layer, intOf(raw[0]), raw[1]
	size := u.colBytes + layer.TypeOf[T]().Width()
	if len(packed)%size != 0 {
		return 0, fmt.Errorf("a packed row has %d bytes, in cells of %d", len(packed), size)
	}
	cells, before := len(packed)/size, int64(-1)
	kept := u.chunk.Values.([]T)
	for i := range cells {
		cell := packed[i*size : (i+1)*size]
		row, col, err := onGrid(l, stored, intOf(cell[:u.colBytes]))
		if err != nil {
			return 0, err
		}
		if col <= before {
			return 0, fmt.Errorf("a packed row has column %d after %d", col, before)
		}
		before = col
		if v := u.value(cell[u.colBytes:]); !u.missing.Is(v) {
			u.chunk.Runs, kept = layer.Append(u.chunk.Runs, kept, int32(row), int32(col), v)
		}
	}
	u.chunk.Values = kept
	return cells, nil
}

// The loops that read packed values: no call for a value.

func bulkFloat8(dst []float64, raw []byte) {
	for i := range dst {
		dst[i] = math.Float64frombits(binary.BigEndian.Uint64(raw[8*i:]))
	}
}

func bulkFloat4(dst []float32, raw []byte) {
	for i := range dst {
		dst[i] = math.Float32frombits(binary.BigEndian.Uint32(raw[4*i:]))
	}
}

func bulkInt2(dst []int16, raw []byte) {
	for i := range dst {
		dst[i] = int16(binary.BigEndian.Uint16(raw[2*i:]))
	}
}

func bulkInt4(dst []int32, raw []byte) {
	for i := range dst {
		dst[i] = int32(binary.BigEndian.Uint32(raw[4*i:]))
	}
}

func bulkInt8(dst []int64, raw []byte) {
	for i := range dst {
		dst[i] = int64(binary.BigEndian.Uint64(raw[8*i:]))
	}
}
