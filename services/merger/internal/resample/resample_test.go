package resample_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/merger/internal/resample"
)

func square(cells int, step float64) grid.Grid {
	return grid.Grid{CRS: "EPSG:32633", Rows: cells, Cols: cells, OriginX: 1000, OriginY: 1000, StepX: step, StepY: step}
}

// TestBadInput: what cannot be resampled is refused before anything is made.
func TestBadInput(t *testing.T) {
	good := square(10, 1)
	with := func(change func(*grid.Grid)) grid.Grid {
		g := good
		change(&g)
		return g
	}
	window := good.Window()
	for name, c := range map[string]struct {
		method   resample.Method
		src, ref grid.Grid
		window   grid.Window
		share    float64
		reason   fault.Reason
		kind     fault.Kind
	}{
		"no method":       {0, good, good, window, 0, fault.InvalidArgument, fault.Invalid},
		"unknown method":  {200, good, good, window, 0, fault.InvalidArgument, fault.Invalid},
		"share below 0":   {resample.Sum, good, good, window, -0.1, fault.InvalidArgument, fault.Invalid},
		"share above 1":   {resample.Sum, good, good, window, 1.1, fault.InvalidArgument, fault.Invalid},
		"share NaN":       {resample.Sum, good, good, window, math.NaN(), fault.InvalidArgument, fault.Invalid},
		"empty window":    {resample.Sum, good, good, grid.Window{}, 0, fault.InvalidArgument, fault.Invalid},
		"far window":      {resample.Sum, good, good, grid.Window{RowStart: math.MinInt64, RowStop: math.MaxInt64, ColStop: 1}, 0, fault.InvalidArgument, fault.Invalid},
		"layer's grid":    {resample.Sum, with(func(g *grid.Grid) { g.StepX = math.NaN() }), good, window, 0, fault.InvalidGrid, fault.Invalid},
		"lattice's grid":  {resample.Sum, good, with(func(g *grid.Grid) { g.Rows = 0 }), window, 0, fault.InvalidGrid, fault.Invalid},
		"other CRS":       {resample.Sum, with(func(g *grid.Grid) { g.CRS = "EPSG:4326" }), good, window, 0, fault.CRSMismatch, fault.Precondition},
		"too much finer":  {resample.Sum, with(func(g *grid.Grid) { g.StepX = 1e7 }), good, window, 0, fault.LimitExceeded, fault.Limit},
		"too much larger": {resample.Sum, with(func(g *grid.Grid) { g.StepY = 1e-7 }), good, window, 0, fault.LimitExceeded, fault.Limit},
		"too wide":        {resample.Sum, good, good, grid.Window{RowStop: 1, ColStop: 1 << 30}, 0, fault.LimitExceeded, fault.Limit},
	} {
		_, err := resample.New(c.method, c.src, c.ref, c.window, resample.Options{MinShare: c.share})
		f := fault.From(err)
		if f == nil || f.Reason != c.reason || f.Kind != c.kind {
			t.Errorf("%s: %v (%v %v), want %v %v", name, err, fault.KindOf(err), f, c.kind, c.reason)
		}
	}
}

// TestTypes: the methods that pick keep the type, and windows that do not fit are
// refused.
func TestTypes(t *testing.T) {
	g := square(4, 1)
	k, err := resample.New(resample.Mode, g, g, g.Window(), resample.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := resample.NewResampler[int16, float64](k); fault.KindOf(err) != fault.Invalid {
		t.Errorf("mode from int16 to float64: %v", err)
	}
	r, err := resample.NewResampler[int16, int16](k)
	if err != nil {
		t.Fatal(err)
	}
	dst, src := resample.NewWindow[int16](g.Window()), resample.NewWindow[int16](k.SourceWindow(0, 4))
	if err := r.Band(dst, src); err != nil {
		t.Error(err)
	}
	short := src
	short.Values = short.Values[:15]
	for name, w := range map[string]resample.Window[int16]{
		"nothing": {}, "too few rows": resample.NewWindow[int16](k.SourceWindow(0, 3)), "too few values": short,
	} {
		if err := r.Band(dst, w); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := r.Band(resample.NewWindow[int16](grid.Window{RowStop: 5, ColStop: 4}), src); err == nil {
		t.Error("a row that the kernel's window does not have: no error")
	}
}

// TestOutOfReach: a layer that the window does not touch needs nothing and gives
// no value.
func TestOutOfReach(t *testing.T) {
	for _, m := range methods {
		p := pair[float32]{src: square(4, 1), ref: square(4, 1), values: make([]float32, 16), valid: make([]bool, 16)}
		p.ref.OriginX += 100
		k, err := resample.New(m, p.src, p.ref, p.ref.Window(), resample.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if need := k.SourceWindow(0, 4); !need.Empty() {
			t.Errorf("%s: needs %s of a layer out of reach", m, need)
		}
		got := make([]float64, 0, 16)
		if m.Computes() {
			got = append(got, resampled[float32, float64](t, p, m, p.ref.Window(), 2, resample.Options{})...)
		} else {
			got = append(got, resampled[float32, float32](t, p, m, p.ref.Window(), 2, resample.Options{})...)
		}
		for _, v := range got {
			if !math.IsNaN(v) {
				t.Errorf("%s: %v from a layer out of reach", m, v)
			}
		}
	}
}

// TestOutputTypes: what an output type cannot hold becomes its nearest value.
func TestOutputTypes(t *testing.T) {
	p := pair[float64]{
		src: square(3, 1), ref: square(3, 1),
		values: []float64{-1e300, 1e300, 0.5, -0.5, 1.5, -1.5, 254.49, 254.5, 1e19}, valid: []bool{true, true, true, true, true, true, true, true, true},
	}
	check := func(name string, got, want []float64) {
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: %v became %v, and not %v", name, p.values[i], got[i], want[i])
			}
		}
	}
	w, o := p.ref.Window(), resample.Options{}
	check("uint8", resampled[float64, uint8](t, p, resample.Sum, w, 3, o), []float64{0, 255, 1, 0, 2, 0, 254, 255, 255})
	check("int8", resampled[float64, int8](t, p, resample.Sum, w, 3, o), []float64{-128, 127, 1, 0, 2, -1, 127, 127, 127})
	check("int64", resampled[float64, int64](t, p, resample.Sum, w, 3, o),
		[]float64{math.MinInt64, math.MaxInt64, 1, 0, 2, -1, 254, 255, math.MaxInt64})
	check("float32", resampled[float64, float32](t, p, resample.Sum, w, 3, o),
		[]float64{-math.MaxFloat32, math.MaxFloat32, 0.5, -0.5, 1.5, -1.5, float64(float32(254.49)), 254.5, float64(float32(1e19))})
}

// TestChoose holds the table of choices, and that the reason tells a guess.
func TestChoose(t *testing.T) {
	fine, same, coarse := square(100, 0.5), square(100, 1), square(100, 2)
	for _, c := range []struct {
		kind     resample.Kind
		declared layer.DataType
		ref      grid.Grid
		want     resample.Method
		guess    string
	}{
		{resample.Continuous, layer.Int16, coarse, resample.Average, ""},
		{resample.Continuous, layer.Int16, same, resample.Bilinear, ""},
		{resample.Continuous, layer.Int16, fine, resample.Bilinear, ""},
		{resample.Categorical, layer.Float32, coarse, resample.Mode, ""},
		{resample.Categorical, layer.Float32, fine, resample.Nearest, ""},
		{resample.Count, layer.Int32, coarse, resample.Sum, ""},
		{resample.Count, layer.Int32, fine, resample.Sum, ""},
		{resample.KindUnknown, layer.Float32, coarse, resample.Average, "taken for continuous"},
		{resample.KindUnknown, layer.Float64, fine, resample.Bilinear, "taken for continuous"},
		{resample.KindUnknown, layer.Uint8, coarse, resample.Mode, "taken for classes"},
		{resample.KindUnknown, layer.Int64, fine, resample.Nearest, "taken for classes"},
	} {
		got := resample.Choose(c.kind, c.declared, same, c.ref)
		if got.Method != c.want || !strings.Contains(got.Why, c.guess) || !strings.HasPrefix(got.Why, c.want.String()) ||
			c.guess == "" && strings.Contains(got.Why, "taken") {
			t.Errorf("%s, %s: %+v, want %s", c.kind, c.declared, got, c.want)
		}
	}
}

// TestNames: what there is has a name of its own.
func TestNames(t *testing.T) {
	seen := map[string]bool{"": true, "unknown": true}
	for _, m := range methods {
		if seen[m.String()] {
			t.Errorf("method %d is called %q", m, m)
		}
		seen[m.String()] = true
	}
	for k := resample.Continuous; k <= resample.Count; k++ {
		if seen[k.String()] {
			t.Errorf("kind %d is called %q", k, k)
		}
		seen[k.String()] = true
	}
	if s := fmt.Sprint(resample.Method(99), resample.Kind(99)); s != "unknown unknown" {
		t.Error(s)
	}
}

// FuzzKernel: no geometry makes a kernel need what the layer does not have, or
// break.
func FuzzKernel(f *testing.F) {
	f.Add(uint8(2), 10, 10, 1., 1., 0., 12, 3., 3., true, 0.5)
	f.Add(uint8(8), 180, 3, 2., 2., -380., 700, 0.7, 11., true, 0.)
	f.Add(uint8(3), 1, 1, 0.01, 0.01, 0., 2, 0.9, 1e-5, false, 1.)
	f.Fuzz(func(t *testing.T, method uint8, srcCols, srcRows int, srcStepX, srcStepY, offset float64, cols int, stepX, stepY float64, degrees bool, share float64) {
		crs := "EPSG:32633"
		if degrees {
			crs = "EPSG:4326"
		}
		if srcCols > 2000 || srcRows > 2000 || cols > 2000 || stepX/srcStepX > 500 || stepY/srcStepY > 500 {
			return // right, but not quick
		}
		p := pair[float64]{
			src: grid.Grid{CRS: crs, Rows: srcRows, Cols: srcCols, OriginX: offset, OriginY: 5, StepX: srcStepX, StepY: srcStepY},
			ref: grid.Grid{CRS: crs, Rows: 3, Cols: cols, OriginX: 0, OriginY: 6, StepX: stepX, StepY: stepY},
		}
		if p.src.Validate() != nil || p.ref.Validate() != nil {
			return
		}
		m, o := resample.Method(method%8+1), resample.Options{MinShare: share}
		if _, err := resample.New(m, p.src, p.ref, p.ref.Window(), o); err != nil {
			return
		}
		p.values, p.valid = make([]float64, srcRows*srcCols), make([]bool, srcRows*srcCols)
		for i := range p.values {
			p.values[i], p.valid[i] = 4, i%7 > 0
		}
		for i, v := range resampled[float64, float64](t, p, m, p.ref.Window(), 2, o) {
			if m != resample.Sum && !math.IsNaN(v) && math.Abs(v-4) > 1e-9 || m == resample.Sum && v < 0 {
				t.Fatalf("%s, %s: %v of a layer of nothing but 4", m, cellName(p.ref, i), v)
			}
		}
	})
}
