package pgstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/failpoint"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

const (
	// chunkBlocks is how many pages a chunk copies: 8 MiB, some 150,000 rows.
	chunkBlocks = 1024
	// drainRows is how many noted writes are applied in one of the first
	// transactions. A writer of one of these cells waits for as long, so they are
	// few; more at a time are applied faster, up to maxDrainRows: see drain.
	drainRows, maxDrainRows = 1_000, 8_000
	// patientTurns is how many such transactions there are before the next ones
	// take twice as many.
	patientTurns = 64
	// maxLanes is how many chunks are copied at the same time.
	maxLanes = 2
	// laneBlocks is the least that is worth a lane of its own.
	laneBlocks = 64
)

// Capture makes the new table, empty, and begins to note what is written to the
// old one. Making a trigger waits for the transactions that have written to the
// table and holds up new ones, so there is no write that is neither in the table
// when the copying begins, nor noted.
func (m *Migrations) Capture(ctx context.Context, l migrate.Lease) error {
	row, err := readMigration(ctx, m.pool, l.ID, "")
	if err != nil {
		return faultOf(err)
	}
	if err := byLease(l, migrate.Planned)(&row); err != nil {
		return err
	}
	if err := row.target().prepare(ctx, m, row); err != nil {
		return faultOf(err)
	}
	return m.take(ctx, "capture", l.ID, byLease(l, migrate.Planned), func(ctx context.Context, a *arrow) error {
		return a.row.target().capture(ctx, a)
	})
}

func (shadowTable) capture(ctx context.Context, a *arrow) error {
	id := a.row.ID
	old, err := a.source(ctx, a.row.oldTable, a.row.signature)
	if err != nil {
		return err
	}
	shadow, notes := ours(shadowOf(id)), ours(notesOf(id))
	x, y := formulas(a.row.Grid, a.row.SouthUp)
	create := fmt.Sprintf(`CREATE TABLE %s (LIKE %s INCLUDING COMMENTS INCLUDING COMPRESSION INCLUDING CONSTRAINTS INCLUDING DEFAULTS INCLUDING STORAGE,
		x_coord double precision GENERATED ALWAYS AS %s STORED, y_coord double precision GENERATED ALWAYS AS %s STORED)`, shadow, old.quoted(), x, y)
	if len(old.options) > 0 {
		create += " WITH (" + storageOptions(old.options) + ")"
	}
	if old.tablespace != "" {
		create += " TABLESPACE " + quoted(old.tablespace)
	}
	steps := []statement{
		{"create-shadow", create},
		{"own-shadow", "ALTER TABLE " + shadow + " OWNER TO " + quoted(old.owner)},
		{"create-notes", fmt.Sprintf("CREATE TABLE %s AS SELECT %s FROM %s WITH NO DATA", notes, quotedList(old.columns, ""), old.quoted())},
		{"key-notes", fmt.Sprintf("ALTER TABLE %s ADD COLUMN deleted boolean NOT NULL, ADD PRIMARY KEY (row_idx, col_idx)", notes)},
	}
	if _, err := a.Tx.Exec(ctx, asFound); err != nil {
		return err
	}
	for _, s := range steps {
		if err := a.exec(ctx, s.step, s.sql); err != nil {
			return err
		}
	}
	if err := a.columnSettings(ctx, old.oid, shadow); err != nil {
		return err
	}
	if err := a.noteFunctions(ctx, old.columns); err != nil {
		return err
	}
	// Only now does anybody wait for us.
	if _, err := a.lockedSource(ctx, "SHARE ROW EXCLUSIVE"); err != nil {
		return err
	}
	a.hold()
	return inOrder(ctx, []func(context.Context) error{
		func(ctx context.Context) error { return a.attach(ctx, old.quoted(), old.columns) },
		func(ctx context.Context) error {
			return a.exec(ctx, "shadow-oid", "UPDATE rasterloom.migration SET new_table = $2::text::regclass WHERE id = $1", int64(id), shadow)
		},
		func(ctx context.Context) error { return a.enter(ctx, migrate.Capturing) },
		a.flush,
	})
}

// asFound keeps settings of our role from placing what is made elsewhere than what it
// is made after.
const asFound = "SELECT set_config('default_tablespace', '', true), set_config('default_table_access_method', 'heap', true)"

// storageOptions turns name=value into a list for WITH.
func storageOptions(options []string) string {
	list := make([]string, len(options))
	for i, o := range options {
		name, value, _ := strings.Cut(o, "=")
		list[i] = name + " = " + text(value)
	}
	return strings.Join(list, ", ")
}

// columnSettings carries statistics targets and options of columns.
func (a *arrow) columnSettings(ctx context.Context, oid uint32, to string) error {
	rows, err := a.Tx.Query(ctx, `SELECT attname, coalesce(attstattarget, -1)::integer, coalesce(attoptions, '{}') FROM pg_attribute
		WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND (coalesce(attstattarget, -1) >= 0 OR attoptions IS NOT NULL) ORDER BY attnum`, oid)
	if err != nil {
		return err
	}
	type setting struct {
		name    string
		target  int
		options []string
	}
	settings, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (s setting, err error) {
		return s, r.Scan(&s.name, &s.target, &s.options)
	})
	if err != nil {
		return err
	}
	for _, s := range settings {
		column := fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s ", to, quoted(s.name))
		if s.target >= 0 {
			if err := a.exec(ctx, "column-statistics", fmt.Sprintf("%sSET STATISTICS %d", column, s.target)); err != nil {
				return err
			}
		}
		if len(s.options) > 0 {
			if err := a.exec(ctx, "column-options", column+"SET ("+storageOptions(s.options)+")"); err != nil {
				return err
			}
		}
	}
	return nil
}

// Open cuts the pages that the old table has now into lanes. Rows on pages that
// come later are noted ones.
func (m *Migrations) Open(ctx context.Context, l migrate.Lease) error {
	return m.take(ctx, "open", l.ID, byLease(l, migrate.Capturing), func(ctx context.Context, a *arrow) error {
		if err := a.row.target().layLanes(ctx, a); err != nil {
			return err
		}
		return a.enter(ctx, migrate.Backfilling)
	})
}

func (shadowTable) layLanes(ctx context.Context, a *arrow) error { return a.lanesOfPages(ctx) }

// lanesOfPages cuts the pages that the table has now.
func (a *arrow) lanesOfPages(ctx context.Context) error {
	old, err := a.source(ctx, a.row.oldTable, a.row.signatureNow())
	if err != nil {
		return err
	}
	lanes := max(1, min(maxLanes, old.blocks/laneBlocks))
	if err := a.exec(ctx, "clear-lanes", "DELETE FROM rasterloom.migration_lane WHERE migration = $1", int64(a.row.ID)); err != nil {
		return err
	}
	if err := a.exec(ctx, "lanes", `INSERT INTO rasterloom.migration_lane (migration, lane, start_block, next_block, stop_block)
		SELECT $1, i, $2 * i / $3, $2 * i / $3, $2 * (i + 1) / $3 FROM generate_series(0, $3 - 1) i`,
		int64(a.row.ID), old.blocks, lanes); err != nil {
		return err
	}
	return a.exec(ctx, "old-file", "UPDATE rasterloom.migration SET old_file = $2 WHERE id = $1", int64(a.row.ID), old.file)
}

// Lanes gives the lanes that are not copied yet.
func (m *Migrations) Lanes(ctx context.Context, id migrate.ID) ([]int, error) {
	rows, err := m.pool.Query(ctx, "SELECT lane FROM rasterloom.migration_lane WHERE migration = $1 AND next_block < stop_block ORDER BY lane", int64(id))
	if err != nil {
		return nil, faultOf(err)
	}
	lanes, err := pgx.CollectRows(rows, pgx.RowTo[int])
	return lanes, faultOf(err)
}

// CopyChunk copies the next pages of a lane and moves its checkpoint, in one
// transaction. It locks no row: what writers touched since Capture is noted, and
// not copied. done is true when the lane has no more.
//
// One statement reads the rows and the notes in one snapshot, so a row and the
// note of its change are seen together or not at all. A row that moves to a page
// that is copied later was noted by then, so none is copied twice.
func (m *Migrations) CopyChunk(ctx context.Context, l migrate.Lease, lane int) (rows int64, done bool, err error) {
	rewritten := false
	var copied migrationRow
	var next, upto, stop int64
	err = m.inLane(ctx, "copy", l, lane, migrate.Backfilling, copySettings, func(ctx context.Context, a *arrow) error {
		rows, rewritten, copied = 0, false, a.row
		if err := a.Tx.QueryRow(ctx, "SELECT next_block, stop_block FROM rasterloom.migration_lane WHERE migration = $1 AND lane = $2",
			int64(l.ID), lane).Scan(&next, &stop); err != nil {
			return err
		}
		// The table before the shadow: writers lock them in this order.
		if err := a.exec(ctx, "lock-table", "LOCK TABLE "+a.named()+" IN ACCESS SHARE MODE"); err != nil {
			return err
		}
		old, err := a.source(ctx, a.row.oldTable, a.row.signatureNow())
		if err != nil {
			return err
		}
		t := a.row.target()
		if t.byPages() && old.file != a.row.oldFile {
			rewritten = true
			return nil
		}
		if upto = min(next+t.chunk(a.row), stop); next < upto {
			if rows, err = t.copy(ctx, a, old, next, upto); err != nil {
				return err
			}
			failpoint.Hit("copy/rows")
		}
		return a.exec(ctx, "checkpoint", "UPDATE rasterloom.migration_lane SET next_block = $3, rows = rows + $4 WHERE migration = $1 AND lane = $2",
			int64(l.ID), lane, upto, rows)
	})
	if err != nil {
		return 0, false, err
	}
	if rewritten {
		return 0, false, m.restart(ctx, l)
	}
	if copied.Spec.InPlace && vacuumDue(copied.Progress, next, upto) {
		err = m.vacuum(ctx, copied)
	}
	return rows, upto == stop, faultOf(err)
}

// The notes are few and the rows many: hash the former, whatever the statistics of
// a table made a minute ago say. Both sides would otherwise be sorted, or probed a
// row at a time.
// The rows and the checkpoint are lost together, or not: nothing is told to
// anybody, so there is no wait for the disk.
const copySettings = `SELECT set_config('lock_timeout', $1, true), set_config('idle_in_transaction_session_timeout', '10s', true),
	set_config('statement_timeout', '0', true), set_config('enable_nestloop', 'off', true), set_config('enable_mergejoin', 'off', true),
	set_config('jit', 'off', true), set_config('synchronous_commit', 'off', true)`

func (shadowTable) byPages() bool { return true }

func (shadowTable) chunk(r migrationRow) int64 { return chunkOf(r, chunkBlocks) }

func (shadowTable) copy(ctx context.Context, a *arrow, old pixelTable, from, upto int64) (int64, error) {
	columns := quotedList(old.columns, "")
	into := ours(shadowOf(a.row.ID)) + " (" + columns + ")"
	rows := func(from, upto string) string {
		return fmt.Sprintf(`SELECT %s FROM %s s WHERE s.ctid >= %s AND s.ctid < %s
			AND NOT EXISTS (SELECT FROM %s n WHERE n.row_idx = s.row_idx AND n.col_idx = s.col_idx)`,
			columns, old.quoted(), from, upto, ours(notesOf(a.row.ID)))
	}
	if pipable(old) {
		if conn := a.spare(ctx); conn != nil {
			defer conn.Release()
			return a.pipe(ctx, conn, rows(fmt.Sprintf("'(%d,0)'::tid", from), fmt.Sprintf("'(%d,0)'::tid", upto)), into)
		}
	}
	tag, err := a.Tx.Exec(ctx, "INSERT INTO "+into+" "+rows("$1", "$2"), page(from), page(upto))
	return tag.RowsAffected(), err
}

// chunkOf is how many pages a chunk copies, at most. Under a limit of speed it is about
// what may be copied in a quarter of a second, so that the load is even.
func chunkOf(r migrationRow, most int64) int64 {
	limit, p := r.Spec.RowsPerSecond, r.Progress
	if limit <= 0 || p.RowsTotal <= 0 || p.BlocksTotal <= 0 {
		return most
	}
	rowsPerBlock := float64(p.RowsTotal) / float64(p.BlocksTotal)
	return int64(min(max(1, float64(limit)/4/rowsPerBlock), float64(most)))
}

func page(block int64) pgtype.TID {
	return pgtype.TID{BlockNumber: uint32(block), OffsetNumber: 0, Valid: true}
}

// restart begins the copying again: the rows are in another file, since the table
// was truncated or rewritten (VACUUM FULL, CLUSTER), and pages mean nothing any
// more. What is noted stays noted.
func (m *Migrations) restart(ctx context.Context, l migrate.Lease) error {
	return m.take(ctx, "restart", l.ID, byLease(l, migrate.Backfilling), func(ctx context.Context, a *arrow) error {
		if err := a.exec(ctx, "lock-table", "LOCK TABLE "+a.named()+" IN ACCESS SHARE MODE"); err != nil {
			return err
		}
		old, err := a.source(ctx, a.row.oldTable, a.row.signatureNow())
		if err != nil || old.file == a.row.oldFile {
			return err
		}
		return a.row.target().restart(ctx, a)
	})
}

func (shadowTable) restart(ctx context.Context, a *arrow) error {
	if err := a.exec(ctx, "empty-shadow", "TRUNCATE "+ours(shadowOf(a.row.ID))); err != nil {
		return err
	}
	return a.lanesOfPages(ctx)
}

// Index gives the new table the indexes of the old one. No writer reaches it
// yet, so none waits.
func (m *Migrations) Index(ctx context.Context, l migrate.Lease) error {
	return m.take(ctx, "index", l.ID, byLease(l, migrate.Backfilling), func(ctx context.Context, a *arrow) error {
		if a.row.Progress.BlocksDone != a.row.Progress.BlocksTotal {
			return fault.New(fault.Precondition, fault.MigrationState, "migration %s has copied %d of %d pages",
				l.ID, a.row.Progress.BlocksDone, a.row.Progress.BlocksTotal).With("migration", l.ID)
		}
		return a.row.target().index(ctx, a)
	})
}

func (shadowTable) index(ctx context.Context, a *arrow) error {
	id := a.row.ID
	indexes, err := readIndexes(ctx, a.Tx, a.row.oldTable)
	if err != nil {
		return err
	}
	shadow := ours(shadowOf(id))
	if _, err := a.Tx.Exec(ctx, asFound); err != nil {
		return err
	}
	if err := a.exec(ctx, "index-memory", "SELECT set_config('maintenance_work_mem', '256MB', true)"); err != nil {
		return err
	}
	names := make([]indexName, len(indexes))
	for i, x := range indexes {
		names[i] = indexName{Name: x.Name, Hidden: fmt.Sprintf("index_%d_%d", id, i)}
		if err := a.makeIndex(ctx, x, names[i].Hidden, shadow); err != nil {
			return err
		}
	}
	old, _, err := readTable(ctx, a.Tx, a.row.oldTable)
	if err != nil {
		return err
	}
	if !identified(old, indexes) {
		identity := hiddenIdentity(indexes, func(i int) string { return names[i].Hidden })
		if err := a.exec(ctx, "replica-identity", fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY %s", shadow, identity)); err != nil {
			return err
		}
	}
	if err := a.exec(ctx, "analyze", "ANALYZE "+shadow); err != nil {
		return err
	}
	list, err := json.Marshal(names)
	if err != nil {
		return err
	}
	if err := a.exec(ctx, "index-names", "UPDATE rasterloom.migration SET indexes = $2 WHERE id = $1", int64(id), list); err != nil {
		return err
	}
	return a.enter(ctx, migrate.Indexed)
}

// identified reports whether rows are known by an index that both tables have. By
// another replica identity, or none, the table that is hidden could not be updated
// once somebody makes a publication of all tables, and its writers would fail: it
// goes by the cells' key while it is hidden, and by what it had when it has the name.
func identified(t pixelTable, indexes []tableIndex) bool {
	return t.replicaIdentity == "i" || t.replicaIdentity == "d" && slices.ContainsFunc(indexes, func(i tableIndex) bool { return i.Constraint == "p" })
}

// hiddenIdentity is what the rows of a hidden table are known by where they are not
// identified: the cells' key, or all of their values where that may be NULL. (FULL
// would do for all, but for tables with generated columns.)
func hiddenIdentity(indexes []tableIndex, name func(i int) string) string {
	i := slices.IndexFunc(indexes, func(i tableIndex) bool { return i.isKey() && i.NotNull })
	if i < 0 {
		return "FULL"
	}
	return "USING INDEX " + quoted(name(i))
}

func (a *arrow) makeIndex(ctx context.Context, x tableIndex, name, table string) error {
	unique := ""
	if x.Unique {
		unique = "UNIQUE "
	}
	definition := x.Definition
	if x.Tablespace != "" {
		// Stands before WHERE, which the definition may end with.
		tablespace := " TABLESPACE " + quoted(x.Tablespace)
		if i := strings.Index(definition, " WHERE "); i >= 0 {
			definition = definition[:i] + tablespace + definition[i:]
		} else {
			definition += tablespace
		}
	}
	if err := a.exec(ctx, "create-index", fmt.Sprintf("CREATE %sINDEX %s ON %s%s", unique, quoted(name), table, definition)); err != nil {
		return err
	}
	switch x.Constraint {
	case "p":
		if err := a.exec(ctx, "primary-key", fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s PRIMARY KEY USING INDEX %[2]s", table, quoted(name))); err != nil {
			return err
		}
	case "u":
		if err := a.exec(ctx, "unique-constraint", fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s UNIQUE USING INDEX %[2]s", table, quoted(name))); err != nil {
			return err
		}
	}
	if x.Comment != "" {
		if err := a.exec(ctx, "comment", fmt.Sprintf("COMMENT ON INDEX %s IS %s", quoted("rasterloom", name), text(x.Comment))); err != nil {
			return err
		}
	}
	if x.Remark != "" {
		if err := a.exec(ctx, "comment", fmt.Sprintf("COMMENT ON CONSTRAINT %s ON %s IS %s", quoted(name), table, text(x.Remark))); err != nil {
			return err
		}
	}
	if x.Identity {
		return a.exec(ctx, "identity-index", fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY USING INDEX %s", table, quoted(name)))
	}
	return nil
}

// drain is how many noted writes are applied in a turn, and how many may be left
// for the transaction that holds up writers. Those who write faster than a few rows
// at a time are applied would keep a migration from its end for ever: it takes more
// the longer that goes on.
func drain(turn int) (batch, rest int) {
	batch = drainRows
	for turn >= patientTurns && batch < maxDrainRows {
		batch, turn = 2*batch, turn-patientTurns
	}
	return batch, batch / 5
}

// ApplyNotes applies some of the noted writes to the new table. left is false
// when so few remained that Sync can take the rest. turn counts the calls before
// this one.
func (m *Migrations) ApplyNotes(ctx context.Context, l migrate.Lease, turn int) (left bool, err error) {
	err = m.take(ctx, "apply", l.ID, byLease(l, migrate.Indexed), func(ctx context.Context, a *arrow) (err error) {
		left, err = a.row.target().applyNotes(ctx, a, turn)
		return err
	})
	return left, err
}

func (shadowTable) applyNotes(ctx context.Context, a *arrow, turn int) (left bool, err error) {
	old, err := a.lockedSource(ctx, "ACCESS SHARE")
	if err != nil {
		return false, err
	}
	batch, rest := drain(turn)
	applied, err := a.apply(ctx, old.columns, batch)
	return applied > int64(rest), err
}

// lockedSource locks the table that has the name, then looks at it.
func (a *arrow) lockedSource(ctx context.Context, mode string) (pixelTable, error) {
	if mode != "ACCESS SHARE" {
		if err := a.quiet(ctx, a.named()); err != nil {
			return pixelTable{}, err
		}
	}
	if err := a.exec(ctx, "lock-table", "LOCK TABLE "+a.named()+" IN "+mode+" MODE"); err != nil {
		return pixelTable{}, err
	}
	return a.source(ctx, a.row.oldTable, a.row.signatureNow())
}

// apply takes up to limit notes and does what they say. A writer that touches
// one of these cells waits for this transaction; one that has touched it already,
// and is not over, keeps its note until a later turn.
//
// What is noted of a cell need not fit beside what the new table has of another one
// that is noted too, where a second unique index is: values that changed places, say.
// Whatever is not noted is as it is in the old table, in the snapshot of one
// statement; so once all cells that are noted in it are gone, what is left has room
// for any of them. That is done where it has to be: it goes over all notes.
func (a *arrow) apply(ctx context.Context, columns []string, limit int) (applied int64, err error) {
	for _, gone := range []string{"(SELECT * FROM taken WHERE deleted)", ours(notesOf(a.row.ID))} {
		err = pgx.BeginFunc(ctx, a.Tx, func(tx pgx.Tx) (err error) {
			applied, err = applyWithout(ctx, tx, gone, a.row.ID, columns, limit)
			return err
		})
		if !isCode(err, "23505") { // unique_violation
			break
		}
	}
	failpoint.Hit(a.name + "/notes")
	return applied, err
}

// applyWithout takes notes, deletes the cells of gone from the new table, and only then
// writes those that were taken: the count keeps the order.
func applyWithout(ctx context.Context, tx pgx.Tx, gone string, id migrate.ID, columns []string, limit int) (applied int64, err error) {
	err = tx.QueryRow(ctx, fmt.Sprintf(`WITH taken AS (
			DELETE FROM %[1]s WHERE ctid = ANY (ARRAY(SELECT ctid FROM %[1]s LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING *),
		gone AS (
			DELETE FROM %[2]s s USING %[3]s t WHERE s.row_idx = t.row_idx AND s.col_idx = t.col_idx RETURNING s.row_idx),
		there AS (
			INSERT INTO %[2]s (%[4]s) SELECT %[4]s FROM taken WHERE NOT deleted AND (SELECT count(*) FROM gone) >= 0
			ON CONFLICT (row_idx, col_idx) DO UPDATE SET %[5]s)
		SELECT count(*) FROM taken`, ours(notesOf(id)), ours(shadowOf(id)), gone, quotedList(columns, ""), assignments(columns)), limit).Scan(&applied)
	return applied, err
}

// Sync applies the last notes and lets every write reach the new table itself.
// Writers are held up meanwhile, for some milliseconds; readers are not. more is
// true, and the state what it was, when there were too many notes for that. turn
// counts the calls of ApplyNotes.
func (m *Migrations) Sync(ctx context.Context, l migrate.Lease, turn int) (more bool, err error) {
	err = m.take(ctx, "sync", l.ID, byLease(l, migrate.Indexed), func(ctx context.Context, a *arrow) (err error) {
		more, err = a.row.target().sync(ctx, a, turn)
		return err
	})
	return more, err
}

func (shadowTable) sync(ctx context.Context, a *arrow, turn int) (more bool, err error) {
	id := a.row.ID
	if err := a.quiet(ctx, a.named(), ours(notesOf(id))); err != nil {
		return false, err
	}
	old, err := a.lockedSource(ctx, "SHARE ROW EXCLUSIVE")
	if err != nil {
		return false, err
	}
	_, rest := drain(turn)
	applied, err := a.apply(ctx, old.columns, rest+1)
	if err != nil {
		return false, err
	}
	if applied > int64(rest) {
		return true, nil // what was applied stays applied
	}
	a.hold()
	return false, inOrder(ctx, []func(context.Context) error{
		func(ctx context.Context) error { return a.followFunctions(ctx, ours(shadowOf(id)), old.columns) },
		func(ctx context.Context) error { return a.exec(ctx, "drop-notes", "DROP TABLE "+ours(notesOf(id))) },
		func(ctx context.Context) error {
			return a.exec(ctx, "synced", "UPDATE rasterloom.migration SET synced_xid = pg_current_xact_id() WHERE id = $1", int64(id))
		},
		func(ctx context.Context) error { return a.enter(ctx, migrate.Synced) },
		a.flush,
	})
}

// isCode reports whether PostgreSQL said so.
func isCode(err error, code string) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == code
}

// isContention reports whether somebody else's transaction was in the way:
// lock_not_available, deadlock_detected, serialization_failure, or one that is
// too old.
func isContention(err error) bool {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f.Reason == fault.TableBusy
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == "55P03" || e.Code == "40P01" || e.Code == "40001")
}

// contending tries again what failed for want of a lock.
func (m *Migrations) contending(ctx context.Context, id migrate.ID, do func() error) error {
	for try := 1; ; try++ {
		err := do()
		if err == nil || !isContention(err) {
			return faultOf(gone(id, err))
		}
		if _, told := errors.AsType[*fault.Error](err); told && try == lockTries {
			return err
		}
		if try == lockTries {
			return m.busy(ctx, id, err)
		}
		if err := m.letGo(ctx, id); err != nil {
			return faultOf(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pauseBetweenTries()):
		}
	}
}
