package grid

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/rasterloom/rasterloom/fault"
)

// A grid told by its resolution is the one told by its shape.
func TestFromResolution(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 1000 {
		rows, cols := 1+rng.IntN(5000), 1+rng.IntN(5000)
		step := math.Ldexp(1+rng.Float64(), rng.IntN(20)-10)
		b := Bounds{MinX: rng.NormFloat64() * 1e5, MinY: rng.NormFloat64() * 1e5}
		b.MaxX, b.MaxY = b.MinX+step*float64(cols), b.MinY+step*float64(rows)
		want, err := FromBounds("EPSG:32633", b, rows, cols)
		if err != nil {
			continue // too fine for its coordinates
		}
		if got, err := FromResolution("EPSG:32633", b, step); err != nil || got != want {
			t.Fatalf("%v by %v: %v, %v, want %v", b, step, got, err, want)
		}
	}
	// 30 seconds of arc in ten decimals, over the globe.
	if g, err := FromResolution("EPSG:4326", Bounds{-180, -90, 180, 90}, 0.0083333333); err != nil || g.Rows != 21600 || g.Cols != 43200 || g.StepX != 360.0/43200 {
		t.Errorf("%v, %v", g, err)
	}
	box := Bounds{0, 0, 100, 50}
	for _, bad := range []struct {
		bounds     Bounds
		resolution float64
		field      string
	}{
		{box, 0, "resolution"}, {box, -1, "resolution"}, {box, math.NaN(), "resolution"}, {box, math.Inf(1), "resolution"},
		{box, 1e-300, "resolution"}, {box, 7, "resolution"}, {box, 200, "resolution"}, {box, 33.33, "resolution"},
		{box, 1e-9, "rows"}, {Bounds{0, 0, 1e6, 1e-3}, 1e-4, "cols"},
		{Bounds{1, 0, 1, 5}, 1, "min_x"}, {Bounds{0, math.NaN(), 1, 5}, 1, "min_y"},
	} {
		_, err := FromResolution("", bad.bounds, bad.resolution)
		if f, ok := errors.AsType[*fault.Error](err); !ok || f.Reason != fault.InvalidGrid || f.Fields["field"] != bad.field {
			t.Errorf("%v by %v: %v, want a fault of %s", bad.bounds, bad.resolution, err, bad.field)
		}
	}
}
