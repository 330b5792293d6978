package pgstore

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rasterloom/rasterloom/internal/layer"
)

// A slice is a run of rows of a layer with no more cells than a chunk holds. It
// is read by one query that the index answers, over whichever connection is
// free, with each row packed into arrays by the server: that takes a quarter off
// the work of the server, and most of ours. See docs/reading.md for what was
// measured.

const (
	// sharedCells is the size of a window from which several connections read
	// it faster than one.
	sharedCells = 1 << 17
	// firstSliceCells is the size of the first slice of a stream, so that its
	// first cells come early. Each next one is twice as large, up to a chunk.
	firstSliceCells = 1 << 13
	// minCorrelation is how well the order on disk has to follow row_idx: an
	// index scan in slices visits each page about once. Where rows lie scattered
	// it visits most pages for each slice, and one sort of the whole is better.
	minCorrelation = 0.9
	// minFilled and maxFilled bound the estimated rows of the table, as a part of
	// the cells of the grid. In an emptier one, most slices would find nothing;
	// in a fuller one, statistics or cells are not what they should be, and rows
	// may be longer than the grid says.
	minFilled, maxFilled = 0.25, 1.5
)

// fitsSlices decides by evidence that costs nothing whether a layer is read in
// slices. The key is what bounds their cells, and what proves rows complete.
func fitsSlices(request layer.CellRequest, table cellTable) bool {
	g := request.Layer.Grid
	filled := table.estimatedRows / (float64(g.Rows) * float64(g.Cols))
	return canSlice(request, table) && math.Abs(table.correlation) >= minCorrelation && filled >= minFilled && filled <= maxFilled
}

// canSlice reports whether slices give the cells rightly, be it slowly.
func canSlice(request layer.CellRequest, table cellTable) bool {
	return request.Layer.HasIndices && (table.kind == "r" || table.kind == "m") && table.keyed &&
		table.notNull["row_idx"] && table.notNull["col_idx"] && request.Window.Cols() <= int64(request.ChunkCells)
}

// slicer deals the slices of a set's streams.
type slicer struct {
	mu      sync.Mutex
	streams []*slicedStream
}

// slicedStream is how far a stream is cut.
type slicedStream struct {
	*CellStream
	// owner is the connection that took the first slice. It has seen the table
	// and planned its queries, which costs a connection that comes new to it as
	// much as reading some thousand cells.
	owner  *cellLine
	next   int64 // first row that is not cut yet
	height int64 // of the next slice, in rows
	// sparse is set while rows lack cells: which columns they have is then asked
	// for, too.
	sparse bool
	// tiles are the rows of tiles of a tiled layer that are not cut yet, or only in
	// part: next is a row in the first of them, or north of it.
	tiles []tileRow
}

// cellSlice is a slice that was cut, with what it is read into.
type cellSlice struct {
	from    *slicedStream
	request layer.CellRequest // of its rows alone
	sparse  bool
	chunk   *layer.Chunk
	promise chan<- *layer.Chunk
}

func (s *slicer) add(stream *CellStream) {
	w := stream.request.Window
	if stream.placer != nil {
		s.streams = append(s.streams, &slicedStream{CellStream: stream})
		return
	}
	s.streams = append(s.streams, &slicedStream{
		CellStream: stream, next: w.RowStart, height: max(1, int64(min(firstSliceCells, stream.request.ChunkCells))/w.Cols()),
		sparse: stream.table.estimatedRows < 0.9*float64(stream.request.Layer.Grid.Rows)*float64(stream.request.Layer.Grid.Cols),
	})
}

func (s *slicer) empty() bool { return len(s.streams) == 0 }

// done reports whether every slice was taken.
func (s *slicer) done() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.streams {
		if t.more() {
			return false
		}
	}
	return true
}

// available reports whether a slice could be taken now.
func (s *slicer) available() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.streams, func(t *slicedStream) bool { return t.more() && len(t.free) > 0 })
}

// disown leaves the streams of a connection that goes to the others.
func (s *slicer) disown(l *cellLine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.streams {
		if t.owner == l {
			t.owner = nil
		}
	}
}

// more reports whether a part of the stream is not cut yet.
func (t *slicedStream) more() bool {
	if t.placer != nil {
		return len(t.tiles) > 0
	}
	return t.next < t.request.Window.RowStop
}

// take cuts the next slice for a connection, of a stream of its own or one
// that nobody has begun, else of any other. Among these it is the one that has
// least in hand: the consumer takes all streams at one pace, and waits for the
// slowest.
func (s *slicer) take(l *cellLine) (cellSlice, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var from, others *slicedStream
	for _, t := range s.streams {
		best := &from
		if t.owner != nil && t.owner != l {
			best = &others
		}
		if t.more() && len(t.free) > 0 && (*best == nil || len(t.free) > len((*best).free)) {
			*best = t
		}
	}
	if from == nil {
		from = others
	}
	if from == nil {
		return cellSlice{}, false
	}
	if from.owner == nil {
		from.owner = l
	}
	// Only take empties the channel, and under the lock.
	slice := cellSlice{from: from, request: from.request, sparse: from.sparse, chunk: <-from.free, promise: from.promise()}
	if w := &slice.request.Window; from.placer != nil {
		*w = from.cutTiles()
	} else {
		w.RowStart, w.RowStop = from.next, min(from.next+from.height, w.RowStop)
		from.next = w.RowStop
		from.height = min(2*from.height, int64(from.request.ChunkCells)/w.Cols())
	}
	if !from.more() {
		close(from.ready)
	}
	return slice, true
}

// told keeps what a slice was like for the ones after it.
func (s *slicer) told(from *slicedStream, sparse bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from.sparse = sparse
}

// read fills the chunk of the slice and keeps the promise. Rows are taken for
// complete until one is not; the rest is then read with its columns.
func (s cellSlice) read(ctx context.Context, l *cellLine) error {
	u := s.from.codec.unpacker(s.request, s.chunk)
	rest, sparse := s.request, s.sparse
	if !sparse {
		row, err := s.readComplete(ctx, l, u)
		if err != nil {
			return err
		}
		rest.Window.RowStart = row
		sparse = row < rest.Window.RowStop
	}
	if sparse {
		cells, err := s.readExplicit(ctx, l, rest, u)
		if err != nil {
			return err
		}
		sparse = cells < rest.Window.Cells()
	}
	s.from.set.slicer.told(s.from, sparse || !s.sparse && !rest.Window.Empty())
	s.promise <- s.chunk
	return nil
}

// readComplete reads rows that have all their cells. It stops at the first one
// that may lack one, and gives its place; the end of the slice if there is none.
func (s cellSlice) readComplete(ctx context.Context, l *cellLine, u cellUnpacker) (stopped int64, err error) {
	w := s.request.Window
	rows, err := l.ask(ctx, packedQuery(s.request, "min(col_idx), max(col_idx)"))
	if err != nil {
		return 0, err
	}
	next, taken := w.RowStart, int64(0)
	for rows.NextRow() {
		complete, err := u.complete(next, rows.Values())
		if err != nil {
			return 0, err
		}
		if !complete {
			_, err := rows.Close() // the rest of a slice is not much
			return next, faultOf(err)
		}
		next++
		taken++
	}
	return next, closeRows(rows, s.request.Layer.Name, taken)
}

// readExplicit reads rows with their columns, and gives the number of cells.
func (s cellSlice) readExplicit(ctx context.Context, l *cellLine, request layer.CellRequest, u cellUnpacker) (cells int64, err error) {
	rows, err := l.ask(ctx, packedQuery(request, "array_agg(col_idx)"))
	if err != nil {
		return 0, err
	}
	taken := int64(0)
	for rows.NextRow() {
		n, err := u.explicit(rows.Values())
		if err != nil {
			return 0, err
		}
		cells += int64(n)
		taken++
	}
	return cells, closeRows(rows, request.Layer.Name, taken)
}

// ask runs the query of a slice, by a statement that the connection keeps for the
// other slices of the stream: parsing and planning one costs as much as reading
// 3,000 cells.
func (l *cellLine) ask(ctx context.Context, q cellQuery) (*pgconn.ResultReader, error) {
	conn := l.conn.Conn().PgConn()
	name, ok := l.statements[q.sql]
	if !ok {
		name = fmt.Sprintf("rasterloom_slice_%d", len(l.statements))
		if _, err := conn.Prepare(ctx, name, q.sql, q.oids); err != nil {
			return nil, faultOf(err)
		}
		l.statements[q.sql] = name
	}
	return conn.ExecPrepared(ctx, name, q.args, nil, binaryFormat), nil
}

// packedQuery reads the rows of a slice, one for each row of the layer: its
// row_idx, what is asked about its columns, and the array of its values, in the
// order of a scan of the key. North comes first, so a south-up layer is scanned
// backwards, and its columns come from east to west. A row past a
// side of the grid is among those of the slice there, to be refused. All slices
// of a stream have one text.
func packedQuery(request layer.CellRequest, columns string) cellQuery {
	direction := ""
	if request.Layer.SouthUp {
		direction = " DESC"
	}
	first, stop := storedRows(request)
	last := stop - 1
	if first == 0 {
		first = math.MinInt64
	}
	if stop == int64(request.Layer.Grid.Rows) {
		last = math.MaxInt64
	}
	q := cellQuery{}
	where := " WHERE row_idx >= " + q.bind(pgtype.Int8OID, strconv.FormatInt(first, 10)) +
		" AND row_idx <= " + q.bind(pgtype.Int8OID, strconv.FormatInt(last, 10))
	if cols := q.within("col_idx", colBound(request)); cols != "" {
		where += " AND " + cols
	}
	q.sql = "SELECT row_idx, " + columns + ", array_agg(value) FROM (SELECT row_idx, col_idx, value FROM " +
		quoted(request.Layer.Table.Schema, request.Layer.Table.Name) + where +
		" ORDER BY row_idx" + direction + ", col_idx" + direction + ") AS cell GROUP BY row_idx ORDER BY row_idx" + direction
	return q
}
