package merger

import (
	"fmt"
	"testing"
	"time"

	"github.com/rasterloom/rasterloom/internal/layer"
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
	info, err := s.info(b.Context(), specOf(names...))
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
		if rows != 2+(side*side+65535)/65536 {
			b.Fatalf("%d messages", rows)
		}
	}
	b.ReportMetric(side*side*layers*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mcells/s")
	b.ReportMetric(first.Seconds()*1000/float64(b.N), "ms/first-batch")
}
