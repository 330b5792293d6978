package wire

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"connectrpc.com/connect"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/access"
)

// RequestIDHeader names a call across processes: taken from the caller where it
// is sane, made here otherwise, passed on to the services that are asked, and
// part of the answer and of the log line.
const RequestIDHeader = "X-Request-Id"

// Limits on messages, on every protocol.
const (
	// MaxReadBytes is the largest request message, after decompression.
	MaxReadBytes = 4 << 20
	// MaxSendBytes is the largest message that is sent: a record batch has to
	// fit.
	MaxSendBytes = 256 << 20
	// maxBodyBytes is the largest body of an HTTP request. It is above
	// MaxReadBytes so that a message a little too large is answered as such,
	// and ends the reading of one that is much too large.
	maxBodyBytes = 2 * MaxReadBytes
	// maxBodyTime is how long the body of a request may take to arrive.
	maxBodyTime = 30 * time.Second
)

// call is what the edge of a process keeps about one call, from its first byte
// to its one line in the log.
type call struct {
	id       string
	method   string
	peer     string
	protocol string
	start    time.Time
	// entered is true once the interceptors have the call. Until then an error
	// is the protocol library's own: it could not read the request.
	entered bool
	// unreadable is true for a call that grpc-go itself refused: its INTERNAL is
	// no bug of ours then.
	unreadable bool
	// ended gives why the context of the call ended; nil before it was let in.
	ended func() error
	// principal is who called; empty where that was not found out.
	principal string
	// stream is true for calls of more than one message either way.
	stream  bool
	metrics *Metrics
	// trace is the id of its trace, empty without one.
	trace string
	// request is what was asked of a call that can change something, where it
	// is a message and was read.
	request proto.Message
	// err is what the handler returned, with its causes.
	err error
	// notes are what the handler told of its work, and warnings what it warned
	// of.
	notes    []zap.Field
	warnings []string
}

type callKey struct{}

func newCall(ctx context.Context, method, peer, askedID string) *call {
	metrics, _ := ctx.Value(metricsKey{}).(*Metrics)
	return &call{id: requestID(askedID), method: strings.TrimPrefix(method, "/"), peer: peer, start: time.Now(), metrics: metrics}
}

// admit asks the guard about the call before its message is read.
func (c *call) admit(ctx context.Context, guard *access.Guard, asked access.Call) (inner context.Context, release func(), err error) {
	asked.Method = c.method
	inner, release, err = guard.Admit(ctx, asked)
	if err != nil {
		return nil, nil, err
	}
	c.principal = access.From(inner).Name
	c.ended = func() error { return context.Cause(inner) }
	return inner, release, nil
}

func (c *call) in(ctx context.Context) context.Context { return context.WithValue(ctx, callKey{}, c) }

// callOf gives the call that the edge put in the context. Where there is no
// edge, as in a test of a bare handler, it gives one that nobody reads.
func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return &call{}
}

// RequestID gives the id of the call that ctx belongs to; empty outside of one.
func RequestID(ctx context.Context) string { return callOf(ctx).id }

// Note adds what a handler knows of its work (the operation, the layers, what it
// counted) to the one line that the call gets in the log, whether it ends well
// or not. Call it from the handler's own goroutine.
func Note(ctx context.Context, key string, value any) {
	c := callOf(ctx)
	c.notes = append(c.notes, zap.Any(key, value))
}

// Warn adds a warning to the one line that the call of ctx has in the log, which
// is then of level warn at least. A warning that is there already is not added
// again. Call it from the handler's own goroutine.
func Warn(ctx context.Context, warning string) {
	c := callOf(ctx)
	if !slices.Contains(c.warnings, warning) {
		c.warnings = append(c.warnings, warning)
	}
}

// requestID takes an id of up to 64 letters, digits, dots, dashes and
// underscores as it is. Anything else could forge log lines or grow them.
func requestID(asked string) string {
	sane := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r)
	}
	if asked == "" || len(asked) > 64 || strings.ContainsFunc(asked, func(r rune) bool { return !sane(r) }) {
		return rand.Text()
	}
	return asked
}

// fail notes how the call ended and gives what is to be answered. An internal
// error is answered with nothing but the request id, under which the log has
// the rest.
func (c *call) fail(err error) error {
	err = c.overtime(violation(err))
	c.err = err
	f, ok := stated(err)
	if !ok && !hasStatus(err) {
		f, ok = fault.From(err), true
	}
	if ok && f.Kind == fault.Internal {
		return f.With("request_id", c.id)
	}
	return err
}

// overtime names the limit of this process that ended a call: the caller has limits
// of his own, and has to know whose it was.
func (c *call) overtime(err error) error {
	if code, ok := contextCode(err); !ok || code != codes.DeadlineExceeded || c.ended == nil {
		return err
	}
	if limit, ok := errors.AsType[*access.OvertimeError](c.ended()); ok {
		return limit
	}
	return err
}

// hasStatus reports whether an error that is no fault says what it is to the
// caller all the same: a context that ended, or a status of a protocol.
func hasStatus(err error) bool {
	if _, ok := contextCode(err); ok {
		return true
	}
	if _, ok := errors.AsType[*connect.Error](err); ok {
		return true
	}
	_, ok := status.FromError(err)
	return ok
}

// recovered turns a panic into an error, with the stack of the panic. Call it
// from the deferred function itself.
func recovered(value any) error {
	return fault.New(fault.Internal, fault.Bug, "internal error").Because(fmt.Errorf("panic: %v", value))
}

// violation turns an error of protovalidate into an Invalid fault that names
// the first field that breaks its rule. Other errors stay as they are.
func violation(err error) error {
	invalid, ok := errors.AsType[*protovalidate.ValidationError](err)
	if !ok || len(invalid.Violations) == 0 {
		return err
	}
	first := invalid.Violations[0]
	field := protovalidate.FieldPathString(first.Proto.GetField())
	message := first.Proto.GetMessage()
	if field != "" {
		message = field + ": " + message
	}
	if more := len(invalid.Violations) - 1; more > 0 {
		message = fmt.Sprintf("%s (and %d more)", message, more)
	}
	return fault.New(fault.Invalid, fault.InvalidArgument, "%s", message).
		With("field", field).With("rule", first.Proto.GetRuleId())
}

// Validate checks a message against the rules of the contract, for messages
// that do not come through an interceptor, such as a Flight command. Errors:
// Invalid INVALID_ARGUMENT naming the field.
func Validate(message proto.Message) error {
	return violation(protovalidate.Validate(message))
}

// end counts the call and puts its one line into the log, and one more into the
// audit log if it can have changed something.
func (c *call) end(log *zap.Logger) {
	c.metrics.end(c)
	c.writeAudit(log)
	c.write(log)
}

// write puts the one line of the call into the log: info when it went well or
// the caller gave up, warn when the request was refused or the service cannot
// work now, error for what somebody has to look at.
func (c *call) write(log *zap.Logger) {
	fields := []zap.Field{
		zap.String("method", c.method),
		zap.String("code", "ok"),
		zap.Duration("duration", time.Since(c.start)),
		zap.String("peer", c.peer),
		zap.String("request_id", c.id),
	}
	if c.principal != "" {
		fields = append(fields, zap.String("principal", c.principal))
	}
	if c.protocol != "" {
		fields = append(fields, zap.String("protocol", c.protocol))
	}
	if c.trace != "" {
		fields = append(fields, zap.String("trace_id", c.trace))
	}
	least := zapcore.InfoLevel
	if len(c.warnings) > 0 {
		least = zapcore.WarnLevel
		fields = append(fields, zap.Strings("warnings", c.warnings))
	}
	if c.err == nil {
		log.Log(least, "call", append(fields, c.notes...)...)
		return
	}
	code, message := answerOf(c.err)
	fields[1] = zap.Stringer("code", connect.Code(code))
	fields = append(append(fields, zap.String("error", message)), c.notes...)

	f, isFault := errors.AsType[*fault.Error](c.err)
	switch {
	case isFault:
		fields = append(fields, zap.String("reason", string(f.Reason)))
		if len(f.Fields) > 0 {
			fields = append(fields, zap.Any("fields", f.Fields))
		}
		// With what was said around the fault on its way, too.
		if detail := fault.Detail(c.err); detail != f.Message {
			fields = append(fields, zap.String("cause", strings.TrimPrefix(detail, f.Message+": ")))
		}
	case code == codes.Internal || code == codes.Unknown:
		fields = append(fields, zap.NamedError("cause", c.err))
	}
	level := max(levelOf(code), least)
	if c.unreadable && !isFault {
		level = min(level, zapcore.WarnLevel)
	}
	if isFault && level == zapcore.ErrorLevel {
		fields = append(fields, zap.String("stack", f.Stack()))
	}
	log.Log(level, "call", fields...)
}

// answerOf gives code and message that the client got.
func answerOf(err error) (codes.Code, string) {
	if s, ok := status.FromError(err); ok {
		if _, isFault := errors.AsType[*fault.Error](err); !isFault {
			return s.Code(), s.Message()
		}
	}
	answer := ToConnect(err)
	return codes.Code(answer.Code()), answer.Message()
}

func levelOf(code codes.Code) zapcore.Level {
	switch code {
	case codes.OK, codes.Canceled:
		return zapcore.InfoLevel
	case codes.Internal, codes.Unknown, codes.DataLoss:
		return zapcore.ErrorLevel
	default:
		return zapcore.WarnLevel
	}
}
