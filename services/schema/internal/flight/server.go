// Package flight takes cells from clients by Arrow Flight: DoPut. docs/ingest.md
// is the protocol in words.
package flight

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	arrowflight "github.com/apache/arrow-go/v18/arrow/flight"
	flightgen "github.com/apache/arrow-go/v18/arrow/flight/gen/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"google.golang.org/grpc"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/contenthash"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/schema/internal/ingest"
)

// Server is the schema service's part of Flight.
type Server struct {
	arrowflight.BaseFlightServer

	ingester *ingest.Ingester
	decode   func(ctx context.Context, command []byte) (ingest.Request, error)
	stall    time.Duration
}

// NewServer makes a server. decode reads the command of a descriptor; stall is how
// long a client may send nothing before it is dropped, 60 s by default.
func NewServer(ingester *ingest.Ingester, decode func(context.Context, []byte) (ingest.Request, error), stall time.Duration) *Server {
	if stall <= 0 {
		stall = time.Minute
	}
	return &Server{ingester: ingester, decode: decode, stall: stall}
}

// Calls are the Flight calls that the server answers.
func (s *Server) Calls() []string { return []string{"DoPut"} }

// Register adds the server to a grpc-go server that turns faults into statuses
// (wire.ServerOptions).
func (s *Server) Register(server grpc.ServiceRegistrar) {
	flightgen.RegisterFlightServiceServer(server, s)
}

// Handshake says that there is none: a client that thinks it has traded a password
// for a token would go on without one.
func (s *Server) Handshake(arrowflight.FlightService_HandshakeServer) error {
	return fault.New(fault.Unsupported, fault.NotSupported,
		"there is no handshake here: send a token with each call, as the header authorization: Bearer TOKEN")
}

// closing is what a client says at the end of its stream, and result what it gets
// for it, as JSON.
type closing struct {
	Complete bool   `json:"complete"`
	Rows     *int64 `json:"rows"`
	Hash     string `json:"hash,omitempty"`
}

type result struct {
	Layer      string `json:"layer"`
	Generation int64  `json:"generation"`
	Cells      int64  `json:"cells"`
	Tiles      int64  `json:"tiles"`
	Bytes      int64  `json:"bytes"`
	// Repeated is true when the idempotency key was that of an ingest that was
	// stored before: nothing of this stream was.
	Repeated bool `json:"repeated"`
}

// DoPut takes the cells of one layer. They are seen by others when the client has
// closed the stream with a message that agrees with what came, and not before.
func (s *Server) DoPut(stream arrowflight.FlightService_DoPutServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	f := newFeed(ctx, stream, s.stall)
	first, err := f.first()
	if err != nil {
		return err
	}
	request, err := s.decode(ctx, first.GetFlightDescriptor().GetCmd())
	if err != nil {
		return err
	}
	wire.Note(ctx, "layer", request.Name)
	in, err := s.ingester.Begin(ctx, request)
	if err != nil {
		return err
	}
	defer in.Close()
	if done := in.Done(); done != nil {
		return answer(stream, *done, true)
	}
	rows, err := take(f, in, request.Type)
	wire.Note(ctx, "rows", rows)
	if err != nil {
		return err
	}
	done, err := in.Commit(ctx)
	if err != nil {
		return err
	}
	wire.Note(ctx, "generation", done.Generation)
	wire.Note(ctx, "cells", done.Cells)
	wire.Note(ctx, "bytes", done.Bytes)
	return answer(stream, done, false)
}

// take reads the stream to its end, and holds it against what its client says of it.
func take(f *feed, in *ingest.Stream, t layer.DataType) (rows int64, err error) {
	reader, err := arrowflight.NewRecordReader(f, ipc.WithAllocator(nothing{}))
	if err != nil {
		return 0, f.fault(err)
	}
	defer reader.Release()
	schema := reader.Schema()
	shape, err := formOf(schema, t)
	if err != nil {
		return 0, err
	}
	hash := contenthash.New(columnsOf(schema, shape, t))
	for reader.Next() {
		record := reader.RecordBatch()
		if record.NumRows() == 0 {
			continue
		}
		if err := shape.take(in, hash, record, t); err != nil {
			return hash.Rows(), err
		}
	}
	if err := f.fault(reader.Err()); err != nil {
		return hash.Rows(), err
	}
	return hash.Rows(), f.agrees(hash)
}

func answer(stream arrowflight.FlightService_DoPutServer, done layer.Ingest, repeated bool) error {
	metadata, err := json.Marshal(result{
		Layer: done.Layer, Generation: done.Generation, Cells: done.Cells, Tiles: done.Tiles, Bytes: done.Bytes, Repeated: repeated,
	})
	if err != nil {
		return fmt.Errorf("write the result of an ingest: %w", err)
	}
	return stream.Send(&arrowflight.PutResult{AppMetadata: metadata})
}

// feed is the messages of a stream, guarded, for Arrow's reader.
type feed struct {
	ctx    context.Context //nolint:containedctx // that of the stream, whose reader has no other way to get it
	stall  time.Duration
	came   chan *arrowflight.FlightData
	ended  chan error // one, after the last message
	peeked *arrowflight.FlightData
	begun  bool
	// err is why the feed ended, where Arrow's reader would tell it in its own words.
	err    error
	closed *closing
}

func newFeed(ctx context.Context, stream arrowflight.FlightService_DoPutServer, stall time.Duration) *feed {
	f := &feed{ctx: ctx, stall: stall, came: make(chan *arrowflight.FlightData), ended: make(chan error, 1)}
	// Recv waits for as long as a client does nothing; it ends with the handler.
	go func() { f.ended <- fault.Guard(func() error { return f.pass(stream) }) }()
	return f
}

// pass hands messages on until there are no more, or nobody wants them.
func (f *feed) pass(stream arrowflight.FlightService_DoPutServer) error {
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		select {
		case f.came <- message:
		case <-f.ctx.Done():
			return context.Cause(f.ctx)
		}
	}
}

// receive gives the next message; io.EOF after the last.
func (f *feed) receive() (*arrowflight.FlightData, error) {
	stalled := time.NewTimer(f.stall)
	defer stalled.Stop()
	select {
	case message := <-f.came:
		return message, nil
	case err := <-f.ended:
		return nil, err
	case <-f.ctx.Done():
		return nil, context.Cause(f.ctx)
	case <-stalled.C:
		return nil, tooLarge("the client sent nothing for %v, and was dropped; nothing was stored. A stream that was closed also has to be ended (done_writing)", f.stall).
			With("limit", f.stall)
	}
}

// first gives the message with the descriptor, which the reader gets again.
func (f *feed) first() (*arrowflight.FlightData, error) {
	message, err := f.receive()
	switch {
	case errors.Is(err, io.EOF):
		return nil, invalid("the stream is empty")
	case err != nil:
		return nil, err
	case message.GetFlightDescriptor().GetType() != arrowflight.DescriptorCMD:
		return nil, invalid("the stream has no descriptor with a command, which says what its cells are").With("field", "descriptor")
	case len(message.GetDataHeader()) == 0:
		return nil, invalid("the stream begins without its schema")
	}
	f.peeked = message
	return message, nil
}

// Recv implements flight.DataStreamReader. It keeps from the reader what that
// cannot take: messages without a batch, and hostile ones.
func (f *feed) Recv() (*arrowflight.FlightData, error) {
	message, err := f.next()
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return message, err
}

func (f *feed) next() (*arrowflight.FlightData, error) {
	message := f.peeked
	f.peeked = nil
	if message == nil {
		if f.closed != nil {
			return nil, f.nothingMore()
		}
		var err error
		if message, err = f.receive(); err != nil {
			return nil, err
		}
	}
	if f.begun {
		if err := f.close(message.GetAppMetadata()); err != nil {
			return nil, err
		}
	}
	if len(message.GetDataHeader()) == 0 {
		if len(message.GetDataBody()) > 0 {
			return nil, invalid("a message of the stream has a body and no header")
		}
		if f.closed == nil {
			return nil, invalid("a message of the stream has neither a record batch nor the words that close it")
		}
		return nil, f.nothingMore()
	}
	kind := uint8(recordBatchMessage)
	if !f.begun {
		kind, f.begun = schemaMessage, true
	}
	return message, guard(message.GetDataHeader(), len(message.GetDataBody()), kind)
}

// close reads the metadata of a message: most have none, and the last one closes
// the stream.
func (f *feed) close(metadata []byte) error {
	if !bytes.Contains(metadata, []byte(`"complete"`)) {
		return nil
	}
	var said closing
	if err := json.Unmarshal(metadata, &said); err != nil || said.Rows == nil {
		return invalid(`the message that closes the stream is not {"complete": true, "rows": …, "hash": …}`).With("field", "app_metadata").Because(err)
	}
	if said.Complete {
		f.closed = &said
	}
	return nil
}

// nothingMore waits for the end of a stream that was closed.
func (f *feed) nothingMore() error {
	_, err := f.receive()
	if err == nil {
		return invalid("a message comes after the one that closed the stream")
	}
	return err
}

// agrees holds what the client said against what came. Errors: Invalid for a
// stream that was not closed, Corrupt DATA_CORRUPT for another count or hash.
func (f *feed) agrees(hash *contenthash.Hash) error {
	if f.closed == nil {
		return invalid(`the stream ended after %d rows without the message that closes it; nothing was stored`, hash.Rows()).With("rows", hash.Rows())
	}
	corrupt := func(what string, sent, came any) error {
		return fault.New(fault.Corrupt, fault.DataCorrupt, "the client sent %v as the %s of the stream, and what came has %v; nothing was stored", sent, what, came).
			With("what", what).With("sent", sent).With("received", came)
	}
	if *f.closed.Rows != hash.Rows() {
		return corrupt("number of rows", *f.closed.Rows, hash.Rows())
	}
	if sum := hash.Sum(); f.closed.Hash != "" && f.closed.Hash != sum {
		return corrupt("hash", fmt.Sprintf("%.80s", f.closed.Hash), sum)
	}
	return nil
}

// fault is the error of the reader as ours.
func (f *feed) fault(err error) error {
	switch {
	case f.err != nil:
		return f.err
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		return invalid("the stream ended before its schema")
	default:
		return invalid("a message of the stream cannot be read as Arrow").Because(err)
	}
}
