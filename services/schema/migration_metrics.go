package schema

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rasterloom/rasterloom/internal/migrate"
)

// countTime is how long a look at the metrics may wait for the database.
const countTime = 3 * time.Second

// migrationMetrics shows what migrations there are, as the database has it when
// somebody looks; every replica shows the same. docs/metrics.md lists them; a test
// holds the two equal.
type migrationMetrics struct {
	count          func(context.Context) ([]migrate.Count, error)
	number, oldest *prometheus.Desc
}

// newMigrationMetrics makes the metrics and registers them, if there is where to.
func newMigrationMetrics(registry prometheus.Registerer, count func(context.Context) ([]migrate.Count, error)) error {
	if registry == nil {
		return nil
	}
	labels := []string{"condition", "level", "state"}
	return registry.Register(&migrationMetrics{
		count:  count,
		number: prometheus.NewDesc("rasterloom_schema_migrations", "Migrations that are not over.", labels, nil),
		oldest: prometheus.NewDesc("rasterloom_schema_migrations_oldest_seconds", "How long the oldest of them has been in its state.", labels, nil),
	})
}

// Describe implements prometheus.Collector.
func (m *migrationMetrics) Describe(to chan<- *prometheus.Desc) { to <- m.number; to <- m.oldest }

// Collect implements prometheus.Collector. Where the database cannot be asked there
// are no such numbers, and all others are shown.
func (m *migrationMetrics) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), countTime)
	defer cancel()
	counts, err := m.count(ctx)
	if err != nil {
		return
	}
	for _, c := range counts {
		labels := []string{string(c.Condition), string(c.Level), string(c.State)}
		to <- prometheus.MustNewConstMetric(m.number, prometheus.GaugeValue, float64(c.Number), labels...)
		to <- prometheus.MustNewConstMetric(m.oldest, prometheus.GaugeValue, c.Oldest.Seconds(), labels...)
	}
}
