package migration_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"

	"github.com/rasterloom/rasterloom/internal/pgstore/migration"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func do(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// A version that fails leaves nothing of itself, and is applied once its cause
// is gone.
func TestFailedVersionIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	do(t, conn, `DROP SCHEMA rasterloom CASCADE; CREATE SCHEMA rasterloom; CREATE TABLE rasterloom.layer (in_the_way int)`)
	_, _, err := migration.Up(t.Context(), conn.Config())
	partial, ok := errors.AsType[*goose.PartialError](err)
	if !ok || partial.Failed == nil || partial.Failed.Source.Version != 1 {
		t.Fatalf("got %v, want a partial error of version 1", err)
	}
	do(t, conn, `DROP TABLE rasterloom.layer`)
	version, applied, err := migration.Up(t.Context(), conn.Config())
	if err != nil || version < 1 || int64(applied) != version {
		t.Fatalf("version %d, %d applied, %v", version, applied, err)
	}
	again, applied, err := migration.Up(t.Context(), conn.Config())
	if err != nil || again != version || applied != 0 {
		t.Errorf("again: version %d, %d applied, %v", again, applied, err)
	}
}

// A replica that dies while it migrates gives its turn back.
func TestTurnEndsWithItsOwner(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	do(t, conn, `DROP SCHEMA rasterloom CASCADE`)
	holder, err := pgx.ConnectConfig(t.Context(), conn.Config())
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(context.Background())
	do(t, holder, `BEGIN; CREATE SCHEMA rasterloom`) // the one that migrates now will wait for this
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, _, err := migration.Up(ctx, conn.Config())
		first <- err
	}()
	for waiting := false; !waiting; {
		err := conn.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
	}
	second := make(chan error, 1)
	go func() {
		_, _, err := migration.Up(t.Context(), conn.Config())
		second <- err
	}()
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	do(t, holder, `ROLLBACK`)
	if err := <-second; err != nil {
		t.Errorf("the second: %v", err)
	}
}
