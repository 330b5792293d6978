// Package flight serves merged tables by Arrow Flight. docs/flight.md is the
// protocol in words.
package flight

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	arrowflight "github.com/apache/arrow-go/v18/arrow/flight"
	flightgen "github.com/apache/arrow-go/v18/arrow/flight/gen/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/merger/internal/columnar"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// Planner plans merges.
type Planner interface {
	// PlanCommand plans the command of a descriptor, and gives it with
	// everything decided.
	PlanCommand(ctx context.Context, command []byte) (plan *merge.Plan, canonical []byte, err error)
	// PlanLayers plans a merge of layers with every default.
	PlanLayers(ctx context.Context, names []string) (plan *merge.Plan, canonical []byte, err error)
	// Readable calls each for every layer that can be read, by name.
	Readable(ctx context.Context, each func(layer.Layer) error) error
	// CheckGenerations fails with LAYER_CHANGED when the plan's layers are not
	// what they were.
	CheckGenerations(ctx context.Context, plan *merge.Plan) error
}

// Cells reads stored cells.
type Cells interface {
	// Open starts to read requests at one snapshot: a source for each. Close
	// ends it.
	Open(ctx context.Context, requests []layer.CellRequest) (sources []merge.Source, closeAll func(), err error)
	// Join starts a join, for the deprecated way to merge. Close ends it.
	Join(ctx context.Context, request layer.JoinRequest) (joined merge.Joined, closeJoin func(), err error)
}

// Options say how a server works.
type Options struct {
	// TicketKeys gives the secrets that sign tickets, shared by all mergers of a
	// deployment: the first signs, and what any of them signed is good. Nil: a
	// random one, which ends with the process.
	TicketKeys func() []string
	// Budget is the memory that streams share among themselves, and with
	// whatever else merges. Default: 512 MiB for streams alone.
	Budget *merge.Budget
	// Stall is how long a client may take nothing of a stream before it is
	// dropped. A stream that has nothing to send for a quarter of that shows a
	// sign of life. Default 60 s.
	Stall time.Duration
	// Allocator makes Arrow's buffers. Default memory.DefaultAllocator.
	Allocator memory.Allocator
	// Metrics gets the room's metrics; nil keeps them to itself.
	Metrics prometheus.Registerer
}

// Server is the merger's Flight service.
type Server struct {
	arrowflight.BaseFlightServer

	planner Planner
	cells   Cells
	signer  *signer
	opts    Options
	running *runningStreams
	metrics *metrics
}

// NewServer makes a server. Register puts it on a grpc-go server that turns faults
// into statuses (wire.ServerOptions) and has this room's Codec.
func NewServer(planner Planner, cells Cells, opts Options) *Server {
	if opts.Budget == nil {
		opts.Budget = merge.NewBudget(0, 0, nil)
	}
	if opts.Allocator == nil {
		opts.Allocator = memory.DefaultAllocator
	}
	if opts.Stall <= 0 {
		opts.Stall = time.Minute
	}
	return &Server{
		planner: planner, cells: cells, signer: newSigner(opts.TicketKeys), opts: opts,
		running: newRunningStreams(time.Now), metrics: newMetrics(opts.Metrics, opts.Budget),
	}
}

// Register adds the Flight service to a grpc-go server.
func (s *Server) Register(server grpc.ServiceRegistrar) {
	flightgen.RegisterFlightServiceServer(server, s)
}

// Handshake says that there is none: a client that thinks it has traded a password
// for a token would go on without one.
func (s *Server) Handshake(arrowflight.FlightService_HandshakeServer) error {
	return fault.New(fault.Unsupported, fault.NotSupported,
		"there is no handshake here: send a token with each call, as the header authorization: Bearer TOKEN")
}

// GetFlightInfo plans the merge of a descriptor and cuts it into endpoints.
func (s *Server) GetFlightInfo(ctx context.Context, descriptor *arrowflight.FlightDescriptor) (*arrowflight.FlightInfo, error) {
	plan, canonical, err := s.plan(ctx, descriptor)
	if err != nil {
		return nil, err
	}
	return s.info(ctx, plan, canonical, descriptor)
}

// PollFlightInfo is GetFlightInfo for clients that expect planning to take long.
// A plan reads no cell, so the first answer is the last: complete, with nothing
// left to poll.
func (s *Server) PollFlightInfo(ctx context.Context, descriptor *arrowflight.FlightDescriptor) (*arrowflight.PollInfo, error) {
	info, err := s.GetFlightInfo(ctx, descriptor)
	if err != nil {
		return nil, err
	}
	return &arrowflight.PollInfo{
		Info: info, Progress: new(1.0), ExpirationTime: info.GetEndpoint()[0].GetExpirationTime(),
	}, nil
}

// GetSchema gives the schema of a descriptor's table.
func (s *Server) GetSchema(ctx context.Context, descriptor *arrowflight.FlightDescriptor) (*arrowflight.SchemaResult, error) {
	plan, _, err := s.plan(ctx, descriptor)
	if err != nil {
		return nil, err
	}
	schema, err := columnar.EncodeSchema(plan)
	return &arrowflight.SchemaResult{Schema: schema}, err
}

// ListFlights lists the layers that can be read, each as a merge of itself
// alone.
func (s *Server) ListFlights(criteria *arrowflight.Criteria, stream arrowflight.FlightService_ListFlightsServer) error {
	if len(criteria.GetExpression()) > 0 {
		return fault.New(fault.Invalid, fault.InvalidArgument, "flights are listed without criteria").With("field", "criteria")
	}
	ctx := stream.Context()
	return s.planner.Readable(ctx, func(l layer.Layer) error {
		plan, canonical, err := s.planner.PlanLayers(ctx, []string{l.Name})
		if f := fault.From(err); f != nil && (f.Kind == fault.Limit || f.Kind == fault.NotFound || f.Kind == fault.Precondition) {
			// One layer that changes just now, or is too wide for this server,
			// should not hide the others.
			return nil
		}
		if err != nil {
			return err
		}
		info, err := s.info(ctx, plan, canonical, &arrowflight.FlightDescriptor{Type: arrowflight.DescriptorPATH, Path: []string{l.Name}})
		if err != nil {
			return err
		}
		return stream.Send(info)
	})
}

func (s *Server) plan(ctx context.Context, d *arrowflight.FlightDescriptor) (*merge.Plan, []byte, error) {
	switch d.GetType() {
	case arrowflight.DescriptorCMD:
		return s.planner.PlanCommand(ctx, d.GetCmd())
	case arrowflight.DescriptorPATH:
		return s.planner.PlanLayers(ctx, d.GetPath())
	default:
		return nil, nil, fault.New(fault.Invalid, fault.InvalidArgument, "the descriptor is neither a command nor a path").With("field", "type")
	}
}

func (s *Server) info(ctx context.Context, plan *merge.Plan, canonical []byte, descriptor *arrowflight.FlightDescriptor) (*arrowflight.FlightInfo, error) {
	schema, err := columnar.EncodeSchema(plan)
	if err != nil {
		return nil, err
	}
	info := &arrowflight.FlightInfo{
		Schema: schema, FlightDescriptor: descriptor, Ordered: true, TotalRecords: -1, TotalBytes: -1,
	}
	rows, exact := plan.MaxRows()
	if exact {
		info.TotalRecords = rows
	}
	if info.AppMetadata, err = json.Marshal(flightMetadata{MaxRows: rows}); err != nil {
		return nil, fmt.Errorf("write the metadata of a flight: %w", err)
	}
	expires := s.signer.expiry()
	t := ticket{Flight: rand.Text(), Principal: access.From(ctx).Name, Spec: canonical}
	for _, thread := range plan.Threads {
		t.Layers = append(t.Layers, ticketLayer{thread.Layer.Name, thread.Layer.Generation})
	}
	for e := range plan.Endpoints {
		rows := plan.Range(e)
		t.Start, t.Stop, t.Endpoint = rows.Start, rows.Stop, rows.Start
		endpoint, err := s.endpoint(t, expires)
		if err != nil {
			return nil, err
		}
		info.Endpoint = append(info.Endpoint, endpoint)
	}
	return info, nil
}

// endpoint signs a ticket.
func (s *Server) endpoint(t ticket, expires time.Time) (*arrowflight.FlightEndpoint, error) {
	t.Expires = expires.Unix()
	signed, err := s.signer.sign(t)
	if err != nil {
		return nil, err
	}
	metadata, err := json.Marshal(endpointMetadata{RowStart: t.Start, RowStop: t.Stop})
	if err != nil {
		return nil, fmt.Errorf("write the metadata of an endpoint: %w", err)
	}
	return &arrowflight.FlightEndpoint{
		Ticket: &arrowflight.Ticket{Ticket: signed}, ExpirationTime: timestamppb.New(expires), AppMetadata: metadata,
	}, nil
}

var _ arrowflight.FlightServer = (*Server)(nil)
