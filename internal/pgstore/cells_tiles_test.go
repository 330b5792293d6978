package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/tile"
)

// storeTiles makes a table of tiles of cells, and tells the layer of it.
func storeTiles(t *testing.T, pool *pgxpool.Pool, l *layer.Layer, chain tile.Chain, cells []storedCell) {
	t.Helper()
	l.Tiling = tile.LayoutOf(*l, chain).JSON()
	pgxTx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tx := &Tx{pgxTx}
	defer tx.Rollback(t.Context())
	if l.Table, err = tx.CreateTileTable(t.Context(), *l); err != nil {
		t.Fatal(err)
	}
	write := map[layer.DataType]func(*testing.T, *TileWriter, layer.Layer, []storedCell){
		layer.Uint8: writeTiles[uint8], layer.Int8: writeTiles[int8], layer.Uint16: writeTiles[uint16], layer.Int16: writeTiles[int16],
		layer.Uint32: writeTiles[uint32], layer.Int32: writeTiles[int32], layer.Int64: writeTiles[int64],
		layer.Float32: writeTiles[float32], layer.Float64: writeTiles[float64],
	}
	write[l.StoredType](t, tx.TileWriter(l.Table, false), *l, cells)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func writeTiles[T layer.Value](t *testing.T, w *TileWriter, l layer.Layer, cells []storedCell) {
	t.Helper()
	encoder, err := tile.NewEncoder(l)
	if err != nil {
		t.Fatal(err)
	}
	rows, cols := tile.Count(l.Grid)
	for row := range int32(rows) {
		for col := range int32(cols) {
			values, valid := make([]T, tile.Cells), make([]uint64, tile.Cells/64)
			for _, c := range cells {
				if c.row/tile.Side != row || c.col/tile.Side != col {
					continue
				}
				at := c.row%tile.Side*tile.Side + c.col%tile.Side
				values[at] = T(c.value)
				valid[at>>6] |= 1 << (at & 63)
			}
			e, err := encoder.Encode(row, col, values, valid)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Write(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Cells of every type come out of tiles as they were put in, whatever the window,
// the chunks, the connections and the chain; rows and tiles without any, too.
func TestCellsOfTiles(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	reader, pool := newReader(t, CellOptions{})
	var layers []layer.Layer
	var cells [][]storedCell
	for typ := layer.Uint8; typ <= layer.Float64; typ++ {
		l := layer.Layer{
			Name: typ.String(), Format: layer.FormatTiled, HasGrid: true, StoredType: typ, DeclaredType: typ,
			Grid: grid.Grid{CRS: "EPSG:32633", Rows: 1 + rng.IntN(900), Cols: 1 + rng.IntN(900), OriginX: 3e5, OriginY: 5e6 + 7, StepX: 30, StepY: 20},
		}
		stored := make(map[[2]int]float64)
		for range rng.IntN(5) { // rectangles, some of them full rows
			top, left := rng.IntN(l.Grid.Rows), rng.IntN(l.Grid.Cols)
			bottom, right := min(l.Grid.Rows, top+1+rng.IntN(20)), min(l.Grid.Cols, left+1+rng.IntN(300))
			for r := top; r < bottom; r++ {
				for c := left; c < right; c++ {
					stored[[2]int{r, c}] = float64(rng.IntN(120))
				}
			}
		}
		for range rng.IntN(40) {
			stored[[2]int{rng.IntN(l.Grid.Rows), rng.IntN(l.Grid.Cols)}] = float64(rng.IntN(120))
		}
		var want []storedCell
		for at, v := range stored {
			want = append(want, storedCell{int32(at[0]), int32(at[1]), v})
		}
		slices.SortFunc(want, func(a, b storedCell) int { return int(a.row-b.row)*l.Grid.Cols + int(a.col-b.col) })
		storeTiles(t, pool, &l, tile.Chains()[rng.IntN(3)], want)
		layers, cells = append(layers, l), append(cells, want)
	}
	for round := range 20 {
		reader.opts.Connections = 1 + rng.IntN(6)
		requests := make([]layer.CellRequest, len(layers))
		for i, l := range layers {
			w := l.Grid.Window()
			if round > 0 {
				w.RowStart, w.RowStop = span(rng, w.RowStop)
				w.ColStart, w.ColStop = span(rng, w.ColStop)
			}
			requests[i] = layer.CellRequest{Layer: l, Window: w, ChunkCells: 1 + rng.IntN(1<<(1+rng.IntN(18)))}
		}
		set, err := reader.Open(t.Context(), requests)
		if err != nil {
			t.Fatal(fault.From(err).Detail())
		}
		t.Cleanup(set.Close)
		for i, request := range requests {
			var want []storedCell
			for _, c := range cells[i] {
				if request.Window.Contains(int64(c.row), int64(c.col)) {
					want = append(want, c)
				}
			}
			got, err := readAll(t.Context(), set.Stream(i))
			if err != nil {
				t.Fatalf("%s, %s: %v", request.Layer.Name, request.Window, fault.From(err).Detail())
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%s, %s, chunks of %d: %d cells, want %d", request.Layer.Name, request.Window, request.ChunkCells, len(got), len(want))
			}
		}
		set.Close()
	}
	if busy := pool.Stat().AcquiredConns(); busy != 0 {
		t.Errorf("%d connections were not given back", busy)
	}
}

// A tile that disagrees with itself is DATA_LOSS with its name, when it is read
// and not before; a table that is another one is LAYER_CHANGED.
func TestCellsRefuseBadTiles(t *testing.T) {
	t.Parallel()
	reader, pool := newReader(t, CellOptions{})
	var cells []storedCell
	for r := range int32(300) {
		for c := range int32(520) {
			if c%7 > 0 {
				cells = append(cells, storedCell{r, c, float64(r + c)})
			}
		}
	}
	for _, test := range []struct {
		name, sql string
		kind      fault.Kind
	}{
		{"a byte of the data", `UPDATE %s SET data = set_byte(data, 20, get_byte(data, 20) # 1) WHERE (tile_row, tile_col) = (1, 2)`, fault.Corrupt},
		{"the last byte of its checksum", `UPDATE %s SET data = set_byte(data, length(data) - 1, get_byte(data, length(data) - 1) # 128) WHERE (tile_row, tile_col) = (1, 2)`, fault.Corrupt},
		{"a byte of the bitmap", `UPDATE %s SET valid = set_byte(valid, 0, get_byte(valid, 0) # 1) WHERE (tile_row, tile_col) = (1, 2)`, fault.Corrupt},
		{"the count", `UPDATE %s SET cells = cells + 1 WHERE (tile_row, tile_col) = (1, 2)`, fault.Corrupt},
		{"a negative count", `UPDATE %s SET cells = -1 WHERE (tile_row, tile_col) = (1, 2)`, fault.Corrupt},
		{"no bitmap", `UPDATE %s SET valid = NULL WHERE (tile_row, tile_col) = (1, 2)`, fault.Corrupt},
		{"cut off", `UPDATE %s SET data = substr(data, 1, 100) WHERE (tile_row, tile_col) = (1, 2)`, fault.Corrupt},
		{"too many bytes", `UPDATE %s SET data = data || convert_to(repeat('x', 1000000), 'UTF8') WHERE (tile_row, tile_col) = (1, 2)`, fault.Corrupt},
		{"too many of the bitmap", `UPDATE %s SET valid = valid || valid WHERE (tile_row, tile_col) = (1, 2)`, fault.Corrupt},
		{"of another place", `UPDATE %s SET (valid, data) = (SELECT valid, data FROM %[1]s WHERE (tile_row, tile_col) = (0, 0)) WHERE (tile_row, tile_col) = (1, 2)`, fault.Corrupt},
		{"a column of another type", `ALTER TABLE %s ALTER cells TYPE bigint`, fault.Conflict},
		{"no table", `DROP TABLE %s`, fault.Conflict},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := tiledLayer("birds "+test.name, 300, 520)
			storeTiles(t, pool, &l, tile.Raw, cells)
			if kind := read(t.Context(), reader, l, l.Grid.Window()); kind != nil {
				t.Fatal(kind)
			}
			run(t, pool, "ALTER TABLE "+quote(l.Table)+" DROP CONSTRAINT "+quoted(l.Table.Name+"_cells_check"))
			run(t, pool, fmt.Sprintf(test.sql, quote(l.Table)))
			f := fault.From(read(t.Context(), reader, l, l.Grid.Window()))
			if f == nil || f.Kind != test.kind || f.Fields["layer"] != l.Name {
				t.Fatalf("%+v", f)
			}
			if test.kind != fault.Corrupt {
				return
			}
			if f.Fields["tile_row"] != "1" || f.Fields["tile_col"] != "2" {
				t.Errorf("fields %v", f.Fields)
			}
			if err := read(t.Context(), reader, l, grid.Window{RowStop: 256, ColStop: 520}); err != nil {
				t.Errorf("a window beside the tile: %v", err)
			}
		})
	}
}

func read(ctx context.Context, reader *CellReader, l layer.Layer, w grid.Window) error {
	set, err := reader.Open(ctx, []layer.CellRequest{{Layer: l, Window: w, ChunkCells: 1 << 17}})
	if err != nil {
		return err
	}
	defer set.Close()
	cells, err := readAll(ctx, set.Stream(0))
	if err == nil && len(cells) == 0 {
		return errors.New("no cells")
	}
	return err
}
