package grid_test

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
)

func TestFromBoundsTakesStepsFromBoundsAndShape(t *testing.T) {
	// The Olinda Landsat scene: 352 rows, 349 columns of 28.5 m.
	g, err := grid.FromBounds("EPSG:31985", grid.Bounds{MinX: 288776.25, MinY: 9110728.75, MaxX: 298722.75, MaxY: 9120760.75}, 352, 349)
	if err != nil {
		t.Fatal(err)
	}
	if g.StepX != 28.5 || g.StepY != 28.5 {
		t.Fatalf("steps %v, %v; want 28.5", g.StepX, g.StepY)
	}
	if x, y := g.X(0), g.Y(0); x != 288790.5 || y != 9120746.5 {
		t.Fatalf("centre of the north-west cell at %v, %v", x, y)
	}
}

func TestBadGridsNameTheField(t *testing.T) {
	ok := grid.Bounds{MinX: 0, MinY: 0, MaxX: 10, MaxY: 10}
	nan, inf := math.NaN(), math.Inf(1)
	for name, c := range map[string]struct {
		bounds     grid.Bounds
		rows, cols int
		field      string
	}{
		"no rows":              {ok, 0, 10, "rows"},
		"negative columns":     {ok, 10, -1, "cols"},
		"rows beyond int32":    {ok, math.MaxInt32 + 1, 1, "rows"},
		"2^53+ cells":          {ok, math.MaxInt32, math.MaxInt32, "cells"},
		"NaN":                  {grid.Bounds{MinX: nan, MaxX: 1, MaxY: 1}, 1, 1, "min_x"},
		"infinite":             {grid.Bounds{MaxX: 1, MaxY: inf}, 1, 1, "max_y"},
		"east of itself":       {grid.Bounds{MinX: 5, MaxX: 5, MaxY: 1}, 1, 1, "min_x"},
		"upside down":          {grid.Bounds{MinY: 2, MaxX: 1, MaxY: 1}, 1, 1, "min_y"},
		"step 1e-300":          {grid.Bounds{MaxX: 1e-300, MaxY: 1}, 1, 1, "step_x"},
		"step below the noise": {grid.Bounds{MinX: 1e9, MaxX: 1e9 + 1e-5, MaxY: 1}, 1, 1000, "step_x"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := grid.FromBounds("EPSG:4326", c.bounds, c.rows, c.cols)
			f := fault.From(err)
			if f == nil || f.Kind != fault.Invalid || f.Reason != fault.InvalidGrid {
				t.Fatalf("got %v, want an INVALID_GRID fault", err)
			}
			if f.Fields["field"] != c.field || f.Fields["value"] == "" {
				t.Fatalf("fields %v, want field %s and its value", f.Fields, c.field)
			}
		})
	}
}

func TestValidateRefusesBadSteps(t *testing.T) {
	good := grid.Grid{CRS: "EPSG:4326", Rows: 2, Cols: 2, OriginX: 0, OriginY: 0, StepX: 1, StepY: 1}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []float64{0, -1, math.NaN(), math.Inf(1), math.Inf(-1), 1e-300, 1e300} {
		bad := good
		bad.StepY = step
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), "y") {
			t.Errorf("step_y %v: got %v", step, err)
		}
	}
}

func gridGen(t *rapid.T) grid.Grid {
	step := func(name string) float64 { return rapid.Float64Range(1e-4, 1e4).Draw(t, name) }
	return grid.Grid{
		CRS: "EPSG:3857", Rows: rapid.IntRange(1, 5000).Draw(t, "rows"), Cols: rapid.IntRange(1, 5000).Draw(t, "cols"),
		OriginX: rapid.Float64Range(-1e6, 1e6).Draw(t, "origin_x"), OriginY: rapid.Float64Range(-1e6, 1e6).Draw(t, "origin_y"),
		StepX: step("step_x"), StepY: step("step_y"),
	}
}

// A grid and the grid made again from its bounds and shape are the same to a
// rounding error, and the corner cells lie inside the bounds by half a step.
func TestBoundsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Not those that are too fine for their coordinates.
		g := rapid.Custom(gridGen).Filter(func(g grid.Grid) bool { return g.Validate() == nil }).Draw(t, "grid")
		b := g.Bounds()
		again, err := grid.FromBounds(g.CRS, b, g.Rows, g.Cols)
		if err != nil {
			t.Fatal(err)
		}
		tol := 4 * (math.Nextafter(math.Max(math.Abs(b.MinX), math.Abs(b.MaxX)), math.Inf(1)) - math.Max(math.Abs(b.MinX), math.Abs(b.MaxX)))
		if d := math.Abs(again.X(int64(g.Cols-1)) - g.X(int64(g.Cols-1))); d > tol {
			t.Fatalf("the last column moved by %v, more than %v", d, tol)
		}
		if x := g.X(0); x <= b.MinX || x >= b.MaxX {
			t.Fatalf("centre %v of column 0 is outside %v", x, b)
		}
		if y := g.Y(int64(g.Rows - 1)); y <= b.MinY || y >= b.MaxY {
			t.Fatalf("centre %v of the last row is outside %v", y, b)
		}
	})
}

// Cropping and reading a coordinate gives the coordinate of the lattice.
func TestCropKeepsTheLattice(t *testing.T) {
	g := grid.Grid{CRS: "EPSG:4326", Rows: 90, Cols: 180, OriginX: 20, OriginY: 90, StepX: 2, StepY: 2}
	c, err := g.Crop(grid.Window{RowStart: -1, RowStop: 4, ColStart: 10, ColStop: 12})
	if err != nil {
		t.Fatal(err)
	}
	if c.Rows != 5 || c.Cols != 2 || c.X(0) != g.X(10) || c.Y(0) != g.Y(-1) {
		t.Fatalf("got %+v", c)
	}
	if _, err := g.Crop(grid.Window{}); err == nil {
		t.Fatal("an empty window made a grid")
	}
}

func TestWindowLaws(t *testing.T) {
	gen := rapid.Custom(func(t *rapid.T) grid.Window {
		r, c := rapid.Int64Range(-50, 50).Draw(t, "row"), rapid.Int64Range(-50, 50).Draw(t, "col")
		return grid.Window{
			RowStart: r, RowStop: r + rapid.Int64Range(-3, 40).Draw(t, "rows"),
			ColStart: c, ColStop: c + rapid.Int64Range(-3, 40).Draw(t, "cols"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := gen.Draw(t, "a"), gen.Draw(t, "b")
		i, u := a.Intersect(b), a.Union(b)
		if i != b.Intersect(a) {
			t.Fatal("the intersection depends on the order")
		}
		for range 50 {
			row, col := rapid.Int64Range(-60, 100).Draw(t, "row"), rapid.Int64Range(-60, 100).Draw(t, "col")
			inA, inB := a.Contains(row, col), b.Contains(row, col)
			if i.Contains(row, col) != (inA && inB) {
				t.Fatalf("(%d, %d): intersection is wrong", row, col)
			}
			if (inA || inB) && !u.Contains(row, col) {
				t.Fatalf("(%d, %d): not in the union", row, col)
			}
		}
		if a.Empty() != (a.Cells() == 0) {
			t.Fatal("an empty window has cells")
		}
	})
}
