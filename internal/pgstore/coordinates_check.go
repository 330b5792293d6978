package pgstore

import (
	"cmp"
	"context"
	_ "embed"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

//go:embed coordinates_check.sql
var coordinatesCheckSQL string

// CheckCoordinates compares every stored coordinate of a table with the grid, in
// one pass over it inside the database that keeps counts and a few rows only.
// Errors: Unavailable when it takes longer than the check's timeout, and as any
// query.
func (t *Tx) CheckCoordinates(ctx context.Context, c layer.CoordinateCheck) (f layer.CoordinateFindings, err error) {
	if _, err := t.tx.Exec(ctx, "SELECT set_config('statement_timeout', $1, true)", milliseconds(c.StatementTimeout)); err != nil {
		return f, faultOf(err)
	}
	cells := selectCells(layer.Survey{Indexed: c.Indexed, Located: true}) + " FROM " + quote(c.Relation.Table) + " AS t"
	// What a column of single precision can hold of an expected coordinate.
	rounded := func(column string) string {
		if c.Relation.Columns[column].Type == "real" {
			return "::real::float8"
		}
		return ""
	}
	sql := strings.NewReplacer("/*cells*/", cells, "/*rounded x*/", rounded("x_coord"), "/*rounded y*/", rounded("y_coord")).Replace(coordinatesCheckSQL)
	anchor := 0.5
	if c.As.Registration == grid.RegistrationUpperLeft {
		anchor = 0
	}
	g := c.Grid
	fits := make([]int64, len(layer.Hypotheses()))
	var rows, cols []*int64
	var xs, ys, expectedX, expectedY []*float64
	err = t.tx.QueryRow(ctx, sql, pgx.QueryExecModeDescribeExec,
		g.OriginX, g.OriginY, g.StepX, g.StepY, g.Rows, g.Cols, anchor, c.As.SouthUp, c.Indexed, c.TolerancePixels, c.MaxOffenders, layer.MaxOffLattice,
	).Scan(&f.Rows, &f.Exact, &f.Wrong, &f.Off, &f.Missing, &f.Outside, &f.Largest.X, &f.Largest.Y,
		&fits[0], &fits[1], &fits[2], &fits[3], &rows, &cols, &xs, &ys, &expectedX, &expectedY)
	if err != nil {
		return f, faultOf(err)
	}
	f.Fits = make(map[layer.Hypothesis]int64, len(fits))
	for i, h := range layer.Hypotheses() {
		f.Fits[h] = fits[i]
	}
	for i := range rows {
		f.Offenders = append(f.Offenders, layer.CoordinateError{
			Row: rows[i], Col: cols[i], X: xs[i], Y: ys[i], ExpectedX: expectedX[i], ExpectedY: expectedY[i],
		})
	}
	slices.SortStableFunc(f.Offenders, func(a, b layer.CoordinateError) int {
		return cmp.Or(compareKnown(a.Row, b.Row), compareKnown(a.Col, b.Col))
	})
	return f, nil
}

// compareKnown puts what is not known last.
func compareKnown(a, b *int64) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return cmp.Compare(*a, *b)
}
