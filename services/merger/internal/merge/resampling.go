package merge

import (
	"fmt"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/merger/internal/resample"
)

// Resampling is how a thread is resampled, and in its kernel just what that
// does.
type Resampling struct {
	Method   resample.Method
	MinShare float64
	// Why says why this method, in a sentence for people.
	Why string
	// Kernel is for the plan's window. Plan makes it.
	Kernel *resample.Kernel
}

// Placed is the thread as the rules of extents see it: the layer itself, or the
// cells of the lattice that resampling can give a value. ok is false where there
// are none.
func (t Thread) Placed(lattice grid.Grid) (placed grid.Placed, ok bool) {
	if t.Resampling == nil {
		return grid.Placed{Grid: t.Layer.Grid, Relation: t.Relation}, true
	}
	return resample.Footprint(t.Resampling.Method, t.Layer.Grid, lattice, t.Relation)
}

// place says where a thread lands in the window. For a resampled one it makes
// the kernel, after a look at what that would take.
func (p *Plan) place(t *Thread) error {
	r := t.Resampling
	if r == nil {
		t.Placement = t.Relation.Place(t.Layer.Grid, p.Window)
		return nil
	}
	need := resample.TableBytes(r.Method, t.Layer.Grid, p.Lattice, p.Window.Cols(), r.MinShare)
	if need > p.Limits.MemoryBytes {
		return fault.New(fault.Limit, fault.LimitExceeded,
			"to resample layer %q on %d columns takes %d bytes of memory, and the limit is %d: ask for a smaller extent",
			t.Layer.Name, p.Window.Cols(), need, p.Limits.MemoryBytes).
			With("layer", t.Layer.Name).With("bytes", need).With("limit", p.Limits.MemoryBytes)
	}
	kernel, err := resample.New(r.Method, t.Layer.Grid, p.Lattice, p.Window, resample.Options{MinShare: r.MinShare})
	if err != nil {
		if f := fault.From(err); f != nil {
			return f.With("layer", t.Layer.Name)
		}
		return err
	}
	// The thread may be shared with a copy of the plan.
	t.Resampling = &Resampling{Method: r.Method, MinShare: r.MinShare, Why: r.Why, Kernel: kernel}
	t.Placement = kernel.Landing(t.Relation.TurnCols)
	return nil
}

// cellsToRead are the cells of the layer that a range of lattice rows needs:
// rows and columns of the layer.
func (t Thread) cellsToRead(rows Rows) grid.Window {
	var w grid.Window
	var segments []grid.Segment
	if t.Resampling == nil {
		segments = t.Placement.Segments
		w.RowStart = max(t.Placement.RowStart, rows.Start-t.Placement.RowShift)
		w.RowStop = min(t.Placement.RowStop, rows.Stop-t.Placement.RowShift)
	} else if !t.Placement.Empty() {
		need := t.Resampling.Kernel.SourceWindow(max(rows.Start, t.Placement.RowStart), min(rows.Stop, t.Placement.RowStop))
		segments = t.Resampling.Kernel.Segments()
		w.RowStart, w.RowStop = need.RowStart, need.RowStop
	}
	for j, s := range segments {
		if j == 0 {
			w.ColStart, w.ColStop = s.SrcStart, s.SrcStop
		}
		w.ColStart, w.ColStop = min(w.ColStart, s.SrcStart), max(w.ColStop, s.SrcStop)
	}
	if w.Empty() {
		return grid.Window{}
	}
	return w
}

// partRows is how many rows of the layer a resampled thread takes at a time; 0
// where it takes all that a band needs, as it does unless one row of the lattice
// already needs more than its share of a band's size.
func (p *Plan) partRows(t *Thread) int64 {
	k := t.Resampling.Kernel
	sharing := 0
	for i := range p.Threads {
		if p.Threads[i].Resampling != nil {
			sharing++
		}
	}
	row := float64(max(1, k.SourceCols())) * cellBytes(t)
	rows := max(resample.PartRows, int64(float64(p.Limits.BandBytes)/float64(max(1, sharing))/row))
	if !k.Streams() || k.MaxSourceRows(1) <= rows {
		return 0
	}
	return rows
}

// cellBytes is the size of a cell of the layer in a window, with its bit.
func cellBytes(t *Thread) float64 { return float64(t.Layer.StoredType.Width()) + 1./8 }

// ballotBytes bounds the different values that mode counts under the cells of
// some rows of the lattice, where the layer comes a few rows at a time.
func (p *Plan) ballotBytes(t *Thread) int64 {
	if t.Resampling.Method != resample.Mode {
		return 0
	}
	return min(64<<20, p.Limits.MemoryBytes/4)
}

// sourceRows are the rows of the layer that are held at once for bands of so many
// rows of the lattice.
func (p *Plan) sourceRows(t *Thread, rows int64) int64 {
	if part := p.partRows(t); part > 0 {
		return part
	}
	return t.Resampling.Kernel.MaxSourceRows(rows)
}

// sourceBytes is the memory of the dense window of source cells that bands of so
// many rows of a resampled thread are made from, with the values of a band
// where they have another type than the column; 0 for other threads.
func (p *Plan) sourceBytes(t *Thread, rows int64) float64 {
	if t.Resampling == nil {
		return 0
	}
	size := float64(p.sourceRows(t, rows)) * float64(t.Resampling.Kernel.SourceCols()) * cellBytes(t)
	if made := t.Resampling.Method.OutputType(t.Layer.StoredType); made != t.Type {
		size += float64(rows*p.Window.Cols()) * float64(made.Width())
	}
	return size
}

// resamplingBytes is what sourceBytes comes to for all threads and the bands of
// the plan, with the kernels.
func (p *Plan) resamplingBytes() (size float64) {
	for i := range p.Threads {
		if t := &p.Threads[i]; t.Resampling != nil {
			k := t.Resampling.Kernel
			size += p.sourceBytes(t, p.bandRows()) + float64(k.MemoryBytes())
			if p.partRows(t) > 0 {
				size += float64(k.StreamBytes(t.Layer.StoredType.Width()) + p.ballotBytes(t))
			}
		}
	}
	return size
}

// warning tells what is resampled, and how.
func (r *Resampling) warning(name string) string {
	receipt := r.Kernel.Receipt()
	ratio := func(v float64) string {
		if v >= 1 {
			return fmt.Sprintf("%.4g", v)
		}
		return fmt.Sprintf("1/%.4g", 1/v)
	}
	size := ratio(receipt.RatioX)
	if y := ratio(receipt.RatioY); y != size {
		size += " × " + y
	}
	return fmt.Sprintf("%s: resampled by %s; a cell of the lattice is %s of the layer's (%s)", name, r.Method, size, r.Why)
}

// typeOfColumn is the type of a thread's column when want is asked for: methods
// that compute give their own.
func (t Thread) typeOfColumn(want layer.DataType) layer.DataType {
	if t.Resampling != nil && t.Resampling.Method.Computes() {
		return t.Resampling.Method.OutputType(t.Layer.StoredType)
	}
	return want
}
