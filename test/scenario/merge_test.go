package scenario

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/rasterloom/rasterloom/fault"
	alignerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1"
	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/internal/pgtest"
	"github.com/rasterloom/rasterloom/internal/wire"
)

// The main job, as one process and as three, with the same answers to the last
// byte; then everything that cannot be merged, refused by its name.
func TestAdoptAlignMerge(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	good, bad := rasters(random), damaged(random)

	address := pgtest.URL(t)
	pool := pgtest.Connect(t, address)
	if _, err := pool.Exec(t.Context(), catalog); err != nil {
		t.Fatal(err)
	}
	for _, r := range slices.Concat(good, bad) {
		r.store(t, pool)
	}
	bin := binaries(t)
	var tables []table
	for name, run := range map[string]func(*testing.T, string, string) suite{"one process": oneProcess, "three processes": threeProcesses} {
		t.Run(name, func(t *testing.T) {
			s := run(t, bin, address)
			adopt(t, s, len(good)+len(bad)-1)
			align(t, s)
			got := merge(t, s, good)
			tables = append(tables, got)
			refuse(t, s)
		})
	}
	if len(tables) != 2 || tables[0] != tables[1] {
		t.Errorf("one process and three give different tables: %v", tables)
	}
}

func adopt(t *testing.T, s suite, layers int) {
	t.Helper()
	res, err := s.schemaClient().AdoptCatalog(t.Context(), connect.NewRequest(&schemav1.AdoptCatalogRequest{}))
	if err != nil {
		t.Fatalf("adopt: %v", err)
	}
	if got := len(res.Msg.GetLayers()); got != layers {
		t.Errorf("adopted %d layers, want %d", got, layers)
	}
	formats := map[string]string{}
	for _, l := range res.Msg.GetLayers() {
		formats[l.GetName()] = l.GetFormat().String()
	}
	for name, want := range map[string]string{
		"birds": "FORMAT_LEGACY", "plants": "FORMAT_COORDINATE", "elevation-1": "FORMAT_WINDOWED", "ghost": "FORMAT_INVALID", "twin": "FORMAT_INVALID",
	} {
		if formats[name] != want {
			t.Errorf("%s is %s, want %s", name, formats[name], want)
		}
	}
}

func align(t *testing.T, s suite) {
	t.Helper()
	req := &alignerv1.AnalyzeAlignmentRequest{Reference: &alignerv1.Reference{Lattice: &alignerv1.Reference_Layer{Layer: "birds"}}}
	for _, name := range []string{"birds", "plants", "elevation-1"} {
		req.Layers = append(req.Layers, &alignerv1.LayerSource{Source: &alignerv1.LayerSource_Name{Name: name}})
	}
	res, err := s.alignerClient().AnalyzeAlignment(t.Context(), connect.NewRequest(req))
	if err != nil {
		t.Fatalf("align: %v", err)
	}
	wants := []struct {
		verdict    gridv1.Verdict
		rows, cols int64
		shift      float64
	}{
		{gridv1.Verdict_VERDICT_IDENTICAL, 0, 0, 0},
		{gridv1.Verdict_VERDICT_SHIFT, -2, 3, -3},
		{gridv1.Verdict_VERDICT_ALIGNED, 5, 10, 0},
	}
	for i, r := range res.Msg.GetRelations() {
		w := wants[i]
		if r.GetVerdict() != w.verdict || r.GetOffsetRows() != w.rows || r.GetOffsetCols() != w.cols || math.Abs(r.GetShift().GetX()-w.shift) > 1e-9 {
			t.Errorf("%s: %v at (%d, %d) with shift %v, want %v", r.GetLayer(), r.GetVerdict(), r.GetOffsetRows(), r.GetOffsetCols(), r.GetShift(), w)
		}
	}
}

// table is what a merge gave, small enough to compare.
type table struct {
	sum    [sha256.Size]byte // of all batches as an IPC stream
	hashes string            // of the endpoints, as the trailers say
	rows   int64
}

func spec(names ...string) *mergerv1.MergeSpec {
	s := &mergerv1.MergeSpec{
		Reference:         &mergerv1.Reference{Lattice: &mergerv1.Reference_Layer{Layer: "birds"}},
		CoordinateColumns: mergerv1.CoordinateColumns_COORDINATE_COLUMNS_BOTH,
		BatchRows:         100,
		Endpoints:         3,
	}
	for _, name := range names {
		s.Layers = append(s.Layers, &mergerv1.LayerSelection{Name: name})
	}
	return s
}

// row is one row of the table: x, y, row, col, and the values or nil.
type row struct {
	x, y     float64
	row, col int32
	values   [3]string
}

// merge reads the table by plain Flight, by either form of the command, and
// compares it with one woven by hand.
func merge(t *testing.T, s suite, layers []raster) table {
	t.Helper()
	m := spec("birds", "plants", "elevation-1")
	asJSON, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	asProto, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	client := s.flightClient(t)
	got, rows := read(t, client, asJSON)
	again, _ := read(t, client, asProto)
	if got != again {
		t.Errorf("the JSON and the protobuf command give different tables")
	}
	want := weave(layers)
	if len(rows) != len(want) {
		t.Fatalf("%d rows, want %d", len(rows), len(want))
	}
	for i := range rows {
		if rows[i] != want[i] {
			t.Fatalf("row %d is %v, want %v", i, rows[i], want[i])
		}
	}
	return got
}

// weave joins the layers cell by cell, on the lattice of birds.
func weave(layers []raster) []row {
	birds := layers[0]
	offsets := [][2]int{{0, 0}, {-2, 3}, {5, 10}}
	var out []row
	for r := -2; r < 30; r++ {
		for c := range 53 {
			at := row{
				x: birds.originX + (float64(c)+0.5)*birds.step, y: birds.originY - (float64(r)+0.5)*birds.step, row: int32(r), col: int32(c),
				values: [3]string{"null", "null", "null"},
			}
			some := false
			for i, l := range layers {
				if v, ok := l.value(r-offsets[i][0], c-offsets[i][1]); ok {
					at.values[i], some = fmt.Sprint(v), true
				}
			}
			if some {
				out = append(out, at)
			}
		}
	}
	return out
}

func read(t *testing.T, client flight.Client, command []byte) (table, []row) {
	t.Helper()
	info, err := client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: command})
	if err != nil {
		t.Fatalf("GetFlightInfo: %v", err)
	}
	if len(info.GetEndpoint()) != 3 || !info.GetOrdered() {
		t.Errorf("%d endpoints, ordered %v", len(info.GetEndpoint()), info.GetOrdered())
	}
	sum := sha256.New()
	var got table
	var rows []row
	for _, endpoint := range info.GetEndpoint() {
		stream, err := client.DoGet(t.Context(), endpoint.GetTicket())
		if err != nil {
			t.Fatalf("DoGet: %v", err)
		}
		hash, n, part := readEndpoint(t, stream, sum)
		got.hashes += hash + "\n"
		got.rows += n
		rows = append(rows, part...)
	}
	sum.Sum(got.sum[:0])
	return got, rows
}

func readEndpoint(t *testing.T, stream flight.FlightService_DoGetClient, sum io.Writer) (hash string, n int64, rows []row) {
	t.Helper()
	reader, err := flight.NewRecordReader(stream)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Release()
	writer := ipc.NewWriter(sum, ipc.WithSchema(reader.Schema()))
	var last []byte
	for reader.Next() {
		batch := reader.RecordBatch()
		last = reader.LatestAppMetadata()
		n += batch.NumRows()
		if err := writer.Write(batch); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, rowsOf(t, batch)...)
	}
	if err := reader.Err(); err != nil {
		t.Fatalf("the stream ended with %v", err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	trailer := struct {
		Complete bool
		Rows     int64
		Hash     string
	}{}
	if err := json.Unmarshal(last, &trailer); err != nil || !trailer.Complete || trailer.Rows != n || trailer.Hash == "" {
		t.Fatalf("%d rows, and the trailer is %s (%v)", n, last, err)
	}
	return trailer.Hash, n, rows
}

func rowsOf(t *testing.T, batch arrow.RecordBatch) []row {
	t.Helper()
	column := func(name string) arrow.Array {
		at := batch.Schema().FieldIndices(name)
		if len(at) != 1 {
			t.Fatalf("%d columns %q in %v", len(at), name, batch.Schema())
		}
		return batch.Column(at[0])
	}
	x, y := column("x").(*array.Float64), column("y").(*array.Float64)
	r, c := column("row").(*array.Int32), column("col").(*array.Int32)
	rows := make([]row, batch.NumRows())
	for i := range rows {
		rows[i] = row{x: x.Value(i), y: y.Value(i), row: r.Value(i), col: c.Value(i)}
		for j, name := range []string{"birds", "plants", "elevation-1"} {
			values := column(name).(*array.Float64)
			if rows[i].values[j] = "null"; values.IsValid(i) {
				rows[i].values[j] = fmt.Sprint(values.Value(i))
			}
		}
	}
	return rows
}

// refuse asks for what cannot be merged, over Connect and over Flight.
func refuse(t *testing.T, s suite) {
	t.Helper()
	client := s.flightClient(t)
	for _, c := range []struct {
		name   string
		layers []string
		code   codes.Code
		reason fault.Reason
		names  string // what the message must name
	}{
		{"no layer", nil, codes.InvalidArgument, fault.InvalidArgument, "layer"},
		{"unknown layer", []string{"birds", "brids"}, codes.NotFound, fault.LayerNotFound, "brids"},
		{"catalog row without a table", []string{"birds", "ghost"}, codes.FailedPrecondition, fault.LayerUnreadable, "ghost"},
		{"two catalog rows of one name", []string{"birds", "twin"}, codes.FailedPrecondition, fault.LayerUnreadable, "twin"},
		{"a layer twice", []string{"birds", "birds"}, codes.InvalidArgument, fault.LayerRepeated, "birds"},
		{"another CRS", []string{"birds", "utm"}, codes.FailedPrecondition, fault.CRSMismatch, "utm"},
		{"disjoint", []string{"birds", "elsewhere"}, codes.OutOfRange, fault.Disjoint, "elsewhere"},
	} {
		m := spec(c.layers...)
		_, err := s.mergerClient().PlanMerge(t.Context(), connect.NewRequest(&mergerv1.PlanMergeRequest{Spec: m}))
		f := fault.From(wire.FromConnect("merger", err))
		if err == nil || wire.Code(f.Kind) != c.code || f.Reason != c.reason || !strings.Contains(f.Message, c.names) {
			t.Errorf("%s: PlanMerge answers %v %s %q, want %v %s", c.name, f.Kind, f.Reason, f.Message, c.code, c.reason)
		}
		command, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.GetFlightInfo(context.WithoutCancel(t.Context()), &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: command})
		st := status.Convert(err)
		reason := ""
		for _, d := range st.Details() {
			if info, ok := d.(*errdetails.ErrorInfo); ok {
				reason = info.GetReason()
			}
		}
		if st.Code() != c.code || reason != string(c.reason) || st.Message() != f.Message {
			t.Errorf("%s: GetFlightInfo answers %v %s %q, PlanMerge %q", c.name, st.Code(), reason, st.Message(), f.Message)
		}
	}
}
