package resample

import (
	"math"

	"github.com/rasterloom/rasterloom/grid"
)

// axis takes places on one axis of the lattice to places on the layer. The unit
// is a pixel of the layer, 0 is the outer edge of its first cell, and cell i
// lies between i and i+1.
type axis struct {
	// origin is where the lattice's own edge 0 lies, as measured, and offset is
	// the same with whole turns taken out.
	origin, offset float64
	// ratio is the lattice's step over the layer's.
	ratio float64
	// cells is the number of the layer's cells.
	cells int64
	// period is a turn of longitude in pixels, 0 where there are none. turn is
	// the same in cells, where they meet again after a turn: cell i is then also
	// cell i + turn, and drift, far below a cell, is period - turn. Else turn is
	// 0, and a cell of the lattice takes the copy of the layer nearest to it.
	period, drift float64
	turn          int64
	// eps is the distance below which two places are one.
	eps float64
}

// GDAL takes places within 1e-10 of a pixel for the same; what coordinates round
// to may be more.
const minEps, maxEps = 1e-10, 1e-3

func newAxis(origin, ratio, largest, step float64, cells int) axis {
	ulp := math.Nextafter(largest, math.Inf(1)) - largest
	eps := math.Max(4*ulp/step, float64(cells)*0x1p-50)
	return axis{
		origin: origin, offset: origin, ratio: ratio, cells: int64(cells),
		eps: math.Min(math.Max(minEps, eps), maxEps),
	}
}

func newAxisY(src, ref grid.Grid) axis {
	s, r := src.Bounds(), ref.Bounds()
	largest := max(math.Abs(s.MinY), math.Abs(s.MaxY), math.Abs(r.MinY), math.Abs(r.MaxY))
	return newAxis((src.OriginY-ref.OriginY)/src.StepY, ref.StepY/src.StepY, largest, src.StepY, src.Rows)
}

// newAxisX also takes out whole turns of longitude, so that the centre of the
// window's first column lies in the layer's first turn.
func newAxisX(src, ref grid.Grid, geographic bool, first int64) axis {
	s, r := src.Bounds(), ref.Bounds()
	largest := max(math.Abs(s.MinX), math.Abs(s.MaxX), math.Abs(r.MinX), math.Abs(r.MaxX))
	a := newAxis((ref.OriginX-src.OriginX)/src.StepX, ref.StepX/src.StepX, largest, src.StepX, src.Cols)
	if !geographic {
		return a
	}
	a.period = 360 / src.StepX
	whole := math.Round(a.period)
	if math.Abs(a.period-whole) > grid.DefaultTolerancePixels || whole < 1 {
		return a
	}
	a.turn = int64(whole)
	if drift := a.period - whole; math.Abs(drift) > a.eps {
		a.drift = drift
	}
	// What a wider layer has past its first turn, it has already.
	a.cells = min(a.cells, a.turn)
	turns := math.Floor((a.offset + (float64(first)+0.5)*a.ratio + a.eps) / a.period)
	// Degrees are taken out before the division, where that is exact.
	a.offset = (ref.OriginX - src.OriginX - 360*turns) / src.StepX
	return a
}

// place is where the point at e pixels of the lattice lies.
func (a axis) place(e float64) float64 {
	p := a.offset + float64(e*a.ratio)
	if a.drift != 0 {
		// The layer's cells begin anew with each turn.
		p -= float64(a.drift * math.Floor(p/a.period))
	}
	return p
}

// shift is what to take off places in cell i of the lattice to reach the copy
// of the layer that is nearest to the cell.
func (a axis) shift(i int64) float64 {
	if a.period == 0 || a.turn > 0 {
		return 0
	}
	return float64(a.period * math.Round((a.place(float64(i)+0.5)-float64(a.cells)/2)/a.period))
}

// edges is where cell i of the lattice begins and ends.
func (a axis) edges(i int64) (left, right float64) {
	shift := a.shift(i)
	return a.snap(a.place(float64(i))-shift, 1), a.snap(a.place(float64(i+1))-shift, 1)
}

// centre is where the centre of cell i of the lattice lies.
func (a axis) centre(i int64) float64 {
	return a.snap(a.place(float64(i)+0.5)-a.shift(i), 2)
}

// snap takes places next to an edge of a cell, or to a centre with parts 2, for
// being on it: rounding decides nothing.
func (a axis) snap(p, parts float64) float64 {
	if s := math.Round(parts*p) / parts; math.Abs(p-s) <= a.eps {
		return s
	}
	return p
}

// exists reports whether the layer has cell i.
func (a axis) exists(i int64) bool {
	if a.turn > 0 {
		i = floorMod(i, a.turn)
	}
	return i >= 0 && i < a.cells
}

// holder is the cell of the layer that holds the centre of cell i of the
// lattice; false if there is none. A centre on the edge of two cells belongs to
// the one further on.
func (a axis) holder(i int64) (cell int64, ok bool) {
	cell = int64(math.Floor(a.centre(i)))
	return cell, a.exists(cell)
}

// form is what the taps of a cell are.
type form uint8

const (
	formNone       form = iota // the cell that holds the centre
	formLinear                 // 2 cells
	formCubic                  // 4 cells
	formWideLinear             // linear, widened by the ratio
	formWideCubic              // cubic, widened by the ratio
	formArea                   // the cells under the cell, by overlap in pixels of the layer
	formMean                   // the same, 1 where there is but one
)

func formOf(m Method, ratioX, ratioY float64) form {
	wide := 1/ratioX < interpolateScale || 1/ratioY < interpolateScale
	switch {
	case m == Nearest:
		return formNone
	case m == Bilinear && wide:
		return formWideLinear
	case m == Bilinear:
		return formLinear
	case m == Cubic && wide:
		return formWideCubic
	case m == Cubic:
		return formCubic
	case m == Average:
		return formMean
	default:
		return formArea
	}
}

// span is the half-open range of cells that taps may take, existing or not.
func (a axis) span(f form, i int64) (lo, hi int64) {
	switch f {
	case formArea, formMean:
		left, right := a.edges(i)
		lo = int64(math.Floor(left))
		return lo, max(lo+1, int64(math.Ceil(right)))
	case formNone:
		cell, _ := a.holder(i)
		return cell, cell + 1
	}
	c := a.centre(i) - 0.5
	base := int64(math.Floor(c))
	switch f {
	case formLinear:
		return base, base + 2
	case formCubic:
		return base - 1, base + 3
	default:
		reach := radius(f) * math.Max(1, a.ratio)
		return int64(math.Ceil(c - reach)), int64(math.Floor(c+reach)) + 1
	}
}

// weigh appends the weights of the cells of span, 0 for those that do not exist,
// and gives their sum. Those of linear and cubic sum to 1.
func (a axis) weigh(f form, i int64, weights []float64) (_ []float64, total float64) {
	from := len(weights)
	lo, hi := a.span(f, i)
	c := a.centre(i)
	switch f {
	case formNone:
		weights = append(weights, 1)
	case formLinear:
		w := c - 0.5 - float64(lo)
		weights = append(weights, 1-w, w)
	case formCubic:
		weights = appendCubic(weights, c-0.5-float64(lo+1))
	case formWideLinear, formWideCubic:
		scale := math.Min(1, 1/a.ratio)
		for j := lo; j < hi; j++ {
			weights = append(weights, filter(f, (float64(j)+0.5-c)*scale))
		}
	case formArea, formMean:
		left, right := a.edges(i)
		for j := lo; j < hi; j++ {
			w := math.Min(right, float64(j+1)) - math.Max(left, float64(j))
			if f == formMean && hi-lo == 1 {
				w = 1
			}
			weights = append(weights, w)
		}
	}
	for n := range weights[from:] {
		if !a.exists(lo + int64(n)) {
			weights[from+n] = 0
		}
		total += weights[from+n]
	}
	if f == formLinear && total > 0 && total < 1 {
		// Beyond the outermost centres the outermost cell holds on.
		for n := range weights[from:] {
			weights[from+n] /= total
		}
		total = 1
	}
	return weights, total
}

// radius is the support of a filter to each side, in pixels of the coarser.
func radius(f form) float64 {
	if f == formWideCubic {
		return 2
	}
	return 1
}

// filter is the weight at distance d: the triangle, or Keys' cubic convolution
// (1981, doi:10.1109/TASSP.1981.1163711) with a = -0.5.
func filter(f form, d float64) float64 {
	d = math.Abs(d)
	switch {
	case f == formWideLinear:
		return math.Max(0, 1-d)
	case d <= 1:
		return float64(float64(d*d)*(float64(1.5*d)-2.5)) + 1
	case d <= 2:
		return float64(float64(d*d)*(float64(-0.5*d)+2.5)) - 4*d + 2
	default:
		return 0
	}
}

// appendCubic appends the weights of the cells at -1, 0, 1 and 2 for a place t
// in [0, 1): filter, written out so that they are exact at t = 0.
func appendCubic(weights []float64, t float64) []float64 {
	half, three := 0.5*t, 3*t
	return append(weights,
		float64(half*(float64(t*(2-t))-1)),
		float64(float64(half*t)*(three-5))+1,
		float64(half*(float64(t*(4-three))+1)),
		float64(float64(half*t)*(t-1)))
}

// floorMod is a modulo n in [0, n).
func floorMod(a, n int64) int64 {
	m := a % n
	if m < 0 {
		m += n
	}
	return m
}
