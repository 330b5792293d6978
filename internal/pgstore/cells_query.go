package pgstore

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// cellQuery is a statement with its parameters.
type cellQuery struct {
	sql string
	// args are the bound parameters in text form, and oids their types.
	args [][]byte
	oids []uint32
}

// bind adds a parameter and gives its place in the text.
func (q *cellQuery) bind(oid uint32, text string) string {
	q.args, q.oids = append(q.args, []byte(text)), append(q.oids, oid)
	return "$" + strconv.Itoa(len(q.args))
}

// valueOIDs are the types of value columns that can be read.
var valueOIDs = map[uint32]layer.DataType{
	pgtype.Float8OID: layer.Float64, pgtype.Float4OID: layer.Float32,
	pgtype.Int2OID: layer.Int16, pgtype.Int4OID: layer.Int32, pgtype.Int8OID: layer.Int64,
}

// indexOIDs and pointOIDs are the types that indices and coordinates can have.
var (
	indexOIDs = []uint32{pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID}
	pointOIDs = []uint32{pgtype.Float4OID, pgtype.Float8OID}
)

// placeColumns are the columns that say where a cell of the layer is, of one of
// these types.
func placeColumns(l layer.Layer) (row, col string, types []uint32) {
	if l.HasIndices {
		return "row_idx", "col_idx", indexOIDs
	}
	return "y_coord", "x_coord", pointOIDs
}

// check says whether a request can be read from the table as it is now. Errors:
// Conflict LAYER_CHANGED, Precondition LAYER_UNREADABLE, Invalid
// INVALID_ARGUMENT for a mean of integers.
func (t cellTable) check(request layer.CellRequest) error {
	l := request.Layer
	if t.kind == "" {
		return fault.New(fault.Conflict, fault.LayerChanged, "layer %q: its table is gone", l.Name).With("layer", l.Name)
	}
	if l.Format == layer.FormatTiled {
		return t.checkTiles(l)
	}
	if t.kind != "r" && t.kind != "p" && t.kind != "m" {
		return changed(l, "its cells are no longer in a table")
	}
	if valueOIDs[t.types["value"]] != l.StoredType || l.StoredType == layer.TypeUnknown {
		return changed(l, "its values are no longer stored as %s", l.StoredType)
	}
	row, col, types := placeColumns(l)
	for _, c := range []string{row, col} {
		if !slices.Contains(types, t.types[c]) {
			return changed(l, "its column %s is gone or of another type", c)
		}
	}
	if !l.HasIndices && l.Registration == grid.RegistrationUnknown {
		return fault.New(fault.Precondition, fault.LayerUnreadable,
			"layer %q stores coordinates and no indices, and nothing says whether they name centres or corners of cells", l.Name).
			With("layer", l.Name)
	}
	return request.Duplicates.Check(l)
}

// newCellQuery reads the stored cells of a request as a whole, a row for each.
//
// Cells come in the order of a row-major scan from the north-west. Where the
// table has a key on the indices (or coordinates), the planner may read in the
// key's order; where it has none, it sorts once.
func newCellQuery(request layer.CellRequest, table cellTable) cellQuery {
	l := request.Layer
	row, col, _ := placeColumns(l)
	q := cellQuery{}
	q.sql = "SELECT " + row + ", " + col + ", value FROM " + quoted(l.Table.Schema, l.Table.Name) + q.where(request, table)
	rowOrder, colOrder := row, col
	if !l.HasIndices || l.SouthUp {
		rowOrder += " DESC" // y falls as rows grow
	}
	if request.Duplicates != layer.DuplicatesError && !l.HasIndices {
		// All rows of a cell next to each other, though their coordinates differ.
		g := l.Grid
		nearest := func(column string, origin, step float64) string {
			corner := 0.
			if l.Registration == grid.RegistrationCenter {
				corner = 0.5
			}
			return "round((" + column + "::float8 - " + q.bind(pgtype.Float8OID, float(origin)) + ") / " +
				q.bind(pgtype.Float8OID, float(step)) + " - " + q.bind(pgtype.Float8OID, float(corner)) + ")"
		}
		rowOrder, colOrder = nearest(row, g.OriginY, -g.StepY), nearest(col, g.OriginX, g.StepX)
	}
	q.sql += " ORDER BY " + rowOrder + ", " + colOrder
	if request.Duplicates != layer.DuplicatesError {
		// As they are stored; a table of parts, part by part.
		q.sql += ", tableoid, ctid"
	}
	return q
}

// where is the condition for the stored rows of a request, empty for all.
func (q *cellQuery) where(request layer.CellRequest, table cellTable) string {
	row, col, _ := placeColumns(request.Layer)
	var conditions []string
	side := func(column string, b bound) {
		condition := q.within(column, b)
		if condition != "" && !table.notNull[column] {
			// A row without an index is in no range, and has to be refused
			// whichever range is asked for.
			condition = "(" + condition + " OR " + column + " IS NULL)"
		}
		if condition != "" {
			conditions = append(conditions, condition)
		}
	}
	side(row, rowBound(request))
	side(col, colBound(request))
	if len(conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(conditions, " AND ")
}

// within is the condition that a column lies in a range, empty for all of it.
func (q *cellQuery) within(column string, b bound) string {
	var parts []string
	if b.low != "" {
		parts = append(parts, column+" "+b.lowOp+" "+q.bind(b.oid, b.low))
	}
	if b.high != "" {
		parts = append(parts, column+" "+b.highOp+" "+q.bind(b.oid, b.high))
	}
	return strings.Join(parts, " AND ")
}

func float(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func changed(l layer.Layer, format string, args ...any) error {
	return fault.New(fault.Conflict, fault.LayerChanged, "layer %q: %s: adopt its catalog again", l.Name, fmt.Sprintf(format, args...)).
		With("layer", l.Name)
}

// bound is a range of an indexed column, in text; an empty end is open.
type bound struct {
	oid           uint32
	low, high     string
	lowOp, highOp string
}

// rowBound is the range of the stored rows of a request. An end at a side of
// the grid is open.
func rowBound(request layer.CellRequest) bound {
	l, w := request.Layer, request.Window
	rows := int64(l.Grid.Rows)
	if !l.HasIndices {
		// y falls as rows grow: north is the high end.
		b := bound{oid: pgtype.Float8OID, lowOp: ">", highOp: "<="}
		if w.RowStart > 0 {
			b.high = edge(l.Grid.OriginY, -l.Grid.StepY, w.RowStart, l.Registration)
		}
		if w.RowStop < rows {
			b.low = edge(l.Grid.OriginY, -l.Grid.StepY, w.RowStop, l.Registration)
		}
		return b
	}
	start, stop := storedRows(request)
	return indexBound(start, stop, rows)
}

// storedRows is the range of row_idx of a request, which has indices.
func storedRows(request layer.CellRequest) (start, stop int64) {
	w, rows := request.Window, int64(request.Layer.Grid.Rows)
	if request.Layer.SouthUp {
		return rows - w.RowStop, rows - w.RowStart
	}
	return w.RowStart, w.RowStop
}

// colBound is the range of the stored columns of a request.
func colBound(request layer.CellRequest) bound {
	l, w := request.Layer, request.Window
	if l.HasIndices {
		return indexBound(w.ColStart, w.ColStop, int64(l.Grid.Cols))
	}
	b := bound{oid: pgtype.Float8OID, lowOp: ">=", highOp: "<"}
	if w.ColStart > 0 {
		b.low = edge(l.Grid.OriginX, l.Grid.StepX, w.ColStart, l.Registration)
	}
	if w.ColStop < int64(l.Grid.Cols) {
		b.high = edge(l.Grid.OriginX, l.Grid.StepX, w.ColStop, l.Registration)
	}
	return b
}

func indexBound(start, stop, size int64) bound {
	b := bound{oid: pgtype.Int8OID, lowOp: ">=", highOp: "<"}
	if start > 0 {
		b.low = strconv.FormatInt(start, 10)
	}
	if stop < size {
		b.high = strconv.FormatInt(stop, 10)
	}
	return b
}

// edge is the coordinate half-way between the stored points of cells i-1 and i:
// far from both, so that the rounding of stored coordinates decides nothing.
func edge(origin, step float64, i int64, r grid.Registration) string {
	at := float64(i)
	if r == grid.RegistrationUpperLeft {
		at -= 0.5
	}
	return float(origin + float64(at*step))
}
