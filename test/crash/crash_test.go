// Package crash_test kills the schema service, its connections or its PostgreSQL
// at every failpoint of a migration, lets the service go on or the operator give
// up, and looks whether anything was lost.
//
// RASTERLOOM_CRASH=all (make crash) tries every death at every point, with both
// endings. Without it there is one run for each point, and the seed chooses the death
// and the ending.
package crash_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// script is what an operator does with a migration: where it shall end, and what
// happens to the table meanwhile.
type script struct {
	name  string
	goal  migrate.State
	setup []string
	// inPlace: within the table itself.
	inPlace bool
	// tiles: to tiles, with a view in the end.
	tiles bool
	// rowsPerSecond bounds the copying; 0 does not.
	rowsPerSecond int64
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
	{name: "in place, and back", goal: migrate.RolledBack, inPlace: true},
	{name: "in place, given up", goal: migrate.Aborted, inPlace: true},
	{
		name: "to tiles, to the end", goal: migrate.Finalized, tiles: true,
		setup: []string{
			"CREATE VIEW public.seen WITH (security_barrier = true) AS SELECT row_idx, value FROM public.passthrough_birds",
			"GRANT SELECT ON public.passthrough_birds TO PUBLIC",
			"COMMENT ON TABLE public.passthrough_birds IS 'theirs'",
		},
		// The verification meets a tile that lags behind.
		hooks: map[string]func(*scene){"sync/committed": (*scene).awaitNote},
	},
	{name: "to tiles, and back", goal: migrate.RolledBack, tiles: true, hooks: map[string]func(*scene){"sync/committed": (*scene).awaitNote}},
	{name: "to tiles, given up", goal: migrate.Aborted, tiles: true, hooks: map[string]func(*scene){"sync/committed": (*scene).awaitNote}},
}

// ending is what happens after a death.
type ending string

const (
	resumed ending = "resumed"
	undone  ending = "undone" // aborted or, after the cut-over, rolled back
)

// TestCrashAtEveryPoint is the matrix.
func TestCrashAtEveryPoint(t *testing.T) {
	seed := newSeed(t)
	binary := build(t)
	where := map[string]script{} // point → the first script that comes by
	var points []string
	for _, sc := range scripts {
		trace := filepath.Join(t.TempDir(), "trace")
		play(t, binary, sc, plan{trace: trace}, nil, seed)
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
		delete(missed, path.Base(p))
	}
	if len(missed) > 0 {
		t.Errorf("no run comes by these failpoints: %v", slices.Sorted(mapKeys(missed)))
	}

	// Two servers of our own, for those runs in which one is killed.
	servers := make(chan *pgtest.Server, 2)
	for range cap(servers) {
		servers <- pgtest.NewServer(t, nil)
	}
	var plans []plan
	for _, p := range points {
		for _, d := range deaths {
			plans = append(plans, plan{target: p, death: d, after: resumed}, plan{target: p, death: d, after: undone})
		}
	}
	if !long {
		plans = one(plans, seed)
	}
	count := &tally{}
	t.Run("matrix", func(t *testing.T) {
		for i, p := range plans {
			t.Run(fmt.Sprintf("%s at %s, %s", p.death, p.target, p.after), func(t *testing.T) {
				t.Parallel()
				p.count, p.servers = count, servers
				play(t, binary, where[p.target], p, nil, seed+uint64(i))
			})
		}
	})
	t.Logf("%d points: %s", len(points), count)
}

// one chooses a plan for each point.
func one(plans []plan, seed uint64) (chosen []plan) {
	each := 2 * len(deaths)
	for i := 0; i < len(plans); i += each {
		chosen = append(chosen, plans[i+int((seed+uint64(i/each))%uint64(each))])
	}
	return chosen
}

// long asks for the whole, which takes an hour and more.
var long = os.Getenv("RASTERLOOM_CRASH") == "all"

// times gives how often something is done, in the short form and in the long one.
func times(short, whole int) int {
	if long {
		return whole
	}
	return short
}

// newSeed gives the seed of a test, printed; RASTERLOOM_TEST_SEED repeats one.
func newSeed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("RASTERLOOM_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("RASTERLOOM_TEST_SEED=%d", seed)
	return seed
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

// plan says where the service dies, how, and what happens then. Without a target
// it lives.
type plan struct {
	target  string
	death   death
	after   ending
	trace   string
	count   *tally
	servers chan *pgtest.Server // to have one for the time, when it is to be killed
}

// play runs a script to its goal.
func play(t *testing.T, binary string, sc script, p plan, server *pgtest.Server, seed uint64) {
	t.Helper()
	if p.death == postmaster {
		server = <-p.servers
		// After everything that uses it, in whatever way this test ends.
		t.Cleanup(func() { p.servers <- server })
	}
	if p.count == nil {
		p.count = &tally{}
	}
	s := newScene(t, binary, sc, seed, shape{rows: 60, cols: 40}, server)
	s.plan = p
	defer s.close()
	before := s.dump()
	s.listen()
	s.serve(true)
	writers := s.writers(2)
	end := s.drive(sc.goal)
	writers.stop()

	if p.target != "" {
		p.count.runs.Add(1)
		switch {
		case s.died.Load() > 0:
		case p.death == cut && strings.HasSuffix(p.target, "/committed"):
			p.count.uncut.Add(1) // no COMMIT comes after this one
		default:
			t.Errorf("the service came by %s and did not die, or did not come by", p.target)
		}
	}
	s.content("at the end")
	if end != migrate.Finalized {
		p.count.undone.Add(1)
		if end == migrate.RolledBack {
			s.do("ALTER TABLE public.passthrough_birds OWNER TO CURRENT_USER")
		}
		if after := s.dump(); after != before {
			t.Errorf("the schema is not what it was:\n%s\n--- before\n%s", after, before)
		}
	}
	s.invariants(context.Background())
	s.orphans()
}

// tally counts what happened in many runs.
type tally struct {
	runs, deaths, uncut, undone                       atomic.Int64
	transactions, interrupted, doubtful, failed, lost atomic.Int64
	mu                                                sync.Mutex
	kinds                                             map[death]int
}

func (c *tally) died(d death) {
	c.deaths.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kinds == nil {
		c.kinds = map[death]int{}
	}
	c.kinds[d]++
}

func (c *tally) String() string {
	var kinds []string
	for _, d := range deaths {
		kinds = append(kinds, fmt.Sprintf("%s %d", d, c.kinds[d]))
	}
	return fmt.Sprintf(`%d runs, %d deaths (%s), %d times no COMMIT came after the point; %d runs ended undone, the schema as before;
%d transactions of writers, %d interrupted by the end of their server, of these %d without an answer to COMMIT, %d failed otherwise, %d committed cells lost`,
		c.runs.Load(), c.deaths.Load(), strings.Join(kinds, ", "), c.uncut.Load(), c.undone.Load(),
		c.transactions.Load(), c.interrupted.Load(), c.doubtful.Load(), c.failed.Load(), c.lost.Load())
}
