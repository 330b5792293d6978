package wire

import (
	"context"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
)

// Metrics are the numbers of a process's calls, over all protocols.
// docs/metrics.md lists them; a test holds the two equal.
type Metrics struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	running *prometheus.GaugeVec
}

// NewMetrics makes the metrics and registers them, if there is where to.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	into := promauto.With(registry)
	return &Metrics{
		calls: into.NewCounterVec(prometheus.CounterOpts{
			Name: "rasterloom_rpc_calls_total", Help: "Calls that ended, by the code that the caller got.",
		}, []string{"service", "method", "code"}),
		seconds: into.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rasterloom_rpc_seconds", Help: "How long calls took; kind is unary or stream.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}, []string{"service", "method", "kind"}),
		running: into.NewGaugeVec(prometheus.GaugeOpts{
			Name: "rasterloom_rpc_calls_running", Help: "Calls in hand.",
		}, []string{"service"}),
	}
}

type metricsKey struct{}

// Handler counts the calls of what is mounted behind it by Edge.
func (m *Metrics) Handler(edge http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		edge.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), metricsKey{}, m)))
	})
}

// ServerOption counts the calls of a grpc-go server. It comes before those of
// ServerOptions.
func (m *Metrics) ServerOption() grpc.ServerOption { return grpc.StatsHandler(measured{m}) }

// measured hands the metrics to the call that comes next in line.
type measured struct{ metrics *Metrics }

// TagRPC implements stats.Handler.
func (s measured) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, metricsKey{}, s.metrics)
}

// HandleRPC implements stats.Handler.
func (measured) HandleRPC(context.Context, stats.RPCStats) {}

// TagConn implements stats.Handler.
func (measured) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (measured) HandleConn(context.Context, stats.ConnStats) {}

// answers is the label for calls with one answer and for those with many.
func answers(stream bool) string {
	if stream {
		return "stream"
	}
	return "unary"
}

// begin counts a call that the interceptors have let in, so that its method is
// one that exists.
func (m *Metrics) begin(c *call) {
	if m != nil {
		service, _ := c.names()
		m.running.WithLabelValues(service).Inc()
	}
}

// end counts a call that has ended. One that was refused before an interceptor
// saw it may name a service and a method that a caller made up, which are no labels.
func (m *Metrics) end(c *call) {
	if m == nil {
		return
	}
	service, method := "unknown", "unknown"
	if c.entered {
		service, method = c.names()
		m.running.WithLabelValues(service).Dec()
		m.seconds.WithLabelValues(service, method, answers(c.stream)).Observe(time.Since(c.start).Seconds())
	}
	m.calls.WithLabelValues(service, method, codeName(c.code())).Inc()
}

// names splits /package.Service/Method.
func (c *call) names() (service, method string) {
	service, method, _ = strings.Cut(c.method, "/")
	return service, method
}

// code is what the caller got.
func (c *call) code() codes.Code {
	if c.err == nil {
		return codes.OK
	}
	code, _ := answerOf(c.err)
	return code
}

// codeName is a code as the Connect protocol and the log spell it.
func codeName(code codes.Code) string {
	if code == codes.OK {
		return "ok"
	}
	return connect.Code(code).String()
}

// enter marks a call as one that the interceptors have. ctx is theirs: it knows
// the trace.
func (c *call) enter(ctx context.Context, protocol string, stream bool) {
	c.entered, c.stream, c.trace = true, stream, traceID(ctx)
	if protocol != "" {
		c.protocol = protocol
	}
	c.metrics.begin(c)
}
