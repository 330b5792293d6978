package align_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/aligner/internal/align"
)

const tol = grid.DefaultTolerancePixels

func lyr(tb testing.TB, name, crs string, b grid.Bounds, rows, cols int) layer.Layer {
	tb.Helper()
	g, err := grid.FromBounds(crs, b, rows, cols)
	if err != nil {
		tb.Fatal(err)
	}
	return layer.Layer{
		Name: name, Grid: g, HasGrid: true, Format: layer.FormatLegacy, Table: layer.Table{Schema: "public", Name: name},
		StoredType: layer.Float64, HasIndices: true, Registration: grid.RegistrationCenter,
	}
}

func coads(tb testing.TB) layer.Layer {
	tb.Helper()
	return lyr(tb, "coads_sst_01", "EPSG:4326", grid.Bounds{MinX: 20, MinY: -90, MaxX: 380, MaxY: 90}, 90, 180)
}

func oisst(tb testing.TB) layer.Layer {
	tb.Helper()
	l := lyr(tb, "oisst_sst", "OGC:CRS84", grid.Bounds{MinX: -1, MinY: -90, MaxX: 359, MaxY: 90}, 90, 180)
	l.Format, l.HasCoordinates = layer.FormatWindowed, true
	return l
}

func onLayer(tb testing.TB, layers []layer.Layer, name string) align.Lattice {
	tb.Helper()
	lattice, err := align.OnLayer(layers, name, tol)
	if err != nil {
		tb.Fatal(err)
	}
	return lattice
}

// What users read. A change here is a change of what they see.
func TestExplanations(t *testing.T) {
	ref := coads(t)
	utm := lyr(t, "landsat", "EPSG:31985", grid.Bounds{MinX: 288776.25, MinY: 9110728.75, MaxX: 298722.75, MaxY: 9120760.75}, 352, 349)
	moved := func(l layer.Layer, name string, rows, cols float64) layer.Layer {
		l.Name = name
		l.Grid.OriginX += cols * l.Grid.StepX
		l.Grid.OriginY -= rows * l.Grid.StepY
		return l
	}
	stretched := utm
	stretched.Name, stretched.Grid.StepX = "stretched", utm.Grid.StepX*1.0002
	slanted := utm
	slanted.Name, slanted.Grid.StepX = "slanted", utm.Grid.StepX*1.01
	dem := lyr(t, "dem", "EPSG:31985", grid.Bounds{MinX: 288776.25, MinY: 9110771.408552948, MaxX: 298765.59147659224, MaxY: 9120760.75}, 111, 111)
	unnamed := utm
	unnamed.Name, unnamed.Grid.CRS = "unnamed", `LOCAL_CS["city grid"]`
	other := utm
	other.Name, other.Grid.CRS = "other", "EPSG:4326"
	smaller := utm
	smaller.Name, smaller.Grid.Rows = "smaller", 100
	turned := moved(coads(t), "turned", 0, 180)
	broken := utm
	broken.Name, broken.HasGrid, broken.Format = "broken", false, layer.FormatInvalid
	broken.Problems = []layer.Problem{{Code: "TABLE_MISSING", Severity: layer.Critical, Message: "no table passthrough_broken"}}
	for _, c := range []struct {
		layer layer.Layer
		on    layer.Layer
		want  string
	}{
		{ref, ref, "is the reference"},
		{turned, ref, "same origin, step and shape as coads_sst_01; -360° of longitude added to reach it"},
		{oisst(t), ref, "half a pixel apart on x (offset -10.5 columns): shifted by +1° (0.5 px) on x to the lattice of coads_sst_01; " +
			"values then sit up to 1° from where they were measured"},
		{moved(utm, "east", 3, 10), utm, "on the lattice of landsat, 10 columns east and 3 rows south of its origin"},
		{moved(utm, "north-west", -1, -1), utm, "on the lattice of landsat, 1 column west and 1 row north of its origin"},
		{smaller, utm, "on the lattice of landsat, with its origin and another shape (100 × 349 cells against 352 × 349)"},
		{moved(utm, "off", 0.25, -7.02), utm, "0.02 px apart on x (offset -7.02 columns) and 0.25 px apart on y (offset 0.25 rows): " +
			"shifted by +0.57 map units (0.02 px) on x and +7.125 map units (0.25 px) on y to the lattice of landsat; " +
			"values then sit up to 7.125 map units from where they were measured"},
		{stretched, utm, "up to 0.0698 px apart on x (drifting by 0.0698 px over its 349 columns): shifted by -0.9947 map units (0.0349 px) on x " +
			"to the lattice of landsat; values then sit up to 1.989 map units from where they were measured; 0.0349 px remain, within the tolerance of 0.1 px"},
		{slanted, utm, "its step on x is 28.79, 1.01 times that of landsat: over its 349 columns it gets up to 3.49 px away, " +
			"and 1.745 px remain after the best shift; the tolerance is 0.1 px"},
		{dem, utm, "its step on x is 89.99, 3.15768657 times that of landsat: over its 111 columns it gets up to 239.5 px away, " +
			"and 119.8 px remain after the best shift; the tolerance is 0.1 px"},
		{moved(utm, "far", 1000, 0), utm, "no cell in common with landsat: x 288800 … 298700 and y 9082000 … 9092000, against x 288800 … 298700 and y 9111000 … 9121000"},
		{other, utm, "its CRS is EPSG:4326, that of landsat is EPSG:31985"},
		{unnamed, utm, `cannot tell whether its CRS is that of landsat, since not both name an id of one authority: ` +
			`"city grid" (no authority id: LOCAL_CS["city grid"]) against EPSG:31985`},
		{broken, utm, `layer "broken" cannot be read: no table passthrough_broken`},
	} {
		lattice := onLayer(t, []layer.Layer{c.on}, c.on.Name)
		if got := align.Relate([]layer.Layer{c.layer}, lattice)[0].Explanation; got != c.want {
			t.Errorf("%s on %s:\n got %s\nwant %s", c.layer.Name, c.on.Name, got, c.want)
		}
	}
}

func TestReportOfARealSet(t *testing.T) {
	a, b := coads(t), oisst(t)
	b.SouthUp = true
	resolution := 2.01
	a.TargetResolution = &resolution
	corner := coads(t)
	corner.Name, corner.Registration, corner.Format = "corner", grid.RegistrationUpperLeft, layer.FormatCoordinate
	corner.Problems = []layer.Problem{{Code: "NO_KEY", Severity: layer.Warning, Message: "no primary key", Fields: map[string]string{"rows": "16200"}, Fix: "add one"}}
	gone := layer.Layer{Name: "gone", Format: layer.FormatInvalid, Problems: []layer.Problem{{Code: "TABLE_MISSING", Severity: layer.Critical, Message: "no table windowed_gone", Fix: "restore it"}}}
	layers := []layer.Layer{a, b, corner, gone}
	lattice, candidates, err := align.Choose(layers, tol)
	if err != nil {
		t.Fatal(err)
	}
	if lattice.Layer != "coads_sst_01" || len(candidates) != 3 || candidates[2].Layer != "oisst_sst" || candidates[2].Shifted != 2 || candidates[2].TotalShift != 1 {
		t.Fatalf("%+v, %+v", lattice, candidates)
	}
	r := align.Analyze(layers, lattice)
	var got []string
	for _, i := range r.Issues {
		got = append(got, fmt.Sprintf("%v %s %s", i.Severity, i.Code, i.Layer))
	}
	want := []string{
		"CRITICAL LAYER_UNREADABLE gone",
		"WARNING RESOLUTION_DRIFT coads_sst_01",
		"WARNING SUBPIXEL_OFFSET oisst_sst",
		"WARNING REGISTRATION_CORNER corner",
		"WARNING NO_KEY corner",
		"INFO LONGITUDE_TURNED oisst_sst",
		"INFO SOUTH_UP oisst_sst",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("issues:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, i := range r.Issues {
		if i.Code == align.CodeResolutionDrift && math.Abs(i.Values["drift_x_pixels"]-180*0.01/2) > 1e-9 {
			t.Errorf("a resolution of 2.01 for 2 over 180 columns drifts by %v px", i.Values["drift_x_pixels"])
		}
	}
	if r.Strategy != align.StrategyExclude ||
		r.Recommendation != "leave out gone; shift oisst_sst by at most 0.5 px, which the merge does; then merge onto the lattice of coads_sst_01" {
		t.Errorf("%v: %s", r.Strategy, r.Recommendation)
	}
	if w := lattice.Grid().Window(); r.Union != w || r.Intersection != w {
		t.Errorf("union %v, intersection %v", r.Union, r.Intersection)
	}
	if s := r.Summary; s.Layers != 4 || s.Verdicts["SHIFT"] != 1 || s.Verdicts["IDENTICAL"] != 2 || s.Formats["WINDOWED"] != 1 ||
		s.Severities["WARNING"] != 4 || s.Codes["SOUTH_UP"] != 1 {
		t.Errorf("%+v", s)
	}
	if px := r.Relations[2].RegistrationPixels; px != (grid.Vector{X: -0.5, Y: -0.5}) {
		t.Errorf("registration %v", px)
	}
}

func TestBandsOfOneLatticeNeedNothing(t *testing.T) {
	var layers []layer.Layer
	for i := range 24 {
		layers = append(layers, lyr(t, fmt.Sprintf("pr_%02d", i+1), "", grid.Bounds{MinX: -85, MinY: 33, MaxX: -74.875, MaxY: 37.125}, 33, 81))
	}
	lattice, _, err := align.Choose(layers, tol)
	if err != nil {
		t.Fatal(err)
	}
	if want := "pr_01 needs the least moving: 23 other layers lie on its lattice as they are; 23 other layers would do as well, and the first of the request is taken"; lattice.Explanation != want {
		t.Errorf("%s", lattice.Explanation)
	}
	r := align.Analyze(layers, lattice)
	if r.Strategy != align.StrategyMerge || r.Recommendation != "merge 24 layers onto the lattice of pr_01 as they are" {
		t.Errorf("%v: %s", r.Strategy, r.Recommendation)
	}
	// No CRS anywhere is said once a layer, and stops nothing.
	if len(r.Issues) != 24 || r.Issues[0].Code != align.CodeCRSMissing {
		t.Errorf("%+v", r.Issues)
	}
}

func TestWiderThanATurnIsReported(t *testing.T) {
	ref := lyr(t, "globe", "EPSG:4326", grid.Bounds{MinX: -180, MinY: -90, MaxX: 180, MaxY: 90}, 540, 1080)
	etopo20 := lyr(t, "etopo20", "EPSG:4326", grid.Bounds{MinX: 20, MinY: -90, MaxX: 20 + 1081.0/3, MaxY: 90}, 540, 1081)
	r := align.Analyze([]layer.Layer{ref, etopo20}, onLayer(t, []layer.Layer{ref}, "globe"))
	if len(r.Issues) != 2 || r.Issues[0].Code != align.CodeLongitudeRepeated {
		t.Fatalf("%+v", r.Issues)
	}
	if want := "etopo20 has 1081 columns, and a turn of longitude has 1080: its last column is laid over its first, and left out"; r.Issues[0].Message != want {
		t.Errorf("%s", r.Issues[0].Message)
	}
}

func TestLayersApartHaveNoCommonCell(t *testing.T) {
	ref := lyr(t, "ref", "EPSG:31985", grid.Bounds{MaxX: 100, MaxY: 100}, 100, 100)
	west, east := ref, ref
	west.Name, west.Grid.Cols = "west", 10
	east.Name, east.Grid.Cols, east.Grid.OriginX = "east", 10, 90
	r := align.Analyze([]layer.Layer{ref, west, east}, onLayer(t, []layer.Layer{ref}, "ref"))
	if !r.Intersection.Empty() || r.Union != ref.Grid.Window() || len(r.Issues) != 1 || r.Issues[0].Code != align.CodeIntersectionIsEmpty {
		t.Fatalf("%+v", r)
	}
}

func TestBadSetsAreRefused(t *testing.T) {
	a, b := coads(t), oisst(t)
	nameless := a
	nameless.Name = ""
	for name, c := range map[string]struct {
		layers []layer.Layer
		reason fault.Reason
	}{
		"none": {nil, fault.InvalidArgument}, "one": {[]layer.Layer{a}, fault.InvalidArgument},
		"twice": {[]layer.Layer{a, b, a}, fault.LayerRepeated}, "no name": {[]layer.Layer{a, nameless}, fault.InvalidArgument},
		"too many": {make([]layer.Layer, align.MaxLayers+1), fault.LimitExceeded},
	} {
		if f := fault.From(align.CheckLayers(c.layers, 2)); f == nil || f.Reason != c.reason {
			t.Errorf("%s: %v", name, f)
		}
	}
	if _, err := align.OnLayer([]layer.Layer{a, b}, "plants", tol); fault.From(err).Fields["value"] != "plants" {
		t.Errorf("unknown reference: %v", err)
	}
	broken := layer.Layer{Name: "broken", Format: layer.FormatInvalid}
	if _, err := align.OnLayer([]layer.Layer{broken}, "broken", tol); fault.KindOf(err) != fault.Precondition {
		t.Errorf("unreadable reference: %v", err)
	}
	if _, _, err := align.Choose([]layer.Layer{broken, {Name: "b"}}, tol); fault.From(err).Reason != fault.LayerUnreadable {
		t.Errorf("nothing readable: %v", err)
	}
	for _, bad := range []float64{0, 0.5, math.NaN()} {
		if _, _, err := align.Choose([]layer.Layer{a, b}, bad); fault.KindOf(err) != fault.Invalid {
			t.Errorf("tolerance %v: %v", bad, err)
		}
	}
}

func TestChoiceOfReference(t *testing.T) {
	base := lyr(t, "base", "EPSG:31985", grid.Bounds{MaxX: 3000, MaxY: 3000}, 100, 100)
	off := func(name string, px float64) layer.Layer {
		l := base
		l.Name = name
		l.Grid.OriginX += px * 30
		return l
	}
	foreign := base
	foreign.Name, foreign.Grid.CRS = "foreign", "EPSG:4326"
	for name, c := range map[string]struct {
		layers []layer.Layer
		want   string
		why    string
	}{
		"most on one lattice": {[]layer.Layer{off("a", 0.3), off("b", 0), off("c", 7)}, "b",
			"b needs the least moving: 1 other layer lies on its lattice as it is, 1 layer is shifted by at most 0.3 px; 1 other layer would do as well, and the first of the request is taken"},
		"smallest largest shift": {[]layer.Layer{off("a", 0), off("b", 0.2), off("c", 0.4)}, "b", ""},
		"request order at ties":  {[]layer.Layer{off("b", 0.5), off("a", 0)}, "b", ""},
		"fewest left out":        {[]layer.Layer{foreign, off("a", 0), off("b", 0.4)}, "a", ""},
	} {
		lattice, candidates, err := align.Choose(c.layers, tol)
		if err != nil {
			t.Fatal(err)
		}
		if lattice.Layer != c.want || candidates[0].Layer != c.want || len(candidates) != len(c.layers) {
			t.Errorf("%s: %s, want %s: %+v", name, lattice.Layer, c.want, candidates)
		}
		if c.why != "" && lattice.Explanation != c.why {
			t.Errorf("%s: %s", name, lattice.Explanation)
		}
	}
}

// Bounds pick cells by their centres and say how longitudes count.
func TestQueryTakesTheColumnsInTheBounds(t *testing.T) {
	ref := coads(t)
	lattice := onLayer(t, []layer.Layer{ref}, ref.Name)
	for name, c := range map[string]struct {
		bounds *grid.Bounds
		cols   int64 // that land
		pieces int
	}{
		// COADS has its edges on 20, 22 … and its centres on 21, 23 ….
		"everything":            {nil, 180, 2},
		"over Greenwich":        {&grid.Bounds{MinX: -30, MaxX: 40, MinY: -10, MaxY: 10}, 35, 2},
		"a turn later":          {&grid.Bounds{MinX: 330, MaxX: 400, MinY: -10, MaxY: 10}, 35, 2},
		"from centre to centre": {&grid.Bounds{MinX: 101, MaxX: 103, MinY: -10, MaxY: 10}, 1, 1},
		"a cell more than it":   {&grid.Bounds{MinX: 100, MaxX: 461, MinY: -10, MaxY: 10}, 180, 2},
		"that, a turn later":    {&grid.Bounds{MinX: 460, MaxX: 821, MinY: -10, MaxY: 10}, 180, 2},
		"more than the globe":   {&grid.Bounds{MinX: -1000, MaxX: 1000, MinY: -10, MaxY: 10}, 180, 2},
	} {
		q, r, err := align.Query(oisst(t), lattice, c.bounds)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var cols int64
		var pieces int
		for i, p := range q.Parameters {
			if p.Description == "column after the last" {
				cols += p.Value.(int64) - q.Parameters[i-1].Value.(int64)
				pieces++
			}
		}
		if cols != c.cols || pieces != c.pieces || r.Verdict != grid.VerdictShift {
			t.Errorf("%s: %d columns in %d pieces, want %d in %d\n%v", name, cols, pieces, c.cols, c.pieces, q.Parameters)
		}
	}
	for name, b := range map[string]grid.Bounds{
		"NaN": {MinX: math.NaN(), MaxX: 1, MaxY: 1}, "infinite": {MinX: math.Inf(-1), MaxX: 1, MaxY: 1}, "empty": {MinX: 1, MaxX: 1, MaxY: 1},
	} {
		if _, _, err := align.Query(oisst(t), lattice, &b); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
