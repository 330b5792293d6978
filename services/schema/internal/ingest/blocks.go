package ingest

import (
	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/tile"
)

// blockOrder knows which blocks may still come: rows of tiles from the north, the
// tiles of one row in any order, each once.
type blockOrder struct {
	begun bool
	row   int32
	seen  []uint64 // the tiles of row, a bit each
}

// take enters a block. Errors: Invalid.
func (o *blockOrder) take(l layer.Layer, row, col int32) error {
	rows, cols := tile.Count(l.Grid)
	bad := func(reason fault.Reason, format string, args ...any) error {
		args = append([]any{l.Name, row, col}, args...)
		return fault.New(fault.Invalid, reason, "layer %q: the block at tile_row %d, tile_col %d "+format, args...).
			With("layer", l.Name).With("tile_row", row).With("tile_col", col)
	}
	switch {
	case row < 0 || col < 0 || int(row) >= rows || int(col) >= cols:
		return bad(fault.CellOffGrid, "is outside of the grid, which has %d × %d tiles", rows, cols)
	case o.begun && row < o.row:
		return bad(fault.InvalidArgument, "comes after one of tile_row %d: blocks come from the north, one row of tiles after the other", o.row)
	case !o.begun || row > o.row:
		if o.seen == nil {
			o.seen = make([]uint64, (cols+63)/64)
		}
		clear(o.seen)
		o.begun, o.row = true, row
	}
	word, bit := &o.seen[col>>6], uint64(1)<<(col&63)
	if *word&bit != 0 {
		return bad(fault.DuplicateCell, "is sent twice")
	}
	*word |= bit
	return nil
}

// Block takes a whole tile: values is a flat slice of the layer's type, tile.Cells
// long and row by row, and valid has a bit for each, nil for all. What lies outside
// of the grid is not looked at. Neither may change any more. Errors: Invalid
// CELL_OFF_GRID, DUPLICATE_CELL and INVALID_ARGUMENT (out of order), Limit
// LIMIT_EXCEEDED, and those of the store.
func (s *Stream) Block(row, col int32, values any, valid []uint64) error {
	if err := s.blocks.take(s.layer, row, col); err != nil {
		return err
	}
	if err := s.count(tile.Cells * s.layer.StoredType.Width()); err != nil {
		return err
	}
	return s.put(job{row: row, col: col, values: values, valid: valid})
}
