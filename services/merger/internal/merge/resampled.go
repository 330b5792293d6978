package merge

import (
	"context"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/bitmap"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/merger/internal/resample"
)

// resampled is the shuttle of a resampled thread: what its maker makes are
// values of type K, and its column is of type T.
type resampled[K, T layer.Value] struct {
	maker[K]
	thread  *Thread
	convert func(K) (T, bool) // nil where every K is a T
	made    []K               // a band before conversion; nil without one
	cols    grid.Window       // the columns of the window
	filled  int               // how many of these get values
	windows [bandsInFlight]window[T]
	counted count
}

// maker makes the values of bands from the cells of a layer.
type maker[K layer.Value] interface {
	prime(ctx context.Context) error
	next() (row int64, ok bool)
	// makeBand fills all cells of dst.
	makeBand(ctx context.Context, rows Rows, dst resample.Window[K]) error
	// check fails when cells were lost on the way to the kernel.
	check(emitted bool) error
}

// kernelOf is the maker for cells stored as S.
type kernelOf[S, K layer.Value] struct {
	*feed[S]
	resampler *resample.Resampler[S, K]
}

func (k kernelOf[S, K]) makeBand(ctx context.Context, rows Rows, dst resample.Window[K]) error {
	src, err := k.band(ctx, rows)
	if err != nil {
		return err
	}
	if src.Empty() {
		clear(dst.Valid)
		return nil
	}
	return k.resampler.Band(dst, src)
}

// check looks at what was read; that of no cell becomes a value by itself.
func (k kernelOf[S, K]) check(bool) error { return k.feed.check(false) }

// streamOf is the maker for cells stored as S where the layer has so many rows to
// one of the lattice that they are taken a few at a time.
type streamOf[S, K layer.Value] struct {
	*feed[S]
	stream *resample.Stream[S, K]
	rows   int64 // of the layer at a time
}

func (s streamOf[S, K]) next() (int64, bool) {
	row, ok := s.feed.next()
	if begun, some := s.stream.Begun(s.row); some && (!ok || begun < row) {
		return begun, true
	}
	return row, ok
}

func (s streamOf[S, K]) makeBand(ctx context.Context, rows Rows, dst resample.Window[K]) error {
	s.row = rows.Stop
	clear(dst.Valid)
	for row := rows.Start; row < rows.Stop; row++ {
		for need := s.stream.Need(row, s.rows); !need.Empty(); need = s.stream.Need(row, s.rows) {
			src, err := s.roll(ctx, need)
			if err != nil {
				return err
			}
			if err := s.stream.Take(src); err != nil {
				if f := fault.From(err); f != nil {
					return f.With("layer", s.thread.Layer.Name)
				}
				return err
			}
		}
		s.stream.Row(dst, row)
	}
	return nil
}

func (s streamOf[S, K]) check(bool) error { return s.feed.check(false) }

// newMaker is the maker for cells of a thread.
func newMaker[S, K layer.Value](p *Plan, i int, source Source) (maker[K], error) {
	t := &p.Threads[i]
	k, f := t.Resampling.Kernel, newFeed[S](p, i, source)
	if rows := p.partRows(t); rows > 0 {
		s, err := resample.NewStream[S, K](k, p.ballotBytes(t))
		return streamOf[S, K]{f, s, rows}, err
	}
	r, err := resample.NewResampler[S, K](k)
	return kernelOf[S, K]{f, r}, err
}

// newResampling picks the shuttle for the types of a resampled thread.
func newResampling(p *Plan, i int, source Source) (shuttle, error) {
	switch p.Threads[i].Layer.StoredType {
	case layer.Float64:
		return newResamplingOf[float64](p, i, source)
	case layer.Float32:
		return newResamplingOf[float32](p, i, source)
	case layer.Int16:
		return newResamplingOf[int16](p, i, source)
	case layer.Int32:
		return newResamplingOf[int32](p, i, source)
	case layer.Int64:
		return newResamplingOf[int64](p, i, source)
	case layer.Uint8:
		return newResamplingOf[uint8](p, i, source)
	case layer.Int8:
		return newResamplingOf[int8](p, i, source)
	case layer.Uint16:
		return newResamplingOf[uint16](p, i, source)
	case layer.Uint32:
		return newResamplingOf[uint32](p, i, source)
	default:
		return nil, unknownType(p.Threads[i].Layer.Name, p.Threads[i].Layer.StoredType)
	}
}

func newResamplingOf[S layer.Value](p *Plan, i int, source Source) (shuttle, error) {
	t := &p.Threads[i]
	if t.Resampling.Method.Computes() {
		m, err := newMaker[S, float64](p, i, source)
		if err != nil {
			return nil, err
		}
		return newResampled[float64, float64](p, i, m), nil
	}
	m, err := newMaker[S, S](p, i, source)
	if err != nil {
		return nil, err
	}
	switch t.Type {
	case layer.Uint8:
		return newResampled[S, uint8](p, i, m), nil
	case layer.Int8:
		return newResampled[S, int8](p, i, m), nil
	case layer.Uint16:
		return newResampled[S, uint16](p, i, m), nil
	case layer.Int16:
		return newResampled[S, int16](p, i, m), nil
	case layer.Uint32:
		return newResampled[S, uint32](p, i, m), nil
	case layer.Int32:
		return newResampled[S, int32](p, i, m), nil
	case layer.Int64:
		return newResampled[S, int64](p, i, m), nil
	case layer.Float32:
		return newResampled[S, float32](p, i, m), nil
	case layer.Float64:
		return newResampled[S, float64](p, i, m), nil
	default:
		return nil, unknownType(t.Layer.Name, t.Type)
	}
}

func newResampled[K, T layer.Value](p *Plan, i int, m maker[K]) shuttle {
	t := &p.Threads[i]
	r := &resampled[K, T]{
		maker: m, thread: t, convert: converter[K, T](),
		cols:   grid.Window{ColStart: p.Window.ColStart, ColStop: p.Window.ColStop},
		filled: int(p.Window.Cols()),
	}
	if turn := t.Relation.TurnCols; turn > 0 {
		r.filled = int(min(p.Window.Cols(), turn))
	}
	cells := int(p.bandRows() * p.Window.Cols())
	for b := range r.windows {
		r.windows[b] = window[T]{values: make([]T, cells), valid: make([]uint64, bitmap.Words(cells))}
	}
	if r.convert != nil {
		r.made = make([]K, cells)
	}
	return r
}

func (r *resampled[K, T]) tally() *count           { return &r.counted }
func (r *resampled[K, T]) valid(band int) []uint64 { return r.windows[band].valid }

func (r *resampled[K, T]) check(emitted bool) error {
	if err := r.maker.check(emitted); err != nil {
		return err
	}
	return r.counted.check(*r.thread, emitted)
}

func (r *resampled[K, T]) column(capacity int) column {
	return newValueColumn(&r.windows, &r.counted.kept, capacity)
}

func (r *resampled[K, T]) fill(ctx context.Context, band int, rows Rows) error {
	w := r.windows[band]
	width := int(r.cols.Cols())
	cells := int(rows.Stop-rows.Start) * width
	dst := resample.Window[K]{Window: r.cols, Values: r.made, Valid: w.valid[:bitmap.Words(cells)]}
	dst.RowStart, dst.RowStop = rows.Start, rows.Stop
	if r.convert == nil {
		dst.Values, _ = any(w.values).([]K)
	}
	dst.Values = dst.Values[:cells]
	if err := r.makeBand(ctx, rows, dst); err != nil {
		return err
	}
	if r.filled < width {
		for at := 0; at < cells; at += width {
			bitmap.Unset(w.valid, at+r.filled, width-r.filled)
		}
	}
	if r.convert != nil {
		if err := r.convertBand(w, rows, cells); err != nil {
			return err
		}
	}
	made := bitmap.Ones(w.valid[:bitmap.Words(cells)])
	r.counted.read += made
	r.counted.placed += made
	return nil
}

// convertBand converts what was made, where there is a value.
func (r *resampled[K, T]) convertBand(w window[T], rows Rows, cells int) error {
	for start, stop := bitmap.Run(w.valid, 0, cells); start < cells; start, stop = bitmap.Run(w.valid, stop, cells) {
		for i, v := range r.made[start:stop] {
			out, ok := r.convert(v)
			if !ok {
				at := int64(start + i)
				row, col := rows.Start+at/r.cols.Cols(), r.cols.ColStart+at%r.cols.Cols()
				return fault.New(fault.Precondition, fault.NarrowingLoss,
					"layer %q: the resampled value %v at row %d, column %d of the reference lattice does not fit %s without loss",
					r.thread.Layer.Name, v, row, col, r.thread.Type).
					With("layer", r.thread.Layer.Name).With("row", row).With("col", col).With("value", v).With("type", r.thread.Type)
			}
			w.values[start+i] = out
		}
	}
	return nil
}
