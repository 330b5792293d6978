package merger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	arrowflight "github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// dialled is the suite as seen over a connection of its own, which wrap changes.
func (s *suite) dialled(t testing.TB, wrap func(net.Conn) net.Conn) *suite {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			raw, err := s.dial(ctx)
			if err != nil {
				return nil, err
			}
			return wrap(raw), nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	other := *s
	other.flight = arrowflight.NewClientFromConn(conn, nil)
	return &other
}

// cutConn is a connection that breaks after so many bytes from the server.
type cutConn struct {
	net.Conn
	left int
}

func (c *cutConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		_ = c.Conn.Close()
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// plain reads a stream as any Arrow client does, without looking for a trailer.
func (s *suite) plain(ctx context.Context, ticket *arrowflight.Ticket) (rows int64, err error) {
	raw, err := s.flight.DoGet(ctx, ticket)
	if err != nil {
		return 0, err
	}
	reader, err := arrowflight.NewRecordReader(raw)
	if err != nil {
		return 0, err
	}
	defer reader.Release()
	for {
		record, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		rows += record.NumRows()
	}
}

// No stream that was cut somewhere is taken for a whole one, by a reader that
// checks the trailer or by one that does not.
func TestCutStreamsAreNeverShort(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := start(t, Config{})
	s.put(t, "birds", layer.FormatLegacy, generated(rng, utm(90, 80, 3e5, 5e6)))
	spec := specOf("birds")
	spec.BatchRows = 500
	info, err := s.info(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	ticket := info.GetEndpoint()[0].GetTicket()
	var counted atomic.Int64
	counting := s.dialled(t, func(c net.Conn) net.Conn { return &countConn{c, &counted} })
	rows, err := counting.plain(t.Context(), ticket)
	if err != nil {
		t.Fatal(err)
	}
	whole := int(counted.Load())
	const cuts = 60
	short, failed, complete := 0, 0, 0
	for i := range 2 * cuts {
		left := rng.IntN(whole)
		cut := s.dialled(t, func(c net.Conn) net.Conn { return &cutConn{c, left} })
		var got int64
		if i%2 == 0 {
			got, err = cut.plain(t.Context(), ticket)
		} else {
			var read *stream
			if read, err = cut.get(t.Context(), ticket.GetTicket()); read != nil {
				got = read.rows
			}
		}
		switch {
		case err != nil:
			failed++
		case got < rows:
			short++
		default:
			complete++
		}
	}
	t.Logf("%d streams of %d bytes cut, read in two ways: %d failed, %d complete, %d short ones accepted", 2*cuts, whole, failed, complete, short)
	if short > 0 || failed < cuts {
		t.Error("a short table was accepted, or the cuts did not cut")
	}
}

// countConn counts the bytes from the server.
type countConn struct {
	net.Conn
	n *atomic.Int64
}

func (c *countConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// A backend that is terminated in the middle of a stream ends it with
// UNAVAILABLE, unless it had sent everything.
func TestTerminatedBackendsEndTheStream(t *testing.T) {
	t.Parallel()
	s := start(t, Config{BandBytes: 64 << 10})
	s.putLarge(t, "large")
	spec := specOf("large")
	spec.BatchRows = 4096
	const times = 10
	ended, complete, short := 0, 0, 0
	for i := range times {
		info, err := s.info(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := s.flight.DoGet(t.Context(), info.GetEndpoint()[0].GetTicket())
		if err != nil {
			t.Fatal(err)
		}
		reader, err := arrowflight.NewRecordReader(raw)
		if err != nil {
			t.Fatal(err)
		}
		var rows int64
		for n := 0; err == nil; n++ {
			if n == i {
				s.exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
					WHERE datname = current_database() AND application_name = 'rasterloom-merger'`)
			}
			if record, readErr := reader.Read(); readErr != nil {
				err = readErr
			} else {
				rows += record.NumRows()
			}
		}
		reader.Release()
		switch {
		case !errors.Is(err, io.EOF):
			requireStatus(t, err, codes.Unavailable, "DATABASE_UNAVAILABLE")
			ended++
		case rows < largeSide*largeSide:
			short++
		default:
			complete++
		}
	}
	t.Logf("backends terminated under %d streams: %d ended with UNAVAILABLE, %d complete, %d short ones accepted", times, ended, complete, short)
	if short > 0 || ended == 0 {
		t.Error("a short table was accepted, or no backend was terminated in time")
	}
}

// A layer that fails at some row ends the stream with its own error.
func TestLayersThatFailAtARow(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := start(t, Config{})
	const rows, cols, times = 60, 40, 20
	good := s.put(t, "good", layer.FormatLegacy, generated(rng, utm(rows, cols, 3e5, 5e6)))
	bad := s.put(t, "bad", layer.FormatLegacy, generated(rng, utm(rows, cols, 3e5, 5e6)))
	spec := specOf(good.Name, bad.Name)
	spec.BatchRows = 50
	spec.ValueTypes = mergerv1.ValueTypes_VALUE_TYPES_DECLARED
	info, err := s.info(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	failed := 0
	for range times {
		row, col := rng.IntN(rows), rng.IntN(cols)
		s.exec(t, fmt.Sprintf("INSERT INTO %s VALUES (%d, %d, 0.5) ON CONFLICT (row_idx, col_idx) DO UPDATE SET value = 0.5", bad.Table, row, col))
		_, err := s.plain(t.Context(), info.GetEndpoint()[0].GetTicket())
		fields := requireStatus(t, err, codes.FailedPrecondition, "NARROWING_LOSS")
		if fields["row"] == fmt.Sprint(row) && fields["col"] == fmt.Sprint(col) {
			failed++
		}
		s.exec(t, fmt.Sprintf("DELETE FROM %s WHERE row_idx = %d AND col_idx = %d", bad.Table, row, col))
	}
	t.Logf("%d layers failed at a row, %d streams ended with that", times, failed)
	if failed != times {
		t.Error("a stream did not name the cell")
	}
}

// A server that stops in the middle of streams ends them with an error.
func TestStoppedServerEndsStreams(t *testing.T) {
	t.Parallel()
	const times = 2
	for range times {
		s := start(t, Config{})
		s.putLarge(t, "large")
		spec := specOf("large")
		spec.BatchRows = 4096
		info, err := s.info(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		var readers sync.WaitGroup
		var short, failed, complete int
		var mu sync.Mutex
		for range 5 {
			readers.Go(func() {
				rows, err := s.plain(t.Context(), info.GetEndpoint()[0].GetTicket())
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					failed++
				case rows < largeSide*largeSide:
					short++
				default:
					complete++
				}
			})
		}
		for s.metric(t, "rasterloom_merger_batches_sent_total") < 3 {
			time.Sleep(time.Millisecond)
		}
		s.server.Stop()
		readers.Wait()
		t.Logf("server stopped under 5 streams: %d failed, %d complete, %d short ones accepted", failed, complete, short)
		if short > 0 || failed == 0 {
			t.Error("a short table was accepted, or nothing was cut")
		}
	}
}

// Clients that go away stop the queries in the database within a second, before
// the first batch and after it.
func TestCancelReachesTheDatabase(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	for i := range 2 {
		s.putLarge(t, fmt.Sprintf("layer_%d", i))
	}
	const times = 20
	var slowest time.Duration
	for i := range times {
		ctx, cancel := context.WithCancel(t.Context())
		info, err := s.info(ctx, specOf("layer_0", "layer_1"))
		if err != nil {
			t.Fatal(err)
		}
		stream, err := s.flight.DoGet(ctx, info.GetEndpoint()[0].GetTicket())
		if err != nil {
			t.Fatal(err)
		}
		for range i % 4 { // none is before the first batch
			if _, err := stream.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		begin := time.Now()
		cancel()
		s.requireIdle(t, time.Second)
		slowest = max(slowest, time.Since(begin))
	}
	t.Logf("%d cancels, the database idle after %v at most", times, slowest)
}

// A client that takes nothing is dropped and holds nothing; one that is only
// slow is served.
func TestStalledClientsAreDropped(t *testing.T) {
	t.Parallel()
	s := start(t, Config{StallLimit: 500 * time.Millisecond})
	s.putLarge(t, "large")
	info, err := s.info(t.Context(), specOf("large"))
	if err != nil {
		t.Fatal(err)
	}
	ticket := info.GetEndpoint()[0].GetTicket()
	const times = 5
	stalled := make([]arrowflight.FlightService_DoGetClient, times)
	for i := range stalled {
		if stalled[i], err = s.flight.DoGet(t.Context(), ticket); err != nil {
			t.Fatal(err)
		}
		if _, err := stalled[i].Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if leased := s.metric(t, "rasterloom_merger_memory_leased_bytes"); leased == 0 {
		t.Error("running streams lease no memory")
	}
	s.requireIdle(t, 5*time.Second)
	for _, name := range []string{"rasterloom_merger_memory_leased_bytes", "rasterloom_merger_streams_running"} {
		for deadline := time.Now().Add(time.Second); s.metric(t, name) > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s is %v once all clients are dropped", name, s.metric(t, name))
			}
		}
	}
	for _, stream := range stalled {
		for err = nil; err == nil; {
			_, err = stream.Recv()
		}
		requireStatus(t, err, codes.ResourceExhausted, "LIMIT_EXCEEDED")
	}
	t.Logf("%d stalled clients dropped", times)

	slow := s.dialled(t, func(c net.Conn) net.Conn { return slowConn{c} })
	if rows, err := slow.plain(t.Context(), ticket); err != nil || rows != largeSide*largeSide {
		t.Errorf("a slow client got %d rows, %v", rows, err)
	}
}

// slowConn reads a few MiB a second, with pauses well within the stall limit.
type slowConn struct{ net.Conn }

func (c slowConn) Read(p []byte) (int, error) {
	time.Sleep(2 * time.Millisecond)
	return c.Conn.Read(p)
}

// While the first batch is not to be had, the stream shows that it lives, and
// readers do not take that for rows.
func TestSlowStartShowsLife(t *testing.T) {
	t.Parallel()
	s := start(t, Config{StallLimit: 400 * time.Millisecond})
	l := s.put(t, "birds", layer.FormatLegacy, generated(rand.New(rand.NewPCG(1, 6)), utm(6, 7, 3e5, 5e6)))
	info, err := s.info(t.Context(), specOf("birds"))
	if err != nil {
		t.Fatal(err)
	}
	lock, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec(t.Context(), "LOCK TABLE "+l.Table.String()+" IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	watched, err := s.flight.DoGet(t.Context(), info.GetEndpoint()[0].GetTicket())
	if err != nil {
		t.Fatal(err)
	}
	var signs []string
	for range 4 { // the schema, and three signs of life
		data, err := watched.Recv()
		if err != nil {
			t.Fatal(err)
		}
		signs = append(signs, string(data.GetAppMetadata()))
	}
	if got := strings.Join(signs, " "); got != ` {"complete":false} {"complete":false} {"complete":false}` {
		t.Errorf("while it waits the stream says %s", got)
	}
	read := make(chan error, 1)
	go func() {
		got, err := s.get(t.Context(), info.GetEndpoint()[0].GetTicket().GetTicket())
		if err == nil && got.rows == 0 {
			err = errors.New("no rows")
		}
		read <- err
	}()
	time.Sleep(300 * time.Millisecond)
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil {
		t.Error(err)
	}
	for err = nil; err == nil; {
		_, err = watched.Recv()
	}
	if !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// The merger starts while its database is down, says so, and works once the
// database is there.
func TestDatabaseComesLater(t *testing.T) {
	t.Parallel()
	direct := pgtest.URL(t)
	config, err := pgxpool.ParseConfig(direct)
	if err != nil {
		t.Fatal(err)
	}
	network, target := "tcp", net.JoinHostPort(config.ConnConfig.Host, fmt.Sprint(config.ConnConfig.Port))
	if strings.HasPrefix(config.ConnConfig.Host, "/") {
		network, target = "unix", fmt.Sprintf("%s/.s.PGSQL.%d", config.ConnConfig.Host, config.ConnConfig.Port)
	}
	door, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := door.Addr().String()
	if err := door.Close(); err != nil {
		t.Fatal(err)
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(config.ConnConfig.User, config.ConnConfig.Password), Host: address,
		Path: config.ConnConfig.Database, RawQuery: "sslmode=disable"}
	stop := func() {}
	t.Cleanup(func() { stop() }) // once the merger has let go of its connections
	s := start(t, Config{DatabaseURL: u.String()})
	s.pool = pgtest.Connect(t, direct)
	l := s.put(t, "birds", layer.FormatLegacy, generated(rand.New(rand.NewPCG(1, 7)), utm(6, 7, 3e5, 5e6)))
	if err := s.check(t.Context()); err == nil {
		t.Error("the merger can work without its database")
	}
	info, err := s.info(t.Context(), specOf(l.Name))
	if err != nil {
		t.Fatalf("a plan reads no cell: %v", err)
	}
	_, err = s.get(t.Context(), info.GetEndpoint()[0].GetTicket().GetTicket())
	requireStatus(t, err, codes.Unavailable, "DATABASE_UNAVAILABLE")

	if door, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", address); err != nil {
		t.Fatal(err)
	}
	stop = forward(door, network, target)
	if err := s.check(t.Context()); err != nil {
		t.Errorf("the database is up: %v", err)
	}
	if _, err := s.get(t.Context(), info.GetEndpoint()[0].GetTicket().GetTicket()); err != nil {
		t.Error(err)
	}
}

// forward carries connections to another address until stop.
func forward(door net.Listener, network, target string) (stop func()) {
	var carriers sync.WaitGroup
	carriers.Go(func() {
		for {
			in, err := door.Accept()
			if err != nil {
				return
			}
			out, err := (&net.Dialer{}).DialContext(context.Background(), network, target)
			if err != nil {
				_ = in.Close()
				continue
			}
			pipe := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				_, _ = to.Close(), from.Close()
			}
			carriers.Go(func() { pipe(in, out) })
			carriers.Go(func() { pipe(out, in) })
		}
	})
	return func() {
		_ = door.Close()
		carriers.Wait()
	}
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

// The line of a stream in the log says what it did, whether it ended well or
// not.
func TestStreamsAreReported(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	rng := rand.New(rand.NewPCG(1, 8))
	s.put(t, "birds", layer.FormatLegacy, generated(rng, utm(6, 7, 3e5, 5e6)))
	s.put(t, "plants", layer.FormatLegacy, generated(rng, utm(6, 7, 3e5+12, 5e6)))
	got := s.merge(t, specOf("birds", "plants"))[0]
	facts := s.lineOf(t, "arrow.flight.protocol.FlightService/DoGet")
	for name, want := range map[string]any{
		"operation": "merge", "chunk": "rows 0:6", "layers": []any{"birds", "plants"}, "shifts": 1., "rows": float64(got.rows), "batches": 1.,
		"cells": map[string]any{"birds": float64(got.trailer.Layers[0].Cells), "plants": float64(got.trailer.Layers[1].Cells)}, "code": "ok",
	} {
		if fmt.Sprint(facts[name]) != fmt.Sprint(want) {
			t.Errorf("%s is %v in the log, want %v", name, facts[name], want)
		}
	}
	if facts["request_id"] == "" || facts["bytes"].(float64) < 1000 {
		t.Errorf("line %v", facts)
	}
	seconds, _ := facts["seconds"].(map[string]any)
	for _, phase := range []string{"plan", "wait", "open", "first_batch", "read", "merge", "send"} {
		if _, ok := seconds[phase].(float64); !ok {
			t.Errorf("phase %s is not in %v", phase, seconds)
		}
	}
	for name, want := range map[string]float64{
		"rasterloom_merger_rows_merged_total": float64(got.rows), "rasterloom_merger_shifts_applied_total": 1,
		"rasterloom_merger_batches_sent_total": 1, "rasterloom_merger_streams_running": 0, "rasterloom_merger_streams_total": 1,
	} {
		if v := s.metric(t, name); v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
}

// metric gives a metric of the process, added up over its labels.
func (s *suite) metric(t *testing.T, name string) (value float64) {
	t.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				value += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return value
}

// lineOf gives the last line of a call in the log, as JSON has it.
func (s *suite) lineOf(t *testing.T, method string) map[string]any {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		lines := s.logs.FilterMessage("call").All()
		for _, line := range slices.Backward(lines) {
			if facts := line.ContextMap(); facts["method"] == method {
				text, err := json.Marshal(facts)
				if err != nil {
					t.Fatal(err)
				}
				var plain map[string]any
				if err := json.Unmarshal(text, &plain); err != nil {
					t.Fatal(err)
				}
				return plain
			}
		}
	}
	t.Fatalf("the log has no line of %s", method)
	return nil
}
