package merger

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/services/merger/internal/export"
)

// Each end of an export is counted, and docs/metrics.md lists the metrics as they
// are.
func TestExportMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := newExportMetrics(registry)
	m.of(registry, func() (running, waiting int) { return 1, 2 })
	now := time.Now()
	end := now.Add(5 * time.Second)
	began := export.Job{Created: now, Began: now.Add(2 * time.Second), Ended: end}
	whole, full := began, began
	whole.State, whole.Manifest = export.Succeeded, export.Manifest{Rows: 10, Bytes: 100, Parts: make([]export.Part, 3)}
	full.State, full.Failure = export.Failed, fault.New(fault.Limit, fault.DiskFull, "full")
	m.over(whole)
	m.over(full)
	m.over(export.Job{Created: now, Ended: end, State: export.Cancelled}) // never began
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var want, values []string
	for _, f := range families {
		label := ""
		for _, one := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "rasterloom_merger_export")
			for _, l := range one.GetLabel() {
				label = " `" + l.GetName() + "`"
				name += " " + l.GetValue()
			}
			value := one.GetCounter().GetValue() + one.GetGauge().GetValue() + one.GetHistogram().GetSampleSum()
			values = append(values, fmt.Sprint(name, " ", value))
		}
		want = append(want, fmt.Sprintf("| `%s` | %s |%s | %s |", f.GetName(), strings.ToLower(f.GetType().String()), label, f.GetHelp()))
	}
	slices.Sort(values)
	if got := strings.Join(values, ", "); got != "_bytes_total 100, _parts_total 3, _rows_total 10, _seconds waiting 9, _seconds writing 6, s_running 1, "+
		"s_total CANCELLED 1, s_total DISK_FULL 1, s_total OK 1, s_waiting 2" {
		t.Error(got)
	}
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	got := regexp.MustCompile("(?m)^\\| `rasterloom_merger_export.*$").FindAllString(string(page), -1)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("documented:\n%s\nregistered:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
