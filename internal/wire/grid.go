package wire

import (
	"github.com/rasterloom/rasterloom/fault"
	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	"github.com/rasterloom/rasterloom/grid"
)

// FromGrid reads a grid of the contract and validates it. Errors: Invalid
// INVALID_GRID.
func FromGrid(p *gridv1.Grid) (grid.Grid, error) {
	if p == nil {
		return grid.Grid{}, fault.New(fault.Invalid, fault.InvalidGrid, "no grid given").With("field", "grid")
	}
	for _, side := range []struct {
		name  string
		value int64
	}{{"rows", p.GetRows()}, {"cols", p.GetCols()}} {
		// Before int: it may be narrower.
		if side.value < 1 || side.value > grid.MaxSide {
			return grid.Grid{}, fault.New(fault.Invalid, fault.InvalidGrid, "%s is %d, and must be between 1 and %d",
				side.name, side.value, grid.MaxSide).With("field", side.name).With("value", side.value)
		}
	}
	g := grid.Grid{
		CRS: p.GetCrs(), Rows: int(p.GetRows()), Cols: int(p.GetCols()),
		OriginX: p.GetOriginX(), OriginY: p.GetOriginY(), StepX: p.GetStepX(), StepY: p.GetStepY(),
	}
	return g, g.Validate()
}

// ToGrid writes a grid for the contract.
func ToGrid(g grid.Grid) *gridv1.Grid {
	return &gridv1.Grid{
		Crs: g.CRS, Rows: int64(g.Rows), Cols: int64(g.Cols),
		OriginX: g.OriginX, OriginY: g.OriginY, StepX: g.StepX, StepY: g.StepY,
	}
}

// FromWindow reads a window.
func FromWindow(p *gridv1.Window) grid.Window {
	return grid.Window{
		RowStart: p.GetRowStart(), RowStop: p.GetRowStop(),
		ColStart: p.GetColStart(), ColStop: p.GetColStop(),
	}
}

// ToWindow writes a window.
func ToWindow(w grid.Window) *gridv1.Window {
	return &gridv1.Window{RowStart: w.RowStart, RowStop: w.RowStop, ColStart: w.ColStart, ColStop: w.ColStop}
}

// FromBounds reads a box.
func FromBounds(p *gridv1.Bounds) grid.Bounds {
	return grid.Bounds{MinX: p.GetMinX(), MinY: p.GetMinY(), MaxX: p.GetMaxX(), MaxY: p.GetMaxY()}
}

var registrations = map[grid.Registration]gridv1.Registration{
	grid.RegistrationUnknown:   gridv1.Registration_REGISTRATION_UNSPECIFIED,
	grid.RegistrationCenter:    gridv1.Registration_REGISTRATION_CENTER,
	grid.RegistrationUpperLeft: gridv1.Registration_REGISTRATION_UPPER_LEFT,
}

func fromRegistration(p gridv1.Registration) grid.Registration {
	for k, v := range registrations {
		if v == p {
			return k
		}
	}
	return grid.RegistrationUnknown
}
