// Package schema is the front door of the schema service: what is stored, and
// how. It is the only writer of the suite.
package schema

import (
	"cmp"
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/pgstore"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/schema/internal/catalog"
	"github.com/rasterloom/rasterloom/services/schema/internal/rpc"
)

// Config is what the schema service can be told.
type Config struct {
	DatabaseURL string `help:"PostgreSQL database that holds the layers, 14 or newer. Its schema rasterloom is created and migrated at start." env:"DATABASE_URL" required:"" placeholder:"URL"`
	// WaitForDatabase is false where somebody waits for an answer at a terminal.
	WaitForDatabase bool `help:"Start although the database is away, and be NOT_SERVING until it is there." env:"RASTERLOOM_WAIT_FOR_DATABASE" default:"true" negatable:""`
	// MigrationLease is the worker's own default where it is zero.
	MigrationLease time.Duration `help:"How long a migration is left alone when the replica that carries it out is silent." env:"RASTERLOOM_MIGRATION_LEASE" default:"15s"`
	// MigrationsAtOnce is 4 where it is zero.
	MigrationsAtOnce int `help:"How many migrations one replica moves on side by side. Half of the places are kept for those without --rate." env:"RASTERLOOM_MIGRATIONS_AT_ONCE" default:"4"`

	Ingest IngestConfig `embed:"" prefix:"ingest-" group:"Taking rasters from clients"`
}

// baseConnections are those of a schema service that carries out one migration. A
// comparison holds one or two for as long as it takes.
const baseConnections = 10

// New connects to the database, migrates the schema rasterloom and builds the
// service. Errors: Invalid (the URL), Unavailable (the database, unless it is
// waited for), Denied (its permissions).
func New(ctx context.Context, cfg Config, deps boot.Deps) (*boot.Service, error) {
	if cfg.MigrationsAtOnce < 0 {
		return nil, fault.New(fault.Invalid, fault.InvalidArgument, "--migrations-at-once is %d, and must be 1 or more", cfg.MigrationsAtOnce).With("field", "migrations_at_once")
	}
	cfg.MigrationsAtOnce = cmp.Or(cfg.MigrationsAtOnce, 4)
	db, err := pgstore.Open(ctx, cfg.DatabaseURL, pgstore.Options{ApplicationName: "rasterloom schema", MaxConnections: baseConnections + cfg.MigrationsAtOnce/2})
	if err != nil {
		return nil, err
	}
	log := deps.Log
	if log == nil {
		log = zap.NewNop()
	}
	opened, err := openCatalog(ctx, db.Migrate, cfg.WaitForDatabase, log)
	if err != nil {
		db.Close()
		return nil, err
	}
	keeper := catalog.New(store{db})
	path, handler := schemav1connect.NewSchemaServiceHandler(rpc.New(keeper), wire.Options()...)
	m := db.Migrations()
	if err := newMigrationMetrics(deps.Metrics, m.Count); err != nil {
		opened.close()
		db.Close()
		return nil, err
	}
	handlers, drain, stop := migrations(m, keeper, cfg, log, opened.ready)
	handlers[path] = handler
	path, handler, puts := ingests(db, opened.check, keeper, cfg.Ingest, deps)
	handlers[path] = handler
	opened.guard(handlers)
	return &boot.Service{
		Name:     schemav1connect.SchemaServiceName,
		Handlers: handlers,
		Flight:   puts,
		Check: func(ctx context.Context) error {
			if err := opened.check(); err != nil {
				return err
			}
			return db.Ping(ctx)
		},
		Drain: drain,
		Close: func() { opened.close(); stop(); db.Close() },
	}, nil
}

// store is a pgstore.Store as the catalog wants it.
type store struct{ *pgstore.Store }

func (s store) Look(ctx context.Context) (catalog.Tx, error) { return transaction(s.Store.Look(ctx)) }
func (s store) Change(ctx context.Context) (catalog.Tx, error) {
	return transaction(s.Store.Change(ctx))
}

func (s store) Page(ctx context.Context, f catalog.Filter, after string, limit int) ([]layer.Record, error) {
	return s.ListLayers(ctx, pgstore.LayerFilter(f), after, limit)
}

func (s store) Count(ctx context.Context, f catalog.Filter) (int64, error) {
	return s.CountLayers(ctx, pgstore.LayerFilter(f))
}

// transaction keeps a nil pointer from becoming an interface that is not nil.
func transaction(tx *pgstore.Tx, err error) (catalog.Tx, error) {
	if err != nil {
		return nil, err
	}
	return tx, nil
}
