package resample

import (
	"math"
	"sort"

	"github.com/rasterloom/rasterloom/grid"
)

// Footprint is the part of the lattice ref on which a layer with the grid src
// can have values by a method: cells whose centre lies on the layer for
// nearest, bilinear and cubic, cells that it covers any part of for the others.
// It is given as what lies on just these cells, placed as r places the layer,
// so that extents are those of layers that need no resampling. ok is false
// where there is no such cell. Both grids are valid and of one CRS.
func Footprint(method Method, src, ref grid.Grid, r grid.Relation) (placed grid.Placed, ok bool) {
	turned := src
	turned.OriginX += 360 * float64(r.LongitudeTurns)
	x, y := newAxisX(turned, ref, false, 0), newAxisY(src, ref)
	colStart, colStop := x.footprint(method)
	rowStart, rowStop := y.footprint(method)
	if r.TurnCols > 0 {
		round := newAxisX(src, ref, true, 0)
		if round.turn > 0 && round.cells == round.turn {
			// The layer closes round the globe, whatever is lacking to a turn.
			colStop = max(colStop, colStart+r.TurnCols)
		}
		colStop = min(colStop, colStart+r.TurnCols)
	}
	if colStart >= colStop || rowStart >= rowStop {
		return grid.Placed{}, false
	}
	cells := ref
	cells.Rows, cells.Cols = int(rowStop-rowStart), int(colStop-colStart)
	return grid.Placed{
		Grid: cells,
		Relation: grid.Relation{
			Verdict: grid.VerdictAligned, OffsetRows: rowStart, OffsetCols: colStart, TurnCols: r.TurnCols,
		},
	}, true
}

// footprint is the range of cells of the lattice that can have a value.
func (a axis) footprint(m Method) (start, stop int64) {
	if m.byCentre() {
		return a.first(func(i int64) bool { return a.centre(i) >= 0 }),
			a.first(func(i int64) bool { return a.centre(i) >= float64(a.cells) })
	}
	return a.first(func(i int64) bool { _, right := a.edges(i); return right > 0 }),
		a.first(func(i int64) bool { left, _ := a.edges(i); return left >= float64(a.cells) })
}

// first is the first cell of the lattice for which holds is true, as it then is
// for all after it.
func (a axis) first(holds func(int64) bool) int64 {
	const farthest = 4 * grid.MaxSide
	return int64(sort.Search(2*farthest, func(i int) bool { return holds(int64(i) - farthest) })) - farthest
}

// NextRow is the first row of the kernel's window, at or after row, that may
// take the layer's row src or one south of it; the end of the window if there
// is none.
func (k *Kernel) NextRow(row, src int64) int64 {
	row = max(row, k.window.RowStart)
	return row + int64(sort.Search(int(max(0, k.window.RowStop-row)), func(i int) bool {
		_, hi := k.rowsUnder(row + int64(i))
		return hi > src
	}))
}

// TableBytes is about what a kernel for a window so many columns wide would
// hold: MemoryBytes, before there is one.
func TableBytes(method Method, src, ref grid.Grid, cols int64, minShare float64) int64 {
	ratio := math.Max(1, ref.StepX/src.StepX)
	stride := 0.
	switch method {
	case Nearest:
	case Cubic:
		stride = 4*ratio + 4
	case Bilinear:
		stride = 2*ratio + 2
	default:
		stride = 1.5 * (ratio + 2)
	}
	if minShare > 0 {
		stride += ratio + 2
	}
	size := float64(cols)*(64+8*stride) + 16*(float64(cols)*ref.StepX/src.StepX+6*ratio)
	return int64(math.Min(size, math.MaxInt64/2))
}

// Landing says which cells of the kernel's window can have a value, as the
// placement of something that has just these cells: rows and columns are those
// of the lattice. A least share of area is not looked at. turn is the columns
// of the lattice in a turn of longitude, 0 where they are not taken modulo
// anything: of a window that is wider, only the first turn is filled.
func (k *Kernel) Landing(turn int64) grid.Placement {
	start, stop := k.y.footprint(k.method)
	p := grid.Placement{RowStart: max(start, k.window.RowStart), RowStop: min(stop, k.window.RowStop)}
	cols := k.window.Cols()
	if turn > 0 {
		cols = min(cols, turn)
	}
	for j := range cols {
		if !has(k.some, int(j)) {
			continue
		}
		col := k.window.ColStart + j
		if n := len(p.Segments); n > 0 && p.Segments[n-1].SrcStop == col {
			p.Segments[n-1].SrcStop++
			continue
		}
		p.Segments = append(p.Segments, grid.Segment{SrcStart: col, SrcStop: col + 1, DstStart: col})
	}
	if p.Empty() {
		return grid.Placement{}
	}
	return p
}
