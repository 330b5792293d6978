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
	if err := checkSides(p.GetRows(), p.GetCols()); err != nil {
		return grid.Grid{}, err
	}
	g := grid.Grid{
		CRS: p.GetCrs(), Rows: int(p.GetRows()), Cols: int(p.GetCols()),
		OriginX: p.GetOriginX(), OriginY: p.GetOriginY(), StepX: p.GetStepX(), StepY: p.GetStepY(),
	}
	return g, g.Validate()
}

// FromExtent reads a grid that is told by a box and its shape or resolution. When
// both are given they must agree. Errors: Invalid INVALID_GRID.
func FromExtent(p *gridv1.Extent) (grid.Grid, error) {
	if n := len(p.GetBounds()); n != 4 {
		return grid.Grid{}, fault.New(fault.Invalid, fault.InvalidGrid, "bounds has %d numbers, and must have 4: min_x, min_y, max_x, max_y", n).
			With("field", "bounds").With("value", n)
	}
	b := grid.Bounds{MinX: p.Bounds[0], MinY: p.Bounds[1], MaxX: p.Bounds[2], MaxY: p.Bounds[3]}
	if p.Resolution != nil {
		g, err := grid.FromResolution(p.GetCrs(), b, p.GetResolution())
		if err != nil || p.GetRows() == 0 && p.GetCols() == 0 || int64(g.Rows) == p.GetRows() && int64(g.Cols) == p.GetCols() {
			return g, err
		}
		return grid.Grid{}, fault.New(fault.Invalid, fault.InvalidGrid,
			"bounds and resolution %v give %d × %d cells (rows × cols), and the request says %d × %d",
			p.GetResolution(), g.Rows, g.Cols, p.GetRows(), p.GetCols()).With("field", "resolution").With("value", p.GetResolution())
	}
	if err := checkSides(p.GetRows(), p.GetCols()); err != nil {
		return grid.Grid{}, err
	}
	return grid.FromBounds(p.GetCrs(), b, int(p.GetRows()), int(p.GetCols()))
}

// checkSides checks a shape before it becomes an int, which may be narrower.
func checkSides(rows, cols int64) error {
	for _, side := range []struct {
		name  string
		value int64
	}{{"rows", rows}, {"cols", cols}} {
		if side.value < 1 || side.value > grid.MaxSide {
			return fault.New(fault.Invalid, fault.InvalidGrid, "%s is %d, and must be between 1 and %d",
				side.name, side.value, grid.MaxSide).With("field", side.name).With("value", side.value)
		}
	}
	return nil
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

// FromRegistration reads a registration.
func FromRegistration(p gridv1.Registration) grid.Registration {
	for k, v := range registrations {
		if v == p {
			return k
		}
	}
	return grid.RegistrationUnknown
}
