package rpc_test

import (
	"math"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rasterloom/rasterloom/fault"
	alignerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1"
	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	"github.com/rasterloom/rasterloom/services/aligner/internal/rpc"
)

// Every field of a layer's metadata, at random, against a sound layer and as
// the reference: never a panic, and never NaN or Inf in an answer. What is
// refused is refused as a fault of the caller's.
func FuzzMetadata(f *testing.F) {
	nan, inf := math.NaN(), math.Inf(1)
	add := func(name, crs string, rows, cols int64, x, y, stepX, stepY, resolution, nodata, tolerance float64) {
		f.Add(name, crs, "public", "passthrough_a", rows, cols, x, y, stepX, stepY, resolution, nodata, tolerance,
			int32(1), int32(9), int32(9), int32(1), uint8(0b0111), "NO_KEY", "rows", "12", int64(-1), int64(0), 0.0, 10.0)
	}
	add("a", "EPSG:4326", 90, 180, 20, 90, 2, 2, 2, -999, 0.1)
	add("a", "OGC:CRS84", 90, 180, -1, 90, 2, 2, 2.01, nan, 0.1)
	add("a", "EPSG:4326", 1, 1, 1e15, -1e15, 1e-12, 1e15, 1e-300, inf, 0.499)
	add("a", "EPSG:4326", math.MaxInt32, 1, -1e15, 1e15, 1e14, 1e-6, 1e300, 1e20, 1e-300)
	add("a", "", 0, -1, nan, inf, 0, -1, 0, 0, 0)
	add("a\x00\u202e", "GEOGCS[", 1<<53, 1<<53, 0, 0, nan, inf, nan, nan, nan)
	add("b", "EPSG:3857", 90, 180, 180, 90, 2, 2, -1, 0, 0.5)

	f.Fuzz(func(t *testing.T, name, crs, schema, table string, rows, cols int64, x, y, stepX, stepY, resolution, nodata, tolerance float64,
		format, declared, stored, registration int32, flags uint8, code, key, value string, generation, estimated int64, minX, maxX float64,
	) {
		l := &layerv1.Layer{
			Name: name, Band: key, Format: layerv1.Format(format), Table: &layerv1.Table{Schema: schema, Name: table},
			DeclaredType: layerv1.DataType(declared), StoredType: layerv1.DataType(stored),
			Registration: gridv1.Registration(registration), SouthUp: flags&1 != 0, HasIndices: flags&2 != 0, HasCoordinates: flags&4 != 0,
			HasKey: flags&8 != 0, Generation: generation, EstimatedRows: estimated,
			Problems: []*layerv1.Problem{{Code: code, Severity: layerv1.Severity(format), Message: value, Fields: map[string]string{key: value}}},
		}
		if flags&16 == 0 {
			l.Grid = &gridv1.Grid{Crs: crs, Rows: rows, Cols: cols, OriginX: x, OriginY: y, StepX: stepX, StepY: stepY}
		}
		if flags&32 == 0 {
			l.TargetResolution = &resolution
		}
		if flags&64 == 0 {
			l.Nodata = &nodata
		}
		sound := &layerv1.Layer{
			Name: "b", Format: layerv1.Format_FORMAT_LEGACY, HasIndices: true, Table: &layerv1.Table{Schema: "public", Name: "b"},
			Grid: &gridv1.Grid{Crs: "EPSG:4326", Rows: 90, Cols: 180, OriginX: -180, OriginY: 90, StepX: 2, StepY: 2},
		}
		sources := []*alignerv1.LayerSource{
			{Source: &alignerv1.LayerSource_Layer{Layer: l}}, {Source: &alignerv1.LayerSource_Layer{Layer: sound}},
		}
		// No layer is named only, so there is no catalog to ask.
		s := rpc.New(nil)
		for _, reference := range []*alignerv1.Reference{
			nil,
			{Lattice: &alignerv1.Reference_Layer{Layer: name}},
			{Lattice: &alignerv1.Reference_Layer{Layer: "b"}},
			{Lattice: &alignerv1.Reference_Grid{Grid: l.GetGrid()}},
		} {
			report, err := s.AnalyzeAlignment(t.Context(), connect.NewRequest(&alignerv1.AnalyzeAlignmentRequest{
				Layers: sources, Reference: reference, TolerancePixels: &tolerance,
			}))
			check(t, report, err)
			shifts, err := s.CalculateGridShifts(t.Context(), connect.NewRequest(&alignerv1.CalculateGridShiftsRequest{
				Layers: sources, Reference: reference, TolerancePixels: &tolerance,
			}))
			check(t, shifts, err)
		}
		choice, err := s.ChooseReference(t.Context(), connect.NewRequest(&alignerv1.ChooseReferenceRequest{Layers: sources, TolerancePixels: &tolerance}))
		check(t, choice, err)
		for _, source := range sources {
			for _, reference := range []*gridv1.Grid{l.GetGrid(), sound.GetGrid()} {
				query, err := s.CreateAlignedCoordinateQuery(t.Context(), connect.NewRequest(&alignerv1.CreateAlignedCoordinateQueryRequest{
					Layer: source, Reference: reference, TolerancePixels: &tolerance,
					Bounds: &gridv1.Bounds{MinX: minX, MaxX: maxX, MinY: minX, MaxY: maxX},
				}))
				check(t, query, err)
			}
		}
	})
}

func check[M any](t *testing.T, res *connect.Response[M], err error) {
	t.Helper()
	if err != nil {
		if kind := fault.KindOf(err); kind == fault.Internal {
			t.Fatalf("an internal error: %v", fault.From(err).Detail())
		}
		return
	}
	m := any(res.Msg).(proto.Message)
	finite(t, m.ProtoReflect())
}

// finite fails on NaN and Inf anywhere in a message. The parameters of a query
// may be infinite: nodata may be.
func finite(t *testing.T, m protoreflect.Message) {
	t.Helper()
	one := func(where protoreflect.FieldDescriptor, v protoreflect.Value) {
		if f, ok := v.Interface().(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) && where.Name() != "float8" {
			t.Fatalf("%s is %v", where.FullName(), f)
		}
		if inner, ok := v.Interface().(protoreflect.Message); ok {
			finite(t, inner)
		}
	}
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.IsList():
			for i := range v.List().Len() {
				one(field, v.List().Get(i))
			}
		case field.IsMap():
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { one(field, v); return true })
		default:
			one(field, v)
		}
		return true
	})
}
