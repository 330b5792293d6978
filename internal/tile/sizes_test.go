package tile

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/rasterloom/rasterloom/internal/layer"
)

// BenchmarkSizes gives the bytes a cell that docs/tiles.md tells of each chain, on
// values of kinds that rasters have; and which one a trial chooses.
func BenchmarkSizes(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 5))
	wave := func(i int) float64 {
		x, y := float64(i%Side), float64(i/Side)
		return 800 + 300*math.Sin(x/40)*math.Cos(y/30) + 5*rng.NormFloat64()
	}
	f64, f32, i16, u8 := layerOf[float64](Side, Side, nil, Raw), layerOf[float32](Side, Side, nil, Raw), layerOf[int16](Side, Side, nil, Raw), layerOf[uint8](Side, Side, nil, Raw)
	for _, test := range []struct {
		name   string
		l      layer.Layer
		values any
	}{
		{"float64, full mantissa", f64, made(func(i int) float64 { return wave(i) })},
		{"float64, two decimals", f64, made(func(i int) float64 { return math.Round(100*wave(i)) / 100 })},
		{"float64, whole numbers", f64, made(func(i int) float64 { return math.Round(wave(i)) })},
		{"float32, full mantissa", f32, made(func(i int) float32 { return float32(wave(i)) })},
		{"int16, heights", i16, made(func(i int) int16 { return int16(wave(i)) })},
		{"uint8, classes", u8, made(func(i int) uint8 { return uint8(i/Side/20 + i%Side/30) })},
		{"float64, noise", f64, made(func(int) float64 { return rng.NormFloat64() })},
	} {
		b.Run(test.name, func(b *testing.B) {
			for b.Loop() {
				trial, err := NewTrial(test.l)
				if err != nil {
					b.Fatal(err)
				}
				if err := trial.Add(0, 0, test.values, nil); err != nil {
					b.Fatal(err)
				}
				for _, chain := range Chains() {
					b.ReportMetric(float64(trial.Bytes(chain))/Cells, chain.String()+"-B/cell")
				}
				b.ReportMetric(float64(trial.Best()), "best")
			}
		})
	}
}

func made[T layer.Value](value func(i int) T) []T {
	values := make([]T, Cells)
	for i := range values {
		values[i] = value(i)
	}
	return values
}
