package pgstore

import (
	"bytes"
	"context"
	"hash/maphash"
	"unsafe"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/bitmap"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/internal/tile"
)

// bandTiles is how many tiles are held at once: the cells of a row of tiles of a
// wide layer are read in parts of that width. 128 tiles of float64 take 64 MiB.
const bandTiles = 128

// tileBand is the cells of some tiles of one row of tiles, as a pixel table has
// them: tiles are made of it, and stored ones are held against it. It is for one
// goroutine.
type tileBand interface {
	// load reads the cells of a window that begins at the corner of a tile, lies
	// within one row of tiles, and is no wider than bandTiles. It gives the number
	// of rows of the table that it took. Errors: Precondition CELL_OFF_GRID,
	// DUPLICATE_CELL or NARROWING_LOSS, naming the cell, and as any query.
	load(ctx context.Context, conn *pgconn.PgConn, w grid.Window) (rows int64, err error)
	// tiles is how many tiles the window has; first is the place of its first.
	tiles() (n int, first [2]int32)
	// cells is how many cells with a value tile i has.
	cells(i int) int64
	// withoutValue is how many rows of the table are in the window whose cell has no
	// value; known is false where there may be more of them, since rows with NULL were
	// not read.
	withoutValue() (rows int64, known bool)
	// encode makes tile i. Errors: as tile.Encoder.
	encode(i int) (tile.Encoded, error)
	// raw gives what tile.Trial tries.
	raw(i int) (values any, valid []uint64)
	// differ holds tile i against the stored one, nil where none is, and names at
	// most so many cells that differ.
	differ(i int, stored *tile.Encoded, most int) []migrate.DifferingRow
	// hash is of the cells of tile i, hashStored of those of the stored tile that
	// differ was called with last.
	hash(seed maphash.Seed, i int) uint64
	hashStored(seed maphash.Seed) (hash uint64, cells int64)
}

// newTileBand makes a band. pixels is how the table is read, table what it looks
// like, tiled the layer that the tiles are of; tiled needs a Tiling, but for raw.
func newTileBand(pixels layer.Layer, table cellTable, tiled layer.Layer) (tileBand, error) {
	switch tiled.StoredType {
	case layer.Uint8:
		return newBandOf[uint8](pixels, table, tiled)
	case layer.Int8:
		return newBandOf[int8](pixels, table, tiled)
	case layer.Uint16:
		return newBandOf[uint16](pixels, table, tiled)
	case layer.Int16:
		return newBandOf[int16](pixels, table, tiled)
	case layer.Uint32:
		return newBandOf[uint32](pixels, table, tiled)
	case layer.Int32:
		return newBandOf[int32](pixels, table, tiled)
	case layer.Int64:
		return newBandOf[int64](pixels, table, tiled)
	case layer.Float32:
		return newBandOf[float32](pixels, table, tiled)
	default:
		return newBandOf[float64](pixels, table, tiled)
	}
}

type bandOf[T layer.Value] struct {
	pixels  layer.Layer
	table   cellTable
	tiled   layer.Layer
	codec   cellCodec
	encoder tile.Encoder
	decoder *tile.Decoder[T]
	scratch tile.Scratch
	chunk   *layer.Chunk
	window  grid.Window
	// taken is how many rows were read of the window, all that there are if every is
	// set.
	taken int64
	every bool
	// values and valid are those of one tile after the other.
	values []T
	valid  []uint64
	// What differ decoded last: nil for none.
	stored      []T
	storedValid []uint64
	storedAt    int
	storedRoom  [tile.Cells / 64]uint64
}

func newBandOf[T layer.Value](pixels layer.Layer, table cellTable, tiled layer.Layer) (*bandOf[T], error) {
	b := &bandOf[T]{pixels: pixels, table: table, tiled: tiled, codec: cellCodecs[pixels.StoredType]}
	if err := table.check(layer.CellRequest{Layer: pixels}); err != nil {
		return nil, err
	}
	b.chunk = b.codec.chunk(tile.Cells)
	if tiled.Tiling == "" {
		return b, nil
	}
	var err error
	if b.encoder, err = tile.NewEncoder(tiled); err != nil {
		return nil, err
	}
	b.decoder, err = tile.NewDecoder[T](tiled)
	return b, err
}

func (b *bandOf[T]) tiles() (int, [2]int32) {
	n := int(b.window.Cols()+tile.Side-1) / tile.Side
	return n, [2]int32{int32(b.window.RowStart / tile.Side), int32(b.window.ColStart / tile.Side)}
}

func (b *bandOf[T]) load(ctx context.Context, conn *pgconn.PgConn, w grid.Window) (rows int64, err error) {
	b.window = w
	n, _ := b.tiles()
	if len(b.values) < n*tile.Cells {
		b.values, b.valid = make([]T, n*tile.Cells), make([]uint64, n*tile.Cells/64)
	}
	clear(b.valid)
	b.every = false
	request := layer.CellRequest{Layer: b.pixels, Window: w, ChunkCells: max(tile.Cells, int(w.Cols()))}
	if canSlice(request, b.table) {
		b.taken, err = b.loadPacked(ctx, conn, request)
	} else {
		b.taken, err = b.loadRows(ctx, conn, request)
	}
	return b.taken, err
}

// place is where a cell of the window goes.
func (b *bandOf[T]) place(row, col int32) (at, room int) {
	r, c := int(row)-int(b.window.RowStart), int(col)-int(b.window.ColStart)
	return c/tile.Side*tile.Cells + r*tile.Side + c%tile.Side, tile.Side - c%tile.Side
}

// loadPacked reads a row of the layer as one packed row (see cells_slice.go). From
// the first one on that lacks a cell, columns are asked for too. Rows without a
// value are not among those that it counts.
func (b *bandOf[T]) loadPacked(ctx context.Context, conn *pgconn.PgConn, request layer.CellRequest) (taken int64, err error) {
	ask := func(q cellQuery) *pgconn.ResultReader {
		return conn.ExecParams(ctx, q.sql, q.args, q.oids, nil, binaryFormat)
	}
	beyond := ask(beyondQuery(request))
	for beyond.NextRow() {
		if _, _, err := onGrid(b.pixels, intOf(beyond.Values()[0]), intOf(beyond.Values()[1])); err != nil {
			return 0, err
		}
	}
	if _, err := beyond.Close(); err != nil {
		return 0, faultOf(err)
	}
	u := b.codec.unpacker(request, packers[b.table.types["col_idx"]].width, b.chunk)
	next := request.Window.RowStart
	if b.table.estimatedRows < 0 || b.table.estimatedRows > 0.99*float64(b.pixels.Grid.Rows)*float64(b.pixels.Grid.Cols) {
		rows, told := ask(completeQuery(request, b.table)), int64(0)
		for rows.NextRow() {
			told++
			complete, err := u.complete(next, rows.Values())
			if err != nil {
				return taken, err
			}
			if !complete {
				break
			}
			if err := b.move(); err != nil {
				return taken, err
			}
			next++
			taken += request.Window.Cols()
		}
		if next == request.Window.RowStop {
			b.every = true
			return taken, closeRows(rows, b.pixels.Name, told)
		}
		if _, err := rows.Close(); err != nil {
			return taken, faultOf(err)
		}
		request.Window.RowStart = next
	}
	rows, told := ask(explicitQuery(request, b.table)), int64(0)
	for rows.NextRow() {
		told++
		n, err := u.explicit(rows.Values())
		if err != nil {
			return taken, err
		}
		if err := b.move(); err != nil {
			return taken, err
		}
		taken += int64(n)
	}
	return taken, closeRows(rows, b.pixels.Name, told)
}

// loadRows reads a row of the table for each cell.
func (b *bandOf[T]) loadRows(ctx context.Context, conn *pgconn.PgConn, request layer.CellRequest) (taken int64, err error) {
	q := newCellQuery(request, b.table)
	rows, decoder := conn.ExecParams(ctx, q.sql, q.args, q.oids, nil, binaryFormat), b.codec.decoder(request)
	for {
		n, full, err := decoder.decode(rows, b.chunk)
		if err != nil {
			return taken, err
		}
		taken += n
		if err := b.move(); err != nil {
			return taken, err
		}
		if !full {
			return taken, closeRows(rows, b.pixels.Name, taken)
		}
	}
}

// move takes the cells of the chunk, and empties it.
func (b *bandOf[T]) move() error {
	err := moveCells(b.pixels, b.chunk, b.values, b.valid, b.place)
	empty(b.chunk)
	return err
}

func (b *bandOf[T]) raw(i int) (any, []uint64) { return b.part(i) }

func (b *bandOf[T]) part(i int) ([]T, []uint64) {
	return b.values[i*tile.Cells : (i+1)*tile.Cells], b.valid[i*tile.Cells/64 : (i+1)*tile.Cells/64]
}

func (b *bandOf[T]) cells(i int) int64 {
	_, valid := b.part(i)
	return bitmap.Ones(valid)
}

func (b *bandOf[T]) withoutValue() (rows int64, known bool) {
	n, _ := b.tiles()
	return b.taken - bitmap.Ones(b.valid[:n*tile.Cells/64]), b.every
}

func (b *bandOf[T]) at(i int) (row, col int32) {
	_, first := b.tiles()
	return first[0], first[1] + int32(i)
}

func (b *bandOf[T]) encode(i int) (tile.Encoded, error) {
	row, col := b.at(i)
	values, valid := b.part(i)
	return b.encoder.Encode(row, col, values, valid)
}

// whole are the bits of a tile all of whose cells have a value, as far as they are
// inside the grid.
func (b *bandOf[T]) whole(w grid.Window) []uint64 {
	clear(b.storedRoom[:])
	for r := range int(w.Rows()) {
		bitmap.Set(b.storedRoom[:], r*tile.Side, int(w.Cols()))
	}
	return b.storedRoom[:]
}

func (b *bandOf[T]) differ(i int, stored *tile.Encoded, most int) (differing []migrate.DifferingRow) {
	row, col := b.at(i)
	w := tile.Window(b.tiled.Grid, row, col)
	b.stored, b.storedValid, b.storedAt = nil, nil, i
	if stored != nil && stored.Cells > 0 {
		values, valid, err := b.decoder.Decode(&b.scratch, *stored)
		if err != nil {
			return []migrate.DifferingRow{{Row: w.RowStart, Col: w.ColStart, What: "unreadable"}}
		}
		if valid == nil {
			valid = b.whole(w)
		}
		b.stored, b.storedValid = values, valid
	}
	values, valid := b.part(i)
	if b.stored == nil {
		b.storedValid = b.storedRoom[:]
		clear(b.storedValid)
		b.stored = values // none of it counts
	}
	for r := range int(w.Rows()) {
		from, to := r*tile.Side, r*tile.Side+int(w.Cols())
		if sameBits(valid, b.storedValid, from, to) && bitmap.OnesBetween(valid, from, to) == int64(to-from) &&
			bytes.Equal(memoryOf(values[from:to]), memoryOf(b.stored[from:to])) {
			continue
		}
		for at := from; at < to; at++ {
			here, there := bitmap.Load(valid, at, 1) == 1, bitmap.Load(b.storedValid, at, 1) == 1
			d := migrate.DifferingRow{Row: w.RowStart + int64(r), Col: w.ColStart + int64(at-from)}
			switch {
			case here && !there:
				d.What = "missing"
			case !here && there:
				d.What = "added"
			case here && !bytes.Equal(memoryOf(values[at:at+1]), memoryOf(b.stored[at:at+1])):
				d.What = "changed"
			default:
				continue
			}
			if differing = append(differing, d); len(differing) >= most {
				return differing
			}
		}
	}
	return differing
}

func sameBits(a, b []uint64, from, to int) bool {
	for at := from; at < to; at += 64 {
		n := min(64, to-at)
		if bitmap.Load(a, at, n) != bitmap.Load(b, at, n) {
			return false
		}
	}
	return true
}

func (b *bandOf[T]) hash(seed maphash.Seed, i int) uint64 {
	values, valid := b.part(i)
	return b.hashOf(seed, i, values, valid)
}

func (b *bandOf[T]) hashStored(seed maphash.Seed) (uint64, int64) {
	if b.stored == nil {
		return 0, 0 // it cannot be read
	}
	return b.hashOf(seed, b.storedAt, b.stored, b.storedValid), bitmap.Ones(b.storedValid)
}

// hashOf hashes the cells of a tile that have a value, with their places.
func (b *bandOf[T]) hashOf(seed maphash.Seed, i int, values []T, valid []uint64) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	row, col := b.at(i)
	maphash.WriteComparable(&h, [2]int32{row, col})
	_, _ = h.Write(memoryOf(valid))
	for from := 0; from < tile.Cells; {
		start, stop := bitmap.Run(valid, from, tile.Cells)
		if start >= stop {
			break
		}
		_, _ = h.Write(memoryOf(values[start:stop]))
		from = stop
	}
	return h.Sum64()
}

// memoryOf is the memory of values.
func memoryOf[T layer.Value | uint64](values []T) []byte {
	var v T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*int(unsafe.Sizeof(v))) //nolint:gosec // within the slice
}
