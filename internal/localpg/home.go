package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rasterloom/rasterloom/fault"
)

// maxSocketPath is the longest path of a Unix socket that every system takes.
const maxSocketPath = 100

// home is the directory of one server:
//
//	lock        held by the owner and by every process of its server; has the owner's pid
//	password    of the superuser, mode 0600
//	cluster/    PostgreSQL's own data directory
//	run/        the socket, unless the path is too long for one
//	server.log  since the last start; server.log.old is that of the start before
type home struct {
	dir       string
	throwaway bool
	account   account
	socketDir string
	lock      *os.File
}

// openHome makes the directory where it is missing, and takes its lock.
func openHome(ctx context.Context, dir string, a account) (*home, error) {
	h := &home{dir: dir, throwaway: dir == "", account: a}
	if err := h.prepare(ctx); err != nil {
		h.abandon()
		return nil, err
	}
	return h, nil
}

func (h *home) prepare(ctx context.Context) error {
	if err := h.makeDir(); err != nil {
		return err
	}
	if barrier, ok := h.account.canEnter(h.dir); !ok {
		return fault.New(fault.Precondition, fault.InvalidArgument,
			"the data directory %s is out of reach: PostgreSQL does not run as root, and the account %q may not enter %s; choose another directory",
			h.dir, h.account.name, barrier).With("data_dir", h.dir)
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := h.takeLock(ctx); err != nil {
		return err
	}
	return h.makeSocketDir()
}

func (h *home) makeDir() error {
	var err error
	if h.throwaway {
		h.dir, err = os.MkdirTemp("", "rasterloom-pg-")
	} else {
		if h.dir, err = filepath.Abs(h.dir); err == nil {
			// What lies above may be shared; the directory itself is not.
			if err = os.MkdirAll(filepath.Dir(h.dir), 0o755); err == nil {
				err = os.Mkdir(h.dir, 0o700)
			}
			if errors.Is(err, fs.ErrExist) {
				err = h.refuseForeign()
			}
		}
	}
	if err == nil {
		err = h.account.own(h.dir)
	}
	return h.unusable(err)
}

// refuseForeign keeps us from taking over a directory that holds something else.
func (h *home) refuseForeign() error {
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return os.Chmod(h.dir, 0o700)
	}
	for _, e := range entries {
		if e.Name() == "lock" {
			return nil
		}
	}
	return fault.New(fault.Precondition, fault.InvalidArgument,
		"the data directory %s holds something else (%s, …); choose an empty or a new one", h.dir, entries[0].Name()).With("data_dir", h.dir)
}

// unusable turns an error of the file system into a fault that names the
// directory.
func (h *home) unusable(err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok || err == nil {
		return err
	}
	return fault.New(fault.Precondition, fault.InvalidArgument, "the data directory %s cannot be used: %v", h.dir, err).
		With("data_dir", h.dir).Because(err)
}

// takeLock takes the lock. A living owner is refused at once; the server of an
// owner that has died is given time to end.
func (h *home) takeLock(ctx context.Context) error {
	lock, err := os.OpenFile(filepath.Join(h.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return h.unusable(err)
	}
	h.lock = lock
	err = awaitLock(ctx, lock, func() error {
		if pid := h.owner(); pid > 0 && alive(pid) {
			return fault.New(fault.Exists, fault.DatabaseUnavailable,
				"another process (%d) runs the database in %s; use that one, stop it, or choose another data directory", pid, h.dir).
				With("pid", pid).With("data_dir", h.dir)
		}
		return nil
	})
	if ctx.Err() != nil {
		return fault.New(fault.Unavailable, fault.DatabaseUnavailable,
			"the database in %s is still shutting down", h.dir).With("data_dir", h.dir).Because(err)
	}
	if err != nil {
		return h.unusable(err)
	}
	if err := lock.Truncate(0); err != nil {
		return h.unusable(err)
	}
	_, err = lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return h.unusable(err)
}

// awaitLock takes the lock of an open file. As long as somebody else has it, it
// asks wait, whose error ends the waiting.
func awaitLock(ctx context.Context, f *os.File, wait func() error) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return err
		}
		if err := wait(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollInterval):
		}
	}
}

// owner is the process that holds the lock, 0 if it did not say yet.
func (h *home) owner() int {
	text, _ := os.ReadFile(h.lock.Name())
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// makeSocketDir makes the directory of the socket, in the data directory or,
// where that path is too long for a socket, a temporary one.
func (h *home) makeSocketDir() error {
	h.socketDir = filepath.Join(h.dir, "run")
	err := os.Mkdir(h.socketDir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if len(filepath.Join(h.socketDir, ".s.PGSQL.5432.lock")) > maxSocketPath {
		h.socketDir, err = os.MkdirTemp("/tmp", "rasterloom-pg-")
	}
	if err == nil {
		err = h.account.own(h.socketDir)
	}
	return h.unusable(err)
}

// abandon gives everything back that no server holds.
func (h *home) abandon() {
	if h.lock != nil {
		h.lock.Close()
	}
	for _, dir := range h.temporary() {
		os.RemoveAll(dir)
	}
}

// temporary lists the directories that go when the server goes.
func (h *home) temporary() []string {
	var dirs []string
	if h.socketDir != "" && filepath.Dir(h.socketDir) != h.dir {
		dirs = append(dirs, h.socketDir)
	}
	if h.throwaway && h.dir != "" {
		dirs = append(dirs, h.dir)
	}
	return dirs
}

func (h *home) cluster() string { return filepath.Join(h.dir, "cluster") }
func (h *home) logPath() string { return filepath.Join(h.dir, "server.log") }

// major is the major version that made the cluster, 0 if there is none yet.
func (h *home) major() (int, error) {
	text, err := os.ReadFile(filepath.Join(h.cluster(), "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, h.unusable(err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, h.unusable(fmt.Errorf("PG_VERSION: %w", err))
	}
	return major, nil
}

func (h *home) password() (string, error) {
	text, err := os.ReadFile(filepath.Join(h.dir, "password"))
	return strings.TrimSpace(string(text)), h.unusable(err)
}

// initialize makes the cluster. It is made beside its place and renamed into
// it, so that a cluster in its place is a whole one.
func (h *home) initialize(ctx context.Context, install Installation) error {
	passwordFile := filepath.Join(h.dir, "password")
	if err := os.WriteFile(passwordFile, []byte(newPassword()+"\n"), 0o600); err != nil {
		return h.unusable(err)
	}
	if err := h.account.own(passwordFile); err != nil {
		return h.unusable(err)
	}
	making := h.cluster() + ".new"
	if err := os.RemoveAll(making); err != nil {
		return h.unusable(err)
	}
	args := []string{
		"--pgdata", making, "--username", superuser, "--pwfile", passwordFile, "--auth", "scram-sha-256",
		"--encoding", "UTF8", "--no-instructions",
	}
	switch {
	case install.Major >= 17:
		args = append(args, "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
	case runtime.GOOS == "linux":
		args = append(args, "--locale=C.UTF-8")
	default: // the C library has no C.UTF-8 everywhere else
		args = append(args, "--locale=C")
	}
	if h.throwaway {
		args = append(args, "--no-sync")
	} else {
		args = append(args, "--data-checksums")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(install.BinDir, "initdb"), args...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Dir, cmd.Env, cmd.SysProcAttr = h.dir, environment(h.dir), h.account.attributes()
	if err := cmd.Run(); err != nil {
		return fault.New(fault.Unavailable, fault.DatabaseUnavailable,
			"initdb of PostgreSQL %s failed:\n%s", install.Version, lastLines(output.String(), 5)).Because(err)
	}
	if err := h.configure(filepath.Join(making, "postgresql.conf")); err != nil {
		return h.unusable(err)
	}
	return h.unusable(os.Rename(making, h.cluster()))
}

// configure adds to a new cluster's configuration what its owner may want otherwise:
// ALTER SYSTEM goes before the file, and nothing before what the server is started with.
func (h *home) configure(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	// Four times what PostgreSQL assumes: pages that it has to fetch from the system's
	// cache cost a merge a sixth of its time. Memory is taken as pages are read, not
	// before.
	//
	// By PostgreSQL's own search_path, tables that SQL makes without naming a schema
	// would be in the one that has the role's name, which is ours.
	_, err = f.WriteString("\n# Rasterloom\nshared_buffers = 512MB\nsearch_path = 'public'\n")
	return errors.Join(err, f.Close())
}

// environment is all that the server's processes get to see of ours: no secret
// of the owner is in it. LC_ALL keeps macOS from starting threads in the server.
func environment(homeDir string) []string {
	env := []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + homeDir, "LC_ALL=C"}
	if tz := os.Getenv("TZ"); tz != "" {
		env = append(env, "TZ="+tz)
	}
	return env
}
