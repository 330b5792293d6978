package localpg_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/localpg"
)

// ownerDir makes this binary, started by a test, the owner of a server: it
// starts one, prints its URL and waits to be killed.
const ownerDir = "LOCALPG_TEST_OWNER_DIR"

// patience is far more than anything here takes: a test that waits for it fails.
const patience = time.Minute

func TestMain(m *testing.M) {
	if dir, ok := os.LookupEnv(ownerDir); ok {
		s, err := localpg.Start(context.Background(), localpg.Options{DataDir: dir})
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println(s.URL())
		select {}
	}
	goleak.VerifyTestMain(m)
}

func TestInstalledServerKeepsData(t *testing.T) {
	t.Parallel()
	found, err := localpg.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatalf("no PostgreSQL %d or newer is installed here; install one to run this test", localpg.MinMajor)
	}
	dir := filepath.Join(tempDir(t), "data")
	s := start(t, localpg.Options{DataDir: dir})
	if s.Version != found[0].Version || s.Source != found[0].Source {
		t.Errorf("runs %s %s, and the newest found is %s %s", s.Version, s.Source, found[0].Version, found[0].Source)
	}
	checkServer(t, s)
	exec1(t, s, "CREATE TABLE public.kept AS SELECT 42 AS v")
	if got := query[string](t, s, "SHOW shared_buffers"); got != "512MB" {
		t.Errorf("shared_buffers are %s", got)
	}
	exec1(t, s, "CREATE SCHEMA rasterloom")
	exec1(t, s, "CREATE TABLE mine AS SELECT 1 AS v")
	if got := query[string](t, s, "SELECT schemaname FROM pg_tables WHERE tablename = 'mine'"); got != "public" {
		t.Errorf("a table without a schema is in %s", got)
	}
	exec1(t, s, "ALTER SYSTEM SET shared_buffers = '64MB'")
	stop(t, s)

	began := time.Now()
	s = start(t, localpg.Options{DataDir: dir})
	t.Logf("second start took %v", time.Since(began))
	if got := query[int](t, s, "SELECT v FROM public.kept"); got != 42 {
		t.Errorf("kept %d, want 42", got)
	}
	if got := query[string](t, s, "SHOW shared_buffers"); got != "64MB" {
		t.Errorf("shared_buffers are %s, although ALTER SYSTEM set 64MB", got)
	}
}

// The real registry: the first run fetches about 15 MB, later ones use the
// cache.
func TestRegistryServer(t *testing.T) {
	t.Parallel()
	s := start(t, localpg.Options{FromRegistry: true, DataDir: filepath.Join(tempDir(t), "data"), Progress: func(line string) { t.Log(line) }})
	if !strings.Contains(s.Source, "package registry") {
		t.Errorf("source is %q", s.Source)
	}
	if !strings.HasPrefix(s.Version, "18.") {
		t.Errorf("version is %q", s.Version)
	}
	checkServer(t, s)
}

// checkServer checks what every server promises.
func checkServer(t *testing.T, s *localpg.Server) {
	t.Helper()
	for _, c := range []struct{ query, want string }{
		{"SELECT current_setting('server_encoding')", "UTF8"},
		{"SELECT current_setting('listen_addresses')", ""},
		{"SELECT current_setting('fsync')", "on"},
		{"SELECT current_setting('data_checksums')", "on"},
		{"SELECT current_setting('server_version')", ""},
		{"SELECT pg_catalog.lower('ÀÉ')", "àé"}, // C.UTF-8, not C
		{"SELECT current_database()", "rasterloom"},
	} {
		got := query[string](t, s, c.query)
		switch {
		case strings.Contains(c.query, "server_version"):
			if !strings.HasPrefix(got, s.Version) {
				t.Errorf("%s = %q, and Version says %q", c.query, got, s.Version)
			}
		case got != c.want:
			t.Errorf("%s = %q, want %q", c.query, got, c.want)
		}
	}
	config, err := pgx.ParseConfig(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	config.Password = "wrong"
	if conn, err := pgx.ConnectConfig(t.Context(), config); err == nil {
		conn.Close(t.Context())
		t.Error("a wrong password is let in")
	}
}

func TestSecondOwnerIsRefused(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), "data")
	start(t, localpg.Options{DataDir: dir})
	_, err := localpg.Start(t.Context(), localpg.Options{DataDir: dir})
	f := wantFault(t, err, fault.Exists)
	if f.Fields["pid"] != strconv.Itoa(os.Getpid()) {
		t.Errorf("the fault names process %q, want %d: %v", f.Fields["pid"], os.Getpid(), f)
	}
}

func TestServerDiesWithItsOwner(t *testing.T) {
	t.Parallel()
	for _, throwaway := range []bool{false, true} {
		t.Run(fmt.Sprintf("throwaway=%v", throwaway), func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(tempDir(t), "data")
			if throwaway {
				dir = ""
			}
			owner := exec.Command(os.Args[0])
			owner.Env = append(os.Environ(), ownerDir+"="+dir)
			out, err := owner.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := owner.Start(); err != nil {
				t.Fatal(err)
			}
			url, err := bufio.NewReader(out).ReadString('\n')
			if err != nil || !strings.HasPrefix(url, "postgres://") {
				owner.Process.Kill()
				t.Fatalf("the owner says %q, %v", url, err)
			}
			url = strings.TrimSpace(url)
			conn, err := pgx.Connect(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			var cluster string
			var postmaster int
			err = conn.QueryRow(t.Context(), `SELECT current_setting('data_directory'),
				split_part(pg_read_file('postmaster.pid'), E'\n', 1)::int`).Scan(&cluster, &postmaster)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Exec(t.Context(), "CREATE TABLE public.acknowledged AS SELECT 7 AS v"); err != nil {
				t.Fatal(err)
			}
			owner.Process.Kill()
			owner.Wait()
			conn.Close(t.Context())
			await(t, "the server to end", func() bool { return syscall.Kill(postmaster, 0) != nil })
			if throwaway {
				await(t, "the throwaway directory to go", func() bool {
					_, err := os.Stat(filepath.Dir(cluster))
					return os.IsNotExist(err)
				})
				return
			}
			s := start(t, localpg.Options{DataDir: dir})
			if got := query[int](t, s, "SELECT v FROM public.acknowledged"); got != 7 {
				t.Errorf("after the kill: %d, want 7", got)
			}
		})
	}
}

func TestCrashIsSeenAndRecovered(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), "data")
	s := start(t, localpg.Options{DataDir: dir})
	exec1(t, s, "CREATE TABLE public.acknowledged AS SELECT 7 AS v")
	text, err := os.ReadFile(filepath.Join(dir, "cluster", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	postmaster, err := strconv.Atoi(strings.SplitN(string(text), "\n", 2)[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(postmaster, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-time.After(patience):
		t.Fatal("the crash went unseen")
	}
	stop(t, s)
	// The worst leftover: the number of the dead postmaster now belongs to
	// another living process.
	pidFile := filepath.Join(dir, "cluster", "postmaster.pid")
	lines := strings.SplitN(string(text), "\n", 2)
	if err := os.WriteFile(pidFile, []byte(strconv.Itoa(os.Getpid())+"\n"+lines[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	s = start(t, localpg.Options{DataDir: dir})
	if got := query[int](t, s, "SELECT v FROM public.acknowledged"); got != 7 {
		t.Errorf("after the crash: %d, want 7", got)
	}
}

func TestHalfMadeClusterIsMadeAnew(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), "data")
	stop(t, start(t, localpg.Options{DataDir: dir}))
	// As if the process had died in initdb.
	if err := os.Rename(filepath.Join(dir, "cluster"), filepath.Join(dir, "cluster.new")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "cluster.new", "PG_VERSION")); err != nil {
		t.Fatal(err)
	}
	s := start(t, localpg.Options{DataDir: dir})
	if got := query[int](t, s, "SELECT 1"); got != 1 {
		t.Error(got)
	}
}

func TestLongPathAndSecrets(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), strings.Repeat("long and with spaces ", 6), "data")
	s := start(t, localpg.Options{DataDir: dir, Settings: map[string]string{"work_mem": "7MB"}})
	if got := query[string](t, s, "SELECT current_setting('work_mem')"); got != "7MB" {
		t.Errorf("work_mem = %s", got)
	}
	for path, want := range map[string]os.FileMode{".": 0o700, "password": 0o600, "server.log": 0o600, "cluster": 0o700} {
		info, err := os.Stat(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
}

func TestUnusableDataDirs(t *testing.T) {
	t.Parallel()
	foreign := tempDir(t)
	if err := os.WriteFile(filepath.Join(foreign, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(tempDir(t), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Root passes; the account that root's server runs as does not. For
	// everybody else the directory itself is shut.
	shut := filepath.Join(tempDir(t), "shut")
	mode := os.FileMode(0o700)
	if os.Geteuid() != 0 {
		mode = 0o500
	}
	if err := os.Mkdir(shut, mode); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ dir, tells string }{
		"holds something else": {foreign, "thesis.tex"},
		"below a file":         {filepath.Join(file, "data"), file},
		"out of reach":         {filepath.Join(shut, "data"), shut},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := localpg.Start(t.Context(), localpg.Options{DataDir: c.dir})
			if f := wantFault(t, err, fault.Precondition); !strings.Contains(f.Message, c.tells) {
				t.Errorf("%q does not tell %q", f.Message, c.tells)
			}
		})
	}
}

func TestUnknownMajorIsRefused(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), "data")
	stop(t, start(t, localpg.Options{DataDir: dir}))
	if err := os.WriteFile(filepath.Join(dir, "cluster", "PG_VERSION"), []byte("99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := localpg.Start(t.Context(), localpg.Options{DataDir: dir})
	if f := wantFault(t, err, fault.Precondition); f.Fields["major"] != "99" {
		t.Errorf("fields %v", f.Fields)
	}
}

func TestFailedStartTellsTheLog(t *testing.T) {
	t.Parallel()
	_, err := localpg.Start(t.Context(), localpg.Options{Settings: map[string]string{"shared_buffers": "a lot"}})
	if f := wantFault(t, err, fault.Unavailable); !strings.Contains(f.Message, "shared_buffers") {
		t.Errorf("the message does not show the log: %s", f.Message)
	}
}

// tempDir is one that the account of root's server can reach, which T.TempDir
// is not.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "localpg-test-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func start(t *testing.T, o localpg.Options) *localpg.Server {
	t.Helper()
	s, err := localpg.Start(t.Context(), o)
	if err != nil {
		t.Fatal(fault.From(err).Detail())
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *localpg.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func query[T any](t *testing.T, s *localpg.Server, sql string) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var v T
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func exec1(t *testing.T, s *localpg.Server, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func wantFault(t *testing.T, err error, kind fault.Kind) *fault.Error {
	t.Helper()
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Kind != kind {
		t.Fatalf("got %v, want a fault of kind %v", err, kind)
	}
	return f
}

// await waits for what nothing tells of, such as the end of somebody else's child.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
