package pgstore

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/tile"
)

// cellLine is one connection of a set, in a transaction at the set's snapshot.
type cellLine struct {
	set *CellSet
	// surplus is true for all but the one that holds the snapshot.
	surplus bool
	conn    *pgxpool.Conn
	tx      pgx.Tx
	// alone is the one stream that the connection reads, to its end by one query.
	alone *CellStream
	// turns are streams that take turns by cursors.
	turns []*CellStream
	// slices is true when the connection takes slices of streams, too.
	slices bool
	// ready is set, under the set's lock, once the connection is there.
	ready bool
	// statements are the prepared ones for slices: their names by their texts.
	statements map[string]string
	// wake is signalled when a chunk of one of the streams came back.
	wake chan struct{}
	// scratch is for decoding tiles.
	scratch tile.Scratch
}

// begin takes a connection and begins its transaction.
func (l *cellLine) begin(ctx context.Context) (err error) {
	if l.conn, err = l.set.reader.store.pool.Acquire(ctx); err != nil {
		return err
	}
	l.tx, err = l.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	return err
}

// snapshotName is what pg_export_snapshot gives. SET TRANSACTION SNAPSHOT takes
// no parameter, so the name becomes part of a statement.
var snapshotName = regexp.MustCompile(`^[0-9A-F]+-[0-9A-F]+-[0-9]+$`)

// export lets other connections see the state that this one sees.
func (l *cellLine) export(ctx context.Context) (snapshot string, err error) {
	if err := l.tx.QueryRow(ctx, "SELECT pg_catalog.pg_export_snapshot()").Scan(&snapshot); err != nil {
		return "", err
	}
	if !snapshotName.MatchString(snapshot) {
		return "", fmt.Errorf("pg_export_snapshot gave %q, which is not a name of a snapshot", snapshot)
	}
	return snapshot, nil
}

// join takes a connection and makes it ready at an exported snapshot.
func (l *cellLine) join(ctx context.Context, snapshot string) error {
	if err := l.begin(ctx); err != nil {
		return err
	}
	if err := l.adopt(ctx, snapshot); err != nil {
		return err
	}
	return l.settle(ctx)
}

// adopt sees the state of an exported snapshot.
func (l *cellLine) adopt(ctx context.Context, snapshot string) error {
	_, err := l.tx.Exec(ctx, "SET TRANSACTION SNAPSHOT '"+snapshot+"'")
	return err
}

// settle makes the settings that the queries of cells rely on. A cursor of ours
// is read to its end, so the planner should not favour its first tenth. JIT
// takes longer than it saves on plans like these.
func (l *cellLine) settle(ctx context.Context) error {
	_, err := l.tx.Exec(ctx, "SELECT pg_catalog.set_config('cursor_tuple_fraction', '1', true), pg_catalog.set_config('jit', 'off', true)")
	return err
}

// settleSlices makes those for slices, once the cursors have their plans.
// Aggregates have to see the cells in the order of the subquery, from one process:
// no workers. A slice is like the next, so one plan does for all; and it is a scan
// of the key, which the planner would not know, since such a plan is made without
// looking at the bounds.
func (l *cellLine) settleSlices(ctx context.Context) error {
	_, err := l.tx.Exec(ctx, "SELECT pg_catalog.set_config('max_parallel_workers_per_gather', '0', true)"+
		", pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true)"+
		", pg_catalog.set_config('enable_sort', 'off', true)"+
		", pg_catalog.set_config('enable_bitmapscan', 'off', true)"+
		", pg_catalog.set_config('enable_seqscan', 'off', true)")
	return err
}

// close ends the transaction. Whatever it says, there was nothing to commit. A
// connection that was cut off in the middle of a query is closed by now, and
// the pool drops it.
func (l *cellLine) close(ctx context.Context) {
	if l.conn == nil {
		return // closed before
	}
	if l.tx != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		for _, name := range l.statements {
			if l.conn.Conn().PgConn().Deallocate(ctx, name) != nil {
				_ = l.conn.Conn().Close(ctx) // the next set counts its names from 0 again
				break
			}
		}
		_ = l.tx.Rollback(ctx)
		cancel()
	}
	l.conn.Release()
	l.conn = nil
}

// pump reads what the connection was given, a chunk at a time, as long as there
// are chunks to fill.
func (l *cellLine) pump(ctx context.Context) error {
	cursors, err := l.cursors(ctx)
	if err != nil {
		return err
	}
	if l.slices {
		if err := l.settleSlices(ctx); err != nil {
			return faultOf(err)
		}
	}
	for steady := 0; ; {
		progress := false
		for _, c := range cursors {
			did, err := c.advance(ctx)
			if err != nil {
				return err
			}
			progress = progress || did
		}
		cursors = slices.DeleteFunc(cursors, func(c *cellCursor) bool { return c.ended })
		pending := false
		if l.slices {
			if l.set.reader.shares.wanted() && l.mayLeave() {
				return nil
			}
			slice, ok := l.set.slicer.take(l)
			if ok {
				if steady++; steady >= steadySlices {
					steady = 0
					l.set.grow()
				}
				read := slice.read
				if slice.from.placer != nil {
					read = slice.readTiles
				}
				if err := read(ctx, l); err != nil {
					return err
				}
				progress = true
			}
			pending = !l.set.slicer.done()
		}
		if len(cursors) == 0 && !pending {
			return nil
		}
		if !progress {
			steady = 0
			if idle, err := l.wait(ctx); err != nil {
				return err
			} else if idle && l.mayLeave() {
				return nil
			}
		}
	}
}

// wait waits for a chunk. A consumer may be slow for hours, and the database
// ends sessions that are idle in a transaction, since their owner may be lost:
// it is told that this one is not. It is idle when none came for long.
func (l *cellLine) wait(ctx context.Context) (idle bool, err error) {
	sign := time.NewTicker(l.set.reader.sign)
	defer sign.Stop()
	var long <-chan time.Time
	if l.surplus {
		long = time.After(l.set.reader.idle)
	}
	for {
		select {
		case <-l.wake:
			return false, nil
		case <-long:
			return true, nil
		case <-sign.C:
			if _, err := l.tx.Exec(ctx, "SELECT"); err != nil {
				return false, faultOf(err)
			}
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// cursors opens the streams that this connection reads as a whole.
func (l *cellLine) cursors(ctx context.Context) ([]*cellCursor, error) {
	streams := l.turns
	if l.alone != nil {
		streams = []*CellStream{l.alone}
	}
	cursors := make([]*cellCursor, len(streams))
	for i, s := range streams {
		cursors[i] = &cellCursor{
			stream: s, conn: l.conn.Conn().PgConn(), decoder: s.codec.decoder(s.request),
			alone: l.alone != nil, name: fmt.Sprintf("cells_%d", i),
		}
		if err := cursors[i].open(ctx); err != nil {
			return nil, err
		}
	}
	return cursors, nil
}

// cellCursor is the position of a stream in its query. It speaks to pgconn, not
// to pgx: rows are taken as bytes, and statements that name one table once are
// not worth a place in the cache of prepared ones.
type cellCursor struct {
	stream  *CellStream
	conn    *pgconn.PgConn
	decoder cellDecoder
	alone   bool
	name    string
	rows    *pgconn.ResultReader // of the query, or of the FETCH at hand
	taken   int64
	ended   bool
}

var binaryFormat = []int16{pgx.BinaryFormatCode}

func (c *cellCursor) open(ctx context.Context) error {
	q := newCellQuery(c.stream.request, c.stream.table)
	if c.alone {
		c.rows = c.conn.ExecParams(ctx, q.sql, q.args, q.oids, nil, binaryFormat)
		return nil
	}
	_, err := c.conn.ExecParams(ctx, "DECLARE "+c.name+" NO SCROLL CURSOR FOR "+q.sql, q.args, q.oids, nil, nil).Close()
	return faultOf(err)
}

// advance fills a chunk and sends it up, if there is one to fill.
func (c *cellCursor) advance(ctx context.Context) (bool, error) {
	s := c.stream
	select {
	case chunk := <-s.free:
		if err := c.read(ctx, chunk); err != nil {
			return false, err
		}
		if len(chunk.Runs) > 0 {
			s.promise() <- chunk
		} else {
			s.free <- chunk
		}
		if c.ended {
			close(s.ready)
		}
		return true, nil
	default:
		return false, nil
	}
}

// read fills a chunk. It sets ended once the database has said that there are
// no more rows. A chunk can stay empty: cells that are stored without a value
// are not in it.
func (c *cellCursor) read(ctx context.Context, chunk *layer.Chunk) error {
	limit := c.stream.request.ChunkCells
	if !c.alone {
		c.rows = c.conn.ExecParams(ctx, fmt.Sprintf("FETCH FORWARD %d FROM %s", limit, c.name), nil, nil, nil, binaryFormat)
		c.taken = 0
	}
	n, full, err := c.decoder.decode(c.rows, chunk)
	if err != nil {
		// The rest of the rows is not worth reading: the connection goes down
		// with the set.
		return err
	}
	c.taken += n
	if c.alone && full {
		return nil
	}
	if err := closeRows(c.rows, c.stream.request.Layer.Name, c.taken); err != nil {
		return err
	}
	if c.ended = c.alone || n < int64(limit); c.ended {
		c.decoder.finish(chunk)
	}
	return nil
}

// closeRows ends a result, of which so many rows were taken. Errors: Corrupt if
// there were more, or less, and as any query.
func closeRows(rows *pgconn.ResultReader, name string, taken int64) error {
	tag, err := rows.Close()
	if err != nil {
		return faultOf(err)
	}
	if told := tag.RowsAffected(); told != taken {
		return fault.New(fault.Corrupt, fault.DataCorrupt, "layer %q: %d rows came of the %d that the database told of", name, taken, told).
			With("layer", name)
	}
	return nil
}
