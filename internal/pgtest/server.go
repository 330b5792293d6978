package pgtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/localpg"
)

// Server is a PostgreSQL of a test's own, which may be killed and started again.
// It listens on a socket of its own directory, and keeps what a server keeps
// when it is killed: everything but fsync is as it is in production.
type Server struct {
	dir      string
	settings map[string]string
	running  *localpg.Server
	cluster  *cluster
	mine     *pgx.Conn // open all the time: a stopped postmaster makes no connection
}

// NewServer starts one; it ends with the test. settings are as in
// postgresql.conf.
func NewServer(t testing.TB, settings map[string]string) *Server {
	t.Helper()
	// Short, as the path of a socket must be, and open to the server's account.
	dir, err := os.MkdirTemp("", "rl") //nolint:usetesting // see above
	if err == nil {
		err = os.Chmod(dir, 0o711) //nolint:gosec // holds nothing but the server's own directory
	}
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"fsync": "off", "max_connections": "60", "log_checkpoints": "off"}
	maps.Copy(all, settings)
	s := &Server{dir: dir, settings: all}
	t.Cleanup(func() {
		s.stop(t)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s.Start(t)
	s.cluster = &cluster{url: s.running.URL(), local: s.running}
	if s.cluster.template, err = s.cluster.makeTemplate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s
}

// Start starts it again after Kill; the server recovers, as after any crash.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setupLimit)
	defer cancel()
	running, err := localpg.Start(ctx, localpg.Options{DataDir: filepath.Join(s.dir, "pg"), Settings: s.settings})
	if err != nil {
		t.Fatal(fault.From(err).Detail())
	}
	s.running = running
	if s.mine, err = pgx.Connect(ctx, running.URL()); err != nil {
		t.Fatal(err)
	}
}

// Kill ends the postmaster and all its processes by SIGKILL, at one moment: none
// gets to finish, or to tell anybody anything.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setupLimit)
	defer cancel()
	cluster := filepath.Join(s.dir, "pg", "cluster")
	var where string
	if err := s.mine.QueryRow(ctx, "SHOW data_directory").Scan(&where); err != nil {
		t.Fatal(err)
	}
	if where != cluster {
		t.Fatalf("the server to kill keeps its data in %s, and ours is %s", where, cluster)
	}
	text, err := os.ReadFile(filepath.Join(cluster, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	postmaster, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	// Stopped, it cannot start another process while we look for them.
	if err := syscall.Kill(postmaster, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	rows, err := s.mine.Query(ctx, "SELECT pid FROM pg_stat_activity")
	if err != nil {
		t.Fatal(err)
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range append([]int{postmaster}, pids...) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(fmt.Errorf("kill process %d of the server: %w", pid, err))
		}
	}
	_ = s.mine.Close(ctx)
	<-s.running.Done()
}

// Account is whom the server's files belong to.
func (s *Server) Account(t testing.TB) (uid, gid int) {
	t.Helper()
	info, err := os.Stat(filepath.Join(s.dir, "pg", "cluster"))
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t) //nolint:forcetypeassert // on each system that localpg runs on
	return int(owner.Uid), int(owner.Gid)
}

func (s *Server) stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setupLimit)
	defer cancel()
	if s.mine != nil {
		_ = s.mine.Close(ctx)
	}
	if s.running != nil {
		if err := s.running.Stop(ctx); err != nil {
			t.Error(err)
		}
	}
}

// URL gives the address of a fresh database on this server, as the function URL
// does.
func (s *Server) URL(t testing.TB) string {
	t.Helper()
	return s.cluster.fresh(t, s.cluster.template)
}
