package resample_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/merger/internal/resample"
)

// global makes a pair with a seam: the layer goes round the globe or lies across
// the lattice's edge, and the lattice is a turn wide, or less, or more.
func global(rng *rand.Rand) pair[float32] {
	step := []float64{1, 2.5, 4, 7.2, 0.33333335, 0.7}[rng.IntN(6)]
	cols := int(360 / step)
	if rng.IntN(3) == 0 {
		cols = 1 + rng.IntN(cols)
	}
	p := pair[float32]{
		name: fmt.Sprintf("%d columns of %v°", cols, step),
		src: grid.Grid{
			CRS: "EPSG:4326", Rows: 12, Cols: cols, OriginX: math.Round(720*rng.Float64()) - 360, OriginY: 30, StepX: step, StepY: 3,
		},
		ref: grid.Grid{
			CRS: "EPSG:4326", Rows: 20, Cols: 1 + rng.IntN(120), OriginX: 1080*rng.Float64() - 540, OriginY: 33,
			StepX: 0.5 + 6*rng.Float64(), StepY: 0.9 + 3*rng.Float64(),
		},
	}
	p.fill(rng, true)
	return p
}

// TestBands: the result of a cell hangs neither on the rows of a band nor on the
// columns of the window.
func TestBands(t *testing.T) {
	rng := seeded(t)
	for n := range 40 {
		p := generate[float32](rng, n%4 > 0)
		if n%2 == 0 {
			p = global(rng)
		}
		o := resample.Options{}
		if n%3 == 0 {
			o.MinShare = rng.Float64()
		}
		for _, m := range methods {
			run := func(w grid.Window, bandRows int64) []float64 {
				if m.Computes() {
					return resampled[float32, float64](t, p, m, w, bandRows, o)
				}
				return resampled[float32, float32](t, p, m, w, bandRows, o)
			}
			whole := p.ref.Window()
			want := run(whole, whole.Rows())
			for _, bandRows := range []int64{1, 2, 7} {
				got := run(whole, bandRows)
				for i := range want {
					if math.Float64bits(got[i]) != math.Float64bits(want[i]) {
						t.Fatalf("%s, %s, %s: %v in bands of %d rows, %v in one", p.name, m, cellName(p.ref, i), got[i], bandRows, want[i])
					}
				}
			}
			// A part of the window may begin on another turn of longitude, whose
			// degrees are subtracted before the division and not after it.
			part := grid.Window{RowStart: rng.Int64N(whole.RowStop), RowStop: whole.RowStop, ColStart: rng.Int64N(whole.ColStop), ColStop: whole.ColStop}
			got := run(part, 3)
			for i, v := range got {
				row, col := part.RowStart+int64(i)/part.Cols(), part.ColStart+int64(i)%part.Cols()
				at := int(row)*p.ref.Cols + int(col)
				if !same(v, want[at], 0) {
					t.Fatalf("%s, %s, %s: %v in the window %s, %v in the whole", p.name, m, cellName(p.ref, at), v, part, want[at])
				}
			}
		}
	}
}

// total adds up without losing what is rounded off (Neumaier's sum).
type total struct{ sum, lost float64 }

func (t *total) add(v float64) {
	sum := t.sum + v
	if math.Abs(t.sum) >= math.Abs(v) {
		t.lost += t.sum - sum + v
	} else {
		t.lost += v - sum + t.sum
	}
	t.sum = sum
}

func (t *total) value() float64 { return t.sum + t.lost }

// TestSumConserves: what a lattice that covers the layer gets is what the layer
// has, to 1e-12.
func TestSumConserves(t *testing.T) {
	rng := seeded(t)
	worst := 0.
	for n := range 200 {
		p := generate[float64](rng, n%2 > 0)
		if n%4 == 3 {
			p.src.CRS, p.ref.CRS = "EPSG:4326", "EPSG:4326"
			p.src.StepX = 360 / float64(p.src.Cols)
			p.ref.OriginX, p.ref.Cols = -360+720*rng.Float64(), 1+rng.IntN(200)
			p.ref.StepX = 360 / float64(p.ref.Cols)
			p.src.StepY = 1
			p.ref.StepY = 0.3 + 3*rng.Float64()
		} else {
			p.ref.OriginX = p.src.OriginX - rng.Float64()*p.ref.StepX
			p.ref.Cols = int(float64(p.src.Cols)*p.src.StepX/p.ref.StepX) + 2
		}
		p.ref.OriginY = p.src.OriginY + rng.Float64()*p.ref.StepY
		p.ref.Rows = int(float64(p.src.Rows)*p.src.StepY/p.ref.StepY) + 2
		var layerTotal, latticeTotal total
		for i, v := range p.values {
			if p.valid[i] {
				layerTotal.add(v)
			}
		}
		for _, v := range resampled[float64, float64](t, p, resample.Sum, p.ref.Window(), 16, resample.Options{}) {
			if !math.IsNaN(v) {
				latticeTotal.add(v)
			}
		}
		want, got := layerTotal.value(), latticeTotal.value()
		worst = math.Max(worst, math.Abs(got-want)/want)
		if math.Abs(got-want) > 1e-12*want {
			t.Fatalf("%s: the layer holds %v, the lattice %v", p.name, want, got)
		}
	}
	t.Logf("largest relative difference of totals: %.2g", worst)
}

// TestBounds: means lie between the smallest and the largest value of the layer,
// and a constant stays one, however much of it is missing.
func TestBounds(t *testing.T) {
	rng := seeded(t)
	for n := range 60 {
		p := generate[float64](rng, n%3 > 0)
		if n%2 == 0 {
			for i := range p.values {
				p.values[i] = 7
			}
		}
		lo, hi := math.Inf(1), math.Inf(-1)
		for i, v := range p.values {
			if p.valid[i] {
				lo, hi = math.Min(lo, v), math.Max(hi, v)
			}
		}
		const ulps = 1e-14
		for _, m := range []resample.Method{resample.Bilinear, resample.Average} {
			for i, v := range resampled[float64, float64](t, p, m, p.ref.Window(), 9, resample.Options{}) {
				if v < lo*(1-ulps) || v > hi*(1+ulps) {
					t.Fatalf("%s, %s, %s: %v, and the layer has %v to %v", p.name, m, cellName(p.ref, i), v, lo, hi)
				}
			}
		}
	}
}

// TestIdentity: on its own lattice a layer stays as it is, by every method.
func TestIdentity(t *testing.T) {
	rng := seeded(t)
	p := generate[float64](rng, true)
	p.ref = p.src
	for _, m := range methods {
		for i, v := range resampled[float64, float64](t, p, m, p.ref.Window(), 3, resample.Options{}) {
			want := math.NaN()
			if p.valid[i] {
				want = p.values[i]
			}
			if v != want && !(math.IsNaN(v) && math.IsNaN(want)) {
				t.Fatalf("%s, %s: %v, and it was %v", m, cellName(p.ref, i), v, want)
			}
		}
	}
}

// TestMinShare: a cell has a value where its method gives one and valid cells
// cover the share of it that is asked for.
func TestMinShare(t *testing.T) {
	rng := seeded(t)
	for _, m := range methods {
		dropped := 0
		for range 12 {
			p := generate[float64](rng, true)
			share := 0.05 + 0.95*rng.Float64()
			want := p.reference(t, m, m.OutputType(layer.Float64))
			all := resampled[float64, float64](t, p, m, p.ref.Window(), 6, resample.Options{})
			for i, v := range resampled[float64, float64](t, p, m, p.ref.Window(), 6, resample.Options{MinShare: share}) {
				expected := all[i]
				if want.share[i] < share-1e-9 {
					expected = math.NaN()
				}
				if !math.IsNaN(all[i]) && math.IsNaN(expected) {
					dropped++
				}
				if !same(v, expected, 0) {
					t.Fatalf("%s, %s, %s: %v with a least share of %v, and %v of the cell is covered (value %v)",
						m, p.name, cellName(p.ref, i), v, share, want.share[i], all[i])
				}
			}
		}
		if dropped == 0 {
			t.Errorf("%s: no cell was dropped: this proves nothing", m)
		}
	}
}

// TestInfinity: an infinity is a value to the methods that pick, and none to
// those that compute; it never spreads.
func TestInfinity(t *testing.T) {
	rng := seeded(t)
	for range 20 {
		p := generate[float32](rng, true)
		without := p
		without.values, without.valid = append([]float32(nil), p.values...), append([]bool(nil), p.valid...)
		for range 5 {
			i := rng.IntN(len(p.values))
			p.values[i], p.valid[i] = float32(math.Inf(1-2*rng.IntN(2))), true
			without.valid[i] = false
		}
		for _, m := range methods {
			if !m.Computes() {
				own := p
				own.ref = p.src
				for i, v := range resampled[float32, float32](t, own, m, own.ref.Window(), 6, resample.Options{}) {
					if p.valid[i] && v != float64(p.values[i]) {
						t.Fatalf("%s, %s: %v became %v", m, cellName(own.ref, i), p.values[i], v)
					}
				}
				continue
			}
			got := resampled[float32, float64](t, p, m, p.ref.Window(), 6, resample.Options{})
			want := resampled[float32, float64](t, without, m, p.ref.Window(), 6, resample.Options{})
			for i, v := range got {
				if !same(v, want[i], 0) {
					t.Fatalf("%s, %s, %s: %v beside an infinity, %v without it", m, p.name, cellName(p.ref, i), v, want[i])
				}
			}
		}
	}
}

// TestModeOfMany: many values under one cell are told apart, and each cell begins
// anew.
func TestModeOfMany(t *testing.T) {
	rng := seeded(t)
	for _, distinct := range []int{3, 15, 16, 17, 18, 40, 3000} {
		p := pair[int32]{name: fmt.Sprintf("%d values", distinct), src: square(120, 1), ref: square(2, 60)}
		p.values, p.valid = make([]int32, 120*120), make([]bool, 120*120)
		for i := range p.values {
			p.values[i], p.valid[i] = int32(rng.IntN(distinct))-2, true
		}
		for i, got := range resampled[int32, int32](t, p, resample.Mode, p.ref.Window(), 1, resample.Options{}) {
			counts := make(map[int32]int)
			most, want := 0, int32(0)
			for r := i / 2 * 60; r < i/2*60+60; r++ {
				for c := i % 2 * 60; c < i%2*60+60; c++ {
					v := p.values[r*120+c]
					counts[v]++
					if counts[v] > most {
						most, want = counts[v], v
					}
				}
			}
			if got != float64(want) {
				t.Errorf("%s, %s: %v, and %d is the most common", p.name, cellName(p.ref, i), got, want)
			}
		}
	}
}
