package resample

import (
	"math"

	"github.com/rasterloom/rasterloom/grid"
)

// taps are the cells of the layer that each column of the window takes, as many
// for all columns: those with fewer have weights of zero at the end.
type taps struct {
	stride int
	// first is the place of the first tap in the buffer of sums (see columns).
	first []int32
	// weights has stride weights for each column; 0 for a cell that the layer
	// does not have.
	weights []float64
	// total is the sum of each column's weights.
	total []float64
}

// columns are the columns of a kernel, worked out once.
//
// Rows of the layer are summed into a buffer that has the columns of the source
// window at lead. The room on both sides stays zero or, where longitudes go on,
// repeats what lies a turn away.
type columns struct {
	taps taps
	// linear are the taps that cubic falls back on, and area those that shares
	// of area are measured by; empty where not needed.
	linear, area taps
	// under are the columns of the source window that taps stand for, for
	// methods that pick: stride for each column of the window. Where the layer
	// does not have the cell another one of the same column stands in; -1 where
	// there is none at all.
	under []int32
	// near is the column of the source window that holds the centre of each
	// column of the window, -1 for none.
	near []int32
	// some has a bit for each column of the window that can have a value.
	some []uint64
	// whole has a bit for each column of the window whose cubic taps all exist,
	// and innerStart to innerStop is the longest run of them.
	whole                 []uint64
	innerStart, innerStop int
	// source has the columns of the source window; its rows are not set.
	source grid.Window
	// segments are those that the layer has.
	segments []grid.Segment
	// lead and width are where the source window lies in the buffer, and reach
	// is the buffer's size.
	lead, width, reach int
	// repeats are what to copy within the buffer.
	repeats []repeat
}

// repeat says to copy n sums.
type repeat struct{ from, to, n int }

// layColumns works the columns out.
func (k *Kernel) layColumns() {
	n := int(k.window.Cols())
	k.near, k.some = make([]int32, n), make([]uint64, words(n))
	for j := range k.near {
		k.near[j] = -1
	}
	forms := []form{k.form}
	if k.form == formCubic {
		forms = append(forms, formLinear)
	}
	if k.minShare > 0 {
		forms = append(forms, formArea)
	}
	lo, hi, widest := int64(math.MaxInt64), int64(math.MinInt64), int64(1)
	for j := range n {
		for _, f := range forms {
			if start, stop := k.existing(f, j); start < stop {
				lo, hi = min(lo, start), max(hi, stop)
			}
			start, stop := k.x.span(f, k.window.ColStart+int64(j))
			widest = max(widest, stop-start)
		}
	}
	if lo >= hi {
		return
	}
	k.width = int(hi - lo)
	if k.x.turn > 0 {
		k.width = int(min(hi-lo, k.x.turn))
	}
	k.source.ColStart, k.source.ColStop = lo, lo+int64(k.width)
	// A tap that exists may be the last of the widest, and the first.
	k.lead, k.reach = int(widest), int(hi-lo+2*widest)
	k.laySegments()
	k.layRepeats()
	k.layNear()
	if k.minShare > 0 {
		k.area = k.layTaps(formArea)
	}
	if k.method == Nearest {
		return
	}
	k.taps = k.layTaps(k.form)
	switch k.method {
	case Mode, Min, Max:
		k.layUnder()
	case Cubic:
		if k.form == formCubic {
			k.linear = k.layTaps(formLinear)
			k.layWhole()
		}
	}
	if !k.method.byCentre() {
		for j, total := range k.taps.total {
			if total > 0 {
				set(k.some, j)
			}
		}
	}
}

// existing is the span of column j of the window without the cells at its ends
// that the layer does not have.
func (k *Kernel) existing(f form, j int) (lo, hi int64) {
	lo, hi = k.x.span(f, k.window.ColStart+int64(j))
	if k.x.turn == 0 {
		return max(lo, 0), min(hi, k.x.cells)
	}
	for lo < hi && !k.x.exists(lo) {
		lo++
	}
	for lo < hi && !k.x.exists(hi-1) {
		hi--
	}
	return lo, hi
}

// laySegments finds the runs of columns of the source window that the layer has.
func (k *Kernel) laySegments() {
	for c := k.source.ColStart; c < k.source.ColStop; {
		if !k.x.exists(c) {
			c++
			continue
		}
		src := c
		if k.x.turn > 0 {
			src = floorMod(c, k.x.turn)
		}
		n := min(k.x.cells-src, k.source.ColStop-c)
		k.segments = append(k.segments, grid.Segment{SrcStart: src, SrcStop: src + n, DstStart: c})
		c += n
	}
}

// layRepeats finds what of the buffer lies a turn away from the source window.
func (k *Kernel) layRepeats() {
	if k.x.turn == 0 {
		return
	}
	for place := range k.reach {
		if place >= k.lead && place < k.lead+k.width {
			continue
		}
		column := k.column(place)
		if column < 0 {
			continue
		}
		from := k.lead + column
		if n := len(k.repeats); n > 0 {
			if last := &k.repeats[n-1]; last.to+last.n == place && last.from+last.n == from {
				last.n++
				continue
			}
		}
		k.repeats = append(k.repeats, repeat{from: from, to: place, n: 1})
	}
}

// column is the column of the source window at a place of the buffer, -1 where
// the layer has none.
func (k *Kernel) column(place int) int {
	c := int64(place - k.lead)
	if k.x.turn > 0 {
		c = floorMod(c, k.x.turn)
	}
	if c < 0 || c >= int64(k.width) || !k.x.exists(k.source.ColStart+c) {
		return -1
	}
	return int(c)
}

func (k *Kernel) layNear() {
	for j := range k.near {
		cell, ok := k.x.holder(k.window.ColStart + int64(j))
		if !ok {
			continue
		}
		if c := k.column(int(cell-k.source.ColStart) + k.lead); c >= 0 {
			k.near[j] = int32(c)
			if k.method.byCentre() {
				set(k.some, j)
			}
		}
	}
}

func (k *Kernel) layTaps(f form) taps {
	n := int(k.window.Cols())
	t := taps{first: make([]int32, n), total: make([]float64, n)}
	for j := range n {
		lo, hi := k.x.span(f, k.window.ColStart+int64(j))
		t.stride = max(t.stride, int(hi-lo))
	}
	t.weights = make([]float64, 0, n*t.stride)
	origin := k.source.ColStart - int64(k.lead)
	for j := range n {
		if lo, hi := k.existing(f, j); lo < hi {
			i := k.window.ColStart + int64(j)
			lo, _ = k.x.span(f, i)
			t.first[j] = int32(lo - origin)
			t.weights, t.total[j] = k.x.weigh(f, i, t.weights)
		}
		t.weights = append(t.weights, make([]float64, (j+1)*t.stride-len(t.weights))...)
	}
	return t
}

func (k *Kernel) layUnder() {
	k.under = make([]int32, len(k.taps.weights))
	for j, first := range k.taps.first {
		part := k.under[j*k.taps.stride:][:k.taps.stride]
		stand := int32(-1)
		for i := range part {
			part[i] = -1
			if k.taps.weights[j*k.taps.stride+i] > 0 {
				part[i] = int32(k.column(int(first) + i))
				stand = part[i]
			}
		}
		for i := range part {
			if part[i] < 0 {
				part[i] = stand
			}
		}
	}
}

func (k *Kernel) layWhole() {
	n := len(k.near)
	k.whole = make([]uint64, words(n))
	start := 0
	for j := range n {
		lo, hi := k.x.span(formCubic, k.window.ColStart+int64(j))
		whole := true
		for c := lo; c < hi; c++ {
			whole = whole && k.x.exists(c)
		}
		if !whole {
			start = j + 1
			continue
		}
		set(k.whole, j)
		if j+1-start > k.innerStop-k.innerStart {
			k.innerStart, k.innerStop = start, j+1
		}
	}
}
