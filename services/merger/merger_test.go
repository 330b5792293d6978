package merger

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	arrowflight "github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

var formats = []layer.Format{layer.FormatLegacy, layer.FormatCoordinate, layer.FormatWindowed, layer.FormatTiled}

func utm(rows, cols int, x, y float64) grid.Grid {
	return grid.Grid{CRS: "EPSG:32633", Rows: rows, Cols: cols, OriginX: x, OriginY: y, StepX: 30, StepY: 30}
}

func generated(rng *rand.Rand, g grid.Grid) raster {
	r := raster{grid: g, cells: make([][]*float64, g.Rows)}
	for i := range r.cells {
		r.cells[i] = make([]*float64, g.Cols)
		for j := range r.cells[i] {
			if rng.IntN(4) > 0 {
				r.cells[i][j] = new([]float64{0, 1, -3, float64(rng.IntN(1000))}[rng.IntN(4)])
			}
		}
	}
	return r
}

// One raster, stored in four formats, gives the same bytes in all 64 mixes of
// three layers, and they are what the definition says.
func TestFormatsGiveIdenticalBytes(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := start(t, Config{BandBytes: 2000})
	rasters := []raster{
		generated(rng, utm(23, 31, 3e5, 5e6)),
		generated(rng, utm(20, 40, 3e5-90, 5e6+60)),
		generated(rng, utm(31, 17, 3e5+300, 5e6-120)),
	}
	for i, r := range rasters {
		for _, f := range formats {
			s.put(t, fmt.Sprintf("layer_%d_%s", i, strings.ToLower(f.String())), f, r)
		}
	}
	mix := func(a, b, c int) *mergerv1.MergeSpec {
		spec := &mergerv1.MergeSpec{
			BatchRows: 100, Endpoints: 2, CoordinateColumns: mergerv1.CoordinateColumns_COORDINATE_COLUMNS_BOTH,
			ValueTypes: mergerv1.ValueTypes_VALUE_TYPES_DECLARED,
		}
		for i, f := range []int{a, b, c} {
			spec.Layers = append(spec.Layers, &mergerv1.LayerSelection{
				Name: fmt.Sprintf("layer_%d_%s", i, strings.ToLower(formats[f].String())), Column: fmt.Sprintf("c%d", i),
			})
		}
		return spec
	}
	first := s.merge(t, mix(0, 0, 0))
	for n := range 64 {
		got := s.merge(t, mix(n/16, n/4%4, n%4))
		if len(got) != 2 {
			t.Fatalf("%d endpoints, want 2", len(got))
		}
		for e := range got {
			// The first message is the schema, which names the formats.
			if len(got[e].bodies) != len(first[e].bodies) || got[e].trailer.Hash != first[e].trailer.Hash {
				t.Fatalf("mix %d, endpoint %d: %d messages of hash %s, want %d of %s", n, e,
					len(got[e].bodies), got[e].trailer.Hash, len(first[e].bodies), first[e].trailer.Hash)
			}
			for i := range got[e].bodies[1:] {
				if !bytes.Equal(got[e].bodies[1+i], first[e].bodies[1+i]) {
					t.Fatalf("mix %d, endpoint %d: message %d differs", n, e, 1+i)
				}
			}
		}
	}
	// By definition: every lattice cell of the union, from the plain rasters.
	lattice := rasters[0].grid
	e, at := 0, 0
	for row := int64(-2); row < 35; row++ {
		for col := int64(-3); col < 37; col++ {
			want := make([]*float64, 3)
			anyone := false
			for i, offset := range [][2]int64{{0, 0}, {-2, -3}, {4, 10}} {
				r, c := row-offset[0], col-offset[1]
				if r >= 0 && c >= 0 && r < int64(rasters[i].grid.Rows) && c < int64(rasters[i].grid.Cols) {
					want[i] = rasters[i].cells[r][c]
				}
				anyone = anyone || want[i] != nil
			}
			if !anyone {
				continue
			}
			if at == int(first[e].rows) {
				e, at = e+1, 0
			}
			want = append([]*float64{new(lattice.X(col)), new(lattice.Y(row)), new(float64(row)), new(float64(col))}, want...)
			for i, w := range want {
				got := first[e].columns[i][at]
				if (got == nil) != (w == nil) || got != nil && *got != *w {
					t.Fatalf("endpoint %d, row %d, column %d (lattice row %d, column %d) differs", e, at, i, row, col)
				}
			}
			at++
		}
	}
	if e != len(first)-1 || at != int(first[e].rows) {
		t.Fatalf("endpoint %d has %d rows more than it should", e, int(first[e].rows)-at)
	}
}

// Layers that go round the globe from other meridians, half a pixel apart, are
// woven by shift and turn, and the plan says so.
func TestShiftAndTurn(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	world := func(west float64) raster {
		r := raster{grid: grid.Grid{CRS: "EPSG:4326", Rows: 2, Cols: 8, OriginX: west, OriginY: 90, StepX: 45, StepY: 90}}
		r.cells = make([][]*float64, 2)
		for i := range r.cells {
			for j := range 8 {
				// The value is the longitude of the cell's west edge, 0 to 360.
				r.cells[i] = append(r.cells[i], new(math.Mod(west+45*float64(j)+720, 360)))
			}
		}
		return r
	}
	s.put(t, "greenwich", layer.FormatLegacy, world(0))
	s.put(t, "dateline", layer.FormatCoordinate, world(-180))
	s.put(t, "half", layer.FormatWindowed, world(22.5-360))
	spec := specOf("greenwich", "dateline", "half")
	plan := planOf(t, s, spec)
	if plan.GetReferenceLayer() != "greenwich" || plan.GetWindow().GetColStop()-plan.GetWindow().GetColStart() != 8 {
		t.Fatalf("reference %q, window %v: want greenwich and one turn", plan.GetReferenceLayer(), plan.GetWindow())
	}
	if len(plan.GetWarnings()) != 1 || !strings.Contains(plan.GetWarnings()[0], `half: shifted by`) {
		t.Errorf("warnings %q, want the shift of half", plan.GetWarnings())
	}
	if plan.GetFlightUri() != "grpc://merger.test:7431" {
		t.Errorf("flight address %q", plan.GetFlightUri())
	}
	got := s.merge(t, spec)[0]
	if got.rows != 16 {
		t.Fatalf("%d rows, want 16", got.rows)
	}
	for i := range 16 {
		a, b, c := *got.columns[2][i], *got.columns[3][i], *got.columns[4][i]
		if apart := math.Abs(a - c); a != b || apart != 22.5 && apart != 337.5 {
			t.Errorf("row %d holds values of %v, %v, %v degrees", i, a, b, c)
		}
	}
	info, err := s.info(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(info.GetSchema(), plan.GetArrowSchema()) {
		t.Error("PlanMerge and GetFlightInfo tell other schemas")
	}
	metadata, _ := got.schema.Metadata().GetValue("rasterloom")
	if !strings.Contains(metadata, `"verdict":"SHIFT"`) || !strings.Contains(metadata, `"position_error":[22.5,0]`) {
		t.Errorf("metadata %s, want the shift and its position error", metadata)
	}
}

func TestRequestsAreRefused(t *testing.T) {
	t.Parallel()
	s := start(t, Config{MaxCells: 1000})
	rng := rand.New(rand.NewPCG(1, 1))
	base := utm(5, 5, 3e5, 5e6)
	s.put(t, "birds", layer.FormatLegacy, generated(rng, base))
	s.put(t, "plants", layer.FormatLegacy, generated(rng, base))
	s.put(t, "coarse", layer.FormatLegacy, generated(rng, grid.Grid{CRS: base.CRS, Rows: 5, Cols: 5, OriginX: 3e5, OriginY: 5e6, StepX: 40, StepY: 30}))
	s.put(t, "far", layer.FormatLegacy, generated(rng, utm(5, 5, 4e5, 5e6)))
	s.put(t, "wide", layer.FormatLegacy, raster{grid: utm(1, 2000, 3e5, 5e6), cells: make([][]*float64, 1)})
	elsewhere := base
	elsewhere.CRS = "EPSG:32634"
	s.put(t, "elsewhere", layer.FormatLegacy, generated(rng, elsewhere))
	ghost := s.put(t, "ghost", layer.FormatLegacy, generated(rng, base))
	ghost.Format = layer.FormatInvalid
	ghost.Problems = []layer.Problem{{Code: "TABLE_MISSING", Severity: layer.Critical, Message: "no table passthrough_ghost"}}
	s.peers.put(ghost)
	many := &mergerv1.MergeSpec{}
	for i := range 257 {
		many.Layers = append(many.Layers, &mergerv1.LayerSelection{Name: fmt.Sprintf("l%d", i)})
	}
	with := func(change func(*mergerv1.MergeSpec), names ...string) *mergerv1.MergeSpec {
		spec := specOf(names...)
		change(spec)
		return spec
	}
	box := func(b *gridv1.Bounds) *mergerv1.Extent {
		return &mergerv1.Extent{Part: &mergerv1.Extent_Bounds{Bounds: b}}
	}
	for name, test := range map[string]struct {
		spec   *mergerv1.MergeSpec
		code   codes.Code
		reason string
		fields map[string]string
	}{
		"no layer":        {specOf(), codes.InvalidArgument, "INVALID_ARGUMENT", nil},
		"too many layers": {many, codes.InvalidArgument, "LIMIT_EXCEEDED", map[string]string{"limit": "256", "value": "257"}},
		"layer twice":     {specOf("birds", "birds"), codes.InvalidArgument, "LAYER_REPEATED", map[string]string{"layer": "birds"}},
		"column twice": {with(func(m *mergerv1.MergeSpec) { m.Layers[0].Column = "plants" }, "birds", "plants"), codes.InvalidArgument, "COLUMN_REPEATED",
			map[string]string{"column": "plants"}},
		"column named x": {with(func(m *mergerv1.MergeSpec) { m.Layers[0].Column = "x" }, "birds"), codes.InvalidArgument, "COLUMN_REPEATED", map[string]string{"column": "x"}},
		"line feed":      {with(func(m *mergerv1.MergeSpec) { m.Layers[0].Column = "a\nb" }, "birds"), codes.InvalidArgument, "INVALID_ARGUMENT", nil},
		"unknown layer":  {specOf("birds", "nobody"), codes.NotFound, "LAYER_NOT_FOUND", map[string]string{"layer": "nobody"}},
		"no table":       {specOf("birds", "ghost"), codes.FailedPrecondition, "LAYER_UNREADABLE", map[string]string{"layer": "ghost", "problem": "TABLE_MISSING"}},
		"other CRS": {specOf("birds", "elsewhere"), codes.FailedPrecondition, "CRS_MISMATCH",
			map[string]string{"layer": "elsewhere", "crs": "EPSG:32634", "reference_crs": "EPSG:32633"}},
		"other step": {specOf("birds", "coarse"), codes.FailedPrecondition, "RESIDUAL_TOO_LARGE", map[string]string{"layer": "coarse", "axis": "x", "limit": "0.1"}},
		"disjoint":   {specOf("birds", "far"), codes.OutOfRange, "DISJOINT", map[string]string{"layer": "far"}},
		"empty box":  {with(func(m *mergerv1.MergeSpec) { m.Extent = box(&gridv1.Bounds{MinX: 1, MinY: 1, MaxX: 2, MaxY: 2}) }, "birds"), codes.OutOfRange, "DISJOINT", nil},
		"box inside out": {with(func(m *mergerv1.MergeSpec) { m.Extent = box(&gridv1.Bounds{MinX: 2, MinY: 1, MaxX: 1, MaxY: 2}) }, "birds"),
			codes.InvalidArgument, "INVALID_ARGUMENT", nil},
		"NaN box": {with(func(m *mergerv1.MergeSpec) { m.Extent = box(&gridv1.Bounds{MinX: math.NaN(), MaxX: 1, MaxY: 2}) }, "birds"),
			codes.InvalidArgument, "INVALID_ARGUMENT", map[string]string{"field": "extent.bounds.min_x"}},
		"tolerance of half": {with(func(m *mergerv1.MergeSpec) { m.TolerancePixels = new(0.5) }, "birds"), codes.InvalidArgument, "INVALID_ARGUMENT", nil},
		"NaN tolerance":     {with(func(m *mergerv1.MergeSpec) { m.TolerancePixels = new(math.NaN()) }, "birds"), codes.InvalidArgument, "INVALID_ARGUMENT", nil},
		"batch of -1":       {with(func(m *mergerv1.MergeSpec) { m.BatchRows = -1 }, "birds"), codes.InvalidArgument, "INVALID_ARGUMENT", nil},
		"no such enum":      {with(func(m *mergerv1.MergeSpec) { m.RowsKept = 99 }, "birds"), codes.InvalidArgument, "INVALID_ARGUMENT", nil},
		"too many cells":    {specOf("wide"), codes.ResourceExhausted, "LIMIT_EXCEEDED", map[string]string{"limit": "1000"}},
		"reference rows of a grid": {with(func(m *mergerv1.MergeSpec) {
			m.RowsKept = mergerv1.RowsKept_ROWS_KEPT_REFERENCE
			m.Reference = &mergerv1.Reference{Lattice: &mergerv1.Reference_Grid{Grid: &gridv1.Grid{
				Crs: "EPSG:32633", Rows: 5, Cols: 5, OriginX: 3e5, OriginY: 5e6, StepX: 30, StepY: 30}}}
		}, "birds"), codes.InvalidArgument, "INVALID_ARGUMENT", nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.info(t.Context(), test.spec)
			got := requireStatus(t, err, test.code, test.reason)
			for k, v := range test.fields {
				if got[k] != v {
					t.Errorf("field %s is %q, want %q (%v)", k, got[k], v, err)
				}
			}
			_, err = s.flight.GetSchema(t.Context(), &arrowflight.FlightDescriptor{Type: arrowflight.DescriptorCMD, Cmd: commandOf(t, test.spec)})
			requireStatus(t, err, test.code, test.reason)
			_, err = s.rpc.PlanMerge(t.Context(), connect.NewRequest(&mergerv1.PlanMergeRequest{Spec: test.spec}))
			if connect.CodeOf(err) != connect.Code(test.code) {
				t.Errorf("PlanMerge: %v, want %s", err, test.code)
			}
		})
	}
	for name, command := range map[string][]byte{
		"nothing": nil, "noise": {0xff, 0xfe, 1}, "JSON of nothing": []byte(`{"layer": 1}`), "half JSON": []byte(`{"layers"`),
	} {
		_, err := s.flight.GetFlightInfo(t.Context(), &arrowflight.FlightDescriptor{Type: arrowflight.DescriptorCMD, Cmd: command})
		t.Run("command: "+name, func(t *testing.T) { requireStatus(t, err, codes.InvalidArgument, "INVALID_ARGUMENT") })
	}
	_, err := s.flight.GetFlightInfo(t.Context(), &arrowflight.FlightDescriptor{})
	requireStatus(t, err, codes.InvalidArgument, "INVALID_ARGUMENT")
	for _, reserved := range [][]byte{nil, []byte("ticket"), make([]byte, 1<<20)} {
		_, err := s.get(t.Context(), reserved)
		requireStatus(t, err, codes.InvalidArgument, "TICKET_INVALID")
	}
}

func commandOf(t *testing.T, spec *mergerv1.MergeSpec) []byte {
	t.Helper()
	command, err := proto.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	return command
}

// A batch that would not fit into a message is refused in the plan.
func TestTooLargeBatchesAreRefused(t *testing.T) {
	t.Parallel()
	s := start(t, Config{MaxStreamBytes: 1 << 40})
	spec := &mergerv1.MergeSpec{BatchRows: 1 << 20}
	for i := range 40 {
		name := fmt.Sprintf("layer_%d", i)
		s.peers.put(layer.Layer{
			Name: name, Grid: utm(4000, 4000, 3e5, 5e6), HasGrid: true, Format: layer.FormatLegacy, StoredType: layer.Float64,
			DeclaredType: layer.Float64, Table: layer.Table{Schema: "public", Name: name}, Generation: 1, HasIndices: true, HasKey: true,
		})
		spec.Layers = append(spec.Layers, &mergerv1.LayerSelection{Name: name})
	}
	_, err := s.info(t.Context(), spec)
	fields := requireStatus(t, err, codes.ResourceExhausted, "LIMIT_EXCEEDED")
	var most int32
	if _, err := fmt.Sscan(fields["limit"], &most); err != nil || fields["field"] != "batch_rows" {
		t.Fatalf("fields %v", fields)
	}
	spec.BatchRows = most
	if _, err := s.info(t.Context(), spec); err != nil {
		t.Errorf("%d rows are the limit, and: %v", most, err)
	}
}

// JSON, protobuf and a path ask for the same table; every layer is listed.
func TestDescriptors(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	rng := rand.New(rand.NewPCG(2, 2))
	for i, name := range []string{"birds", "plants"} {
		s.put(t, name, formats[i], generated(rng, utm(6, 7, 3e5, 5e6)))
	}
	var hashes []string
	for _, d := range []*arrowflight.FlightDescriptor{
		{Type: arrowflight.DescriptorCMD, Cmd: commandOf(t, specOf("birds", "plants"))},
		{Type: arrowflight.DescriptorCMD, Cmd: asJSON(t, specOf("birds", "plants"))},
		{Type: arrowflight.DescriptorPATH, Path: []string{"birds", "plants"}},
	} {
		info, err := s.flight.GetFlightInfo(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		endpoint := info.GetEndpoint()[0]
		if !info.GetOrdered() || len(info.GetEndpoint()) != 1 || len(endpoint.GetLocation()) != 0 || info.GetTotalRecords() != -1 {
			t.Errorf("%v", info)
		}
		if life := time.Until(endpoint.GetExpirationTime().AsTime()); life < 14*time.Minute || life > 15*time.Minute {
			t.Errorf("the ticket lives %v", life)
		}
		got, err := s.get(t.Context(), endpoint.GetTicket().GetTicket())
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, got.trailer.Hash)
	}
	if hashes[0] != hashes[1] || hashes[0] != hashes[2] {
		t.Errorf("hashes %q", hashes)
	}
	every := specOf("birds")
	every.RowsKept = mergerv1.RowsKept_ROWS_KEPT_EVERY
	every.Endpoints = 3
	info, err := s.info(t.Context(), every)
	if err != nil || info.GetTotalRecords() != 42 || len(info.GetEndpoint()) != 3 {
		t.Errorf("%v, %v: want 42 records in 3 endpoints", info, err)
	}
	flights, err := s.flight.ListFlights(t.Context(), &arrowflight.Criteria{})
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for {
		info, err := flights.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, info.GetFlightDescriptor().GetPath()...)
		if _, err := s.get(t.Context(), info.GetEndpoint()[0].GetTicket().GetTicket()); err != nil {
			t.Error(err)
		}
	}
	if fmt.Sprint(listed) != "[birds plants]" {
		t.Errorf("listed %v", listed)
	}
	garbage, err := s.flight.ListFlights(t.Context(), &arrowflight.Criteria{Expression: []byte("everything")})
	if err == nil {
		_, err = garbage.Recv()
	}
	requireStatus(t, err, codes.InvalidArgument, "INVALID_ARGUMENT")
}

// A layer that changes between ticket and reading, or while it is read, ends the
// stream with ABORTED, never with a table.
func TestChangedLayersAbort(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	rng := rand.New(rand.NewPCG(3, 3))
	l := s.put(t, "birds", layer.FormatLegacy, generated(rng, utm(6, 7, 3e5, 5e6)))
	info, err := s.info(t.Context(), specOf("birds"))
	if err != nil {
		t.Fatal(err)
	}
	raw := info.GetEndpoint()[0].GetTicket().GetTicket()
	l.Generation = 2
	s.peers.put(l)
	_, err = s.get(t.Context(), raw)
	if got := requireStatus(t, err, codes.Aborted, "LAYER_CHANGED"); got["layer"] != "birds" || got["generation"] != "2" {
		t.Errorf("fields %v", got)
	}
	s.peers.mu.Lock()
	delete(s.peers.layers, "birds")
	s.peers.mu.Unlock()
	_, err = s.get(t.Context(), raw)
	requireStatus(t, err, codes.Aborted, "LAYER_CHANGED")

	s.peers.put(l)
	info, err = s.info(t.Context(), specOf("birds"))
	if err != nil {
		t.Fatal(err)
	}
	s.exec(t, "DROP TABLE public.birds")
	_, err = s.get(t.Context(), info.GetEndpoint()[0].GetTicket().GetTicket())
	requireStatus(t, err, codes.Aborted, "LAYER_CHANGED")
}

// A fault in the cells ends the stream with its status, after whatever was sent.
func TestBadCellEndsTheStream(t *testing.T) {
	t.Parallel()
	s := start(t, Config{BandBytes: 1})
	rng := rand.New(rand.NewPCG(4, 4))
	l := s.put(t, "birds", layer.FormatLegacy, generated(rng, utm(60, 7, 3e5, 5e6)))
	s.exec(t, "INSERT INTO public.birds VALUES (99, 0, 5)")
	spec := specOf(l.Name)
	spec.BatchRows = 1
	info, err := s.info(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.get(t.Context(), info.GetEndpoint()[0].GetTicket().GetTicket())
	if got := requireStatus(t, err, codes.FailedPrecondition, "CELL_OFF_GRID"); got["row_idx"] != "99" {
		t.Errorf("fields %v", got)
	}
}

// The secret of a configuration does not print.
func TestSecretDoesNotPrint(t *testing.T) {
	cfg := Config{TicketKey: "hunter2"}
	for _, text := range []string{fmt.Sprint(cfg), fmt.Sprintf("%+v", cfg), fmt.Sprintf("%#v", cfg)} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("printed: %s", text)
		}
	}
}
