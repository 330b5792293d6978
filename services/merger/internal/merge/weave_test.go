package merge

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// Generated merges give what the definition says, whatever the sizes of bands
// and chunks.
func TestWeaveEqualsDefinition(t *testing.T) {
	rng := seedOf(t)
	merged := 0
	for n := range 1500 {
		g := generate(t, rng)
		if err := g.plan.Complete(); err != nil {
			if fault.From(err).Reason != fault.Disjoint {
				t.Fatalf("merge %d: %v", n, err)
			}
			continue
		}
		merged++
		rows := Rows{g.plan.Window.RowStart, g.plan.Window.RowStop}
		want := naive(g.plan, rows, g.cells)
		for _, bandBytes := range []int64{1, 500, 5_000, 1 << 20} {
			g.plan.Limits.BandBytes = bandBytes
			g.marked = rng.IntN(2) == 0
			requireSame(t, g.weave(t, rows, randomSizes(rng.Uint64())), want)
		}
		// Endpoints, one after the other, are the whole.
		g.plan.Endpoints = 1 + rng.IntN(int(g.plan.Window.Rows()))
		total := 0
		for e := range g.plan.Endpoints {
			got := g.weave(t, g.plan.Range(e), fixedSize(7))
			requireSame(t, got, naive(g.plan, g.plan.Range(e), g.cells))
			total += len(got.rows)
		}
		if total != len(want.rows) {
			t.Fatalf("merge %d: %d endpoints have %d rows, the whole has %d", n, g.plan.Endpoints, total, len(want.rows))
		}
		// So is what comes up to a cell, and what comes behind it.
		w := g.plan.Window
		g.plan.After = &Cell{w.RowStart + rng.Int64N(w.Rows()), w.ColStart + rng.Int64N(w.Cols())}
		for _, rest := range []Rows{rows, {g.plan.After.Row, rows.Stop}} {
			requireSame(t, g.weave(t, rest, randomSizes(rng.Uint64())), naive(g.plan, rest, g.cells))
		}
		g.plan.After = nil
		if most, exact := g.plan.MaxRows(); int64(total) > most || exact && int64(total) != most {
			t.Fatalf("merge %d: %d rows, and the plan says %d (exact %v)", n, total, most, exact)
		}
	}
	if merged < 1000 {
		t.Fatalf("only %d of the generated merges could be done", merged)
	}
}

// A stretch without a stored cell costs nothing: time goes with the cells.
func TestWeaveSkipsEmptyStretches(t *testing.T) {
	const side = 60_000
	src := grid.Grid{CRS: "EPSG:32633", Rows: side, Cols: side, OriginX: 0, OriginY: side, StepX: 1, StepY: 1}
	rng := seedOf(t)
	g := generated{plan: &Plan{Lattice: src, Window: src.Window(), Reference: 0, Coordinates: Coordinates{RowCol: true}}}
	for range 4 {
		g.plan.Threads = append(g.plan.Threads, Thread{
			Layer:    layer.Layer{Name: "sparse", Grid: src, StoredType: layer.Float64},
			Relation: grid.Relation{Verdict: grid.VerdictIdentical}, Column: "c" + string(rune('0'+len(g.plan.Threads))), Type: layer.Float64,
		})
		var cells []cell
		for r := range int32(500) {
			cells = append(cells, cell{r * (side / 500), int32(rng.IntN(side)), float64(r)})
		}
		g.cells = append(g.cells, cells)
	}
	if err := g.plan.Complete(); err != nil {
		t.Fatal(err)
	}
	rows := Rows{0, side}
	got := &table{}
	result, err := Weave(t.Context(), g.plan, rows, g.sources(rows, fixedSize(100)), func(b *Batch) error {
		got.add(g.plan, b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if result.Rows < 500 || result.Rows > 2000 {
		t.Errorf("%d rows, want 500 to 2000", result.Rows)
	}
	if result.Bands > 500 {
		t.Errorf("%d bands were looked at for 500 stored rows", result.Bands)
	}
}

func onePlan(t *testing.T, stored, out layer.DataType) *Plan {
	t.Helper()
	src := grid.Grid{CRS: "EPSG:32633", Rows: 3, Cols: 4, OriginX: 0, OriginY: 3, StepX: 1, StepY: 1}
	p := &Plan{Lattice: src, Window: src.Window(), Threads: []Thread{{
		Layer:    layer.Layer{Name: "birds", Grid: src, StoredType: stored},
		Relation: grid.Relation{Verdict: grid.VerdictIdentical}, Column: "birds", Type: out,
	}}}
	if err := p.Complete(); err != nil {
		t.Fatal(err)
	}
	return p
}

func weaveCells(t *testing.T, p *Plan, cells []cell, emit func(*Batch) error) (Result, error) {
	t.Helper()
	return Weave(t.Context(), p, Rows{0, 3}, []Source{
		&listSource{stored: p.Threads[0].Layer.StoredType, cells: cells, size: fixedSize(2)()},
	}, emit)
}

func TestWeaveNamesTheCell(t *testing.T) {
	discard := func(*Batch) error { return nil }
	for name, test := range map[string]struct {
		stored, out layer.DataType
		cells       []cell
		reason      fault.Reason
	}{
		"stored twice":        {layer.Float64, layer.Float64, []cell{{1, 1, 5}, {2, 3, 5}, {2, 3, 6}}, fault.DuplicateCell},
		"twice over chunks":   {layer.Float64, layer.Float64, []cell{{1, 1, 5}, {1, 2, 5}, {2, 2, 6}, {2, 3, 1}, {2, 3, 1}}, fault.DuplicateCell},
		"fraction to uint8":   {layer.Float64, layer.Uint8, []cell{{1, 1, 5}, {2, 3, 0.5}}, fault.NarrowingLoss},
		"256 to uint8":        {layer.Int16, layer.Uint8, []cell{{1, 1, 255}, {2, 3, 256}}, fault.NarrowingLoss},
		"-1 to uint32":        {layer.Int64, layer.Uint32, []cell{{1, 1, math.MaxUint32}, {2, 3, -1}}, fault.NarrowingLoss},
		"infinity to int64":   {layer.Float64, layer.Int64, []cell{{1, 1, -1 << 63}, {2, 3, math.Inf(1)}}, fault.NarrowingLoss},
		"2^63 to int64":       {layer.Float64, layer.Int64, []cell{{2, 3, 1 << 63}}, fault.NarrowingLoss},
		"1e300 to float32":    {layer.Float64, layer.Float32, []cell{{1, 1, math.Inf(-1)}, {2, 3, 1e300}}, fault.NarrowingLoss},
		"0.1 to float32":      {layer.Float64, layer.Float32, []cell{{1, 1, 0.5}, {2, 3, 0.1}}, fault.NarrowingLoss},
		"2^24+1 to float32":   {layer.Int32, layer.Float32, []cell{{1, 1, 1 << 24}, {2, 3, 1<<24 + 1}}, fault.NarrowingLoss},
		"rows out of order":   {layer.Float64, layer.Float64, []cell{{2, 1, 5}, {2, 2, 5}, {2, 3, 4}, {1, 3, 5}}, fault.DataCorrupt},
		"rows past the range": {layer.Float64, layer.Float64, []cell{{2, 1, 5}, {3, 2, 5}}, fault.DataCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			p := onePlan(t, test.stored, test.out)
			p.Limits.BandBytes = 1 // a band a row
			_, err := weaveCells(t, p, test.cells, discard)
			f := fault.From(err)
			if f == nil || f.Reason != test.reason || f.Fields["layer"] != "birds" {
				t.Fatalf("error %v (%+v), want %s naming the layer", err, f, test.reason)
			}
			if f.Kind == fault.Precondition && (f.Fields["row"] != "2" || f.Fields["col"] != "3") {
				t.Errorf("fields %v, want row 2 and col 3", f.Fields)
			}
		})
	}
}

func TestWeaveNarrowsWithoutLoss(t *testing.T) {
	p := onePlan(t, layer.Float64, layer.Uint8)
	var got []uint8
	_, err := weaveCells(t, p, []cell{{0, 0, 0}, {1, 0, math.Copysign(0, -1)}, {2, 3, 255}}, func(b *Batch) error {
		got = append(got, b.Columns[0].Values.([]uint8)...)
		return nil
	})
	if err != nil || len(got) != 3 || got[0] != 0 || got[1] != 0 || got[2] != 255 {
		t.Fatalf("%v, %v", got, err)
	}
}

func TestWeaveEndsOnErrors(t *testing.T) {
	p := onePlan(t, layer.Float64, layer.Float64)
	p.Limits.BandBytes, p.BatchRows = 1, 1
	broken := errors.New("broken")

	if _, err := weaveCells(t, p, []cell{{0, 0, 1}, {1, 0, 1}, {2, 0, 1}}, func(*Batch) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("emit failed, and the error is %v", err)
	}
	_, err := Weave(t.Context(), p, Rows{0, 3}, []Source{
		&listSource{stored: layer.Float64, cells: []cell{{0, 0, 1}}, size: fixedSize(1)(), fail: broken},
	}, func(*Batch) error { return nil })
	if !errors.Is(err, broken) {
		t.Errorf("a source failed, and the error is %v", err)
	}
	_, err = Weave(t.Context(), p, Rows{0, 3}, []Source{panicSource{}}, func(*Batch) error { return nil })
	if fault.KindOf(err) != fault.Internal {
		t.Errorf("a source panicked, and the error is %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Weave(ctx, p, Rows{0, 3}, []Source{waitSource{}}, func(*Batch) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled, and the error is %v", err)
	}
}

// One failing source ends a merge whose other sources wait for ever.
func TestWeaveOneFailureEndsAll(t *testing.T) {
	p := onePlan(t, layer.Float64, layer.Float64)
	p.Threads = append(p.Threads, p.Threads[0])
	p.Threads[1].Column = "plants"
	broken := errors.New("broken")
	_, err := Weave(t.Context(), p, Rows{0, 3}, []Source{waitSource{}, &listSource{fail: broken}}, func(*Batch) error { return nil })
	if !errors.Is(err, broken) {
		t.Fatal(err)
	}
}

type panicSource struct{}

func (panicSource) Next(context.Context) (*layer.Chunk, error) { panic("out of thread") }
func (panicSource) Recycle(*layer.Chunk)                       {}

type waitSource struct{}

func (waitSource) Next(ctx context.Context) (*layer.Chunk, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
func (waitSource) Recycle(*layer.Chunk) {}

func BenchmarkWeave(b *testing.B) {
	const side, layers = 1000, 4
	src := grid.Grid{CRS: "EPSG:32633", Rows: side, Cols: side, OriginX: 0, OriginY: side, StepX: 1, StepY: 1}
	p := &Plan{Lattice: src, Window: src.Window(), Coordinates: Coordinates{XY: true}}
	rng := rand.New(rand.NewPCG(1, 1))
	var cells [][]*layer.Chunk
	for i := range layers {
		p.Threads = append(p.Threads, Thread{
			Layer:    layer.Layer{Name: "l", Grid: src, StoredType: layer.Float64},
			Relation: grid.Relation{Verdict: grid.VerdictIdentical}, Column: string(rune('a' + i)), Type: layer.Float64,
		})
		var chunks []*layer.Chunk
		var part []cell
		for r := range int32(side) {
			for c := range int32(side) {
				if rng.IntN(10) > 0 {
					part = append(part, cell{r, c, rng.Float64()})
				}
			}
			if len(part) > 8000 {
				chunks, part = append(chunks, chunkOf[float64](part)), nil
			}
		}
		cells = append(cells, append(chunks, chunkOf[float64](part)))
	}
	if err := p.Complete(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(side * side * layers * 8)
	for b.Loop() {
		sources := make([]Source, layers)
		for i := range sources {
			sources[i] = &chunkSource{chunks: cells[i]}
		}
		if _, err := Weave(b.Context(), p, Rows{0, side}, sources, func(*Batch) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(side*side*layers)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mcells/s")
}
