package schema

import (
	"context"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/pgstore"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/schema/internal/catalog"
	"github.com/rasterloom/rasterloom/services/schema/internal/rpc"
	"github.com/rasterloom/rasterloom/services/schema/internal/worker"
)

// migrations builds the services of migrations and of coordinates and starts the
// worker once ready is closed; drain ends the calls that wait for it, stop ends it. What it was doing is rolled back, and another replica, or
// the next start, goes on from there.
func migrations(m *pgstore.Migrations, keeper *catalog.Keeper, cfg Config, log *zap.Logger, ready <-chan struct{}) (handlers map[string]http.Handler, drain, stop func()) {
	w := worker.New(m, m, worker.Config{Lease: cfg.MigrationLease, AtOnce: cfg.MigrationsAtOnce}, log.Named("migration"))
	handlers = map[string]http.Handler{}
	served := rpc.NewMigrations(keeper, m, w.Wake)
	path, handler := schemav1connect.NewMigrationServiceHandler(served, wire.Options()...)
	handlers[path] = handler
	path, handler = schemav1connect.NewCoordinateServiceHandler(rpc.NewCoordinates(keeper, m, w.Wake), wire.Options()...)
	handlers[path] = handler
	ctx, cancel := context.WithCancel(context.Background())
	var working sync.WaitGroup
	working.Go(func() {
		select {
		case <-ready:
			// A worker that is gone is a replica that takes no migration.
			for ctx.Err() == nil {
				if err := fault.Guard(func() error { return w.Run(ctx) }); err != nil {
					log.Error("the worker of migrations begins again", zap.String("detail", fault.Detail(err)), zap.String("stack", fault.From(err).Stack()))
					select {
					case <-time.After(time.Second):
					case <-ctx.Done():
					}
				}
			}
		case <-ctx.Done():
		}
	})
	return handlers, served.Drain, func() { cancel(); working.Wait() }
}
