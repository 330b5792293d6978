package pgstore

import (
	"encoding/binary"
	"math"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// offLatticePixels is how far a stored coordinate may lie from the lattice, in
// pixels, and still name its cell: what text formats and float32 lose, and far
// below the half pixel of a registration error.
const offLatticePixels = 0.05

// cellCodec makes what reads the cells of a stored type.
type cellCodec struct {
	chunk    func(cells int) *layer.Chunk
	decoder  func(layer.CellRequest) cellDecoder
	unpacker func(request layer.CellRequest, colBytes int, chunk *layer.Chunk) cellUnpacker
}

// cellCodecs are the types of value columns that can be read.
var cellCodecs = map[layer.DataType]cellCodec{
	layer.Float64: codecOf(float8Of, bulkFloat8),
	layer.Float32: codecOf(float4Of, bulkFloat4),
	layer.Int16:   codecOf(int2Of, bulkInt2),
	layer.Int32:   codecOf(int4Of, bulkInt4),
	layer.Int64:   codecOf(int8Of, bulkInt8),
}

func codecOf[T layer.Value](value func([]byte) T, bulk func([]T, []byte)) cellCodec {
	return cellCodec{
		chunk: layer.NewChunk[T],
		decoder: func(request layer.CellRequest) cellDecoder {
			d := &cellDecoderOf[T]{layer: request.Layer, duplicates: request.Duplicates, value: value, missing: layer.MissingOf[T](request.Layer)}
			if !request.Layer.HasIndices && request.Duplicates == layer.DuplicatesError {
				d.left, d.seen = request.Window.ColStart, make([]uint64, (request.Window.Cols()+63)/64)
			}
			if request.Layer.Registration == grid.RegistrationCenter {
				d.corner = 0.5
			}
			return d
		},
		unpacker: func(request layer.CellRequest, colBytes int, chunk *layer.Chunk) cellUnpacker {
			chunk.Runs, chunk.Values = chunk.Runs[:0], chunk.Values.([]T)[:0]
			return &cellUnpackerOf[T]{
				request: request, chunk: chunk, bulk: bulk, value: value, missing: layer.MissingOf[T](request.Layer), colBytes: colBytes,
			}
		},
	}
}

// cellDecoder reads rows of (row, col, value) in binary format into chunks, and
// checks each one. It lives as long as its stream.
type cellDecoder interface {
	// decode fills the chunk until it is full or the rows end. It gives the
	// number of rows that it took.
	decode(rows *pgconn.ResultReader, chunk *layer.Chunk) (taken int64, full bool, err error)
	// finish puts what was held back into the last chunk, which is not full.
	finish(chunk *layer.Chunk)
}

// cellDecoderOf decodes values of type T.
type cellDecoderOf[T layer.Value] struct {
	layer      layer.Layer
	duplicates layer.Duplicates
	value      func([]byte) T
	missing    layer.Missing[T]
	// corner is what a stored coordinate has to lose to be that of a corner,
	// in pixels.
	corner float64
	// The cell before: rows are in order, so a cell stored twice comes twice
	// in a row. Not so where stored coordinates wobble: seen marks the columns
	// of the row at hand, from left on.
	any              bool
	lastRow, lastCol int64
	left             int64
	seen             []uint64
	// held is the cell before under a rule other than to refuse: more rows of it
	// may come. n counts its values so far.
	held T
	sum  float64
	// scaled is the sum of values by 2^-512, for sums that float64 cannot hold.
	scaled float64
	n      int64
}

func (d *cellDecoderOf[T]) decode(rows *pgconn.ResultReader, chunk *layer.Chunk) (taken int64, full bool, err error) {
	size := cap(chunk.Values.([]T))
	values, runs := chunk.Values.([]T)[:0], chunk.Runs[:0]
	defer func() { chunk.Runs, chunk.Values = runs, values }()
	indices, refuse := d.layer.HasIndices, d.duplicates == layer.DuplicatesError
	for len(values) < size && rows.NextRow() {
		raw := rows.Values()
		var row, col int64
		if indices {
			row, col, err = d.byIndex(raw[0], raw[1])
		} else {
			row, col, err = d.byCoordinate(raw[0], raw[1])
		}
		if err != nil {
			return taken, false, err
		}
		again := d.any && row == d.lastRow && col == d.lastCol
		if refuse && (again || d.seen != nil && d.mark(row, col)) {
			return taken, false, fault.New(fault.Precondition, fault.DuplicateCell,
				"layer %q: the cell at row %d, column %d is stored twice", d.layer.Name, row, col).
				With("layer", d.layer.Name).With("row", row).With("col", col)
		}
		if !refuse && !again {
			runs, values = d.release(runs, values)
		}
		d.any, d.lastRow, d.lastCol = true, row, col
		taken++
		if raw[2] == nil {
			continue
		}
		switch v := d.value(raw[2]); {
		case d.missing.Is(v):
		case refuse:
			runs, values = layer.Append(runs, values, int32(row), int32(col), v)
		default:
			d.hold(v)
		}
	}
	return taken, len(values) == size, nil
}

// mark marks a column of a row, and reports whether it was marked before.
func (d *cellDecoderOf[T]) mark(row, col int64) bool {
	if row != d.lastRow {
		clear(d.seen)
	}
	at := col - d.left
	if at < 0 || at >= int64(len(d.seen))*64 {
		return false // not of the window: the engine leaves it out
	}
	was := d.seen[at>>6]&(1<<(at&63)) != 0
	d.seen[at>>6] |= 1 << (at & 63)
	return was
}

// hold takes one more value of the cell at hand, by the rule.
func (d *cellDecoderOf[T]) hold(v T) {
	d.n++
	d.sum += float64(v)
	d.scaled += float64(float64(v) * 0x1p-512)
	if d.n == 1 || d.duplicates == layer.DuplicatesLast {
		d.held = v
	}
}

// release lets go of the cell before, if it has a value.
func (d *cellDecoderOf[T]) release(runs []layer.Run, values []T) ([]layer.Run, []T) {
	v := d.held
	if d.duplicates == layer.DuplicatesMean && d.n > 1 {
		mean := d.sum / float64(d.n)
		if math.IsInf(d.sum, 0) || math.IsNaN(d.sum) {
			mean = d.scaled / float64(d.n) * 0x1p512
		}
		v = T(mean)
	}
	// A mean can be NaN, of infinities of both signs.
	if d.n > 0 && !d.missing.Is(v) {
		runs, values = layer.Append(runs, values, int32(d.lastRow), int32(d.lastCol), v)
	}
	d.n, d.sum, d.scaled = 0, 0, 0
	return runs, values
}

func (d *cellDecoderOf[T]) finish(chunk *layer.Chunk) {
	if d.duplicates != layer.DuplicatesError {
		chunk.Runs, chunk.Values = d.release(chunk.Runs, chunk.Values.([]T))
	}
}

// byIndex gives the cell on the north-up grid from the stored indices.
func (d *cellDecoderOf[T]) byIndex(rawRow, rawCol []byte) (row, col int64, err error) {
	if rawRow == nil || rawCol == nil {
		return 0, 0, offGrid(d.layer, "layer %q stores a cell whose row_idx or col_idx is NULL", d.layer.Name).
			With("row_idx", textOf(rawRow)).With("col_idx", textOf(rawCol))
	}
	return onGrid(d.layer, intOf(rawRow), intOf(rawCol))
}

// onGrid gives the cell on the north-up grid from its stored indices.
func onGrid(l layer.Layer, row, col int64) (int64, int64, error) {
	if uint64(row) >= uint64(l.Grid.Rows) || uint64(col) >= uint64(l.Grid.Cols) {
		return 0, 0, offGrid(l, "layer %q stores a cell at row_idx %d, col_idx %d, and its grid has %d rows and %d columns",
			l.Name, row, col, l.Grid.Rows, l.Grid.Cols).
			With("row_idx", row).With("col_idx", col)
	}
	if l.SouthUp {
		row = int64(l.Grid.Rows) - 1 - row
	}
	return row, col, nil
}

// byCoordinate gives the cell from the stored coordinates.
func (d *cellDecoderOf[T]) byCoordinate(rawY, rawX []byte) (row, col int64, err error) {
	if rawY == nil || rawX == nil {
		return 0, 0, offGrid(d.layer, "layer %q stores a cell whose x_coord or y_coord is NULL", d.layer.Name)
	}
	g := d.layer.Grid
	x, y := floatOf(rawX), floatOf(rawY)
	c, r := (x-g.OriginX)/g.StepX-d.corner, (g.OriginY-y)/g.StepY-d.corner
	nearC, nearR := math.Round(c), math.Round(r)
	// Written so that NaN is off the lattice.
	if !(math.Abs(c-nearC) <= offLatticePixels && math.Abs(r-nearR) <= offLatticePixels) {
		return 0, 0, offGrid(d.layer, "layer %q stores a cell at x_coord %v, y_coord %v, which is %.3g, %.3g pixels off its lattice, and the limit is %v",
			d.layer.Name, x, y, c-nearC, r-nearR, offLatticePixels).
			With("x_coord", x).With("y_coord", y).With("limit", offLatticePixels)
	}
	if nearC < 0 || nearC >= float64(g.Cols) || nearR < 0 || nearR >= float64(g.Rows) {
		return 0, 0, offGrid(d.layer, "layer %q stores a cell at x_coord %v, y_coord %v, which is row %.0f, column %.0f of a grid of %d rows and %d columns",
			d.layer.Name, x, y, nearR, nearC, g.Rows, g.Cols).
			With("x_coord", x).With("y_coord", y)
	}
	return int64(nearR), int64(nearC), nil
}

func offGrid(l layer.Layer, format string, args ...any) *fault.Error {
	return fault.New(fault.Precondition, fault.CellOffGrid, format, args...).With("layer", l.Name)
}

func textOf(raw []byte) any {
	if raw == nil {
		return "NULL"
	}
	return intOf(raw)
}

// intOf reads int2, int4 or int8 in binary format.
func intOf(raw []byte) int64 {
	switch len(raw) {
	case 4:
		return int64(int32(binary.BigEndian.Uint32(raw)))
	case 8:
		return int64(binary.BigEndian.Uint64(raw))
	default:
		return int64(int16(binary.BigEndian.Uint16(raw)))
	}
}

// floatOf reads float4 or float8 in binary format.
func floatOf(raw []byte) float64 {
	if len(raw) == 4 {
		return float64(float4Of(raw))
	}
	return float8Of(raw)
}

func float8Of(raw []byte) float64 { return math.Float64frombits(binary.BigEndian.Uint64(raw)) }
func float4Of(raw []byte) float32 { return math.Float32frombits(binary.BigEndian.Uint32(raw)) }
func int2Of(raw []byte) int16     { return int16(binary.BigEndian.Uint16(raw)) }
func int4Of(raw []byte) int32     { return int32(binary.BigEndian.Uint32(raw)) }
func int8Of(raw []byte) int64     { return int64(binary.BigEndian.Uint64(raw)) }
