package rpc

import (
	"context"
	"math"

	"connectrpc.com/connect"

	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// Handler answers MergerService.
type Handler struct {
	planner   *Planner
	flightURI string
	// arrowSchema encodes the schema of a plan. It comes from outside, since
	// this room knows no Arrow.
	arrowSchema func(*merge.Plan) ([]byte, error)
	compare     Compare
}

// NewHandler makes a handler. flightURI is where clients read tables from.
func NewHandler(planner *Planner, flightURI string, arrowSchema func(*merge.Plan) ([]byte, error), compare Compare) *Handler {
	return &Handler{planner: planner, flightURI: flightURI, arrowSchema: arrowSchema, compare: compare}
}

// PlanMerge implements MergerService.
func (h *Handler) PlanMerge(ctx context.Context, request *connect.Request[mergerv1.PlanMergeRequest]) (*connect.Response[mergerv1.PlanMergeResponse], error) {
	plan, err := h.planner.plan(ctx, request.Msg.GetSpec())
	if err != nil {
		return nil, err
	}
	lattice, err := plan.Lattice.Crop(plan.Window)
	if err != nil {
		return nil, err
	}
	schema, err := h.arrowSchema(plan.Plan)
	if err != nil {
		return nil, err
	}
	rows, _ := plan.MaxRows()
	answer := &mergerv1.PlanMergeResponse{
		Reference:            wire.ToGrid(plan.Lattice),
		ReferenceExplanation: plan.explanation,
		Window:               wire.ToWindow(plan.Window),
		Lattice:              wire.ToGrid(lattice),
		MaxRows:              rows,
		MaxBytes:             int64(math.Ceil(float64(rows) * plan.RowBytes())),
		PeakMemoryBytes:      plan.PeakMemory(),
		Endpoints:            int32(plan.Endpoints),
		Warnings:             plan.Warnings(),
		ArrowSchema:          schema,
		FlightUri:            h.flightURI,
	}
	if plan.Reference >= 0 {
		answer.ReferenceLayer = plan.Threads[plan.Reference].Layer.Name
	}
	for i, t := range plan.Threads {
		if t.Selected() {
			answer.Layers = append(answer.Layers, &mergerv1.PlannedLayer{
				Layer: plan.layers[i], Column: t.Column, Type: wire.ToDataType(t.Type), Relation: plan.relations[i],
				Resampled: toResampled(t),
			})
		}
	}
	return connect.NewResponse(answer), nil
}
