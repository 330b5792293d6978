package rpc

import (
	"bytes"
	"context"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/rasterloom/rasterloom/fault"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/tile"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/schema/internal/catalog"
	"github.com/rasterloom/rasterloom/services/schema/internal/ingest"
)

// Ingests implements the contract of ingests; the cells come by Flight.
type Ingests struct {
	ingester *ingest.Ingester
	uri      string
}

var _ schemav1connect.IngestServiceHandler = (*Ingests)(nil)

// NewIngests makes a handler. uri is where clients are told to send cells to.
func NewIngests(ingester *ingest.Ingester, uri string) *Ingests {
	return &Ingests{ingester: ingester, uri: uri}
}

// PlanIngest says what an ingest would do.
func (h *Ingests) PlanIngest(ctx context.Context, req *connect.Request[schemav1.PlanIngestRequest]) (*connect.Response[schemav1.PlanIngestResponse], error) {
	request, err := ingestRequest(ctx, req.Msg.GetSpec())
	if err != nil {
		return nil, err
	}
	plan, _, err := h.ingester.Plan(ctx, request)
	if err != nil {
		return nil, err
	}
	answer := &schemav1.PlanIngestResponse{
		FlightUri: h.uri, Grid: wire.ToGrid(request.Grid), TileRows: tile.Side, TileCols: tile.Side,
		MaxMessageBytes: wire.MaxReadBytes, MaxStreamBytes: h.ingester.Limits().StreamBytes,
	}
	if plan.Replaced != nil {
		answer.Replaced = wire.ToLayer(*plan.Replaced)
	}
	return connect.NewResponse(answer), nil
}

// IngestCommand reads the command of a Flight descriptor: an IngestSpec as
// protobuf, or as JSON if its first byte is '{' (which begins no IngestSpec in
// protobuf: it would be a group). Errors: Invalid.
func IngestCommand(ctx context.Context, command []byte) (ingest.Request, error) {
	spec := &schemav1.IngestSpec{}
	read := proto.Unmarshal
	if bytes.HasPrefix(command, []byte("{")) {
		read = protojson.Unmarshal
	}
	if err := read(command, spec); err != nil {
		return ingest.Request{}, fault.New(fault.Invalid, fault.InvalidArgument,
			"the command is no IngestSpec, neither as protobuf nor as JSON").With("field", "command").Because(err)
	}
	if err := wire.Validate(spec); err != nil {
		return ingest.Request{}, err
	}
	return ingestRequest(ctx, spec)
}

func ingestRequest(ctx context.Context, spec *schemav1.IngestSpec) (ingest.Request, error) {
	g, err := latticeOf(spec)
	if err != nil {
		return ingest.Request{}, err
	}
	by := access.From(ctx)
	i := catalog.Ingestion{
		Name: spec.GetName(), Band: spec.GetBand(), Grid: g, Type: wire.FromDataType(spec.GetDataType()), Nodata: spec.Nodata,
		Replace:           spec.GetMode() == schemav1.IngestMode_INGEST_MODE_REPLACE,
		ReplaceGeneration: spec.GetReplaceGeneration(), SameGridAs: spec.GetSameGridAs(),
		By: by.Name, Operator: by.Role == access.Operator,
	}
	nodata := "none"
	if i.Nodata != nil {
		nodata = fmt.Sprint(*i.Nodata)
	}
	return ingest.Request{
		Ingestion: i, Key: spec.GetIdempotencyKey(),
		Spec: fmt.Sprintf("%q band %q grid %v type %s nodata %s replace %t generation %d same grid as %q",
			i.Name, i.Band, i.Grid, i.Type, nodata, i.Replace, i.ReplaceGeneration, i.SameGridAs),
	}, nil
}
