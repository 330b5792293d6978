// Package table reads a merge by Arrow Flight, as docs/flight.md defines it, and
// writes what came as a file: all of the table, proved whole, or nothing.
package table

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"

	"github.com/rasterloom/rasterloom/fault"
)

// renewBefore is how long before its end a ticket is renewed.
const renewBefore = 5 * time.Minute

// Progress says how far a table is.
type Progress struct {
	Rows    int64
	MaxRows int64 // that the table can have at most; 0 where the server does not say
}

// Reader reads a merge from a Flight server.
type Reader struct {
	Conn grpc.ClientConnInterface
	// Patience is the longest time without a word of the server.
	Patience time.Duration
	// Progress is told after every batch; may be nil.
	Progress func(Progress)
}

// ErrSilent is a server that has said nothing for longer than Reader.Patience.
var ErrSilent = errors.New("the server says nothing any more")

// Sink takes the batches of a table in their order. A batch is the sink's until
// Write returns.
type Sink interface {
	Write(batch arrow.RecordBatch) error
	// Close ends a table that is whole. Without it, what was written must not
	// look like one.
	Close() error
}

// Read reads the merge that command (a MergeSpec) describes, endpoint by endpoint,
// and writes it to w in a form, whose end is written only once every endpoint has
// proved to be whole. It gives the number of rows.
//
// Errors: gRPC's statuses as they came; Corrupt for a stream that ends without its
// trailer, or disagrees with it; ErrSilent; those of w.
func (r Reader) Read(ctx context.Context, command []byte, w io.Writer, form Format) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(r.Patience, func() { cancel(ErrSilent) })
	defer silence.Stop()
	rows, err := r.read(ctx, command, w, form, func() { silence.Reset(r.Patience) })
	if err != nil && errors.Is(context.Cause(ctx), ErrSilent) {
		return rows, ErrSilent
	}
	return rows, err
}

func (r Reader) read(ctx context.Context, command []byte, w io.Writer, form Format, heard func()) (int64, error) {
	client := flight.NewClientFromConn(r.Conn, nil)
	info, err := client.GetFlightInfo(ctx, &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: command})
	if err != nil {
		return 0, err
	}
	schema, err := flight.DeserializeSchema(info.GetSchema(), memory.DefaultAllocator)
	if err != nil {
		return 0, corrupt("the server's schema cannot be read").Because(err)
	}
	var most struct {
		MaxRows int64 `json:"max_rows"`
	}
	// Only the progress needs it.
	_ = json.Unmarshal(info.GetAppMetadata(), &most)
	out, err := form(w, schema)
	if err != nil {
		return 0, err
	}
	stream := stream{schema: schema, sink: out, heard: func(rows int64) {
		heard()
		if r.Progress != nil {
			r.Progress(Progress{Rows: rows, MaxRows: most.MaxRows})
		}
	}}
	for _, endpoint := range info.GetEndpoint() {
		if expires := endpoint.GetExpirationTime(); expires != nil && time.Until(expires.AsTime()) < renewBefore {
			if endpoint, err = client.RenewFlightEndpoint(ctx, &flight.RenewFlightEndpointRequest{Endpoint: endpoint}); err != nil {
				return stream.rows, err
			}
		}
		if err := stream.endpoint(ctx, client, endpoint.GetTicket()); err != nil {
			return stream.rows, err
		}
	}
	return stream.rows, out.Close()
}

// stream is a table on its way.
type stream struct {
	schema *arrow.Schema
	sink   Sink
	heard  func(rows int64)
	rows   int64
}

// endpoint reads one endpoint to its trailer, and proves it.
func (s *stream) endpoint(ctx context.Context, client flight.Client, ticket *flight.Ticket) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answer, err := client.DoGet(ctx, ticket)
	if err != nil {
		return err
	}
	reader, err := flight.NewRecordReader(answer)
	if err != nil {
		return err
	}
	defer reader.Release()
	if !reader.Schema().Equal(s.schema) {
		return corrupt("an endpoint's columns are not those of the flight")
	}
	proof := newProof(s.schema)
	var last *trailer
	for {
		batch, err := reader.Read()
		switch {
		case errors.Is(err, io.EOF):
			return proof.agrees(last)
		case err != nil:
			return err
		case last != nil:
			return corrupt("the stream goes on after its trailer")
		}
		if batch.NumRows() == 0 {
			if last, err = parseTrailer(reader.LatestAppMetadata()); err != nil {
				return err
			}
			s.heard(s.rows)
			continue
		}
		if err := proof.add(batch); err != nil {
			return err
		}
		if err := s.sink.Write(batch); err != nil {
			return err
		}
		s.rows += batch.NumRows()
		s.heard(s.rows)
	}
}

// Reach looks whether a Flight server answers this caller. Errors: gRPC's statuses.
func Reach(ctx context.Context, conn grpc.ClientConnInterface) error {
	actions, err := flight.NewClientFromConn(conn, nil).ListActions(ctx, &flight.Empty{})
	for err == nil {
		_, err = actions.Recv()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func corrupt(format string, args ...any) *fault.Error {
	return fault.New(fault.Corrupt, fault.DataCorrupt, format, args...)
}
