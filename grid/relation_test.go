package grid_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
)

const tol = grid.DefaultTolerancePixels

func relate(t rapid.TB, src, ref grid.Grid) grid.Relation {
	t.Helper()
	r, err := grid.Relate(src, ref, tol)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func bounds(t rapid.TB, crs string, b grid.Bounds, rows, cols int) grid.Grid {
	t.Helper()
	g, err := grid.FromBounds(crs, b, rows, cols)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func near(a, b, within float64) bool { return math.Abs(a-b) <= within }

// projected draws a grid of a projected system, with steps and origins as
// products have them: decimals that binary cannot hold.
func projected() *rapid.Generator[grid.Grid] {
	return rapid.Custom(func(t *rapid.T) grid.Grid {
		step := rapid.SampledFrom([]float64{0.1, 0.3, 1, 10, 28.5, 30, 89.994067, 100, 1000.0 / 3, 5000}).Draw(t, "step")
		return grid.Grid{
			CRS:  "EPSG:31985",
			Rows: rapid.IntRange(1, 5000).Draw(t, "rows"), Cols: rapid.IntRange(1, 5000).Draw(t, "cols"),
			OriginX: float64(rapid.IntRange(-9_000_000, 9_000_000).Draw(t, "x")) / 10,
			OriginY: float64(rapid.IntRange(0, 99_000_000).Draw(t, "y")) / 10,
			StepX:   step, StepY: step * rapid.SampledFrom([]float64{1, 0.5, 1.25}).Draw(t, "aspect"),
		}
	})
}

// moved is g moved by so many pixels, by arithmetic on its origin.
func moved(g grid.Grid, rows, cols float64) grid.Grid {
	g.OriginX += cols * g.StepX
	g.OriginY -= rows * g.StepY
	return g
}

func TestGridIsIdenticalToItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := projected().Draw(t, "grid")
		g.CRS = rapid.SampledFrom([]string{"EPSG:31985", "", "local"}).Draw(t, "crs")
		r := relate(t, g, g)
		want := grid.Relation{Verdict: grid.VerdictIdentical, NoisePixels: r.NoisePixels}
		if r != want {
			t.Fatalf("%+v", r)
		}
	})
}

func TestWholePixelsAreAnOffsetAndNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := projected().Draw(t, "grid")
		rows := rapid.IntRange(-g.Rows-5, g.Rows+5).Draw(t, "rows down")
		cols := rapid.IntRange(-g.Cols-5, g.Cols+5).Draw(t, "columns east")
		r := relate(t, moved(g, float64(rows), float64(cols)), g)
		want := grid.Relation{Verdict: grid.VerdictAligned, OffsetRows: int64(rows), OffsetCols: int64(cols), NoisePixels: r.NoisePixels}
		switch {
		case rows == 0 && cols == 0:
			want.Verdict = grid.VerdictIdentical
		case rows >= g.Rows || -rows >= g.Rows || cols >= g.Cols || -cols >= g.Cols:
			want.Verdict = grid.VerdictDisjoint
		}
		if r != want {
			t.Fatalf("got %+v\nwant %+v", r, want)
		}
	})
}

// The same lattice is reached in several ways: from its bounds, from its
// corner, from another corner, by accumulation. They agree to rounding only.
func TestFloatNoiseIsNoShift(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := projected().Draw(t, "grid")
		east := rapid.IntRange(-3000, 3000).Draw(t, "columns east")
		b := g.Bounds()
		west := b.MinX
		for range 100 {
			west += float64(east) / 100 * g.StepX
		}
		width := float64(g.Cols) * g.StepX
		again, err := grid.FromBounds(g.CRS, grid.Bounds{MinX: west, MaxX: west + width, MinY: b.MinY, MaxY: b.MaxY}, g.Rows, g.Cols)
		if err != nil {
			t.Fatal(err)
		}
		r := relate(t, again, g)
		if r.ShiftPixels != (grid.Vector{}) || r.OffsetCols != int64(east) || r.OffsetRows != 0 || r.ResidualPixels.Max() > 1e-6 {
			t.Fatalf("%+v", r)
		}
		if r.Verdict == grid.VerdictShift || r.Verdict == grid.VerdictResample {
			t.Fatalf("verdict %v", r.Verdict)
		}
	})
}

// An axis of 1/12 degree stored as float32 is the same lattice still; it goes
// to the same cells as the exact one, at ties too.
func TestFloat32AxisIsTheSameLattice(t *testing.T) {
	exact := bounds(t, "EPSG:4326", grid.Bounds{MinX: -180, MinY: -90, MaxX: 180, MaxY: 90}, 2160, 4320)
	first, last := float64(float32(exact.X(0))), float64(float32(exact.X(4319)))
	step := (last - first) / 4319
	single := exact
	single.OriginX, single.StepX = first-step/2, step
	r := relate(t, single, exact)
	if r.Verdict != grid.VerdictIdentical || r.ShiftPixels != (grid.Vector{}) {
		t.Fatalf("%+v", r)
	}
	half := moved(exact, 0, 10.5)
	a, b := relate(t, exact, half), relate(t, single, half)
	if a.OffsetCols != b.OffsetCols || !near(a.ShiftPixels.X, b.ShiftPixels.X, grid.AlignedPixels) {
		t.Fatalf("at a tie the exact axis goes to column %d by %v px, the float32 one to %d by %v px",
			a.OffsetCols, a.ShiftPixels.X, b.OffsetCols, b.ShiftPixels.X)
	}
	if b.ResidualPixels.X == 0 || b.ResidualPixels.X > grid.AlignedPixels {
		t.Errorf("the residual has to tell what rounding leaves: %v px", b.ResidualPixels.X)
	}
}

func TestSmallOffsetsAreShifts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := projected().Draw(t, "grid")
		fraction := rapid.SampledFrom([]float64{0.02, -0.02, 0.1, 0.25, -0.3, 0.498, -0.4999}).Draw(t, "offset")
		k := rapid.IntRange(-100, 100).Draw(t, "whole")
		r := relate(t, moved(g, 0, float64(k)+fraction), g)
		if r.Verdict != grid.VerdictShift && r.Verdict != grid.VerdictDisjoint {
			t.Fatalf("%v px: %+v", fraction, r)
		}
		within := 1e-6
		if fraction < -0.499 {
			within = 1e-3
		}
		wantShift, wantK := -fraction, int64(k)
		if !near(r.ShiftPixels.X, wantShift, within) || r.OffsetCols != wantK || r.ShiftPixels.Y != 0 {
			t.Fatalf("%v px: %+v", fraction, r)
		}
		if !near(r.Shift.X, wantShift*g.StepX, within*g.StepX) || !near(r.PositionError.X, math.Abs(fraction)*g.StepX, within*g.StepX) {
			t.Fatalf("%v px: %+v", fraction, r)
		}
		if !near(r.DisplacementPixels.X, math.Abs(fraction), within) || r.ResidualPixels.X > 1e-6 {
			t.Fatalf("%v px: %+v", fraction, r)
		}
	})
}

func TestTiesGoUpOnBothAxes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := projected().Draw(t, "grid")
		k := rapid.IntRange(-1000, 1000).Draw(t, "whole")
		r := relate(t, moved(g, float64(k)+0.5, float64(k)+0.5), g)
		if r.OffsetCols != int64(k+1) || r.OffsetRows != int64(k+1) {
			t.Fatalf("offset %d.5 went to %d, %d", k, r.OffsetRows, r.OffsetCols)
		}
		// Half a pixel to the east is + in map units, half a pixel to the
		// south is -.
		if !near(r.ShiftPixels.X, 0.5, 1e-6) || !near(r.ShiftPixels.Y, 0.5, 1e-6) ||
			!near(r.Shift.X, g.StepX/2, 1e-6*g.StepX) || !near(r.Shift.Y, -g.StepY/2, 1e-6*g.StepY) {
			t.Fatalf("%+v", r)
		}
	})
}

func TestOffsetsCompose(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := projected().Draw(t, "A")
		// Fractions whose sums stay away from ties, so that no rule of
		// rounding is involved.
		fraction := rapid.SampledFrom([]float64{-0.2, -0.1, 0, 0.1, 0.2})
		whole := rapid.IntRange(-500, 500)
		b := moved(a, float64(whole.Draw(t, "AB rows"))+fraction.Draw(t, "AB row"), float64(whole.Draw(t, "AB cols"))+fraction.Draw(t, "AB col"))
		c := moved(b, float64(whole.Draw(t, "BC rows"))+fraction.Draw(t, "BC row"), float64(whole.Draw(t, "BC cols"))+fraction.Draw(t, "BC col"))
		ab, bc, ac := relate(t, a, b), relate(t, b, c), relate(t, a, c)
		if ab.OffsetRows+bc.OffsetRows != ac.OffsetRows || ab.OffsetCols+bc.OffsetCols != ac.OffsetCols {
			t.Fatalf("offsets %d,%d + %d,%d is not %d,%d", ab.OffsetRows, ab.OffsetCols, bc.OffsetRows, bc.OffsetCols, ac.OffsetRows, ac.OffsetCols)
		}
		if !near(ab.Shift.X+bc.Shift.X, ac.Shift.X, 1e-6*a.StepX) || !near(ab.Shift.Y+bc.Shift.Y, ac.Shift.Y, 1e-6*a.StepY) {
			t.Fatalf("shifts %v + %v is not %v", ab.Shift, bc.Shift, ac.Shift)
		}
	})
}

// A million points of a hundred pairs of grids, steps and offsets at random:
// none lies farther from the lattice than the relation says.
func TestResidualBoundsEveryCell(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	const pairs, points = 100, 10_000
	for range pairs {
		ref := grid.Grid{
			CRS: "EPSG:31985", Rows: 1 + random.IntN(4000), Cols: 1 + random.IntN(4000),
			OriginX: random.Float64() * 1e6, OriginY: random.Float64() * 1e7, StepX: 1 + random.Float64()*99, StepY: 1 + random.Float64()*99,
		}
		src := moved(ref, (random.Float64()-0.5)*200, (random.Float64()-0.5)*200)
		src.Rows, src.Cols = 1+random.IntN(4000), 1+random.IntN(4000)
		src.StepX *= 1 + (random.Float64()-0.5)*2e-3
		src.StepY *= 1 + (random.Float64()-0.5)*2e-5
		r := relate(t, src, ref)
		var farX, farY float64
		for i := range points {
			// Any point of a cell, corners of the grid among them.
			e, f := random.Float64()*float64(src.Cols), random.Float64()*float64(src.Rows)
			if i < 4 {
				e, f = float64(i&1*src.Cols), float64(i>>1*src.Rows)
			}
			// Where the lattice puts it: as many cells from the offset as it is
			// from its own origin.
			dx := (src.OriginX+e*src.StepX+r.Shift.X-ref.OriginX)/ref.StepX - (float64(r.OffsetCols) + e)
			dy := (ref.OriginY-src.OriginY+f*src.StepY-r.Shift.Y)/ref.StepY - (float64(r.OffsetRows) + f)
			farX, farY = math.Max(farX, math.Abs(dx)), math.Max(farY, math.Abs(dy))
		}
		slackX, slackY := r.NoisePixels.X+1e-9, r.NoisePixels.Y+1e-9
		if farX > r.ResidualPixels.X+slackX || farY > r.ResidualPixels.Y+slackY {
			t.Fatalf("a cell is %v, %v px off, and the residual is %v\n%+v\n%+v", farX, farY, r.ResidualPixels, src, ref)
		}
		// And it is not a lazy bound: the corners reach it.
		if farX < r.ResidualPixels.X-slackX || farY < r.ResidualPixels.Y-slackY {
			t.Fatalf("the farthest cell is %v, %v px off, and the residual is %v", farX, farY, r.ResidualPixels)
		}
		if r.PositionError.X < (farX-math.Abs(r.ShiftPixels.X)-slackX)*ref.StepX {
			t.Fatalf("position error %v", r.PositionError)
		}
	}
}

func TestDriftLadder(t *testing.T) {
	ref := grid.Grid{CRS: "EPSG:31985", Rows: 4000, Cols: 4000, OriginX: 500000, OriginY: 9_000_000, StepX: 10, StepY: 10}
	for _, c := range []struct {
		excess, displaced float64
		offset            int64
	}{{1e-4, 0.4, 0}, {2e-4, 0.8, 0}, {5e-4, 2.0, 1}, {9e-4, 3.6, 2}} {
		src := ref
		src.StepX = 10 * (1 + c.excess)
		r := relate(t, src, ref)
		if !near(r.DisplacementPixels.X, c.displaced, 1e-6) || !near(r.ResidualPixels.X, c.displaced/2, 1e-6) {
			t.Errorf("e = %v: %v px displaced, %v remain; want %v, half of it", c.excess, r.DisplacementPixels.X, r.ResidualPixels.X, c.displaced)
		}
		if !near(r.DriftPer1000.X, c.excess*1000, 1e-9) || r.OffsetCols != c.offset || r.Verdict != grid.VerdictResample {
			t.Errorf("e = %v: %+v", c.excess, r)
		}
		if r.DisplacementPixels.Y != 0 || r.ResidualPixels.Y != 0 || r.Shift.Y != 0 || r.DriftPer1000.Y != 0 {
			t.Errorf("e = %v: y moves: %+v", c.excess, r)
		}
		wide, err := grid.Relate(src, ref, 0.45)
		if err != nil {
			t.Fatal(err)
		}
		if want := c.displaced/2 <= 0.45; (wide.Verdict == grid.VerdictShift) != want {
			t.Errorf("e = %v, tolerance 0.45: %v", c.excess, wide.Verdict)
		}
	}
}

func TestRealGrids(t *testing.T) {
	const arc5 = 1.0 / 12
	etopo5 := grid.Grid{CRS: "EPSG:4326", Rows: 2160, Cols: 4320, OriginX: 0, OriginY: 90, StepX: 0.08333410511692521, StepY: arc5}
	true5 := etopo5
	true5.StepX = arc5
	if r := relate(t, etopo5, true5); !near(r.DisplacementPixels.X, 0.040, 5e-4) || !near(r.ResidualPixels.X, 0.020, 5e-4) || r.Verdict != grid.VerdictShift {
		t.Errorf("ETOPO5 against a true 5′ grid: %+v", r)
	}

	landsat := bounds(t, "EPSG:31985", grid.Bounds{MinX: 288776.25000080315, MinY: 9110728.750028992, MaxX: 298722.75000054995, MaxY: 9120760.750028737}, 352, 349)
	dem := bounds(t, "EPSG:31985", grid.Bounds{MinX: 288776.25000080315, MinY: 9110771.408552948, MaxX: 298765.59147659224, MaxY: 9120760.750028737}, 111, 111)
	three := landsat
	three.StepX, three.StepY = 3*landsat.StepX, 3*landsat.StepY
	three.Rows, three.Cols = 118, 117
	r := relate(t, dem, three)
	if px := 3 * r.DisplacementPixels.X; !near(px, 17.5, 0.05) || r.Verdict != grid.VerdictResample {
		t.Errorf("the Olinda DEM forced to ratio 3: %v Landsat pixels off, %v", px, r.Verdict)
	}

	coads := bounds(t, "EPSG:4326", grid.Bounds{MinX: 20, MinY: -90, MaxX: 380, MaxY: 90}, 90, 180)
	oisst := bounds(t, "OGC:CRS84", grid.Bounds{MinX: -1, MinY: -90, MaxX: 359, MaxY: 90}, 90, 180)
	want := grid.Relation{
		Verdict: grid.VerdictShift, OffsetCols: -10, ShiftPixels: grid.Vector{X: 0.5}, Shift: grid.Vector{X: 1},
		DisplacementPixels: grid.Vector{X: 0.5}, PositionError: grid.Vector{X: 1}, TurnCols: 180,
	}
	got := relate(t, oisst, coads)
	want.NoisePixels = got.NoisePixels
	if got != want {
		t.Errorf("OISST on COADS:\n got %+v\nwant %+v", got, want)
	}

	// A clip of GLOBE at -35.5 … -34 and one of ETOPO5 at 324 … 327.
	globe := bounds(t, "EPSG:4326", grid.Bounds{MinX: -35.5, MinY: -8.5, MaxX: -34, MaxY: -7.5}, 120, 180)
	clip := bounds(t, "EPSG:4326", grid.Bounds{MinX: 323.9613336420468, MinY: -9.04166666666666, MaxX: 327.044695531373, MaxY: -6.958333333333329}, 25, 37)
	if r := relate(t, clip, globe); r.LongitudeTurns != -1 || r.TurnCols != 43200 || r.Verdict != grid.VerdictResample {
		t.Errorf("ETOPO5 on GLOBE at Olinda: %+v", r)
	}
	if r := relate(t, globe, clip); r.LongitudeTurns != 1 || r.TurnCols != 0 {
		t.Errorf("GLOBE on ETOPO5, whose step is no part of a turn: %+v", r)
	}
}

// Coordinates so large that they round to nearly a thousandth of a pixel, the
// most that a grid may have.
func largeCoordinates() *rapid.Generator[grid.Grid] {
	return rapid.Custom(func(t *rapid.T) grid.Grid {
		step := rapid.Float64Range(1.25e-4, 4e-4).Draw(t, "step")
		return grid.Grid{
			CRS: "EPSG:31985", Rows: rapid.IntRange(100, 5000).Draw(t, "rows"), Cols: rapid.IntRange(100, 5000).Draw(t, "cols"),
			OriginX: 1e9 - rapid.Float64Range(1, 1000).Draw(t, "x"), OriginY: 1e9 - rapid.Float64Range(1, 1000).Draw(t, "y"),
			StepX: step, StepY: step,
		}
	})
}

func TestLargeCoordinatesAreNotShiftedByTheirRounding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := largeCoordinates().Draw(t, "grid")
		k := rapid.IntRange(-g.Cols+1, g.Cols-1).Draw(t, "columns east")
		// The lattice's own lines, as its bounds give them, each rounded.
		b := moved(g, 0, float64(k)).Bounds()
		again, err := grid.FromBounds(g.CRS, b, g.Rows, g.Cols)
		if err != nil {
			t.Fatal(err)
		}
		original, err := grid.FromBounds(g.CRS, g.Bounds(), g.Rows, g.Cols)
		if err != nil {
			t.Fatal(err)
		}
		r := relate(t, again, original)
		if r.OffsetCols != int64(k) || r.ShiftPixels != (grid.Vector{}) || r.Verdict != grid.VerdictAligned && r.Verdict != grid.VerdictIdentical {
			t.Fatalf("%+v", r)
		}
		shifted := relate(t, moved(again, 0, 0.02), original)
		if shifted.Verdict != grid.VerdictShift || !near(shifted.ShiftPixels.X, -0.02, 0.01) {
			t.Fatalf("an offset of 0.02 px: %+v", shifted)
		}
	})
}

// However large the coordinates: 0.02 pixels are said, and not taken for
// rounding.
func TestRoundingHidesNoOffset(t *testing.T) {
	ref := grid.Grid{CRS: "EPSG:31985", Rows: 100, Cols: 100, OriginX: 1e9 - 10, OriginY: 1e9 - 10, StepX: 1.25e-4, StepY: 1.25e-4}
	src := moved(ref, 0, -0.02)
	src.Cols = 3000
	if r := relate(t, src, ref); r.NoisePixels.X < 0.02 || r.Verdict != grid.VerdictShift || !near(r.ShiftPixels.X, 0.02, 1e-3) {
		t.Fatalf("%+v", r)
	}
}

// The step of a single pixel tells little about where the lattice's thousandth
// column is.
func TestPositionsThatAreNoiseAreNotMerged(t *testing.T) {
	ref := grid.Grid{CRS: "EPSG:31985", Rows: 1, Cols: 1, OriginX: 1e9 - 10, OriginY: 1e9 - 10, StepX: 1.25e-4, StepY: 1.25e-4}
	src := moved(ref, 0, -1500)
	src.Cols = 2000
	r := relate(t, src, ref)
	if r.NoisePixels.X < 1 || r.Verdict != grid.VerdictResample {
		t.Fatalf("%+v", r)
	}
}

func TestUnrelatedGrids(t *testing.T) {
	a := grid.Grid{CRS: "EPSG:31985", Rows: 100, Cols: 100, OriginX: 300000, OriginY: 9_000_000, StepX: 30, StepY: 30}
	b := a
	b.CRS = "EPSG:32725"
	if r := relate(t, b, a); r != (grid.Relation{Verdict: grid.VerdictReproject}) {
		t.Errorf("another CRS: %+v", r)
	}
	b.CRS = ""
	if r := relate(t, b, a); r.Verdict != grid.VerdictReproject {
		t.Errorf("no CRS: %+v", r)
	}
	for name, g := range map[string]grid.Grid{"beside": moved(a, 0, 100), "touching, half a pixel": moved(a, 0, 99.6), "north": moved(a, -1000, 0)} {
		if r := relate(t, g, a); r.Verdict != grid.VerdictDisjoint {
			t.Errorf("%s: %v", name, r.Verdict)
		}
	}
	coarse := a
	coarse.StepX, coarse.StepY = 90, 90
	if r := relate(t, coarse, a); r.Verdict != grid.VerdictResample {
		t.Errorf("coarser: %v", r.Verdict)
	}
	if r := relate(t, moved(coarse, 0, 34), a); r.Verdict != grid.VerdictDisjoint {
		t.Errorf("coarser and beside: %v", r.Verdict)
	}
}

func TestBadTolerancesAreNamed(t *testing.T) {
	g := grid.Grid{CRS: "EPSG:4326", Rows: 1, Cols: 1, StepX: 1, StepY: 1}
	for _, bad := range []float64{0, -0.1, 0.5, 1, math.NaN(), math.Inf(1)} {
		_, err := grid.Relate(g, g, bad)
		f, ok := errors.AsType[*fault.Error](err)
		if !ok || f.Reason != fault.InvalidArgument || f.Fields["field"] != "tolerance_pixels" {
			t.Errorf("tolerance %v: %v", bad, err)
		}
	}
	broken := g
	broken.StepX = math.NaN()
	for _, pair := range [][2]grid.Grid{{broken, g}, {g, broken}} {
		if _, err := grid.Relate(pair[0], pair[1], tol); fault.KindOf(err) != fault.Invalid {
			t.Errorf("broken grid: %v", err)
		}
	}
}

// The farthest and the finest valid grids: no overflow, NaN or Inf, and no
// verdict that would place a cell by noise.
func TestExtremeGrids(t *testing.T) {
	extremes := []grid.Grid{
		{Rows: 1, Cols: 1, OriginX: 0, OriginY: 0, StepX: grid.MinStep, StepY: grid.MinStep},
		{Rows: 1, Cols: 1, OriginX: 9e14, OriginY: 9e14, StepX: 1e14, StepY: 1e14},
		{Rows: 1, Cols: 1, OriginX: -1e15, OriginY: 1e15, StepX: 1e15, StepY: 1e15},
		{Rows: 1 << 20, Cols: math.MaxInt32, OriginX: -1e9, OriginY: 1e9, StepX: 1e-3, StepY: 1},
		{Rows: math.MaxInt32, Cols: 1 << 20, OriginX: 1e12, OriginY: 1e12, StepX: 1, StepY: 1},
	}
	for _, crs := range []string{"EPSG:31985", "EPSG:4326"} {
		for i, a := range extremes {
			for j, b := range extremes {
				a.CRS, b.CRS = crs, crs
				r := relate(t, a, b)
				for _, v := range []grid.Vector{r.Shift, r.ShiftPixels, r.DisplacementPixels, r.ResidualPixels, r.PositionError, r.DriftPer1000, r.NoisePixels} {
					if math.IsNaN(v.X+v.Y) || math.IsInf(v.X, 0) || math.IsInf(v.Y, 0) {
						t.Fatalf("%d on %d: %+v", i, j, r)
					}
				}
				if i != j && r.Verdict.Mergeable() {
					t.Errorf("%d on %d: %+v", i, j, r)
				}
			}
		}
	}
}

func BenchmarkRelate(b *testing.B) {
	coads, _ := grid.FromBounds("EPSG:4326", grid.Bounds{MinX: 20, MinY: -90, MaxX: 380, MaxY: 90}, 90, 180)
	oisst, _ := grid.FromBounds("EPSG:4326", grid.Bounds{MinX: -1, MinY: -90, MaxX: 359, MaxY: 90}, 90, 180)
	ref, err := grid.NewReference(coads, tol)
	if err != nil {
		b.Fatal(err)
	}
	crs := grid.ParseCRS(oisst.CRS)
	b.ReportAllocs()
	for b.Loop() {
		_ = ref.Relate(oisst, crs)
	}
}
