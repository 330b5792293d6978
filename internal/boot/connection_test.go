package boot_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"

	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/internal/wire"
)

// patience is far more than anything here takes: a test that waits for it fails.
const patience = 30 * time.Second

// door is one of a process's two ports, and a call there that lasts until its
// caller is gone.
type door struct {
	name, address, path, media string
	running, most              *atomic.Int64
}

// stay is in hand until gone is closed.
func (d door) stay(gone <-chan struct{}) {
	now := d.running.Add(1)
	for most := d.most.Load(); now > most && !d.most.CompareAndSwap(most, now); most = d.most.Load() {
	}
	<-gone
	d.running.Add(-1)
}

// doors serves both ports with bounds.
func doors(t *testing.T, bound func(*wire.Connections)) []door {
	t.Helper()
	both := []door{
		{name: "RPC", path: "/rasterloom.schema.v1.SchemaService/GetLayer", media: "application/proto"},
		{name: "Flight", path: "/arrow.flight.protocol.FlightService/DoGet", media: "application/grpc"},
	}
	for i := range both {
		both[i].running, both[i].most = new(atomic.Int64), new(atomic.Int64)
	}
	p, _ := start(t, config(), "127.0.0.1:0", func(p *boot.Process) []*boot.Service {
		c := wire.DefaultConnections()
		bound(&c)
		p.Bound(c)
		desc := &grpc.ServiceDesc{ServiceName: "arrow.flight.protocol.FlightService", Streams: []grpc.StreamDesc{{
			StreamName: "DoGet", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error { both[1].stay(s.Context().Done()); return nil },
		}}}
		return []*boot.Service{{
			Name: echoName,
			Handlers: map[string]http.Handler{"/rasterloom.schema.v1.SchemaService/": http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				both[0].stay(r.Context().Done())
			})},
			Flight: &boot.Flight{Register: func(into grpc.ServiceRegistrar) { into.RegisterService(desc, nil) }},
		}}
	})
	both[0].address, both[1].address = strings.TrimPrefix(p.URL(), "http://"), strings.TrimPrefix(p.FlightURI(), "grpc://")
	return both
}

// raw is a connection by hand.
type raw struct {
	net.Conn
	*http2.Framer
	t        *testing.T
	settings map[http2.SettingID]uint32
	next     uint32
}

func (d door) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", d.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// hello begins HTTP/2 and takes the settings of the server.
func (d door) hello(t *testing.T) *raw {
	t.Helper()
	conn := d.dial(t)
	r := &raw{Conn: conn, Framer: http2.NewFramer(conn, conn), t: t, settings: map[http2.SettingID]uint32{}, next: 1}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := r.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := frame.(*http2.SettingsFrame); ok && !s.IsAck() {
			_ = s.ForeachSetting(func(s http2.Setting) error { r.settings[s.ID] = s.Val; return nil })
			if err := r.WriteSettingsAck(); err != nil {
				t.Fatal(err)
			}
			return r
		}
	}
}

// headers are those of a call, with more of them.
func (d door) headers(more ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	fields := append([]string{":method", "POST", ":scheme", "http", ":authority", d.address, ":path", d.path, "content-type", d.media, "te", "trailers"}, more...)
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}) // into memory
	}
	return b.Bytes()
}

// open begins a call and does not end it.
func (r *raw) open(block []byte) (stream uint32, err error) {
	stream = r.next
	r.next += 2
	return stream, r.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: true})
}

// message sends an empty message, which lets a call of gRPC reach its handler.
func (r *raw) message(stream uint32) error { return r.WriteData(stream, true, make([]byte, 5)) }

// ended reads until the server closes the connection.
func (r *raw) ended() error {
	for {
		if _, err := r.ReadFrame(); err != nil {
			return closedOrNot(err)
		}
	}
}

// closedOrNot is nil for what a connection says that the other side closed.
func closedOrNot(err error) error {
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("the connection is still open after %v", patience)
	}
	return nil
}

// until waits for something to become true that nothing tells of.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in %v not: %s", patience, what)
		}
	}
}

// The bounds that docs/security.md tells.
func TestBoundsOfConnections(t *testing.T) {
	want := wire.Connections{
		Streams: 64, HeaderBytes: 16384, Header: 5 * time.Second, Handshake: 10 * time.Second, Idle: 300 * time.Second, PingAfter: 10 * time.Second, PingWait: 5 * time.Second,
	}
	if got := wire.DefaultConnections(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for _, d := range doors(t, func(*wire.Connections) {}) {
		r := d.hello(t)
		if got := r.settings[http2.SettingMaxConcurrentStreams]; got != want.Streams {
			t.Errorf("%s allows %d streams", d.name, got)
		}
		// net/http adds what the customary headers take.
		if got := r.settings[http2.SettingMaxHeaderListSize]; got == 0 || got > want.HeaderBytes+1024 {
			t.Errorf("%s allows %d bytes of headers", d.name, got)
		}
	}
}

// A connection has no more than its streams in hand, whatever it opens.
func TestStreamsOfAConnection(t *testing.T) {
	for _, d := range doors(t, func(*wire.Connections) {}) {
		r, block := d.hello(t), d.headers()
		const asked = 100
		for range asked {
			stream, err := r.open(block)
			if err == nil {
				err = r.message(stream)
			}
			if err != nil {
				t.Fatal(d.name, err)
			}
		}
		refused := 0
		for refused < asked-64 {
			frame, err := r.ReadFrame()
			if err != nil {
				t.Fatalf("%s: after %d refused streams: %v", d.name, refused, err)
			}
			if _, ok := frame.(*http2.RSTStreamFrame); ok {
				refused++
			}
		}
		until(t, "64 calls in hand", func() bool { return d.running.Load() == 64 })
		_ = r.Conn.Close()
		until(t, "every call has ended", func() bool { return d.running.Load() == 0 })
		t.Logf("%s: %d streams opened, %d refused, %d at most in hand", d.name, asked, refused, d.most.Load())
		if d.most.Load() != 64 {
			t.Errorf("%s: %d calls at most", d.name, d.most.Load())
		}
	}
}

// Headers over the limit reach no handler, and headers without an end are not
// collected for ever.
func TestHeadersOfACall(t *testing.T) {
	for _, d := range doors(t, func(*wire.Connections) {}) {
		r := d.hello(t)
		block := d.headers("x-large", strings.Repeat("x", 64<<10))
		const piece = 16 << 10
		err := r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:piece], EndStream: true})
		for rest := block[piece:]; err == nil && len(rest) > 0; {
			n := min(piece, len(rest))
			err, rest = r.WriteContinuation(1, n == len(rest), rest[:n]), rest[n:]
		}
		// A server that closes the connection before all of it has come refuses, too.
		if err == nil {
			err = r.refused(1)
		} else {
			err = closedOrNot(err)
		}
		if err != nil {
			t.Errorf("%s, 64 KiB of headers: %v", d.name, err)
		}

		r = d.hello(t)
		sent := 0
		err = r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: d.headers()})
		filler := bytes.Repeat(append([]byte{0, 1, 'x', 100}, make([]byte, 100)...), 100)
		for ; err == nil && sent < 64<<20; sent += len(filler) {
			err = r.WriteContinuation(1, false, filler)
		}
		if err == nil {
			err = fmt.Errorf("%d bytes of headers were taken", sent)
			t.Errorf("%s, headers without an end: %v", d.name, err)
		}
		t.Logf("%s: closed after %d KiB of headers without an end", d.name, sent>>10)
		if d.most.Load() != 0 {
			t.Errorf("%s: a handler was called", d.name)
		}
	}
}

// refused reads until the stream is refused, by a status, a reset or the end of
// the connection.
func (r *raw) refused(stream uint32) error {
	r.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		frame, err := r.ReadFrame()
		if err != nil {
			return closedOrNot(err)
		}
		switch f := frame.(type) {
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return nil
		case *http2.MetaHeadersFrame:
			if got := f.PseudoValue("status"); f.StreamID == stream && got != "431" {
				return fmt.Errorf("status %s", got)
			}
			return nil
		}
	}
}

// Who connects and says nothing, or half a request, is not waited for.
func TestSilentConnections(t *testing.T) {
	for _, d := range doors(t, func(c *wire.Connections) { c.Header, c.Handshake = 200*time.Millisecond, 200*time.Millisecond }) {
		for what, said := range map[string]string{"nothing": "", "half a request": "POST " + d.path + " HTTP/1.1\r\nHost: x\r\nX-", "half a preface": http2.ClientPreface[:10]} {
			conn := d.dial(t)
			_, err := io.WriteString(conn, said)
			if err == nil {
				_, err = io.Copy(io.Discard, conn)
			}
			if err = closedOrNot(err); err != nil {
				t.Errorf("%s, %s: %v", d.name, what, err)
			}
		}
	}
}

// A connection without calls is closed.
func TestIdleConnections(t *testing.T) {
	for _, d := range doors(t, func(c *wire.Connections) {
		c.Idle, c.PingAfter, c.PingWait = 500*time.Millisecond, time.Second, time.Second
	}) {
		if err := d.hello(t).ended(); err != nil {
			t.Errorf("%s: %v", d.name, err)
		}
	}
}

// A client that is there and answers nothing loses its calls.
func TestFrozenClients(t *testing.T) {
	// grpc-go asks no sooner than after a second.
	for _, d := range doors(t, func(c *wire.Connections) { c.PingAfter, c.PingWait = time.Second, 200*time.Millisecond }) {
		r := d.hello(t)
		stream, err := r.open(d.headers())
		if err == nil {
			err = r.message(stream)
		}
		if err != nil {
			t.Fatal(err)
		}
		until(t, "the call is in hand", func() bool { return d.most.Load() == 1 })
		until(t, "the call has ended", func() bool { return d.running.Load() == 0 })
		if err := r.ended(); err != nil {
			t.Errorf("%s: %v", d.name, err)
		}
	}
}

// Calls that are begun and reset as fast as the line is do not pile up.
func TestRapidReset(t *testing.T) {
	for _, d := range doors(t, func(*wire.Connections) {}) {
		base := runtime.NumGoroutine()
		r, block := d.hello(t), d.headers()
		drained := make(chan struct{})
		go func() {
			_ = r.ended()
			close(drained)
		}()
		begun := 0
		for ; begun < 5_000; begun++ {
			stream, err := r.open(block)
			if err == nil {
				err = r.message(stream)
			}
			if err == nil {
				err = r.WriteRSTStream(stream, http2.ErrCodeCancel)
			}
			if err != nil {
				break // the server has had enough
			}
		}
		// Others are served meanwhile.
		other := d.hello(t)
		_ = other.Conn.Close()
		_ = r.Conn.Close()
		<-drained
		until(t, "every call has ended", func() bool { return d.running.Load() == 0 })
		until(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= base+8 })
		t.Logf("%s: %d calls begun and reset, %d at most in hand", d.name, begun, d.most.Load())
		if d.most.Load() > 64 {
			t.Errorf("%s: %d calls at most", d.name, d.most.Load())
		}
	}
}
