package pgstore

import (
	"context"
	_ "embed"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/tile"
)

// Sizes of a survey, in rows and blocks.
const (
	headRows     = 1000 // from the head of the heap
	spreadRows   = 1000 // from blocks spread over it
	spreadBlocks = 24
	endRows      = 50 // from each end of the key
	namedCells   = 10 // cells named in findings
	// blockBytes is PostgreSQL's page; builds with another one get another
	// number of blocks, and no harm.
	blockBytes = 8192
)

//go:embed survey.sql
var surveySQL string

//go:embed survey_offenders.sql
var surveyOffendersSQL string

//go:embed survey_duplicates.sql
var surveyDuplicatesSQL string

// Survey reads stored cells of a table and says how they lie on the grid. A
// sample costs some milliseconds whatever the size of the table; a whole survey
// reads each row up to three times and has no statement timeout. Errors: as
// any query.
func (t *Tx) Survey(ctx context.Context, s layer.Survey) (f layer.Findings, err error) {
	cells := sampleOf(s)
	if s.Whole && !s.Tiled {
		if _, err := t.tx.Exec(ctx, "SELECT set_config('statement_timeout', '0', true)"); err != nil {
			return f, faultOf(err)
		}
		cells = selectCells(s) + " FROM " + quote(s.Relation.Table) + " AS t"
	}
	g := s.Grid
	sql, args := surveyQuery(s, cells)
	f, err = scanSurvey(s, t.tx.QueryRow(ctx, sql, append([]any{pgx.QueryExecModeDescribeExec}, args...)...))
	if err != nil || !s.Whole || s.Tiled {
		return f, faultOf(err)
	}
	best, fitting, known := f.Best()
	anchor := 0.0
	if !known || best.Registration == grid.RegistrationCenter {
		anchor = 0.5
	}
	if fitting < f.Located || f.HalfLocated > 0 {
		rows, err := t.tx.Query(ctx, withCells(surveyOffendersSQL, cells), pgx.QueryExecModeDescribeExec,
			g.OriginX, g.OriginY, g.StepX, g.StepY, g.Rows, s.Indexed, layer.MaxOffLattice, anchor, best.SouthUp, namedCells)
		if err != nil {
			return f, faultOf(err)
		}
		f.Offenders, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c layer.StoredCell, err error) {
			err = row.Scan(&c.Row, &c.Col, &c.X, &c.Y)
			return c, err
		})
		if err != nil {
			return f, faultOf(err)
		}
	}
	if s.Indexed && len(s.Relation.IndexKey) > 0 {
		return f, nil // the key forbids it
	}
	rows, err := t.tx.Query(ctx, withCells(surveyDuplicatesSQL, cells), pgx.QueryExecModeDescribeExec,
		g.OriginX, g.OriginY, g.StepX, g.StepY, g.Rows, g.Cols, s.Indexed, anchor, namedCells)
	if err != nil {
		return f, faultOf(err)
	}
	f.Duplicates, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c layer.StoredCell, err error) {
		err = row.Scan(&c.Row, &c.Col, &f.DuplicateCells, &f.SurplusRows)
		return c, err
	})
	return f, faultOf(err)
}

// surveyQuery gives the query for what survey.sql tells of cells, or, of tiles, for
// what their places tell: nothing looks into them. Its answer is one row.
func surveyQuery(s layer.Survey, cells string) (sql string, args []any) {
	g := s.Grid
	if s.Tiled {
		rows, cols := tile.Count(g)
		return `SELECT count(*), count(*) FILTER (WHERE tile_row >= $1 OR tile_col >= $2 OR tile_row < 0 OR tile_col < 0),
			min(tile_row), max(tile_row), min(tile_col), max(tile_col) FROM ` + quote(s.Relation.Table), []any{rows, cols}
	}
	return withCells(surveySQL, cells), []any{g.OriginX, g.OriginY, g.StepX, g.StepY, g.Rows, g.Cols, layer.MaxOffLattice, s.Indexed}
}

// scanSurvey reads the row that surveyQuery asks for.
func scanSurvey(s layer.Survey, row pgx.Row) (f layer.Findings, err error) {
	if s.Tiled {
		return f, row.Scan(&f.Rows, &f.OutsideGrid, &f.MinRow, &f.MaxRow, &f.MinCol, &f.MaxCol)
	}
	fits := make([]int64, len(layer.Hypotheses()))
	err = row.Scan(&f.Rows, &f.NullIndices, &f.OutsideGrid, &f.MinRow, &f.MaxRow, &f.MinCol, &f.MaxCol, &f.Located, &f.HalfLocated,
		&fits[0], &fits[1], &fits[2], &fits[3],
		&f.OffsetX.Min, &f.OffsetX.Max, &f.OffsetYNorthUp.Min, &f.OffsetYNorthUp.Max, &f.OffsetYSouthUp.Min, &f.OffsetYSouthUp.Max)
	f.Fits = make(map[layer.Hypothesis]int64, len(fits))
	for i, h := range layer.Hypotheses() {
		f.Fits[h] = fits[i]
	}
	return f, err
}

func withCells(sql, cells string) string { return strings.Replace(sql, "/*cells*/", cells, 1) }

// selectCells begins a query for the cells with the columns that survey.sql
// wants.
func selectCells(s layer.Survey) string {
	pair := func(there bool, columns string) string {
		if there {
			return columns
		}
		return strings.NewReplacer("t.row_idx", "NULL", "t.col_idx", "NULL", "t.x_coord", "NULL", "t.y_coord", "NULL").Replace(columns)
	}
	return "SELECT " + pair(s.Indexed, "t.row_idx::int8 AS row_idx, t.col_idx::int8 AS col_idx") + ", " +
		pair(s.Located, "t.x_coord::float8 AS x, t.y_coord::float8 AS y")
}

// sampleOf gives a query for a sample of the cells. It is the same one each
// time, so that adopting twice finds the same. Some rows can be in it twice;
// counts of a sample are no more than that.
func sampleOf(s layer.Survey) string {
	table := quote(s.Relation.Table) + " AS t"
	parts := []string{fmt.Sprintf("(%s FROM %s LIMIT %d)", selectCells(s), table, headRows)}
	// Only tables and materialized views have blocks. TABLESAMPLE costs a hash
	// for each block of the table, and reads those it chooses.
	if blocks := s.Relation.Bytes / blockBytes; blocks > 2*spreadBlocks {
		parts = append(parts, fmt.Sprintf("(%s FROM %s TABLESAMPLE SYSTEM (%g) REPEATABLE (1) LIMIT %d)",
			selectCells(s), table, 100*float64(spreadBlocks)/float64(blocks), spreadRows))
	}
	key := s.Relation.IndexKey
	if !s.Indexed {
		key = s.Relation.CoordinateKey
	}
	if len(key) == 2 {
		for _, direction := range []string{"", " DESC"} {
			parts = append(parts, fmt.Sprintf("(%s FROM %s ORDER BY t.%s%s, t.%s%s LIMIT %d)",
				selectCells(s), table, key[0], direction, key[1], direction, endRows))
		}
	}
	return strings.Join(parts, " UNION ALL ")
}
