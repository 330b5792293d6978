package rpc

import (
	"fmt"

	"github.com/rasterloom/rasterloom/fault"
	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
	"github.com/rasterloom/rasterloom/services/merger/internal/resample"
)

// resamplingOf says how a thread is resampled; nil where its cells are taken as
// they are, or the layer cannot be merged at all. selection is nil for a layer
// that is only the reference.
func resamplingOf(t merge.Thread, lattice grid.Grid, spec *mergerv1.MergeSpec, selection *mergerv1.LayerSelection) (*merge.Resampling, error) {
	asked, own := spec.GetResampling(), false
	if selection.GetResampling() != mergerv1.Resampling_RESAMPLING_UNSPECIFIED {
		asked, own = selection.GetResampling(), selection.GetResampling() != mergerv1.Resampling_RESAMPLING_AUTO
	}
	share := spec.GetMinShare()
	if selection != nil && selection.MinShare != nil {
		share = selection.GetMinShare()
	}
	if !(share >= 0 && share <= 1) {
		return nil, fault.New(fault.Invalid, fault.InvalidArgument, "layer %q: min_share is %v, and must be between 0 and 1", t.Layer.Name, share).
			With("field", "min_share").With("layer", t.Layer.Name).With("value", share)
	}
	named := own && t.Relation.Verdict == grid.VerdictShift
	if selection == nil || t.Relation.Verdict != grid.VerdictResample && !named {
		return nil, nil //nolint:nilnil // nothing to resample is no error
	}
	switch asked {
	case mergerv1.Resampling_RESAMPLING_UNSPECIFIED, mergerv1.Resampling_RESAMPLING_NONE:
		return nil, nil //nolint:nilnil // as above
	case mergerv1.Resampling_RESAMPLING_AUTO:
		choice := resample.Choose(kinds[selection.GetKind()], typeOfSource(t.Layer), t.Layer.Grid, lattice)
		return &merge.Resampling{Method: choice.Method, MinShare: share, Why: choice.Why}, nil
	default:
		why := "as asked for all layers that need it"
		if own {
			why = "as asked for this layer"
		}
		return &merge.Resampling{Method: methods[asked], MinShare: share, Why: why}, nil
	}
}

// typeOfSource is what tells of the values what they are: tables often store
// whole numbers as double precision.
func typeOfSource(l layer.Layer) layer.DataType {
	if l.DeclaredType != layer.TypeUnknown {
		return l.DeclaredType
	}
	return l.StoredType
}

// needsResampling refuses a layer that no shift brings onto the lattice, and
// says which methods would.
func needsResampling(t merge.Thread, lattice grid.Grid, reference string, tolerance float64) error {
	name, r := t.Layer.Name, t.Relation
	axis, measured := "x", r.ResidualPixels.X
	if r.ResidualPixels.Y > measured {
		axis, measured = "y", r.ResidualPixels.Y
	}
	fits := func(kind resample.Kind) resample.Method {
		return resample.Choose(kind, t.Layer.StoredType, t.Layer.Grid, lattice).Method
	}
	measurements, classes, counts := fits(resample.Continuous), fits(resample.Categorical), fits(resample.Count)
	return fault.New(fault.Precondition, fault.ResidualTooLarge,
		"layer %q still lies %.3g pixels off the reference, %s, on %s after the best shift, and the tolerance is %v: "+
			"ask for it to be resampled: %s for measurements, %s for classes, %s for counts, or auto",
		name, measured, reference, axis, tolerance, measurements, classes, counts).
		With("layer", name).With("field", "resampling").With("axis", axis).With("measured", measured).With("limit", tolerance).
		With("methods", fmt.Sprintf("%s,%s,%s", measurements, classes, counts))
}

// toResampled says what makes a thread's column; nil where nothing is resampled.
func toResampled(t merge.Thread) *mergerv1.Resampled {
	if t.Resampling == nil {
		return nil
	}
	r := t.Resampling.Kernel.Receipt()
	out := &mergerv1.Resampled{
		Explanation: t.Resampling.Why, RatioX: r.RatioX, RatioY: r.RatioY, OffsetX: r.OffsetX, OffsetY: r.OffsetY,
		MinShare: r.MinShare, Widened: r.Widened, Version: int32(r.Version),
	}
	for asked, method := range methods {
		if method == r.Method {
			out.Method = asked
		}
	}
	return out
}

var (
	methods = map[mergerv1.Resampling]resample.Method{
		mergerv1.Resampling_RESAMPLING_NEAREST:  resample.Nearest,
		mergerv1.Resampling_RESAMPLING_BILINEAR: resample.Bilinear,
		mergerv1.Resampling_RESAMPLING_CUBIC:    resample.Cubic,
		mergerv1.Resampling_RESAMPLING_AVERAGE:  resample.Average,
		mergerv1.Resampling_RESAMPLING_MODE:     resample.Mode,
		mergerv1.Resampling_RESAMPLING_MIN:      resample.Min,
		mergerv1.Resampling_RESAMPLING_MAX:      resample.Max,
		mergerv1.Resampling_RESAMPLING_SUM:      resample.Sum,
	}
	kinds = map[mergerv1.ValueKind]resample.Kind{
		mergerv1.ValueKind_VALUE_KIND_UNSPECIFIED: resample.KindUnknown,
		mergerv1.ValueKind_VALUE_KIND_CONTINUOUS:  resample.Continuous,
		mergerv1.ValueKind_VALUE_KIND_CATEGORICAL: resample.Categorical,
		mergerv1.ValueKind_VALUE_KIND_COUNT:       resample.Count,
	}
)
