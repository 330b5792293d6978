package pgstore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

const (
	// inPlaceBlocks is how many pages are updated in one transaction: a writer of
	// one of these rows waits for as long.
	inPlaceBlocks = 64
	// vacuums is how often the room of the old versions of rows is made free, so
	// that later ones go there.
	vacuums = 8
)

// inPlace gives the table itself two more columns and updates it batch by batch,
// where the disk has no room for a second table. A trigger fills the columns of
// what is written; it stays for ever, since PostgreSQL can add generated columns
// only by writing the table anew under a lock.
//
// Until the cut-over the columns have names of ours, so that no reader takes
// them for coordinates while some are missing.
type inPlace struct{}

func columnsOf(id migrate.ID) (x, y string) {
	return fmt.Sprintf("rasterloom_x_%d", id), fmt.Sprintf("rasterloom_y_%d", id)
}

func (inPlace) prepare(context.Context, *Migrations, migrationRow) error { return nil }

func (inPlace) capture(ctx context.Context, a *arrow) error {
	x, y := columnsOf(a.row.ID)
	if err := a.fillFunction(ctx, x, y); err != nil {
		return err
	}
	if _, err := a.lockedSource(ctx, "ACCESS EXCLUSIVE"); err != nil {
		return err
	}
	a.hold()
	table := a.named()
	xNow, yNow := a.fillFormulas()
	return inOrder(ctx, []func(context.Context) error{
		func(ctx context.Context) error {
			return a.exec(ctx, "add-columns", fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s double precision, ADD COLUMN %s double precision", table, quoted(x), quoted(y)))
		},
		// The condition spares updates of nothing but the value a call, and ours.
		func(ctx context.Context) error {
			return a.exec(ctx, "fill-trigger", fmt.Sprintf(`CREATE TRIGGER %s BEFORE INSERT OR UPDATE ON %s FOR EACH ROW
				WHEN (NEW.%s IS DISTINCT FROM %s OR NEW.%s IS DISTINCT FROM %s) EXECUTE FUNCTION %s()`,
				quoted(rowTrigger(a.row.ID)), table, quoted(x), xNow, quoted(y), yNow, rowFunction(a.row.ID)))
		},
		func(ctx context.Context) error {
			return a.exec(ctx, "enable-fill", fmt.Sprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", table, quoted(rowTrigger(a.row.ID))))
		},
		a.sign,
		func(ctx context.Context) error { return a.enter(ctx, migrate.Capturing) },
		a.flush,
	})
}

// sign notes what the table's columns are now.
func (a *arrow) sign(ctx context.Context) error {
	return a.exec(ctx, "sign", "UPDATE rasterloom.migration SET new_table = old_table, new_signature = s.signature FROM ("+sqlSignature+") s WHERE id = $2",
		a.row.oldTable, int64(a.row.ID))
}

func (a *arrow) fillFormulas() (x, y string) {
	of := strings.NewReplacer("row_idx", "NEW.row_idx", "col_idx", "NEW.col_idx")
	x, y = formulas(a.row.Grid, a.row.SouthUp)
	return of.Replace(x), of.Replace(y)
}

// fillFunction makes the function that fills the two columns of a row.
func (a *arrow) fillFunction(ctx context.Context, x, y string) error {
	xNow, yNow := a.fillFormulas()
	return a.exec(ctx, "fill-function", fmt.Sprintf(`CREATE OR REPLACE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  NEW.%s := %s;
  NEW.%s := %s;
  RETURN NEW;
END $function$`, rowFunction(a.row.ID), quoted(x), xNow, quoted(y), yNow))
}

func (inPlace) layLanes(ctx context.Context, a *arrow) error { return a.lanesOfPages(ctx) }

func (inPlace) byPages() bool { return true }

// restart goes over the pages of the new file: rows that have their coordinates
// are left alone.
func (inPlace) restart(ctx context.Context, a *arrow) error { return a.lanesOfPages(ctx) }

func (inPlace) chunk(r migrationRow) int64 { return chunkOf(r, inPlaceBlocks) }

// copy updates rows where they are. New versions of rows go to other pages, with
// their coordinates, and so do those that writers make: each row that was there
// at the beginning is met once, or was filled by the trigger.
func (inPlace) copy(ctx context.Context, a *arrow, old pixelTable, from, upto int64) (int64, error) {
	x, y := columnsOf(a.row.ID)
	xOf, yOf := formulas(a.row.Grid, a.row.SouthUp)
	tag, err := a.Tx.Exec(ctx, fmt.Sprintf(`UPDATE %s SET %s = %s, %s = %s WHERE ctid >= $1 AND ctid < $2 AND (%[2]s IS NULL OR %[4]s IS NULL)`,
		old.quoted(), quoted(x), xOf, quoted(y), yOf), page(from), page(upto))
	return tag.RowsAffected(), err
}

// vacuumDue reports whether a chunk ended a part of the table after which room is
// to be made.
func vacuumDue(p migrate.Progress, from, upto int64) bool {
	part := max(1, p.BlocksTotal/vacuums)
	return upto/part > from/part
}

// vacuum makes the room of old versions free. Readers and writers go on.
func (m *Migrations) vacuum(ctx context.Context, r migrationRow) error {
	conn, err := m.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	defer func() { _ = conn.Conn().Close(context.WithoutCancel(ctx)) }() // its settings are the session's
	for _, sql := range []string{
		"SET statement_timeout = 0", "SET lock_timeout = 0",
		"VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF) " + quoted(r.Table.Schema, r.Table.Name),
	} {
		if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeExec); err != nil {
			return err
		}
	}
	return nil
}

func (inPlace) index(ctx context.Context, a *arrow) error {
	x, y := columnsOf(a.row.ID)
	if err := a.exec(ctx, "analyze", fmt.Sprintf("ANALYZE %s (%s, %s)", a.named(), quoted(x), quoted(y))); err != nil {
		return err
	}
	return a.enter(ctx, migrate.Indexed)
}

func (inPlace) applyNotes(context.Context, *arrow, int) (bool, error) { return false, nil }

func (inPlace) sync(ctx context.Context, a *arrow, _ int) (bool, error) {
	return false, a.enter(ctx, migrate.Synced)
}

// compare holds every coordinate against the grid's formula. The values were
// never touched: there is nothing to compare them with but themselves, so both
// hashes are of the one table.
func (inPlace) compare(ctx context.Context, m *Migrations, r migrationRow) (v migrate.Verification, err error) {
	began := time.Now()
	x, y := columnsOf(r.ID)
	if r.State == migrate.CutOver {
		x, y = "x_coord", "y_coord"
	}
	xOf, yOf := coordinateFormulas(r.SouthUp, 2)
	wrong := "(" + unlike(x, xOf) + " OR " + unlike(y, yOf) + ")"
	err = m.reading(ctx, r, []uint32{r.oldTable}, func(tx pgx.Tx) error {
		t, err := existing(ctx, tx, r, r.oldTable)
		if err != nil {
			return err
		}
		n := len(gridValues(r)) + 1
		if err := tx.QueryRow(ctx, fmt.Sprintf(`SELECT count(*), coalesce(sum(%s), 0)::text, count(*) FILTER (WHERE %s),
				count(*) FILTER (WHERE row_idx NOT BETWEEN 0 AND $%d OR col_idx NOT BETWEEN 0 AND $%d) FROM %s`, rowHash(t), wrong, n+1, n+2, t.quoted()),
			append(append([]any{int64(0)}, gridValues(r)...), r.Grid.Rows-1, r.Grid.Cols-1)...).
			Scan(&v.NewRows, &v.NewHash, &v.WrongCoordinates, &v.OffGrid); err != nil {
			return err
		}
		v.OldRows, v.OldHash = v.NewRows, v.NewHash
		if v.Files, err = filesOf(ctx, tx, r); err != nil || v.WrongCoordinates == 0 {
			return err
		}
		rows, err := tx.Query(ctx, fmt.Sprintf(`SELECT coalesce(row_idx, -1), coalesce(col_idx, -1), 'coordinates' FROM %s WHERE %s ORDER BY 1, 2 LIMIT $1`,
			t.quoted(), wrong), append([]any{maxDiffering}, gridValues(r)...)...)
		if err != nil {
			return err
		}
		v.Differing, err = pgx.CollectRows(rows, func(c pgx.CollectableRow) (d migrate.DifferingRow, err error) {
			return d, c.Scan(&d.Row, &d.Col, &d.What)
		})
		return err
	})
	v.Seconds = time.Since(began).Seconds()
	return v, err
}

// lockFilled locks the table out for everybody and makes sure that it is as we
// left it.
func (a *arrow) lockFilled(ctx context.Context) error {
	if err := a.quiet(ctx, a.named()); err != nil {
		return err
	}
	if err := a.exec(ctx, "lock-table", "LOCK TABLE "+a.named()+" IN ACCESS EXCLUSIVE MODE"); err != nil {
		return err
	}
	if _, err := a.source(ctx, a.row.oldTable, a.row.newSignature); err != nil {
		return err
	}
	return a.stillFollowed(ctx, a.row.oldTable)
}

// cutOver gives the columns their names. The trigger's condition follows a change
// of names by itself, the body of its function does not.
func (inPlace) cutOver(ctx context.Context, a *arrow, v migrate.Verification) error {
	if err := a.lockFilled(ctx); err != nil {
		return err
	}
	if err := a.stillCompared(ctx, v); err != nil {
		return err
	}
	if err := a.keep(ctx, v); err != nil {
		return err
	}
	a.hold()
	x, y := columnsOf(a.row.ID)
	return inOrder(ctx, []func(context.Context) error{
		func(ctx context.Context) error {
			return a.exec(ctx, "name-x", fmt.Sprintf("ALTER TABLE %s RENAME COLUMN %s TO x_coord", a.named(), quoted(x)))
		},
		func(ctx context.Context) error {
			return a.exec(ctx, "name-y", fmt.Sprintf("ALTER TABLE %s RENAME COLUMN %s TO y_coord", a.named(), quoted(y)))
		},
		func(ctx context.Context) error { return a.fillFunction(ctx, "x_coord", "y_coord") },
		func(ctx context.Context) error {
			return a.recatalog(ctx, a.row.oldTable, layer.FormatCoordinate.String(), "CENTER", true)
		},
		a.sign,
		func(ctx context.Context) error { return a.decide(ctx, migrate.CutOver) },
		a.flush,
	})
}

// relies is false of a rollback, which takes the coordinates away.
func (inPlace) relies(to migrate.State) bool { return to == migrate.CutOver }

func (inPlace) rollback(ctx context.Context, a *arrow, _ migrate.Verification) error {
	if err := a.lockFilled(ctx); err != nil {
		return err
	}
	// PostgreSQL would drop some of it with the columns, and refuse others.
	used, err := a.onCoordinates(ctx, a.row.oldTable)
	if err != nil {
		return err
	}
	if len(used) > 0 {
		return a.row.dependent(used, "table %s loses the columns x_coord and y_coord when migration %s is rolled back, and this needs them: %s; take it off first, or %s",
			a.row.Table, a.row.ID, names(used), insteadOfRollback)
	}
	a.hold()
	return inOrder(ctx, []func(context.Context) error{
		func(ctx context.Context) error { return a.dropFilled(ctx, a.named(), "x_coord", "y_coord") },
		func(ctx context.Context) error {
			return a.recatalog(ctx, a.row.oldTable, a.row.oldFormat, a.row.oldRegistration, false)
		},
		func(ctx context.Context) error { return a.decide(ctx, migrate.RolledBack) },
		a.flush,
	})
}

// dropFilled takes off a table what was added to it. The room that the columns
// took comes back as rows are written anew.
func (a *arrow) dropFilled(ctx context.Context, table, x, y string) error {
	for _, s := range []statement{
		{"drop-fill-trigger", fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", quoted(rowTrigger(a.row.ID)), table)},
		{"drop-fill-function", fmt.Sprintf("DROP FUNCTION %s()", rowFunction(a.row.ID))},
		{"drop-columns", fmt.Sprintf("ALTER TABLE %s DROP COLUMN %s, DROP COLUMN %s", table, quoted(x), quoted(y))},
	} {
		if err := a.exec(ctx, s.step, s.sql); err != nil {
			return err
		}
	}
	return nil
}

// finalize forgets that there is a way back: nothing is dropped.
func (inPlace) finalize(ctx context.Context, a *arrow, v migrate.Verification, _ migrate.Losses) error {
	if err := a.keep(ctx, v); err != nil {
		return err
	}
	return a.decide(ctx, migrate.Finalized)
}

func (inPlace) abort(ctx context.Context, a *arrow) error {
	if a.row.State == migrate.Planned {
		return nil
	}
	tables, err := a.release(ctx)
	if err != nil {
		return err
	}
	x, y := columnsOf(a.row.ID)
	// The trigger may have been taken off, or not restored, and the columns be left.
	rows, err := a.Tx.Query(ctx, `SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE (c.oid = $1 OR (n.nspname, c.relname) = ($2, $3)) AND c.relkind = 'r'
			AND (SELECT count(*) FROM pg_attribute WHERE attrelid = c.oid AND attname IN ($4, $5)) = 2 ORDER BY c.oid`,
		a.row.oldTable, a.row.Table.Schema, a.row.Table.Name, x, y)
	if err != nil {
		return err
	}
	left, err := pgx.CollectRows(rows, pgx.RowToStructByPos[layer.Table])
	if err != nil {
		return err
	}
	for _, t := range left {
		if name := quote(t); !slices.Contains(tables, name) {
			if err := a.quiet(ctx, name); err != nil {
				return err
			}
			tables = append(tables, name)
		}
	}
	if err := a.exec(ctx, "drop-fill-function", fmt.Sprintf("DROP FUNCTION IF EXISTS %s()", rowFunction(a.row.ID))); err != nil {
		return err
	}
	for _, table := range tables {
		if err := a.exec(ctx, "drop-columns", fmt.Sprintf("ALTER TABLE %s DROP COLUMN IF EXISTS %s, DROP COLUMN IF EXISTS %s", table, quoted(x), quoted(y))); err != nil {
			return err
		}
	}
	return nil
}
