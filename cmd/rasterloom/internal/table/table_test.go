package table_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/rasterloom/rasterloom/cmd/rasterloom/internal/table"
	"github.com/rasterloom/rasterloom/fault"
)

var schema = arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Float64}, {Name: "birds", Type: arrow.PrimitiveTypes.Int16, Nullable: true}}, nil)

// hash is that of x = [1, 2, 3] and birds = [7, null, -1], as computed by the Python
// code of docs/flight.md: see internal/contenthash.
const hash = "xxh3-128:13f3ecf824fa748aa69b1a0f46376620"

// message is a batch of a stream, or its error.
type message struct {
	rows     bool
	metadata string
	err      error
	hang     bool
}

// server sends what a test tells it to, and be it nonsense.
type server struct {
	flight.BaseFlightServer
	messages []message
}

func (s *server) GetFlightInfo(context.Context, *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return &flight.FlightInfo{
		Schema: flight.SerializeSchema(schema, memory.DefaultAllocator), AppMetadata: []byte(`{"max_rows": 3}`),
		Endpoint: []*flight.FlightEndpoint{{Ticket: &flight.Ticket{Ticket: []byte("t")}}},
	}, nil
}

func (s *server) DoGet(_ *flight.Ticket, to flight.FlightService_DoGetServer) error {
	w := flight.NewRecordWriter(to, ipc.WithSchema(schema))
	for _, m := range s.messages {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		if m.rows {
			b.Field(0).(*array.Float64Builder).AppendValues([]float64{1, 2, 3}, nil)
			b.Field(1).(*array.Int16Builder).AppendValues([]int16{7, 0, -1}, []bool{true, false, true})
		}
		switch {
		case m.err != nil:
			return m.err
		case m.hang:
			<-to.Context().Done()
			return nil
		}
		if err := w.WriteWithAppMetadata(b.NewRecordBatch(), []byte(m.metadata)); err != nil {
			return err
		}
	}
	return nil
}

func trailer(rows, batches int, hash string) string {
	text, err := json.Marshal(map[string]any{"complete": true, "rows": rows, "batches": batches, "hash": hash})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// A stream is a table only with a trailer that agrees; nothing else leaves a table
// that looks whole.
func TestReadTakesWholeTablesOnly(t *testing.T) {
	rows := message{rows: true, metadata: `{"sequence": 0}`}
	sign := message{metadata: `{"complete":false}`}
	end := message{metadata: trailer(3, 1, hash)}
	for _, c := range []struct {
		name     string
		messages []message
		want     string // in the error; "" for a whole table
	}{
		{"whole", []message{rows, end}, ""},
		{"whole, after signs of life", []message{sign, rows, sign, end}, ""},
		{"no trailer", []message{rows}, "without its trailer"},
		{"nothing", nil, "EOF"},
		{"a sign of life for an end", []message{rows, sign}, "without its trailer"},
		{"other rows", []message{rows, {metadata: trailer(4, 1, hash)}}, "trailer says 4"},
		{"other batches", []message{rows, {metadata: trailer(3, 2, hash)}}, "in 2"},
		{"another hash", []message{rows, {metadata: trailer(3, 1, strings.Replace(hash, "13f3", "13f4", 1))}}, "have the hash"},
		{"a batch twice", []message{rows, rows, {metadata: trailer(6, 2, hash)}}, "have the hash"},
		{"rows after the trailer", []message{rows, end, rows}, "after its trailer"},
		{"no JSON", []message{rows, {metadata: "{"}}, "neither a trailer"},
		{"an error", []message{rows, {err: status.Error(codes.Aborted, "changed")}}, "changed"},
		{"silence", []message{rows, {hang: true}}, table.ErrSilent.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			reader := table.Reader{Conn: serve(t, c.messages), Patience: 500 * time.Millisecond}
			if c.want != table.ErrSilent.Error() {
				reader.Patience = time.Minute
			}
			got, err := reader.Read(t.Context(), nil, &out, table.ArrowStream)
			ended := bytes.HasSuffix(out.Bytes(), []byte("\xff\xff\xff\xff\x00\x00\x00\x00"))
			switch {
			case c.want == "" && (err != nil || got != 3 || !ended):
				t.Errorf("%d rows, ended %t: %v", got, ended, err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || ended):
				t.Errorf("ended %t: %v, want %q", ended, err, c.want)
			}
			if f, ok := errors.AsType[*fault.Error](err); ok && f.Reason != fault.DataCorrupt {
				t.Errorf("reason %s", f.Reason)
			}
		})
	}
}

// CSV has a header also without rows, and nothing for a null.
func TestCSV(t *testing.T) {
	for name, c := range map[string]struct {
		messages []message
		want     string
	}{
		"rows":    {[]message{{rows: true}, {metadata: trailer(3, 1, hash)}}, "x,birds\n1,7\n2,\n3,-1\n"},
		"no rows": {[]message{{metadata: trailer(0, 0, "xxh3-128:ed3f43e7933b88764a593f6c74202700")}}, "x,birds\n"},
	} {
		var out bytes.Buffer
		reader := table.Reader{Conn: serve(t, c.messages), Patience: time.Minute}
		if _, err := reader.Read(t.Context(), nil, &out, table.CSV); err != nil || out.String() != c.want {
			t.Errorf("%s: %q, want %q (%v)", name, out.String(), c.want, err)
		}
	}
}

// A file that came there meanwhile is not replaced, and what was given up is gone.
func TestFileAppearsWholeOrNotAtAll(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a.csv")
	f, err := table.CreateFile(name, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Commit(); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("a file that came meanwhile: %v", err)
	}
	f.Discard()
	if text, err := os.ReadFile(name); err != nil || string(text) != "theirs" {
		t.Errorf("the other file has %q (%v)", text, err)
	}
	if f, err = table.CreateFile(name, true); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("ours"); err != nil {
		t.Fatal(err)
	}
	if bytes, err := f.Commit(); err != nil || bytes != 4 {
		t.Errorf("%d bytes (%v)", bytes, err)
	}
	f.Discard()
	if text, err := os.ReadFile(name); err != nil || string(text) != "ours" {
		t.Errorf("the file has %q (%v)", text, err)
	}
	if left, err := os.ReadDir(filepath.Dir(name)); err != nil || len(left) != 1 {
		t.Errorf("left over: %v (%v)", left, err)
	}
}

func serve(t *testing.T, messages []message) *grpc.ClientConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	flight.RegisterFlightServiceServer(s, &server{messages: messages})
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return conn
}
