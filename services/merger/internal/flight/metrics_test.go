package flight

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// docs/metrics.md lists the metrics as they are.
func TestMetricsAreDocumented(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := newMetrics(registry, merge.NewBudget(0, 0, nil))
	m.streams.WithLabelValues("OK").Inc()
	m.phases.WithLabelValues(phasePlan).Observe(1)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, f := range families {
		label := ""
		if labels := f.GetMetric()[0].GetLabel(); len(labels) > 0 {
			label = " `" + labels[0].GetName() + "`"
		}
		want = append(want, fmt.Sprintf("| `%s` | %s |%s | %s |", f.GetName(), strings.ToLower(f.GetType().String()), label, f.GetHelp()))
	}
	page, err := os.ReadFile("../../../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	got := regexp.MustCompile("(?m)^\\| `rasterloom_merger_.*$").FindAllString(string(page), -1)
	got = slices.DeleteFunc(got, func(line string) bool { return strings.Contains(line, "_merger_export") }) // of another room
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("documented:\n%s\nregistered:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, phase := range []string{phasePlan, phaseWait, phaseOpen, phaseFirst, phaseRead, phaseMerge, phaseSend} {
		if !strings.Contains(string(page), "`"+phase+"`") {
			t.Errorf("phase %s is not documented", phase)
		}
	}
}
