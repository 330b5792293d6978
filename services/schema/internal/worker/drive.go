// Package worker moves migrations on: it claims those that have something to do,
// takes their arrows one after the other, and stops where an operator has to
// decide. Any number of replicas may run it: a lease says whose a migration is,
// and a worker that lost its lease finds its fence outdated and does nothing.
package worker

import (
	"context"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// Target carries out the arrows of one level. Each method is one transaction:
// it either happened or it did not. All of them answer Conflict MIGRATION_CHANGED
// when the lease was lost.
type Target interface {
	Capture(context.Context, migrate.Lease) error
	Open(context.Context, migrate.Lease) error
	// Lanes gives the parts that are not copied yet; each can be copied at the
	// same time as the others.
	Lanes(context.Context, migrate.ID) ([]int, error)
	CopyChunk(ctx context.Context, l migrate.Lease, lane int) (rows int64, done bool, err error)
	Index(context.Context, migrate.Lease) error
	// ApplyNotes and Sync take more at a time the more turns there were.
	ApplyNotes(ctx context.Context, l migrate.Lease, turn int) (left bool, err error)
	Sync(ctx context.Context, l migrate.Lease, turn int) (more bool, err error)
	Verify(context.Context, migrate.Lease) error
	// Follow applies some of what is noted of a migration that waits for an
	// operator; left is false when there was no more.
	Follow(ctx context.Context, l migrate.Lease) (left bool, err error)
}

// step takes the next arrow from a state that a worker moves on from.
func step(ctx context.Context, t Target, l migrate.Lease, m migrate.Migration) error {
	switch m.State {
	case migrate.Planned:
		return t.Capture(ctx, l)
	case migrate.Capturing:
		return t.Open(ctx, l)
	case migrate.Backfilling:
		return backfill(ctx, t, l, m.Spec)
	case migrate.Indexed:
		return catchUp(ctx, t, l)
	case migrate.Synced:
		return t.Verify(ctx, l)
	default:
		return fault.New(fault.Internal, fault.Bug, "internal error").With("state", m.State)
	}
}

// backfill copies all lanes, then makes the indexes. A copying that had to begin
// again has lanes left: it goes round.
func backfill(ctx context.Context, t Target, l migrate.Lease, spec migrate.Spec) error {
	pace := newPace(spec.RowsPerSecond)
	for {
		lanes, err := t.Lanes(ctx, l.ID)
		if err != nil {
			return err
		}
		if len(lanes) == 0 {
			return t.Index(ctx, l)
		}
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(lanesAtOnce(spec.Level))
		for _, lane := range lanes {
			group.Go(func() error {
				return fault.Guard(func() error { return copyLane(ctx, t, l, lane, pace) })
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
}

// lanesAtOnce is how many lanes are copied at the same time: one keeps two processes
// of the server busy, and us. Of tiles, either one process of the server is, or we are.
func lanesAtOnce(level migrate.Level) int {
	if level == migrate.LevelTiled {
		return runtime.GOMAXPROCS(0)
	}
	return max(1, runtime.GOMAXPROCS(0)/2)
}

// copyLane copies a lane, chunk by chunk.
func copyLane(ctx context.Context, t Target, l migrate.Lease, lane int, p *pace) error {
	for {
		rows, done, err := t.CopyChunk(ctx, l, lane)
		if err != nil || done {
			return err
		}
		if err := p.wait(ctx, rows); err != nil {
			return err
		}
	}
}

// catchUp applies what was noted until so little is left that writers can be held
// up for it.
func catchUp(ctx context.Context, t Target, l migrate.Lease) error {
	for turn := 0; ; turn++ {
		left, err := t.ApplyNotes(ctx, l, turn)
		if err != nil {
			return err
		}
		if left {
			continue
		}
		if more, err := t.Sync(ctx, l, turn); err != nil || !more {
			return err
		}
	}
}

// follow applies what was noted, until nothing more is at hand.
func follow(ctx context.Context, t Target, l migrate.Lease) error {
	for {
		if left, err := t.Follow(ctx, l); err != nil || !left {
			return err
		}
	}
}

// pace spreads rows over time, for all lanes together.
type pace struct {
	mu            sync.Mutex
	rowsPerSecond int64 // 0: as fast as can be
	due           time.Time
}

func newPace(rowsPerSecond int64) *pace { return &pace{rowsPerSecond: rowsPerSecond, due: time.Now()} }

// wait returns when so many rows were due.
func (p *pace) wait(ctx context.Context, rows int64) error {
	if p.rowsPerSecond <= 0 {
		return ctx.Err()
	}
	p.mu.Lock()
	now := time.Now()
	if p.due.Before(now) {
		p.due = now // time that was not used is not saved up
	}
	p.due = p.due.Add(time.Duration(float64(rows) / float64(p.rowsPerSecond) * float64(time.Second)))
	pause := p.due.Sub(now)
	p.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}
