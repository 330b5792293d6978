package wire_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/rasterloom/rasterloom/fault"
	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// layers is a schema service whose GetLayer does what the test says.
type layers struct {
	schemav1connect.UnimplementedSchemaServiceHandler
	get func(context.Context, string) error
}

func (s layers) GetLayer(ctx context.Context, req *connect.Request[schemav1.GetLayerRequest]) (*connect.Response[schemav1.GetLayerResponse], error) {
	if err := s.get(ctx, req.Msg.GetName()); err != nil {
		return nil, err
	}
	l := &layerv1.Layer{Name: req.Msg.GetName()}
	if l.Name == "large" {
		l.Band = strings.Repeat("a", 4000)
	}
	return connect.NewResponse(&schemav1.GetLayerResponse{Layer: l}), nil
}

const getLayer = "rasterloom.schema.v1.SchemaService/GetLayer"

// serve runs the service behind the edge over a real HTTP/2 connection, and
// gives its address, a client of it and what it logs.
func serve(t *testing.T, get func(context.Context, string) error) (string, *http.Client, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	path, handler := schemav1connect.NewSchemaServiceHandler(layers{get: get}, wire.Options()...)
	mux := http.NewServeMux()
	mux.Handle(path, wire.Edge(zap.New(core), access.Everybody(), handler))
	server := httptest.NewUnstartedServer(mux)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL, server.Client(), logs
}

// protocols are the ways a Connect handler can be asked.
var protocols = map[string][]connect.ClientOption{
	"Connect proto": nil,
	"Connect JSON":  {connect.WithProtoJSON()},
	"gRPC":          {connect.WithGRPC()},
	"gRPC-Web":      {connect.WithGRPCWeb()},
}

func ask(t *testing.T, url string, client *http.Client, options []connect.ClientOption, name string) error {
	t.Helper()
	asker := schemav1connect.NewSchemaServiceClient(client, url, options...)
	_, err := asker.GetLayer(t.Context(), connect.NewRequest(&schemav1.GetLayerRequest{Name: name}))
	return err
}

// Answers are compressed where that is worth it, and never for gRPC, whose C
// core now and then forgets to decompress.
func TestWhatIsCompressed(t *testing.T) {
	url, client, _ := serve(t, func(context.Context, string) error { return nil })
	for name, want := range map[string]map[string]string{
		"birds": {"Connect proto": "", "Connect JSON": "", "gRPC": ""},
		"large": {"Connect proto": "gzip", "Connect JSON": "gzip", "gRPC": ""},
	} {
		for protocol, encoding := range want {
			asker := schemav1connect.NewSchemaServiceClient(client, url, protocols[protocol]...)
			answer, err := asker.GetLayer(t.Context(), connect.NewRequest(&schemav1.GetLayerRequest{Name: name}))
			if err != nil {
				t.Fatal(err)
			}
			got := answer.Header().Get("Content-Encoding") + answer.Header().Get("Grpc-Encoding")
			if got != encoding {
				t.Errorf("%s: an answer of %d bytes is compressed by %q, want %q", protocol, proto.Size(answer.Msg), got, encoding)
			}
		}
	}
}

func TestEveryKindOfFaultComesBackOverConnect(t *testing.T) {
	for _, kind := range fault.Kinds() {
		sent := fault.New(kind, fault.LayerUnreadable, "layer %q has 3 rows, and the limit is 2", "birds").
			With("layer", "birds").With("limit", 2).Because(errors.New("canary: postgres://user:pw@host/db"))
		url, client, logs := serve(t, func(context.Context, string) error { return fmt.Errorf("read: %w", sent) })
		for protocol, options := range protocols {
			t.Run(fmt.Sprintf("%v over %s", kind, protocol), func(t *testing.T) {
				err := ask(t, url, client, options, "birds")
				if got, want := connect.CodeOf(err), connect.Code(wire.Code(kind)); got != want {
					t.Errorf("code %v, want %v", got, want)
				}
				got := fault.From(wire.FromConnect("schema", err))
				want := maps.Clone(sent.Fields)
				if kind == fault.Internal {
					want["request_id"] = got.Fields["request_id"]
					if len(want["request_id"]) < 20 {
						t.Errorf("an internal error has request id %q", want["request_id"])
					}
				}
				if got.Kind != kind || got.Reason != sent.Reason || got.Message != sent.Message || !maps.Equal(got.Fields, want) {
					t.Errorf("got %v %v %q %v, want %v %v %q %v", got.Kind, got.Reason, got.Message, got.Fields,
						kind, sent.Reason, sent.Message, want)
				}
				if strings.Contains(fmt.Sprintf("%+v", err), "canary") {
					t.Errorf("the cause reached the client: %v", err)
				}
			})
		}
		if n := logs.FilterMessage("call").Len(); n != len(protocols) {
			t.Errorf("%v: %d lines in the log for %d calls", kind, n, len(protocols))
		}
	}
}

func TestOneLineInTheLog(t *testing.T) {
	for _, c := range []struct {
		name  string
		err   error
		level zapcore.Level
		has   []string
		not   []string
	}{
		{"a good call", nil, zap.InfoLevel, []string{"method", "code", "duration", "peer", "request_id", "protocol"}, []string{"reason", "cause", "stack"}},
		{"a fault of the caller", fault.New(fault.NotFound, fault.LayerNotFound, "no layer"), zap.WarnLevel, []string{"reason", "error"}, []string{"cause", "stack"}},
		{"a database away", fault.New(fault.Unavailable, fault.DatabaseUnavailable, "no database").Because(io.EOF), zap.WarnLevel, []string{"reason", "cause"}, []string{"stack"}},
		{"damaged data", fault.New(fault.Corrupt, fault.DataCorrupt, "counts"), zap.ErrorLevel, []string{"reason", "stack"}, nil},
		{"an error nobody named", io.ErrUnexpectedEOF, zap.ErrorLevel, []string{"cause"}, []string{"reason"}},
		{"a caller who gave up", fmt.Errorf("read: %w", context.Canceled), zap.InfoLevel, []string{"error"}, []string{"reason", "stack"}},
		{"a deadline", context.DeadlineExceeded, zap.WarnLevel, []string{"error"}, []string{"stack"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, client, logs := serve(t, func(context.Context, string) error { return c.err })
			err := ask(t, url, client, nil, "birds")
			if (err == nil) != (c.err == nil) {
				t.Fatalf("got %v, want %v", err, c.err)
			}
			lines := logs.All()
			if len(lines) != 1 || lines[0].Level != c.level {
				t.Fatalf("logged %v, want one line of level %v", lines, c.level)
			}
			fields := lines[0].ContextMap()
			for _, name := range c.has {
				if _, ok := fields[name]; !ok {
					t.Errorf("no %q in %v", name, fields)
				}
			}
			for _, name := range c.not {
				if _, ok := fields[name]; ok {
					t.Errorf("%q in %v", name, fields)
				}
			}
			if fields["method"] != getLayer {
				t.Errorf("method is %v", fields["method"])
			}
		})
	}
}

// What was said around a fault, and the cause of its cause, are in the log.
func TestTheWholeChainIsLogged(t *testing.T) {
	lost := fault.New(fault.Unavailable, fault.DatabaseUnavailable, "the database cannot be reached").Because(errors.New("connection refused"))
	url, client, logs := serve(t, func(context.Context, string) error { return fmt.Errorf("look at layer %q: %w", "birds", lost) })
	if err := ask(t, url, client, nil, "birds"); strings.Contains(err.Error(), "refused") {
		t.Errorf("the client is told %v", err)
	}
	if got := logs.All()[0].ContextMap()["cause"]; got != `look at layer "birds": the database cannot be reached: connection refused` {
		t.Errorf("the log has %q", got)
	}
}

// A limit of the server that ends a call is named to the caller, who has limits of
// his own.
func TestLimitThatEndsACallIsNamed(t *testing.T) {
	path, handler := schemav1connect.NewSchemaServiceHandler(layers{get: func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return fmt.Errorf("read: %w", ctx.Err())
	}}, wire.Options()...)
	mux := http.NewServeMux()
	core, logs := observer.New(zap.DebugLevel)
	guard := access.New(access.Options{Anonymous: access.Operator, Limits: access.Limits{CallTime: time.Millisecond}})
	mux.Handle(path, wire.Edge(zap.New(core), guard, handler))
	server := httptest.NewUnstartedServer(mux)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	for protocol, options := range protocols {
		err := ask(t, server.URL, server.Client(), options, "birds")
		if connect.CodeOf(err) != connect.CodeDeadlineExceeded || !strings.Contains(err.Error(), "1ms that this server allows (--call-time)") {
			t.Errorf("%s: %v", protocol, err)
		}
	}
	for _, line := range logs.All() {
		if said, _ := line.ContextMap()["error"].(string); !strings.Contains(said, "--call-time") {
			t.Errorf("the log says %q", said)
		}
	}
}

func TestPanicIsAnsweredAndTheProcessLives(t *testing.T) {
	url, client, logs := serve(t, func(_ context.Context, name string) error {
		if name == "bad" {
			panic("canary")
		}
		return nil
	})
	for protocol, options := range protocols {
		t.Run(protocol, func(t *testing.T) {
			err := ask(t, url, client, options, "bad")
			if connect.CodeOf(err) != connect.CodeInternal || strings.Contains(err.Error(), "canary") {
				t.Errorf("got %v", err)
			}
			if err := ask(t, url, client, options, "good"); err != nil {
				t.Errorf("after the panic: %v", err)
			}
		})
	}
	line := logs.FilterLevelExact(zap.ErrorLevel).All()[0].ContextMap()
	if !strings.Contains(fmt.Sprint(line["cause"]), "canary") || !strings.Contains(fmt.Sprint(line["stack"]), "interceptor_test.go") {
		t.Errorf("the log does not say what panicked and where: %v", line)
	}
}

func TestRuleOfTheContractNamesTheField(t *testing.T) {
	url, client, logs := serve(t, func(context.Context, string) error { return nil })
	for protocol, options := range protocols {
		t.Run(protocol, func(t *testing.T) {
			f := fault.From(wire.FromConnect("schema", ask(t, url, client, options, "")))
			if f.Kind != fault.Invalid || f.Reason != fault.InvalidArgument || f.Fields["field"] != "name" {
				t.Errorf("got %v %v %q %v", f.Kind, f.Reason, f.Message, f.Fields)
			}
		})
	}
	if n := logs.FilterLevelExact(zap.WarnLevel).Len(); n != len(protocols) {
		t.Errorf("%d lines for %d refused calls", n, len(protocols))
	}
}

// A request that the protocol library refuses before any interceptor is
// answered and logged like any other.
func TestUnreadableRequests(t *testing.T) {
	big := strings.Repeat("x", wire.MaxReadBytes+1)
	// 3 MiB that grow to 2 GiB: gzip members may follow one another.
	var member bytes.Buffer
	z := gzip.NewWriter(&member)
	if _, err := z.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	bomb := bytes.Repeat(member.Bytes(), 2<<10)
	bigMessage, err := proto.Marshal(&schemav1.GetLayerRequest{Name: big})
	if err != nil {
		t.Fatal(err)
	}
	frame := func(flag byte, body []byte) []byte {
		n := len(body)
		return append([]byte{flag, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, body...)
	}
	for _, c := range []struct {
		name, kind, encoding string
		body                 []byte
		code                 connect.Code
		reason               fault.Reason
	}{
		{"JSON too large", "application/json", "", []byte(`{"name":"` + big + `"}`), connect.CodeResourceExhausted, fault.LimitExceeded},
		{"JSON far too large", "application/json", "", []byte(`{"name":"` + strings.Repeat(big, 4) + `"}`), connect.CodeResourceExhausted, fault.LimitExceeded},
		{"gzip bomb", "application/json", "gzip", bomb, connect.CodeResourceExhausted, fault.LimitExceeded},
		{"proto too large", "application/proto", "", bigMessage, connect.CodeResourceExhausted, fault.LimitExceeded},
		{"no JSON", "application/json", "", []byte(`{"name":`), connect.CodeInvalidArgument, fault.InvalidArgument},
		{"unknown field", "application/json", "", []byte(`{"nome":"x"}`), connect.CodeInvalidArgument, fault.InvalidArgument},
		{"no protobuf", "application/proto", "", []byte{0xff, 0xff}, connect.CodeInvalidArgument, fault.InvalidArgument},
		{"no gzip", "application/json", "gzip", []byte(`{}`), connect.CodeInvalidArgument, fault.InvalidArgument},
		{"unknown compression", "application/json", "br", []byte(`{}`), connect.CodeUnimplemented, fault.NotSupported},
		{"gRPC too large", "application/grpc", "", frame(0, bigMessage), connect.CodeResourceExhausted, fault.LimitExceeded},
		{"gRPC gzip bomb", "application/grpc", "gzip", frame(1, bomb), connect.CodeResourceExhausted, fault.LimitExceeded},
		{"gRPC no protobuf", "application/grpc", "", frame(0, []byte{0xff, 0xff}), connect.CodeInvalidArgument, fault.InvalidArgument},
		{"gRPC-Web no protobuf", "application/grpc-web", "", frame(0, []byte{0xff, 0xff}), connect.CodeInvalidArgument, fault.InvalidArgument},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, client, logs := serve(t, func(context.Context, string) error { return nil })
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/"+getLayer, bytes.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", c.kind)
			req.Header.Set(wire.RequestIDHeader, "my-id.1")
			switch {
			case c.encoding == "":
			case strings.HasPrefix(c.kind, "application/grpc"):
				req.Header.Set("Grpc-Encoding", c.encoding)
			default:
				req.Header.Set("Content-Encoding", c.encoding)
			}
			before := processorTime(t)
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if spent := processorTime(t) - before; spent > 2*time.Second {
				t.Errorf("took %v of the processor's time", spent)
			}
			code, info := readStatus(t, res, body)
			if code != c.code || info.GetReason() != string(c.reason) || info.GetDomain() != wire.Domain {
				t.Errorf("got %v %v, want %v %v; body %s", code, info, c.code, c.reason, body)
			}
			if id := res.Header.Get(wire.RequestIDHeader); id != "my-id.1" {
				t.Errorf("request id is %q", id)
			}
			if lines := logs.All(); len(lines) != 1 || lines[0].Level != zap.WarnLevel || lines[0].ContextMap()["reason"] != string(c.reason) {
				t.Errorf("logged %v", lines)
			}
		})
	}
}

// readStatus reads an error as each protocol writes it, by hand.
func readStatus(t *testing.T, res *http.Response, body []byte) (connect.Code, *errdetails.ErrorInfo) {
	t.Helper()
	for _, headers := range []http.Header{res.Trailer, res.Header} {
		encoded := headers.Get("Grpc-Status-Details-Bin")
		if encoded == "" {
			continue
		}
		raw, err := connect.DecodeBinaryHeader(encoded)
		if err != nil {
			t.Fatal(err)
		}
		s := status.New(codes.OK, "").Proto()
		if err := proto.Unmarshal(raw, s); err != nil {
			t.Fatal(err)
		}
		info := &errdetails.ErrorInfo{}
		if err := s.GetDetails()[0].UnmarshalTo(info); err != nil {
			t.Fatal(err)
		}
		return connect.Code(s.GetCode()), info
	}
	var answer struct {
		Code    connect.Code
		Details []struct {
			Debug struct {
				Reason, Domain string
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil || len(answer.Details) == 0 {
		t.Fatalf("answer %q: %v", body, err)
	}
	return answer.Code, &errdetails.ErrorInfo{Reason: answer.Details[0].Debug.Reason, Domain: answer.Details[0].Debug.Domain}
}

func TestRequestID(t *testing.T) {
	var seen string
	url, client, logs := serve(t, func(ctx context.Context, _ string) error {
		seen = wire.RequestID(ctx)
		return nil
	})
	for _, c := range []struct{ asked, want string }{
		{"abc-DEF_1.2", "abc-DEF_1.2"},
		{"", ""},
		{strings.Repeat("a", 65), ""},
		{"two words", ""},
		{"a\u202eb", ""},
	} {
		asker := schemav1connect.NewSchemaServiceClient(client, url)
		req := connect.NewRequest(&schemav1.GetLayerRequest{Name: "birds"})
		req.Header().Set(wire.RequestIDHeader, c.asked)
		res, err := asker.GetLayer(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		answered, logged := res.Header().Get(wire.RequestIDHeader), logs.TakeAll()[0].ContextMap()["request_id"]
		if answered != seen || logged != seen || seen == "" || c.want != "" && seen != c.want || c.want == "" && seen == c.asked {
			t.Errorf("asked %q: the handler saw %q, the answer has %q, the log %q", c.asked, seen, answered, logged)
		}
	}
}

// A call keeps its id when the service asks another one.
func TestRequestIDGoesAlong(t *testing.T) {
	inner := ""
	urlB, clientB, _ := serve(t, func(ctx context.Context, _ string) error {
		inner = wire.RequestID(ctx)
		return nil
	})
	urlA, clientA, _ := serve(t, func(ctx context.Context, _ string) error {
		b := schemav1connect.NewSchemaServiceClient(clientB, urlB, wire.ClientOptions()...)
		_, err := b.GetLayer(ctx, connect.NewRequest(&schemav1.GetLayerRequest{Name: "plants"}))
		return err
	})
	a := schemav1connect.NewSchemaServiceClient(clientA, urlA)
	res, err := a.GetLayer(t.Context(), connect.NewRequest(&schemav1.GetLayerRequest{Name: "birds"}))
	if err != nil {
		t.Fatal(err)
	}
	if outer := res.Header().Get(wire.RequestIDHeader); outer == "" || outer != inner {
		t.Errorf("ids %q and %q", outer, inner)
	}
}

// The same service on grpc-go's server, as Flight runs on.
func serveGRPC(t *testing.T, get func(context.Context, string) error) (*grpc.ClientConn, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	server := grpc.NewServer(wire.ServerOptions(zap.New(core), access.New(access.Options{Anonymous: access.Reader, Rules: map[string]access.Rule{
		getLayer: {Role: access.Reader}, "rasterloom.schema.v1.SchemaService/StreamLayer": {Role: access.Reader, Stream: true},
	}}))...)
	unary := func(_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
		req := &schemav1.GetLayerRequest{}
		if err := decode(req); err != nil {
			return nil, err
		}
		return intercept(ctx, req, &grpc.UnaryServerInfo{FullMethod: "/" + getLayer}, func(ctx context.Context, req any) (any, error) {
			return &schemav1.GetLayerResponse{}, get(ctx, req.(*schemav1.GetLayerRequest).GetName())
		})
	}
	stream := func(_ any, s grpc.ServerStream) error {
		req := &schemav1.GetLayerRequest{}
		if err := s.RecvMsg(req); err != nil {
			return err
		}
		return get(s.Context(), req.GetName())
	}
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "rasterloom.schema.v1.SchemaService",
		Methods:     []grpc.MethodDesc{{MethodName: "GetLayer", Handler: unary}},
		Streams:     []grpc.StreamDesc{{StreamName: "StreamLayer", Handler: stream, ServerStreams: true}},
	}, nil)
	listener := bufconn.Listen(1 << 20)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:pipe", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return listener.Dial() }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return conn, logs
}

func askGRPC(ctx context.Context, conn *grpc.ClientConn, shape, name string) error {
	req := &schemav1.GetLayerRequest{Name: name}
	if shape == "unary" {
		return conn.Invoke(ctx, "/"+getLayer, req, &schemav1.GetLayerResponse{})
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/rasterloom.schema.v1.SchemaService/StreamLayer")
	if err != nil {
		return err
	}
	if err := stream.SendMsg(req); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if err := stream.RecvMsg(&schemav1.GetLayerResponse{}); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func TestEveryKindOfFaultComesBackOverGRPC(t *testing.T) {
	for _, kind := range fault.Kinds() {
		sent := fault.New(kind, fault.LayerUnreadable, "layer %q cannot be read", "birds").
			With("layer", "birds").Because(status.Error(codes.NotFound, "canary"))
		conn, logs := serveGRPC(t, func(context.Context, string) error { return fmt.Errorf("read: %w", sent) })
		for _, shape := range []string{"unary", "stream"} {
			t.Run(fmt.Sprintf("%v %s", kind, shape), func(t *testing.T) {
				s := status.Convert(askGRPC(t.Context(), conn, shape, "birds"))
				if s.Code() != wire.Code(kind) || s.Message() != sent.Message {
					t.Errorf("got %v %q, want %v %q", s.Code(), s.Message(), wire.Code(kind), sent.Message)
				}
				info, ok := s.Details()[0].(*errdetails.ErrorInfo)
				if !ok || info.GetReason() != string(sent.Reason) || info.GetDomain() != wire.Domain || info.GetMetadata()["layer"] != "birds" {
					t.Errorf("details %v", s.Details())
				}
				eventually(t, func() bool { return logs.Len() == 1 })
				if line := logs.TakeAll()[0].ContextMap(); line["code"] != connect.Code(wire.Code(kind)).String() || line["reason"] != string(sent.Reason) {
					t.Errorf("logged %v", line)
				}
			})
		}
	}
}

func TestPanicOnTheGRPCServer(t *testing.T) {
	conn, logs := serveGRPC(t, func(_ context.Context, name string) error {
		if name == "bad" {
			panic("canary")
		}
		return nil
	})
	for _, shape := range []string{"unary", "stream"} {
		err := askGRPC(t.Context(), conn, shape, "bad")
		if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: got %v", shape, err)
		}
		if err := askGRPC(t.Context(), conn, shape, "good"); err != nil {
			t.Errorf("%s: after the panic: %v", shape, err)
		}
	}
	eventually(t, func() bool { return logs.Len() == 4 })
	for _, line := range logs.FilterLevelExact(zap.ErrorLevel).All() {
		if !strings.Contains(fmt.Sprint(line.ContextMap()["stack"]), "interceptor_test.go") {
			t.Errorf("no stack in %v", line)
		}
	}
}

func TestLimitsAndIDsOnTheGRPCServer(t *testing.T) {
	conn, logs := serveGRPC(t, func(context.Context, string) error { return nil })
	for _, shape := range []string{"unary", "stream"} {
		err := askGRPC(t.Context(), conn, shape, strings.Repeat("x", wire.MaxReadBytes+1))
		if status.Code(err) != codes.ResourceExhausted {
			t.Errorf("%s: got %v", shape, err)
		}
		eventually(t, func() bool { return logs.Len() == 1 })
		if line := logs.TakeAll()[0]; line.Level != zap.WarnLevel || line.ContextMap()["code"] != "resource_exhausted" {
			t.Errorf("%s: logged %v", shape, line)
		}
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), wire.RequestIDHeader, "my-id.2")
	var header metadata.MD
	if err := conn.Invoke(ctx, "/"+getLayer, &schemav1.GetLayerRequest{}, &schemav1.GetLayerResponse{}, grpc.Header(&header)); err != nil {
		t.Fatal(err)
	}
	if got := header.Get(wire.RequestIDHeader); len(got) != 1 || got[0] != "my-id.2" {
		t.Errorf("request id is %v", got)
	}
}

// pyarrow turns CANCELLED into a KeyboardInterrupt, so it is never sent.
func TestNeverCancelledOnTheGRPCServer(t *testing.T) {
	conn, _ := serveGRPC(t, func(context.Context, string) error { return fmt.Errorf("cursor: %w", context.Canceled) })
	for _, shape := range []string{"unary", "stream"} {
		if err := askGRPC(t.Context(), conn, shape, "birds"); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: got %v", shape, err)
		}
	}
}

// processorTime is how long this process has been at work, whatever else the
// machine does.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// patience is far more than anything here takes: a test that waits for it fails.
const patience = 30 * time.Second

// eventually waits for what happens just after an answer was sent.
func eventually(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %v", patience)
		}
	}
}
