// Package pgtest gives each test a database of its own on a real PostgreSQL,
// migrated, empty and cloned from a template in some 30 ms. Only tests import it.
//
// The server is the one that RASTERLOOM_TEST_DATABASE_URL names (its role must
// be allowed to create databases); without it, one throwaway server for each test
// binary, found or fetched by internal/localpg, which ends with the binary even
// when that is killed. Without any PostgreSQL tests fail; they are never skipped.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/localpg"
	"github.com/rasterloom/rasterloom/internal/pgstore/migration"
)

// Variable is the environment variable that names the server to test on.
const Variable = "RASTERLOOM_TEST_DATABASE_URL"

// setupLimit bounds everything done outside of a test's own time.
const setupLimit = 2 * time.Minute

// cluster is the server of this test binary.
type cluster struct {
	url      string // of a database to connect to for creating others
	template string
	local    *localpg.Server // nil when Variable is set
}

// The server is started by the first test that asks for it.
var (
	started   = sync.OnceValues(startCluster)
	mu        sync.Mutex
	throwaway *localpg.Server
)

// Main runs the tests of a package, stops the server and then fails if a
// goroutine is left: func TestMain(m *testing.M) { pgtest.Main(m) }.
func Main(m *testing.M, options ...goleak.Option) {
	code := m.Run()
	mu.Lock()
	server := throwaway
	mu.Unlock()
	if server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), setupLimit)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	if code == 0 {
		if err := goleak.Find(options...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// URL gives the address of a fresh database with the schema rasterloom
// migrated and empty. It is dropped after the test; when the test has failed
// on a server that outlives it (Variable), it is kept and its address logged.
func URL(t testing.TB) string {
	t.Helper()
	c, err := started()
	if err != nil {
		t.Fatalf("this test needs a PostgreSQL: %v", fault.From(err).Detail())
	}
	return c.fresh(t, c.template)
}

// fresh makes a database that is dropped after the test, or kept.
func (c *cluster) fresh(t testing.TB, template string) (address string) {
	t.Helper()
	name := "rl_test_" + strings.ToLower(rand.Text())
	err := c.admin(func(ctx context.Context, conn *pgx.Conn) error {
		return clone(ctx, conn, name, template)
	})
	if err != nil {
		t.Fatalf("clone a database: %v", err)
	}
	address = c.address(name)
	t.Cleanup(func() {
		if t.Failed() && c.local == nil {
			t.Logf("the database of this test is kept: %s", address)
			return
		}
		err := c.admin(func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "DROP DATABASE "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
			return err
		})
		if err != nil {
			t.Errorf("drop the database: %v", err)
		}
	})
	return address
}

// Pool gives connections to a fresh database, as URL. Their search_path is
// pg_catalog alone, so that a name without its schema fails.
func Pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return Connect(t, URL(t))
}

// Connect gives connections to a database, as Pool does to a fresh one.
func Connect(t testing.TB, address string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.RuntimeParams["search_path"] = "pg_catalog"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func startCluster() (*cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), setupLimit)
	defer cancel()
	c := &cluster{url: os.Getenv(Variable)}
	if c.url == "" {
		server, err := localpg.Start(ctx, localpg.Options{})
		if err != nil {
			return nil, err
		}
		mu.Lock()
		throwaway = server
		mu.Unlock()
		c.url, c.local = server.URL(), server
	}
	var err error
	c.template, err = c.makeTemplate(ctx)
	return c, err
}

// makeTemplate gives the name of a migrated database to clone, and makes it
// unless it is there. The name has the hash of the migrations. Test binaries
// that share a server take turns by an advisory lock; a database that is not
// marked as a template was left half-made and is made anew.
func (c *cluster) makeTemplate(ctx context.Context) (string, error) {
	hash, err := migration.Hash()
	if err != nil {
		return "", err
	}
	name := "rl_template_" + hash[:16]
	quoted := pgx.Identifier{name}.Sanitize()
	err = c.admin(func(_ context.Context, conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock(hashtextextended($1, 0))", name); err != nil {
			return err
		}
		var complete bool
		err := conn.QueryRow(ctx, "SELECT datistemplate FROM pg_database WHERE datname = $1", name).Scan(&complete)
		if complete {
			return nil
		}
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		for _, sql := range []string{
			"DROP DATABASE IF EXISTS " + quoted + " WITH (FORCE)",
			"CREATE DATABASE " + quoted + " TEMPLATE template0",
		} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return err
			}
		}
		config, err := pgx.ParseConfig(c.address(name))
		if err != nil {
			return err
		}
		if _, _, err := migration.Up(ctx, config); err != nil {
			return err
		}
		_, err = conn.Exec(ctx, "ALTER DATABASE "+quoted+" IS_TEMPLATE true")
		return err
	})
	if err != nil {
		return "", fmt.Errorf("make the template database: %w", err)
	}
	return name, nil
}

// clone copies the template. A session that just left it may not be gone yet.
func clone(ctx context.Context, conn *pgx.Conn, name, template string) error {
	for {
		_, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()+" TEMPLATE "+pgx.Identifier{template}.Sanitize())
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "55006" { // object_in_use
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// admin runs f on a connection of its own, whatever became of the test's
// context.
func (c *cluster) admin(f func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), setupLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return f(ctx, conn)
}

// address is the server's URL with another database.
func (c *cluster) address(name string) string {
	u, err := url.Parse(c.url)
	if err != nil {
		return c.url // ParseConfig will say what is wrong with it
	}
	u.Path = "/" + name
	return u.String()
}
