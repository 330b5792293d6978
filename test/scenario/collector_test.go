package scenario

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
)

// collected is an OpenTelemetry collector that keeps what it is sent.
type collected struct {
	collector.UnimplementedTraceServiceServer
	url string

	mu    sync.Mutex
	spans []string // as JSON
}

// Export implements collector.TraceServiceServer.
func (c *collected) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range req.GetResourceSpans() {
		for _, scope := range r.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				text, err := protojson.Marshal(span)
				if err != nil {
					return nil, err
				}
				c.spans = append(c.spans, string(text))
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// collect runs a collector until the test ends.
func collect(t *testing.T) *collected {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, server := &collected{url: "http://" + listener.Addr().String()}, grpc.NewServer()
	collector.RegisterTraceServiceServer(server, c)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return c
}

// whole gives all spans, once there are some with these words: they are sent in
// batches, every few seconds.
func (c *collected) whole(t *testing.T, words ...string) (text string) {
	t.Helper()
	for deadline := time.Now().Add(startLimit); ; time.Sleep(50 * time.Millisecond) {
		c.mu.Lock()
		text = strings.Join(c.spans, "\n")
		c.mu.Unlock()
		missing := ""
		for _, word := range words {
			if !strings.Contains(text, word) {
				missing = word
			}
		}
		if missing == "" {
			return text
		}
		if time.Now().After(deadline) {
			t.Fatalf("no span says %s, among %d bytes of them", missing, len(text))
		}
	}
}
