package rpc

import (
	"context"

	"connectrpc.com/connect"

	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// CompareMerge implements MergerService.
func (h *Handler) CompareMerge(ctx context.Context, request *connect.Request[mergerv1.CompareMergeRequest]) (*connect.Response[mergerv1.CompareMergeResponse], error) {
	spec := request.Msg.GetSpec()
	// Both ways are taken, so there is nothing to warn of.
	spec.UseLegacyMerge = new(false)
	plan, err := h.planner.plan(ctx, spec)
	if err != nil {
		return nil, err
	}
	if err := plan.CheckJoin(); err != nil {
		return nil, err
	}
	c, err := h.compare(ctx, plan.Plan)
	if err != nil {
		return nil, err
	}
	if err := h.planner.CheckGenerations(ctx, plan.Plan); err != nil {
		return nil, err
	}
	answer := &mergerv1.CompareMergeResponse{Equal: c.Equal(), Rows: c.Woven.Rows, LegacyRows: c.Joined.Rows}
	for i, t := range plan.Threads {
		if t.Selected() {
			answer.Layers = append(answer.Layers, &mergerv1.ComparedLayer{
				Layer: t.Layer.Name, Column: t.Column,
				Cells: c.Woven.Cells[i], LegacyCells: c.Joined.Cells[i], DifferingCells: c.Differing[i],
			})
		}
	}
	for _, d := range c.Differences {
		answer.Differences = append(answer.Differences, &mergerv1.CellDifference{
			Layer: plan.Threads[d.Thread].Layer.Name, Row: d.Row, Col: d.Col,
			X: plan.Lattice.X(d.Col), Y: plan.Lattice.Y(d.Row),
			Value: d.Woven, LegacyValue: d.Joined,
		})
	}
	return connect.NewResponse(answer), nil
}

// Compare runs a plan both ways.
type Compare func(ctx context.Context, plan *merge.Plan) (merge.Comparison, error)
