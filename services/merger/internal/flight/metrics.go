package flight

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// metrics are the merger's numbers, over all streams. docs/metrics.md lists
// them; a test holds the two equal.
type metrics struct {
	streams *prometheus.CounterVec
	running prometheus.Gauge
	rows    prometheus.Counter
	cells   prometheus.Counter
	shifts  prometheus.Counter
	batches prometheus.Counter
	bytes   prometheus.Counter
	phases  *prometheus.HistogramVec
}

// newMetrics makes the metrics and registers them, if there is where to.
func newMetrics(registry prometheus.Registerer, budget *merge.Budget) *metrics {
	into := promauto.With(registry)
	into.NewGaugeFunc(prometheus.GaugeOpts{Name: "rasterloom_merger_memory_leased_bytes", Help: "Memory that streams and exports lease now."},
		func() float64 { return float64(budget.Leased()) })
	counter := func(name, help string) prometheus.Counter {
		return into.NewCounter(prometheus.CounterOpts{Name: "rasterloom_merger_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return into.NewGauge(prometheus.GaugeOpts{Name: "rasterloom_merger_" + name, Help: help})
	}
	return &metrics{
		streams: into.NewCounterVec(prometheus.CounterOpts{
			Name: "rasterloom_merger_streams_total", Help: "Streams that ended, by outcome: OK, CLIENT_GONE, or the reason of the error.",
		}, []string{"outcome"}),
		running: gauge("streams_running", "Streams at work."),
		rows:    counter("rows_merged_total", "Rows of streams that were merged to their end."),
		cells:   counter("cells_merged_total", "Values that are not null in those rows."),
		shifts:  counter("shifts_applied_total", "Layers that were shifted to fit the reference, one for each stream."),
		batches: counter("batches_sent_total", "Record batches with rows that were sent."),
		bytes:   counter("bytes_sent_total", "Bytes of the messages that were sent."),
		phases: into.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rasterloom_merger_phase_seconds", Help: "Time that streams spent in each phase.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}, []string{"phase"}),
	}
}
