package merge

import (
	"context"
	"errors"
	"io"
	"math"
	"math/bits"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/bitmap"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// Source streams the cells of one layer, in the order that layer.Chunk says.
type Source interface {
	// Next gives the next chunk, never an empty one, and io.EOF after the last.
	Next(ctx context.Context) (*layer.Chunk, error)
	// Recycle gives a chunk back once it has been used.
	Recycle(*layer.Chunk)
}

// shuttle carries the cells of one thread from its source into bands, and from
// bands into columns. Its methods are called for a chunk or a run, never for a
// cell.
type shuttle interface {
	// prime gets the first chunk.
	prime(ctx context.Context) error
	// next is the lattice row of the next cell, or one before it where there may
	// be none; false when no more is to come.
	next() (row int64, ok bool)
	// fill scatters the cells of the rows into the band's window.
	fill(ctx context.Context, band int, rows Rows) error
	// valid is the bitmap of a band's cells that have a value.
	valid(band int) []uint64
	// column makes the buffers of the thread's column.
	column(capacity int) column
	// tally is what was counted so far by fill.
	tally() *count
	// check fails when cells were lost or made up, once all bands were read;
	// emitted says whether the thread has a column.
	check(emitted bool) error
}

// count is what a shuttle counted.
type count struct {
	read    int64 // cells that came in chunks
	placed  int64 // of these, put into a band
	outside int64 // of these, in no column of the window
	held    int64 // values found in bands afterwards
	dropped int64 // of these, in rows that are not kept
	kept    int64 // values in columns of batches
}

// check fails when cells were lost or made up on the way.
func (c *count) check(t Thread, emitted bool) error {
	if c.read == c.placed+c.outside && c.placed == c.held && (!emitted || c.held == c.dropped+c.kept) {
		return nil
	}
	return fault.New(fault.Corrupt, fault.DataCorrupt,
		"layer %q: %d cells were read, %d placed, %d left outside, %d held, %d dropped and %d kept: these do not add up",
		t.Layer.Name, c.read, c.placed, c.outside, c.held, c.dropped, c.kept).With("layer", t.Layer.Name)
}

// window is one band of a thread: values are only set where the bit is.
type window[T layer.Value] struct {
	values []T
	valid  []uint64
}

// carrier is the shuttle of a thread stored as S whose column is of type T.
type carrier[S, T layer.Value] struct {
	thread  *Thread
	source  Source
	convert func(S) (T, bool) // nil where every S is a T
	left    int64             // first column of the window on the lattice
	width   int               // columns of the window
	windows [bandsInFlight]window[T]

	chunk   *layer.Chunk
	at      int // next run of chunk
	value   int // its first value
	done    bool
	counted count
}

// newShuttle picks the shuttle for the types of a thread.
func newShuttle(p *Plan, i int, source Source) (shuttle, error) {
	if p.Threads[i].Resampling != nil {
		return newResampling(p, i, source)
	}
	switch p.Threads[i].Layer.StoredType {
	case layer.Float64:
		return newCarrierOf[float64](p, i, source)
	case layer.Float32:
		return newCarrierOf[float32](p, i, source)
	case layer.Int16:
		return newCarrierOf[int16](p, i, source)
	case layer.Int32:
		return newCarrierOf[int32](p, i, source)
	case layer.Int64:
		return newCarrierOf[int64](p, i, source)
	case layer.Uint8: // from here on, of tiles alone
		return newCarrierOf[uint8](p, i, source)
	case layer.Int8:
		return newCarrierOf[int8](p, i, source)
	case layer.Uint16:
		return newCarrierOf[uint16](p, i, source)
	case layer.Uint32:
		return newCarrierOf[uint32](p, i, source)
	default:
		return nil, unknownType(p.Threads[i].Layer.Name, p.Threads[i].Layer.StoredType)
	}
}

func newCarrierOf[S layer.Value](p *Plan, i int, source Source) (shuttle, error) {
	switch p.Threads[i].Type {
	case layer.Uint8:
		return newCarrier[S, uint8](p, i, source), nil
	case layer.Int8:
		return newCarrier[S, int8](p, i, source), nil
	case layer.Uint16:
		return newCarrier[S, uint16](p, i, source), nil
	case layer.Int16:
		return newCarrier[S, int16](p, i, source), nil
	case layer.Uint32:
		return newCarrier[S, uint32](p, i, source), nil
	case layer.Int32:
		return newCarrier[S, int32](p, i, source), nil
	case layer.Int64:
		return newCarrier[S, int64](p, i, source), nil
	case layer.Float32:
		return newCarrier[S, float32](p, i, source), nil
	case layer.Float64:
		return newCarrier[S, float64](p, i, source), nil
	default:
		return nil, unknownType(p.Threads[i].Layer.Name, p.Threads[i].Type)
	}
}

func unknownType(name string, t layer.DataType) error {
	return fault.New(fault.Precondition, fault.LayerUnreadable, "layer %q has values of type %s, which cannot be merged", name, t).
		With("layer", name).With("type", t)
}

func newCarrier[S, T layer.Value](p *Plan, i int, source Source) shuttle {
	c := &carrier[S, T]{
		thread: &p.Threads[i], source: source, convert: converter[S, T](),
		left: p.Window.ColStart, width: int(p.Window.Cols()),
	}
	cells := int(p.bandRows()) * c.width
	for b := range c.windows {
		c.windows[b] = window[T]{values: make([]T, cells), valid: make([]uint64, bitmap.Words(cells))}
	}
	return c
}

// converter gives the lossless conversion from S to T, which says false where a
// value does not fit; nil when S is T. -0.0 and 0 are the same integer.
func converter[S, T layer.Value]() func(S) (T, bool) {
	from, to := layer.TypeOf[S](), layer.TypeOf[T]()
	if from == to {
		return nil
	}
	if to == layer.Float64 || to == layer.Float32 {
		if from == layer.Float64 || from == layer.Float32 {
			// Infinity stays, a finite value too large for float32 does not.
			return func(v S) (T, bool) { return T(v), S(T(v)) == v }
		}
		// Back by way of int64, where float64(MaxInt64) would overflow.
		return func(v S) (T, bool) {
			f := float64(T(v))
			return T(v), f < 1<<63 && int64(f) == int64(v)
		}
	}
	lo, hi := to.Limits()
	if from == layer.Float64 || from == layer.Float32 {
		return func(v S) (T, bool) {
			f := float64(v)
			if !(f >= lo && f < hi) || f != math.Trunc(f) {
				return 0, false
			}
			return T(v), true
		}
	}
	return func(v S) (T, bool) {
		// Both are integers; uint64 is not among them. A sign that turns is a
		// loss, too.
		return T(v), int64(T(v)) == int64(v)
	}
}

func (c *carrier[S, T]) tally() *count           { return &c.counted }
func (c *carrier[S, T]) valid(band int) []uint64 { return c.windows[band].valid }

func (c *carrier[S, T]) check(emitted bool) error { return c.counted.check(*c.thread, emitted) }

func (c *carrier[S, T]) prime(ctx context.Context) error { return c.advance(ctx) }

func (c *carrier[S, T]) next() (int64, bool) {
	if c.done {
		return 0, false
	}
	return int64(c.chunk.Runs[c.at].Row) + c.thread.Placement.RowShift, true
}

// advance gets the next chunk.
func (c *carrier[S, T]) advance(ctx context.Context) error {
	if c.chunk != nil {
		c.source.Recycle(c.chunk)
		c.chunk, c.at, c.value = nil, 0, 0
	}
	chunk, err := c.source.Next(ctx)
	if errors.Is(err, io.EOF) {
		c.done = true
		return nil
	}
	if err != nil {
		return err
	}
	c.chunk = chunk
	value := 0
	for _, run := range chunk.Runs {
		c.counted.read += valuesIn(chunk, run, value)
		value += int(run.Cells)
	}
	return nil
}

// valuesIn is the number of cells with a value in a run of a chunk, whose values
// begin at value.
func valuesIn(chunk *layer.Chunk, run layer.Run, value int) int64 {
	if chunk.Valid == nil {
		return int64(run.Cells)
	}
	return bitmap.OnesBetween(chunk.Valid, value, value+int(run.Cells))
}

func (c *carrier[S, T]) fill(ctx context.Context, band int, rows Rows) error {
	w := c.windows[band]
	clear(w.valid[:bitmap.Words(int(rows.Stop-rows.Start)*c.width)])
	for !c.done {
		if err := c.scatter(w, rows); err != nil {
			return err
		}
		if c.at < len(c.chunk.Runs) {
			return nil // the next run is below the band
		}
		if err := c.advance(ctx); err != nil {
			return err
		}
	}
	return nil
}

// scatter puts the cells of the chunk that belong to the rows into the window,
// a run at a time. A run lies in one row, and so in one band.
func (c *carrier[S, T]) scatter(w window[T], rows Rows) error {
	values, ok := c.chunk.Values.([]S)
	if !ok {
		return unknownType(c.thread.Layer.Name, c.thread.Layer.StoredType)
	}
	same, _ := c.chunk.Values.([]T) // where nothing is to convert
	// A row of the layer becomes one of the band by adding rowShift, a column of
	// a segment one of the window by adding colShift.
	rowShift := c.thread.Placement.RowShift - rows.Start
	stop := rows.Stop - rows.Start
	for _, run := range c.chunk.Runs[c.at:] {
		row := int64(run.Row) + rowShift
		if row >= stop {
			break
		}
		if row < 0 {
			return c.disorder(run.Row)
		}
		placed := int64(0)
		west, east := int64(run.Col), int64(run.Col)+int64(run.Cells)
		for _, s := range c.thread.Placement.Segments {
			start, end := max(west, s.SrcStart), min(east, s.SrcStop)
			if start >= end {
				continue
			}
			colShift := s.DstStart - s.SrcStart - c.left
			at := int(row)*c.width + int(start+colShift)
			first := c.value + int(start-west)
			n := int(end - start)
			if marked := c.chunk.Valid; marked != nil {
				twice := mark(w.valid, at, marked, first, n)
				if twice < n {
					return c.duplicate(run.Row, int32(start+int64(twice)))
				}
				placed += bitmap.OnesBetween(marked, first, first+n)
			} else {
				if twice := bitmap.Next(w.valid, at, at+n, 0); twice < at+n {
					return c.duplicate(run.Row, int32(start+int64(twice-at)))
				}
				bitmap.Set(w.valid, at, n)
				placed += end - start
			}
			if c.convert == nil {
				// Where there is no value, whatever comes stays unseen.
				copy(w.values[at:at+n], same[first:])
			} else if i, ok := c.convertAll(w.values[at:at+n], values[first:], first); !ok {
				return c.loss(run.Row, int32(start+int64(i)), values[first+i])
			}
		}
		c.counted.placed += placed
		c.counted.outside += valuesIn(c.chunk, run, c.value) - placed
		c.value += int(run.Cells)
		c.at++
	}
	return nil
}

// mark sets the n bits of dst from at to those of src from first. It stops before
// a bit that is set in both, and gives its place from at on; n where there is none.
func mark(dst []uint64, at int, src []uint64, first, n int) int {
	for done := 0; done < n; done += 64 {
		k := min(64, n-done)
		w := bitmap.Load(src, first+done, k)
		if twice := w & bitmap.Load(dst, at+done, k); twice != 0 {
			return done + bits.TrailingZeros64(twice)
		}
		bitmap.Store(dst, at+done, k, w)
	}
	return n
}

// convertAll fills dst from src, up to the first value that does not fit. src
// begins at a value of the chunk, and what has no value there stays as it is.
func (c *carrier[S, T]) convertAll(dst []T, src []S, value int) (i int, ok bool) {
	for i := range dst {
		if at := value + i; c.chunk.Valid != nil && c.chunk.Valid[at>>6]>>(at&63)&1 == 0 {
			continue
		}
		if dst[i], ok = c.convert(src[i]); !ok {
			return i, false
		}
	}
	return 0, true
}

func (c *carrier[S, T]) disorder(row int32) error {
	return fault.New(fault.Corrupt, fault.DataCorrupt, "layer %q: row %d came after rows further south", c.thread.Layer.Name, row).
		With("layer", c.thread.Layer.Name).With("row", row)
}

func (c *carrier[S, T]) duplicate(row, col int32) error {
	return fault.New(fault.Precondition, fault.DuplicateCell, "layer %q: the cell at row %d, column %d is stored twice",
		c.thread.Layer.Name, row, col).With("layer", c.thread.Layer.Name).With("row", row).With("col", col)
}

func (c *carrier[S, T]) loss(row, col int32, v S) error {
	return fault.New(fault.Precondition, fault.NarrowingLoss,
		"layer %q: the value %v at row %d, column %d does not fit %s without loss",
		c.thread.Layer.Name, v, row, col, c.thread.Type).
		With("layer", c.thread.Layer.Name).With("row", row).With("col", col).With("value", v).With("type", c.thread.Type)
}
