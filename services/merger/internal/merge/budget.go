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

// parts is how many streams fill a budget, once it is shared among many: each
// gets that part of it where it can use it.
const parts = 48

// Budget is memory that everything that merges in this process shares, in the
// order in which it is asked for.
type Budget struct {
	bytes, share int64
	wait         time.Duration
	tell         func(change int64)

	mu      sync.Mutex
	used    int64
	held    map[string]holding // by principal; no zeros
	waiting []*lease
}

// holding is what one principal has: bytes, in so many leases.
type holding struct{ bytes, leases int64 }

// Wish says how many bytes are wanted: Least would do, and more than Most is of
// no use.
type Wish struct{ Least, Most int64 }

// lease is somebody's wish, and what was made of it.
type lease struct {
	who   string
	wish  Wish
	bytes int64
	had   chan struct{} // closed once they are had
}

// NewBudget makes a budget of bytes (default 512 MiB) that is waited for as long
// as wait (default 5 s). tell, unless it is nil, is told by how much what is leased
// changes.
func NewBudget(bytes int64, wait time.Duration, tell func(change int64)) *Budget {
	if bytes <= 0 {
		bytes = 512 << 20
	}
	if wait <= 0 {
		wait = 5 * time.Second
	}
	if tell == nil {
		tell = func(int64) {}
	}
	return &Budget{bytes: bytes, share: bytes / shares, wait: wait, tell: tell, held: map[string]holding{}}
}

// Bytes is how many there are.
func (b *Budget) Bytes() int64 { return b.bytes }

// Leased is how many are leased now.
func (b *Budget) Leased() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// Check says whether so many bytes can ever be leased. Errors: Limit
// LIMIT_EXCEEDED.
func (b *Budget) Check(bytes int64) error {
	if bytes > b.bytes {
		return b.refuse(bytes)
	}
	return nil
}

// Lease takes bytes for somebody until release is called: the fewer, the more is
// taken already. Errors: Limit LIMIT_EXCEEDED when the least did not come free in
// time, or never can; Limit QUOTA_EXCEEDED when it would be more than a share
// beside others.
func (b *Budget) Lease(ctx context.Context, who string, w Wish) (bytes int64, release func(), err error) {
	if err := b.Check(w.Least); err != nil {
		return 0, nil, err
	}
	l := &lease{who: who, wish: w, had: make(chan struct{})}
	b.mu.Lock()
	b.waiting = append(b.waiting, l)
	b.grant()
	b.mu.Unlock()
	wait, cancel := context.WithTimeout(ctx, b.wait)
	defer cancel()
	select {
	case <-l.had:
		return l.bytes, func() { b.release(l) }, nil
	case <-wait.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-l.had: // in the same moment
		return l.bytes, func() { b.release(l) }, nil
	default:
	}
	over := b.over(l)
	b.waiting = slices.DeleteFunc(b.waiting, func(w *lease) bool { return w == l })
	b.grant() // who comes after it may fit, or be alone now
	if ctx.Err() != nil {
		return 0, nil, ctx.Err()
	}
	if over {
		return 0, nil, fault.New(fault.Limit, fault.QuotaExceeded,
			"%d bytes of memory would make more than the share of one caller, %d, while others work: ask for less at a time, or try again later", w.Least, b.share).
			With("quota", "bytes").With("bytes", w.Least).With("held", b.held[who].bytes).With("limit", b.share)
	}
	return 0, nil, b.refuse(w.Least)
}

func (b *Budget) release(l *lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= l.bytes
	b.tell(-l.bytes)
	has := b.held[l.who]
	b.held[l.who] = holding{has.bytes - l.bytes, has.leases - 1}
	if has.leases == 1 {
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
		case b.used+l.wish.Least > b.bytes:
			return
		default:
			l.bytes = b.fair(l)
			b.used += l.bytes
			b.tell(l.bytes)
			has := b.held[l.who]
			b.held[l.who] = holding{has.bytes + l.bytes, has.leases + 1}
			b.waiting = slices.Delete(b.waiting, i, i+1)
			close(l.had)
		}
	}
}

// fair is what a wish is granted. The first streams get most of what there is,
// since they may stay alone, and the later ones less and less, down to the same
// small part for each.
func (b *Budget) fair(l *lease) int64 {
	room := b.bytes - b.used
	if !b.alone(l) {
		room = min(room, b.share-b.held[l.who].bytes)
	}
	n := b.held[l.who].leases + 1
	return max(l.wish.Least, min(l.wish.Most, room, max(room/(n*(n+1)), b.bytes/parts)))
}

// over reports whether the least of a wish is more than a share, beside others.
func (b *Budget) over(l *lease) bool {
	return b.held[l.who].bytes+l.wish.Least > b.share && !b.alone(l)
}

// alone reports whether nobody else has bytes, or waits for some.
func (b *Budget) alone(l *lease) bool {
	for who := range b.held {
		if who != l.who {
			return false
		}
	}
	return !slices.ContainsFunc(b.waiting, func(w *lease) bool { return w.who != l.who })
}

func (b *Budget) refuse(bytes int64) error {
	return fault.New(fault.Limit, fault.LimitExceeded,
		"a stream of %d bytes of memory does not fit beside the others: the budget is %d; try again later", bytes, b.bytes).
		With("bytes", bytes).With("limit", b.bytes)
}
