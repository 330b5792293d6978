// Package rpc serves the aligner's contract: decode, ask the catalog where
// layers are only named, relate, encode.
package rpc

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	"github.com/rasterloom/rasterloom/fault"
	alignerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1/alignerv1connect"
	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/aligner/internal/align"
)

// Service implements the AlignerService of the contract.
type Service struct {
	schema schemav1connect.SchemaServiceClient
}

var _ alignerv1connect.AlignerServiceHandler = (*Service)(nil)

// New makes the service. Metadata of layers that requests only name come from
// the schema service.
func New(schema schemav1connect.SchemaServiceClient) *Service { return &Service{schema: schema} }

// CalculateGridShifts implements the contract.
func (s *Service) CalculateGridShifts(
	ctx context.Context, req *connect.Request[alignerv1.CalculateGridShiftsRequest],
) (*connect.Response[alignerv1.CalculateGridShiftsResponse], error) {
	layers, err := s.layers(ctx, req.Msg.GetLayers(), leastLayers(req.Msg.GetReference()))
	if err != nil {
		return nil, err
	}
	if err := align.CheckReadable(layers); err != nil {
		return nil, err
	}
	lattice, err := latticeOf(layers, req.Msg.GetReference(), tolerance(req.Msg.TolerancePixels))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&alignerv1.CalculateGridShiftsResponse{
		Reference:            wire.ToGrid(lattice.Grid()),
		ReferenceLayer:       lattice.Layer,
		ReferenceExplanation: lattice.Explanation,
		Relations:            toRelations(align.Relate(layers, lattice)),
	}), nil
}

// AnalyzeAlignment implements the contract.
func (s *Service) AnalyzeAlignment(
	ctx context.Context, req *connect.Request[alignerv1.AnalyzeAlignmentRequest],
) (*connect.Response[alignerv1.AnalyzeAlignmentResponse], error) {
	layers, err := s.layers(ctx, req.Msg.GetLayers(), leastLayers(req.Msg.GetReference()))
	if err != nil {
		return nil, err
	}
	lattice, err := latticeOf(layers, req.Msg.GetReference(), tolerance(req.Msg.TolerancePixels))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(toReport(align.Analyze(layers, lattice))), nil
}

// ChooseReference implements the contract.
func (s *Service) ChooseReference(
	ctx context.Context, req *connect.Request[alignerv1.ChooseReferenceRequest],
) (*connect.Response[alignerv1.ChooseReferenceResponse], error) {
	layers, err := s.layers(ctx, req.Msg.GetLayers(), 1)
	if err != nil {
		return nil, err
	}
	lattice, candidates, err := align.Choose(layers, tolerance(req.Msg.TolerancePixels))
	if err != nil {
		return nil, err
	}
	res := &alignerv1.ChooseReferenceResponse{
		Layer: lattice.Layer, Grid: wire.ToGrid(lattice.Grid()), Explanation: lattice.Explanation,
	}
	for _, c := range candidates {
		res.Candidates = append(res.Candidates, &alignerv1.ReferenceCandidate{
			Layer: c.Layer, Unmergeable: int32(c.Unmergeable), Shifted: int32(c.Shifted),
			LargestShiftPixels: c.LargestShift, TotalShiftPixels: c.TotalShift,
		})
	}
	return connect.NewResponse(res), nil
}

// CreateAlignedCoordinateQuery implements the contract.
func (s *Service) CreateAlignedCoordinateQuery(
	ctx context.Context, req *connect.Request[alignerv1.CreateAlignedCoordinateQueryRequest],
) (*connect.Response[alignerv1.CreateAlignedCoordinateQueryResponse], error) {
	layers, err := s.layers(ctx, []*alignerv1.LayerSource{req.Msg.GetLayer()}, 1)
	if err != nil {
		return nil, err
	}
	reference, err := wire.FromGrid(req.Msg.GetReference())
	if err != nil {
		return nil, err
	}
	lattice, err := align.OnGrid(reference, tolerance(req.Msg.TolerancePixels))
	if err != nil {
		return nil, err
	}
	var bounds *grid.Bounds
	if req.Msg.GetBounds() != nil {
		b := wire.FromBounds(req.Msg.GetBounds())
		bounds = &b
	}
	query, relation, err := align.Query(layers[0], lattice, bounds)
	if err != nil {
		return nil, err
	}
	res := &alignerv1.CreateAlignedCoordinateQueryResponse{Sql: query.SQL, Relation: toRelation(relation)}
	for i, p := range query.Parameters {
		parameter := &alignerv1.QueryParameter{Position: int32(i + 1), Description: p.Description}
		switch v := p.Value.(type) {
		case float64:
			parameter.Value = &alignerv1.QueryParameter_Float8{Float8: v}
		case int64:
			parameter.Value = &alignerv1.QueryParameter_Int8{Int8: v}
		default:
			return nil, fault.New(fault.Internal, fault.Bug, "a query parameter of type %T", v)
		}
		res.Parameters = append(res.Parameters, parameter)
	}
	return connect.NewResponse(res), nil
}

// leastLayers is how many layers a relation needs: two, or one and a grid.
func leastLayers(reference *alignerv1.Reference) int {
	if reference.GetGrid() != nil {
		return 1
	}
	return 2
}

func tolerance(asked *float64) float64 {
	if asked == nil {
		return grid.DefaultTolerancePixels
	}
	return *asked
}

// latticeOf takes the reference that is asked for, or chooses one.
func latticeOf(layers []layer.Layer, reference *alignerv1.Reference, tolPixels float64) (align.Lattice, error) {
	switch r := reference.GetLattice().(type) {
	case nil:
		lattice, _, err := align.Choose(layers, tolPixels)
		return lattice, err
	case *alignerv1.Reference_Grid:
		g, err := wire.FromGrid(r.Grid)
		if err != nil {
			return align.Lattice{}, err
		}
		return align.OnGrid(g, tolPixels)
	case *alignerv1.Reference_Layer:
		return align.OnLayer(layers, r.Layer, tolPixels)
	default:
		return align.Lattice{}, fault.New(fault.Invalid, fault.InvalidArgument, "the reference is neither a layer nor a grid").
			With("field", "reference")
	}
}

// layers gives the layers of a request in order. Those that are only named are
// asked of the schema service, all in one call. Errors: as align.CheckLayers,
// Invalid INVALID_GRID naming the layer, and those of the schema service.
func (s *Service) layers(ctx context.Context, sources []*alignerv1.LayerSource, least int) ([]layer.Layer, error) {
	layers := make([]layer.Layer, len(sources))
	var names []string
	var named []int
	for i, source := range sources {
		switch from := source.GetSource().(type) {
		case *alignerv1.LayerSource_Layer:
			l, err := decode(from.Layer)
			if err != nil {
				return nil, err
			}
			layers[i] = l
		case *alignerv1.LayerSource_Name:
			layers[i].Name = from.Name
			names, named = append(names, from.Name), append(named, i)
		}
	}
	// Before the catalog is asked: a bad request costs it nothing.
	if err := align.CheckLayers(layers, least); err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return layers, nil
	}
	res, err := s.schema.BatchGetLayers(ctx, connect.NewRequest(&schemav1.BatchGetLayersRequest{Names: names}))
	if err != nil {
		return nil, wire.FromConnect("schema", err)
	}
	if got := len(res.Msg.GetLayers()); got != len(names) {
		return nil, fault.New(fault.Internal, fault.Bug, "internal error").
			Because(fmt.Errorf("asked the schema service for %d layers and got %d", len(names), got))
	}
	for n, p := range res.Msg.GetLayers() {
		l, err := decode(p)
		if err != nil {
			return nil, err
		}
		layers[named[n]] = l
	}
	return layers, nil
}

func decode(p *layerv1.Layer) (layer.Layer, error) {
	l, err := wire.FromLayer(p)
	if err != nil {
		f := fault.From(err).With("layer", p.GetName())
		f.Message = fmt.Sprintf("layer %q: %s", p.GetName(), f.Message)
		return l, f
	}
	return l, nil
}

func toRelations(relations []align.Relation) []*gridv1.Relation {
	out := make([]*gridv1.Relation, len(relations))
	for i, r := range relations {
		out[i] = toRelation(r)
	}
	return out
}

func toRelation(r align.Relation) *gridv1.Relation {
	p := wire.ToRelation(r.Relation)
	p.Layer, p.Explanation = r.Layer, r.Explanation
	p.Registration, p.RegistrationPixels = wire.ToRegistration(r.Registration), wire.ToVector(r.RegistrationPixels)
	p.SouthUp = r.SouthUp
	return p
}
