package flight

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	arrowflight "github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// cancelWait is how long a cancel waits for the streams that it stops.
const cancelWait = time.Second

// actions are what DoAction can do, in the order of ListActions.
var actions = []struct {
	name, description string
	do                func(*Server, context.Context, []byte) (proto.Message, error)
}{
	{
		arrowflight.CancelFlightInfoActionType,
		"Cancel a flight: its running streams end with ABORTED FLIGHT_CANCELLED, also in the database, and its tickets are void on this server. " +
			"Body: CancelFlightInfoRequest with the FlightInfo as it was given, or with some of its endpoints. Result: CancelFlightInfoResult. " +
			"Cancelling again changes nothing.",
		(*Server).cancelFlightInfo,
	},
	{
		arrowflight.RenewFlightEndpointActionType,
		"Make the ticket of an endpoint good for another 15 minutes. Body: RenewFlightEndpointRequest. Result: FlightEndpoint with another ticket; " +
			"the old one stays good until it expires.",
		(*Server).renewFlightEndpoint,
	},
	{
		resumeActionType,
		"Make a ticket for what is left of an endpoint whose stream was cut. Body: JSON, {\"ticket\": base64, \"after\": {\"row\": …, \"col\": …}}, " +
			"the ticket of the endpoint and `last` of the last batch that arrived whole. Result: FlightEndpoint. Its layers are those of the old ticket, " +
			"to the generation.",
		(*Server).resumeFlightEndpoint,
	},
}

// resumeActionType is an action of our own.
const resumeActionType = "ResumeFlightEndpoint"

// ListActions lists what DoAction can do.
func (s *Server) ListActions(_ *arrowflight.Empty, stream arrowflight.FlightService_ListActionsServer) error {
	for _, a := range actions {
		if err := stream.Send(&arrowflight.ActionType{Type: a.name, Description: a.description}); err != nil {
			return err
		}
	}
	return nil
}

// DoAction does one of the actions. Errors: Unsupported UNSUPPORTED for one
// that it does not know, Invalid INVALID_ARGUMENT for a body that is not the
// action's, and as for tickets.
func (s *Server) DoAction(action *arrowflight.Action, stream arrowflight.FlightService_DoActionServer) error {
	for _, a := range actions {
		if a.name != action.GetType() {
			continue
		}
		result, err := a.do(s, stream.Context(), action.GetBody())
		if err != nil {
			return err
		}
		body, err := proto.Marshal(result)
		if err != nil {
			return fmt.Errorf("encode the result of %s: %w", a.name, err)
		}
		return stream.Send(&arrowflight.Result{Body: body})
	}
	return fault.New(fault.Unsupported, fault.NotSupported, "there is no action %.64q: ListActions lists them", action.GetType()).
		With("action", fmt.Sprintf("%.64s", action.GetType()))
}

func readBody(body []byte, into proto.Message) error {
	if err := proto.Unmarshal(body, into); err != nil {
		return fault.New(fault.Invalid, fault.InvalidArgument, "the body of the action is no %s", into.ProtoReflect().Descriptor().Name()).
			With("field", "body").Because(err)
	}
	return nil
}

// cancelFlightInfo stops the streams of a flight's endpoints. A ticket that has
// expired has nothing left to cancel and is no error, so that cancelling is
// idempotent.
func (s *Server) cancelFlightInfo(ctx context.Context, body []byte) (proto.Message, error) {
	var request arrowflight.CancelFlightInfoRequest
	if err := readBody(body, &request); err != nil {
		return nil, err
	}
	if len(request.GetInfo().GetEndpoint()) == 0 {
		return nil, fault.New(fault.Invalid, fault.InvalidArgument, "the flight to cancel has no endpoint: endpoints name what is to be cancelled").
			With("field", "info.endpoint")
	}
	var keys []endpointKey
	for _, e := range request.GetInfo().GetEndpoint() {
		t, err := s.signer.open(e.GetTicket().GetTicket(), access.From(ctx).Name)
		if f := fault.From(err); f != nil && f.Reason == fault.TicketExpired {
			continue
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, t.key())
	}
	running, err := s.running.cancel(keys, ticketLife)
	if err != nil {
		return nil, err
	}
	wait, stop := context.WithTimeout(ctx, cancelWait)
	defer stop()
	for _, ended := range running {
		select {
		case <-ended:
		case <-wait.Done():
			return &arrowflight.CancelFlightInfoResult{Status: arrowflight.CancelStatusCancelling}, nil
		}
	}
	return &arrowflight.CancelFlightInfoResult{Status: arrowflight.CancelStatusCancelled}, nil
}

// renewFlightEndpoint signs the ticket of an endpoint again.
func (s *Server) renewFlightEndpoint(ctx context.Context, body []byte) (proto.Message, error) {
	var request arrowflight.RenewFlightEndpointRequest
	if err := readBody(body, &request); err != nil {
		return nil, err
	}
	t, err := s.signer.open(request.GetEndpoint().GetTicket().GetTicket(), access.From(ctx).Name)
	if err != nil {
		return nil, err
	}
	if err := s.running.check(t.key()); err != nil {
		return nil, err
	}
	expires := s.signer.expiry()
	t.Expires = expires.Unix()
	signed, err := s.signer.sign(t)
	if err != nil {
		return nil, err
	}
	// The rest of the endpoint is the caller's own and goes back as it is.
	renewed := proto.CloneOf(request.GetEndpoint())
	renewed.Ticket = &arrowflight.Ticket{Ticket: signed}
	renewed.ExpirationTime = timestamppb.New(expires)
	return renewed, nil
}

// resumeFlightEndpoint makes a ticket for what comes behind a cell of an
// endpoint.
func (s *Server) resumeFlightEndpoint(ctx context.Context, body []byte) (proto.Message, error) {
	var request struct {
		Ticket []byte      `json:"ticket"`
		After  *merge.Cell `json:"after"`
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil || request.After == nil {
		return nil, fault.New(fault.Invalid, fault.InvalidArgument, "the body of the action is not JSON with ticket and after").
			With("field", "body").Because(err)
	}
	t, err := s.signer.open(request.Ticket, access.From(ctx).Name)
	if err != nil {
		return nil, err
	}
	if err := s.running.check(t.key()); err != nil {
		return nil, err
	}
	if row := request.After.Row; row < t.Start || row >= t.Stop {
		return nil, fault.New(fault.Invalid, fault.InvalidArgument, "row %d is not in the endpoint, which has rows %d to %d", row, t.Start, t.Stop).
			With("field", "after").With("row", row).With("row_start", t.Start).With("row_stop", t.Stop)
	}
	t.After, t.Start = request.After, request.After.Row
	return s.endpoint(t, s.signer.expiry())
}
