package grid_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/rasterloom/rasterloom/grid"
)

// onGlobe draws a reference and a few layers on its lattice, together with the
// reference: arcs of a small globe, so that a brute force can look at every
// column.
func onGlobe(t *rapid.T) (ref grid.Grid, layers []grid.Placed, turn int64) {
	cols := rapid.SampledFrom([]int{4, 9, 12, 36}).Draw(t, "columns a turn")
	step := 360 / float64(cols)
	ref = grid.Grid{
		CRS: "EPSG:4326", Rows: rapid.IntRange(1, 4).Draw(t, "rows"), Cols: rapid.IntRange(1, cols).Draw(t, "cols"),
		OriginX: -180 + step*float64(rapid.IntRange(0, cols).Draw(t, "west")), OriginY: 90, StepX: step, StepY: 10,
	}
	layers = []grid.Placed{{Grid: ref, Relation: relate(t, ref, ref)}}
	for range rapid.IntRange(0, 4).Draw(t, "layers") {
		src := ref
		src.Rows = rapid.IntRange(1, 4).Draw(t, "layer rows")
		src.Cols = rapid.IntRange(1, cols+2).Draw(t, "layer cols")
		src = moved(src, float64(rapid.IntRange(-2, 2).Draw(t, "down")), float64(rapid.IntRange(-2*cols, 2*cols).Draw(t, "east")))
		layers = append(layers, grid.Placed{Grid: src, Relation: relate(t, src, ref)})
	}
	return ref, layers, int64(cols)
}

// covers reports whether a layer has a cell on a column of the lattice, round
// the globe.
func covers(l grid.Placed, col, turn int64) bool {
	for c := range int64(l.Grid.Cols) {
		if (l.Relation.OffsetCols+c-col)%turn == 0 {
			return true
		}
	}
	return false
}

func TestPlacementPutsEachColumnOnItsOwnPlace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, layers, turn := onGlobe(t)
		l := layers[len(layers)-1]
		w := grid.Window{
			RowStart: int64(rapid.IntRange(-5, 5).Draw(t, "row")), RowStop: int64(rapid.IntRange(-5, 9).Draw(t, "row stop")),
			ColStart: int64(rapid.IntRange(-90, 90).Draw(t, "col")), ColStop: int64(rapid.IntRange(-90, 90).Draw(t, "col stop")),
		}
		p := l.Relation.Place(l.Grid, w)
		landed := make(map[int64]int64) // lattice column -> layer column
		from := make(map[int64]bool)
		last := int64(math.MinInt64)
		for _, s := range p.Segments {
			if s.Cols() <= 0 || s.DstStart < last {
				t.Fatalf("segments are empty or out of order: %+v", p.Segments)
			}
			last = s.DstStart + s.Cols()
			for c := s.SrcStart; c < s.SrcStop; c++ {
				dst := s.DstStart + c - s.SrcStart
				if _, taken := landed[dst]; taken || from[c] || c < 0 || c >= int64(l.Grid.Cols) {
					t.Fatalf("column %d lands on %d: %+v", c, dst, p.Segments)
				}
				landed[dst], from[c] = c, true
				if (l.Relation.OffsetCols+c-dst)%turn != 0 {
					t.Fatalf("column %d lands on %d, which is another meridian: %+v", c, dst, p.Segments)
				}
			}
		}
		// What is in the window, for one turn from its west edge, is there.
		for col := w.ColStart; col < w.ColStop; col++ {
			_, has := landed[col]
			if want := !p.Empty() && col < w.ColStart+turn && covers(l, col, turn); has != want {
				t.Fatalf("column %d of %v: landed %v, want %v: %+v", col, w, has, want, p)
			}
		}
		for row := range int64(l.Grid.Rows) {
			in := row+l.Relation.OffsetRows >= w.RowStart && row+l.Relation.OffsetRows < w.RowStop
			if has := row >= p.RowStart && row < p.RowStop; has != in && !p.Empty() {
				t.Fatalf("row %d of %v: lands %v, want %v", row, w, has, in)
			}
		}
		if !p.Empty() && p.RowShift != l.Relation.OffsetRows {
			t.Fatalf("row shift %d", p.RowShift)
		}
	})
}

func TestUnionWindowHoldsAllAndNoMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ref, layers, turn := onGlobe(t)
		w := grid.UnionWindow(ref, layers)
		if w.Cols() > turn {
			t.Fatalf("%v is wider than a turn of %d", w, turn)
		}
		var covered int64
		for col := range turn {
			if anyCovers(layers, col, turn) {
				covered++
				if off := ((col-w.ColStart)%turn + turn) % turn; off >= w.Cols() {
					t.Fatalf("%v leaves out column %d", w, col)
				}
			}
		}
		if covered == turn && (w.ColStart != 0 || w.Cols() != turn) {
			t.Fatalf("the layers go round the globe, and the window is %v", w)
		}
		if covered < turn && (!anyCovers(layers, w.ColStart, turn) || !anyCovers(layers, w.ColStop-1, turn)) {
			t.Fatalf("%v begins or ends with an empty column", w)
		}
		// Nothing shorter does: no gap outside is narrower than one inside.
		if covered < turn {
			var gap, widest int64
			for col := w.ColStart; col < w.ColStop; col++ {
				if anyCovers(layers, col, turn) {
					gap = 0
				} else {
					gap++
				}
				widest = max(widest, gap)
			}
			if widest > turn-w.Cols() {
				t.Fatalf("%v: the gap inside is %d columns, the one outside %d", w, widest, turn-w.Cols())
			}
		}
		// The reference is one of the layers, so it lies in the window as it is.
		if w.ColStart > 0 || w.ColStop < int64(ref.Cols) {
			t.Fatalf("%v does not hold the reference's %d columns", w, ref.Cols)
		}
		for _, l := range layers {
			if l.Relation.OffsetRows < w.RowStart || l.Relation.OffsetRows+int64(l.Grid.Rows) > w.RowStop {
				t.Fatalf("%v leaves out rows", w)
			}
		}
	})
}

func anyCovers(layers []grid.Placed, col, turn int64) bool {
	for _, l := range layers {
		if covers(l, col, turn) {
			return true
		}
	}
	return false
}

func TestIntersectionWindowIsTheWidestCommonOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ref, layers, turn := onGlobe(t)
		w := grid.IntersectionWindow(ref, layers)
		all := func(col int64) bool {
			for _, l := range layers {
				if !covers(l, col, turn) {
					return false
				}
			}
			return true
		}
		var run, widest int64
		for col := range 2 * turn {
			if run = run + 1; !all(col) {
				run = 0
			}
			widest = max(widest, min(run, turn))
		}
		rowStart, rowStop := int64(0), int64(ref.Rows)
		for _, l := range layers {
			rowStart, rowStop = max(rowStart, l.Relation.OffsetRows), min(rowStop, l.Relation.OffsetRows+int64(l.Grid.Rows))
		}
		if rowStop <= rowStart || widest == 0 {
			if !w.Empty() {
				t.Fatalf("nothing in common, and %v", w)
			}
			return
		}
		if w.Cols() != widest || w.RowStart != rowStart || w.RowStop != rowStop {
			t.Fatalf("%v, want %d columns and rows %d:%d", w, widest, rowStart, rowStop)
		}
		for col := w.ColStart; col < w.ColStop; col++ {
			if !all(col) {
				t.Fatalf("%v: column %d is not common", w, col)
			}
		}
		// A reference that goes round the globe has no outside: the window may
		// cross its edge.
		if int64(ref.Cols) < turn && (w.ColStart < 0 || w.ColStop > int64(ref.Cols)) {
			t.Fatalf("%v is outside the reference, which is one of the layers", w)
		}
	})
}

func TestWindowsWithoutTurns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ref := projected().Draw(t, "reference")
		var layers []grid.Placed
		union, common := grid.Window{}, ref.Window()
		for range rapid.IntRange(1, 5).Draw(t, "layers") {
			src := ref
			src.Rows, src.Cols = rapid.IntRange(1, 50).Draw(t, "rows"), rapid.IntRange(1, 50).Draw(t, "cols")
			rows, cols := rapid.IntRange(-60, 60).Draw(t, "down"), rapid.IntRange(-60, 60).Draw(t, "east")
			l := grid.Placed{Grid: src, Relation: relate(t, moved(src, float64(rows), float64(cols)), ref)}
			w := grid.Window{RowStart: int64(rows), RowStop: int64(rows + src.Rows), ColStart: int64(cols), ColStop: int64(cols + src.Cols)}
			if len(layers) == 0 {
				common = w
			}
			union, common = union.Union(w), common.Intersect(w)
			layers = append(layers, l)
		}
		if got := grid.UnionWindow(ref, layers); got != union {
			t.Fatalf("union %v, want %v", got, union)
		}
		if got := grid.IntersectionWindow(ref, layers); got != common {
			t.Fatalf("intersection %v, want %v", got, common)
		}
		p := layers[0].Relation.Place(layers[0].Grid, union)
		if len(p.Segments) != 1 || p.Segments[0].Cols() != int64(layers[0].Grid.Cols) || p.Segments[0].DstStart != layers[0].Relation.OffsetCols {
			t.Fatalf("%+v", p)
		}
	})
}

func TestCoadsOnOisstFallsIntoTwoPieces(t *testing.T) {
	coads := bounds(t, "EPSG:4326", grid.Bounds{MinX: 20, MinY: -90, MaxX: 380, MaxY: 90}, 90, 180)
	oisst := bounds(t, "EPSG:4326", grid.Bounds{MinX: -1, MinY: -90, MaxX: 359, MaxY: 90}, 90, 180)
	r := relate(t, coads, oisst)
	if r.OffsetCols != 11 {
		t.Fatalf("%+v", r)
	}
	p := r.Place(coads, oisst.Window())
	want := []grid.Segment{{SrcStart: 169, SrcStop: 180, DstStart: 0}, {SrcStart: 0, SrcStop: 169, DstStart: 11}}
	if len(p.Segments) != 2 || p.Segments[0] != want[0] || p.Segments[1] != want[1] || p.RowStop != 90 {
		t.Fatalf("%+v", p)
	}
	if w := grid.UnionWindow(oisst, []grid.Placed{{Grid: oisst, Relation: relate(t, oisst, oisst)}, {Grid: coads, Relation: r}}); w != oisst.Window() {
		t.Fatalf("union %v", w)
	}
}

func TestColumnsPastATurnDoNotLandTwice(t *testing.T) {
	ref := bounds(t, "EPSG:4326", grid.Bounds{MinX: -180, MinY: -90, MaxX: 180, MaxY: 90}, 540, 1080)
	etopo20 := bounds(t, "EPSG:4326", grid.Bounds{MinX: 20, MinY: -90, MaxX: 20 + 1081.0/3, MaxY: 90}, 540, 1081)
	r := relate(t, etopo20, ref)
	p := r.Place(etopo20, ref.Window())
	var cols int64
	for _, s := range p.Segments {
		cols += s.Cols()
		if s.SrcStop > 1080 {
			t.Fatalf("the repeated column lands: %+v", p)
		}
	}
	if cols != 1080 || r.Verdict != grid.VerdictAligned {
		t.Fatalf("%d columns land, verdict %v", cols, r.Verdict)
	}
}

func TestCellsInAreThoseWithTheirCentreInTheBox(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := projected().Draw(t, "grid")
		// Edges on centres, on cell edges, and anywhere.
		at := func(label string) float64 {
			return float64(rapid.IntRange(-40, 40).Draw(t, label)) / 4
		}
		x0, y0 := g.X(int64(at("column"))), g.Y(int64(at("row")))
		b := grid.Bounds{MinX: x0, MaxX: x0 + at("width")*g.StepX, MaxY: y0, MinY: y0 - at("height")*g.StepY}
		w := g.CellsIn(b)
		for row := int64(-25); row < 25; row++ {
			for col := int64(-25); col < 25; col++ {
				x, y := g.X(col), g.Y(row)
				if want := x >= b.MinX && x < b.MaxX && y >= b.MinY && y < b.MaxY; w.Contains(row, col) != want {
					t.Fatalf("cell %d, %d at %v, %v in %+v: %v, want %v (%v)", row, col, x, y, b, !want, want, w)
				}
			}
		}
	})
}

func TestCellsInOddBoxes(t *testing.T) {
	g := grid.Grid{CRS: "EPSG:4326", Rows: 180, Cols: 360, OriginX: -180, OriginY: 90, StepX: 1, StepY: 1}
	inf, nan := math.Inf(1), math.NaN()
	if w := g.CellsIn(grid.Bounds{MinX: -inf, MinY: -inf, MaxX: inf, MaxY: inf}); w.Intersect(g.Window()) != g.Window() {
		t.Errorf("everything: %v", w)
	}
	for name, b := range map[string]grid.Bounds{
		"NaN": {MinX: nan, MaxX: 1, MaxY: 1}, "NaN above": {MaxX: 1, MaxY: nan},
		"empty": {}, "reversed": {MinX: 10, MaxX: -10, MinY: -10, MaxY: 10}, "between centres": {MinX: 0.6, MaxX: 1.4, MinY: 0, MaxY: 10},
	} {
		if w := g.CellsIn(b); !w.Empty() {
			t.Errorf("%s: %v", name, w)
		}
	}
}
