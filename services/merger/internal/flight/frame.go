package flight

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// Numbers of the fields of arrow.flight.protocol.FlightData.
const (
	fieldDataHeader  protowire.Number = 2
	fieldAppMetadata protowire.Number = 3
	fieldDataBody    protowire.Number = 1000
)

const (
	// pieceBytes is the size of the pieces that a body is handed to the
	// transport in. The transport gives each back as it goes out, so this is
	// how finely a slow consumer's progress shows.
	pieceBytes = 256 << 10
	// smallBytes is what is copied rather than handed over: counting a
	// reference costs more, and grpc-go does not count below 1 KiB.
	smallBytes = 4 << 10
)

// frame is a FlightData message whose body stays where it is: the transport
// reads the columns of the engine's batch from their own memory. done is
// closed once it has no more use for them.
type frame struct {
	header   []byte
	metadata []byte
	body     [][]byte
	rows     bool // a batch with rows

	left atomic.Int64
	// moved counts the pieces that went out.
	moved atomic.Int64
	once  sync.Once
	done  chan struct{}
}

func newFrame(header, metadata []byte) *frame {
	return &frame{header: header, metadata: metadata, done: make(chan struct{})}
}

// recordFrame is the message of a record batch. The record's buffers must not
// change before done is closed.
func recordFrame(record arrow.RecordBatch, metadata []byte, allocator memory.Allocator) (*frame, error) {
	payload, err := ipc.GetRecordBatchPayload(record, ipc.WithAllocator(allocator))
	if err != nil {
		return nil, fmt.Errorf("encode a batch: %w", err)
	}
	defer payload.Release()
	return payloadFrame(&payload, metadata)
}

// payloadFrame is the message of a payload, whose buffers must not change before
// done is closed.
func payloadFrame(payload *ipc.Payload, metadata []byte) (*frame, error) {
	meta := payload.Meta()
	defer meta.Release()
	f := newFrame(bytes.Clone(meta.Bytes()), metadata)
	return f, payload.SerializeBody((*bodyCollector)(f))
}

// bodyCollector keeps the parts of a body. An io.Writer should not; here the
// batch that they belong to outlives them.
type bodyCollector frame

// Write implements io.Writer.
func (c *bodyCollector) Write(part []byte) (int, error) {
	c.body = append(c.body, part)
	return len(part), nil
}

// size is the length of the message.
func (f *frame) size() int64 {
	n := int64(protowire.SizeTag(fieldDataHeader) + protowire.SizeBytes(len(f.header)))
	if len(f.metadata) > 0 {
		n += int64(protowire.SizeTag(fieldAppMetadata) + protowire.SizeBytes(len(f.metadata)))
	}
	if body := f.bodySize(); body > 0 {
		n += int64(protowire.SizeTag(fieldDataBody)+protowire.SizeVarint(uint64(body))) + int64(body)
	}
	return n
}

func (f *frame) bodySize() int {
	n := 0
	for _, part := range f.body {
		n += len(part)
	}
	return n
}

// encode gives the message as the transport takes it.
func (f *frame) encode() mem.BufferSlice {
	head := protowire.AppendTag(nil, fieldDataHeader, protowire.BytesType)
	head = protowire.AppendBytes(head, f.header)
	if len(f.metadata) > 0 {
		head = protowire.AppendTag(head, fieldAppMetadata, protowire.BytesType)
		head = protowire.AppendBytes(head, f.metadata)
	}
	if size := f.bodySize(); size > 0 {
		head = protowire.AppendTag(head, fieldDataBody, protowire.BytesType)
		head = protowire.AppendVarint(head, uint64(size))
	}
	var out mem.BufferSlice
	copied := head
	var pieces [][]byte
	for _, part := range f.body {
		if len(part) < smallBytes {
			copied = append(copied, part...)
			continue
		}
		out = append(out, mem.SliceBuffer(copied))
		copied = nil
		for rest := part; len(rest) > 0; {
			n := min(len(rest), pieceBytes)
			if len(rest)-n < smallBytes {
				n = len(rest)
			}
			pieces = append(pieces, rest[:n:n])
			out = append(out, nil)
			rest = rest[n:]
		}
	}
	if len(copied) > 0 {
		out = append(out, mem.SliceBuffer(copied))
	}
	// Before the first one is out of our hands.
	f.left.Store(int64(len(pieces)) + 1)
	next := 0
	for i := range out {
		if out[i] == nil {
			out[i] = mem.NewBuffer(&pieces[next], f)
			next++
		}
	}
	f.took()
	return out
}

// took counts what the transport has no more use for.
func (f *frame) took() {
	if f.left.Add(-1) == 0 {
		f.once.Do(func() { close(f.done) })
	}
}

// Put implements mem.BufferPool: the transport gives a piece back.
func (f *frame) Put(*[]byte) {
	f.moved.Add(1)
	f.took()
}

// Get implements mem.BufferPool. Nobody asks: the pieces are ours.
func (f *frame) Get(length int) *[]byte {
	b := make([]byte, length)
	return &b
}

// codec encodes frames without copying their bodies, and everything else as
// protobuf.
type codec struct{ encoding.CodecV2 }

// Codec is what a grpc-go server has to be given (grpc.ForceServerCodecV2) to
// serve Flight from this room.
func Codec() encoding.CodecV2 { return codec{encoding.GetCodecV2(proto.Name)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*frame); ok {
		return f.encode(), nil
	}
	return c.CodecV2.Marshal(v)
}
