package tile

import (
	"fmt"
	"math"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// compressor serves all encoders at once. zstd's own checksum would be one too
// many.
var compressor = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false))
})

// Encoder encodes the tiles of one layer. It is for one goroutine.
type Encoder interface {
	// Encode encodes a tile from a flat slice of the layer's stored type, Cells
	// long and row by row, and a bitmap of the cells that have a value, nil for
	// all. What lies outside of the grid is not looked at; cells whose value means
	// that they have none (layer.Missing) are taken for such. What it gives is good
	// until the next call. Errors: Invalid INVALID_ARGUMENT for a tile that the
	// grid has not, or slices of another length or type.
	Encode(row, col int32, values any, valid []uint64) (Encoded, error)
}

// NewEncoder makes an encoder by the layer's grid, stored type, nodata and
// Tiling. Errors: as ParseLayout, and Corrupt DATA_CORRUPT for a layout of
// another grid or type.
func NewEncoder(l layer.Layer) (Encoder, error) {
	switch l.StoredType {
	case layer.Uint8:
		return newEncoder[uint8](l)
	case layer.Int8:
		return newEncoder[int8](l)
	case layer.Uint16:
		return newEncoder[uint16](l)
	case layer.Int16:
		return newEncoder[int16](l)
	case layer.Uint32:
		return newEncoder[uint32](l)
	case layer.Int32:
		return newEncoder[int32](l)
	case layer.Int64:
		return newEncoder[int64](l)
	case layer.Float32:
		return newEncoder[float32](l)
	default:
		return newEncoder[float64](l)
	}
}

type encoder[T layer.Value] struct {
	layer   layer.Layer
	layout  Layout
	missing layer.Missing[T]
	fill    T
	values  []T
	valid   []uint64
	planes  []byte
	data    []byte
	mask    []byte
}

func newEncoder[T layer.Value](l layer.Layer) (*encoder[T], error) {
	if err := checkMachine(); err != nil {
		return nil, err
	}
	y, err := layoutOf[T](l)
	if err != nil {
		return nil, err
	}
	return &encoder[T]{
		layer: l, layout: y, missing: layer.MissingOf[T](l), fill: fillOf[T](y.Fill),
		values: make([]T, Cells), valid: make([]uint64, bitmapWords),
	}, nil
}

func (e *encoder[T]) Encode(row, col int32, values any, valid []uint64) (Encoded, error) {
	bad := func(format string, args ...any) (Encoded, error) {
		f := fault.New(fault.Invalid, fault.InvalidArgument, "layer %q: the tile at tile_row %d, tile_col %d "+format, append([]any{e.layer.Name, row, col}, args...)...)
		return Encoded{}, f.With("layer", e.layer.Name).With("tile_row", row).With("tile_col", col)
	}
	cells, ok := values.([]T)
	w := Window(e.layer.Grid, row, col)
	switch {
	case row < 0 || col < 0 || w.Empty():
		return bad("is outside of its grid of %d × %d cells", e.layer.Grid.Rows, e.layer.Grid.Cols)
	case !ok || len(cells) != Cells:
		return bad("came as %s, not as %d values of type %s", lengthOf(values), Cells, e.layer.StoredType)
	case valid != nil && len(valid) != bitmapWords:
		return bad("came with a bitmap of %d words, not %d", len(valid), bitmapWords)
	}
	out := Encoded{Row: row, Col: col}
	var lo, hi T
	out.Cells, lo, hi = e.take(cells, valid, int(w.Rows()), int(w.Cols()))
	if out.Cells == 0 {
		return out, nil
	}
	out.Min, out.Max = outward(lo, hi)
	if int64(out.Cells) < w.Cells() {
		e.mask = appendSum(append(e.mask[:0], bytesOf(e.valid)...), 0)
		out.Valid = e.mask
	}
	var err error
	if e.data, err = e.encodeBytes(e.data[:0], e.layout.Chain); err != nil {
		return Encoded{}, err
	}
	out.Data = e.data
	return out, nil
}

// take copies the cells that have a value, among the first rows and columns, and
// fills the rest.
func (e *encoder[T]) take(cells []T, valid []uint64, rows, cols int) (n int32, lo, hi T) {
	clear(e.valid)
	for r := range Side {
		dst := e.values[r*Side : (r+1)*Side]
		if r >= rows {
			for c := range dst {
				dst[c] = e.fill
			}
			continue
		}
		src := cells[r*Side : (r+1)*Side]
		for c := range dst {
			at := r*Side + c
			v := src[c]
			if c >= cols || valid != nil && valid[at>>6]>>(at&63)&1 == 0 || e.missing.Is(v) {
				dst[c] = e.fill
				continue
			}
			dst[c] = v
			e.valid[at>>6] |= 1 << (at & 63)
			if n++; n == 1 {
				lo, hi = v, v
			}
			lo, hi = min(lo, v), max(hi, v)
		}
	}
	return n, lo, hi
}

// encodeBytes appends the values of the tile at hand, encoded.
func (e *encoder[T]) encodeBytes(dst []byte, chain Chain) ([]byte, error) {
	from, body := len(dst), bytesOf(e.values)
	if chain == ShuffledZstd {
		if e.planes == nil {
			e.planes = make([]byte, len(body))
		}
		shuffle(e.planes, body, e.layer.StoredType.Width())
		body = e.planes
	}
	if chain == Raw {
		return appendSum(append(dst, body...), from), nil
	}
	z, err := compressor()
	if err != nil {
		return nil, fmt.Errorf("make a zstd encoder: %w", err)
	}
	return appendSum(z.EncodeAll(body, dst), from), nil
}

// outward gives numbers that bound lo and hi as closely as float64 can.
func outward[T layer.Value](lo, hi T) (below, above float64) {
	below, above = float64(lo), float64(hi)
	// Only int64 has values that float64 rounds. 2^63 is above all of them.
	if below >= 1<<63 || T(below) > lo {
		below = math.Nextafter(below, math.Inf(-1))
	}
	if above < 1<<63 && T(above) < hi {
		above = math.Nextafter(above, math.Inf(1))
	}
	return below, above
}

func lengthOf(values any) string {
	switch v := values.(type) {
	case []uint8:
		return fmt.Sprintf("%d values of type uint8", len(v))
	case []int8:
		return fmt.Sprintf("%d values of type int8", len(v))
	case []uint16:
		return fmt.Sprintf("%d values of type uint16", len(v))
	case []int16:
		return fmt.Sprintf("%d values of type int16", len(v))
	case []uint32:
		return fmt.Sprintf("%d values of type uint32", len(v))
	case []int32:
		return fmt.Sprintf("%d values of type int32", len(v))
	case []int64:
		return fmt.Sprintf("%d values of type int64", len(v))
	case []float32:
		return fmt.Sprintf("%d values of type float32", len(v))
	case []float64:
		return fmt.Sprintf("%d values of type float64", len(v))
	default:
		return fmt.Sprintf("%T", values)
	}
}
