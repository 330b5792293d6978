package resample_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/merger/internal/resample"
)

var methods = []resample.Method{
	resample.Nearest, resample.Bilinear, resample.Cubic, resample.Average, resample.Mode, resample.Min, resample.Max, resample.Sum,
}

// seeded gives a source of numbers that is new each time, and says its seed.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// generate makes a pair: steps from a tenth to eight times, any offset, the
// lattice reaching past the layer or not, some cells missing singly and some in
// a lump.
func generate[S layer.Value](rng *rand.Rand, missing bool) pair[S] {
	step := 0.5 + 10*rng.Float64()
	p := pair[S]{src: grid.Grid{
		CRS: "EPSG:32633", Rows: 5 + rng.IntN(40), Cols: 5 + rng.IntN(60),
		OriginX: math.Round(1000 * rng.Float64()), OriginY: math.Round(1000 * rng.Float64()),
		StepX: step, StepY: step * (0.8 + 0.4*rng.Float64()),
	}}
	ratio := math.Exp2(-3.3 + 6.3*rng.Float64())
	p.ref = grid.Grid{
		CRS: p.src.CRS, StepX: p.src.StepX * ratio, StepY: p.src.StepY * ratio * (0.7 + 0.6*rng.Float64()),
	}
	if rng.IntN(4) == 0 {
		p.ref.StepX = p.src.StepX
	}
	// Offsets from well outside to well inside.
	width, height := p.src.StepX*float64(p.src.Cols), p.src.StepY*float64(p.src.Rows)
	p.ref.OriginX = p.src.OriginX + width*(0.6*rng.Float64()-0.3)
	p.ref.OriginY = p.src.OriginY - height*(0.6*rng.Float64()-0.3)
	p.ref.Cols = 1 + int(math.Min(90, width/p.ref.StepX*(0.3+rng.Float64())))
	p.ref.Rows = 1 + int(math.Min(70, height/p.ref.StepY*(0.3+rng.Float64())))
	p.fill(rng, missing)
	p.name = fmt.Sprintf("%d×%d of step %.3f×%.3f to %d×%d, ratio %.4f×%.4f", p.src.Rows, p.src.Cols, p.src.StepY, p.src.StepX,
		p.ref.Rows, p.ref.Cols, p.ref.StepY/p.src.StepY, p.ref.StepX/p.src.StepX)
	return p
}

// fill makes the values: whole numbers for whole types and from 1 to 121, few
// enough that some are common.
func (p *pair[S]) fill(rng *rand.Rand, missing bool) {
	n := p.src.Rows * p.src.Cols
	p.values, p.valid = make([]S, n), make([]bool, n)
	row, col, size := rng.IntN(p.src.Rows), rng.IntN(p.src.Cols), rng.IntN(12)
	for i := range p.values {
		v := 1 + 120*rng.Float64()
		if rng.IntN(2) == 0 {
			v = math.Floor(v / 40)
		}
		p.values[i] = S(v) + 1
		r, c := i/p.src.Cols, i%p.src.Cols
		lump := r >= row && r < row+size && c >= col && c < col+size
		p.valid[i] = !missing || !lump && rng.IntN(25) != 0
	}
}

// difference is a difference to GDAL that docs/resampling.md lists.
type difference string

const (
	noDifference difference = "none"
	// stretchedBorder: across the border of the layer GDAL's average gives the
	// outermost cells the weight of what lies outside, too.
	stretchedBorder difference = "stretched border"
	// touchedBorder: GDAL's mode, min and max give cells outside of the layer,
	// side by side with it, the value at its border.
	touchedBorder difference = "touched border"
	// countedMode: before 3.11 GDAL's mode counts cells, whatever their overlap.
	countedMode difference = "counted mode"
	// minusOneMode: before 3.11 GDAL's mode of whole numbers cannot be -1.
	minusOneMode difference = "mode of -1"
	// singleMode: GDAL's mode of float64 goes through float32.
	singleMode difference = "mode in float32"
	// sliverSum: GDAL's sum gives cells a share of neighbours that they touch,
	// as large as its rounding.
	sliverSum difference = "sum of slivers"
	// tiedCubic: on the centre of a cell rounding decides which 16 cells GDAL
	// looks at, and so whether a missing one is among them.
	tiedCubic difference = "tied cubic"
	// roundedPlace: GDAL goes by coordinates, which in metres round to some 1e-11
	// pixels; where a value is far smaller than those around it, that shows.
	roundedPlace difference = "rounded place"
	unexplained  difference = "unexplained"
)

// explain says why GDAL gives another value for cell i, with the evidence that it
// is just what that reason makes of it.
func explain[S layer.Value](p pair[S], m resample.Method, i int, got float64, want references) difference {
	size, gdal := 0., want.gdal[i]
	if m.Computes() {
		size = want.size[i]
	}
	is := func(name string) bool { return same(want.more[name][i], gdal, size) }
	whole := layer.TypeOf[S]() != layer.Float32 && layer.TypeOf[S]() != layer.Float64
	switch {
	case same(got, gdal, size):
		return noDifference
	case m == resample.Average && overhangs(p.src, p.ref, i) && is("stretched"):
		return stretchedBorder
	case (m == resample.Mode || m == resample.Min || m == resample.Max) && math.IsNaN(got) && touches(p.src, p.ref, i):
		return touchedBorder
	case m == resample.Mode && whole && want.more["counted"][i] == -1:
		return minusOneMode
	case m == resample.Mode && float32(got) == float32(gdal):
		return singleMode
	case m == resample.Mode && float32(want.more["counted"][i]) == float32(gdal):
		return countedMode
	case m == resample.Sum && math.IsNaN(got) && math.Abs(gdal) < 1e-9:
		return sliverSum
	case m.Computes() && math.Abs(got-gdal) <= want.more["moved"][i]:
		return roundedPlace
	case m == resample.Cubic && want.more["tied"][i] == 1 && (is("linear") || is("convolved")):
		return tiedCubic
	default:
		return unexplained
	}
}

// tally counts how results compare with GDAL's.
type tally struct {
	version       string
	cells, values int
	differences   map[difference]int
	largest       float64
}

// compare holds a result against the exact one, with no exception, and against
// GDAL's, where each difference must be explained.
func compare[S layer.Value](t *testing.T, c *tally, p pair[S], m resample.Method, got []float64, want references) {
	t.Helper()
	if c.differences == nil {
		c.differences = make(map[difference]int)
	}
	c.version = want.version
	for i, v := range got {
		size := 0.
		if m.Computes() {
			size = want.size[i]
		}
		if !same(v, want.exact[i], size) {
			t.Fatalf("%s, %s, %s: %v, and by the rule it is %v (GDAL: %v)", m, p.name, cellName(p.ref, i), v, want.exact[i], want.gdal[i])
		}
		c.cells++
		if !math.IsNaN(v) {
			c.values++
		}
		why := explain(p, m, i, v, want)
		if why == unexplained {
			t.Fatalf("%s, %s, %s: %v, by GDAL it is %v", m, p.name, cellName(p.ref, i), v, want.gdal[i])
		}
		c.differences[why]++
		if why == noDifference && !math.IsNaN(v) && v != 0 {
			c.largest = math.Max(c.largest, math.Abs(v-want.gdal[i])/max(math.Abs(v), size))
		}
	}
}

func (c *tally) report(t *testing.T, m resample.Method) {
	t.Helper()
	delete(c.differences, noDifference)
	t.Logf("%s, GDAL %s: %d cells, %d values, unexplained differences 0, explained %v, largest relative difference of the others %.2g",
		m, c.version, c.cells, c.values, c.differences, c.largest)
	if c.values == 0 {
		t.Errorf("%s: no cell has a value: this proves nothing", m)
	}
}

// check resamples a pair and compares it with what the oracle says of asked.
func check[S layer.Value](t *testing.T, c *tally, p, asked pair[S], m resample.Method, bandRows int64) {
	t.Helper()
	want := asked.reference(t, m, m.OutputType(layer.TypeOf[S]()))
	var got []float64
	if m.Computes() {
		got = resampled[S, float64](t, p, m, p.ref.Window(), bandRows, resample.Options{})
	} else {
		got = resampled[S, S](t, p, m, p.ref.Window(), bandRows, resample.Options{})
	}
	compare(t, c, asked, m, got, want)
}

// touches reports whether cell i of the lattice lies outside of the layer, side
// by side with it.
func touches(src, ref grid.Grid, i int) bool {
	s := src.Bounds()
	left := ref.OriginX + float64(i%ref.Cols)*ref.StepX
	top := ref.OriginY - float64(i/ref.Cols)*ref.StepY
	near := 1e-9 * math.Max(src.StepX, src.StepY)
	return math.Abs(left-s.MaxX) < near || math.Abs(left+ref.StepX-s.MinX) < near ||
		math.Abs(top-s.MinY) < near || math.Abs(top-ref.StepY-s.MaxY) < near
}

// overhangs reports whether cell i of the lattice lies across the border of the
// layer.
func overhangs(src, ref grid.Grid, i int) bool {
	s := src.Bounds()
	left := ref.OriginX + float64(i%ref.Cols)*ref.StepX
	top := ref.OriginY - float64(i/ref.Cols)*ref.StepY
	return left < s.MinX || left+ref.StepX > s.MaxX || top > s.MaxY || top-ref.StepY < s.MinY
}

// TestAgainstGDAL compares with GDAL and with exact arithmetic on generated
// pairs.
func TestAgainstGDAL(t *testing.T) {
	for _, m := range methods {
		t.Run(m.String(), func(t *testing.T) {
			rng := seeded(t)
			var c tally
			for n := range 24 {
				missing, bandRows := n%3 > 0, 1+rng.Int64N(70)
				switch n % 4 {
				case 0:
					p := generate[float32](rng, missing)
					check(t, &c, p, p, m, bandRows)
				case 1:
					p := generate[int16](rng, missing)
					check(t, &c, p, p, m, bandRows)
				case 2:
					p := generate[uint8](rng, missing)
					check(t, &c, p, p, m, bandRows)
				default:
					p := generate[float64](rng, missing)
					check(t, &c, p, p, m, bandRows)
				}
			}
			c.report(t, m)
		})
	}
}

// TestTiesAgainstGDAL has places that fall on edges and centres of cells: the
// ratios are whole or one over it, the offsets whole, halves and quarters, all
// exact in binary, so that GDAL's own arithmetic is exact, too.
func TestTiesAgainstGDAL(t *testing.T) {
	rng := seeded(t)
	for _, m := range methods {
		t.Run(m.String(), func(t *testing.T) {
			var c tally
			for _, ratio := range []float64{0.25, 0.5, 1, 1.5, 2, 3, 8} {
				for _, offset := range []float64{0, 0.25, 0.5, 2, -1.5, -16} {
					p := pair[int16]{
						src: grid.Grid{CRS: "EPSG:32633", Rows: 14, Cols: 19, OriginX: 512, OriginY: 1024, StepX: 4, StepY: 4},
						ref: grid.Grid{
							CRS: "EPSG:32633", Rows: 28, Cols: 30, OriginX: 512 + 4*offset, OriginY: 1024 - 4*offset,
							StepX: 4 * ratio, StepY: 4 * ratio,
						},
					}
					p.name = fmt.Sprintf("ratio %v, offset %v", ratio, offset)
					p.fill(rng, true)
					check(t, &c, p, p, m, 7)
				}
			}
			c.report(t, m)
		})
	}
}

// TestWholeNumbersAgainstGDAL has the computing methods round to the layer's own
// type: half up, as GDAL does.
func TestWholeNumbersAgainstGDAL(t *testing.T) {
	rng := seeded(t)
	for _, m := range []resample.Method{resample.Bilinear, resample.Cubic, resample.Average, resample.Sum} {
		t.Run(m.String(), func(t *testing.T) {
			halves := 0
			for range 20 {
				p := generate[int16](rng, true)
				for i := range p.values {
					p.values[i] -= 50 // negative ones, too
				}
				want := p.reference(t, m, layer.Int16)
				got := resampled[int16, int16](t, p, m, p.ref.Window(), 5, resample.Options{})
				for i, v := range got {
					half := math.Abs(math.Abs(want.exact[i]-math.Trunc(want.exact[i]))-0.5) < 1e-9
					switch {
					case same(v, want.gdal[i], 0):
					case m == resample.Average && overhangs(p.src, p.ref, i) && math.Floor(want.more["stretched"][i]+0.5) == want.gdal[i]:
					case half && math.Abs(v-want.gdal[i]) == 1:
						halves++ // which rounding has moved
					default:
						t.Errorf("%s, %s: %v, by GDAL it is %v; before rounding %v", p.name, cellName(p.ref, i), v, want.gdal[i], want.exact[i])
					}
				}
			}
			t.Logf("%s: %d halves moved by rounding", m, halves)
		})
	}
}

// threeTurns is a layer that goes round the globe three times, with a place on x
// in the middle turn.
func (p pair[S]) threeTurns(x float64) pair[S] {
	t := p
	t.src.CRS = "EPSG:32633" // in degrees GDAL has ideas of its own
	t.src.OriginX += 360 * math.Floor((x-p.src.OriginX)/360-0.5)
	t.src.Cols = 3 * p.src.Cols
	t.values, t.valid = nil, nil
	for at := 0; at < len(p.values); at += p.src.Cols {
		for range 3 {
			t.values = append(t.values, p.values[at:at+p.src.Cols]...)
			t.valid = append(t.valid, p.valid[at:at+p.src.Cols]...)
		}
	}
	return t
}

// TestSeamAgainstGDAL goes round the globe: GDAL, which knows no seam, gets the
// layer three times side by side.
func TestSeamAgainstGDAL(t *testing.T) {
	rng := seeded(t)
	for _, m := range methods {
		t.Run(m.String(), func(t *testing.T) {
			var c tally
			for _, x := range []struct {
				origin, step, west, to float64
				cols                   int
			}{
				{0, 2, -180, 2, 180},      // centres that fall on edges
				{0, 2, -179, 1. / 3, 540}, // finer, whole turn
				{20, 2, -180, 2.5, 144},
				{-180, 7.2, 155, 1.3, 40}, // a piece across the antimeridian
				{1.25, 0.5, -5.1, 0.83, 12},
				{360, 4, -720 - 7, 11, 30},
			} {
				cols := int(math.Round(360 / x.step))
				p := pair[float32]{
					src: grid.Grid{CRS: "EPSG:4326", Rows: 20, Cols: cols, OriginX: x.origin, OriginY: 40, StepX: x.step, StepY: 4},
					ref: grid.Grid{CRS: "OGC:CRS84", Rows: 25, Cols: x.cols, OriginX: x.west, OriginY: 37.3, StepX: x.to, StepY: 2.9},
				}
				p.name = fmt.Sprintf("%d columns of %v° from %v to %d of %v° from %v", cols, x.step, x.origin, x.cols, x.to, x.west)
				p.fill(rng, true)
				check(t, &c, p, p.threeTurns(x.west), m, 4)
			}
			c.report(t, m)
		})
	}
}
