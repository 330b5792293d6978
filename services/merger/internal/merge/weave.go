package merge

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/bitmap"
)

// Result is what a run of a merge did.
type Result struct {
	Rows    int64
	Batches int64
	// Cells is the number of values that are not null, for each thread of the
	// plan; 0 for a thread without a column.
	Cells []int64
	// Bands is the number of bands that had to be looked at.
	Bands int64
}

// Weave merges the rows of a range: it reads the sources, one for each thread of
// the plan, and calls emit with each batch in order. Every batch has
// plan.BatchRows rows, the last one maybe fewer. An error of a source or of
// emit ends it; sources are then left as they are. It returns after everything
// that it started has ended.
func Weave(ctx context.Context, p *Plan, rows Rows, sources []Source, emit func(*Batch) error) (Result, error) {
	shuttles := make([]shuttle, len(p.Threads))
	for i := range shuttles {
		s, err := newShuttle(p, i, sources[i])
		if err != nil {
			return Result{}, err
		}
		shuttles[i] = s
	}

	// One goroutine fills bands while this one reads them. Bands go round: free
	// ones down, full ones up.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	free, full := make(chan int, bandsInFlight), make(chan band, bandsInFlight)
	for i := range bandsInFlight {
		free <- i
	}
	group, filling := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(full)
		return fault.Guard(func() error { return fillBands(filling, p, rows, shuttles, free, full) })
	})

	g := newGatherer(p, shuttles, emit)
	var err error
	for b := range full {
		if err = g.gather(b); err != nil {
			break
		}
		free <- b.index
	}
	cancel()
	// The filler's error comes first, but not where it only stopped because of
	// ours.
	if fillErr := group.Wait(); err == nil {
		err = fillErr
	}
	if err == nil {
		err = g.flush()
	}
	if err != nil {
		return Result{}, err
	}
	result := Result{Rows: g.rows, Batches: g.batch.Sequence, Cells: make([]int64, len(p.Threads)), Bands: g.bands}
	for i, s := range shuttles {
		if err := s.check(p.Threads[i].Selected()); err != nil {
			return Result{}, err
		}
		result.Cells[i] = s.tally().kept
	}
	return result, nil
}

// band is a filled range of rows: index says which window of each shuttle.
type band struct {
	index int
	rows  Rows
}

// fillBands cuts the rows into bands and fills them. A stretch of rows where no
// layer has a stored cell is skipped, unless every cell is asked for.
func fillBands(ctx context.Context, p *Plan, rows Rows, shuttles []shuttle, free <-chan int, full chan<- band) error {
	if err := each(ctx, shuttles, func(ctx context.Context, s shuttle) error { return s.prime(ctx) }); err != nil {
		return err
	}
	// The first band only has rows enough for a batch, so that the first batch
	// leaves early.
	height := min(p.bandRows(), p.firstRows())
	for start := rows.Start; start < rows.Stop; {
		if p.Keep != KeepEvery {
			next, some := nextRow(shuttles)
			if start = max(start, next); !some || start >= rows.Stop {
				return nil
			}
		}
		b := band{rows: Rows{start, min(start+height, rows.Stop)}}
		select {
		case b.index = <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
		err := each(ctx, shuttles, func(ctx context.Context, s shuttle) error { return s.fill(ctx, b.index, b.rows) })
		if err != nil {
			return err
		}
		select {
		case full <- b:
		case <-ctx.Done():
			return ctx.Err()
		}
		start, height = b.rows.Stop, p.bandRows()
	}
	return nil
}

// nextRow is the northernmost row that any shuttle comes to next.
func nextRow(shuttles []shuttle) (next int64, some bool) {
	for _, s := range shuttles {
		if row, ok := s.next(); ok && (!some || row < next) {
			next, some = row, true
		}
	}
	return next, some
}

// each calls f for all shuttles, in parallel, and gives the first error, which
// ends the others.
func each(ctx context.Context, shuttles []shuttle, f func(context.Context, shuttle) error) error {
	if len(shuttles) == 1 {
		return f(ctx, shuttles[0])
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range shuttles {
		group.Go(func() error { return fault.Guard(func() error { return f(ctx, s) }) })
	}
	return group.Wait()
}

// gatherer takes the kept cells out of bands and into batches.
type gatherer struct {
	plan     *Plan
	shuttles []shuttle
	emit     func(*Batch) error
	columns  []column
	kept     []uint64
	batch    Batch
	rows     int64
	bands    int64
}

func newGatherer(p *Plan, shuttles []shuttle, emit func(*Batch) error) *gatherer {
	cells := int(p.bandRows() * p.Window.Cols())
	g := &gatherer{
		plan: p, shuttles: shuttles, emit: emit, kept: make([]uint64, bitmap.Words(cells)),
		columns: newColumns(p, shuttles, int(min(int64(p.BatchRows), p.Window.Cells()))),
	}
	g.batch.Columns = make([]Vector, len(g.columns))
	return g
}

func (g *gatherer) gather(b band) error {
	g.bands++
	width := int(g.plan.Window.Cols())
	cells := int(b.rows.Stop-b.rows.Start) * width
	kept := g.kept[:bitmap.Words(cells)]
	g.keep(kept, b.index, cells)
	bitmap.Unset(kept, 0, g.plan.passedOver(b.rows))
	for i, s := range g.shuttles {
		held := bitmap.Ones(s.valid(b.index)[:len(kept)])
		s.tally().held += held
		if g.plan.Threads[i].Selected() {
			s.tally().dropped += held - bitmap.OnesInBoth(s.valid(b.index)[:len(kept)], kept)
		}
	}
	for at := 0; ; {
		start, stop := bitmap.Run(kept, at, cells)
		if start == cells {
			return nil
		}
		at = stop
		for start < stop {
			n := min(stop-start, g.plan.BatchRows-g.batch.Rows)
			if g.batch.Rows == 0 {
				g.batch.FirstRow = b.rows.Start + int64(start/width)
			}
			// A whole batch that lies together goes out from where it is.
			lent := n == g.plan.BatchRows
			for _, c := range g.columns {
				if lent {
					c.lend(b.index, b.rows.Start, start, n)
				} else {
					c.add(b.index, b.rows.Start, start, n)
				}
			}
			g.batch.Rows += n
			start += n
			g.batch.Last = Cell{b.rows.Start + int64((start-1)/width), g.plan.Window.ColStart + int64((start-1)%width)}
			if g.batch.Rows == g.plan.BatchRows {
				if err := g.flush(); err != nil {
					return err
				}
			}
		}
	}
}

// keep marks the cells of a band that become rows.
func (g *gatherer) keep(kept []uint64, band, cells int) {
	switch g.plan.Keep {
	case KeepEvery:
		bitmap.SetLow(kept, cells)
	case KeepReference:
		copy(kept, g.shuttles[g.plan.Reference].valid(band))
	case KeepAll:
		bitmap.SetLow(kept, cells)
		for i, s := range g.shuttles {
			if g.plan.Threads[i].Selected() {
				for j, w := range s.valid(band)[:len(kept)] {
					kept[j] &= w
				}
			}
		}
	default:
		clear(kept)
		for i, s := range g.shuttles {
			if g.plan.Threads[i].Selected() {
				for j, w := range s.valid(band)[:len(kept)] {
					kept[j] |= w
				}
			}
		}
	}
}

// flush hands out what was collected.
func (g *gatherer) flush() error {
	if g.batch.Rows == 0 {
		return nil
	}
	for i, c := range g.columns {
		g.batch.Columns[i] = c.vector()
	}
	if err := g.emit(&g.batch); err != nil {
		return err
	}
	for _, c := range g.columns {
		c.clear()
	}
	g.rows += int64(g.batch.Rows)
	g.batch.Rows = 0
	g.batch.Sequence++
	return nil
}
