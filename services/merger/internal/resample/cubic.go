package resample

import "github.com/rasterloom/rasterloom/grid"

// cubic makes a row by cubic convolution of 4 × 4 cells, where all of them are
// valid, and else by bilinear interpolation: GDAL's rule. Weights of cubic
// convolution may be negative, so that a mean over a part of them may lie far
// from all values.
func (r *Resampler[S, D]) cubic(row int64, src Window[S]) bool {
	if !r.nearRow(row, src) {
		return false
	}
	rows, _ := r.rowsOf(formCubic, row)
	complete := len(r.down) == 4
	everywhere := complete && r.full(rows, src)
	if complete {
		r.addRows(rows, src)
	}
	start, stop := 0, 0
	if everywhere {
		if start, stop = r.k.innerStart, r.k.innerStop; !r.cubicAcross(start, stop) {
			start, stop = 0, 0 // an infinity is among the values
		}
	} else if complete {
		r.allValid(rows, src)
	}
	var lines linearRows
	for j := 0; j < len(r.out); j++ {
		if j == start {
			j = stop
		}
		if j < len(r.out) && has(r.ok, j) {
			r.cubicAt(j, complete && has(r.k.whole, j) && (everywhere || r.allOf(j)), &lines, row, src)
		}
	}
	return true
}

// cubicAcross makes columns whose 16 cells are all valid. It reports false where
// a result is not a finite number.
func (r *Resampler[S, D]) cubicAcross(start, stop int) bool {
	t := &r.k.taps
	out, first := r.out[start:stop], t.first[start:stop]
	weights := t.weights[4*start:][:4*len(out)]
	finite := true
	for j := range out {
		w, s := weights[4*j:][:4], r.sums[first[j]:][:4]
		v := (float64(w[0]*s[0]) + float64(w[1]*s[1])) + (float64(w[2]*s[2]) + float64(w[3]*s[3]))
		out[j] = v
		finite = finite && v-v == 0
	}
	return finite
}

// cubicAt makes one column; whole says that its 16 cells are valid.
func (r *Resampler[S, D]) cubicAt(j int, whole bool, lines *linearRows, row int64, src Window[S]) {
	if whole && r.cubicAcross(j, j+1) {
		return
	}
	if !lines.ready {
		lines.window, _ = r.rowsOf(formLinear, row)
		lines.ready = true
		copy(lines.weights[:], r.down)
	}
	v, valid := r.linearAt(j, lines, src)
	r.out[j] = v
	if !valid || !r.finiteAt(j) {
		r.ok[j>>6] &^= 1 << (j & 63)
	}
}

// linearRows are the rows of a bilinear interpolation.
type linearRows struct {
	ready   bool
	window  grid.Window
	weights [2]float64
}

// allValid sets a bit for each column of the source window that is valid in all
// the rows.
func (r *Resampler[S, D]) allValid(rows grid.Window, src Window[S]) {
	for i := range r.all {
		n := min(64, r.k.width-i*64)
		all := low(n)
		for y := rows.RowStart; y < rows.RowStop; y++ {
			all &= load(src.Valid, src.at(y, src.ColStart)+i*64, n)
		}
		r.all[i] = all
	}
}

// allOf reports whether the 4 columns of column j are valid in all the rows.
func (r *Resampler[S, D]) allOf(j int) bool {
	first := int(r.k.taps.first[j])
	if c := first - r.k.lead; c >= 0 && c+4 <= r.k.width {
		return load(r.all, c, 4) == 15
	}
	for i := range 4 {
		if !has(r.all, r.k.column(first+i)) {
			return false
		}
	}
	return true
}

// linearAt interpolates one cell over those of its 2 × 2 cells that are valid.
func (r *Resampler[S, D]) linearAt(j int, lines *linearRows, src Window[S]) (v float64, ok bool) {
	t := &r.k.linear
	var total float64
	for y := lines.window.RowStart; y < lines.window.RowStop; y++ {
		down := lines.weights[y-lines.window.RowStart]
		at := src.at(y, src.ColStart)
		for i := range 2 {
			w := float64(down * t.weights[2*j+i])
			c := r.k.column(int(t.first[j]) + i)
			if w == 0 || c < 0 || !has(src.Valid, at+c) {
				continue
			}
			if x := float64(src.Values[at+c]); x-x == 0 {
				v += float64(w * x)
				total += w
			}
		}
	}
	v /= total
	return v, total > 0 && v-v == 0
}
