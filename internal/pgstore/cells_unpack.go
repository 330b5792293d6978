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
	// explicit reads (row_idx, columns, values), and gives the number of cells.
	explicit(raw [][]byte) (cells int, err error)
}

// cellUnpackerOf unpacks values of type T.
type cellUnpackerOf[T layer.Value] struct {
	request layer.CellRequest
	chunk   *layer.Chunk
	bulk    func(dst []T, raw []byte)
	value   func(raw []byte) T
	missing layer.Missing[T]
	cols    []int32
	absent  []bool
}

func (u *cellUnpackerOf[T]) complete(row int64, raw [][]byte) (bool, error) {
	l, w := u.request.Layer, u.request.Window
	stored := row
	if l.SouthUp {
		stored = int64(l.Grid.Rows) - 1 - row
	}
	values, err := arrayOf(raw[3])
	if err != nil {
		return false, err
	}
	if intOf(raw[0]) != stored || intOf(raw[1]) != w.ColStart || intOf(raw[2]) != w.ColStop-1 || int64(values.n) != w.Cols() {
		return false, nil
	}
	u.cols = u.cols[:0]
	return true, u.add(int32(row), values)
}

func (u *cellUnpackerOf[T]) explicit(raw [][]byte) (int, error) {
	stored := intOf(raw[0])
	cols, err := arrayOf(raw[1])
	if err != nil {
		return 0, err
	}
	values, err := arrayOf(raw[2])
	if err != nil {
		return 0, err
	}
	if cols.n == 0 || cols.n != values.n || cols.nulls {
		return 0, fmt.Errorf("a packed row has %d columns (nulls: %v) and %d values", cols.n, cols.nulls, values.n)
	}
	u.cols = u.cols[:0]
	var row int64
	for body := cols.body; len(body) > 0; {
		var field []byte
		if field, body, err = nextField(body); err != nil {
			return 0, err
		}
		var col int64
		if row, col, err = onGrid(u.request.Layer, stored, intOf(field)); err != nil {
			return 0, err
		}
		u.cols = append(u.cols, int32(col))
	}
	if u.request.Layer.SouthUp {
		slices.Reverse(u.cols)
	}
	for i, col := range u.cols[1:] {
		if col <= u.cols[i] {
			return 0, fmt.Errorf("a packed row has column %d after %d", col, u.cols[i])
		}
	}
	return len(u.cols), u.add(int32(row), values)
}

// add appends the values of a row that are not missing. Their columns are those
// in u.cols, or all of the window where that is empty.
func (u *cellUnpackerOf[T]) add(row int32, packed packedArray) error {
	kept := u.chunk.Values.([]T)
	kept = slices.Grow(kept, packed.n)
	values := kept[len(kept) : len(kept)+packed.n]
	var zero T
	width := layer.TypeOf[T]().Width()
	u.absent = u.absent[:0]
	if !packed.nulls {
		if len(packed.body) != packed.n*(4+width) {
			return fmt.Errorf("a packed row has %d bytes for %d values of %d bytes", len(packed.body), packed.n, width)
		}
		u.bulk(values, packed.body)
	} else {
		body := packed.body
		for i := range values {
			var field []byte
			var err error
			if field, body, err = nextField(body); err != nil {
				return err
			}
			u.absent = append(u.absent, field == nil)
			if values[i] = zero; field != nil {
				if len(field) != width {
					return fmt.Errorf("a packed value has %d bytes, not %d", len(field), width)
				}
				values[i] = u.value(field)
			}
		}
	}
	if u.request.Layer.SouthUp {
		slices.Reverse(values)
		slices.Reverse(u.absent)
	}
	if len(u.cols) == 0 && len(u.absent) == 0 && !u.missing.Any(values) {
		u.chunk.Runs = append(u.chunk.Runs, layer.Run{Row: row, Col: int32(u.request.Window.ColStart), Cells: int32(packed.n)})
		u.chunk.Values = kept[:len(kept)+packed.n]
		return nil
	}
	// Values move towards the front over those that are missing.
	for i, v := range values {
		if len(u.absent) > 0 && u.absent[i] || u.missing.Is(v) {
			continue
		}
		col := int32(u.request.Window.ColStart) + int32(i)
		if len(u.cols) > 0 {
			col = u.cols[i]
		}
		u.chunk.Runs, kept = layer.Append(u.chunk.Runs, kept, row, col, v)
	}
	u.chunk.Values = kept
	return nil
}

// packedArray is a one-dimensional array in PostgreSQL's binary format: n
// fields, each a length of 4 bytes, -1 for NULL, and its value.
type packedArray struct {
	n     int
	nulls bool
	body  []byte
}

func arrayOf(raw []byte) (packedArray, error) {
	// Dimensions, a flag for NULLs, the type, and for each dimension its size
	// and first index.
	if len(raw) < 20 || binary.BigEndian.Uint32(raw) != 1 {
		return packedArray{}, fmt.Errorf("a packed row came as %d bytes that are no array", len(raw))
	}
	a := packedArray{n: int(binary.BigEndian.Uint32(raw[12:])), nulls: binary.BigEndian.Uint32(raw[4:]) != 0, body: raw[20:]}
	if a.n > len(a.body)/4 {
		return packedArray{}, fmt.Errorf("a packed row has %d bytes for %d values", len(a.body), a.n)
	}
	return a, nil
}

// nextField cuts the first field off; it is nil for NULL.
func nextField(body []byte) (field, rest []byte, err error) {
	if len(body) >= 4 {
		size := int64(int32(binary.BigEndian.Uint32(body)))
		if size == -1 {
			return nil, body[4:], nil
		}
		if size >= 0 && size <= int64(len(body)-4) {
			return body[4 : 4+size : 4+size], body[4+size:], nil
		}
	}
	return nil, nil, fmt.Errorf("a packed row ends within a value")
}

// The loops that read arrays without NULL: no call for a value, and the length
// of each, which was checked as a whole, is passed over.

func bulkFloat8(dst []float64, raw []byte) {
	for i := range dst {
		dst[i] = math.Float64frombits(binary.BigEndian.Uint64(raw[12*i+4:]))
	}
}

func bulkFloat4(dst []float32, raw []byte) {
	for i := range dst {
		dst[i] = math.Float32frombits(binary.BigEndian.Uint32(raw[8*i+4:]))
	}
}

func bulkInt2(dst []int16, raw []byte) {
	for i := range dst {
		dst[i] = int16(binary.BigEndian.Uint16(raw[6*i+4:]))
	}
}

func bulkInt4(dst []int32, raw []byte) {
	for i := range dst {
		dst[i] = int32(binary.BigEndian.Uint32(raw[8*i+4:]))
	}
}

func bulkInt8(dst []int64, raw []byte) {
	for i := range dst {
		dst[i] = int64(binary.BigEndian.Uint64(raw[12*i+4:]))
	}
}
