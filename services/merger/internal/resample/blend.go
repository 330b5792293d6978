package resample

import (
	"github.com/rasterloom/rasterloom/grid"
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
	if r.survey(rows, src) {
		r.addRows(rows, src)
		if r.acrossFull(total) {
			return true
		}
	}
	all := r.addValid(rows, src, false)
	if r.acrossValid(all) {
		return true
	}
	// An infinity is among the values: those columns again, cell by cell.
	if copy(r.ok, k.some); k.method.byCentre() {
		r.nearRow(row, src)
	}
	r.addValid(rows, src, true)
	r.acrossValid(all)
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

// addRows sums the rows by their weights, whether cells are valid or not.
func (r *Resampler[S, D]) addRows(rows grid.Window, src Window[S]) {
	for _, s := range r.k.segments {
		n := int(s.Cols())
		start := r.k.lead + int(s.DstStart-r.k.source.ColStart)
		addRows(r.sums[start:start+n], src.Values[src.at(rows.RowStart, s.DstStart):], int(src.Cols()), r.down, true)
	}
	r.repeat(r.sums)
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
	case 5:
		for j := range out {
			w, s := weights[5*j:][:5], sums[first[j]:][:5]
			a, b := float64(s[0]*w[0])+float64(s[1]*w[1]), float64(s[2]*w[2])+float64(s[3]*w[3])
			out[j] = a + float64(s[4]*w[4]) + b + 0
		}
	case 6:
		for j := range out {
			w, s := weights[6*j:][:6], sums[first[j]:][:6]
			a, b := float64(s[0]*w[0])+float64(s[1]*w[1]), float64(s[2]*w[2])+float64(s[3]*w[3])
			out[j] = a + float64(s[4]*w[4]) + float64(s[5]*w[5]) + b + 0
		}
	case 7:
		for j := range out {
			w, s := weights[7*j:][:7], sums[first[j]:][:7]
			a, b := float64(s[0]*w[0])+float64(s[1]*w[1]), float64(s[2]*w[2])+float64(s[3]*w[3])
			out[j] = a + float64(s[4]*w[4]) + float64(s[5]*w[5]) + float64(s[6]*w[6]) + b + 0
		}
	default:
		// Written out above: there, 0 is added last in place of first, which is
		// what tells 0 from -0.
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

// acrossValid sums the columns over valid cells: stretches without a missing one
// as across does. all is the weight of a column whose cells all are valid. It
// reports false where an infinity came into a sum, and clears the bits of results
// that are no finite numbers: a sum of finite ones may be.
func (r *Resampler[S, D]) acrossValid(all float64) (finite bool) {
	k, t := r.k, &r.k.taps
	if k.form == formWideCubic {
		// Its weights have both signs: a sum of some may be that of all.
		return r.acrossSome(0, len(r.out))
	}
	finite = true
	// Columns from one on up to the gap, which is none, have all their weight.
	one, gap := 0, -1
	whole := func(first int) bool {
		if first < one || first > gap {
			one, gap = first, nextZero(r.entire, first)
		}
		return first+t.stride <= gap
	}
	for from, n := 0, len(r.out); from < n; {
		to, stretch := from+1, whole(int(t.first[from]))
		for to < n && whole(int(t.first[to])) == stretch {
			to++
		}
		if stretch {
			r.across(from, to, all)
			finite = r.dropInfinite(from, to) && finite
		} else {
			finite = r.acrossSome(from, to) && finite
		}
		from = to
	}
	return finite
}

// dropInfinite clears the bits of results of [from, to) that are no finite
// numbers, and reports false if there are.
func (r *Resampler[S, D]) dropInfinite(from, to int) bool {
	finite := true
	if !r.floats {
		return finite
	}
	for j, v := range r.out[from:to] {
		if v-v != 0 && has(r.ok, from+j) {
			r.ok[(from+j)>>6] &^= 1 << ((from + j) & 63)
			finite = false
		}
	}
	return finite
}

// acrossSome sums the columns [from, to) of the window over valid cells. Cells by
// centre whose centre is in a cell that is not valid are not set in ok already.
// It reports false where a sum is no finite number.
func (r *Resampler[S, D]) acrossSome(from, to int) (finite bool) {
	k, t := r.k, &r.k.taps
	least := 0.
	if k.form == formWideLinear || k.form == formWideCubic {
		least = leastWeight
	}
	finite = true
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
		finite = finite && v-v == 0
		if k.method != Sum {
			v /= total
		}
		r.out[j] = v
		if !(total > least) || v-v != 0 || k.method.byCentre() && !r.finiteAt(j) {
			r.ok[j>>6] &^= 1 << (j & 63)
		}
	}
	return finite
}

// finiteAt reports whether the cell that holds a centre is a finite number.
func (r *Resampler[S, D]) finiteAt(j int) bool {
	if !r.floats {
		return true
	}
	v := float64(r.near[r.k.near[j]])
	return v-v == 0
}
