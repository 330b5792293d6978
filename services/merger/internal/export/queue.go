package export

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/rasterloom/rasterloom/fault"
)

// Runner carries orders out.
type Runner interface {
	// Check says whether an order can be carried out now.
	Check(Order) error
	// Run does it and tells how it goes. It ends soon after ctx, and then leaves
	// nothing.
	Run(ctx context.Context, id string, o Order, tell Teller) (Manifest, error)
}

// Teller is told how a run goes on.
type Teller interface {
	// Writing says that the run has what it needs.
	Writing()
	Progress(Progress)
	// Publishing says that there is no way back from now on. It fails where
	// the run is to end instead.
	Publishing() error
}

// Limits bound a queue. Zero values take the defaults.
type Limits struct {
	// Running is how many jobs run at the same time. Default 2.
	Running int
	// Waiting is how many more may wait. Default 64.
	Waiting int
	// Each is how many of them may be of one owner, running or waiting. Default:
	// no limit but the others.
	Each int
}

// remembered is how many jobs that are over can still be asked for.
const remembered = 1000

// Queue holds the jobs of this process and runs them in the order they came. It
// keeps them in memory: they end with the process. Whoever asks it sees ids and
// values only, so that a queue in the database can take its place.
type Queue struct {
	runner Runner
	limits Limits
	log    *zap.Logger
	now    func() time.Time
	// over is told of each job that is.
	over func(Job)

	mu sync.Mutex
	// jobs are all that are known, the oldest first; waiting those in line.
	jobs     []*entry
	byID     map[string]*entry
	byKey    map[ownKey]*entry
	waiting  []*entry
	running  int
	draining bool
	work     sync.WaitGroup
}

// ownKey is an idempotency key: each owner has keys of its own.
type ownKey struct{ owner, key string }

// entry is a job with what makes it move. Its fields belong to the queue's lock.
type entry struct {
	job    Job
	cancel context.CancelCauseFunc // nil until it runs
	// changed is closed and made anew whenever job changes; over is closed once
	// the job is over.
	changed, over chan struct{}
}

// errCancelled ends a run that was cancelled.
var errCancelled = errors.New("the export was cancelled")

// NewQueue makes a queue. over, unless nil, is called for each job that is, and
// returns at once. Close it.
func NewQueue(r Runner, l Limits, log *zap.Logger, over func(Job)) *Queue {
	if l.Running <= 0 {
		l.Running = 2
	}
	if l.Waiting <= 0 {
		l.Waiting = 64
	}
	if over == nil {
		over = func(Job) {}
	}
	return &Queue{
		runner: r, limits: l, log: log, now: time.Now, over: over,
		byID: map[string]*entry{}, byKey: map[ownKey]*entry{},
	}
}

// Count gives how many jobs run and wait.
func (q *Queue) Count() (running, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running, len(q.waiting)
}

// Find gives the job that somebody started with a key; false when there is none, or
// the key is empty. Errors: Exists EXPORT_EXISTS when the key was used for
// something else.
func (q *Queue) Find(_ context.Context, who Who, key, fingerprint string) (Job, bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.find(ownKey{who.Name, key}, fingerprint)
}

func (q *Queue) find(key ownKey, fingerprint string) (Job, bool, error) {
	e, ok := q.byKey[key]
	if key.key == "" || !ok {
		return Job{}, false, nil
	}
	if e.job.Order.Fingerprint != fingerprint {
		return Job{}, false, fault.New(fault.Exists, fault.ExportExists,
			"the idempotency key was used for another request, export %q: take a new key", e.job.Order.Name).
			With("field", "idempotency_key").With("id", e.job.ID).With("name", e.job.Order.Name)
	}
	return e.job, true, nil
}

// Start puts an order in line; one whose key is known gives the job that it
// names. Errors: Exists EXPORT_EXISTS (key, name), Limit LIMIT_EXCEEDED (too
// many wait, too much memory), Unavailable DRAINING, Invalid.
func (q *Queue) Start(_ context.Context, o Order) (Job, error) {
	if err := o.Complete(); err != nil {
		return Job{}, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if job, found, err := q.find(ownKey{o.Owner, o.Key}, o.Fingerprint); found || err != nil {
		return job, err
	}
	if q.draining {
		return Job{}, draining()
	}
	own := 0
	for _, e := range q.jobs {
		if e.job.Over() {
			continue
		}
		if e.job.Order.Name == o.Name {
			return Job{}, beingWritten(e.job, o)
		}
		if e.job.Order.Owner == o.Owner {
			own++
		}
	}
	if q.limits.Each > 0 && own >= q.limits.Each {
		return Job{}, fault.New(fault.Limit, fault.QuotaExceeded, "%d exports of yours run or wait already, and the limit is %d: wait until one has ended", own, q.limits.Each).
			With("quota", "exports").With("value", own).With("limit", q.limits.Each)
	}
	if err := q.runner.Check(o); err != nil {
		return Job{}, err
	}
	if len(q.waiting) >= q.limits.Waiting {
		return Job{}, fault.New(fault.Limit, fault.LimitExceeded, "%d exports wait already, and the limit is %d; try again later",
			len(q.waiting), q.limits.Waiting).With("value", len(q.waiting)).With("limit", q.limits.Waiting)
	}
	e := &entry{
		job:     Job{ID: strings.ToLower(rand.Text()), Order: o, Created: q.now()},
		changed: make(chan struct{}), over: make(chan struct{}),
	}
	q.forget()
	q.jobs = append(q.jobs, e)
	q.byID[e.job.ID] = e
	if o.Key != "" {
		q.byKey[ownKey{o.Owner, o.Key}] = e
	}
	q.waiting = append(q.waiting, e)
	q.dispatch()
	return e.job, nil
}

// beingWritten refuses a name that a running export has; whose it is, its owner
// alone learns.
func beingWritten(j Job, o Order) error {
	if j.Order.Owner != o.Owner {
		return fault.New(fault.Exists, fault.ExportExists, "another export writes %q already", o.Name).With("name", o.Name)
	}
	return fault.New(fault.Exists, fault.ExportExists, "export %s writes %q already", j.ID, o.Name).With("name", o.Name).With("id", j.ID)
}

func draining() *fault.Error {
	return fault.New(fault.Unavailable, fault.Draining, "the server is shutting down; start the export again")
}

// forget drops the oldest jobs that are over, beyond those remembered.
func (q *Queue) forget() {
	over := 0
	for _, e := range q.jobs {
		if e.job.Over() {
			over++
		}
	}
	q.jobs = slices.DeleteFunc(q.jobs, func(e *entry) bool {
		if over < remembered || !e.job.Over() {
			return false
		}
		over--
		delete(q.byID, e.job.ID)
		delete(q.byKey, ownKey{e.job.Order.Owner, e.job.Order.Key})
		return true
	})
}

// dispatch runs what waits, as far as there is room.
func (q *Queue) dispatch() {
	for q.running < q.limits.Running && len(q.waiting) > 0 {
		e := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.running++
		// The call that started it ends long before the job does.
		ctx, cancel := context.WithCancelCause(context.Background())
		e.cancel = cancel
		q.change(e, e.job.start(q.now()))
		q.work.Go(func() {
			defer cancel(nil)
			q.run(ctx, e)
		})
	}
}

func (q *Queue) run(ctx context.Context, e *entry) {
	var manifest Manifest
	err := fault.Guard(func() (err error) {
		manifest, err = q.runner.Run(ctx, e.job.ID, e.job.Order, &teller{q, e, ctx})
		return err
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	cause, _ := errors.AsType[*fault.Error](context.Cause(ctx))
	switch {
	case err == nil:
		q.change(e, e.job.succeed(manifest, q.now()))
	case errors.Is(context.Cause(ctx), errCancelled):
		q.change(e, e.job.cancel(q.now()))
	case cause != nil:
		q.change(e, e.job.fail(cause, q.now()))
	default:
		q.change(e, e.job.fail(fault.From(err), q.now()))
	}
	q.dispatch()
}

// change gives an entry a new value and wakes who watches it.
func (q *Queue) change(e *entry, job Job) {
	e.job = job
	close(e.changed)
	e.changed = make(chan struct{})
	if job.Over() {
		close(e.over)
		q.report(job)
		q.over(job)
	}
}

// teller is told by the run of one entry.
type teller struct {
	queue *Queue
	entry *entry
	ctx   context.Context //nolint:containedctx // of the run that it belongs to, and no longer
}

// Writing implements Teller.
func (t *teller) Writing() { t.set(func(j *Job) { j.Phase, j.Began = Writing, t.queue.now() }) }

// Progress implements Teller.
func (t *teller) Progress(p Progress) { t.set(func(j *Job) { j.Progress = p }) }

// Publishing implements Teller: under the lock, so that a cancel comes before
// or after it.
func (t *teller) Publishing() error {
	t.queue.mu.Lock()
	defer t.queue.mu.Unlock()
	if t.ctx.Err() != nil {
		return context.Cause(t.ctx)
	}
	job := t.entry.job
	job.Phase = Publishing
	t.queue.change(t.entry, job)
	return nil
}

func (t *teller) set(change func(*Job)) {
	t.queue.mu.Lock()
	defer t.queue.mu.Unlock()
	job := t.entry.job
	change(&job)
	t.queue.change(t.entry, job)
}

// Get gives a job. Errors: NotFound EXPORT_NOT_FOUND, also for one of somebody
// else.
func (q *Queue) Get(_ context.Context, who Who, id string) (Job, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, err := q.get(who, id)
	if err != nil {
		return Job{}, err
	}
	return e.job, nil
}

func (q *Queue) get(who Who, id string) (*entry, error) {
	e, ok := q.byID[id]
	if !ok || !who.sees(e.job) {
		return nil, fault.New(fault.NotFound, fault.ExportNotFound,
			"there is no export %s: the server knows those since its start, and of those that are over the last %d", id, remembered).
			With("id", id)
	}
	return e, nil
}

// List gives the jobs that somebody may see, the newest first.
func (q *Queue) List(_ context.Context, who Who, limit int) ([]Job, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var jobs []Job
	for _, e := range slices.Backward(q.jobs) {
		if len(jobs) == limit {
			break
		}
		if who.sees(e.job) {
			jobs = append(jobs, e.job)
		}
	}
	return jobs, nil
}

// Watch calls see with the job as it is, then when it changed, but not more
// often than every pause, and at last when it is over. An error of see ends it.
// Errors: NotFound EXPORT_NOT_FOUND; those of ctx.
func (q *Queue) Watch(ctx context.Context, who Who, id string, pause time.Duration, see func(Job) error) error {
	for {
		q.mu.Lock()
		e, err := q.get(who, id)
		if err != nil {
			q.mu.Unlock()
			return err
		}
		job, changed := e.job, e.changed
		q.mu.Unlock()
		if err := see(job); err != nil || job.Over() {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case <-time.After(pause):
		case <-e.over:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Cancel ends a job, and gives it once it has ended. A cancelled one stays as it
// is. Errors: NotFound EXPORT_NOT_FOUND, Precondition EXPORT_STATE.
func (q *Queue) Cancel(ctx context.Context, who Who, id string) (Job, error) {
	q.mu.Lock()
	e, err := q.get(who, id)
	if err == nil {
		err = e.job.checkCancel()
	}
	if err != nil {
		q.mu.Unlock()
		return Job{}, err
	}
	q.end(e, errCancelled)
	q.mu.Unlock()
	select {
	case <-e.over:
	case <-ctx.Done():
		return Job{}, ctx.Err()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.job.State != Cancelled {
		// It failed by itself in the same moment.
		return Job{}, e.job.checkCancel()
	}
	return e.job, nil
}

// end ends a job that is not over, for a reason.
func (q *Queue) end(e *entry, because error) {
	switch {
	case e.job.Over():
	case e.cancel != nil:
		e.cancel(because)
	default:
		q.waiting = slices.DeleteFunc(q.waiting, func(w *entry) bool { return w == e })
		if f, ok := errors.AsType[*fault.Error](because); ok {
			q.change(e, e.job.fail(f, q.now()))
		} else {
			q.change(e, e.job.cancel(q.now()))
		}
	}
}

// Drain takes no more orders and ends all jobs, as FAILED with DRAINING, so that
// who watches them knows. It returns at once.
func (q *Queue) Drain() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.draining = true
	for _, e := range q.jobs {
		q.end(e, draining())
	}
}

// Close drains, and returns when everything has ended.
func (q *Queue) Close() {
	q.Drain()
	q.work.Wait()
}

// report writes the one line of a job into the log, when it is over.
func (q *Queue) report(j Job) {
	layers := make([]string, 0, len(j.Order.Plan.Threads))
	for _, t := range j.Order.Plan.Threads {
		layers = append(layers, t.Layer.Name)
	}
	fields := []zap.Field{
		zap.String("id", j.ID), zap.String("name", j.Order.Name), zap.Stringer("state", j.State), zap.String("request_id", j.Order.RequestID), zap.String("principal", j.Order.Owner),
		zap.Strings("layers", layers), zap.Int64("rows", j.Progress.Rows), zap.Int64("bytes", j.Progress.Bytes),
		zap.Int("parts", j.Progress.Parts), zap.Duration("waited", started(j).Sub(j.Created)), zap.Duration("duration", j.Ended.Sub(started(j))),
	}
	f := j.Failure
	if f == nil {
		q.log.Info("export", fields...)
		return
	}
	fields = append(fields, zap.String("error", f.Message), zap.String("reason", string(f.Reason)), zap.Any("fields", f.Fields))
	if cause := f.Unwrap(); cause != nil {
		fields = append(fields, zap.NamedError("cause", cause))
	}
	if f.Kind == fault.Internal || f.Kind == fault.Corrupt {
		q.log.Error("export", append(fields, zap.String("stack", f.Stack()))...)
		return
	}
	q.log.Warn("export", fields...)
}

// started is when a job began to run; its end if it never did.
func started(j Job) time.Time {
	if j.Started.IsZero() {
		return j.Ended
	}
	return j.Started
}
