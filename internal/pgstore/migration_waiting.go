package pgstore

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// What a migration waits for is kept where a failure is, while it runs: the one is
// over when the other begins.

// Waits notes why the next arrow cannot be taken yet, for whoever looks; nil: it was
// taken. Neither etag nor condition change. Errors: Conflict MIGRATION_CHANGED when
// the lease was lost.
func (m *Migrations) Waits(ctx context.Context, l migrate.Lease, cause error) error {
	var text []byte
	if cause != nil {
		var err error
		if text, err = json.Marshal(migrate.FailureOf(cause)); err != nil {
			return err
		}
	}
	tag, err := m.pool.Exec(ctx, "UPDATE rasterloom.migration SET failure = $3 WHERE id = $1 AND fence = $2 AND condition = 'RUNNING'", int64(l.ID), l.Fence, text)
	if err == nil && tag.RowsAffected() == 0 {
		return errFenced(l.ID)
	}
	return faultOf(err)
}

// waiting is why a running migration does not move: what its worker noted, or that it
// is alone, without one.
func (r migrationRow) waiting(noted *migrate.Failure, alone bool) *migrate.Failure {
	if _, moves := migrate.Next(r.State); noted != nil || !moves || !alone {
		return noted
	}
	f := migrate.FailureOf(fault.New(fault.Unavailable, fault.ServiceUnavailable,
		"no worker has taken it up: all are at work on other migrations, or no schema service runs that knows its level"))
	return &f
}

// holdersTold is how many of those who have a table locked are named.
const holdersTold = 5

// busy is the fault of a table that was never free, which names those who have it
// locked now.
func (m *Migrations) busy(ctx context.Context, id migrate.ID, cause error) error {
	who := ""
	// Where they cannot be told the answer is the same.
	pids, told, err := m.holders(ctx, id)
	if err == nil && len(told) > 0 {
		who = "; it is locked by " + strings.Join(told, "; ")
	}
	return fault.New(fault.Unavailable, fault.TableBusy, "the table of migration %s was in use at each of %d tries to lock it for at most %v; nothing was changed%s",
		id, lockTries, migrate.LockWait, who).With("migration", id).With("tries", lockTries).With("sessions", strings.Join(pids, " ")).Because(cause)
}

// holders gives the sessions that stand in the way of a migration, the oldest
// transaction first: their process ids, and in words. Who only reads is in the way of
// those arrows alone that keep everybody out. Since when somebody else's transaction
// is open is seen with the rights of pg_read_all_stats only.
func (m *Migrations) holders(ctx context.Context, id migrate.ID) (pids, told []string, err error) {
	rows, err := m.pool.Query(ctx, `SELECT coalesce(a.pid, 0), coalesce(a.usename, ''), coalesce(a.application_name, ''),
			extract(epoch FROM clock_timestamp() - min(a.xact_start))::float8
		FROM rasterloom.migration m
		JOIN pg_locks l ON l.locktype = 'relation' AND l.granted AND l.relation IN (m.old_table, m.new_table)
			AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		LEFT JOIN pg_stat_activity a ON a.pid = l.pid
		WHERE m.id = $1 AND l.pid IS DISTINCT FROM pg_backend_pid()
		  AND (m.in_place OR m.state NOT IN ('PLANNED', 'TILED_PLANNED') OR l.mode NOT IN ('AccessShareLock', 'RowShareLock'))
		GROUP BY 1, 2, 3 ORDER BY 4 DESC NULLS LAST, 1 LIMIT $2`, int64(id), holdersTold)
	if err != nil {
		return nil, nil, err
	}
	var (
		pid               int
		user, application string
		seconds           *float64
	)
	_, err = pgx.ForEachRow(rows, []any{&pid, &user, &application, &seconds}, func() error {
		if pid == 0 {
			told = append(told, "a prepared transaction (pg_prepared_xacts)")
			return nil
		}
		text := fmt.Sprintf("session %d of %s", pid, user)
		if application != "" {
			text += fmt.Sprintf(" (%.64s)", application)
		}
		if seconds != nil {
			text += fmt.Sprintf(", whose transaction is open for %.0f s", *seconds)
		}
		pids, told = append(pids, fmt.Sprint(pid)), append(told, text)
		return nil
	})
	return pids, told, err
}
