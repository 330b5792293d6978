package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const (
	slowClients = 32
	slowPace    = 64 << 10 // bytes a second
	fastClients = 2
	// budgetKiB is what all streams may lease, by default.
	budgetKiB = 512 << 10
)

// slowConn is a connection that takes no more than so much a second.
type slowConn struct {
	net.Conn
	pace  *rate.Limiter
	ended context.Context // it ends the waits
	taken *atomic.Int64
}

func (c slowConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), c.pace.Burst())])
	if n > 0 {
		c.taken.Add(int64(n))
		if err := c.pace.WaitN(c.ended, n); err != nil {
			return n, io.ErrUnexpectedEOF
		}
	}
	return n, err
}

// readSlowly reads a stream at a slow pace until ctx ends. It calls began once
// the first byte of the stream has come.
func (b broken) readSlowly(ctx context.Context, info *flight.FlightInfo, taken *atomic.Int64, began func()) error {
	client, err := flight.NewClientWithMiddleware(b.flight, nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(dialing context.Context, address string) (net.Conn, error) {
			raw, err := (&net.Dialer{}).DialContext(dialing, "tcp", address)
			if err != nil {
				return nil, err
			}
			_ = raw.(*net.TCPConn).SetReadBuffer(slowPace) //nolint:forcetypeassert // a test's own
			return slowConn{raw, rate.NewLimiter(slowPace, 4<<10), ctx, taken}, nil
		}))
	if err != nil {
		return err
	}
	defer client.Close()
	stream, err := client.DoGet(ctx, info.GetEndpoint()[0].GetTicket())
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		if _, err = stream.Recv(); err != nil {
			break
		}
		if first {
			began()
		}
	}
	if ctx.Err() != nil && (status.Code(err) == codes.Canceled || status.Code(err) == codes.Unavailable) {
		return nil // by us
	}
	if errors.Is(err, io.EOF) {
		return errors.New("a slow stream came to its end")
	}
	return err
}

// readFast has the fast clients read the flight again and again for so long, and
// at least once each, and gives the rows they read in a second. The trailer has
// to be the same each time.
func (b broken) readFast(t *testing.T, info *flight.FlightInfo, whole outcome, during time.Duration) (rowsPerSecond float64) {
	t.Helper()
	var reading sync.WaitGroup
	var rows atomic.Int64
	start := time.Now()
	for range fastClients {
		reading.Go(func() {
			for again := true; again; again = time.Since(start) < during {
				o := readByArrow(t.Context(), b.flight, info)
				if o.err != nil || o.rows != whole.rows || !bytes.Equal(o.last, whole.last) {
					t.Errorf("a fast client read %d rows of %d (%s): %v", o.rows, whole.rows, o.last, o.err)
					return
				}
				rows.Add(o.rows)
			}
		})
	}
	reading.Wait()
	return float64(rows.Load()) / time.Since(start).Seconds()
}

// Many slow clients and a few fast ones work side by side: nobody is refused,
// memory stays within the budget, and the fast ones hardly notice the others.
func TestFaultSlowClientsBesideFastOnes(t *testing.T) {
	side, during := times(faultSide, 2000), time.Duration(times(0, 60))*time.Second
	b := newBrokenOf(t, 2, side)
	info := b.info(t, `{"layers": [{"name": "layer_0"}, {"name": "layer_1"}], "endpoints": 1}`)
	whole := readByArrow(t.Context(), b.flight, info)
	if whole.err != nil || whole.rows != int64(side)*int64(side) || !bytes.Contains(whole.last, []byte(`"hash"`)) {
		t.Fatalf("%d rows, %s, %v", whole.rows, whole.last, whole.err)
	}
	alone := b.readFast(t, info, whole, during/2)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var slow, began sync.WaitGroup
	var taken, refused atomic.Int64
	const together = 8 // begin at a time
	for i := range slowClients {
		began.Add(1)
		slow.Go(func() {
			begin := sync.OnceFunc(began.Done)
			defer begin()
			if err := b.readSlowly(ctx, info, &taken, begin); err != nil {
				refused.Add(1)
				t.Errorf("slow client %d: %v", i, err)
			}
		})
		if (i+1)%together == 0 {
			began.Wait()
		}
	}
	if running := b.metric(t, "rasterloom_merger_streams_running"); running != slowClients {
		t.Fatalf("%v streams are at work, want %d", running, slowClients)
	}
	var kib, connections int
	var watching sync.WaitGroup
	watched := make(chan struct{})
	watching.Go(func() {
		for look := time.NewTicker(100 * time.Millisecond); ; {
			kib = max(kib, residentKiB(t, b.pid))
			var n int
			err := b.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
				WHERE datname = current_database() AND application_name = 'rasterloom-merger'`).Scan(&n)
			if err != nil {
				t.Error(err)
			}
			connections = max(connections, n)
			select {
			case <-look.C:
			case <-watched:
				look.Stop()
				return
			}
		}
	})
	start, before := time.Now(), taken.Load()
	beside := b.readFast(t, info, whole, during)
	pace := float64(taken.Load()-before) / time.Since(start).Seconds() / slowClients
	leased := b.metric(t, "rasterloom_merger_memory_leased_bytes")
	close(watched)
	watching.Wait()
	if running := b.metric(t, "rasterloom_merger_streams_running"); running != slowClients {
		t.Errorf("%v streams are at work after it, want %d", running, slowClients)
	}
	cancel()
	slow.Wait()
	b.requireNothing(t, 0)
	alone = (alone + b.readFast(t, info, whole, during/2)) / 2

	figures := fmt.Sprintf("%d clients at %.0f KiB/s each beside %d fast ones for %v: fast ones read %.2f million rows/s, %.0f %% of the %.2f alone; %d MiB of memory, %.0f leased; %d database connections; %d slow ones refused or cut",
		slowClients, pace/1024, fastClients, time.Since(start).Round(time.Second), beside/1e6, 100*beside/alone, alone/1e6, kib>>10, leased/(1<<20), connections, refused.Load())
	t.Log(figures)
	if limit := budgetKiB + budgetKiB/10; kib > limit {
		t.Errorf("%d KiB of memory, and the limit is %d", kib, limit)
	}
	// 80 % is promised; a machine with other work on it has its own ups and downs.
	if during > 0 && beside < 0.65*alone {
		t.Errorf("fast clients read %.0f rows a second beside slow ones, and %.0f alone", beside, alone)
	}
}
