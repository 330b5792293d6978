package pgstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/bitmap"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/tile"
)

// A tiled layer is read in slices as well: a slice is a row of its tiles, or a part
// of that where memory is short. Which tiles there are is asked first, so that
// stretches without any cost nothing.

// tileCodecs make what reads the tiles of a stored type.
var tileCodecs = map[layer.DataType]tileCodec{
	layer.Uint8: tilesOf[uint8](), layer.Int8: tilesOf[int8](), layer.Uint16: tilesOf[uint16](), layer.Int16: tilesOf[int16](),
	layer.Uint32: tilesOf[uint32](), layer.Int32: tilesOf[int32](), layer.Int64: tilesOf[int64](),
	layer.Float32: tilesOf[float32](), layer.Float64: tilesOf[float64](),
}

type tileCodec struct {
	chunk  func(cells int) *layer.Chunk
	placer func(layer.Layer) (tilePlacer, error)
}

// tilePlacer puts tiles into chunks. It is safe for concurrent use.
type tilePlacer interface {
	// begin makes a chunk a dense window without a cell.
	begin(c *layer.Chunk, w grid.Window)
	// place puts in the part of a tile that is in the window.
	place(s *tile.Scratch, e tile.Encoded, c *layer.Chunk, w grid.Window) (cells int64, err error)
	// move puts in cells of a pixel table, which are in the window.
	move(pixels layer.Layer, from, c *layer.Chunk, w grid.Window) error
	// end leaves out rows without a cell. cells is the number of all.
	end(c *layer.Chunk, w grid.Window, cells int64)
}

func tilesOf[T layer.Value]() tileCodec {
	return tileCodec{
		chunk: layer.NewChunk[T],
		placer: func(l layer.Layer) (tilePlacer, error) {
			d, err := tile.NewDecoder[T](l)
			return tilePlacerOf[T]{d}, err
		},
	}
}

type tilePlacerOf[T layer.Value] struct{ decoder *tile.Decoder[T] }

func (tilePlacerOf[T]) begin(c *layer.Chunk, w grid.Window) {
	cells := int(w.Cells())
	values, _ := c.Values.([]T)
	if cap(values) < cells {
		values = make([]T, cells)
	}
	c.Values, c.Runs = values[:cells], c.Runs[:0]
	c.Valid = slices.Grow(c.Valid[:0], bitmap.Words(cells))[:bitmap.Words(cells)]
	clear(c.Valid)
}

func (p tilePlacerOf[T]) place(s *tile.Scratch, e tile.Encoded, c *layer.Chunk, w grid.Window) (int64, error) {
	return p.decoder.Place(s, e, w, c.Values.([]T), c.Valid)
}

func (tilePlacerOf[T]) move(pixels layer.Layer, from, c *layer.Chunk, w grid.Window) error {
	return moveCells(pixels, from, c.Values.([]T), c.Valid, func(row, col int32) (at, room int) {
		left := int64(col) - w.ColStart
		return int((int64(row)-w.RowStart)*w.Cols() + left), int(w.Cols() - left)
	})
}

func (tilePlacerOf[T]) end(c *layer.Chunk, w grid.Window, cells int64) {
	values, width := c.Values.([]T), int(w.Cols())
	to := 0
	for row := range int(w.Rows()) {
		from := row * width
		if cells < w.Cells() && bitmap.Next(c.Valid, from, from+width, 0) == from+width {
			continue
		}
		if to < from {
			copy(values[to:to+width], values[from:from+width])
			bitmap.Move(c.Valid, to, from, width)
		}
		c.Runs = append(c.Runs, layer.Run{Row: int32(w.RowStart) + int32(row), Col: int32(w.ColStart), Cells: int32(width)})
		to += width
	}
	c.Values = values[:to]
	if c.Valid = c.Valid[:bitmap.Words(to)]; to&63 != 0 {
		c.Valid[to>>6] &= bitmap.Low(to & 63)
	}
}

// tileColumns are the columns of a table of tiles.
var tileColumns = map[string]uint32{
	"tile_row": pgtype.Int4OID, "tile_col": pgtype.Int4OID, "cells": pgtype.Int4OID,
	"min": pgtype.Float8OID, "max": pgtype.Float8OID, "valid": pgtype.ByteaOID, "data": pgtype.ByteaOID,
}

// checkTiles says whether tiles can be read from the table as it is now. Errors:
// Conflict LAYER_CHANGED.
func (t cellTable) checkTiles(l layer.Layer) error {
	if t.kind != "r" && t.kind != "p" {
		return changed(l, "its tiles are no longer in a table")
	}
	if _, ok := tileCodecs[l.StoredType]; !ok {
		return changed(l, "its tiles hold values of type %s", l.StoredType)
	}
	for name, oid := range tileColumns {
		if t.types[name] != oid {
			return changed(l, "the column %s of its tiles is gone or of another type", name)
		}
	}
	return nil
}

// tileRow is what a layer has of one row of tiles: its place, and the first and
// the last column of tiles, in the window that is asked for.
type tileRow struct{ row, first, last int32 }

// where is the condition for the tiles that a window of a layer touches.
func (q *cellQuery) whereTiles(w grid.Window) string {
	bound := func(v int64) string { return q.bind(pgtype.Int4OID, strconv.FormatInt(v, 10)) }
	return " WHERE tile_row >= " + bound(w.RowStart/tile.Side) + " AND tile_row <= " + bound((w.RowStop-1)/tile.Side) +
		" AND tile_col >= " + bound(w.ColStart/tile.Side) + " AND tile_col <= " + bound((w.ColStop-1)/tile.Side) + " AND cells <> 0"
}

// tileRows asks which tiles there are in a request's window, from the north.
func tileRows(ctx context.Context, tx pgx.Tx, request layer.CellRequest) (found []tileRow, err error) {
	l, q := request.Layer, cellQuery{}
	q.sql = "SELECT tile_row, min(tile_col), max(tile_col) FROM " + quoted(l.Table.Schema, l.Table.Name) +
		q.whereTiles(request.Window) + " GROUP BY tile_row ORDER BY tile_row"
	rows := tx.Conn().PgConn().ExecParams(ctx, q.sql, q.args, q.oids, nil, binaryFormat)
	for rows.NextRow() {
		raw := rows.Values()
		found = append(found, tileRow{int32(intOf(raw[0])), int32(intOf(raw[1])), int32(intOf(raw[2]))})
	}
	return found, closeRows(rows, l.Name, int64(len(found)))
}

// lookup asks which tiles the tiled streams have, over the first connection.
func (s *slicer) lookup(ctx context.Context, lines []*cellLine) (err error) {
	for _, t := range s.streams {
		if t.placer == nil {
			continue
		}
		if t.tiles, err = tileRows(ctx, lines[0].tx, t.request); err != nil {
			return err
		}
		if t.lagging, err = laggingIn(ctx, lines[0].tx, t.request); err != nil {
			return err
		}
		t.tiles = t.lagging.join(t.tiles)
		if !t.more() {
			close(t.ready)
		}
	}
	return nil
}

// cutTiles gives the next slice of a tiled stream: rows of one row of tiles, as
// many as a chunk holds and equal parts of it, and the columns in which there are
// tiles.
func (t *slicedStream) cutTiles() grid.Window {
	at := t.tiles[0]
	all := t.request.Window
	w := grid.Window{
		RowStart: int64(at.row) * tile.Side, RowStop: (int64(at.row) + 1) * tile.Side,
		ColStart: int64(at.first) * tile.Side, ColStop: (int64(at.last) + 1) * tile.Side,
	}.Intersect(all)
	most := max(1, int64(t.request.ChunkCells)/w.Cols())
	parts := (w.Rows() + most - 1) / most
	height := (w.Rows() + parts - 1) / parts
	w.RowStart = max(w.RowStart, t.next)
	if w.RowStop <= w.RowStart+height {
		t.tiles = t.tiles[1:]
	} else {
		w.RowStop = w.RowStart + height
	}
	t.next = w.RowStop
	return w
}

// readTiles fills the chunk of a slice.
func (s cellSlice) readTiles(ctx context.Context, line *cellLine) error {
	l, w := s.request.Layer, s.request.Window
	q := cellQuery{}
	q.sql = "SELECT " + tileFields(l) + " FROM " + quoted(l.Table.Schema, l.Table.Name) +
		q.whereTiles(w) + " ORDER BY tile_row, tile_col"
	placer := s.from.placer
	placer.begin(s.chunk, w)
	rows, err := line.ask(ctx, q)
	if err != nil {
		return err
	}
	cells, taken, last := int64(0), int64(0), int32(-1)
	for rows.NextRow() {
		e, err := tileOf(l, rows.Values())
		if err != nil {
			return err
		}
		if e.Col <= last {
			return fault.New(fault.Corrupt, fault.DataCorrupt, "layer %q: the tile at tile_row %d, tile_col %d is stored twice", l.Name, e.Row, e.Col).
				With("layer", l.Name).With("tile_row", e.Row).With("tile_col", e.Col)
		}
		last = e.Col
		taken++
		if s.from.lagging.has(e.Row, e.Col) {
			continue
		}
		n, err := placer.place(&line.scratch, e, s.chunk, w)
		if err != nil {
			return err
		}
		cells += n
	}
	if err := closeRows(rows, l.Name, taken); err != nil {
		return err
	}
	n, err := s.from.lagging.read(ctx, line, func(from *layer.Chunk) error { return placer.move(s.from.lagging.pixels, from, s.chunk, w) }, w)
	if err != nil {
		return err
	}
	cells += n
	placer.end(s.chunk, w, cells)
	s.promise <- s.chunk
	return nil
}

// tileFields are what tileOf reads. Bytes that are too many for any tile stay where
// they are: a table that somebody else wrote can hold a gigabyte in one.
func tileFields(l layer.Layer) string {
	return fmt.Sprintf(`tile_row, tile_col, cells, min, max,
		CASE WHEN octet_length(valid) <= %d THEN valid END, CASE WHEN octet_length(data) <= %d THEN data END, octet_length(valid), octet_length(data)`,
		tile.ValidBytes, tile.MaxDataBytes(l.StoredType))
}

// tileOf reads a row of a table of tiles. Errors: Corrupt DATA_CORRUPT, naming the
// tile.
func tileOf(l layer.Layer, raw [][]byte) (tile.Encoded, error) {
	e := tile.Encoded{Row: int32(intOf(raw[0])), Col: int32(intOf(raw[1]))}
	for i, name := range []string{"cells", "min", "max"} {
		if raw[2+i] == nil {
			return e, fault.New(fault.Corrupt, fault.DataCorrupt, "layer %q: the tile at tile_row %d, tile_col %d has no %s", l.Name, e.Row, e.Col, name).
				With("layer", l.Name).With("tile_row", e.Row).With("tile_col", e.Col)
		}
	}
	for i, most := range []int{tile.ValidBytes, tile.MaxDataBytes(l.StoredType)} {
		if stored := raw[7+i]; stored != nil && intOf(stored) > int64(most) {
			name := []string{"valid", "data"}[i]
			return e, fault.New(fault.Corrupt, fault.DataCorrupt, "layer %q: the tile at tile_row %d, tile_col %d has %d bytes of %s, and no tile has more than %d",
				l.Name, e.Row, e.Col, intOf(stored), name, most).
				With("layer", l.Name).With("tile_row", e.Row).With("tile_col", e.Col).With("bytes", intOf(stored)).With("limit", most)
		}
	}
	e.Cells, e.Min, e.Max, e.Valid, e.Data = int32(intOf(raw[2])), floatOf(raw[3]), floatOf(raw[4]), raw[5], raw[6]
	return e, nil
}
