package schema_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
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

	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
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

// working waits until so many streams are at work, each in its transaction.
func (k *taker) working(n int) {
	k.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		var busy int
		if err := k.pool.QueryRow(k.t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'`).Scan(&busy); err != nil {
			k.t.Fatal(err)
		}
		if busy == n {
			return
		}
		if time.Now().After(deadline) {
			k.t.Fatalf("%d streams are at work, want %d", busy, n)
		}
	}
}

func jsonReader(text string) io.Reader { return strings.NewReader(text) }
