package catalog

import (
	"context"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// Drop removes a layer from our catalog and gives it as it was. Its table, and the
// catalog that it was adopted from, stay as they are; the view that gave its
// coordinates goes with it. generation is the one that
// the caller saw; 0: whatever it is. deleteTiles also drops the table of a tiled
// layer that is ours.
//
// Errors: NotFound LAYER_NOT_FOUND, Conflict LAYER_CHANGED (another generation),
// Precondition MIGRATION_STATE (a migration of it is not over), LAYER_EXISTS
// (another layer has the tiles) or DEPENDENT (a view reads them), and as any query.
func (k *Keeper) Drop(ctx context.Context, name string, generation int64, deleteTiles bool) (layer.Layer, error) {
	tx, err := k.store.Change(ctx)
	if err != nil {
		return layer.Layer{}, err
	}
	defer tx.Rollback(ctx)
	known, err := tx.Layers(ctx, []string{name})
	if err != nil {
		return layer.Layer{}, err
	}
	if len(known) == 0 {
		return layer.Layer{}, k.notFound(ctx, []string{name})
	}
	l := known[0].Layer
	if generation != 0 && generation != l.Generation {
		return layer.Layer{}, fault.New(fault.Conflict, fault.LayerChanged,
			"layer %q has generation %d, and the request says %d; look at it again", name, l.Generation, generation).
			With("layer", name).With("generation", l.Generation).With("sent", generation)
	}
	if err := noMigration(ctx, tx, l); err != nil {
		return layer.Layer{}, err
	}
	if err := tx.Drop(ctx, l); err != nil {
		return layer.Layer{}, err
	}
	if deleteTiles {
		if err := deleteTilesOf(ctx, tx, known[0]); err != nil {
			return layer.Layer{}, err
		}
	}
	return l, tx.Commit(ctx)
}

// deleteTilesOf drops the table of a layer that is dropped itself.
func deleteTilesOf(ctx context.Context, tx Tx, r layer.Record) error {
	if r.Format != layer.FormatTiled || r.Table.Schema != layer.TileSchema {
		return fault.New(fault.Invalid, fault.InvalidArgument,
			"layer %q is stored as %s in %s, which is not a table of tiles of ours: its cells are not deleted", r.Name, r.Format, r.Table).
			With("field", "delete_tiles").With("layer", r.Name).With("format", r.Format).With("table", r.Table)
	}
	others, err := tx.LayersOfTable(ctx, r.Table)
	if err != nil {
		return err
	}
	if len(others) > 0 {
		return fault.New(fault.Precondition, fault.LayerExists,
			"the tiles of layer %q are those of layer %q too: drop that one first, or leave the tiles", r.Name, others[0]).
			With("layer", r.Name).With("other", others[0]).With("table", r.Table)
	}
	return tx.DropTileTable(ctx, r.Table)
}

// noMigration refuses a layer that has a migration which is not over.
func noMigration(ctx context.Context, tx Tx, l layer.Layer) error {
	id, state, err := tx.LiveMigration(ctx, l)
	if err != nil || id == "" {
		return err
	}
	return fault.New(fault.Precondition, fault.MigrationState,
		"layer %q has migration %s, which is %s: abort it, roll it back or finalize it first", l.Name, id, state).
		With("layer", l.Name).With("migration", id).With("state", state)
}
