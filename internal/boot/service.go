// Package boot is a process's birth and death: configuration, logs, listeners,
// health, drain. It knows no raster.
package boot

import (
	"context"
	"net/http"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Deps is what a front door gets to build its service from.
type Deps struct {
	Log *zap.Logger
	// HTTPClient reaches the other services (HTTP/2, cleartext or TLS).
	HTTPClient connect.HTTPClient
	// FlightURI is where clients reach the Flight server of this process, such
	// as grpc://127.0.0.1:7401; empty in a process without one.
	FlightURI string
	// Metrics is where a service registers its metrics, which the process shows
	// at /metrics; nil where nobody looks.
	Metrics prometheus.Registerer
	// Leased is told when a service lets its work hold more memory, or less: by how
	// many bytes. Nil where nobody listens.
	Leased func(change int64)
}

// Service is one of the suite's services, built and not yet served.
type Service struct {
	// Name is the full name of its contract, as in health checks:
	// rasterloom.aligner.v1.AlignerService.
	Name string
	// Handlers are its Connect handlers by path prefix.
	Handlers map[string]http.Handler
	// Flight is its part of Arrow Flight; nil for services without one.
	Flight *Flight
	// Check says whether it can work now; nil error means yes.
	Check func(context.Context) error
	// Drain is told, if set, when no new calls are taken any more: calls that
	// wait for work of its own should come to their end. It returns at once.
	Drain func()
	// Close releases what it holds, after the last call has ended.
	Close func()
}
