package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/rasterloom/rasterloom/fault"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/wire"
)

// migrations is a service that has one migration and one plan.
type migrations struct {
	schemav1connect.UnimplementedMigrationServiceHandler
	migration *schemav1.Migration
	plan      *schemav1.MigrationPlan
	finalize  func(context.Context) error
}

func (m migrations) Finalize(ctx context.Context, _ *connect.Request[schemav1.FinalizeRequest]) (*connect.Response[schemav1.FinalizeResponse], error) {
	if err := m.finalize(ctx); err != nil {
		return nil, err
	}
	return connect.NewResponse(&schemav1.FinalizeResponse{Migration: m.migration}), nil
}

func (m migrations) ListMigrations(context.Context, *connect.Request[schemav1.ListMigrationsRequest]) (*connect.Response[schemav1.ListMigrationsResponse], error) {
	return connect.NewResponse(&schemav1.ListMigrationsResponse{Migrations: []*schemav1.Migration{m.migration}}), nil
}

func (m migrations) StartMigration(context.Context, *connect.Request[schemav1.StartMigrationRequest]) (*connect.Response[schemav1.StartMigrationResponse], error) {
	return connect.NewResponse(&schemav1.StartMigrationResponse{Migration: m.migration}), nil
}

func (m migrations) PlanMigration(context.Context, *connect.Request[schemav1.PlanMigrationRequest]) (*connect.Response[schemav1.PlanMigrationResponse], error) {
	return connect.NewResponse(&schemav1.PlanMigrationResponse{Plan: m.plan}), nil
}

func (m migrations) WatchMigration(_ context.Context, _ *connect.Request[schemav1.WatchMigrationRequest], stream *connect.ServerStream[schemav1.WatchMigrationResponse]) error {
	return stream.Send(&schemav1.WatchMigrationResponse{Migration: m.migration})
}

// served has the command line ask a service of migrations of the test.
func served(t *testing.T, service schemav1connect.MigrationServiceHandler) {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(schemav1connect.NewMigrationServiceHandler(service))
	mux.Handle(schemav1connect.NewSchemaServiceHandler(oneLayer{}))
	server := httptest.NewUnstartedServer(mux)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	t.Setenv("RASTERLOOM_CONFIG", "/dev/null")
	t.Setenv("RASTERLOOM_URL", server.URL)
}

// outcome runs a command line and gives its error.
func outcome(t *testing.T, line string) error {
	t.Helper()
	parsed, err := parse(noSettings, strings.Fields(line))
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	parsed.BindTo(t.Context(), (*context.Context)(nil))
	return parsed.Run()
}

// A script sees by the status that a migration failed, or cannot be made.
func TestFailedMigrationIsNoSuccess(t *testing.T) {
	const (
		failed  = schemav1.MigrationCondition_MIGRATION_CONDITION_FAILED
		paused  = schemav1.MigrationCondition_MIGRATION_CONDITION_PAUSED
		running = schemav1.MigrationCondition_MIGRATION_CONDITION_RUNNING
	)
	stands := func(c schemav1.MigrationCondition) migrations {
		m := &schemav1.Migration{Id: "m1", Layer: "birds", State: schemav1.MigrationState_MIGRATION_STATE_SYNCED, Condition: c}
		if c == failed {
			m.Failure = &schemav1.MigrationFailure{Reason: "LAYER_CHANGED", Message: "the table was altered"}
		}
		return migrations{migration: m}
	}
	refused := migrations{plan: &schemav1.MigrationPlan{Refusals: []*schemav1.Refusal{{Code: "COLUMNS", Message: "no"}}}}
	small := migrations{plan: &schemav1.MigrationPlan{DiskBytes: 2, DiskHeadroomBytes: new(int64(1))}}
	for _, c := range []struct {
		service migrations
		line    string
		want    int
	}{
		{stands(failed), "migrate watch birds", statusFailed},
		{stands(failed), "migrate watch birds -o json", statusFailed},
		{stands(failed), "migrate start birds --watch", statusFailed},
		{stands(failed), "migrate show birds", 0},
		{stands(paused), "migrate watch birds", 0},
		{stands(running), "migrate start birds --watch", 0},
		{refused, "migrate plan birds", statusFailed},
		{refused, "migrate plan birds -o json", statusFailed},
		{small, "migrate plan birds", statusFailed},
		{migrations{plan: &schemav1.MigrationPlan{}}, "migrate plan birds", 0},
	} {
		served(t, c.service)
		status := 0
		if err := outcome(t, c.line); err != nil {
			status = report(nil, err, false)
		}
		if status != c.want {
			t.Errorf("%s: status %d, want %d", c.line, status, c.want)
		}
	}
}

// The doctor names a migration that waits for somebody to mend something.
func TestDoctorNamesFailedMigrations(t *testing.T) {
	served(t, migrations{migration: &schemav1.Migration{
		Id: "m7", Layer: "birds", State: schemav1.MigrationState_MIGRATION_STATE_SYNCED, Condition: schemav1.MigrationCondition_MIGRATION_CONDITION_FAILED,
		Failure: &schemav1.MigrationFailure{Reason: "LAYER_CHANGED", Message: "the table was altered"},
	}})
	parsed, err := parse(noSettings, []string{"doctor"})
	if err != nil {
		t.Fatal(err)
	}
	d := &doctor{c: parsed.cli.Doctor}
	d.migrations(t.Context())
	if len(d.findings) != 1 || d.findings[0].State != stateFailed || d.findings[0].Mend == "" ||
		!strings.Contains(d.findings[0].Message, "m7 of layer birds failed: LAYER_CHANGED the table was altered") {
		t.Errorf("%+v", d.findings)
	}
}

// A table of any size is finalized: --timeout is for calls that do not depend on it.
func TestFinalizeTakesAsLongAsItTakes(t *testing.T) {
	const short = 100 * time.Millisecond
	took := make(chan struct{})
	served(t, migrations{migration: &schemav1.Migration{Id: "m7", Layer: "birds"}, finalize: func(ctx context.Context) error {
		defer close(took)
		select {
		case <-time.After(3 * short):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}})
	if err := outcome(t, "migrate finalize m7 --drop-old-table --timeout="+short.String()); err != nil {
		t.Error(err)
	}
	<-took
}

// Whose limit ended a call is told apart: ours, which --timeout sets, or the server's.
func TestWhoseLimitItWas(t *testing.T) {
	const theirs = "the call took longer than the 60ms that this server allows (--call-time)"
	for name, c := range map[string]struct {
		finalize func(context.Context) error
		line     string
		want     string
		status   int
	}{
		"the server's": {
			func(context.Context) error { return connect.NewError(connect.CodeDeadlineExceeded, errors.New(theirs)) },
			"migrate finalize m7 --drop-old-table", theirs, statusFailed,
		},
		"ours": {nil, "migrate show m7 --timeout=1ns", "--timeout allows more", statusUnreachable},
	} {
		served(t, migrations{migration: &schemav1.Migration{Id: "m7", Layer: "birds"}, finalize: c.finalize})
		err := outcome(t, c.line)
		if err == nil || !strings.Contains(err.Error(), c.want) || report(nil, err, false) != c.status {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a migration waits for is shown.
func TestWaitIsShown(t *testing.T) {
	m := &schemav1.Migration{Id: "m7", Layer: "birds", State: schemav1.MigrationState_MIGRATION_STATE_PLANNED, Condition: schemav1.MigrationCondition_MIGRATION_CONDITION_RUNNING,
		Waiting: &schemav1.MigrationFailure{Reason: "TABLE_BUSY", Message: "locked by session 17"}}
	if line := (painter{}).progress(&schemav1.WatchMigrationResponse{Migration: m}); !strings.HasSuffix(line, "waits TABLE_BUSY locked by session 17") {
		t.Errorf("%q", line)
	}
}

// An empty path in the environment is none.
func TestEmptyPathIsNone(t *testing.T) {
	t.Setenv("RASTERLOOM_CA", "")
	t.Setenv("RASTERLOOM_TOKEN_FILE", "")
	served(t, migrations{migration: &schemav1.Migration{Id: "m7", Layer: "birds"}})
	if err := outcome(t, "migrate show m7"); err != nil {
		t.Error(err)
	}
	parsed, err := parse(noSettings, []string{"migrate", "show", "m7", "--ca=ca.pem"})
	if err != nil || !filepath.IsAbs(parsed.cli.Migrate.Show.CA) {
		t.Errorf("%v: --ca is %q", err, parsed.cli.Migrate.Show.CA)
	}
}

// The name of a layer that has no migration is not taken for a bad id.
func TestLayerWithoutMigration(t *testing.T) {
	served(t, none{})
	err := outcome(t, "migrate abort s1")
	if err == nil || err.Error() != "layer s1 has no migration" || report(nil, err, false) != statusFailed {
		t.Errorf("%v", err)
	}
}

// none is a service without migrations, which refuses what is no id.
type none struct {
	schemav1connect.UnimplementedMigrationServiceHandler
}

func (none) ListMigrations(context.Context, *connect.Request[schemav1.ListMigrationsRequest]) (*connect.Response[schemav1.ListMigrationsResponse], error) {
	return connect.NewResponse(&schemav1.ListMigrationsResponse{}), nil
}

func (none) GetMigration(context.Context, *connect.Request[schemav1.GetMigrationRequest]) (*connect.Response[schemav1.GetMigrationResponse], error) {
	return nil, wire.ToConnect(fault.New(fault.Invalid, fault.InvalidArgument, "it is not the id of a migration, such as m17"))
}

// oneLayer has the layer s1.
type oneLayer struct {
	schemav1connect.UnimplementedSchemaServiceHandler
}

func (oneLayer) GetLayer(_ context.Context, req *connect.Request[schemav1.GetLayerRequest]) (*connect.Response[schemav1.GetLayerResponse], error) {
	if req.Msg.GetName() != "s1" {
		return nil, wire.ToConnect(fault.New(fault.NotFound, fault.LayerNotFound, "no layer"))
	}
	return connect.NewResponse(&schemav1.GetLayerResponse{}), nil
}
