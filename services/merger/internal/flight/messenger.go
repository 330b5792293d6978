package flight

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/rasterloom/rasterloom/fault"
)

// messenger sends the messages of one stream, one at a time. It waits until the
// transport has taken a message whole, drops a consumer that takes nothing, and
// keeps a stream that has nothing to say from looking dead.
type messenger struct {
	stream grpc.ServerStream
	stall  time.Duration
	// told is told of each message that went out, unless it is nil.
	told func(*frame)

	mu sync.Mutex
	// schema is what has to be sent before all else; nil once it is.
	schema *frame
	failed error
	last   time.Time
	sent   struct {
		bytes   int64
		batches int64
		first   time.Time     // end of the first batch
		busy    time.Duration // time spent in sending
	}
}

// send sends a message, after the schema. When it returns nil, nothing refers
// to the message's buffers any more; after an error they must not be used again.
// Errors: Limit LIMIT_EXCEEDED for a consumer that stalls, the cause of ctx, and
// those of the transport.
func (m *messenger) send(ctx context.Context, f *frame) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed != nil {
		return m.failed
	}
	start := time.Now()
	if m.schema != nil {
		if m.failed = m.transmit(ctx, m.schema); m.failed != nil {
			return m.failed
		}
		m.schema = nil
	}
	m.failed = m.transmit(ctx, f)
	m.last = time.Now()
	m.sent.busy += m.last.Sub(start)
	if m.failed == nil && f.rows {
		if m.sent.batches++; m.sent.batches == 1 {
			m.sent.first = m.last
		}
	}
	return m.failed
}

// transmit waits for one message to go out. The sending itself runs beside it:
// a send to a consumer that takes nothing ends only once the handler of the
// stream returns, which is what the error is for.
func (m *messenger) transmit(ctx context.Context, f *frame) error {
	result := make(chan error, 1)
	go func() { result <- fault.Guard(func() error { return m.stream.SendMsg(f) }) }()
	look := time.NewTicker(m.stall/8 + 1)
	defer look.Stop()
	moved, since := f.moved.Load(), time.Now()
	for done := f.done; result != nil || done != nil; {
		select {
		case err := <-result:
			if err != nil {
				return err
			}
			result = nil
		case <-done:
			done = nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-look.C:
			if now := f.moved.Load(); now != moved {
				moved, since = now, time.Now()
			} else if waited := time.Since(since); waited >= m.stall {
				return fault.New(fault.Limit, fault.LimitExceeded,
					"the client took nothing of the stream for %v, and was dropped: read faster, or ask for the flight again", m.stall).
					With("limit", m.stall)
			}
		}
	}
	m.sent.bytes += f.size()
	if m.told != nil {
		m.told(f)
	}
	return nil
}

// beats sends a message whenever nothing was sent for a while, until it is told
// to end. A message that is under way then goes out all the same: half of one
// would be the end of the stream.
func (m *messenger) beats(ctx context.Context, ended <-chan struct{}, every time.Duration, message func() (*frame, error)) {
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-ended:
			return
		case <-timer.C:
		}
		m.mu.Lock()
		quiet := time.Since(m.last)
		m.mu.Unlock()
		if quiet < every {
			timer.Reset(every - quiet)
			continue
		}
		f, err := message()
		if err != nil || m.send(ctx, f) != nil {
			return // the stream's own next send fails as well
		}
		timer.Reset(every)
	}
}
