package wire

import (
	"context"

	"connectrpc.com/connect"
	"connectrpc.com/otelconnect"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
)

// traceCalls is the interceptor that gives each Connect call a span, and carries
// the trace to the services that are asked. Numbers are Metrics' business.
func traceCalls() connect.Interceptor {
	interceptor, err := otelconnect.NewInterceptor(
		otelconnect.WithoutMetrics(), otelconnect.WithTrustRemote(),
		// One event a message says nothing that the span does not.
		otelconnect.WithoutTraceEvents(), otelconnect.WithoutServerPeerAttributes())
	if err != nil {
		// Only an instrument can fail to be made, and there is none.
		return connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc { return next })
	}
	return interceptor
}

// traceServer does the same for a grpc-go server.
func traceServer() grpc.ServerOption {
	return grpc.StatsHandler(otelgrpc.NewServerHandler(otelgrpc.WithMeterProvider(metricnoop.NewMeterProvider())))
}

// traceID is the id of the trace that ctx belongs to; empty outside of one that
// is recorded.
func traceID(ctx context.Context) string {
	if span := trace.SpanContextFromContext(ctx); span.IsSampled() {
		return span.TraceID().String()
	}
	return ""
}
