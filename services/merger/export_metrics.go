package merger

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/rasterloom/rasterloom/services/merger/internal/export"
)

// exportMetrics are the numbers of exports. docs/metrics.md lists them; a test
// holds the two equal.
type exportMetrics struct {
	exports *prometheus.CounterVec
	rows    prometheus.Counter
	bytes   prometheus.Counter
	parts   prometheus.Counter
	seconds *prometheus.HistogramVec
}

// What an export's time goes into.
const (
	exportWaiting = "waiting" // in line, and for memory and connections
	exportWriting = "writing" // the rest
)

// newExportMetrics makes the metrics and registers them, if there is where to.
func newExportMetrics(registry prometheus.Registerer) *exportMetrics {
	into := promauto.With(registry)
	counter := func(name, help string) prometheus.Counter {
		return into.NewCounter(prometheus.CounterOpts{Name: "rasterloom_merger_export" + name, Help: help})
	}
	return &exportMetrics{
		exports: into.NewCounterVec(prometheus.CounterOpts{
			Name: "rasterloom_merger_exports_total", Help: "Exports that ended, by outcome: OK, CANCELLED, or the reason of the failure.",
		}, []string{"outcome"}),
		rows:  counter("_rows_total", "Rows of exports that were published."),
		bytes: counter("_bytes_total", "Bytes of their files."),
		parts: counter("_parts_total", "Their files."),
		seconds: into.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rasterloom_merger_export_seconds", Help: "Time that exports spent in each phase: waiting, writing.",
			Buckets: prometheus.ExponentialBuckets(0.1, 4, 9),
		}, []string{"phase"}),
	}
}

// of shows how many exports of a queue run and wait.
func (m *exportMetrics) of(registry prometheus.Registerer, count func() (running, waiting int)) {
	gauge := func(name, help string, value func() int) {
		promauto.With(registry).NewGaugeFunc(prometheus.GaugeOpts{Name: "rasterloom_merger_exports_" + name, Help: help},
			func() float64 { return float64(value()) })
	}
	gauge("running", "Exports at work.", func() int { running, _ := count(); return running })
	gauge("waiting", "Exports in line.", func() int { _, waiting := count(); return waiting })
}

// over counts an export that is over.
func (m *exportMetrics) over(j export.Job) {
	switch j.State {
	case export.Succeeded:
		m.exports.WithLabelValues("OK").Inc()
		m.rows.Add(float64(j.Manifest.Rows))
		m.bytes.Add(float64(j.Manifest.Bytes))
		m.parts.Add(float64(len(j.Manifest.Parts)))
	case export.Failed:
		m.exports.WithLabelValues(string(j.Failure.Reason)).Inc()
	default:
		m.exports.WithLabelValues(j.State.String()).Inc()
	}
	began := j.Began
	if began.IsZero() {
		began = j.Ended
	}
	m.seconds.WithLabelValues(exportWaiting).Observe(began.Sub(j.Created).Seconds())
	m.seconds.WithLabelValues(exportWriting).Observe(j.Ended.Sub(began).Seconds())
}
