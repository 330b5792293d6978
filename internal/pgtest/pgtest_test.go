package pgtest_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rasterloom/rasterloom/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// Each test has a database of its own: both create the same table.
func TestDatabaseOfOnesOwn(t *testing.T) {
	for _, name := range []string{"one", "two", "three"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.Pool(t)
			var layers int
			if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM rasterloom.layer").Scan(&layers); err != nil {
				t.Fatal(err)
			}
			if layers != 0 {
				t.Errorf("%d layers in a fresh database", layers)
			}
			if _, err := pool.Exec(t.Context(), "CREATE TABLE public.mine (v int)"); err != nil {
				t.Fatal(err)
			}
			_, err := pool.Exec(t.Context(), "SELECT v FROM mine")
			if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "42P01" {
				t.Errorf("a name without its schema: %v, want undefined_table", err)
			}
		})
	}
}

// A server that is killed comes back with what was committed, and nothing else.
func TestKilledServerRecovers(t *testing.T) {
	server := pgtest.NewServer(t, nil)
	address := server.URL(t)
	pool := pgtest.Connect(t, address)
	do := func(sql string) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	do("CREATE TABLE public.mine (v int)")
	do("INSERT INTO public.mine VALUES (1)")
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "INSERT INTO public.mine VALUES (2)"); err != nil {
		t.Fatal(err)
	}
	server.Kill(t)
	if err := tx.Commit(t.Context()); err == nil {
		t.Error("a transaction of a dead server was committed")
	}
	server.Start(t)
	pool.Reset()
	var rows int
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM public.mine").Scan(&rows); err != nil || rows != 1 {
		t.Errorf("%d rows, %v; want the committed one", rows, err)
	}
}

func BenchmarkURL(b *testing.B) {
	pgtest.URL(b)
	for b.Loop() {
		pgtest.URL(b)
	}
}
