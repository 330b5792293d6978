package merger

import (
	"context"

	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/pgstore"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// Join implements flight.Cells.
func (c cellSource) Join(ctx context.Context, request layer.JoinRequest) (merge.Joined, func(), error) {
	joined, err := c.reader.OpenJoined(ctx, request)
	if err != nil {
		return nil, nil, err
	}
	return joined, joined.Close, nil
}

// comparison makes a plan's table both ways, at one snapshot and within the
// memory of one stream more than the join, which has one row in hand.
func comparison(reader *pgstore.CellReader, budget *merge.Budget) func(context.Context, *merge.Plan) (merge.Comparison, error) {
	return func(ctx context.Context, plan *merge.Plan) (merge.Comparison, error) {
		bytes, release, err := budget.Lease(ctx, access.From(ctx).Name, plan.Wish())
		if err != nil {
			return merge.Comparison{}, err
		}
		defer release()
		plan = plan.Within(bytes)
		rows := merge.Rows{Start: plan.Window.RowStart, Stop: plan.Window.RowStop}
		joined, err := reader.OpenJoined(ctx, plan.JoinRequest(rows))
		if err != nil {
			return merge.Comparison{}, err
		}
		defer joined.Close()
		sources, closeAll, err := cellSource{joined.Beside()}.Open(ctx, plan.Requests(rows))
		if err != nil {
			return merge.Comparison{}, err
		}
		defer closeAll()
		weave := func(p *merge.Plan, emit func(*merge.Batch) error) (merge.Result, error) {
			return merge.Weave(ctx, p, rows, sources, emit)
		}
		join := func(p *merge.Plan, emit func(*merge.Batch) error) (merge.Result, error) {
			return merge.Join(ctx, p, rows, joined, emit)
		}
		return merge.Compare(plan, weave, join)
	}
}
