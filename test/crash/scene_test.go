package crash_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

const (
	rows, cols = 60, 40
	patience   = 90 * time.Second
)

// scene is a database with a layer, the service as a process, and its operator.
type scene struct {
	t       *testing.T
	script  script
	binary  string
	url     string
	pool    *pgxpool.Pool
	seed    uint64
	dir     string
	address string

	target string
	death  death
	trace  string
	died   atomic.Int32

	// inspecting is held from a death until what it left was looked at.
	inspecting sync.Mutex

	mu      sync.Mutex
	process *exec.Cmd
	exited  chan struct{}

	gate     gate
	expected map[[2]int]string // what was committed, under gate
	fence    int64
	talking  sync.WaitGroup
	listener net.Listener
}

func newScene(t *testing.T, binary string, sc script, seed uint64) *scene {
	t.Helper()
	s := &scene{t: t, script: sc, binary: binary, url: pgtest.URL(t), seed: seed, expected: map[[2]int]string{}}
	s.pool = pgtest.Connect(t, s.url)
	var err error
	if s.dir, err = os.MkdirTemp("", "crash"); err != nil { //nolint:usetesting // a socket's path must be short
		t.Fatal(err)
	}
	s.do("CREATE TABLE public.passthrough_birds (row_idx integer, col_idx integer, value double precision, PRIMARY KEY (row_idx, col_idx)) WITH (fillfactor = 90)")
	_, err = s.pool.CopyFrom(t.Context(), pgx.Identifier{"public", "passthrough_birds"}, []string{"row_idx", "col_idx", "value"},
		pgx.CopyFromSlice(rows*cols, func(i int) ([]any, error) {
			v := value(seed + uint64(i))
			s.expected[[2]int{i / cols, i % cols}] = bits(v)
			return []any{i / cols, i % cols, v}, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range sc.setup {
		s.do(sql)
	}
	s.do(`INSERT INTO rasterloom.layer (name, band, format, crs, grid_rows, grid_cols, origin_x, origin_y, step_x, step_y, table_schema, table_name,
		table_oid, table_file, declared_type, stored_type, registration, south_up, has_indices, has_coordinates, has_key, estimated_rows, problems,
		source_schema, source_table, source_oid, generation)
		SELECT 'birds', '', 'LEGACY', 'EPSG:32633', $1, $2, 499980.1, 5600040.7, 30.1, 29.9, 'public', 'passthrough_birds', oid, relfilenode, 'float64', 'float64',
		'UNKNOWN', false, true, false, true, 0, '[]', 'public', 'resampled_datasets', 0, 1 FROM pg_class WHERE oid = 'public.passthrough_birds'::regclass`, rows, cols)
	return s
}

func value(i uint64) any {
	switch h := i * 0x9e3779b97f4a7c15 >> 56; {
	case h < 8:
		return nil
	case h < 16:
		return math.NaN()
	case h < 24:
		return math.Copysign(0, -1)
	case h < 40:
		return 0.0
	case h < 44:
		return math.Inf(-1)
	default:
		return float64(i*0xbf58476d1ce4e5b9) / 7
	}
}

func bits(v any) string {
	if v == nil {
		return "null"
	}
	return fmt.Sprintf(`\x%016x`, math.Float64bits(v.(float64)))
}

func (s *scene) do(sql string, args ...any) {
	s.t.Helper()
	if _, err := s.pool.Exec(context.Background(), sql, args...); err != nil {
		s.t.Errorf("%s: %v", sql, err)
	}
}

func (s *scene) count(sql string, args ...any) (n int64) {
	s.t.Helper()
	if err := s.pool.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		s.t.Errorf("%s: %v", sql, err)
	}
	return n
}

// arm says where the service stops, and what happens then.
func (s *scene) arm(target string, d death, trace string) {
	s.target, s.death, s.trace = target, d, trace
	listener, err := net.Listen("unix", filepath.Join(s.dir, "s"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.listener = listener
	s.talking.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.talking.Go(func() { s.answer(conn) })
		}
	})
}

// answer does what is to be done at a point, and lets the service go on, if it
// is still there.
func (s *scene) answer(conn net.Conn) {
	defer conn.Close()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return
	}
	point := strings.TrimSpace(line)
	if hook := s.script.hooks[point]; hook != nil {
		hook(s)
	}
	if point == s.target {
		s.die()
	}
	_, _ = conn.Write([]byte{1})
}

// die kills, and looks whether everything holds just after.
func (s *scene) die() {
	s.inspecting.Lock()
	defer s.inspecting.Unlock()
	switch s.death {
	case kill:
		s.stop()
	case terminate:
		// Frozen meanwhile, so that it does not go on before we have looked.
		s.signal(syscall.SIGSTOP)
		defer s.signal(syscall.SIGCONT)
		s.count("SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'rasterloom schema'")
	}
	s.died.Add(1)
	totals.deaths.Add(1)
	// PostgreSQL rolls back what the dead left open once it notices.
	s.gate.Lock()
	defer s.gate.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for s.count("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'rasterloom schema' AND state <> 'idle'") > 0 &&
		s.death == kill && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
	s.contentLocked("just after the death")
	s.invariants(ctx)
}

// serve starts the service; armed or not.
func (s *scene) serve(armed bool) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = l.Addr().String()
	l.Close()
	cmd := exec.Command(s.binary, "serve", "--listen", s.address)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+s.url, "RASTERLOOM_MIGRATION_LEASE=900ms", "RASTERLOOM_LOG_LEVEL=error")
	if armed {
		stops := []string{s.target}
		for p := range s.script.hooks {
			stops = append(stops, p)
		}
		cmd.Env = append(cmd.Env, "RASTERLOOM_FAILPOINT="+strings.Join(stops, ","),
			"RASTERLOOM_FAILPOINT_SOCKET="+filepath.Join(s.dir, "s"), "RASTERLOOM_FAILPOINT_TRACE="+s.trace)
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	s.mu.Lock()
	s.process, s.exited = cmd, exited
	s.mu.Unlock()
}

func (s *scene) stop() {
	s.mu.Lock()
	process, exited := s.process, s.exited
	s.mu.Unlock()
	if process != nil {
		_ = process.Process.Kill()
		<-exited
	}
}

func (s *scene) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.process.Process.Signal(sig); err != nil {
		s.t.Error(err)
	}
}

// alive starts the service again when it is dead, and its remains were looked
// at: the next one goes on at once.
func (s *scene) alive() {
	s.inspecting.Lock()
	defer s.inspecting.Unlock()
	s.mu.Lock()
	exited := s.exited
	s.mu.Unlock()
	select {
	case <-exited:
		s.serve(false)
	default:
	}
}

func (s *scene) close() {
	s.stop()
	s.listener.Close()
	s.talking.Wait()
	if s.t.Failed() {
		if log, err := os.ReadFile(filepath.Join(s.dir, "log")); err == nil {
			s.t.Logf("the service said:\n%s", log)
		}
	}
	_ = os.RemoveAll(s.dir)
}

func (s *scene) client() schemav1connect.MigrationServiceClient {
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13}}
	return schemav1connect.NewMigrationServiceClient(&http.Client{Transport: transport, Timeout: 20 * time.Second}, "http://"+s.address)
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
// the next thing, and does not mind being told to try again.
func (s *scene) drive(goal migrate.State) {
	s.t.Helper()
	ctx, deadline := context.Background(), time.Now().Add(patience)
	var last error
	for time.Now().Before(deadline) {
		s.alive()
		time.Sleep(10 * time.Millisecond)
		c := s.client()
		// The same key each time: the same migration.
		began, err := c.StartMigration(ctx, connect.NewRequest(&schemav1.StartMigrationRequest{
			Spec: &schemav1.MigrationSpec{Layer: "birds"}, IdempotencyKey: "k",
		}))
		if err != nil {
			last = err
			continue
		}
		m := began.Msg.GetMigration()
		id, etag := m.GetId(), m.GetEtag()
		switch state := migrate.State(strings.TrimPrefix(m.GetState().String(), "MIGRATION_STATE_")); {
		case state == goal:
			return
		case state.Ended():
			s.t.Fatalf("it ended as %s", state)
		case m.GetCondition() == schemav1.MigrationCondition_MIGRATION_CONDITION_PAUSED:
			_, err = c.ResumeMigration(ctx, connect.NewRequest(&schemav1.ResumeMigrationRequest{Id: id, Etag: etag}))
		case m.GetCondition() == schemav1.MigrationCondition_MIGRATION_CONDITION_FAILED:
			s.t.Fatalf("it failed: %v", m.GetFailure())
		case state == migrate.Verified && goal == migrate.Aborted:
			_, err = c.AbortMigration(ctx, connect.NewRequest(&schemav1.AbortMigrationRequest{Id: id, Etag: etag}))
		case state == migrate.Verified:
			_, err = c.CutOver(ctx, connect.NewRequest(&schemav1.CutOverRequest{Id: id, Etag: etag}))
		case state == migrate.CutOver && goal == migrate.Finalized:
			_, err = c.Finalize(ctx, connect.NewRequest(&schemav1.FinalizeRequest{Id: id, Etag: etag, DropOldTable: true}))
		case state == migrate.CutOver:
			_, err = c.Rollback(ctx, connect.NewRequest(&schemav1.RollbackRequest{Id: id, Etag: etag}))
		}
		if err != nil {
			last = err
		}
	}
	s.t.Fatalf("not %s after %v; the last answer was %v", goal, patience, last)
}

// crew are writers with cells of their own.
type crew struct {
	cancel  context.CancelFunc
	working sync.WaitGroup
}

func (c *crew) stop() { c.cancel(); c.working.Wait() }

func (s *scene) writers(n int) *crew {
	ctx, cancel := context.WithCancel(context.Background())
	c := &crew{cancel: cancel}
	for w := range n {
		c.working.Go(func() {
			random := rand.New(rand.NewPCG(s.seed, uint64(w)))
			for ctx.Err() == nil {
				s.gate.RLock()
				s.write(random, w, n)
				s.gate.RUnlock()
				time.Sleep(time.Millisecond)
			}
		})
	}
	s.t.Cleanup(c.stop)
	return c
}

var errOnPurpose = errors.New("rolled back on purpose")

var recorded sync.Mutex

func (s *scene) write(random *rand.Rand, w, of int) {
	mine := map[[2]int]string{}
	ctx := context.Background()
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		for range 1 + random.IntN(3) {
			at := [2]int{random.IntN(rows/of)*of + w, random.IntN(cols)}
			var err error
			if random.IntN(3) == 0 {
				_, err = tx.Exec(ctx, "DELETE FROM public.passthrough_birds WHERE row_idx = $1 AND col_idx = $2", at[0], at[1])
				mine[at] = "gone"
			} else {
				v := value(random.Uint64())
				_, err = tx.Exec(ctx, `INSERT INTO public.passthrough_birds (row_idx, col_idx, value) VALUES ($1, $2, $3)
					ON CONFLICT (row_idx, col_idx) DO UPDATE SET value = EXCLUDED.value`, at[0], at[1], v)
				mine[at] = bits(v)
			}
			if err != nil {
				return err
			}
		}
		if random.IntN(10) == 0 {
			return errOnPurpose
		}
		return nil
	})
	totals.transactions.Add(1)
	switch {
	case err == nil:
		recorded.Lock()
		maps.Copy(s.expected, mine)
		recorded.Unlock()
	case !errors.Is(err, errOnPurpose):
		totals.failed.Add(1)
		s.t.Errorf("a writer failed: %v", err)
	}
}

// content compares the table that has the name with everything that was
// committed.
func (s *scene) content(when string) {
	s.gate.Lock()
	defer s.gate.Unlock()
	s.contentLocked(when)
}

func (s *scene) contentLocked(when string) {
	s.t.Helper()
	found, err := s.pool.Query(context.Background(), "SELECT row_idx, col_idx, coalesce(float8send(value)::text, 'null') FROM public.passthrough_birds")
	if err != nil {
		s.t.Errorf("%s: %v", when, err)
		return
	}
	stored := map[[2]int]string{}
	var row, col int
	var v string
	if _, err := pgx.ForEachRow(found, []any{&row, &col, &v}, func() error { stored[[2]int{row, col}] = v; return nil }); err != nil {
		s.t.Errorf("%s: %v", when, err)
	}
	for cell, want := range s.expected {
		got, there := stored[cell]
		if !there {
			got = "gone"
		}
		if got != want {
			totals.lost.Add(1)
			s.t.Errorf("%s: cell %v holds %s, and %s was committed", when, cell, got, want)
		}
		delete(stored, cell)
	}
	for cell := range stored {
		s.t.Errorf("%s: cell %v was never committed", when, cell)
	}
}

// invariants holds what must be true at any moment (reliability: I2 to I5, I8).
// Nobody writes meanwhile.
func (s *scene) invariants(ctx context.Context) {
	s.t.Helper()
	var id, fence int64
	var state migrate.State
	err := s.pool.QueryRow(ctx, "SELECT id, state, fence FROM rasterloom.migration ORDER BY id DESC LIMIT 1").Scan(&id, (*string)(&state), &fence)
	if errors.Is(err, pgx.ErrNoRows) {
		return
	}
	if err != nil {
		s.t.Errorf("read the migration: %v", err)
		return
	}
	if fence < s.fence {
		s.t.Errorf("I5: the fence fell from %d to %d", s.fence, fence)
	}
	s.fence = fence
	capture := state.Capture()
	exists := func(name string) int64 {
		return s.count("SELECT count(*) FROM pg_class WHERE relnamespace = 'rasterloom'::regnamespace AND relname = $1", fmt.Sprintf("%s_%d", name, id))
	}
	one := func(b bool) int64 {
		if b {
			return 1
		}
		return 0
	}
	for name, want := range map[string]bool{
		"shadow": capture == migrate.CaptureNoted || capture == migrate.CaptureForward,
		"notes":  capture == migrate.CaptureNoted, "old": capture == migrate.CaptureReverse,
	} {
		if exists(name) != one(want) {
			s.t.Errorf("I4: the state is %s, and the table %s is there: %v", state, name, !want)
		}
	}
	onName := s.count("SELECT count(*) FROM pg_trigger WHERE tgname ~ '^rasterloom_' AND tgenabled = 'A' AND tgrelid = 'public.passthrough_birds'::regclass")
	all := s.count("SELECT count(*) FROM pg_trigger WHERE tgname ~ '^rasterloom_'")
	if want := 2 * one(capture != migrate.CaptureNone); onName != want || all != want {
		s.t.Errorf("I3: the state is %s, and %d of %d triggers are on the table with the name", state, onName, all)
	}
	generation := map[migrate.State]int64{migrate.CutOver: 2, migrate.Finalized: 2, migrate.RolledBack: 3}[state]
	if g := s.count("SELECT generation FROM rasterloom.layer WHERE name = 'birds'"); g != max(1, generation) {
		s.t.Errorf("I8: the state is %s, and the generation %d", state, g)
	}
	const bitsOf = "SELECT row_idx, col_idx, float8send(value) AS value FROM "
	switch capture {
	case migrate.CaptureNoted:
		// What is copied and not noted is what the table has.
		sql := fmt.Sprintf(`SELECT count(*) FROM (%s rasterloom.shadow_%d EXCEPT %s public.passthrough_birds) e
			WHERE NOT EXISTS (SELECT FROM rasterloom.notes_%d n WHERE n.row_idx = e.row_idx AND n.col_idx = e.col_idx)`, bitsOf, id, bitsOf, id)
		if n := s.count(sql); n != 0 {
			s.t.Errorf("I2: %d copied cells differ from the table's", n)
		}
	case migrate.CaptureForward, migrate.CaptureReverse:
		other := fmt.Sprintf("rasterloom.shadow_%d", id)
		if capture == migrate.CaptureReverse {
			other = fmt.Sprintf("rasterloom.old_%d", id)
		}
		sql := fmt.Sprintf(`SELECT (SELECT count(*) FROM (%[1]s %[2]s EXCEPT %[1]s public.passthrough_birds) a) +
			(SELECT count(*) FROM (%[1]s public.passthrough_birds EXCEPT %[1]s %[2]s) b)`, bitsOf, other)
		if n := s.count(sql); n != 0 {
			s.t.Errorf("I2: %d cells differ between the tables", n)
		}
	}
}

// dump describes what the catalogs have of ours and theirs, apart from records.
func (s *scene) dump() (text string) {
	s.t.Helper()
	err := s.pool.QueryRow(context.Background(), `SELECT string_agg(line, E'\n' ORDER BY line) FROM (
		SELECT format('%s %s.%s owner %s acl %s options %s comment %s identity %s', c.relkind, n.nspname, c.relname, pg_get_userbyid(relowner), relacl, reloptions, obj_description(c.oid), relreplident) AS line
		FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname IN ('public', 'rasterloom')
		UNION ALL SELECT format('column %s %s %s %s %s %s %s', attrelid::regclass, attname, atttypid::regtype, attnotnull, attacl, attstattarget, attoptions)
		FROM pg_attribute JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
		WHERE nspname IN ('public', 'rasterloom') AND attnum > 0 AND NOT attisdropped
		UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class c ON c.oid = indrelid WHERE relnamespace IN ('public'::regnamespace, 'rasterloom'::regnamespace)
		UNION ALL SELECT format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace IN ('public'::regnamespace, 'rasterloom'::regnamespace)
		UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
		UNION ALL SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace IN ('public'::regnamespace, 'rasterloom'::regnamespace)
		UNION ALL SELECT format('view %s %s', oid::regclass, pg_get_viewdef(oid)) FROM pg_class WHERE relkind = 'v' AND relnamespace IN ('public'::regnamespace, 'rasterloom'::regnamespace)
	) l`).Scan(&text)
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}
