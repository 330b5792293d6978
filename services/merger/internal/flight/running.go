package flight

import (
	"context"
	"sync"
	"time"

	"github.com/rasterloom/rasterloom/fault"
)

// maxCancelled bounds the memory of cancelled endpoints.
const maxCancelled = 1 << 17

// endpointKey names an endpoint of a flight across the tickets that were made
// for it: renewing makes another ticket of the same endpoint.
type endpointKey struct {
	flight string
	start  int64
}

// runningStream is a stream at work.
type runningStream struct {
	cancel context.CancelCauseFunc
	ended  chan struct{}
}

// runningStreams knows the streams at work, and the endpoints that were
// cancelled as long as a ticket of theirs could be good.
type runningStreams struct {
	now func() time.Time

	mu        sync.Mutex
	streams   map[endpointKey]map[*runningStream]struct{}
	cancelled map[endpointKey]time.Time // until then
}

func newRunningStreams(now func() time.Time) *runningStreams {
	return &runningStreams{
		now: now, streams: map[endpointKey]map[*runningStream]struct{}{}, cancelled: map[endpointKey]time.Time{},
	}
}

func cancelledFault() *fault.Error {
	return fault.New(fault.Conflict, fault.FlightCancelled, "the flight was cancelled: ask for it again")
}

// check fails for an endpoint that was cancelled. Errors: Conflict
// FLIGHT_CANCELLED.
func (r *runningStreams) check(key endpointKey) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if until, ok := r.cancelled[key]; ok && r.now().Before(until) {
		return cancelledFault()
	}
	return nil
}

// begin enters a stream. Its context ends with FLIGHT_CANCELLED as the cause
// when the endpoint is cancelled. Call end once everything it held is released.
func (r *runningStreams) begin(ctx context.Context, key endpointKey) (inner context.Context, end func(), err error) {
	inner, cancel := context.WithCancelCause(ctx)
	s := &runningStream{cancel: cancel, ended: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	if until, ok := r.cancelled[key]; ok && r.now().Before(until) {
		cancel(nil)
		return nil, nil, cancelledFault()
	}
	if r.streams[key] == nil {
		r.streams[key] = map[*runningStream]struct{}{}
	}
	r.streams[key][s] = struct{}{}
	return inner, func() {
		cancel(nil)
		r.mu.Lock()
		delete(r.streams[key], s)
		if len(r.streams[key]) == 0 {
			delete(r.streams, key)
		}
		r.mu.Unlock()
		close(s.ended)
	}, nil
}

// cancel voids the endpoints and stops their streams; ended waits for those.
// Errors: Limit LIMIT_EXCEEDED when too many endpoints are cancelled already.
func (r *runningStreams) cancel(keys []endpointKey, life time.Duration) (ended []<-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if len(r.cancelled)+len(keys) > maxCancelled {
		for key, until := range r.cancelled {
			if !now.Before(until) {
				delete(r.cancelled, key)
			}
		}
	}
	if total := len(r.cancelled) + len(keys); total > maxCancelled {
		return nil, fault.New(fault.Limit, fault.LimitExceeded, "%d cancelled endpoints would have to be remembered, and the limit is %d: try again later",
			total, maxCancelled).With("value", total).With("limit", maxCancelled)
	}
	for _, key := range keys {
		r.cancelled[key] = now.Add(life)
		for s := range r.streams[key] {
			s.cancel(cancelledFault())
			ended = append(ended, s.ended)
		}
	}
	return ended, nil
}
