package scenario

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/protobuf/proto"

	alignerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1"
	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// point is a cell of an answer: x, y and value by their bits, so that nothing
// nearly equal is equal.
type point [3]uint64

func bits(x, y, value float64) point {
	return point{math.Float64bits(x), math.Float64bits(y), math.Float64bits(value)}
}

// stored is a layer in one of the ways that tables hold cells, and what the
// schema service and the aligner must make of it.
type stored struct {
	raster

	format       layerv1.Format
	registration gridv1.Registration
	verdict      gridv1.Verdict
	turns        int32
	// pieces is the number of runs of columns that the layer falls into on the
	// reference.
	pieces int
}

// ways are layers on the lattice of warp, of 1/3 degree, which float64 cannot
// hold: each format, each damage, each relation that can be merged.
func ways(random *rand.Rand) (warp raster, layers []stored) {
	const third, legacy, coordinate, windowed = 1.0 / 3, layerv1.Format_FORMAT_LEGACY, layerv1.Format_FORMAT_COORDINATE, layerv1.Format_FORMAT_WINDOWED
	const identical, aligned, shift = gridv1.Verdict_VERDICT_IDENTICAL, gridv1.Verdict_VERDICT_ALIGNED, gridv1.Verdict_VERDICT_SHIFT
	const implied, centre, corner = gridv1.Registration_REGISTRATION_UNSPECIFIED, gridv1.Registration_REGISTRATION_CENTER, gridv1.Registration_REGISTRATION_UPPER_LEFT
	// A strip round the whole globe.
	warp = raster{
		name: "warp", rows: 12, cols: 1080, originX: -180, originY: 2, step: third, crs: "OGC:CRS84",
		key: true, table: "resampled_warp", metadata: `{"nodata": -9999}`,
	}.fill(random)
	add := func(s stored, prefix string) {
		s.rows, s.cols, s.step, s.crs = 9, 31, third, "EPSG:4326"
		if s.metadata == "" {
			s.metadata = `{"nodata": -9999}`
		}
		s.table = prefix + s.name
		s.raster = s.fill(random)
		layers = append(layers, s)
	}
	layers = append(layers, stored{warp, legacy, implied, identical, 0, 1})
	add(stored{raster{name: "legacy", originX: 10, originY: 1, key: true}, legacy, implied, aligned, 0, 1}, "resampled_")
	add(stored{raster{name: "passed_on", originX: 10, originY: 1, metadata: `{"nodata": -9999, "passthrough": true}`}, legacy, implied, aligned, 0, 1}, "passthrough_")
	add(stored{raster{name: "coordinate", originX: -20, originY: 3, coordinates: true, key: true}, coordinate, centre, aligned, 0, 1}, "resampled_")
	add(stored{raster{name: "windowed", originX: 30, originY: 1, coordinates: true, metadata: `{"nodata": -9999, "memory_aware": true}`}, windowed, centre, aligned, 0, 1}, "windowed_")
	add(stored{raster{name: "coordinate_only", originX: 0, originY: 2, coordinates: true, noIndices: true}, coordinate, centre, aligned, 0, 1}, "resampled_")
	add(stored{raster{name: "south_up", originX: 12, originY: 2, coordinates: true, southUp: true, key: true}, coordinate, centre, aligned, 0, 1}, "resampled_")
	add(stored{raster{name: "corner", originX: 14, originY: 2, coordinates: true, corners: true, key: true}, coordinate, corner, aligned, 0, 1}, "resampled_")
	add(stored{raster{name: "corner_only", originX: 14, originY: 2, coordinates: true, corners: true, noIndices: true}, coordinate, corner, aligned, 0, 1}, "resampled_")
	add(stored{raster{name: "shifted", originX: 40.1, originY: 1.05, key: true}, legacy, implied, shift, 0, 1}, "resampled_")
	add(stored{raster{name: "half_way", originX: 40 + third/2, originY: 1 - third/2, coordinates: true, southUp: true, key: true}, coordinate, centre, shift, 0, 1}, "resampled_")
	add(stored{raster{name: "turned", originX: 200, originY: 1, key: true}, legacy, implied, aligned, -1, 1}, "resampled_")
	add(stored{raster{name: "wrapped", originX: 175, originY: 1, key: true}, legacy, implied, aligned, -1, 2}, "resampled_")
	add(stored{raster{name: "wrapped_shifted_corner", originX: 175.1, originY: 0.95, coordinates: true, corners: true, metadata: `{"nodata": -9999, "memory_aware": true}`}, windowed, corner, shift, -1, 2}, "windowed_")
	return warp, layers
}

// The SQL of CreateAlignedCoordinateQuery, run as it stands, gives the very
// cells that the merger streams: the same x, y and value, bit for bit.
func TestAlignedQueryGivesTheMergersCells(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	address := pgtest.URL(t)
	pool := pgtest.Connect(t, address)
	if _, err := pool.Exec(t.Context(), catalog); err != nil {
		t.Fatal(err)
	}
	warp, layers := ways(random)
	for _, l := range layers {
		l.store(t, pool)
	}
	s := oneProcess(t, binaries(t), address)
	adopted, err := s.schemaClient().AdoptCatalog(t.Context(), connect.NewRequest(&schemav1.AdoptCatalogRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	catalogued := map[string]*layerv1.Layer{}
	for _, l := range adopted.Msg.GetLayers() {
		catalogued[l.GetName()] = l
	}
	client := s.flightClient(t)
	reference := catalogued[warp.name].GetGrid()
	for _, l := range layers {
		t.Run(l.name, func(t *testing.T) {
			got := catalogued[l.name]
			if got.GetFormat() != l.format || got.GetRegistration() != l.registration || got.GetSouthUp() != l.southUp || got.GetHasIndices() == l.noIndices {
				t.Fatalf("catalogued as %v", got)
			}
			// All of it, and a box whose edges are centres of cells, for half-open
			// bounds to show.
			cell := func(n int) float64 { return l.originX + float64(l.turns)*360 + (float64(n)+0.5)*l.step }
			box := &gridv1.Bounds{MinX: cell(3), MaxX: cell(17), MinY: l.originY - 6.5*l.step, MaxY: l.originY - 1.5*l.step}
			for part, bounds := range map[string]*gridv1.Bounds{"whole": nil, "box": box} {
				answer, err := s.alignerClient().CreateAlignedCoordinateQuery(t.Context(), connect.NewRequest(&alignerv1.CreateAlignedCoordinateQueryRequest{
					Layer:     &alignerv1.LayerSource{Source: &alignerv1.LayerSource_Name{Name: l.name}},
					Reference: reference, Bounds: bounds,
				}))
				if err != nil {
					t.Fatal(err)
				}
				if r := answer.Msg.GetRelation(); r.GetVerdict() != l.verdict || r.GetLongitudeTurns() != l.turns {
					t.Errorf("%s: relation %v", part, r)
				}
				// The reference is merged along, since without bounds the query's
				// window is the one that holds both: at the seam it decides on which
				// side x counts.
				spec := &mergerv1.MergeSpec{
					Layers:    []*mergerv1.LayerSelection{{Name: l.name, Column: "value"}},
					Reference: &mergerv1.Reference{Lattice: &mergerv1.Reference_Layer{Layer: warp.name}},
				}
				if l.name != warp.name {
					spec.Layers = append(spec.Layers, &mergerv1.LayerSelection{Name: warp.name})
				}
				if bounds != nil {
					spec.Extent = &mergerv1.Extent{Part: &mergerv1.Extent_Bounds{Bounds: bounds}}
				}
				queried, streamed := runQuery(t, pool, answer.Msg), streamedPoints(t, client, spec)
				if part == "whole" {
					values := 0
					for at := range l.cells {
						if _, ok := l.value(at[0], at[1]); ok {
							values++
						}
					}
					if total(queried) != values {
						t.Errorf("the query gives %d cells of %d", total(queried), values)
					}
				} else if n := total(queried); n == 0 || n > 14*5 {
					t.Errorf("the query gives %d cells in a box of 70", n)
				}
				difference(t, part, queried, streamed)
			}
		})
	}
	// What makes these cases what they are called.
	report, err := s.alignerClient().AnalyzeAlignment(t.Context(), connect.NewRequest(analysis(warp.name, layers)))
	if err != nil {
		t.Fatal(err)
	}
	pieces := map[string]float64{}
	for _, i := range report.Msg.GetIssues() {
		if i.GetCode() == "LONGITUDE_TURNED" {
			pieces[i.GetLayer()] = i.GetValues()["pieces"]
		}
	}
	for _, l := range layers {
		if want := float64(l.pieces); want > 1 && pieces[l.name] != want {
			t.Errorf("%s falls into %v pieces, want %v", l.name, pieces[l.name], want)
		}
	}
}

func analysis(reference string, layers []stored) *alignerv1.AnalyzeAlignmentRequest {
	req := &alignerv1.AnalyzeAlignmentRequest{Reference: &alignerv1.Reference{Lattice: &alignerv1.Reference_Layer{Layer: reference}}}
	for _, l := range layers {
		req.Layers = append(req.Layers, &alignerv1.LayerSource{Source: &alignerv1.LayerSource_Name{Name: l.name}})
	}
	return req
}

// runQuery runs an answer of CreateAlignedCoordinateQuery as any client would.
func runQuery(t *testing.T, pool *pgxpool.Pool, q *alignerv1.CreateAlignedCoordinateQueryResponse) map[point]int {
	t.Helper()
	args := make([]any, len(q.GetParameters()))
	for _, p := range q.GetParameters() {
		switch v := p.GetValue().(type) {
		case *alignerv1.QueryParameter_Float8:
			args[p.GetPosition()-1] = v.Float8
		case *alignerv1.QueryParameter_Int8:
			args[p.GetPosition()-1] = v.Int8
		}
	}
	rows, err := pool.Query(t.Context(), q.GetSql(), args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, q.GetSql())
	}
	points := map[point]int{}
	var x, y, value float64
	if _, err := pgx.ForEachRow(rows, []any{&x, &y, &value}, func() error {
		points[bits(x, y, value)]++
		return nil
	}); err != nil {
		t.Fatalf("%v\n%s", err, q.GetSql())
	}
	return points
}

// streamedPoints reads the cells of a merge that have a value in its first
// layer.
func streamedPoints(t *testing.T, client flight.Client, spec *mergerv1.MergeSpec) map[point]int {
	t.Helper()
	command, err := proto.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	info, err := client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: command})
	if err != nil {
		t.Fatal(err)
	}
	points := map[point]int{}
	for _, endpoint := range info.GetEndpoint() {
		stream, err := client.DoGet(t.Context(), endpoint.GetTicket())
		if err != nil {
			t.Fatal(err)
		}
		reader, err := flight.NewRecordReader(stream)
		if err != nil {
			t.Fatal(err)
		}
		for reader.Next() {
			batch := reader.RecordBatch()
			x, y := batch.Column(0).(*array.Float64), batch.Column(1).(*array.Float64)
			value := batch.Column(2).(*array.Float64)
			for i := range x.Len() {
				if value.IsNull(i) {
					continue
				}
				points[bits(x.Value(i), y.Value(i), value.Value(i))]++
			}
		}
		err = reader.Err()
		reader.Release()
		if err != nil {
			t.Fatal(err)
		}
	}
	return points
}

func total(points map[point]int) int {
	n := 0
	for _, times := range points {
		n += times
	}
	return n
}

// difference reports the first few points that two answers do not share.
func difference(t *testing.T, part string, queried, streamed map[point]int) {
	t.Helper()
	told := 0
	tell := func(p point, a, b int) {
		if told++; told <= 5 {
			t.Errorf("%s: x %v, y %v, value %v comes %d times from the query and %d times from the merger", part,
				math.Float64frombits(p[0]), math.Float64frombits(p[1]), math.Float64frombits(p[2]), a, b)
		}
	}
	for p, n := range queried {
		if streamed[p] != n {
			tell(p, n, streamed[p])
		}
	}
	for p, n := range streamed {
		if queried[p] == 0 {
			tell(p, 0, n)
		}
	}
	if told > 5 {
		t.Errorf("%s: and %d more", part, told-5)
	}
}
