package migrate

import "fmt"

// Estimates of a migration to tiles (docs/migration.md has the measurements).
const (
	tileCellsPerSecond = 1.5e6 // copied and compared
	tileOverhead       = 8196 + 100
)

// EstimateTiled fills in what a migration to so many tiles of so many bytes takes.
// keyless: the table has no key that cells are read by, and gets one.
func (p *Plan) EstimateTiled(tiles int64, bytesPerTile float64, keyless bool) {
	p.DiskBytes = tiles * (tileOverhead + int64(bytesPerTile))
	p.WALBytes = p.DiskBytes
	p.seconds(tileCellsPerSecond)
	p.Locks = []string{
		"ACCESS SHARE on the table, one row of tiles after the other: readers and writers go on",
		fmt.Sprintf("SHARE ROW EXCLUSIVE on the table for some milliseconds, once: writers wait at most %v a try", LockWait),
		fmt.Sprintf("ACCESS EXCLUSIVE on the table for some milliseconds, at rollback and finalizing: everybody waits at most %v a try", LockWait),
	}
	p.Notices = append(p.Notices, alterations)
	if keyless {
		p.DiskBytes += p.Rows * keyBytesPerRow
		p.WALBytes += p.Rows * keyBytesPerRow
		p.Notices = append(p.Notices,
			"the table has no key by which a row of tiles can be read, and gets one, made CONCURRENTLY: from then on a cell that is written a second time is refused; a rollback takes the key off")
	}
	if p.WithoutValue > 0 {
		p.Notices = append(p.Notices,
			fmt.Sprintf("%d rows have no value (NULL, NaN or nodata): tiles keep that their cells have none, not which of these it was, nor that there was a row", p.WithoutValue))
	}
	p.Notices = append(p.Notices,
		"until it is finalized the table stays under its name, is read and written as before, and what is written reaches the tiles; merges never see less")
	if p.Spec.Tiles.SQLView {
		p.Notices = append(p.Notices,
			"finalizing drops the table and leaves a view under its name, for reading only, with a row for each cell that has a value; statements that write will fail, and a look-up of one cell reads whole tiles")
	} else {
		p.Notices = append(p.Notices,
			"finalizing drops the table, and its name with it: plain SQL cannot take compressed tiles apart; ask for a view (sql_view, --sql-view) where SQL users must go on reading under the name")
	}
}
