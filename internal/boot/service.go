// Package boot is a process's birth and death: configuration, logs, listeners,
// health, drain. It knows no raster.
package boot

import (
	"context"
	"net/http"

	"connectrpc.com/connect"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// Deps is what a front door gets to build its service from.
type Deps struct {
	Log *zap.Logger
	// HTTPClient reaches the other services (HTTP/2, cleartext or TLS).
	HTTPClient connect.HTTPClient
}

// Service is one of the suite's services, built and not yet served.
type Service struct {
	// Name is the full name of its contract, as in health checks:
	// rasterloom.aligner.v1.AlignerService.
	Name string
	// Handlers are its Connect handlers by path prefix.
	Handlers map[string]http.Handler
	// Flight is its Arrow Flight server; nil for services without one.
	Flight *grpc.Server
	// Check says whether it can work now; nil error means yes.
	Check func(context.Context) error
	// Close releases what it holds, after the last call has ended.
	Close func()
}
