package boot

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// checkTimeout is how long a service may take to say that it can work.
const checkTimeout = 2 * time.Second

// health answers health checks, honestly: a service that cannot work now, or
// that is draining, is NOT_SERVING.
type health struct {
	services map[string]*Service
	draining atomic.Bool
}

func newHealth(services []*Service) *health {
	h := &health{services: make(map[string]*Service, len(services))}
	for _, s := range services {
		h.services[s.Name] = s
	}
	return h
}

// serving says whether the named service can work; "" is all of them. known is
// false for a name that is not served here.
func (h *health) serving(ctx context.Context, name string) (ok, known bool) {
	asked := h.services
	if name != "" {
		s, found := h.services[name]
		if !found {
			return false, false
		}
		asked = map[string]*Service{name: s}
	}
	if h.draining.Load() {
		return false, true
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	for _, s := range asked {
		if s.Check != nil && s.Check(ctx) != nil {
			return false, true
		}
	}
	return true, true
}

// Check implements grpchealth.Checker, for Connect, gRPC and gRPC-Web.
func (h *health) Check(ctx context.Context, req *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	ok, known := h.serving(ctx, req.Service)
	switch {
	case !known:
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("no service %q here", req.Service))
	case ok:
		return &grpchealth.CheckResponse{Status: grpchealth.StatusServing}, nil
	default:
		return &grpchealth.CheckResponse{Status: grpchealth.StatusNotServing}, nil
	}
}

// flightHealth is the same for the gRPC server that Flight runs on.
type flightHealth struct {
	healthv1.UnimplementedHealthServer
	health *health
}

// Check implements healthv1.HealthServer.
func (f flightHealth) Check(ctx context.Context, req *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	ok, known := f.health.serving(ctx, req.GetService())
	switch {
	case !known:
		return nil, status.Errorf(codes.NotFound, "no service %q here", req.GetService())
	case ok:
		return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_SERVING}, nil
	default:
		return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_NOT_SERVING}, nil
	}
}
