// Package align relates layers to a reference lattice and says what that means,
// in numbers and in words. It is pure: metadata in, answers out.
package align

import (
	"math"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// MaxLayers is the largest number of layers in one request.
const MaxLayers = 4096

// Lattice is what layers are related to.
type Lattice struct {
	reference grid.Reference
	tolerance float64
	// Layer is the layer that the lattice is the grid of; empty for an explicit
	// grid.
	Layer string
	// Explanation says why this lattice, where it was chosen and not given.
	Explanation string
}

// Grid is the reference grid.
func (l Lattice) Grid() grid.Grid { return l.reference.Grid() }

// TolerancePixels is the largest residual of a SHIFT.
func (l Lattice) TolerancePixels() float64 { return l.tolerance }

// label names the lattice in a sentence.
func (l Lattice) label() string {
	if l.Layer == "" {
		return "the given grid"
	}
	return l.Layer
}

// CheckLayers refuses sets that cannot be related: fewer than least layers, a
// layer without a name, or one named twice. Errors: Invalid INVALID_ARGUMENT or
// LAYER_REPEATED, Limit LIMIT_EXCEEDED.
func CheckLayers(layers []layer.Layer, least int) error {
	switch n := len(layers); {
	case n < least:
		return fault.New(fault.Invalid, fault.InvalidArgument, "%d layers given, and at least %d are needed", n, least).
			With("field", "layers").With("value", n).With("limit", least)
	case n > MaxLayers:
		return fault.New(fault.Limit, fault.LimitExceeded, "%d layers given, and at most %d can be related at once", n, MaxLayers).
			With("field", "layers").With("value", n).With("limit", MaxLayers)
	}
	seen := make(map[string]int, len(layers))
	for i, l := range layers {
		if l.Name == "" {
			return fault.New(fault.Invalid, fault.InvalidArgument, "layer %d has no name", i+1).
				With("field", "layers.layer.name").With("value", "")
		}
		if first, ok := seen[l.Name]; ok {
			return fault.New(fault.Invalid, fault.LayerRepeated, "layer %q is given twice, as number %d and %d", l.Name, first+1, i+1).
				With("layer", l.Name).With("field", "layers")
		}
		seen[l.Name] = i
	}
	return nil
}

// CheckReadable refuses a set with a layer that cannot be read. Errors:
// Precondition LAYER_UNREADABLE for the first one.
func CheckReadable(layers []layer.Layer) error {
	for _, l := range layers {
		if err := l.CheckReadable(); err != nil {
			return err
		}
	}
	return nil
}

// OnGrid takes an explicit grid for lattice. Errors: as grid.NewReference.
func OnGrid(g grid.Grid, tolPixels float64) (Lattice, error) {
	r, err := grid.NewReference(g, tolPixels)
	return Lattice{reference: r, tolerance: tolPixels}, err
}

// OnLayer takes the grid of the layer of that name for lattice. Errors: Invalid
// INVALID_ARGUMENT for a name that is none of the layers, Precondition
// LAYER_UNREADABLE for a layer that has no grid, else as grid.NewReference.
func OnLayer(layers []layer.Layer, name string, tolPixels float64) (Lattice, error) {
	for _, l := range layers {
		if l.Name != name {
			continue
		}
		if !l.HasGrid {
			return Lattice{}, l.CheckReadable()
		}
		lattice, err := OnGrid(l.Grid, tolPixels)
		lattice.Layer = name
		return lattice, err
	}
	return Lattice{}, fault.New(fault.Invalid, fault.InvalidArgument, "the reference %q is none of the layers of the request", name).
		With("field", "reference.layer").With("value", name)
}

// Relation is how one layer lies on a lattice.
type Relation struct {
	grid.Relation
	// Layer is the layer's name.
	Layer string
	// Explanation is the reason for the verdict, in words with numbers.
	Explanation string
	// Registration is which point of a cell the stored coordinates name, and
	// RegistrationPixels how far that is from the centre, in pixels of the
	// layer. They do not move cells: those are placed by their indices.
	Registration       grid.Registration
	RegistrationPixels grid.Vector
	// SouthUp is true when the stored rows run from south to north.
	SouthUp bool
}

// Relate relates layers to a lattice, in order. A layer without a grid gets no
// verdict, and an explanation of why.
func Relate(layers []layer.Layer, lattice Lattice) []Relation {
	relations := make([]Relation, len(layers))
	systems := newSystems()
	for i, l := range layers {
		r := Relation{Layer: l.Name, Registration: l.Registration, SouthUp: l.SouthUp}
		if l.Registration == grid.RegistrationUpperLeft {
			r.RegistrationPixels = grid.Vector{X: -0.5, Y: -0.5}
		}
		if err := l.CheckReadable(); err != nil {
			r.Explanation = err.Error()
		} else {
			r.Relation = lattice.reference.Relate(l.Grid, systems.parse(l.Grid.CRS))
			r.Explanation = explain(l, r.Relation, lattice, systems)
		}
		relations[i] = r
	}
	return relations
}

// systems parses each CRS text once: a thousand layers share a few.
type systems map[string]grid.CRS

func newSystems() systems { return make(systems, 4) }

func (s systems) parse(text string) grid.CRS {
	crs, ok := s[text]
	if !ok {
		crs = grid.ParseCRS(text)
		s[text] = crs
	}
	return crs
}

// length of a vector.
func length(v grid.Vector) float64 { return math.Sqrt(v.X*v.X + v.Y*v.Y) }
