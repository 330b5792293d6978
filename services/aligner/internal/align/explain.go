package align

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// explain gives the reason of a verdict in one sentence, with the numbers that
// decided it.
func explain(l layer.Layer, r grid.Relation, lattice Lattice, systems systems) string {
	ref := lattice.Grid()
	label := lattice.label()
	u := units{geographic: systems.parse(ref.CRS).Geographic()}
	var text string
	switch r.Verdict {
	case grid.VerdictReproject:
		return explainCRS(systems.parse(l.Grid.CRS), systems.parse(ref.CRS), label)
	case grid.VerdictDisjoint:
		b, o := l.Grid.Bounds(), ref.Bounds()
		text = fmt.Sprintf("no cell in common with %s: x %s … %s and y %s … %s, against x %s … %s and y %s … %s", label,
			number(b.MinX), number(b.MaxX), number(b.MinY), number(b.MaxY),
			number(o.MinX), number(o.MaxX), number(o.MinY), number(o.MaxY))
	case grid.VerdictResample:
		text = explainResample(l, r, lattice)
	case grid.VerdictShift:
		text = fmt.Sprintf("%s: shifted by %s to the lattice of %s; values then sit up to %s from where they were measured",
			apart(r, l.Grid), shifts(r, u), label, u.length(r.PositionError.Max()))
		if residual := r.ResidualPixels.Max(); residual >= grid.AlignedPixels {
			text += fmt.Sprintf("; %s px remain, within the tolerance of %s px", number(residual), number(lattice.tolerance))
		}
	case grid.VerdictIdentical:
		if l.Name == lattice.Layer {
			return "is the reference"
		}
		text = fmt.Sprintf("same origin, step and shape as %s", label)
	case grid.VerdictAligned:
		text = fmt.Sprintf("on the lattice of %s, ", label) + wholeOffset(r)
		if r.OffsetRows == 0 && r.OffsetCols == 0 {
			text = fmt.Sprintf("on the lattice of %s, with its origin and another shape (%d × %d cells against %d × %d)",
				label, l.Grid.Rows, l.Grid.Cols, ref.Rows, ref.Cols)
		}
	}
	if d := r.DisplacementPixels.Max(); d > 0 && (r.Verdict == grid.VerdictAligned || r.Verdict == grid.VerdictIdentical) {
		text += fmt.Sprintf(" (%s px off at most, taken for rounding)", number(d))
	}
	if r.LongitudeTurns != 0 {
		text += fmt.Sprintf("; %+d° of longitude added to reach it", 360*r.LongitudeTurns)
	}
	return text
}

func explainCRS(src, ref grid.CRS, label string) string {
	switch _, known := src.Same(ref); {
	case known:
		return fmt.Sprintf("its CRS is %s, that of %s is %s", src, label, ref)
	case src.Text() == "" || ref.Text() == "":
		return fmt.Sprintf("cannot tell whether its CRS is that of %s: %s against %s", label, src, ref)
	default:
		return fmt.Sprintf("cannot tell whether its CRS is that of %s, since not both name an id of one authority: %s against %s",
			label, src, ref)
	}
}

func explainResample(l layer.Layer, r grid.Relation, lattice Lattice) string {
	ref, label := lattice.Grid(), lattice.label()
	if noise := r.NoisePixels.Max(); noise > lattice.tolerance {
		return fmt.Sprintf("cannot be placed on the lattice of %s: rounding of its coordinates alone amounts to %s px, and the tolerance is %s px",
			label, number(noise), number(lattice.tolerance))
	}
	axis, unit, step, of, cells := "x", "columns", l.Grid.StepX, ref.StepX, l.Grid.Cols
	displaced, residual := r.DisplacementPixels.X, r.ResidualPixels.X
	if r.ResidualPixels.Y > r.ResidualPixels.X {
		axis, unit, step, of, cells = "y", "rows", l.Grid.StepY, ref.StepY, l.Grid.Rows
		displaced, residual = r.DisplacementPixels.Y, r.ResidualPixels.Y
	}
	return fmt.Sprintf("its step on %s is %s, %s times that of %s: over its %d %s it gets up to %s px away, "+
		"and %s px remain after the best shift; the tolerance is %s px",
		axis, number(step), precise(step/of), label, cells, unit, number(displaced), number(residual), number(lattice.tolerance))
}

// apart says how far the layer lies from the lattice: by its offset at the
// origin, and by the growth of that offset where steps differ.
func apart(r grid.Relation, src grid.Grid) string {
	var parts []string
	for _, a := range []struct {
		name, unit      string
		offset, shift   float64
		drift, displace float64
		cells           int
	}{
		{"x", "columns", float64(r.OffsetCols) - r.ShiftPixels.X, r.ShiftPixels.X, r.DriftPer1000.X, r.DisplacementPixels.X, src.Cols},
		{"y", "rows", float64(r.OffsetRows) - r.ShiftPixels.Y, r.ShiftPixels.Y, r.DriftPer1000.Y, r.DisplacementPixels.Y, src.Rows},
	} {
		switch {
		case a.drift != 0 && a.displace > grid.AlignedPixels:
			parts = append(parts, fmt.Sprintf("up to %s px apart on %s (drifting by %s px over its %d %s)",
				number(a.displace), a.name, number(math.Abs(a.drift)*float64(a.cells)/1000), a.cells, a.unit))
		case a.shift == 0:
		case math.Abs(a.shift) == 0.5:
			parts = append(parts, fmt.Sprintf("half a pixel apart on %s (offset %s %s)", a.name, precise(a.offset), a.unit))
		default:
			parts = append(parts, fmt.Sprintf("%s px apart on %s (offset %s %s)", number(math.Abs(a.shift)), a.name, precise(a.offset), a.unit))
		}
	}
	return strings.Join(parts, " and ")
}

// shifts says by how much the layer is shifted, on the axes that are.
func shifts(r grid.Relation, u units) string {
	var parts []string
	for _, a := range []struct {
		name              string
		shift, shiftPixel float64
	}{{"x", r.Shift.X, r.ShiftPixels.X}, {"y", r.Shift.Y, r.ShiftPixels.Y}} {
		if a.shift != 0 {
			parts = append(parts, fmt.Sprintf("%s (%s px) on %s", u.signed(a.shift), number(math.Abs(a.shiftPixel)), a.name))
		}
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, " and ")
}

// wholeOffset says where the layer's origin lies from the reference's.
func wholeOffset(r grid.Relation) string {
	var parts []string
	if n := r.OffsetCols; n != 0 {
		parts = append(parts, count(int(abs(n)), "column ", "columns ")+direction(n > 0, "east", "west"))
	}
	if n := r.OffsetRows; n != 0 {
		parts = append(parts, count(int(abs(n)), "row ", "rows ")+direction(n > 0, "south", "north"))
	}
	return strings.Join(parts, " and ") + " of its origin"
}

func direction(positive bool, yes, no string) string {
	if positive {
		return yes
	}
	return no
}

func abs(n int64) int64 { return max(n, -n) }

// units writes lengths of a CRS: degrees where it is geographic, bare numbers
// where its unit is not known here.
type units struct {
	geographic bool
}

func (u units) length(v float64) string {
	if u.geographic {
		return number(v) + "°"
	}
	return number(v) + " map units"
}

func (u units) signed(v float64) string {
	if v > 0 {
		return "+" + u.length(v)
	}
	return u.length(v)
}

// number writes a measure to 4 digits: enough to act on, short enough to read.
func number(v float64) string { return format(v, 4) }

// precise writes what differs late: positions and ratios.
func precise(v float64) string { return format(v, 9) }

func format(v float64, digits int) string {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', digits, 64), 64)
	if a := math.Abs(rounded); a != 0 && (a < 1e-6 || a >= 1e15) {
		return strconv.FormatFloat(rounded, 'g', -1, 64)
	}
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}

// count writes a number with the word that goes with it.
func count(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + more
}
