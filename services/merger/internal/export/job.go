// Package export writes merged tables as files of the server: jobs that wait in
// line, run, can be watched and cancelled, and a directory where what they
// write appears whole or not at all. What a file looks like inside is not its
// business: it gets an encoder for that.
package export

import (
	"time"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// State is how far a job has come.
type State uint8

// The states. The last three are ends.
const (
	Queued State = iota
	Running
	Succeeded
	Failed
	Cancelled
)

// String names the state as the contract does.
func (s State) String() string {
	return [...]string{"QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"}[s]
}

// Phase is what a running job does.
type Phase uint8

// The phases, in order.
const (
	Idle       Phase = iota // it does not run
	Waiting                 // for memory or database connections
	Writing                 // reads layers, writes parts
	Publishing              // gives the result its name; there is no way back
)

// Order is what to write.
type Order struct {
	// Key names the request, so that repeating it starts nothing new; may be
	// empty. Fingerprint is equal for equal requests.
	Key, Fingerprint string
	// Name is where to: see CheckName.
	Name string
	// PartRows is the number of rows in a part; 0 leaves it to Complete.
	PartRows int64
	// Plan is the merge, decided, with the generations of its layers.
	Plan *merge.Plan
	// RequestID is the call that asked, for the log.
	RequestID string
	// Owner is who asked: nobody else learns of the export.
	Owner string
}

// Who is somebody who asks for exports.
type Who struct {
	Name string
	// All is true for who sees the exports of everybody.
	All bool
}

func (w Who) sees(j Job) bool { return w.All || w.Name == j.Order.Owner }

// Progress is how much of a job is done.
type Progress struct {
	Rows  int64
	Bytes int64
	// Parts are whole.
	Parts int
	// Fraction of the lattice's rows that have been gone through, 0 to 1.
	Fraction float64
}

// Part is one file of a result.
type Part struct {
	File   string `json:"file"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Layer is one layer of a result, with the number of its values.
type Layer struct {
	Name       string `json:"name"`
	Column     string `json:"column"`
	Generation int64  `json:"generation"`
	Cells      int64  `json:"cells"`
}

// Manifest lists what was written. As JSON it is the last file of a directory.
type Manifest struct {
	Version int     `json:"version"`
	Rows    int64   `json:"rows"`
	Bytes   int64   `json:"bytes"`
	Parts   []Part  `json:"parts"`
	Layers  []Layer `json:"layers"`
}

// Job is one export as it stands: a value, which nobody else changes.
type Job struct {
	ID       string
	Order    Order
	State    State
	Phase    Phase
	Progress Progress
	// Failure is set when the state is Failed, and Manifest when it is
	// Succeeded.
	Failure  *fault.Error
	Manifest Manifest
	// Started, Began (to write, with all that it takes) and Ended are zero before
	// that.
	Created, Started, Began, Ended time.Time
}

// Over reports whether nothing more will happen.
func (j Job) Over() bool { return j.State >= Succeeded }

// The arrows between the states. Each gives the job as it is afterwards; one
// that does not leave the state it is in is a bug.

func (j Job) start(now time.Time) Job {
	j.State, j.Phase, j.Started = Running, Waiting, now
	return j
}

func (j Job) succeed(m Manifest, now time.Time) Job {
	j.State, j.Phase, j.Manifest, j.Ended = Succeeded, Idle, m, now
	j.Progress = Progress{Rows: m.Rows, Bytes: m.Bytes, Parts: len(m.Parts), Fraction: 1}
	return j
}

func (j Job) fail(because *fault.Error, now time.Time) Job {
	j.State, j.Phase, j.Failure, j.Ended = Failed, Idle, because, now
	return j
}

func (j Job) cancel(now time.Time) Job {
	j.State, j.Phase, j.Ended = Cancelled, Idle, now
	return j
}

// checkCancel says whether the job can still be cancelled. Errors: Precondition
// EXPORT_STATE.
func (j Job) checkCancel() error {
	switch {
	case j.State == Succeeded, j.Phase == Publishing:
		return j.tooLate("is published")
	case j.State == Failed:
		return j.tooLate("has failed")
	default:
		return nil
	}
}

func (j Job) tooLate(what string) error {
	return fault.New(fault.Precondition, fault.ExportState, "export %q %s, and cannot be cancelled", j.Order.Name, what).
		With("id", j.ID).With("name", j.Order.Name).With("state", j.State)
}
