package merger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

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
	return s.follow(ctx, ticket, func() {})
}

// follow does so, and calls batch after each batch with rows.
func (s *suite) follow(ctx context.Context, ticket *arrowflight.Ticket, batch func()) (rows int64, err error) {
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
		if rows += record.NumRows(); record.NumRows() > 0 {
			batch()
		}
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
	const times, streams = 2, 5
	for range times {
		s := start(t, Config{})
		s.putLarge(t, "large")
		spec := specOf("large")
		spec.BatchRows = 4096
		info, err := s.info(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		// Each takes a batch, and goes on once the server has stopped: the rest does
		// not fit into the buffers between them.
		began, stopped, ended := make(chan struct{}, streams), make(chan struct{}), make(chan error, streams)
		for range streams {
			go func() {
				rows, err := s.follow(t.Context(), info.GetEndpoint()[0].GetTicket(), sync.OnceFunc(func() { began <- struct{}{}; <-stopped }))
				if err == nil {
					ended <- fmt.Errorf("a table of %d rows was accepted", rows)
					return
				}
				ended <- nil
			}()
		}
		for range streams {
			select {
			case <-began:
			case err := <-ended:
				t.Errorf("a stream ended before the server stopped: %v", err)
			}
		}
		s.server.Stop()
		close(stopped)
		for range streams {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	t.Logf("servers stopped under %d streams, none of which was taken for a whole one", times*streams)
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
