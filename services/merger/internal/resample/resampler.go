package resample

import (
	"math"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// Resampler makes bands of values of type D from a layer's values of type S. It
// holds buffers: one resampler is for one goroutine at a time.
type Resampler[S, D layer.Value] struct {
	k *Kernel
	// sums and weights are one row of the layer's columns, and down the weights
	// of the rows that went into it.
	sums, weights, down []float64
	// entire has a bit for each of the sums that has all its weight.
	entire []uint64
	// whole and some are the columns valid in all of the rows, and in any: see
	// survey.
	whole, some []uint64
	// alls is that weight, many times.
	alls [64]float64
	// out and ok are the row of the window that is being made.
	out []float64
	ok  []uint64
	// near are the cells of the row that holds the centres.
	near []S
	// covered is the valid area of the layer's columns under a row, where a least
	// share is asked for.
	covered []float64
	// all are the columns of the source window valid in all of some rows.
	all []uint64
	// picked are the values of min and max, one row of the layer's columns.
	picked []S
	votes  ballot[S]
	// floats is true where a value may be infinite.
	floats bool
}

// NewResampler makes a resampler. Methods that pick values pick them as they
// are: D is then S. Errors: Invalid INVALID_ARGUMENT where it is not.
func NewResampler[S, D layer.Value](k *Kernel) (*Resampler[S, D], error) {
	from, to := layer.TypeOf[S](), layer.TypeOf[D]()
	if !k.method.Computes() && from != to {
		return nil, fault.New(fault.Invalid, fault.InvalidArgument,
			"resampling by %s keeps the type of its values, %s, and cannot give %s", k.method, from, to).
			With("method", k.method).With("type", from).With("value", to)
	}
	n := int(k.window.Cols())
	r := &Resampler[S, D]{
		k: k, ok: make([]uint64, words(n)), floats: from == layer.Float32 || from == layer.Float64,
	}
	switch k.method {
	case Nearest:
	case Min, Max:
		r.picked = make([]S, k.width)
		r.all = make([]uint64, words(k.width))
	case Mode:
		r.votes = newBallot[S]()
	default:
		r.sums = make([]float64, k.reach)
		if to != layer.Float64 {
			r.out = make([]float64, n)
		}
		r.entire = make([]uint64, words(k.reach))
		n := words(k.width) + len(k.segments)
		r.whole, r.some = make([]uint64, n), make([]uint64, n)
	}
	if k.method == Cubic {
		r.all = make([]uint64, words(k.width))
	}
	if k.method.Computes() {
		r.weights = make([]float64, k.reach)
	}
	if k.minShare > 0 {
		r.covered = make([]float64, k.reach)
	}
	return r, nil
}

// Band makes the rows of dst from those of src. dst has all columns of the
// kernel's window, and any of its rows; src has at least what
// Kernel.SourceWindow says of those rows, and just its columns. Values of dst
// under an unset bit are zero, and bits past the last cell are too.
//
// Errors: Internal INTERNAL for windows that are not so.
func (r *Resampler[S, D]) Band(dst Window[D], src Window[S]) error {
	if err := r.check(dst, src); err != nil {
		return err
	}
	n := int(r.k.window.Cols())
	clear(dst.Valid)
	for row := dst.RowStart; row < dst.RowStop; row++ {
		at := dst.at(row, dst.ColStart)
		values := dst.Values[at : at+n]
		clear(r.ok)
		if r.k.width > 0 {
			r.row(values, row, src)
		}
		r.finish(values, dst.Valid, at)
	}
	return nil
}

func (r *Resampler[S, D]) check(dst Window[D], src Window[S]) error {
	need := r.k.SourceWindow(dst.RowStart, dst.RowStop)
	inside := dst.RowStart >= r.k.window.RowStart && dst.RowStop <= r.k.window.RowStop &&
		dst.ColStart == r.k.window.ColStart && dst.ColStop == r.k.window.ColStop
	enough := need.Empty() || src.RowStart <= need.RowStart && src.RowStop >= need.RowStop &&
		src.ColStart == need.ColStart && src.ColStop == need.ColStop
	if !inside || !enough || !holds(dst) || !holds(src) {
		return fault.New(fault.Internal, fault.Bug,
			"resampling of %s from %s, which needs %s: windows do not fit", dst.Window, src.Window, need)
	}
	return nil
}

// holds reports whether a window has room for its cells.
func holds[T layer.Value](w Window[T]) bool {
	n := w.Cells()
	return int64(len(w.Values)) >= n && int64(len(w.Valid)) == int64(words(int(n)))
}

// row makes the values and the bits of a row.
func (r *Resampler[S, D]) row(values []D, row int64, src Window[S]) {
	var some bool
	r.aim(values)
	switch r.k.method {
	case Nearest:
		some = r.nearest(any(values).([]S), row, src)
	case Min, Max:
		some = r.extreme(any(values).([]S), row, src)
	case Mode:
		some = r.mode(any(values).([]S), row, src)
	case Cubic:
		if r.k.form == formCubic {
			some = r.cubic(row, src)
		} else {
			some = r.blend(row, src)
		}
		convert(values, r.out)
	default:
		some = r.blend(row, src)
		convert(values, r.out)
	}
	if !some {
		clear(r.ok)
	} else if r.k.minShare > 0 {
		r.share(row, src)
	}
}

// aim lets results come to be where they belong, if they stay float64.
func (r *Resampler[S, D]) aim(values []D) {
	if to, ok := any(values).([]float64); ok && r.k.method.Computes() {
		r.out = to
	}
}

// finish puts zeros where a row has no value, and its bits where they belong: from
// place at on.
func (r *Resampler[S, D]) finish(values []D, valid []uint64, at int) {
	for i, w := range r.ok {
		part := values[i*64 : min(len(values), i*64+64)]
		switch w {
		case low(len(part)):
		case 0:
			clear(part)
		default:
			for j := range part {
				if w>>j&1 == 0 {
					part[j] = 0
				}
			}
		}
		store(valid, at+i*64, len(part), w)
	}
}

// convert rounds to the output type. Whole numbers are rounded half up (towards
// the north of the number line, as GDAL does), and what a type cannot hold
// becomes its nearest value. Places without a value hold anything.
func convert[D layer.Value](values []D, from []float64) {
	switch to := any(values).(type) {
	case []float64:
		// They are there already: see aim.
	case []float32:
		for i, v := range from {
			to[i] = float32(math.Max(-math.MaxFloat32, math.Min(v, math.MaxFloat32)))
		}
	default:
		lo, hi := layer.TypeOf[D]().Limits()
		// hi - 1 by way of uint64, where that of int64 is exact, too.
		smallest, largest := D(lo), D(uint64(hi)-1)
		for i, v := range from {
			v = math.Floor(v + 0.5)
			switch {
			case v <= lo:
				values[i] = smallest
			case v >= hi:
				values[i] = largest
			default:
				values[i] = D(v)
			}
		}
	}
}

// rowsOf gives the rows of the layer that a row of the window takes and that it
// has, with their weights and the sum of these. The cells of a row are in the
// source window.
func (r *Resampler[S, D]) rowsOf(f form, row int64) (rows grid.Window, total float64) {
	y := &r.k.y
	lo, hi := y.span(f, row)
	r.down, total = y.weigh(f, row, r.down[:0])
	from, to := max(lo, 0), min(hi, y.cells)
	if from >= to {
		r.down = r.down[:0]
		return grid.Window{}, 0
	}
	r.down = r.down[from-lo : to-lo]
	return grid.Window{RowStart: from, RowStop: to}, total
}
