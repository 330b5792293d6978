package wire

import (
	"context"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/rasterloom/rasterloom/internal/access"
)

// ServerOptions are the options of a grpc-go server, which Flight runs on: what
// Options and Edge are to a Connect handler, guard included. Those of Connections
// come beside them.
func ServerOptions(log *zap.Logger, guard *access.Guard) []grpc.ServerOption {
	gate := gate{guard}
	return []grpc.ServerOption{
		// First: what comes next may ask for the trace.
		traceServer(),
		grpc.StatsHandler(callLog{log}),
		grpc.ChainUnaryInterceptor(gate.unary),
		grpc.ChainStreamInterceptor(gate.stream),
		grpc.MaxRecvMsgSize(MaxReadBytes),
		grpc.MaxSendMsgSize(MaxSendBytes),
	}
}

// gate stands between the protocol and the handlers.
type gate struct{ guard *access.Guard }

// caller is what a call says of who sent it.
func (gate) caller(ctx context.Context) access.Call {
	c := access.Call{Authorization: first(ctx, "authorization"), OnBehalf: first(ctx, access.OnBehalfHeader)}
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
			c.Certificate = leaf(info.State.VerifiedChains)
		}
	}
	return c
}

func first(ctx context.Context, key string) string {
	if values := metadata.ValueFromIncomingContext(ctx, key); len(values) > 0 {
		return values[0]
	}
	return ""
}

func (g gate) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (res any, err error) {
	c := callOf(ctx)
	c.enter(ctx, "", false)
	// A failure means that the answer has gone already, and cannot happen here.
	_ = grpc.SetHeader(ctx, metadata.Pairs(RequestIDHeader, c.id))
	defer func() {
		if p := recover(); p != nil {
			res, err = nil, recovered(p)
		}
		if err != nil {
			res, err = nil, ToStatus(c.fail(err))
		}
	}()
	ctx, release, err := c.admit(ctx, g.guard, g.caller(ctx))
	if err != nil {
		return nil, err
	}
	defer release()
	return next(ctx, req)
}

func (g gate) stream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	c := callOf(stream.Context())
	c.enter(stream.Context(), "", true)
	_ = stream.SetHeader(metadata.Pairs(RequestIDHeader, c.id))
	defer func() {
		if p := recover(); p != nil {
			err = recovered(p)
		}
		if err != nil {
			err = ToStatus(c.fail(err))
		}
	}()
	ctx, release, err := c.admit(stream.Context(), g.guard, g.caller(stream.Context()))
	if err != nil {
		return err
	}
	defer release()
	return next(srv, admitted{stream, ctx})
}

// admitted is a stream with the context that the guard gave.
type admitted struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // what a grpc.ServerStream is asked for
}

// RecvMsg implements grpc.ServerStream. grpc-go answers INTERNAL by itself for a
// message that does not parse, which is the caller's doing and no bug.
func (a admitted) RecvMsg(m any) error {
	err := a.ServerStream.RecvMsg(m)
	if status.Code(err) == codes.Internal {
		callOf(a.ctx).unreadable = true
	}
	return err
}

// Context implements grpc.ServerStream.
func (a admitted) Context() context.Context { return a.ctx }

// callLog gives each call of a grpc-go server its id and its line in the log.
// It is a stats handler and no interceptor, because it also sees the calls that
// end before an interceptor: messages over the limit, bodies that do not parse.
type callLog struct{ log *zap.Logger }

// TagRPC implements stats.Handler.
func (callLog) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	from := ""
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		from = p.Addr.String()
	}
	asked := ""
	if ids := metadata.ValueFromIncomingContext(ctx, RequestIDHeader); len(ids) == 1 {
		asked = ids[0]
	}
	c := newCall(ctx, info.FullMethodName, from, asked)
	c.protocol = "grpc"
	return c.in(ctx)
}

// HandleRPC implements stats.Handler.
func (l callLog) HandleRPC(ctx context.Context, event stats.RPCStats) {
	end, ok := event.(*stats.End)
	if !ok {
		return
	}
	c := callOf(ctx)
	if c.err == nil {
		c.err = end.Error
	}
	c.unreadable = c.unreadable || !c.entered
	c.end(l.log)
}

// TagConn implements stats.Handler.
func (callLog) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (callLog) HandleConn(context.Context, stats.ConnStats) {}
