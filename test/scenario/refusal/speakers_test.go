package refusal_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip" // so that requests can be compressed
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// speaker sends requests in one protocol.
type speaker struct {
	name string
	// speaks says whether the protocol has a form for the request.
	speaks func(refusal) bool
	send   func(context.Context, refusal) (outcome, error)
}

// speakers are all protocols, spoken by Go, with a suite at two addresses.
func speakers(t *testing.T, url, flight string) []speaker {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	web := webSpeaker{transport, url}
	rpc, puts := dial(t, strings.TrimPrefix(url, "http://")), dial(t, flight)
	return []speaker{
		{"Connect JSON", func(r refusal) bool { return !r.byFlight() }, web.json},
		{"Connect protobuf", func(r refusal) bool { return !r.byFlight() && !r.JSONOnly }, web.protobuf},
		{"gRPC", func(r refusal) bool { return !r.byFlight() && !r.JSONOnly }, grpcSpeaker{rpc}.send},
		{"Flight", refusal.byFlight, grpcSpeaker{puts}.send},
	}
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// methodOf finds a method in the contracts.
func methodOf(r refusal) (protoreflect.MethodDescriptor, error) {
	name := protoreflect.FullName(strings.ReplaceAll(r.Method, "/", "."))
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return nil, err
	}
	method, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is not a method", name)
	}
	return method, nil
}

// messages makes the request, and an empty answer, of the method's types.
func messages(r refusal) (method protoreflect.MethodDescriptor, request, answer proto.Message, err error) {
	if method, err = methodOf(r); err != nil {
		return nil, nil, nil, err
	}
	in, err := protoregistry.GlobalTypes.FindMessageByName(method.Input().FullName())
	if err != nil {
		return nil, nil, nil, err
	}
	out, err := protoregistry.GlobalTypes.FindMessageByName(method.Output().FullName())
	if err != nil {
		return nil, nil, nil, err
	}
	request, answer = in.New().Interface(), out.New().Interface()
	if r.JSONOnly || r.Body != nil {
		return method, request, answer, nil
	}
	return method, request, answer, protojson.Unmarshal([]byte(r.Request), request)
}

// webSpeaker speaks Connect.
type webSpeaker struct {
	transport http.RoundTripper
	url       string
}

func (s webSpeaker) json(ctx context.Context, r refusal) (outcome, error) {
	method, _, answer, err := messages(r)
	if err != nil {
		return outcome{}, err
	}
	body := r.Body
	if body == nil {
		body = []byte(r.Request)
	}
	return s.post(ctx, "json", method.IsStreamingServer(), r, body, answer)
}

func (s webSpeaker) protobuf(ctx context.Context, r refusal) (outcome, error) {
	method, request, answer, err := messages(r)
	if err != nil {
		return outcome{}, err
	}
	body := r.Body
	if body == nil {
		if body, err = proto.Marshal(request); err != nil {
			return outcome{}, err
		}
	}
	return s.post(ctx, "proto", method.IsStreamingServer(), r, body, answer)
}

func (s webSpeaker) post(ctx context.Context, form string, stream bool, r refusal, body []byte, answer proto.Message) (outcome, error) {
	if r.Gzip {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, _ = w.Write(body) // into memory
		_ = w.Close()
		body = packed.Bytes()
	}
	media := "application/" + form
	if stream {
		media = "application/connect+" + form
		body = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/"+r.Method, bytes.NewReader(body))
	if err != nil {
		return outcome{}, err
	}
	request.Header.Set("Content-Type", media)
	request.Header.Set("Connect-Protocol-Version", "1")
	if r.Authorization != "" {
		request.Header.Set("Authorization", r.Authorization)
	}
	if r.Gzip {
		request.Header.Set("Content-Encoding", "gzip")
	}
	response, err := s.transport.RoundTrip(request)
	if err != nil {
		return outcome{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return outcome{}, err
	}
	switch {
	case stream && response.StatusCode == http.StatusOK:
		return lastOf(text)
	case response.StatusCode != http.StatusOK:
		return ofJSON(text, response.StatusCode)
	case form == "json":
		err = protojson.Unmarshal(text, answer)
	default:
		err = proto.Unmarshal(text, answer)
	}
	return outcome{Code: "ok", Text: shown(answer)}, err
}

// lastOf reads what ends a stream of Connect's.
func lastOf(stream []byte) (outcome, error) {
	const end = 2
	for len(stream) >= 5 {
		kind, size := stream[0], int(binary.BigEndian.Uint32(stream[1:]))
		if len(stream) < 5+size {
			break
		}
		if kind&end != 0 {
			var said struct{ Error json.RawMessage }
			if err := json.Unmarshal(stream[5:5+size], &said); err != nil {
				return outcome{}, err
			}
			if said.Error == nil {
				return outcome{Code: "ok"}, nil
			}
			return ofJSON(said.Error, http.StatusOK)
		}
		stream = stream[5+size:]
	}
	return outcome{}, errors.New("the stream has no end")
}

// ofJSON reads an error as Connect writes it.
func ofJSON(text []byte, httpStatus int) (outcome, error) {
	var refused struct {
		Code, Message string
		Details       []struct{ Type, Value string }
	}
	if err := json.Unmarshal(text, &refused); err != nil {
		return outcome{}, fmt.Errorf("HTTP status %d with %q: %w", httpStatus, text, err)
	}
	o := outcome{Code: refused.Code, Text: refused.Message}
	for _, d := range refused.Details {
		if d.Type != "google.rpc.ErrorInfo" {
			continue
		}
		value, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(d.Value, "="))
		if err != nil {
			return o, err
		}
		var info errdetails.ErrorInfo
		if err := proto.Unmarshal(value, &info); err != nil {
			return o, err
		}
		o.Reason = info.GetReason()
	}
	return o, nil
}

// grpcSpeaker speaks gRPC, which Flight is, too: bytes in, bytes out.
type grpcSpeaker struct{ conn *grpc.ClientConn }

func (s grpcSpeaker) send(ctx context.Context, r refusal) (outcome, error) {
	said := r.Messages
	var answer proto.Message
	switch {
	case r.Body != nil:
		said = [][]byte{r.Body}
	case !r.byFlight():
		_, request, empty, err := messages(r)
		if err != nil {
			return outcome{}, err
		}
		body, err := proto.Marshal(request)
		if err != nil {
			return outcome{}, err
		}
		said, answer = [][]byte{body}, empty
	}
	options := []grpc.CallOption{grpc.ForceCodecV2(asItIs{}), grpc.MaxCallRecvMsgSize(256 << 20)}
	if r.Gzip {
		options = append(options, grpc.UseCompressor("gzip"))
	}
	if r.Authorization != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", r.Authorization)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/"+r.Method, options...)
	if err != nil {
		return ofStatus(err), nil
	}
	for _, message := range said {
		// Where the server has ended already, the status tells.
		if stream.SendMsg(message) != nil {
			break
		}
	}
	_ = stream.CloseSend()
	var last []byte
	for {
		err := stream.RecvMsg(&last)
		switch {
		case errors.Is(err, io.EOF):
			if answer == nil {
				return outcome{Code: "ok"}, nil
			}
			err := proto.Unmarshal(last, answer)
			return outcome{Code: "ok", Text: shown(answer)}, err
		case err != nil:
			return ofStatus(err), nil
		}
	}
}

// asItIs is a codec of bytes.
type asItIs struct{}

// Marshal implements encoding.CodecV2.
func (asItIs) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("%T are no bytes", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (asItIs) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("%T is no place for bytes", v)
	}
	*b = data.Materialize()
	return nil
}

// Name implements encoding.CodecV2.
func (asItIs) Name() string { return "proto" }

func ofStatus(err error) outcome {
	s := status.Convert(err)
	o := outcome{Code: snake(s.Code().String()), Text: s.Message()}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			o.Reason = info.GetReason()
		}
	}
	return o
}

// snake turns InvalidArgument into invalid_argument.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToLower(b.String())
}

// shown is an answer in JSON without the spaces that protojson varies.
func shown(m proto.Message) string {
	text, err := protojson.Marshal(m)
	if err != nil {
		return err.Error()
	}
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return err.Error()
	}
	return b.String()
}

// python sends all of them by call.py: as JSON with the standard library alone,
// by grpcio and by pyarrow. It gives an outcome of each for each; null where
// that does not speak it.
func python(ctx context.Context, url, flight string, list []refusal) (map[string][]*outcome, error) {
	in, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "../../../.venv/bin/python", "call.py", url, flight)
	var out, errors bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errors
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("call.py (make venv installs what it needs): %w\n%s", err, errors.String())
	}
	outcomes := map[string][]*outcome{}
	return outcomes, json.Unmarshal(out.Bytes(), &outcomes)
}
