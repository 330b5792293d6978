package merger

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
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/zeebo/xxh3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1/mergerv1connect"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/pgstore"
	"github.com/rasterloom/rasterloom/internal/pgtest"
	"github.com/rasterloom/rasterloom/internal/tile"
	"github.com/rasterloom/rasterloom/internal/wire"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// patience is far more than anything here takes: a test that waits for it fails.
const patience = 2 * time.Minute

// suite is a merger on a database of its own, asked by its real protocols.
type suite struct {
	pool    *pgxpool.Pool
	peers   *peers
	rpc     mergerv1connect.MergerServiceClient
	exports mergerv1connect.ExportServiceClient
	flight  arrowflight.FlightServiceClient
	// What the process writes down of itself, and how it is dialled.
	logs    *observer.ObservedLogs
	metrics *prometheus.Registry
	dial    func(context.Context) (net.Conn, error)
	server  *grpc.Server
	check   func(context.Context) error
}

func start(t testing.TB, cfg Config) *suite {
	t.Helper()
	allocator := memory.NewCheckedAllocator(memory.DefaultAllocator)
	s := &suite{}
	var others *httptest.Server
	s.peers, others = startPeers(t)
	if cfg.DatabaseURL == "" {
		cfg.DatabaseURL = pgtest.URL(t)
	}
	cfg.SchemaURL, cfg.AlignerURL = others.URL, others.URL
	core, logs := observer.New(zap.InfoLevel)
	s.logs, s.metrics = logs, prometheus.NewRegistry()
	service, err := build(t.Context(), cfg, boot.Deps{
		Log: zap.New(core), HTTPClient: others.Client(), FlightURI: "grpc://merger.test:7431", Metrics: s.metrics,
	}, allocator)
	if err != nil {
		t.Fatal(err)
	}
	if s.server, err = boot.NewFlightServer(zap.New(core), access.Everybody(), nil, service); err != nil {
		t.Fatal(err)
	}
	s.check = service.Check
	s.pool = pgtest.Connect(t, cfg.DatabaseURL)
	mux := http.NewServeMux()
	for path, handler := range service.Handlers {
		mux.Handle(path, handler)
	}
	edge := httptest.NewServer(wire.Edge(zap.NewNop(), access.Everybody(), mux))
	listener := bufconn.Listen(1 << 20)
	s.dial = func(ctx context.Context) (net.Conn, error) { return listener.DialContext(ctx) }
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<28)))
	if err != nil {
		t.Fatal(err)
	}
	s.rpc = mergerv1connect.NewMergerServiceClient(edge.Client(), edge.URL)
	s.exports = mergerv1connect.NewExportServiceClient(edge.Client(), edge.URL)
	s.flight = arrowflight.NewClientFromConn(conn, nil)
	t.Cleanup(func() {
		_ = conn.Close()
		s.server.GracefulStop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		edge.Close()
		service.Close()
		allocator.AssertSize(t, 0)
	})
	return s
}

// raster is a small raster in plain form: nil is a missing cell.
type raster struct {
	grid  grid.Grid
	cells [][]*float64
}

// put stores a raster as a layer of a format and catalogues it.
func (s *suite) put(t testing.TB, name string, format layer.Format, r raster) layer.Layer {
	t.Helper()
	l := layer.Layer{
		Name: name, Grid: r.grid, HasGrid: true, Format: format, StoredType: layer.Float64, DeclaredType: layer.Int16,
		Table: layer.Table{Schema: "public", Name: name}, Generation: 1, HasIndices: true, HasKey: true, Registration: grid.RegistrationCenter,
	}
	nodata := -9999.0
	columns := "row_idx int, col_idx int, value float8, PRIMARY KEY (row_idx, col_idx)"
	switch format {
	case layer.FormatTiled:
		l.HasIndices, l.Nodata = false, &nodata
		s.putTiles(t, &l, r)
		s.peers.put(l)
		return l
	case layer.FormatCoordinate: // coordinates alone, by corners, no key
		columns = "x_coord float8, y_coord float8, value float8"
		l.HasIndices, l.HasCoordinates, l.HasKey, l.Registration = false, true, false, grid.RegistrationUpperLeft
	case layer.FormatWindowed: // south-up, everything written out
		columns = "row_idx int, col_idx int, x_coord float8, y_coord float8, value float8, PRIMARY KEY (row_idx, col_idx)"
		l.HasCoordinates, l.SouthUp, l.Nodata = true, true, &nodata
	}
	var rows []string
	for i, row := range r.cells {
		for j, v := range row {
			value := "NULL"
			switch {
			case v != nil:
				value = fmt.Sprintf("%v::float8", *v)
			case format == layer.FormatWindowed:
				value = "-9999"
			case (i+j)%2 == 0:
				continue // absent
			}
			switch format {
			case layer.FormatCoordinate:
				x, y := r.grid.X(int64(j))-r.grid.StepX/2, r.grid.Y(int64(i))+r.grid.StepY/2
				rows = append(rows, fmt.Sprintf("(%v, %v, %s)", x, y, value))
			case layer.FormatWindowed:
				rows = append(rows, fmt.Sprintf("(%d, %d, %v, %v, %s)", r.grid.Rows-1-i, j, r.grid.X(int64(j)), r.grid.Y(int64(i)), value))
			default:
				rows = append(rows, fmt.Sprintf("(%d, %d, %s)", i, j, value))
			}
		}
	}
	s.exec(t, fmt.Sprintf("CREATE TABLE public.%q (%s)", name, columns))
	if len(rows) > 0 {
		s.exec(t, fmt.Sprintf("INSERT INTO public.%q VALUES ", name)+strings.Join(rows, ","))
	}
	s.peers.put(l)
	return l
}

// putTiles stores a raster as tiles, of a chain that depends on its name.
func (s *suite) putTiles(t testing.TB, l *layer.Layer, r raster) {
	t.Helper()
	l.Tiling = tile.LayoutOf(*l, tile.Chains()[len(l.Name)%3]).JSON()
	store, err := pgstore.Open(t.Context(), s.pool.Config().ConnString(), pgstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	tx, err := store.Change(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if l.Table, err = tx.CreateTileTable(t.Context(), *l); err != nil {
		t.Fatal(err)
	}
	encoder, err := tile.NewEncoder(*l)
	if err != nil {
		t.Fatal(err)
	}
	w := tx.TileWriter(l.Table, false)
	rows, cols := tile.Count(r.grid)
	values := make([]float64, tile.Cells)
	for n := range rows * cols {
		for i := range values {
			values[i] = *l.Nodata
			if row, col := n/cols*tile.Side+i/tile.Side, n%cols*tile.Side+i%tile.Side; row < r.grid.Rows && col < r.grid.Cols && r.cells[row][col] != nil {
				values[i] = *r.cells[row][col]
			}
		}
		e, err := encoder.Encode(int32(n/cols), int32(n%cols), values, nil)
		if err == nil {
			err = w.Write(t.Context(), e)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (s *suite) exec(t testing.TB, sql string) {
	t.Helper()
	if _, err := s.pool.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%v: %.200s", err, sql)
	}
}

// stream is what one endpoint sent.
type stream struct {
	schema   *arrow.Schema
	bodies   [][]byte // of every record batch, encoded
	rows     int64
	batches  int64
	metadata []string
	trailer  struct {
		Complete bool   `json:"complete"`
		Rows     int64  `json:"rows"`
		Batches  int64  `json:"batches"`
		Hash     string `json:"hash"`
		Layers   []struct {
			Name       string `json:"name"`
			Generation int64  `json:"generation"`
			Cells      int64  `json:"cells"`
		} `json:"layers"`
	}
	columns [][]*float64
}

// spy keeps the encoded messages beside handing them to Arrow's reader.
type spy struct {
	grpc.ServerStreamingClient[arrowflight.FlightData]
	bodies [][]byte
}

func (s *spy) Recv() (*arrowflight.FlightData, error) {
	data, err := s.ServerStreamingClient.Recv()
	if err == nil {
		if len(s.bodies) == 0 && len(data.GetAppMetadata()) > 0 {
			return nil, fmt.Errorf("the schema message has metadata %q", data.GetAppMetadata())
		}
		s.bodies = append(s.bodies, append(append([]byte{}, data.GetDataHeader()...), data.GetDataBody()...))
	}
	return data, err
}

// get reads an endpoint as docs/flight.md says, hash and all.
func (s *suite) get(ctx context.Context, ticket []byte) (*stream, error) {
	raw, err := s.flight.DoGet(ctx, &arrowflight.Ticket{Ticket: ticket})
	if err != nil {
		return nil, err
	}
	watched := &spy{ServerStreamingClient: raw}
	reader, err := arrowflight.NewRecordReader(watched)
	if err != nil {
		return nil, err
	}
	defer reader.Release()
	out := &stream{schema: reader.Schema(), columns: make([][]*float64, reader.Schema().NumFields())}
	values, masks := make([]*xxh3.Hasher, len(out.columns)), make([]*xxh3.Hasher, len(out.columns))
	for i := range values {
		values[i], masks[i] = xxh3.New(), xxh3.New()
	}
	for {
		record, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return out, err
		}
		metadata := string(reader.LatestAppMetadata())
		if out.trailer.Complete {
			return out, fmt.Errorf("a message follows the trailer")
		}
		if record.NumRows() == 0 {
			if err := json.Unmarshal([]byte(metadata), &out.trailer); err != nil {
				return out, err
			}
			continue
		}
		out.metadata = append(out.metadata, metadata)
		out.rows += record.NumRows()
		out.batches++
		for i, column := range record.Columns() {
			width := column.DataType().(arrow.FixedWidthDataType).Bytes()
			_, _ = values[i].Write(column.Data().Buffers()[1].Bytes()[:column.Len()*width])
			for j := range column.Len() {
				mask := byte(1)
				var v *float64
				if column.IsNull(j) {
					mask = 0
				} else {
					v = new(number(column, j))
				}
				_, _ = masks[i].Write([]byte{mask})
				out.columns[i] = append(out.columns[i], v)
			}
		}
	}
	out.bodies = watched.bodies
	text := fmt.Sprintf("rasterloom 1 %d\n", out.rows)
	for i, f := range out.schema.Fields() {
		mask := "-"
		if f.Nullable {
			mask = fmt.Sprintf("%x", masks[i].Sum128().Bytes())
		}
		text += fmt.Sprintf("%s %x %s %s\n", f.Type.Name(), values[i].Sum128().Bytes(), mask, f.Name)
	}
	hash := fmt.Sprintf("xxh3-128:%x", xxh3.HashString128(strings.ReplaceAll(text, "\ndouble", "\nfloat64")).Bytes())
	if !out.trailer.Complete || out.trailer.Rows != out.rows || out.trailer.Batches != out.batches || out.trailer.Hash != hash {
		return out, fmt.Errorf("trailer %+v, and there are %d rows in %d batches of hash %s", out.trailer, out.rows, out.batches, hash)
	}
	return out, nil
}

func number(a arrow.Array, i int) float64 {
	switch a := a.(type) {
	case *array.Float64:
		return a.Value(i)
	case *array.Int16:
		return float64(a.Value(i))
	case *array.Int32:
		return float64(a.Value(i))
	default:
		panic(fmt.Sprintf("%T", a))
	}
}

func (s *suite) info(ctx context.Context, spec *mergerv1.MergeSpec) (*arrowflight.FlightInfo, error) {
	command, err := proto.Marshal(spec)
	if err != nil {
		return nil, err
	}
	return s.flight.GetFlightInfo(ctx, &arrowflight.FlightDescriptor{Type: arrowflight.DescriptorCMD, Cmd: command})
}

// merge reads all endpoints of a merge.
func (s *suite) merge(t testing.TB, spec *mergerv1.MergeSpec) []*stream {
	t.Helper()
	info, err := s.info(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	var streams []*stream
	for _, e := range info.GetEndpoint() {
		got, err := s.get(t.Context(), e.GetTicket().GetTicket())
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, got)
	}
	return streams
}

func specOf(names ...string) *mergerv1.MergeSpec {
	spec := &mergerv1.MergeSpec{}
	for _, n := range names {
		spec.Layers = append(spec.Layers, &mergerv1.LayerSelection{Name: n})
	}
	return spec
}

// requireStatus checks code and reason of an error of gRPC.
func requireStatus(t *testing.T, err error, code codes.Code, reason string) map[string]string {
	t.Helper()
	st, _ := status.FromError(err)
	if err == nil || st.Code() != code {
		t.Fatalf("error %v, want %s", err, code)
	}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			if info.GetReason() != reason {
				t.Fatalf("reason %s, want %s (%v)", info.GetReason(), reason, err)
			}
			return info.GetMetadata()
		}
	}
	t.Fatalf("%v has no ErrorInfo", err)
	return nil
}

func asJSON(t *testing.T, spec *mergerv1.MergeSpec) []byte {
	t.Helper()
	text, err := protojson.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func planOf(t *testing.T, s *suite, spec *mergerv1.MergeSpec) *mergerv1.PlanMergeResponse {
	t.Helper()
	answer, err := s.rpc.PlanMerge(t.Context(), connect.NewRequest(&mergerv1.PlanMergeRequest{Spec: spec}))
	if err != nil {
		t.Fatal(err)
	}
	return answer.Msg
}
