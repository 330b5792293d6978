// Package tile encodes and decodes the tiles of a TILED layer, as docs/tiles.md
// specifies: 256 × 256 cells in the layer's own type, in a chain of Zarr v3
// codecs, with a bitmap of the cells that have a value, their number, minimum and
// maximum. The package is pure: bytes in, cells out, and back.
package tile

import (
	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// Side is the number of rows and of columns of a tile, and Cells that of its
// cells. A tile at the south or east side of a grid is as large as the others,
// and padded.
const (
	Side  = layer.TileSide
	Cells = Side * Side
)

const (
	// sumBytes is the length of a checksum: CRC-32C, the lowest byte first.
	sumBytes = 4
	// bitmapWords is the length of a bitmap of a tile's cells.
	bitmapWords = Cells / 64
	// ValidBytes is the length of Encoded.Valid where it is there.
	ValidBytes = Cells/8 + sumBytes
)

// MaxDataBytes is the largest Encoded.Data of a type that is worth reading: one
// that does not shrink under zstd grows by less than this.
func MaxDataBytes(t layer.DataType) int { return Cells*t.Width() + Cells/16 + 1024 }

// Encoded is a tile as it is stored: a row of a table of tiles.
type Encoded struct {
	// Row and Col count tiles from the north-west corner of the grid.
	Row, Col int32
	// Cells is the number of cells that have a value. A tile without any is not
	// stored; it has neither data nor bitmap.
	Cells int32
	// Min and Max bound the values from outside: they are the smallest and the
	// largest one, where float64 can hold them.
	Min, Max float64
	// Valid has a bit for each cell, row by row, the least significant first: 1
	// for a value; and then its checksum. Nil where every cell of the tile that is
	// inside the grid has a value.
	Valid []byte
	// Data are the values, row by row, in the codecs of the layer's layout.
	Data []byte
}

// Count is the number of rows, and of columns, of tiles that cover a grid.
func Count(g grid.Grid) (rows, cols int) {
	return (g.Rows + Side - 1) / Side, (g.Cols + Side - 1) / Side
}

// Window is the part of a grid that a tile covers; empty for a tile outside.
func Window(g grid.Grid, row, col int32) grid.Window {
	whole := grid.Window{
		RowStart: int64(row) * Side, RowStop: (int64(row) + 1) * Side,
		ColStart: int64(col) * Side, ColStop: (int64(col) + 1) * Side,
	}
	return whole.Intersect(g.Window())
}

// corrupt is the fault of a tile that disagrees with itself.
func corrupt(name string, e Encoded, format string, args ...any) *fault.Error {
	f := fault.New(fault.Corrupt, fault.DataCorrupt, "layer %q: the tile at tile_row %d, tile_col %d "+format, append([]any{name, e.Row, e.Col}, args...)...)
	return f.With("layer", name).With("tile_row", e.Row).With("tile_col", e.Col)
}
