package flight

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// minSavings is the part of a column's bytes that compressing it has to save, or
// it goes as it is: reading it is free then.
const minSavings = 0.05

// compressor makes the messages of one stream's record batches with compressed
// bodies. It keeps what the codec allocates from batch to batch.
type compressor struct {
	writer *ipc.Writer
	// schema is set once the writer has given the schema, which is sent by others.
	schema   bool
	metadata []byte
	made     *frame
}

// newCompressor gives nil where nothing is to be compressed.
func newCompressor(schema *arrow.Schema, how merge.Compression) *compressor {
	// Free of this allocator does nothing: the transport reads from the compressed
	// bodies after the writer has released them.
	options := []ipc.Option{ipc.WithSchema(schema), ipc.WithAllocator(memory.NewGoAllocator()), ipc.WithMinSpaceSavings(minSavings)}
	switch how {
	case merge.Uncompressed:
		return nil
	case merge.LZ4Frame:
		options = append(options, ipc.WithLZ4())
	case merge.ZSTD:
		options = append(options, ipc.WithZstd())
	}
	c := &compressor{}
	c.writer = ipc.NewWriterWithPayloadWriter((*payloads)(c), options...)
	return c
}

// frame is the message of a record batch. The record may change once it returns.
func (c *compressor) frame(record arrow.RecordBatch, metadata []byte) (*frame, error) {
	c.made, c.metadata = nil, metadata
	if err := c.writer.Write(record); err != nil {
		return nil, fmt.Errorf("compress a batch: %w", err)
	}
	return c.made, nil
}

// payloads takes what the writer of a compressor makes.
type payloads compressor

// Start implements ipc.PayloadWriter.
func (*payloads) Start() error { return nil }

// WritePayload implements ipc.PayloadWriter.
func (p *payloads) WritePayload(payload ipc.Payload) (err error) {
	if !p.schema {
		p.schema = true
		return nil
	}
	p.made, err = payloadFrame(&payload, p.metadata)
	return err
}

// Close implements ipc.PayloadWriter.
func (*payloads) Close() error { return nil }
