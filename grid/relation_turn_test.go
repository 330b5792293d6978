package grid_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/rasterloom/rasterloom/grid"
)

// geographic draws a lattice of which a turn is a whole number of columns.
func geographic() *rapid.Generator[grid.Grid] {
	return rapid.Custom(func(t *rapid.T) grid.Grid {
		turn := rapid.SampledFrom([]int{8, 36, 180, 360, 720, 1080, 4320}).Draw(t, "columns a turn")
		step := 360 / float64(turn)
		return grid.Grid{
			CRS: "EPSG:4326", Rows: rapid.IntRange(1, turn/2).Draw(t, "rows"), Cols: rapid.IntRange(1, turn).Draw(t, "cols"),
			OriginX: -180 + step*float64(rapid.IntRange(-turn, turn).Draw(t, "west")), OriginY: 90, StepX: step, StepY: step,
		}
	})
}

func TestWholeTurnsChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ref := geographic().Draw(t, "reference")
		src := ref
		src.Cols = rapid.IntRange(1, ref.Cols).Draw(t, "cols")
		src = moved(src, 0, float64(rapid.IntRange(-5000, 5000).Draw(t, "columns east"))+rapid.SampledFrom([]float64{0, 0.25, 0.5}).Draw(t, "fraction"))
		turns := rapid.IntRange(-3, 3).Draw(t, "turns")
		far := src
		far.OriginX += 360 * float64(turns)
		a, b := relate(t, src, ref), relate(t, far, ref)
		if a.LongitudeTurns-turns != b.LongitudeTurns {
			t.Fatalf("%d turns away: %d turns to reach it, and %d before", turns, b.LongitudeTurns, a.LongitudeTurns)
		}
		if !near(a.Shift.X, b.Shift.X, 1e-9) || !near(a.ResidualPixels.X, b.ResidualPixels.X, 1e-6) {
			t.Fatalf("%+v\n%+v", a, b)
		}
		if a.Verdict != b.Verdict || a.OffsetCols != b.OffsetCols || a.OffsetRows != b.OffsetRows || a.TurnCols != b.TurnCols {
			t.Fatalf("%+v\n%+v", a, b)
		}
		if a.TurnCols != int64(math.Round(360/ref.StepX)) {
			t.Fatalf("%d columns a turn", a.TurnCols)
		}
	})
}

func TestHalfTheGlobeApartLiesToTheEast(t *testing.T) {
	ref := bounds(t, "EPSG:4326", grid.Bounds{MinX: -180, MinY: -90, MaxX: 180, MaxY: 90}, 180, 360)
	for west, turns := range map[float64]int{0: 0, -360: 1, 360: -1} {
		src := ref
		src.OriginX = west
		if r := relate(t, src, ref); r.OffsetCols != 180 || r.LongitudeTurns != turns || r.Verdict != grid.VerdictAligned {
			t.Errorf("from %v: %+v", west, r)
		}
	}
}

func TestTurnsAreForGeographicSystemsOnly(t *testing.T) {
	a := grid.Grid{CRS: "EPSG:31985", Rows: 10, Cols: 10, OriginX: 0, OriginY: 10, StepX: 1, StepY: 1}
	b := a
	b.OriginX = 360
	if r := relate(t, b, a); r.Verdict != grid.VerdictDisjoint || r.LongitudeTurns != 0 || r.TurnCols != 0 || r.OffsetCols != 360 {
		t.Fatalf("%+v", r)
	}
}

func TestReferenceWiderThanATurnIsNotModular(t *testing.T) {
	// ETOPO20 as it is packaged: 1081 columns of 1/3°, the last repeats the first.
	etopo20 := bounds(t, "EPSG:4326", grid.Bounds{MinX: 20, MinY: -90, MaxX: 20 + 1081.0/3, MaxY: 90}, 540, 1081)
	if r := relate(t, etopo20, etopo20); r.TurnCols != 0 || r.Verdict != grid.VerdictIdentical {
		t.Fatalf("%+v", r)
	}
}
