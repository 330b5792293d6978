package pgstore

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/tile"
)

// ingestLock is the namespace of the advisory locks by which the ingests of one
// layer exclude each other: "ingest" as a big-endian number.
const ingestLock int64 = 0x696e_67657374

// IngestDone gives the ingest that was stored under a key; nil when there is none.
// Errors: as any query.
func (s *Store) IngestDone(ctx context.Context, key string) (*layer.Ingest, error) {
	d := layer.Ingest{Key: key}
	err := s.pool.QueryRow(ctx, "SELECT spec, layer, generation, cells, tiles, bytes FROM rasterloom.ingest WHERE idempotency_key = $1", key).
		Scan(&d.Spec, &d.Layer, &d.Generation, &d.Cells, &d.Tiles, &d.Bytes)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, faultOf(err)
	}
	return &d, nil
}

// IngestTx is the transaction of one ingest: a table of tiles is made and filled,
// and a layer entered, which all become visible at once. It is for one goroutine
// at a time.
type IngestTx struct {
	*Tx
	writer *TileWriter
}

// Ingest begins the ingest of a layer. It holds up nobody but another ingest of
// the same layer. Errors: Conflict LAYER_CHANGED while there is one, and as any
// query.
func (s *Store) Ingest(ctx context.Context, name string) (*IngestTx, error) {
	t, err := s.begin(ctx, pgx.TxOptions{})
	if err != nil {
		return nil, err
	}
	if err := t.beginIngest(ctx, name); err != nil {
		t.Rollback(ctx)
		return nil, faultOf(err)
	}
	return &IngestTx{Tx: t}, nil
}

func (t *Tx) beginIngest(ctx context.Context, name string) error {
	// A client that sends slowly leaves the transaction idle for long; one that
	// sends nothing is dropped by whoever reads from it.
	//
	// Whoever was refused tries again, and the database may not have noticed yet that
	// the stream before was broken off.
	_, err := t.tx.Exec(ctx, "SELECT set_config('idle_in_transaction_session_timeout', '3600000', true), set_config('lock_timeout', '1000', true)")
	if err != nil {
		return err
	}
	_, err = t.tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, $2))", name, ingestLock)
	if isCode(err, "55P03") { // lock_not_available
		return fault.New(fault.Conflict, fault.LayerChanged, "another stream is being ingested into layer %q; try again when it has ended", name).With("layer", name)
	}
	if err != nil {
		return err
	}
	_, err = t.tx.Exec(ctx, "SET LOCAL lock_timeout TO DEFAULT")
	return err
}

// Create makes the table of the layer's tiles. Errors: as any query.
func (t *IngestTx) Create(ctx context.Context, l layer.Layer) (layer.Table, error) {
	table, err := t.CreateTileTable(ctx, l)
	if err == nil {
		t.writer = t.TileWriter(table, false)
	}
	return table, err
}

// Write writes a tile into the table that was made. Errors: as TileWriter.Write.
func (t *IngestTx) Write(ctx context.Context, e tile.Encoded) error { return t.writer.Write(ctx, e) }

// Flush ends the writing, and says how much it was. Errors: as TileWriter.Flush.
func (t *IngestTx) Flush(ctx context.Context) (layer.Ingest, error) {
	totals, err := t.writer.Flush(ctx)
	return layer.Ingest{Cells: totals.Cells, Tiles: totals.Tiles, Bytes: totals.Bytes}, err
}

// TakeTurn waits for the right to change the catalog, as Store.Change does.
func (t *IngestTx) TakeTurn(ctx context.Context) error {
	_, err := t.tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", adoptionLock)
	return faultOf(err)
}

// Remember keeps an ingest under its key. Errors: as any query.
func (t *IngestTx) Remember(ctx context.Context, d layer.Ingest) error {
	_, err := t.tx.Exec(ctx, "INSERT INTO rasterloom.ingest (idempotency_key, spec, layer, generation, cells, tiles, bytes) VALUES ($1, $2, $3, $4, $5, $6, $7)",
		d.Key, d.Spec, d.Layer, d.Generation, d.Cells, d.Tiles, d.Bytes)
	return faultOf(err)
}

// Discard notes that a table of tiles is no layer's any more: SweepTiles drops it.
// Errors: as any query.
func (t *IngestTx) Discard(ctx context.Context, table layer.Table) error {
	_, err := t.tx.Exec(ctx, `INSERT INTO rasterloom.replaced_table (table_oid, table_schema, table_name)
		SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2 AND n.nspname = $3 ON CONFLICT DO NOTHING`, table.Schema, table.Name, layer.TileSchema)
	return faultOf(err)
}

// SweepTiles drops the tables that were discarded. One that is read just now, or
// that a view depends on, stays for the next time; a reader is not made to wait.
// Errors: as any query.
func (s *Store) SweepTiles(ctx context.Context) error {
	for {
		table, err := s.sweepOne(ctx)
		if err != nil || table == nil {
			return err
		}
	}
}

// sweepOne drops one table; nil when there is none that can be dropped.
func (s *Store) sweepOne(ctx context.Context) (*layer.Table, error) {
	t, err := s.begin(ctx, pgx.TxOptions{})
	if err != nil {
		return nil, err
	}
	defer t.Rollback(ctx)
	if _, err := t.tx.Exec(ctx, "SELECT set_config('lock_timeout', '100ms', true)"); err != nil {
		return nil, faultOf(err)
	}
	rows, err := t.tx.Query(ctx, `SELECT r.table_oid, r.table_schema, r.table_name, c.oid IS NOT NULL
		FROM rasterloom.replaced_table r
		LEFT JOIN (pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace)
			ON n.nspname = r.table_schema AND c.relname = r.table_name -- no other table gets such a name, and a restore gives other oids
		ORDER BY r.replace_time FOR UPDATE OF r SKIP LOCKED`)
	if err != nil {
		return nil, faultOf(err)
	}
	type discarded struct {
		OID   uint32
		Table layer.Table
		There bool
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d discarded, err error) {
		err = row.Scan(&d.OID, &d.Table.Schema, &d.Table.Name, &d.There)
		return d, err
	})
	if err != nil {
		return nil, faultOf(err)
	}
	for _, d := range list {
		if d.There {
			attempt, err := t.tx.Begin(ctx) // a savepoint
			if err != nil {
				return nil, faultOf(err)
			}
			if err := (&Tx{tx: attempt}).DropTileTable(ctx, d.Table); err != nil {
				if err := attempt.Rollback(ctx); err != nil {
					return nil, faultOf(err)
				}
				continue
			}
			if err := attempt.Commit(ctx); err != nil {
				return nil, faultOf(err)
			}
		}
		if _, err := t.tx.Exec(ctx, "DELETE FROM rasterloom.replaced_table WHERE table_oid = $1", d.OID); err != nil {
			return nil, faultOf(err)
		}
		return &d.Table, t.Commit(ctx)
	}
	return nil, nil
}
