package catalog

import (
	"context"
	"slices"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/tile"
)

// tileColumns are the types of the columns of a table of tiles, by their SQL names.
var tileColumns = map[string]string{
	"tile_row": "integer", "tile_col": "integer", "cells": "integer",
	"min": "double precision", "max": "double precision", "valid": "bytea", "data": "bytea",
}

// readTiling decides by the columns and the comment of a table of tiles, which says
// how it is read. The comment and the catalogued grid must agree.
func (c *Claim) readTiling() {
	const fix = "make the table and its comment as docs/tiles.md specifies, and adopt again"
	for name, typ := range tileColumns {
		switch column, there := c.relation.Columns[name]; {
		case !there:
			c.refuse(ColumnMissing, fields{"column": name}, fix, "its table of tiles %s has no column %s", c.Table, name)
			return
		case column.Type != typ:
			c.refuse(ColumnType, fields{"column": name, "type": column.Type}, fix, "its column %s is of type %s, and must be %s", name, column.Type, typ)
			return
		}
	}
	layout, err := tile.ParseLayout(c.relation.Tiling)
	if err != nil {
		c.refuse(TilingUnknown, fields{"comment": shorten(c.relation.Tiling)}, fix,
			"the comment of its table of tiles %s does not say how they are read: %s", c.Table, fault.From(err).Message)
		return
	}
	if c.HasGrid && (layout.Rows != c.Grid.Rows || layout.Cols != c.Grid.Cols) {
		c.refuse(TilingConflict, fields{"grid_rows": c.Grid.Rows, "grid_cols": c.Grid.Cols, "tiling_rows": layout.Rows, "tiling_cols": layout.Cols},
			"correct the shape that is wrong, and adopt again",
			"its grid has %d × %d cells, and its tiles cover %d × %d", c.Grid.Rows, c.Grid.Cols, layout.Rows, layout.Cols)
		return
	}
	c.StoredType, c.Tiling, c.HasKey, c.Registration = layout.Type, c.relation.Tiling, c.relation.TileKey, grid.RegistrationCenter
	if !c.HasKey {
		over := "tile_row, tile_col"
		c.find(NoKey, layer.Warning, fields{"columns": over}, "add a primary key over "+over,
			"no key over %s: a tile can be stored twice, and reading has to sort", over)
	}
	if c.Format != layer.FormatInvalid {
		c.Format = layer.FormatTiled
	}
}

// concludeTiles decides by the places of the tiles.
func (c *Claim) concludeTiles(f layer.Findings) {
	if f.OutsideGrid == 0 {
		return
	}
	rows, cols := tile.Count(c.Grid)
	told := fields{"rows": f.OutsideGrid, "rows_read": f.Rows, "grid_rows": c.Grid.Rows, "grid_cols": c.Grid.Cols}
	told["min_row"], told["max_row"], told["min_col"], told["max_col"] = *f.MinRow, *f.MaxRow, *f.MinCol, *f.MaxCol
	c.find(CellsOutsideGrid, layer.Critical, told, "delete these tiles, or correct the shape",
		"%d of %d tiles are outside of the %d × %d that cover its grid; tile_row goes from %d to %d and tile_col from %d to %d",
		f.OutsideGrid, f.Rows, rows, cols, *f.MinRow, *f.MaxRow, *f.MinCol, *f.MaxCol)
}

// throughTiles puts tiles in the place of the tables that they were made of, among
// the candidates of claims, and gives all candidates: the existing catalog goes on
// naming the table. Whoever registers a layer names its table itself. Where an ordinary table has its name that is another one, made
// since, both are candidates: nothing says which is meant.
func throughTiles(ctx context.Context, tx Tx, claims []*Claim, tables []layer.Table) ([]layer.Table, error) {
	tiled, err := tx.TiledTables(ctx, tables)
	if err != nil || len(tiled) == 0 {
		return tables, err
	}
	var pixels []layer.Table
	for _, t := range tiled {
		pixels = append(pixels, t.Pixels)
	}
	now, err := tx.Relations(ctx, pixels)
	if err != nil {
		return nil, err
	}
	tables = nil
	for _, c := range claims {
		for i, t := range tiled {
			at := slices.Index(c.Candidates, t.Pixels)
			switch another := now[i].Found && now[i].Kind != "v" && now[i].OID != t.PixelsOID; {
			case at < 0, c.Source.Registered():
			case another:
				c.Candidates = append(c.Candidates, t.Tiles)
			default:
				c.Candidates[at] = t.Tiles
			}
		}
		tables = append(tables, c.Candidates...)
	}
	return tables, nil
}
