package pgstore

import (
	"context"
	"fmt"
	"strings"

	"github.com/rasterloom/rasterloom/internal/migrate"
)

// Triggers carry writes from the table that has the name to the other one, in
// the writer's own transaction: what is committed is in both, what is rolled
// back in neither, and there is no log with a tail that could be lost.
//
// Their functions are SECURITY DEFINER: a role that may only INSERT must go on
// writing, and must not get rights on a second table because of us. What they do
// is fixed when they are made; they read nothing but the row; search_path is
// pinned; and nobody else may attach them, since EXECUTE is revoked.
//
// The triggers are ENABLE ALWAYS, so that rows that arrive by logical
// replication are captured too.

const pinned = `LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp`

// noteFunctions makes the functions of the first phase: what is written is noted
// by key, newest state only. The copying leaves alone what is noted, so writers
// and copying never wait for one another.
//
// A row without an index is no cell: it is refused. One that was there before is
// left alone, and the verification says so.
//
// A row that is gone is noted with its values, though they mean nothing: a column
// may be of a domain that takes no NULL.
func (a *arrow) noteFunctions(ctx context.Context, columns []string) error {
	notes, shadow := ours(notesOf(a.row.ID)), ours(shadowOf(a.row.ID))
	row := fmt.Sprintf(`
BEGIN`+a.onlyCells()+`
  IF (TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND (OLD.row_idx, OLD.col_idx) IS DISTINCT FROM (NEW.row_idx, NEW.col_idx)))
    AND OLD.row_idx IS NOT NULL AND OLD.col_idx IS NOT NULL THEN
    INSERT INTO %[1]s (%[2]s, deleted) VALUES (%[3]s, true)
    ON CONFLICT (row_idx, col_idx) DO UPDATE SET deleted = true;
  END IF;
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO %[1]s (%[2]s, deleted) VALUES (%[4]s, false)
    ON CONFLICT (row_idx, col_idx) DO UPDATE SET %[5]s, deleted = false;
  END IF;
  RETURN NULL;
END `, notes, quotedList(columns, ""), quotedList(columns, "OLD."), quotedList(columns, "NEW."), assignments(columns))
	truncate := fmt.Sprintf(`
BEGIN
  TRUNCATE %s, %s;
  RETURN NULL;
END `, shadow, notes)
	return a.functions(ctx, row, truncate)
}

// followFunctions makes the functions of the later phases: what is written is
// written to target as well.
//
// A writer of REPEATABLE READ or above may delete a row whose copy was made
// after its snapshot: its DELETE would not see the copy, and leave it behind.
// Touching the copy first makes PostgreSQL raise a serialization failure then,
// which such a writer must expect and retries.
func (a *arrow) followFunctions(ctx context.Context, target string, columns []string) error {
	row := fmt.Sprintf(`
BEGIN`+a.onlyCells()+`
  IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND (OLD.row_idx, OLD.col_idx) IS DISTINCT FROM (NEW.row_idx, NEW.col_idx)) THEN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
      INSERT INTO %[1]s (%[2]s) VALUES (%[3]s)
      ON CONFLICT (row_idx, col_idx) DO UPDATE SET row_idx = EXCLUDED.row_idx;
    END IF;
    DELETE FROM %[1]s WHERE row_idx = OLD.row_idx AND col_idx = OLD.col_idx;
  END IF;
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO %[1]s (%[2]s) VALUES (%[4]s)
    ON CONFLICT (row_idx, col_idx) DO UPDATE SET %[5]s;
  END IF;
  RETURN NULL;
END `, target,
		quotedList(columns, ""), quotedList(columns, "OLD."), quotedList(columns, "NEW."), assignments(columns))
	truncate := fmt.Sprintf(`
BEGIN
  TRUNCATE %s;
  RETURN NULL;
END `, target)
	return a.functions(ctx, row, truncate)
}

// onlyCells is the part of a function that refuses rows without an index, which could
// not be followed.
func (a *arrow) onlyCells() string {
	return fmt.Sprintf(`
  IF TG_OP <> 'DELETE' AND (NEW.row_idx IS NULL OR NEW.col_idx IS NULL) THEN
    RAISE not_null_violation USING MESSAGE = %s;
  END IF;`, text(fmt.Sprintf("a row without row_idx or col_idx is no cell, and cannot be followed while migration %s of this table lives", a.row.ID)))
}

// functions makes both functions of their bodies, which are quoted like any text:
// names of columns are in them, and may hold whatever would end it.
func (a *arrow) functions(ctx context.Context, row, truncate string) error {
	const create = "CREATE OR REPLACE FUNCTION %s() RETURNS trigger %s AS %s"
	if err := a.exec(ctx, "row-function", fmt.Sprintf(create, rowFunction(a.row.ID), pinned, text(row))); err != nil {
		return err
	}
	if err := a.exec(ctx, "truncate-function", fmt.Sprintf(create, truncateFunction(a.row.ID), pinned, text(truncate))); err != nil {
		return err
	}
	return a.exec(ctx, "revoke-functions", fmt.Sprintf("REVOKE ALL ON FUNCTION %s(), %s() FROM PUBLIC",
		rowFunction(a.row.ID), truncateFunction(a.row.ID)))
}

// attach puts the triggers on a table. columns are those that their functions read,
// and all of which an UPDATE sets one at least: named, they cannot be dropped, or get
// another type, without CASCADE, which takes the trigger along. Every writer would fail
// else, for a function that asks for a column that is not there.
func (a *arrow) attach(ctx context.Context, table string, columns []string) error {
	row, truncate := quoted(rowTrigger(a.row.ID)), quoted(truncateTrigger(a.row.ID))
	for _, s := range []statement{
		{"row-trigger", fmt.Sprintf("CREATE TRIGGER %s AFTER INSERT OR UPDATE OF %s OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION %s()",
			row, quotedList(columns, ""), table, rowFunction(a.row.ID))},
		{"truncate-trigger", fmt.Sprintf("CREATE TRIGGER %s AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION %s()",
			truncate, table, truncateFunction(a.row.ID))},
		{"enable-triggers", fmt.Sprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s, ENABLE ALWAYS TRIGGER %s", table, row, truncate)},
	} {
		if err := a.exec(ctx, s.step, s.sql); err != nil {
			return err
		}
	}
	return nil
}

// detach takes the triggers off a table. Somebody may have dropped one with a column.
func (a *arrow) detach(ctx context.Context, table string) error {
	if err := a.exec(ctx, "drop-row-trigger", fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", quoted(rowTrigger(a.row.ID)), table)); err != nil {
		return err
	}
	return a.exec(ctx, "drop-truncate-trigger", fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", quoted(truncateTrigger(a.row.ID)), table))
}

func (a *arrow) dropFunctions(ctx context.Context) error {
	return a.exec(ctx, "drop-functions", fmt.Sprintf("DROP FUNCTION IF EXISTS %s(), %s()", rowFunction(a.row.ID), truncateFunction(a.row.ID)))
}

// attached says whether our triggers are on a table and fire always.
func (a *arrow) attached(ctx context.Context, oid uint32) (bool, error) {
	n, want := 0, 2
	if a.row.Spec.InPlace {
		want = 1
	}
	err := a.Tx.QueryRow(ctx, "SELECT count(*) FROM pg_trigger WHERE tgrelid = $1 AND tgname = ANY($2) AND tgenabled = 'A'",
		oid, []string{rowTrigger(a.row.ID), truncateTrigger(a.row.ID)}).Scan(&n)
	return n == want, err
}

func rowTrigger(id migrate.ID) string       { return fmt.Sprintf("rasterloom_row_%d", id) }
func truncateTrigger(id migrate.ID) string  { return fmt.Sprintf("rasterloom_truncate_%d", id) }
func rowFunction(id migrate.ID) string      { return ours(rowTrigger(id)) }
func truncateFunction(id migrate.ID) string { return ours(truncateTrigger(id)) }

func assignments(columns []string) string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = quoted(c) + " = EXCLUDED." + quoted(c)
	}
	return strings.Join(list, ", ")
}
