package merge

// Cell is a cell of the reference lattice.
type Cell struct {
	Row int64 `json:"row"`
	Col int64 `json:"col"`
}

// covers reports whether a cell comes no later than c, row by row.
func (c *Cell) covers(row, col int64) bool {
	return c != nil && (row < c.Row || row == c.Row && col <= c.Col)
}

// passedOver is the number of cells at the beginning of a range of rows that
// are not wanted, since they come no later than p.After.
func (p *Plan) passedOver(rows Rows) int {
	if !p.After.covers(rows.Start, p.Window.ColStart) {
		return 0
	}
	cols := min(max(p.After.Col-p.Window.ColStart+1, 0), p.Window.Cols())
	return int(min((p.After.Row-rows.Start)*p.Window.Cols()+cols, (rows.Stop-rows.Start)*p.Window.Cols()))
}
