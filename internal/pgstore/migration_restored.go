package pgstore

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// A dump of the database has our catalog with the oids that tables had. Restored, the
// tables have other ones, and an oid of before may be that of a stranger's. What a dump
// keeps are names, rows of one moment, and triggers: tables and what they are copied to
// agree as of that moment, and what is written after the restore goes the way that it
// went before. So a migration can go on, once somebody says that it should (the dump may
// have become a second database), and everything that was compared is compared again.

// places are the names of the tables of a migration: of the one that was there, and of
// the one that was made of it. In place both are the same.
func (r migrationRow) places() (old, fresh layer.Table) {
	switch {
	case r.Spec.Level == migrate.LevelTiled:
		return r.Table, r.tilesTable
	case r.Spec.InPlace:
		return r.Table, r.Table
	case r.State == migrate.CutOver:
		return layer.Table{Schema: "rasterloom", Name: oldOf(r.ID)}, r.Table
	default:
		return r.Table, layer.Table{Schema: "rasterloom", Name: shadowOf(r.ID)}
	}
}

// standing is which tables have the names of a migration's, and how many of its
// triggers are on the one with the public name.
type standing struct {
	old, fresh uint32 // 0: none
	triggers   int
}

func (r migrationRow) standing(ctx context.Context, q querier) (s standing, err error) {
	old, fresh := r.places()
	err = q.QueryRow(ctx, `WITH named AS (
			SELECT n.nspname, c.relname, c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE (n.nspname, c.relname) IN (($1, $2), ($3, $4)) AND c.relkind = 'r')
		SELECT coalesce((SELECT oid FROM named WHERE (nspname, relname) = ($1, $2)), 0), coalesce((SELECT oid FROM named WHERE (nspname, relname) = ($3, $4)), 0),
			(SELECT count(*) FROM pg_trigger t JOIN named ON named.oid = t.tgrelid WHERE t.tgname = ANY ($5))`,
		old.Schema, old.Name, fresh.Schema, fresh.Name, []string{rowTrigger(r.ID), truncateTrigger(r.ID)}).Scan(&s.old, &s.fresh, &s.triggers)
	return s, err
}

// wasRestored reports whether the tables of a migration were made anew under their
// names by a restore, and what stands there now. Nobody else makes a table under the
// name of one of ours, or one that has our triggers. Before there is anything of ours,
// a restore cannot be told from another table of that name; after a cut-over in place,
// where all that we made is coordinates, what has them is what was migrated.
func (r migrationRow) wasRestored(ctx context.Context, q querier) (now standing, restored bool, err error) {
	if r.State == migrate.Planned || r.State.Ended() {
		return now, false, nil
	}
	if now, err = r.standing(ctx, q); err != nil || now.old == 0 || now.fresh == 0 {
		return now, false, err
	}
	public, hidden := now.old != r.oldTable, now.fresh != r.newTable
	if r.State == migrate.CutOver && r.Spec.Level == migrate.LevelStored {
		public, hidden = hidden, public
	}
	if r.Spec.InPlace {
		return now, public && (now.triggers > 0 || r.State == migrate.CutOver), nil
	}
	return now, hidden || public && now.triggers > 0, nil
}

// anyTables are the arrows that do not mind which tables there are.
var anyTables = []string{"abort", "pause", "resume"}

// asRecorded refuses what goes by the oids of tables in a database that was restored.
func (r migrationRow) asRecorded(ctx context.Context, q querier) error {
	now, restored, err := r.wasRestored(ctx, q)
	if err != nil || !restored {
		return err
	}
	if r.Spec.Level == migrate.LevelTiled && r.State == migrate.CutOver && now.triggers == 0 {
		// The table may as well have been dropped before the dump, and another one have
		// its name: tableGone is for that. Where it is the table, it is resumed.
		return nil
	}
	way := "resume it, so that it goes on and compares all of it again, or abort it"
	if r.State == migrate.CutOver {
		way = "resume it, so that both sides are compared again, and then roll it back or finalize it"
	}
	return fault.New(fault.Conflict, fault.LayerChanged, "the database was restored from a dump since migration %s of table %s was %s: %s", r.ID, r.Table, r.State, way).
		With("migration", r.ID).With("layer", r.Spec.Layer).With("table", r.Table).With("state", r.State).With("restored", true)
}

// takeUp lets a migration go on in a database that was restored, with the tables that
// have its names now. Where both sides had been compared they are compared again: by a
// worker before the cut-over, here after it, since either table may be dropped next.
func (m *Migrations) takeUp(ctx context.Context, r migrationRow, now standing, etag string) error {
	if err := byOperator(etag, "")(&r); err != nil {
		return err
	}
	var verified *migrate.Verification
	if r.State == migrate.CutOver {
		r.oldTable, r.newTable = now.old, now.fresh
		v, err := r.target().compare(ctx, m, r)
		if err != nil {
			return faultOf(err)
		}
		r.Verification = nil // of the files of before
		if err := differs(r, v); err != nil {
			return err
		}
		verified = &v
	}
	return m.take(ctx, "resume", r.ID, byOperator(etag, ""), func(ctx context.Context, a *arrow) error {
		again, restored, err := a.row.wasRestored(ctx, a.Tx)
		if err != nil {
			return err
		}
		if !restored || again.old != now.old || again.fresh != now.fresh {
			return fault.New(fault.Conflict, fault.MigrationChanged, "the tables of migration %s were changed just now; try again", a.row.ID).With("migration", a.row.ID)
		}
		a.row.oldTable, a.row.newTable = now.old, now.fresh
		if _, err := a.Tx.Exec(ctx, `UPDATE rasterloom.migration SET old_table = $2, new_table = $3,
			synced_xid = CASE WHEN synced_xid IS NOT NULL THEN pg_current_xact_id() END WHERE id = $1`, int64(a.row.ID), now.old, now.fresh); err != nil {
			return err
		}
		if a.row.State == migrate.CutOver {
			err = a.takeUpCutOver(ctx, *verified)
		} else {
			err = a.takeUpBefore(ctx)
		}
		if err != nil {
			return err
		}
		to := a.row.State
		if to == migrate.Verified {
			to = migrate.Synced
		}
		return a.decide(ctx, to)
	})
}

// takeUpBefore makes sure that writes are followed, and begins again what went by the
// pages of a file.
func (a *arrow) takeUpBefore(ctx context.Context) error {
	if _, err := a.lockedSource(ctx, "ACCESS SHARE"); err != nil {
		return err
	}
	followed, err := a.attached(ctx, a.row.oldTable)
	if err != nil {
		return err
	}
	if !followed {
		return fault.New(fault.Conflict, fault.LayerChanged,
			"the database was restored from a dump without the triggers of migration %s on table %s, or with these disabled, so writes may have been missed: abort it, and start again", a.row.ID, a.row.Table).
			With("migration", a.row.ID).With("table", a.row.Table).With("restored", true)
	}
	if a.row.State == migrate.Backfilling && a.row.target().byPages() {
		if err := a.row.target().restart(ctx, a); err != nil {
			return err
		}
	}
	if a.row.Spec.Level != migrate.LevelTiled {
		return nil
	}
	return a.sameLayer(ctx)
}

// sameLayer notes the generation that adoption gave the layer because of the oids, or
// the oids where it has not come by yet, so that the cut-over does not take the layer for
// another one. Where more has changed, it does.
func (a *arrow) sameLayer(ctx context.Context) error {
	l, err := a.row.pixels()
	if err != nil {
		return err
	}
	_, err = a.Tx.Exec(ctx, `WITH same AS (UPDATE rasterloom.layer l SET table_oid = m.old_table, table_file = pg_relation_filenode(m.old_table::regclass)
		FROM rasterloom.migration m WHERE m.id = $1 AND l.name = m.layer
			AND (l.table_schema, l.table_name, l.format, l.registration, l.south_up) = (m.table_schema, m.table_name, m.old_format, m.old_registration, m.south_up)
			AND (l.crs, l.grid_rows, l.grid_cols, l.origin_x, l.origin_y, l.step_x, l.step_y) = (m.crs, m.grid_rows, m.grid_cols, m.origin_x, m.origin_y, m.step_x, m.step_y)
			AND (l.stored_type, l.declared_type, l.has_indices, l.has_coordinates) = ($2, $3, $4, $5) AND l.nodata IS NOT DISTINCT FROM $6
		RETURNING l.generation)
		UPDATE rasterloom.migration SET tiles = tiles || jsonb_build_object('generation', same.generation) FROM same WHERE id = $1`,
		int64(a.row.ID), l.StoredType.String(), l.DeclaredType.String(), l.HasIndices, l.HasCoordinates, l.Nodata)
	return err
}

// takeUpCutOver keeps the comparison, and tells whoever reads tiles which table they
// follow.
func (a *arrow) takeUpCutOver(ctx context.Context, v migrate.Verification) error {
	record, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := a.Tx.Exec(ctx, "UPDATE rasterloom.migration SET verification = $2 WHERE id = $1", int64(a.row.ID), record); err != nil {
		return err
	}
	if a.row.Spec.Level != migrate.LevelTiled {
		return nil
	}
	tiled, err := a.row.tiled(ctx, a.Tx)
	if err != nil {
		return err
	}
	a.row.Verification = &v
	comment, err := a.row.pixelSource()
	if err != nil {
		return err
	}
	_, err = a.Tx.Exec(ctx, "COMMENT ON COLUMN "+quote(tiled.Table)+".data IS "+text(comment))
	return err
}

// tilesNow looks at the table of tiles, by its name; false when there is none. What an
// older program made is known by its oid alone, and is ours where it is in our schema.
func (r migrationRow) tilesNow(ctx context.Context, q querier) (pixelTable, bool, error) {
	oid := r.newTable
	if at := r.tilesTable; at != (layer.Table{}) {
		err := q.QueryRow(ctx, "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2", at.Schema, at.Name).Scan(&oid)
		if errors.Is(err, pgx.ErrNoRows) {
			return pixelTable{}, false, nil
		}
		if err != nil {
			return pixelTable{}, false, err
		}
	}
	t, found, err := readTable(ctx, q, oid)
	return t, found && t.schema == layer.TileSchema, err
}

// release takes our triggers off whatever tables have them, which it gives: the one
// that the migration is about may have another name, or be another one after a restore.
// They are locked for everybody.
func (a *arrow) release(ctx context.Context) (tables []string, err error) {
	rows, err := a.Tx.Query(ctx, `SELECT n.nspname::text, c.relname::text, t.tgname::text, t.tgtype & 1 = 1
		FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		LEFT JOIN pg_proc f ON f.oid = t.tgfoid AND f.pronamespace = 'rasterloom'::regnamespace
		WHERE NOT t.tgisinternal AND (t.tgname = ANY ($1) OR f.proname = ANY ($1)) ORDER BY c.oid`, []string{rowTrigger(a.row.ID), truncateTrigger(a.row.ID)})
	if err != nil {
		return nil, err
	}
	type trigger struct {
		Schema, Table, Name string
		EachRow             bool
	}
	triggers, err := pgx.CollectRows(rows, pgx.RowToStructByPos[trigger])
	if err != nil {
		return nil, err
	}
	for _, t := range triggers {
		if table := quoted(t.Schema, t.Table); !slices.Contains(tables, table) {
			tables = append(tables, table)
		}
	}
	if err := a.quiet(ctx, tables...); err != nil {
		return nil, err
	}
	for _, table := range tables {
		if err := a.exec(ctx, "lock-table", "LOCK TABLE "+table+" IN ACCESS EXCLUSIVE MODE"); err != nil {
			return nil, err
		}
	}
	for _, t := range triggers {
		sql := "DROP TRIGGER " + quoted(t.Name) + " ON " + quoted(t.Schema, t.Table)
		if t.EachRow {
			err = a.exec(ctx, "drop-row-trigger", sql)
		} else {
			err = a.exec(ctx, "drop-truncate-trigger", sql)
		}
		if err != nil {
			return nil, err
		}
	}
	return tables, nil
}
