package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/boot"
)

// side is one version of the deployment: a schema service, an aligner and a merger.
type side struct {
	name   string
	schema *replica
	merger *replica
	puts   flight.Client
	start  func() *replica // another schema service of the version, at the address of the first
}

func (s *side) migrations(t *testing.T) schemav1connect.MigrationServiceClient {
	t.Helper()
	client := boot.NewHTTPClient()
	t.Cleanup(client.CloseIdleConnections)
	return schemav1connect.NewMigrationServiceClient(client, s.schema.url)
}

func (s *side) layers(t *testing.T) schemav1connect.SchemaServiceClient {
	t.Helper()
	client := boot.NewHTTPClient()
	t.Cleanup(client.CloseIdleConnections)
	return schemav1connect.NewSchemaServiceClient(client, s.schema.url)
}

func dialFlight(t *testing.T, address string) flight.Client {
	t.Helper()
	client, err := flight.NewClientWithMiddleware(strings.TrimPrefix(address, "grpc://"), nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// newSide starts a version on a database.
func newSide(t *testing.T, name, zone, bin, databaseURL string) *side {
	t.Helper()
	s := &side{name: name}
	run := func(listen, flightListen string) *replica {
		return startReplica(t, zone, filepath.Join(bin, "schema"), "--listen="+listen, "--flight-listen="+flightListen, "--database-url="+databaseURL, "--migration-lease=5s")
	}
	s.schema = run("127.0.0.1:0", "127.0.0.1:0")
	listen, flightListen := strings.TrimPrefix(s.schema.url, "http://"), s.schema.flight
	s.start = func() *replica { return run(listen, flightListen) }
	aligner := startReplica(t, zone, filepath.Join(bin, "aligner"), "--listen=127.0.0.1:0", "--schema-url="+s.schema.url)
	s.merger = startReplica(t, zone, filepath.Join(bin, "merger"), "--listen=127.0.0.1:0", "--flight-listen=127.0.0.1:0", "--database-url="+databaseURL,
		"--schema-url="+s.schema.url, "--aligner-url="+aligner.url, "--ticket-key=a-key-that-both-versions-share")
	return s
}

// begin starts a migration by one side, slowly, and gives it once it copies.
func (s *side) begin(t *testing.T, layer string) *schemav1.Migration {
	t.Helper()
	return s.beginTo(t, schemav1.MigrationLevel_MIGRATION_LEVEL_STORED, layer, "upgrade "+layer)
}

// beginTo starts one to any level, under an idempotency key.
func (s *side) beginTo(t *testing.T, level schemav1.MigrationLevel, layer, key string) *schemav1.Migration {
	t.Helper()
	started, err := s.migrations(t).StartMigration(t.Context(), connect.NewRequest(&schemav1.StartMigrationRequest{
		Spec: &schemav1.MigrationSpec{Layer: layer, Level: level, RowsPerSecondLimit: faultSide * faultSide / 5}, IdempotencyKey: key,
	}))
	if err != nil {
		t.Fatal(err)
	}
	return s.await(t, started.Msg.GetMigration().GetId(), func(m *schemav1.Migration) bool {
		return m.GetState() == schemav1.MigrationState_MIGRATION_STATE_BACKFILLING && m.GetRowsCopied() > 0
	})
}

// await waits until a migration is as wanted.
func (s *side) await(t *testing.T, id string, ok func(*schemav1.Migration) bool) *schemav1.Migration {
	t.Helper()
	client := s.migrations(t)
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		got, err := client.GetMigration(t.Context(), connect.NewRequest(&schemav1.GetMigrationRequest{Id: id}))
		if err != nil {
			t.Fatal(err)
		}
		switch m := got.Msg.GetMigration(); {
		case ok(m):
			return m
		case m.GetCondition() == schemav1.MigrationCondition_MIGRATION_CONDITION_FAILED || time.Now().After(deadline):
			t.Fatalf("%s, asked of %s: %v", id, s.name, m)
		}
	}
}

func (s *side) verified(t *testing.T, id string) *schemav1.Migration {
	t.Helper()
	return s.await(t, id, func(m *schemav1.Migration) bool {
		return m.GetState() == schemav1.MigrationState_MIGRATION_STATE_VERIFIED
	})
}

// ingest sends one cell as a layer that may be there already.
func (s *side) ingest(t *testing.T, name string) {
	t.Helper()
	if err := s.put(t, name); err != nil {
		t.Errorf("ingest by %s: %v", s.name, err)
	}
}

func (s *side) put(t *testing.T, name string) error {
	t.Helper()
	form := arrow.NewSchema([]arrow.Field{
		{Name: "row", Type: arrow.PrimitiveTypes.Int32}, {Name: "col", Type: arrow.PrimitiveTypes.Int32}, {Name: "value", Type: arrow.PrimitiveTypes.Int16},
	}, nil)
	record, _, err := array.RecordFromJSON(memory.DefaultAllocator, form, strings.NewReader(`[{"row": 0, "col": 0, "value": 7}]`))
	if err != nil {
		t.Fatal(err)
	}
	defer record.Release()
	if s.puts == nil {
		s.puts = dialFlight(t, s.schema.flight)
	}
	stream, err := s.puts.DoPut(t.Context())
	if err != nil {
		return err
	}
	w := flight.NewRecordWriter(stream, ipc.WithSchema(form))
	w.SetFlightDescriptor(&flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: fmt.Appendf(nil,
		`{"name": %q, "dataType": "DATA_TYPE_INT16", "mode": "INGEST_MODE_REPLACE", "grid": {"crs": "EPSG:3035", "rows": 4, "cols": 4, "originX": 0, "originY": 4, "stepX": 1, "stepY": 1}}`, name)})
	err = errors.Join(w.Write(record), stream.Send(&flight.FlightData{AppMetadata: []byte(`{"complete": true, "rows": 1}`)}), w.Close(), stream.CloseSend())
	if err == nil {
		_, err = stream.Recv()
	}
	return err
}

// crossed counts streams through both versions.
type crossed struct {
	complete, refused, short atomic.Int64
	mu                       sync.Mutex
	errors                   map[string]int
}

// read plans at one merger and reads at another, again and again.
func (c *crossed) read(ctx context.Context, plan, read flight.Client) {
	for ctx.Err() == nil {
		info, err := plan.GetFlightInfo(ctx, &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: []byte(faultCommand)})
		rows := int64(0)
		if err == nil {
			rows, err = rowsRead(ctx, read, info)
		}
		switch {
		case ctx.Err() != nil:
		case err == nil && rows == faultSide*faultSide:
			c.complete.Add(1)
		case err == nil:
			c.short.Add(1)
		default:
			c.refused.Add(1)
			c.mu.Lock()
			c.errors[fmt.Sprintf("%.90s", err)]++
			c.mu.Unlock()
			select { // as a client would before it tries again
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

func rowsRead(ctx context.Context, client flight.Client, info *flight.FlightInfo) (rows int64, err error) {
	err = batchesRead(ctx, client, info, func(b arrow.RecordBatch) { rows += b.NumRows() })
	return rows, err
}

func batchesRead(ctx context.Context, client flight.Client, info *flight.FlightInfo, each func(arrow.RecordBatch)) error {
	stream, err := client.DoGet(ctx, info.GetEndpoint()[0].GetTicket())
	if err != nil {
		return err
	}
	reader, err := flight.NewRecordReader(stream)
	if err != nil {
		return err
	}
	defer reader.Release()
	for reader.Next() {
		each(reader.RecordBatch())
	}
	if err := reader.Err(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// beforeUpgrade makes a database on which the old version works alone, and gives
// what starts the new one beside it. Both, and the database, live in time zones of
// their own. RASTERLOOM_OLD names a folder with the programs of the version before
// (`make upgrade`); without it both are this one.
func beforeUpgrade(t *testing.T) (old *side, newVersion func() *side, pool *pgxpool.Pool) {
	t.Helper()
	now := binaries(t)
	before := cmp.Or(os.Getenv("RASTERLOOM_OLD"), now)
	url, pool := breakable(t, 2)
	// The catalog that the version before makes, not the one that tests are given.
	if _, err := pool.Exec(t.Context(), `DO $$ BEGIN DROP SCHEMA IF EXISTS rasterloom_tiles, rasterloom CASCADE; EXECUTE format('ALTER DATABASE %I SET timezone = %L', current_database(), 'Asia/Kathmandu');
		EXECUTE format('ALTER DATABASE %I SET datestyle = %L', current_database(), 'SQL, DMY'); END $$`); err != nil {
		t.Fatal(err)
	}
	old = newSide(t, "the old version", "Pacific/Kiritimati", before, url)
	if _, err := old.layers(t).AdoptCatalog(t.Context(), connect.NewRequest(&schemav1.AdoptCatalogRequest{})); err != nil {
		t.Fatal(err)
	}
	return old, func() *side { return newSide(t, "the new version", "America/St_Johns", now, url) }, pool
}

// Two versions of the deployment work on one database, side by side: what one begins,
// the other one finishes, and merges read through both all the while.
func TestUpgrade(t *testing.T) {
	old, newVersion, pool := beforeUpgrade(t)
	catalogVersion := func() (v int64) {
		t.Helper()
		if err := pool.QueryRow(t.Context(), "SELECT max(version_id) FROM rasterloom.schema_version WHERE is_applied").Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	version := catalogVersion()
	first := old.begin(t, "layer_0")

	if age := time.Since(first.GetCreateTime().AsTime()); age < -time.Minute || age > 10*time.Minute {
		t.Errorf("a migration of now was made %v ago", age)
	}

	// The catalog is migrated under the old version, which goes on.
	fresh := newVersion()
	t.Logf("catalog version %d, then %d", version, catalogVersion())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var reading sync.WaitGroup
	counts := map[string]*crossed{}
	for _, pair := range [][2]*side{{old, old}, {old, fresh}, {fresh, old}, {fresh, fresh}} {
		c := &crossed{errors: map[string]int{}}
		counts["planned by "+pair[0].name+", read by "+pair[1].name] = c
		plan, read := dialFlight(t, pair[0].merger.flight), dialFlight(t, pair[1].merger.flight)
		reading.Go(func() { c.read(ctx, plan, read) })
	}
	old.ingest(t, "ingested")
	fresh.ingest(t, "ingested")
	old.ingest(t, "ingested")

	// Old begins, new finishes.
	old.schema.stop()
	m := fresh.verified(t, first.GetId())
	if _, err := fresh.migrations(t).CutOver(t.Context(), connect.NewRequest(&schemav1.CutOverRequest{Id: m.GetId(), Etag: m.GetEtag()})); err != nil {
		t.Fatal(err)
	}
	// An old one comes again, as where an upgrade is taken back: the catalog is the
	// new one's. New begins, old finishes.
	second := fresh.begin(t, "layer_1")
	old.schema = old.start()
	fresh.schema.stop()
	m = old.verified(t, second.GetId())
	if _, err := old.migrations(t).CutOver(t.Context(), connect.NewRequest(&schemav1.CutOverRequest{Id: m.GetId(), Etag: m.GetEtag()})); err != nil {
		t.Fatal(err)
	}
	m = old.await(t, first.GetId(), func(m *schemav1.Migration) bool {
		return m.GetState() == schemav1.MigrationState_MIGRATION_STATE_CUT_OVER
	})
	if _, err := old.migrations(t).Rollback(t.Context(), connect.NewRequest(&schemav1.RollbackRequest{Id: m.GetId(), Etag: m.GetEtag()})); err != nil {
		t.Errorf("roll back by the old version what the new one cut over: %v", err)
	}
	fresh.schema = fresh.start()
	for _, s := range []*side{old, fresh} {
		list, err := s.layers(t).ListLayers(t.Context(), connect.NewRequest(&schemav1.ListLayersRequest{}))
		if err != nil || len(list.Msg.GetLayers()) != 3 {
			t.Errorf("%s lists %v, %v", s.name, list, err)
		}
	}
	// And every pair reads the whole once more.
	for name, c := range counts {
		had := c.complete.Load()
		for deadline := time.Now().Add(2 * time.Minute); c.complete.Load() < had+2; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("%s: no stream comes to its end any more", name)
				break
			}
		}
	}
	cancel()
	reading.Wait()
	for name, c := range counts {
		t.Logf("%s: %d complete, %d ended with an error, %d short ones accepted; %v", name, c.complete.Load(), c.refused.Load(), c.short.Load(), c.errors)
		if c.short.Load() > 0 || c.complete.Load() == 0 {
			t.Errorf("%s: a short table was accepted, or none was read", name)
		}
	}
}
