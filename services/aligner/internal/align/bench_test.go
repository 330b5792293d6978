package align_test

import (
	"fmt"
	"testing"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/aligner/internal/align"
)

// manyLayers are n layers of n different grids: clips of two lattices of a
// globe, a third of a pixel apart. Nothing can be shared between them.
func manyLayers(tb testing.TB, n int) []layer.Layer {
	tb.Helper()
	layers := make([]layer.Layer, n)
	for i := range layers {
		west := -180 + float64(i%700)*0.25 + float64(i%2)/12
		l := lyr(tb, fmt.Sprintf("layer_%04d", i), "EPSG:4326", grid.Bounds{MinX: west, MinY: -60, MaxX: west + 90, MaxY: 60}, 480, 360)
		l.Grid.Rows = 400 + i%80
		layers[i] = l
	}
	return layers
}

// The whole report of a set, the reference chosen from it. The targets are
// 50 ms for 1,000 layers and 1 ms for 20.
func BenchmarkAnalyze(b *testing.B) {
	for _, n := range []int{20, 1000} {
		b.Run(fmt.Sprintf("layers=%d", n), func(b *testing.B) {
			layers := manyLayers(b, n)
			b.ReportAllocs()
			for b.Loop() {
				lattice, _, err := align.Choose(layers, tol)
				if err != nil {
					b.Fatal(err)
				}
				align.Analyze(layers, lattice)
			}
		})
	}
}

// Every candidate's cost among 1,000 different grids: a million relations.
func BenchmarkChoose(b *testing.B) {
	layers := manyLayers(b, 1000)
	for b.Loop() {
		if _, _, err := align.Choose(layers, tol); err != nil {
			b.Fatal(err)
		}
	}
}
