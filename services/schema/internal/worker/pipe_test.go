package worker_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/internal/pgstore"
)

// Rows go from one COPY to another where the table holds numbers only and there is
// a connection to spare; else by INSERT … SELECT. Both copy the same.
func TestEveryWayToCopy(t *testing.T) {
	for name, c := range map[string]struct {
		alter       string
		connections int
		byCopy      bool
	}{
		"numbers": {"ALTER TABLE public.passthrough_birds ADD s smallint, ADD b bigint, ADD r real; " +
			"UPDATE public.passthrough_birds SET s = col_idx, b = -9007199254740993 - row_idx, r = nullif(row_idx, 3) / 7.0", 10, true},
		"other columns": {"ALTER TABLE public.passthrough_birds ADD note text, ADD n numeric; " +
			"UPDATE public.passthrough_birds SET note = E'\\\\ \\t ü' || row_idx, n = row_idx + 1.50", 10, false},
		"one connection": {"SELECT", 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 40, 30, false)
			_, err := s.pool.Exec(t.Context(), c.alter, pgx.QueryExecModeSimpleProtocol)
			if err != nil {
				t.Fatal(err)
			}
			store, err := pgstore.Open(t.Context(), s.url, pgstore.Options{MaxConnections: c.connections})
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			s.migrations = store.Migrations()
			all := func() string {
				return ask[string](s, `SELECT md5(string_agg((to_jsonb(t) - 'x_coord' - 'y_coord')::text || coalesce(float8send(value)::text, ''), '' ORDER BY row_idx, col_idx))
					FROM public.passthrough_birds t`)
			}
			before := all()
			h := s.byHand()
			h.to(migrate.Backfilling)
			// PostgreSQL counts the statements of each table's writers, but not how
			// they write: look at the statements themselves.
			s.do("CREATE TABLE public.seen (query text)")
			s.do(`CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.seen VALUES (current_query()); RETURN NULL; END'`)
			s.do("CREATE TRIGGER see AFTER INSERT ON rasterloom.shadow_1 EXECUTE FUNCTION public.see()")
			h.copyAll()
			if copied := ask[bool](s, "SELECT bool_and(query LIKE '%COPY%') FROM public.seen"); copied != c.byCopy {
				t.Errorf("by COPY: %v, not %v", copied, c.byCopy)
			}
			s.do("DROP TRIGGER see ON rasterloom.shadow_1")
			h.to(migrate.CutOver)
			if all() != before {
				t.Error("the content changed with the cut-over")
			}
		})
	}
}

// What stops either COPY stops both, with its reason; what was copied is taken back.
func TestBrokenPipe(t *testing.T) {
	s := newStage(t, 40, 30, false)
	h := s.byHand()
	h.to(migrate.Backfilling)
	s.do("ALTER TABLE rasterloom.shadow_1 ADD CONSTRAINT refuse CHECK (row_idx <> 20)")
	_, _, err := h.migrations.CopyChunk(t.Context(), h.lease, 0)
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "23514" { // check_violation
		t.Errorf("the writing was refused: %v", err)
	}
	s.do("ALTER TABLE rasterloom.shadow_1 DROP CONSTRAINT refuse")
	s.do("ALTER TABLE rasterloom.notes_1 RENAME TO elsewhere")
	_, _, err = h.migrations.CopyChunk(t.Context(), h.lease, 0)
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "42P01" { // undefined_table
		t.Errorf("the reading failed: %v", err)
	}
	s.do("ALTER TABLE rasterloom.elsewhere RENAME TO notes_1")
	if n := ask[int](s, "SELECT count(*) FROM rasterloom.shadow_1"); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	h.to(migrate.Verified)
}

// A worker that is frozen in the middle of a COPY holds its locks until somebody
// else needs them.
func TestFrozenWorkerLetsGo(t *testing.T) {
	t.Parallel() // it takes the ten seconds that a worker has
	s := newStage(t, 40, 30, false)
	h := s.byHand()
	h.to(migrate.Backfilling)
	ctx := t.Context()
	frozen, err := pgx.Connect(ctx, s.url)
	h.must(err)
	defer frozen.Close(context.WithoutCancel(ctx))
	_, err = frozen.Exec(ctx, "BEGIN; SELECT FROM rasterloom.migration_lane FOR UPDATE", pgx.QueryExecModeSimpleProtocol)
	h.must(err)
	nothing, never := io.Pipe()
	died := make(chan error, 1)
	go func() {
		_, err := frozen.PgConn().CopyFrom(ctx, nothing, "/* rasterloom migration m1 */ COPY rasterloom.shadow_1 (row_idx) FROM STDIN (FORMAT binary)")
		died <- err
	}()
	for {
		_, _, err := h.migrations.CopyChunk(ctx, h.lease, 0)
		if err == nil {
			break
		}
		want(t, err, fault.Unavailable, fault.TableBusy)
	}
	h.must(never.Close())
	if e, ok := errors.AsType[*pgconn.PgError](<-died); !ok || e.Code != "57P01" { // admin_shutdown
		t.Errorf("the frozen COPY was not ended: %v", e)
	}
	h.to(migrate.Verified)
}
