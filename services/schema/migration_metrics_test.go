package schema_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/services/schema"
)

// A failed migration is seen by whoever watches the metrics, and docs/metrics.md
// lists them as they are.
func TestMigrationMetrics(t *testing.T) {
	w := newWorld(t)
	w.legacy("passthrough_birds")
	w.add(row{name: "birds", metadata: `{"passthrough": true}`})
	w.adopt()
	c := w.migrations()
	started, err := c.StartMigration(t.Context(), start("birds", "k"))
	if err != nil {
		t.Fatal(err)
	}
	watch(t.Context(), t, c, started.Msg.GetMigration().GetId())
	w.exec("UPDATE rasterloom.migration SET condition = 'FAILED', state_time = state_time - interval '1 hour'")

	registry := prometheus.NewRegistry()
	service, err := schema.New(t.Context(), schema.Config{DatabaseURL: w.url}, boot.Deps{Metrics: registry})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "rasterloom_schema_migrations") {
			continue
		}
		var names, values []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			names, values = append(names, "`"+l.GetName()+"`"), append(values, l.GetValue())
		}
		if got := strings.Join(values, " "); len(f.GetMetric()) != 1 || got != "FAILED STORED VERIFIED" {
			t.Errorf("%s of %s", f.GetName(), got)
		}
		value := f.GetMetric()[0].GetGauge().GetValue()
		if strings.HasSuffix(f.GetName(), "_seconds") != (value >= 3600) || value < 1 {
			t.Errorf("%s is %v", f.GetName(), value)
		}
		want = append(want, fmt.Sprintf("| `%s` | %s | %s | %s |", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(names, ", "), f.GetHelp()))
	}
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	got := regexp.MustCompile("(?m)^\\| `rasterloom_schema_migration.*$").FindAllString(string(page), -1)
	if !slices.Equal(got, want) {
		t.Errorf("documented:\n%s\nregistered:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	// Where the database is away the numbers are missing, and no others are.
	w.exec("ALTER TABLE rasterloom.migration RENAME TO away")
	if _, err := registry.Gather(); err != nil {
		t.Error(err)
	}
}
