package resample

import (
	"math/bits"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// leastWeight is the sum of the weights of valid cells below which a widened
// kernel gives no value (GDAL's number): a widened cubic one has negative
// weights, which may cancel the others.
const leastWeight = 1e-6

// blend makes a row of weighted means, or of sums: the rows of the layer are
// added up first, column by column, and then the columns of that one row. With
// v the values, m 1 for a valid cell and else 0, and a, b the weights of rows
// and columns, a mean is Σ a·b·m·v / Σ a·b·m: both are sums over rows of sums
// over columns. It reports whether any cell may have a value.
func (r *Resampler[S, D]) blend(row int64, src Window[S]) bool {
	k := r.k
	if k.method.byCentre() && !r.nearRow(row, src) {
		return false
	}
	rows, total := r.rowsOf(k.form, row)
	if len(r.down) == 0 {
		return false
	}
	if !k.method.byCentre() {
		copy(r.ok, k.some)
	}
	if r.full(rows, src) {
		r.addRows(rows, src)
		if r.across(total) {
			return true
		}
		// An infinity is among the values: no mean has one.
	}
	r.addValid(rows, src)
	r.acrossValid(src)
	return true
}

// nearRow sets the bits of the columns where the cell that holds the centre is
// valid, and nearAt to that row; false if there is none in the whole row.
func (r *Resampler[S, D]) nearRow(row int64, src Window[S]) bool {
	y, exists := r.k.y.holder(row)
	if !exists {
		return false
	}
	r.nearAt = src.at(y, src.ColStart)
	if full(src.Valid, r.nearAt, r.k.width) {
		copy(r.ok, r.k.some)
		return true
	}
	var some uint64
	for i := range r.ok {
		var w uint64
		for j, c := range r.k.near[i*64 : min(len(r.k.near), i*64+64)] {
			if c >= 0 {
				at := r.nearAt + int(c)
				w |= src.Valid[at>>6] >> (at & 63) & 1 << j
			}
		}
		r.ok[i] = w
		some |= w
	}
	return some != 0
}

// full reports whether all cells of the rows that the layer has are valid.
func (r *Resampler[S, D]) full(rows grid.Window, src Window[S]) bool {
	for y := rows.RowStart; y < rows.RowStop; y++ {
		for _, s := range r.k.segments {
			if !full(src.Valid, src.at(y, s.DstStart), int(s.Cols())) {
				return false
			}
		}
	}
	return true
}

// addRows sums the rows by their weights, whether cells are valid or not.
func (r *Resampler[S, D]) addRows(rows grid.Window, src Window[S]) {
	for _, s := range r.k.segments {
		n := int(s.Cols())
		start := r.k.lead + int(s.DstStart-r.k.source.ColStart)
		addRows(r.sums[start:start+n], src.Values[src.at(rows.RowStart, s.DstStart):], int(src.Cols()), r.down)
	}
	r.repeat(r.sums)
}

// addRows sets sums to the sum of rows, stride apart, by their weights: four at
// a time, always in the same order. The conversions of products keep machines
// that could fuse a product and a sum from rounding differently.
func addRows[S layer.Value](sums []float64, values []S, stride int, weights []float64) {
	n := len(sums)
	first := true
	for len(weights) > 0 {
		w := weights[0]
		a := values[:n]
		switch {
		case len(weights) >= 4:
			w1, w2, w3 := weights[1], weights[2], weights[3]
			b, c, d := values[stride:][:n], values[2*stride:][:n], values[3*stride:][:n]
			if first {
				for i := range sums {
					sums[i] = (float64(w*float64(a[i])) + float64(w1*float64(b[i]))) +
						(float64(w2*float64(c[i])) + float64(w3*float64(d[i])))
				}
			} else {
				for i := range sums {
					sums[i] += (float64(w*float64(a[i])) + float64(w1*float64(b[i]))) +
						(float64(w2*float64(c[i])) + float64(w3*float64(d[i])))
				}
			}
			weights = weights[4:]
			if len(weights) > 0 {
				values = values[4*stride:]
			}
		case len(weights) == 3:
			w1, w2 := weights[1], weights[2]
			b, c := values[stride:][:n], values[2*stride:][:n]
			if first {
				for i := range sums {
					sums[i] = (float64(w*float64(a[i])) + float64(w1*float64(b[i]))) + float64(w2*float64(c[i]))
				}
			} else {
				for i := range sums {
					sums[i] += (float64(w*float64(a[i])) + float64(w1*float64(b[i]))) + float64(w2*float64(c[i]))
				}
			}
			weights = nil
		case len(weights) == 2:
			w1 := weights[1]
			b := values[stride:][:n]
			if first {
				for i := range sums {
					sums[i] = float64(w*float64(a[i])) + float64(w1*float64(b[i]))
				}
			} else {
				for i := range sums {
					sums[i] += float64(w*float64(a[i])) + float64(w1*float64(b[i]))
				}
			}
			weights = nil
		default:
			if first {
				for i := range sums {
					sums[i] = float64(w * float64(a[i]))
				}
			} else {
				for i := range sums {
					sums[i] += float64(w * float64(a[i]))
				}
			}
			weights = nil
		}
		first = false
	}
}

// repeat copies the sums that lie a turn of longitude away.
func (r *Resampler[S, D]) repeat(sums []float64) {
	for _, c := range r.k.repeats {
		copy(sums[c.to:c.to+c.n], sums[c.from:c.from+c.n])
	}
}

// across sums the columns where all cells are valid. total is the sum of the
// weights of the rows. It reports false where a result is not a finite number.
func (r *Resampler[S, D]) across(total float64) bool {
	t := &r.k.taps
	out, first := r.out, t.first[:len(r.out)]
	weights, sums := t.weights, r.sums
	switch t.stride {
	case 2:
		weights = weights[:2*len(out)]
		for j := range out {
			s := sums[first[j]:][:2]
			out[j] = float64(s[0]*weights[2*j]) + float64(s[1]*weights[2*j+1])
		}
	case 3:
		for j := range out {
			w, s := weights[3*j:][:3], sums[first[j]:][:3]
			out[j] = float64(s[0]*w[0]) + float64(s[1]*w[1]) + float64(s[2]*w[2])
		}
	case 4:
		for j := range out {
			w, s := weights[4*j:][:4], sums[first[j]:][:4]
			out[j] = (float64(s[0]*w[0]) + float64(s[1]*w[1])) + (float64(s[2]*w[2]) + float64(s[3]*w[3]))
		}
	default:
		for j := range out {
			w, s := weights[:t.stride], sums[first[j]:][:t.stride]
			weights = weights[t.stride:]
			a, b := 0., 0.
			for len(w) >= 4 {
				a += float64(s[0]*w[0]) + float64(s[1]*w[1])
				b += float64(s[2]*w[2]) + float64(s[3]*w[3])
				w, s = w[4:], s[4:]
			}
			for i, x := range w {
				a += float64(s[i] * x)
			}
			out[j] = a + b
		}
	}
	if k := r.k; k.method != Sum && k.form != formLinear {
		totals := t.total[:len(out)]
		for j := range out {
			out[j] /= float64(total * totals[j])
		}
	}
	if !r.floats {
		return true
	}
	for word, some := range r.ok {
		for j, v := range out[word*64 : min(len(out), word*64+64)] {
			if v-v != 0 && some>>j&1 != 0 {
				return false
			}
		}
	}
	return true
}

// addValid sums the values and the weights of the cells that are valid, 64
// columns at a time.
func (r *Resampler[S, D]) addValid(rows grid.Window, src Window[S]) {
	var all float64
	for _, w := range r.down {
		all += w
	}
	stride := int(src.Cols())
	for _, s := range r.k.segments {
		n := int(s.Cols())
		start := r.k.lead + int(s.DstStart-r.k.source.ColStart)
		first := src.at(rows.RowStart, s.DstStart)
		for d := 0; d < n; d += 64 {
			m := min(64, n-d)
			sums, weights := r.sums[start+d:][:m], r.weights[start+d:][:m]
			if r.addWhole(sums, src, first+d) {
				for i := range weights {
					weights[i] = all
				}
				continue
			}
			clear(sums)
			clear(weights)
			for i, w := range r.down {
				at := first + d + i*stride
				addWord(sums, weights, src.Values[at:at+m], load(src.Valid, at, m), w)
			}
		}
	}
	r.repeat(r.sums)
	r.repeat(r.weights)
}

// addWhole is addValid for columns whose cells all are valid and finite; false if
// they are not.
func (r *Resampler[S, D]) addWhole(sums []float64, src Window[S], at int) bool {
	stride := int(src.Cols())
	for i := range r.down {
		if load(src.Valid, at+i*stride, len(sums)) != low(len(sums)) {
			return false
		}
	}
	addRows(sums, src.Values[at:], stride, r.down)
	if r.floats {
		for _, v := range sums {
			if v-v != 0 {
				return false
			}
		}
	}
	return true
}

// addWord adds up to 64 cells of one row.
func addWord[S layer.Value](sums, weights []float64, values []S, valid uint64, w float64) {
	sums, weights = sums[:len(values)], weights[:len(values)]
	if valid == low(len(values)) {
		for i, value := range values {
			if v := float64(value); v-v == 0 {
				sums[i] += float64(w * v)
				weights[i] += w
			}
		}
		return
	}
	for ; valid != 0; valid &= valid - 1 {
		i := bits.TrailingZeros64(valid)
		if v := float64(values[i]); v-v == 0 {
			sums[i] += float64(w * v)
			weights[i] += w
		}
	}
}

// acrossValid sums the columns over valid cells. Cells by centre whose centre is
// in a cell that is not valid are not set in ok already.
func (r *Resampler[S, D]) acrossValid(src Window[S]) {
	k, t := r.k, &r.k.taps
	least := 0.
	if k.form == formWideLinear || k.form == formWideCubic {
		least = leastWeight
	}
	for word, some := range r.ok {
		for ; some != 0; some &= some - 1 {
			bit := bits.TrailingZeros64(some)
			j := word*64 + bit
			weights := t.weights[j*t.stride:][:t.stride]
			values, valid := r.sums[t.first[j]:][:t.stride], r.weights[t.first[j]:][:t.stride]
			var v, total float64
			for i, w := range weights {
				v += float64(w * values[i])
				total += float64(w * valid[i])
			}
			if k.method != Sum {
				v /= total
			}
			r.out[j] = v
			if !(total > least) || v-v != 0 || k.method.byCentre() && !r.finiteAt(j, src) {
				r.ok[word] &^= 1 << bit
			}
		}
	}
}

// finiteAt reports whether the cell that holds a centre is a finite number.
func (r *Resampler[S, D]) finiteAt(j int, src Window[S]) bool {
	if !r.floats {
		return true
	}
	v := float64(src.Values[r.nearAt+int(r.k.near[j])])
	return v-v == 0
}

// share clears the bits of cells of which valid cells cover less than the least
// share of area.
func (r *Resampler[S, D]) share(row int64, src Window[S]) {
	k := r.k
	rows, _ := r.rowsOf(formArea, row)
	for _, s := range k.segments {
		n := int(s.Cols())
		start := k.lead + int(s.DstStart-k.source.ColStart)
		weights := r.weights[start : start+n]
		clear(weights)
		for i, w := range r.down {
			at := src.at(rows.RowStart+int64(i), s.DstStart)
			for d := 0; d < n; d += 64 {
				m := min(64, n-d)
				part, valid := weights[d:d+m], load(src.Valid, at+d, m)
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
	r.repeat(r.weights)
	least := k.minShare * k.x.ratio * k.y.ratio * (1 - shareSlack)
	for word, some := range r.ok {
		for ; some != 0; some &= some - 1 {
			bit := bits.TrailingZeros64(some)
			j := word*64 + bit
			var covered float64
			valid := r.weights[k.area.first[j]:][:k.area.stride]
			for i, w := range k.area.weights[j*k.area.stride:][:k.area.stride] {
				covered += float64(w * valid[i])
			}
			if covered < least {
				r.ok[word] &^= 1 << bit
			}
		}
	}
}
