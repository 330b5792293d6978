package wire_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/rasterloom/rasterloom/fault"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/wire"

	// Their contracts, to look through all of them.
	_ "github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1"
	_ "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
)

// DropLayer refuses: what is audited is also what went wrong.
func (s layers) DropLayer(context.Context, *connect.Request[schemav1.DropLayerRequest]) (*connect.Response[schemav1.DropLayerResponse], error) {
	return nil, fault.New(fault.NotFound, fault.LayerNotFound, "there is no layer")
}

// observed serves the service with metrics.
func observed(t *testing.T, get func(context.Context, string) error) (*prometheus.Registry, schemav1connect.SchemaServiceClient, *httptest.Server, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	registry := prometheus.NewRegistry()
	path, handler := schemav1connect.NewSchemaServiceHandler(layers{get: get}, wire.Options()...)
	mux := http.NewServeMux()
	mux.Handle(path, wire.NewMetrics(registry).Handler(wire.Edge(zap.New(core), access.Everybody(), handler)))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return registry, schemav1connect.NewSchemaServiceClient(server.Client(), server.URL), server, logs
}

// gathered is what a registry shows: name{labels} = count.
func gathered(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			all[strings.TrimPrefix(f.GetName(), "rasterloom_rpc_")+" "+strings.Join(labels, " ")] = value(m)
		}
	}
	return all
}

func value(m *dto.Metric) float64 {
	switch {
	case m.GetCounter() != nil:
		return m.GetCounter().GetValue()
	case m.GetGauge() != nil:
		return m.GetGauge().GetValue()
	default:
		return float64(m.GetHistogram().GetSampleCount())
	}
}

func TestCallsAreCounted(t *testing.T) {
	registry, client, server, _ := observed(t, func(_ context.Context, name string) error {
		switch name {
		case "gone":
			return fault.New(fault.NotFound, fault.LayerNotFound, "there is no layer %q", name)
		case "bug":
			panic(name)
		}
		return nil
	})
	for _, name := range []string{"birds", "birds", "gone", "bug", ""} {
		_, _ = client.GetLayer(t.Context(), connect.NewRequest(&schemav1.GetLayerRequest{Name: name}))
	}
	// A method that the caller makes up is no label.
	for i := range 3 {
		res, err := server.Client().Post(fmt.Sprintf("%s/%s/Made%dUp", server.URL, schemav1connect.SchemaServiceName, i), "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
	}
	const service = schemav1connect.SchemaServiceName
	want := map[string]float64{
		"calls_total ok GetLayer " + service:               2,
		"calls_total not_found GetLayer " + service:        1,
		"calls_total internal GetLayer " + service:         1,
		"calls_total invalid_argument GetLayer " + service: 1,
		"calls_total unimplemented unknown unknown":        3,
		"seconds unary GetLayer " + service:                5,
		"calls_running " + service:                         0,
	}
	if got := gathered(t, registry); !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

// docs/metrics.md lists the metrics as they are.
func TestMetricsOfCallsAreDocumented(t *testing.T) {
	registry, client, _, _ := observed(t, func(context.Context, string) error { return nil })
	if _, err := client.GetLayer(t.Context(), connect.NewRequest(&schemav1.GetLayerRequest{Name: "birds"})); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, f := range families {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		want = append(want, fmt.Sprintf("| `%s` | %s | %s | %s |", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp()))
	}
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	got := regexp.MustCompile("(?m)^\\| `rasterloom_rpc_.*$").FindAllString(string(page), -1)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("documented:\n%s\nregistered:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWhatChangesSomethingIsAudited(t *testing.T) {
	_, client, _, logs := observed(t, func(context.Context, string) error { return errors.New("not asked") })
	_, _ = client.GetLayer(t.Context(), connect.NewRequest(&schemav1.GetLayerRequest{Name: "birds"}))
	_, _ = client.DropLayer(t.Context(), connect.NewRequest(&schemav1.DropLayerRequest{Name: "birds"}))
	_, _ = client.DropLayer(t.Context(), connect.NewRequest(&schemav1.DropLayerRequest{Name: strings.Repeat("x", 200)}))
	lines := logs.FilterLoggerName(wire.AuditLog).All()
	if len(lines) != 2 {
		t.Fatalf("%d lines: %v", len(lines), lines)
	}
	fields := lines[0].ContextMap()
	if fields["method"] != schemav1connect.SchemaServiceName+"/DropLayer" || fields["code"] != "not_found" || fields["request_id"] == "" ||
		!strings.Contains(fmt.Sprint(fields["request"]), `"birds"`) {
		t.Errorf("%v", fields)
	}
}

// An audit line is made for unary calls that the contract does not call free of
// side effects. That is enough as long as what streams out is only watched.
func TestStreamsOfTheContractsOnlyWatch(t *testing.T) {
	streams := 0
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(f.Package()), "rasterloom.") {
			return true
		}
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for j := range methods.Len() {
				m := methods.Get(j)
				if !m.IsStreamingServer() && !m.IsStreamingClient() {
					continue
				}
				streams++
				if m.IsStreamingClient() || !strings.HasPrefix(string(m.Name()), "Watch") {
					t.Errorf("%s streams and is not audited", m.FullName())
				}
			}
		}
		return true
	})
	if streams == 0 {
		t.Error("no streams were looked at")
	}
}
