package resample

import (
	"math/bits"

	"github.com/rasterloom/rasterloom/grid"
)

// nearest makes a row of the values of the cells that hold the centres.
func (r *Resampler[S, D]) nearest(values []S, row int64, src Window[S]) bool {
	if !r.nearRow(row, src) {
		return false
	}
	r.pickNear(values)
	return true
}

// pickNear takes the values from the cells of the row that holds the centres.
func (r *Resampler[S, D]) pickNear(values []S) {
	for j, c := range r.k.near {
		if c >= 0 {
			values[j] = r.near[c]
		}
	}
}

// extreme makes a row of the smallest or the largest values of the cells
// touched: down the rows first, then across the columns.
func (r *Resampler[S, D]) extreme(values []S, row int64, src Window[S]) bool {
	rows, _ := r.rowsOf(formArea, row)
	if len(r.down) == 0 {
		return false
	}
	clear(r.all)
	r.extremeDown(rows, src)
	r.extremeAll(values)
	return true
}

// extremeDown goes down the rows, on from what was picked of those before.
func (r *Resampler[S, D]) extremeDown(rows grid.Window, src Window[S]) {
	for y := rows.RowStart; y < rows.RowStop; y++ {
		at := src.at(y, src.ColStart)
		for i := range r.all {
			n := min(64, r.k.width-i*64)
			cells, picked := src.Values[at+i*64:][:n], r.picked[i*64:][:n]
			valid, known := load(src.Valid, at+i*64, n), r.all[i]
			r.all[i] |= valid
			switch {
			case valid != low(n) || known != 0 && known != valid:
				for ; valid != 0; valid &= valid - 1 {
					j := bits.TrailingZeros64(valid)
					if known>>j&1 == 0 {
						picked[j] = cells[j]
					} else {
						picked[j] = r.better(picked[j], cells[j])
					}
				}
			case known == 0:
				copy(picked, cells)
			case r.k.method == Min:
				for j, v := range cells {
					picked[j] = min(picked[j], v)
				}
			default:
				for j, v := range cells {
					picked[j] = max(picked[j], v)
				}
			}
		}
	}
}

// extremeAll goes across the columns of what was picked down the rows.
func (r *Resampler[S, D]) extremeAll(values []S) {
	if full(r.all, 0, r.k.width) {
		copy(r.ok, r.k.some)
		r.extremeAcross(values)
		return
	}
	stride := r.k.taps.stride
	for word, some := range r.k.some {
		for ; some != 0; some &= some - 1 {
			bit := bits.TrailingZeros64(some)
			j := word*64 + bit
			for _, c := range r.k.under[j*stride:][:stride] {
				if !has(r.all, int(c)) {
					continue
				}
				if r.ok[word]>>bit&1 == 0 {
					values[j] = r.picked[c]
					r.ok[word] |= 1 << bit
				} else {
					values[j] = r.better(values[j], r.picked[c])
				}
			}
		}
	}
}

// extremeAcross goes across the columns where all cells are valid.
func (r *Resampler[S, D]) extremeAcross(values []S) {
	stride := r.k.taps.stride
	under := r.k.under
	for j := range values {
		part := under[:stride]
		under = under[stride:]
		if part[0] < 0 {
			continue
		}
		v := r.picked[part[0]]
		if r.k.method == Min {
			for _, c := range part[1:] {
				v = min(v, r.picked[c])
			}
		} else {
			for _, c := range part[1:] {
				v = max(v, r.picked[c])
			}
		}
		values[j] = v
	}
}

func (r *Resampler[S, D]) better(a, b S) S {
	if r.k.method == Min {
		return min(a, b)
	}
	return max(a, b)
}
