package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// mortal is a suite whose process a test ends itself.
type mortal struct {
	broken
	process *os.Process
	exited  chan error
}

// newMortal starts one on a database whose catalog is adopted.
func newMortal(t *testing.T, url string, pool *pgxpool.Pool, flags ...string) mortal {
	t.Helper()
	return newMortalUnder(t, nil, url, pool, flags...)
}

// newMortalUnder starts one by a command that is given its command line.
func newMortalUnder(t *testing.T, command []string, url string, pool *pgxpool.Pool, flags ...string) mortal {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ready.json")
	line := slices.Concat(command, []string{
		filepath.Join(binaries(t), "rasterloom"),
		"up", "--database-url", url, "--listen", "127.0.0.1:0", "--flight-listen", "127.0.0.1:0", "--ready-file", path,
	}, flags)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = environment()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m := mortal{process: cmd.Process, exited: make(chan error, 1)}
	ended := make(chan struct{})
	go func() {
		m.exited <- cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	ready := struct {
		URL       string `json:"url"`
		FlightURI string `json:"flight_uri"`
	}{}
	if err := json.Unmarshal(waitForFile(t, path), &ready); err != nil {
		t.Fatal(err)
	}
	s := newSuite(t)
	s.schema, s.aligner, s.merger = ready.URL, ready.URL, ready.URL
	s.flight = strings.TrimPrefix(ready.FlightURI, "grpc://")
	m.broken = broken{suite: s, pool: pool}
	m.client = m.flightClient(t)
	return m
}

// A server that is killed in the middle of streams leaves no short table behind.
func TestFaultKilledServers(t *testing.T) {
	rng := seeded(t)
	url, pool := breakable(t, 2)
	serveBroken(t, url, pool) // adopts the catalog
	r, c := startReaders(t), newTally()
	c.atMoments(times(2, 20), func() {
		m := newMortal(t, url, pool)
		c.readFourWays(t, r, m.flight, m.info(t, faultCommand), func() {
			time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond) // at any moment
			if err := m.process.Kill(); err != nil {
				t.Error(err)
			}
		})
		<-m.exited
	})
	c.report(t, "streams of a server that was killed")
}

// A server that is asked to stop says so first, ends the streams in hand, and
// goes in time.
func TestFaultStoppedServers(t *testing.T) {
	url, pool := breakable(t, 2)
	serveBroken(t, url, pool)
	r := startReaders(t)
	failed, complete, short := 0, 0, 0
	var longest, said time.Duration
	// While it says so its door is open: long enough to be asked on a busy machine.
	const delay, limit = 3 * time.Second, 30 * time.Second // the limit is the default
	for range times(1, 10) {
		m := newMortal(t, url, pool, fmt.Sprint("--drain-delay=", delay), "--merger-connections=1", "--merger-band-bytes=1000000")
		info := m.info(t, faultCommand)
		conn, err := grpc.NewClient(m.flight, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		health := func() healthv1.HealthCheckResponse_ServingStatus {
			answer, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
			if err != nil {
				t.Fatalf("the health of a server that has not closed its door yet: %v", err)
			}
			return answer.GetStatus()
		}
		if health() != healthv1.HealthCheckResponse_SERVING {
			t.Fatal("a fresh server does not serve")
		}
		var reading sync.WaitGroup
		var mu sync.Mutex
		before := failed + short + complete
		for i := range 20 {
			reading.Go(func() {
				o := r.read(t.Context(), readingWays[i%len(readingWays)], m.flight, info)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case o.err != nil:
					failed++
					t.Logf("failed: %v", o.err)
				case o.rows < faultSide*faultSide:
					short++
				default:
					complete++
				}
			})
		}
		// Every stream is at work, unless it has come to its end already.
		ended := func() float64 {
			mu.Lock()
			defer mu.Unlock()
			return float64(failed + short + complete - before)
		}
		for deadline := time.Now().Add(startLimit); m.metric(t, "rasterloom_merger_streams_running")+ended() < 20; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%v streams are at work", m.metric(t, "rasterloom_merger_streams_running"))
			}
		}
		asked := time.Now()
		if err := m.process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		for health() != healthv1.HealthCheckResponse_NOT_SERVING { // ends with the door open or shut
			time.Sleep(time.Millisecond)
		}
		said = max(said, time.Since(asked))
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		if err := <-m.exited; err != nil {
			t.Errorf("the server ended with %v", err)
		}
		longest = max(longest, time.Since(asked))
		reading.Wait()
	}
	t.Logf("20 streams when asked to stop: %d complete, %d failed, %d short ones accepted; NOT_SERVING after %v, gone after %v at most",
		complete, failed, short, said.Round(time.Millisecond), longest.Round(time.Millisecond))
	if short > 0 || complete == 0 || longest > delay+limit+10*time.Second { // and what it takes to end
		t.Error("a short table was accepted, nothing was ended well, or it took too long")
	}
}

// silentConn is a connection whose other end is there and says nothing more.
type silentConn struct {
	net.Conn
	silent chan struct{}
}

func (c *silentConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	select {
	case <-c.silent:
		return 0, errors.New("silent")
	default:
		return n, err
	}
}

// Write swallows what is written once the connection is silent.
func (c *silentConn) Write(p []byte) (int, error) {
	select {
	case <-c.silent:
		return len(p), nil
	default:
		return c.Conn.Write(p)
	}
}

// Close leaves a silent connection open.
func (c *silentConn) Close() error {
	select {
	case <-c.silent:
		return nil
	default:
		return c.Conn.Close()
	}
}

// abandon begins a stream over a connection of its own, takes one batch, and
// leaves it as told.
func (b broken) abandon(t *testing.T, info *flight.FlightInfo, leave func(c *silentConn)) {
	t.Helper()
	var conn *silentConn
	client, err := flight.NewClientWithMiddleware(b.flight, nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			if conn != nil {
				return nil, errors.New("this client connects once")
			}
			raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err != nil {
				return nil, err
			}
			t.Cleanup(func() { _ = raw.Close() })
			conn = &silentConn{Conn: raw, silent: make(chan struct{})}
			return conn, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	begin(t.Context(), t, client, info)
	leave(conn)
}

// begin starts a stream and takes a batch of it.
func begin(ctx context.Context, t *testing.T, client flight.Client, info *flight.FlightInfo) {
	t.Helper()
	stream, err := client.DoGet(ctx, info.GetEndpoint()[0].GetTicket())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the schema, and a batch
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
}

// Clients that die in any way leave nothing behind: no query, no memory, no
// goroutine.
func TestFaultDeadClients(t *testing.T) {
	b := newBroken(t, 2, "--merger-connections=1", "--merger-band-bytes=1000000")
	info := b.info(t, strings.Replace(faultCommand, "8192", "65536", 1))
	ctx, cancel := context.WithCancel(t.Context())
	begin(ctx, t, b.client, info) // what is kept for reuse is made
	cancel()
	b.requireNothing(t, 0)
	base := b.metric(t, "go_goroutines")
	const each = 3 // of a kind, at a time
	var slowest time.Duration
	for range times(1, 17) {
		var stopped *readers
		for range each {
			ctx, cancel := context.WithCancel(t.Context())
			begin(ctx, t, b.client, info)
			cancel()
			b.abandon(t, info, func(c *silentConn) {
				_ = c.Conn.(*net.TCPConn).SetLinger(0) //nolint:forcetypeassert // a test's own
				_ = c.Conn.Close()                     // RST
			})
			b.abandon(t, info, func(c *silentConn) { close(c.silent) })
		}
		stopped = startReaders(t)
		for range each {
			go stopped.read(t.Context(), "stall", b.flight, info)
		}
		for range each {
			<-stopped.stalled
		}
		if err := stopped.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, b.requireNothing(t, base))
		_ = stopped.cmd.Process.Kill()
	}
	t.Logf("%d clients each were cancelled, reset, silent and stopped: all is released after %v at most",
		each*times(1, 17), slowest.Round(time.Millisecond))
}

// requireNothing waits until nothing of a stream is left: no backend at work, no
// bytes leased, and not more goroutines than before, where that is known.
func (b broken) requireNothing(t *testing.T, goroutines float64) time.Duration {
	t.Helper()
	// Clients that are stopped, or silent, are found out by pings within 15 s.
	const promised = 15*time.Second + 2*time.Second // and what the look itself takes
	began := time.Now()
	pgtest.Within(t, promised, func() string {
		var active int
		err := b.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'rasterloom-merger' AND state <> 'idle'`).Scan(&active)
		if err != nil {
			t.Fatal(err)
		}
		leased, running := b.metric(t, "rasterloom_merger_memory_leased_bytes"), b.metric(t, "rasterloom_merger_streams_running")
		now := b.metric(t, "go_goroutines")
		const slack = 4 // of the runtime, and of connections that are kept for reuse
		if active == 0 && leased == 0 && running == 0 && (goroutines == 0 || now <= goroutines+slack) {
			return ""
		}
		return fmt.Sprintf("%d backends at work, %v bytes leased, %v streams, %v goroutines (%v before)", active, leased, running, now, goroutines)
	})
	return time.Since(began)
}
