package flight

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/merger/internal/columnar"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// What a compressor holds from batch to batch is no more than plans account for,
// whatever the size of a batch.
func TestCompressorsHoldWhatPlansSay(t *testing.T) {
	const rows = 1 << 19
	g := grid.Grid{CRS: "EPSG:32633", Rows: 1 << 13, Cols: 1 << 8, OriginY: 1 << 13, StepX: 1, StepY: 1}
	plan := func(how merge.Compression, batch int) *merge.Plan {
		p := &merge.Plan{Lattice: g, Window: g.Window(), Coordinates: merge.Coordinates{XY: true}, BatchRows: batch, Compression: how}
		for _, name := range []string{"birds", "plants"} {
			p.Threads = append(p.Threads, merge.Thread{
				Layer:    layer.Layer{Name: name, Grid: g, StoredType: layer.Float64},
				Relation: grid.Relation{Verdict: grid.VerdictIdentical}, Column: name, Type: layer.Float64,
			})
		}
		if err := p.Complete(); err != nil {
			t.Fatal(err)
		}
		return p
	}
	held := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for name, how := range map[string]merge.Compression{"lz4": merge.LZ4Frame, "zstd": merge.ZSTD} {
		t.Run(name, func(t *testing.T) {
			told := plan(how, 1).PeakMemory() - plan(merge.Uncompressed, 1).PeakMemory()
			p := plan(how, rows)
			schema, err := columnar.SchemaOf(p)
			if err != nil {
				t.Fatal(err)
			}
			batch := &merge.Batch{Rows: rows}
			for _, c := range p.Columns() {
				values := make([]float64, rows)
				for i := range values {
					values[i] = float64(rand.IntN(1000))
				}
				v := merge.Vector{Values: values}
				if c.Thread >= 0 {
					v.Valid = slices.Repeat([]uint64{^uint64(0)}, rows/64)
				}
				batch.Columns = append(batch.Columns, v)
			}
			record, err := columnar.Record(schema, batch)
			if err != nil {
				t.Fatal(err)
			}
			defer record.Release()

			before := held()
			c := newCompressor(schema, how)
			for range 3 {
				f, err := c.frame(record, nil)
				if err != nil {
					t.Fatal(err)
				}
				if size, whole := f.size(), int64(rows*len(batch.Columns)*8); size < whole/20 || size > whole*2/3 {
					t.Errorf("%d bytes of %d", size, whole)
				}
			}
			c.made = nil
			if got := held() - before; got > told {
				t.Errorf("%d bytes are held, and a plan takes them for %d", got, told)
			}
			runtime.KeepAlive(c)
		})
	}
}
