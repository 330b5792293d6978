package pgstore

import (
	"context"
	_ "embed"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// CellOptions say how cells are read.
type CellOptions struct {
	// Connections is the largest number of connections that one set of streams
	// reads over, while there are enough. Default 4.
	Connections int
	// Wait is the longest wait for connections. Default 5 s.
	Wait time.Duration
}

const defaultConnections = 4

// CellReader reads stored cells, of many layers at one moment.
type CellReader struct {
	store  *Store
	opts   CellOptions
	shares *cellShares
	// snapshot is the state of the database that sets see, exported by another
	// transaction; empty for the state at hand.
	snapshot string
	// sign is how often an idle connection tells the database that it is needed.
	sign time.Duration
	// idle is how long a surplus connection may be so.
	idle time.Duration
	// fits decides which layers are read in slices. Tests replace it, to have
	// every table read both ways.
	fits func(layer.CellRequest, cellTable) bool
}

// NewCellReader makes a reader over a store's connections.
func NewCellReader(store *Store, opts CellOptions) *CellReader {
	if opts.Connections <= 0 {
		opts.Connections = defaultConnections
	}
	if opts.Wait <= 0 {
		opts.Wait = 5 * time.Second
	}
	shares := newCellShares(int64(store.pool.Config().MaxConns), opts.Wait)
	return &CellReader{store: store, opts: opts, shares: shares, sign: idleLimit / 5, idle: surplusIdle, fits: fitsSlices}
}

// CellSet is the cells of several layers, read side by side at one snapshot of
// the database. Close it on every path.
type CellSet struct {
	ctx     context.Context //nolint:containedctx // it ends the reading in the background, with Close
	cancel  context.CancelCauseFunc
	reader  *CellReader
	streams []*CellStream
	slicer  slicer
	pumps   sync.WaitGroup
	// most is how many connections the set is worth, and snapshot what they all
	// see.
	most     int64
	snapshot string

	mu    sync.Mutex
	lines []*cellLine // also taken while only one goroutine knows of the set
}

// CellStream is the cells of one layer.
type CellStream struct {
	set     *CellSet
	request layer.CellRequest
	table   cellTable
	codec   cellCodec  // of rows
	placer  tilePlacer // of tiles
	// Chunks go round: free ones down to a connection, filled ones up. What goes
	// up is a promise for each chunk, in the order of the cells: several
	// connections may be at work on them, and the last one be ready first.
	free  chan *layer.Chunk
	ready chan chan *layer.Chunk
}

// Open starts to read the requests, one stream for each, all at one snapshot.
// It reads ahead in the background, as far as layer.ChunksPerStream allows,
// until Close. Errors: Conflict LAYER_CHANGED (a table is gone, or not what was
// catalogued), Invalid INVALID_ARGUMENT (a mean of integers), Limit
// LIMIT_EXCEEDED (too many connections in use), Unavailable and Denied as any
// query.
func (r *CellReader) Open(ctx context.Context, requests []layer.CellRequest) (*CellSet, error) {
	if r.snapshot != "" {
		set, err := r.open(ctx, requests)
		if errors.Is(err, errOvertaken) {
			return nil, overtaken(err)
		}
		return set, err
	}
	return atNewSnapshots(func() (*CellSet, error) { return r.open(ctx, requests) })
}

func (r *CellReader) open(ctx context.Context, requests []layer.CellRequest) (*CellSet, error) {
	set := &CellSet{reader: r, most: min(connectionsFor(requests, r.opts.Connections), r.shares.limit)}
	if set.most > 0 {
		if err := r.shares.first(ctx); err != nil {
			return nil, err
		}
		set.add(false)
		for range r.shares.more(set.most - 1) {
			set.add(false)
		}
	}
	set.ctx, set.cancel = context.WithCancelCause(ctx)
	if err := set.connect(requests); err != nil {
		set.Close()
		if errors.Is(err, errOvertaken) {
			return nil, err
		}
		return nil, faultOf(err)
	}
	for _, l := range slices.Clone(set.lines) {
		l.start()
	}
	return set, nil
}

// connectionsFor is how many connections the requests may be worth: one for
// each that is small, and all of them where one is large enough to be shared
// out.
func connectionsFor(requests []layer.CellRequest, most int) int64 {
	n := 0
	for _, request := range requests {
		switch {
		case request.Window.Empty():
		case request.Window.Cells() >= sharedCells:
			return int64(most)
		default:
			n++
		}
	}
	return int64(min(n, most))
}

// connect looks at the tables over the first connection, decides how each
// stream is read, and opens the other connections at the snapshot of the first.
func (s *CellSet) connect(requests []layer.CellRequest) error {
	var seen []cellTable
	s.snapshot = s.reader.snapshot
	if s.most > 0 {
		first := s.lines[0]
		err := first.begin(s.ctx)
		if err != nil {
			return err
		}
		if s.snapshot != "" {
			err = first.adopt(s.ctx, s.snapshot)
		} else if s.most > 1 {
			s.snapshot, err = first.export(s.ctx)
		}
		if err != nil {
			return err
		}
		if seen, err = describe(s.ctx, first.tx, requests); err != nil {
			return err
		}
	}
	whole, err := s.deal(requests, seen)
	if err != nil {
		return err
	}
	var tables []layer.Table
	for _, request := range requests {
		if !request.Window.Empty() {
			tables = append(tables, request.Layer.Table)
		}
	}
	if s.most > 0 {
		if err := hold(s.ctx, s.lines[0].tx, tables); err != nil {
			return err
		}
	}
	if err := s.slicer.lookup(s.ctx, s.lines); err != nil {
		return err
	}
	// A stream that is read as a whole takes one connection and no more.
	if s.slicer.empty() {
		s.most = min(s.most, int64(len(whole)))
		for int64(len(s.lines)) > max(1, s.most) {
			s.lines[len(s.lines)-1].leave()
		}
	}
	if err := s.join(len(whole) > 0); err != nil {
		return err
	}
	s.assign(whole)
	return nil
}

// join makes the first connection ready, and the others where it matters which
// there are: at the snapshot of the first, side by side, since one that the pool
// does not have yet takes its time. Otherwise they come when they come.
func (s *CellSet) join(all bool) error {
	var group errgroup.Group
	for _, l := range slices.Clone(s.lines) {
		group.Go(func() error {
			return fault.Guard(func() error {
				if !l.surplus {
					return l.settle(s.ctx)
				}
				if !all {
					return nil
				}
				err := l.join(s.ctx, s.snapshot)
				if l.missing(err) {
					l.leave()
					return nil
				}
				return err
			})
		})
	}
	return group.Wait()
}

// deal makes a stream for each request. It gives those that are read as a
// whole; the others are the slicer's.
func (s *CellSet) deal(requests []layer.CellRequest, tables []cellTable) (whole []*CellStream, err error) {
	for i, request := range requests {
		stream := &CellStream{set: s, request: request, ready: make(chan chan *layer.Chunk, layer.ChunksPerStream(request.Layer))}
		s.streams = append(s.streams, stream)
		if request.Window.Empty() {
			close(stream.ready)
			continue
		}
		stream.table = tables[i]
		if err := stream.table.check(request); err != nil {
			return nil, err
		}
		var newChunk func(cells int) *layer.Chunk
		room := request.ChunkCells
		if request.Layer.Format == layer.FormatTiled {
			codec := tileCodecs[request.Layer.StoredType]
			if stream.placer, err = codec.placer(request.Layer); err != nil {
				return nil, err
			}
			newChunk = codec.chunk
			// Made when tiles come: by the connection that reads them, and no more than
			// are in use. Four layers of 3,000 columns took 28 ms for it beforehand.
			room = 0
		} else {
			stream.codec = cellCodecs[request.Layer.StoredType]
			newChunk = stream.codec.chunk
		}
		chunks := layer.ChunksPerStream(request.Layer)
		stream.free = make(chan *layer.Chunk, chunks)
		for range chunks {
			stream.free <- newChunk(room)
		}
		if stream.placer != nil || s.reader.fits(request, stream.table) {
			s.slicer.add(stream)
		} else {
			whole = append(whole, stream)
		}
	}
	return whole, nil
}

// assign gives each connection its streams. A stream that is read as a whole
// gets a connection of its own as long as there are enough, with one left for
// slices; else such streams take turns, and the slices come in between.
func (s *CellSet) assign(whole []*CellStream) {
	lines := s.lines
	if s.slicer.empty() && len(whole) <= len(lines) || len(whole) < len(lines) {
		for i, stream := range whole {
			lines[i].alone = stream
		}
		lines, whole = lines[len(whole):], nil
	}
	for _, l := range lines {
		l.slices = true
	}
	for i, stream := range whole {
		l := lines[i%len(lines)]
		l.turns = append(l.turns, stream)
	}
}

// Stream gives the cells of request i.
func (s *CellSet) Stream(i int) *CellStream { return s.streams[i] }

// Close stops all reading, also in the database, and gives the connections
// back. It may be called more than once.
func (s *CellSet) Close() {
	s.cancel(context.Canceled)
	s.pumps.Wait()
	for _, l := range slices.Backward(s.lines) {
		if l.surplus { // which a failure to open can leave
			l.leave()
			continue
		}
		l.close(s.ctx)
		s.reader.shares.releaseFirst()
	}
	s.lines = nil
}

// Next gives the next chunk, and io.EOF once every cell was read. Errors:
// Precondition CELL_OFF_GRID or DUPLICATE_CELL, naming the stored row, and as
// any query.
func (s *CellStream) Next(ctx context.Context) (*layer.Chunk, error) {
	for {
		var promised chan *layer.Chunk
		var ok bool
		select {
		case promised, ok = <-s.ready:
			if !ok {
				return nil, io.EOF
			}
		case <-s.set.ctx.Done():
			return nil, context.Cause(s.set.ctx)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		select {
		case c := <-promised:
			if len(c.Runs) > 0 {
				return c, nil
			}
			s.Recycle(c) // of a slice where nothing is stored
		case <-s.set.ctx.Done():
			return nil, context.Cause(s.set.ctx)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Recycle gives a chunk back.
func (s *CellStream) Recycle(c *layer.Chunk) {
	s.free <- c
	s.set.mu.Lock()
	defer s.set.mu.Unlock()
	for _, l := range s.set.lines {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// promise takes the next place in the order of the stream for a chunk.
func (s *CellStream) promise() chan<- *layer.Chunk {
	p := make(chan *layer.Chunk, 1)
	s.ready <- p
	return p
}

//go:embed cells_tables.sql
var cellTablesSQL string

// cellTable is what a table looks like at the snapshot.
type cellTable struct {
	kind    string // pg_class.relkind; empty when there is no such table
	types   map[string]uint32
	notNull map[string]bool
	// keyed is true when a unique index over (row_idx, col_idx) holds for all
	// rows.
	keyed bool
	// estimatedRows is by the statistics, -1 without; correlation is that of
	// row_idx with the order on disk, in [-1, 1], 0 without.
	estimatedRows, correlation float64
}

// describe looks at the tables of the requests.
func describe(ctx context.Context, tx pgx.Tx, requests []layer.CellRequest) ([]cellTable, error) {
	tables := make([]cellTable, len(requests))
	schemas, names := make([]string, len(requests)), make([]string, len(requests))
	for i, request := range requests {
		schemas[i], names[i] = request.Layer.Table.Schema, request.Layer.Table.Name
		tables[i] = cellTable{types: map[string]uint32{}, notNull: map[string]bool{}}
	}
	rows, err := tx.Query(ctx, cellTablesSQL, schemas, names)
	if err != nil {
		return nil, faultOf(err)
	}
	var position int64
	var kind, column string
	var typ uint32
	var notNull, keyed bool
	var estimated, correlation float64
	_, err = pgx.ForEachRow(rows, []any{&position, &kind, &column, &typ, &notNull, &estimated, &keyed, &correlation}, func() error {
		t := &tables[position-1]
		t.kind, t.types[column], t.notNull[column] = kind, typ, notNull
		t.keyed, t.estimatedRows = keyed, estimated
		if column == "row_idx" {
			t.correlation = correlation
		}
		return nil
	})
	return tables, faultOf(err)
}
