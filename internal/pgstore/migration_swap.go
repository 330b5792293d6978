package pgstore

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// CutOver gives the table's name to the new table, in one transaction of some
// milliseconds; from then on every write reaches the old one as well, so that
// Rollback loses nothing. etag is of the migration as the operator saw it.
// Errors: NotFound MIGRATION_NOT_FOUND; Precondition MIGRATION_STATE; Conflict
// MIGRATION_CHANGED (stale etag), LAYER_CHANGED; Precondition DEPENDENT when the table
// has what the other one has not; Unavailable TABLE_BUSY when the
// locks were not had, or transactions from before the copy was complete are still
// open. Nothing is changed then.
func (m *Migrations) CutOver(ctx context.Context, id migrate.ID, etag string) error {
	v, err := m.asCompared(ctx, id, etag, migrate.CutOver)
	if err != nil {
		return err
	}
	return m.take(ctx, "cut-over", id, byOperator(etag, migrate.CutOver), func(ctx context.Context, a *arrow) error {
		return a.row.target().cutOver(ctx, a, v)
	})
}

func (shadowTable) relies(migrate.State) bool { return true }

func (shadowTable) cutOver(ctx context.Context, a *arrow, v migrate.Verification) error {
	id := a.row.ID
	if err := a.noOldSnapshots(ctx); err != nil {
		return err
	}
	var old pixelTable
	if err := a.lockBoth(ctx, ours(shadowOf(id)), func() (err error) {
		if old, err = a.source(ctx, a.row.oldTable, a.row.signature); err != nil {
			return err
		}
		if err := a.stillFollowed(ctx, a.row.oldTable); err != nil {
			return err
		}
		if err := a.stillCompared(ctx, v); err != nil {
			return err
		}
		return a.alike(ctx, a.row.oldTable, a.row.newTable, insteadOfCutOver)
	}); err != nil {
		return err
	}
	if err := a.keep(ctx, v); err != nil {
		return err
	}
	views, err := readViews(ctx, a.Tx, a.row.oldTable)
	if err != nil {
		return err
	}
	fresh, bequest, err := a.bequest(ctx, a.row.oldTable, a.row.newTable, old)
	if err != nil {
		return err
	}
	identities, err := a.identities(ctx, old, fresh)
	if err != nil {
		return err
	}
	a.hold()
	steps := []func(context.Context) error{
		func(ctx context.Context) error { return a.detach(ctx, old.quoted()) },
		func(ctx context.Context) error { return a.bequeath(ctx, append(bequest, identities...)) },
		func(ctx context.Context) error { return a.hide(ctx, old, oldOf(id), true) },
		func(ctx context.Context) error { return a.publish(ctx, shadowOf(id), true) },
		func(ctx context.Context) error { return a.followFunctions(ctx, ours(oldOf(id)), old.columns) },
		func(ctx context.Context) error { return a.attach(ctx, old.quoted(), old.columns) },
		func(ctx context.Context) error { return a.redefine(ctx, views) },
		func(ctx context.Context) error {
			return a.recatalog(ctx, a.row.newTable, layer.FormatCoordinate.String(), "CENTER", true)
		},
		// So that Rollback can tell whether the table was altered since.
		func(ctx context.Context) error {
			return a.exec(ctx, "new-signature", "UPDATE rasterloom.migration SET new_signature = $2 WHERE id = $1", int64(id), fresh.signature)
		},
		func(ctx context.Context) error { return a.decide(ctx, migrate.CutOver) },
		a.flush,
	}
	return inOrder(ctx, steps)
}

// Rollback gives the name back to the old table, which has every write, and drops
// the new one. Errors: as CutOver.
func (m *Migrations) Rollback(ctx context.Context, id migrate.ID, etag string) error {
	v, err := m.asCompared(ctx, id, etag, migrate.RolledBack)
	if err != nil {
		return err
	}
	return m.take(ctx, "rollback", id, byOperator(etag, migrate.RolledBack), func(ctx context.Context, a *arrow) error {
		return a.row.stillNeeded(a.row.target().rollback(ctx, a, v))
	})
}

func (shadowTable) rollback(ctx context.Context, a *arrow, v migrate.Verification) error {
	id := a.row.ID
	var fresh pixelTable
	if err := a.lockBoth(ctx, ours(oldOf(id)), func() (err error) {
		if fresh, err = a.source(ctx, a.row.newTable, a.row.newSignature); err != nil {
			return err
		}
		if err := a.stillFollowed(ctx, a.row.newTable); err != nil {
			return err
		}
		if err := a.stillCompared(ctx, v); err != nil {
			return err
		}
		more, err := a.onCoordinates(ctx, a.row.newTable)
		if err != nil {
			return err
		}
		return a.alike(ctx, a.row.newTable, a.row.oldTable, insteadOfRollback, more...)
	}); err != nil {
		return err
	}
	if err := a.keep(ctx, v); err != nil {
		return err
	}
	views, err := readViews(ctx, a.Tx, a.row.newTable)
	if err != nil {
		return err
	}
	old, bequest, err := a.bequest(ctx, a.row.newTable, a.row.oldTable, fresh)
	if err != nil {
		return err
	}
	identities, err := a.identities(ctx, fresh, old)
	if err != nil {
		return err
	}
	a.hold()
	steps := []func(context.Context) error{
		func(ctx context.Context) error { return a.detach(ctx, fresh.quoted()) },
		func(ctx context.Context) error { return a.dropFunctions(ctx) },
		func(ctx context.Context) error { return a.bequeath(ctx, append(bequest, identities...)) },
		func(ctx context.Context) error { return a.hide(ctx, fresh, shadowOf(id), false) },
		func(ctx context.Context) error { return a.publish(ctx, oldOf(id), false) },
		func(ctx context.Context) error { return a.redefine(ctx, views) },
		func(ctx context.Context) error { return a.exec(ctx, "drop-new", "DROP TABLE "+ours(shadowOf(id))) },
		a.dropKey,
		func(ctx context.Context) error {
			return a.recatalog(ctx, a.row.oldTable, a.row.oldFormat, a.row.oldRegistration, false)
		},
		func(ctx context.Context) error { return a.decide(ctx, migrate.RolledBack) },
		a.flush,
	}
	return inOrder(ctx, steps)
}

// Finalize compares both tables once more and drops the old one: the only step
// without a way back. Errors: as CutOver; Corrupt DATA_CORRUPT when they differ;
// Invalid INVALID_ARGUMENT or Precondition MIGRATION_REFUSED where more would be
// lost than is accepted.
func (m *Migrations) Finalize(ctx context.Context, id migrate.ID, etag string, accepted migrate.Losses) error {
	row, err := readMigration(ctx, m.pool, id, "")
	if err != nil {
		return faultOf(err)
	}
	if err := byOperator(etag, migrate.Finalized)(&row); err != nil {
		return err
	}
	if err := row.asRecorded(ctx, m.pool); err != nil {
		return faultOf(err)
	}
	v, err := row.target().compare(ctx, m, row)
	if err != nil {
		return faultOf(err)
	}
	if err := differs(row, v); err != nil {
		return err
	}
	return m.take(ctx, "finalize", id, byOperator(etag, migrate.Finalized), func(ctx context.Context, a *arrow) error {
		return a.row.stillNeeded(a.row.target().finalize(ctx, a, v, accepted))
	})
}

func (shadowTable) finalize(ctx context.Context, a *arrow, v migrate.Verification, _ migrate.Losses) error {
	id := a.row.ID
	var fresh pixelTable
	if err := a.lockBoth(ctx, ours(oldOf(id)), func() (err error) {
		if fresh, err = existing(ctx, a.Tx, a.row, a.row.newTable); err != nil {
			return err
		}
		if err := a.stillCompared(ctx, v); err != nil {
			return err
		}
		return a.nothingLost(ctx, a.row.newTable, a.row.oldTable)
	}); err != nil {
		return err
	}
	if err := a.keep(ctx, v); err != nil {
		return err
	}
	a.hold()
	steps := []func(context.Context) error{
		func(ctx context.Context) error { return a.detach(ctx, fresh.quoted()) },
		func(ctx context.Context) error { return a.dropFunctions(ctx) },
		func(ctx context.Context) error { return a.exec(ctx, "drop-old", "DROP TABLE "+ours(oldOf(id))) },
		func(ctx context.Context) error { return a.decide(ctx, migrate.Finalized) },
		a.flush,
	}
	return inOrder(ctx, steps)
}

// Abort gives a migration up before its cut-over: everything it made is dropped.
// The table was never changed. Errors: as CutOver.
func (m *Migrations) Abort(ctx context.Context, id migrate.ID, etag string) error {
	return m.take(ctx, "abort", id, byOperator(etag, migrate.Aborted), func(ctx context.Context, a *arrow) error {
		if err := a.row.target().abort(ctx, a); err != nil {
			return err
		}
		return a.decide(ctx, migrate.Aborted)
	})
}

// Names are all that abort goes by: it works whatever became of the table.
func (shadowTable) abort(ctx context.Context, a *arrow) error {
	id := a.row.ID
	if a.row.State == migrate.Planned {
		return a.dropKey(ctx)
	}
	var made []string
	for _, name := range []string{shadowOf(id), notesOf(id)} {
		var there bool
		if err := a.Tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'rasterloom'::regnamespace AND relname = $1)", name).Scan(&there); err != nil {
			return err
		}
		if there {
			made = append(made, ours(name))
		}
	}
	if err := a.quiet(ctx, made...); err != nil {
		return err
	}
	if _, err := a.release(ctx); err != nil {
		return err
	}
	if err := a.dropFunctions(ctx); err != nil {
		return err
	}
	if a.row.State.Capture() == migrate.CaptureNoted {
		if err := a.exec(ctx, "drop-notes", "DROP TABLE IF EXISTS "+ours(notesOf(id))); err != nil {
			return err
		}
	}
	if err := a.exec(ctx, "drop-shadow", "DROP TABLE IF EXISTS "+ours(shadowOf(id))); err != nil {
		return err
	}
	return a.dropKey(ctx)
}

func inOrder(ctx context.Context, steps []func(context.Context) error) error {
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// lockBoth keeps everybody out of both tables: the one with the name first, as writers
// do. Both are looked at twice: before anybody has to wait, which is when most of what
// is wrong is found, and under the lock, when the queries have their plans.
func (a *arrow) lockBoth(ctx context.Context, other string, look func() error) error {
	if err := a.quiet(ctx, a.named(), other); err != nil {
		return err
	}
	if _, err := a.Tx.Exec(ctx, "SELECT set_config('plan_cache_mode', 'force_generic_plan', true)"); err != nil {
		return err
	}
	if err := look(); err != nil {
		return err
	}
	if err := a.exec(ctx, "lock-table", "LOCK TABLE "+a.named()+" IN ACCESS EXCLUSIVE MODE"); err != nil {
		return err
	}
	if err := a.exec(ctx, "lock-other", "LOCK TABLE "+other+" IN ACCESS EXCLUSIVE MODE"); err != nil {
		return err
	}
	return look()
}

// named is the table that has the name.
func (a *arrow) named() string { return quoted(a.row.Table.Schema, a.row.Table.Name) }

// quiet sends autovacuum away from tables before locks are asked for that hold
// others up. PostgreSQL ends an autovacuum that is in somebody's way, but only
// once that one has waited for deadlock_timeout, which is longer than we let
// anybody wait. This lock stands against autovacuum and schema changes, not
// against readers and writers, so it can be waited for; while it is held no
// autovacuum begins.
func (a *arrow) quiet(ctx context.Context, tables ...string) error {
	if _, err := a.Tx.Exec(ctx, `SELECT set_config('lock_timeout', (extract(epoch FROM current_setting('deadlock_timeout')::interval) * 1000 + 1000)::bigint || 'ms', true)`); err != nil {
		return err
	}
	for _, table := range tables {
		if err := a.exec(ctx, "quiet", "LOCK TABLE "+table+" IN SHARE UPDATE EXCLUSIVE MODE"); err != nil {
			return err
		}
	}
	_, err := a.Tx.Exec(ctx, "SELECT set_config('lock_timeout', $1, true)", lockWait)
	return err
}

// noOldSnapshots makes sure that nobody reads from before the new table was
// complete: a long REPEATABLE READ transaction that opens the table after the
// cut-over would see a part of it.
func (a *arrow) noOldSnapshots(ctx context.Context) error {
	var (
		count   int
		seconds float64
		pids    string
	)
	if err := a.Tx.QueryRow(ctx, sqlOldSnapshots, a.row.syncedXID).Scan(&count, &seconds, &pids); err != nil || count == 0 {
		return err
	}
	return fault.New(fault.Unavailable, fault.TableBusy,
		"%d transactions from before the copy of layer %q was complete are still open, the oldest for %.0f s (sessions %s); cut over when they have ended",
		count, a.row.Spec.Layer, seconds, pids).With("layer", a.row.Spec.Layer).With("transactions", count).With("seconds", fmt.Sprintf("%.1f", seconds)).With("sessions", pids)
}

// stillFollowed makes sure that nobody has taken off or disabled our triggers.
func (a *arrow) stillFollowed(ctx context.Context, oid uint32) error {
	attached, err := a.attached(ctx, oid)
	if err == nil && !attached {
		err = fault.New(fault.Conflict, fault.LayerChanged,
			"the triggers of migration %s on table %s were removed or disabled, so writes may have been missed", a.row.ID, a.row.Table).
			With("migration", a.row.ID).With("table", a.row.Table)
	}
	return err
}

// hide moves the table that has the name into our schema, with its indexes.
func (a *arrow) hide(ctx context.Context, t pixelTable, as string, old bool) error {
	if err := a.exec(ctx, "rename-away", fmt.Sprintf("ALTER TABLE %s RENAME TO %s", t.quoted(), quoted(as))); err != nil {
		return err
	}
	for i, x := range a.row.indexes {
		if err := a.exec(ctx, "rename-index-away", fmt.Sprintf("ALTER INDEX %s RENAME TO %s",
			quoted(t.schema, x.Name), quoted(a.hiddenIndex(i, old)))); err != nil {
			return err
		}
	}
	return a.exec(ctx, "move-away", fmt.Sprintf("ALTER TABLE %s SET SCHEMA rasterloom", quoted(t.schema, as)))
}

// publish gives the name to a table of our schema, and its indexes theirs.
func (a *arrow) publish(ctx context.Context, hidden string, fresh bool) error {
	table := a.row.Table
	if err := a.exec(ctx, "move-here", fmt.Sprintf("ALTER TABLE %s SET SCHEMA %s", ours(hidden), quoted(table.Schema))); err != nil {
		return err
	}
	if err := a.exec(ctx, "rename-here", fmt.Sprintf("ALTER TABLE %s RENAME TO %s", quoted(table.Schema, hidden), quoted(table.Name))); err != nil {
		return err
	}
	for i, x := range a.row.indexes {
		if err := a.exec(ctx, "rename-index-here", fmt.Sprintf("ALTER INDEX %s RENAME TO %s",
			quoted(table.Schema, a.hiddenIndex(i, !fresh)), quoted(x.Name))); err != nil {
			return err
		}
	}
	return nil
}

// hiddenIndex names an index while its table is hidden.
func (a *arrow) hiddenIndex(i int, old bool) string {
	if old {
		return fmt.Sprintf("old_index_%d_%d", a.row.ID, i)
	}
	return a.row.indexes[i].Hidden
}

// statement is one that a step runs.
type statement struct{ step, sql string }

// bequest gives the statements by which table `to` gets the privileges, owner and
// comment of table `from`, and what `to` looks like. looks is the one that has
// them. They are made and run while each table has its old name.
func (a *arrow) bequest(ctx context.Context, from, to uint32, looks pixelTable) (target pixelTable, list []statement, err error) {
	target, _, err = readTable(ctx, a.Tx, to)
	if err != nil {
		return target, nil, err
	}
	if target.owner != looks.owner {
		list = append(list, statement{"owner", "ALTER TABLE " + target.quoted() + " OWNER TO " + quoted(looks.owner)})
	}
	rows, err := a.Tx.Query(ctx, sqlGrants, from, to)
	if err != nil {
		return target, nil, err
	}
	grants, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return target, nil, err
	}
	for _, sql := range grants {
		list = append(list, statement{"grant", sql})
	}
	if target.comment != looks.comment {
		comment := "NULL"
		if looks.comment != "" {
			comment = text(looks.comment)
		}
		list = append(list, statement{"comment", "COMMENT ON TABLE " + target.quoted() + " IS " + comment})
	}
	return target, list, nil
}

// identities gives the statements by which a hidden table gets the replica identity of
// the one with the name, and this one that of a hidden table: see identified.
func (a *arrow) identities(ctx context.Context, named, hidden pixelTable) ([]statement, error) {
	indexes, err := readIndexes(ctx, a.Tx, named.oid)
	if err != nil || identified(named, indexes) {
		return nil, err
	}
	away := hiddenIdentity(indexes, func(i int) string { return indexes[i].Name })
	as := map[string]string{"d": "DEFAULT", "f": "FULL", "n": "NOTHING"}[named.replicaIdentity]
	return []statement{
		{"identity", fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY %s", hidden.quoted(), as)},
		{"identity-away", fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY %s", named.quoted(), away)},
	}, nil
}

func (a *arrow) bequeath(ctx context.Context, list []statement) error {
	for _, s := range list {
		if err := a.exec(ctx, s.step, s.sql); err != nil {
			return err
		}
	}
	return nil
}

// view is an ordinary view that reads the table.
type view struct {
	oid                      uint32
	schema, name, definition string
	options                  []string
}

func readViews(ctx context.Context, q querier, oid uint32) ([]view, error) {
	rows, err := q.Query(ctx, sqlViews, oid)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (v view, err error) {
		return v, r.Scan(&v.oid, &v.schema, &v.name, &v.options, &v.definition)
	})
}

// redefine makes views read the table that has the name now: they hold on to
// the one that had it when they were defined. Their oids, owners and privileges
// stay, so views upon them need nothing.
func (a *arrow) redefine(ctx context.Context, views []view) error {
	for _, v := range views {
		options := ""
		if len(v.options) > 0 {
			options = " WITH (" + storageOptions(v.options) + ")"
		}
		if err := a.exec(ctx, "view", fmt.Sprintf("CREATE OR REPLACE VIEW %s%s AS %s", quoted(v.schema, v.name), options, v.definition)); err != nil {
			return err
		}
	}
	return nil
}

// recatalog tells our catalog what the layer's table is now. The generation
// grows: tickets and plans of before no longer hold.
func (a *arrow) recatalog(ctx context.Context, oid uint32, format, registration string, coordinates bool) error {
	return a.exec(ctx, "catalog", `UPDATE rasterloom.layer SET format = $2, registration = $3, has_coordinates = $4, table_oid = $5,
		table_file = pg_relation_filenode($5::oid::regclass), generation = generation + 1, update_time = clock_timestamp(),
		has_key = CASE WHEN $6 THEN $4 ELSE has_key END WHERE name = $1`,
		a.row.Spec.Layer, format, registration, coordinates, oid, a.row.gotKey())
}
