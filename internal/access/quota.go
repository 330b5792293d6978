package access

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/rasterloom/rasterloom/fault"
)

// Limits are what one principal may take of a process. Zero means no limit.
type Limits struct {
	// Rate is calls a second, on average; Burst is how many may come at once.
	Rate  float64
	Burst int
	// Calls and Streams are those in hand at a time.
	Calls, Streams int
	// CallTime and StreamTime are the longest that one may take.
	CallTime, StreamTime time.Duration
}

// admission is how long a call waits for others of its principal to end.
const admission = 5 * time.Second

// keptShares is how many principals are remembered before those at rest are
// forgotten.
const keptShares = 4096

// quotas counts what principals take.
type quotas struct {
	limits Limits
	wait   time.Duration
	now    func() time.Time

	mu     sync.Mutex
	shares map[string]*share
}

// share is what one principal takes.
type share struct {
	rate           *rate.Limiter
	calls, streams *semaphore.Weighted
	inHand         int // under the quotas' lock
}

func newQuotas(l Limits) *quotas {
	return &quotas{limits: l, wait: admission, now: time.Now, shares: map[string]*share{}}
}

// enter counts a call in; leave counts it out. Errors: Limit QUOTA_EXCEEDED with
// the limit.
func (q *quotas) enter(ctx context.Context, principal string, stream bool) (leave func(), err error) {
	s := q.take(principal)
	done := func() {
		q.mu.Lock()
		s.inHand--
		q.mu.Unlock()
	}
	if s.rate != nil && !s.rate.AllowN(q.now(), 1) {
		done()
		return nil, fault.New(fault.Limit, fault.QuotaExceeded, "%q calls more than %g times a second: call less often", principal, q.limits.Rate).
			With("quota", "rate").With("limit", q.limits.Rate)
	}
	what, limit, room := "calls", q.limits.Calls, s.calls
	if stream {
		what, limit, room = "streams", q.limits.Streams, s.streams
	}
	if room == nil {
		return done, nil
	}
	waiting, cancel := context.WithTimeout(ctx, q.wait)
	defer cancel()
	if err := room.Acquire(waiting, 1); err != nil {
		done()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fault.New(fault.Limit, fault.QuotaExceeded, "%q has %d %s in hand, and the limit is %d: wait until one has ended", principal, limit, what, limit).
			With("quota", what).With("limit", limit)
	}
	return func() { room.Release(1); done() }, nil
}

func (q *quotas) take(principal string) *share {
	q.mu.Lock()
	defer q.mu.Unlock()
	s, ok := q.shares[principal]
	if !ok {
		q.forget()
		s = &share{}
		if q.limits.Rate > 0 {
			s.rate = rate.NewLimiter(rate.Limit(q.limits.Rate), max(1, q.limits.Burst))
		}
		if q.limits.Calls > 0 {
			s.calls = semaphore.NewWeighted(int64(q.limits.Calls))
		}
		if q.limits.Streams > 0 {
			s.streams = semaphore.NewWeighted(int64(q.limits.Streams))
		}
		q.shares[principal] = s
	}
	s.inHand++
	return s
}

// forget drops the shares at rest, once there are many.
func (q *quotas) forget() {
	if len(q.shares) < keptShares {
		return
	}
	now := q.now()
	for name, s := range q.shares {
		if s.inHand == 0 && (s.rate == nil || s.rate.TokensAt(now) >= float64(s.rate.Burst())) {
			delete(q.shares, name)
		}
	}
}
