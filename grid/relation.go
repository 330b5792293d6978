package grid

import (
	"math"

	"github.com/rasterloom/rasterloom/fault"
)

// Verdict is how a layer's cells reach the reference lattice.
type Verdict uint8

// The verdicts.
const (
	VerdictUnknown   Verdict = iota
	VerdictIdentical         // the same lattice, origin and shape
	VerdictAligned           // the same lattice, apart by whole cells
	VerdictShift             // one shift by a part of a cell brings every cell within the tolerance
	VerdictResample          // the same CRS, but another step, or a residual above the tolerance
	VerdictReproject         // another CRS, or one that cannot be told to be the same
	VerdictDisjoint          // the same CRS, and no cell in common
)

// String names the verdict as the contract does.
func (v Verdict) String() string {
	names := [...]string{"UNKNOWN", "IDENTICAL", "ALIGNED", "SHIFT", "RESAMPLE", "REPROJECT", "DISJOINT"}
	if int(v) < len(names) {
		return names[v]
	}
	return names[0]
}

// Mergeable reports whether cells can be placed on the reference by a whole
// number of rows and columns: IDENTICAL, ALIGNED and SHIFT.
func (v Verdict) Mergeable() bool {
	return v == VerdictIdentical || v == VerdictAligned || v == VerdictShift
}

// Vector is a pair of measures along the axes of a grid. In pixels X grows to
// the east and Y to the south, as columns and rows do; in units of the CRS X
// grows to the east and Y to the north. Lengths are without sign.
type Vector struct {
	X, Y float64
}

// Max is the larger of the two measures.
func (v Vector) Max() float64 { return max(v.X, v.Y) }

// Limits on what counts as the same lattice.
const (
	// DefaultTolerancePixels is the largest residual of a SHIFT when nobody
	// says otherwise.
	DefaultTolerancePixels = 0.1
	// AlignedPixels is the largest displacement, anywhere on a layer, that is
	// taken for rounding and not for a shift. It is what a lattice of 1/12
	// degree loses when its axis is stored as float32, and far below any
	// registration error.
	AlignedPixels = 1e-3
	// alignedPixelsCap bounds what float64 noise may add to AlignedPixels, so
	// that no real offset hides behind large coordinates.
	alignedPixelsCap = 1e-2
	// maxTurns is how many turns away a coordinate still is a longitude.
	maxTurns = 1000
	// maxOffset is where offsets stop: float64 counts whole pixels up to it.
	maxOffset = 1 << 52
)

// Relation is how one grid, the layer's, lies on another, the reference. All
// pixels are pixels of the reference. A relation is a value and comparable.
//
// With k the whole-pixel offset, n the number of the layer's cells along an
// axis and r the ratio of the layer's step to the reference's, the point e
// cells from the layer's origin (0 <= e <= n) lies offset + e·(r-1) - k pixels
// from where the lattice puts it. Everything below is that line's value at its
// middle (the shift) and its ends (displacement, residual).
type Relation struct {
	Verdict Verdict
	// OffsetRows and OffsetCols are the row and column of the reference on
	// which cell (0, 0) of the layer falls, whole turns of longitude taken out.
	// They belong to the middle of the layer, where the steps differ.
	OffsetRows, OffsetCols int64
	// ShiftPixels is to be added to the layer's positions, in (-0.5, 0.5]: an
	// offset of k + 0.5 goes up to k + 1. Zero for IDENTICAL and ALIGNED.
	ShiftPixels Vector
	// Shift is the same in units of the CRS.
	Shift Vector
	// DisplacementPixels is the farthest that any part of the layer's extent
	// lies from the lattice as stored, once the origin's whole-pixel offset is
	// taken out.
	DisplacementPixels Vector
	// ResidualPixels is the farthest once the shift is applied.
	ResidualPixels Vector
	// PositionError is the farthest that any part of the layer lies from where
	// the lattice puts it, in units of the CRS.
	PositionError Vector
	// DriftPer1000 is by how many pixels the layer runs away from the lattice
	// in 1,000 cells; positive when its step is the larger.
	DriftPer1000 Vector
	// NoisePixels bounds what the rounding of float64 coordinates may have
	// added to any number above.
	NoisePixels Vector
	// LongitudeTurns is the number of whole turns of longitude added to the
	// layer's x to reach the reference; 0 unless the CRS is geographic.
	LongitudeTurns int
	// TurnCols is the number of columns of the reference in a full turn of
	// longitude. 0 where the CRS is not geographic, a turn is not a whole
	// number of columns, or the reference itself is wider than a turn: columns
	// then are not taken modulo anything.
	TurnCols int64
}

// Reference is a lattice that many layers are related to: what depends on it
// alone is worked out once.
type Reference struct {
	extent
	tolerance  float64
	turnCols   int64
	geographic bool
}

// extent is a grid with what is worked out of it.
type extent struct {
	grid       Grid
	crs        CRS
	bounds     Bounds
	ulpX, ulpY float64 // spacing of float64 at the largest coordinates
}

func makeExtent(g Grid, crs CRS) extent {
	b := g.Bounds()
	return extent{
		grid: g, crs: crs, bounds: b,
		ulpX: ulp(max(math.Abs(b.MinX), math.Abs(b.MaxX))),
		ulpY: ulp(max(math.Abs(b.MinY), math.Abs(b.MaxY))),
	}
}

// NewReference prepares relations to ref. tolPixels, in (0, 0.5), is the
// largest residual of a SHIFT. Errors: Invalid INVALID_GRID for the grid,
// Invalid INVALID_ARGUMENT for the tolerance.
func NewReference(ref Grid, tolPixels float64) (Reference, error) {
	if !(tolPixels > 0 && tolPixels < 0.5) {
		return Reference{}, fault.New(fault.Invalid, fault.InvalidArgument,
			"tolerance_pixels is %v, and must be above 0 and below 0.5", tolPixels).
			With("field", "tolerance_pixels").With("value", tolPixels).With("limit", 0.5)
	}
	if err := ref.Validate(); err != nil {
		return Reference{}, err
	}
	crs := ParseCRS(ref.CRS)
	r := Reference{extent: makeExtent(ref, crs), tolerance: tolPixels, geographic: crs.Geographic()}
	if r.geographic {
		cols := 360 / ref.StepX
		whole := math.Round(cols)
		width := r.bounds.MaxX - r.bounds.MinX
		limit := alignedLimit(noisePixels(r.ulpX, 360, width, ref.StepX))
		if math.Abs(cols-whole) <= limit && whole >= float64(ref.Cols) && whole <= MaxSide {
			r.turnCols = int64(whole)
		}
	}
	return r, nil
}

// Grid is the reference lattice.
func (r *Reference) Grid() Grid { return r.grid }

// TurnCols is Relation.TurnCols of every layer in the reference's CRS.
func (r *Reference) TurnCols() int64 { return r.turnCols }

// Relate reports how src lies on ref. tolPixels is in (0, 0.5). To relate many
// layers to one reference, prepare a Reference. Errors: Invalid INVALID_GRID or
// INVALID_ARGUMENT, naming the field.
func Relate(src, ref Grid, tolPixels float64) (Relation, error) {
	r, err := NewReference(ref, tolPixels)
	if err != nil {
		return Relation{}, err
	}
	if err := src.Validate(); err != nil {
		return Relation{}, err
	}
	return r.Relate(src, ParseCRS(src.CRS)), nil
}

// Relate reports how src, a valid grid whose CRS text parses to crs, lies on
// the reference. It allocates nothing.
func (r *Reference) Relate(src Grid, crs CRS) Relation {
	e := makeExtent(src, crs)
	var p pair
	r.compare(&e, &p)
	if p.verdict == VerdictReproject {
		return Relation{Verdict: VerdictReproject}
	}
	return Relation{
		Verdict:     p.verdict,
		OffsetRows:  p.y.offset,
		OffsetCols:  p.x.offset,
		ShiftPixels: Vector{X: p.x.shift, Y: p.y.shift},
		// Rows count to the south, y to the north.
		Shift:              Vector{X: p.x.shift * r.grid.StepX, Y: negated(p.y.shift) * r.grid.StepY},
		DisplacementPixels: Vector{X: p.x.displacement, Y: p.y.displacement},
		ResidualPixels:     Vector{X: p.x.residual, Y: p.y.residual},
		PositionError:      Vector{X: p.x.farthest * r.grid.StepX, Y: p.y.farthest * r.grid.StepY},
		DriftPer1000:       Vector{X: p.x.drift, Y: p.y.drift},
		NoisePixels:        Vector{X: p.x.noise, Y: p.y.noise},
		LongitudeTurns:     p.turns,
		TurnCols:           r.turnCols,
	}
}

// Move is the part of Relate that tells references apart: the verdict of
// another reference's grid on this one, and its shift in pixels.
func (r *Reference) Move(src *Reference) (Verdict, Vector) {
	var p pair
	r.compare(&src.extent, &p)
	return p.verdict, Vector{X: p.x.shift, Y: p.y.shift}
}

// pair is what a comparison of two grids comes to.
type pair struct {
	x, y    measured
	turns   int
	verdict Verdict
}

// compare fills p. The results go by pointer, since a choice among a thousand
// layers makes a million of them.
func (r *Reference) compare(src *extent, p *pair) {
	if same, _ := src.crs.Same(r.crs); !same {
		p.verdict = VerdictReproject
		return
	}
	bounds := src.bounds
	var turned float64
	if r.geographic {
		p.turns = turnsToReach(&bounds, &r.bounds, r.grid.StepX)
		turned = 360 * float64(p.turns)
		bounds.MinX += turned
		bounds.MaxX += turned
	}
	p.x.measure(axis{
		// The origins are subtracted before the turn is added: they are the
		// large numbers, and of about one size when the turn is zero.
		offset: (src.grid.OriginX - r.grid.OriginX + turned) / r.grid.StepX,
		excess: (src.grid.StepX - r.grid.StepX) / r.grid.StepX,
		cells:  float64(src.grid.Cols),
		noise: noisePixels(max(r.ulpX, src.ulpX), reach(bounds.MinX, bounds.MaxX, r.grid.OriginX),
			r.bounds.MaxX-r.bounds.MinX, r.grid.StepX),
	})
	p.y.measure(axis{
		offset: (r.grid.OriginY - src.grid.OriginY) / r.grid.StepY,
		excess: (src.grid.StepY - r.grid.StepY) / r.grid.StepY,
		cells:  float64(src.grid.Rows),
		noise: noisePixels(max(r.ulpY, src.ulpY), reach(bounds.MinY, bounds.MaxY, r.grid.OriginY),
			r.bounds.MaxY-r.bounds.MinY, r.grid.StepY),
	})
	p.verdict = r.verdict(p, &src.grid, &bounds)
}

// verdict decides from the numbers. bounds are the layer's, turned.
func (r *Reference) verdict(p *pair, src *Grid, bounds *Bounds) Verdict {
	fits := max(p.x.residual, p.y.residual) <= r.tolerance && max(p.x.noise, p.y.noise) <= r.tolerance
	if fits {
		if p.x.offset >= int64(r.grid.Cols) || p.x.offset+int64(src.Cols) <= 0 ||
			p.y.offset >= int64(r.grid.Rows) || p.y.offset+int64(src.Rows) <= 0 {
			return VerdictDisjoint
		}
	} else if bounds.MinX >= r.bounds.MaxX || bounds.MaxX <= r.bounds.MinX ||
		bounds.MinY >= r.bounds.MaxY || bounds.MaxY <= r.bounds.MinY {
		return VerdictDisjoint
	}
	switch {
	case !fits:
		return VerdictResample
	case !p.x.aligned || !p.y.aligned:
		return VerdictShift
	case p.x.offset == 0 && p.y.offset == 0 && src.Rows == r.grid.Rows && src.Cols == r.grid.Cols:
		return VerdictIdentical
	default:
		return VerdictAligned
	}
}

// axis is one axis of two grids, in pixels of the reference, growing away from
// its origin.
type axis struct {
	offset float64 // of the layer's origin
	excess float64 // of the layer's step over the reference's: ratio - 1
	cells  float64 // number of the layer's cells
	noise  float64 // bound of rounding anywhere on the layer
}

// measured is what an axis comes to.
type measured struct {
	offset       int64
	shift        float64
	displacement float64
	residual     float64
	farthest     float64 // largest distance from the lattice without a shift
	drift        float64
	noise        float64
	aligned      bool
}

func (m *measured) measure(a axis) {
	limit := alignedLimit(a.noise)
	// Numbers up to quiet may be nothing but rounding, and are told as zero.
	quiet := min(a.noise, alignedPixelsCap)
	growth := a.excess * a.cells
	if math.Abs(growth) <= quiet {
		growth = 0
	} else {
		m.drift = a.excess * 1000
	}
	half := math.Abs(growth) / 2
	k, apart := nearest(a.offset+growth/2, limit)
	atOrigin, apartAtOrigin := nearest(a.offset, limit)
	m.offset, m.noise = k, a.noise
	m.displacement = max(math.Abs(apartAtOrigin), math.Abs(a.offset-float64(atOrigin)+growth))
	m.farthest = math.Abs(apart) + half
	m.residual = m.farthest
	m.aligned = m.farthest <= limit
	if !m.aligned && math.Abs(apart) > quiet {
		// A tie that rounding has put on the other side gets the shift of the
		// tie; the difference stays in the residual.
		m.shift = min(negated(apart), 0.5)
		m.residual = math.Abs(apart+m.shift) + half
	}
	m.displacement = silence(m.displacement, quiet)
	m.farthest = silence(m.farthest, quiet)
	m.residual = silence(m.residual, quiet)
}

// silence is zero for a length up to quiet.
func silence(length, quiet float64) float64 {
	if length <= quiet {
		return 0
	}
	return length
}

// nearest gives the whole number nearest to v and what v is more than it, in
// [-0.5-limit, 0.5-limit). The rule for ties is half up: k + 0.5 goes to k + 1,
// and so does what lies up to limit below it, so that rounding never decides.
func nearest(v, limit float64) (whole int64, rest float64) {
	if math.Abs(v) >= maxOffset {
		// Beyond it pixels are coarser than 1, and so is the noise: nothing
		// that far is ever merged.
		return int64(math.Copysign(maxOffset, v)), 0
	}
	k := math.Floor(v + 0.5)
	rest = v - k
	if rest >= 0.5-limit {
		k++
		rest--
	}
	return int64(k), rest
}

// noisePixels bounds the rounding in the position of any point of a layer, in
// pixels of the reference. With u the spacing of float64 at the largest
// coordinate of both grids (ulp): each stored bound is within u/2 of what was meant
// and each step, a difference of two bounds over a count, within 1.5 u over the
// grid's own extent. Placing a point by the reference's step multiplies that
// error by far/extent, the distance from the reference's origin in extents of
// the reference; the layer's own bounds and our arithmetic add at most 8 u.
func noisePixels(ulp, far, extent, step float64) float64 {
	return ulp * (8*extent + 2*far) / (extent * step)
}

// ulp is the distance from v, not negative, to the next float64.
func ulp(v float64) float64 { return math.Nextafter(v, math.Inf(1)) - v }

// alignedLimit is the largest displacement that counts as rounding.
func alignedLimit(noise float64) float64 {
	return min(max(AlignedPixels, noise), alignedPixelsCap)
}

// turnsToReach gives the whole turns of 360 degrees to add to src so that it
// overlaps ref the most. At equal overlap src lies to the east of ref, so that
// adding turns to src beforehand changes the answer by just as many.
func turnsToReach(src, ref *Bounds, step float64) int {
	best, most := 0, math.Inf(-1)
	// The overlap is the largest where the middles are nearest; a wide layer
	// may reach the same overlap from the other side.
	nearestTurn := math.Round((ref.MinX + ref.MaxX - src.MinX - src.MaxX) / 720)
	if math.Abs(nearestTurn) > maxTurns {
		return 0
	}
	// One turn off, the middles are a whole turn less their distance apart, and
	// the overlap is at most what the widths then leave. Mostly that settles it.
	shift := 360 * nearestTurn
	overlap := min(src.MaxX+shift, ref.MaxX) - max(src.MinX+shift, ref.MinX)
	apart := math.Abs(ref.MinX+ref.MaxX-src.MinX-src.MaxX-2*shift) / 2
	widths := src.MaxX - src.MinX + ref.MaxX - ref.MinX
	if overlap-(widths/2-(360-apart)) > 2*step*AlignedPixels {
		return int(nearestTurn)
	}
	for d := -1; d <= 1; d++ {
		turns := int(nearestTurn) + d
		shift := 360 * float64(turns)
		overlap := min(src.MaxX+shift, ref.MaxX) - max(src.MinX+shift, ref.MinX)
		if overlap >= most-step*AlignedPixels {
			best, most = turns, max(overlap, most)
		}
	}
	return best
}

// reach is the distance of the farther of two coordinates from an origin.
func reach(a, b, origin float64) float64 {
	return max(math.Abs(a-origin), math.Abs(b-origin))
}

// negated is -v without a negative zero.
func negated(v float64) float64 {
	if v == 0 {
		return 0
	}
	return -v
}
