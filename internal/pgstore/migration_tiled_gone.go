package pgstore

import (
	"context"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// tableGone reports whether somebody dropped the table that tiles are made of, and
// its triggers with it. It stays so: one that is made under the name is another one, and
// so is one that has its oid after a restore from a dump.
func (r migrationRow) tableGone(ctx context.Context, q querier) (gone bool, err error) {
	err = q.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1
		AND ((n.nspname, c.relname) = ($2, $3) OR EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = $4)))`,
		r.oldTable, r.Table.Schema, r.Table.Name, rowTrigger(r.ID)).Scan(&gone)
	return gone, err
}

// finalizeWithoutTable ends a migration whose table somebody dropped: nothing is
// left to compare with, or to drop, and the tiles are the only copy. What was
// written to cells of noted tiles since these were made went with the table. No
// view can be left: the columns that it would have are gone, too, and the name may
// be another table's by now, which is left alone.
func (a *arrow) finalizeWithoutTable(ctx context.Context, accepted migrate.Losses) error {
	tiled, err := a.row.tiled(ctx, a.Tx)
	if err != nil {
		return err
	}
	if err := a.asCatalogued(ctx, tiled.Table, 0); err != nil {
		return err
	}
	if !accepted.Name {
		return fault.New(fault.Invalid, fault.InvalidArgument,
			"the table %s that migration %s made tiles of was dropped, so no view can take its name: say that this is meant with drop_name", a.row.Table, a.row.ID).
			With("field", "drop_name").With("table", a.row.Table).With("migration", a.row.ID)
	}
	noted, err := notedTiles(ctx, a.Tx, ours(notesOf(a.row.ID)), a.row.Grid.Window())
	if err != nil {
		return err
	}
	if len(noted) > 0 && !accepted.Writes {
		return fault.New(fault.Precondition, fault.MigrationRefused,
			"layer %q: the table %s was dropped while %d of its tiles lagged behind it: what was written to them last is lost, and they are what they were before; accept that with lose_writes",
			a.row.Spec.Layer, a.row.Table, len(noted)).
			With("layer", a.row.Spec.Layer).With("table", a.row.Table).With("migration", a.row.ID).With("tiles", len(noted)).With("refusals", "TILES_LAG")
	}
	if err := a.stopFollowing(ctx, tiled); err != nil {
		return err
	}
	return a.decide(ctx, migrate.Finalized)
}
