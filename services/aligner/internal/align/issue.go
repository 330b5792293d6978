package align

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// Codes of issues. What the catalog has found about a layer (layer.Problem)
// keeps the code it has there; where both find the same, the codes are the same
// and it is said once.
const (
	CodeUnreadable          = "LAYER_UNREADABLE"      // the layer cannot be read at all
	CodeOffset              = "SUBPIXEL_OFFSET"       // apart by a part of a cell
	CodeDrift               = "STEP_DRIFT"            // steps differ a little: the layer runs away from the lattice
	CodeResolution          = "RESOLUTION_DIFFERS"    // steps differ a lot
	CodeNoise               = "COORDINATES_TOO_LARGE" // rounding of coordinates is above the tolerance
	CodeCRSDiffers          = "CRS_DIFFERS"           // another CRS
	CodeCRSUnknown          = "CRS_UNKNOWN"           // cannot tell whether it is the same CRS
	CodeCRSMissing          = "CRS_MISSING"           // no CRS at all
	CodeDisjoint            = "DISJOINT"              // no cell in common with the reference
	CodeLongitudeTurned     = "LONGITUDE_TURNED"      // reached by whole turns, or across the edge of the reference
	CodeLongitudeRepeated   = "LONGITUDE_REPEATED"    // wider than a turn: its last columns repeat its first
	CodeRegistration        = "REGISTRATION_CORNER"   // stored coordinates name corners
	CodeSouthUp             = "SOUTH_UP"              // stored rows run from south to north
	CodeResolutionDrift     = "RESOLUTION_DRIFT"      // the catalogued resolution disagrees with bounds and shape
	CodeResolutionInvalid   = "RESOLUTION_INVALID"    // the catalogued resolution is no resolution
	CodeIntersectionIsEmpty = "NO_COMMON_CELL"        // no cell that every layer covers
)

// resolutionRatio parts STEP_DRIFT from RESOLUTION_DIFFERS: steps within 1 %
// were meant to be equal.
const resolutionRatio = 0.01

// Issue is one finding of a report.
type Issue struct {
	Code     string
	Severity layer.Severity
	// Layer is the layer it is about; empty when about the set as a whole.
	Layer string
	// Message is one sentence with names and numbers.
	Message string
	// Values are the numbers of the sentence. All are finite.
	Values map[string]float64
	// Fixable is true when the merge, or a migration, can mend it.
	Fixable bool
	// Fix says how to mend it.
	Fix string
}

// issuesOf finds what is to be said about one layer, its relation, and the
// lattice.
func issuesOf(l layer.Layer, r Relation, lattice Lattice, systems systems) []Issue {
	var found []Issue
	add := func(i Issue) {
		i.Layer = l.Name
		found = append(found, i)
	}
	if err := l.CheckReadable(); err != nil {
		add(unreadable(l, err))
	} else {
		add(verdictIssue(l, r, lattice, systems))
		add(driftWithinTolerance(r))
		add(longitudeIssue(l, r, lattice))
		add(repeatedIssue(l, r))
		add(resolutionClaim(l, lattice.tolerance))
		if l.Grid.CRS == "" {
			add(Issue{
				Code: CodeCRSMissing, Severity: layer.Warning,
				Message: l.Name + " names no CRS: it is taken to be in that of layers that name none either, and of no other",
				Fixable: true, Fix: "put the CRS into the catalog and adopt it again",
			})
		}
	}
	if l.Registration == grid.RegistrationUpperLeft {
		add(Issue{
			Code: CodeRegistration, Severity: layer.Warning,
			Message: fmt.Sprintf("the stored coordinates of %s name the upper-left corners of its cells: read as centres, every value sits half a cell to the north-west; cells are placed by their indices, which are right", l.Name),
			Values:  map[string]float64{"registration_x_pixels": r.RegistrationPixels.X, "registration_y_pixels": r.RegistrationPixels.Y},
			Fixable: true, Fix: "merge it as it is; migrate it if others read its coordinates",
		})
	}
	if l.SouthUp {
		add(Issue{
			Code: CodeSouthUp, Severity: layer.Info,
			Message: fmt.Sprintf("the stored rows of %s run from south to north; they are turned when they are read", l.Name),
			Fixable: true,
		})
	}
	found = slices.DeleteFunc(found, func(i Issue) bool { return i.Code == "" })
	return append(found, problemsOf(l, found)...)
}

// unreadable reports a layer that is left out of everything.
func unreadable(l layer.Layer, err error) Issue {
	i := Issue{Code: CodeUnreadable, Severity: layer.Critical, Message: err.Error()}
	for _, p := range l.Problems {
		if p.Severity == layer.Critical {
			i.Fix, i.Fixable, i.Values = p.Fix, p.Fix != "", numbersOf(p.Fields)
			break
		}
	}
	return i
}

// verdictIssue reports a relation that is neither IDENTICAL nor ALIGNED.
func verdictIssue(l layer.Layer, r Relation, lattice Lattice, systems systems) Issue {
	i := Issue{Severity: layer.Critical, Message: l.Name + ": " + r.Explanation}
	switch r.Verdict {
	case grid.VerdictShift:
		i.Code, i.Severity, i.Fixable = CodeOffset, layer.Warning, true
		i.Fix = "merge it as it is: the merge shifts it, and its plan and schema tell the position error"
		i.Values = shiftValues(r)
	case grid.VerdictReproject:
		i.Code = CodeCRSDiffers
		i.Fix = "reproject the layer once to the CRS of " + lattice.label() + ", for instance by gdalwarp -t_srs, and ingest the result: a merge reprojects nothing"
		if _, known := systems.parse(l.Grid.CRS).Same(systems.parse(lattice.Grid().CRS)); !known {
			i.Code = CodeCRSUnknown
			i.Fix = "if both are the same system, give both the same authority code in the catalog, such as EPSG:4326; else reproject the layer"
		}
	case grid.VerdictDisjoint:
		i.Code = CodeDisjoint
		i.Fix = "leave the layer out, or choose a reference that it overlaps"
	case grid.VerdictResample:
		i.Code, i.Values = resampleCode(l, r, lattice), shiftValues(r)
		i.Fix = "resample the layer onto the lattice of " + lattice.label()
	default:
		return Issue{}
	}
	return i
}

func resampleCode(l layer.Layer, r Relation, lattice Lattice) string {
	ref := lattice.Grid()
	ratio := max(math.Abs(l.Grid.StepX/ref.StepX-1), math.Abs(l.Grid.StepY/ref.StepY-1))
	switch {
	case r.NoisePixels.Max() > lattice.tolerance:
		return CodeNoise
	case ratio > resolutionRatio:
		return CodeResolution
	default:
		return CodeDrift
	}
}

func shiftValues(r Relation) map[string]float64 {
	return map[string]float64{
		"shift_x": r.Shift.X, "shift_y": r.Shift.Y,
		"shift_x_pixels": r.ShiftPixels.X, "shift_y_pixels": r.ShiftPixels.Y,
		"displacement_x_pixels": r.DisplacementPixels.X, "displacement_y_pixels": r.DisplacementPixels.Y,
		"residual_x_pixels": r.ResidualPixels.X, "residual_y_pixels": r.ResidualPixels.Y,
		"position_error_x": r.PositionError.X, "position_error_y": r.PositionError.Y,
	}
}

// driftWithinTolerance reports steps that differ although the layer can be
// merged: its far cells are not where its near ones are.
func driftWithinTolerance(r Relation) Issue {
	drift := grid.Vector{X: math.Abs(r.DriftPer1000.X), Y: math.Abs(r.DriftPer1000.Y)}
	if r.Verdict != grid.VerdictShift || r.ResidualPixels.Max() < grid.AlignedPixels || drift.Max() == 0 {
		return Issue{}
	}
	return Issue{
		Code: CodeDrift, Severity: layer.Info, Fixable: true,
		Message: fmt.Sprintf("%s drifts from the lattice by %s px on x and %s px on y in 1,000 cells; %s px at most remain after the shift",
			r.Layer, number(drift.X), number(drift.Y), number(r.ResidualPixels.Max())),
		Values: map[string]float64{
			"drift_x_per_1000": r.DriftPer1000.X, "drift_y_per_1000": r.DriftPer1000.Y,
			"residual_x_pixels": r.ResidualPixels.X, "residual_y_pixels": r.ResidualPixels.Y,
		},
	}
}

// longitudeIssue reports a layer that reaches the reference by turns, or that
// is cut by the reference's edge and continues on the other side.
func longitudeIssue(l layer.Layer, r Relation, lattice Lattice) Issue {
	if !r.Verdict.Mergeable() {
		return Issue{}
	}
	pieces := len(r.Place(l.Grid, lattice.Grid().Window()).Segments)
	if r.LongitudeTurns == 0 && pieces < 2 {
		return Issue{}
	}
	i := Issue{
		Code: CodeLongitudeTurned, Severity: layer.Info, Fixable: true,
		Values: map[string]float64{"longitude_turns": float64(r.LongitudeTurns), "pieces": float64(pieces)},
	}
	if pieces > 1 {
		i.Message = fmt.Sprintf("%s counts its longitudes from %s, %s from %s: its columns are placed in %d pieces",
			l.Name, number(l.Grid.OriginX), lattice.label(), number(lattice.Grid().OriginX), pieces)
	} else {
		i.Message = fmt.Sprintf("%+d° of longitude are added to %s to reach %s", 360*r.LongitudeTurns, l.Name, lattice.label())
	}
	return i
}

// repeatedIssue reports a layer that is wider than a turn of longitude.
func repeatedIssue(l layer.Layer, r Relation) Issue {
	extra := int64(l.Grid.Cols) - r.TurnCols
	if !r.Verdict.Mergeable() || r.TurnCols == 0 || extra <= 0 {
		return Issue{}
	}
	return Issue{
		Code: CodeLongitudeRepeated, Severity: layer.Warning,
		Message: fmt.Sprintf("%s has %d columns, and a turn of longitude has %d: its %s over its first, and left out",
			l.Name, l.Grid.Cols, r.TurnCols, lastColumns(extra)),
		Values: map[string]float64{"cols": float64(l.Grid.Cols), "turn_cols": float64(r.TurnCols)},
		Fix:    "make the layer the reference to keep all of its columns",
	}
}

func lastColumns(n int64) string {
	if n == 1 {
		return "last column is laid"
	}
	return fmt.Sprintf("last %d columns are laid", n)
}

// resolutionClaim compares what the catalog claims with bounds and shape, which
// are the truth, by the drift that believing it would cause.
func resolutionClaim(l layer.Layer, tolerance float64) Issue {
	if l.TargetResolution == nil {
		return Issue{}
	}
	claim := *l.TargetResolution
	if !(claim >= grid.MinStep && claim <= grid.MaxCoordinate) {
		return Issue{
			Code: CodeResolutionInvalid, Severity: layer.Warning, Fixable: true,
			Message: fmt.Sprintf("the catalog claims a resolution of %v for %s, which is none; bounds and shape give %s × %s, and are used",
				claim, l.Name, precise(l.Grid.StepX), precise(l.Grid.StepY)),
			Fix: "correct target_resolution in its catalog row, for others who read it",
		}
	}
	drift := grid.Vector{
		X: math.Abs(claim/l.Grid.StepX-1) * float64(l.Grid.Cols),
		Y: math.Abs(claim/l.Grid.StepY-1) * float64(l.Grid.Rows),
	}
	if drift.Max() <= grid.AlignedPixels {
		return Issue{}
	}
	i := Issue{
		Code: CodeResolutionDrift, Severity: layer.Info, Fixable: true,
		Message: fmt.Sprintf("the catalog claims a resolution of %s for %s, bounds and shape give %s × %s: believing it would put the far edge %s px off; bounds and shape are used",
			precise(claim), l.Name, precise(l.Grid.StepX), precise(l.Grid.StepY), number(drift.Max())),
		Values: map[string]float64{"target_resolution": claim, "step_x": l.Grid.StepX, "step_y": l.Grid.StepY, "drift_x_pixels": drift.X, "drift_y_pixels": drift.Y},
		Fix:    "correct target_resolution in its catalog row, for others who read it",
	}
	if drift.Max() > tolerance {
		i.Severity = layer.Warning
	}
	return i
}

// problemsOf passes on what the catalog knows about the layer, but for what has
// been said already.
func problemsOf(l layer.Layer, said []Issue) []Issue {
	unreadable := l.CheckReadable() != nil
	var found []Issue
	for _, p := range l.Problems {
		if slices.ContainsFunc(said, func(i Issue) bool { return i.Code == p.Code }) {
			continue
		}
		if unreadable && p.Severity == layer.Critical {
			unreadable = false // the first one is the reason given above
			continue
		}
		found = append(found, Issue{
			Code: p.Code, Severity: p.Severity, Layer: l.Name, Message: p.Message,
			Values: numbersOf(p.Fields), Fixable: p.Fix != "", Fix: p.Fix,
		})
	}
	return found
}

// numbersOf keeps the fields that are finite numbers.
func numbersOf(fields map[string]string) map[string]float64 {
	values := make(map[string]float64, len(fields))
	for k, text := range fields {
		if v, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(v) && !math.IsInf(v, 0) {
			values[k] = v
		}
	}
	return values
}
