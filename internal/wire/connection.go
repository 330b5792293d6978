package wire

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// Connections bounds what one connection of a caller may do, on every port.
type Connections struct {
	// Streams is how many calls it may have in hand.
	Streams uint32
	// HeaderBytes is the largest size of the headers of a call.
	HeaderBytes uint32
	// Header is how long the header of an HTTP/1 request, or the preface of
	// HTTP/2, may take; Handshake the same on the port of Flight.
	Header, Handshake time.Duration
	// Idle is how long a connection is kept that has no call.
	Idle time.Duration
	// A peer that is silent for PingAfter is asked whether it is there, and
	// dropped where it has not said so in PingWait: it would pin a stream, and a
	// connection to the database.
	PingAfter, PingWait time.Duration
}

// DefaultConnections are the bounds that hold.
func DefaultConnections() Connections {
	return Connections{
		Streams: 64, HeaderBytes: 16 << 10, Header: 5 * time.Second, Handshake: 10 * time.Second, Idle: 5 * time.Minute,
		PingAfter: 10 * time.Second, PingWait: 5 * time.Second,
	}
}

// ServerOptions are the bounds as options of a grpc-go server.
func (c Connections) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxConcurrentStreams(c.Streams),
		grpc.MaxHeaderListSize(c.HeaderBytes),
		grpc.ConnectionTimeout(c.Handshake),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: c.PingAfter, Timeout: c.PingWait, MaxConnectionIdle: c.Idle}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: c.PingAfter / 2, PermitWithoutStream: true}),
	}
}
