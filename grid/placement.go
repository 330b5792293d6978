package grid

import (
	"cmp"
	"math"
	"slices"
)

// Window gives the rows and columns of the reference lattice that a layer of
// that grid covers, not taken modulo a turn of longitude.
func (r Relation) Window(src Grid) Window {
	return Window{
		RowStart: r.OffsetRows, RowStop: r.OffsetRows + int64(src.Rows),
		ColStart: r.OffsetCols, ColStop: r.OffsetCols + int64(src.Cols),
	}
}

// Placement says where the cells of a layer land in a window of the reference
// lattice: cell (row, col) of the layer lands on row row + RowShift of the
// lattice, and on the column that the segment holding col says. Cells outside
// [RowStart, RowStop) and of no segment do not land.
type Placement struct {
	// RowStart and RowStop are the layer's rows that land.
	RowStart, RowStop int64
	// RowShift takes a row of the layer to its row of the lattice.
	RowShift int64
	// Segments are the layer's columns that land, west to east on the lattice.
	// They overlap neither on the layer nor on the lattice. There is more than
	// one where the layer crosses the window's edge by longitude.
	Segments []Segment
}

// Segment is a run of a layer's columns that land side by side.
type Segment struct {
	// SrcStart and SrcStop are columns of the layer, half-open.
	SrcStart, SrcStop int64
	// DstStart is the column of the lattice on which SrcStart lands.
	DstStart int64
}

// Cols is the number of columns of the segment.
func (s Segment) Cols() int64 { return s.SrcStop - s.SrcStart }

// Empty reports whether no cell lands.
func (p Placement) Empty() bool { return p.RowStop <= p.RowStart || len(p.Segments) == 0 }

// Place says where the cells of a layer with that grid land in a window of the
// reference lattice. The relation must be mergeable. Where columns are taken
// modulo a turn (TurnCols > 0), a window wider than a turn is filled once, from
// its west edge; of a layer wider than a turn, the columns past the first turn
// would land on its own first ones, and do not land at all.
func (r Relation) Place(src Grid, w Window) Placement {
	p := Placement{
		RowStart: max(0, w.RowStart-r.OffsetRows),
		RowStop:  min(int64(src.Rows), w.RowStop-r.OffsetRows),
		RowShift: r.OffsetRows,
	}
	if p.RowStop <= p.RowStart || w.Cols() == 0 {
		return Placement{}
	}
	start, cols := r.OffsetCols, int64(src.Cols)
	if r.TurnCols == 0 {
		p.Segments = landing(p.Segments, start, cols, w.ColStart, w.ColStop)
	} else {
		stop := min(w.ColStop, w.ColStart+r.TurnCols)
		cols = min(cols, r.TurnCols)
		// Put the first column inside the turn that begins at the window's west
		// edge. The rest of the layer then lies in this turn and the next, and
		// the next lands in the west of the window.
		start = w.ColStart + floorMod(start-w.ColStart, r.TurnCols)
		p.Segments = landing(p.Segments, start-r.TurnCols, cols, w.ColStart, stop)
		p.Segments = landing(p.Segments, start, cols, w.ColStart, stop)
	}
	if len(p.Segments) == 0 {
		return Placement{}
	}
	return p
}

// landing appends what a layer's first cols columns, column 0 on start, have in
// [lo, hi).
func landing(segments []Segment, start, cols, lo, hi int64) []Segment {
	from, to := max(start, lo), min(start+cols, hi)
	if from >= to {
		return segments
	}
	return append(segments, Segment{SrcStart: from - start, SrcStop: to - start, DstStart: from})
}

// Placed is a layer's grid and its relation to the reference. All relations
// that are handed over together must be mergeable, and to one reference.
type Placed struct {
	Grid     Grid
	Relation Relation
}

// UnionWindow is the smallest window of ref's lattice that holds every layer;
// the zero Window without layers. Where columns are taken modulo a turn it is
// never wider than a turn: if the layers together go round the globe it begins
// at ref's west edge, else it begins after the widest gap between them.
func UnionWindow(ref Grid, layers []Placed) Window {
	if len(layers) == 0 {
		return Window{}
	}
	w := layers[0].Relation.Window(layers[0].Grid)
	for _, l := range layers[1:] {
		w = w.Union(l.Relation.Window(l.Grid))
	}
	turn := layers[0].Relation.TurnCols
	if turn == 0 {
		return w
	}
	runs := coverage(layers, turn, 1)
	if runs[0].cols == turn {
		w.ColStart, w.ColStop = 0, turn
		return w
	}
	// The union is what lies outside the widest gap.
	var widest, after int64
	for i, run := range runs {
		next := runs[(i+1)%len(runs)].start
		if gap := floorMod(next-run.start-run.cols, turn); gap > widest {
			widest, after = gap, next
		}
	}
	w.ColStart, w.ColStop = towards(ref, arc{start: after, cols: turn - widest}, turn)
	return w
}

// IntersectionWindow is the largest window of ref's lattice that every layer
// covers, the zero Window if none. Where columns are taken modulo a turn,
// layers may meet in several places round the globe: the widest counts, the
// first to the east of ref's west edge at a tie.
func IntersectionWindow(ref Grid, layers []Placed) Window {
	if len(layers) == 0 {
		return Window{}
	}
	first := layers[0].Relation.Window(layers[0].Grid)
	w := first
	for _, l := range layers[1:] {
		o := l.Relation.Window(l.Grid)
		w.RowStart, w.RowStop = max(w.RowStart, o.RowStart), min(w.RowStop, o.RowStop)
		w.ColStart, w.ColStop = max(w.ColStart, o.ColStart), min(w.ColStop, o.ColStop)
	}
	if turn := layers[0].Relation.TurnCols; turn > 0 {
		var widest arc
		for _, run := range coverage(layers, turn, len(layers)) {
			if run.cols > widest.cols {
				widest = run
			}
		}
		w.ColStart, w.ColStop = 0, widest.cols
		if widest.cols < turn {
			w.ColStart, w.ColStop = towards(ref, widest, turn)
		}
	}
	if w.Empty() {
		return Window{}
	}
	return w
}

// CellsIn is the window of the lattice whose cell centres lie in the box:
// min_x <= x < max_x and min_y <= y < max_y, by the very coordinates that X and
// Y give. It may reach outside the grid. Infinite edges are allowed, NaN is an
// empty box.
func (g Grid) CellsIn(b Bounds) Window {
	if math.IsNaN(b.MinX) || math.IsNaN(b.MaxX) || math.IsNaN(b.MinY) || math.IsNaN(b.MaxY) {
		return Window{}
	}
	// Y falls as rows grow, so its half-open end is the north one: the first
	// row is the first with y < max_y, the last the last with y >= min_y.
	w := Window{
		ColStart: firstIndex((b.MinX-g.OriginX)/g.StepX, func(c int64) bool { return g.X(c) >= b.MinX }),
		ColStop:  firstIndex((b.MaxX-g.OriginX)/g.StepX, func(c int64) bool { return g.X(c) >= b.MaxX }),
		RowStart: firstIndex((g.OriginY-b.MaxY)/g.StepY, func(r int64) bool { return g.Y(r) < b.MaxY }),
		RowStop:  firstIndex((g.OriginY-b.MinY)/g.StepY, func(r int64) bool { return g.Y(r) < b.MinY }),
	}
	if w.Empty() {
		return Window{}
	}
	return w
}

// firstIndex is the first index for which holds is true, near guess, at most a
// few sides of the largest grid away from the origin.
func firstIndex(guess float64, holds func(int64) bool) int64 {
	const farthest = 4 * MaxSide
	if guess >= farthest {
		return farthest
	}
	if guess <= -farthest {
		return -farthest
	}
	i := int64(guess)
	for holds(i - 1) {
		i--
	}
	for !holds(i) {
		i++
	}
	return i
}

// arc is a run of columns on the globe, start in [0, turn).
type arc struct {
	start, cols int64
}

// coverage gives the longest runs of columns that at least need of the layers
// cover, round a globe of turn columns, by their start. A run that goes all
// round is one arc of turn columns.
func coverage(layers []Placed, turn int64, need int) []arc {
	type edge struct {
		col   int64
		delta int
	}
	covering := 0 // at column 0
	edges := make([]edge, 0, 2*len(layers)+1)
	for _, l := range layers {
		cols := int64(l.Grid.Cols)
		if cols >= turn {
			covering++
			continue
		}
		start := floorMod(l.Relation.OffsetCols, turn)
		stop := start + cols
		if stop > turn {
			covering++
			stop -= turn
		}
		edges = append(edges, edge{start, +1}, edge{stop, -1})
	}
	edges = append(edges, edge{turn, 0})
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Compare(a.col, b.col) })

	var runs []arc
	from := int64(0)
	for i, e := range edges {
		if e.col > from && covering >= need {
			if n := len(runs); n > 0 && runs[n-1].start+runs[n-1].cols == from {
				runs[n-1].cols += e.col - from
			} else {
				runs = append(runs, arc{start: from, cols: e.col - from})
			}
		}
		from = e.col
		covering += edges[i].delta
	}
	// A run across column 0 was cut there.
	if n := len(runs); n > 1 && runs[0].start == 0 && runs[n-1].start+runs[n-1].cols == turn {
		runs[n-1].cols += runs[0].cols
		runs = runs[1:]
	}
	return runs
}

// towards gives the columns of an arc, put on the turn on which it has the most
// in common with ref; the eastern one at a tie.
func towards(ref Grid, a arc, turn int64) (start, stop int64) {
	common := func(start int64) int64 { return min(start+a.cols, int64(ref.Cols)) - max(start, 0) }
	start = a.start
	if common(start-turn) > common(start) {
		start -= turn
	}
	return start, start + a.cols
}

// floorMod is a modulo n in [0, n).
func floorMod(a, n int64) int64 {
	if a %= n; a < 0 {
		a += n
	}
	return a
}
