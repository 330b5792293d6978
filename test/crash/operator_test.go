package crash_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"

	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

func (s *scene) client() schemav1connect.MigrationServiceClient {
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13}}
	return schemav1connect.NewMigrationServiceClient(&http.Client{Transport: transport, Timeout: 20 * time.Second}, "http://"+s.address)
}

func (s *scene) spec() *schemav1.MigrationSpec {
	spec := &schemav1.MigrationSpec{Layer: "birds", InPlace: s.script.inPlace, RowsPerSecondLimit: s.script.rowsPerSecond}
	if s.script.tiles {
		spec.Level = schemav1.MigrationLevel_MIGRATION_LEVEL_TILED
		spec.Tiles = &schemav1.TileOptions{SqlView: true}
	}
	return spec
}

// awaitNote waits until the writers have noted a tile.
func (s *scene) awaitNote() {
	for end := time.Now().Add(s.patience); s.count("SELECT count(*) FROM rasterloom.notes_1") == 0 && !s.t.Failed(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.t.Error("the writers have noted no tile")
		}
	}
}

// followed reports whether a tile was made anew since it was first asked; true
// where none are made.
func (s *scene) followed() bool {
	if !s.script.tiles {
		return true
	}
	var version string
	if err := s.pool.QueryRow(context.Background(), "SELECT format('%I.%I', table_schema, table_name) FROM rasterloom.layer").Scan(&version); err != nil {
		return false // the server may be dead
	}
	if err := s.pool.QueryRow(context.Background(), "SELECT coalesce(max(xmin::text), 'none') FROM "+version).Scan(&version); err != nil {
		return false
	}
	if s.firstTile == "" {
		s.firstTile = version
	}
	return version != s.firstTile
}

func (s *scene) pause() {
	ctx := context.Background()
	got, err := s.client().GetMigration(ctx, connect.NewRequest(&schemav1.GetMigrationRequest{Id: "m1"}))
	if err != nil {
		return // it may be dead by now
	}
	m := got.Msg.GetMigration()
	_, _ = s.client().PauseMigration(ctx, connect.NewRequest(&schemav1.PauseMigrationRequest{Id: m.GetId(), Etag: m.GetEtag()}))
}

// drive is an operator who wants the migration to end in a state: looks, does
// the next thing, and does not mind being told to try again. Where the plan says
// so, a death makes him give up. It gives the state that it ended in.
func (s *scene) drive(goal migrate.State) migrate.State { return s.driveAs("k", goal) }

// driveAs drives the migration of an idempotency key.
func (s *scene) driveAs(key string, goal migrate.State) migrate.State {
	s.t.Helper()
	ctx, deadline := context.Background(), time.Now().Add(s.patience)
	var last error
	for time.Now().Before(deadline) {
		s.alive()
		time.Sleep(10 * time.Millisecond) // an operator is not as fast as a program
		c := s.client()
		// The same key each time: the same migration.
		began, err := c.StartMigration(ctx, connect.NewRequest(&schemav1.StartMigrationRequest{
			Spec: s.spec(), IdempotencyKey: key,
		}))
		if err != nil {
			last = err
			continue
		}
		m := began.Msg.GetMigration()
		id, etag := m.GetId(), m.GetEtag()
		state := migrate.State(strings.TrimPrefix(m.GetState().String(), "MIGRATION_STATE_"))
		givenUp := s.plan.after == undone && s.died.Load() > 0
		switch {
		case state == goal && !givenUp, state.Ended() && givenUp:
			return state
		case state.Ended():
			s.t.Fatalf("it ended as %s", state)
		case state == migrate.CutOver && !givenUp && !s.followed():
			continue // a worker makes tiles anew first
		case state == migrate.CutOver && (givenUp || goal == migrate.RolledBack):
			_, err = c.Rollback(ctx, connect.NewRequest(&schemav1.RollbackRequest{Id: id, Etag: etag}))
		case givenUp:
			_, err = c.AbortMigration(ctx, connect.NewRequest(&schemav1.AbortMigrationRequest{Id: id, Etag: etag}))
		case m.GetCondition() == schemav1.MigrationCondition_MIGRATION_CONDITION_PAUSED:
			_, err = c.ResumeMigration(ctx, connect.NewRequest(&schemav1.ResumeMigrationRequest{Id: id, Etag: etag}))
		case m.GetCondition() == schemav1.MigrationCondition_MIGRATION_CONDITION_FAILED:
			s.t.Fatalf("it failed: %v", m.GetFailure())
		case state == migrate.Verified && goal == migrate.Aborted:
			_, err = c.AbortMigration(ctx, connect.NewRequest(&schemav1.AbortMigrationRequest{Id: id, Etag: etag}))
		case state == migrate.Verified:
			_, err = c.CutOver(ctx, connect.NewRequest(&schemav1.CutOverRequest{Id: id, Etag: etag}))
		case state == migrate.CutOver:
			_, err = c.Finalize(ctx, connect.NewRequest(&schemav1.FinalizeRequest{Id: id, Etag: etag, DropOldTable: true, DropName: true}))
		}
		if err != nil {
			last = err
		}
	}
	s.t.Fatalf("not %s after %v; the last answer was %v", goal, s.patience, last)
	return ""
}
