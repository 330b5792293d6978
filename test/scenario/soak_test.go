package scenario

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow-go/v18/arrow/flight"

	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1/mergerv1connect"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
)

// soak is a suite under a mixed load.
type soak struct {
	broken
	t       *testing.T
	exports string
	done    map[string]*atomic.Int64
	failed  atomic.Int64
}

// measured is what a process holds, and its database for it.
var measured = []struct {
	name, metric string
	// drift is how much more of it there may be at the end than at the begin, as a
	// line through all samples has it: so much, and this share of the mean.
	drift, share float64
}{
	{"goroutines", "go_goroutines", 8, 0.05},
	{"file descriptors", "process_open_fds", 8, 0.05},
	{"resident bytes", "process_resident_memory_bytes", 16 << 20, 0.05},
	{"database connections", "", 4, 0.05},
}

// work does something again and again until ctx ends.
func (s *soak) work(ctx context.Context, group *sync.WaitGroup, what string, once func(ctx context.Context, n int) error) {
	count := new(atomic.Int64)
	s.done[what] = count
	group.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			switch err := once(ctx, n); {
			case ctx.Err() != nil:
			case err != nil:
				if s.failed.Add(1) < 10 {
					s.t.Errorf("%s %d: %v", what, n, err)
				}
			default:
				count.Add(1)
			}
		}
	})
}

func (s *soak) merge(ctx context.Context, _ int) error {
	info, err := s.client.GetFlightInfo(ctx, &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: []byte(faultCommand)})
	if err != nil {
		return err
	}
	rows, err := rowsRead(ctx, s.client, info)
	if err == nil && rows != faultSide*faultSide {
		err = fmt.Errorf("%d rows", rows)
	}
	return err
}

// abandon takes a few messages and is gone.
func (s *soak) abandon(ctx context.Context, _ int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	info, err := s.client.GetFlightInfo(ctx, &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: []byte(faultCommand)})
	if err != nil {
		return err
	}
	stream, err := s.client.DoGet(ctx, info.GetEndpoint()[0].GetTicket())
	for range rand.IntN(5) {
		if err == nil {
			_, err = stream.Recv()
		}
	}
	return err
}

// migrate brings a small table there and back.
func (s *soak) migrate(ctx context.Context, n int) error {
	client := schemav1connect.NewMigrationServiceClient(s.http, s.schema)
	started, err := client.StartMigration(ctx, connect.NewRequest(&schemav1.StartMigrationRequest{
		Spec: &schemav1.MigrationSpec{Layer: "small"}, IdempotencyKey: fmt.Sprint("soak ", n),
	}))
	if err != nil {
		return err
	}
	m := started.Msg.GetMigration()
	reach := func(state schemav1.MigrationState) error {
		for m.GetState() != state {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
			got, err := client.GetMigration(ctx, connect.NewRequest(&schemav1.GetMigrationRequest{Id: m.GetId()}))
			if err != nil {
				return err
			}
			if m = got.Msg.GetMigration(); m.GetFailure() != nil {
				return fmt.Errorf("migration: %v", m.GetFailure())
			}
		}
		return nil
	}
	if err := reach(schemav1.MigrationState_MIGRATION_STATE_VERIFIED); err != nil {
		return err
	}
	if _, err := client.CutOver(ctx, connect.NewRequest(&schemav1.CutOverRequest{Id: m.GetId(), Etag: m.GetEtag()})); err != nil {
		return err
	}
	if err := reach(schemav1.MigrationState_MIGRATION_STATE_CUT_OVER); err != nil {
		return err
	}
	_, err = client.Rollback(ctx, connect.NewRequest(&schemav1.RollbackRequest{Id: m.GetId(), Etag: m.GetEtag()}))
	return err
}

func (s *soak) export(ctx context.Context, n int) error {
	client := mergerv1connect.NewExportServiceClient(s.http, s.merger)
	name := fmt.Sprintf("soak%d.parquet", n)
	started, err := client.StartExport(ctx, connect.NewRequest(&mergerv1.StartExportRequest{
		Spec: &mergerv1.ExportSpec{Name: name, Merge: &mergerv1.MergeSpec{Layers: []*mergerv1.LayerSelection{{Name: "layer_0"}}}},
	}))
	if err != nil {
		return err
	}
	stream, err := client.WatchExport(ctx, connect.NewRequest(&mergerv1.WatchExportRequest{Id: started.Msg.GetExport().GetId()}))
	if err != nil {
		return err
	}
	last := mergerv1.ExportState_EXPORT_STATE_UNSPECIFIED
	for stream.Receive() {
		last = stream.Msg().GetExport().GetState()
	}
	if err := stream.Close(); err != nil {
		return err
	}
	if last != mergerv1.ExportState_EXPORT_STATE_SUCCEEDED {
		return fmt.Errorf("the export ended as %s", last)
	}
	return os.Remove(filepath.Join(s.exports, name))
}

// refused sends what must be refused.
func (s *soak) refused(ctx context.Context, n int) error {
	methods := contracts()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.merger+"/"+methods[n%len(methods)], strings.NewReader(`{"nonsense": 1`))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := s.http.Do(request)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
	if answer.StatusCode < http.StatusBadRequest {
		return fmt.Errorf("%s takes nonsense: %s", methods[n%len(methods)], answer.Status)
	}
	stream, err := s.client.DoGet(ctx, &flight.Ticket{Ticket: []byte(fmt.Sprint("nonsense ", n))})
	if err == nil {
		_, err = stream.Recv()
	}
	if err == nil {
		return fmt.Errorf("a ticket of nonsense is good")
	}
	return nil
}

// sample reads the numbers.
func (s *soak) sample() []float64 {
	values := make([]float64, len(measured))
	for i, m := range measured {
		if m.metric != "" {
			values[i] = s.metric(s.t, m.metric)
			continue
		}
		err := s.pool.QueryRow(s.t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'rasterloom%'").Scan(&values[i])
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return values
}

// TestSoak works a suite for RASTERLOOM_SOAK (`make soak`): merges, abandoned streams,
// ingests, migrations, exports and nonsense, all at once. What the process holds
// must not grow once it is warm. Without the variable it works for a few seconds,
// and only has to be at rest again afterwards.
func TestSoak(t *testing.T) {
	length := 3 * time.Second
	if text := os.Getenv("RASTERLOOM_SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	exports := t.TempDir()
	s := &soak{t: t, exports: exports, done: map[string]*atomic.Int64{}}
	s.broken = newBroken(t, 2, "--merger-export-dir="+exports)
	for _, sql := range []string{
		"CREATE TABLE public.small (row_idx int, col_idx int, value float8, PRIMARY KEY (row_idx, col_idx))",
		"INSERT INTO public.small SELECT r, c, r FROM generate_series(0, 59) r, generate_series(0, 59) c",
	} {
		if _, err := s.pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.schemaClient().RegisterLayer(t.Context(), connect.NewRequest(&schemav1.RegisterLayerRequest{
		Name: "small", Table: &layerv1.Table{Schema: "public", Name: "small"}, Lattice: &schemav1.RegisterLayerRequest_Extent{Extent: &gridv1.Extent{Crs: "EPSG:3035", Bounds: []float64{0, 0, 60, 60}, Rows: 60, Cols: 60}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.merge(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	s.requireNothing(t, 0)
	base := s.metric(t, "go_goroutines")

	// Cancelled, and not by a deadline: gRPC looks at that itself, and ends calls by it
	// before a timer does that fires late.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	defer time.AfterFunc(length, cancel).Stop()
	var working sync.WaitGroup
	for i := range 2 {
		s.work(ctx, &working, fmt.Sprint("merges ", i), s.merge)
		s.work(ctx, &working, fmt.Sprint("abandoned streams ", i), s.abandon)
	}
	s.work(ctx, &working, "migrations there and back", s.migrate)
	s.work(ctx, &working, "exports", s.export)
	s.work(ctx, &working, "refused requests", s.refused)
	taker := &side{name: "the suite", schema: &replica{flight: s.flight}}
	s.work(ctx, &working, "ingests", func(context.Context, int) error { return taker.put(t, "soaked") })

	var at []float64
	samples := make([][]float64, len(measured))
	tick := time.NewTicker(max(200*time.Millisecond, length/300))
	defer tick.Stop()
	began := time.Now()
	for first := true; first || ctx.Err() == nil; first = false {
		at = append(at, time.Since(began).Seconds())
		for i, v := range s.sample() {
			samples[i] = append(samples[i], v)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	working.Wait()
	for what, n := range s.done {
		t.Logf("%6d %s", n.Load(), what)
		if n.Load() == 0 && length >= time.Minute {
			t.Errorf("no %s in %v", what, length)
		}
	}
	warm := len(at) / 3
	for i, m := range measured {
		values := samples[i][warm:]
		slope, mean, least, most := line(at[warm:], values)
		drift, allowed := slope*(at[len(at)-1]-at[warm]), m.drift+m.share*mean
		t.Logf("%-21s %12.0f at the begin, then %.0f to %.0f, %.0f on average; the line through %d samples rises by %.1f, and may by %.1f", m.name, samples[i][0], least, most, mean, len(values), drift, allowed)
		if length >= time.Minute && drift > allowed {
			t.Errorf("%s: %v", m.name, samples[i])
		}
	}
	t.Logf("at rest %v after the last call", s.requireNothing(t, base+8).Round(time.Millisecond))
}

// line fits a line by least squares: its slope, and mean and range of the values.
func line(x, y []float64) (slope, mean, least, most float64) {
	var sx, sy, sxx, sxy float64
	n := float64(len(x))
	least, most = y[0], y[0]
	for i := range x {
		sx, sy, sxx, sxy = sx+x[i], sy+y[i], sxx+x[i]*x[i], sxy+x[i]*y[i]
		least, most = min(least, y[i]), max(most, y[i])
	}
	if d := n*sxx - sx*sx; d > 0 {
		slope = (n*sxy - sx*sy) / d
	}
	return slope, sy / n, least, most
}
