package schema_test

import (
	"fmt"
	"testing"

	"connectrpc.com/connect"

	"github.com/rasterloom/rasterloom/fault"
	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/pgstore"
	"github.com/rasterloom/rasterloom/internal/tile"
	"github.com/rasterloom/rasterloom/internal/wire"
)

// tiles makes a table of one tile of 4 × 6 cells, with a comment, as ours or in
// public.
func (w *world) tiles(name string) layer.Table {
	w.t.Helper()
	store, err := pgstore.Open(w.t.Context(), w.url, pgstore.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	defer store.Close()
	tx, err := store.Change(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	defer tx.Rollback(w.t.Context())
	l := layer.Layer{Name: name, Format: layer.FormatTiled, StoredType: layer.Int16, Grid: grid.Grid{Rows: 4, Cols: 6}}
	l.Tiling = tile.LayoutOf(l, tile.Zstd).JSON()
	table, err := tx.CreateTileTable(w.t.Context(), l)
	if err != nil {
		w.t.Fatal(err)
	}
	encoder, err := tile.NewEncoder(l)
	if err != nil {
		w.t.Fatal(err)
	}
	e, err := encoder.Encode(0, 0, make([]int16, tile.Cells), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	writer := tx.TileWriter(table, false)
	if err := writer.Write(w.t.Context(), e); err != nil {
		w.t.Fatal(err)
	}
	if _, err := writer.Flush(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	if err := tx.Commit(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return table
}

func (w *world) registerTiles(name string, table layer.Table) (*layerv1.Layer, error) {
	req := registration(name, table.Name, inSchema(table.Schema))
	res, err := w.client.RegisterLayer(w.t.Context(), connect.NewRequest(req))
	if err != nil {
		return nil, err
	}
	return res.Msg.GetLayer(), nil
}

// A table of tiles is registered by its comment, and looked at again; its cells go
// with it only where the operator says so, and only where they are ours.
func TestTablesOfTiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	table := w.tiles("birds")
	l, err := w.registerTiles("birds", table)
	if err != nil || l.GetFormat() != layerv1.Format_FORMAT_TILED || l.GetStoredType() != layerv1.DataType_DATA_TYPE_INT16 || !l.GetHasKey() || l.GetTiling() == "" {
		t.Fatalf("%v, %v", l, err)
	}
	if again, rows := w.detect("birds", true); again.GetFormat() != layerv1.Format_FORMAT_TILED || len(again.GetProblems()) > 0 || rows != 1 {
		t.Errorf("looked at again: %v", again)
	}
	count := func() (n int) {
		if err := w.pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_class WHERE relname = $1", table.Name).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	drop := func(name string, tiles bool) error {
		_, err := w.client.DropLayer(t.Context(), connect.NewRequest(&schemav1.DropLayerRequest{Name: name, DeleteTiles: tiles}))
		return wire.FromConnect("schema", err)
	}
	if _, err := w.registerTiles("twin", table); err != nil {
		t.Fatal(err)
	}
	if f := fault.From(drop("twin", true)); f == nil || f.Kind != fault.Precondition || f.Fields["other"] != "birds" {
		t.Errorf("tiles of two layers: %v", f)
	}
	if err := drop("twin", false); err != nil || count() != 1 {
		t.Errorf("%v, %d tables", err, count())
	}
	w.exec("CREATE VIEW public.reader AS SELECT cells FROM " + table.Schema + "." + table.Name)
	if f := fault.From(drop("birds", true)); f == nil || f.Kind != fault.Precondition || f.Reason != fault.Dependent || f.Fields["dependents"] != "view public.reader" || count() != 1 {
		t.Errorf("tiles that a view reads: %v", f)
	}
	if l := w.layer("birds"); l.GetFormat() != layerv1.Format_FORMAT_TILED {
		t.Errorf("the refusal changed the layer: %v", l)
	}
	w.exec("DROP VIEW public.reader")
	if err := drop("birds", true); err != nil || count() != 0 {
		t.Errorf("%v, %d tables", err, count())
	}
	w.legacy("plain")
	if _, err := w.client.RegisterLayer(t.Context(), connect.NewRequest(registration("plain", "plain"))); err != nil {
		t.Fatal(err)
	}
	if f := fault.From(drop("plain", true)); f == nil || f.Kind != fault.Invalid {
		t.Errorf("a table that is not ours: %v", f)
	}

	// What its comment, its columns or its tiles say wrongly is told.
	for problem, sql := range map[string]string{
		"TILING_UNKNOWN":     `COMMENT ON TABLE %s IS 'pixels'`,
		"TILING_CONFLICT":    `COMMENT ON TABLE %s IS '` + tile.LayoutOf(layer.Layer{StoredType: layer.Int16, Grid: grid.Grid{Rows: 5, Cols: 6}}, tile.Zstd).JSON() + `'`,
		"COLUMN_MISSING":     `ALTER TABLE %s DROP COLUMN valid`,
		"COLUMN_TYPE":        `ALTER TABLE %s ALTER cells TYPE bigint`,
		"CELLS_OUTSIDE_GRID": `UPDATE %s SET tile_col = 1`,
	} {
		table := w.tiles(problem)
		w.exec(fmt.Sprintf(sql, fmt.Sprintf("%q.%q", table.Schema, table.Name)))
		_, err := w.registerTiles(problem, table)
		if f := fault.From(wire.FromConnect("schema", err)); f == nil || f.Kind != fault.Precondition || f.Fields["problem"] != problem {
			t.Errorf("%s: %v", problem, f)
		}
	}
}
