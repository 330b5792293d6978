package boot

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"
)

// TraceConfig says where traces go. What is sampled, and headers that a
// collector wants, are told by OpenTelemetry's own variables
// (OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS and others).
type TraceConfig struct {
	Endpoint string `help:"OpenTelemetry collector that spans go to by OTLP over gRPC, such as http://127.0.0.1:4317. Default: none, and there are no traces." env:"OTEL_EXPORTER_OTLP_ENDPOINT" placeholder:"URL"`
}

// StartTraces makes the process's spans go to a collector, and gives what flushes
// and ends that. Without an endpoint nothing is recorded.
func StartTraces(ctx context.Context, cfg TraceConfig, process string, log *zap.Logger) (stop func(), err error) {
	if cfg.Endpoint == "" {
		return func() {}, nil
	}
	if !strings.HasPrefix(cfg.Endpoint, "http://") && !strings.HasPrefix(cfg.Endpoint, "https://") {
		return nil, fmt.Errorf("--trace-endpoint %q is no URL such as http://127.0.0.1:4317", cfg.Endpoint)
	}
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(cfg.Endpoint))
	if err != nil {
		return nil, fmt.Errorf("--trace-endpoint %s: %w", cfg.Endpoint, err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.namespace", "rasterloom"), attribute.String("service.name", process), attribute.String("service.version", version))))
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces", zap.Error(err)) }))
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn("the last traces were not sent", zap.Error(err))
		}
	}, nil
}
