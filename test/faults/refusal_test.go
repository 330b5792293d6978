// Package faults_test sends what must be refused, over every protocol and from
// Go and Python, and looks whether each refusal is the promised one and whether
// anything was changed or left behind.
package faults_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
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
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// refusal is a request and what has to come of it.
type refusal struct {
	Name string `json:"name"`
	// Method is the whole name, "rasterloom.schema.v1.SchemaService/GetLayer".
	Method string `json:"method"`
	// Request is in the JSON form of the contract.
	Request string `json:"request"`
	// Gzip compresses it.
	Gzip bool `json:"gzip"`

	// code as Connect writes it ("invalid_argument"), or "ok"; reason of the
	// ErrorInfo, "" for one that a protocol gives before our code has its say.
	code, reason string
	// answer is what a good answer holds.
	answer string
}

// outcome is what came of a request.
type outcome struct {
	Code   string `json:"code"`
	Reason string `json:"reason"`
	Text   string `json:"text"` // the message of an error, or the answer as JSON
}

// speaker sends requests in one protocol.
type speaker struct {
	name string
	send func(context.Context, refusal) (outcome, error)
}

// speakers are all protocols, spoken by Go, with a service at an address.
func speakers(t *testing.T, url string) []speaker {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	conn, err := grpc.NewClient(strings.TrimPrefix(url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	web := func(media string, encode func(refusal, proto.Message) ([]byte, error)) func(context.Context, refusal) (outcome, error) {
		return func(ctx context.Context, r refusal) (outcome, error) {
			request, answer, err := messages(r)
			if err != nil {
				return outcome{}, err
			}
			body, err := encode(r, request)
			if err != nil {
				return outcome{}, err
			}
			return post(ctx, transport, url, media, r, body, answer)
		}
	}
	return []speaker{
		{"Connect JSON", web("application/json", func(r refusal, _ proto.Message) ([]byte, error) { return []byte(r.Request), nil })},
		{"Connect protobuf", web("application/proto", func(_ refusal, m proto.Message) ([]byte, error) { return proto.Marshal(m) })},
		{"gRPC", func(ctx context.Context, r refusal) (outcome, error) {
			request, answer, err := messages(r)
			if err != nil {
				return outcome{}, err
			}
			var options []grpc.CallOption
			if r.Gzip {
				options = append(options, grpc.UseCompressor("gzip"))
			}
			return ofStatus(conn.Invoke(ctx, "/"+r.Method, request, answer, options...), answer), nil
		}},
	}
}

// messages makes the request, and an empty answer, of the method's types.
func messages(r refusal) (request, answer proto.Message, err error) {
	name := protoreflect.FullName(strings.ReplaceAll(r.Method, "/", "."))
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return nil, nil, err
	}
	method, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, nil, fmt.Errorf("%s is not a method", name)
	}
	in, err := protoregistry.GlobalTypes.FindMessageByName(method.Input().FullName())
	if err != nil {
		return nil, nil, err
	}
	out, err := protoregistry.GlobalTypes.FindMessageByName(method.Output().FullName())
	if err != nil {
		return nil, nil, err
	}
	request, answer = in.New().Interface(), out.New().Interface()
	return request, answer, protojson.Unmarshal([]byte(r.Request), request)
}

func post(ctx context.Context, transport http.RoundTripper, url, media string, r refusal, body []byte, answer proto.Message) (outcome, error) {
	if r.Gzip {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, _ = w.Write(body) // into memory
		_ = w.Close()
		body = packed.Bytes()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/"+r.Method, bytes.NewReader(body))
	if err != nil {
		return outcome{}, err
	}
	request.Header.Set("Content-Type", media)
	request.Header.Set("Connect-Protocol-Version", "1")
	if r.Gzip {
		request.Header.Set("Content-Encoding", "gzip")
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return outcome{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return outcome{}, err
	}
	if response.StatusCode == http.StatusOK {
		if media == "application/json" {
			err = protojson.Unmarshal(text, answer)
		} else {
			err = proto.Unmarshal(text, answer)
		}
		return outcome{Code: "ok", Text: shown(answer)}, err
	}
	var refused struct {
		Code, Message string
		Details       []struct{ Type, Value string }
	}
	if err := json.Unmarshal(text, &refused); err != nil {
		return outcome{}, fmt.Errorf("HTTP status %d with %q: %w", response.StatusCode, text, err)
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

func ofStatus(err error, answer proto.Message) outcome {
	if err == nil {
		return outcome{Code: "ok", Text: shown(answer)}
	}
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

// python sends all of them by call.py, as JSON with the standard library alone
// and by grpcio, and gives an outcome of each for both.
func python(ctx context.Context, url string, list []refusal) (map[string][]outcome, error) {
	in, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "../../.venv/bin/python", "call.py", url)
	var out, errors bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errors
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("call.py (make venv installs what it needs): %w\n%s", err, errors.String())
	}
	outcomes := map[string][]outcome{}
	return outcomes, json.Unmarshal(out.Bytes(), &outcomes)
}
