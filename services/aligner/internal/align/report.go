package align

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// Strategy is what to do with a set of layers.
type Strategy uint8

// The strategies, from the least to the most work.
const (
	StrategyUnknown   Strategy = iota
	StrategyMerge              // every layer is IDENTICAL or ALIGNED
	StrategyShift              // some are shifted, within the tolerance
	StrategyResample           // some have to be resampled first
	StrategyReproject          // some have to be reprojected first
	StrategyExclude            // some have nothing in common with the reference, or cannot be read
)

// String names the strategy as the contract does.
func (s Strategy) String() string {
	names := [...]string{"UNSPECIFIED", "MERGE", "SHIFT", "RESAMPLE", "REPROJECT", "EXCLUDE"}
	if int(s) < len(names) {
		return names[s]
	}
	return names[0]
}

// Summary counts what a report says, by the names of the contract.
type Summary struct {
	Layers                               int
	Verdicts, Formats, Severities, Codes map[string]int
}

// Report is how a set of layers lies on a lattice.
type Report struct {
	Lattice   Lattice
	Relations []Relation // one per layer, in request order
	Issues    []Issue    // worst first, then in request order
	Summary   Summary
	Strategy  Strategy
	// Recommendation is the strategy in words.
	Recommendation string
	// Union and Intersection are windows of the lattice, over the layers that
	// can be merged; empty when there is none.
	Union, Intersection grid.Window
}

// Analyze relates layers to a lattice and reports on them as a whole.
func Analyze(layers []layer.Layer, lattice Lattice) Report {
	r := Report{Lattice: lattice, Relations: Relate(layers, lattice)}
	systems := newSystems()
	var placed []grid.Placed
	for i, l := range layers {
		relation := r.Relations[i]
		r.Issues = append(r.Issues, issuesOf(l, relation, lattice, systems)...)
		if relation.Verdict.Mergeable() {
			placed = append(placed, grid.Placed{Grid: l.Grid, Relation: relation.Relation})
		}
	}
	r.Union = grid.UnionWindow(lattice.Grid(), placed)
	r.Intersection = grid.IntersectionWindow(lattice.Grid(), placed)
	if len(placed) > 1 && r.Intersection.Empty() {
		r.Issues = append(r.Issues, Issue{
			Code: CodeIntersectionIsEmpty, Severity: layer.Warning,
			Message: fmt.Sprintf("no cell of the lattice is covered by all %d layers that can be merged: an inner join is empty", len(placed)),
			Values:  map[string]float64{"layers": float64(len(placed))},
			Fix:     "keep rows where any layer has a value, or leave out the layers that lie apart",
		})
	}
	slices.SortStableFunc(r.Issues, func(a, b Issue) int { return int(b.Severity) - int(a.Severity) })
	r.Summary = summarize(layers, r)
	r.Strategy, r.Recommendation = recommend(r.Relations, lattice)
	return r
}

func summarize(layers []layer.Layer, r Report) Summary {
	s := Summary{
		Layers: len(layers), Verdicts: map[string]int{}, Formats: map[string]int{},
		Severities: map[string]int{}, Codes: map[string]int{},
	}
	for i, l := range layers {
		s.Formats[l.Format.String()]++
		if v := r.Relations[i].Verdict; v != grid.VerdictUnknown {
			s.Verdicts[v.String()]++
		}
	}
	for _, i := range r.Issues {
		s.Severities[i.Severity.String()]++
		s.Codes[i.Code]++
	}
	return s
}

// strategyOf is what one relation asks for.
func strategyOf(v grid.Verdict) Strategy {
	switch v {
	case grid.VerdictIdentical, grid.VerdictAligned:
		return StrategyMerge
	case grid.VerdictShift:
		return StrategyShift
	case grid.VerdictResample:
		return StrategyResample
	case grid.VerdictReproject:
		return StrategyReproject
	default:
		return StrategyExclude
	}
}

// recommend takes the strategy of the layer that asks for the most, and says
// which layers ask for what.
func recommend(relations []Relation, lattice Lattice) (Strategy, string) {
	names := make(map[Strategy][]string)
	worst, largest := StrategyMerge, 0.0
	for _, r := range relations {
		s := strategyOf(r.Verdict)
		names[s] = append(names[s], r.Layer)
		worst = max(worst, s)
		if s == StrategyShift {
			largest = max(largest, length(r.ShiftPixels))
		}
	}
	var steps []string
	for s := StrategyExclude; s > StrategyMerge; s-- {
		list := names[s]
		if len(list) == 0 {
			continue
		}
		verb := map[Strategy]string{
			StrategyExclude:   "leave out ",
			StrategyReproject: "reproject ",
			StrategyResample:  "resample ",
			StrategyShift:     "shift ",
		}[s]
		step := verb + enumerate(list)
		if s == StrategyShift {
			step += fmt.Sprintf(" by at most %s px, which the merge does", number(largest))
		}
		steps = append(steps, step)
	}
	ready := len(names[StrategyMerge])
	onto := "onto the lattice of " + lattice.label()
	switch {
	case len(steps) == 0:
		return worst, fmt.Sprintf("merge %s %s as they are", count(ready, "layer", "layers"), onto)
	case ready == 0 && len(names[StrategyShift]) == 0:
		return worst, strings.Join(steps, "; ") + "; nothing can be merged " + onto + " before that"
	default:
		return worst, strings.Join(steps, "; ") + "; then merge " + onto
	}
}

// enumerate lists names, the first few of many.
func enumerate(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
