package pgstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// faultOf turns an error of the database or the connection into a fault: the
// one place that knows SQLSTATEs. The error becomes the cause, for the log;
// the message holds nothing of it. Faults and ends of contexts stay as they
// are.
func faultOf(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) && !connecting(err) {
		return err
	}
	if connecting(err) {
		return fault.New(fault.Unavailable, fault.DatabaseUnavailable, "the database cannot be reached").Because(err)
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		if pgErr.Code == insufficientPrivilege {
			return denied(pgErr).Because(err)
		}
		kind, reason, message := classify(pgErr.Code)
		return fault.New(kind, reason, "%s", message).With("sqlstate", pgErr.Code).Because(err)
	}
	if errors.Is(err, puddle.ErrClosedPool) {
		return fault.New(fault.Unavailable, fault.Draining, "the service is shutting down").Because(err)
	}
	_, network := errors.AsType[net.Error](err)
	if network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || pgconn.SafeToRetry(err) {
		return fault.New(fault.Unavailable, fault.DatabaseUnavailable, "the connection to the database was lost").Because(err)
	}
	return fault.From(err)
}

const insufficientPrivilege = "42501"

// ofRole stands before the role in the hint of an error of permission.
const ofRole = "role "

// naming has errors of permission say whose it is, which PostgreSQL leaves out: where
// they come by, the connection is known, and with it the role.
type naming struct{ *otelpgx.Tracer }

func nameRole(conn *pgx.Conn, err error) {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == insufficientPrivilege {
		e.Hint = ofRole + conn.Config().User
	}
}

// TraceQueryEnd implements pgx.QueryTracer.
func (n naming) TraceQueryEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryEndData) {
	nameRole(conn, data.Err)
	n.Tracer.TraceQueryEnd(ctx, conn, data)
}

// TraceBatchEnd implements pgx.BatchTracer.
func (n naming) TraceBatchEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchEndData) {
	nameRole(conn, data.Err)
	n.Tracer.TraceBatchEnd(ctx, conn, data)
}

// TraceCopyFromEnd implements pgx.CopyFromTracer.
func (n naming) TraceCopyFromEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceCopyFromEndData) {
	nameRole(conn, data.Err)
	n.Tracer.TraceCopyFromEnd(ctx, conn, data)
}

// deniedObject finds what a permission is lacked for: "permission denied for table
// birds", "must be owner of table birds".
var deniedObject = regexp.MustCompile(`^(?:permission denied for|must be owner of) ([a-z ]+ \S.*)$`)

// denied is the fault of a lacking permission, which names the role and what it is
// lacked for. What PostgreSQL says of that is shown where it is its own check that
// says it: a function of somebody's may raise the same code with any text.
func denied(e *pgconn.PgError) *fault.Error {
	who := "the database role of this service"
	role, known := strings.CutPrefix(e.Hint, ofRole)
	if known {
		who = fmt.Sprintf("the database role %q of this service", role)
	}
	what := " for this"
	object := deniedObject.FindStringSubmatch(e.Message)
	if object != nil || strings.HasPrefix(e.Routine, "aclcheck_error") {
		what = ": " + e.Message
	}
	f := fault.New(fault.Denied, fault.DatabasePermission, "%s lacks a permission%s", who, what).With("sqlstate", e.Code)
	if known {
		f = f.With("role", role)
	}
	if object != nil {
		f = f.With("object", object[1])
	}
	return f
}

// notThere finds what a statement did not find: relation "public.birds" does not exist.
var notThere = regexp.MustCompile(`^([a-z ]+ ".+") does not exist`)

// gone names what a step of a migration needs and did not find: it works by names that
// somebody may have changed, and adopting a catalog again brings none back.
func gone(id migrate.ID, err error) error {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if _, told := errors.AsType[*fault.Error](err); told || !ok || !slices.Contains([]string{"42P01", "42703", "42704", "3F000"}, e.Code) {
		return err
	}
	what := "something that it needs"
	found := notThere.FindStringSubmatch(e.Message)
	if found != nil {
		what = found[1]
	}
	f := fault.New(fault.Conflict, fault.LayerChanged,
		"migration %s: %s is gone, or has another name by now; nothing was changed: give it its name back, or end the migration with abort before its cut-over", id, what).
		With("migration", id).With("sqlstate", e.Code)
	if found != nil {
		f = f.With("missing", what)
	}
	return f.Because(err)
}

// connecting tells a failure to connect, whose own timeout is not the caller's.
func connecting(err error) bool {
	_, ok := errors.AsType[*pgconn.ConnectError](err)
	return ok
}

// classify gives the meaning of a SQLSTATE:
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func classify(code string) (fault.Kind, fault.Reason, string) {
	switch code {
	case "22021": // character_not_in_repertoire: U+0000 in a value
		return fault.Invalid, fault.InvalidArgument, "a text holds a character that the database does not store, such as U+0000"
	case "25006": // read_only_sql_transaction
		return fault.Denied, fault.DatabasePermission, "the database is read-only"
	case "40001", "40P01": // serialization_failure, deadlock_detected
		return fault.Conflict, fault.DatabaseUnavailable, "another transaction was in the way; try again"
	case "55P03": // lock_not_available
		return fault.Unavailable, fault.DatabaseUnavailable, "a table is locked by somebody else for too long; try again"
	case "57014": // query_canceled: by statement_timeout, as our own cancels end a context
		return fault.Unavailable, fault.DatabaseUnavailable, "the database took longer than its limit for a statement"
	case "42P01", "42703", "42704", "3F000": // undefined table, column, object, schema
		return fault.Conflict, fault.LayerChanged, "a table changed or vanished while it was read; adopt its catalog again"
	case "XX001", "XX002": // data_corrupted, index_corrupted
		return fault.Corrupt, fault.DataCorrupt, "the database reports corrupted data"
	case "53100": // disk_full
		return fault.Limit, fault.DiskFull, "the disk of the database is full"
	}
	switch {
	case strings.HasPrefix(code, "53"): // insufficient resources
		return fault.Unavailable, fault.DatabaseUnavailable, "the database is short of resources"
	case strings.HasPrefix(code, "08"), strings.HasPrefix(code, "57P"), strings.HasPrefix(code, "58"), // connection, shutdown, system
		code == "25P03": // idle_in_transaction_session_timeout
		return fault.Unavailable, fault.DatabaseUnavailable, "the connection to the database was lost"
	default:
		return fault.Internal, fault.Bug, "internal error"
	}
}
