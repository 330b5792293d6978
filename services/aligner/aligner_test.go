package aligner_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"

	"github.com/rasterloom/rasterloom/fault"
	alignerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1/alignerv1connect"
	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/aligner"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// catalog answers for the schema service, over the real protocol, from what a
// test puts into it.
type catalog struct {
	schemav1connect.UnimplementedSchemaServiceHandler
	layers map[string]*layerv1.Layer
	calls  atomic.Int64
}

func (c *catalog) BatchGetLayers(_ context.Context, req *connect.Request[schemav1.BatchGetLayersRequest]) (*connect.Response[schemav1.BatchGetLayersResponse], error) {
	c.calls.Add(1)
	res := &schemav1.BatchGetLayersResponse{}
	for _, name := range req.Msg.GetNames() {
		l, ok := c.layers[name]
		if !ok {
			return nil, fault.New(fault.NotFound, fault.LayerNotFound, "no layer %q in the catalog", name).With("layer", name)
		}
		res.Layers = append(res.Layers, l)
	}
	return connect.NewResponse(res), nil
}

// serve puts handlers behind a real listener that speaks HTTP/1.1 and HTTP/2.
func serve(tb testing.TB, handlers map[string]http.Handler) *httptest.Server {
	tb.Helper()
	mux := http.NewServeMux()
	for path, h := range handlers {
		mux.Handle(path, h)
	}
	server := httptest.NewUnstartedServer(wire.Edge(zap.NewNop(), access.Everybody(), mux))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	tb.Cleanup(server.Close)
	return server
}

func httpClient(tb testing.TB) *http.Client {
	tb.Helper()
	c := boot.NewHTTPClient()
	tb.Cleanup(c.CloseIdleConnections)
	return c
}

// start runs an aligner beside a catalog, and gives its address.
func start(tb testing.TB, c *catalog) string {
	tb.Helper()
	path, handler := schemav1connect.NewSchemaServiceHandler(c, wire.Options()...)
	schema := serve(tb, map[string]http.Handler{path: handler})
	service, err := aligner.New(tb.Context(), aligner.Config{SchemaURL: schema.URL}, boot.Deps{Log: zap.NewNop(), HTTPClient: httpClient(tb)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(service.Close)
	if err := service.Check(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return serve(tb, service.Handlers).URL
}

func client(tb testing.TB, c *catalog, opts ...connect.ClientOption) alignerv1connect.AlignerServiceClient {
	tb.Helper()
	return alignerv1connect.NewAlignerServiceClient(httpClient(tb), start(tb, c), opts...)
}

func coads() *layerv1.Layer {
	return &layerv1.Layer{
		Name: "coads_sst_01", Format: layerv1.Format_FORMAT_LEGACY, HasIndices: true, StoredType: layerv1.DataType_DATA_TYPE_FLOAT64,
		Table: &layerv1.Table{Schema: "public", Name: "passthrough_coads_sst_01"}, Registration: gridv1.Registration_REGISTRATION_CENTER,
		Grid: &gridv1.Grid{Crs: "EPSG:4326", Rows: 90, Cols: 180, OriginX: 20, OriginY: 90, StepX: 2, StepY: 2},
	}
}

func oisst() *layerv1.Layer {
	l := coads()
	l.Name, l.Table.Name, l.Format, l.SouthUp = "oisst_sst", "windowed_oisst", layerv1.Format_FORMAT_WINDOWED, true
	l.Registration = gridv1.Registration_REGISTRATION_UPPER_LEFT
	l.Grid.OriginX, l.Grid.Crs = -1, "OGC:CRS84"
	return l
}

func named(names ...string) []*alignerv1.LayerSource {
	var sources []*alignerv1.LayerSource
	for _, n := range names {
		sources = append(sources, &alignerv1.LayerSource{Source: &alignerv1.LayerSource_Name{Name: n}})
	}
	return sources
}

func inline(layers ...*layerv1.Layer) []*alignerv1.LayerSource {
	var sources []*alignerv1.LayerSource
	for _, l := range layers {
		sources = append(sources, &alignerv1.LayerSource{Source: &alignerv1.LayerSource_Layer{Layer: l}})
	}
	return sources
}

func onLayer(name string) *alignerv1.Reference {
	return &alignerv1.Reference{Lattice: &alignerv1.Reference_Layer{Layer: name}}
}

func realPair() *catalog {
	return &catalog{layers: map[string]*layerv1.Layer{"coads_sst_01": coads(), "oisst_sst": oisst()}}
}

func TestShiftsOverEveryProtocol(t *testing.T) {
	for name, opts := range map[string][]connect.ClientOption{
		"connect": nil, "json": {connect.WithProtoJSON()}, "grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()},
	} {
		t.Run(name, func(t *testing.T) {
			c := realPair()
			res, err := client(t, c, opts...).CalculateGridShifts(t.Context(), connect.NewRequest(&alignerv1.CalculateGridShiftsRequest{
				Layers: named("coads_sst_01", "oisst_sst"), Reference: onLayer("coads_sst_01"),
			}))
			if err != nil {
				t.Fatal(err)
			}
			if c.calls.Load() != 1 {
				t.Errorf("%d calls to the catalog, want one for all layers", c.calls.Load())
			}
			want := &gridv1.Relation{
				Layer: "oisst_sst", Verdict: gridv1.Verdict_VERDICT_SHIFT, OffsetCols: -10, TurnCols: 180, SouthUp: true,
				Shift: &gridv1.Vector{X: 1}, ShiftPixels: &gridv1.Vector{X: 0.5}, DisplacementPixels: &gridv1.Vector{X: 0.5},
				ResidualPixels: &gridv1.Vector{}, PositionError: &gridv1.Vector{X: 1}, DriftPer_1000: &gridv1.Vector{},
				Registration:       gridv1.Registration_REGISTRATION_UPPER_LEFT,
				RegistrationPixels: &gridv1.Vector{X: -0.5, Y: -0.5},
				Explanation: "half a pixel apart on x (offset -10.5 columns): shifted by +1° (0.5 px) on x to the lattice of coads_sst_01; " +
					"values then sit up to 1° from where they were measured",
			}
			got := res.Msg.GetRelations()[1]
			want.NoisePixels = got.GetNoisePixels()
			if !proto.Equal(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
			if first := res.Msg.GetRelations()[0]; first.GetVerdict() != gridv1.Verdict_VERDICT_IDENTICAL || first.GetLayer() != "coads_sst_01" {
				t.Errorf("%v", first)
			}
			if res.Msg.GetReferenceLayer() != "coads_sst_01" || !proto.Equal(res.Msg.GetReference(), coads().GetGrid()) {
				t.Errorf("reference %v", res.Msg)
			}
		})
	}
}

func TestReportAndChoice(t *testing.T) {
	broken := &layerv1.Layer{Name: "broken", Format: layerv1.Format_FORMAT_INVALID, Problems: []*layerv1.Problem{{
		Code: "TABLE_MISSING", Severity: layerv1.Severity_SEVERITY_CRITICAL, Message: "no table passthrough_broken",
	}}}
	c := client(t, realPair())
	sources := append(named("oisst_sst", "coads_sst_01"), inline(broken)...)
	res, err := c.AnalyzeAlignment(t.Context(), connect.NewRequest(&alignerv1.AnalyzeAlignmentRequest{Layers: sources}))
	if err != nil {
		t.Fatal(err)
	}
	r := res.Msg
	if r.GetStrategy() != alignerv1.Strategy_STRATEGY_EXCLUDE || r.GetReferenceLayer() != "oisst_sst" || r.GetTolerancePixels() != 0.1 {
		t.Errorf("%v", r)
	}
	if i := r.GetIssues()[0]; i.GetCode() != "LAYER_UNREADABLE" || i.GetLayer() != "broken" || i.GetSeverity() != layerv1.Severity_SEVERITY_CRITICAL {
		t.Errorf("first issue %v", i)
	}
	if rel := r.GetRelations()[2]; rel.GetVerdict() != gridv1.Verdict_VERDICT_UNSPECIFIED || !strings.Contains(rel.GetExplanation(), "passthrough_broken") {
		t.Errorf("relation of the broken layer: %v", rel)
	}
	if o := r.GetIntersection(); o.GetCells() != 16200 || o.GetPercentOfReference() != 100 || o.GetGrid().GetOriginX() != -1 {
		t.Errorf("intersection %v", o)
	}
	if s := r.GetSummary(); s.GetLayers() != 3 || s.GetFormats()["INVALID"] != 1 || s.GetVerdicts()["SHIFT"] != 1 {
		t.Errorf("summary %v", s)
	}

	choice, err := c.ChooseReference(t.Context(), connect.NewRequest(&alignerv1.ChooseReferenceRequest{Layers: sources}))
	if err != nil {
		t.Fatal(err)
	}
	if choice.Msg.GetLayer() != "oisst_sst" || len(choice.Msg.GetCandidates()) != 2 || choice.Msg.GetCandidates()[0].GetShifted() != 1 ||
		choice.Msg.GetExplanation() == "" {
		t.Errorf("%v", choice.Msg)
	}
}

func TestQueryOverTheWire(t *testing.T) {
	res, err := client(t, realPair()).CreateAlignedCoordinateQuery(t.Context(), connect.NewRequest(&alignerv1.CreateAlignedCoordinateQueryRequest{
		Layer: named("oisst_sst")[0], Reference: coads().GetGrid(), Bounds: &gridv1.Bounds{MinX: -30, MinY: 0, MaxX: 40, MaxY: 10},
	}))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(res.Msg.GetSql(), `FROM "public"."windowed_oisst" AS c`) {
		t.Errorf("%s", res.Msg.GetSql())
	}
	for i, p := range res.Msg.GetParameters() {
		if p.GetPosition() != int32(i+1) || p.GetValue() == nil || p.GetDescription() == "" {
			t.Errorf("parameter %d: %v", i, p)
		}
	}
	if strings.Contains(res.Msg.GetSql(), "-30") || res.Msg.GetRelation().GetVerdict() != gridv1.Verdict_VERDICT_SHIFT {
		t.Errorf("%v", res.Msg)
	}
}

func TestRefusals(t *testing.T) {
	mutated := func(change func(*layerv1.Layer)) *layerv1.Layer {
		l := oisst()
		change(l)
		return l
	}
	tolerance := func(v float64) *float64 { return &v }
	c := client(t, realPair())
	shifts := func(req *alignerv1.CalculateGridShiftsRequest) error {
		_, err := c.CalculateGridShifts(t.Context(), connect.NewRequest(req))
		return err
	}
	query := func(l *layerv1.Layer, b *gridv1.Bounds) error {
		_, err := c.CreateAlignedCoordinateQuery(t.Context(), connect.NewRequest(&alignerv1.CreateAlignedCoordinateQueryRequest{
			Layer: inline(l)[0], Reference: coads().GetGrid(), Bounds: b,
		}))
		return err
	}
	for name, x := range map[string]struct {
		err    error
		code   connect.Code
		reason fault.Reason
		field  string // ErrorInfo metadata that must be there
	}{
		"no layers": {shifts(&alignerv1.CalculateGridShiftsRequest{}), connect.CodeInvalidArgument, fault.InvalidArgument, "limit"},
		"one layer": {shifts(&alignerv1.CalculateGridShiftsRequest{Layers: named("oisst_sst")}), connect.CodeInvalidArgument, fault.InvalidArgument, "limit"},
		"a layer twice": {shifts(&alignerv1.CalculateGridShiftsRequest{Layers: append(named("oisst_sst"), inline(oisst())...)}),
			connect.CodeInvalidArgument, fault.LayerRepeated, "layer"},
		"unknown layer": {shifts(&alignerv1.CalculateGridShiftsRequest{Layers: named("oisst_sst", "plants")}), connect.CodeNotFound, fault.LayerNotFound, "layer"},
		"unknown reference": {shifts(&alignerv1.CalculateGridShiftsRequest{Layers: named("oisst_sst", "coads_sst_01"), Reference: onLayer("plants")}),
			connect.CodeInvalidArgument, fault.InvalidArgument, "value"},
		"tolerance of half a pixel": {shifts(&alignerv1.CalculateGridShiftsRequest{Layers: inline(coads(), oisst()), TolerancePixels: tolerance(0.5)}),
			connect.CodeInvalidArgument, fault.InvalidArgument, "limit"},
		"negative tolerance": {shifts(&alignerv1.CalculateGridShiftsRequest{Layers: inline(coads(), oisst()), TolerancePixels: tolerance(-0.1)}),
			connect.CodeInvalidArgument, fault.InvalidArgument, "field"},
		"no resolution": {shifts(&alignerv1.CalculateGridShiftsRequest{Layers: inline(coads(), mutated(func(l *layerv1.Layer) { l.Grid.StepX = 0 }))}),
			connect.CodeInvalidArgument, fault.InvalidGrid, "field"},
		"no rows": {shifts(&alignerv1.CalculateGridShiftsRequest{Layers: inline(coads(), mutated(func(l *layerv1.Layer) { l.Grid.Rows = 0 }))}),
			connect.CodeInvalidArgument, fault.InvalidGrid, "layer"},
		"explicit grid that is none": {shifts(&alignerv1.CalculateGridShiftsRequest{Layers: inline(coads()), Reference: &alignerv1.Reference{
			Lattice: &alignerv1.Reference_Grid{Grid: &gridv1.Grid{Rows: 1 << 40, Cols: 1, StepX: 1, StepY: 1}},
		}}), connect.CodeInvalidArgument, fault.InvalidGrid, "value"},
		"no grid": {shifts(&alignerv1.CalculateGridShiftsRequest{Layers: inline(coads(), mutated(func(l *layerv1.Layer) { l.Grid = nil }))}),
			connect.CodeFailedPrecondition, fault.LayerUnreadable, "layer"},
		"other CRS":          {query(mutated(func(l *layerv1.Layer) { l.Grid.Crs = "EPSG:3857" }), nil), connect.CodeFailedPrecondition, fault.CRSMismatch, "reference_crs"},
		"other step":         {query(mutated(func(l *layerv1.Layer) { l.Grid.StepX = 1.5 }), nil), connect.CodeFailedPrecondition, fault.ResidualTooLarge, "residual_pixels"},
		"tiles":              {query(mutated(func(l *layerv1.Layer) { l.Format = layerv1.Format_FORMAT_TILED }), nil), connect.CodeUnimplemented, fault.NotSupported, "layer"},
		"no table":           {query(mutated(func(l *layerv1.Layer) { l.Table = nil }), nil), connect.CodeInvalidArgument, fault.InvalidArgument, "field"},
		"bounds upside down": {query(oisst(), &gridv1.Bounds{MaxX: 10, MinY: 5, MaxY: 1}), connect.CodeInvalidArgument, fault.InvalidArgument, "value"},
		"bounds elsewhere":   {query(mutated(func(l *layerv1.Layer) { l.Grid.Cols = 10 }), &gridv1.Bounds{MinX: 100, MaxX: 120, MinY: 0, MaxY: 10}), connect.CodeOutOfRange, fault.Disjoint, "layer"},
		"disjoint":           {query(mutated(func(l *layerv1.Layer) { l.Grid.OriginY = -1000 }), nil), connect.CodeOutOfRange, fault.Disjoint, "layer"},
	} {
		ce, ok := errors.AsType[*connect.Error](x.err)
		if !ok {
			t.Errorf("%s: %v", name, x.err)
			continue
		}
		info := infoOf(ce)
		if ce.Code() != x.code || info.GetReason() != string(x.reason) || info.GetMetadata()[x.field] == "" {
			t.Errorf("%s: %v %q, %v", name, ce.Code(), ce.Message(), info)
		}
	}
}

func infoOf(ce *connect.Error) *errdetails.ErrorInfo {
	for _, d := range ce.Details() {
		if m, err := d.Value(); err == nil {
			if info, ok := m.(*errdetails.ErrorInfo); ok {
				return info
			}
		}
	}
	return nil
}

func TestBadRequestsCostTheCatalogNothing(t *testing.T) {
	c := realPair()
	_, err := client(t, c).CalculateGridShifts(t.Context(), connect.NewRequest(&alignerv1.CalculateGridShiftsRequest{Layers: named("oisst_sst", "oisst_sst")}))
	if err == nil || c.calls.Load() != 0 {
		t.Errorf("%v, %d calls", err, c.calls.Load())
	}
}

func TestUnreachableCatalog(t *testing.T) {
	service, err := aligner.New(t.Context(), aligner.Config{SchemaURL: "http://127.0.0.1:1"}, boot.Deps{Log: zap.NewNop(), HTTPClient: httpClient(t)})
	if err != nil {
		t.Fatal(err)
	}
	c := alignerv1connect.NewAlignerServiceClient(httpClient(t), serve(t, service.Handlers).URL)
	_, err = c.AnalyzeAlignment(t.Context(), connect.NewRequest(&alignerv1.AnalyzeAlignmentRequest{Layers: named("a", "b")}))
	ce, ok := errors.AsType[*connect.Error](err)
	if !ok || ce.Code() != connect.CodeUnavailable || infoOf(ce).GetReason() != string(fault.ServiceUnavailable) {
		t.Errorf("%v", err)
	}
	// Metadata that come along need no catalog.
	if _, err := c.AnalyzeAlignment(t.Context(), connect.NewRequest(&alignerv1.AnalyzeAlignmentRequest{Layers: inline(coads(), oisst())})); err != nil {
		t.Error(err)
	}
}

// As curl would: plain JSON over HTTP/1.1.
func TestPlainJSON(t *testing.T) {
	url := start(t, realPair()) + alignerv1connect.AlignerServiceAnalyzeAlignmentProcedure
	plain := &http.Client{Transport: &http.Transport{}}
	defer plain.CloseIdleConnections()
	res, err := plain.Post(url, "application/json", bytes.NewReader([]byte(`{"layers":[{"name":"coads_sst_01"},{"name":"oisst_sst"}]}`)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Strategy       string
		Recommendation string
		Relations      []struct{ Verdict string }
	}
	if err := json.Unmarshal(body, &report); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if report.Strategy != "STRATEGY_SHIFT" || report.Relations[1].Verdict != "VERDICT_SHIFT" ||
		report.Recommendation != "shift oisst_sst by at most 0.5 px, which the merge does; then merge onto the lattice of coads_sst_01" {
		t.Errorf("%s", body)
	}
}

// The aligner works from metadata: nothing that it is linked with can speak to
// a database, or decode a raster or an Arrow batch.
func TestNothingInTheAlignerReachesADatabase(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if !slices.Contains(packages, "github.com/rasterloom/rasterloom/grid") {
		t.Fatalf("go list gives %d packages, and not even the grid", len(packages))
	}
	for _, p := range packages {
		for _, banned := range []string{
			"database/sql", "github.com/jackc/", "github.com/lib/pq", "github.com/apache/arrow-go", "github.com/fergusstrange/embedded-postgres", "image",
			"github.com/rasterloom/rasterloom/internal/pgstore", "github.com/rasterloom/rasterloom/internal/localpg", "github.com/rasterloom/rasterloom/internal/pgtest",
		} {
			if p != "database/sql/driver" && (p == banned || strings.HasPrefix(p, strings.TrimSuffix(banned, "/")+"/")) { // database/sql/driver is interfaces only
				t.Errorf("the aligner is linked with %s", p)
			}
		}
	}
	// The rooms that are its own cannot open a file or a connection either;
	// only the process around them (boot) and its protocol (wire) can.
	for _, own := range []string{"./internal/align"} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", own).Output()
		if err != nil {
			t.Fatal(err)
		}
		for p := range strings.FieldsSeq(string(out)) {
			if p == "net" || p == "net/http" || p == "os/exec" {
				t.Errorf("%s is linked with %s", own, p)
			}
		}
	}
}
