package merge

import (
	"context"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/rasterloom/rasterloom/fault"
)

// Budget is memory that everything that merges in this process shares.
type Budget struct {
	bytes int64
	wait  time.Duration
	free  *semaphore.Weighted
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
	return &Budget{bytes: bytes, wait: wait, free: semaphore.NewWeighted(bytes)}
}

// Check says whether so many bytes can ever be leased. Errors: Limit
// LIMIT_EXCEEDED.
func (b *Budget) Check(bytes int64) error {
	if bytes > b.bytes {
		return b.refuse(bytes)
	}
	return nil
}

// Lease takes bytes until release is called. Errors: Limit LIMIT_EXCEEDED when
// they did not come free in time, or never can.
func (b *Budget) Lease(ctx context.Context, bytes int64) (release func(), err error) {
	if err := b.Check(bytes); err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, b.wait)
	defer cancel()
	if err := b.free.Acquire(wait, bytes); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, b.refuse(bytes)
	}
	return func() { b.free.Release(bytes) }, nil
}

func (b *Budget) refuse(bytes int64) error {
	return fault.New(fault.Limit, fault.LimitExceeded,
		"a stream of %d bytes of memory does not fit beside the others: the budget is %d; try again later", bytes, b.bytes).
		With("bytes", bytes).With("limit", b.bytes)
}
