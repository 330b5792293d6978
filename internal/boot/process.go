package boot

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/wire"
)

// Process is one process of the suite: its doors are open from Open on, so that
// addresses are known before services are built; calls wait until Serve.
type Process struct {
	cfg    Config
	log    *zap.Logger
	rpc    net.Listener
	flight net.Listener // nil without a Flight server
	debug  net.Listener // nil unless asked for
	inner  *pipeListener
	client *http.Client
	// identity is nil where nothing is encrypted.
	identity *identity
	guard    *access.Guard
	// connections are bounds of the doors to the outside.
	connections wire.Connections

	metrics *prometheus.Registry
	calls   *wire.Metrics
	memory  *memory
}

// Open binds the addresses of a process. flightListen is empty in a process
// without a Flight server. Call Serve or Close next.
func Open(ctx context.Context, cfg Config, flightListen string, log *zap.Logger) (*Process, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	p := &Process{cfg: cfg, log: log, inner: newPipeListener(), metrics: newRegistry(), memory: newMemory(), connections: wire.DefaultConnections()}
	p.calls = wire.NewMetrics(p.metrics)
	var err error
	p.identity, err = cfg.TLS.identity(func(err error) {
		log.Error("a certificate cannot be read; the one before holds", zap.Error(err))
	})
	if err != nil {
		return nil, err
	}
	if p.client, err = p.newClient(); err != nil {
		return nil, err
	}
	covered := cfg.Insecure || p.identity != nil
	if p.rpc, err = listen(ctx, cfg.Listen, "listen", covered); err != nil {
		return nil, err
	}
	if flightListen != "" {
		if p.flight, err = listen(ctx, flightListen, "flight-listen", covered); err != nil {
			p.Close()
			return nil, err
		}
	}
	if cfg.DebugListen != "" {
		if p.debug, err = listenForDebugging(ctx, cfg.DebugListen); err != nil {
			p.Close()
			return nil, err
		}
	}
	local := onLoopback(p.rpc) && (p.flight == nil || onLoopback(p.flight))
	if p.guard, err = cfg.Access.guard(local, log); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// newClient makes the client by which the services of this process ask others.
func (p *Process) newClient() (*http.Client, error) {
	var certificate *access.File[*tls.Certificate]
	if p.identity != nil {
		certificate = p.identity.certificate
	}
	config, err := clientTLS(p.cfg.TLS.PeerCA, certificate)
	if err != nil {
		return nil, fmt.Errorf("--tls-peer-ca: %w", err)
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	client := newHTTPClient(func(ctx context.Context, network, address string) (net.Conn, error) {
		if strings.HasPrefix(address, innerHost+":") {
			return p.inner.dial(ctx)
		}
		return dialer.DialContext(ctx, network, address)
	}, config)
	if path := p.cfg.Access.ServiceTokenFile; path != "" {
		token, err := openToken(path)
		if err != nil {
			return nil, fmt.Errorf("--service-token-file: %w", err)
		}
		client.Transport = bearer{client.Transport, token.Get, p.cfg.Insecure}
	}
	return client, nil
}

// URL is where clients reach the Connect and gRPC services of the process.
func (p *Process) URL() string {
	if p.identity != nil {
		return "https://" + reachable(p.rpc)
	}
	return "http://" + reachable(p.rpc)
}

// InnerURL is where the services of the process reach each other, by the client
// of Deps only.
func (p *Process) InnerURL() string { return "http://" + innerHost }

// FlightURI is where clients reach Flight; empty in a process without it.
func (p *Process) FlightURI() string {
	if p.flight == nil {
		return ""
	}
	if p.identity != nil {
		return "grpc+tls://" + reachable(p.flight)
	}
	return "grpc://" + reachable(p.flight)
}

// Deps is what the front doors of the process build their services from.
func (p *Process) Deps() Deps {
	return Deps{
		Log: p.log, HTTPClient: p.client, FlightURI: p.FlightURI(), Metrics: p.metrics, Leased: p.memory.changed,
	}
}

// Close gives up a process that never came to Serve.
func (p *Process) Close() {
	_ = p.rpc.Close()
	_ = p.inner.Close()
	if p.flight != nil {
		_ = p.flight.Close()
	}
	if p.debug != nil {
		_ = p.debug.Close()
	}
	if p.client != nil {
		p.client.CloseIdleConnections()
	}
}

// Serve serves until ctx ends, then drains: health says NOT_SERVING, the doors
// close, calls in hand get DrainTimeout to end, and what the services hold is
// released. It returns nil after a clean drain; an error when a server failed,
// or calls had to be cut off.
func (p *Process) Serve(ctx context.Context, services ...*Service) error {
	defer p.Close()
	defer func() {
		for _, s := range services {
			if s.Close != nil {
				s.Close()
			}
		}
	}()
	state := newHealth(services)
	// A call within the process that fails shows in the line of the call that
	// made it; only what is a bug gets a line of its own.
	quiet := p.log.WithOptions(zap.IncreaseLevel(zap.ErrorLevel))
	outer, inner := p.httpServer(p.handler(state, services, p.log, p.guard)), p.httpServer(p.handler(state, services, quiet, access.Within()))
	flight, err := p.flightServer(state, services)
	if err != nil {
		return err
	}

	failed := make(chan error, 4)
	var serving sync.WaitGroup
	run := func(what string, serve func() error) {
		serving.Go(func() {
			if err := serve(); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, grpc.ErrServerStopped) {
				failed <- fmt.Errorf("serve %s: %w", what, err)
			}
		})
	}
	run("RPC", func() error {
		if p.identity == nil {
			return outer.Serve(p.rpc)
		}
		outer.TLSConfig = p.identity.server("h2", "http/1.1")
		return outer.ServeTLS(p.rpc, "", "")
	})
	run("calls within the process", func() error { return inner.Serve(p.inner) })
	profiles := debugServer()
	if p.debug != nil {
		run("profiles", func() error { return profiles.Serve(p.debug) })
	}
	if flight != nil {
		run("Flight", func() error { return flight.Serve(p.flight) })
	}

	var failure error
	select {
	case <-ctx.Done():
	case failure = <-failed:
	}
	cut := p.drain(ctx, state, services, outer, inner, flight)
	_ = profiles.Close()
	serving.Wait()
	return errors.Join(failure, cut)
}

// drain ends the process's work. The doors to the outside go first and the one
// within the process last: a call in hand may still ask the other services.
func (p *Process) drain(ctx context.Context, state *health, services []*Service, outer, inner *http.Server, flight *grpc.Server) error {
	state.draining.Store(true)
	p.log.Info("draining", zap.Duration("delay", p.cfg.DrainDelay), zap.Duration("timeout", p.cfg.DrainTimeout))
	<-time.After(p.cfg.DrainDelay)
	for _, s := range services {
		if s.Drain != nil {
			s.Drain()
		}
	}

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.cfg.DrainTimeout)
	defer cancel()
	var doors sync.WaitGroup
	var cutFlight, cutOuter error
	if flight != nil {
		doors.Go(func() { cutFlight = stopGracefully(ctx, flight) })
	}
	doors.Go(func() { cutOuter = shutdown(ctx, outer) })
	doors.Wait()
	p.client.CloseIdleConnections()
	cutInner := shutdown(ctx, inner)
	if errors.Join(cutFlight, cutOuter, cutInner) != nil {
		return fmt.Errorf("calls were cut off after %v of draining", p.cfg.DrainTimeout)
	}
	return nil
}

func shutdown(ctx context.Context, s *http.Server) error {
	if err := s.Shutdown(ctx); err != nil {
		_ = s.Close()
		return err
	}
	return nil
}

func stopGracefully(ctx context.Context, s *grpc.Server) error {
	done := make(chan struct{})
	go func() {
		s.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		// Makes GracefulStop return too.
		s.Stop()
		<-done
		return ctx.Err()
	}
}

// handler is everything the process answers over HTTP.
func (p *Process) handler(state *health, services []*Service, log *zap.Logger, guard *access.Guard) http.Handler {
	mux := http.NewServeMux()
	names := []string{grpchealth.HealthV1ServiceName}
	for _, s := range services {
		for path, h := range s.Handlers {
			names = append(names, strings.Trim(path, "/"))
			mux.Handle(path, p.calls.Handler(wire.Edge(log, guard, h)))
		}
	}
	mux.Handle("GET /metrics", metricsHandler(p.metrics))
	const small = 64 << 10
	path, healthHandler := grpchealth.NewHandler(state, connect.WithReadMaxBytes(small))
	mux.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(VersionHeader, Release())
		healthHandler.ServeHTTP(w, r)
	}))
	if host, _, err := net.SplitHostPort(p.rpc.Addr().String()); err == nil && isLoopback(host) {
		// What the contract looks like is no secret, but needless off loopback.
		reflector := grpcreflect.NewStaticReflector(names...)
		path, h := grpcreflect.NewHandlerV1(reflector, wire.Options()...)
		mux.Handle(path, p.calls.Handler(wire.Edge(log, guard, h)))
		path, h = grpcreflect.NewHandlerV1Alpha(reflector, wire.Options()...)
		mux.Handle(path, p.calls.Handler(wire.Edge(log, guard, h)))
	}
	return mux
}

func (p *Process) httpServer(handler http.Handler) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	// What went wrong with a connection before there was a call. The error is
	// for levels that zap does not know.
	errorLog, _ := zap.NewStdLogAt(p.log, zap.WarnLevel)
	c := p.connections
	return &http.Server{
		Handler:           handler,
		Protocols:         &protocols,
		ReadHeaderTimeout: c.Header,
		IdleTimeout:       c.Idle,
		MaxHeaderBytes:    int(c.HeaderBytes),
		// No ReadTimeout and WriteTimeout: they would end long streams. A body
		// that dawdles is ended by wire.Edge, a peer that is gone by the pings.
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: int(c.Streams),
			SendPingTimeout:      c.PingAfter,
			PingTimeout:          c.PingWait,
			WriteByteTimeout:     30 * time.Second,
		},
		ErrorLog: errorLog,
	}
}

// flightServer makes the Flight server of the services and adds health to it.
func (p *Process) flightServer(state *health, services []*Service) (*grpc.Server, error) {
	options := append(p.connections.ServerOptions(), p.calls.ServerOption())
	if encrypted := p.identity.flight(); encrypted != nil {
		options = append(options, grpc.Creds(encrypted))
	}
	flight, err := NewFlightServer(p.log, p.guard, options, services...)
	if err != nil {
		return nil, err
	}
	if (flight == nil) != (p.flight == nil) {
		return nil, errors.New("a Flight address and a service that speaks Flight come together or not at all")
	}
	if flight != nil {
		healthv1.RegisterHealthServer(flight, flightHealth{health: state})
	}
	return flight, nil
}
