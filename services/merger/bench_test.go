package merger

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/tile"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// BenchmarkMerge reads four layers of a million cells each, stored a row per
// cell, to the last message of the stream.
func BenchmarkMerge(b *testing.B) {
	const side, layers = 1000, 4
	s := start(b, Config{})
	var names []string
	for i := range layers {
		name := fmt.Sprintf("layer_%d", i)
		names = append(names, name)
		l := s.put(b, name, layer.FormatLegacy, raster{grid: utm(side, side, 3e5, 5e6)})
		s.exec(b, fmt.Sprintf("INSERT INTO %s SELECT r, c, random() FROM generate_series(0, %d) r, generate_series(0, %d) c", l.Table, side-1, side-1))
		s.exec(b, "VACUUM ANALYZE "+l.Table.String())
	}
	s.read(b, side*side, layers, specOf(names...))
}

// read reads a merge of so many cells and layers again and again, to the last
// message of its streams.
func (s *suite) read(b *testing.B, cells, layers int, spec *mergerv1.MergeSpec) {
	b.Helper()
	info, err := s.info(b.Context(), spec)
	if err != nil {
		b.Fatal(err)
	}
	var first time.Duration
	for b.Loop() {
		begin := time.Now()
		stream, err := s.flight.DoGet(b.Context(), info.GetEndpoint()[0].GetTicket())
		if err != nil {
			b.Fatal(err)
		}
		rows := 0
		for {
			data, err := stream.Recv()
			if err != nil {
				break
			}
			if rows++; rows == 2 {
				first += time.Since(begin)
			}
			_ = data
		}
		if rows != 2+(cells+merge.DefaultBatchRows-1)/merge.DefaultBatchRows {
			b.Fatalf("%d messages", rows)
		}
	}
	b.ReportMetric(float64(cells*layers)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mcells/s")
	b.ReportMetric(first.Seconds()*1000/float64(b.N), "ms/first-batch")
}

// BenchmarkTiles reads four layers of nine million cells each, stored as tiles, to
// the last message of the stream: in each chain, of values rounded to two decimals.
func BenchmarkTiles(b *testing.B) {
	const side, layers = 3000, 4
	for _, chain := range tile.Chains() {
		b.Run(chain.String(), func(b *testing.B) {
			s := start(b, Config{})
			var names []string
			for i := range layers {
				// The chain follows from the length of the name.
				name := fmt.Sprintf("layer_%d", i)
				for len(name)%3 != int(chain) {
					name += "_"
				}
				r := raster{grid: utm(side, side, 3e5, 5e6), cells: make([][]*float64, side)}
				numbers := make([]float64, side*side)
				for row := range r.cells {
					r.cells[row] = make([]*float64, side)
					for col := range r.cells[row] {
						at := &numbers[row*side+col]
						*at = math.Round(100*(800+300*math.Sin(float64(col)/40)*math.Cos(float64(row)/30)+5*rand.NormFloat64())) / 100
						r.cells[row][col] = at
					}
				}
				s.put(b, name, layer.FormatTiled, r)
				names = append(names, name)
			}
			s.read(b, side*side, layers, specOf(names...))
		})
	}
}
