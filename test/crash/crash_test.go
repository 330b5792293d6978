// Package crash_test kills the schema service, or its connections, at every
// failpoint of a migration, lets it go on, and looks whether anything was lost.
//
// RASTERLOOM_CRASH=all runs every way to die over all points (make crash); without
// it, every point is died at once, by SIGKILL.
package crash_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// death is a way to die.
type death string

const (
	kill      death = "SIGKILL of the worker"
	terminate death = "pg_terminate_backend"
)

// script is what an operator does with a migration: where it shall end, and what
// happens to the table meanwhile.
type script struct {
	name  string
	goal  migrate.State
	setup []string
	// hooks are points at which something is done before going on.
	hooks map[string]func(*scene)
}

var scripts = []script{
	{
		name: "to the end", goal: migrate.Finalized,
		setup: []string{
			"ALTER TABLE public.passthrough_birds ADD CONSTRAINT once UNIQUE (col_idx, row_idx)",
			"CREATE INDEX by_value ON public.passthrough_birds (value) WHERE value > 0",
			"ALTER TABLE public.passthrough_birds REPLICA IDENTITY USING INDEX once",
		},
	},
	{
		name: "and back", goal: migrate.RolledBack,
		setup: []string{
			"ALTER TABLE public.passthrough_birds REPLICA IDENTITY FULL",
			"ALTER TABLE public.passthrough_birds ALTER value SET STATISTICS 500, ALTER value SET (n_distinct = -0.5)",
			"CREATE VIEW public.seen WITH (security_barrier = true) AS SELECT row_idx, value FROM public.passthrough_birds",
			"GRANT SELECT ON public.passthrough_birds TO PUBLIC",
			"COMMENT ON TABLE public.passthrough_birds IS 'theirs'",
		},
		// Another owner by the time of the rollback; set back before comparing.
		hooks: map[string]func(*scene){"cut-over/committed": func(s *scene) { s.do("ALTER TABLE public.passthrough_birds OWNER TO pg_monitor") }},
	},
	{
		name: "given up", goal: migrate.Aborted,
		hooks: map[string]func(*scene){
			"capture/committed": func(s *scene) { s.pause() },
			"open/committed":    func(s *scene) { s.do("VACUUM FULL public.passthrough_birds") },
		},
	},
}

var totals struct{ runs, deaths, lost, failed, transactions atomic.Int64 }

// TestCrashAtEveryPoint is the matrix.
func TestCrashAtEveryPoint(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	binary := build(t)
	where := map[string]script{} // point → the first script that comes by
	var points []string
	for _, sc := range scripts {
		trace := filepath.Join(t.TempDir(), "trace")
		play(t, binary, sc, "", "", trace, seed)
		text, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		for p := range strings.FieldsSeq(string(text)) {
			if _, known := where[p]; !known {
				where[p] = sc
				points = append(points, p)
			}
		}
	}
	missed := steps(t)
	for _, p := range points {
		delete(missed, filepath.Base(p))
	}
	if len(missed) > 0 {
		t.Errorf("no run comes by these failpoints: %v", slices.Sorted(mapKeys(missed)))
	}
	deaths := []death{kill}
	if os.Getenv("RASTERLOOM_CRASH") == "all" {
		deaths = append(deaths, terminate)
	}
	t.Run("matrix", func(t *testing.T) {
		for _, d := range deaths {
			for i, p := range points {
				t.Run(fmt.Sprintf("%s at %s", d, p), func(t *testing.T) {
					t.Parallel()
					play(t, binary, where[p], p, d, "", seed+uint64(i))
				})
			}
		}
	})
	t.Logf("%d points × %d ways to die: %d runs, %d deaths; %d transactions of writers, %d failed, %d committed cells lost",
		len(points), len(deaths), totals.runs.Load(), totals.deaths.Load(), totals.transactions.Load(), totals.failed.Load(), totals.lost.Load())
}

func mapKeys(m map[string]bool) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// build makes the schema service with its failpoints.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "schema")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "failpoints", "-o", binary, "../../services/schema/cmd/schema")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the service: %v\n%s", err, out)
	}
	return binary
}

// play runs a script to its goal; when target is not empty, the service dies
// there once.
func play(t *testing.T, binary string, sc script, target string, d death, trace string, seed uint64) {
	t.Helper()
	s := newScene(t, binary, sc, seed)
	defer s.close()
	before := s.dump()
	s.arm(target, d, trace)
	s.serve(true)
	writers := s.writers(2)
	s.drive(sc.goal)
	writers.stop()

	if target != "" {
		if s.died.Load() == 0 {
			t.Errorf("the service never came by %s", target)
		}
		totals.runs.Add(1)
	}
	s.content("at the end")
	if sc.goal != migrate.Finalized {
		if sc.goal == migrate.RolledBack {
			s.do("ALTER TABLE public.passthrough_birds OWNER TO CURRENT_USER")
		}
		if after := s.dump(); after != before {
			t.Errorf("the schema is not what it was:\n%s\n--- before\n%s", after, before)
		}
	}
	s.invariants(context.Background())
	if n := s.count("SELECT count(*) FROM pg_class WHERE relnamespace = 'rasterloom'::regnamespace AND relname ~ '^(old|shadow|notes|index)_'"); n != 0 {
		t.Errorf("%d relations are left over", n)
	}
}

// gate lets writers through, or not.
type gate struct{ sync.RWMutex }
