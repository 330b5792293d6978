package flight

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// Phases of a stream. Reading goes on beside the rest, for all layers at once,
// so the phases do not add up to the duration of the call.
const (
	phasePlan  = "plan"        // ask the schema service and the aligner
	phaseWait  = "wait"        // for memory beside other streams
	phaseOpen  = "open"        // connections, snapshot, queries
	phaseFirst = "first_batch" // from then until the first batch was sent
	phaseRead  = "read"        // waits for cells, added up over the layers
	phaseMerge = "merge"       // weave, less what was spent in sending
	phaseSend  = "send"        // until the transport had taken each message
)

// report is what one stream did. It becomes part of the call's line in the log,
// and of the metrics.
type report struct {
	ctx     context.Context //nolint:containedctx // only to find the call's line in the log
	metrics *metrics
	plan    *merge.Plan
	last    time.Time    // end of the phase before
	read    atomic.Int64 // nanoseconds
	phases  map[string]time.Duration
}

func (m *metrics) begin(ctx context.Context, t ticket) *report {
	m.running.Inc()
	r := &report{ctx: ctx, metrics: m, last: time.Now(), phases: make(map[string]time.Duration, 7)}
	r.note("operation", "merge")
	r.note("chunk", fmt.Sprintf("rows %d:%d", t.Start, t.Stop))
	return r
}

func (r *report) note(key string, value any) { wire.Note(r.ctx, key, value) }

// phase ends a phase that began with the end of the one before.
func (r *report) phase(name string) {
	now := time.Now()
	r.phases[name] = now.Sub(r.last)
	r.last = now
}

func (r *report) planned(plan *merge.Plan) {
	r.phase(phasePlan)
	r.plan = plan
	names, shifts := make([]string, 0, len(plan.Threads)), 0
	for _, t := range plan.Threads {
		names = append(names, t.Layer.Name)
		if t.Selected() && t.Relation.Verdict == grid.VerdictShift {
			shifts++
		}
	}
	r.note("layers", names)
	r.note("shifts", shifts)
	r.metrics.shifts.Add(float64(shifts))
}

// leased says how much memory the stream got.
func (r *report) leased(bytes int64) {
	r.phase(phaseWait)
	r.note("memory", bytes)
}

func (r *report) opened() { r.phase(phaseOpen) }

// timed are the sources with the time that is waited for them counted.
func (r *report) timed(sources []merge.Source) []merge.Source {
	timed := make([]merge.Source, len(sources))
	for i, s := range sources {
		timed[i] = timedSource{s, &r.read}
	}
	return timed
}

type timedSource struct {
	merge.Source
	waited *atomic.Int64
}

// Next implements merge.Source.
func (s timedSource) Next(ctx context.Context) (*layer.Chunk, error) {
	start := time.Now()
	chunk, err := s.Source.Next(ctx)
	s.waited.Add(int64(time.Since(start)))
	return chunk, err
}

// sent counts a message: at once, so that a long stream shows while it lasts.
func (r *report) sent(f *frame) {
	r.metrics.bytes.Add(float64(f.size()))
	if f.rows {
		r.metrics.batches.Inc()
	}
}

// woven notes what was merged and sent, also of a stream that failed.
func (r *report) woven(m *messenger, result merge.Result) {
	if m.sent.batches > 0 {
		r.phases[phaseFirst] = m.sent.first.Sub(r.last)
	}
	r.phases[phaseRead] = time.Duration(r.read.Load())
	r.phases[phaseSend] = m.sent.busy
	r.phases[phaseMerge] = time.Since(r.last) - m.sent.busy
	r.note("rows", result.Rows)
	r.note("batches", m.sent.batches)
	r.note("bytes", m.sent.bytes)
	r.metrics.rows.Add(float64(result.Rows))
	if len(result.Cells) > 0 {
		cells := make(map[string]int64, len(result.Cells))
		for i, t := range r.plan.Threads {
			cells[t.Layer.Name] = result.Cells[i]
			r.metrics.cells.Add(float64(result.Cells[i]))
		}
		r.note("cells", cells)
	}
}

func (r *report) end(err error) {
	seconds := make(map[string]float64, len(r.phases))
	for name, d := range r.phases {
		seconds[name] = d.Seconds()
		r.metrics.phases.WithLabelValues(name).Observe(d.Seconds())
	}
	r.note("seconds", seconds)
	r.metrics.running.Dec()
	r.metrics.streams.WithLabelValues(outcome(err)).Inc()
}

// outcome is how a stream ended, in one of few words.
func outcome(err error) string {
	if err == nil {
		return "OK"
	}
	if f := fault.From(err); f != nil && f.Kind != fault.Internal {
		return string(f.Reason)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return "CLIENT_GONE"
	}
	return string(fault.Bug)
}
