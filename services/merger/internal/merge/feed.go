package merge

import (
	"context"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/bitmap"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/merger/internal/resample"
)

// feed gathers the stored cells of a layer into a dense window that rolls from
// north to south: no cell is read twice, and rows that one band needs and the
// next one needs again stay. Its carrier reads chunks and scatters them; rows
// are the layer's own and columns those of the kernel's source window.
type feed[S layer.Value] struct {
	carrier[S, S]
	kernel  *resample.Kernel
	landing grid.Placement
	rolling window[S]
	// held are the rows of the layer in rolling. Nothing north of held.Stop is
	// still to come.
	held Rows
	// row is the row of the lattice after the last band.
	row int64
}

func newFeed[S layer.Value](p *Plan, i int, source Source) *feed[S] {
	t := &p.Threads[i]
	k := t.Resampling.Kernel
	read := k.SourceWindow(p.Window.RowStart, p.Window.RowStop)
	cells := int(p.sourceRows(t, p.bandRows()) * k.SourceCols())
	return &feed[S]{
		carrier: carrier[S, S]{
			thread: &Thread{
				Layer:     t.Layer,
				Placement: grid.Placement{RowStart: read.RowStart, RowStop: read.RowStop, Segments: k.Segments()},
			},
			source: source, left: read.ColStart, width: int(read.Cols()),
		},
		kernel: k, landing: t.Placement, row: p.Window.RowStart,
		rolling: window[S]{values: make([]S, cells), valid: make([]uint64, bitmap.Words(cells))},
	}
}

// next is the first row of the lattice that may take a cell that is there or
// comes; false when there is none.
func (f *feed[S]) next() (int64, bool) {
	from := max(f.row, f.landing.RowStart)
	if f.landing.Empty() || from >= f.landing.RowStop {
		return 0, false
	}
	src, ok := f.firstHeld(f.kernel.SourceWindow(from, from+1).RowStart)
	if !ok && f.done {
		return 0, false
	}
	if !ok {
		src = int64(f.chunk.Runs[f.at].Row)
	}
	row := f.kernel.NextRow(from, src)
	return row, row < f.landing.RowStop
}

// firstHeld is the first row of the layer, from a row on, that is in the rolling
// window with a value.
func (f *feed[S]) firstHeld(row int64) (int64, bool) {
	from, n := int(max(0, row-f.held.Start))*f.width, int(f.held.Stop-f.held.Start)*f.width
	if from >= n {
		return 0, false
	}
	at := bitmap.Next(f.rolling.valid, from, n, 0)
	return f.held.Start + int64(at/f.width), at < n
}

// band gives the cells that a band of the lattice needs; an empty window where it
// needs none.
func (f *feed[S]) band(ctx context.Context, rows Rows) (resample.Window[S], error) {
	f.row = rows.Stop
	need := f.kernel.SourceWindow(rows.Start, rows.Stop)
	if need.Empty() {
		return resample.Window[S]{}, nil
	}
	return f.roll(ctx, need)
}

// roll gives the cells of a window that begins, and ends, no further north than
// the one before.
func (f *feed[S]) roll(ctx context.Context, need grid.Window) (resample.Window[S], error) {
	read := f.held.Stop
	fresh := max(need.RowStart, read)
	cells, stay := int(need.Cells()), int(fresh-need.RowStart)*f.width
	f.moveUp(int(need.RowStart-f.held.Start)*f.width, stay, cells)
	f.held = Rows{need.RowStart, need.RowStop}
	for !f.done {
		if err := f.pass(read, fresh); err != nil {
			return resample.Window[S]{}, err
		}
		passed := f.at
		if err := f.scatter(f.rolling, f.held); err != nil {
			return resample.Window[S]{}, err
		}
		if f.at > passed {
			read = fresh // rows do not fall again
		}
		if f.at < len(f.chunk.Runs) {
			break // the next run is below the band
		}
		if err := f.advance(ctx); err != nil {
			return resample.Window[S]{}, err
		}
	}
	f.counted.held += bitmap.OnesBetween(f.rolling.valid, stay, cells)
	return resample.Window[S]{Window: need, Values: f.rolling.values[:cells], Valid: f.rolling.valid[:bitmap.Words(cells)]}, nil
}

// moveUp takes the n cells from place from to the front of the rolling window,
// and leaves the rest of its first cells without a value.
func (f *feed[S]) moveUp(from, n, cells int) {
	valid := f.rolling.valid
	if n > 0 && from > 0 {
		copy(f.rolling.values[:n], f.rolling.values[from:from+n])
		for done := 0; done < n; done += 64 {
			valid[done>>6] = bitmap.Load(valid, from+done, min(64, n-done))
		}
	}
	if n&63 != 0 {
		valid[n>>6] &= bitmap.Low(n & 63)
	}
	clear(valid[bitmap.Words(n):bitmap.Words(cells)])
}

// pass leaves out cells of the rows from read to fresh, which no row of the
// lattice takes.
func (f *feed[S]) pass(read, fresh int64) error {
	for _, run := range f.chunk.Runs[f.at:] {
		switch row := int64(run.Row); {
		case row >= fresh:
			return nil
		case row < read:
			return f.disorder(run.Row)
		}
		f.counted.outside += valuesIn(f.chunk, run, f.value)
		f.value += int(run.Cells)
		f.at++
	}
	return nil
}
