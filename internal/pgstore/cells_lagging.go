package pgstore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/tile"
)

// While a migration to tiles can still be undone, the table that they were made of
// is written as before, and tiles lag behind: which, is noted in the writer's own
// transaction. Whoever reads tiles reads the cells of such ones from the table, at
// the same snapshot, and so sees what the table holds. That there is such a table
// is told by the comment of the tiles' column data (docs/tiles.md).

// pixelSourceVersion is of what the comment says.
const pixelSourceVersion = 1

// pixelSource is what the comment says.
type pixelSource struct {
	Version      int       `json:"rasterloom_pixels"`
	Migration    string    `json:"migration"`
	Notes        tableName `json:"notes"`
	Table        tableName `json:"table"`
	OID          uint32    `json:"oid"`
	File         uint32    `json:"file"` // 0: not known
	Triggers     []string  `json:"triggers"`
	StoredType   string    `json:"stored_type"`
	Registration string    `json:"registration"`
	HasIndices   bool      `json:"has_indices"`
	SouthUp      bool      `json:"south_up"`
}

// tableName is a schema and a name.
type tableName [2]string

func (n tableName) table() layer.Table { return layer.Table{Schema: n[0], Name: n[1]} }

// laggingTiles are the tiles of a layer in a window that are to be read from the
// pixel table.
type laggingTiles struct {
	pixels layer.Layer
	table  cellTable
	noted  map[[2]int32]bool
}

// laggingIn looks which tiles of a request lag behind; nil for a layer whose tiles
// are all there is. Errors: Conflict LAYER_CHANGED when the table is not the one
// that the tiles were made of, or no longer notes what is written to it; errOvertaken.
func laggingIn(ctx context.Context, tx pgx.Tx, request layer.CellRequest) (*laggingTiles, error) {
	l := request.Layer
	var comment *string
	err := tx.QueryRow(ctx, `SELECT col_description(a.attrelid, a.attnum) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
		JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 AND a.attname = 'data'`, l.Table.Schema, l.Table.Name).Scan(&comment)
	if err != nil || comment == nil {
		return nil, faultOf(err)
	}
	var from pixelSource
	if json.Unmarshal([]byte(*comment), &from) != nil {
		from.Version = 0
	}
	if from.Version == 0 {
		return nil, nil // somebody's words
	}
	if from.Version != pixelSourceVersion {
		return nil, fault.New(fault.Unsupported, fault.NotSupported, "layer %q: its tiles follow a table in way %d, and only %d is known here", l.Name, from.Version, pixelSourceVersion).
			With("layer", l.Name)
	}
	var same, followed bool
	var file uint32
	err = tx.QueryRow(ctx, `SELECT coalesce(bool_and(c.oid = $3), false), count(t.tgname) = cardinality($4::text[]), coalesce(max(c.relfilenode::bigint), 0) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = ANY ($4) AND t.tgenabled = 'A'
		WHERE n.nspname = $1 AND c.relname = $2`, from.Table[0], from.Table[1], from.OID, from.Triggers).Scan(&same, &followed, &file)
	if err != nil {
		return nil, faultOf(err)
	}
	if followed && !same { // nobody else makes such a table
		return nil, fault.New(fault.Conflict, fault.LayerChanged,
			"layer %q: the database was restored from a dump since its tiles were made of table %s, and they were not compared with it again; resume migration %s",
			l.Name, from.Table.table(), from.Migration).With("layer", l.Name).With("table", from.Table.table()).With("migration", from.Migration)
	}
	if !followed || !same {
		return nil, fault.New(fault.Conflict, fault.LayerChanged,
			"layer %q: the table %s that its tiles are made of was dropped, made again, or had its triggers taken off, so its tiles may lag behind; finalize migration %s if the table is gone, and roll it back if it is there",
			l.Name, from.Table.table(), from.Migration).With("layer", l.Name).With("table", from.Table.table()).With("migration", from.Migration)
	}
	lag := &laggingTiles{pixels: l}
	lag.pixels.Format, lag.pixels.Table, lag.pixels.Tiling = layer.FormatLegacy, from.Table.table(), ""
	lag.pixels.StoredType, _ = layer.ParseDataType(from.StoredType)
	lag.pixels.Registration, _ = parseRegistration(from.Registration)
	lag.pixels.HasIndices, lag.pixels.HasCoordinates, lag.pixels.SouthUp = from.HasIndices, !from.HasIndices, from.SouthUp
	if from.File != 0 && file != from.File {
		// Written anew, which no trigger noted; that is seen in the same snapshot.
		lag.noted = allTiles(request.Window)
	} else if lag.noted, err = notedTiles(ctx, tx, quote(from.Notes.table()), request.Window); err != nil {
		return nil, faultOf(err)
	}
	if len(lag.noted) == 0 {
		return nil, nil
	}
	tables, err := describe(ctx, tx, []layer.CellRequest{{Layer: lag.pixels}})
	if err != nil {
		return nil, err
	}
	if err := hold(ctx, tx, []layer.Table{lag.pixels.Table}); err != nil {
		return nil, err
	}
	lag.table = tables[0]
	return lag, lag.table.check(layer.CellRequest{Layer: lag.pixels})
}

// allTiles are the tiles of a window.
func allTiles(w grid.Window) map[[2]int32]bool {
	all := map[[2]int32]bool{}
	for row := w.RowStart / tile.Side; row*tile.Side < w.RowStop; row++ {
		for col := w.ColStart / tile.Side; col*tile.Side < w.ColStop; col++ {
			all[[2]int32{int32(row), int32(col)}] = true
		}
	}
	return all
}

// has reports whether a tile is to be read from the table.
func (l *laggingTiles) has(row, col int32) bool { return l != nil && l.noted[[2]int32{row, col}] }

// join adds the tiles that lag to those that there are.
func (l *laggingTiles) join(rows []tileRow) []tileRow {
	if l == nil {
		return rows
	}
	for at := range l.noted {
		i, found := slices.BinarySearchFunc(rows, at[0], func(r tileRow, row int32) int { return int(r.row) - int(row) })
		if !found {
			rows = slices.Insert(rows, i, tileRow{row: at[0], first: at[1], last: at[1]})
		}
		rows[i].first, rows[i].last = min(rows[i].first, at[1]), max(rows[i].last, at[1])
	}
	return rows
}

// read puts the cells of the tiles that lag, as far as they are in a window, into
// the dense copy of the window. It gives the number of cells.
func (l *laggingTiles) read(ctx context.Context, line *cellLine, place func(*layer.Chunk) error, w grid.Window) (cells int64, err error) {
	if l == nil {
		return 0, nil
	}
	codec := cellCodecs[l.pixels.StoredType]
	for row := w.RowStart / tile.Side; row <= (w.RowStop-1)/tile.Side; row++ {
		for col := w.ColStart / tile.Side; col <= (w.ColStop-1)/tile.Side; col++ {
			if !l.has(int32(row), int32(col)) {
				continue
			}
			request := layer.CellRequest{Layer: l.pixels, Window: tile.Window(l.pixels.Grid, int32(row), int32(col)).Intersect(w), ChunkCells: tile.Cells}
			q := newCellQuery(request, l.table)
			rows := line.conn.Conn().PgConn().ExecParams(ctx, q.sql, q.args, q.oids, nil, binaryFormat)
			chunk := codec.chunk(tile.Cells + 1) // never full
			taken, full, err := codec.decoder(request).decode(rows, chunk)
			if err != nil {
				return cells, err
			}
			if full {
				return cells, fmt.Errorf("a tile has more than %d cells", tile.Cells)
			}
			if err := closeRows(rows, l.pixels.Name, taken); err != nil {
				return cells, err
			}
			if err := place(chunk); err != nil {
				return cells, err
			}
			for _, run := range chunk.Runs {
				cells += int64(run.Cells)
			}
		}
	}
	return cells, nil
}
