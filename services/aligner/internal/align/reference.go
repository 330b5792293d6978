package align

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// Candidate is what taking one layer for reference costs.
type Candidate struct {
	// Layer is the layer's name.
	Layer string
	// Unmergeable is the number of other layers that could not be merged onto
	// it, Shifted the number of those that would be shifted.
	Unmergeable, Shifted int
	// LargestShift and TotalShift are lengths, in pixels of the candidate.
	LargestShift, TotalShift float64

	index int // in the request
}

// compare orders candidates: fewest layers left out, fewest shifted, smallest
// largest shift, smallest sum, first in the request.
func (c Candidate) compare(o Candidate) int {
	return cmp.Or(
		cmp.Compare(c.Unmergeable, o.Unmergeable),
		cmp.Compare(c.Shifted, o.Shifted),
		compareShifts(c.LargestShift, o.LargestShift),
		compareShifts(c.TotalShift, o.TotalShift),
		cmp.Compare(c.index, o.index),
	)
}

// compareShifts takes lengths that differ by rounding only for equal.
func compareShifts(a, b float64) int {
	if d := a - b; d > -grid.AlignedPixels && d < grid.AlignedPixels {
		return 0
	}
	return cmp.Compare(a, b)
}

// Choose takes for lattice the grid of the layer onto which the others need the
// fewest and smallest shifts, and gives what every layer would have cost, best
// first. Layers that cannot be read are no candidates. Errors: Precondition
// LAYER_UNREADABLE when none can be read, else as grid.NewReference.
func Choose(layers []layer.Layer, tolPixels float64) (Lattice, []Candidate, error) {
	lattices, err := distinctLattices(layers, tolPixels)
	if err != nil {
		return Lattice{}, nil, err
	}
	if len(lattices) == 0 {
		if err := CheckReadable(layers); err != nil {
			return Lattice{}, nil, err
		}
		return Lattice{}, nil, CheckLayers(layers, 1)
	}
	costs := make([]Candidate, len(lattices))
	inParallel(len(lattices), func(n int) { costs[n] = costOf(&lattices[n], lattices) })
	var candidates []Candidate
	for n, cost := range costs {
		for _, i := range lattices[n].layers {
			cost.Layer, cost.index = layers[i].Name, i
			candidates = append(candidates, cost)
		}
	}
	slices.SortFunc(candidates, Candidate.compare)
	best := candidates[0]
	lattice, err := OnLayer(layers, best.Layer, tolPixels)
	lattice.Explanation = best.explain(candidates)
	return lattice, candidates, err
}

// costOf adds up what it takes to bring all layers onto one lattice.
func costOf(onto *gridLattice, all []gridLattice) Candidate {
	var cost Candidate
	for n := range all {
		verdict, pixels := onto.reference.Move(&all[n].reference)
		switch {
		case !verdict.Mergeable():
			cost.Unmergeable += len(all[n].layers)
		case verdict == grid.VerdictShift:
			shift := length(pixels)
			cost.Shifted += len(all[n].layers)
			cost.LargestShift = max(cost.LargestShift, shift)
			cost.TotalShift += shift * float64(len(all[n].layers))
		}
	}
	return cost
}

// inParallel calls work for 0 … n-1, on all processors where that pays.
func inParallel(n int, work func(int)) {
	workers := min(runtime.GOMAXPROCS(0), n/64)
	if workers < 2 {
		for i := range n {
			work(i)
		}
		return
	}
	var next atomic.Int64
	var group sync.WaitGroup
	var bug atomic.Pointer[error]
	for range workers {
		group.Go(func() {
			err := fault.Guard(func() error {
				for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
					work(i)
				}
				return nil
			})
			if err != nil {
				bug.Store(&err)
			}
		})
	}
	group.Wait()
	if err := bug.Load(); err != nil {
		panic(*err) //nolint:forbidigo // it goes on in the caller's goroutine, where it is one call's end
	}
}

// gridLattice is a grid, and the layers that have it.
type gridLattice struct {
	reference grid.Reference
	layers    []int // in the request
}

// distinctLattices gathers readable layers of equal grids, in request order:
// bands and months share theirs, and every pair of lattices is looked at.
func distinctLattices(layers []layer.Layer, tolPixels float64) ([]gridLattice, error) {
	var lattices []gridLattice
	at := make(map[grid.Grid]int, len(layers))
	for i, l := range layers {
		if l.CheckReadable() != nil {
			continue
		}
		n, ok := at[l.Grid]
		if !ok {
			r, err := grid.NewReference(l.Grid, tolPixels)
			if err != nil {
				return nil, err
			}
			n = len(lattices)
			at[l.Grid] = n
			lattices = append(lattices, gridLattice{reference: r})
		}
		lattices[n].layers = append(lattices[n].layers, i)
	}
	return lattices, nil
}

// explain says why c, the best of the candidates, is the reference.
func (c Candidate) explain(candidates []Candidate) string {
	others := len(candidates) - 1
	if others == 0 {
		return c.Layer + " is the only layer that can be the reference"
	}
	tied := 0
	for _, o := range candidates[1:] {
		o.index = c.index
		if c.compare(o) == 0 {
			tied++
		}
	}
	text := fmt.Sprintf("%s needs the least moving: ", c.Layer)
	switch {
	case c.Unmergeable == others:
		text = fmt.Sprintf("no layer fits on another; %s was chosen: ", c.Layer)
		text += "none of the others can be merged onto it"
	case c.Shifted == 0 && c.Unmergeable == 0:
		text += fmt.Sprintf("%s on its lattice as %s", count(others, "other layer lies", "other layers lie"), they(others))
	default:
		if still := others - c.Shifted - c.Unmergeable; still > 0 {
			text += fmt.Sprintf("%s on its lattice as %s, ", count(still, "other layer lies", "other layers lie"), they(still))
		}
		if c.Shifted > 0 {
			text += fmt.Sprintf("%s shifted by at most %s px", count(c.Shifted, "layer is", "layers are"), number(c.LargestShift))
		} else {
			text += "none is shifted"
		}
		if c.Unmergeable > 0 {
			text += fmt.Sprintf(", and %s be merged onto it", count(c.Unmergeable, "cannot", "cannot"))
		}
	}
	if tied > 0 {
		text += fmt.Sprintf("; %s would do as well, and the first of the request is taken", count(tied, "other layer", "other layers"))
	}
	return text
}

func they(n int) string {
	if n == 1 {
		return "it is"
	}
	return "they are"
}
