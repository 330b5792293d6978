package pgstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/failpoint"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// Rows are copied by two COPYs, one that reads and one that writes, through us.
// That is twice as fast as INSERT … SELECT: the two work at the same time, and COPY
// writes, and logs, a page at a time where INSERT does a row at a time.

const (
	// pipeBytes is how much is read before it is handed on.
	pipeBytes = 256 << 10
	// frozenAfter is how long a COPY may wait for a worker that somebody else
	// waits for.
	frozenAfter = 10 * time.Second
)

// pipable reports whether a table holds nothing but numbers, whose binary form
// keeps all bits and needs nothing of theirs to be read back.
func pipable(t pixelTable) bool {
	return !slices.ContainsFunc(t.types, func(kind string) bool {
		return !slices.Contains([]string{"smallint", "integer", "bigint", "real", "double precision"}, kind)
	})
}

// copyTag marks the statements of pipe, so that letGo knows them.
func copyTag(id migrate.ID) string { return fmt.Sprintf("/* rasterloom migration %s */ ", id) }

// spare gives a second connection to an arrow, or nil where none is to be had
// soon: lanes that wait for each other's would wait for ever.
func (a *arrow) spare(ctx context.Context) *pgxpool.Conn { return spareConn(ctx, a.pool) }

func spareConn(ctx context.Context, pool *pgxpool.Pool) *pgxpool.Conn {
	soon, cancel := context.WithTimeout(ctx, migrate.LockWait)
	defer cancel()
	conn, err := pool.Acquire(soon)
	if err != nil {
		return nil
	}
	return conn
}

// errNoWriter ends the reading when the writing failed.
var errNoWriter = errors.New("nobody takes the rows")

// pipe copies the rows of a query, read on a connection of its own, into a table
// with columns. The query is one statement with one snapshot, as in an INSERT …
// SELECT. What it locks our transaction has locked before, as strongly.
func (a *arrow) pipe(ctx context.Context, conn *pgxpool.Conn, query, into string) (int64, error) {
	out, in := io.Pipe()
	var (
		read    int64
		readErr error
		reading = make(chan struct{})
	)
	go func() {
		defer close(reading)
		readErr = fault.Guard(func() (err error) {
			read, err = a.readInto(ctx, conn, query, in)
			return err
		})
		in.CloseWithError(readErr) // nil: the end
	}()
	tag, err := a.Tx.Conn().PgConn().CopyFrom(ctx, out, copyTag(a.row.ID)+"COPY "+into+" FROM STDIN (FORMAT binary)")
	out.CloseWithError(errNoWriter)
	<-reading
	switch {
	case readErr != nil && !errors.Is(readErr, errNoWriter):
		return 0, readErr // the other error says no more than that nothing came
	case err != nil:
		return 0, err
	case tag.RowsAffected() != read:
		return 0, fault.New(fault.Internal, fault.Bug, "internal error").With("read", read).With("written", tag.RowsAffected())
	}
	return read, nil
}

func (a *arrow) readInto(ctx context.Context, conn *pgxpool.Conn, query string, to io.Writer) (rows int64, err error) {
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, copySettings, lockWait); err != nil {
			return err
		}
		buffer := bufio.NewWriterSize(to, pipeBytes)
		tag, err := tx.Conn().PgConn().CopyTo(ctx, buffer, copyTag(a.row.ID)+"COPY ("+query+") TO STDOUT (FORMAT binary)")
		if err != nil {
			return err
		}
		rows = tag.RowsAffected()
		failpoint.Hit("copy/read") // while the other COPY waits for more
		return buffer.Flush()
	})
	return rows, err
}

// letGo ends copies whose worker neither takes nor sends rows any more. A worker
// that is frozen in the middle of one would hold its locks for ever: no timeout of
// PostgreSQL's ends a COPY that waits for its client.
func (m *Migrations) letGo(ctx context.Context, id migrate.ID) error {
	_, err := m.pool.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND usename = session_user AND state = 'active' AND wait_event_type = 'Client'
		  AND starts_with(query, $1) AND query_start < clock_timestamp() - $2::interval`, copyTag(id), frozenAfter)
	return err
}
