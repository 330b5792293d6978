package pgstore

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/failpoint"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// The questions that take more than a line; each file says what it answers.
var (
	//go:embed shadow/migration.sql
	sqlMigration string
	//go:embed shadow/signature.sql
	sqlSignature string
	//go:embed shadow/dependents.sql
	sqlDependents string
	//go:embed shadow/features.sql
	sqlFeatures string
	//go:embed shadow/of_coordinates.sql
	sqlOfCoordinates string
	//go:embed shadow/indexes.sql
	sqlIndexes string
	//go:embed shadow/views.sql
	sqlViews string
	//go:embed shadow/grants.sql
	sqlGrants string
	//go:embed shadow/old_snapshots.sql
	sqlOldSnapshots string
	//go:embed shadow/claim.sql
	sqlClaim string
)

// Migrations carries out migrations of pixel tables while they are read and
// written. What it does in which order is package migrate's; how, with which
// locks and why nothing is lost, is told in docs/migration.md.
//
// Every arrow is one transaction that locks the migration's row, checks state
// and fence, does its work and sets the new state. Killed anywhere, it either
// happened or it did not.
type Migrations struct {
	pool *pgxpool.Pool
}

// Migrations gives the migrations of this store's tables. Its role must own
// them, or be a member of the owner's.
func (s *Store) Migrations() *Migrations { return &Migrations{pool: s.pool} }

// lockWait is migrate.LockWait as a setting.
var lockWait = fmt.Sprintf("%dms", migrate.LockWait.Milliseconds())

// lockTries is how often a lock is tried for before TABLE_BUSY is answered.
const lockTries = 20

// arrow is one transaction of a migration. Its steps are named for failpoints.
type arrow struct {
	pgx.Tx
	pool *pgxpool.Pool
	name string
	row  migrationRow
	// holding: exec keeps statements in held until flush, while somebody waits
	// for a lock of ours. A round trip each would take as long as the slowest
	// scheduler makes it.
	holding bool
	held    []heldStatement
}

// heldStatement is one that waits for flush.
type heldStatement struct {
	step, sql string
	args      []any
}

// migrationRow is a row of rasterloom.migration, with what only SQL needs.
type migrationRow struct {
	migrate.Migration
	oldTable, newTable uint32
	oldFile            uint32
	signature          string
	newSignature       string
	oldFormat          string
	oldRegistration    string
	indexes            []indexName
	syncedXID          string
	leaseFor           time.Duration // of the worker that was admitted
	tiles              *tilesRecord  // of a migration to tiles
	tilesTable         layer.Table   // where these are; nothing for what an older program made
}

// exec runs a statement, and is a failpoint. While holding, flush does.
func (a *arrow) exec(ctx context.Context, step, sql string, args ...any) error {
	if a.holding {
		a.held = append(a.held, heldStatement{step, sql, args})
		return nil
	}
	if _, err := a.Tx.Exec(ctx, sql, args...); err != nil {
		return err
	}
	failpoint.Hit(a.name + "/" + step)
	return nil
}

// hold begins to keep statements back.
func (a *arrow) hold() { a.holding = true }

// flush runs what was held back, in one round trip; in two, when a test wants to
// stop in between.
func (a *arrow) flush(ctx context.Context) error {
	rest := a.held
	a.holding, a.held = false, nil
	for len(rest) > 0 {
		var batch pgx.Batch
		for _, s := range rest {
			batch.Queue(s.sql, s.args...)
			if failpoint.Armed(a.name + "/" + s.step) {
				break
			}
		}
		if err := a.Tx.SendBatch(ctx, &batch).Close(); err != nil {
			return err
		}
		for _, s := range rest[:batch.Len()] {
			failpoint.Hit(a.name + "/" + s.step)
		}
		rest = rest[batch.Len():]
	}
	return nil
}

// admit decides whether a transaction may go on, seeing the locked row, in which it
// may note what is known only to those who ask.
type admit func(*migrationRow) error

// byLease admits the worker that holds the newest fence of a running migration, and
// notes for how long it has its leases: the arrow that it takes begins one anew.
func byLease(l migrate.Lease, in migrate.State) admit {
	return func(r *migrationRow) error {
		if r.Fence != l.Fence || r.Condition != migrate.Running {
			return errFenced(r.ID)
		}
		if r.State != in {
			return fault.New(fault.Conflict, fault.MigrationChanged, "migration %s is %s, and was %s", r.ID, r.State, in).
				With("migration", r.ID).With("state", r.State)
		}
		r.leaseFor = l.For
		return nil
	}
}

// byOperator admits somebody who has seen the migration as it is.
func byOperator(etag string, to migrate.State) admit {
	return func(r *migrationRow) error {
		if to != "" {
			if err := migrate.Check(r.State, to); err != nil {
				return fault.From(err).With("migration", r.ID)
			}
		}
		if etag != r.ETag() {
			return fault.New(fault.Conflict, fault.MigrationChanged,
				"migration %s has changed: its etag is %q, and %q was sent", r.ID, r.ETag(), etag).
				With("migration", r.ID).With("etag", r.ETag()).With("sent", etag)
		}
		return nil
	}
}

func errFenced(id migrate.ID) error {
	return fault.New(fault.Conflict, fault.MigrationChanged,
		"migration %s was paused, or taken over by another worker", id).With("migration", id)
}

// take runs one transaction of a migration. Locks that are not had within
// migrate.LockWait are given up, with the whole transaction, and tried for again
// after a pause in which others get through.
func (m *Migrations) take(ctx context.Context, name string, id migrate.ID, may admit, do func(ctx context.Context, a *arrow) error) error {
	return m.contending(ctx, id, func() error {
		return m.once(ctx, name, may, do, func(tx pgx.Tx) (row migrationRow, err error) {
			if _, err := tx.Exec(ctx, arrowSettings, "10s"); err != nil {
				return row, err
			}
			if row, err = readMigration(ctx, tx, id, "FOR UPDATE"); err != nil {
				return row, err
			}
			// Whoever is in a lane holds it, and looks at the migration after it has it:
			// once the lanes are ours, nobody is.
			if _, err := tx.Exec(ctx, "SELECT FROM rasterloom.migration_lane WHERE migration = $1 ORDER BY lane FOR UPDATE", int64(id)); err != nil {
				return row, err
			}
			_, err = tx.Exec(ctx, "SELECT set_config('lock_timeout', $1, true)", lockWait)
			return row, err
		})
	})
}

// inLane runs one transaction in a lane, beside those in the other lanes. It does not
// lock the migration's row, so that leases are renewed meanwhile; but what take runs
// waits for it.
func (m *Migrations) inLane(ctx context.Context, name string, l migrate.Lease, lane int, in migrate.State, settings string, do func(ctx context.Context, a *arrow) error) error {
	return m.contending(ctx, l.ID, func() error {
		return m.once(ctx, name, byLease(l, in), do, func(tx pgx.Tx) (row migrationRow, err error) {
			if _, err := tx.Exec(ctx, settings, lockWait); err != nil {
				return row, err
			}
			if _, err := tx.Exec(ctx, "SELECT FROM rasterloom.migration_lane WHERE migration = $1 AND lane = $2 FOR UPDATE", int64(l.ID), lane); err != nil {
				return row, err
			}
			return readMigration(ctx, tx, l.ID, "")
		})
	})
}

// arrowSettings are those of an arrow, whose first locks are waited for as long as $1: a
// worker that is frozen must not hold its locks for ever; and what is not committed to
// disk must not be told to anybody.
const arrowSettings = `SELECT set_config('lock_timeout', $1, true), set_config('idle_in_transaction_session_timeout', '10s', true),
	set_config('statement_timeout', '0', true), set_config('synchronous_commit', 'on', true), set_config('jit', 'off', true)`

// pauseBetweenTries lets those through who waited behind us.
func pauseBetweenTries() time.Duration { return migrate.LockWait/2 + rand.N(2*migrate.LockWait) }

// once runs one transaction: lock takes what it has to hold, and reads the migration.
func (m *Migrations) once(ctx context.Context, name string, may admit, do func(ctx context.Context, a *arrow) error, lock func(pgx.Tx) (migrationRow, error)) error {
	failpoint.Hit(name + "/before-begin")
	tx, err := m.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	row, err := lock(tx)
	if err != nil {
		return err
	}
	if err := may(&row); err != nil {
		return err
	}
	if !slices.Contains(anyTables, name) {
		if err := row.asRecorded(ctx, tx); err != nil {
			return err
		}
	}
	failpoint.Hit(name + "/locked")
	if err := do(ctx, &arrow{Tx: tx, pool: m.pool, name: name, row: row}); err != nil {
		return err
	}
	failpoint.Hit(name + "/before-commit")
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	failpoint.Hit(name + "/committed")
	return nil
}

// enter sets the new state, for the worker that holds the lease. It begins anew: an
// arrow may take longer than a lease, which cannot be renewed under its lock.
func (a *arrow) enter(ctx context.Context, to migrate.State) error {
	return a.exec(ctx, "state", `UPDATE rasterloom.migration SET state = $2, failure = NULL, lease_until = clock_timestamp() + $3,
		revision = revision + 1, state_time = clock_timestamp(), update_time = clock_timestamp() WHERE id = $1`,
		int64(a.row.ID), storedState(a.row.Spec.Level, to), a.row.leaseFor)
}

// decide sets the new state for an operator; a worker, if any, is fenced out.
func (a *arrow) decide(ctx context.Context, to migrate.State) error {
	return a.exec(ctx, "state", `UPDATE rasterloom.migration SET state = $2, condition = 'RUNNING', failure = NULL,
		fence = fence + 1, lease_until = NULL, revision = revision + 1,
		state_time = clock_timestamp(), update_time = clock_timestamp() WHERE id = $1`, int64(a.row.ID), storedState(a.row.Spec.Level, to))
}

// tiledState stands before the stored states of a migration to tiles that is not
// over. Programs of before there were such know the other states, and would make a
// second table with coordinates of one that they claim; these they leave alone.
const tiledState = "TILED_"

// storedState is what a state is called in the row of a migration; stateOf reads it.
func storedState(level migrate.Level, s migrate.State) string {
	if level == migrate.LevelTiled && !s.Ended() {
		return tiledState + string(s)
	}
	return string(s)
}

func stateOf(stored string) migrate.State {
	return migrate.State(strings.TrimPrefix(stored, tiledState))
}

// readMigration reads a migration; lock is "" or a locking clause.
func readMigration(ctx context.Context, q querier, id migrate.ID, lock string) (migrationRow, error) {
	rows, err := q.Query(ctx, sqlMigration+" WHERE m.id = $1 "+ofMigration(lock), int64(id))
	if err != nil {
		return migrationRow{}, err
	}
	row, err := pgx.CollectExactlyOneRow(rows, scanMigration)
	if errors.Is(err, pgx.ErrNoRows) {
		return row, fault.New(fault.NotFound, fault.MigrationNotFound, "there is no migration %s", id).With("migration", id)
	}
	return row, err
}

func ofMigration(lock string) string {
	if lock == "" {
		return ""
	}
	return lock + " OF m"
}

// querier is what a pool, a connection and a transaction have in common.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func scanMigration(row pgx.CollectableRow) (migrationRow, error) {
	var (
		r                              migrationRow
		g                              grid.Grid
		level, state, condition        string
		failure, verification, indexes []byte
		tiles                          []byte
		newTable                       *uint32
		newSignature                   *string
		synced                         *string
		alone                          bool
	)
	err := row.Scan((*int64)(&r.ID), &r.Spec.Layer, &level, &r.Spec.RowsPerSecond,
		&r.Table.Schema, &r.Table.Name, &r.oldTable, &newTable, &r.signature, &newSignature, &r.oldFile,
		&g.CRS, &g.Rows, &g.Cols, &g.OriginX, &g.OriginY, &g.StepX, &g.StepY, &r.SouthUp,
		&r.oldFormat, &r.oldRegistration, &indexes, &state, &condition, &failure, &verification,
		&r.Spec.InPlace, &r.DiskBytes, &tiles, &r.tilesTable.Schema, &r.tilesTable.Name,
		&r.Revision, &r.Fence, &synced, &r.Progress.RowsTotal,
		&r.CreateTime, &r.StateTime, &r.UpdateTime, &alone,
		&r.Progress.RowsCopied, &r.Progress.BlocksTotal, &r.Progress.BlocksDone)
	if err != nil {
		return r, err
	}
	r.Spec.Level, r.State, r.Condition, r.Grid = migrate.Level(level), stateOf(state), migrate.Condition(condition), g
	if newTable != nil {
		r.newTable = *newTable
	}
	if newSignature != nil {
		r.newSignature = *newSignature
	}
	if synced != nil {
		r.syncedXID = *synced
	}
	err = errors.Join(decode(failure, &r.Failure), decode(verification, &r.Verification), decode(indexes, &r.indexes), decode(tiles, &r.tiles))
	if err == nil && r.tiles != nil {
		r.Spec.Tiles = migrate.TileSpec{SQLView: r.tiles.SQLView, Declared: r.tiles.Declared}
	}
	if r.Condition == migrate.Running {
		r.Failure, r.Waiting = nil, r.waiting(r.Failure, alone)
	}
	return r, err
}

func decode(text []byte, into any) error {
	if text == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

// Get gives a migration. Errors: NotFound MIGRATION_NOT_FOUND.
func (m *Migrations) Get(ctx context.Context, id migrate.ID) (migrate.Migration, error) {
	row, err := readMigration(ctx, m.pool, id, "")
	if err != nil {
		return migrate.Migration{}, faultOf(err)
	}
	if row.Capture() == migrate.CaptureNoted {
		// By the planner's statistics: a count would read them all.
		err = m.pool.QueryRow(ctx, `SELECT coalesce(max(greatest(n_live_tup, 0)), 0) FROM pg_stat_all_tables
			WHERE schemaname = 'rasterloom' AND relname = $1`, notesOf(id)).Scan(&row.Progress.NotesPending)
	}
	return row.Migration, faultOf(err)
}

// List gives the migrations of a layer, or of all when layer is empty, newest
// first, at most limit.
func (m *Migrations) List(ctx context.Context, layerName string, limit int) ([]migrate.Migration, error) {
	rows, err := m.pool.Query(ctx, sqlMigration+" WHERE $1 = '' OR m.layer = $1 ORDER BY m.id DESC LIMIT $2", layerName, limit)
	if err != nil {
		return nil, faultOf(err)
	}
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (migrate.Migration, error) {
		row, err := scanMigration(r)
		return row.Migration, err
	})
	return list, faultOf(err)
}

// Start plans a migration and records it as PLANNED; a worker takes it from
// there. The same key with the same spec gives the migration that there is.
// headroom is as in Plan. Errors: Precondition MIGRATION_REFUSED; Limit DISK_FULL;
// Exists MIGRATION_EXISTS when the key was used for another spec, or the table has
// a live migration.
func (m *Migrations) Start(ctx context.Context, key string, spec migrate.Spec, l layer.Layer, headroom *int64) (migrate.Migration, error) {
	if err := spec.Check(); err != nil {
		return migrate.Migration{}, err
	}
	if found, ok, err := m.byKey(ctx, key, spec); ok || err != nil {
		return found, faultOf(err)
	}
	// Asked first, so that the plan does not meet the traces of the other one;
	// the unique index decides below.
	if err := m.live(ctx, l); err != nil {
		return migrate.Migration{}, faultOf(err)
	}
	plan, table, err := m.plan(ctx, spec, l, headroom)
	if err != nil {
		return migrate.Migration{}, faultOf(err)
	}
	if err := plan.Check(); err != nil {
		return migrate.Migration{}, err
	}
	if err := plan.CheckDisk(); err != nil {
		return migrate.Migration{}, err
	}
	tiles, err := recordOfTiles(plan, l)
	if err != nil {
		return migrate.Migration{}, err
	}
	failpoint.Hit("start/before-insert")
	var id int64
	err = pgx.BeginFunc(ctx, m.pool, func(tx pgx.Tx) error {
		if err := stillThere(ctx, tx, l); err != nil {
			return err
		}
		if err := freshIDs(ctx, tx); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `INSERT INTO rasterloom.migration (idempotency_key, layer, level, rows_per_second, table_schema, table_name,
			old_table, signature, old_file, crs, grid_rows, grid_cols, origin_x, origin_y, step_x, step_y, south_up,
			old_format, old_registration, state, condition, rows_total, in_place, disk_bytes, tiles)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $24, 'RUNNING', $20, $21, $22, $23)
		ON CONFLICT DO NOTHING RETURNING id`,
			key, spec.Layer, string(spec.Level), spec.RowsPerSecond, l.Table.Schema, l.Table.Name,
			table.oid, table.signature, table.file, l.Grid.CRS, l.Grid.Rows, l.Grid.Cols, l.Grid.OriginX, l.Grid.OriginY, l.Grid.StepX, l.Grid.StepY,
			l.SouthUp, l.Format.String(), l.Registration.String(), plan.Rows, spec.InPlace, plan.DiskBytes, tiles,
			storedState(spec.Level, migrate.Planned)).Scan(&id)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		if found, ok, err := m.byKey(ctx, key, spec); ok || err != nil {
			return found, faultOf(err)
		}
		if err := m.live(ctx, l); err != nil {
			return migrate.Migration{}, faultOf(err)
		}
		return migrate.Migration{}, fault.New(fault.Conflict, fault.MigrationChanged,
			"another migration of layer %q ended just now; try again", spec.Layer).With("layer", spec.Layer)
	}
	if err != nil {
		return migrate.Migration{}, faultOf(err)
	}
	failpoint.Hit("start/inserted")
	return m.Get(ctx, migrate.ID(id))
}

// freshIDs makes sure that the next id is nobody's: where the rows of a dump were
// restored and the position of the sequence was not, or older rows beside what later
// migrations made, names that are made of ids would meet others.
func freshIDs(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `SELECT setval('rasterloom.migration_id_seq', top.id) FROM (
			SELECT max(id) AS id FROM (
				SELECT id FROM rasterloom.migration
				UNION ALL SELECT substring(relname FROM '[0-9]+$')::bigint FROM pg_class
					WHERE relnamespace = 'rasterloom'::regnamespace AND relname ~ '^(shadow|notes|old)_[0-9]{1,18}$'
				UNION ALL SELECT substring(proname FROM '[0-9]+$')::bigint FROM pg_proc
					WHERE pronamespace = 'rasterloom'::regnamespace AND proname ~ '^rasterloom_(row|truncate)_[0-9]{1,18}$') u) top
		WHERE top.id >= (SELECT last_value + is_called::integer FROM rasterloom.migration_id_seq)`)
	return err
}

// stillThere makes sure that the layer is what was planned for, and keeps it from
// being dropped until the transaction ends.
func stillThere(ctx context.Context, tx pgx.Tx, l layer.Layer) error {
	var generation int64
	err := tx.QueryRow(ctx, "SELECT generation FROM rasterloom.layer WHERE name = $1 FOR KEY SHARE", l.Name).Scan(&generation)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fault.New(fault.NotFound, fault.LayerNotFound, "layer %q was dropped just now", l.Name).With("layer", l.Name)
	case err == nil && generation != l.Generation:
		return fault.New(fault.Conflict, fault.LayerChanged, "layer %q has generation %d by now, and was planned for at generation %d; try again",
			l.Name, generation, l.Generation).With("layer", l.Name).With("generation", generation)
	}
	return err
}

// live is the fault of a table that has a migration which is not over.
func (m *Migrations) live(ctx context.Context, l layer.Layer) error {
	var id migrate.ID
	var state string
	err := m.pool.QueryRow(ctx, `SELECT id, state FROM rasterloom.migration WHERE table_schema = $1 AND table_name = $2
		AND state NOT IN ('FINALIZED', 'ROLLED_BACK', 'ABORTED')`, l.Table.Schema, l.Table.Name).Scan((*int64)(&id), &state)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return fault.New(fault.Exists, fault.MigrationExists, "the table of layer %q has migration %s, which is %s; there can be one at a time",
		l.Name, id, stateOf(state)).With("layer", l.Name).With("migration", id).With("state", stateOf(state))
}

func (m *Migrations) byKey(ctx context.Context, key string, spec migrate.Spec) (migrate.Migration, bool, error) {
	rows, err := m.pool.Query(ctx, sqlMigration+" WHERE m.idempotency_key = $1", key)
	if err != nil {
		return migrate.Migration{}, false, err
	}
	row, err := pgx.CollectExactlyOneRow(rows, scanMigration)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return migrate.Migration{}, false, nil
	case err != nil:
		return migrate.Migration{}, false, err
	case row.Spec != spec:
		return migrate.Migration{}, false, fault.New(fault.Exists, fault.MigrationExists,
			"the idempotency key was used for migration %s of layer %q, which is another request", row.ID, row.Spec.Layer).
			With("migration", row.ID).With("layer", row.Spec.Layer)
	}
	return row.Migration, true, nil
}

// Claim takes over a migration that has something to do and no living worker,
// for so long. false when there is none.
func (m *Migrations) Claim(ctx context.Context, lease time.Duration) (migrate.Lease, bool, error) {
	return m.claim(ctx, lease, true)
}

// ClaimUnthrottled is Claim for one whose copying is not bounded.
func (m *Migrations) ClaimUnthrottled(ctx context.Context, lease time.Duration) (migrate.Lease, bool, error) {
	return m.claim(ctx, lease, false)
}

func (m *Migrations) claim(ctx context.Context, lease time.Duration, throttled bool) (migrate.Lease, bool, error) {
	l := migrate.Lease{For: lease}
	err := m.pool.QueryRow(ctx, sqlClaim, lease, throttled).Scan((*int64)(&l.ID), &l.Fence)
	if errors.Is(err, pgx.ErrNoRows) {
		return l, false, nil
	}
	failpoint.Hit("claim/committed")
	return l, err == nil, faultOf(err)
}

// Renew keeps a lease. Errors: Conflict MIGRATION_CHANGED when it was lost.
//
// Whoever has the row locked, an arrow of the holder as a rule, keeps everybody
// from claiming it: a lease that cannot be written for that is not lost.
func (m *Migrations) Renew(ctx context.Context, l migrate.Lease) error {
	tag, err := m.pool.Exec(ctx, `UPDATE rasterloom.migration SET lease_until = clock_timestamp() + $3
		WHERE id = $1 AND fence = $2 AND condition = 'RUNNING'`, int64(l.ID), l.Fence, l.For)
	if isCode(err, "55P03") { // lock_not_available
		return nil
	}
	if err == nil && tag.RowsAffected() == 0 {
		return errFenced(l.ID)
	}
	return faultOf(err)
}

// Release gives a lease back, so that nobody has to wait for its end.
func (m *Migrations) Release(ctx context.Context, l migrate.Lease) error {
	_, err := m.pool.Exec(ctx, `UPDATE rasterloom.migration SET lease_until = NULL WHERE id = $1 AND fence = $2`, int64(l.ID), l.Fence)
	return faultOf(err)
}

// Fail records why the next arrow could not be taken. Its state stays.
func (m *Migrations) Fail(ctx context.Context, l migrate.Lease, cause error) error {
	text, err := json.Marshal(migrate.FailureOf(cause))
	if err != nil {
		return err
	}
	tag, err := m.pool.Exec(ctx, `UPDATE rasterloom.migration SET condition = 'FAILED', failure = $3, lease_until = NULL,
		revision = revision + 1, update_time = clock_timestamp() WHERE id = $1 AND fence = $2 AND condition = 'RUNNING'`, int64(l.ID), l.Fence, text)
	if err == nil && tag.RowsAffected() == 0 {
		return errFenced(l.ID)
	}
	return faultOf(err)
}

// Pause stops a migration where it is; its worker is fenced out. Writes are
// captured all the same. Errors: as CutOver.
func (m *Migrations) Pause(ctx context.Context, id migrate.ID, etag string) error {
	return m.setCondition(ctx, "pause", id, etag, migrate.Paused)
}

// Resume lets a paused or failed migration go on, and any in a database that was
// restored from a dump, where it goes on with the tables that have its names. Errors:
// as CutOver; Corrupt DATA_CORRUPT when the tables of a restored one differ that were
// the same.
func (m *Migrations) Resume(ctx context.Context, id migrate.ID, etag string) error {
	row, err := readMigration(ctx, m.pool, id, "")
	if err != nil {
		return faultOf(err)
	}
	now, restored, err := row.wasRestored(ctx, m.pool)
	if err != nil {
		return faultOf(err)
	}
	if restored {
		return m.takeUp(ctx, row, now, etag)
	}
	return m.setCondition(ctx, "resume", id, etag, migrate.Running)
}

func (m *Migrations) setCondition(ctx context.Context, name string, id migrate.ID, etag string, c migrate.Condition) error {
	return m.take(ctx, name, id, byOperator(etag, ""), func(ctx context.Context, a *arrow) error {
		if _, moves := migrate.Next(a.row.State); !moves && !a.row.Follows() {
			return fault.New(fault.Precondition, fault.MigrationState, "migration %s is %s, and nothing runs that could %s",
				id, a.row.State, name).With("migration", id).With("state", a.row.State)
		}
		if a.row.Condition == c {
			return nil
		}
		return a.exec(ctx, "state", `UPDATE rasterloom.migration SET condition = $2, failure = NULL, fence = fence + 1, lease_until = NULL,
			revision = revision + 1, update_time = clock_timestamp() WHERE id = $1`, int64(id), string(c))
	})
}
