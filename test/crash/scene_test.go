package crash_test

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// patience is how long a migration may take, deaths included.
const patience = 90 * time.Second

// shape is the size of the layer's grid. A large one is filled by PostgreSQL, and
// its content is known by its hash.
type shape struct {
	rows, cols int
	large      bool
}

// scene is a database with a layer, the service as a process, and its operator.
type scene struct {
	t        *testing.T
	script   script
	plan     plan
	shape    shape
	binary   string
	server   *pgtest.Server // nil: the one that all tests share, which nobody may kill
	url      string
	pool     *pgxpool.Pool
	seed     uint64
	patience time.Duration
	dir      string
	wire     *wire  // nil: the service talks to PostgreSQL itself
	source   string // the database as the service knows it
	address  string

	died atomic.Int32
	down atomic.Bool // the server is being killed

	// inspecting is held from a death until what it left was looked at.
	inspecting sync.Mutex

	mu      sync.Mutex
	process *exec.Cmd
	exited  chan struct{}

	gate     sync.RWMutex // lets writers through, or not
	recorded sync.Mutex
	expected map[[2]int]string   // what was committed, under recorded or gate
	doubts   []map[[2]int]string // what was sent to be committed, without an answer
	hash     string              // of the content, where nobody writes and nothing is expected cell by cell
	fences   map[int64]int64
	// firstTile is the version of the tile that the operator saw after the cut-over.
	firstTile string
	talking   sync.WaitGroup
	listener  net.Listener
}

func newScene(t *testing.T, binary string, sc script, seed uint64, size shape, server *pgtest.Server) *scene {
	t.Helper()
	s := &scene{t: t, script: sc, shape: size, binary: binary, server: server, seed: seed, expected: map[[2]int]string{}, fences: map[int64]int64{}, patience: patience}
	s.plan.count = &tally{}
	if server != nil {
		s.url = server.URL(t)
	} else {
		s.url = pgtest.URL(t)
	}
	s.source = s.url
	s.pool = pgtest.Connect(t, s.url)
	var err error
	if s.dir, err = os.MkdirTemp("", "crash"); err != nil { //nolint:usetesting // a socket's path must be short
		t.Fatal(err)
	}
	s.do("CREATE TABLE public.passthrough_birds (row_idx integer, col_idx integer, value double precision, PRIMARY KEY (row_idx, col_idx)) WITH (fillfactor = 90)")
	if size.large {
		s.fill()
	} else {
		s.copyIn()
	}
	for _, sql := range sc.setup {
		s.do(sql)
	}
	s.do(`INSERT INTO rasterloom.layer (name, band, format, crs, grid_rows, grid_cols, origin_x, origin_y, step_x, step_y, table_schema, table_name,
		table_oid, table_file, declared_type, stored_type, registration, south_up, has_indices, has_coordinates, has_key, estimated_rows, problems,
		source_schema, source_table, source_oid, generation)
		SELECT 'birds', '', 'LEGACY', 'EPSG:32633', $1, $2, 499980.1, 5600040.7, 30.1, 29.9, 'public', 'passthrough_birds', oid, relfilenode, 'float64', 'float64',
		'UNKNOWN', false, true, false, true, 0, '[]', 'public', 'resampled_datasets', 0, 1 FROM pg_class WHERE oid = 'public.passthrough_birds'::regclass`, size.rows, size.cols)
	return s
}

func (s *scene) copyIn() {
	s.t.Helper()
	size := s.shape
	_, err := s.pool.CopyFrom(s.t.Context(), pgx.Identifier{"public", "passthrough_birds"}, []string{"row_idx", "col_idx", "value"},
		pgx.CopyFromSlice(size.rows*size.cols, func(i int) ([]any, error) {
			v := value(s.seed + uint64(i))
			s.expected[[2]int{i / size.cols, i % size.cols}] = bits(v)
			return []any{i / size.cols, i % size.cols, v}, nil
		}))
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) fill() {
	s.t.Helper()
	s.do(`INSERT INTO public.passthrough_birds SELECT r, c, CASE (r * 31 + c) % 97 WHEN 0 THEN NULL WHEN 1 THEN 'NaN' WHEN 2 THEN '-0' WHEN 3 THEN 0 WHEN 4 THEN '-Infinity'
		ELSE sqrt(r::float8 * $2 + c) END FROM generate_series(0, $1::int - 1) r, generate_series(0, $2::int - 1) c`, s.shape.rows, s.shape.cols)
	s.do("ANALYZE public.passthrough_birds")
	s.hash = s.hashOfAll()
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

// listen takes the questions of the service's failpoints, and lays the wire
// where one is to be cut.
func (s *scene) listen() {
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
	if s.plan.death == cut {
		s.source = s.layWire()
	}
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
	if point == s.plan.target {
		s.die()
	}
	_, _ = conn.Write([]byte{1})
}

// serve starts the service; armed or not.
func (s *scene) serve(armed bool) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = l.Addr().String()
	l.Close()
	cmd := exec.Command(s.binary, "serve", "--listen", s.address, "--flight-listen", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "DATABASE_URL="+s.source, "RASTERLOOM_MIGRATION_LEASE=900ms", "RASTERLOOM_LOG_LEVEL=error")
	if armed {
		stops := []string{s.plan.target}
		for p := range s.script.hooks {
			stops = append(stops, p)
		}
		cmd.Env = append(cmd.Env, "RASTERLOOM_FAILPOINT="+strings.Join(stops, ","),
			"RASTERLOOM_FAILPOINT_SOCKET="+filepath.Join(s.dir, "s"), "RASTERLOOM_FAILPOINT_TRACE="+s.plan.trace)
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
	if s.wire != nil {
		s.wire.close()
	}
	s.talking.Wait()
	if s.t.Failed() {
		if log, err := os.ReadFile(filepath.Join(s.dir, "log")); err == nil {
			s.t.Logf("the service said:\n%s", log)
		}
	}
	_ = os.RemoveAll(s.dir)
}
