package worker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// Journal is where migrations are recorded and claimed.
type Journal interface {
	Get(context.Context, migrate.ID) (migrate.Migration, error)
	// Claim takes over a migration that has something to do and no living
	// worker. false: there is none.
	Claim(ctx context.Context, lease time.Duration) (migrate.Lease, bool, error)
	// ClaimUnthrottled is Claim for one whose copying is not bounded.
	ClaimUnthrottled(ctx context.Context, lease time.Duration) (migrate.Lease, bool, error)
	// Renew keeps a lease for as long again.
	Renew(context.Context, migrate.Lease) error
	// ClaimBehind takes over one that waits for an operator and lags behind what
	// is written meanwhile.
	ClaimBehind(ctx context.Context, lease time.Duration) (migrate.Lease, bool, error)
	Release(context.Context, migrate.Lease) error
	// Waits notes why the next arrow cannot be taken yet; nil: it was.
	Waits(ctx context.Context, l migrate.Lease, cause error) error
	// Fail records why the next arrow could not be taken.
	Fail(ctx context.Context, l migrate.Lease, cause error) error
}

// Config says how a worker works. A zero field takes its default.
type Config struct {
	// Lease is how long a migration is left alone when its worker is silent.
	// Default 15 s.
	Lease time.Duration
	// Poll is how often to look for work. Default 1 s.
	Poll time.Duration
	// AtOnce is how many migrations are moved on side by side. Default 4.
	AtOnce int
	// Retries is how often an arrow is tried again, with growing pauses, when
	// the database was not to be had or a table was busy. Default 8.
	Retries int
}

// Worker claims migrations and moves them on, some side by side. Beside that, those
// that wait for an operator are kept from lagging behind.
type Worker struct {
	journal Journal
	target  Target
	cfg     Config
	log     *zap.Logger
	wakes   []chan struct{} // of each crew that is woken

	mu    sync.Mutex
	blind map[*crew]fault.Reason // crews that cannot look for migrations
	since time.Time              // when the first of them could not
}

// crew is places for migrations of one kind.
type crew struct {
	claim  func(context.Context, time.Duration) (migrate.Lease, bool, error)
	places int
	wake   chan struct{} // nil: it looks by itself only
}

// New makes a worker; Run runs it.
func New(journal Journal, target Target, cfg Config, log *zap.Logger) *Worker {
	if cfg.Lease == 0 {
		cfg.Lease = 15 * time.Second
	}
	if cfg.Poll == 0 {
		cfg.Poll = time.Second
	}
	if cfg.Retries == 0 {
		cfg.Retries = 8
	}
	if cfg.AtOnce == 0 {
		cfg.AtOnce = 4
	}
	w := &Worker{journal: journal, target: target, cfg: cfg, log: log, blind: map[*crew]fault.Reason{}}
	w.wakes = []chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1)}
	return w
}

// Wake makes the worker look for work now.
func (w *Worker) Wake() {
	for _, wake := range w.wakes {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

// Run works until ctx ends. What is under way is then rolled back; another
// worker goes on from there. Errors: Internal, after a panic.
//
// A throttled migration takes hours in which it does next to nothing, so half of the
// places are kept for those that are not throttled.
func (w *Worker) Run(ctx context.Context) error {
	some := (w.cfg.AtOnce + 1) / 2
	crews := []*crew{
		{claim: w.journal.Claim, places: some, wake: w.wakes[0]},
		{claim: w.journal.ClaimUnthrottled, places: w.cfg.AtOnce - some, wake: w.wakes[1]},
		{claim: w.journal.ClaimBehind, places: some},
	}
	working, ctx := errgroup.WithContext(ctx)
	for _, c := range crews {
		if c.places > 0 {
			working.Go(func() error { return fault.Guard(func() error { w.claiming(ctx, c); return nil }) })
		}
	}
	return working.Wait()
}

// claiming works on what a crew's claim gives, as many side by side as it has places.
// It looks again when it is woken, or after a while.
func (w *Worker) claiming(ctx context.Context, c *crew) {
	var working sync.WaitGroup
	defer working.Wait()
	taken := make(chan struct{}, c.places)
	for {
		select {
		case <-ctx.Done():
			return
		case taken <- struct{}{}:
		}
		lease, found, err := c.claim(ctx, w.cfg.Lease)
		if ctx.Err() == nil {
			w.looked(c, err)
		}
		if err == nil && found {
			working.Go(func() {
				defer func() { <-taken }()
				if err := fault.Guard(func() error { w.work(ctx, lease); return nil }); err != nil {
					w.log.Error("the work on a migration broke off", zap.Stringer("migration", lease.ID), zap.String("detail", fault.Detail(err)), zap.String("stack", fault.From(err).Stack()))
				}
			})
			continue
		}
		<-taken
		select {
		case <-ctx.Done():
		case <-c.wake:
		case <-time.After(w.cfg.Poll):
		}
	}
}

// looked logs when migrations cannot be looked for any more, and when they can again:
// not each time, which is many times a second.
func (w *Worker) looked(c *crew, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch _, blind := w.blind[c]; {
	case err == nil && blind:
		if delete(w.blind, c); len(w.blind) == 0 {
			w.log.Info("migrations are looked for again", zap.Duration("after", time.Since(w.since)))
		}
	case err != nil:
		f := fault.From(err)
		if len(w.blind) == 0 {
			w.since = time.Now()
		}
		known := slices.Contains(slices.Collect(maps.Values(w.blind)), f.Reason)
		if w.blind[c] = f.Reason; !known {
			w.log.Warn("cannot look for migrations", zap.Error(err), zap.String("detail", fault.Detail(err)))
		}
	}
}

// errLeaseLost ends the work on a migration that is somebody else's by now.
var errLeaseLost = errors.New("lease lost")

// work moves one migration on as far as it goes.
func (w *Worker) work(ctx context.Context, l migrate.Lease) {
	log := w.log.With(zap.Stringer("migration", l.ID), zap.Int64("fence", l.Fence))
	working, stop := context.WithCancelCause(ctx)
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		if err := fault.Guard(func() error { w.beat(working, l, stop); return nil }); err != nil {
			stop(err)
		}
	}()
	err := fault.Guard(func() error { return w.advance(working, l, log) })
	stop(nil)
	<-beating

	// The context may be over; what has to be written down is not.
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	switch {
	case err == nil, ctx.Err() != nil:
		if err := w.journal.Release(after, l); err != nil {
			log.Warn("cannot release a migration", zap.Error(err))
		}
	case fenced(err), errors.Is(context.Cause(working), errLeaseLost):
		log.Info("migration was paused or taken over")
	default:
		log.Error("migration failed", zap.Error(err), zap.String("detail", fault.Detail(err)))
		if err := w.journal.Fail(after, l, err); err != nil && !fenced(err) {
			log.Warn("cannot record a failure", zap.Error(err))
		}
	}
}

// beat renews the lease. When it is lost, or cannot be renewed before it ends,
// the work stops.
func (w *Worker) beat(ctx context.Context, l migrate.Lease, stop context.CancelCauseFunc) {
	ends := time.Now().Add(w.cfg.Lease)
	tick := time.NewTicker(w.cfg.Lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			err := w.journal.Renew(ctx, l)
			switch {
			case err == nil:
				ends = now.Add(w.cfg.Lease)
			case fenced(err), time.Now().After(ends):
				stop(errLeaseLost)
				return
			}
		}
	}
}

// advance takes arrows until an operator has to decide.
func (w *Worker) advance(ctx context.Context, l migrate.Lease, log *zap.Logger) error {
	for {
		var m migrate.Migration
		err := w.patiently(ctx, l, log, func() (err error) {
			m, err = w.journal.Get(ctx, l.ID)
			return err
		})
		if err != nil {
			return err
		}
		if m.Fence != l.Fence || m.Condition != migrate.Running {
			return errLeaseLost
		}
		next, moves := migrate.Next(m.State)
		if !moves && m.Follows() {
			return w.patiently(ctx, l, log, func() error { return follow(ctx, w.target, l) })
		}
		if !moves {
			return nil
		}
		log.Info("migration moves on", zap.String("layer", m.Spec.Layer), zap.String("from", string(m.State)), zap.String("to", string(next)))
		err = w.patiently(ctx, l, log, func() error {
			// The answer to a COMMIT may have been lost: look where it stands.
			now, err := w.journal.Get(ctx, l.ID)
			if err != nil {
				return err
			}
			if now.State != m.State {
				return nil
			}
			return step(ctx, w.target, l, now)
		})
		if err != nil {
			return err
		}
	}
}

// patiently tries again, with growing pauses, what failed for want of a database
// or a lock. What it waits for is kept with the migration, and logged once.
func (w *Worker) patiently(ctx context.Context, l migrate.Lease, log *zap.Logger, do func() error) error {
	pause := 250 * time.Millisecond
	var began time.Time
	var told fault.Reason
	for try := 0; ; try++ {
		err := do()
		if err == nil && told != "" {
			log.Info("migration goes on", zap.Duration("waited", time.Since(began)))
			w.noteWait(ctx, l, nil)
		}
		if err == nil || fault.KindOf(err) != fault.Unavailable || try == w.cfg.Retries {
			return err
		}
		f := fault.From(err)
		if told == "" {
			began = time.Now()
		}
		if told != f.Reason {
			told = f.Reason
			log.Warn("migration waits", zap.String("reason", string(f.Reason)), zap.String("detail", fault.Detail(err)))
		}
		w.noteWait(ctx, l, err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
			pause = min(2*pause, 10*time.Second)
		}
	}
}

// noteWait keeps what a migration waits for. Where that cannot be written it is in the
// log, and the next try finds out whether the lease was lost.
func (w *Worker) noteWait(ctx context.Context, l migrate.Lease, cause error) {
	_ = w.journal.Waits(ctx, l, cause)
}

// fenced reports whether the migration belongs to somebody else by now.
func fenced(err error) bool {
	if errors.Is(err, errLeaseLost) {
		return true
	}
	f, ok := errors.AsType[*fault.Error](err)
	return ok && f.Reason == fault.MigrationChanged
}
