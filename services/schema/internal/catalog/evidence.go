package catalog

import (
	"fmt"
	"math"
	"strings"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// relationKinds are the words for pg_class.relkind.
var relationKinds = map[string]string{
	"p": "a partitioned table", "v": "a view", "m": "a materialized view", "f": "a foreign table",
	"S": "a sequence", "c": "a type", "i": "an index", "I": "an index",
}

// Settle chooses the table among the candidates, given what the database says
// of each, and reads its columns. It never guesses between two.
func (c *Claim) Settle(relations []layer.Relation) {
	if len(c.Candidates) == 0 {
		return
	}
	names := make([]string, len(c.Candidates))
	for i, t := range c.Candidates {
		names[i] = t.String()
	}
	var found []layer.Relation
	for _, r := range relations {
		if r.Found {
			found = append(found, r)
		}
	}
	switch {
	case len(found) == 0:
		c.refuse(TableMissing, fields{"candidates": strings.Join(names, ", ")},
			"restore the table, or remove the catalog row, and adopt again",
			"there is no table %s", strings.Join(names, " nor "))
		return
	case len(found) > 1:
		c.refuse(TableAmbiguous, fields{"tables": fmt.Sprintf("%s, %s", found[0].Table, found[1].Table)},
			"rename or drop the one that is not this layer's, and adopt again",
			"its cells can be in %s or in %s, and nothing says in which", found[0].Table, found[1].Table)
		return
	}
	r := found[0]
	c.relation, c.Table, c.TableOID, c.TableFile, c.EstimatedRows = r, r.Table, r.OID, r.File, r.EstimatedRows
	if !c.checkKind() {
		return
	}
	c.readColumns()
}

// checkKind refuses what is not a table of its own.
func (c *Claim) checkKind() bool {
	r := c.relation
	kind, strange := relationKinds[r.Kind]
	if r.Temporary {
		kind, strange = "a temporary table", true
	}
	if r.Kind == "m" && !r.Temporary {
		c.find(TableKind, layer.Warning, fields{"kind": kind}, "", "%s is %s: it can be read, but not migrated", r.Table, kind)
		strange = false
	}
	if strange {
		c.refuse(TableKind, fields{"kind": kind}, "store the cells in an ordinary table, and adopt again", "%s is %s, not a table", r.Table, kind)
		return false
	}
	if !r.Readable {
		c.refuse(TablePermission, nil, fmt.Sprintf("grant SELECT on %s to the database role of Rasterloom", r.Table),
			"our database role may not read %s", r.Table)
		return false
	}
	if r.RowSecurity {
		c.find(RowSecurity, layer.Warning, nil, "", "%s has row-level security: what is read depends on the database role", r.Table)
	}
	return true
}

// readColumns decides the format as far as columns say it.
func (c *Claim) readColumns() {
	if c.relation.Columns["tile_row"] != (layer.Column{}) && c.relation.Columns["tile_col"] != (layer.Column{}) {
		c.readTiling()
		return
	}
	const fix = "adopt again once the table has the columns row_idx, col_idx (or x_coord, y_coord) and value"
	columns := c.relation.Columns
	ok := true
	check := func(name string, fits bool, wanted string) bool {
		column, there := columns[name]
		if there && !fits {
			ok = false
			c.refuse(ColumnType, fields{"column": name, "type": column.Type}, fix,
				"its column %s is of type %s, and must be %s", name, column.Type, wanted)
		}
		return there
	}
	c.StoredType = valueTypes[columns["value"].Type]
	if !check("value", c.StoredType != layer.TypeUnknown, "double precision, real, smallint, integer or bigint") {
		ok = false
		c.refuse(ColumnMissing, fields{"column": "value"}, fix, "its table %s has no column value", c.Table)
	}
	has := make(map[string]bool)
	for _, name := range []string{"row_idx", "col_idx"} {
		has[name] = check(name, indexTypes[columns[name].Type], "smallint, integer or bigint")
	}
	for _, name := range []string{"x_coord", "y_coord"} {
		has[name] = check(name, coordinateTypes[columns[name].Type], "double precision or real")
	}
	c.indexed = has["row_idx"] && has["col_idx"]
	c.located = has["x_coord"] && has["y_coord"]
	c.HasIndices, c.HasCoordinates = c.indexed, c.located
	for _, pair := range [][2]string{{"row_idx", "col_idx"}, {"x_coord", "y_coord"}} {
		for i, name := range pair {
			if other := pair[1-i]; has[name] && !has[other] {
				if severity := layer.Warning; c.indexed || c.located {
					c.find(ColumnMissing, severity, fields{"column": other}, "", "its table has a column %s and no %s; neither is used", name, other)
				}
			}
		}
	}
	if !c.indexed && !c.located {
		ok = false
		c.refuse(ColumnMissing, fields{"table": c.Table}, fix,
			"its table %s has neither row_idx and col_idx nor x_coord and y_coord", c.Table)
	}
	if !ok || c.Format == layer.FormatInvalid {
		return
	}
	key, over := c.relation.IndexKey, "row_idx, col_idx"
	if !c.indexed {
		key, over = c.relation.CoordinateKey, "x_coord, y_coord"
	}
	c.HasKey = len(key) > 0
	if !c.HasKey {
		c.find(NoKey, layer.Warning, fields{"columns": over}, "add a primary key or unique index over "+over,
			"no key over %s: a cell can be stored twice, and reading has to sort", over)
	}
	switch {
	case !c.located:
		c.Format = layer.FormatLegacy
		if has["x_coord"] || has["y_coord"] {
			c.Format = layer.FormatPartial
		}
	case c.meta.memoryAware:
		c.Format = layer.FormatWindowed
	default:
		c.Format = layer.FormatCoordinate
	}
	c.SouthUp = c.indexed && c.meta.southUp != nil && *c.meta.southUp
}

// Survey is what has to be asked of the rows; false when the layer is invalid
// already.
func (c *Claim) Survey(whole bool) (layer.Survey, bool) {
	if c.Format == layer.FormatInvalid || c.Format == layer.FormatUnknown || !c.HasGrid {
		return layer.Survey{}, false
	}
	return layer.Survey{Relation: c.relation, Grid: c.Grid, Whole: whole, Indexed: c.indexed, Located: c.located, Tiled: c.Format == layer.FormatTiled}, true
}

// Conclude decides by the rows.
func (c *Claim) Conclude(f layer.Findings, whole bool) {
	of := fmt.Sprintf("of the %d rows looked at", f.Rows)
	if whole {
		of = fmt.Sprintf("of %d rows", f.Rows)
	}
	if f.Rows == 0 {
		c.find(Empty, layer.Warning, nil, "", "its table %s has no rows", c.Table)
		c.tellSouthUp()
		return
	}
	if c.Format == layer.FormatTiled {
		c.concludeTiles(f)
		return
	}
	if f.NullIndices > 0 {
		c.find(IndexNull, layer.Critical, fields{"rows": f.NullIndices, "rows_read": f.Rows}, "delete these rows, or give them their indices",
			"%d %s have no row_idx or no col_idx", f.NullIndices, of)
	}
	if f.OutsideGrid > 0 {
		c.outside(f, of)
	}
	if f.DuplicateCells > 0 {
		c.find(DuplicateCells, layer.Critical,
			fields{"cells": f.DuplicateCells, "surplus_rows": f.SurplusRows, "rows_read": f.Rows, "first": cellsText(f.Duplicates)},
			"delete the rows that are too many, and add a primary key",
			"%d cells are stored more than once (%d rows too many): %s", f.DuplicateCells, f.SurplusRows, cellsText(f.Duplicates))
	}
	if c.located {
		c.locate(f, of)
	}
	c.tellSouthUp()
}

func (c *Claim) outside(f layer.Findings, of string) {
	told := fields{"rows": f.OutsideGrid, "rows_read": f.Rows, "grid_rows": c.Grid.Rows, "grid_cols": c.Grid.Cols}
	reach := ""
	if c.indexed && f.MinRow != nil && f.MinCol != nil {
		told["min_row"], told["max_row"], told["min_col"], told["max_col"] = *f.MinRow, *f.MaxRow, *f.MinCol, *f.MaxCol
		reach = fmt.Sprintf("; row_idx goes from %d to %d and col_idx from %d to %d", *f.MinRow, *f.MaxRow, *f.MinCol, *f.MaxCol)
	}
	c.find(CellsOutsideGrid, layer.Critical, told, "correct the shape in its catalog row, or delete these rows",
		"%d %s are outside the grid of %d × %d cells%s", f.OutsideGrid, of, c.Grid.Rows, c.Grid.Cols, reach)
}

// locate reads what the stored coordinates say.
func (c *Claim) locate(f layer.Findings, of string) {
	if missing := f.Rows - f.Located; missing > 0 {
		told := fields{"rows": missing, "half": f.HalfLocated, "rows_read": f.Rows}
		const format = "%d %s have no coordinates, %d of these only one"
		if c.indexed {
			c.Format = layer.FormatPartial
			c.find(CoordinatesHalfFilled, layer.Warning, told, "", format, missing, of, f.HalfLocated)
		} else {
			c.refuse(CoordinatesHalfFilled, told, "delete these rows, or give them their coordinates", format, missing, of, f.HalfLocated)
		}
	}
	if f.Located == 0 {
		return
	}
	best, fits, known := f.Best()
	if known {
		// Where rows and orientation cannot be told apart, the metadata may.
		if stated := c.meta.southUp; stated != nil && c.indexed {
			h := layer.Hypothesis{Registration: best.Registration, SouthUp: *stated}
			if f.Fits[h] == fits {
				best = h
			} else {
				c.find(OrientationConflict, layer.Warning, fields{"metadata_south_up": *stated, "rows_south_up": best.SouthUp},
					"correct south_up or transform in the metadata of its catalog row",
					"its metadata say that rows run from the %s, and its coordinates that they run from the %s, which is used",
					end(*stated), end(best.SouthUp))
			}
		}
		c.Registration = best.Registration
		c.SouthUp = best.SouthUp && c.indexed
	}
	if fits < f.Located {
		c.offGrid(f, best, fits, known, of)
	}
	if c.Registration == grid.RegistrationUpperLeft {
		c.find(RegistrationCorner, layer.Warning, fields{"offset_pixels": 0.5}, "",
			"its coordinates name the upper-left corners of the cells; read as centres they would be half a pixel off")
	}
}

func (c *Claim) offGrid(f layer.Findings, best layer.Hypothesis, fits int64, known bool, of string) {
	y := f.OffsetYNorthUp
	if best.SouthUp {
		y = f.OffsetYSouthUp
	}
	x := f.OffsetX
	if best.Registration == grid.RegistrationUpperLeft {
		x, y = moved(x, 0.5), moved(y, 0.5)
	}
	point := "centres"
	if best.Registration == grid.RegistrationUpperLeft {
		point = "upper-left corners"
	}
	told := fields{
		"rows": f.Located - fits, "rows_read": f.Rows, "offset_x_pixels": spanText(x), "offset_y_pixels": spanText(y),
		"limit_pixels": layer.MaxOffLattice,
	}
	first := ""
	if len(f.Offenders) > 0 {
		told["first"] = cellsText(f.Offenders)
		first = ": " + told["first"].(string)
	}
	const format = "the coordinates of %d %s lie off the grid: x %s and y %s pixels from the %s of their cells, and the limit is %v%s"
	args := []any{f.Located - fits, of, spanText(x), spanText(y), point, layer.MaxOffLattice, first}
	const fix = "correct the bounds in its catalog row if all coordinates are off by the same, else the coordinates"
	switch {
	case known || c.indexed:
		c.find(CoordinatesOffGrid, layer.Warning, told, fix, format, args...)
	default:
		// There is nothing else that would say where the cells are.
		c.refuse(CoordinatesOffGrid, told, fix, format, args...)
	}
}

func (c *Claim) tellSouthUp() {
	if c.SouthUp {
		c.find(SouthUp, layer.Info, nil, "", "its rows run from south to north; they are read from the north all the same")
	}
}

func end(southUp bool) string {
	if southUp {
		return "south"
	}
	return "north"
}

func moved(s layer.Span, by float64) layer.Span {
	if s.Min == nil || s.Max == nil {
		return s
	}
	return layer.Span{Min: new(*s.Min + by), Max: new(*s.Max + by)}
}

// spanText prints a span of offsets in pixels.
func spanText(s layer.Span) string {
	switch {
	case s.Min == nil || s.Max == nil:
		return "an unknown number of"
	case math.Abs(*s.Max-*s.Min) < 0.005:
		return fmt.Sprintf("%+.2f", *s.Min)
	default:
		return fmt.Sprintf("%+.2f to %+.2f", *s.Min, *s.Max)
	}
}

// cellsText names the first few cells.
func cellsText(cells []layer.StoredCell) string {
	const few = 3
	parts := make([]string, 0, few)
	for _, cell := range cells[:min(few, len(cells))] {
		var p []string
		if cell.Row != nil && cell.Col != nil {
			p = append(p, fmt.Sprintf("row %d, col %d", *cell.Row, *cell.Col))
		}
		if cell.X != nil {
			p = append(p, fmt.Sprintf("x %v", *cell.X))
		}
		if cell.Y != nil {
			p = append(p, fmt.Sprintf("y %v", *cell.Y))
		}
		parts = append(parts, "("+strings.Join(p, ", ")+")")
	}
	if len(cells) > few {
		parts = append(parts, "…")
	}
	return strings.Join(parts, ", ")
}
