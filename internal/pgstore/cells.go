package pgstore

import (
	"context"
	_ "embed"
	"io"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// CellOptions say how cells are read.
type CellOptions struct {
	// Connections is the largest number of connections that one set of streams
	// reads over. Default 4.
	Connections int
	// Wait is the longest wait for connections. Default 5 s.
	Wait time.Duration
}

// CellReader reads stored cells, of many layers at one moment.
type CellReader struct {
	store *Store
	opts  CellOptions
	// connections counts the pool's: a set takes all that it needs in one step,
	// since two sets that each hold a part and wait for the rest would wait for
	// ever.
	connections *semaphore.Weighted
	limit       int64
	// snapshot is the state of the database that sets see, exported by another
	// transaction; empty for the state at hand.
	snapshot string
	// sign is how often an idle connection tells the database that it is needed.
	sign time.Duration
	// fits decides which layers are read in slices. Tests replace it, to have
	// every table read both ways.
	fits func(layer.CellRequest, cellTable) bool
}

// NewCellReader makes a reader over a store's connections.
func NewCellReader(store *Store, opts CellOptions) *CellReader {
	if opts.Connections <= 0 {
		opts.Connections = 4
	}
	if opts.Wait <= 0 {
		opts.Wait = 5 * time.Second
	}
	limit := int64(store.pool.Config().MaxConns)
	return &CellReader{store: store, opts: opts, connections: semaphore.NewWeighted(limit), limit: limit, sign: idleLimit / 5, fits: fitsSlices}
}

// CellSet is the cells of several layers, read side by side at one snapshot of
// the database. Close it on every path.
type CellSet struct {
	ctx     context.Context //nolint:containedctx // it ends the reading in the background, with Close
	cancel  context.CancelCauseFunc
	reader  *CellReader
	held    int64 // connections taken from the reader's count
	streams []*CellStream
	lines   []*cellLine
	slicer  slicer
	pumps   sync.WaitGroup
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
	set := &CellSet{reader: r, held: min(connectionsFor(requests, r.opts.Connections), r.limit)}
	if err := r.acquire(ctx, set.held); err != nil {
		return nil, err
	}
	set.ctx, set.cancel = context.WithCancelCause(ctx)
	if err := set.connect(requests); err != nil {
		set.Close()
		return nil, faultOf(err)
	}
	for _, l := range set.lines {
		set.pumps.Go(func() {
			if err := guarded(func() error { return l.pump(set.ctx) }); err != nil {
				set.cancel(err)
			}
		})
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

func (r *CellReader) acquire(ctx context.Context, n int64) error {
	wait, cancel := context.WithTimeout(ctx, r.opts.Wait)
	defer cancel()
	if err := r.connections.Acquire(wait, n); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fault.New(fault.Limit, fault.LimitExceeded,
			"all %d database connections for reading are in use; none came free within %v", r.limit, r.opts.Wait).
			With("limit", r.limit)
	}
	return nil
}

// connect looks at the tables over the first connection, decides how each
// stream is read, and opens the other connections at the snapshot of the first.
func (s *CellSet) connect(requests []layer.CellRequest) error {
	var tables []cellTable
	snapshot := s.reader.snapshot
	if s.held > 0 {
		first := s.newLine()
		err := first.begin(s.ctx)
		if err != nil {
			return err
		}
		if snapshot != "" {
			err = first.adopt(s.ctx, snapshot)
		} else if s.held > 1 {
			snapshot, err = first.export(s.ctx)
		}
		if err != nil {
			return err
		}
		if tables, err = describe(s.ctx, first.tx, requests); err != nil {
			return err
		}
	}
	whole, err := s.deal(requests, tables)
	if err != nil {
		return err
	}
	if err := s.slicer.lookup(s.ctx, s.lines); err != nil {
		return err
	}
	// A stream that is read as a whole takes one connection and no more.
	if surplus := s.held - int64(len(whole)); surplus > 0 && s.slicer.empty() {
		s.held -= surplus
		s.reader.connections.Release(surplus)
	}
	if err := s.join(snapshot); err != nil {
		return err
	}
	s.assign(whole)
	return nil
}

// join opens the connections that are left to open, at the snapshot of the
// first, side by side: one that the pool does not have yet takes its time.
func (s *CellSet) join(snapshot string) error {
	var group errgroup.Group
	for _, l := range s.lines {
		group.Go(func() error { return guarded(func() error { return l.settle(s.ctx) }) })
	}
	for int64(len(s.lines)) < s.held {
		l := s.newLine()
		group.Go(func() error {
			return guarded(func() error { return l.join(s.ctx, snapshot) })
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
		if request.Layer.Format == layer.FormatTiled {
			codec := tileCodecs[request.Layer.StoredType]
			if stream.placer, err = codec.placer(request.Layer); err != nil {
				return nil, err
			}
			newChunk = codec.chunk
		} else {
			stream.codec = cellCodecs[request.Layer.StoredType]
			newChunk = stream.codec.chunk
		}
		chunks := layer.ChunksPerStream(request.Layer)
		stream.free = make(chan *layer.Chunk, chunks)
		for range chunks {
			stream.free <- newChunk(request.ChunkCells)
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
	for _, l := range s.lines {
		l.close(s.ctx)
	}
	s.reader.connections.Release(s.held)
	s.held = 0
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
