package boot_test

import (
	"context"
	"encoding/hex"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/internal/wire"
)

// spans is an OpenTelemetry collector that keeps what it is sent.
type spans struct {
	collector.UnimplementedTraceServiceServer
	mu  sync.Mutex
	got []*tracev1.Span
}

func (s *spans) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range req.GetResourceSpans() {
		for _, scope := range r.GetScopeSpans() {
			s.got = append(s.got, scope.GetSpans()...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// collect runs a collector and gives its URL.
func collect(t *testing.T) (*spans, string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	kept, server := &spans{}, grpc.NewServer()
	collector.RegisterTraceServiceServer(server, kept)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return kept, "http://" + listener.Addr().String()
}

// asker answers GetLayer by asking another service for the same.
type asker struct {
	schemav1connect.UnimplementedSchemaServiceHandler
	next schemav1connect.SchemaServiceClient
}

func (a asker) GetLayer(ctx context.Context, req *connect.Request[schemav1.GetLayerRequest]) (*connect.Response[schemav1.GetLayerResponse], error) {
	if a.next == nil {
		return connect.NewResponse(&schemav1.GetLayerResponse{}), nil
	}
	return a.next.GetLayer(ctx, connect.NewRequest(req.Msg))
}

// A trace follows a call into the service that is asked on the way, and the
// caller's own trace goes on in it.
func TestATraceFollowsACall(t *testing.T) {
	kept, url := collect(t)
	stop, err := boot.StartTraces(t.Context(), boot.TraceConfig{Endpoint: url}, "test", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	serveAsker := func(next string) string {
		p, _ := start(t, config(), "", func(p *boot.Process) []*boot.Service {
			a := asker{}
			if next != "" {
				a.next = schemav1connect.NewSchemaServiceClient(p.Deps().HTTPClient, next, wire.ClientOptions()...)
			}
			path, handler := schemav1connect.NewSchemaServiceHandler(a, wire.Options()...)
			return []*boot.Service{{Name: schemav1connect.SchemaServiceName, Handlers: map[string]http.Handler{path: handler}}}
		})
		return p.URL()
	}
	last := serveAsker("")
	first := serveAsker(last)
	client := schemav1connect.NewSchemaServiceClient(boot.NewHTTPClient(), first)
	req := connect.NewRequest(&schemav1.GetLayerRequest{Name: "birds"})
	const mine = "4bf92f3577b34da6a3ce929d0e0e4736"
	req.Header().Set("Traceparent", "00-"+mine+"-00f067aa0ba902b7-01")
	if _, err := client.GetLayer(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	stop()

	kept.mu.Lock()
	defer kept.mu.Unlock()
	var kinds []string
	for _, s := range kept.got {
		kinds = append(kinds, strings.TrimPrefix(s.GetKind().String(), "SPAN_KIND_"))
		if id := hex.EncodeToString(s.GetTraceId()); id != mine {
			t.Errorf("span %s is of trace %s", s.GetName(), id)
		}
	}
	slices.Sort(kinds)
	if want := []string{"CLIENT", "SERVER", "SERVER"}; !slices.Equal(kinds, want) {
		t.Errorf("%v, want %v", kinds, want)
	}
}

func TestTracesNeedAURL(t *testing.T) {
	if _, err := boot.StartTraces(t.Context(), boot.TraceConfig{Endpoint: "collector:4317"}, "test", zap.NewNop()); err == nil ||
		!strings.Contains(err.Error(), "http://127.0.0.1:4317") {
		t.Errorf("%v", err)
	}
}

func TestProfilesAreForThisMachine(t *testing.T) {
	cfg := config()
	cfg.DebugListen, cfg.Insecure = "0.0.0.0:0", true
	if _, err := boot.Open(t.Context(), cfg, "", zap.NewNop()); err == nil || !strings.Contains(err.Error(), "profiles are for this") {
		t.Errorf("%v", err)
	}
	cfg.DebugListen = "127.0.0.1:0"
	p, _ := start(t, cfg, "", echo)
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.DebugAddress()+"/debug/pprof/goroutine?debug=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _ = res.Body.Close(); res.StatusCode != http.StatusOK {
		t.Errorf("status %d", res.StatusCode)
	}
}
