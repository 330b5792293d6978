package flight

import (
	"context"
	"errors"
	"sync"

	arrowflight "github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/services/merger/internal/columnar"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// DoGet streams the rows of one endpoint. Nothing is sent before the first
// batch is ready, but a sign of life where that takes long; an error after that
// ends the stream with a status, and a stream that was not ended by an error
// ends with a trailer.
func (s *Server) DoGet(raw *arrowflight.Ticket, stream arrowflight.FlightService_DoGetServer) error {
	t, err := s.signer.open(raw.GetTicket(), access.From(stream.Context()).Name)
	if err != nil {
		return err
	}
	ctx, end, err := s.running.begin(stream.Context(), t.key())
	if err != nil {
		return err
	}
	defer end()
	report := s.metrics.begin(stream.Context(), t)
	err = s.stream(ctx, t, stream, report)
	if cause := (*fault.Error)(nil); err != nil && errors.As(context.Cause(ctx), &cause) {
		// Why the context ended says more than that it did.
		err = cause
	}
	report.end(err)
	return err
}

func (s *Server) stream(ctx context.Context, t ticket, stream grpc.ServerStream, report *report) error {
	plan, canonical, err := s.planner.PlanCommand(ctx, t.Spec)
	if f := fault.From(err); f != nil && f.Reason == fault.LayerNotFound {
		return fault.New(fault.Conflict, fault.LayerChanged, "%s", f.Message).With("layer", f.Fields["layer"])
	}
	if err != nil {
		return err
	}
	report.planned(plan)
	if err := t.check(plan, canonical); err != nil {
		return err
	}
	plan.After = t.After
	bytes, release, err := s.opts.Budget.Lease(ctx, t.Principal, plan.Wish())
	if err != nil {
		return err
	}
	defer release()
	report.leased(bytes)
	plan = plan.Within(bytes)

	schema, err := columnar.SchemaOf(plan)
	if err != nil {
		return err
	}
	w := newBatchWriter(stream, schema, plan, s.opts)
	w.messages.told = report.sent
	opened := false
	result, err := s.send(ctx, w, func(ctx context.Context) (merge.Result, error) {
		// Also opening can wait, for a lock on a table.
		table, closeAll, err := s.open(ctx, plan, merge.Rows{Start: t.Start, Stop: t.Stop}, report)
		if err != nil {
			return merge.Result{}, err
		}
		defer closeAll()
		opened = true
		report.opened()
		return table(ctx, func(b *merge.Batch) error { return w.write(ctx, b) })
	})
	if opened {
		report.woven(w.messages, result)
	}
	if err != nil {
		return err
	}
	// Every cursor has come to its end and every count agrees; the layers have
	// to be what they were, too.
	if err := s.planner.CheckGenerations(ctx, plan); err != nil {
		return err
	}
	return w.end(ctx, result)
}

// table makes the table of a range of rows, batch by batch.
type table func(ctx context.Context, emit func(*merge.Batch) error) (merge.Result, error)

// open starts to read what a merge needs.
func (s *Server) open(ctx context.Context, plan *merge.Plan, rows merge.Rows, report *report) (table, func(), error) {
	if plan.Legacy {
		joined, closeJoin, err := s.cells.Join(ctx, plan.JoinRequest(rows))
		return func(ctx context.Context, emit func(*merge.Batch) error) (merge.Result, error) {
			return merge.Join(ctx, plan, rows, joined, emit)
		}, closeJoin, err
	}
	sources, closeAll, err := s.cells.Open(ctx, plan.Requests(rows))
	return func(ctx context.Context, emit func(*merge.Batch) error) (merge.Result, error) {
		return merge.Weave(ctx, plan, rows, report.timed(sources), emit)
	}, closeAll, err
}

// send sends a table, and signs of life meanwhile.
func (s *Server) send(ctx context.Context, w *batchWriter, table func(context.Context) (merge.Result, error)) (merge.Result, error) {
	ended := make(chan struct{})
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var beats sync.WaitGroup
	beats.Go(func() {
		if err := fault.Guard(func() error { w.messages.beats(ctx, ended, s.opts.Stall/4, w.sign); return nil }); err != nil {
			stop(err)
		}
	})
	defer beats.Wait()
	defer close(ended)
	return table(ctx)
}
