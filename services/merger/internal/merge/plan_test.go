package merge

import (
	"fmt"
	"math"
	"testing"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// The window of a box has exactly the cells whose centre is in it.
func TestWindowOfBounds(t *testing.T) {
	rng := seedOf(t)
	for range 3000 {
		g := grid.Grid{
			CRS: "EPSG:4326", Rows: 1 + rng.IntN(12), Cols: 1 + rng.IntN(12),
			OriginX: 100 * (rng.Float64() - 0.5), OriginY: 100 * (rng.Float64() - 0.5), StepX: 0.1, StepY: 1. / 3,
		}
		// Edges on centres, where rounding would show, or anywhere.
		x := func() float64 {
			if rng.IntN(2) == 0 {
				return g.X(int64(rng.IntN(16) - 2))
			}
			return g.OriginX + 2*(rng.Float64()-0.5)
		}
		y := func() float64 {
			if rng.IntN(2) == 0 {
				return g.Y(int64(rng.IntN(16) - 2))
			}
			return g.OriginY + 8*(rng.Float64()-0.5)
		}
		x1, x2, y1, y2 := x(), x(), y(), y()
		b := grid.Bounds{MinX: min(x1, x2), MaxX: max(x1, x2), MinY: min(y1, y2), MaxY: max(y1, y2)}
		w, err := WindowOfBounds(g, b)
		if b.MinX == b.MaxX || b.MinY == b.MaxY {
			if fault.KindOf(err) != fault.Invalid {
				t.Fatalf("%+v: %v, want Invalid", b, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for row := int64(-40); row < 60; row++ {
			for col := int64(-40); col < 60; col++ {
				cx, cy := g.X(col), g.Y(row)
				if in := cx >= b.MinX && cx < b.MaxX && cy >= b.MinY && cy < b.MaxY; in != w.Contains(row, col) {
					t.Fatalf("%+v in %+v: window %s, and cell (%d, %d) at %v, %v inside is %v", b, g, w, row, col, cx, cy, in)
				}
			}
		}
	}
}

// A box without a cell is refused by what was asked for, not by what came of it.
func TestWindowOfBoundsWithoutCells(t *testing.T) {
	g := grid.Grid{CRS: "EPSG:32633", Rows: 4, Cols: 5, OriginX: 100, OriginY: 200, StepX: 10, StepY: 10}
	p := &Plan{Lattice: g, Window: g.Window()}
	layers := []grid.Placed{{Grid: g, Relation: grid.Relation{Verdict: grid.VerdictIdentical}}}
	for _, test := range []struct {
		box     grid.Bounds
		keep    RowsKept
		message string
	}{
		{grid.Bounds{MinX: 500, MaxX: 600, MinY: 170, MaxY: 180}, KeepAny,
			"the box asked for, 500 to 600 on x and 170 to 180 on y, has no cell of the layers, which cover 100 to 150 on x and 160 to 200 on y"},
		{grid.Bounds{MinX: 101, MaxX: 104, MinY: 170, MaxY: 180}, KeepAny,
			"the box asked for, 101 to 104 on x and 170 to 180 on y, holds the centre of no cell: cells are 10 by 10"},
		{grid.Bounds{MinX: 101, MaxX: 104, MinY: 170, MaxY: 180}, KeepEvery,
			"the box asked for, 101 to 104 on x and 170 to 180 on y, holds the centre of no cell: cells are 10 by 10"},
	} {
		p.Keep = test.keep
		_, err := p.WindowOfBounds(test.box, layers)
		if f := fault.From(err); f == nil || f.Kind != fault.Range || f.Reason != fault.Disjoint || f.Message != test.message {
			t.Errorf("%+v: %v, want %s", test.box, err, test.message)
		}
	}
	p.Keep = KeepEvery
	if w, err := p.WindowOfBounds(grid.Bounds{MinX: 500, MaxX: 600, MinY: 170, MaxY: 180}, layers); err != nil || w.Cols() != 10 {
		t.Errorf("every cell of a box beside the layers: %s, %v", w, err)
	}
}

func TestWindowOfBoundsFarAway(t *testing.T) {
	g := grid.Grid{CRS: "EPSG:4326", Rows: 2, Cols: 2, StepX: 1e-9, StepY: 1e-9}
	w, err := WindowOfBounds(g, grid.Bounds{MinX: -1e15, MinY: -1e15, MaxX: 1e15, MaxY: 1e15})
	if err != nil || !w.Contains(0, 0) || !w.Contains(1, 1) {
		t.Errorf("%s, %v", w, err)
	}
}

func TestPlanLimits(t *testing.T) {
	plan := func(rows, cols, layers int) *Plan {
		g := grid.Grid{CRS: "EPSG:32633", Rows: rows, Cols: cols, OriginY: float64(rows), StepX: 1, StepY: 1}
		p := &Plan{Lattice: g, Window: g.Window()}
		for i := range layers {
			p.Threads = append(p.Threads, Thread{
				Layer:    layer.Layer{Name: "l", Grid: g, StoredType: layer.Float64},
				Relation: grid.Relation{Verdict: grid.VerdictIdentical}, Column: fmt.Sprintf("c%d", i), Type: layer.Float64,
			})
		}
		return p
	}
	small := plan(10, 10, 1)
	if err := small.Complete(); err != nil || small.Endpoints != 1 || small.BatchRows != DefaultBatchRows {
		t.Errorf("%+v, %v", small, err)
	}
	for name, p := range map[string]*Plan{
		"more cells than the limit": plan(math.MaxInt32, math.MaxInt32, 1),
		"rows too wide for memory":  plan(10, 100_000_000, 1),
	} {
		if f := fault.From(p.Complete()); f == nil || f.Kind != fault.Limit || f.Fields["limit"] == "" {
			t.Errorf("%s: %v", name, f)
		}
	}
	// The memory of a stream does not grow with the rows of the lattice, and
	// stays below its limit with 40 layers.
	low, high := plan(1000, 3000, 40), plan(1_000_000, 3000, 40)
	for _, p := range []*Plan{low, high} {
		if err := p.Complete(); err != nil {
			t.Fatal(err)
		}
	}
	if low.PeakMemory() != high.PeakMemory() || high.PeakMemory() > 256<<20 {
		t.Errorf("peak memory %d and %d", low.PeakMemory(), high.PeakMemory())
	}
	far := plan(10, 10, 1)
	far.Window = grid.Window{RowStart: 1 << 40, RowStop: 1<<40 + 1, ColStop: 1}
	if f := fault.From(far.Complete()); f == nil || f.Kind != fault.Limit {
		t.Errorf("indices past int32: %v", f)
	}
}

// A plan in less memory is the same table, to the batch; it takes what it says it
// needs at least, and never more than it is given above that.
func TestPlanWithin(t *testing.T) {
	plan := func(cols, layers int, format layer.Format) *Plan {
		g := grid.Grid{CRS: "EPSG:32633", Rows: 20_000, Cols: cols, OriginY: 20_000, StepX: 1, StepY: 1}
		p := &Plan{Lattice: g, Window: g.Window()}
		for i := range layers {
			p.Threads = append(p.Threads, Thread{
				Layer:    layer.Layer{Name: "l", Grid: g, StoredType: layer.Float64, Format: format},
				Relation: grid.Relation{Verdict: grid.VerdictIdentical}, Column: fmt.Sprintf("c%d", i), Type: layer.Float64,
			})
		}
		if err := p.Complete(); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, format := range []layer.Format{layer.FormatCoordinate, layer.FormatTiled} {
		for _, cols := range []int{10, 1000, 5000} {
			for _, layers := range []int{1, 3, 40} {
				p := plan(cols, layers, format)
				wish := p.Wish()
				if wish.Most != p.PeakMemory() || wish.Least > wish.Most {
					t.Fatalf("%v of %d", wish, p.PeakMemory())
				}
				if format != layer.FormatTiled && layers < 40 && wish.Least > 12<<20 {
					t.Errorf("%d layers %d wide take %d bytes at least", layers, cols, wish.Least)
				}
				for bytes := wish.Most + 1; bytes >= wish.Least; bytes -= max(1, wish.Most/50) {
					within := p.Within(bytes)
					if peak := within.PeakMemory(); peak > bytes {
						t.Fatalf("within %d bytes: %d", bytes, peak)
					}
					rows := Rows{p.Window.RowStart, p.Window.RowStop}
					for i, r := range within.Requests(rows) {
						first := Rows{rows.Start, min(rows.Stop, rows.Start+int64(p.BatchRows)/p.Window.Cols()+2)}
						if behind := within.Requests(first)[i].Window.Cells(); int64(r.FirstCells) != behind {
							t.Errorf("%d cells are waited for first; a row behind the first batch has been read after %d", r.FirstCells, behind)
						}
						if whole := p.Requests(rows)[i]; r.Window != whole.Window || r.ChunkCells > whole.ChunkCells || whole.ChunkCells >= cols && r.ChunkCells < cols {
							t.Fatalf("reads %+v, and %+v in all memory", r, whole)
						}
					}
					if within.BatchRows != p.BatchRows || within.Endpoints != p.Endpoints || within.Window != p.Window {
						t.Fatal("another table")
					}
				}
				if p.Within(0).PeakMemory() != wish.Least || p.Within(wish.Most).PeakMemory() != wish.Most {
					t.Error("the ends are others")
				}
			}
		}
	}
}
