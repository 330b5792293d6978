package pgstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"math"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/tile"
)

// CreateTileTable makes an empty table for the tiles of a layer, by its name and
// its Tiling, which becomes the table's comment: a table says itself how it is
// read. The table has a name of its own, beside that of an earlier one of the
// layer; it is the layer's once the layer is saved with it. Errors: as any query.
func (t *Tx) CreateTileTable(ctx context.Context, l layer.Layer) (layer.Table, error) {
	table := layer.Table{Schema: layer.TileSchema, Name: tileTableName(l.Name)}
	return table, createTileTable(ctx, t.tx, table, l.Tiling)
}

// DropTileTable drops a table that CreateTileTable made. Errors: Denied for
// one in another schema, Precondition DEPENDENT when views or others hang on it,
// which leaves the transaction as it was, and as any query.
func (t *Tx) DropTileTable(ctx context.Context, table layer.Table) error {
	if table.Schema != layer.TileSchema {
		return fault.New(fault.Denied, fault.DatabasePermission, "the table %s is not one of ours: it is not dropped", table).With("table", table)
	}
	err := pgx.BeginFunc(ctx, t.tx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "DROP TABLE "+quote(table))
		return err
	})
	if isCode(err, "2BP01") { // dependent_objects_still_exist
		return t.errDependent(ctx, table, err)
	}
	return faultOf(err)
}

// errDependent names what hangs on a table that could not be dropped.
func (t *Tx) errDependent(ctx context.Context, table layer.Table, cause error) error {
	rows, err := t.tx.Query(ctx, `SELECT DISTINCT CASE WHEN r.oid IS NULL THEN pg_describe_object(d.classid, d.objid, d.objsubid)
			ELSE pg_describe_object('pg_class'::regclass, r.ev_class, 0) END
		FROM pg_depend d LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
		WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1::text::regclass AND d.deptype = 'n'
			AND NOT EXISTS (SELECT FROM pg_constraint c WHERE d.classid = 'pg_constraint'::regclass AND c.oid = d.objid AND c.conrelid = d.refobjid)
		ORDER BY 1 LIMIT 20`, quote(table))
	if err != nil {
		return faultOf(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return faultOf(err)
	}
	names := strings.Join(list, ", ")
	return fault.New(fault.Precondition, fault.Dependent,
		"the table of tiles %s cannot be dropped while this hangs on it: %s; drop that first, or keep the tiles", table, names).
		With("table", table).With("dependents", names).Because(cause)
}

func createTileTable(ctx context.Context, tx pgx.Tx, table layer.Table, tiling string) error {
	// Values are not compressed by the server: they are as small as they get, and
	// a reader should not wait for it. Bitmaps, with their long runs, are.
	_, err := tx.Exec(ctx, "CREATE TABLE "+quote(table)+` (
		tile_row integer NOT NULL CHECK (tile_row >= 0),
		tile_col integer NOT NULL CHECK (tile_col >= 0),
		cells integer NOT NULL CHECK (cells >= 0),
		min double precision,
		max double precision,
		valid bytea,
		data bytea,
		PRIMARY KEY (tile_row, tile_col),
		CHECK (cells = 0 OR num_nulls(min, max, data) = 0))`)
	if err != nil {
		return faultOf(err)
	}
	if _, err = tx.Exec(ctx, "ALTER TABLE "+quote(table)+" ALTER COLUMN data SET STORAGE EXTERNAL"); err != nil {
		return faultOf(err)
	}
	// A comment takes no parameter, so the server writes the statement itself.
	var comment string
	err = tx.QueryRow(ctx, "SELECT pg_catalog.format('COMMENT ON TABLE %I.%I IS %L', $1::text, $2::text, $3::text)",
		table.Schema, table.Name, tiling).Scan(&comment)
	if err == nil {
		_, err = tx.Exec(ctx, comment)
	}
	return faultOf(err)
}

// tileTableName makes a name from a layer's: what of it people can read, and
// something to tell it from the others. It has at most 63 bytes, all ASCII.
func tileTableName(name string) string {
	const readable = 40
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		if b.Len() == readable {
			break
		}
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else {
			b.WriteByte('_')
		}
	}
	return b.String() + "_" + strings.ToLower(rand.Text()[:10])
}

// TileWriter writes encoded tiles into a table, in the transaction that it was
// made in, by COPY. It is for one goroutine.
type TileWriter struct {
	tx      pgx.Tx
	table   layer.Table
	replace bool
	rows    bytes.Buffer      // of a COPY in binary format
	places  map[[2]int32]bool // to vacate: tile_row, tile_col
	totals  TileTotals
}

// TileTotals is what a TileWriter wrote.
type TileTotals struct {
	Tiles int64 // rows written
	Cells int64 // cells with a value in them
	Bytes int64 // of data and bitmaps
}

// flushBytes is how much is sent in one COPY: a few tiles of raw float64 at once.
const flushBytes = 4 << 20

// TileWriter makes a writer into a table of tiles. With replace, a tile takes the
// place of the one that the table has there, and a tile without cells removes it;
// without, writing a tile twice is an error, and one without cells is nothing.
func (t *Tx) TileWriter(table layer.Table, replace bool) *TileWriter {
	return newTileWriter(t.tx, table, replace)
}

func newTileWriter(tx pgx.Tx, table layer.Table, replace bool) *TileWriter {
	return &TileWriter{tx: tx, table: table, replace: replace, places: make(map[[2]int32]bool)}
}

// Write takes a tile, and is done with its bytes when it returns. It is in the
// table after Flush, or before. Errors: as Flush.
func (w *TileWriter) Write(ctx context.Context, e tile.Encoded) error {
	if place := [2]int32{e.Row, e.Col}; w.replace {
		if w.places[place] { // the one before has to be there to be replaced
			if _, err := w.Flush(ctx); err != nil {
				return err
			}
		}
		w.places[place] = true
	}
	if e.Cells > 0 {
		w.append(e)
		w.totals.Tiles++
		w.totals.Cells += int64(e.Cells)
		w.totals.Bytes += int64(len(e.Data) + len(e.Valid))
	}
	if w.rows.Len() < flushBytes && len(w.places) < 1<<10 {
		return nil
	}
	_, err := w.Flush(ctx)
	return err
}

// append writes a row as COPY takes it:
// https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".
func (w *TileWriter) append(e tile.Encoded) {
	if w.rows.Len() == 0 {
		w.rows.WriteString("PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00")
	}
	b := w.rows.AvailableBuffer()
	b = binary.BigEndian.AppendUint16(b, 7)
	for _, v := range []int32{e.Row, e.Col, e.Cells} {
		b = binary.BigEndian.AppendUint32(b, 4)
		b = binary.BigEndian.AppendUint32(b, uint32(v))
	}
	for _, v := range []float64{e.Min, e.Max} {
		b = binary.BigEndian.AppendUint32(b, 8)
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(v))
	}
	if e.Valid == nil {
		b = binary.BigEndian.AppendUint32(b, ^uint32(0)) // NULL
	} else {
		b = binary.BigEndian.AppendUint32(b, uint32(len(e.Valid)))
		b = append(b, e.Valid...)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Data)))
	w.rows.Write(b)
	w.rows.Write(e.Data)
}

// Flush writes what was taken, and tells what was written since the writer was
// made. Errors: Precondition DUPLICATE_CELL for a tile that is there already,
// Conflict LAYER_CHANGED when the table is gone, and as any query.
func (w *TileWriter) Flush(ctx context.Context) (TileTotals, error) {
	if len(w.places) > 0 {
		if err := w.vacate(ctx); err != nil {
			return w.totals, err
		}
	}
	if w.rows.Len() > 0 {
		w.rows.Write([]byte{0xff, 0xff})
		copyRows := "COPY " + quote(w.table) + " (tile_row, tile_col, cells, min, max, valid, data) FROM STDIN (FORMAT binary)"
		_, err := w.tx.Conn().PgConn().CopyFrom(ctx, &w.rows, copyRows)
		w.rows.Reset()
		if err != nil {
			return w.totals, tileFault(err, w.table)
		}
	}
	return w.totals, nil
}

// vacate removes the tiles whose place is taken.
func (w *TileWriter) vacate(ctx context.Context) error {
	rows, cols := make([]int32, 0, len(w.places)), make([]int32, 0, len(w.places))
	for place := range w.places {
		rows, cols = append(rows, place[0]), append(cols, place[1])
	}
	clear(w.places)
	_, err := w.tx.Exec(ctx, "DELETE FROM "+quote(w.table)+` AS t USING unnest($1::int4[], $2::int4[]) AS p (r, c)
		WHERE t.tile_row = p.r AND t.tile_col = p.c`, pgx.QueryExecModeDescribeExec, rows, cols)
	return faultOf(err)
}

// tileFault is faultOf, where a key that is there already is a tile written twice.
func tileFault(err error, table layer.Table) error {
	const uniqueViolation = "23505"
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == uniqueViolation {
		return fault.New(fault.Precondition, fault.DuplicateCell, "a tile was written twice into %s", table).With("table", table).Because(err)
	}
	return faultOf(err)
}
