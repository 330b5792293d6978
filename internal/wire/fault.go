// Package wire converts between the contract and the domain: messages and
// values, faults and statuses. It holds the one table from fault kinds to codes,
// which Connect, gRPC and Flight share.
package wire

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/access"
)

// Domain is the domain of every ErrorInfo we send.
const Domain = "rasterloom.dev"

// retryAfterSeconds is what RetryInfo proposes for faults that pass by waiting.
const retryAfterSeconds = 1

// table is the one place where kinds become codes. Connect and gRPC share the
// numbers of their codes.
var table = map[fault.Kind]codes.Code{
	fault.Internal:        codes.Internal,
	fault.Invalid:         codes.InvalidArgument,
	fault.Unauthenticated: codes.Unauthenticated,
	fault.Denied:          codes.PermissionDenied,
	fault.NotFound:        codes.NotFound,
	fault.Exists:          codes.AlreadyExists,
	fault.Precondition:    codes.FailedPrecondition,
	fault.Conflict:        codes.Aborted,
	fault.Range:           codes.OutOfRange,
	fault.Limit:           codes.ResourceExhausted,
	fault.Unsupported:     codes.Unimplemented,
	fault.Unavailable:     codes.Unavailable,
	fault.Corrupt:         codes.DataLoss,
}

// Code gives the status code of a kind.
func Code(kind fault.Kind) codes.Code { return table[kind] }

// kindOf is the inverse of Code. Codes that no kind has become Internal.
func kindOf(code codes.Code) fault.Kind {
	for kind, c := range table {
		if c == code {
			return kind
		}
	}
	return fault.Internal
}

// details gives the machine-readable part of a fault, the same on every
// protocol.
func details(f *fault.Error) []proto.Message {
	out := []proto.Message{&errdetails.ErrorInfo{Reason: string(f.Reason), Domain: Domain, Metadata: f.Fields}}
	switch f.Kind {
	case fault.Invalid:
		if field := f.Fields["field"]; field != "" {
			out = append(out, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{
				Field: field, Description: f.Message, Reason: string(f.Reason),
			}}})
		}
	case fault.NotFound, fault.Exists:
		if name := f.Fields["layer"]; name != "" {
			out = append(out, &errdetails.ResourceInfo{ResourceType: "layer", ResourceName: name, Description: f.Message})
		}
	case fault.Conflict, fault.Unavailable, fault.Limit:
		out = append(out, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfterSeconds * 1e9)})
	}
	return out
}

// ToConnect turns any error into a Connect error. A context that was cancelled
// or ran out of time keeps its own code. The causes of faults stay here: log
// them before.
func ToConnect(err error) *connect.Error {
	if err == nil {
		return nil
	}
	f, ok := stated(err)
	if !ok {
		if code, ok := contextCode(err); ok {
			return connect.NewError(connect.Code(code), errors.New(contextText(code, err)))
		}
		if ce, ok := errors.AsType[*connect.Error](err); ok {
			return ce
		}
		f = fault.From(err)
	}
	ce := connect.NewError(connect.Code(Code(f.Kind)), errors.New(f.Message))
	for _, m := range details(f) {
		if d, err := connect.NewErrorDetail(m); err == nil {
			ce.AddDetail(d)
		}
	}
	return ce
}

// ToStatus turns any error into a gRPC status error for Flight. It never
// answers CANCELLED of its own accord, since pyarrow turns that into a
// KeyboardInterrupt: a context that was cancelled on the server's side becomes
// UNAVAILABLE. (A client that cancelled does not see the answer.)
func ToStatus(err error) error {
	if err == nil {
		return nil
	}
	f, ok := stated(err)
	if !ok {
		if code, ok := contextCode(err); ok {
			if code == codes.Canceled {
				code = codes.Unavailable
			}
			return status.Error(code, contextText(code, err))
		}
		if s, ok := status.FromError(err); ok {
			return s.Err()
		}
		f = fault.From(err)
	}
	s := status.New(Code(f.Kind), f.Message)
	v1 := make([]protoadapt.MessageV1, 0, 3)
	for _, m := range details(f) {
		v1 = append(v1, protoadapt.MessageV1Of(m))
	}
	if withDetails, err := s.WithDetails(v1...); err == nil {
		s = withDetails
	}
	return s.Err()
}

// ConnectFromStatus gives gRPC's error of a call by Flight the form that the same
// one has by Connect. Other errors stay as they are.
func ConnectFromStatus(err error) error {
	s, ok := status.FromError(err)
	if !ok || s.Code() == codes.OK {
		return err
	}
	ce := connect.NewError(connect.Code(s.Code()), errors.New(s.Message()))
	for _, d := range s.Proto().GetDetails() {
		if detail, err := connect.NewErrorDetail(d); err == nil {
			ce.AddDetail(detail)
		}
	}
	return ce
}

// FromConnect turns an error of a generated client into the fault that the
// other service stated. service names that service for people.
func FromConnect(service string, err error) error {
	if err == nil {
		return nil
	}
	ce, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return fault.New(fault.Unavailable, fault.ServiceUnavailable, "the %s service cannot be reached", service).
			With("service", service).Because(err)
	}
	for _, d := range ce.Details() {
		m, err := d.Value()
		if err != nil {
			continue
		}
		if info, ok := m.(*errdetails.ErrorInfo); ok && info.GetDomain() == Domain {
			f := fault.New(kindOf(codes.Code(ce.Code())), fault.Reason(info.GetReason()), "%s", ce.Message())
			for k, v := range info.GetMetadata() {
				f = f.With(k, v)
			}
			return f.Because(fmt.Errorf("answer of the %s service", service))
		}
	}
	switch ce.Code() {
	case connect.CodeCanceled:
		return fmt.Errorf("ask the %s service: %w", service, context.Canceled)
	case connect.CodeDeadlineExceeded:
		return fmt.Errorf("ask the %s service: %w", service, context.DeadlineExceeded)
	case connect.CodeUnavailable:
		return fault.New(fault.Unavailable, fault.ServiceUnavailable, "the %s service cannot be reached", service).
			With("service", service).Because(err)
	case connect.CodeInvalidArgument:
		return fault.New(fault.Invalid, fault.InvalidArgument, "%s", ce.Message()).Because(err)
	default:
		return fault.New(fault.Internal, fault.Bug, "the %s service failed", service).With("service", service).Because(err)
	}
}

// stated finds the fault that a room stated. It goes before whatever caused it:
// a cause may itself be a status or an ended context, with a text that is for
// the log only. Only a bug gives way to the end of the context that caused it.
func stated(err error) (*fault.Error, bool) {
	f, ok := errors.AsType[*fault.Error](err)
	if ok && f.Kind == fault.Internal {
		_, ended := contextCode(err)
		return f, !ended
	}
	return f, ok
}

func contextCode(err error) (codes.Code, bool) {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded, true
	case errors.Is(err, context.Canceled):
		return codes.Canceled, true
	default:
		return codes.OK, false
	}
}

func contextText(code codes.Code, err error) string {
	if limit, ok := errors.AsType[*access.OvertimeError](err); ok {
		return limit.Error()
	}
	switch code {
	case codes.DeadlineExceeded:
		return "the deadline of the call passed"
	case codes.Canceled:
		return "the call was cancelled"
	default:
		return "the server stopped the call"
	}
}
