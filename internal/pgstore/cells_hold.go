package pgstore

import (
	"context"
	_ "embed"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// TRUNCATE, and an ALTER TABLE that rewrites a table, do not keep the rows that
// older snapshots see: a table that is loaded anew between our snapshot and our
// first look at it would be empty, without an error. So all tables of a set are
// locked against that at its beginning, and a table that had a new file by then
// means a new snapshot.

// mostSnapshots is how many snapshots are tried: each was overtaken by a table
// that was rewritten in the milliseconds between it and the locks.
const mostSnapshots = 5

// errOvertaken is what a snapshot is given up for.
var errOvertaken = errors.New("a table was truncated or rewritten just after the snapshot")

//go:embed cells_hold.sql
var cellsHoldSQL string

// hold locks tables against TRUNCATE and rewriting until the transaction ends.
// Errors: errOvertaken when one of them is not as the snapshot has it, and as any
// query: the wait for a lock is bounded by lock_timeout.
func hold(ctx context.Context, tx pgx.Tx, tables []layer.Table) error {
	if len(tables) == 0 {
		return nil
	}
	var touch strings.Builder
	schemas, names := make([]string, len(tables)), make([]string, len(tables))
	for i, t := range tables {
		schemas[i], names[i] = t.Schema, t.Name
		if i > 0 {
			touch.WriteString(" UNION ALL ")
		}
		// It locks all kinds of tables, which LOCK TABLE does not, and asks for no
		// more than reading does.
		touch.WriteString("(SELECT FROM " + quote(t) + " LIMIT 0)")
	}
	// A statement that differs by its tables is not worth a place in the cache.
	if _, err := tx.Exec(ctx, touch.String(), pgx.QueryExecModeExec); err != nil {
		return faultOf(err)
	}
	var overtaken bool
	if err := tx.QueryRow(ctx, cellsHoldSQL, schemas, names).Scan(&overtaken); err != nil {
		return faultOf(err)
	}
	if overtaken {
		return errOvertaken
	}
	return nil
}

// atNewSnapshots does what begins with a new snapshot, again where the snapshot
// was overtaken. Errors: Conflict DATABASE_UNAVAILABLE when that goes on.
func atNewSnapshots[T any](begin func() (T, error)) (T, error) {
	for tried := 1; ; tried++ {
		made, err := begin()
		if !errors.Is(err, errOvertaken) {
			return made, err
		}
		if tried == mostSnapshots {
			return made, overtaken(err)
		}
	}
}

func overtaken(err error) error {
	return fault.New(fault.Conflict, fault.DatabaseUnavailable,
		"a table of the merge is truncated or rewritten again and again, just as it is to be read; try again").Because(err)
}
