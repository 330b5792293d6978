// Package resample computes the cells of one lattice from the cells of another
// that has other steps or lies between its cells, in the same CRS.
//
// The rules are GDAL's, in float64 throughout; docs/resampling.md of the
// repository states each one with its source, and where ours differ and why.
// Rows and columns are independent of one another in all methods but mode, so
// that a cell costs the sum and not the product of both.
//
// A Kernel is the geometry: which cells of the layer a cell of the lattice
// takes, and with which weights. It is immutable and safe for concurrent use. A
// Resampler does the work for one pair of value types, on dense windows of any
// number of rows: the result of a row depends on that row alone, never on how
// rows are cut into bands. The package is pure: no clock, no I/O, no context.
package resample

import (
	"math"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// Version counts changes of the rules: the same version gives the same bytes.
const Version = 1

// Method is how values are computed.
type Method uint8

// The methods.
const (
	MethodUnknown Method = iota
	Nearest              // the value of the cell that holds the centre
	Bilinear             // linear interpolation on x and y
	Cubic                // cubic convolution, a = -0.5
	Average              // mean, weighted by area
	Mode                 // the value that covers the largest area
	Min                  // the smallest value of the cells touched
	Max                  // the largest value of the cells touched
	Sum                  // each cell's value handed out by area: totals stay
)

var methodNames = [...]string{"unknown", "nearest", "bilinear", "cubic", "average", "mode", "min", "max", "sum"}

// String names the method as the request does.
func (m Method) String() string {
	if int(m) < len(methodNames) {
		return methodNames[m]
	}
	return methodNames[MethodUnknown]
}

// Computes reports whether the method makes values that no cell may have:
// bilinear, cubic, average and sum. The others pick one that is there.
func (m Method) Computes() bool { return m == Bilinear || m == Cubic || m == Average || m == Sum }

// byCentre reports whether a cell of the lattice has a value only where the
// cell of the layer that holds its centre has one.
func (m Method) byCentre() bool { return m == Nearest || m == Bilinear || m == Cubic }

// OutputType is the type of the values that a method makes of a layer stored as
// t, when no other is asked for: float64 for the methods that compute, since a
// mean of whole numbers is not one; t for those that pick.
func (m Method) OutputType(t layer.DataType) layer.DataType {
	if m.Computes() {
		return layer.Float64
	}
	return t
}

// Options of a kernel. The zero value is GDAL's behaviour.
type Options struct {
	// MinShare is the least share of a cell's area that cells with a value must
	// cover, in [0, 1]; where they cover less, the cell has no value. 0 asks
	// for what the method itself needs.
	MinShare float64
}

// Limits of a kernel.
const (
	// maxCols bounds the tables of a kernel, which grow with the columns of the
	// window and of the layer under it.
	maxCols = 1 << 24
	// maxRatio is the largest number of cells of the layer along the side of
	// one cell of the lattice, and the other way round.
	maxRatio = 1 << 20
	// shareSlack is what rounding may take off a share of area.
	shareSlack = 1e-9
	// interpolateScale is the number of cells of the lattice to one of the
	// layer, below which interpolation widens its kernel (GDAL's number).
	interpolateScale = 0.95
)

// Kernel is the geometry of one layer on one window of a lattice. Make one with
// New.
type Kernel struct {
	method   Method
	minShare float64
	window   grid.Window
	x, y     axis
	// form is what the taps of a cell are.
	form form
	columns
}

// New makes the kernel that gives the cells of a window of the lattice ref from
// a layer with the grid src. Both must name the same CRS. Where x is longitude,
// columns of the layer are taken modulo a turn: the seam is no edge.
//
// Errors: Invalid INVALID_GRID; Invalid INVALID_ARGUMENT for the method, the
// window or an option; Precondition CRS_MISMATCH; Limit LIMIT_EXCEEDED.
func New(method Method, src, ref grid.Grid, window grid.Window, options Options) (*Kernel, error) {
	if method < Nearest || method > Sum {
		return nil, fault.New(fault.Invalid, fault.InvalidArgument, "resampling method %d is unknown", method).
			With("field", "resampling").With("value", uint8(method))
	}
	if !(options.MinShare >= 0 && options.MinShare <= 1) {
		return nil, fault.New(fault.Invalid, fault.InvalidArgument,
			"min_share is %v, and must be between 0 and 1", options.MinShare).
			With("field", "min_share").With("value", options.MinShare)
	}
	if err := src.Validate(); err != nil {
		return nil, err
	}
	if err := ref.Validate(); err != nil {
		return nil, err
	}
	crs := grid.ParseCRS(ref.CRS)
	if same, _ := grid.ParseCRS(src.CRS).Same(crs); !same {
		return nil, fault.New(fault.Precondition, fault.CRSMismatch,
			"the layer is in %s and the lattice in %s: resampling needs one CRS", grid.ParseCRS(src.CRS), crs).
			With("layer_crs", grid.ParseCRS(src.CRS)).With("reference_crs", crs)
	}
	if err := checkWindow(window); err != nil {
		return nil, err
	}
	k := &Kernel{
		method: method, minShare: options.MinShare, window: window,
		x: newAxisX(src, ref, crs.Geographic(), window.ColStart), y: newAxisY(src, ref),
	}
	for _, a := range []struct {
		name  string
		ratio float64
	}{{"x", k.x.ratio}, {"y", k.y.ratio}} {
		if !(a.ratio <= maxRatio && a.ratio >= 1./maxRatio) {
			return nil, fault.New(fault.Limit, fault.LimitExceeded,
				"the steps on %s differ by a factor of %.6g, and the limit is %d", a.name, math.Max(a.ratio, 1/a.ratio), maxRatio).
				With("axis", a.name).With("value", a.ratio).With("limit", maxRatio)
		}
	}
	if need := float64(window.Cols()) * math.Max(1, k.x.ratio); need > maxCols {
		return nil, fault.New(fault.Limit, fault.LimitExceeded,
			"the window is %d columns wide, of %.6g columns of the layer each, and the limit is %d columns of the layer",
			window.Cols(), k.x.ratio, maxCols).With("value", int64(need)).With("limit", maxCols)
	}
	k.form = formOf(method, k.x.ratio, k.y.ratio)
	k.layColumns()
	return k, nil
}

func checkWindow(w grid.Window) error {
	const farthest = 4 * grid.MaxSide
	for _, side := range []struct {
		name  string
		value int64
	}{{"row", w.RowStart}, {"row", w.RowStop}, {"column", w.ColStart}, {"column", w.ColStop}} {
		if side.value < -farthest || side.value > farthest {
			return fault.New(fault.Invalid, fault.InvalidArgument, "the window reaches %s %d of the lattice, and the limit is ±%d",
				side.name, side.value, int64(farthest)).With("field", "window").With("value", side.value).With("limit", int64(farthest))
		}
	}
	if w.Empty() {
		return fault.New(fault.Invalid, fault.InvalidArgument, "the window to resample (%s) has no cell", w).With("field", "window")
	}
	return nil
}

// Receipt says what made a column: enough to make it again.
type Receipt struct {
	Method Method
	// Version is that of the rules.
	Version int
	// RatioX and RatioY are the steps of the lattice over those of the layer:
	// above 1 the lattice is the coarser.
	RatioX, RatioY float64
	// OffsetX and OffsetY are where the north-west corner of the lattice lies
	// on the layer, in pixels of the layer from its own north-west corner.
	OffsetX, OffsetY float64
	MinShare         float64
	// Widened is true where bilinear or cubic take all cells under a kernel
	// widened by the ratio, and not the nearest 2 or 4 along each axis.
	Widened bool
}

// Receipt says what the kernel does.
func (k *Kernel) Receipt() Receipt {
	return Receipt{
		Method: k.method, Version: Version, MinShare: k.minShare,
		RatioX: k.x.ratio, RatioY: k.y.ratio, OffsetX: k.x.origin, OffsetY: k.y.origin,
		Widened: k.form == formWideLinear || k.form == formWideCubic,
	}
}

// Method is the method of the kernel.
func (k *Kernel) Method() Method { return k.method }

// Segments say where the layer's columns land in the columns of SourceWindow,
// as grid.Placement's do in those of a window of the lattice.
func (k *Kernel) Segments() []grid.Segment { return k.segments }

// SourceWindow is what a band of the lattice's rows needs of the layer: rows of
// the layer, and columns counted from its first one but not modulo a turn, so
// that they may be negative or past its last one; Segments tell which columns
// of the layer they are. Cells of the window that the layer does not have have
// no value. The zero Window if nothing is needed.
func (k *Kernel) SourceWindow(rowStart, rowStop int64) grid.Window {
	rowStart, rowStop = max(rowStart, k.window.RowStart), min(rowStop, k.window.RowStop)
	if rowStart >= rowStop || k.width == 0 {
		return grid.Window{}
	}
	w := k.source
	w.RowStart, _ = k.rowsUnder(rowStart)
	_, w.RowStop = k.rowsUnder(rowStop - 1)
	w.RowStart, w.RowStop = max(0, w.RowStart), min(k.y.cells, w.RowStop)
	if w.Empty() {
		return grid.Window{}
	}
	return w
}

// SourceCols is the number of columns of SourceWindow.
func (k *Kernel) SourceCols() int64 { return k.source.Cols() }

// MaxSourceRows bounds the rows of SourceWindow for a band of so many rows: the
// rows under the band and the halo.
func (k *Kernel) MaxSourceRows(rows int64) int64 {
	halo := 3.
	switch k.form {
	case formNone:
		if k.minShare == 0 {
			rows = max(0, rows-1) // rows between centres
		}
	case formCubic:
		halo = 4
	case formWideLinear:
		halo = 2 + 2*math.Max(1, k.y.ratio)
	case formWideCubic:
		halo = 2 + 4*math.Max(1, k.y.ratio)
	}
	return min(k.y.cells, int64(math.Ceil(float64(rows)*k.y.ratio+halo)))
}

// rowsUnder is the range of the layer's rows that a row of the lattice may
// take, which may reach outside of the layer. It grows with the row.
func (k *Kernel) rowsUnder(row int64) (lo, hi int64) {
	lo, hi = k.y.span(k.form, row)
	if k.minShare > 0 {
		areaLo, areaHi := k.y.span(formArea, row)
		lo, hi = min(lo, areaLo), max(hi, areaHi)
	}
	return lo, hi
}

// MemoryBytes is about what the kernel and one resampler of it hold.
func (k *Kernel) MemoryBytes() int64 {
	size := int64(len(k.near)+len(k.under))*4 + int64(len(k.some)+len(k.whole))*8
	for _, t := range []taps{k.taps, k.linear, k.area} {
		size += int64(len(t.first))*12 + int64(len(t.weights))*8
	}
	return size + int64(k.reach)*16 + k.window.Cols()*8
}
