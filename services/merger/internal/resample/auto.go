package resample

import (
	"fmt"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// Kind is what the values of a layer are. No data type tells it for certain.
type Kind uint8

// The kinds.
const (
	KindUnknown Kind = iota
	Continuous       // a field measured somewhere: elevation, temperature, reflectance
	Categorical      // names of classes: land cover, soil type, a mask
	Count            // an amount in each cell, which adds up: people, species, rain in a gauge's cell
)

var kindNames = [...]string{"unknown", "continuous", "categorical", "count"}

// String names the kind as the request does.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[KindUnknown]
}

// Choice is a method that was chosen, and a sentence that says why.
type Choice struct {
	Method Method
	Why    string
}

// sameArea is how much the areas of two cells may differ and be called equal.
const sameArea = 1e-6

// Choose picks the method for a layer on a lattice, both of one CRS:
//
//	              cells of the lattice larger   equal or smaller
//	continuous    average                       bilinear
//	categorical   mode                          nearest
//	count         sum                           sum
//
// Without a kind, a type with a fraction is continuous. Whole numbers may be
// anything: they are taken for categories, since a value that some cell has is
// never nonsense and a mean of class numbers always is; the reason says so.
// declared is the type of the source raster.
func Choose(kind Kind, declared layer.DataType, src, ref grid.Grid) Choice {
	area := ref.StepX / src.StepX * (ref.StepY / src.StepY)
	coarser := area > 1+sameArea
	c := Choice{Method: Sum}
	guessed := ""
	if kind == KindUnknown {
		kind = Continuous
		guessed = fmt.Sprintf("; values of type %s are taken for continuous ones", declared)
		if lo, hi := declared.Limits(); hi-lo < 1<<65 {
			kind = Categorical
			guessed = fmt.Sprintf("; values of type %s may be classes, counts or measurements, and are taken for classes: "+
				"name the kind (continuous, count) to have them averaged or added up", declared)
		}
	}
	switch {
	case kind == Continuous && coarser:
		c.Method = Average
	case kind == Continuous:
		c.Method = Bilinear
	case kind == Categorical && coarser:
		c.Method = Mode
	case kind == Categorical:
		c.Method = Nearest
	}
	size := fmt.Sprintf("%.4g times the area of the layer's", area)
	if area <= 1+sameArea && area >= 1-sameArea {
		size = "of the same size as the layer's"
	}
	c.Why = fmt.Sprintf("%s: the values are %s and the cells of the lattice %s%s", c.Method, kind, size, guessed)
	return c
}
