package pgstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/internal/tile"
)

// finalTiles is how many tiles may lag behind when the table is to be dropped:
// everybody waits while they are made.
const finalTiles = 16

// cutOver makes the tiles what the layer is read from. The table keeps its name;
// nobody waits. What is written to it from now on is noted as before, and until a
// worker has made a tile anew, its cells are read from the table: the comment of
// the tiles' column data says so.
func (tiledTable) cutOver(ctx context.Context, a *arrow, _ migrate.Verification) error {
	if err := a.noOldSnapshots(ctx); err != nil {
		return err
	}
	old, err := a.lockedSource(ctx, "ACCESS SHARE")
	if err != nil {
		return err
	}
	if err := a.stillFollowed(ctx, a.row.oldTable); err != nil {
		return err
	}
	tiled, err := a.row.tiled(ctx, a.Tx)
	if err != nil {
		return err
	}
	if err := a.asCatalogued(ctx, a.row.Table, a.row.tiles.Generation); err != nil {
		return err
	}
	if err := a.noteRewritten(ctx, old); err != nil {
		return err
	}
	// An older program may have made them, which noted no name.
	if _, err := a.Tx.Exec(ctx, "UPDATE rasterloom.migration SET tiles_schema = $2, tiles_name = $3 WHERE id = $1", int64(a.row.ID), tiled.Table.Schema, tiled.Table.Name); err != nil {
		return err
	}
	return inOrder(ctx, []func(context.Context) error{
		func(ctx context.Context) error { return a.tellReaders(ctx, tiled) },
		func(ctx context.Context) error { return a.catalogTiles(ctx, tiled) },
		func(ctx context.Context) error { return a.decide(ctx, migrate.CutOver) },
	})
}

// tellReaders writes what the tiles follow into the comment that readers look for.
func (a *arrow) tellReaders(ctx context.Context, tiled layer.Layer) error {
	comment, err := a.row.pixelSource()
	if err != nil {
		return err
	}
	return a.exec(ctx, "lagging", "COMMENT ON COLUMN "+quote(tiled.Table)+".data IS "+text(comment))
}

// pixelSource is what the comment of the tiles says of the table that they follow: where
// it and the notes are, and the file that these are of.
func (r migrationRow) pixelSource() (string, error) {
	comment, err := json.Marshal(pixelSource{
		Version: pixelSourceVersion, Migration: r.ID.String(),
		Notes: tableName{"rasterloom", notesOf(r.ID)}, Table: tableName{r.Table.Schema, r.Table.Name}, OID: r.oldTable, File: r.Verification.Files[0],
		Triggers:   []string{rowTrigger(r.ID), truncateTrigger(r.ID)},
		StoredType: r.tiles.StoredType, Registration: r.oldRegistration, HasIndices: r.tiles.HasIndices, SouthUp: r.SouthUp,
	})
	return string(comment), err
}

// asCatalogued makes sure that the layer is what it was, and keeps it so until the
// transaction ends. generation 0 stands for any.
func (a *arrow) asCatalogued(ctx context.Context, table layer.Table, generation int64) error {
	var now int64
	var at layer.Table
	var nodata *float64
	err := a.Tx.QueryRow(ctx, "SELECT generation, table_schema, table_name, nodata FROM rasterloom.layer WHERE name = $1 FOR UPDATE", a.row.Spec.Layer).
		Scan(&now, &at.Schema, &at.Name, &nodata)
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.New(fault.NotFound, fault.LayerNotFound, "layer %q is gone from the catalog", a.row.Spec.Layer).With("layer", a.row.Spec.Layer)
	}
	if err != nil {
		return err
	}
	pixels, err := a.row.pixels()
	if err != nil {
		return err
	}
	same := nodata == nil && pixels.Nodata == nil ||
		nodata != nil && pixels.Nodata != nil && (*nodata == *pixels.Nodata || *nodata != *nodata && *pixels.Nodata != *pixels.Nodata)
	if at != table || generation != 0 && now != generation || !same {
		return fault.New(fault.Conflict, fault.LayerChanged,
			"layer %q was catalogued anew since migration %s began, with generation %d by now: its tiles may mean something else; abort it or roll it back, and start again",
			a.row.Spec.Layer, a.row.ID, now).With("layer", a.row.Spec.Layer).With("migration", a.row.ID).With("generation", now)
	}
	return nil
}

// catalogTiles tells our catalog that the layer's cells are in tiles.
func (a *arrow) catalogTiles(ctx context.Context, tiled layer.Layer) error {
	return a.exec(ctx, "catalog", `UPDATE rasterloom.layer SET format = 'TILED', registration = 'CENTER', south_up = false, stored_type = $2,
		has_indices = false, has_coordinates = false, has_key = true, table_schema = $3, table_name = $4, table_oid = c.oid,
		table_file = pg_relation_filenode(c.oid), estimated_rows = c.reltuples::bigint, tiling = $5::text::json,
		generation = generation + 1, update_time = clock_timestamp() FROM pg_class c WHERE name = $1 AND c.oid = $6`,
		a.row.Spec.Layer, tiled.StoredType.String(), tiled.Table.Schema, tiled.Table.Name, tiled.Tiling, a.row.newTable)
}

// catalogPixels takes that back.
func (a *arrow) catalogPixels(ctx context.Context) error {
	t := a.row.tiles
	return a.exec(ctx, "catalog", `UPDATE rasterloom.layer SET format = $2, registration = $3, south_up = $4, stored_type = $5,
		has_indices = $6, has_coordinates = $7, has_key = $8, table_schema = $9, table_name = $10, table_oid = $11,
		table_file = coalesce(pg_relation_filenode($11::oid::regclass), 0), tiling = NULL,
		estimated_rows = coalesce((SELECT reltuples::bigint FROM pg_class WHERE oid = $11), -1),
		generation = generation + 1, update_time = clock_timestamp() WHERE name = $1`,
		a.row.Spec.Layer, a.row.oldFormat, a.row.oldRegistration, a.row.SouthUp, t.StoredType, t.HasIndices, t.HasCoordinates, t.HasKey,
		a.row.Table.Schema, a.row.Table.Name, a.row.oldTable)
}

// relies is false: tiles of a table that was written anew are all noted, and made anew.
func (tiledTable) relies(migrate.State) bool { return false }

// rollback drops the tiles: the table has every write.
func (tiledTable) rollback(ctx context.Context, a *arrow, _ migrate.Verification) error {
	if gone, err := a.row.tableGone(ctx, a.Tx); err != nil {
		return err
	} else if gone {
		return fault.New(fault.Conflict, fault.LayerChanged,
			"the table %s that migration %s made tiles of was dropped, so there is nothing to go back to: finalize it, or resume it where the table is there from a dump", a.row.Table, a.row.ID).
			With("layer", a.row.Spec.Layer).With("table", a.row.Table).With("migration", a.row.ID)
	}
	if err := a.lockTiles(ctx); err != nil {
		return err
	}
	if err := a.lockOut(ctx); err != nil {
		return err
	}
	if _, err := a.source(ctx, a.row.oldTable, a.row.signature); err != nil {
		return err
	}
	if err := a.dropTiles(ctx); err != nil {
		return err
	}
	if err := a.catalogPixels(ctx); err != nil {
		return err
	}
	return a.decide(ctx, migrate.RolledBack)
}

// lockTiles waits for the readers of the tiles, before anybody waits for us.
func (a *arrow) lockTiles(ctx context.Context) error {
	tiles, found, err := a.row.tilesNow(ctx, a.Tx)
	if err != nil || !found {
		return err
	}
	return a.exec(ctx, "lock-tiles", "LOCK TABLE "+tiles.quoted()+" IN ACCESS EXCLUSIVE MODE")
}

// lockOut keeps everybody out of the table.
func (a *arrow) lockOut(ctx context.Context) error {
	if err := a.quiet(ctx, a.named()); err != nil {
		return err
	}
	return a.exec(ctx, "lock-table", "LOCK TABLE "+a.named()+" IN ACCESS EXCLUSIVE MODE")
}

// dropTiles takes away all that was made, where it is still there.
func (a *arrow) dropTiles(ctx context.Context) error {
	tiles, found, err := a.row.tilesNow(ctx, a.Tx)
	if err != nil {
		return err
	}
	if found {
		if err := a.exec(ctx, "drop-tiles", "DROP TABLE "+tiles.quoted()); err != nil {
			return err
		}
	}
	if _, err := a.release(ctx); err != nil {
		return err
	}
	if err := a.dropFunctions(ctx); err != nil {
		return err
	}
	if err := a.exec(ctx, "drop-notes", "DROP TABLE IF EXISTS "+ours(notesOf(a.row.ID))); err != nil {
		return err
	}
	return a.dropKey(ctx)
}

func (tiledTable) abort(ctx context.Context, a *arrow) error {
	if a.row.State == migrate.Planned {
		return a.dropKey(ctx)
	}
	if err := a.lockTiles(ctx); err != nil {
		return err
	}
	return a.dropTiles(ctx)
}

// finalize drops the table. The tiles that still lag are made while everybody is
// kept out of it, so nothing that was written is missing. Where a view was asked
// for, it takes the name, and the views of others read it from then on.
func (tiledTable) finalize(ctx context.Context, a *arrow, v migrate.Verification, accepted migrate.Losses) error {
	if gone, err := a.row.tableGone(ctx, a.Tx); err != nil {
		return err
	} else if gone {
		return a.finalizeWithoutTable(ctx, accepted)
	}
	if err := a.lockOut(ctx); err != nil {
		return err
	}
	old, err := a.source(ctx, a.row.oldTable, a.row.signature)
	if err != nil {
		return err
	}
	if err := a.stillFollowed(ctx, a.row.oldTable); err != nil {
		return err
	}
	tiled, err := a.row.tiled(ctx, a.Tx)
	if err != nil {
		return err
	}
	if err := a.asCatalogued(ctx, tiled.Table, 0); err != nil {
		return err
	}
	if err := a.nobodyElses(ctx); err != nil {
		return err
	}
	// The plan found nothing of the kind, and may be weeks old.
	lost, _, err := lostWithTable(ctx, a.Tx, old, a.row.Spec.Tiles.SQLView)
	if err != nil {
		return err
	}
	if err := a.wouldBeLost(a.notOurs(lost)); err != nil {
		return err
	}
	if v.Files[0] != old.file {
		return fault.New(fault.Conflict, fault.LayerChanged, "table %s was written anew (VACUUM FULL, ALTER TABLE) since migration %s compared it; try again", a.row.Table, a.row.ID).
			With("table", a.row.Table).With("migration", a.row.ID)
	}
	a.row.Verification = &v // of just now
	made, err := a.makeNoted(ctx, finalTiles)
	if err != nil {
		return err
	}
	if made == finalTiles {
		return fault.New(fault.Unavailable, fault.TableBusy,
			"the tiles of layer %q lag behind its table by %d and more, which is being written; finalize when fewer do", a.row.Spec.Layer, made).
			With("layer", a.row.Spec.Layer).With("tiles", made)
	}
	if err := a.leaveName(ctx, old, tiled); err != nil {
		return err
	}
	if err := a.exec(ctx, "drop-old", "DROP TABLE "+quoted(old.schema, hiddenName(a.row.ID))); err != nil {
		return err
	}
	if err := a.stopFollowing(ctx, tiled); err != nil {
		return err
	}
	if err := a.keep(ctx, v); err != nil {
		return err
	}
	return a.decide(ctx, migrate.Finalized)
}

// stopFollowing takes away what tiles follow a table by: they are all there is.
func (a *arrow) stopFollowing(ctx context.Context, tiled layer.Layer) error {
	if err := a.dropFunctions(ctx); err != nil {
		return err
	}
	if err := a.exec(ctx, "drop-notes", "DROP TABLE "+ours(notesOf(a.row.ID))); err != nil {
		return err
	}
	if err := a.exec(ctx, "lagging", "COMMENT ON COLUMN "+quote(tiled.Table)+".data IS NULL"); err != nil {
		return err
	}
	layout, err := tile.ParseLayout(tiled.Tiling)
	if err != nil {
		return err
	}
	layout.Following = false
	if err := a.exec(ctx, "layout", "COMMENT ON TABLE "+quote(tiled.Table)+" IS "+text(layout.JSON())); err != nil {
		return err
	}
	// Of the same generation: the cells are the same, and so is how they are read.
	return a.exec(ctx, "catalog-layout", "UPDATE rasterloom.layer SET tiling = $2::text::json WHERE name = $1", a.row.Spec.Layer, layout.JSON())
}

// hiddenName is what the table is called for as long as finalizing takes.
func hiddenName(id migrate.ID) string { return fmt.Sprintf("rasterloom_old_%d", id) }

// nobodyElses makes sure that no other layer is read from the table.
func (a *arrow) nobodyElses(ctx context.Context) error {
	others, err := othersOf(ctx, a.Tx, a.row.oldTable, a.row.Spec.Layer)
	if err != nil || len(others) == 0 {
		return err
	}
	return fault.New(fault.Precondition, fault.MigrationRefused, "layer %q is read from table %s too, which is to be dropped", others[0], a.row.Table).
		With("layer", a.row.Spec.Layer).With("other", others[0]).With("table", a.row.Table).With("refusals", "TABLE_SHARED")
}

// othersOf goes by names: a layer that was not adopted again since a restore is
// catalogued with an oid of before.
func othersOf(ctx context.Context, q querier, oid uint32, name string) ([]string, error) {
	rows, err := q.Query(ctx, `SELECT l.name FROM rasterloom.layer l WHERE l.name <> $2 AND (l.table_oid = $1 OR EXISTS (
			SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1 AND (n.nspname, c.relname) = (l.table_schema, l.table_name)))
		ORDER BY l.name`, oid, name)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
