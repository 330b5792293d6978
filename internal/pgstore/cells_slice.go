package pgstore

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rasterloom/rasterloom/internal/layer"
)

// A slice is a run of rows of a layer with no more cells than a chunk holds. It
// is read by one query that the index answers row by row, over whichever
// connection is free, with each row packed by the server: that takes up to a
// quarter off the work of the server, and most of ours. See docs/reading.md for
// what was measured.

const (
	// sharedCells is the size of a window from which several connections read
	// it faster than one.
	sharedCells = 1 << 17
	// firstSliceCells is the size of the first slice of a stream, or less where less
	// is waited for, so that its first cells come early. Each next one is twice as
	// large, up to a chunk.
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
	// lagging are tiles that are read from a pixel table; nil for none.
	lagging *laggingTiles
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
	first := min(firstSliceCells, stream.request.ChunkCells)
	if waited := stream.request.FirstCells; waited > 0 {
		first = min(first, waited)
	}
	s.streams = append(s.streams, &slicedStream{
		CellStream: stream, next: w.RowStart, height: max(1, int64(first)/w.Cols()),
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
	u := s.from.codec.unpacker(s.request, packers[s.from.table.types["col_idx"]].width, s.chunk)
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
	if s.request.Window.RowStop == s.from.request.Window.RowStop {
		// Once for a stream: it costs as much as some thousand cells.
		if err := s.refuseBeyond(ctx, l); err != nil {
			return err
		}
	}
	s.from.set.slicer.told(s.from, sparse || !s.sparse && !rest.Window.Empty())
	s.promise <- s.chunk
	return nil
}

// readComplete reads rows that have all their cells. It stops at the first one
// that may lack one, and gives its place; the end of the slice if there is none.
func (s cellSlice) readComplete(ctx context.Context, l *cellLine, u cellUnpacker) (stopped int64, err error) {
	w := s.request.Window
	rows, err := l.ask(ctx, completeQuery(s.request, s.from.table))
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
	rows, err := l.ask(ctx, explicitQuery(request, s.from.table))
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

// refuseBeyond refuses a table with rows past a side of the grid that the
// stream's window touches.
func (s cellSlice) refuseBeyond(ctx context.Context, l *cellLine) error {
	q := beyondQuery(s.from.request)
	rows := l.conn.Conn().PgConn().ExecParams(ctx, q.sql, q.args, q.oids, nil, binaryFormat)
	for rows.NextRow() {
		raw := rows.Values()
		if _, _, err := onGrid(s.request.Layer, intOf(raw[0]), intOf(raw[1])); err != nil {
			return err
		}
	}
	_, err := rows.Close()
	return faultOf(err)
}

// packers give the bytes of a value as they are stored in a packed row, and how
// many there are, by the type of its column.
var packers = map[uint32]struct {
	send  string
	width int
}{
	pgtype.Float8OID: {"pg_catalog.float8send", 8}, pgtype.Float4OID: {"pg_catalog.float4send", 4},
	pgtype.Int2OID: {"pg_catalog.int2send", 2}, pgtype.Int4OID: {"pg_catalog.int4send", 4}, pgtype.Int8OID: {"pg_catalog.int8send", 8},
}

// completeQuery asks for each row of a slice: its row_idx, the first and the last
// of its columns, and its values that are not NULL, packed from west to east.
// North comes first. All slices of a stream have one text.
//
// Each row is a subquery of its own: a scan of the key that begins and ends at the
// row's columns, and an aggregate that sees nothing else. Grouping all rows of a
// slice would cost a third more, and an empty delimiter in place of NULL, which
// is left out, 3 %.
func completeQuery(request layer.CellRequest, table cellTable) cellQuery {
	q, of := rowQuery(request)
	q.sql = "SELECT place, (SELECT pg_catalog.min(col_idx) FROM " + of + "), (SELECT pg_catalog.max(col_idx) FROM " + of +
		"), (SELECT pg_catalog.string_agg(" + packers[table.types["value"]].send + "(value), NULL)" +
		" FROM (SELECT value FROM " + of + " ORDER BY col_idx) AS cell)" + q.sql
	return q
}

// explicitQuery asks for each row of a slice: its row_idx, and its cells that are
// not NULL, packed from west to east, each as its column and its value.
func explicitQuery(request layer.CellRequest, table cellTable) cellQuery {
	q, of := rowQuery(request)
	q.sql = "SELECT place, (SELECT pg_catalog.string_agg(" + packers[table.types["col_idx"]].send + "(col_idx) || " +
		packers[table.types["value"]].send + "(value), NULL) FROM (SELECT col_idx, value FROM " + of + " ORDER BY col_idx) AS cell)" + q.sql
	return q
}

// rowQuery gives the end of a query that has a line for each row of a slice, which
// it calls place, and the cells of such a row in the window.
func rowQuery(request layer.CellRequest) (q cellQuery, of string) {
	start, stop := storedRows(request)
	first, last, step := start, stop-1, 1
	if request.Layer.SouthUp {
		first, last, step = last, first, -1
	}
	q.sql = " FROM pg_catalog.generate_series(" + q.bind(pgtype.Int8OID, strconv.FormatInt(first, 10)) + ", " +
		q.bind(pgtype.Int8OID, strconv.FormatInt(last, 10)) + fmt.Sprintf(", %d) AS place", step)
	of = quoted(request.Layer.Table.Schema, request.Layer.Table.Name) + " WHERE row_idx = place"
	if cols := q.within("col_idx", colBound(request)); cols != "" {
		of += " AND " + cols
	}
	return q, of
}

// beyondQuery asks for a cell past each side of the grid that the window touches.
func beyondQuery(request layer.CellRequest) cellQuery {
	q := cellQuery{}
	start, stop := storedRows(request)
	cols := q.within("col_idx", colBound(request))
	var sides []string
	side := func(condition string) {
		if cols != "" {
			condition += " AND " + cols
		}
		sides = append(sides, "(SELECT row_idx, col_idx FROM "+quoted(request.Layer.Table.Schema, request.Layer.Table.Name)+
			" WHERE "+condition+" ORDER BY row_idx, col_idx LIMIT 1)")
	}
	if start == 0 {
		side("row_idx < 0")
	}
	if rows := int64(request.Layer.Grid.Rows); stop == rows {
		side("row_idx >= " + q.bind(pgtype.Int8OID, strconv.FormatInt(rows, 10)))
	}
	if q.sql = strings.Join(sides, " UNION ALL "); q.sql == "" {
		q.sql = "SELECT 0, 0 WHERE false"
	}
	return q
}
