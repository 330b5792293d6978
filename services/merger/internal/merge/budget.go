package merge

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rasterloom/rasterloom/fault"
)

// shares is how many principals fill a budget: while somebody else has some of
// it, or waits for some, nobody takes more than one share.
const shares = 4

// Budget is memory that everything that merges in this process shares, in the
// order in which it is asked for.
type Budget struct {
	bytes, share int64
	wait         time.Duration

	mu      sync.Mutex
	used    int64
	held    map[string]int64 // by principal; no zeros
	waiting []*lease
}

// lease is somebody's wish for bytes.
type lease struct {
	who   string
	bytes int64
	had   chan struct{} // closed once they are had
}

// NewBudget makes a budget of bytes (default 512 MiB) that is waited for as long
// as wait (default 5 s).
func NewBudget(bytes int64, wait time.Duration) *Budget {
	if bytes <= 0 {
		bytes = 512 << 20
	}
	if wait <= 0 {
		wait = 5 * time.Second
	}
	return &Budget{bytes: bytes, share: bytes / shares, wait: wait, held: map[string]int64{}}
}

// Check says whether so many bytes can ever be leased. Errors: Limit
// LIMIT_EXCEEDED.
func (b *Budget) Check(bytes int64) error {
	if bytes > b.bytes {
		return b.refuse(bytes)
	}
	return nil
}

// Lease takes bytes for somebody until release is called. Errors: Limit
// LIMIT_EXCEEDED when they did not come free in time, or never can; Limit
// QUOTA_EXCEEDED when they would be more than a share beside others.
func (b *Budget) Lease(ctx context.Context, who string, bytes int64) (release func(), err error) {
	if err := b.Check(bytes); err != nil {
		return nil, err
	}
	l := &lease{who: who, bytes: bytes, had: make(chan struct{})}
	b.mu.Lock()
	b.waiting = append(b.waiting, l)
	b.grant()
	b.mu.Unlock()
	wait, cancel := context.WithTimeout(ctx, b.wait)
	defer cancel()
	select {
	case <-l.had:
		return func() { b.release(l) }, nil
	case <-wait.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-l.had: // in the same moment
		return func() { b.release(l) }, nil
	default:
	}
	over := b.over(l)
	b.waiting = slices.DeleteFunc(b.waiting, func(w *lease) bool { return w == l })
	b.grant() // who comes after it may fit, or be alone now
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if over {
		return nil, fault.New(fault.Limit, fault.QuotaExceeded,
			"%d bytes of memory would make more than the share of one caller, %d, while others work: ask for less at a time, or try again later", bytes, b.share).
			With("quota", "bytes").With("bytes", bytes).With("held", b.held[who]).With("limit", b.share)
	}
	return nil, b.refuse(bytes)
}

func (b *Budget) release(l *lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= l.bytes
	if b.held[l.who] -= l.bytes; b.held[l.who] == 0 {
		delete(b.held, l.who)
	}
	b.grant()
}

// grant gives bytes to those who wait, in their order. Who waits for its own
// share is passed over; who waits for free bytes is not, so that a large wish is
// not put off for ever by small ones.
func (b *Budget) grant() {
	for i := 0; i < len(b.waiting); {
		l := b.waiting[i]
		switch {
		case b.over(l):
			i++
		case b.used+l.bytes > b.bytes:
			return
		default:
			b.used += l.bytes
			b.held[l.who] += l.bytes
			b.waiting = slices.Delete(b.waiting, i, i+1)
			close(l.had)
		}
	}
}

// over reports whether a wish is for more than a share, beside others.
func (b *Budget) over(l *lease) bool {
	if b.held[l.who]+l.bytes <= b.share {
		return false
	}
	for who := range b.held {
		if who != l.who {
			return true
		}
	}
	return slices.ContainsFunc(b.waiting, func(w *lease) bool { return w.who != l.who })
}

func (b *Budget) refuse(bytes int64) error {
	return fault.New(fault.Limit, fault.LimitExceeded,
		"a stream of %d bytes of memory does not fit beside the others: the budget is %d; try again later", bytes, b.bytes).
		With("bytes", bytes).With("limit", b.bytes)
}
