package wire_test

import (
	"math"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rasterloom/rasterloom/fault"
	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/wire"
)

// full is a layer with every field set to something other than its zero value.
func full() layer.Layer {
	nodata, resolution := -9999.0, 10.0
	return layer.Layer{
		Name: "birds", Band: "red", HasGrid: true,
		Grid:   grid.Grid{CRS: "EPSG:32633", Rows: 3, Cols: 4, OriginX: 500000, OriginY: 5.6e6, StepX: 10, StepY: 20},
		Format: layer.FormatWindowed, Table: layer.Table{Schema: "public", Name: "windowed_birds"},
		DeclaredType: layer.Uint8, StoredType: layer.Float64, Nodata: &nodata,
		Registration: grid.RegistrationUpperLeft, SouthUp: true, TargetResolution: &resolution,
		HasIndices: true, HasCoordinates: true, HasKey: true, Tiling: `{"zarr_format":3}`, Generation: 7, EstimatedRows: 12,
		Problems: []layer.Problem{{
			Code: "NO_KEY", Severity: layer.Warning, Message: "no key",
			Fields: map[string]string{"table": "windowed_birds"}, Fix: "add one",
		}},
		UpdateTime: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
	}
}

func TestLayerComesBack(t *testing.T) {
	want := full()
	if fields := reflect.ValueOf(want); true {
		for i := range fields.NumField() {
			if fields.Field(i).IsZero() {
				t.Errorf("the test does not set %s", fields.Type().Field(i).Name)
			}
		}
	}
	raw, err := proto.Marshal(wire.ToLayer(want))
	if err != nil {
		t.Fatal(err)
	}
	sent := &layerv1.Layer{}
	if err := proto.Unmarshal(raw, sent); err != nil {
		t.Fatal(err)
	}
	got, err := wire.FromLayer(sent)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	empty, err := wire.FromLayer(wire.ToLayer(layer.Layer{}))
	if err != nil || !reflect.DeepEqual(empty, layer.Layer{}) {
		t.Errorf("the zero layer comes back as %+v (%v)", empty, err)
	}
}

func TestBadGridsAreRefused(t *testing.T) {
	good := func() *gridv1.Grid {
		return &gridv1.Grid{Crs: "EPSG:4326", Rows: 2, Cols: 3, OriginX: 1, OriginY: 2, StepX: 0.5, StepY: 0.25}
	}
	if _, err := wire.FromGrid(good()); err != nil {
		t.Fatal(err)
	}
	for field, spoil := range map[string]func(*gridv1.Grid){
		"rows":     func(g *gridv1.Grid) { g.Rows = 1 << 40 },
		"cols":     func(g *gridv1.Grid) { g.Cols = -1 },
		"step_x":   func(g *gridv1.Grid) { g.StepX = math.NaN() },
		"step_y":   func(g *gridv1.Grid) { g.StepY = 0 },
		"origin_x": func(g *gridv1.Grid) { g.OriginX = math.Inf(1) },
		"cells":    func(g *gridv1.Grid) { g.Rows, g.Cols = math.MaxInt32, math.MaxInt32 },
	} {
		g := good()
		spoil(g)
		_, err := wire.FromGrid(g)
		f := fault.From(err)
		if err == nil || f.Kind != fault.Invalid || f.Reason != fault.InvalidGrid || f.Fields["field"] != field {
			t.Errorf("%s: %v %v", field, f, f.Fields)
		}
		if _, err := wire.FromLayer(&layerv1.Layer{Grid: g}); err == nil {
			t.Errorf("a layer with a bad %s is taken", field)
		}
	}
	if _, err := wire.FromGrid(nil); err == nil {
		t.Error("no grid is taken")
	}
}

func TestWindowsAndBoundsComeBack(t *testing.T) {
	w := grid.Window{RowStart: -3, RowStop: 4, ColStart: -5, ColStop: 6}
	if got := wire.FromWindow(wire.ToWindow(w)); got != w {
		t.Errorf("got %v, want %v", got, w)
	}
	b := wire.FromBounds(&gridv1.Bounds{MinX: 1, MinY: 2, MaxX: 3, MaxY: 4})
	if (b != grid.Bounds{MinX: 1, MinY: 2, MaxX: 3, MaxY: 4}) {
		t.Errorf("got %v", b)
	}
}
