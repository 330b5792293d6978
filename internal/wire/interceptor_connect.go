package wire

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/validate"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/access"
)

// Options are the options of every Connect handler: limits on messages, the
// rules of the contract on every request, panics contained, and faults turned
// into the status that the contract promises. internal/boot mounts handlers
// behind Edge, which gives each call its id and its line in the log.
func Options() []connect.HandlerOption {
	return []connect.HandlerOption{
		connect.WithReadMaxBytes(MaxReadBytes),
		connect.WithSendMaxBytes(MaxSendBytes),
		connect.WithCompression("gzip",
			func() connect.Decompressor { return &boundedGzip{} },
			func() connect.Compressor { return gzip.NewWriter(io.Discard) }),
		connect.WithCompressMinBytes(minCompressBytes),
		connect.WithCodec(strictJSON{"json"}),
		connect.WithCodec(strictJSON{"json; charset=utf-8"}),
		// The first one is the outermost.
		connect.WithInterceptors(traceCalls(), callInterceptor{}, validate.NewInterceptor(validate.WithoutErrorDetails())),
	}
}

// minCompressBytes is the size from which an answer is worth compressing: most
// are smaller, and grow by it.
const minCompressBytes = 1 << 10

// ClientOptions are the options of every generated client that asks another
// service of the suite: the id of the call in hand goes along, and who it is
// for, and answers have a limit.
func ClientOptions() []connect.ClientOption {
	return []connect.ClientOption{
		connect.WithReadMaxBytes(MaxSendBytes),
		connect.WithInterceptors(traceCalls(), callInterceptor{}),
	}
}

// callInterceptor stands between the protocol and the handlers.
type callInterceptor struct{}

// WrapUnary implements connect.Interceptor.
func (callInterceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (res connect.AnyResponse, err error) {
		c := callOf(ctx)
		if req.Spec().IsClient {
			passOn(ctx, c, req.Header())
			return next(ctx, req)
		}
		c.enter(ctx, req.Peer().Protocol, false)
		c.request, _ = req.Any().(proto.Message)
		defer func() {
			if p := recover(); p != nil {
				res, err = nil, recovered(p)
			}
			if err != nil {
				res, err = nil, ToConnect(c.fail(err))
			}
		}()
		return next(ctx, req)
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (callInterceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		passOn(ctx, callOf(ctx), conn.RequestHeader())
		return conn
	}
}

// passOn tells the service that is asked which call it is asked for, and whose.
func passOn(ctx context.Context, c *call, header http.Header) {
	if c.id != "" {
		header.Set(RequestIDHeader, c.id)
	}
	if p := access.From(ctx); p.Name != "" {
		header.Set(access.OnBehalfHeader, p.Name)
	}
}

// WrapStreamingHandler implements connect.Interceptor.
func (callInterceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) (err error) {
		c := callOf(ctx)
		c.enter(ctx, conn.Peer().Protocol, true)
		defer func() {
			if p := recover(); p != nil {
				err = recovered(p)
			}
			if err != nil {
				err = ToConnect(c.fail(err))
			}
		}()
		return next(ctx, conn)
	}
}

// Edge mounts a Connect handler at the edge of the process: the call gets its
// id and its one line in the log, the guard decides whether it comes in, a body
// has a limit, and a request that the protocol library refuses before any
// interceptor sees it (too large, not readable, a compression nobody knows) is
// answered with the same machine-readable reason as any other.
func Edge(log *zap.Logger, guard *access.Guard, handler http.Handler) http.Handler {
	refuse := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := newCall(r.Context(), r.URL.Path, r.RemoteAddr, r.Header.Get(RequestIDHeader))
		defer c.end(log)
		w.Header().Set(RequestIDHeader, c.id)
		// A client of gRPC's C core (Python, C++ …; seen in grpcio 1.85) hands one in
		// some ten thousand compressed answers to its program as it came. These
		// are small; what is large goes by Flight.
		r.Header.Del("Grpc-Accept-Encoding")
		r = r.WithContext(c.in(r.Context()))
		ctx, release, err := c.admit(r.Context(), guard, caller(r))
		if err != nil {
			c.protocol = "http"
			if fault.KindOf(err) == fault.Unauthenticated {
				w.Header().Set("WWW-Authenticate", "Bearer")
			}
			// The client may be gone; nobody is left to tell.
			_ = refuse.Write(w, r, ToConnect(c.fail(err)))
			return
		}
		defer release()
		r = r.WithContext(ctx)
		body := limitBody(w, r)
		r.Body = body

		held := &heldWriter{ResponseWriter: w, call: c}
		handler.ServeHTTP(held, r)
		if c.entered {
			return
		}
		c.protocol = "http"
		switch err := held.refusal(body.err); {
		case err != nil:
			c.err = err
			clear(w.Header())
			w.Header().Set(RequestIDHeader, c.id)
			// The client may be gone; nobody is left to tell.
			_ = refuse.Write(w, r, ToConnect(err))
		default:
			if held.status >= http.StatusBadRequest {
				c.err = fault.New(fault.Invalid, fault.InvalidArgument, "HTTP status %d", held.status)
			}
			held.release()
		}
	})
}

// caller is what a request says of who sent it.
func caller(r *http.Request) access.Call {
	c := access.Call{Authorization: r.Header.Get("Authorization"), OnBehalf: r.Header.Get(access.OnBehalfHeader), Host: r.Host}
	if r.TLS != nil {
		c.Certificate = leaf(r.TLS.VerifiedChains)
	}
	return c
}

// leaf is the client's certificate, once its chain was verified.
func leaf(chains [][]*x509.Certificate) *x509.Certificate {
	if len(chains) == 0 || len(chains[0]) == 0 {
		return nil
	}
	return chains[0][0]
}

// Refuse notes in the log line of a call why a handler refuses it before Connect
// has it, and gives what is to be answered.
func Refuse(ctx context.Context, err error) error {
	c := callOf(ctx)
	c.entered, c.protocol = true, "http"
	return ToConnect(c.fail(err))
}

// heldWriter holds back what is written until the interceptors have the call.
// What is held is never more than the library's own few words of refusal.
type heldWriter struct {
	http.ResponseWriter
	call   *call
	status int
	body   bytes.Buffer
}

// WriteHeader implements http.ResponseWriter.
func (w *heldWriter) WriteHeader(status int) {
	if w.call.entered {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.status = status
}

// Write implements http.ResponseWriter.
func (w *heldWriter) Write(p []byte) (int, error) {
	if w.call.entered {
		return w.ResponseWriter.Write(p)
	}
	return w.body.Write(p)
}

// Flush implements http.Flusher, which Connect asks for.
func (w *heldWriter) Flush() {
	if w.call.entered {
		// An error shows in the next write.
		_ = http.NewResponseController(w.ResponseWriter).Flush()
	}
}

// Unwrap is for http.ResponseController.
func (w *heldWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// release sends what was held as it is.
func (w *heldWriter) release() {
	if w.status != 0 {
		w.ResponseWriter.WriteHeader(w.status)
	}
	// The client may be gone; nobody is left to tell.
	_, _ = w.ResponseWriter.Write(w.body.Bytes())
}

// refusal reads the held answer of the protocol library: nil where it is none
// of a protocol, or nothing to add to. bodyErr is what ended the reading of the
// body.
func (w *heldWriter) refusal(bodyErr error) error {
	if errors.Is(bodyErr, os.ErrDeadlineExceeded) {
		return connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf("the request took longer than %v to arrive", maxBodyTime))
	}
	code, message, ok := w.held()
	if !ok {
		return nil
	}
	switch code {
	case codes.ResourceExhausted:
		return fault.New(fault.Limit, fault.LimitExceeded, "the message is larger than the limit of %d bytes", MaxReadBytes).
			With("limit", MaxReadBytes).Because(errors.New(message))
	case codes.InvalidArgument:
		return fault.New(fault.Invalid, fault.InvalidArgument, "the request cannot be read: %s", shorten(message))
	case codes.Unimplemented:
		return fault.New(fault.Unsupported, fault.NotSupported, "the request cannot be read: %s", shorten(message))
	case codes.Unknown:
		return connect.NewError(connect.CodeCanceled, errors.New("the request ended before it was complete"))
	case codes.Internal:
		return fault.New(fault.Internal, fault.Bug, "internal error").
			With("request_id", w.call.id).Because(errors.New(message))
	default:
		return nil
	}
}

// held gives code and message of an error in the form of the Connect protocol
// (JSON body) or of gRPC and gRPC-Web (trailers or headers).
func (w *heldWriter) held() (codes.Code, string, bool) {
	for _, prefix := range []string{http.TrailerPrefix, ""} {
		// Not Get: a trailer key is not in canonical form.
		if number := w.first(prefix + "Grpc-Status"); number != "" {
			n, err := strconv.ParseUint(number, 10, 32)
			return codes.Code(n), w.first(prefix + "Grpc-Message"), err == nil && n != 0
		}
	}
	var answer struct {
		Code    connect.Code `json:"code"`
		Message string       `json:"message"`
	}
	if w.status < http.StatusBadRequest || json.Unmarshal(w.body.Bytes(), &answer) != nil {
		return 0, "", false
	}
	return codes.Code(answer.Code), answer.Message, answer.Code != 0
}

func (w *heldWriter) first(key string) string {
	for k, values := range w.Header() {
		if strings.EqualFold(k, key) && len(values) > 0 {
			return values[0]
		}
	}
	return ""
}

// limitedBody is a request body with a limit on its size and on the time it
// takes to arrive.
type limitedBody struct {
	io.ReadCloser
	conn *http.ResponseController
	err  error
}

func limitBody(w http.ResponseWriter, r *http.Request) *limitedBody {
	b := &limitedBody{ReadCloser: http.MaxBytesReader(w, r.Body, maxBodyBytes), conn: http.NewResponseController(w)}
	if r.Body != http.NoBody {
		// Writers that cannot do it are those of tests.
		_ = b.conn.SetReadDeadline(time.Now().Add(maxBodyTime))
	}
	return b
}

// Read implements io.Reader. The deadline is for the body alone: once it has
// ended, the call may take as long as it needs.
func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == io.EOF:
		_ = b.conn.SetReadDeadline(time.Time{})
	case err != nil:
		b.err = err
	}
	return n, err
}

// shorten keeps a message that may quote the request to a readable length.
func shorten(message string) string {
	const most = 512
	if len(message) <= most {
		return message
	}
	return strings.ToValidUTF8(message[:most], "") + " …"
}

// boundedGzip is gzip that stops just past the limit on messages. Connect reads
// to the end of a message that is too large, which for a gzip bomb is thousands
// of times what was sent.
type boundedGzip struct {
	gzip.Reader
	left int64
}

// errTooLarge ends the reading of a bomb.
var errTooLarge = errors.New("decompressed message is over the limit")

// Reset implements connect.Decompressor.
func (z *boundedGzip) Reset(r io.Reader) error {
	z.left = MaxReadBytes + 1
	return z.Reader.Reset(r)
}

// Read implements io.Reader.
func (z *boundedGzip) Read(p []byte) (int, error) {
	if z.left <= 0 {
		return 0, errTooLarge
	}
	if int64(len(p)) > z.left {
		p = p[:z.left]
	}
	n, err := z.Reader.Read(p)
	z.left -= int64(n)
	return n, err
}
