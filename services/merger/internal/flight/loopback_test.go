package flight

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/merger/internal/columnar"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

const (
	loopbackRows    = 1 << 16
	loopbackColumns = 6
	// loopbackBatches make a table of 9.4 million rows, 0.45 GB.
	loopbackBatches = 144
)

// prebuilt serves one batch again and again, as a merge's are served: hashed, with
// metadata, from where it lies.
type prebuilt struct {
	flight.BaseFlightServer
	plan  *merge.Plan
	batch *merge.Batch
}

func newPrebuilt(b *testing.B) *prebuilt {
	b.Helper()
	const rows = loopbackBatches * 256
	g := grid.Grid{CRS: "EPSG:32633", Rows: rows, Cols: 256, OriginY: rows, StepX: 1, StepY: 1}
	p := &merge.Plan{Lattice: g, Window: g.Window(), Coordinates: merge.Coordinates{XY: true}}
	for i := range loopbackColumns - 2 {
		p.Threads = append(p.Threads, merge.Thread{
			Layer:    layer.Layer{Name: fmt.Sprint("l", i), Grid: g, StoredType: layer.Float64},
			Relation: grid.Relation{Verdict: grid.VerdictIdentical}, Column: fmt.Sprint("l", i), Type: layer.Float64,
		})
	}
	if err := p.Complete(); err != nil {
		b.Fatal(err)
	}
	batch := &merge.Batch{Rows: loopbackRows}
	for i, c := range p.Columns() {
		values := make([]float64, loopbackRows)
		for at := range values {
			values[at] = float64(at + i)
		}
		v := merge.Vector{Values: values}
		if c.Thread >= 0 {
			v.Valid = slices.Repeat([]uint64{^uint64(0)}, loopbackRows/64)
		}
		batch.Columns = append(batch.Columns, v)
	}
	return &prebuilt{plan: p, batch: batch}
}

// DoGet implements flight.FlightServer.
func (s *prebuilt) DoGet(_ *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	schema, err := columnar.SchemaOf(s.plan)
	if err != nil {
		return err
	}
	w := newBatchWriter(stream, schema, s.plan, Options{Allocator: memory.DefaultAllocator, Stall: time.Minute})
	for range loopbackBatches {
		if err := w.write(stream.Context(), s.batch); err != nil {
			return err
		}
	}
	return w.end(stream.Context(), merge.Result{Rows: loopbackBatches * loopbackRows, Cells: make([]int64, len(s.plan.Threads))})
}

// loopback starts a part of testdata/loopback.py.
func loopback(b *testing.B, args ...string) (io.Writer, *bufio.Reader) {
	b.Helper()
	python := cmp.Or(os.Getenv("RASTERLOOM_PYTHON"), filepath.Join("..", "..", "..", "..", ".venv", "bin", "python"))
	ctx, stop := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, python, append([]string{filepath.Join("testdata", "loopback.py")}, args...)...)
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { stop(); _ = command.Wait() })
	return in, bufio.NewReader(out)
}

// ownCPU is the processor time that this process has used.
func ownCPU(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkLoopback reads a table of prebuilt batches with pyarrow, from this
// package and from pyarrow's own C++ server, in turn: medians, and how much of the
// latter's speed ours has.
func BenchmarkLoopback(b *testing.B) {
	listener, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(Codec()))
	flight.RegisterFlightServiceServer(server, newPrebuilt(b))
	go func() { _ = server.Serve(listener) }()
	b.Cleanup(server.Stop)
	_, port, _ := net.SplitHostPort(listener.Addr().String())

	_, answers := loopback(b, "serve", strconv.Itoa(loopbackBatches))
	theirs, err := answers.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	questions, answers := loopback(b, "read")
	read := func(port string) (seconds float64) {
		b.Helper()
		if _, err := fmt.Fprintln(questions, strings.TrimSpace(port)); err != nil {
			b.Fatal(err)
		}
		var rows, size int64
		if _, err := fmt.Fscanln(answers, &seconds, &rows, &size); err != nil {
			b.Fatal(err)
		}
		if rows != loopbackBatches*loopbackRows || size < rows*loopbackColumns*8 {
			b.Fatalf("%d rows of %d bytes were read", rows, size)
		}
		return seconds
	}
	const gigabytes = loopbackBatches * loopbackRows * loopbackColumns * 8 / 1e9
	read(port)
	read(theirs)
	var own, other, used []float64
	for b.Loop() {
		before := ownCPU(b)
		own = append(own, read(port))
		used = append(used, (ownCPU(b) - before).Seconds())
		other = append(other, read(theirs))
	}
	median := func(times []float64) float64 { slices.Sort(times); return times[len(times)/2] }
	b.ReportMetric(gigabytes/median(own), "GB/s")
	b.ReportMetric(gigabytes/median(other), "C++-GB/s")
	b.ReportMetric(median(other)/median(own), "of-C++")
	b.ReportMetric(median(used)/gigabytes, "CPU-s/GB")
}
