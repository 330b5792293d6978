package merge

import (
	"fmt"
	"math"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
)

// ExtentRule takes a part of the lattice by the layers' extents.
type ExtentRule uint8

// The rules.
const (
	ExtentUnion ExtentRule = iota
	ExtentIntersection
	ExtentReference
)

// WindowByRule is the window that a rule gives for layers on a lattice. It is
// empty where an intersection is.
func WindowByRule(lattice grid.Grid, rule ExtentRule, layers []grid.Placed) grid.Window {
	switch rule {
	case ExtentIntersection:
		return grid.IntersectionWindow(lattice, layers)
	case ExtentReference:
		return lattice.Window()
	default:
		return grid.UnionWindow(lattice, layers)
	}
}

// WindowOfBounds is the window of the box for a merge of these layers: where a
// cell without any value is no row, the box is cut down to what the layers
// cover, so that a generous box costs nothing. Errors: as the function of that
// name, and Range DISJOINT where no cell is left.
func (p *Plan) WindowOfBounds(b grid.Bounds, layers []grid.Placed) (grid.Window, error) {
	w, err := WindowOfBounds(p.Lattice, b)
	if err != nil {
		return w, err
	}
	union := grid.UnionWindow(p.Lattice, layers)
	cut := w
	if p.Keep != KeepEvery {
		cut = p.cut(w, union, layers)
	}
	if !cut.Empty() {
		return cut, nil
	}
	edges := func(b grid.Bounds) string {
		return fmt.Sprintf("%v to %v on x and %v to %v on y", b.MinX, b.MaxX, b.MinY, b.MaxY)
	}
	covered := p.boundsOf(union)
	refused := fault.New(fault.Range, fault.Disjoint, "the box asked for, %s, has no cell of the layers, which cover %s", edges(b), edges(covered))
	if w.Empty() {
		refused = fault.New(fault.Range, fault.Disjoint, "the box asked for, %s, holds the centre of no cell: cells are %v by %v",
			edges(b), p.Lattice.StepX, p.Lattice.StepY)
	}
	return w, refused.With("field", "extent.bounds").With("box", edges(b)).With("covered", edges(covered))
}

// boundsOf are the outer edges of a window of the lattice.
func (p *Plan) boundsOf(w grid.Window) grid.Bounds {
	l := p.Lattice
	return grid.Bounds{
		MinX: l.OriginX + float64(float64(w.ColStart)*l.StepX), MaxX: l.OriginX + float64(float64(w.ColStop)*l.StepX),
		MinY: l.OriginY - float64(float64(w.RowStop)*l.StepY), MaxY: l.OriginY - float64(float64(w.RowStart)*l.StepY),
	}
}

// cut is the part of the window that the layers, within union, can have cells in.
func (p *Plan) cut(w, union grid.Window, layers []grid.Placed) grid.Window {
	turn := int64(0)
	for _, l := range layers {
		turn = l.Relation.TurnCols
	}
	if turn == 0 {
		return w.Intersect(union)
	}
	// The box may name the same longitudes a turn away, so only its width can
	// be cut.
	w.RowStart, w.RowStop = max(w.RowStart, union.RowStart), min(w.RowStop, union.RowStop)
	w.ColStop = min(w.ColStop, w.ColStart+turn)
	return w
}

// WindowOfBounds is the window of the cells whose centre has min_x <= x < max_x
// and min_y <= y < max_y. It may reach outside of the lattice, and may be
// empty. Errors: Invalid INVALID_ARGUMENT for a box that is none.
func WindowOfBounds(lattice grid.Grid, b grid.Bounds) (grid.Window, error) {
	for _, side := range []struct {
		name  string
		value float64
	}{{"min_x", b.MinX}, {"min_y", b.MinY}, {"max_x", b.MaxX}, {"max_y", b.MaxY}} {
		if math.IsNaN(side.value) || math.Abs(side.value) > grid.MaxCoordinate {
			return grid.Window{}, fault.New(fault.Invalid, fault.InvalidArgument,
				"extent: %s is %v, and must be a number between -1e15 and 1e15", side.name, side.value).
				With("field", "extent.bounds."+side.name).With("value", side.value)
		}
	}
	if b.MinX >= b.MaxX || b.MinY >= b.MaxY {
		return grid.Window{}, fault.New(fault.Invalid, fault.InvalidArgument,
			"extent: the box from %v, %v to %v, %v has no inside", b.MinX, b.MinY, b.MaxX, b.MaxY).With("field", "extent.bounds")
	}
	return lattice.CellsIn(b), nil
}
