package resample

import (
	"math/bits"

	"github.com/rasterloom/rasterloom/grid"
)

// share clears the bits of cells of which valid cells cover less than the least
// share of area.
func (r *Resampler[S, D]) share(row int64, src Window[S]) {
	rows, _ := r.rowsOf(formArea, row)
	clear(r.covered)
	r.cover(rows, src)
	r.dropUncovered()
}

// cover adds the valid area of rows, whose weights are in down, to covered.
func (r *Resampler[S, D]) cover(rows grid.Window, src Window[S]) {
	k := r.k
	for _, s := range k.segments {
		n := int(s.Cols())
		start := k.lead + int(s.DstStart-k.source.ColStart)
		covered := r.covered[start : start+n]
		for i, w := range r.down {
			at := src.at(rows.RowStart+int64(i), s.DstStart)
			for d := 0; d < n; d += 64 {
				m := min(64, n-d)
				part, valid := covered[d:d+m], load(src.Valid, at+d, m)
				if valid == low(m) {
					for i := range part {
						part[i] += w
					}
					continue
				}
				for ; valid != 0; valid &= valid - 1 {
					part[bits.TrailingZeros64(valid)] += w
				}
			}
		}
	}
}

// dropUncovered clears the bits of columns with less than the least share in
// covered.
func (r *Resampler[S, D]) dropUncovered() {
	k := r.k
	r.repeat(r.covered)
	least := k.minShare * k.x.ratio * k.y.ratio * (1 - shareSlack)
	for word, some := range r.ok {
		for ; some != 0; some &= some - 1 {
			bit := bits.TrailingZeros64(some)
			j := word*64 + bit
			var sum float64
			covered := r.covered[k.area.first[j]:][:k.area.stride]
			for i, w := range k.area.weights[j*k.area.stride:][:k.area.stride] {
				sum += float64(w * covered[i])
			}
			if sum < least {
				r.ok[word] &^= 1 << bit
			}
		}
	}
}
