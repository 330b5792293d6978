package flight

import (
	"bytes"
	"context"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"

	"github.com/rasterloom/rasterloom/internal/contenthash"
	"github.com/rasterloom/rasterloom/services/merger/internal/columnar"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// batchWriter sends batches of the engine as record batches.
type batchWriter struct {
	plan      *merge.Plan
	schema    *arrow.Schema
	messages  *messenger
	allocator memory.Allocator
	hash      *contenthash.Hash
	// compressor is nil for batches that are sent from where they lie.
	compressor *compressor
}

func newBatchWriter(stream grpc.ServerStream, schema *arrow.Schema, plan *merge.Plan, opts Options) *batchWriter {
	columns := plan.Columns()
	payload := ipc.GetSchemaPayload(schema, opts.Allocator)
	defer payload.Release()
	meta := payload.Meta()
	defer meta.Release()
	// The schema's message goes without metadata: a reader would take it for a
	// batch's.
	messages := &messenger{stream: stream, stall: opts.Stall, schema: newFrame(bytes.Clone(meta.Bytes()), nil), last: time.Now()}
	hashed := make([]contenthash.Column, len(columns))
	for i, c := range columns {
		hashed[i] = contenthash.Column{Name: c.Name, Type: c.Type, Nullable: c.Thread >= 0}
	}
	return &batchWriter{
		plan: plan, schema: schema, messages: messages, allocator: opts.Allocator, hash: contenthash.New(hashed),
		compressor: newCompressor(schema, plan.Compression),
	}
}

// write sends a batch. Its buffers are sent from where they lie, unless they are
// compressed, and the engine may use them again once it returns nil. After an error it must not: the
// transport may still read them.
func (w *batchWriter) write(ctx context.Context, b *merge.Batch) error {
	w.hash.AddRows(b.Rows)
	for i, v := range b.Columns {
		values, err := columnar.Bytes(v.Values)
		if err != nil {
			return err
		}
		w.hash.Add(i, values, v.Valid)
	}
	metadata, err := metadataOf(b, w.hash.Sum())
	if err != nil {
		return err
	}
	record, err := columnar.Record(w.schema, b)
	if err != nil {
		return err
	}
	defer record.Release()
	var f *frame
	if w.compressor != nil {
		f, err = w.compressor.frame(record, metadata)
	} else {
		f, err = recordFrame(record, metadata, w.allocator)
	}
	if err != nil {
		return err
	}
	f.rows = true
	return w.messages.send(ctx, f)
}

// end sends the trailer: a batch without rows.
func (w *batchWriter) end(ctx context.Context, result merge.Result) error {
	metadata, err := trailerOf(w.plan, result, w.hash.Sum())
	if err != nil {
		return err
	}
	f, err := w.empty(metadata)
	if err != nil {
		return err
	}
	return w.messages.send(ctx, f)
}

// sign is the message that says no more than that the stream is alive.
func (w *batchWriter) sign() (*frame, error) { return w.empty([]byte(`{"complete":false}`)) }

// empty is the message of a batch without rows. A message without a batch would
// be the end of the stream to some readers.
func (w *batchWriter) empty(metadata []byte) (*frame, error) {
	record := columnar.Empty(w.schema)
	defer record.Release()
	return recordFrame(record, metadata, w.allocator)
}
