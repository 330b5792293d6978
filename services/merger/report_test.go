package merger

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/rasterloom/rasterloom/internal/layer"
)

// The line of a stream in the log says what it did, whether it ended well or
// not.
func TestStreamsAreReported(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	rng := rand.New(rand.NewPCG(1, 8))
	s.put(t, "birds", layer.FormatLegacy, generated(rng, utm(6, 7, 3e5, 5e6)))
	s.put(t, "plants", layer.FormatLegacy, generated(rng, utm(6, 7, 3e5+12, 5e6)))
	got := s.merge(t, specOf("birds", "plants"))[0]
	facts := s.lineOf(t, "arrow.flight.protocol.FlightService/DoGet")
	for name, want := range map[string]any{
		"operation": "merge", "chunk": "rows 0:6", "layers": []any{"birds", "plants"}, "shifts": 1., "rows": float64(got.rows), "batches": 1.,
		"cells": map[string]any{"birds": float64(got.trailer.Layers[0].Cells), "plants": float64(got.trailer.Layers[1].Cells)}, "code": "ok",
	} {
		if fmt.Sprint(facts[name]) != fmt.Sprint(want) {
			t.Errorf("%s is %v in the log, want %v", name, facts[name], want)
		}
	}
	if facts["request_id"] == "" || facts["bytes"].(float64) < 1000 {
		t.Errorf("line %v", facts)
	}
	seconds, _ := facts["seconds"].(map[string]any)
	for _, phase := range []string{"plan", "wait", "open", "first_batch", "read", "merge", "send"} {
		if _, ok := seconds[phase].(float64); !ok {
			t.Errorf("phase %s is not in %v", phase, seconds)
		}
	}
	for name, want := range map[string]float64{
		"rasterloom_merger_rows_merged_total": float64(got.rows), "rasterloom_merger_shifts_applied_total": 1,
		"rasterloom_merger_batches_sent_total": 1, "rasterloom_merger_streams_running": 0, "rasterloom_merger_streams_total": 1,
	} {
		if v := s.metric(t, name); v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
}

// metric gives a metric of the process, added up over its labels.
func (s *suite) metric(t *testing.T, name string) (value float64) {
	t.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				value += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return value
}

// lineOf gives the last line of a call in the log, as JSON has it. It is written
// just after the caller has its answer.
func (s *suite) lineOf(t *testing.T, method string) map[string]any {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		lines := s.logs.FilterMessage("call").All()
		for _, line := range slices.Backward(lines) {
			if facts := line.ContextMap(); facts["method"] == method {
				text, err := json.Marshal(facts)
				if err != nil {
					t.Fatal(err)
				}
				var plain map[string]any
				if err := json.Unmarshal(text, &plain); err != nil {
					t.Fatal(err)
				}
				return plain
			}
		}
	}
	t.Fatalf("the log has no line of %s", method)
	return nil
}
