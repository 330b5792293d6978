package boot_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rasterloom/rasterloom/internal/boot"
)

const (
	echoName  = "test.v1.EchoService"
	otherName = "test.v1.OtherService"
)

func config() boot.Config {
	return boot.Config{Listen: "127.0.0.1:0", DrainTimeout: 10 * time.Second}
}

// start serves until the test ends or stop is called; stop gives what Serve
// returned.
func start(t *testing.T, cfg boot.Config, flight string, build func(*boot.Process) []*boot.Service) (p *boot.Process, stop func() error) {
	t.Helper()
	p, err := boot.Open(t.Context(), cfg, flight, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	services := build(p)
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx, services...) }()
	var stopped atomic.Bool
	stop = func() error {
		if !stopped.CompareAndSwap(false, true) {
			return nil
		}
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			return fmt.Errorf("did not stop within %v", patience)
		}
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return p, stop
}

// protocolOf answers which HTTP version asked.
func protocolOf(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }

// speaksFlight is the part of a service that answers no Flight call yet.
func speaksFlight() *boot.Flight {
	desc := &grpc.ServiceDesc{ServiceName: "test.v1.Flight", Streams: []grpc.StreamDesc{{StreamName: "DoGet", Handler: func(any, grpc.ServerStream) error { return nil }}}}
	return &boot.Flight{Register: func(into grpc.ServiceRegistrar) { into.RegisterService(desc, nil) }}
}

func echo(*boot.Process) []*boot.Service {
	return []*boot.Service{{Name: echoName, Handlers: map[string]http.Handler{"/rasterloom.schema.v1.SchemaService/": http.HandlerFunc(protocolOf)}}}
}

func get(t *testing.T, client *http.Client, url string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

// newClient is a client of its own, so that no test sees connections of another.
func newClient(t *testing.T) *http.Client {
	t.Helper()
	client := boot.NewHTTPClient()
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func TestBothVersionsOfHTTP(t *testing.T) {
	p, _ := start(t, config(), "", echo)
	plain := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(plain.CloseIdleConnections)
	for want, client := range map[string]*http.Client{"HTTP/1.1": plain, "HTTP/2.0": newClient(t)} {
		if got, err := get(t, client, p.URL()+"/rasterloom.schema.v1.SchemaService/GetLayer"); err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	if got, err := get(t, p.Deps().HTTPClient.(*http.Client), p.InnerURL()+"/rasterloom.schema.v1.SchemaService/GetLayer"); err != nil || got != "HTTP/2.0" {
		t.Errorf("within the process: %q, %v", got, err)
	}
}

func TestHeadersHaveALimit(t *testing.T) {
	p, _ := start(t, config(), "", echo)
	plain := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(plain.CloseIdleConnections)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL()+"/rasterloom.schema.v1.SchemaService/GetLayer", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Large", strings.Repeat("x", 64<<10))
	res, err := plain.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("64 KiB of headers: %s", res.Status)
	}
}

func TestHealthIsHonest(t *testing.T) {
	var sick atomic.Bool
	p, _ := start(t, config(), "127.0.0.1:0", func(*boot.Process) []*boot.Service {
		return []*boot.Service{
			{Name: echoName, Flight: speaksFlight()},
			{Name: otherName, Check: func(context.Context) error {
				if sick.Load() {
					return errors.New("the database is away")
				}
				return nil
			}},
		}
	})
	flight, err := grpc.NewClient(strings.TrimPrefix(p.FlightURI(), "grpc://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = flight.Close() })
	client := newClient(t)
	asks := map[string]func(name string) (string, error){
		"Connect": func(name string) (string, error) {
			res, err := grpchealth.NewClient(client, p.URL()).Check(t.Context(), &grpchealth.CheckRequest{Service: name})
			if err != nil {
				return connect.CodeOf(err).String(), nil
			}
			return res.Status.String(), nil
		},
		"gRPC": func(name string) (string, error) {
			res, err := grpchealth.NewClient(client, p.URL(), connect.WithGRPC()).Check(t.Context(), &grpchealth.CheckRequest{Service: name})
			if err != nil {
				return connect.CodeOf(err).String(), nil
			}
			return res.Status.String(), nil
		},
		"Flight's port": func(name string) (string, error) {
			res, err := healthv1.NewHealthClient(flight).Check(t.Context(), &healthv1.HealthCheckRequest{Service: name})
			if err != nil {
				return "not_found", nil
			}
			return strings.ToLower(res.GetStatus().String()), nil
		},
	}
	for _, c := range []struct {
		sick       bool
		name, want string
	}{
		{false, "", "serving"}, {false, echoName, "serving"}, {false, otherName, "serving"}, {false, "no.Such", "not_found"},
		{true, "", "not_serving"}, {true, echoName, "serving"}, {true, otherName, "not_serving"}, {true, "no.Such", "not_found"},
	} {
		sick.Store(c.sick)
		for protocol, ask := range asks {
			if got, err := ask(c.name); err != nil || got != c.want {
				t.Errorf("over %s, sick %v, %q: %s (%v), want %s", protocol, c.sick, c.name, got, err, c.want)
			}
		}
	}
}

// A call in hand is ended, though it asks another service of the process after
// the doors have closed; health says so before they close.
func TestDrain(t *testing.T) {
	entered, proceed := make(chan struct{}), make(chan struct{})
	closed := make(chan struct{})
	cfg := config()
	cfg.DrainDelay = 2 * time.Second // somebody who asks all the time is told meanwhile
	p, stop := start(t, cfg, "", func(p *boot.Process) []*boot.Service {
		slow := func(w http.ResponseWriter, _ *http.Request) {
			close(entered)
			<-proceed
			answer, err := get(t, p.Deps().HTTPClient.(*http.Client), p.InnerURL()+"/rasterloom.schema.v1.SchemaService/GetLayer")
			fmt.Fprint(w, answer, err)
		}
		return append(echo(p), &boot.Service{
			Name: otherName, Handlers: map[string]http.Handler{"/rasterloom.merger.v1.MergerService/": http.HandlerFunc(slow)},
			Close: func() { close(closed) },
		})
	})
	type answer struct {
		text string
		err  error
	}
	client, answers, ended := newClient(t), make(chan answer, 1), make(chan error, 1)
	go func() {
		text, err := get(t, client, p.URL()+"/rasterloom.merger.v1.MergerService/PlanMerge")
		answers <- answer{text, err}
	}()
	<-entered
	go func() { ended <- stop() }()

	health := grpchealth.NewClient(newClient(t), p.URL())
	saidSo := false
	for {
		res, err := health.Check(t.Context(), &grpchealth.CheckRequest{})
		if err != nil {
			break // the doors are closed
		}
		saidSo = saidSo || res.Status == grpchealth.StatusNotServing
	}
	if !saidSo {
		t.Error("the doors closed before health said NOT_SERVING")
	}
	select {
	case <-closed:
		t.Error("the service was closed with a call in hand")
	default:
	}
	close(proceed)
	if a := <-answers; a.err != nil || a.text != "HTTP/2.0<nil>" {
		t.Errorf("the call in hand got %q, %v", a.text, a.err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Serve returned %v", err)
	}
	<-closed
}

func TestDrainEndsInTime(t *testing.T) {
	entered := make(chan struct{})
	cfg := config()
	cfg.DrainTimeout = 100 * time.Millisecond
	p, stop := start(t, cfg, "127.0.0.1:0", func(*boot.Process) []*boot.Service {
		return []*boot.Service{{Name: echoName, Flight: speaksFlight(), Handlers: map[string]http.Handler{
			"/rasterloom.merger.v1.MergerService/": http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				close(entered)
				<-r.Context().Done()
			}),
		}}}
	})
	client, ended := newClient(t), make(chan error, 1)
	go func() {
		_, err := get(t, client, p.URL()+"/rasterloom.merger.v1.MergerService/PlanMerge")
		ended <- err
	}()
	<-entered
	if err := stop(); err == nil || !strings.Contains(err.Error(), "cut off after 100ms") {
		t.Errorf("Serve returned %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("the call that was cut off got an answer")
	}
}

func TestReflectionOnLoopbackOnly(t *testing.T) {
	// One part of the suite may answer for several RPC services: the merger for exports, too.
	merges := func(*boot.Process) []*boot.Service {
		return []*boot.Service{{Name: "rasterloom.merger.v1.MergerService", Handlers: map[string]http.Handler{
			"/rasterloom.merger.v1.MergerService/": http.HandlerFunc(protocolOf),
			"/rasterloom.merger.v1.ExportService/": http.HandlerFunc(protocolOf),
		}}}
	}
	listed := []protoreflect.FullName{grpchealth.HealthV1ServiceName, "rasterloom.merger.v1.ExportService", "rasterloom.merger.v1.MergerService"}
	for _, c := range []struct {
		listen   string
		insecure bool
		want     bool
	}{{"127.0.0.1:0", false, true}, {"0.0.0.0:0", true, false}} {
		cfg := config()
		cfg.Listen, cfg.Insecure = c.listen, c.insecure
		if c.insecure {
			cfg.Access.Anonymous = "reader"
		}
		p, _ := start(t, cfg, "", merges)
		_, port, err := net.SplitHostPort(strings.TrimPrefix(p.URL(), "http://"))
		if err != nil {
			t.Fatal(err)
		}
		stream := grpcreflect.NewClient(newClient(t), "http://127.0.0.1:"+port, connect.WithGRPC()).NewStream(t.Context())
		names, err := stream.ListServices()
		if _, closeErr := stream.Close(); closeErr != nil && c.want {
			t.Error(closeErr)
		}
		if got := err == nil; got != c.want {
			t.Errorf("%s: %v, %v", c.listen, names, err)
		}
		if slices.Sort(names); c.want && !slices.Equal(names, listed) {
			t.Errorf("%s lists %v, not %v", c.listen, names, listed)
		}
	}
}

func TestAddresses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	for _, c := range []struct {
		name   string
		change func(*boot.Config)
		flight string
		want   string // part of the error; "" for none
	}{
		{"loopback", func(*boot.Config) {}, "", ""},
		{"IPv6 loopback or none", func(c *boot.Config) { c.Listen = "localhost:0" }, "", ""},
		{"taken", func(c *boot.Config) { c.Listen = taken.Addr().String() }, "", "port " + port + " on 127.0.0.1 is in use"},
		{"Flight taken", func(*boot.Config) {}, taken.Addr().String(), "another with --flight-listen"},
		{"every address", func(c *boot.Config) { c.Listen = "0.0.0.0:0" }, "", "say --insecure"},
		{"every address by no name", func(c *boot.Config) { c.Listen = ":0" }, "", "say --insecure"},
		{"Flight on every address", func(*boot.Config) {}, "[::]:0", "--flight-listen [::]:0"},
		{"another machine's name", func(c *boot.Config) { c.Listen = "example.org:0" }, "", "say --insecure"},
		{"every address, knowingly", func(c *boot.Config) { c.Listen, c.Insecure, c.Access.Anonymous = "0.0.0.0:0", true, "reader" }, "", ""},
		{"every address, and nobody known", func(c *boot.Config) { c.Listen, c.Insecure = "0.0.0.0:0", true }, "", "name principals by --tokens"},
		{"a key without its certificate", func(c *boot.Config) { c.TLS.Key = "key.pem" }, "", "--tls-cert and --tls-key come together"},
		{"client certificates in clear text", func(c *boot.Config) { c.TLS.ClientCA = "ca.pem" }, "", "--tls-client-ca needs --tls-cert"},
		{"an issuer for nobody", func(c *boot.Config) { c.Access.OIDCIssuer = "https://issuer.test" }, "", "--oidc-issuer and --oidc-audience come together"},
		{"no such file of tokens", func(c *boot.Config) { c.Access.Tokens = "no/such/file" }, "", "--tokens: "},
		{"no port", func(c *boot.Config) { c.Listen = "127.0.0.1" }, "", "is not HOST:PORT"},
		{"no such port", func(c *boot.Config) { c.Listen = "127.0.0.1:99999" }, "", "--listen 127.0.0.1:99999"},
		{"two problems at once", func(c *boot.Config) { c.DrainTimeout, c.DrainDelay = 0, -1 }, "", "--drain-delay is -1ns, and must not be negative\n--drain-timeout is 0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := config()
			c.change(&cfg)
			p, err := boot.Open(t.Context(), cfg, c.flight, zap.NewNop())
			if err == nil {
				p.Close()
			}
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestAFlightServerNeedsItsAddress(t *testing.T) {
	for name, c := range map[string]struct {
		flight   string
		services []*boot.Service
	}{
		"an address without a server": {"127.0.0.1:0", []*boot.Service{{Name: echoName}}},
		"a server without an address": {"", []*boot.Service{{Name: echoName, Flight: speaksFlight()}}},
		"two for everything":          {"127.0.0.1:0", []*boot.Service{{Name: echoName, Flight: speaksFlight()}, {Name: otherName, Flight: speaksFlight()}}},
	} {
		p, err := boot.Open(t.Context(), config(), c.flight, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.Serve(ctx, c.services...); err == nil {
			t.Errorf("%s: Serve returned nil", name)
		}
	}
}

// Who comes by loopback sees the metrics.
func TestMetricsAreShown(t *testing.T) {
	t.Parallel()
	p, _ := start(t, config(), "", echo)
	text, err := get(t, http.DefaultClient, p.URL()+"/metrics")
	if err != nil || !strings.Contains(text, "go_goroutines") {
		t.Errorf("%.200s, %v", text, err)
	}
}
