package resample

import (
	"math/bits"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

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

// survey finds the columns of each segment whose cells are all valid, and those
// with any valid one: from a word on for each segment. It reports whether all are.
func (r *Resampler[S, D]) survey(rows grid.Window, src Window[S]) (everywhere bool) {
	everywhere = true
	at := 0
	for _, s := range r.k.segments {
		n := int(s.Cols())
		whole, some := r.whole[at:at+words(n)], r.some[at:at+words(n)]
		at += words(n)
		for i := range whole {
			whole[i], some[i] = ^uint64(0), 0
		}
		for y := rows.RowStart; y < rows.RowStop; y++ {
			survey(whole, some, src.Valid, src.at(y, s.DstStart), n)
		}
		last := len(whole) - 1
		whole[last], some[last] = whole[last]&low(n-64*last), some[last]&low(n-64*last)
		all := ^uint64(0)
		for _, w := range whole[:last] {
			all &= w
		}
		everywhere = everywhere && all == ^uint64(0) && whole[last] == low(n-64*last)
	}
	return everywhere
}

// survey takes the n bits from place at into what is known of rows: what is past
// the last of them means nothing.
func survey(whole, some, valid []uint64, at, n int) {
	i, shift := at>>6, at&63
	if shift == 0 {
		for k, w := range valid[i:][:len(whole)] {
			whole[k] &= w
			some[k] |= w
		}
		return
	}
	// All words but the last need the next one, too.
	last := len(whole) - 1
	words := valid[i:][:last+1]
	some = some[:len(whole)]
	for k := range last {
		w := words[k]>>(shift&63) | words[k+1]<<((64-shift)&63)
		whole[k] &= w
		some[k] |= w
	}
	w := load(valid, at+64*last, n-64*last)
	whole[last] &= w
	some[last] |= w
}

// addValid sums the values and the weights of the cells that are valid, and marks
// the columns that have all their weight. Columns without a missing cell are added
// up as addRows does, the others cell by cell, whatever is beside them; with
// infinities so are columns whose sum is no finite number. The rows have been
// surveyed. It gives the weight of
// a column whose cells all are valid.
func (r *Resampler[S, D]) addValid(rows grid.Window, src Window[S], infinities bool) (all float64) {
	for _, w := range r.down {
		all += w
	}
	for i := range r.alls {
		r.alls[i] = all
	}
	stride, word := int(src.Cols()), 0
	for _, s := range r.k.segments {
		n := int(s.Cols())
		start := r.k.lead + int(s.DstStart-r.k.source.ColStart)
		at := src.at(rows.RowStart, s.DstStart)
		// From run on, columns are not added up yet.
		run := 0
		addRun := func(stop int) {
			addRows(r.sums[start+run:start+stop], src.Values[at+run:], stride, r.down, true)
			run = stop
		}
		for d := 0; d < n; d += 64 {
			m := min(64, n-d)
			whole, some := r.whole[word], r.some[word]
			word++
			if some == 0 {
				if run < d {
					addRun(d)
				}
				run = d + m
				clear(r.sums[start+d:][:m])
			}
			copy(r.weights[start+d:][:m], r.alls[:])
			if some == 0 || whole != low(m) || infinities {
				if run < d+m {
					addRun(d + m)
				}
				whole = r.addSome(start+d, m, src, at+d, whole, infinities)
			}
			put(r.entire, start+d, m, whole)
		}
		if run < n {
			addRun(n)
		}
	}
	r.repeat(r.sums)
	r.repeat(r.weights)
	for _, c := range r.k.repeats {
		for i := 0; i < c.n; i += 64 {
			m := min(64, c.n-i)
			put(r.entire, c.to+i, m, load(r.entire, c.from+i, m))
		}
	}
	return all
}

// addSome adds up n columns, 64 at most, from place to of the sums, cell by cell,
// but for those that whole names; their cells are from place at of the window on.
// It gives the columns that have all their weight.
func (r *Resampler[S, D]) addSome(to, n int, src Window[S], at int, whole uint64, infinities bool) uint64 {
	sums, weights := r.sums[to:to+n], r.weights[to:to+n]
	if infinities {
		for i, v := range sums {
			if v-v != 0 {
				whole &^= 1 << i
			}
		}
	}
	some := low(n) &^ whole
	for left := some; left != 0; {
		from, stop := firstRun(left)
		clear(sums[from:stop])
		clear(weights[from:stop])
		left &^= low(stop-from) << from
	}
	stride := int(src.Cols())
	for i, w := range r.down {
		row := at + i*stride
		addWord(sums, weights, src.Values[row:row+n], load(src.Valid, row, n)&some, w)
	}
	for left := some; left != 0; left &= left - 1 {
		// A cell that is missing may have no weight.
		if i := bits.TrailingZeros64(left); weights[i] == r.alls[0] {
			whole |= 1 << i
		}
	}
	return whole
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
