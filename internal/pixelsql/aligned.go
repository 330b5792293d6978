// Package pixelsql writes SQL over pixel tables as text. It is pure: it reaches
// no database, so that a service that must not touch one can still say how a
// layer is to be read.
package pixelsql

import (
	"fmt"
	"strings"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// offLatticePixels is how far a stored coordinate may lie from its cell's, in
// pixels, in a table that has lost its indices.
const offLatticePixels = 0.05

// Query is a statement and the values to bind to $1, $2 …
type Query struct {
	SQL        string
	Parameters []Parameter
}

// Parameter is one bound value: float64 for float8, int64 for int8.
type Parameter struct {
	Value       any
	Description string
}

// bind appends a value and gives its placeholder with its type. The type is
// said, since PostgreSQL would otherwise take numbers for numeric, and compute
// other last bits.
func (q *Query) bind(value any, description string) string {
	q.Parameters = append(q.Parameters, Parameter{Value: value, Description: description})
	sqlType := "float8"
	if _, ok := value.(int64); ok {
		sqlType = "int8"
	}
	return fmt.Sprintf("$%d::%s", len(q.Parameters), sqlType)
}

// AlignedCells selects x, y and value of every cell of a layer that has a value
// and a place on the lattice ref. x and y are ref.X and ref.Y of the cell, with
// the same last bit; the order of rows is not defined. A value that is NULL,
// NaN or the layer's nodata is no value.
//
// Tables that have lost their indices are read by their coordinates; a point
// more than 0.05 pixels off the layer's own lattice fails the query instead of
// being dropped.
//
// Errors: Precondition LAYER_UNREADABLE, Unsupported UNSUPPORTED for tiles,
// Invalid INVALID_ARGUMENT for names that are no identifiers.
func AlignedCells(l layer.Layer, ref grid.Grid, p grid.Placement) (Query, error) {
	var q Query
	sql, err := q.alignedCells(l, ref, p)
	if err != nil {
		return Query{}, err
	}
	q.SQL = sql
	return q, nil
}

// alignedCells binds what the select of AlignedCells needs, and gives its text.
func (q *Query) alignedCells(l layer.Layer, ref grid.Grid, p grid.Placement) (string, error) {
	if err := l.CheckReadable(); err != nil {
		return "", err
	}
	if l.Format == layer.FormatTiled {
		return "", fault.New(fault.Unsupported, fault.NotSupported,
			"layer %q is stored as tiles, which SQL cannot take apart", l.Name).With("layer", l.Name).With("format", l.Format)
	}
	table, err := QuoteTable(l.Table)
	if err != nil {
		return "", err
	}
	var row string
	source, rows := table, rowRange{p.RowStart, p.RowStop}
	const rowZero = "row of the lattice on which the table's row 0 falls"
	switch {
	case l.HasIndices && l.SouthUp:
		// Row r of the table is row last - r of the grid.
		last := int64(l.Grid.Rows) - 1
		rows = rowRange{last + 1 - p.RowStop, last + 1 - p.RowStart}
		row = fmt.Sprintf("%s - c.row_idx", q.bind(last+p.RowShift, rowZero))
	case l.HasIndices:
		row = fmt.Sprintf("c.row_idx + %s", q.bind(p.RowShift, rowZero))
	case l.HasCoordinates:
		source = q.indicesFromCoordinates(l, table)
		row = fmt.Sprintf("c.row_idx + %s", q.bind(p.RowShift, rowZero))
	default:
		return "", fault.New(fault.Precondition, fault.LayerUnreadable,
			"layer %q has neither indices nor coordinates", l.Name).With("layer", l.Name)
	}
	x := fmt.Sprintf("%s + ((c.col_idx + s.shift)::float8 + 0.5::float8) * %s",
		q.bind(ref.OriginX, "x of the lattice's west edge"), q.bind(ref.StepX, "step of the lattice on x"))
	y := fmt.Sprintf("%s - ((%s)::float8 + 0.5::float8) * %s",
		q.bind(ref.OriginY, "y of the lattice's north edge"), row, q.bind(ref.StepY, "step of the lattice on y"))

	segments := make([]string, 0, len(p.Segments))
	for _, s := range p.Segments {
		segments = append(segments, fmt.Sprintf("(%s, %s, %s)",
			q.bind(s.SrcStart, "first column of the layer"), q.bind(s.SrcStop, "column after the last"),
			q.bind(s.DstStart-s.SrcStart, "added to a column of the layer to get that of the lattice")))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "SELECT %s AS x,\n       %s AS y,\n       c.value\n", x, y)
	fmt.Fprintf(&b, "FROM %s AS c\n", source)
	fmt.Fprintf(&b, "JOIN (VALUES %s) AS s (first, past, shift)\n  ON c.col_idx >= s.first AND c.col_idx < s.past\n",
		strings.Join(segments, ", "))
	fmt.Fprintf(&b, "WHERE c.row_idx >= %s AND c.row_idx < %s\n",
		q.bind(rows.start, "first row of the table"), q.bind(rows.stop, "row after the last"))
	b.WriteString("  AND " + q.hasValue(l))
	return b.String(), nil
}

type rowRange struct {
	start, stop int64
}

// indicesFromCoordinates is a subselect with the indices that a table's
// coordinates stand for. A cast that cannot succeed is how an expression stops
// a query; its text tells which point is wrong.
func (q *Query) indicesFromCoordinates(l layer.Layer, table string) string {
	centre := 0.5
	if l.Registration == grid.RegistrationUpperLeft {
		centre = 0
	}
	half := q.bind(centre, "where in a cell its stored point lies, from the north-west corner")
	col := fmt.Sprintf("(t.x_coord - %s) / %s - %s",
		q.bind(l.Grid.OriginX, "x of the layer's west edge"), q.bind(l.Grid.StepX, "step of the layer on x"), half)
	row := fmt.Sprintf("(%s - t.y_coord) / %s - %s",
		q.bind(l.Grid.OriginY, "y of the layer's north edge"), q.bind(l.Grid.StepY, "step of the layer on y"), half)
	near := q.bind(offLatticePixels, "largest distance of a stored point from its cell's, in pixels")
	index := func(name string) string {
		return fmt.Sprintf("CASE WHEN abs(i.%[1]s - round(i.%[1]s)) <= %[2]s THEN round(i.%[1]s)::int8\n"+
			"              ELSE concat('the point x = ', i.x_coord, ', y = ', i.y_coord, ' is off the lattice of the layer')::int8 END",
			name, near)
	}
	return fmt.Sprintf("(SELECT %s AS row_idx,\n             %s AS col_idx,\n             i.value\n"+
		"      FROM (SELECT %s AS col, %s AS row, t.x_coord, t.y_coord, t.value FROM %s AS t) AS i)",
		index("row"), index("col"), col, row, table)
}

// hasValue is the condition for a cell to have a value, by the rule of
// layer.Missing. PostgreSQL has NaN equal to itself, so it is compared like a
// number.
func (q *Query) hasValue(l layer.Layer) string {
	conditions := []string{"c.value IS NOT NULL"}
	switch l.StoredType {
	case layer.Float32, layer.Float64, layer.TypeUnknown:
		conditions = append(conditions, "c.value <> 'NaN'::float8")
	}
	for _, nodata := range layer.NodataValues(l) {
		conditions = append(conditions, "c.value <> "+q.bind(nodata, "nodata"))
	}
	return strings.Join(conditions, " AND ")
}
