package boot

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// listenForDebugging opens the address that profiles are read from: of this
// machine alone, whatever else is allowed, since a profile shows a program's
// inside and costs it time.
func listenForDebugging(ctx context.Context, address string) (net.Listener, error) {
	if host, _, err := net.SplitHostPort(address); err == nil && !isLoopback(host) {
		return nil, fmt.Errorf("--debug-listen %s can be reached from other machines: profiles are for this one, such as 127.0.0.1:6060", address)
	}
	return listen(ctx, address, "debug-listen", false)
}

// debugServer answers with Go's profiles.
func debugServer() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
}
