package worker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/localpg"
	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/internal/pgstore"
)

// An autovacuum that takes hours does not stop a cut-over: it is sent away, and
// nobody is held up for it.
func TestAutovacuumGivesWay(t *testing.T) {
	server, err := localpg.Start(t.Context(), localpg.Options{Settings: map[string]string{"autovacuum": "on", "autovacuum_naptime": "1s"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop(context.WithoutCancel(t.Context())) })
	store, err := pgstore.Open(t.Context(), server.URL(), pgstore.Options{ApplicationName: "rasterloom-test"})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := newStageOn(t, server.URL(), 400, 300, false)
	h := s.byHand()
	h.to(migrate.Verified)
	for _, table := range []string{"public.passthrough_birds", "rasterloom.shadow_1"} {
		// So slow that it is there until it is sent away.
		s.do("ALTER TABLE " + table + ` SET (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1,
			autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)`)
	}
	s.do("UPDATE public.passthrough_birds SET value = value")
	const vacuuming = `SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.backend_type = 'autovacuum worker'
		AND l.mode = 'ShareUpdateExclusiveLock' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND l.relation IN ('public.passthrough_birds'::regclass, 'rasterloom.shadow_1'::regclass)`
	// The launcher looks once a second, as set above.
	for deadline := time.Now().Add(patience); ask[int](s, vacuuming) == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no autovacuum came by within %v", patience)
		}
	}
	h.must(s.migrations.CutOver(t.Context(), h.id, h.etag()))
	h.must(s.migrations.Rollback(t.Context(), h.id, h.etag()))
}

// Those who write as fast as their first notes are applied keep a migration from
// nothing: more are applied at a time, the longer it goes on.
func TestFastWritersHoldNothingUp(t *testing.T) {
	s := newStage(t, 60, 50, false)
	h := s.byHand()
	h.to(migrate.Indexed)
	touched := int64(0)
	touch := func() {
		tag, err := s.pool.Exec(t.Context(), "UPDATE public.passthrough_birds SET value = coalesce(value, 0) + 1 WHERE row_idx < 30")
		h.must(err)
		touched = tag.RowsAffected()
	}
	const most = 1_000
	for turn := range most {
		touch()
		left, err := s.migrations.ApplyNotes(t.Context(), h.lease, turn)
		h.must(err)
		if left {
			continue
		}
		touch()
		more, err := s.migrations.Sync(t.Context(), h.lease, turn)
		h.must(err)
		if !more {
			if turn == 0 {
				t.Errorf("writers were held up for the notes of %d rows at once", touched)
			}
			h.to(migrate.Verified)
			return
		}
	}
	t.Errorf("a migration whose writers change %d rows in a turn is not over after %d turns", touched, most)
}

// A layer is dropped while a migration of it begins: one of them is refused.
func TestDropWhileStarting(t *testing.T) {
	for i := range 20 {
		s := newStage(t, 4, 3, false)
		var starting sync.WaitGroup
		var started, dropped error
		starting.Go(func() {
			_, started = s.migrations.Start(t.Context(), "k", migrate.Spec{Layer: "birds", Level: migrate.LevelStored}, s.layer, nil)
		})
		starting.Go(func() {
			dropped = func() error {
				tx, err := s.opened.Change(t.Context())
				if err != nil {
					return err
				}
				defer tx.Rollback(t.Context())
				if id, _, err := tx.LiveMigration(t.Context(), s.layer); err != nil || id != "" {
					return errRefused
				}
				time.Sleep(time.Duration(i) * time.Millisecond) // the start falls before, into or after it
				if err := tx.Drop(t.Context(), s.layer); err != nil {
					return err
				}
				return tx.Commit(t.Context())
			}()
		})
		starting.Wait()
		if dropped != nil && !errors.Is(dropped, errRefused) {
			t.Fatal(dropped)
		}
		if (started == nil) == (dropped == nil) {
			t.Fatalf("started: %v, dropped: %v", started, dropped)
		}
		if started != nil {
			want(t, started, fault.NotFound, fault.LayerNotFound)
		}
		orphans := ask[int](s, "SELECT count(*) FROM rasterloom.migration m WHERE NOT EXISTS (SELECT FROM rasterloom.layer l WHERE l.name = m.layer)")
		if orphans != 0 {
			t.Fatal("a migration has no layer")
		}
	}
}

// The view of a layer goes with it; one that others read stays.
func TestDropTakesTheViewAlong(t *testing.T) {
	for name, setup := range map[string]struct {
		sql  string
		left int
	}{
		"unread":   {"SELECT 1", 0},
		"read":     {"CREATE VIEW public.theirs AS SELECT x FROM public.passthrough_birds_xy", 1},
		"not ours": {"COMMENT ON VIEW public.passthrough_birds_xy IS 'theirs now'", 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 4, 3, false)
			if _, err := s.migrations.EnsureView(t.Context(), s.layer); err != nil {
				t.Fatal(err)
			}
			s.do(setup.sql)
			tx, err := s.opened.Change(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback(t.Context())
			if err := tx.Drop(t.Context(), s.layer); err != nil {
				t.Fatal(err)
			}
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := ask[int](s, "SELECT count(*) FROM pg_views WHERE viewname = 'passthrough_birds_xy'"); n != setup.left {
				t.Errorf("%d views are left", n)
			}
			if n := ask[int](s, "SELECT count(*) FROM rasterloom.layer"); n != 0 {
				t.Error("the layer is still there")
			}
		})
	}
}

// Under a limit the rows come evenly: no chunk is more than what a second allows.
func TestThrottleIsEven(t *testing.T) {
	s := newStage(t, 400, 300, false)
	m, err := s.migrations.Start(t.Context(), "k", migrate.Spec{Layer: "birds", Level: migrate.LevelStored, RowsPerSecond: 4000}, s.layer, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := &byHand{stage: s, id: m.ID}
	h.claim()
	h.to(migrate.Backfilling)
	rows, done, err := s.migrations.CopyChunk(t.Context(), h.lease, 0)
	h.must(err)
	if rows == 0 || rows > 2000 || done {
		t.Errorf("a chunk has %d rows", rows)
	}
}

var errRefused = errors.New("a migration is there")

// Who holds a migration up is named, for as long as it waits.
func TestWhoHoldsItUpIsNamed(t *testing.T) {
	s := newStage(t, 4, 3, false)
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), "UPDATE public.passthrough_birds SET value = 1"); err != nil {
		t.Fatal(err)
	}
	session := fmt.Sprintf("session %d of ", tx.Conn().PgConn().PID())
	id := s.start("k").ID
	s.work(1)
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		m, err := s.migrations.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if f := m.Waiting; f != nil && f.Reason == string(fault.TableBusy) {
			if m.State != migrate.Planned || m.Failure != nil || !strings.Contains(f.Message, session) || !strings.Contains(f.Message, "open for ") ||
				f.Fields["sessions"] != fmt.Sprint(tx.Conn().PgConn().PID()) {
				t.Errorf("%s waits: %+v, failure %+v", m.State, f, m.Failure)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing says what it waits for")
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m := s.await(id, migrate.Verified); m.Waiting != nil {
		t.Errorf("it waits: %+v", m.Waiting)
	}
}

// A migration that nobody has taken up says so.
func TestNobodyTookItUp(t *testing.T) {
	s := newStage(t, 4, 3, false)
	id := s.start("k").ID
	s.do("UPDATE rasterloom.migration SET update_time = update_time - interval '1 minute'")
	m, err := s.migrations.Get(t.Context(), id)
	if err != nil || m.Waiting == nil || !strings.Contains(m.Waiting.Message, "no worker") {
		t.Errorf("%+v %v", m.Waiting, err)
	}
	if _, found, err := s.migrations.Claim(t.Context(), time.Hour); !found || err != nil {
		t.Fatal(found, err)
	}
	if m, err = s.migrations.Get(t.Context(), id); err != nil || m.Waiting != nil {
		t.Errorf("%+v %v", m.Waiting, err)
	}
}

// What somebody gave another name is named.
func TestWhatIsGoneIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		rename, back string
		kind         fault.Kind
		reason       fault.Reason
		field, named string
	}{
		"the table": {"ALTER TABLE public.passthrough_birds RENAME TO other", "ALTER TABLE public.other RENAME TO passthrough_birds", fault.Conflict, fault.LayerChanged, "missing", "passthrough_birds"},
		"its index": {"ALTER INDEX public.passthrough_birds_pkey RENAME TO other", "ALTER INDEX public.other RENAME TO passthrough_birds_pkey", fault.Precondition, fault.Dependent, "dependents", "index passthrough_birds_pkey"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 4, 3, false)
			h := s.byHand()
			h.to(migrate.Verified)
			for _, step := range []func(context.Context, migrate.ID, string) error{s.migrations.CutOver, s.migrations.Rollback} {
				s.do(c.rename)
				f := want(t, step(t.Context(), h.id, h.etag()), c.kind, c.reason)
				if !strings.Contains(f.Fields[c.field], c.named) || !strings.Contains(f.Message, c.named) || strings.Contains(f.Message, "adopt") {
					t.Errorf("%s %v", f.Message, f.Fields)
				}
				s.do(c.back)
				h.must(step(t.Context(), h.id, h.etag()))
			}
		})
	}
}
