package scenario

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// times is how often a fault is made: few in every run of the tests, and as
// often as is promised in `make faults`.
func times(few, all int) int {
	if os.Getenv("RASTERLOOM_FAULTS") == "all" {
		return all
	}
	return few
}

// faultSide is the side of the layers that streams are broken under.
const faultSide = 700

// broken is a suite with layers large enough to be hit in the middle of a stream.
type broken struct {
	suite
	pool   *pgxpool.Pool
	client flight.Client
}

// breakable makes a database with so many layers.
func breakable(t *testing.T, layers int) (url string, pool *pgxpool.Pool) {
	t.Helper()
	return breakableOf(t, layers, faultSide)
}

// breakableOf makes one with layers of side² cells.
func breakableOf(t *testing.T, layers, side int) (url string, pool *pgxpool.Pool) {
	t.Helper()
	url = pgtest.URL(t)
	pool = pgtest.Connect(t, url)
	exec := func(sql string) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(catalog)
	for i := range layers {
		exec(fmt.Sprintf(`INSERT INTO public.resampled_datasets
			(name, target_crs, bounds, shape_height, shape_width, data_type, data_table_name, metadata)
			VALUES ('layer_%[1]d', 'EPSG:3035', ARRAY[0, 0, %[2]d, %[2]d], %[2]d, %[2]d, 'int16', 'resampled_layer_%[1]d', '{}')`, i, side))
		exec(fmt.Sprintf(`CREATE TABLE public.resampled_layer_%d AS SELECT r AS row_idx, c AS col_idx, ((r * 7 + c) %% 100)::float8 AS value
			FROM generate_series(0, %[2]d) r, generate_series(0, %[2]d) c`, i, side-1))
		exec(fmt.Sprintf("ALTER TABLE public.resampled_layer_%d ADD PRIMARY KEY (row_idx, col_idx)", i))
		exec(fmt.Sprintf("ANALYZE public.resampled_layer_%d", i))
	}
	return url, pool
}

func newBroken(t *testing.T, layers int, flags ...string) broken {
	t.Helper()
	url, pool := breakable(t, layers)
	return serveBroken(t, url, pool, flags...)
}

func newBrokenOf(t *testing.T, layers, side int, flags ...string) broken {
	t.Helper()
	url, pool := breakableOf(t, layers, side)
	return serveBroken(t, url, pool, flags...)
}

func serveBroken(t *testing.T, url string, pool *pgxpool.Pool, flags ...string) broken {
	t.Helper()
	b := broken{suite: oneProcessWith(t, binaries(t), url, flags...), pool: pool}
	if _, err := b.schemaClient().AdoptCatalog(t.Context(), connect.NewRequest(&schemav1.AdoptCatalogRequest{})); err != nil {
		t.Fatal(err)
	}
	b.client = b.flightClient(t)
	return b
}

// info plans a merge, in JSON.
func (b broken) info(t *testing.T, command string) *flight.FlightInfo {
	t.Helper()
	info, err := b.client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: []byte(command)})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// metric reads a number off the page of metrics.
func (b broken) metric(t *testing.T, name string) float64 {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.merger+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := b.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// outcome is what a reader made of a stream.
type outcome struct {
	rows    int64
	resumed bool // a stream broke, and the reader went on behind it
	err     error
	last    []byte // what the last message says, where arrow-go read it
}

// readingWays are the readers of reliability: what any program does with pyarrow, in
// two forms, our Python client, and arrow-go.
var readingWays = []string{"read_all", "to_reader", "client", "arrow-go"}

// readers runs pyarrow in a process of its own.
type readers struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	mu      sync.Mutex
	waiting map[int]chan outcome
	stalled chan struct{}
	last    int
}

func startReaders(t *testing.T) *readers {
	t.Helper()
	python, err := filepath.Abs("../../.venv/bin/python")
	if err != nil {
		t.Fatal(err)
	}
	r := &readers{cmd: exec.Command(python, "readers.py"), waiting: map[int]chan outcome{}, stalled: make(chan struct{}, 1000)}
	r.cmd.Stderr = os.Stderr
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatalf("these tests read by pyarrow, too (make venv): %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			answer := struct {
				ID      int
				Rows    int64
				Resumed int
				Error   string
			}{}
			if err := json.Unmarshal(lines.Bytes(), &answer); err != nil {
				return
			}
			if answer.ID < 0 {
				r.stalled <- struct{}{}
				continue
			}
			o := outcome{rows: answer.Rows, resumed: answer.Resumed > 0}
			if answer.Error != "" {
				o.err = errors.New(answer.Error)
			}
			r.mu.Lock()
			r.waiting[answer.ID] <- o
			r.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-done
		_ = r.cmd.Wait()
	})
	return r
}

// read reads a flight in one of the ways, by an address.
func (r *readers) read(ctx context.Context, way, address string, info *flight.FlightInfo) outcome {
	if way == "arrow-go" {
		return readByArrow(ctx, address, info)
	}
	raw, err := proto.Marshal(info)
	if err != nil {
		return outcome{err: err}
	}
	r.mu.Lock()
	r.last++
	id, answer := r.last, make(chan outcome, 1)
	r.waiting[id] = answer
	line, err := json.Marshal(map[string]any{"id": id, "way": way, "uri": "grpc://" + address, "info": base64.StdEncoding.EncodeToString(raw)})
	if err == nil {
		_, err = r.in.Write(append(line, '\n'))
	}
	r.mu.Unlock()
	if err != nil {
		return outcome{err: err}
	}
	select {
	case o := <-answer:
		return o
	case <-ctx.Done():
		return outcome{err: ctx.Err()}
	}
}

func readByArrow(ctx context.Context, address string, info *flight.FlightInfo) (o outcome) {
	client, err := flight.NewClientWithMiddleware(address, nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return outcome{err: err}
	}
	defer client.Close()
	stream, err := client.DoGet(ctx, info.GetEndpoint()[0].GetTicket())
	if err != nil {
		return outcome{err: err}
	}
	reader, err := flight.NewRecordReader(stream)
	if err != nil {
		return outcome{err: err}
	}
	defer reader.Release()
	for reader.Next() {
		o.rows += reader.RecordBatch().NumRows()
		o.last = reader.LatestAppMetadata()
	}
	o.err = reader.Err()
	return o
}

// tally counts what became of streams that were broken; resumed are those of the
// complete ones that a reader made whole over more than one stream.
type tally struct {
	mu                               sync.Mutex
	failed, complete, resumed, short map[string]int
	errors                           map[string]int
}

func newTally() *tally {
	return &tally{
		failed: map[string]int{}, complete: map[string]int{}, resumed: map[string]int{}, short: map[string]int{},
		errors: map[string]int{},
	}
}

func (c *tally) add(way string, o outcome, whole int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case o.err != nil:
		c.failed[way]++
		text := o.err.Error()
		c.errors[way+": "+text[:min(len(text), 90)]]++
	case o.rows < whole:
		c.short[way]++
	default:
		c.complete[way]++
		if o.resumed {
			c.resumed[way]++
		}
	}
}

// brokenEveryWay says whether each way of reading has met a stream that broke.
func (c *tally) brokenEveryWay() bool {
	return !slices.ContainsFunc(readingWays, func(way string) bool { return c.failed[way]+c.resumed[way] == 0 })
}

// atMoments breaks streams n times, and where that was too late for one of the
// readers each time, as it can be at random moments, some times more.
func (c *tally) atMoments(n int, breakOne func()) {
	for round := 0; round < n || !c.brokenEveryWay() && round < n+20; round++ {
		breakOne()
	}
}

// report prints the counts, and fails the test where a short table was accepted,
// or where a way of reading was never broken.
func (c *tally) report(t *testing.T, what string) {
	t.Helper()
	for _, way := range readingWays {
		t.Logf("%s, read by %-9s: %3d failed, %3d complete (%d of them resumed), %d short ones accepted",
			what, way, c.failed[way], c.complete[way], c.resumed[way], c.short[way])
		if c.short[way] > 0 {
			t.Errorf("%s took a short table for a whole one", way)
		}
		if c.failed[way]+c.resumed[way] == 0 {
			t.Errorf("no stream broke that %s read", way)
		}
	}
	if t.Failed() {
		t.Logf("errors: %v", c.errors)
	}
}

// readFourWays reads a flight in all ways at once, and breaks it by what is done
// meanwhile.
func (c *tally) readFourWays(t *testing.T, r *readers, address string, info *flight.FlightInfo, meanwhile func()) {
	t.Helper()
	var reading sync.WaitGroup
	for _, way := range readingWays {
		reading.Go(func() { c.add(way, r.read(t.Context(), way, address, info), faultSide*faultSide) })
	}
	meanwhile()
	reading.Wait()
}

// cutAfter is the address of a door to a server that lets so many bytes of it
// through and then closes, politely or not.
func cutAfter(t *testing.T, server string, bytes int64, reset bool) (address string) {
	t.Helper()
	door, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var carriers sync.WaitGroup
	t.Cleanup(func() {
		_ = door.Close()
		carriers.Wait()
	})
	carriers.Go(func() {
		in, err := door.Accept()
		_ = door.Close() // no second try
		if err != nil {
			return
		}
		out, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", server)
		if err != nil {
			_ = in.Close()
			return
		}
		carriers.Go(func() { _, _ = io.Copy(out, in) })
		_, _ = io.CopyN(in, out, bytes)
		if tcp, ok := in.(*net.TCPConn); ok && reset {
			_ = tcp.SetLinger(0)
		}
		_, _ = in.Close(), out.Close()
	})
	return door.Addr().String()
}

func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

const faultCommand = `{"layers": [{"name": "layer_0"}, {"name": "layer_1"}], "batchRows": 8192, "endpoints": 1}`

// Streams that are cut anywhere are never taken for whole ones.
func TestFaultCutStreams(t *testing.T) {
	rng := seeded(t)
	b, r := newBroken(t, 2), startReaders(t)
	info := b.info(t, faultCommand)
	const whole = faultSide * faultSide * 32 // bytes, and some more
	c := newTally()
	for range times(12, 200) {
		var cutting sync.WaitGroup
		for _, way := range readingWays {
			address := cutAfter(t, b.flight, rng.Int64N(whole), rng.IntN(2) == 0)
			cutting.Go(func() { c.add(way, r.read(t.Context(), way, address, info), faultSide*faultSide) })
		}
		cutting.Wait()
	}
	c.report(t, "streams cut at a random byte")
}

// Backends that are terminated end their streams with an error.
func TestFaultTerminatedBackends(t *testing.T) {
	rng := seeded(t)
	b, r := newBroken(t, 2), startReaders(t)
	c, terminated := newTally(), 0
	c.atMoments(times(5, 50), func() {
		info := b.info(t, faultCommand)
		c.readFourWays(t, r, b.flight, info, func() {
			time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond) // at any moment
			var n int
			err := b.pool.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
				WHERE datname = current_database() AND application_name = 'rasterloom-merger'`).Scan(&n)
			if err != nil {
				t.Error(err)
			}
			terminated += n
		})
	})
	t.Logf("%d backends terminated", terminated)
	c.report(t, "streams whose backends were terminated")
}

// A layer whose value at some row cannot be woven ends the stream with an error.
func TestFaultLayersThatFail(t *testing.T) {
	rng := seeded(t)
	b, r := newBroken(t, 2), startReaders(t)
	c := newTally()
	for range times(5, 50) {
		info := b.info(t, strings.Replace(faultCommand, `"endpoints"`, `"valueTypes": "VALUE_TYPES_DECLARED", "endpoints"`, 1))
		place := fmt.Sprintf("row_idx = %d AND col_idx = %d", rng.IntN(faultSide), rng.IntN(faultSide))
		if _, err := b.pool.Exec(t.Context(), "UPDATE public.resampled_layer_1 SET value = 0.5 WHERE "+place); err != nil {
			t.Fatal(err)
		}
		c.readFourWays(t, r, b.flight, info, func() {})
		if _, err := b.pool.Exec(t.Context(), "UPDATE public.resampled_layer_1 SET value = 1 WHERE "+place); err != nil {
			t.Fatal(err)
		}
	}
	c.report(t, "streams of a layer that fails at a row")
	for _, way := range readingWays {
		if c.complete[way] > 0 {
			t.Errorf("%s read %d tables with a value that does not fit", way, c.complete[way])
		}
	}
}
