package resample

import (
	"math"
	"math/bits"

	"github.com/rasterloom/rasterloom/internal/layer"
)

// tieSlack is the difference of two areas, in cells of the layer, that rounding
// may make of none.
const tieSlack = 1e-9

// mode makes a row of the values that cover the largest area. Of several, the
// one that comes to it first counts, cells taken row by row from the
// north-west: GDAL's rule.
func (r *Resampler[S, D]) mode(values []S, row int64, src Window[S]) bool {
	rows, _ := r.rowsOf(formArea, row)
	if len(r.down) == 0 {
		return false
	}
	for word, some := range r.k.some {
		for ; some != 0; some &= some - 1 {
			bit := bits.TrailingZeros64(some)
			j := word*64 + bit
			r.votes.clear()
			for i, down := range r.down {
				r.vote(&r.votes, j, down, src, src.at(rows.RowStart+int64(i), src.ColStart))
			}
			if r.votes.most > 0 {
				values[j] = r.votes.winner
				r.ok[word] |= 1 << bit
			}
		}
	}
	return true
}

// vote adds what column j covers of one row, of weight down and from place at of
// the window on.
func (r *Resampler[S, D]) vote(b *ballot[S], j int, down float64, src Window[S], at int) {
	stride := r.k.taps.stride
	under := r.k.under[j*stride:][:stride]
	for n, w := range r.k.taps.weights[j*stride:][:stride] {
		if c := at + int(under[n]); w > 0 && has(src.Valid, c) {
			b.add(src.Values[c], float64(down*w))
		}
	}
}

// ballot adds up areas by value. The votes are a list, searched from the start
// while it is short, and by a table of places in it when it has grown.
type ballot[S layer.Value] struct {
	values []S
	areas  []float64
	// last is the place of the last value: neighbours are often equal.
	last int
	// table has a place in the list and one more for each value, at its hash or
	// next to it; 0 is free.
	table  []int32
	winner S
	most   float64
}

// listed is how many values are searched one by one.
const listed = 16

func newBallot[S layer.Value]() ballot[S] {
	return ballot[S]{values: make([]S, 0, listed), areas: make([]float64, 0, listed), table: make([]int32, 4*listed)}
}

func (b *ballot[S]) clear() {
	if len(b.values) > listed {
		clear(b.table)
	}
	b.values, b.areas, b.last, b.most = b.values[:0], b.areas[:0], 0, 0
}

func (b *ballot[S]) add(value S, area float64) {
	at := b.last
	if at >= len(b.values) || b.values[at] != value {
		at = b.place(value)
		b.last = at
	}
	sum := b.areas[at] + area
	b.areas[at] = sum
	if sum > b.most+tieSlack || b.most == 0 {
		b.winner, b.most = value, sum
	}
}

// place gives the place of a value in the list, where it is put if it is new.
func (b *ballot[S]) place(value S) int {
	if len(b.values) <= listed {
		for i, v := range b.values {
			if v == value {
				return i
			}
		}
	} else if at := b.table[b.slot(value)]; at > 0 {
		return int(at) - 1
	}
	at := len(b.values)
	b.values, b.areas = append(b.values, value), append(b.areas, 0)
	switch {
	case at < listed:
	case 2*at >= len(b.table):
		b.table = make([]int32, max(4*listed, 4*len(b.table)))
		b.fill(0)
	case at == listed:
		b.fill(0)
	default:
		b.fill(at)
	}
	return at
}

// fill enters the values of the list into the table, from a place on.
func (b *ballot[S]) fill(from int) {
	for i, v := range b.values[from:] {
		b.table[b.slot(v)] = int32(from + i + 1)
	}
}

// slot is where a value is in the table, or where it belongs.
func (b *ballot[S]) slot(value S) uint64 {
	mask := uint64(len(b.table) - 1)
	i := hash(value) & mask
	for b.table[i] > 0 && b.values[b.table[i]-1] != value {
		i = (i + 1) & mask
	}
	return i
}

// ballotBytes is the size of a ballot without votes.
const ballotBytes = 112

// bytes is what the votes take.
func (b *ballot[S]) bytes() int64 {
	return int64(cap(b.values))*int64(layer.TypeOf[S]().Width()) + int64(cap(b.areas))*8 + int64(cap(b.table))*4
}

// hash spreads the bits of a value: equal values, 0 and -0 among them, have one
// hash. The multiplier is 2^64 over the golden ratio.
func hash[S layer.Value](value S) uint64 {
	h := math.Float64bits(float64(value)+0) * 0x9e3779b97f4a7c15
	return h ^ h>>32
}
