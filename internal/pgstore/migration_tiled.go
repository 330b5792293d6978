package pgstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/failpoint"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/internal/tile"
)

const (
	// chunkCells is about how many cells of the grid a chunk goes over: as many
	// whole rows of tiles, and one at least.
	chunkCells = 2 << 20
	// drainTiles is how many tiles are made anew in one transaction, and settledTiles
	// where several are at work.
	drainTiles, settledTiles = 64, 32
)

// tiledTable makes tiles of a table. The table stays where it is: a writer notes
// which tiles it touches, in its own transaction, and whoever reads tiles reads the
// cells of those that are noted from the table. So tiles and notes together are
// what the table is, in every snapshot, from the moment on when all tiles were made:
//
//   - a tile is made in a transaction that first deletes its notes and then reads
//     its cells. A write that this reading does not see commits its note later, or
//     had it seen and not deleted: the note stays.
//
// docs/migration.md tells the rest.
type tiledTable struct{}

// tilesRecord is what a migration to tiles has to know of its table, besides what
// others do: how its cells are read, and how the layer was catalogued.
type tilesRecord struct {
	Generation     int64   `json:"generation"`
	StoredType     string  `json:"stored_type"`
	DeclaredType   string  `json:"declared_type"`
	Nodata         *string `json:"nodata,omitempty"` // text: JSON has no NaN
	HasIndices     bool    `json:"has_indices"`
	HasCoordinates bool    `json:"has_coordinates"`
	HasKey         bool    `json:"has_key"`
	SQLView        bool    `json:"sql_view"`
	Declared       bool    `json:"declared"`
	// Codecs names the chain that was planned; an older planner left it open.
	Codecs string `json:"codecs,omitempty"`
}

// recordOfTiles makes it; nil for other migrations.
func recordOfTiles(plan migrate.Plan, l layer.Layer) ([]byte, error) {
	spec := plan.Spec
	if spec.Level != migrate.LevelTiled {
		return nil, nil
	}
	r := tilesRecord{
		Generation: l.Generation, StoredType: l.StoredType.String(), DeclaredType: l.DeclaredType.String(),
		HasIndices: l.HasIndices, HasCoordinates: l.HasCoordinates, HasKey: l.HasKey, SQLView: spec.Tiles.SQLView, Declared: spec.Tiles.Declared,
		Codecs: plan.Codecs,
	}
	if l.Nodata != nil {
		r.Nodata = new(strconv.FormatFloat(*l.Nodata, 'g', -1, 64))
	}
	return json.Marshal(r)
}

// pixels is the layer as its table is read.
func (r migrationRow) pixels() (layer.Layer, error) {
	t := r.tiles
	l := layer.Layer{
		Name: r.Spec.Layer, Grid: r.Grid, HasGrid: true, Table: r.Table, SouthUp: r.SouthUp, Generation: t.Generation,
		HasIndices: t.HasIndices, HasCoordinates: t.HasCoordinates, HasKey: t.HasKey,
	}
	l.Format, _ = layer.ParseFormat(r.oldFormat)
	l.StoredType, _ = layer.ParseDataType(t.StoredType)
	l.DeclaredType, _ = layer.ParseDataType(t.DeclaredType)
	l.Registration, _ = parseRegistration(r.oldRegistration)
	if t.Nodata != nil {
		v, err := strconv.ParseFloat(*t.Nodata, 64)
		if err != nil {
			return l, err
		}
		l.Nodata = &v
	}
	return l, nil
}

// tiledOf is a layer as its tiles are read; without a table and a tiling.
func tiledOf(pixels layer.Layer, spec migrate.TileSpec) layer.Layer {
	l := pixels
	l.Format, l.SouthUp, l.HasIndices, l.HasCoordinates, l.HasKey, l.Registration = layer.FormatTiled, false, false, false, true, grid.RegistrationCenter
	if spec.Declared && l.DeclaredType != layer.TypeUnknown {
		l.StoredType = l.DeclaredType
	}
	return l
}

// tiles is the layer as its tiles are read, whose table is there.
func (r migrationRow) tiled(ctx context.Context, q querier) (layer.Layer, error) {
	pixels, err := r.pixels()
	if err != nil {
		return pixels, err
	}
	t, found, err := r.tilesNow(ctx, q)
	if err == nil && !found {
		err = errGone(r)
	}
	l := tiledOf(pixels, r.Spec.Tiles)
	l.Table, l.Tiling = layer.Table{Schema: t.schema, Name: t.name}, t.comment
	return l, err
}

// band makes what reads the table, as it looks now to a transaction.
func (r migrationRow) band(ctx context.Context, tx pgx.Tx, tiled layer.Layer) (tileBand, error) {
	pixels, err := r.pixels()
	if err != nil {
		return nil, err
	}
	return bandFrom(ctx, tx, pixels, tiled)
}

// bandFrom makes what reads a table, as it looks now to a transaction. Aggregates
// have to see rows in the order of their subquery: as settleSlices, no hashing and
// no workers.
func bandFrom(ctx context.Context, tx pgx.Tx, pixels, tiled layer.Layer) (tileBand, error) {
	if _, err := tx.Exec(ctx, `SELECT set_config('enable_hashagg', 'off', true), set_config('max_parallel_workers_per_gather', '0', true),
		set_config('jit', 'off', true)`); err != nil {
		return nil, err
	}
	tables, err := describe(ctx, tx, []layer.CellRequest{{Layer: pixels}})
	if err != nil {
		return nil, err
	}
	return newTileBand(pixels, tables[0], tiled)
}

// bands cuts a row of tiles into windows that are held at once.
func bands(g grid.Grid, row int64) []grid.Window {
	return windowsBetween(g, row, 0, int64(g.Cols+tile.Side-1)/tile.Side)
}

// windowsBetween cuts columns of tiles, from one up to another, of a row of tiles.
func windowsBetween(g grid.Grid, row, from, to int64) (list []grid.Window) {
	for col := from; col < to; col += bandTiles {
		w := grid.Window{RowStart: row * tile.Side, RowStop: (row + 1) * tile.Side, ColStart: col * tile.Side, ColStop: min(to, col+bandTiles) * tile.Side}
		list = append(list, w.Intersect(g.Window()))
	}
	return list
}

// prepare makes the key by which rows of tiles are read, where the table has none.
// It also keeps cells from being stored twice, which tiles cannot hold.
func (tiledTable) prepare(ctx context.Context, m *Migrations, r migrationRow) error {
	indexes, err := readIndexes(ctx, m.pool, r.oldTable)
	if err != nil || hasKeyFor(indexes, r.tiles.HasIndices) {
		return err
	}
	return m.makeKey(ctx, r, keyColumns(r.tiles.HasIndices))
}

func keyColumns(indices bool) []string {
	if indices {
		return []string{"row_idx", "col_idx"}
	}
	return []string{"y_coord", "x_coord"}
}

// hasKeyFor reports whether one of the indexes is unique on the columns that say
// where cells are, the rows first.
func hasKeyFor(indexes []tableIndex, indices bool) bool {
	return slices.ContainsFunc(indexes, func(i tableIndex) bool { return slices.Equal(i.Key, keyColumns(indices)) })
}

func (tiledTable) capture(ctx context.Context, a *arrow) error {
	if _, err := a.source(ctx, a.row.oldTable, a.row.signature); err != nil {
		return err
	}
	pixels, err := a.row.pixels()
	if err != nil {
		return err
	}
	tiled := tiledOf(pixels, a.row.Spec.Tiles)
	chain, ok := tile.ParseChain(a.row.tiles.Codecs)
	if !ok {
		chosen, err := chooseChain(ctx, a.Tx, pixels, tiled, a.row.Spec.Tiles.SQLView)
		if err != nil {
			return err
		}
		chain = chosen.chain
	}
	layout := tile.LayoutOf(tiled, chain)
	layout.Following = true // until it is finalized
	tiled.Tiling = layout.JSON()
	table := layer.Table{Schema: layer.TileSchema, Name: tileTableName(tiled.Name)}
	if err := createTileTable(ctx, a.Tx, table, tiled.Tiling); err != nil {
		return err
	}
	failpoint.Hit("capture/create-tiles")
	if err := a.exec(ctx, "create-notes", fmt.Sprintf("CREATE TABLE %s (tile_row integer NOT NULL, tile_col integer NOT NULL)", ours(notesOf(a.row.ID)))); err != nil {
		return err
	}
	// We delete notes, which a publication of all tables allows with an identity only.
	if err := a.exec(ctx, "identify-notes", fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY FULL", ours(notesOf(a.row.ID)))); err != nil {
		return err
	}
	if err := a.tileNoteFunctions(ctx, pixels); err != nil {
		return err
	}
	// Only now does anybody wait for us.
	old, err := a.lockedSource(ctx, "SHARE ROW EXCLUSIVE")
	if err != nil {
		return err
	}
	row, col, _ := placeColumns(pixels) // may be generated ones
	columns := slices.Compact(slices.Sorted(slices.Values(append(old.columns, row, col))))
	a.hold()
	return inOrder(ctx, []func(context.Context) error{
		func(ctx context.Context) error { return a.attach(ctx, old.quoted(), columns) },
		func(ctx context.Context) error {
			return a.exec(ctx, "tiles-oid", "UPDATE rasterloom.migration SET new_table = $2::text::regclass, tiles_schema = $3, tiles_name = $4 WHERE id = $1",
				int64(a.row.ID), quote(table), table.Schema, table.Name)
		},
		func(ctx context.Context) error { return a.enter(ctx, migrate.Capturing) },
		a.flush,
	})
}

// layLanes cuts the rows of tiles.
func (tiledTable) layLanes(ctx context.Context, a *arrow) error {
	rows, _ := tile.Count(a.row.Grid)
	lanes := max(1, min(maxLanes, rows))
	if err := a.exec(ctx, "clear-lanes", "DELETE FROM rasterloom.migration_lane WHERE migration = $1", int64(a.row.ID)); err != nil {
		return err
	}
	return a.exec(ctx, "lanes", `INSERT INTO rasterloom.migration_lane (migration, lane, start_block, next_block, stop_block)
		SELECT $1, i, $2::bigint * i / $3, $2::bigint * i / $3, $2::bigint * (i + 1) / $3 FROM generate_series(0, $3 - 1) i`,
		int64(a.row.ID), int64(rows), lanes)
}

// byPages is false: cells are read by their key, whatever file they are in.
func (tiledTable) byPages() bool { return false }

func (tiledTable) restart(context.Context, *arrow) error { return nil }

func (tiledTable) chunk(r migrationRow) int64 {
	return chunkOf(r, max(1, chunkCells/(tile.Side*int64(r.Grid.Cols))))
}

// copy makes the tiles of some rows of tiles.
func (tiledTable) copy(ctx context.Context, a *arrow, _ pixelTable, from, upto int64) (rows int64, err error) {
	tiled, err := a.row.tiled(ctx, a.Tx)
	if err != nil {
		return 0, err
	}
	band, err := a.row.band(ctx, a.Tx, tiled)
	if err != nil {
		return 0, err
	}
	w := newTileWriter(a.Tx, tiled.Table, false)
	for row := from; row < upto; row++ {
		for _, window := range bands(a.row.Grid, row) {
			n, err := band.load(ctx, a.Tx.Conn().PgConn(), window)
			if err != nil {
				return rows, err
			}
			rows += n
			if err := writeBand(ctx, w, band); err != nil {
				return rows, err
			}
		}
	}
	_, err = w.Flush(ctx)
	return rows, err
}

// writeBand writes all tiles of a band.
func writeBand(ctx context.Context, w *TileWriter, band tileBand) error {
	n, _ := band.tiles()
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return writeSome(ctx, w, band, all)
}

// writeSome writes some tiles of a band.
func writeSome(ctx context.Context, w *TileWriter, band tileBand, which []int) error {
	for _, i := range which {
		e, err := band.encode(i)
		if err != nil {
			return err
		}
		if err := w.Write(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// index has nothing to make: tiles have their key from the beginning.
func (tiledTable) index(ctx context.Context, a *arrow) error {
	t, err := existing(ctx, a.Tx, a.row, a.row.newTable)
	if err != nil {
		return err
	}
	if err := a.exec(ctx, "analyze", "ANALYZE "+t.quoted()); err != nil {
		return err
	}
	return a.enter(ctx, migrate.Indexed)
}

// applyNotes makes some of the noted tiles anew; none before all were compared once,
// since Verify makes and compares what lags then. Writers who are everywhere would note
// tiles as fast as these are made, for ever.
func (tiledTable) applyNotes(ctx context.Context, a *arrow, _ int) (left bool, err error) {
	if !a.row.Follows() {
		return false, nil
	}
	made, err := a.makeNoted(ctx, drainTiles)
	return made == drainTiles, err
}

// makeNoted makes up to limit of the tiles that are noted anew, and gives how many
// there were. It takes any: the first ones may be noted again by the next time, and
// others would never have their turn.
func (a *arrow) makeNoted(ctx context.Context, limit int) (made int, err error) {
	old, err := a.lockedSource(ctx, "ACCESS SHARE")
	if err != nil {
		return 0, err
	}
	if err := a.noteRewritten(ctx, old); err != nil {
		return 0, err
	}
	places, err := a.takeNotes(ctx, fmt.Sprintf("SELECT * FROM (SELECT DISTINCT tile_row, tile_col FROM %s) d ORDER BY random() LIMIT $1", ours(notesOf(a.row.ID))), limit)
	if err != nil {
		return 0, err
	}
	c := comparison{seed: maphash.MakeSeed()}
	c.Files = a.row.Verification.Files
	if err := a.makeAnew(ctx, places, &c); err != nil {
		return 0, err
	}
	return len(places), differs(a.row, c.Verification)
}

// noteRewritten notes all tiles where the table was written anew since they were compared
// with it: ALTER TABLE … TYPE … USING changes every row, and calls no trigger. Readers
// see that by the same file, and until this is committed take no tile for true.
func (a *arrow) noteRewritten(ctx context.Context, old pixelTable) error {
	v := a.row.Verification
	if v.Files[0] == old.file {
		return nil
	}
	v.Files[0] = old.file
	rows, cols := tile.Count(a.row.Grid)
	if _, err := a.Tx.Exec(ctx, fmt.Sprintf("INSERT INTO %s SELECT r, c FROM generate_series(0, %d) r, generate_series(0, %d) c", ours(notesOf(a.row.ID)), rows-1, cols-1)); err != nil {
		return err
	}
	if err := a.keep(ctx, *v); err != nil || a.row.State != migrate.CutOver {
		return err
	}
	tiled, err := a.row.tiled(ctx, a.Tx)
	if err != nil {
		return err
	}
	return a.tellReaders(ctx, tiled)
}

// tilePlace is a tile_row and a tile_col.
type tilePlace struct{ Row, Col int64 }

// takeNotes deletes the notes of the tiles that a query gives, and gives those that
// had any. It comes before the reading of their cells.
func (a *arrow) takeNotes(ctx context.Context, which string, args ...any) ([]tilePlace, error) {
	rows, err := a.Tx.Query(ctx, fmt.Sprintf(`WITH taken AS (DELETE FROM %s n USING (%s) t
			WHERE n.tile_row = t.tile_row AND n.tile_col = t.tile_col RETURNING n.tile_row, n.tile_col)
		SELECT DISTINCT tile_row, tile_col FROM taken ORDER BY tile_row, tile_col`, ours(notesOf(a.row.ID)), which), args...)
	if err != nil {
		return nil, err
	}
	places, err := pgx.CollectRows(rows, pgx.RowToStructByPos[tilePlace])
	failpoint.Hit(a.name + "/taken")
	return places, err
}

// makeAnew makes tiles anew whose notes were taken, but for those that are as they
// should be: a write may have changed nothing, or come before its tile was made. Each
// is read back and held against the table, in the same transaction; what is found is
// added to c.
func (a *arrow) makeAnew(ctx context.Context, places []tilePlace, c *comparison) error {
	tiled, err := a.row.tiled(ctx, a.Tx)
	if err != nil {
		return err
	}
	band, err := a.row.band(ctx, a.Tx, tiled)
	if err != nil {
		return err
	}
	for len(places) > 0 {
		first, n := places[0], 1
		for n < len(places) && places[n] == (tilePlace{first.Row, first.Col + int64(n)}) {
			n++
		}
		places = places[n:]
		for _, window := range windowsBetween(a.row.Grid, first.Row, first.Col, first.Col+int64(n)) {
			if _, err := band.load(ctx, a.Tx.Conn().PgConn(), window); err != nil {
				return err
			}
			found := c.beside()
			stale, err := compareBand(ctx, a.Tx, band, tiled, &found)
			if err != nil {
				return err
			}
			if len(stale) > 0 {
				w := newTileWriter(a.Tx, tiled.Table, true)
				if err := writeSome(ctx, w, band, stale); err != nil {
					return err
				}
				if _, err := w.Flush(ctx); err != nil {
					return err
				}
				found = c.beside()
				if _, err := compareBand(ctx, a.Tx, band, tiled, &found); err != nil {
					return err
				}
			}
			c.add(found)
		}
	}
	failpoint.Hit(a.name + "/made")
	return nil
}

// sync notes the moment from which on every snapshot has all tiles, or notes of
// them. Nobody is held up for it.
func (tiledTable) sync(ctx context.Context, a *arrow, _ int) (bool, error) {
	if err := a.exec(ctx, "synced", "UPDATE rasterloom.migration SET synced_xid = pg_current_xact_id() WHERE id = $1", int64(a.row.ID)); err != nil {
		return false, err
	}
	return false, a.enter(ctx, migrate.Synced)
}

// Follow makes tiles anew that are noted, of a migration that has all of them. left
// is false when there were none to take. Errors: Conflict MIGRATION_CHANGED when
// the lease was lost.
func (m *Migrations) Follow(ctx context.Context, l migrate.Lease) (left bool, err error) {
	err = m.take(ctx, "follow", l.ID, func(r *migrationRow) error {
		if r.Fence != l.Fence || r.Condition != migrate.Running || !r.Follows() {
			return errFenced(r.ID)
		}
		return nil
	}, func(ctx context.Context, a *arrow) (err error) {
		left, err = a.row.target().applyNotes(ctx, a, 0)
		return err
	})
	return left, err
}

// ClaimBehind takes over a migration whose tiles lag behind, and that has no living
// worker. false when there is none.
func (m *Migrations) ClaimBehind(ctx context.Context, lease time.Duration) (migrate.Lease, bool, error) {
	l := migrate.Lease{For: lease}
	// A table that was written anew is in another file: see noteRewritten.
	rows, err := m.pool.Query(ctx, `SELECT id, coalesce(pg_relation_filenode(old_table)::text <> coalesce(verification #>> '{files,0}', ''), false)
		FROM rasterloom.migration WHERE state IN ('TILED_VERIFIED', 'TILED_CUT_OVER') AND condition = 'RUNNING'
		AND (lease_until IS NULL OR lease_until < clock_timestamp()) ORDER BY id`)
	if err != nil {
		return l, false, faultOf(err)
	}
	type candidate struct {
		ID     int64
		Behind bool
	}
	candidates, err := pgx.CollectRows(rows, pgx.RowToStructByPos[candidate])
	if err != nil {
		return l, false, faultOf(err)
	}
	for _, c := range candidates {
		err := m.pool.QueryRow(ctx, "SELECT $1 OR EXISTS (SELECT FROM "+ours(notesOf(migrate.ID(c.ID)))+")", pgx.QueryExecModeExec, c.Behind).Scan(&c.Behind)
		if isCode(err, "42P01") { // undefined_table: ended just now
			continue
		}
		if err != nil {
			return l, false, faultOf(err)
		}
		if !c.Behind {
			continue
		}
		err = m.pool.QueryRow(ctx, `UPDATE rasterloom.migration SET fence = fence + 1, lease_until = clock_timestamp() + $2, failure = NULL WHERE id = $1
			AND condition = 'RUNNING' AND state IN ('TILED_VERIFIED', 'TILED_CUT_OVER') AND (lease_until IS NULL OR lease_until < clock_timestamp())
			RETURNING id, fence`, c.ID, lease).Scan((*int64)(&l.ID), &l.Fence)
		if errors.Is(err, pgx.ErrNoRows) {
			continue // somebody was quicker
		}
		return l, err == nil, faultOf(err)
	}
	return l, false, nil
}
