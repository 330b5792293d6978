package pixelsql

import (
	"fmt"
	"strings"

	"github.com/rasterloom/rasterloom/internal/layer"
)

// JoinedCells is the legacy merge: one full outer join of the layers' aligned
// cells (see AlignedCells) on x and y. It selects x, y and a value of each
// layer, in the order of the request, sorted from north to south and from west
// to east. The join may compare floats with each other because all of them come
// from one formula over one lattice, with the same last bit.
//
// A layer none of whose cells land has NULL throughout. A cell that a table
// stores twice gives two rows or more.
//
// Errors: as AlignedCells.
func JoinedCells(request layer.JoinRequest) (Query, error) {
	var q Query
	var columns, joins, required []string
	join := func(sql, alias string) {
		text := fmt.Sprintf("(%s) AS %s", indent(sql), alias)
		if len(joins) > 0 {
			text = "FULL JOIN " + text + " USING (x, y)"
		}
		joins = append(joins, text)
	}
	for i, l := range request.Layers {
		value := fmt.Sprintf("v%d", i)
		sql, err := q.cellsOrNone(l, request)
		if err != nil {
			return Query{}, err
		}
		join(sql, fmt.Sprintf("l%d (x, y, %s)", i, value))
		columns = append(columns, value)
		if l.Required {
			required = append(required, value+" IS NOT NULL")
		}
	}
	if w := request.Every; !w.Empty() {
		ref := request.Lattice
		join(fmt.Sprintf("SELECT %s + (c.i::float8 + 0.5::float8) * %s,\n       %s - (r.i::float8 + 0.5::float8) * %s\n"+
			"FROM pg_catalog.generate_series(%s, %s) AS r (i), pg_catalog.generate_series(%s, %s) AS c (i)",
			q.bind(ref.OriginX, "x of the lattice's west edge"), q.bind(ref.StepX, "step of the lattice on x"),
			q.bind(ref.OriginY, "y of the lattice's north edge"), q.bind(ref.StepY, "step of the lattice on y"),
			q.bind(w.RowStart, "first row of the window"), q.bind(w.RowStop-1, "last row of the window"),
			q.bind(w.ColStart, "first column of the window"), q.bind(w.ColStop-1, "last column of the window"),
		), "lattice (x, y)")
	}
	q.SQL = fmt.Sprintf("SELECT x, y, %s\nFROM %s\n", strings.Join(columns, ", "), strings.Join(joins, "\n"))
	if len(required) > 0 {
		q.SQL += "WHERE " + strings.Join(required, " AND ") + "\n"
	}
	q.SQL += "ORDER BY y DESC, x"
	return q, nil
}

// cellsOrNone is the select of a layer, also where none of its cells land.
func (q *Query) cellsOrNone(l layer.JoinedLayer, request layer.JoinRequest) (string, error) {
	if !l.Placement.Empty() {
		return q.alignedCells(l.Layer, request.Lattice, l.Placement)
	}
	table, err := QuoteTable(l.Layer.Table)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("SELECT 0::float8, 0::float8, c.value FROM %s AS c WHERE false", table), nil
}

func indent(sql string) string { return strings.ReplaceAll(sql, "\n", "\n      ") }
