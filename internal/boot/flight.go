package boot

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/wire"
)

// Flight is the part of Arrow Flight that a service answers. A process has one
// Flight server, so that clients need one address, whatever services share it.
type Flight struct {
	// Register registers the service's calls.
	Register func(grpc.ServiceRegistrar)
	// Calls are those that the service answers where others share the server,
	// such as "DoPut". Empty: all that no other service claims.
	Calls []string
	// Options are what the service needs of the server, beyond wire.ServerOptions.
	Options []grpc.ServerOption
}

// NewFlightServer makes the Flight server of a process; nil when none of the
// services has a part in it. The guard stands before every call of every service;
// options are the process's own, those of encryption among them. Errors: two
// services that claim the same calls.
func NewFlightServer(log *zap.Logger, guard *access.Guard, options []grpc.ServerOption, services ...*Service) (*grpc.Server, error) {
	// What comes later overrules: the process may have other bounds.
	options = slices.Concat(wire.DefaultConnections().ServerOptions(), options, wire.ServerOptions(log, guard))
	calls := sharedCalls{}
	for _, s := range services {
		if s.Flight == nil {
			continue
		}
		options = append(options, s.Flight.Options...)
		calls.joining = s.Flight
		s.Flight.Register(&calls)
	}
	if calls.joining == nil {
		return nil, nil
	}
	server := grpc.NewServer(options...)
	for _, desc := range calls.descs {
		// The handlers bring their own implementations.
		server.RegisterService(desc, nil)
	}
	return server, calls.err
}

// sharedCalls collects what services register, and gives each call to the one
// that claims it.
type sharedCalls struct {
	joining *Flight
	descs   []*grpc.ServiceDesc
	owners  map[string]*Flight
	err     error
}

// RegisterService implements grpc.ServiceRegistrar.
func (c *sharedCalls) RegisterService(desc *grpc.ServiceDesc, impl any) {
	at := slices.IndexFunc(c.descs, func(d *grpc.ServiceDesc) bool { return d.ServiceName == desc.ServiceName })
	if at < 0 {
		at = len(c.descs)
		c.descs = append(c.descs, &grpc.ServiceDesc{ServiceName: desc.ServiceName, HandlerType: desc.HandlerType, Metadata: desc.Metadata})
	}
	into := c.descs[at]
	for _, m := range desc.Methods {
		handler := m.Handler
		m.Handler = func(_ any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			return handler(impl, ctx, dec, interceptor)
		}
		if i := slices.IndexFunc(into.Methods, func(o grpc.MethodDesc) bool { return o.MethodName == m.MethodName }); i < 0 {
			into.Methods = append(into.Methods, m)
			c.own(m.MethodName)
		} else if c.takesOver(m.MethodName) {
			into.Methods[i] = m
		}
	}
	for _, s := range desc.Streams {
		handler := s.Handler
		s.Handler = func(_ any, stream grpc.ServerStream) error { return handler(impl, stream) }
		if i := slices.IndexFunc(into.Streams, func(o grpc.StreamDesc) bool { return o.StreamName == s.StreamName }); i < 0 {
			into.Streams = append(into.Streams, s)
			c.own(s.StreamName)
		} else if c.takesOver(s.StreamName) {
			into.Streams[i] = s
		}
	}
}

func (c *sharedCalls) own(call string) {
	if c.owners == nil {
		c.owners = map[string]*Flight{}
	}
	c.owners[call] = c.joining
}

// takesOver says whether the service that joins gets a call that another one has.
func (c *sharedCalls) takesOver(call string) bool {
	claims := func(f *Flight) int {
		switch {
		case slices.Contains(f.Calls, call):
			return 2
		case len(f.Calls) == 0:
			return 1
		default:
			return 0
		}
	}
	had, joins := claims(c.owners[call]), claims(c.joining)
	if had == joins && had > 0 {
		c.err = errors.Join(c.err, fmt.Errorf("two services of one process claim the Flight call %s", call))
	}
	if joins > had {
		c.owners[call] = c.joining
	}
	return joins > had
}
