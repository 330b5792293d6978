// Package localpg brings a PostgreSQL server of one's own: it finds an installed
// one, or fetches one from the package registry, and runs it as a child process.
//
// A server belongs to the process that started it and never outlives it: a small
// shell between the two holds the reading end of a pipe, and when the writing end
// closes, by Stop or because the process died in whatever way, it shuts the
// server down. The lock on the data directory is inherited by every process of
// the server, so whoever gets the lock knows that no server is left on it.
//
// The server listens on a Unix socket in a directory of its own user, and on no
// network port: there is no port to clash and nothing to reach from outside.
// Linux and macOS.
package localpg

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rasterloom/rasterloom/fault"
)

const (
	// superuser and database are the names inside of every server.
	superuser = "rasterloom"
	database  = "rasterloom"
	// startLimit bounds each wait for a server: for one before to end, and for
	// ours to answer, crash recovery included.
	startLimit = 2 * time.Minute
	// pollInterval is how often a starting server is asked whether it is ready.
	pollInterval = 10 * time.Millisecond
)

// Options say which server to run and where its data live. The zero value runs
// a throwaway server.
type Options struct {
	// DataDir keeps the data between runs; it is made when missing. Empty: a
	// throwaway server in a temporary directory, without any durability (fsync
	// off), removed when the server stops or its owner dies.
	DataDir string
	// CacheDir keeps fetched binaries. Empty: DefaultCacheDir.
	CacheDir string
	// FromRegistry passes over installed servers.
	FromRegistry bool
	// Settings are server settings, as in postgresql.conf.
	Settings map[string]string
	// Progress, when set, is told in a short sentence before something that
	// takes a while.
	Progress func(string)
}

// Server is a running server.
type Server struct {
	// Version is the version of the server, "15.13".
	Version string
	// Source says where its binaries come from, for people.
	Source string

	url     string
	process *process
}

// URL is the address of the server's database for pgx, libpq and everything
// built on them. It holds the password: do not log it.
func (s *Server) URL() string { return s.url }

// Done is closed when the server has ended, whatever the reason.
func (s *Server) Done() <-chan struct{} { return s.process.done }

// Stop shuts the server down: sessions are cut, transactions rolled back, data
// written. It returns when the server has ended, or when ctx is done; the
// server then ends on its own. Stopping twice is fine.
func (s *Server) Stop(ctx context.Context) error {
	s.process.stop()
	select {
	case <-s.process.done:
		return nil
	case <-ctx.Done():
		return fault.New(fault.Unavailable, fault.DatabaseUnavailable, "PostgreSQL is still shutting down").Because(ctx.Err())
	}
}

// Start runs a server and returns when it answers.
//
// Errors: Exists when another process runs a server on the data directory;
// Precondition when the data directory cannot be used (made by a version that
// is not to be had, or out of reach of the account that the server runs as);
// Unavailable when no server can be found, fetched or started.
func Start(ctx context.Context, o Options) (*Server, error) {
	account, err := serverAccount()
	if err != nil {
		return nil, err
	}
	home, err := openHome(ctx, o.DataDir, account)
	if err != nil {
		return nil, err
	}
	server, err := home.start(ctx, o)
	if err != nil {
		home.abandon()
		return nil, err
	}
	return server, nil
}

func (h *home) start(ctx context.Context, o Options) (*Server, error) {
	tell := o.Progress
	if tell == nil {
		tell = func(string) {}
	}
	major, err := h.major()
	if err != nil {
		return nil, err
	}
	install, err := locate(ctx, o, major, h.account, tell)
	if err != nil {
		return nil, err
	}
	if major == 0 {
		tell("Making a new database cluster")
		if err := h.initialize(ctx, install); err != nil {
			return nil, err
		}
	}
	password, err := h.password()
	if err != nil {
		return nil, err
	}
	p, err := h.run(install, o.Settings)
	if err != nil {
		return nil, err
	}
	server := &Server{Version: install.Version, Source: install.Source, url: h.url(password, database), process: p}
	defer p.log.Close()
	if err := h.awaitReady(ctx, p, password); err != nil {
		p.stop()
		<-p.done
		return nil, err
	}
	return server, nil
}

// awaitReady connects until the server answers, and makes our database the
// first time.
func (h *home) awaitReady(ctx context.Context, p *process, password string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, h.url(password, "postgres"))
		if err == nil {
			defer conn.Close(context.WithoutCancel(ctx))
			return createDatabase(ctx, conn)
		}
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code != "57P03" { // cannot_connect_now: starting, recovering
			return fault.New(fault.Unavailable, fault.DatabaseUnavailable, "PostgreSQL refuses the connection of its own owner").Because(err)
		}
		select {
		case <-p.done:
			return fault.New(fault.Unavailable, fault.DatabaseUnavailable,
				"PostgreSQL ended while starting; its log ends with:\n%s", p.logTail()).With("log", h.logPath())
		case <-ctx.Done():
			return fault.New(fault.Unavailable, fault.DatabaseUnavailable, "PostgreSQL did not answer in time").
				With("log", h.logPath()).Because(err)
		case <-time.After(pollInterval):
		}
	}
}

func createDatabase(ctx context.Context, conn *pgx.Conn) error {
	var exists bool
	err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1)", database).Scan(&exists)
	if err == nil && !exists {
		_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{database}.Sanitize())
	}
	if err != nil {
		return fault.New(fault.Unavailable, fault.DatabaseUnavailable, "the database cannot be created").Because(err)
	}
	return nil
}

// url is the address of a database of this server. Every part is escaped, so
// that any path will do.
func (h *home) url(password, db string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, password), Path: "/" + db,
		RawQuery: url.Values{"host": {h.socketDir}}.Encode(),
	}
	return u.String()
}

// newPassword has 128 bits or more, in letters and digits only.
func newPassword() string { return rand.Text() }

// DefaultDataDir is where `rasterloom up` keeps its database: the user's data
// directory, or the system's for root, whose own directory the server's account
// could not enter.
func DefaultDataDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/rasterloom/postgres", nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "rasterloom", "postgres"), nil
	}
	user, err := os.UserHomeDir()
	if err != nil {
		return "", fault.New(fault.Precondition, fault.InvalidArgument, "there is no home directory to keep data in; name a data directory").Because(err)
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(user, "Library", "Application Support", "rasterloom", "postgres"), nil
	}
	return filepath.Join(user, ".local", "share", "rasterloom", "postgres"), nil
}

// DefaultCacheDir is where fetched binaries are kept: the user's cache
// directory, or the system's for root, so that the server's account can read
// them.
func DefaultCacheDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/cache/rasterloom/postgres", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fault.New(fault.Precondition, fault.InvalidArgument, "there is no cache directory for PostgreSQL's binaries; set XDG_CACHE_HOME").Because(err)
	}
	return filepath.Join(dir, "rasterloom", "postgres"), nil
}

// lastLines gives the last n lines of a text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
