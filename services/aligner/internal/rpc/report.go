package rpc

import (
	"math"

	alignerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/aligner/internal/align"
)

var strategies = map[align.Strategy]alignerv1.Strategy{
	align.StrategyUnknown:   alignerv1.Strategy_STRATEGY_UNSPECIFIED,
	align.StrategyMerge:     alignerv1.Strategy_STRATEGY_MERGE,
	align.StrategyShift:     alignerv1.Strategy_STRATEGY_SHIFT,
	align.StrategyResample:  alignerv1.Strategy_STRATEGY_RESAMPLE,
	align.StrategyReproject: alignerv1.Strategy_STRATEGY_REPROJECT,
	align.StrategyExclude:   alignerv1.Strategy_STRATEGY_EXCLUDE,
}

// toReport writes a report for the contract.
func toReport(r align.Report) *alignerv1.AnalyzeAlignmentResponse {
	ref := r.Lattice.Grid()
	res := &alignerv1.AnalyzeAlignmentResponse{
		Reference:            wire.ToGrid(ref),
		ReferenceLayer:       r.Lattice.Layer,
		ReferenceExplanation: r.Lattice.Explanation,
		Relations:            toRelations(r.Relations),
		Summary: &alignerv1.Summary{
			Layers:     int32(r.Summary.Layers),
			Verdicts:   toCounts(r.Summary.Verdicts),
			Formats:    toCounts(r.Summary.Formats),
			Severities: toCounts(r.Summary.Severities),
			Codes:      toCounts(r.Summary.Codes),
		},
		Strategy:        strategies[r.Strategy],
		Recommendation:  r.Recommendation,
		Union:           toOverlap(ref, r.Union),
		Intersection:    toOverlap(ref, r.Intersection),
		TolerancePixels: r.Lattice.TolerancePixels(),
	}
	for _, i := range r.Issues {
		res.Issues = append(res.Issues, &alignerv1.Issue{
			Code: i.Code, Severity: wire.ToSeverity(i.Severity), Layer: i.Layer, Message: i.Message,
			Values: i.Values, Fixable: i.Fixable, Fix: i.Fix,
		})
	}
	return res
}

func toCounts(counts map[string]int) map[string]int32 {
	out := make(map[string]int32, len(counts))
	for k, n := range counts {
		out[k] = int32(n)
	}
	return out
}

// toOverlap writes a window of the reference lattice. A window that is too
// large for a grid has no grid.
func toOverlap(ref grid.Grid, w grid.Window) *alignerv1.Overlap {
	o := &alignerv1.Overlap{Window: wire.ToWindow(w)}
	if w.Empty() {
		return o
	}
	// Sides may be beyond those of any grid, and their product beyond int64.
	cells := float64(w.Rows()) * float64(w.Cols())
	o.Cells, o.PercentOfReference = math.MaxInt64, 100*cells/float64(ref.Cells())
	if cells < math.MaxInt64 {
		o.Cells = w.Cells()
	}
	if g, err := ref.Crop(w); err == nil {
		o.Grid = wire.ToGrid(g)
	}
	return o
}
