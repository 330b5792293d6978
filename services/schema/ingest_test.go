package schema_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"connectrpc.com/connect"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/schema"
)

// A layer is replaced at one moment; who reads the old one can do so to the end.
func TestIngestReplaces(t *testing.T) {
	k := startTaker(t, schema.IngestConfig{})
	s := cellsSchema(layer.Int16)
	spec := specOf("replaced", 4, 6, layer.Int16)
	value := func(v int) string { return fmt.Sprintf(`[{"row": 0, "col": 0, "value": %d}]`, v) }
	k.must(k.begin(spec, s).write(s, value(1)).done())
	old := k.layer("replaced").Table

	if _, err := k.begin(spec, s).write(s, value(2)).done(); status.Code(err) != grpccodes.AlreadyExists {
		t.Errorf("a second CREATE: %v", err)
	}
	spec.Mode = schemav1.IngestMode_INGEST_MODE_REPLACE
	spec.ReplaceGeneration = 5
	if _, err := k.begin(spec, s).write(s, value(2)).done(); status.Code(err) != grpccodes.Aborted {
		t.Errorf("another generation: %v", err)
	}
	spec.ReplaceGeneration = 1

	reader, err := k.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Exec(t.Context(), fmt.Sprintf("SELECT FROM %q.%q", old.Schema, old.Name)); err != nil {
		t.Fatal(err)
	}
	p := k.begin(spec, s).write(s, value(2))
	if got := stored[int16](k, "replaced"); *got[0][0] != 1 {
		t.Errorf("before the end of the stream: %v", *got[0][0])
	}
	if r := k.must(p.done()); r.Generation != 2 {
		t.Errorf("%+v", r)
	}
	if got := stored[int16](k, "replaced"); *got[0][0] != 2 {
		t.Errorf("after the end of the stream: %v", *got[0][0])
	}
	if tables, _ := k.leftovers(); tables != 1 {
		t.Errorf("%d old tables, and one is being read", tables)
	}
	if err := reader.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The next ingest that replaces something sweeps.
	spec.ReplaceGeneration = 0
	if r := k.must(k.begin(spec, s).write(s, value(3)).done()); r.Generation != 3 {
		t.Errorf("%+v", r)
	}
	if tables, layers := k.leftovers(); tables != 0 || layers != 1 {
		t.Errorf("%d old tables, %d layers", tables, layers)
	}
}

// Only layers that were ingested are replaced.
func TestIngestLeavesOtherLayersAlone(t *testing.T) {
	k := startTaker(t, schema.IngestConfig{})
	exec := func(sql string) {
		t.Helper()
		if _, err := k.pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(catalogDDL)
	exec(`CREATE TABLE public.resampled_old (row_idx int, col_idx int, value double precision, PRIMARY KEY (row_idx, col_idx))`)
	exec(`INSERT INTO public.resampled_datasets (name, target_resolution, target_crs, bounds, shape_height, shape_width, data_type, metadata)
		VALUES ('old', 10, 'EPSG:32633', '{500000, 5599960, 500060, 5600000}', 4, 6, 'float64', '{}')`)
	if _, err := k.layers.AdoptCatalog(t.Context(), connect.NewRequest(&schemav1.AdoptCatalogRequest{})); err != nil {
		t.Fatal(err)
	}
	s := cellsSchema(layer.Int16)
	spec := specOf("old", 4, 6, layer.Int16)
	spec.Mode = schemav1.IngestMode_INGEST_MODE_REPLACE
	if _, err := k.begin(spec, s).done(); status.Code(err) != grpccodes.AlreadyExists {
		t.Errorf("an adopted layer: %v", err)
	}
	// Beside it, on the same grid, it is welcome; on another one, it is told by how much.
	spec.Name, spec.SameGridAs = "beside", "old"
	k.must(k.begin(spec, s).write(s, `[{"row": 3, "col": 5, "value": 1}]`).done())
	spec.Name = "shifted"
	spec.GetGrid().OriginX += 5
	_, err := k.begin(spec, s).done()
	if code, reason, fields := reasonOf(err); code != grpccodes.FailedPrecondition || reason != "INVALID_GRID" || fields["layer"] != "old" {
		t.Errorf("another grid: %v", err)
	}
	spec.GetGrid().OriginX -= 5
	spec.GetGrid().Crs = "EPSG:32634"
	if _, reason, _ := reasonOf(func() error { _, err := k.begin(spec, s).done(); return err }()); reason != "CRS_MISMATCH" {
		t.Errorf("another CRS: %v", reason)
	}
}

// A stream that is sent again under its key is answered as the first time.
func TestIngestIsIdempotent(t *testing.T) {
	k := startTaker(t, schema.IngestConfig{})
	s := cellsSchema(layer.Int16)
	spec := specOf("once", 4, 6, layer.Int16)
	spec.IdempotencyKey = "key 1"
	send := func() (putResult, error) {
		return k.begin(spec, s).write(s, `[{"row": 3, "col": 5, "value": 1}]`).done()
	}
	first := k.must(send())
	again := k.must(send())
	if !again.Repeated || first.Repeated || again.Generation != 1 || again.Cells != first.Cells || again.Bytes != first.Bytes {
		t.Errorf("first %+v, then %+v", first, again)
	}
	spec.Name = "another"
	if _, err := send(); status.Code(err) != grpccodes.AlreadyExists {
		t.Errorf("the key for something else: %v", err)
	}
}

// Streams are limited in number, and exclude each other on a layer.
func TestIngestLimitsStreams(t *testing.T) {
	k := startTaker(t, schema.IngestConfig{Streams: 2})
	s := cellsSchema(layer.Int16)
	one := `[{"row": 3, "col": 5, "value": 1}]`
	first := k.begin(specOf("a", 4, 6, layer.Int16), s).write(s, one)
	k.working(1)
	if _, err := k.begin(specOf("a", 4, 6, layer.Int16), s).done(); status.Code(err) != grpccodes.Aborted {
		t.Errorf("two streams into one layer: %v", err)
	}
	second := k.begin(specOf("b", 4, 6, layer.Int16), s).write(s, one)
	k.working(2)
	third := func() (putResult, error) { return k.begin(specOf("c", 4, 6, layer.Int16), s).write(s, one).done() }
	if _, err := third(); status.Code(err) != grpccodes.ResourceExhausted {
		t.Errorf("three streams: %v", err)
	}
	for _, p := range []*put{first, second} {
		k.must(p.done())
	}
	k.must(third())
	if tables, layers := k.leftovers(); tables != 0 || layers != 3 {
		t.Errorf("%d tables too many, %d layers", tables, layers)
	}
}

// A client that says nothing more is dropped, and leaves nothing.
func TestIngestDropsSilentStreams(t *testing.T) {
	k := startTaker(t, schema.IngestConfig{Streams: 1, StallLimit: time.Second})
	s := cellsSchema(layer.Int16)
	begin := func() *put {
		return k.begin(specOf("a", 4, 6, layer.Int16), s).write(s, `[{"row": 3, "col": 5, "value": 1}]`)
	}
	_, err := begin().stream.Recv()
	if code, reason, _ := reasonOf(err); code != grpccodes.ResourceExhausted || reason != "LIMIT_EXCEEDED" {
		t.Errorf("a stalled stream: %v", err)
	}
	k.working(0)
	if tables, layers := k.leftovers(); tables != 0 || layers != 0 {
		t.Errorf("%d tables, %d layers", tables, layers)
	}
	k.must(begin().done())
}

// A client that goes away leaves nothing.
func TestIngestOfAClientThatIsGone(t *testing.T) {
	k := startTaker(t, schema.IngestConfig{})
	s := cellsSchema(layer.Int16)
	command, err := proto.Marshal(specOf("gone", 4, 6, layer.Int16))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	p := k.beginCommand(ctx, command, s).write(s, `[{"row": 3, "col": 5, "value": 1}]`)
	k.working(1)
	cancel()
	if _, err := p.stream.Recv(); status.Code(err) != grpccodes.Canceled {
		t.Errorf("%v", err)
	}
	k.working(0)
	if tables, layers := k.leftovers(); tables != 0 || layers != 0 {
		t.Errorf("%d tables, %d layers", tables, layers)
	}
	// Its place is free again: another stream of the layer is taken.
	if r := k.must(k.begin(specOf("gone", 4, 6, layer.Int16), s).done()); r.Cells != 0 || r.Tiles != 0 {
		t.Errorf("%+v", r)
	}
}

func TestPlanIngest(t *testing.T) {
	k := startTaker(t, schema.IngestConfig{MaxCells: 1000})
	plan := func(spec *schemav1.IngestSpec) (*schemav1.PlanIngestResponse, error) {
		res, err := k.ingests.PlanIngest(t.Context(), connect.NewRequest(&schemav1.PlanIngestRequest{Spec: spec}))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	}
	spec := specOf("planned", 4, 6, layer.Float32)
	spec.Lattice = &schemav1.IngestSpec_Extent{Extent: &gridv1.Extent{Crs: "EPSG:32633", Bounds: []float64{0, 0, 60, 40}, Resolution: new(10.0)}}
	p, err := plan(spec)
	if err != nil || p.GetFlightUri() != "grpc://schema.test:7421" || p.GetGrid().GetRows() != 4 || p.GetReplaced() != nil || p.GetTileRows() != 256 {
		t.Errorf("%v, %v", p, err)
	}
	s := cellsSchema(layer.Float32)
	k.must(k.begin(spec, s).done())
	if _, err := plan(spec); connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("there is one: %v", err)
	}
	spec.Mode = schemav1.IngestMode_INGEST_MODE_REPLACE
	if p, err = plan(spec); err != nil || p.GetReplaced().GetFormat() != layerv1.Format_FORMAT_TILED {
		t.Errorf("%v, %v", p, err)
	}
	spec = specOf("large", 40, 60, layer.Float32)
	if _, err := plan(spec); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("too large: %v", err)
	}
}
