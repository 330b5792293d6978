package export

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// plan is a merge of one layer of rows × cols cells.
func plan(t testing.TB, rows, cols int) *merge.Plan {
	t.Helper()
	g := grid.Grid{CRS: "EPSG:32633", Rows: rows, Cols: cols, OriginX: 3e5, OriginY: 5e6, StepX: 30, StepY: 30}
	relation, err := grid.Relate(g, g, grid.DefaultTolerancePixels)
	if err != nil {
		t.Fatal(err)
	}
	p := &merge.Plan{
		Lattice: g, Window: g.Window(), Reference: 0, Coordinates: merge.Coordinates{XY: true},
		Threads: []merge.Thread{{
			Layer:    layer.Layer{Name: "birds", Grid: g, HasGrid: true, StoredType: layer.Float64, Format: layer.FormatLegacy, Generation: 3},
			Relation: relation, Column: "birds", Type: layer.Float64,
		}},
	}
	if err := p.Complete(); err != nil {
		t.Fatal(err)
	}
	return p
}

// byHand is a runner whose runs do what a test says.
type byHand struct {
	runs  chan *run
	check func(Order) error
}

// run is one run, until the test sends how it ends.
type run struct {
	ctx   context.Context
	id    string
	order Order
	tell  Teller
	end   chan error
}

func (b *byHand) Check(o Order) error {
	if b.check != nil {
		return b.check(o)
	}
	return nil
}

func (b *byHand) Run(ctx context.Context, id string, o Order, tell Teller) (Manifest, error) {
	r := &run{ctx, id, o, tell, make(chan error)}
	b.runs <- r
	tell.Writing()
	select {
	case err := <-r.end:
		if err == nil {
			err = tell.Publishing()
		}
		if errors.Is(err, errPanic) {
			panic("on purpose")
		}
		return Manifest{Rows: 7, Parts: []Part{{}}}, err
	case <-ctx.Done():
		return Manifest{}, ctx.Err()
	}
}

var errPanic = errors.New("panic")

func newQueue(t *testing.T, l Limits) (*Queue, *byHand, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	runner := &byHand{runs: make(chan *run, 1000)}
	q := NewQueue(runner, l, zap.New(core), nil)
	t.Cleanup(q.Close)
	return q, runner, logs
}

func (q *Queue) must(t *testing.T, o Order) Job {
	t.Helper()
	if o.Plan == nil {
		o.Plan = plan(t, 3, 4)
	}
	job, err := q.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// state waits until a job is in a state and phase.
func (q *Queue) state(t *testing.T, id string, state State, phase Phase) Job {
	t.Helper()
	var last Job
	found := errors.New("found")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := q.Watch(ctx, Who{}, id, 0, func(j Job) error {
		last = j
		if j.State == state && j.Phase == phase {
			return found
		}
		return nil
	})
	if !errors.Is(err, found) {
		t.Fatalf("job %+v, error %v; want %s, phase %d", last, err, state, phase)
	}
	return last
}

func requireFault(t *testing.T, err error, kind fault.Kind, reason fault.Reason) *fault.Error {
	t.Helper()
	f := fault.From(err)
	if err == nil || f.Kind != kind || f.Reason != reason {
		t.Fatalf("error %v, want %s %s", err, kind, reason)
	}
	return f
}

// So many run at a time, in the order they came; the rest waits, up to a limit.
func TestQueueIsBounded(t *testing.T) {
	q, runner, _ := newQueue(t, Limits{Running: 2, Waiting: 3})
	var ids []string
	for i := range 5 {
		ids = append(ids, q.must(t, Order{Name: fmt.Sprint("n", i)}).ID)
	}
	_, err := q.Start(t.Context(), Order{Name: "more", Plan: plan(t, 3, 4)})
	if f := requireFault(t, err, fault.Limit, fault.LimitExceeded); f.Fields["limit"] != "3" {
		t.Errorf("fields %v", f.Fields)
	}
	var order []string
	for i := range 5 {
		r := <-runner.runs
		order = append(order, r.order.Name)
		if waiting := 3 - i; waiting > 0 {
			second := <-runner.runs
			runner.runs <- second
			if len(runner.runs) != 1 {
				t.Fatalf("%d more run than should", len(runner.runs)-1)
			}
		}
		r.end <- nil
		q.state(t, r.id, Succeeded, Idle)
	}
	slices.Sort(order) // two at a time may take turns
	if fmt.Sprint(order) != "[n0 n1 n2 n3 n4]" {
		t.Errorf("ran %v", order)
	}
	list, err := q.List(t.Context(), Who{}, 2)
	if err != nil || len(list) != 2 || list[0].ID != ids[4] || list[1].ID != ids[3] {
		t.Errorf("listed %v, %v", list, err)
	}
}

// How a run ends decides the state; the log has one line for each.
func TestEnds(t *testing.T) {
	q, runner, logs := newQueue(t, Limits{Running: 1})
	for _, test := range []struct {
		end    error
		state  State
		reason fault.Reason
		level  zapcore.Level
	}{
		{nil, Succeeded, "", zapcore.InfoLevel},
		{fault.New(fault.Limit, fault.DiskFull, "full"), Failed, fault.DiskFull, zapcore.WarnLevel},
		{errors.New("a bug"), Failed, fault.Bug, zapcore.ErrorLevel},
		{errPanic, Failed, fault.Bug, zapcore.ErrorLevel},
		{fault.New(fault.Corrupt, fault.DataCorrupt, "corrupt"), Failed, fault.DataCorrupt, zapcore.ErrorLevel},
	} {
		job := q.must(t, Order{Name: "a", RequestID: "r1"})
		r := <-runner.runs
		r.tell.Progress(Progress{Rows: 5, Bytes: 50, Parts: 2, Fraction: 0.5})
		r.end <- test.end
		got := q.state(t, job.ID, test.state, Idle)
		if (test.state == Failed) != (got.Failure != nil) || got.Failure != nil && got.Failure.Reason != test.reason {
			t.Errorf("%v: failure %v", test.end, got.Failure)
		}
		if test.state == Succeeded && (got.Progress != Progress{7, 0, 1, 1}) || test.state == Failed && got.Progress.Rows != 5 {
			t.Errorf("%v: progress %v", test.end, got.Progress)
		}
		if got.Started.Before(got.Created) || got.Ended.Before(got.Started) {
			t.Errorf("times %v", got)
		}
		lines := logs.TakeAll()
		if len(lines) != 1 || lines[0].Level != test.level || lines[0].ContextMap()["request_id"] != "r1" || lines[0].ContextMap()["id"] != job.ID {
			t.Errorf("%v: log %v", test.end, lines)
		}
		_, err := q.Cancel(t.Context(), Who{}, job.ID)
		requireFault(t, err, fault.Precondition, fault.ExportState)
	}
}

func TestCancel(t *testing.T) {
	q, runner, _ := newQueue(t, Limits{Running: 1})
	running, waiting := q.must(t, Order{Name: "a"}), q.must(t, Order{Name: "b"})
	r := <-runner.runs
	got, err := q.Cancel(t.Context(), Who{}, waiting.ID)
	if err != nil || got.State != Cancelled || !got.Started.IsZero() {
		t.Errorf("waiting: %v, %v", got, err)
	}
	if got, err = q.Cancel(t.Context(), Who{}, running.ID); err != nil || got.State != Cancelled {
		t.Errorf("running: %v, %v", got, err)
	}
	if r.ctx.Err() == nil {
		t.Error("the run goes on")
	}
	if got, err = q.Cancel(t.Context(), Who{}, running.ID); err != nil || got.State != Cancelled {
		t.Errorf("again: %v, %v", got, err)
	}
	_, err = q.Cancel(t.Context(), Who{}, "nobody")
	requireFault(t, err, fault.NotFound, fault.ExportNotFound)

	// Once it is being published there is no way back.
	last := q.must(t, Order{Name: "c"})
	r = <-runner.runs
	if err := r.tell.Publishing(); err != nil {
		t.Fatal(err)
	}
	_, err = q.Cancel(t.Context(), Who{}, last.ID)
	requireFault(t, err, fault.Precondition, fault.ExportState)
	r.end <- nil
	q.state(t, last.ID, Succeeded, Idle)
}

// A cancel and a publication at the same moment: one of them happens, and both
// sides are told the same.
func TestCancelRacesPublication(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	q, runner, _ := newQueue(t, Limits{})
	ends := map[State]int{}
	for range 300 {
		job := q.must(t, Order{Name: "a"})
		r := <-runner.runs
		q.state(t, job.ID, Running, Writing)
		var sides sync.WaitGroup
		var err error
		spins := rng.IntN(2000)
		sides.Go(func() {
			for range spins {
				_ = q.limits
			}
			select {
			case r.end <- nil:
			case <-r.ctx.Done():
			}
		})
		sides.Go(func() { _, err = q.Cancel(t.Context(), Who{}, job.ID) })
		sides.Wait()
		got, getErr := q.Get(t.Context(), Who{}, job.ID)
		if getErr != nil {
			t.Fatal(getErr)
		}
		if err == nil && got.State != Cancelled {
			t.Fatalf("cancelled, and the job is %s", got.State)
		}
		if err != nil {
			requireFault(t, err, fault.Precondition, fault.ExportState)
			got = q.state(t, job.ID, Succeeded, Idle)
		}
		ends[got.State]++
	}
	t.Log(ends)
}

func TestKeysAndNames(t *testing.T) {
	q, runner, _ := newQueue(t, Limits{Running: 1})
	first := q.must(t, Order{Name: "a", Key: "k", Fingerprint: "1"})
	if again := q.must(t, Order{Name: "a", Key: "k", Fingerprint: "1"}); again.ID != first.ID {
		t.Error("the same key and request are two jobs")
	}
	for _, o := range []Order{{Name: "b", Key: "k", Fingerprint: "2"}, {Name: "a"}} {
		o.Plan = plan(t, 3, 4)
		_, err := q.Start(t.Context(), o)
		if f := requireFault(t, err, fault.Exists, fault.ExportExists); f.Fields["id"] != first.ID {
			t.Errorf("fields %v", f.Fields)
		}
	}
	if _, found, err := q.Find(t.Context(), Who{}, "", ""); found || err != nil {
		t.Error("no key is a key")
	}
	(<-runner.runs).end <- nil
	q.state(t, first.ID, Succeeded, Idle)
	// The name is free for the queue; what the directory says comes by Check.
	runner.check = func(o Order) error { return taken(o.Name) }
	_, err := q.Start(t.Context(), Order{Name: "a", Plan: plan(t, 3, 4)})
	requireFault(t, err, fault.Exists, fault.ExportExists)
}

// Draining ends everything, and tells it as what it is.
func TestDrain(t *testing.T) {
	q, runner, _ := newQueue(t, Limits{Running: 1})
	jobs := []Job{q.must(t, Order{Name: "a"}), q.must(t, Order{Name: "b"})}
	<-runner.runs
	q.Drain()
	for _, j := range jobs {
		got := q.state(t, j.ID, Failed, Idle)
		if got.Failure.Reason != fault.Draining {
			t.Errorf("failure %v", got.Failure)
		}
	}
	_, err := q.Start(t.Context(), Order{Name: "c", Plan: plan(t, 3, 4)})
	requireFault(t, err, fault.Unavailable, fault.Draining)
}

// A watcher sees the state at once and the end, and no more than its pace
// allows in between.
func TestWatchKeepsItsPace(t *testing.T) {
	q, runner, _ := newQueue(t, Limits{})
	job := q.must(t, Order{Name: "a"})
	r := <-runner.runs
	var seen []Job
	done := make(chan error)
	first := make(chan struct{})
	go func() {
		done <- q.Watch(t.Context(), Who{}, job.ID, time.Hour, func(j Job) error {
			if seen = append(seen, j); len(seen) == 1 {
				close(first)
			}
			return nil
		})
	}()
	<-first
	for i := range 1000 {
		r.tell.Progress(Progress{Rows: int64(i)})
	}
	r.end <- nil
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(seen) < 2 || len(seen) > 3 || !seen[len(seen)-1].Over() {
		t.Errorf("saw %d states, the last %v", len(seen), seen[len(seen)-1])
	}
}

// Of those that are over, only so many are remembered, and their keys with them.
func TestForgetting(t *testing.T) {
	q, runner, _ := newQueue(t, Limits{Running: 1})
	p := plan(t, 3, 4)
	var ids []string
	for i := range remembered + 10 {
		job := q.must(t, Order{Name: "a", Key: fmt.Sprint(i), Plan: p})
		ids = append(ids, job.ID)
		(<-runner.runs).end <- nil
		q.state(t, job.ID, Succeeded, Idle)
	}
	_, err := q.Get(t.Context(), Who{}, ids[0])
	requireFault(t, err, fault.NotFound, fault.ExportNotFound)
	if _, found, _ := q.Find(t.Context(), Who{}, "0", ""); found {
		t.Error("the key of a forgotten job is known")
	}
	if _, err := q.Get(t.Context(), Who{}, ids[len(ids)-1]); err != nil || len(q.byID) > remembered+1 || len(q.byKey) > remembered+1 {
		t.Errorf("%v; %d are known", err, len(q.byID))
	}
}

// What is somebody else's is as if it were not there, but for an operator.
func TestExportsAreOfTheirOwner(t *testing.T) {
	q, _, _ := newQueue(t, Limits{Running: 1, Each: 2})
	alice, bob, operator := Who{Name: "alice"}, Who{Name: "bob"}, Who{Name: "olga", All: true}
	start := func(name, owner string) (Job, error) {
		return q.Start(t.Context(), Order{Name: name, Key: "key-" + name, Owner: owner, Plan: plan(t, 3, 4)})
	}
	first, err := start("a", "alice")
	if err != nil {
		t.Fatal(err)
	}
	unknown := func(what string, err error) {
		t.Helper()
		if f := fault.From(err); f == nil || f.Reason != fault.ExportNotFound || f.Kind != fault.NotFound {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = q.Get(t.Context(), bob, first.ID)
	unknown("get", err)
	_, err = q.Cancel(t.Context(), bob, first.ID)
	unknown("cancel", err)
	unknown("watch", q.Watch(t.Context(), bob, first.ID, 0, func(Job) error { return nil }))
	if jobs, _ := q.List(t.Context(), bob, 10); len(jobs) != 0 {
		t.Errorf("bob sees %v", jobs)
	}
	if _, found, err := q.Find(t.Context(), bob, "key-a", "other"); found || err != nil {
		t.Errorf("bob's key is alice's: %v, %v", found, err)
	}
	_, err = start("a", "bob")
	if f := fault.From(err); f == nil || f.Reason != fault.ExportExists || f.Fields["id"] != "" {
		t.Errorf("bob writes to the same name: %v", err)
	}
	for _, who := range []Who{alice, operator} {
		if got, err := q.Get(t.Context(), who, first.ID); err != nil || got.ID != first.ID {
			t.Errorf("%s: %v", who.Name, err)
		}
		if jobs, _ := q.List(t.Context(), who, 10); len(jobs) != 1 {
			t.Errorf("%s sees %v", who.Name, jobs)
		}
	}
	if _, err := start("b", "alice"); err != nil {
		t.Fatal(err)
	}
	_, err = start("c", "alice")
	if f := fault.From(err); f == nil || f.Reason != fault.QuotaExceeded || f.Fields["limit"] != "2" {
		t.Errorf("a third one: %v", err)
	}
	if _, err := start("c", "bob"); err != nil {
		t.Errorf("bob pays for alice: %v", err)
	}
}
