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
	Locks []string
	// Notices are what an operator should know beforehand, a sentence each.
	Notices  []string
	Refusals []Refusal
	// Headroom is the space on the disk; nil where nobody said and it cannot be
	// measured.
	Headroom *Headroom
	// Tiles is the most tiles that there can be, and WithoutValue the number of
	// rows whose cell has no value, which tiles do not keep.
	Tiles, WithoutValue int64
	// Codecs names how tiles are to be encoded, by a sample of them.
	Codecs string
}

// Headroom is space on the disk of a database server.
type Headroom struct {
	Bytes int64
	// Measured on the disk itself; else an operator said so.
	Measured bool
	// Reserved is what other migrations still need of it.
	Reserved int64
}

// Left is what a migration may take.
func (h Headroom) Left() int64 { return max(0, h.Bytes-h.Reserved) }

// Check is nil for a plan that can be carried out. Errors: Precondition
// MIGRATION_REFUSED with all reasons.
func (p Plan) Check() error {
	if len(p.Refusals) == 0 {
		return nil
	}
	codes, messages := make([]string, len(p.Refusals)), make([]string, len(p.Refusals))
	for i, r := range p.Refusals {
		if codes[i], messages[i] = r.Code, r.Message; r.Fix != "" {
			messages[i] += " (to do: " + r.Fix + ")"
		}
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

// CheckDisk is nil when the disk has room for the plan, or its space is not known.
// Errors: Limit DISK_FULL with both figures.
func (p Plan) CheckDisk() error {
	need := p.DiskBytes + p.WALBytes
	if p.Headroom == nil || need <= p.Headroom.Left() {
		return nil
	}
	source := "that the request says there is"
	if p.Headroom.Measured {
		source = "that is free"
	}
	f := fault.New(fault.Limit, fault.DiskFull, "the migration of layer %q needs about %d bytes of disk, write-ahead log included, and of the %d bytes %s %d are left",
		p.Spec.Layer, need, p.Headroom.Bytes, source, p.Headroom.Left())
	return f.With("layer", p.Spec.Layer).With("need", need).With("headroom", p.Headroom.Left()).With("reserved", p.Headroom.Reserved)
}

// Estimates of a migration to stored coordinates, measured on PostgreSQL 15
// with two cores (docs/migration.md has the measurements and the command).
const (
	storedBytesPerRow   = 83  // heap and key
	storedWALPerRow     = 120 // heap and key, full pages left aside
	storedRowsPerSecond = 900e3
	storedFixedSeconds  = 0.3 // locks and catalogs

	keyBytesPerRow = 23 // unique index on two integers

	inPlaceWALPerRow     = 310
	inPlaceRowsPerSecond = 250e3
	inPlaceGrowth        = 0.7 // of the table, with room made between batches
	inPlaceBloat         = 1.4 // of the table, where that cannot be done
)

// LockWait is the longest that a try to lock a table may wait, and so the
// longest that it can hold up others. It is below deadlock_timeout (1 s by
// default), so that in a deadlock it is we who give way.
const LockWait = 150 * time.Millisecond

// alterations is what every plan says of changes to the table.
const alterations = "until it ends, leave the columns, indexes and constraints of the table as they are: writes fail where a column is renamed"

// EstimateStored fills in what a migration of so many rows to stored
// coordinates takes. keyless: the table has no key and gets one.
func (p *Plan) EstimateStored(keyless bool) {
	p.DiskBytes = p.Rows * storedBytesPerRow
	p.WALBytes = p.Rows * storedWALPerRow
	p.seconds(storedRowsPerSecond)
	p.Locks = []string{
		"ACCESS SHARE on the table, chunk by chunk: readers and writers go on",
		fmt.Sprintf("SHARE ROW EXCLUSIVE on the table for some milliseconds, twice: writers wait at most %v a try", LockWait),
		fmt.Sprintf("ACCESS EXCLUSIVE on both tables and on dependent views for some milliseconds, at cut-over and rollback: "+
			"everybody waits at most %v a try", LockWait),
	}
	p.Notices = append(p.Notices, alterations)
	if keyless {
		p.DiskBytes += 2 * p.Rows * keyBytesPerRow
		p.Notices = append(p.Notices,
			"the table has no key and gets one on (row_idx, col_idx), made CONCURRENTLY: from then on a cell that is written a second time is refused; a rollback takes the key off, finalizing keeps it")
	}
}

// EstimateInPlace fills in what it takes to give the columns to the table itself.
func (p *Plan) EstimateInPlace() {
	p.DiskBytes = int64(inPlaceGrowth * float64(p.TableBytes))
	p.WALBytes = p.Rows * inPlaceWALPerRow
	p.seconds(inPlaceRowsPerSecond)
	p.Locks = []string{
		"ROW EXCLUSIVE on the table, batch by batch: readers go on, and a writer of one of the rows of a batch waits for its end",
		"SHARE UPDATE EXCLUSIVE on the table while VACUUM makes room between batches: readers and writers go on",
		fmt.Sprintf("ACCESS EXCLUSIVE on the table for some milliseconds, at the beginning, at cut-over and rollback: everybody waits at most %v a try", LockWait),
	}
	p.Notices = append(p.Notices,
		"row_idx and col_idx must not be renamed until the migration has ended, or every write to the table fails",
		fmt.Sprintf("every row is written anew: the table grows by about %.1f times its size, and by up to %.1f times while a long transaction keeps VACUUM from making room; it does not shrink again by itself, neither afterwards nor after a rollback",
			inPlaceGrowth, inPlaceBloat),
		"the coordinates are kept right by a trigger that stays, not by generated columns; the values are never touched, so there is no second copy to compare them with",
		"SELECT * shows two more columns from the beginning, under names of ours until the cut-over")
}

func (p *Plan) seconds(rowsPerSecond float64) {
	p.Seconds = storedFixedSeconds + float64(p.Rows)/rowsPerSecond
	if r := p.Spec.RowsPerSecond; r > 0 {
		p.Seconds = max(p.Seconds, float64(p.Rows)/float64(r))
	}
}
