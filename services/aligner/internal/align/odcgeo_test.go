package align_test

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/rasterloom/rasterloom/grid"
)

// odcGeo is what test/golden/odcgeo.py writes.
type odcGeo struct {
	TolerancePixels float64 `json:"tolerance_pixels"`
	Cases           []struct {
		Name    string  `json:"name"`
		RawSrc  odcGrid `json:"src"`
		RawRef  odcGrid `json:"ref"`
		PasteOK bool    `json:"paste_ok"`
		Linear  *struct {
			RatioX  float64 `json:"ratio_x"`
			RatioY  float64 `json:"ratio_y"`
			OffsetX float64 `json:"offset_x"`
			OffsetY float64 `json:"offset_y"`
		} `json:"linear"`
		RoiSrc       []int64 `json:"roi_src"`
		RoiDst       []int64 `json:"roi_dst"`
		Union        []int64 `json:"union"`
		Intersection []int64 `json:"intersection"`
	} `json:"cases"`
}

type odcGrid struct {
	CRS        string `json:"crs"`
	Rows, Cols int
	X, Y       float64
	StepX      float64 `json:"step_x"`
	StepY      float64 `json:"step_y"`
}

func (g odcGrid) grid() grid.Grid {
	return grid.Grid{CRS: g.CRS, Rows: g.Rows, Cols: g.Cols, OriginX: g.X, OriginY: g.Y, StepX: g.StepX, StepY: g.StepY}
}

// Where odc-geo gives a number, ours is the same. Where it gives a yes or no,
// ours explains it; the one disagreement is spelled out: odc-geo pastes grids
// whose steps differ by up to 0.1 %, however far their edges drift apart.
func TestAgainstOdcGeo(t *testing.T) {
	text, err := os.ReadFile("testdata/odcgeo.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden odcGeo
	if err := json.Unmarshal(text, &golden); err != nil {
		t.Fatal(err)
	}
	var windows, rois, pastedTooFar int
	for _, c := range golden.Cases {
		src, ref := c.RawSrc.grid(), c.RawRef.grid()
		r, err := grid.Relate(src, ref, golden.TolerancePixels)
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		if c.Linear == nil {
			// It compares axis order too, which is settled here.
			if sameForUs := c.Name == "CRS84 on 4326"; (r.Verdict == grid.VerdictReproject) == sameForUs {
				t.Errorf("%s: %v", c.Name, r.Verdict)
			}
			continue
		}
		for _, a := range []struct {
			name                     string
			offset, ratio, shift     float64
			whole                    int64
			cells                    int
			displacement, drift, res float64
		}{
			{"x", c.Linear.OffsetX, c.Linear.RatioX, r.ShiftPixels.X, r.OffsetCols, src.Cols, r.DisplacementPixels.X, r.DriftPer1000.X, r.ResidualPixels.X},
			{"y", c.Linear.OffsetY, c.Linear.RatioY, r.ShiftPixels.Y, r.OffsetRows, src.Rows, r.DisplacementPixels.Y, r.DriftPer1000.Y, r.ResidualPixels.Y},
		} {
			growth := float64(a.cells) * (a.ratio - 1)
			// odc-geo's matrix is rounded too: its ratio of equal steps is not
			// quite 1.
			within := 1e-5
			if a.shift == 0 {
				// Not shifted, since it is within what counts as rounding.
				within = grid.AlignedPixels
			}
			middle := a.offset + growth/2
			if got := float64(a.whole) - a.shift; math.Abs(got-middle) > within {
				t.Errorf("%s: offset %v on %s, odc-geo has %v", c.Name, got, a.name, middle)
			}
			if math.Abs(a.res-math.Abs(growth)/2) > within || math.Abs(a.drift-1000*(a.ratio-1)) > within {
				t.Errorf("%s: residual %v and drift %v on %s, by odc-geo's matrix %v and %v", c.Name, a.res, a.drift, a.name, math.Abs(growth)/2, 1000*(a.ratio-1))
			}
			far := math.Abs(a.offset - math.Floor(a.offset+0.5+within) + growth)
			if at := math.Abs(a.offset - math.Floor(a.offset+0.5+within)); math.Abs(a.displacement-max(far, at)) > within {
				t.Errorf("%s: displaced by %v on %s, by odc-geo's matrix %v", c.Name, a.displacement, a.name, max(far, at))
			}
		}
		sameStep := math.Abs(c.Linear.RatioX-1) < 1e-9 && math.Abs(c.Linear.RatioY-1) < 1e-9
		switch {
		case sameStep && r.Verdict != grid.VerdictDisjoint:
			if small := r.ShiftPixels.Max() <= golden.TolerancePixels && -min(r.ShiftPixels.X, r.ShiftPixels.Y) <= golden.TolerancePixels; small != c.PasteOK {
				t.Errorf("%s: shift %v, and odc-geo's paste is %v", c.Name, r.ShiftPixels, c.PasteOK)
			}
		case c.PasteOK && r.Verdict == grid.VerdictResample && math.Abs(c.Linear.RatioX-1) < 1e-3:
			pastedTooFar++
			if r.ResidualPixels.Max() <= golden.TolerancePixels {
				t.Errorf("%s: %+v", c.Name, r)
			}
		}
		if c.RoiDst != nil && sameStep && r.Verdict.Mergeable() {
			rois++
			p := r.Place(src, ref.Window())
			if len(p.Segments) != 1 {
				t.Errorf("%s: %+v", c.Name, p)
				continue
			}
			s := p.Segments[0]
			got := [8]int64{
				p.RowStart, p.RowStop, s.SrcStart, s.SrcStop,
				p.RowStart + p.RowShift, p.RowStop + p.RowShift, s.DstStart, s.DstStart + s.Cols(),
			}
			if want := [8]int64(append(append([]int64(nil), c.RoiSrc...), c.RoiDst...)); got != want {
				t.Errorf("%s: places %v, odc-geo %v", c.Name, got, want)
			}
		}
		if c.Union != nil && r.Verdict.Mergeable() {
			windows++
			self, err := grid.Relate(ref, ref, golden.TolerancePixels)
			if err != nil {
				t.Fatal(err)
			}
			both := []grid.Placed{{Grid: ref, Relation: self}, {Grid: src, Relation: r}}
			if got := grid.UnionWindow(ref, both); got != windowOf(c.Union) {
				t.Errorf("%s: union %v, odc-geo %v", c.Name, got, windowOf(c.Union))
			}
			if got := grid.IntersectionWindow(ref, both); got != windowOf(c.Intersection) {
				t.Errorf("%s: intersection %v, odc-geo %v", c.Name, got, windowOf(c.Intersection))
			}
		}
	}
	if pastedTooFar < 4 || rois < 10 || windows < 10 {
		t.Errorf("the file holds too little: %d drifts, %d regions, %d windows", pastedTooFar, rois, windows)
	}
}

func windowOf(w []int64) grid.Window {
	return grid.Window{RowStart: w[0], RowStop: w[1], ColStart: w[2], ColStop: w[3]}
}
