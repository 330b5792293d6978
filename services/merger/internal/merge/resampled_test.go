package merge

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/merger/internal/resample"
)

// Resampled threads beside others give what one kernel over all of the layer at
// once gives, to the bit, whatever the sizes of bands, chunks and endpoints.
func TestWeaveResamplesTheSameInAnyBands(t *testing.T) {
	rng := seedOf(t)
	merged, resampled, values := 0, 0, 0
	for n := range 200 {
		g, ok := generateResampled(t, rng)
		if !ok {
			continue
		}
		if err := g.plan.Complete(); err != nil {
			if fault.From(err).Reason != fault.Disjoint {
				t.Fatalf("merge %d: %v", n, err)
			}
			continue
		}
		merged++
		rows := Rows{g.plan.Window.RowStart, g.plan.Window.RowStop}
		want := naive(g.plan, rows, g.cells)
		for _, row := range want.null {
			for _, null := range row {
				if !null {
					values++
				}
			}
		}
		for _, thread := range g.plan.Threads {
			if thread.Resampling != nil {
				resampled++
			}
		}
		for _, bandBytes := range []int64{1, 700, 9_000, 1 << 20} {
			g.plan.Limits.BandBytes = bandBytes
			g.marked = rng.IntN(2) == 0
			requireSame(t, g.weave(t, rows, randomSizes(rng.Uint64())), want)
		}
		g.plan.Limits.BandBytes = 2_000
		g.plan.Endpoints = 1 + rng.IntN(int(g.plan.Window.Rows()))
		total := 0
		for e := range g.plan.Endpoints {
			got := g.weave(t, g.plan.Range(e), fixedSize(5))
			requireSame(t, got, naive(g.plan, g.plan.Range(e), g.cells))
			total += len(got.rows)
		}
		if most, exact := g.plan.MaxRows(); int64(total) > most || exact && int64(total) != most {
			t.Fatalf("merge %d: %d rows, and the plan says %d (exact %v)", n, total, most, exact)
		}
	}
	t.Logf("%d merges with %d resampled layers and %d values", merged, resampled, values)
	if merged < 80 || values < 30_000 {
		t.Fatalf("only %d of the generated merges could be done, with %d values", merged, values)
	}
}

// generateResampled makes a merge of layers of other steps and offsets than the
// reference's, some of them round the globe; false where one does not meet the
// reference.
func generateResampled(t *testing.T, rng *rand.Rand) (generated, bool) {
	t.Helper()
	ref := grid.Grid{
		CRS: "EPSG:32633", Rows: 1 + rng.IntN(40), Cols: 1 + rng.IntN(60),
		OriginX: math.Round(rng.Float64() * 1e6), OriginY: math.Round(rng.Float64() * 1e6), StepX: 30, StepY: 20,
	}
	round := rng.IntN(2) == 0
	if round {
		ref = grid.Grid{CRS: "EPSG:4326", Rows: 18, OriginX: []float64{-180, 0, 20}[rng.IntN(3)], OriginY: 90, StepX: 6, StepY: 10}
		ref.Cols = []int{60, 30, 1 + rng.IntN(60), 70}[rng.IntN(4)]
	}
	p := &Plan{
		Lattice: ref, Reference: 0, Keep: RowsKept(rng.IntN(4)), BatchRows: 1 + rng.IntN(200),
		Coordinates: Coordinates{RowCol: true},
	}
	g := generated{plan: p}
	var placed []grid.Placed
	for i := range 2 + rng.IntN(3) {
		src := ref
		thread := Thread{Column: fmt.Sprintf("c%d", i)}
		if i > 0 {
			src.StepX = ref.StepX * math.Exp(3*rng.Float64()-2)
			src.StepY = ref.StepY * math.Exp(3*rng.Float64()-2)
			src.Rows, src.Cols = 1+rng.IntN(60), 1+rng.IntN(60)
			src.OriginX += ref.StepX * (20*rng.Float64() - 10)
			src.OriginY += ref.StepY * (20*rng.Float64() - 10)
			if round && rng.IntN(2) == 0 {
				src.StepX = []float64{2, 3.6, 9, 40}[rng.IntN(4)]
				src.Cols = int(360 / src.StepX)
				src.OriginX = []float64{-180, 0, 1.7, -400}[rng.IntN(4)]
			}
			src.Rows = min(src.Rows, max(1, int((src.OriginY+90)/src.StepY)))
		}
		relation, err := grid.Relate(src, ref, 0.1)
		if err != nil {
			t.Fatal(err)
		}
		if relation.Verdict == grid.VerdictDisjoint {
			return g, false
		}
		stored := storedTypes[rng.IntN(len(storedTypes))]
		thread.Layer = layer.Layer{Name: fmt.Sprintf("layer %d", i), Grid: src, HasGrid: true, StoredType: stored}
		thread.Relation, thread.Type = relation, stored
		if i > 0 && !(relation.Verdict.Mergeable() && relation.Verdict != grid.VerdictShift) {
			thread.Resampling = &Resampling{Method: resample.Nearest + resample.Method(rng.IntN(int(resample.Sum))), Why: "a test"}
			if rng.IntN(3) == 0 {
				thread.Resampling.MinShare = rng.Float64()
			}
			if stored == layer.Int16 && rng.IntN(2) == 0 {
				thread.Type = layer.Int64
			}
		}
		p.Threads = append(p.Threads, thread)
		g.cells = append(g.cells, randomCells(rng, src))
		if at, ok := thread.Placed(ref); ok {
			placed = append(placed, at)
		}
	}
	switch rng.IntN(4) {
	case 0:
		p.Window = grid.UnionWindow(ref, placed)
	case 1:
		p.Window = grid.IntersectionWindow(ref, placed)
	case 2:
		p.Window = ref.Window()
	default:
		r, c := int64(rng.IntN(ref.Rows)), int64(rng.IntN(ref.Cols)-10)
		p.Window = grid.Window{RowStart: r, RowStop: r + 1 + int64(rng.IntN(30)), ColStart: c, ColStop: c + 1 + int64(rng.IntN(90))}
	}
	return g, true
}

func randomCells(rng *rand.Rand, src grid.Grid) (cells []cell) {
	density := []float64{1, 1, 0.9, 0.3, 0.01, 0}[rng.IntN(6)]
	for r := range src.Rows {
		if rng.IntN(4) == 0 {
			continue // an empty row
		}
		for c := range src.Cols {
			if rng.Float64() < density {
				cells = append(cells, cell{int32(r), int32(c), []float64{0, 1, -7, float64(rng.IntN(30000))}[rng.IntN(4)]})
			}
		}
	}
	return cells
}

// resampledCells are the cells of the lattice that a thread has by one kernel
// over the whole window and all cells of the layer.
func resampledCells(p *Plan, t Thread, cells []cell) map[[2]int64]float64 {
	out := map[[2]int64]float64{}
	switch t.Layer.StoredType {
	case layer.Float64:
		resampleAll[float64](p, t, cells, out)
	case layer.Float32:
		resampleAll[float32](p, t, cells, out)
	case layer.Int16:
		resampleAll[int16](p, t, cells, out)
	case layer.Int32:
		resampleAll[int32](p, t, cells, out)
	default:
		resampleAll[int64](p, t, cells, out)
	}
	if turn := t.Relation.TurnCols; turn > 0 {
		for at := range out {
			if at[1] >= p.Window.ColStart+turn {
				delete(out, at)
			}
		}
	}
	return out
}

func resampleAll[S layer.Value](p *Plan, t Thread, cells []cell, out map[[2]int64]float64) {
	if t.Resampling.Method.Computes() {
		resampleAs[S, float64](p, t, cells, out)
	} else {
		resampleAs[S, S](p, t, cells, out)
	}
}

func resampleAs[S, D layer.Value](p *Plan, t Thread, cells []cell, out map[[2]int64]float64) {
	k, err := resample.New(t.Resampling.Method, t.Layer.Grid, p.Lattice, p.Window, resample.Options{MinShare: t.Resampling.MinShare})
	if err != nil {
		panic(err)
	}
	r, err := resample.NewResampler[S, D](k)
	if err != nil {
		panic(err)
	}
	src := resample.NewWindow[S](k.SourceWindow(p.Window.RowStart, p.Window.RowStop))
	for _, c := range cells {
		for _, s := range k.Segments() {
			row, col := int64(c.row), int64(c.col)-s.SrcStart+s.DstStart
			if int64(c.col) < s.SrcStart || int64(c.col) >= s.SrcStop || !src.Contains(row, col) {
				continue
			}
			at := (row-src.RowStart)*src.Cols() + col - src.ColStart
			src.Values[at] = S(c.value)
			src.Valid[at>>6] |= 1 << (at & 63)
		}
	}
	dst := resample.NewWindow[D](p.Window)
	if err := r.Band(dst, src); err != nil {
		panic(err)
	}
	for at, v := range dst.Values {
		if dst.Valid[at>>6]>>(at&63)&1 == 1 {
			out[[2]int64{p.Window.RowStart + int64(at)/p.Window.Cols(), p.Window.ColStart + int64(at)%p.Window.Cols()}] = float64(v)
		}
	}
}

// finePlan is one layer of a third of the lattice's steps.
func finePlan(t *testing.T, method resample.Method, out layer.DataType) *Plan {
	t.Helper()
	src := grid.Grid{CRS: "EPSG:32633", Rows: 9, Cols: 12, OriginX: 0, OriginY: 3, StepX: 1. / 3, StepY: 1. / 3}
	ref := grid.Grid{CRS: src.CRS, Rows: 3, Cols: 4, OriginX: 0, OriginY: 3, StepX: 1, StepY: 1}
	p := &Plan{Lattice: ref, Window: ref.Window(), Reference: -1, Threads: []Thread{{
		Layer:    layer.Layer{Name: "elevation", Grid: src, StoredType: layer.Int32},
		Relation: grid.Relation{Verdict: grid.VerdictResample}, Column: "elevation", Type: out,
		Resampling: &Resampling{Method: method, Why: "as asked for this layer"},
	}}}
	if err := p.Complete(); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestResampledTypes(t *testing.T) {
	for _, test := range []struct {
		method    resample.Method
		out, want layer.DataType
	}{
		{resample.Average, layer.Int16, layer.Float64},
		{resample.Sum, layer.Int32, layer.Float64},
		{resample.Mode, layer.Uint8, layer.Uint8},
		{resample.Max, layer.Int32, layer.Int32},
	} {
		p := finePlan(t, test.method, test.out)
		if got := p.Columns()[0].Type; got != test.want {
			t.Errorf("%s of int32 as %s: the column is %s, want %s", test.method, test.out, got, test.want)
		}
		if w := strings.Join(p.Warnings(), "\n"); !strings.Contains(w, "elevation: resampled by "+test.method.String()) || !strings.Contains(w, "3 of the layer's") {
			t.Errorf("warnings: %s", w)
		}
	}
}

func TestResampledNamesTheCell(t *testing.T) {
	for name, test := range map[string]struct {
		out    layer.DataType
		cells  []cell
		reason fault.Reason
		row    string
	}{
		"300 to uint8":      {layer.Uint8, []cell{{4, 4, 7}, {8, 11, 300}}, fault.NarrowingLoss, "2"},
		"stored twice":      {layer.Int32, []cell{{4, 4, 7}, {8, 11, 3}, {8, 11, 3}}, fault.DuplicateCell, "8"},
		"rows out of order": {layer.Int32, []cell{{8, 4, 7}, {1, 11, 3}}, fault.DataCorrupt, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			p := finePlan(t, resample.Max, test.out)
			p.Limits.BandBytes = 1 // a band a row
			source := &listSource{stored: layer.Int32, cells: test.cells, size: fixedSize(1)()}
			_, err := Weave(t.Context(), p, Rows{0, 3}, []Source{source}, func(*Batch) error { return nil })
			f := fault.From(err)
			if f == nil || f.Reason != test.reason || f.Fields["layer"] != "elevation" || f.Fields["row"] != test.row {
				t.Fatalf("error %v, %+v; want %s, row %s", err, f, test.reason, test.row)
			}
		})
	}
}

// coarsePlan is one layer with 43,200 columns round the globe, and as many rows
// as asked for to one of a lattice of 1/4 degree.
func coarsePlan(method resample.Method, ratio int) *Plan {
	ref := grid.Grid{CRS: "EPSG:4326", Rows: 720, Cols: 1440, OriginX: -180, OriginY: 90, StepX: 0.25, StepY: 0.25}
	src := grid.Grid{
		CRS: ref.CRS, Rows: ref.Rows * ratio, Cols: 43200, OriginX: -180, OriginY: 90, StepX: 1. / 120, StepY: ref.StepY / float64(ratio),
	}
	return &Plan{Lattice: ref, Window: ref.Window(), Reference: -1, Threads: []Thread{{
		Layer:    layer.Layer{Name: "land", Grid: src, StoredType: layer.Float32},
		Relation: grid.Relation{Verdict: grid.VerdictResample, TurnCols: 1440}, Column: "land",
		Resampling: &Resampling{Method: method},
	}}}
}

// What a stream holds of a layer does not grow with the ratio of the steps.
func TestResampledMemoryIsBounded(t *testing.T) {
	const mib = 1 << 20
	for method := resample.Nearest; method <= resample.Sum; method++ {
		var peaks []int64
		var votes int64
		for _, ratio := range []int{30, 500, 5000} {
			p := coarsePlan(method, ratio)
			if err := p.Complete(); err != nil {
				t.Fatal(err)
			}
			thread := &p.Threads[0]
			held := float64(p.sourceRows(thread, p.bandRows())*thread.Resampling.Kernel.SourceCols()) * cellBytes(thread)
			if held > 9*mib {
				t.Errorf("%s, 1:%d: bands of %d rows hold %.0f MiB of the layer at once", method, ratio, p.bandRows(), held/mib)
			}
			peaks, votes = append(peaks, p.PeakMemory()), p.ballotBytes(thread)
		}
		if peaks[2] > peaks[1]*11/10 || peaks[1] > peaks[0]*11/10+24*mib+votes || peaks[2] > 160*mib {
			t.Errorf("%s: the plans say %d, %d and %d MiB for ratios of 30, 500 and 5000", method, peaks[0]/mib, peaks[1]/mib, peaks[2]/mib)
		}
	}
	p := coarsePlan(resample.Average, 30)
	p.Limits.MemoryBytes = 4 * mib
	if err := p.Complete(); fault.From(err) == nil || fault.From(err).Reason != fault.LimitExceeded {
		t.Errorf("a limit of 4 MiB: %v", err)
	}
}

// Five hundred rows to one of the lattice: what a stream makes a few rows at a
// time is what the kernel makes of all of them, whatever the bands.
func TestWeaveResamplesManyRowsToOne(t *testing.T) {
	rng := seedOf(t)
	ref := grid.Grid{CRS: "EPSG:32633", Rows: 3, Cols: 4, OriginX: 0, OriginY: 1500, StepX: 500, StepY: 500}
	src := grid.Grid{CRS: ref.CRS, Rows: 1300, Cols: 70, OriginX: -31, OriginY: 1417, StepX: 25, StepY: 1}
	cells := randomCells(rng, src)
	for len(cells) < 1000 {
		cells = randomCells(rng, src)
	}
	for method := resample.Nearest; method <= resample.Sum; method++ {
		for _, share := range []float64{0, 0.2} {
			g := generated{cells: [][]cell{cells}, plan: &Plan{
				Lattice: ref, Window: ref.Window(), Reference: -1, BatchRows: 5, Coordinates: Coordinates{RowCol: true}, Threads: []Thread{{
					Layer:    layer.Layer{Name: "fine", Grid: src, HasGrid: true, StoredType: layer.Float32},
					Relation: grid.Relation{Verdict: grid.VerdictResample}, Column: "fine", Type: layer.Float32,
					Resampling: &Resampling{Method: method, MinShare: share},
				}},
			}}
			if err := g.plan.Complete(); err != nil {
				t.Fatal(err)
			}
			rows := Rows{0, 3}
			want := naive(g.plan, rows, g.cells)
			for _, bandBytes := range []int64{1, 30_000, 1 << 20} {
				g.plan.Limits.BandBytes = bandBytes
				// All of it at once fits the largest band only.
				if streams := g.plan.partRows(&g.plan.Threads[0]) > 0; streams != (bandBytes < 1<<20 && (method != resample.Nearest || share > 0)) {
					t.Errorf("%s, share %v, bands of %d bytes: streamed is %v", method, share, bandBytes, streams)
				}
				requireSame(t, g.weave(t, rows, randomSizes(rng.Uint64())), want)
			}
		}
	}
}

func TestLegacyMergeRefusesResampling(t *testing.T) {
	p := finePlan(t, resample.Mode, layer.Int32)
	p.Legacy = true
	f := fault.From(p.Complete())
	if f == nil || f.Kind != fault.Invalid || f.Fields["layer"] != "elevation" || f.Fields["field"] != "resampling" {
		t.Fatalf("%v", f)
	}
}
