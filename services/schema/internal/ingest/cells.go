package ingest

import (
	"math"
	"slices"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/tile"
)

// Cells takes cells in any order: values is a flat slice of the layer's type, and
// valid has a bit for each, nil for all; a cell without a value takes its place all
// the same. Nothing of it is kept. The tiles that cells fall into are gathered in
// Limits.MemoryBytes. When these are used up, the northernmost row of tiles is
// written: a cell that comes for it later is an error.
//
// Errors: Invalid CELL_OFF_GRID, DUPLICATE_CELL and INVALID_ARGUMENT (too late),
// Limit LIMIT_EXCEEDED, and those of the store.
func (s *Stream) Cells(rows, cols []int32, values any, valid []uint64) error {
	if err := s.count(len(rows) * s.layer.StoredType.Width()); err != nil {
		return err
	}
	if s.cells == nil {
		s.cells = newGatherer(s.layer.StoredType)
	}
	return s.cells.add(s, rows, cols, values, valid)
}

// Points is Cells by the centres of the cells, in units of the CRS. A point may
// lie layer.MaxOffLattice pixels off, on each axis. Errors: as Cells, and Invalid
// CELL_OFF_GRID for one that lies farther off or is no number.
func (s *Stream) Points(x, y []float64, values any, valid []uint64) error {
	g := s.layer.Grid
	rows, cols := make([]int32, len(x)), make([]int32, len(x))
	for i := range x {
		col, row := (x[i]-g.OriginX)/g.StepX-0.5, (g.OriginY-y[i])/g.StepY-0.5
		c, r := math.Round(col), math.Round(row)
		// Said so that NaN is refused.
		if !(math.Abs(col-c) <= layer.MaxOffLattice && math.Abs(row-r) <= layer.MaxOffLattice) {
			return fault.New(fault.Invalid, fault.CellOffGrid,
				"layer %q: the point x %v, y %v is no centre of a cell: it would be row %.6g, column %.6g, and may be off by %v", s.layer.Name, x[i], y[i], row, col, layer.MaxOffLattice).
				With("layer", s.layer.Name).With("x", x[i]).With("y", y[i]).With("limit_pixels", layer.MaxOffLattice)
		}
		if !(c >= 0 && r >= 0 && c < float64(g.Cols) && r < float64(g.Rows)) {
			return offGrid(s.layer, "x %v, y %v", x[i], y[i])
		}
		rows[i], cols[i] = int32(r), int32(c)
	}
	return s.Cells(rows, cols, values, valid)
}

func offGrid(l layer.Layer, format string, args ...any) *fault.Error {
	args = append([]any{l.Name}, append(args, l.Grid.Rows, l.Grid.Cols)...)
	return fault.New(fault.Invalid, fault.CellOffGrid, "layer %q: the cell at "+format+" is outside of the grid of %d × %d cells", args...).With("layer", l.Name)
}

// gatherer puts cells into tiles.
type gatherer interface {
	add(s *Stream, rows, cols []int32, values any, valid []uint64) error
	// flush writes every tile that is open.
	flush(s *Stream) error
}

func newGatherer(t layer.DataType) gatherer {
	switch t {
	case layer.Uint8:
		return newOpenTiles[uint8]()
	case layer.Int8:
		return newOpenTiles[int8]()
	case layer.Uint16:
		return newOpenTiles[uint16]()
	case layer.Int16:
		return newOpenTiles[int16]()
	case layer.Uint32:
		return newOpenTiles[uint32]()
	case layer.Int32:
		return newOpenTiles[int32]()
	case layer.Int64:
		return newOpenTiles[int64]()
	case layer.Float32:
		return newOpenTiles[float32]()
	default:
		return newOpenTiles[float64]()
	}
}

// openTile is a tile that cells may still come for.
type openTile[T layer.Value] struct {
	row, col int32
	values   []T
	valid    []uint64
	taken    []uint64 // the cells that came, with a value or without
}

// openTiles are the tiles of a stream of cells.
type openTiles[T layer.Value] struct {
	open map[[2]int32]*openTile[T]
	last *openTile[T]
	// Rows of tiles below this one are written.
	next int32
	free chan *openTile[T]
}

func newOpenTiles[T layer.Value]() *openTiles[T] {
	return &openTiles[T]{open: map[[2]int32]*openTile[T]{}, free: make(chan *openTile[T], 64)}
}

func tileBytes[T layer.Value]() int64 {
	return int64(tile.Cells*layer.TypeOf[T]().Width() + 2*tile.Cells/8)
}

func (o *openTiles[T]) add(s *Stream, rows, cols []int32, values any, valid []uint64) error {
	of, ok := values.([]T)
	if !ok || len(of) != len(rows) || len(cols) != len(rows) {
		return fault.New(fault.Internal, fault.Bug, "internal error")
	}
	gridRows, gridCols := uint32(s.layer.Grid.Rows), uint32(s.layer.Grid.Cols)
	for i, row := range rows {
		col := cols[i]
		if uint32(row) >= gridRows || uint32(col) >= gridCols {
			return offGrid(s.layer, "row %d, column %d", row, col).With("row", row).With("col", col)
		}
		t := o.last
		if t == nil || t.row != row/tile.Side || t.col != col/tile.Side {
			var err error
			if t, err = o.tile(s, row, col); err != nil {
				return err
			}
			o.last = t
		}
		at := row%tile.Side*tile.Side + col%tile.Side
		word, bit := at>>6, uint64(1)<<(at&63)
		if t.taken[word]&bit != 0 {
			return fault.New(fault.Invalid, fault.DuplicateCell, "layer %q: the cell at row %d, column %d is sent twice", s.layer.Name, row, col).
				With("layer", s.layer.Name).With("row", row).With("col", col)
		}
		t.taken[word] |= bit
		if valid == nil || valid[i>>6]>>(i&63)&1 == 1 {
			t.values[at] = of[i]
			t.valid[word] |= bit
		}
	}
	return nil
}

// tile gives the open tile of a cell, and makes room for it.
func (o *openTiles[T]) tile(s *Stream, row, col int32) (*openTile[T], error) {
	place := [2]int32{row / tile.Side, col / tile.Side}
	if t := o.open[place]; t != nil {
		return t, nil
	}
	if place[0] < o.next {
		return nil, fault.New(fault.Invalid, fault.InvalidArgument,
			"layer %q: the cell at row %d, column %d comes too late: rows below %d are written, since the memory for cells out of order (%d bytes) was used up; send them by row, or in blocks",
			s.layer.Name, row, col, o.next*tile.Side, s.owner.limits.MemoryBytes).
			With("layer", s.layer.Name).With("row", row).With("col", col).With("limit", s.owner.limits.MemoryBytes)
	}
	for int64(len(o.open)+1)*tileBytes[T]() > s.owner.limits.MemoryBytes {
		lowest := int32(math.MaxInt32)
		for p := range o.open {
			lowest = min(lowest, p[0])
		}
		if lowest >= place[0] {
			return nil, fault.New(fault.Limit, fault.LimitExceeded,
				"layer %q: its cells fall into more than %d tiles at once, which need %d bytes and may take %d; send them by row, or in blocks",
				s.layer.Name, len(o.open), int64(len(o.open)+1)*tileBytes[T](), s.owner.limits.MemoryBytes).
				With("layer", s.layer.Name).With("value", int64(len(o.open)+1)*tileBytes[T]()).With("limit", s.owner.limits.MemoryBytes)
		}
		if err := o.write(s, lowest); err != nil {
			return nil, err
		}
		o.next = lowest + 1
	}
	var t *openTile[T]
	select {
	case t = <-o.free:
		clear(t.valid)
		clear(t.taken)
	default:
		t = &openTile[T]{values: make([]T, tile.Cells), valid: make([]uint64, tile.Cells/64), taken: make([]uint64, tile.Cells/64)}
	}
	t.row, t.col = place[0], place[1]
	o.open[place] = t
	return t, nil
}

// write writes the open tiles of a row of tiles.
func (o *openTiles[T]) write(s *Stream, row int32) error {
	var cols []int32
	for p := range o.open {
		if p[0] == row {
			cols = append(cols, p[1])
		}
	}
	slices.Sort(cols)
	for _, col := range cols {
		t := o.open[[2]int32{row, col}]
		delete(o.open, [2]int32{row, col})
		if o.last == t {
			o.last = nil
		}
		err := s.put(job{row: row, col: col, values: t.values, valid: t.valid, after: func() {
			select {
			case o.free <- t:
			default:
			}
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *openTiles[T]) flush(s *Stream) error {
	rows := map[int32]bool{}
	for p := range o.open {
		rows[p[0]] = true
	}
	order := make([]int32, 0, len(rows))
	for row := range rows {
		order = append(order, row)
	}
	slices.Sort(order)
	for _, row := range order {
		if err := o.write(s, row); err != nil {
			return err
		}
	}
	return nil
}
