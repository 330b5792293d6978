package pgstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// target is what differs between the things that a migration can make of a table:
// a second one with stored coordinates (shadowTable), the same one with two more
// columns (inPlace), or tiles (tiledTable). Each method but prepare and compare is
// called within the transaction of an arrow, after state and fence were checked,
// and sets the new state.
type target interface {
	// prepare does what cannot be done in a transaction. It is repeated after a
	// crash.
	prepare(context.Context, *Migrations, migrationRow) error
	capture(context.Context, *arrow) error
	// layLanes cuts the work of copying into lanes of pages, or of other units.
	layLanes(context.Context, *arrow) error
	// byPages reports whether lanes are of pages, which mean nothing any more
	// once the table has another file: restart is called then.
	byPages() bool
	restart(context.Context, *arrow) error
	// chunk is how many units are copied in one transaction, and copy copies
	// them. It tells how many rows it read.
	chunk(migrationRow) int64
	copy(ctx context.Context, a *arrow, old pixelTable, from, upto int64) (int64, error)
	index(context.Context, *arrow) error
	applyNotes(ctx context.Context, a *arrow, turn int) (left bool, err error)
	sync(ctx context.Context, a *arrow, turn int) (more bool, err error)
	compare(context.Context, *Migrations, migrationRow) (migrate.Verification, error)
	// relies reports whether going to a state relies on what was compared. Both
	// tables are compared again then, where one was written anew since.
	relies(to migrate.State) bool
	cutOver(context.Context, *arrow, migrate.Verification) error
	rollback(context.Context, *arrow, migrate.Verification) error
	finalize(context.Context, *arrow, migrate.Verification, migrate.Losses) error
	abort(context.Context, *arrow) error
}

func (r migrationRow) target() target {
	switch {
	case r.Spec.Level == migrate.LevelTiled:
		return tiledTable{}
	case r.Spec.InPlace:
		return inPlace{}
	default:
		return shadowTable{}
	}
}

// shadowTable is a second table, with generated columns, that takes the name.
type shadowTable struct{}

// signatureNow is what the columns of the table with the name must look like
// while rows are copied: in place, the table has the new ones by then.
func (r migrationRow) signatureNow() string {
	if r.Spec.InPlace && r.State != migrate.Planned {
		return r.newSignature
	}
	return r.signature
}

// hasKey reports whether one of the indexes is unique on the two columns
// themselves, in either order, of all rows.
func hasKey(indexes []tableIndex) bool { return slices.ContainsFunc(indexes, tableIndex.isKey) }

func (i tableIndex) isKey() bool {
	return slices.Equal(i.Key, []string{"row_idx", "col_idx"}) || slices.Equal(i.Key, []string{"col_idx", "row_idx"})
}

// keyOf names the unique index that a table without one gets.
func keyOf(id migrate.ID) string { return fmt.Sprintf("rasterloom_key_%d", id) }

// prepare gives a table without a key one, so that its cells can be followed. It
// is made CONCURRENTLY: nobody waits for it, but a cell that is written twice
// from now on is refused.
func (shadowTable) prepare(ctx context.Context, m *Migrations, r migrationRow) error {
	indexes, err := readIndexes(ctx, m.pool, r.oldTable)
	if err != nil || hasKey(indexes) {
		return err
	}
	return m.makeKey(ctx, r, []string{"row_idx", "col_idx"})
}

// makeKey makes the key of a migration on columns.
func (m *Migrations) makeKey(ctx context.Context, r migrationRow, columns []string) error {
	t, found, err := readTable(ctx, m.pool, r.oldTable)
	if err != nil || !found || t.schema != r.Table.Schema || t.name != r.Table.Name {
		return err // told by the arrow
	}
	conn, err := m.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	// Not within a transaction, so the settings are the session's; it is not
	// given back to the pool with them.
	defer func() { _ = conn.Conn().Close(context.WithoutCancel(ctx)) }()
	for _, sql := range []string{
		"SET statement_timeout = 0",
		"SET lock_timeout = 0",
		"DROP INDEX CONCURRENTLY IF EXISTS " + quoted(t.schema, keyOf(r.ID)), // what a crash left
		fmt.Sprintf("CREATE UNIQUE INDEX CONCURRENTLY %s ON %s (%s)", quoted(keyOf(r.ID)), t.quoted(), quotedList(columns, "")),
	} {
		if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeExec); err != nil {
			if isCode(err, "23505") { // unique_violation
				return fault.New(fault.Precondition, fault.MigrationRefused,
					"layer %q: a cell of %s was stored a second time while its key was made", r.Spec.Layer, r.Table).
					With("layer", r.Spec.Layer).With("refusals", "DUPLICATE_CELLS").Because(err)
			}
			return err
		}
	}
	return nil
}

// dropKey takes off the key that the old table has got, if it has.
func (a *arrow) dropKey(ctx context.Context) error {
	return a.exec(ctx, "drop-key", "DROP INDEX IF EXISTS "+quoted(a.row.Table.Schema, keyOf(a.row.ID)))
}

// gotKey reports whether the migration made the table's key.
func (r migrationRow) gotKey() bool {
	return slices.ContainsFunc(r.indexes, func(i indexName) bool { return i.Name == keyOf(r.ID) })
}
