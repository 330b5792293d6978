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
		if r.acrossFull(total) {
			return true
		}
	}
	r.acrossValid(r.addValid(rows, src))
	return true
}

// acrossFull sums the columns where no cell is missing; total is the sum of the
// weights of the rows. It reports false where an infinity is among the values: no
// mean has one.
func (r *Resampler[S, D]) acrossFull(total float64) bool {
	r.across(0, len(r.out), total)
	return !r.floats || r.finite()
}

// nearRow sets the bits of the columns where the cell that holds the centre is
// valid, and near to the cells of that row; false if there is none in the whole
// row.
func (r *Resampler[S, D]) nearRow(row int64, src Window[S]) bool {
	y, exists := r.k.y.holder(row)
	if !exists {
		return false
	}
	at := src.at(y, src.ColStart)
	r.near = src.Values[at:][:r.k.width]
	return r.centres(src.Valid, at)
}

// centres sets the bits of the columns where the cell that holds the centre is
// valid, by the bits of its row from place at on; false if there is none.
func (r *Resampler[S, D]) centres(valid []uint64, at int) bool {
	if full(valid, at, r.k.width) {
		copy(r.ok, r.k.some)
		return true
	}
	var some uint64
	for i := range r.ok {
		var w uint64
		for j, c := range r.k.near[i*64 : min(len(r.k.near), i*64+64)] {
			if c >= 0 {
				place := at + int(c)
				w |= valid[place>>6] >> (place & 63) & 1 << j
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
		addRows(r.sums[start:start+n], src.Values[src.at(rows.RowStart, s.DstStart):], int(src.Cols()), r.down, true)
	}
	r.repeat(r.sums)
}

// addRows adds the sum of rows, stride apart, by their weights, to sums, or sets
// sums to it where they are the first: four at a time, always in the same order.
// Parts of so many rows give what all of them give at once. The conversions of
// products keep machines that could fuse a product and a sum from rounding
// differently.
func addRows[S layer.Value](sums []float64, values []S, stride int, weights []float64, first bool) {
	n := len(sums)
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

// across sums columns [from, to) of the window, all cells under which are valid.
// total is the sum of the weights of the rows.
func (r *Resampler[S, D]) across(from, to int, total float64) {
	t := &r.k.taps
	out, first := r.out[from:to], t.first[from:to]
	weights, sums := t.weights[from*t.stride:], r.sums
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
		totals := t.total[from:to]
		for j := range out {
			out[j] /= float64(total * totals[j])
		}
	}
}

// finite reports whether all results that count are finite numbers.
func (r *Resampler[S, D]) finite() bool {
	for word, some := range r.ok {
		for j, v := range r.out[word*64 : min(len(r.out), word*64+64)] {
			if v-v != 0 && some>>j&1 != 0 {
				return false
			}
		}
	}
	return true
}

// addValid sums the values and the weights of the cells that are valid, 64
// columns at a time. It gives the weight of a column whose cells all are.
func (r *Resampler[S, D]) addValid(rows grid.Window, src Window[S]) (all float64) {
	for _, w := range r.down {
		all += w
	}
	for _, s := range r.k.segments {
		n := int(s.Cols())
		start := r.k.lead + int(s.DstStart-r.k.source.ColStart)
		first := src.at(rows.RowStart, s.DstStart)
		for d := 0; d < n; d += 64 {
			m := min(64, n-d)
			r.addBlock(start+d, m, src, first+d, all)
		}
	}
	r.repeat(r.sums)
	r.repeat(r.weights)
	return all
}

// addBlock is addValid for n columns, 64 at most, from place to of the sums; their
// cells are from place at of the window on. Columns without a missing cell are
// added up as addRows does, the others cell by cell, whatever is beside them.
func (r *Resampler[S, D]) addBlock(to, n int, src Window[S], at int, all float64) {
	stride := int(src.Cols())
	whole, some := low(n), uint64(0)
	for i := range r.down {
		valid := load(src.Valid, at+i*stride, n)
		whole, some = whole&valid, some|valid
	}
	sums, weights := r.sums[to:to+n], r.weights[to:to+n]
	if whole != low(n) {
		clear(sums)
		clear(weights)
	}
	some &^= whole
	for left := whole; left != 0; {
		from, stop := firstRun(left)
		addRows(sums[from:stop], src.Values[at+from:], stride, r.down, true)
		left &^= low(stop-from) << from
		odd := 0.
		for i, v := range sums[from:stop] {
			weights[from+i] = all
			odd += v - v
		}
		if odd != 0 {
			// An infinity is among the values.
			for i := from; i < stop; i++ {
				if v := sums[i]; v-v != 0 {
					sums[i], weights[i] = 0, 0
					some |= 1 << i
				}
			}
		}
	}
	for i := 0; i < len(r.down) && some != 0; i++ {
		row := at + i*stride
		addWord(sums, weights, src.Values[row:row+n], load(src.Valid, row, n)&some, r.down[i])
	}
}

// firstRun is the first run of bits of a word that has any.
func firstRun(word uint64) (from, stop int) {
	from = bits.TrailingZeros64(word)
	return from, from + bits.TrailingZeros64(^(word >> from))
}

// addWord adds the cells of one row that are valid and finite.
func addWord[S layer.Value](sums, weights []float64, values []S, valid uint64, w float64) {
	sums, weights = sums[:len(values)], weights[:len(values)]
	for valid != 0 {
		from, stop := firstRun(valid)
		for i := from; i < stop; i++ {
			if v := float64(values[i]); v-v == 0 {
				sums[i] += float64(w * v)
				weights[i] += w
			}
		}
		valid &^= low(stop-from) << from
	}
}

// acrossValid sums the columns over valid cells: stretches without a missing one
// as across does. all is the weight of a column whose cells all are valid.
func (r *Resampler[S, D]) acrossValid(all float64) {
	k, t := r.k, &r.k.taps
	if k.form == formWideCubic {
		// Its weights have both signs: a sum of some may be that of all.
		r.acrossSome(0, len(r.out))
		return
	}
	// Where the columns end that have all their weight, from each column on.
	ends, end := r.ends, len(r.weights)
	for c := len(ends) - 1; c >= 0; c-- {
		if r.weights[c] != all {
			end = c
		}
		ends[c] = int32(end)
	}
	whole := func(j int) bool { return int(ends[t.first[j]]) >= int(t.first[j])+t.stride }
	for from, n := 0, len(r.out); from < n; {
		to, stretch := from+1, whole(from)
		for to < n && whole(to) == stretch {
			to++
		}
		if stretch {
			r.across(from, to, all)
			r.dropInfinite(from, to)
		} else {
			r.acrossSome(from, to)
		}
		from = to
	}
}

// dropInfinite clears the bits of results of [from, to) that are no finite
// numbers: a sum of finite ones may be.
func (r *Resampler[S, D]) dropInfinite(from, to int) {
	if !r.floats {
		return
	}
	for j, v := range r.out[from:to] {
		if v-v != 0 {
			r.ok[(from+j)>>6] &^= 1 << ((from + j) & 63)
		}
	}
}

// acrossSome sums the columns [from, to) of the window over valid cells. Cells by
// centre whose centre is in a cell that is not valid are not set in ok already.
func (r *Resampler[S, D]) acrossSome(from, to int) {
	k, t := r.k, &r.k.taps
	least := 0.
	if k.form == formWideLinear || k.form == formWideCubic {
		least = leastWeight
	}
	for j := from; j < to; j++ {
		if !has(r.ok, j) {
			continue
		}
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
		if !(total > least) || v-v != 0 || k.method.byCentre() && !r.finiteAt(j) {
			r.ok[j>>6] &^= 1 << (j & 63)
		}
	}
}

// finiteAt reports whether the cell that holds a centre is a finite number.
func (r *Resampler[S, D]) finiteAt(j int) bool {
	if !r.floats {
		return true
	}
	v := float64(r.near[r.k.near[j]])
	return v-v == 0
}
