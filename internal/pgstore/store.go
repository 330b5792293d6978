// Package pgstore holds all SQL of the suite: the catalog of layers, existing
// catalogs and pixel tables, and the cells in them. It names columns, promises
// orders and turns SQLSTATEs into faults; it decides no policy.
//
// Every connection has search_path pg_catalog alone, so all names are qualified;
// identifiers are looked up in the system catalogs byte for byte and quoted;
// values travel as parameters, and the simple protocol is never used.
package pgstore

import (
	"context"
	"maps"
	"strconv"
	"time"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/pgstore/migration"
)

// Options are limits of a store's connections. A zero field takes its default.
type Options struct {
	// ApplicationName is what PostgreSQL shows of us. Default "rasterloom".
	ApplicationName string
	// MaxConnections is the size of the pool. Default 10.
	MaxConnections int
	// ConnectTimeout bounds the making of a connection. Default 5 s.
	ConnectTimeout time.Duration
	// StatementTimeout bounds each statement; negative is none. Default none:
	// callers bring deadlines.
	StatementTimeout time.Duration
	// LockTimeout bounds each wait for a lock; negative is none. Default 5 s.
	LockTimeout time.Duration
}

// Store is a PostgreSQL database. It is safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
}

// idleLimit is how long a session may be idle in a transaction: the owner of
// one that is may be lost, and it lets go.
const idleLimit = 5 * time.Minute

// Open makes the store of a database, which need not be up: connections are
// made as they are needed. Ping says whether it answers. Errors: Invalid when
// the URL cannot be read.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fault.New(fault.Invalid, fault.InvalidArgument,
			"the database URL cannot be read; it looks like postgres://user:password@host:5432/database").
			With("field", "database_url").Because(err)
	}
	config.MaxConns = int32(orDefault(o.MaxConnections, 10))
	config.MinConns = 0
	// All connections that are kept have ended once the database was restarted. By
	// itself the pool looks at those only that were idle for a second, and each of
	// the others would fail a call.
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return true }
	connection := config.ConnConfig
	encrypt(&connection.Config)
	connection.ConnectTimeout = orDefault(o.ConnectTimeout, 5*time.Second)
	// Whatever the URL asks for: the simple protocol puts values into the text.
	connection.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	maps.Copy(connection.RuntimeParams, map[string]string{
		"search_path": "pg_catalog",
		// What our transactions wait for and then read is what was committed by then,
		// whatever the database or the role has for a default.
		"default_transaction_isolation": "read committed",
		// Definitions of views and indexes are compared as they are by default.
		"quote_all_identifiers":               "off",
		"timezone":                            "UTC", // whatever the server's or the role's is
		"application_name":                    orDefault(o.ApplicationName, "rasterloom"),
		"statement_timeout":                   milliseconds(o.StatementTimeout),
		"lock_timeout":                        milliseconds(orDefault(o.LockTimeout, 5*time.Second)),
		"idle_in_transaction_session_timeout": milliseconds(idleLimit),
	})
	// The text of statements is ours and says nothing of values; nothing is
	// recorded where no traces are asked for.
	connection.Tracer = otelpgx.NewTracer()
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, faultOf(err)
	}
	return &Store{pool: pool}, nil
}

// Migrate brings the schema rasterloom to the version that this program needs.
// Replicas may call it at once: they take turns. Errors: as any query.
func (s *Store) Migrate(ctx context.Context) error {
	config := s.pool.Config().ConnConfig
	// The wait for the turn, and a version that builds an index, take their time.
	config.RuntimeParams["lock_timeout"] = "0"
	config.RuntimeParams["statement_timeout"] = "0"
	_, _, err := migration.Up(ctx, config)
	return faultOf(err)
}

// Ping asks whether the database answers. Errors: Unavailable.
func (s *Store) Ping(ctx context.Context) error { return faultOf(s.pool.Ping(ctx)) }

// Close closes all connections, once those in use have come back.
func (s *Store) Close() { s.pool.Close() }

func orDefault[T comparable](value, standard T) T {
	var zero T
	if value == zero {
		return standard
	}
	return value
}

// milliseconds writes a timeout as PostgreSQL takes it; 0 is none.
func milliseconds(d time.Duration) string {
	return strconv.FormatInt(max(0, d.Milliseconds()), 10)
}
