// Package migrate is the state machine by which a layer's table moves to another
// layout while it is being written: its states, its arrows, who may take which,
// and the values that travel with it. It is pure: it runs nothing. The arrows are
// carried out by a Target, one for each level, which lives where the SQL is.
//
// It is shared by the storage package, which takes the arrows, and by the schema
// service, which decides when.
package migrate

import (
	"slices"
	"strings"

	"github.com/rasterloom/rasterloom/fault"
)

// State is how far a migration has come. It is stored by name.
type State string

// The states, in the order in which they are reached.
const (
	// Planned: looked at and found possible. Nothing was made.
	Planned State = "PLANNED"
	// Capturing: the new table is there, empty, and every write to the old one
	// is noted, in the writer's own transaction.
	Capturing State = "CAPTURING"
	// Backfilling: the rows that were there before are being copied.
	Backfilling State = "BACKFILLING"
	// Indexed: all are copied; the new table has its indexes.
	Indexed State = "INDEXED"
	// Synced: what was noted has been applied, and every write reaches the new
	// table in the writer's own transaction.
	Synced State = "SYNCED"
	// Verified: both tables were compared, every row, and agree.
	Verified State = "VERIFIED"
	// CutOver: the name is the new table's; every write reaches the old one.
	CutOver State = "CUT_OVER"
	// Finalized: the old table is gone. The end.
	Finalized State = "FINALIZED"
	// RolledBack: the name is the old table's again, the new one is gone. The
	// end.
	RolledBack State = "ROLLED_BACK"
	// Aborted: given up before the cut-over; nothing is left of it. The end.
	Aborted State = "ABORTED"
)

// States lists the states in order.
func States() []State {
	return []State{Planned, Capturing, Backfilling, Indexed, Synced, Verified, CutOver, Finalized, RolledBack, Aborted}
}

// Ended reports whether a migration in the state is over.
func (s State) Ended() bool { return s == Finalized || s == RolledBack || s == Aborted }

// Known reports whether the state is one of States.
func (s State) Known() bool { return slices.Contains(States(), s) }

// Condition says whether a migration moves.
type Condition string

// The conditions.
const (
	Running Condition = "RUNNING" // a worker takes the next arrow, or an operator may
	Paused  Condition = "PAUSED"  // an operator stopped it; writes are captured all the same
	Failed  Condition = "FAILED"  // the next arrow failed; resuming tries it again
)

// Arrow is one way from a state to another. Each is one transaction.
type Arrow struct {
	From, To State
	// ByOperator is true for arrows that are taken on request only.
	ByOperator bool
}

// arrows are all there are. Backfilling, and the applying of what was noted in
// Indexed, are many transactions that stay in their state before the arrow.
var arrows = []Arrow{
	{From: Planned, To: Capturing},
	{From: Capturing, To: Backfilling},
	{From: Backfilling, To: Indexed},
	{From: Indexed, To: Synced},
	{From: Synced, To: Verified},
	{From: Verified, To: Synced, ByOperator: true}, // in a database that was restored from a dump: compared again
	{From: Verified, To: CutOver, ByOperator: true},
	{From: CutOver, To: Finalized, ByOperator: true},
	{From: CutOver, To: RolledBack, ByOperator: true},
	{From: Planned, To: Aborted, ByOperator: true},
	{From: Capturing, To: Aborted, ByOperator: true},
	{From: Backfilling, To: Aborted, ByOperator: true},
	{From: Indexed, To: Aborted, ByOperator: true},
	{From: Synced, To: Aborted, ByOperator: true},
	{From: Verified, To: Aborted, ByOperator: true},
}

// Arrows lists them.
func Arrows() []Arrow { return slices.Clone(arrows) }

// Next gives the state that a worker moves to from s; false where an operator
// has to decide, or the migration is over.
func Next(s State) (State, bool) {
	for _, a := range arrows {
		if a.From == s && !a.ByOperator {
			return a.To, true
		}
	}
	return "", false
}

// Check says whether the arrow exists. Errors: Precondition MIGRATION_STATE,
// naming the state and those from which `to` can be reached.
func Check(from, to State) error {
	var origins []State
	for _, a := range arrows {
		if a.To != to {
			continue
		}
		if a.From == from {
			return nil
		}
		origins = append(origins, a.From)
	}
	return fault.New(fault.Precondition, fault.MigrationState,
		"the migration is %s, and %s is reached from %s only", from, to, list(origins)).
		With("state", from).With("wanted", to)
}

// list writes "A", "A or B", "A, B or C".
func list(states []State) string {
	names := make([]string, len(states))
	for i, s := range states {
		names[i] = string(s)
	}
	last := len(names) - 1
	if last < 1 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// Capture says which way writes to one of the two tables reach the other.
type Capture string

// The ways. Exactly one holds in each state.
const (
	CaptureNone    Capture = "none"    // nothing is captured
	CaptureNoted   Capture = "noted"   // old table → keyed notes
	CaptureForward Capture = "forward" // old table → new table
	CaptureReverse Capture = "reverse" // new table, which has the name → old table
)

// Capture gives the way that must hold in the state (invariant I3).
func (s State) Capture() Capture {
	switch s {
	case Capturing, Backfilling, Indexed:
		return CaptureNoted
	case Synced, Verified:
		return CaptureForward
	case CutOver:
		return CaptureReverse
	default:
		return CaptureNone
	}
}
