package resample_test

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/merger/internal/resample"
)

// BenchmarkBand measures output cells on one core: a window of 2048 columns, in
// bands of 128 rows.
func BenchmarkBand(b *testing.B) {
	for _, missing := range []bool{false, true} {
		for _, ratio := range []float64{1. / 3, 1, 3.1577} {
			for _, m := range methods {
				b.Run(fmt.Sprintf("%s/ratio=%.3g/missing=%v", m, ratio, missing), func(b *testing.B) {
					if m.Computes() {
						benchmarkBand[float32, float64](b, m, ratio, missing)
					} else {
						benchmarkBand[float32, float32](b, m, ratio, missing)
					}
				})
			}
		}
	}
}

func benchmarkBand[S, D layer.Value](b *testing.B, m resample.Method, ratio float64, missing bool) {
	b.Helper()
	const rows, cols = 128, 2048
	rng := rand.New(rand.NewPCG(1, 1))
	src := grid.Grid{
		CRS: "EPSG:32633", Rows: int(rows*ratio) + 10, Cols: int(cols*ratio) + 10, OriginX: 0, OriginY: 0, StepX: 1, StepY: 1,
	}
	ref := grid.Grid{CRS: src.CRS, Rows: rows, Cols: cols, OriginX: 3.3, OriginY: -3.3, StepX: ratio, StepY: ratio}
	k, err := resample.New(m, src, ref, ref.Window(), resample.Options{})
	if err != nil {
		b.Fatal(err)
	}
	r, err := resample.NewResampler[S, D](k)
	if err != nil {
		b.Fatal(err)
	}
	from := resample.NewWindow[S](k.SourceWindow(0, rows))
	width := int(from.Cols())
	for i := range from.Values {
		from.Values[i] = S(100 * rng.Float64())
		// Missing cells lie together, as the sea and clouds do: a fifth of each
		// row, elsewhere in each.
		if at := (i%width + i/width) % 400; !missing || at > 80 {
			from.Valid[i>>6] |= 1 << (i & 63)
		}
	}
	to := resample.NewWindow[D](ref.Window())
	before := cpuSeconds(b)
	b.ResetTimer()
	for range b.N {
		if err := r.Band(to, from); err != nil {
			b.Fatal(err)
		}
	}
	cells := float64(rows*cols) * float64(b.N) / 1e6
	b.ReportMetric(cells/b.Elapsed().Seconds(), "Mcells/s")
	b.ReportMetric(cells/(cpuSeconds(b)-before), "Mcells/CPU-s")
	b.ReportMetric(0, "ns/op")
}

// cpuSeconds is what the process has used of all cores: on a busy machine it
// says more than the clock.
func cpuSeconds(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}
