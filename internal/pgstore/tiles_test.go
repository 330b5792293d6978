package pgstore

import (
	"strings"
	"testing"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/pgtest"
	"github.com/rasterloom/rasterloom/internal/tile"
)

func openStore(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), pgtest.URL(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// tiledLayer is a layer of int16 without a table.
func tiledLayer(name string, rows, cols int) layer.Layer {
	l := layer.Layer{
		Name: name, Format: layer.FormatTiled, HasGrid: true, HasKey: true, StoredType: layer.Int16, DeclaredType: layer.Int16,
		Registration: grid.RegistrationCenter, Nodata: new(-1.0), Generation: 1,
		Grid: grid.Grid{CRS: "EPSG:32633", Rows: rows, Cols: cols, OriginX: 500000, OriginY: 5600000, StepX: 10, StepY: 10},
	}
	l.Tiling = tile.LayoutOf(l, tile.Zstd).JSON()
	return l
}

// What a writer is given is in the table, and a layer saved with it comes back.
func TestTileWriter(t *testing.T) {
	t.Parallel()
	s, ctx := openStore(t), t.Context()
	tx, err := s.Change(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx)
	l := tiledLayer(`Bob's "layer"; DROP TABLE x; -- \ ʘ of a rather long name, longer than a table can have`, 700, 600)
	if l.Table, err = tx.CreateTileTable(ctx, l); err != nil {
		t.Fatal(err)
	}
	encoder, err := tile.NewEncoder(l)
	if err != nil {
		t.Fatal(err)
	}
	values := make([]int16, tile.Cells)
	encode := func(row, col int32, value int16) tile.Encoded {
		for i := range values {
			values[i] = value
		}
		e, err := encoder.Encode(row, col, values, nil)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	w := tx.TileWriter(l.Table, false)
	for row := range int32(3) {
		for col := range int32(3) {
			if err := w.Write(ctx, encode(row, col, int16(3*row+col))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Write(ctx, encode(2, 2, -1)); err != nil { // no cells: nothing
		t.Fatal(err)
	}
	totals, err := w.Flush(ctx)
	if err != nil || totals.Tiles != 9 || totals.Cells != 700*600 {
		t.Fatalf("%+v, %v", totals, err)
	}
	relations, err := tx.Relations(ctx, []layer.Table{l.Table})
	if err != nil || !relations[0].Found {
		t.Fatalf("%+v, %v", relations, err)
	}
	record := layer.Record{Layer: l, TableOID: relations[0].OID, TableFile: relations[0].File}
	if err := tx.Save(ctx, []layer.Record{record}); err != nil {
		t.Fatal(err)
	}
	var comment string
	if err := tx.tx.QueryRow(ctx, "SELECT obj_description($1, 'pg_class')", relations[0].OID).Scan(&comment); err != nil || comment != l.Tiling {
		t.Errorf("the comment is %q, %v", comment, err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Layers(ctx, []string{l.Name}); err != nil || len(got) != 1 || got[0].Tiling != l.Tiling || got[0].Table != l.Table || got[0].Format != layer.FormatTiled {
		t.Errorf("%+v, %v", got, err)
	}
	if !strings.HasPrefix(l.Table.Name, "bob_s__layer___drop_table_x") || len(l.Table.Name) > 63 || l.Table.Schema != layer.TileSchema {
		t.Errorf("the table is %s", l.Table)
	}

	// Replacing: one tile anew, one twice, one away.
	tx, err = s.Change(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx)
	w = tx.TileWriter(l.Table, true)
	for _, e := range [][3]int{{0, 0, 50}, {1, 1, 60}, {1, 1, 61}, {2, 0, -1}} {
		if err := w.Write(ctx, encode(int32(e[0]), int32(e[1]), int16(e[2]))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	var content string
	if err := tx.tx.QueryRow(ctx, "SELECT string_agg(tile_row || ',' || tile_col || ':' || min, ' ' ORDER BY tile_row, tile_col) FROM "+quote(l.Table)).Scan(&content); err != nil {
		t.Fatal(err)
	}
	if want := "0,0:50 0,1:1 0,2:2 1,0:3 1,1:61 1,2:5 2,1:7 2,2:8"; content != want {
		t.Errorf("tiles and minima are %s, want %s", content, want)
	}

	// Without replacing, a second one is refused.
	w = tx.TileWriter(l.Table, false)
	if err := w.Write(ctx, encode(0, 0, 9)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Flush(ctx); fault.From(err) == nil || fault.From(err).Reason != fault.DuplicateCell {
		t.Errorf("a tile written twice: %v", err)
	}
	tx.Rollback(ctx)
	if tx, err = s.Change(ctx); err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx)
	if err := tx.DropTileTable(ctx, layer.Table{Schema: "rasterloom", Name: "layer"}); fault.KindOf(err) != fault.Denied {
		t.Errorf("a table that is not of tiles: %v", err)
	}
	if err := tx.DropTileTable(ctx, l.Table); err != nil {
		t.Error(err)
	}
}

// Names of tables are ASCII, short, and never equal.
func TestTileTableName(t *testing.T) {
	seen := make(map[string]bool)
	for _, name := range []string{"", "birds", "Birds", "a-b.c", strings.Repeat("ü", 100), strings.Repeat("x", 255)} {
		for range 3 {
			got := tileTableName(name)
			if seen[got] || len(got) > 63 || strings.ContainsFunc(got, func(r rune) bool { return r > 'z' || r < '0' }) {
				t.Errorf("%q became %q", name, got)
			}
			seen[got] = true
		}
	}
}
