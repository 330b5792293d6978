// Package grid is the domain: lattices of equal cells, and how they relate.
//
// Axis order is the same everywhere: (row, col) for indices, row 0 in the north
// and col 0 in the west; (x, y) for coordinates of the CRS, x to the east and y
// to the north, whatever axis order the authority of the CRS defines. Ranges
// are half-open. The package is pure: no clock, no I/O, no context; the same
// input gives the same answer, to the last bit.
package grid

import (
	"math"

	"github.com/rasterloom/rasterloom/fault"
)

// Limits on grids. They keep every index exact as int32 and float64, and every
// cell centre distinct from its neighbours.
const (
	// MaxSide is the largest number of rows or columns.
	MaxSide = math.MaxInt32
	// MaxCells is the largest number of cells: above it a count is no longer
	// exact as float64.
	MaxCells = 1 << 53
	// MinStep is the smallest step in units of the CRS.
	MinStep = 1e-12
	// MaxCoordinate is the largest absolute coordinate.
	MaxCoordinate = 1e15
	// maxUlpPixels is the largest rounding step of a coordinate, in pixels,
	// that a grid may have at its far edge. Above it, positions are noise.
	maxUlpPixels = 1e-3
	// maxPartialCell is how far the number of cells that a resolution gives for a
	// box may be from a whole one: room for a resolution written in some decimals.
	maxPartialCell = 0.01
)

// Grid is a north-up lattice of equal cells. It is a value: immutable and
// comparable. The zero Grid is not valid.
type Grid struct {
	// CRS is the coordinate reference system as stored: an authority code, WKT
	// or PROJJSON. Compare with SameCRS, never as text.
	CRS string
	// Rows and Cols are the shape.
	Rows, Cols int
	// OriginX and OriginY are the outer (north-west) corner of cell (0, 0).
	OriginX, OriginY float64
	// StepX and StepY are the size of a cell in units of the CRS, both > 0.
	StepX, StepY float64
}

// FromBounds makes the grid of a box cut into rows × cols cells. The steps come
// from the box and the shape. Errors: Invalid INVALID_GRID, naming the field.
func FromBounds(crs string, b Bounds, rows, cols int) (Grid, error) {
	for _, f := range []struct {
		name  string
		value float64
	}{{"min_x", b.MinX}, {"min_y", b.MinY}, {"max_x", b.MaxX}, {"max_y", b.MaxY}} {
		if math.IsNaN(f.value) || math.Abs(f.value) > MaxCoordinate {
			return Grid{}, invalid(f.name, f.value, "bounds: %s is %v, and must be a number between -1e15 and 1e15", f.name, f.value)
		}
	}
	if b.MinX >= b.MaxX {
		return Grid{}, invalid("min_x", b.MinX, "bounds: min_x %v is not below max_x %v", b.MinX, b.MaxX)
	}
	if b.MinY >= b.MaxY {
		return Grid{}, invalid("min_y", b.MinY, "bounds: min_y %v is not below max_y %v", b.MinY, b.MaxY)
	}
	if err := checkShape(rows, cols); err != nil {
		return Grid{}, err
	}
	g := Grid{
		CRS: crs, Rows: rows, Cols: cols,
		OriginX: b.MinX, OriginY: b.MaxY,
		StepX: (b.MaxX - b.MinX) / float64(cols), StepY: (b.MaxY - b.MinY) / float64(rows),
	}
	return g, g.Validate()
}

// FromResolution makes the grid of a box cut into square cells with edges of
// about resolution: the box must be a whole number of them wide and high, to
// within maxPartialCell of a cell. The steps come from the box and that number, so
// that the outer edges are the box's. Errors: Invalid INVALID_GRID, naming the
// field.
func FromResolution(crs string, b Bounds, resolution float64) (Grid, error) {
	if !(resolution >= MinStep) || resolution > MaxCoordinate {
		return Grid{}, invalid("resolution", resolution, "resolution is %v, and must be between %v and 1e15", resolution, MinStep)
	}
	if _, err := FromBounds(crs, b, 1, 1); err != nil {
		return Grid{}, err // the box itself
	}
	var sides [2]int
	for i, f := range []struct {
		name string
		size float64
	}{{"rows", b.MaxY - b.MinY}, {"cols", b.MaxX - b.MinX}} {
		cells := f.size / resolution
		if cells > MaxSide {
			return Grid{}, invalid(f.name, cells, "bounds and resolution %v give %.17g %s, and the limit is %d", resolution, cells, f.name, MaxSide)
		}
		whole := math.Round(cells)
		if whole < 1 || math.Abs(cells-whole) > maxPartialCell {
			return Grid{}, invalid("resolution", resolution,
				"bounds and resolution %v give %.6f %s, which must be a whole number to within %v", resolution, cells, f.name, maxPartialCell)
		}
		sides[i] = int(whole)
	}
	return FromBounds(crs, b, sides[0], sides[1])
}

// Validate checks that the grid is one. Errors: Invalid INVALID_GRID, naming
// the field, the value and the limit.
func (g Grid) Validate() error {
	if err := checkShape(g.Rows, g.Cols); err != nil {
		return err
	}
	for _, f := range []struct {
		name         string
		origin, step float64
		size         int
	}{{"x", g.OriginX, g.StepX, g.Cols}, {"y", g.OriginY, -g.StepY, g.Rows}} {
		if math.IsNaN(f.origin) || math.Abs(f.origin) > MaxCoordinate {
			return invalid("origin_"+f.name, f.origin, "origin_%s is %v, and must be a number between -1e15 and 1e15", f.name, f.origin)
		}
		step := f.step
		if f.name == "y" {
			step = -step
		}
		if !(step >= MinStep) || step > MaxCoordinate {
			return invalid("step_"+f.name, step, "step_%s is %v, and must be between %v and 1e15", f.name, step, MinStep)
		}
		far := f.origin + f.step*float64(f.size)
		if math.Abs(far) > MaxCoordinate {
			return invalid("step_"+f.name, step, "the far edge on %s is at %v, beyond the limit of 1e15", f.name, far)
		}
		largest := math.Max(math.Abs(f.origin), math.Abs(far))
		if ulp := math.Nextafter(largest, math.Inf(1)) - largest; ulp > maxUlpPixels*step {
			return invalid("step_"+f.name, step,
				"step_%s %v is too small for coordinates of %v: they round to %.3g of a pixel, and the limit is %v",
				f.name, step, largest, ulp/step, maxUlpPixels)
		}
	}
	return nil
}

func checkShape(rows, cols int) error {
	for _, f := range []struct {
		name string
		size int
	}{{"rows", rows}, {"cols", cols}} {
		if f.size < 1 || f.size > MaxSide {
			return invalid(f.name, f.size, "%s is %d, and must be between 1 and %d", f.name, f.size, MaxSide)
		}
	}
	if cells := int64(rows) * int64(cols); cells > MaxCells {
		return invalid("cells", cells, "the grid has %d cells, and the limit is %d", cells, int64(MaxCells))
	}
	return nil
}

func invalid(field string, value any, format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, fault.InvalidGrid, format, args...).With("field", field).With("value", value)
}

// X is the x coordinate of the centre of column col, which may lie outside the
// grid. It is computed from the index, never accumulated, and the product is
// rounded before the sum (no fused multiply-add), so that PostgreSQL's float8
// arithmetic gives the same last bit.
func (g Grid) X(col int64) float64 {
	return g.OriginX + float64((float64(col)+0.5)*g.StepX)
}

// Y is the y coordinate of the centre of row row, as X.
func (g Grid) Y(row int64) float64 {
	return g.OriginY - float64((float64(row)+0.5)*g.StepY)
}

// Cells is the number of cells.
func (g Grid) Cells() int64 { return int64(g.Rows) * int64(g.Cols) }

// Window is the whole grid as a window on itself.
func (g Grid) Window() Window {
	return Window{RowStop: int64(g.Rows), ColStop: int64(g.Cols)}
}

// Bounds is the box of the outer edges.
func (g Grid) Bounds() Bounds {
	return Bounds{
		MinX: g.OriginX, MaxX: g.OriginX + float64(g.StepX*float64(g.Cols)),
		MinY: g.OriginY - float64(g.StepY*float64(g.Rows)), MaxY: g.OriginY,
	}
}

// Crop is the part of the lattice under a window, as a grid of its own. The
// window may reach outside the grid. Errors: as Validate.
func (g Grid) Crop(w Window) (Grid, error) {
	c := g
	c.Rows, c.Cols = int(w.Rows()), int(w.Cols())
	c.OriginX = g.OriginX + float64(float64(w.ColStart)*g.StepX)
	c.OriginY = g.OriginY - float64(float64(w.RowStart)*g.StepY)
	return c, c.Validate()
}

// Bounds is a box in units of the CRS.
type Bounds struct {
	MinX, MinY, MaxX, MaxY float64
}

// Registration says which point of a cell its stored coordinates name.
type Registration uint8

// The registrations.
const (
	RegistrationUnknown   Registration = iota
	RegistrationCenter                 // the centre of the cell
	RegistrationUpperLeft              // its upper-left (north-west) corner
)

// String names the registration.
func (r Registration) String() string {
	switch r {
	case RegistrationCenter:
		return "CENTER"
	case RegistrationUpperLeft:
		return "UPPER_LEFT"
	default:
		return "UNKNOWN"
	}
}
