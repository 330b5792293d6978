package boot

import (
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// newRegistry makes the metrics of a process: those of the Go runtime and of the
// operating system, and what the services add. Package collectors, where these
// two are meant to be taken from, brings database/sql with it, which the aligner
// must not be able to reach.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		prometheus.NewGoCollector(),                                       //nolint:staticcheck // see above
		prometheus.NewProcessCollector(prometheus.ProcessCollectorOpts{}), //nolint:staticcheck // see above
	)
	return registry
}

// metricsHandler shows metrics in the Prometheus format, to those who come by a
// loopback or private address of this machine; to others there is no such page.
func metricsHandler(registry *prometheus.Registry) http.Handler {
	page := promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		if !ok || !at.IP.IsLoopback() && !at.IP.IsPrivate() {
			http.NotFound(w, r)
			return
		}
		page.ServeHTTP(w, r)
	})
}
