package pgstore

import (
	"context"
	"fmt"
	"strings"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/tile"
)

// tileNoteFunctions makes the functions that note which tiles are written to: a row
// (tile_row, tile_col) for each row of the table, before it and after. They only
// ever append, so writers wait for nobody, neither for each other nor for us. (A
// trigger for each statement would be called less often, but not for rows that
// arrive by logical replication.)
//
// A row that has no place, or none on the grid, is noted with a tile at its side:
// the reading of that tile meets the row and names it. No row may make the writer
// fail here.
func (a *arrow) tileNoteFunctions(ctx context.Context, pixels layer.Layer) error {
	notes := ours(notesOf(a.row.ID))
	tileRow, tileCol := tileFormulas(pixels)
	of := func(formula, record string) string { return strings.ReplaceAll(formula, "§", record) }
	row := fmt.Sprintf(`
BEGIN
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO %[1]s VALUES (%[2]s, %[3]s);
  END IF;
  IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND (%[2]s, %[3]s) IS DISTINCT FROM (%[4]s, %[5]s)) THEN
    INSERT INTO %[1]s VALUES (%[4]s, %[5]s);
  END IF;
  RETURN NULL;
END `, notes, of(tileRow, "OLD."), of(tileCol, "OLD."), of(tileRow, "NEW."), of(tileCol, "NEW."))
	rows, cols := tile.Count(pixels.Grid)
	// All that there can be: a writer with an old snapshot does not see which there are.
	truncate := fmt.Sprintf(`
BEGIN
  INSERT INTO %s SELECT r, c FROM generate_series(0, %d) r, generate_series(0, %d) c;
  RETURN NULL;
END `, notes, rows-1, cols-1)
	return a.functions(ctx, row, truncate)
}

// tileFormulas are the places of a row's tile; § stands before its columns. They
// are at least 0, and no more than the last, whatever the row says.
func tileFormulas(l layer.Layer) (tileRow, tileCol string) {
	g := l.Grid
	if l.HasIndices {
		tileRow = fmt.Sprintf("least(greatest(§row_idx, 0), %d)", g.Rows-1)
		if l.SouthUp {
			tileRow = fmt.Sprintf("(%d - %s)", g.Rows-1, tileRow)
		}
		tileCol = fmt.Sprintf("least(greatest(§col_idx, 0), %d)", g.Cols-1)
	} else {
		// The nearest cell. Coordinates are brought near the grid first, so that
		// nothing overflows; NaN is above all numbers.
		half := 0.5
		if l.Registration == grid.RegistrationCenter {
			half = 0
		}
		near := func(column string, lo, hi float64) string {
			return fmt.Sprintf("least(greatest(§%s::float8, %s), %s)", column, literal(lo), literal(hi))
		}
		clamp := func(cell string, n int) string {
			return fmt.Sprintf("least(greatest(floor(%s + %s), '0'::float8), %s)", cell, literal(half), literal(float64(n-1)))
		}
		x := near("x_coord", g.OriginX-g.StepX, g.OriginX+float64(g.Cols+1)*g.StepX)
		y := near("y_coord", g.OriginY-float64(g.Rows+1)*g.StepY, g.OriginY+g.StepY)
		tileCol = clamp(fmt.Sprintf("(%s - %s) / %s", x, literal(g.OriginX), literal(g.StepX)), g.Cols)
		tileRow = clamp(fmt.Sprintf("(%s - %s) / %s", literal(g.OriginY), y, literal(g.StepY)), g.Rows)
	}
	whole := func(cell string) string { return fmt.Sprintf("((%s)::integer / %d)", cell, tile.Side) }
	return whole(tileRow), whole(tileCol)
}
