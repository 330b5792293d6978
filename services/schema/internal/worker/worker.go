package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// Journal is where migrations are recorded and claimed.
type Journal interface {
	Get(context.Context, migrate.ID) (migrate.Migration, error)
	// Claim takes over a migration that has something to do and no living
	// worker. false: there is none.
	Claim(ctx context.Context, lease time.Duration) (migrate.Lease, bool, error)
	// Renew keeps a lease for as long again.
	Renew(context.Context, migrate.Lease) error
	// ClaimBehind takes over one that waits for an operator and lags behind what
	// is written meanwhile.
	ClaimBehind(ctx context.Context, lease time.Duration) (migrate.Lease, bool, error)
	Release(context.Context, migrate.Lease) error
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
	// Retries is how often an arrow is tried again, with growing pauses, when
	// the database was not to be had or a table was busy. Default 8.
	Retries int
}

// Worker claims migrations and moves them on, one at a time. Beside that, those that
// wait for an operator are kept from lagging behind, one at a time too.
type Worker struct {
	journal Journal
	target  Target
	cfg     Config
	log     *zap.Logger
	wake    chan struct{}
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
	return &Worker{journal: journal, target: target, cfg: cfg, log: log, wake: make(chan struct{}, 1)}
}

// Wake makes the worker look for work now.
func (w *Worker) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends. What is under way is then rolled back; another
// worker goes on from there.
func (w *Worker) Run(ctx context.Context) {
	var following sync.WaitGroup
	following.Go(func() { w.claiming(ctx, w.journal.ClaimBehind, nil) })
	w.claiming(ctx, w.journal.Claim, w.wake)
	following.Wait()
}

// claiming works on what a claim gives. It looks again when it is woken, or after
// a while.
func (w *Worker) claiming(ctx context.Context, claim func(context.Context, time.Duration) (migrate.Lease, bool, error), wake <-chan struct{}) {
	for ctx.Err() == nil {
		lease, found, err := claim(ctx, w.cfg.Lease)
		if err != nil && ctx.Err() == nil {
			w.log.Warn("cannot look for migrations", zap.Error(err))
		}
		if err == nil && found {
			w.work(ctx, lease)
			continue
		}
		select {
		case <-ctx.Done():
		case <-wake:
		case <-time.After(w.cfg.Poll):
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
		log.Error("migration failed", zap.Error(err), zap.String("detail", fault.From(err).Detail()))
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
		err := w.patiently(ctx, func() (err error) {
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
			return w.patiently(ctx, func() error { return follow(ctx, w.target, l) })
		}
		if !moves {
			return nil
		}
		log.Info("migration moves on", zap.String("layer", m.Spec.Layer), zap.String("from", string(m.State)), zap.String("to", string(next)))
		err = w.patiently(ctx, func() error {
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
// or a lock.
func (w *Worker) patiently(ctx context.Context, do func() error) error {
	pause := 250 * time.Millisecond
	for try := 0; ; try++ {
		err := do()
		if err == nil || fault.KindOf(err) != fault.Unavailable || try == w.cfg.Retries {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
			pause = min(2*pause, 10*time.Second)
		}
	}
}

// fenced reports whether the migration belongs to somebody else by now.
func fenced(err error) bool {
	if errors.Is(err, errLeaseLost) {
		return true
	}
	f, ok := errors.AsType[*fault.Error](err)
	return ok && f.Reason == fault.MigrationChanged
}
