// Package ingest makes tiles of what clients send: blocks and cells in, encoded
// tiles out, in one transaction a stream, in bounded memory.
package ingest

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/tile"
	"github.com/rasterloom/rasterloom/services/schema/internal/catalog"
)

// Planner decides what becomes of an ingestion.
type Planner interface {
	PlanIngest(ctx context.Context, i catalog.Ingestion) (catalog.IngestPlan, error)
}

// Store keeps tiles and what was ingested.
type Store interface {
	// Done gives the ingest that was stored under a key; nil when there is none.
	Done(ctx context.Context, key string) (*layer.Ingest, error)
	// Begin begins the transaction of one ingest into the layer of a name. Errors:
	// Conflict LAYER_CHANGED while another one of the layer is at work.
	Begin(ctx context.Context, name string) (Tx, error)
	// Sweep drops the tables of replaced layers that nobody reads any more.
	Sweep(ctx context.Context) error
}

// Tx is the transaction of one ingest. It is for one goroutine at a time.
type Tx interface {
	catalog.Tx
	// Create makes the table of a layer's tiles; Write fills it.
	Create(ctx context.Context, l layer.Layer) (layer.Table, error)
	Write(ctx context.Context, e tile.Encoded) error
	// Flush ends the writing, and says how much it was.
	Flush(ctx context.Context) (layer.Ingest, error)
	// TakeTurn waits for the right to change the catalog.
	TakeTurn(ctx context.Context) error
	// Remember keeps what was ingested; Discard, a table that is no layer's any more.
	Remember(ctx context.Context, done layer.Ingest) error
	Discard(ctx context.Context, table layer.Table) error
}

// Limits bound what one stream may cost. Zero fields take their defaults.
type Limits struct {
	// Cells is the largest number of cells of a grid. Default 64 Gi.
	Cells int64
	// StreamBytes is the largest number of bytes of values of a stream. Default
	// 256 GiB.
	StreamBytes int64
	// MemoryBytes is the largest memory of the tiles that cells are gathered in.
	// Default 128 MiB.
	MemoryBytes int64
	// Streams is how many streams are taken at the same time. Default 4.
	Streams int
}

// withDefaults fills in the defaults.
func (l Limits) withDefaults() Limits {
	or := func(value *int64, standard int64) {
		if *value <= 0 {
			*value = standard
		}
	}
	or(&l.Cells, 64<<30)
	or(&l.StreamBytes, 256<<30)
	or(&l.MemoryBytes, 128<<20)
	if l.Streams <= 0 {
		l.Streams = 4
	}
	return l
}

// Ingester takes ingests. It is safe for concurrent use.
type Ingester struct {
	planner Planner
	store   Store
	limits  Limits
	slots   chan struct{}
	tell    func(change int64)
}

// New makes an ingester. tell, unless it is nil, is told by how much the memory that
// streams may take changes.
func New(planner Planner, store Store, limits Limits, tell func(change int64)) *Ingester {
	limits = limits.withDefaults()
	if tell == nil {
		tell = func(int64) {}
	}
	return &Ingester{planner: planner, store: store, limits: limits, slots: make(chan struct{}, limits.Streams), tell: tell}
}

// Limits are those that hold.
func (g *Ingester) Limits() Limits { return g.limits }

// Request is an ingestion with what tells it from another one.
type Request struct {
	catalog.Ingestion
	// Key names the ingest across attempts; empty: it has none. Spec is what was
	// asked for under it, the same text for the same request.
	Key, Spec string
}

// Plan says whether a request can be taken, as things are now. done is the ingest
// that was stored under its key, if there is one: then there is nothing to send.
// Errors: as catalog.Keeper.PlanIngest, Exists LAYER_EXISTS for a key that was used
// for another request, and Limit LIMIT_EXCEEDED.
func (g *Ingester) Plan(ctx context.Context, r Request) (plan catalog.IngestPlan, done *layer.Ingest, err error) {
	if r.Key != "" {
		if done, err = g.done(ctx, r); err != nil || done != nil {
			return catalog.IngestPlan{}, done, err
		}
	}
	if cells := int64(r.Grid.Rows) * int64(r.Grid.Cols); cells > g.limits.Cells {
		return catalog.IngestPlan{}, nil, fault.New(fault.Limit, fault.LimitExceeded, "the grid of %q has %d cells, and the limit is %d", r.Name, cells, g.limits.Cells).
			With("layer", r.Name).With("value", cells).With("limit", g.limits.Cells)
	}
	plan, err = g.planner.PlanIngest(ctx, r.Ingestion)
	return plan, nil, err
}

func (g *Ingester) done(ctx context.Context, r Request) (*layer.Ingest, error) {
	done, err := g.store.Done(ctx, r.Key)
	if err != nil || done == nil {
		return nil, err
	}
	if done.Spec != r.Spec {
		return nil, fault.New(fault.Exists, fault.LayerExists, "the idempotency key %q was used for another ingest, of layer %q", r.Key, done.Layer).
			With("field", "idempotency_key").With("layer", done.Layer)
	}
	return done, nil
}

// Stream is an ingest at work: Blocks or Cells, and then Commit; Close on every
// path. It is for one goroutine.
type Stream struct {
	owner   *Ingester
	request Request
	layer   layer.Layer
	done    *layer.Ingest
	tx      Tx

	ctx     context.Context //nolint:containedctx // that of the workers, which end with the stream
	cancel  context.CancelFunc
	workers *errgroup.Group
	jobs    chan job
	writing sync.Mutex // of tx, once there are workers

	bytes  int64 // of values so far
	blocks blockOrder
	cells  gatherer
	// early are the first tiles, on which the encoding is tried.
	early []job
	table layer.Table
}

// Begin begins an ingest. Errors: as Plan, Limit LIMIT_EXCEEDED when as many
// streams as may be are at work, and as any query.
func (g *Ingester) Begin(ctx context.Context, r Request) (*Stream, error) {
	select {
	case g.slots <- struct{}{}:
	default:
		return nil, fault.New(fault.Limit, fault.LimitExceeded, "%d streams are being ingested already, which is the limit; try again", g.limits.Streams).
			With("limit", g.limits.Streams)
	}
	s, err := g.begin(ctx, r)
	if err != nil {
		<-g.slots
		return nil, err
	}
	g.tell(g.limits.MemoryBytes)
	return s, nil
}

func (g *Ingester) begin(ctx context.Context, r Request) (*Stream, error) {
	plan, done, err := g.Plan(ctx, r)
	if err != nil {
		return nil, err
	}
	s := &Stream{owner: g, request: r, layer: plan.Layer, done: done}
	s.ctx, s.cancel = context.WithCancel(ctx)
	if done != nil {
		return s, nil
	}
	if s.tx, err = g.store.Begin(ctx, r.Name); err != nil {
		s.cancel()
		return nil, err
	}
	return s, nil
}

// Done is the ingest that was stored under the key of the request before; nil
// when this one is to be stored.
func (s *Stream) Done() *layer.Ingest { return s.done }

// Layer is the layer that is to be, as planned.
func (s *Stream) Layer() layer.Layer { return s.layer }

// count holds the bytes of values against the limit.
func (s *Stream) count(bytes int) error {
	if s.bytes += int64(bytes); s.bytes > s.owner.limits.StreamBytes {
		return fault.New(fault.Limit, fault.LimitExceeded, "layer %q: the stream has more than %d bytes of values, which is the limit", s.layer.Name, s.owner.limits.StreamBytes).
			With("layer", s.layer.Name).With("limit", s.owner.limits.StreamBytes)
	}
	return nil
}

// job is a tile to be encoded and written.
type job struct {
	row, col int32
	values   any
	valid    []uint64 // nil: all
	// after gives the memory of values and valid back.
	after func()
}

// earlyTiles is how many tiles the encoding is tried on.
const earlyTiles = 8

// put takes a tile. What it refers to must not change until after is called.
func (s *Stream) put(j job) error {
	if s.jobs == nil {
		if s.early = append(s.early, j); len(s.early) < earlyTiles {
			return nil
		}
		return s.start()
	}
	select {
	case s.jobs <- j:
		return nil
	case <-s.ctx.Done():
		return s.failure()
	}
}

// start chooses the encoding by the first tiles, makes the table and the workers.
func (s *Stream) start() error {
	trial, err := tile.NewTrial(s.layer)
	if err != nil {
		return err
	}
	for _, j := range s.early {
		if err := trial.Add(j.row, j.col, j.values, j.valid); err != nil {
			return err
		}
	}
	s.layer.Tiling = tile.LayoutOf(s.layer, trial.Best()).JSON()
	if s.table, err = s.tx.Create(s.ctx, s.layer); err != nil {
		return err
	}
	n := runtime.GOMAXPROCS(0)
	s.jobs = make(chan job, n)
	s.workers, s.ctx = errgroup.WithContext(s.ctx)
	for range n {
		s.workers.Go(func() error { return fault.Guard(s.work) })
	}
	early := s.early
	s.early = nil
	for _, j := range early {
		if err := s.put(j); err != nil {
			return err
		}
	}
	return nil
}

// work encodes and writes tiles until there are no more. While one worker writes,
// the others encode.
func (s *Stream) work() error {
	encoder, err := tile.NewEncoder(s.layer)
	if err != nil {
		return err
	}
	for {
		select {
		case j, more := <-s.jobs:
			if !more {
				return nil
			}
			encoded, err := encoder.Encode(j.row, j.col, j.values, j.valid)
			if err != nil {
				return err
			}
			if j.after != nil {
				j.after()
			}
			if err := s.write(encoded); err != nil {
				return err
			}
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

func (s *Stream) write(e tile.Encoded) error {
	if e.Cells == 0 {
		return nil
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.tx.Write(s.ctx, e)
}

// failure is why the workers ended.
func (s *Stream) failure() error {
	if err := s.workers.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return context.Cause(s.ctx)
}

// Commit stores what came, enters the layer into the catalog, and gives what there
// is now. Nothing is seen by anybody before. Errors: as catalog.EnterIngest.
func (s *Stream) Commit(ctx context.Context) (layer.Ingest, error) {
	if s.cells != nil {
		if err := s.cells.flush(s); err != nil {
			return layer.Ingest{}, err
		}
	}
	if s.jobs == nil {
		if err := s.start(); err != nil {
			return layer.Ingest{}, err
		}
	}
	close(s.jobs)
	if err := s.workers.Wait(); err != nil {
		return layer.Ingest{}, err
	}
	done, err := s.tx.Flush(ctx)
	if err != nil {
		return layer.Ingest{}, err
	}
	if err := s.tx.TakeTurn(ctx); err != nil {
		return layer.Ingest{}, err
	}
	s.layer.Table, s.layer.EstimatedRows = s.table, done.Tiles
	entered, old, err := catalog.EnterIngest(ctx, s.tx, s.request.Ingestion, s.layer)
	if err != nil {
		return layer.Ingest{}, err
	}
	done.Key, done.Spec, done.Layer, done.Generation = s.request.Key, s.request.Spec, entered.Name, entered.Generation
	if old != nil {
		if err := s.tx.Discard(ctx, old.Table); err != nil {
			return layer.Ingest{}, err
		}
	}
	if done.Key != "" {
		if err := s.tx.Remember(ctx, done); err != nil {
			return layer.Ingest{}, err
		}
	}
	if err := s.tx.Commit(ctx); err != nil {
		return layer.Ingest{}, err
	}
	if old != nil {
		// What cannot be dropped now, because somebody reads it, is the next sweep's.
		_ = s.owner.store.Sweep(ctx)
	}
	return done, nil
}

// Close ends the stream; without a Commit before, nothing of it is left.
func (s *Stream) Close() {
	s.cancel()
	if s.workers != nil {
		_ = s.workers.Wait() // its error was given by whoever waited for it
	}
	if s.tx != nil {
		s.tx.Rollback(context.WithoutCancel(s.ctx))
	}
	s.owner.tell(-s.owner.limits.MemoryBytes)
	<-s.owner.slots
}
