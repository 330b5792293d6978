// Package fault says what went wrong in a way a caller can act on.
//
// A fault has a Kind (what class of problem, which decides the status code), a
// Reason (which problem exactly, stable, for programs), a message (one sentence
// for people, with names, measured values and limits) and fields (the same
// names and values for programs). It knows nothing of protocols: internal/wire
// holds the one table from kinds to codes.
package fault

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"strings"
)

// Kind is the class of a fault.
type Kind uint8

// The kinds. The comment gives the status code each one becomes.
const (
	Internal        Kind = iota // internal: a bug
	Invalid                     // invalid_argument: the request can never work
	Unauthenticated             // unauthenticated: who are you?
	Denied                      // permission_denied: you may not
	NotFound                    // not_found
	Exists                      // already_exists
	Precondition                // failed_precondition: not in this state of things
	Conflict                    // aborted: somebody else was faster; try again
	Range                       // out_of_range: nothing there
	Limit                       // resource_exhausted: over a limit
	Unsupported                 // unimplemented
	Unavailable                 // unavailable: try again later
	Corrupt                     // data_loss: stored or sent data disagree with themselves
)

// Kinds lists all kinds, for tables and tests.
func Kinds() []Kind {
	kinds := make([]Kind, 0, Corrupt+1)
	for k := Internal; k <= Corrupt; k++ {
		kinds = append(kinds, k)
	}
	return kinds
}

// String names the kind.
func (k Kind) String() string {
	names := [...]string{
		"internal", "invalid", "unauthenticated", "denied", "not found", "exists", "precondition",
		"conflict", "range", "limit", "unsupported", "unavailable", "corrupt",
	}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Reason names a problem for programs, in UPPER_SNAKE. The list is the enum
// rasterloom.fault.v1.Reason of the contract; a test in internal/wire keeps the
// two equal.
type Reason string

// The reasons. What each one means is written in the contract.
const (
	InvalidArgument     Reason = "INVALID_ARGUMENT"
	InvalidGrid         Reason = "INVALID_GRID"
	LayerNotFound       Reason = "LAYER_NOT_FOUND"
	LayerUnreadable     Reason = "LAYER_UNREADABLE"
	LayerRepeated       Reason = "LAYER_REPEATED"
	ColumnRepeated      Reason = "COLUMN_REPEATED"
	LayerAmbiguous      Reason = "LAYER_AMBIGUOUS"
	CRSMismatch         Reason = "CRS_MISMATCH"
	Disjoint            Reason = "DISJOINT"
	ResidualTooLarge    Reason = "RESIDUAL_TOO_LARGE"
	LimitExceeded       Reason = "LIMIT_EXCEEDED"
	DuplicateCell       Reason = "DUPLICATE_CELL"
	CellOffGrid         Reason = "CELL_OFF_GRID"
	NarrowingLoss       Reason = "NARROWING_LOSS"
	LayerChanged        Reason = "LAYER_CHANGED"
	TicketInvalid       Reason = "TICKET_INVALID"
	TicketExpired       Reason = "TICKET_EXPIRED"
	FlightCancelled     Reason = "FLIGHT_CANCELLED"
	CatalogNotFound     Reason = "CATALOG_NOT_FOUND"
	DatabaseUnavailable Reason = "DATABASE_UNAVAILABLE"
	ServiceUnavailable  Reason = "SERVICE_UNAVAILABLE"
	DatabasePermission  Reason = "DATABASE_PERMISSION"
	DataCorrupt         Reason = "DATA_CORRUPT"
	NotSupported        Reason = "UNSUPPORTED"
	Draining            Reason = "DRAINING"
	Bug                 Reason = "INTERNAL"
	MigrationNotFound   Reason = "MIGRATION_NOT_FOUND"
	MigrationExists     Reason = "MIGRATION_EXISTS"
	MigrationState      Reason = "MIGRATION_STATE"
	MigrationChanged    Reason = "MIGRATION_CHANGED"
	MigrationRefused    Reason = "MIGRATION_REFUSED"
	TableBusy           Reason = "TABLE_BUSY"
	ExportNotFound      Reason = "EXPORT_NOT_FOUND"
	ExportExists        Reason = "EXPORT_EXISTS"
	ExportState         Reason = "EXPORT_STATE"
	DiskFull            Reason = "DISK_FULL"
	LayerExists         Reason = "LAYER_EXISTS"
	TableNotFound       Reason = "TABLE_NOT_FOUND"
	CredentialsInvalid  Reason = "CREDENTIALS_INVALID"
	PermissionDenied    Reason = "PERMISSION_DENIED"
	QuotaExceeded       Reason = "QUOTA_EXCEEDED"
	Dependent           Reason = "DEPENDENT"
)

// Reasons lists all reasons, for tables and tests.
func Reasons() []Reason {
	return []Reason{
		InvalidArgument, InvalidGrid, LayerNotFound, LayerUnreadable, LayerRepeated, ColumnRepeated, LayerAmbiguous,
		CRSMismatch, Disjoint, ResidualTooLarge, LimitExceeded, DuplicateCell, CellOffGrid, NarrowingLoss, LayerChanged,
		TicketInvalid, TicketExpired, FlightCancelled, CatalogNotFound, DatabaseUnavailable, ServiceUnavailable, DatabasePermission,
		DataCorrupt, NotSupported, Draining, Bug,
		MigrationNotFound, MigrationExists, MigrationState, MigrationChanged, MigrationRefused, TableBusy,
		ExportNotFound, ExportExists, ExportState, DiskFull, LayerExists, TableNotFound,
		CredentialsInvalid, PermissionDenied, QuotaExceeded, Dependent,
	}
}

// Error is a fault. Make one with New; do not change one that was returned.
type Error struct {
	Kind   Kind
	Reason Reason
	// Message is one sentence for people. It reaches clients: no SQL, host,
	// path or secret in it.
	Message string
	// Fields are the names, measured values and limits of the message.
	Fields map[string]string

	cause error
	stack []uintptr
}

// New makes a fault, and remembers where.
func New(kind Kind, reason Reason, format string, args ...any) *Error {
	e := &Error{Kind: kind, Reason: reason, Message: fmt.Sprintf(format, args...)}
	pcs := make([]uintptr, 32)
	e.stack = pcs[:runtime.Callers(2, pcs)]
	return e
}

// With returns the fault with one more field. Values print by fmt's %v.
func (e *Error) With(key string, value any) *Error {
	c := *e
	c.Fields = maps.Clone(e.Fields)
	if c.Fields == nil {
		c.Fields = make(map[string]string, 4)
	}
	c.Fields[key] = fmt.Sprint(value)
	return &c
}

// Because returns the fault with its cause. The cause is logged; it never
// reaches a client.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// Error gives the message. The cause is not part of it: see Detail.
func (e *Error) Error() string { return e.Message }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.cause }

// Detail gives the message with the causes, for logs.
func (e *Error) Detail() string { return Detail(e) }

// Detail gives the text of an error with the causes of all faults in its chain, which
// their own texts hide, for logs.
func Detail(err error) string {
	text := err.Error()
	for _, cause := range hidden(err) {
		own := cause.Error()
		rest := strings.TrimPrefix(Detail(cause), own)
		// A fault that was made of another one has its sentence already.
		if !strings.HasSuffix(text, own) {
			text += ": " + own
		}
		text += rest
	}
	return text
}

// hidden gives the causes that the text of an error leaves out.
func hidden(err error) []error {
	switch e := err.(type) { //nolint:errorlint // it is the chain itself that is walked
	case *Error:
		if e.cause != nil {
			return []error{e.cause}
		}
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return hidden(inner)
		}
	case interface{ Unwrap() []error }:
		var causes []error
		for _, inner := range e.Unwrap() {
			causes = append(causes, hidden(inner)...)
		}
		return causes
	}
	return nil
}

// Stack gives the stack at New, a function and its place a line, for logs.
func (e *Error) Stack() string {
	if len(e.stack) == 0 {
		return ""
	}
	var b strings.Builder
	frames := runtime.CallersFrames(e.stack)
	for {
		frame, more := frames.Next()
		fmt.Fprintf(&b, "%s\n\t%s:%d\n", frame.Function, frame.File, frame.Line)
		if !more {
			return b.String()
		}
	}
}

// From finds the fault in an error's chain. An error without one becomes an
// Internal fault with the error as its cause, so that nothing is lost and
// nothing leaks. From(nil) is nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return New(Internal, Bug, "internal error").Because(err)
}

// KindOf gives the kind of the fault in an error's chain, Internal if none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// Guard calls f and gives a panic of it as an Internal BUG with the stack. Whatever
// runs in a goroutine of ours goes through it: a panic there would end the process,
// and everybody's calls with it.
func Guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = New(Internal, Bug, "internal error").Because(fmt.Errorf("panic: %v", p))
		}
	}()
	return f()
}
