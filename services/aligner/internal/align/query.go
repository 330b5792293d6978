package align

import (
	"math"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/pixelsql"
)

// Query writes the SQL that gives x, y and value of a layer on a lattice, the
// shift applied. bounds, if not nil, takes the cells whose centre has
// min_x <= x < max_x and min_y <= y < max_y; else all cells are taken. Where
// longitudes turn, x counts as in the bounds, else as in the window that holds
// the reference and the layer.
//
// Errors: Invalid INVALID_ARGUMENT for bounds that are none; Precondition
// CRS_MISMATCH or RESIDUAL_TOO_LARGE, Range DISJOINT, and those of
// pixelsql.AlignedCells.
func Query(l layer.Layer, lattice Lattice, bounds *grid.Bounds) (pixelsql.Query, Relation, error) {
	if err := l.CheckReadable(); err != nil {
		return pixelsql.Query{}, Relation{}, err
	}
	r := Relate([]layer.Layer{l}, lattice)[0]
	if err := CheckMergeable(l, r, lattice); err != nil {
		return pixelsql.Query{}, r, err
	}
	ref := lattice.Grid()
	whole, err := grid.Relate(ref, ref, lattice.tolerance)
	if err != nil {
		return pixelsql.Query{}, r, err
	}
	window := grid.UnionWindow(ref, []grid.Placed{{Grid: ref, Relation: whole}, {Grid: l.Grid, Relation: r.Relation}})
	if bounds != nil {
		if err := checkBounds(*bounds); err != nil {
			return pixelsql.Query{}, r, err
		}
		window = ref.CellsIn(*bounds)
		if r.TurnCols > 0 {
			window.ColStop = min(window.ColStop, window.ColStart+r.TurnCols) // each longitude once
		}
	}
	place := r.Place(l.Grid, window)
	if place.Empty() {
		return pixelsql.Query{}, r, fault.New(fault.Range, fault.Disjoint,
			"layer %q has no cell in the bounds x %v … %v, y %v … %v", l.Name, bounds.MinX, bounds.MaxX, bounds.MinY, bounds.MaxY).
			With("layer", l.Name)
	}
	q, err := pixelsql.AlignedCells(l, ref, place)
	return q, r, err
}

func checkBounds(b grid.Bounds) error {
	for _, side := range []struct {
		name  string
		value float64
	}{{"min_x", b.MinX}, {"min_y", b.MinY}, {"max_x", b.MaxX}, {"max_y", b.MaxY}} {
		if math.IsNaN(side.value) || math.Abs(side.value) > grid.MaxCoordinate {
			return fault.New(fault.Invalid, fault.InvalidArgument, "bounds: %s is %v, and must be a number between -1e15 and 1e15",
				side.name, side.value).With("field", "bounds."+side.name).With("value", side.value)
		}
	}
	if b.MinX >= b.MaxX {
		return fault.New(fault.Invalid, fault.InvalidArgument, "bounds: min_x %v is not below max_x %v", b.MinX, b.MaxX).
			With("field", "bounds.min_x").With("value", b.MinX)
	}
	if b.MinY >= b.MaxY {
		return fault.New(fault.Invalid, fault.InvalidArgument, "bounds: min_y %v is not below max_y %v", b.MinY, b.MaxY).
			With("field", "bounds.min_y").With("value", b.MinY)
	}
	return nil
}

// CheckMergeable returns nil when the layer's cells can be placed on the
// lattice. Errors: Precondition CRS_MISMATCH with both systems, Precondition
// RESIDUAL_TOO_LARGE with axis, measured value and limit, Range DISJOINT.
func CheckMergeable(l layer.Layer, r Relation, lattice Lattice) error {
	if r.Verdict.Mergeable() {
		return nil
	}
	var f *fault.Error
	switch r.Verdict {
	case grid.VerdictReproject:
		f = fault.New(fault.Precondition, fault.CRSMismatch, "layer %q: %s", l.Name, r.Explanation).
			With("crs", grid.ParseCRS(l.Grid.CRS)).With("reference_crs", grid.ParseCRS(lattice.Grid().CRS))
	case grid.VerdictDisjoint:
		f = fault.New(fault.Range, fault.Disjoint, "layer %q: %s", l.Name, r.Explanation)
	default:
		axis, residual := "x", r.ResidualPixels.X
		if r.ResidualPixels.Y > residual {
			axis, residual = "y", r.ResidualPixels.Y
		}
		f = fault.New(fault.Precondition, fault.ResidualTooLarge, "layer %q: %s", l.Name, r.Explanation).
			With("axis", axis).With("residual_pixels", residual).With("limit", lattice.tolerance)
	}
	return f.With("layer", l.Name)
}
