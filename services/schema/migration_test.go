package schema_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"connectrpc.com/connect"
	"go.uber.org/zap/zaptest"

	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/schema"
)

// migrations serves the world's database by another replica, in the protocol of
// the options.
func (w *world) migrations(options ...connect.ClientOption) schemav1connect.MigrationServiceClient {
	w.t.Helper()
	log := zaptest.NewLogger(w.t)
	service, err := schema.New(w.t.Context(), schema.Config{DatabaseURL: w.url}, boot.Deps{Log: log})
	if err != nil {
		w.t.Fatal(err)
	}
	mux := http.NewServeMux()
	for path, handler := range service.Handlers {
		mux.Handle(path, handler)
	}
	server := httptest.NewUnstartedServer(wire.Edge(log, access.Everybody(), mux))
	server.EnableHTTP2 = true
	server.StartTLS()
	w.t.Cleanup(func() {
		server.Close()
		service.Close()
	})
	return schemav1connect.NewMigrationServiceClient(server.Client(), server.URL, options...)
}

func start(layer, key string) *connect.Request[schemav1.StartMigrationRequest] {
	return connect.NewRequest(&schemav1.StartMigrationRequest{Spec: &schemav1.MigrationSpec{Layer: layer}, IdempotencyKey: key})
}

// watch follows a migration to where it stands still.
func watch(ctx context.Context, t *testing.T, c schemav1connect.MigrationServiceClient, id string) *schemav1.Migration {
	t.Helper()
	stream, err := c.WatchMigration(ctx, connect.NewRequest(&schemav1.WatchMigrationRequest{Id: id}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var last *schemav1.Migration
	for stream.Receive() {
		last = stream.Msg().GetMigration()
	}
	if stream.Err() != nil {
		t.Fatal(stream.Err())
	}
	return last
}

func TestMigrationFromAdoptionToTheEnd(t *testing.T) {
	w := newWorld(t)
	w.legacy("passthrough_birds")
	w.add(row{name: "birds", metadata: `{"passthrough": true}`})
	w.adopt()
	c := w.migrations(connect.WithGRPC())
	ctx := t.Context()

	plan, err := c.PlanMigration(ctx, connect.NewRequest(&schemav1.PlanMigrationRequest{Spec: &schemav1.MigrationSpec{Layer: "birds"}}))
	if err != nil {
		t.Fatal(err)
	}
	if p := plan.Msg.GetPlan(); p.GetRows() != 24 || len(p.GetRefusals()) != 0 || len(p.GetLocks()) == 0 || p.GetDiskBytes() == 0 {
		t.Errorf("plan %v", p)
	}
	began, err := c.StartMigration(ctx, start("birds", "k"))
	if err != nil {
		t.Fatal(err)
	}
	m := watch(ctx, t, c, began.Msg.GetMigration().GetId())
	if m.GetState() != schemav1.MigrationState_MIGRATION_STATE_VERIFIED || m.GetVerification().GetNewRows() != 24 || m.GetRowsCopied() != 24 {
		t.Fatalf("it stands at %v", m)
	}
	over, err := c.CutOver(ctx, connect.NewRequest(&schemav1.CutOverRequest{Id: m.GetId(), Etag: m.GetEtag()}))
	if err != nil {
		t.Fatal(err)
	}
	m = over.Msg.GetMigration()
	l := w.layer("birds")
	if l.GetFormat() != layerv1.Format_FORMAT_COORDINATE || !l.GetHasCoordinates() || l.GetGeneration() != 2 {
		t.Errorf("after the cut-over the layer is %v", l)
	}
	// Looking again finds the same facts.
	if a := w.adopt(); a.GetChanged() != 0 || a.GetUnchanged() != 1 {
		t.Errorf("adoption after the cut-over: %d changed; %v", a.GetChanged(), w.layer("birds"))
	}
	back, err := c.Rollback(ctx, connect.NewRequest(&schemav1.RollbackRequest{Id: m.GetId(), Etag: m.GetEtag()}))
	if err != nil {
		t.Fatal(err)
	}
	if s := back.Msg.GetMigration().GetState(); s != schemav1.MigrationState_MIGRATION_STATE_ROLLED_BACK {
		t.Errorf("state %v", s)
	}
	if a := w.adopt(); a.GetChanged() != 0 || w.layer("birds").GetFormat() != layerv1.Format_FORMAT_LEGACY || w.layer("birds").GetGeneration() != 3 {
		t.Errorf("adoption after the rollback: %d changed; %v", a.GetChanged(), w.layer("birds"))
	}

	// Once more, to the end.
	began, err = c.StartMigration(ctx, start("birds", "k2"))
	if err != nil {
		t.Fatal(err)
	}
	m = watch(ctx, t, c, began.Msg.GetMigration().GetId())
	if over, err = c.CutOver(ctx, connect.NewRequest(&schemav1.CutOverRequest{Id: m.GetId(), Etag: m.GetEtag()})); err != nil {
		t.Fatal(err)
	}
	m = over.Msg.GetMigration()
	_, err = c.Finalize(ctx, connect.NewRequest(&schemav1.FinalizeRequest{Id: m.GetId(), Etag: m.GetEtag()}))
	wantError(t, err, connect.CodeInvalidArgument, "INVALID_ARGUMENT")
	if _, err := c.Finalize(ctx, connect.NewRequest(&schemav1.FinalizeRequest{Id: m.GetId(), Etag: m.GetEtag(), DropOldTable: true})); err != nil {
		t.Fatal(err)
	}
	list, err := c.ListMigrations(ctx, connect.NewRequest(&schemav1.ListMigrationsRequest{Layer: "birds"}))
	if err != nil || len(list.Msg.GetMigrations()) != 2 || list.Msg.GetMigrations()[0].GetState() != schemav1.MigrationState_MIGRATION_STATE_FINALIZED {
		t.Errorf("list %v, %v", list, err)
	}
	_, err = c.StartMigration(ctx, start("birds", "k3"))
	if f := wantError(t, err, connect.CodeFailedPrecondition, "MIGRATION_REFUSED"); f["refusals"] != "ALREADY_STORED" {
		t.Errorf("fields %v", f)
	}
}

func TestBadCallsOfMigrations(t *testing.T) {
	w := newWorld(t)
	w.legacy("passthrough_birds")
	w.add(row{name: "birds", metadata: `{"passthrough": true}`})
	w.add(row{name: "ghost", metadata: `{"passthrough": true}`})
	w.adopt()
	for name, options := range map[string][]connect.ClientOption{
		"Connect": nil, "Connect JSON": {connect.WithProtoJSON()}, "gRPC": {connect.WithGRPC()},
	} {
		t.Run(name, func(t *testing.T) {
			c, ctx := w.migrations(options...), t.Context()
			began, err := c.StartMigration(ctx, start("birds", "k"))
			if err != nil {
				t.Fatal(err)
			}
			m := watch(ctx, t, c, began.Msg.GetMigration().GetId())
			get := func(id string) error {
				_, err := c.GetMigration(ctx, connect.NewRequest(&schemav1.GetMigrationRequest{Id: id}))
				return err
			}
			for _, id := range []string{"", "17", "m", "m0", "m-1", "m01", "m1; DROP TABLE x", "m99999999999999999999"} {
				wantError(t, get(id), connect.CodeInvalidArgument, "INVALID_ARGUMENT")
			}
			wantError(t, get("m4711"), connect.CodeNotFound, "MIGRATION_NOT_FOUND")
			_, err = c.StartMigration(ctx, start("unknown", "k9"))
			wantError(t, err, connect.CodeNotFound, "LAYER_NOT_FOUND")
			_, err = c.StartMigration(ctx, start("ghost", "k9"))
			wantError(t, err, connect.CodeFailedPrecondition, "MIGRATION_REFUSED")
			_, err = c.StartMigration(ctx, start("birds", "k9"))
			wantError(t, err, connect.CodeAlreadyExists, "MIGRATION_EXISTS")
			_, err = c.Rollback(ctx, connect.NewRequest(&schemav1.RollbackRequest{Id: m.GetId(), Etag: m.GetEtag()}))
			wantError(t, err, connect.CodeFailedPrecondition, "MIGRATION_STATE")
			_, err = c.CutOver(ctx, connect.NewRequest(&schemav1.CutOverRequest{Id: m.GetId(), Etag: "0"}))
			wantError(t, err, connect.CodeAborted, "MIGRATION_CHANGED")
			_, err = c.PauseMigration(ctx, connect.NewRequest(&schemav1.PauseMigrationRequest{Id: m.GetId(), Etag: m.GetEtag()}))
			wantError(t, err, connect.CodeFailedPrecondition, "MIGRATION_STATE")
			for _, bad := range []*schemav1.StartMigrationRequest{
				{IdempotencyKey: "k"},
				{Spec: &schemav1.MigrationSpec{Layer: "birds"}},
				{Spec: &schemav1.MigrationSpec{Layer: ""}, IdempotencyKey: "k"},
				{Spec: &schemav1.MigrationSpec{Layer: "birds", RowsPerSecondLimit: -1}, IdempotencyKey: "k"},
				{Spec: &schemav1.MigrationSpec{Layer: "birds", Level: 99}, IdempotencyKey: "k"},
			} {
				if _, err := c.StartMigration(ctx, connect.NewRequest(bad)); connect.CodeOf(err) != connect.CodeInvalidArgument {
					t.Errorf("%v: %v", bad, err)
				}
			}
			again, err := c.GetMigration(ctx, connect.NewRequest(&schemav1.GetMigrationRequest{Id: m.GetId()}))
			if err != nil || again.Msg.GetMigration().GetEtag() != m.GetEtag() {
				t.Errorf("refused calls changed it: %v %v", again, err)
			}
			if _, err := c.AbortMigration(ctx, connect.NewRequest(&schemav1.AbortMigrationRequest{Id: m.GetId(), Etag: m.GetEtag()})); err != nil {
				t.Fatal(err)
			}
			w.exec("DELETE FROM rasterloom.migration_lane")
			w.exec("DELETE FROM rasterloom.migration")
		})
	}
}
