package crash_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// PostgreSQL is killed at random moments, and connections are cut just after
// COMMIT, while a table is migrated and brought back again and again under
// writers: invariants hold after each, nothing is lost, the schema is as before,
// and no table or index is damaged.
func TestDatabaseDies(t *testing.T) {
	seed := newSeed(t)
	random := rand.New(rand.NewPCG(seed, 1))
	s := newScene(t, build(t), script{}, seed, shape{rows: 200, cols: 150}, pgtest.NewServer(t, nil))
	s.plan.death = cut // so that there is a wire
	s.patience = 10 * time.Minute
	defer s.close()
	before := s.dump()
	s.listen()
	s.serve(true)
	writers := s.writers(3)

	kills, cuts := times(4, 40), times(2, 10)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	defer func() { stop(); <-done }()
	go func() {
		defer close(done)
		for _, i := range random.Perm(kills + cuts) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Duration(20+random.IntN(900)) * time.Millisecond):
			}
			if i < kills {
				s.killServer()
				continue
			}
			was := s.died.Load()
			s.wire.cutNext(func(backend uint32) { s.look("after a cut", s.gone(backend)) })
			for s.died.Load() == was && ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
		}
	}()
	migrations := 0
	for over := false; !over; migrations++ {
		select {
		case <-done:
			over = true // one more, in peace
		default:
		}
		s.driveAs(fmt.Sprint("k", migrations), []migrate.State{migrate.RolledBack, migrate.RolledBack, migrate.Aborted}[migrations%3])
	}
	writers.stop()
	s.content("at the end")
	if after := s.dump(); after != before {
		t.Errorf("the schema is not what it was:\n%s\n--- before\n%s", after, before)
	}
	s.invariants(context.Background())
	s.orphans()
	relations := s.sound()
	t.Logf("%d migrations there and back; %s\n%d tables and indexes checked by amcheck, none damaged unless said above", migrations, s.plan.count, relations)
	if got := s.died.Load(); int(got) != kills+cuts {
		t.Errorf("%d deaths, want %d", got, kills+cuts)
	}
}

// sound checks every table and index of the database, as pg_amcheck does.
func (s *scene) sound() (relations int64) {
	s.t.Helper()
	if s.count("SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'") == 0 {
		s.t.Error("this PostgreSQL has no amcheck (Debian's has): nobody looks whether tables and indexes are whole")
		return 0
	}
	s.do("CREATE SCHEMA amcheck")
	s.do("CREATE EXTENSION amcheck SCHEMA amcheck")
	tables := s.count("SELECT count(*) FROM pg_class WHERE relkind IN ('r', 't', 'm') AND relpersistence = 'p'")
	if n := s.count(`SELECT count(*) FROM pg_class c, LATERAL amcheck.verify_heapam(c.oid::regclass, check_toast => true)
		WHERE c.relkind IN ('r', 't', 'm') AND c.relpersistence = 'p'`); n != 0 {
		s.t.Errorf("amcheck names %d damages of tables", n)
	}
	indexes := s.count(`SELECT count(*) FROM (SELECT amcheck.bt_index_parent_check(c.oid::regclass, true) FROM pg_class c JOIN pg_am a ON a.oid = c.relam
		WHERE c.relkind = 'i' AND a.amname = 'btree' AND c.relpersistence = 'p' OFFSET 0) checked`) // an error names the damage
	return tables + indexes
}

// The worker is killed at random moments of a large run: what was copied stays
// copied, but for the chunks under way.
func TestResumesWhereItWas(t *testing.T) {
	seed := newSeed(t)
	random := rand.New(rand.NewPCG(seed, 2))
	side, kills := times(700, 2000), times(5, 25)
	// All are to be killed before the end, also where the killer has to wait for a processor.
	slow := script{rowsPerSecond: int64(side) * int64(side) / int64(times(5, 30))}
	s := newScene(t, build(t), slow, seed, shape{rows: side, cols: side, large: true}, pgtest.NewServer(t, map[string]string{"max_wal_size": "4GB"}))
	s.patience = 15 * time.Minute
	defer s.close()
	s.listen()
	s.serve(true)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		seen := int64(0)
		for range kills {
			// Soon after a worker has begun: in the middle of its first chunks.
			for {
				fence := s.count("SELECT coalesce(max(fence) FILTER (WHERE lease_until > clock_timestamp()), 0) FROM rasterloom.migration")
				if fence > seen {
					seen = fence
					break
				}
				select {
				case <-ctx.Done():
					return
				case <-time.After(5 * time.Millisecond):
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Duration(random.IntN(times(200, 400))) * time.Millisecond):
			}
			s.inspecting.Lock()
			s.stop()
			s.plan.count.died(kill)
			s.inspecting.Unlock()
		}
	}()
	s.driveAs("k", migrate.Verified)
	stop()
	<-done
	deaths := s.plan.count.deaths.Load()
	// What a session did is counted by the time it ends.
	s.stop()
	for end := time.Now().Add(patience); s.count("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'rasterloom%'") != 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("sessions of the dead are still there")
		}
	}
	rows := s.count("SELECT count(*) FROM public.passthrough_birds")
	twice := s.count("SELECT n_tup_ins FROM pg_stat_all_tables WHERE schemaname = 'rasterloom' AND relname = 'shadow_1'") - rows
	if deaths != int64(kills) {
		t.Errorf("the end came after %d of %d deaths", deaths, kills)
	}
	chunk := s.count("SELECT 1024 * count(*) / (pg_relation_size('public.passthrough_birds') / 8192) FROM public.passthrough_birds")
	t.Logf("%d rows, killed %d of %d times before the end: %d rows copied twice, %.1f chunks of %d rows", rows, deaths, kills, twice, float64(twice)/float64(chunk), chunk)
	if limit := 2 * deaths * chunk; twice < 0 || twice > limit {
		t.Errorf("%d rows were copied twice; a death costs two chunks at most, one a lane, which makes %d", twice, limit)
	}
	s.content("at the end")
}
