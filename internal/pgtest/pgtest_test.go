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

func BenchmarkURL(b *testing.B) {
	pgtest.URL(b)
	for b.Loop() {
		pgtest.URL(b)
	}
}
