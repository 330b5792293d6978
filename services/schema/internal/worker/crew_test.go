package worker_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/services/schema/internal/worker"
)

// board is a journal in memory whose migrations are verified in one arrow, or as long
// as verify of their id says.
type board struct {
	worker.Journal
	worker.Target
	mu     sync.Mutex
	list   map[migrate.ID]*migrate.Migration
	leased map[migrate.ID]bool
	verify func(ctx context.Context, id migrate.ID) error
	away   error // what looking for migrations gives
	waits  []string
}

func newBoard(throttled ...bool) *board {
	b := &board{list: map[migrate.ID]*migrate.Migration{}, leased: map[migrate.ID]bool{}}
	for i, rate := range throttled {
		m := &migrate.Migration{ID: migrate.ID(i + 1), State: migrate.Synced, Condition: migrate.Running, Fence: 1}
		if rate {
			m.Spec.RowsPerSecond = 1
		}
		b.list[m.ID] = m
	}
	return b
}

func (b *board) claim(throttled bool) (migrate.Lease, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away != nil {
		return migrate.Lease{}, false, b.away
	}
	for id := migrate.ID(1); int(id) <= len(b.list); id++ {
		if m := b.list[id]; m.State == migrate.Synced && !b.leased[id] && (throttled || m.Spec.RowsPerSecond == 0) {
			b.leased[id] = true
			return migrate.Lease{ID: id, Fence: 1}, true, nil
		}
	}
	return migrate.Lease{}, false, nil
}

func (b *board) Claim(context.Context, time.Duration) (migrate.Lease, bool, error) {
	return b.claim(true)
}

func (b *board) ClaimUnthrottled(context.Context, time.Duration) (migrate.Lease, bool, error) {
	return b.claim(false)
}

func (b *board) ClaimBehind(context.Context, time.Duration) (migrate.Lease, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return migrate.Lease{}, false, b.away
}

func (b *board) Renew(context.Context, migrate.Lease) error { return nil }

func (b *board) Release(_ context.Context, l migrate.Lease) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leased[l.ID] = false
	return nil
}

func (b *board) Get(_ context.Context, id migrate.ID) (migrate.Migration, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return *b.list[id], nil
}

func (b *board) Waits(_ context.Context, _ migrate.Lease, cause error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := "nothing"
	if cause != nil {
		text = cause.Error()
	}
	b.waits = append(b.waits, text)
	return nil
}

func (b *board) Verify(ctx context.Context, l migrate.Lease) error {
	if b.verify != nil {
		if err := b.verify(ctx, l.ID); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list[l.ID].State = migrate.Verified
	return nil
}

func (b *board) states() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var states []string
	for id := migrate.ID(1); int(id) <= len(b.list); id++ {
		states = append(states, string(b.list[id].State))
	}
	return strings.Join(states, " ")
}

// atWork runs a worker on the board, in a bubble of time of its own.
func (b *board) atWork(t *testing.T, check func(logs *observer.ObservedLogs)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		ctx, stop := context.WithCancel(t.Context())
		w := worker.New(b, b, worker.Config{}, zap.New(core))
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		check(logs)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Throttled migrations, however many there are, hold up none that is not.
func TestThrottledHoldUpNobody(t *testing.T) {
	b := newBoard(true, true, true, true, true, false, false)
	b.verify = func(ctx context.Context, id migrate.ID) error {
		if id > 5 {
			return nil
		}
		select {
		case <-time.After(time.Hour):
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	b.atWork(t, func(*observer.ObservedLogs) {
		time.Sleep(time.Minute)
		if got := b.states(); got != "SYNCED SYNCED SYNCED SYNCED SYNCED VERIFIED VERIFIED" {
			t.Errorf("after a minute: %s", got)
		}
		time.Sleep(5 * time.Hour)
		if got := b.states(); strings.Contains(got, "SYNCED") {
			t.Errorf("after five hours: %s", got)
		}
	})
}

// What a migration waits for is told while it waits, and logged once.
func TestWaitsAreTold(t *testing.T) {
	b := newBoard(false)
	tries := 0
	b.verify = func(context.Context, migrate.ID) error {
		if tries++; tries <= 5 {
			return fault.New(fault.Unavailable, fault.TableBusy, "session 7 has it").Because(errors.New("lock timeout"))
		}
		return nil
	}
	b.atWork(t, func(logs *observer.ObservedLogs) {
		time.Sleep(time.Minute)
		b.mu.Lock()
		got := strings.Join(b.waits, "; ")
		b.mu.Unlock()
		if got != strings.Repeat("session 7 has it; ", 5)+"nothing" {
			t.Errorf("told: %s", got)
		}
		if told := logs.FilterMessage("migration waits").All(); len(told) != 1 || told[0].ContextMap()["detail"] != "session 7 has it: lock timeout" {
			t.Errorf("logged: %v", told)
		}
		if logs.FilterMessage("migration goes on").Len() != 1 {
			t.Error("that it goes on is not logged")
		}
	})
}

// A database that is away is logged when it goes, with the cause, and when it is back.
func TestAbsenceIsLoggedOnce(t *testing.T) {
	b := newBoard()
	b.away = fault.New(fault.Unavailable, fault.DatabaseUnavailable, "the database cannot be reached").Because(errors.New("connection refused"))
	b.atWork(t, func(logs *observer.ObservedLogs) {
		time.Sleep(10 * time.Minute)
		if told := logs.All(); len(told) != 1 || told[0].ContextMap()["detail"] != "the database cannot be reached: connection refused" {
			t.Errorf("logged: %v", told)
		}
		b.mu.Lock()
		b.away = nil
		b.mu.Unlock()
		time.Sleep(time.Minute)
		if told := logs.All(); len(told) != 2 || told[1].Message != "migrations are looked for again" {
			t.Errorf("logged: %v", told)
		}
	})
}
