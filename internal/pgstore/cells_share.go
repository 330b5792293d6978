package pgstore

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/rasterloom/rasterloom/fault"
)

// A set of cells needs one connection, which holds its snapshot. More make it
// faster while there are some: they are surplus, and go back when they have
// nothing to do for a while, or when somebody waits for a first one.

// surplusIdle is how long a surplus connection may have nothing to do.
const surplusIdle = time.Second

// steadySlices is after how many slices in a row, with more to take all the
// time, a set asks for another connection: what a connection costs to set up is
// not worth less.
const steadySlices = 4

// cellShares deals out the connections of a pool.
type cellShares struct {
	limit int64
	wait  time.Duration
	all   *semaphore.Weighted
	// surplus is the part of all that surplus ones may be: a quarter, since those
	// that read a layer as a whole, or are just being made, cannot come back at once;
	// enough for one set in a small pool.
	surplus *semaphore.Weighted
	waiting atomic.Int64
}

func newCellShares(limit int64, wait time.Duration) *cellShares {
	surplus := max(limit/4, min(limit-1, defaultConnections-1))
	return &cellShares{limit: limit, wait: wait, all: semaphore.NewWeighted(limit), surplus: semaphore.NewWeighted(surplus)}
}

// first takes the one connection that a set needs. Errors: Limit
// LIMIT_EXCEEDED when none came free in time.
func (s *cellShares) first(ctx context.Context) error {
	if s.all.TryAcquire(1) {
		return nil
	}
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	wait, cancel := context.WithTimeout(ctx, s.wait)
	defer cancel()
	if err := s.all.Acquire(wait, 1); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fault.New(fault.Limit, fault.LimitExceeded,
			"all %d database connections for reading are in use; none came free within %v", s.limit, s.wait).
			With("limit", s.limit)
	}
	return nil
}

// more takes up to n surplus connections, as many as are free.
func (s *cellShares) more(n int64) (taken int64) {
	for ; taken < n && s.surplus.TryAcquire(1); taken++ {
		if !s.all.TryAcquire(1) { // also where somebody waits for a first one
			s.surplus.Release(1)
			break
		}
	}
	return taken
}

// wanted reports whether somebody waits for a first connection.
func (s *cellShares) wanted() bool { return s.waiting.Load() > 0 }

func (s *cellShares) releaseFirst() { s.all.Release(1) }

func (s *cellShares) releaseMore(n int64) {
	s.all.Release(n)
	s.surplus.Release(n)
}

// add adds a line without a connection yet. The first one holds the snapshot;
// the others are surplus.
func (s *CellSet) add(slices bool) *cellLine {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &cellLine{set: s, surplus: len(s.lines) > 0, slices: slices, statements: map[string]string{}, wake: make(chan struct{}, 1)}
	s.lines = append(s.lines, l)
	return l
}

// grow gives a set that is short of connections another one, if there is one.
func (s *CellSet) grow() {
	s.mu.Lock()
	short := int64(len(s.lines)) < s.most
	s.mu.Unlock()
	if !short || s.reader.shares.wanted() || !s.slicer.available() || s.reader.shares.more(1) == 0 {
		return
	}
	s.add(true).start()
}

// start makes the line's connection, unless it has one, and reads what the line
// was given.
func (l *cellLine) start() {
	l.set.pumps.Go(func() {
		l.run(fault.Guard(func() error {
			if l.conn != nil {
				return nil
			}
			return l.join(l.set.ctx, l.set.snapshot)
		}))
	})
}

// missing reports whether an error of a line means no more than that there was no
// surplus connection to be had: the set does without.
func (l *cellLine) missing(err error) bool {
	return err != nil && l.surplus && l.conn == nil && l.set.ctx.Err() == nil
}

// run reads what the line was given, unless it could not be opened, and gives a
// surplus connection back.
func (l *cellLine) run(err error) {
	if err == nil {
		l.set.mu.Lock()
		l.ready = true
		l.set.mu.Unlock()
		err = fault.Guard(func() error { return l.pump(l.set.ctx) })
	}
	if err != nil && !l.missing(err) {
		l.set.cancel(faultOf(err))
	}
	if l.surplus {
		l.leave()
	}
}

// mayLeave reports whether a line can be done without: what it has is surplus,
// and it is not the only one to take slices; one that is still connecting may never
// come to it. It then takes none any more.
func (l *cellLine) mayLeave() bool {
	s := l.set
	s.mu.Lock()
	defer s.mu.Unlock()
	if !l.surplus || l.alone != nil || len(l.turns) > 0 {
		return false
	}
	for _, other := range s.lines {
		if other != l && other.slices && other.ready {
			l.slices = false
			return true
		}
	}
	return false
}

// leave gives a surplus line's connection back.
func (l *cellLine) leave() {
	s := l.set
	s.slicer.disown(l)
	l.close(s.ctx)
	s.mu.Lock()
	for i, other := range s.lines {
		if other == l {
			s.lines = append(s.lines[:i:i], s.lines[i+1:]...)
			break
		}
	}
	s.mu.Unlock()
	s.reader.shares.releaseMore(1)
}
