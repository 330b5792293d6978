package migrate

import (
	"fmt"
	"strings"
	"time"

	"github.com/rasterloom/rasterloom/fault"
)

// Refusal is one reason why a table cannot be migrated as it is.
type Refusal struct {
	Code    string // UPPER_SNAKE, stable
	Message string // one sentence, with names and counts
	Count   int64  // of what the message names; 0 where nothing is counted
	Fix     string // what to do about it
}

// Dependent is something that hangs on the table and is carried over.
type Dependent struct {
	Kind string // "view", "index", "grant", …
	Name string
}

// Plan is what a migration would do: an EXPLAIN.
type Plan struct {
	Spec Spec
	// Rows were counted; TableBytes is the size of the table with its indexes.
	Rows, TableBytes int64
	// DiskBytes is about how much space the migration takes until it is
	// finalized, and WALBytes how much write-ahead log it makes.
	DiskBytes, WALBytes int64
	// Seconds is about how long it takes unthrottled, on an idle server.
	Seconds    float64
	Dependents []Dependent
	// Locks says in words what is locked, when and for how long at most.
	Locks    []string
	Refusals []Refusal
}

// Check is nil for a plan that can be carried out. Errors: Precondition
// MIGRATION_REFUSED with all reasons.
func (p Plan) Check() error {
	if len(p.Refusals) == 0 {
		return nil
	}
	codes, messages := make([]string, len(p.Refusals)), make([]string, len(p.Refusals))
	for i, r := range p.Refusals {
		codes[i], messages[i] = r.Code, r.Message
	}
	f := fault.New(fault.Precondition, fault.MigrationRefused, "layer %q cannot be migrated as it is: %s",
		p.Spec.Layer, strings.Join(messages, "; ")).
		With("layer", p.Spec.Layer).With("refusals", strings.Join(codes, ","))
	for _, r := range p.Refusals {
		if r.Count > 0 {
			f = f.With(strings.ToLower(r.Code), r.Count)
		}
	}
	return f
}

// Estimates of a migration to stored coordinates, measured on PostgreSQL 15
// with two cores (docs/migration.md has the measurements and the command).
const (
	storedBytesPerRow   = 83  // heap and key
	storedWALPerRow     = 120 // heap and key, full pages left aside
	storedRowsPerSecond = 900e3
	storedFixedSeconds  = 0.3 // locks and catalogs
)

// LockWait is the longest that a try to lock a table may wait, and so the
// longest that it can hold up others. It is below deadlock_timeout (1 s by
// default), so that in a deadlock it is we who give way.
const LockWait = 150 * time.Millisecond

// EstimateStored fills in what a migration of so many rows to stored
// coordinates takes.
func (p *Plan) EstimateStored() {
	p.DiskBytes = p.Rows * storedBytesPerRow
	p.WALBytes = p.Rows * storedWALPerRow
	p.Seconds = storedFixedSeconds + float64(p.Rows)/storedRowsPerSecond
	if r := p.Spec.RowsPerSecond; r > 0 {
		p.Seconds = max(p.Seconds, float64(p.Rows)/float64(r))
	}
	p.Locks = []string{
		"ACCESS SHARE on the table, chunk by chunk: readers and writers go on",
		fmt.Sprintf("SHARE ROW EXCLUSIVE on the table for some milliseconds, twice: writers wait at most %v a try", LockWait),
		fmt.Sprintf("ACCESS EXCLUSIVE on both tables and on dependent views for some milliseconds, at cut-over and rollback: "+
			"everybody waits at most %v a try", LockWait),
	}
}
