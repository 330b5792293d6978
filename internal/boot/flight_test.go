package boot_test

import (
	"context"
	"net"
	"testing"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/boot"
)

// answerer answers every call of a service by its own name.
type answerer string

func (a answerer) part(calls ...string) *boot.Flight {
	desc := &grpc.ServiceDesc{
		ServiceName: "test.v1.Flight",
		Methods: []grpc.MethodDesc{{MethodName: "GetSchema", Handler: func(srv any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			return wrapperspb.String(string(srv.(answerer))), dec(&wrapperspb.StringValue{})
		}}},
	}
	for _, name := range []string{"DoGet", "DoPut"} {
		desc.Streams = append(desc.Streams, grpc.StreamDesc{StreamName: name, ServerStreams: true, Handler: func(srv any, stream grpc.ServerStream) error {
			return stream.SendMsg(wrapperspb.String(string(srv.(answerer))))
		}})
	}
	return &boot.Flight{Register: func(into grpc.ServiceRegistrar) { into.RegisterService(desc, a) }, Calls: calls}
}

// Services of one process share a Flight server, whichever comes first.
func TestFlightCallsGoToWhoClaimsThem(t *testing.T) {
	guard := access.New(access.Options{Anonymous: access.Reader, Rules: map[string]access.Rule{
		"test.v1.Flight/GetSchema": {Role: access.Reader}, "test.v1.Flight/DoGet": {Role: access.Reader}, "test.v1.Flight/DoPut": {Role: access.Reader},
	}})
	all, puts := answerer("all").part(), answerer("puts").part("DoPut")
	for name, c := range map[string]struct {
		parts []*boot.Flight
		want  map[string]string
	}{
		"claimed last":  {[]*boot.Flight{all, puts}, map[string]string{"GetSchema": "all", "DoGet": "all", "DoPut": "puts"}},
		"claimed first": {[]*boot.Flight{puts, all}, map[string]string{"GetSchema": "all", "DoGet": "all", "DoPut": "puts"}},
		"alone":         {[]*boot.Flight{puts}, map[string]string{"GetSchema": "puts", "DoGet": "puts", "DoPut": "puts"}},
	} {
		services := []*boot.Service{{Name: "without"}}
		for _, part := range c.parts {
			services = append(services, &boot.Service{Flight: part})
		}
		server, err := boot.NewFlightServer(zap.NewNop(), guard, nil, services...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		listener := bufconn.Listen(1 << 16)
		served := make(chan error, 1)
		go func() { served <- server.Serve(listener) }()
		conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		for call, want := range c.want {
			got := &wrapperspb.StringValue{}
			if err := conn.Invoke(t.Context(), "/test.v1.Flight/"+call, wrapperspb.String(""), got); err != nil || got.GetValue() != want {
				t.Errorf("%s: %s is answered by %q, %v; want %q", name, call, got.GetValue(), err, want)
			}
		}
		_ = conn.Close()
		server.GracefulStop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
	if server, err := boot.NewFlightServer(zap.NewNop(), guard, nil, &boot.Service{}); server != nil || err != nil {
		t.Errorf("without Flight: %v, %v", server, err)
	}
	if _, err := boot.NewFlightServer(zap.NewNop(), guard, nil, &boot.Service{Flight: puts}, &boot.Service{Flight: puts}); err == nil {
		t.Error("two services claim DoPut, and nobody says so")
	}
}
