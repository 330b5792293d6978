package merger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	arrowflight "github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

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
	const limit = 2 * time.Second // a reader that a busy machine holds up does not stall
	s := start(t, Config{StallLimit: limit})
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
	pgtest.Within(t, time.Second, func() string {
		if s.metric(t, "rasterloom_merger_bytes_sent_total") == 0 {
			return "what running streams have sent is not counted"
		}
		return ""
	})
	s.requireIdle(t, 5*time.Second)
	for _, name := range []string{"rasterloom_merger_memory_leased_bytes", "rasterloom_merger_streams_running"} {
		pgtest.Within(t, time.Second, func() string {
			if v := s.metric(t, name); v > 0 {
				return fmt.Sprintf("%s is %v once all clients are dropped", name, v)
			}
			return ""
		})
	}
	for _, stream := range stalled {
		for err = nil; err == nil; {
			_, err = stream.Recv()
		}
		requireStatus(t, err, codes.ResourceExhausted, "LIMIT_EXCEEDED")
	}
	t.Logf("%d stalled clients dropped", times)

	slow := s.dialled(t, func(c net.Conn) net.Conn { return slowConn{c} })
	began := time.Now()
	if rows, err := slow.plain(t.Context(), ticket); err != nil || rows != largeSide*largeSide {
		t.Errorf("a slow client got %d rows, %v", rows, err)
	}
	if took := time.Since(began); took < limit {
		t.Errorf("the slow client is not slow: it took %v, and may stall for %v", took, limit)
	}
}

// slowConn reads some MiB a second, with pauses well within the stall limit, which
// are what makes it slow.
type slowConn struct{ net.Conn }

func (c slowConn) Read(p []byte) (int, error) {
	time.Sleep(8 * time.Millisecond)
	return c.Conn.Read(p)
}

// While the first batch is not to be had, the stream shows that it lives, and
// readers do not take that for rows.
func TestSlowStartShowsLife(t *testing.T) {
	t.Parallel()
	s := start(t, Config{StallLimit: 2 * time.Second, lockTimeout: -1}) // a sign four times in that
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
	defer lock.Rollback(t.Context())
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
	another, came, read := *s, make(chan struct{}, 2), make(chan error, 1)
	another.flight = toldClient{s.flight, came}
	go func() {
		got, err := another.get(t.Context(), info.GetEndpoint()[0].GetTicket().GetTicket())
		if err == nil && got.rows == 0 {
			err = errors.New("no rows")
		}
		read <- err
	}()
	for range 2 { // the schema, and a sign
		select {
		case <-came:
		case err := <-read:
			t.Fatalf("a reader ended while the table is locked: %v", err)
		}
	}
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

// toldClient tells of the first messages of its streams, as many as came has room
// for.
type toldClient struct {
	arrowflight.FlightServiceClient
	came chan struct{}
}

func (c toldClient) DoGet(ctx context.Context, ticket *arrowflight.Ticket, o ...grpc.CallOption) (arrowflight.FlightService_DoGetClient, error) {
	stream, err := c.FlightServiceClient.DoGet(ctx, ticket, o...)
	return toldStream{stream, c.came}, err
}

type toldStream struct {
	arrowflight.FlightService_DoGetClient
	came chan struct{}
}

func (s toldStream) Recv() (*arrowflight.FlightData, error) {
	data, err := s.FlightService_DoGetClient.Recv()
	select {
	case s.came <- struct{}{}:
	default:
	}
	return data, err
}
