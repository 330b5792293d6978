package resample

import (
	"math/bits"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// Window is a dense window of cells, row by row from the north-west.
type Window[T layer.Value] struct {
	// Window says which cells: of the lattice, or of a layer as
	// Kernel.SourceWindow counts them.
	grid.Window
	// Values has Rows × Cols values. Those without a bit in Valid may be
	// anything.
	Values []T
	// Valid has a bit for each value, the least significant first as in Arrow:
	// 1 where the cell has a value. Rows follow one another without padding.
	Valid []uint64
}

// NewWindow makes a window in which no cell has a value.
func NewWindow[T layer.Value](w grid.Window) Window[T] {
	n := int(w.Cells())
	return Window[T]{Window: w, Values: make([]T, n), Valid: make([]uint64, words(n))}
}

// at is the place of a cell in Values.
func (w *Window[T]) at(row, col int64) int {
	return int((row-w.RowStart)*w.Cols() + col - w.ColStart)
}

// words is the number of words that hold n bits.
func words(n int) int { return (n + 63) >> 6 }

// low is a word with its n lowest bits set, 0 <= n <= 64.
func low(n int) uint64 { return ^uint64(0) >> (64 - n) }

func set(b []uint64, i int)      { b[i>>6] |= 1 << (i & 63) }
func has(b []uint64, i int) bool { return b[i>>6]>>(i&63)&1 != 0 }

// load gives the n bits from place at, 1 <= n <= 64, in the low end of a word.
func load(b []uint64, at, n int) uint64 {
	i, s := at>>6, at&63
	w := b[i] >> s
	if got := 64 - s; got < n {
		w |= b[i+1] << got
	}
	return w & low(n)
}

// store sets the n bits from place at to the low end of w, where the bits of b
// are still zero and w has none above n, 1 <= n <= 64.
func store(b []uint64, at, n int, w uint64) {
	i, s := at>>6, at&63
	b[i] |= w << s
	if s+n > 64 {
		b[i+1] |= w >> (64 - s)
	}
}

// put sets the n bits from place at to the low end of w, which has none above n,
// 1 <= n <= 64.
func put(b []uint64, at, n int, w uint64) {
	i, s := at>>6, at&63
	b[i] = b[i]&^(low(n)<<s) | w<<s
	if s+n > 64 {
		b[i+1] = b[i+1]&^(low(n)>>(64-s)) | w>>(64-s)
	}
}

// nextZero is the first place from at on without a bit, past the last word if
// there is none.
func nextZero(b []uint64, at int) int {
	i := at >> 6
	if w := ^b[i] >> (at & 63); w != 0 {
		return at + bits.TrailingZeros64(w)
	}
	for i++; i < len(b); i++ {
		if w := ^b[i]; w != 0 {
			return i<<6 + bits.TrailingZeros64(w)
		}
	}
	return i << 6
}

// full reports whether the n bits from place at are all set.
func full(b []uint64, at, n int) bool {
	for ; n > 64; at, n = at+64, n-64 {
		if load(b, at, 64) != ^uint64(0) {
			return false
		}
	}
	return n <= 0 || load(b, at, n) == low(n)
}
