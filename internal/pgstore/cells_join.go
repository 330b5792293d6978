package pgstore

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/pixelsql"
)

// JoinedCells is the answer to a join, a row at a time. Close it on every path.
type JoinedCells struct {
	reader   *CellReader
	ctx      context.Context //nolint:containedctx // it ends the reading in the background, with Close
	cancel   context.CancelFunc
	conn     *pgxpool.Conn
	tx       pgx.Tx
	snapshot string
	request  layer.JoinRequest
	query    pixelsql.Query
	rows     pgx.Rows // nil until the first is asked for
	row      layer.JoinedRow
}

// OpenJoined prepares a join on a connection of its own. The database begins
// with the first call of Next, and sorts the answer before it gives a row.
// Errors: as Open, and those of pixelsql.JoinedCells.
func (r *CellReader) OpenJoined(ctx context.Context, request layer.JoinRequest) (*JoinedCells, error) {
	query, err := pixelsql.JoinedCells(request)
	if err != nil {
		return nil, err
	}
	return atNewSnapshots(func() (*JoinedCells, error) { return r.openJoined(ctx, request, query) })
}

func (r *CellReader) openJoined(ctx context.Context, request layer.JoinRequest, query pixelsql.Query) (*JoinedCells, error) {
	if err := r.shares.first(ctx); err != nil {
		return nil, err
	}
	j := &JoinedCells{
		reader: r, request: request, query: query,
		row: layer.JoinedRow{Values: make([]layer.JoinedValue, len(request.Layers))},
	}
	j.ctx, j.cancel = context.WithCancel(ctx)
	if err := j.begin(); err != nil {
		j.Close()
		if errors.Is(err, errOvertaken) {
			return nil, err
		}
		return nil, faultOf(err)
	}
	return j, nil
}

func (j *JoinedCells) begin() (err error) {
	if j.conn, err = j.reader.store.pool.Acquire(j.ctx); err != nil {
		return err
	}
	if j.tx, err = j.conn.BeginTx(j.ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}); err != nil {
		return err
	}
	if err = j.tx.QueryRow(j.ctx, "SELECT pg_catalog.pg_export_snapshot()").Scan(&j.snapshot); err != nil {
		return err
	}
	tables := make([]layer.Table, len(j.request.Layers))
	for i, l := range j.request.Layers {
		tables[i] = l.Layer.Table
	}
	return hold(j.ctx, j.tx, tables)
}

func (j *JoinedCells) run() (err error) {
	// A statement that names its tables once is not worth a place in the cache
	// of prepared ones.
	args := make([]any, 0, 1+len(j.query.Parameters))
	args = append(args, pgx.QueryExecModeDescribeExec)
	for _, p := range j.query.Parameters {
		args = append(args, p.Value)
	}
	j.rows, err = j.tx.Query(j.ctx, j.query.SQL, args...)
	return err
}

// Beside gives a reader whose sets see the same state of the database as the
// join. Open them before the join's first row is asked for: a state lasts only
// as long as nothing has failed in it.
func (j *JoinedCells) Beside() *CellReader {
	beside := *j.reader
	beside.snapshot = j.snapshot
	return &beside
}

// Next gives the next row, which is good until the call after it, and io.EOF
// once the database has said that there are no more. Errors: Precondition
// CELL_OFF_GRID, Conflict LAYER_CHANGED (values of another type than
// catalogued), and as any query.
func (j *JoinedCells) Next(ctx context.Context) (*layer.JoinedRow, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if j.rows == nil {
		if err := j.run(); err != nil {
			return nil, joinFault(err)
		}
	}
	if !j.rows.Next() {
		if err := j.rows.Err(); err != nil {
			return nil, joinFault(err)
		}
		return nil, io.EOF
	}
	raw := j.rows.RawValues()
	j.row.X, j.row.Y = float8(raw[0]), float8(raw[1])
	for i, field := range j.rows.FieldDescriptions()[2:] {
		v, ok := joinedValue(raw[i+2], field.DataTypeOID, j.request.Layers[i].Layer.StoredType)
		if !ok {
			name, typ := j.request.Layers[i].Layer.Name, j.request.Layers[i].Layer.StoredType
			return nil, fault.New(fault.Conflict, fault.LayerChanged,
				"layer %q: the values of its table are no longer of type %s; adopt its catalog again", name, typ).
				With("layer", name).With("type", typ)
		}
		j.row.Values[i] = v
	}
	return &j.row, nil
}

// Close stops the join, also in the database, and gives the connection back.
// It may be called more than once.
func (j *JoinedCells) Close() {
	if j.cancel == nil {
		return
	}
	j.cancel()
	j.cancel = nil
	if j.rows != nil {
		j.rows.Close()
	}
	if j.conn != nil {
		if j.tx != nil {
			// There was nothing to commit; a connection that was cut off in the
			// middle of the query is closed by now, and the pool drops it.
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_ = j.tx.Rollback(ctx)
			cancel()
		}
		j.conn.Release()
	}
	j.reader.shares.releaseFirst()
}

// joinedValue reads a value in PostgreSQL's binary format; false where its type
// is not the stored one.
func joinedValue(raw []byte, oid uint32, stored layer.DataType) (layer.JoinedValue, bool) {
	v := layer.JoinedValue{Valid: raw != nil}
	if !v.Valid {
		raw = make([]byte, 8) // read for the type's sake, and not used
	}
	switch {
	case oid == pgtype.Float8OID && stored == layer.Float64:
		v.Float = float8(raw)
	case oid == pgtype.Float4OID && stored == layer.Float32:
		v.Float = float64(math.Float32frombits(binary.BigEndian.Uint32(raw)))
	case oid == pgtype.Int2OID && stored == layer.Int16:
		v.Int = int64(int16(binary.BigEndian.Uint16(raw)))
	case oid == pgtype.Int4OID && stored == layer.Int32:
		v.Int = int64(int32(binary.BigEndian.Uint32(raw)))
	case oid == pgtype.Int8OID && stored == layer.Int64:
		v.Int = int64(binary.BigEndian.Uint64(raw))
	default:
		return v, false
	}
	return v, true
}

func float8(raw []byte) float64 { return math.Float64frombits(binary.BigEndian.Uint64(raw)) }

// joinFault is faultOf for a join. Two things in it can fail for what is stored: the
// cast by which pixelsql stops at a point that is off its layer's lattice, and the
// place of one so far off that no index holds it.
func joinFault(err error) error {
	if isCode(err, "22P02") || isCode(err, "22003") { // invalid_text_representation, numeric_value_out_of_range
		return fault.New(fault.Precondition, fault.CellOffGrid,
			"a stored point lies off the lattice of its layer; the merge without use_legacy_merge names it").Because(err)
	}
	return faultOf(err)
}
