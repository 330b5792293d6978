package pgstore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// BenchmarkCells reads layers of side² cells that are stored a row each, as a
// whole and in slices, over one to four connections. docs/reading.md says what
// it gave. BENCH_SIDE is the side, 1000 by default.
func BenchmarkCells(b *testing.B) {
	side := 1000
	if v, err := strconv.Atoi(os.Getenv("BENCH_SIDE")); err == nil {
		side = v
	}
	store, err := Open(b.Context(), pgtest.URL(b), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(store.Close)
	for _, stored := range []struct {
		name, rows, key string
		fits            bool // whether fitsSlices should say so
	}{
		{"dense", "", ", PRIMARY KEY (row_idx, col_idx)", true},
		{"10% absent", "WHERE random() > 0.1", ", PRIMARY KEY (row_idx, col_idx)", true},
		{"scattered", "ORDER BY random()", ", PRIMARY KEY (row_idx, col_idx)", false},
		{"no key", "", "", false},
	} {
		var layers []layer.Layer
		for i := range 4 {
			layers = append(layers, benchLayer(b, store.pool, fmt.Sprintf("%s %d", stored.name, i), side, stored.rows, stored.key))
		}
		for _, many := range []int{1, 4} {
			for _, sliced := range []bool{false, true} {
				for _, connections := range []int{1, 2, 4} {
					if sliced && stored.key == "" || !sliced && connections > many {
						continue
					}
					name := fmt.Sprintf("%s/layers=%d/sliced=%v/connections=%d", stored.name, many, sliced, connections)
					b.Run(name, func(b *testing.B) {
						reader := NewCellReader(store, CellOptions{Connections: connections})
						reader.fits = func(request layer.CellRequest, table cellTable) bool {
							if fits := fitsSlices(request, table); fits != stored.fits {
								b.Fatalf("fits slices: %v (%+v)", fits, table)
							}
							return sliced
						}
						benchCells(b, reader, layers[:many])
					})
				}
			}
		}
		for _, l := range layers {
			if _, err := store.pool.Exec(b.Context(), "DROP TABLE "+quoted(l.Table.Schema, l.Table.Name)); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func benchLayer(b *testing.B, pool *pgxpool.Pool, name string, side int, rows, key string) layer.Layer {
	b.Helper()
	table := quoted("public", name)
	for _, sql := range []string{
		"CREATE TABLE " + table + " (row_idx int NOT NULL, col_idx int NOT NULL, value float8" + key + ")",
		fmt.Sprintf("INSERT INTO %s SELECT r, c, random() FROM generate_series(0, %d) r, generate_series(0, %d) c %s", table, side-1, side-1, rows),
		"VACUUM ANALYZE " + table,
	} {
		if _, err := pool.Exec(b.Context(), sql); err != nil {
			b.Fatal(err)
		}
	}
	return layer.Layer{
		Name: name, Grid: grid.Grid{CRS: "EPSG:32633", Rows: side, Cols: side, OriginY: float64(side), StepX: 1, StepY: 1},
		HasGrid: true, HasIndices: true, StoredType: layer.Float64, Table: layer.Table{Schema: "public", Name: name},
	}
}

// benchCells reads the layers side by side, a chunk of each in turn.
func benchCells(b *testing.B, reader *CellReader, layers []layer.Layer) {
	b.Helper()
	var cells int64
	var first time.Duration
	for b.Loop() {
		begin := time.Now()
		var requests []layer.CellRequest
		for _, l := range layers {
			requests = append(requests, layer.CellRequest{Layer: l, Window: l.Grid.Window(), ChunkCells: 1 << 16})
		}
		set, err := reader.Open(b.Context(), requests)
		if err != nil {
			b.Fatal(err)
		}
		for open, turn := len(layers), 0; open > 0; turn++ {
			open = 0
			for i := range layers {
				c, err := set.Stream(i).Next(b.Context())
				if errors.Is(err, io.EOF) {
					continue
				}
				if err != nil {
					b.Fatal(err)
				}
				open++
				cells += int64(len(c.Values.([]float64)))
				set.Stream(i).Recycle(c)
			}
			if turn == 0 {
				first += time.Since(begin)
			}
		}
		set.Close()
	}
	b.ReportMetric(float64(cells)/b.Elapsed().Seconds()/1e6, "Mcells/s")
	b.ReportMetric(first.Seconds()*1e3/float64(b.N), "ms/first")
}
