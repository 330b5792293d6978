package resample

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/rasterloom/rasterloom/internal/layer"
)

// TestAddRows: rows are added up to the same bits by any code, for any number of
// columns and rows, at once or in parts.
func TestAddRows(t *testing.T) {
	checkAddRows[float32](t)
	checkAddRows[float64](t)
	checkAddRows[int64](t)
	checkAddRows[uint32](t)
	checkAddRows[int32](t)
	checkAddRows[int16](t)
	checkAddRows[uint16](t)
	checkAddRows[int8](t)
	checkAddRows[uint8](t)
}

func checkAddRows[S layer.Value](t *testing.T) {
	t.Helper()
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 8))
	lo, hi := layer.TypeOf[S]().Limits()
	lo, hi = math.Max(lo, -1e15), math.Min(hi, 1e15)
	for range 2000 {
		n, rows := rng.IntN(70), 1+rng.IntN(13)
		stride := n + rng.IntN(9)
		values, weights := make([]S, stride*rows+1), make([]float64, rows)
		for i := range values {
			switch values[i] = S(lo + (hi-lo)*rng.Float64()); rng.IntN(9) {
			case 0:
				values[i] = 0
			case 1:
				values[i] = S(math.Copysign(0, -1))
			}
		}
		for i := range weights {
			weights[i] = rng.Float64() - 0.2
		}
		first := rng.IntN(2) == 0
		got, want := make([]float64, n), make([]float64, n)
		for i := range got {
			got[i] = rng.Float64()
			want[i] = got[i]
		}
		addScalars(want, values, stride, weights, first)
		part := min(rows, 4*rng.IntN(4))
		if part > 0 {
			addRows(got, values, stride, weights[:part], first)
		}
		if part < rows {
			addRows(got, values[part*stride:], stride, weights[part:], first && part == 0)
		}
		for i := range want {
			if math.Float64bits(got[i]) != math.Float64bits(want[i]) {
				t.Fatalf("seed %d: column %d of %d, %d rows of %s from %d on: %v, and %v one by one", seed, i, n, rows, layer.TypeOf[S](), part, got[i], want[i])
			}
		}
	}
}

// TestAcross: columns are added up in one order, however many there are.
func TestAcross(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for stride := 4; stride < 14; stride++ {
		const n = 40
		k := &Kernel{method: Sum}
		k.taps = taps{stride: stride, first: make([]int32, n), weights: make([]float64, n*stride), total: make([]float64, n)}
		r := &Resampler[float32, float64]{k: k, out: make([]float64, n), sums: make([]float64, 3*n+stride)}
		for i := range r.sums {
			r.sums[i] = math.Copysign(float64(rng.IntN(3))*rng.Float64(), -1)
		}
		for i := range k.taps.weights {
			k.taps.weights[i] = rng.Float64()
		}
		for j := range k.taps.first {
			k.taps.first[j] = int32(3 * j)
		}
		for i := range 3 * stride {
			r.sums[i] = math.Copysign(0, -1)
		}
		r.across(0, n, 1)
		for j, got := range r.out {
			var a, b float64
			w, s := k.taps.weights[j*stride:][:stride], r.sums[3*j:]
			at := 0
			for ; at+4 <= stride; at += 4 {
				a += float64(s[at]*w[at]) + float64(s[at+1]*w[at+1])
				b += float64(s[at+2]*w[at+2]) + float64(s[at+3]*w[at+3])
			}
			for ; at < stride; at++ {
				a += float64(s[at] * w[at])
			}
			if want := a + b; stride > 4 && math.Float64bits(got) != math.Float64bits(want) {
				t.Fatalf("%d taps, column %d: %v, and not %v", stride, j, got, want)
			}
		}
	}
}
