package schema_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowflight "github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap/zaptest"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/pgtest"
	"github.com/rasterloom/rasterloom/internal/tile"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/schema"
)

// taker is a schema service that takes rasters, asked by its real protocols.
type taker struct {
	t       *testing.T
	pool    *pgxpool.Pool
	flight  arrowflight.FlightServiceClient
	layers  schemav1connect.SchemaServiceClient
	ingests schemav1connect.IngestServiceClient
}

func startTaker(t *testing.T, cfg schema.IngestConfig) *taker {
	t.Helper()
	url := pgtest.URL(t)
	log := zaptest.NewLogger(t)
	service, err := schema.New(t.Context(), schema.Config{DatabaseURL: url, Ingest: cfg}, boot.Deps{Log: log, FlightURI: "grpc://schema.test:7421"})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for path, handler := range service.Handlers {
		mux.Handle(path, handler)
	}
	edge := httptest.NewServer(wire.Edge(log, access.Everybody(), mux))
	server, err := boot.NewFlightServer(log, access.Everybody(), nil, service)
	if err != nil {
		t.Fatal(err)
	}
	listener := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.GracefulStop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		edge.Close()
		service.Close()
	})
	return &taker{
		t: t, pool: pgtest.Connect(t, url), flight: arrowflight.NewClientFromConn(conn, nil),
		layers:  schemav1connect.NewSchemaServiceClient(edge.Client(), edge.URL),
		ingests: schemav1connect.NewIngestServiceClient(edge.Client(), edge.URL),
	}
}

// specOf describes a raster of so many cells.
func specOf(name string, rows, cols int64, t layer.DataType) *schemav1.IngestSpec {
	return &schemav1.IngestSpec{
		Name: name, DataType: wire.ToDataType(t),
		Lattice: &schemav1.IngestSpec_Grid{Grid: &gridv1.Grid{Crs: "EPSG:32633", Rows: rows, Cols: cols, OriginX: 500000, OriginY: 5600000, StepX: 10, StepY: 10}},
	}
}

var arrowTypes = map[layer.DataType]arrow.DataType{
	layer.Uint8: arrow.PrimitiveTypes.Uint8, layer.Int8: arrow.PrimitiveTypes.Int8, layer.Uint16: arrow.PrimitiveTypes.Uint16,
	layer.Int16: arrow.PrimitiveTypes.Int16, layer.Uint32: arrow.PrimitiveTypes.Uint32, layer.Int32: arrow.PrimitiveTypes.Int32,
	layer.Int64: arrow.PrimitiveTypes.Int64, layer.Float32: arrow.PrimitiveTypes.Float32, layer.Float64: arrow.PrimitiveTypes.Float64,
}

func cellsSchema(t layer.DataType) *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{{Name: "row", Type: arrow.PrimitiveTypes.Int32}, {Name: "col", Type: arrow.PrimitiveTypes.Int32}, {Name: "value", Type: arrowTypes[t], Nullable: true}}, nil)
}

func blocksSchema(t layer.DataType) *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{{Name: "tile_row", Type: arrow.PrimitiveTypes.Int32}, {Name: "tile_col", Type: arrow.PrimitiveTypes.Int32}, {Name: "values", Type: arrow.FixedSizeListOf(tile.Cells, arrowTypes[t])}}, nil)
}

// put is one stream, by hand.
type put struct {
	t      *testing.T
	stream arrowflight.FlightService_DoPutClient
	writer *arrowflight.Writer
	rows   int64
}

// begin begins a stream with the spec as JSON.
func (k *taker) begin(spec *schemav1.IngestSpec, s *arrow.Schema) *put {
	k.t.Helper()
	command, err := protojson.Marshal(spec)
	if err != nil {
		k.t.Fatal(err)
	}
	return k.beginCommand(k.t.Context(), command, s)
}

func (k *taker) beginCommand(ctx context.Context, command []byte, s *arrow.Schema, o ...ipc.Option) *put {
	k.t.Helper()
	stream, err := k.flight.DoPut(ctx)
	if err != nil {
		k.t.Fatal(err)
	}
	p := &put{t: k.t, stream: stream, writer: arrowflight.NewRecordWriter(stream, append(o, ipc.WithSchema(s))...)}
	p.writer.SetFlightDescriptor(&arrowflight.FlightDescriptor{Type: arrowflight.DescriptorCMD, Cmd: command})
	// The writer sends the schema with the first batch; one without rows means nothing.
	return p.send(array.NewRecordBuilder(memory.DefaultAllocator, s).NewRecordBatch())
}

// write sends a batch, given as JSON, and ignores that the server may have ended.
func (p *put) write(s *arrow.Schema, rows string) *put {
	p.t.Helper()
	record, _, err := array.RecordFromJSON(memory.DefaultAllocator, s, jsonReader(rows))
	if err != nil {
		p.t.Fatal(err)
	}
	defer record.Release()
	return p.send(record)
}

func (p *put) send(record arrow.RecordBatch) *put {
	p.rows += record.NumRows()
	_ = p.writer.Write(record)
	return p
}

// close sends the closing words, whatever they are.
func (p *put) close(words string) *put {
	_ = p.stream.Send(&arrowflight.FlightData{AppMetadata: []byte(words)})
	return p
}

// result ends the stream and gives what the server says.
func (p *put) result() (putResult, error) {
	_ = p.writer.Close()
	_ = p.stream.CloseSend()
	var out putResult
	answer, err := p.stream.Recv()
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(answer.GetAppMetadata(), &out); err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.stream.Recv(); !errors.Is(err, io.EOF) {
		p.t.Errorf("after the result came %v", err)
	}
	return out, nil
}

// done closes the stream as it should be, and gives the result.
func (p *put) done() (putResult, error) {
	return p.close(fmt.Sprintf(`{"complete": true, "rows": %d}`, p.rows)).result()
}

type putResult struct {
	Layer                           string
	Generation, Cells, Tiles, Bytes int64
	Repeated                        bool
}

func (k *taker) must(r putResult, err error) putResult {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
	return r
}

// reasonOf gives code and reason of an error of Flight.
func reasonOf(err error) (grpccodes.Code, string, map[string]string) {
	s := status.Convert(err)
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return s.Code(), info.GetReason(), info.GetMetadata()
		}
	}
	return s.Code(), "", nil
}

func (k *taker) layer(name string) layer.Layer {
	k.t.Helper()
	res, err := k.layers.GetLayer(k.t.Context(), connect.NewRequest(&schemav1.GetLayerRequest{Name: name}))
	if err != nil {
		k.t.Fatal(err)
	}
	l, err := wire.FromLayer(res.Msg.GetLayer())
	if err != nil {
		k.t.Fatal(err)
	}
	return l
}

// leftovers are the tables of tiles that no layer has, and the number of layers.
func (k *taker) leftovers() (tables, layers int) {
	k.t.Helper()
	err := k.pool.QueryRow(k.t.Context(), `SELECT
		(SELECT count(*) FROM pg_class c WHERE c.relnamespace = 'rasterloom_tiles'::regnamespace AND c.relkind = 'r' AND NOT EXISTS (SELECT FROM rasterloom.layer l WHERE l.table_oid = c.oid)),
		(SELECT count(*) FROM rasterloom.layer)`).Scan(&tables, &layers)
	if err != nil {
		k.t.Fatal(err)
	}
	return tables, layers
}

// stored reads a layer's tiles with nothing but SQL and the codec: cell by cell,
// nil where there is none.
func stored[T layer.Value](k *taker, name string) [][]*T {
	k.t.Helper()
	l := k.layer(name)
	decoder, err := tile.NewDecoder[T](l)
	if err != nil {
		k.t.Fatal(err)
	}
	out := make([][]*T, l.Grid.Rows)
	for r := range out {
		out[r] = make([]*T, l.Grid.Cols)
	}
	rows, err := k.pool.Query(k.t.Context(), fmt.Sprintf("SELECT tile_row, tile_col, cells, min, max, valid, data FROM %q.%q", l.Table.Schema, l.Table.Name))
	if err != nil {
		k.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var e tile.Encoded
		if err := rows.Scan(&e.Row, &e.Col, &e.Cells, &e.Min, &e.Max, &e.Valid, &e.Data); err != nil {
			k.t.Fatal(err)
		}
		values, valid, err := decoder.Decode(&tile.Scratch{}, e)
		if err != nil {
			k.t.Fatal(err)
		}
		w := tile.Window(l.Grid, e.Row, e.Col)
		for r := w.RowStart; r < w.RowStop; r++ {
			for c := w.ColStart; c < w.ColStop; c++ {
				at := (r-w.RowStart)*tile.Side + c - w.ColStart
				if valid == nil || valid[at>>6]>>(at&63)&1 == 1 {
					out[r][c] = new(values[at])
				}
			}
		}
	}
	if rows.Err() != nil {
		k.t.Fatal(rows.Err())
	}
	return out
}

// roundTrip sends a raster of random values in each form and compares it with what
// is stored, bit for bit.
func roundTrip[T layer.Value](t *testing.T, k *taker) {
	t.Helper()
	typ := layer.TypeOf[T]()
	rng := rand.New(rand.NewPCG(7, uint64(typ)))
	const rows, cols = 300, 515
	nodata := T(7)
	want := make([][]*T, rows)
	for r := range want {
		want[r] = make([]*T, cols)
		for c := range want[r] {
			switch v := T(rng.Uint64()); {
			case rng.IntN(5) == 0 || v == nodata:
			case r < 256 && c >= 256 && c < 512: // a tile without a value
			default:
				want[r][c] = new(v)
			}
		}
	}
	// What is missing is sent as null, as nodata, and as NaN.
	sent := func(r, c int) (T, bool) {
		if v := want[r][c]; v != nil {
			return *v, true
		}
		if nan := T(0); (typ == layer.Float32 || typ == layer.Float64) && (r+c)%3 == 0 {
			zero := nan
			return zero / nan, true
		}
		return nodata, (r+c)%3 == 1
	}
	check := func(form string, r putResult) {
		t.Helper()
		if r.Generation != 1 || r.Tiles != 5 || r.Repeated {
			t.Errorf("%s as %s: %+v", typ, form, r)
		}
		got, n := stored[T](k, r.Layer), int64(0)
		for r := range want {
			for c := range want[r] {
				a, b := got[r][c], want[r][c]
				if b != nil {
					n++
				}
				if (a == nil) != (b == nil) || a != nil && math.Float64bits(float64(*a)) != math.Float64bits(float64(*b)) {
					t.Fatalf("%s as %s: cell (%d, %d) is %v, want %v", typ, form, r, c, a, b)
				}
			}
		}
		l := k.layer(r.Layer)
		if r.Cells != n || l.StoredType != typ || l.DeclaredType != typ || *l.Nodata != float64(nodata) || l.Format != layer.FormatTiled || l.Grid.Cols != cols {
			t.Errorf("%s as %s: %d cells, want %d, in %+v", typ, form, r.Cells, n, l)
		}
	}
	spec := func(form string) *schemav1.IngestSpec {
		s := specOf(form+"_"+typ.String(), rows, cols, typ)
		s.Nodata = new(float64(nodata))
		return s
	}

	s := blocksSchema(typ)
	p := k.begin(spec("blocks"), s)
	for tr := range 2 {
		for _, tc := range []int{2, 0, 1} { // any order in a row of tiles
			b := array.NewRecordBuilder(memory.DefaultAllocator, s)
			b.Field(0).(*array.Int32Builder).Append(int32(tr))
			b.Field(1).(*array.Int32Builder).Append(int32(tc))
			list := b.Field(2).(*array.FixedSizeListBuilder)
			list.Append(true)
			for i := range tile.Cells {
				r, c := tr*tile.Side+i/tile.Side, tc*tile.Side+i%tile.Side
				if r >= rows || c >= cols {
					appendValue(list.ValueBuilder(), T(i), true) // what is outside of the grid is nothing
					continue
				}
				v, valid := sent(r, c)
				appendValue(list.ValueBuilder(), v, valid)
			}
			p.send(b.NewRecordBatch())
		}
	}
	check("blocks", k.must(p.done()))

	places := rng.Perm(rows * cols)
	s = cellsSchema(typ)
	p = k.begin(spec("cells"), s)
	for part := range slices.Chunk(places, 50_001) {
		b := array.NewRecordBuilder(memory.DefaultAllocator, s)
		for _, at := range part {
			v, valid := sent(at/cols, at%cols)
			b.Field(0).(*array.Int32Builder).Append(int32(at / cols))
			b.Field(1).(*array.Int32Builder).Append(int32(at % cols))
			appendValue(b.Field(2), v, valid)
		}
		p.send(b.NewRecordBatch())
	}
	check("cells", k.must(p.done()))
}

func appendValue[T layer.Value](into array.Builder, v T, valid bool) {
	if !valid {
		into.AppendNull()
		return
	}
	switch b := into.(type) {
	case *array.Uint8Builder:
		b.Append(uint8(v))
	case *array.Int8Builder:
		b.Append(int8(v))
	case *array.Uint16Builder:
		b.Append(uint16(v))
	case *array.Int16Builder:
		b.Append(int16(v))
	case *array.Uint32Builder:
		b.Append(uint32(v))
	case *array.Int32Builder:
		b.Append(int32(v))
	case *array.Int64Builder:
		b.Append(int64(v))
	case *array.Float32Builder:
		b.Append(float32(v))
	case *array.Float64Builder:
		b.Append(float64(v))
	}
}

// Every type comes back bit for bit, whether sent as blocks or as cells.
func TestIngestKeepsEveryValue(t *testing.T) {
	k := startTaker(t, schema.IngestConfig{})
	roundTrip[uint8](t, k)
	roundTrip[int8](t, k)
	roundTrip[uint16](t, k)
	roundTrip[int16](t, k)
	roundTrip[uint32](t, k)
	roundTrip[int32](t, k)
	roundTrip[int64](t, k)
	roundTrip[float32](t, k)
	roundTrip[float64](t, k)
	if tables, layers := k.leftovers(); tables != 0 || layers != 18 {
		t.Errorf("%d tables too many, %d layers", tables, layers)
	}
}

// Points are the centres of cells, given in units of the CRS.
func TestIngestPoints(t *testing.T) {
	k := startTaker(t, schema.IngestConfig{})
	s := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Float64}, {Name: "y", Type: arrow.PrimitiveTypes.Float64}, {Name: "value", Type: arrow.PrimitiveTypes.Int16}}, nil)
	r := k.must(k.begin(specOf("points", 4, 6, layer.Int16), s).write(s, `[{"x": 500005, "y": 5599995, "value": 1}, {"x": 500055.4, "y": 5599965.4, "value": 2}]`).done())
	got := stored[int16](k, "points")
	if r.Cells != 2 || *got[0][0] != 1 || *got[3][5] != 2 {
		t.Errorf("%+v, %v", r, got)
	}
}

// What a stream must not hold is refused with its reason, and nothing is stored.
func TestIngestRefuses(t *testing.T) {
	k := startTaker(t, schema.IngestConfig{MaxBytes: 200_000, MaxCells: 1 << 20, MemoryBytes: 2 << 20})
	cells, blocks := cellsSchema(layer.Int16), blocksSchema(layer.Int16)
	spec := specOf("refused", 4, 6, layer.Int16)
	command, err := protojson.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	one := `[{"row": 0, "col": 0, "value": 1}]`
	fields := func(f ...arrow.Field) *arrow.Schema { return arrow.NewSchema(f, nil) }
	i32, i16 := arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int16
	row, col := arrow.Field{Name: "row", Type: i32, Nullable: true}, arrow.Field{Name: "col", Type: i32, Nullable: true}
	nullable := fields(row, col, arrow.Field{Name: "value", Type: i16})
	points := fields(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Float64}, arrow.Field{Name: "y", Type: arrow.PrimitiveTypes.Float64}, arrow.Field{Name: "value", Type: i16})
	with := func(change func(*schemav1.IngestSpec)) []byte {
		s := proto.CloneOf(spec)
		change(s)
		command, err := proto.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return command
	}
	begin := func(s *arrow.Schema) *put { return k.beginCommand(t.Context(), command, s) }
	commanded := func(command []byte) func() (putResult, error) {
		return func() (putResult, error) {
			return k.beginCommand(t.Context(), command, cells).write(cells, one).done()
		}
	}
	raw := func(messages ...*arrowflight.FlightData) func() (putResult, error) {
		return func() (putResult, error) {
			stream, err := k.flight.DoPut(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range messages {
				_ = stream.Send(m)
			}
			return (&put{t: t, stream: stream, writer: arrowflight.NewRecordWriter(stream, ipc.WithSchema(cells))}).result()
		}
	}
	descriptor := &arrowflight.FlightDescriptor{Type: arrowflight.DescriptorCMD, Cmd: command}
	captured := capture(t, cells, one)
	const (
		invalid = grpccodes.InvalidArgument
		limit   = grpccodes.ResourceExhausted
	)
	for name, c := range map[string]struct {
		send   func() (putResult, error)
		code   grpccodes.Code
		reason string
	}{
		"nothing":                    {raw(), invalid, "INVALID_ARGUMENT"},
		"no descriptor":              {raw(&arrowflight.FlightData{DataHeader: captured[0].DataHeader}), invalid, "INVALID_ARGUMENT"},
		"a path":                     {raw(&arrowflight.FlightData{FlightDescriptor: &arrowflight.FlightDescriptor{Type: arrowflight.DescriptorPATH, Path: []string{"x"}}, DataHeader: captured[0].DataHeader}), invalid, "INVALID_ARGUMENT"},
		"empty messages":             {raw(&arrowflight.FlightData{}, &arrowflight.FlightData{}), invalid, "INVALID_ARGUMENT"},
		"a descriptor alone":         {raw(&arrowflight.FlightData{FlightDescriptor: descriptor}), invalid, "INVALID_ARGUMENT"},
		"a garbage header":           {raw(&arrowflight.FlightData{FlightDescriptor: descriptor, DataHeader: []byte("garbage, and not a header")}), invalid, "INVALID_ARGUMENT"},
		"a batch before the schema":  {raw(&arrowflight.FlightData{FlightDescriptor: descriptor, DataHeader: captured[1].DataHeader, DataBody: captured[1].DataBody}), invalid, "INVALID_ARGUMENT"},
		"a second schema":            {raw(&arrowflight.FlightData{FlightDescriptor: descriptor, DataHeader: captured[0].DataHeader}, captured[0]), invalid, "INVALID_ARGUMENT"},
		"a garbage batch":            {raw(&arrowflight.FlightData{FlightDescriptor: descriptor, DataHeader: captured[0].DataHeader}, &arrowflight.FlightData{DataHeader: []byte{4, 0, 0, 0, 255, 255, 255, 255}}), invalid, "INVALID_ARGUMENT"},
		"a body cut off":             {raw(&arrowflight.FlightData{FlightDescriptor: descriptor, DataHeader: captured[0].DataHeader}, &arrowflight.FlightData{DataHeader: captured[1].DataHeader, DataBody: captured[1].DataBody[:8]}), limit, "LIMIT_EXCEEDED"},
		"a body without a header":    {raw(&arrowflight.FlightData{FlightDescriptor: descriptor, DataHeader: captured[0].DataHeader}, &arrowflight.FlightData{DataBody: []byte{1}}), invalid, "INVALID_ARGUMENT"},
		"no command":                 {commanded(nil), invalid, ""},
		"a garbage command":          {commanded([]byte("\xff\xff\xff")), invalid, "INVALID_ARGUMENT"},
		"a garbage JSON command":     {commanded([]byte(`{"nam": 1}`)), invalid, "INVALID_ARGUMENT"},
		"an empty name":              {commanded(with(func(s *schemav1.IngestSpec) { s.Name = "" })), invalid, "INVALID_ARGUMENT"},
		"a name of 64 bytes":         {commanded(with(func(s *schemav1.IngestSpec) { s.Name = string(make([]byte, 64)) })), invalid, "INVALID_ARGUMENT"},
		"a name of SQL":              {commanded(with(func(s *schemav1.IngestSpec) { s.Name = `x"; DROP TABLE y; --` })), invalid, "INVALID_ARGUMENT"},
		"a name that turns the text": {commanded(with(func(s *schemav1.IngestSpec) { s.Name = "x\u202ey" })), invalid, "INVALID_ARGUMENT"},
		"no type":                    {commanded(with(func(s *schemav1.IngestSpec) { s.DataType = 0 })), invalid, "INVALID_ARGUMENT"},
		"no grid":                    {commanded(with(func(s *schemav1.IngestSpec) { s.Lattice = nil })), invalid, "INVALID_ARGUMENT"},
		"a step of 0":                {commanded(with(func(s *schemav1.IngestSpec) { s.GetGrid().StepX = 0 })), invalid, "INVALID_GRID"},
		"a step below 0":             {commanded(with(func(s *schemav1.IngestSpec) { s.GetGrid().StepY = -1 })), invalid, "INVALID_GRID"},
		"an origin of NaN":           {commanded(with(func(s *schemav1.IngestSpec) { s.GetGrid().OriginX = math.NaN() })), invalid, "INVALID_GRID"},
		"a grid too large":           {commanded(with(func(s *schemav1.IngestSpec) { s.GetGrid().Rows = 1 << 19 })), limit, "LIMIT_EXCEEDED"},
		"the grid of no layer":       {commanded(with(func(s *schemav1.IngestSpec) { s.SameGridAs = "nobody" })), grpccodes.NotFound, "LAYER_NOT_FOUND"},
		"a generation of nothing":    {commanded(with(func(s *schemav1.IngestSpec) { s.Mode, s.ReplaceGeneration = 2, 3 })), grpccodes.Aborted, "LAYER_CHANGED"},
		"a generation that is kept":  {commanded(with(func(s *schemav1.IngestSpec) { s.ReplaceGeneration = 3 })), invalid, "INVALID_ARGUMENT"},
		"another type":               {func() (putResult, error) { s := cellsSchema(layer.Int32); return begin(s).write(s, one).done() }, invalid, "INVALID_ARGUMENT"},
		"a text": {func() (putResult, error) {
			s := fields(row, col, arrow.Field{Name: "value", Type: arrow.BinaryTypes.String})
			return begin(s).done()
		}, invalid, "INVALID_ARGUMENT"},
		"a dictionary": {func() (putResult, error) {
			s := fields(row, col, arrow.Field{Name: "value", Type: &arrow.DictionaryType{IndexType: i32, ValueType: i16}})
			return begin(s).done()
		}, invalid, "INVALID_ARGUMENT"},
		"a view": {func() (putResult, error) {
			s := fields(row, col, arrow.Field{Name: "value", Type: arrow.BinaryTypes.StringView})
			return begin(s).done()
		}, invalid, "INVALID_ARGUMENT"},
		"a list": {func() (putResult, error) {
			s := fields(row, col, arrow.Field{Name: "value", Type: arrow.ListOf(i16)})
			return begin(s).done()
		}, invalid, "INVALID_ARGUMENT"},
		"an int64 index": {func() (putResult, error) {
			s := fields(arrow.Field{Name: "row", Type: arrow.PrimitiveTypes.Int64}, col, arrow.Field{Name: "value", Type: i16})
			return begin(s).done()
		}, invalid, "INVALID_ARGUMENT"},
		"a column too many": {func() (putResult, error) {
			s := fields(row, col, arrow.Field{Name: "value", Type: i16}, arrow.Field{Name: "more", Type: i16})
			return begin(s).done()
		}, invalid, "INVALID_ARGUMENT"},
		"a thousand columns": {func() (putResult, error) {
			s := fields(slices.Repeat([]arrow.Field{row}, 1000)...)
			return begin(s).done()
		}, invalid, "INVALID_ARGUMENT"},
		"blocks of another size": {func() (putResult, error) {
			s := fields(arrow.Field{Name: "tile_row", Type: i32}, arrow.Field{Name: "tile_col", Type: i32}, arrow.Field{Name: "values", Type: arrow.FixedSizeListOf(64, i16)})
			return begin(s).done()
		}, invalid, "INVALID_ARGUMENT"},
		"a NULL index": {func() (putResult, error) {
			return begin(nullable).write(nullable, `[{"row": 0, "col": null, "value": 1}]`).done()
		}, invalid, "INVALID_ARGUMENT"},
		"a negative index": {func() (putResult, error) {
			return begin(cells).write(cells, `[{"row": -1, "col": 0, "value": 1}]`).done()
		}, invalid, "CELL_OFF_GRID"},
		"an index too large": {func() (putResult, error) {
			return begin(cells).write(cells, `[{"row": 0, "col": 6, "value": 1}]`).done()
		}, invalid, "CELL_OFF_GRID"},
		"a cell twice": {func() (putResult, error) { return begin(cells).write(cells, one).write(cells, one).done() }, invalid, "DUPLICATE_CELL"},
		"a null cell twice": {func() (putResult, error) {
			return begin(cells).write(cells, `[{"row": 1, "col": 1, "value": null}, {"row": 1, "col": 1, "value": null}]`).done()
		}, invalid, "DUPLICATE_CELL"},
		"a point of NaN": {func() (putResult, error) {
			return begin(points).write(points, `[{"x": "NaN", "y": 5599995, "value": 1}]`).done()
		}, invalid, "CELL_OFF_GRID"},
		"a point off the lattice": {func() (putResult, error) {
			return begin(points).write(points, `[{"x": 500006, "y": 5599995, "value": 1}]`).done()
		}, invalid, "CELL_OFF_GRID"},
		"a point outside": {func() (putResult, error) {
			return begin(points).write(points, `[{"x": 499995, "y": 5599995, "value": 1}]`).done()
		}, invalid, "CELL_OFF_GRID"},
		"a block outside":           {func() (putResult, error) { return begin(blocks).send(block(0, 1)).done() }, invalid, "CELL_OFF_GRID"},
		"a block north of the grid": {func() (putResult, error) { return begin(blocks).send(block(-1, 0)).done() }, invalid, "CELL_OFF_GRID"},
		"a block twice":             {func() (putResult, error) { return begin(blocks).send(block(0, 0)).send(block(0, 0)).done() }, invalid, "DUPLICATE_CELL"},
		"blocks out of order": {func() (putResult, error) {
			return k.beginCommand(t.Context(), with(func(s *schemav1.IngestSpec) { s.GetGrid().Rows = 600 }), blocks).send(block(1, 0)).send(block(0, 0)).done()
		}, invalid, "INVALID_ARGUMENT"},
		"more bytes than the limit": {func() (putResult, error) {
			return k.beginCommand(t.Context(), with(func(s *schemav1.IngestSpec) { s.GetGrid().Rows = 600 }), blocks).send(block(0, 0)).send(block(1, 0)).done()
		}, limit, "LIMIT_EXCEEDED"},
		"a message too large": {func() (putResult, error) { return begin(blocks).send(block(0, 0, 40)).done() }, limit, ""},
		"zstd bodies": {func() (putResult, error) {
			return k.beginCommand(t.Context(), command, cells, ipc.WithZstd()).write(cells, one).done()
		}, limit, "LIMIT_EXCEEDED"},
		"lz4 bodies": {func() (putResult, error) {
			return k.beginCommand(t.Context(), command, cells, ipc.WithLZ4()).write(cells, one).done()
		}, limit, "LIMIT_EXCEEDED"},
		"an early end":              {func() (putResult, error) { return begin(cells).write(cells, one).result() }, invalid, "INVALID_ARGUMENT"},
		"no closing and no rows":    {func() (putResult, error) { return begin(cells).result() }, invalid, "INVALID_ARGUMENT"},
		"a closing that is none":    {func() (putResult, error) { return begin(cells).write(cells, one).close(`{"complete": true}`).result() }, invalid, "INVALID_ARGUMENT"},
		"a closing that is no JSON": {func() (putResult, error) { return begin(cells).write(cells, one).close(`"complete"!`).result() }, invalid, "INVALID_ARGUMENT"},
		"a message of other words":  {func() (putResult, error) { return begin(cells).write(cells, one).close(`hello`).result() }, invalid, "INVALID_ARGUMENT"},
		"an unfinished closing": {func() (putResult, error) {
			return begin(cells).write(cells, one).close(`{"complete": false, "rows": 1}`).result()
		}, invalid, "INVALID_ARGUMENT"},
		"another number of rows": {func() (putResult, error) {
			return begin(cells).write(cells, one).close(`{"complete": true, "rows": 2}`).result()
		}, grpccodes.DataLoss, "DATA_CORRUPT"},
		"another hash": {func() (putResult, error) {
			return begin(cells).write(cells, one).close(`{"complete": true, "rows": 1, "hash": "xxh3-128:0"}`).result()
		}, grpccodes.DataLoss, "DATA_CORRUPT"},
		"rows after the closing": {func() (putResult, error) {
			return begin(cells).write(cells, one).close(`{"complete": true, "rows": 1}`).write(cells, `[{"row": 1, "col": 0, "value": 1}]`).result()
		}, invalid, "INVALID_ARGUMENT"},
		"cells in more tiles than memory":  {commanded2(k, with, cells), limit, "LIMIT_EXCEEDED"},
		"a cell for rows that are written": {lateCells(k, with, cells), invalid, "INVALID_ARGUMENT"},
	} {
		_, err := c.send()
		code, reason, _ := reasonOf(err)
		if err == nil || code != c.code || reason != c.reason && c.reason != "" {
			t.Errorf("%s: %v %s: %v; want %v %s", name, code, reason, err, c.code, c.reason)
		}
		if tables, layers := k.leftovers(); tables != 0 || layers != 0 {
			t.Fatalf("%s: %d tables and %d layers are there", name, tables, layers)
		}
	}
	// The service is as good as before.
	if r := k.must(begin(cells).write(cells, one).done()); r.Cells != 1 {
		t.Errorf("%+v", r)
	}
}

// commanded2 sends cells into more tiles than the memory holds, all in one row.
func commanded2(k *taker, with func(func(*schemav1.IngestSpec)) []byte, s *arrow.Schema) func() (putResult, error) {
	return func() (putResult, error) {
		p := k.beginCommand(k.t.Context(), with(func(s *schemav1.IngestSpec) { s.GetGrid().Cols = 1 << 16 }), s)
		for col := 0; col < 1<<16; col += tile.Side {
			p.write(s, fmt.Sprintf(`[{"row": 0, "col": %d, "value": 1}]`, col))
		}
		return p.done()
	}
}

// lateCells sends cells of so many rows that the first ones are written, and then
// one of the first row.
func lateCells(k *taker, with func(func(*schemav1.IngestSpec)) []byte, s *arrow.Schema) func() (putResult, error) {
	return func() (putResult, error) {
		p := k.beginCommand(k.t.Context(), with(func(s *schemav1.IngestSpec) { s.GetGrid().Rows = 1 << 14 }), s)
		for row := 0; row < 1<<14; row += tile.Side {
			p.write(s, fmt.Sprintf(`[{"row": %d, "col": 0, "value": 1}]`, row))
		}
		return p.write(s, `[{"row": 1, "col": 0, "value": 1}]`).done()
	}
}

// block is a batch of a block of int16, or of the same one some times.
func block(row, col int32, times ...int) arrow.RecordBatch {
	n := 1
	if len(times) > 0 {
		n = times[0]
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, blocksSchema(layer.Int16))
	for range n {
		b.Field(0).(*array.Int32Builder).Append(row)
		b.Field(1).(*array.Int32Builder).Append(col)
		list := b.Field(2).(*array.FixedSizeListBuilder)
		list.Append(true)
		list.ValueBuilder().(*array.Int16Builder).AppendValues(make([]int16, tile.Cells), nil)
	}
	return b.NewRecordBatch()
}

// capture gives the messages that a client sends: schema and batch.
func capture(t *testing.T, s *arrow.Schema, rows string) []*arrowflight.FlightData {
	t.Helper()
	record, _, err := array.RecordFromJSON(memory.DefaultAllocator, s, jsonReader(rows))
	if err != nil {
		t.Fatal(err)
	}
	var messages recorder
	w := arrowflight.NewRecordWriter(&messages, ipc.WithSchema(s))
	if err := errors.Join(w.Write(record), w.Close()); err != nil || len(messages) < 2 {
		t.Fatal(err, len(messages))
	}
	return messages
}

type recorder []*arrowflight.FlightData

func (r *recorder) Send(m *arrowflight.FlightData) error {
	*r = append(*r, proto.CloneOf(m))
	return nil
}

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

// Streams are limited in number and in their silence, and exclude each other on a layer.
func TestIngestLimitsStreams(t *testing.T) {
	k := startTaker(t, schema.IngestConfig{Streams: 2, StallLimit: 300 * time.Millisecond})
	s := cellsSchema(layer.Int16)
	one := `[{"row": 3, "col": 5, "value": 1}]`
	first := k.begin(specOf("a", 4, 6, layer.Int16), s).write(s, one)
	wait := func(n int) {
		t.Helper()
		for range 500 {
			var busy int
			if err := k.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'`).Scan(&busy); err != nil {
				t.Fatal(err)
			}
			if busy == n {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("never %d streams at work", n)
	}
	wait(1)
	if _, err := k.begin(specOf("a", 4, 6, layer.Int16), s).done(); status.Code(err) != grpccodes.Aborted {
		t.Errorf("two streams into one layer: %v", err)
	}
	second := k.begin(specOf("b", 4, 6, layer.Int16), s).write(s, one)
	wait(2)
	if _, err := k.begin(specOf("c", 4, 6, layer.Int16), s).done(); status.Code(err) != grpccodes.ResourceExhausted {
		t.Errorf("three streams: %v", err)
	}
	// Both say nothing more, and are dropped.
	for _, p := range []*put{first, second} {
		_, err := p.stream.Recv()
		if code, reason, _ := reasonOf(err); code != grpccodes.ResourceExhausted || reason != "LIMIT_EXCEEDED" {
			t.Errorf("a stalled stream: %v", err)
		}
	}
	wait(0)
	if tables, layers := k.leftovers(); tables != 0 || layers != 0 {
		t.Errorf("%d tables, %d layers", tables, layers)
	}
	k.must(k.begin(specOf("a", 4, 6, layer.Int16), s).write(s, one).done())
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
	cancel()
	if _, err := p.stream.Recv(); status.Code(err) != grpccodes.Canceled {
		t.Errorf("%v", err)
	}
	// Its place is free again soon: another stream of the layer is taken.
	for range 500 {
		var r putResult
		if r, err = k.begin(specOf("gone", 4, 6, layer.Int16), s).done(); err == nil {
			if r.Cells != 0 || r.Tiles != 0 {
				t.Errorf("%+v", r)
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal(err)
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

func jsonReader(text string) io.Reader { return strings.NewReader(text) }
