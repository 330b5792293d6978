package tile

import (
	"math/bits"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/bitmap"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// maxWindowBytes is the largest window of a zstd frame that is decoded: that of
// zstd's own level 19. Ours have the size of a tile.
const maxWindowBytes = 8 << 20

// decompressor serves all decoders at once. It writes into what it is given, and
// never more than fits.
var decompressor = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(maxWindowBytes), zstd.WithDecoderLowmem(true))
})

// Decoder decodes the tiles of one layer. It is safe for concurrent use.
type Decoder[T layer.Value] struct {
	layer   layer.Layer
	layout  Layout
	missing layer.Missing[T]
	nodata  []float64
}

// Scratch is the memory that one decoding at a time takes, of layers of any type.
// The zero value is ready for use.
type Scratch struct {
	values, planes []uint64 // words, so that values of every type are aligned
	valid          [bitmapWords]uint64
}

// room makes b long enough for a tile of values of a type.
func room(b *[]uint64, t layer.DataType) []byte {
	bytes := Cells * t.Width()
	if len(*b) < bytes/8 {
		*b = make([]uint64, bytes/8)
	}
	return bytesOf(*b)[:bytes]
}

// NewDecoder makes a decoder by the layer's grid, stored type (T), nodata and
// Tiling. Errors: as ParseLayout, and Corrupt DATA_CORRUPT for a layout of
// another grid or type.
func NewDecoder[T layer.Value](l layer.Layer) (*Decoder[T], error) {
	if err := checkMachine(); err != nil {
		return nil, err
	}
	y, err := layoutOf[T](l)
	if err != nil {
		return nil, err
	}
	d := &Decoder[T]{layer: l, layout: y, missing: layer.MissingOf[T](l)}
	for _, v := range layer.NodataValues(l) {
		switch v := v.(type) {
		case int64:
			d.nodata = append(d.nodata, float64(v))
		case float64:
			d.nodata = append(d.nodata, v)
		}
	}
	return d, nil
}

// Decode gives the cells of a tile, row by row, and a bitmap of those that have a
// value; nil where all inside the grid do. Both are Cells long, in the scratch, and
// good until it is used again. It holds the tile against its checksums and counts,
// and allocates nothing, whatever the tile claims. A cell whose value is the layer's nodata has
// none, also where the tile was written before that was said.
//
// Errors: Corrupt DATA_CORRUPT, naming the layer and the tile.
func (d *Decoder[T]) Decode(s *Scratch, e Encoded) (values []T, valid []uint64, err error) {
	w := Window(d.layer.Grid, e.Row, e.Col)
	switch {
	case e.Row < 0 || e.Col < 0 || w.Empty():
		return nil, nil, corrupt(d.layer.Name, e, "is outside of its grid of %d × %d cells", d.layer.Grid.Rows, d.layer.Grid.Cols)
	case e.Cells < 1 || int64(e.Cells) > w.Cells():
		return nil, nil, corrupt(d.layer.Name, e, "says that %d of its %d cells have a value", e.Cells, w.Cells())
	case !(e.Min <= e.Max):
		return nil, nil, corrupt(d.layer.Name, e, "has a minimum of %v and a maximum of %v", e.Min, e.Max)
	}
	if valid, err = d.bits(s, e, w); err != nil {
		return nil, nil, err
	}
	if err := d.decodeBytes(s, e); err != nil {
		return nil, nil, err
	}
	values = valuesOf[T](s.values)
	if err := d.checkNaN(e, w, values, valid); err != nil {
		return nil, nil, err
	}
	for _, nodata := range d.nodata {
		if e.Min <= nodata && nodata <= e.Max {
			return values, d.withoutNodata(s, w, values, valid), nil
		}
	}
	return values, valid, nil
}

// bits checks the bitmap of a tile.
func (d *Decoder[T]) bits(s *Scratch, e Encoded, w grid.Window) ([]uint64, error) {
	if e.Valid == nil {
		if int64(e.Cells) != w.Cells() {
			return nil, corrupt(d.layer.Name, e, "has no bitmap, and says that %d of its %d cells have a value", e.Cells, w.Cells())
		}
		return nil, nil
	}
	if len(e.Valid) != ValidBytes {
		return nil, corrupt(d.layer.Name, e, "has a bitmap of %d bytes, not %d", len(e.Valid), ValidBytes)
	}
	body, ok := checkedSum(e.Valid)
	if !ok {
		return nil, corrupt(d.layer.Name, e, "has a bitmap with a wrong checksum")
	}
	valid := s.valid[:]
	copy(bytesOf(valid), body)
	inside, all := int32(0), int32(0)
	for r := range Side {
		for i, word := range valid[r*Side/64 : (r+1)*Side/64] {
			all += int32(bits.OnesCount64(word))
			if r < int(w.Rows()) {
				inside += int32(bits.OnesCount64(word & bitmap.Low(max(0, int(w.Cols())-64*i))))
			}
		}
	}
	if all != inside || all != e.Cells {
		return nil, corrupt(d.layer.Name, e, "says that %d cells have a value, and its bitmap marks %d, %d of them outside of the grid", e.Cells, all, all-inside)
	}
	return valid, nil
}

// decodeBytes fills the values of the scratch.
func (d *Decoder[T]) decodeBytes(s *Scratch, e Encoded) error {
	body, ok := checkedSum(e.Data)
	if !ok {
		return corrupt(d.layer.Name, e, "has data with a wrong checksum")
	}
	dst := room(&s.values, d.layout.Type)
	if d.layout.Chain == Raw {
		if len(body) != len(dst) {
			return corrupt(d.layer.Name, e, "has %d bytes of data, not %d", len(body), len(dst))
		}
		copy(dst, body)
		return nil
	}
	z, err := decompressor()
	if err != nil {
		return corrupt(d.layer.Name, e, "cannot be decoded").Because(err)
	}
	into := dst
	if d.layout.Chain == ShuffledZstd {
		into = room(&s.planes, d.layout.Type)
	}
	got, err := z.DecodeAll(body, into[:0:len(into)])
	if err != nil {
		return corrupt(d.layer.Name, e, "has data that zstd cannot decode to %d bytes", len(into)).Because(err)
	}
	if len(got) != len(into) {
		return corrupt(d.layer.Name, e, "has data that zstd decodes to %d bytes, not %d", len(got), len(into))
	}
	if d.layout.Chain == ShuffledZstd {
		unshuffle(dst, into, d.layout.Type.Width())
	}
	return nil
}

// checkNaN refuses a NaN that is marked as a value.
func (d *Decoder[T]) checkNaN(e Encoded, w grid.Window, values []T, valid []uint64) error {
	if t := d.layout.Type; t != layer.Float64 && t != layer.Float32 {
		return nil
	}
	for r := range int(w.Rows()) {
		for c, v := range values[r*Side : r*Side+int(w.Cols())] {
			if v != v && (valid == nil || valid[(r*Side+c)>>6]>>(c&63)&1 == 1) {
				return corrupt(d.layer.Name, e, "marks a NaN as a value, in its row %d, column %d", r, c)
			}
		}
	}
	return nil
}

// Place decodes a tile, and puts the part of it that lies in a window of the grid
// into a dense copy of the window: values row by row, and bits that were zero. It
// gives the number of cells with a value there. Errors: as Decode.
func (d *Decoder[T]) Place(s *Scratch, e Encoded, w grid.Window, values []T, valid []uint64) (cells int64, err error) {
	from, mask, err := d.Decode(s, e)
	if err != nil {
		return 0, err
	}
	north, west := int64(e.Row)*Side, int64(e.Col)*Side
	part := Window(d.layer.Grid, e.Row, e.Col).Intersect(w)
	n := int(part.Cols())
	for row := part.RowStart; row < part.RowStop; row++ {
		src := int((row-north)*Side + part.ColStart - west)
		dst := int((row-w.RowStart)*w.Cols() + part.ColStart - w.ColStart)
		copy(values[dst:dst+n], from[src:src+n])
		if mask == nil {
			bitmap.Set(valid, dst, n)
			cells += int64(n)
			continue
		}
		for done := 0; done < n; done += 64 {
			k := min(64, n-done)
			word := bitmap.Load(mask, src+done, k)
			bitmap.Store(valid, dst+done, k, word)
			cells += int64(bits.OnesCount64(word))
		}
	}
	return cells, nil
}

// withoutNodata is a bitmap without the cells whose value means that they have
// none; the same one where there are no such cells.
func (d *Decoder[T]) withoutNodata(s *Scratch, w grid.Window, values []T, valid []uint64) []uint64 {
	first := slices.IndexFunc(values, d.missing.Is)
	if first < 0 {
		return valid
	}
	if valid == nil {
		for r := range Side {
			for i := range Side / 64 {
				s.valid[r*Side/64+i] = 0
				if r < int(w.Rows()) {
					s.valid[r*Side/64+i] = bitmap.Low(max(0, int(w.Cols())-64*i))
				}
			}
		}
		valid = s.valid[:]
	}
	for i := first; i < Cells; i++ {
		if d.missing.Is(values[i]) {
			valid[i>>6] &^= 1 << (i & 63)
		}
	}
	return valid
}
