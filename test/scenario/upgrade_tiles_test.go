package scenario

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
)

// ones adds one to a cell of a layer, transaction by transaction, all over its table:
// whoever reads the whole layer can tell by the sum how much of it was seen.
type ones struct {
	sum              int64 // of all cells, before the first
	begun, committed atomic.Int64
	stopped          chan struct{}
	stop             context.CancelFunc
}

func startOnes(t *testing.T, pool *pgxpool.Pool) *ones {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &ones{stopped: make(chan struct{}), stop: cancel}
	if err := pool.QueryRow(ctx, "SELECT sum(value)::bigint FROM public.resampled_layer_0").Scan(&w.sum); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(w.stopped)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for n := int64(0); ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			w.begun.Add(1)
			tag, err := pool.Exec(context.WithoutCancel(ctx), "UPDATE public.resampled_layer_0 SET value = value + 1 WHERE row_idx = $1 AND col_idx = $2",
				n*257%faultSide, n*263%faultSide)
			if err != nil || tag.RowsAffected() != 1 {
				t.Errorf("write %d: %v, %v", n, tag, err)
				return
			}
			w.committed.Add(1)
		}
	}()
	t.Cleanup(w.end)
	return w
}

func (w *ones) end() {
	w.stop()
	<-w.stopped
}

// witness reads the layer through one version, again and again, and holds what it
// reads against what was written by then.
type witness struct {
	name           string
	right, refused atomic.Int64 // refused: as what this version does not know
	mu             sync.Mutex
	errors         map[string]int
	wrong          []string
}

func (w *witness) watch(ctx context.Context, client flight.Client, written *ones) {
	for ctx.Err() == nil {
		err := w.read(ctx, client, written)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			w.right.Add(1)
			continue
		case status.Code(err) == codes.Unimplemented:
			w.refused.Add(1)
		}
		w.mu.Lock()
		w.errors[fmt.Sprintf("%s: %.160s", status.Code(err), status.Convert(err).Message())]++
		w.mu.Unlock()
		select { // as a client would before it tries again
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// read reads the layer once. What it takes for whole must be what was committed
// before it began, and may have what was begun before its end.
func (w *witness) read(ctx context.Context, client flight.Client, written *ones) error {
	info, err := client.GetFlightInfo(ctx, &flight.FlightDescriptor{Type: flight.DescriptorCMD,
		Cmd: []byte(`{"layers": [{"name": "layer_0"}], "batchRows": 65536, "endpoints": 1}`)})
	if err != nil {
		return err
	}
	least := written.committed.Load()
	rows, sum := int64(0), 0.0
	err = batchesRead(ctx, client, info, func(b arrow.RecordBatch) {
		rows += b.NumRows()
		column, ok := b.Column(int(b.NumCols()) - 1).(*array.Float64)
		if !ok {
			return
		}
		for _, v := range column.Float64Values() {
			sum += v
		}
	})
	if err != nil {
		return err
	}
	if seen := int64(sum) - written.sum; rows != faultSide*faultSide || seen < least || seen > written.begun.Load() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.wrong = append(w.wrong, fmt.Sprintf("%d rows with %d of %d to %d writes", rows, seen, least, written.begun.Load()))
	}
	return nil
}

// until waits for something that reading has to bring.
func (w *witness) until(t *testing.T, what string, n func() int64) {
	t.Helper()
	had := n()
	for deadline := time.Now().Add(2 * time.Minute); n() < had+3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.mu.Lock()
			defer w.mu.Unlock()
			t.Fatalf("%s, by %s: not within two minutes; %v", what, w.name, w.errors)
		}
	}
}

func (w *witness) readsAgain(t *testing.T, when string) {
	t.Helper()
	w.until(t, "merges "+when, w.right.Load)
}

// A table is moved to tiles by the new version while replicas of the old one are still
// there, under a writer: the old ones give no cell that is behind, refuse what they do
// not know, and leave alone what they cannot do. Then it is undone; and done again, to
// its end, once all were replaced.
func TestUpgradeToTiles(t *testing.T) {
	old, newVersion, pool := beforeUpgrade(t)
	fresh := newVersion()
	written := startOnes(t, pool)
	endReading := map[*side]func(){}
	seen := map[*side]*witness{}
	for _, s := range []*side{old, fresh} {
		ctx, cancel := context.WithCancel(t.Context())
		w := &witness{name: s.name, errors: map[string]int{}}
		client, done := dialFlight(t, s.merger.flight), make(chan struct{})
		go func() {
			defer close(done)
			w.watch(ctx, client, written)
		}()
		seen[s], endReading[s] = w, func() { cancel(); <-done }
		t.Cleanup(endReading[s])
	}

	// An operator who comes to the old replica can do nothing, if it does not know
	// such migrations.
	m := fresh.beginTo(t, schemav1.MigrationLevel_MIGRATION_LEVEL_TILED, "layer_0", "tiles undone")
	paused, err := old.migrations(t).PauseMigration(t.Context(), connect.NewRequest(&schemav1.PauseMigrationRequest{Id: m.GetId(), Etag: m.GetEtag()}))
	knows := err == nil
	if knows {
		if _, err := old.migrations(t).ResumeMigration(t.Context(), connect.NewRequest(&schemav1.ResumeMigrationRequest{
			Id: m.GetId(), Etag: paused.Msg.GetMigration().GetEtag()})); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("the old version knows migrations to tiles as they are now: %v", knows)
	refused := func(what string, err error) {
		t.Helper()
		if connect.CodeOf(err) != connect.CodeFailedPrecondition {
			t.Errorf("%s, by a version that does not know migrations to tiles: %v", what, err)
		}
		t.Logf("%s, by the old version: %v", what, err)
	}
	if !knows {
		refused("pause", err)
	}

	// A worker of the old version, alone, does what it knows and passes over the rest.
	row := func() (s string) {
		t.Helper()
		if err := pool.QueryRow(t.Context(), "SELECT concat_ws(' ', state, condition, fence, new_table::regclass) FROM rasterloom.migration WHERE level = 'TILED' ORDER BY id DESC LIMIT 1").Scan(&s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	fresh.schema.stop()
	before := row()
	old.verified(t, old.begin(t, "layer_1").GetId())
	if after := row(); !knows && after != before {
		t.Errorf("the old version has moved a migration to tiles from %q to %q", before, after)
	}
	fresh.schema = fresh.start()
	m = fresh.verified(t, m.GetId())
	if !knows {
		_, err = old.migrations(t).CutOver(t.Context(), connect.NewRequest(&schemav1.CutOverRequest{Id: m.GetId(), Etag: m.GetEtag()}))
		refused("cut over", err)
		_, err = old.migrations(t).AbortMigration(t.Context(), connect.NewRequest(&schemav1.AbortMigrationRequest{Id: m.GetId(), Etag: m.GetEtag()}))
		refused("abort", err)
	}
	cutOver := func() *schemav1.Migration {
		t.Helper()
		got, err := fresh.migrations(t).CutOver(t.Context(), connect.NewRequest(&schemav1.CutOverRequest{Id: m.GetId(), Etag: m.GetEtag()}))
		if err != nil {
			t.Fatal(err)
		}
		return got.Msg.GetMigration()
	}
	seen[old].readsAgain(t, "before the cut-over")
	m = cutOver()
	seen[fresh].readsAgain(t, "of tiles")
	seen[old].until(t, "merges of tiles, or their refusal", func() int64 { return seen[old].right.Load() + seen[old].refused.Load() })

	// What runs every night still goes to the old replica, which does not know that the
	// table's cells are in tiles by now; then to the new one, which does.
	format := func(by *side) layerv1.Format {
		t.Helper()
		adopted, err := by.layers(t).AdoptCatalog(t.Context(), connect.NewRequest(&schemav1.AdoptCatalogRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range adopted.Msg.GetLayers() {
			if l.GetName() == "layer_0" {
				return l.GetFormat()
			}
		}
		t.Fatalf("%s adopts %v", by.name, adopted.Msg)
		return 0
	}
	t.Logf("adopted by the old version, the layer is %s", format(old))
	seen[fresh].readsAgain(t, "after an adoption by the old version")
	if f := format(fresh); f != layerv1.Format_FORMAT_TILED {
		t.Errorf("adopted by the new version, the layer is %s", f)
	}
	seen[fresh].readsAgain(t, "after an adoption by the new version")

	// And back, while the old replica is there.
	if !knows {
		_, err = old.migrations(t).Rollback(t.Context(), connect.NewRequest(&schemav1.RollbackRequest{Id: m.GetId(), Etag: m.GetEtag()}))
		refused("roll back", err)
	}
	if _, err := fresh.migrations(t).Rollback(t.Context(), connect.NewRequest(&schemav1.RollbackRequest{Id: m.GetId(), Etag: m.GetEtag()})); err != nil {
		t.Fatal(err)
	}
	seen[fresh].readsAgain(t, "after the rollback")
	seen[old].readsAgain(t, "after the rollback")

	// Once all were replaced, the whole way.
	m = fresh.beginTo(t, schemav1.MigrationLevel_MIGRATION_LEVEL_TILED, "layer_0", "tiles kept")
	endReading[old]()
	old.merger.stop()
	old.schema.stop()
	m = fresh.verified(t, m.GetId())
	m = cutOver()
	seen[fresh].readsAgain(t, "of tiles, with all replicas new")
	written.end() // its table goes
	finalized, err := fresh.migrations(t).Finalize(t.Context(), connect.NewRequest(&schemav1.FinalizeRequest{Id: m.GetId(), Etag: m.GetEtag(), DropOldTable: true, DropName: true}))
	if err != nil {
		t.Fatal(err)
	}
	seen[fresh].readsAgain(t, "of tiles alone")
	t.Logf("after %d writes: %v", written.committed.Load(), finalized.Msg.GetMigration().GetState())
	for _, s := range []*side{old, fresh} {
		w := seen[s]
		endReading[s]()
		t.Logf("%s: %d merges were right, %d refused as unknown; %v", s.name, w.right.Load(), w.refused.Load(), w.errors)
		if len(w.wrong) > 0 {
			t.Errorf("%s: %d merges were wrong: %v", s.name, len(w.wrong), w.wrong[:min(5, len(w.wrong))])
		}
	}
	if seen[fresh].refused.Load() > 0 {
		t.Error("the new version has refused tiles of its own")
	}
}
