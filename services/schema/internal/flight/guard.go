package flight

import (
	"encoding/binary"

	"github.com/rasterloom/rasterloom/fault"
)

// The messages of Arrow's IPC that a stream may consist of: the union
// MessageHeader of Message.fbs.
const (
	schemaMessage      = 1
	recordBatchMessage = 3
)

// Bounds on the header of a message. Ours take less than a kilobyte; pandas adds
// some to a schema.
const (
	maxHeaderBytes = 64 << 10
	maxFields      = 8
	maxMetadata    = 64
	maxDepth       = 4
)

// guard looks at the header of a message before Arrow's decoder does, which
// believes it: a vector's length becomes an allocation there, and so does the size
// that a compressed buffer claims. The layout of the tables is that of Message.fbs
// and Schema.fbs; every access is checked.
//
// Errors: Invalid for what is no message, or not one of the wanted kind, and Limit
// LIMIT_EXCEEDED for sizes beyond the message and compressed bodies.
func guard(header []byte, bodyBytes int, kind uint8) (err error) {
	if len(header) > maxHeaderBytes {
		return tooLarge("the header of a message has %d bytes, and the limit is %d", len(header), maxHeaderBytes)
	}
	defer func() {
		if p := recover(); p != nil { // an access outside of the header
			err = invalid("a message of the stream is no Arrow message")
		}
	}()
	b := flatbuffer(header)
	message := b.table(b.reference(0))
	if got := b.byteAt(message.field(1)); got != kind {
		switch kind {
		case schemaMessage:
			return invalid("the stream begins with another message than its schema")
		default:
			return invalid("a message of the stream is no record batch: dictionaries and second schemas are not taken")
		}
	}
	body := message.table(2)
	if err := message.metadata(4); err != nil {
		return err
	}
	if kind == schemaMessage {
		return checkSchemaTable(body)
	}
	return checkBatchTable(body, int64(bodyBytes))
}

func checkSchemaTable(schema flatTable) error {
	if at := schema.field(0); at != 0 && schema.b.shortAt(at) != 0 {
		return invalid("the stream is big-endian")
	}
	if err := schema.metadata(2); err != nil {
		return err
	}
	return checkFieldTables(schema, 1, 0)
}

func checkFieldTables(parent flatTable, slot, depth int) error {
	start, n := parent.vector(slot, 4)
	if n > maxFields || depth > maxDepth {
		return invalid("the schema of the stream has %d fields, %d levels deep, which no form has", n, depth+1)
	}
	for i := range n {
		field := parent.b.table(parent.b.reference(start + 4*i))
		if field.field(4) != 0 {
			return invalid("a column of the stream is dictionary-encoded, which is not taken")
		}
		if err := field.metadata(6); err != nil {
			return err
		}
		if err := checkFieldTables(field, 5, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func checkBatchTable(batch flatTable, bodyBytes int64) error {
	if batch.field(3) != 0 {
		return tooLarge("a record batch is compressed: send it uncompressed")
	}
	if at := batch.field(0); at != 0 {
		if rows := batch.b.longAt(at); rows < 0 || rows > 8*max(bodyBytes, 8) {
			return tooLarge("a record batch claims %d rows in a body of %d bytes", rows, bodyBytes)
		}
	}
	const structBytes = 16 // of FieldNode and Buffer: two int64 each
	start, n := batch.vector(1, structBytes)
	if n > maxFields {
		return invalid("a record batch has %d columns, which no form has", n)
	}
	for i := range n {
		length, nulls := batch.b.longAt(start+structBytes*i), batch.b.longAt(start+structBytes*i+8)
		if length < 0 || nulls < 0 || nulls > length || length > 8*max(bodyBytes, 8) {
			return tooLarge("a record batch claims a column of %d values, %d of them null, in a body of %d bytes", length, nulls, bodyBytes)
		}
	}
	start, n = batch.vector(2, structBytes)
	if n > 2*maxFields {
		return invalid("a record batch has %d buffers, which no form has", n)
	}
	for i := range n {
		offset, length := batch.b.longAt(start+structBytes*i), batch.b.longAt(start+structBytes*i+8)
		if offset < 0 || length < 0 || offset > bodyBytes || length > bodyBytes-offset {
			return tooLarge("a record batch claims a buffer of %d bytes from byte %d on, in a body of %d bytes", length, offset, bodyBytes)
		}
	}
	return nil
}

// flatbuffer is a buffer of that format. Accesses outside of it panic.
type flatbuffer []byte

func (b flatbuffer) byteAt(at int) uint8 {
	if at == 0 {
		return 0 // a field that is not there
	}
	return b[at]
}

func (b flatbuffer) shortAt(at int) int16 { return int16(binary.LittleEndian.Uint16(b[at:])) }
func (b flatbuffer) longAt(at int) int64  { return int64(binary.LittleEndian.Uint64(b[at:])) }

// reference follows the offset that stands at a place.
func (b flatbuffer) reference(at int) int { return at + int(binary.LittleEndian.Uint32(b[at:])) }

// table is the table at a place.
func (b flatbuffer) table(at int) flatTable {
	vtable := at - int(int32(binary.LittleEndian.Uint32(b[at:])))
	return flatTable{b: b, at: at, vtable: vtable, size: int(binary.LittleEndian.Uint16(b[vtable:]))}
}

type flatTable struct {
	b                flatbuffer
	at, vtable, size int
}

// field is where a field stands; 0 when it is not there.
func (t flatTable) field(slot int) int {
	entry := 4 + 2*slot
	if entry >= t.size { // as Arrow's decoder has it, whether the entry is whole or not
		return 0
	}
	offset := int(binary.LittleEndian.Uint16(t.b[t.vtable+entry:]))
	if offset == 0 {
		return 0
	}
	return t.at + offset
}

// table is a field that is a table; without it, a panic.
func (t flatTable) table(slot int) flatTable {
	at := t.field(slot)
	if at == 0 {
		at = len(t.b)
	}
	return t.b.table(t.b.reference(at))
}

// vector is a field that is a vector: where its first element stands, and how many
// elements of some size there are, all of them inside the buffer.
func (t flatTable) vector(slot, elementBytes int) (start, n int) {
	at := t.field(slot)
	if at == 0 {
		return 0, 0
	}
	at = t.b.reference(at)
	start, n = at+4, int(binary.LittleEndian.Uint32(t.b[at:]))
	_ = t.b[start : start+n*elementBytes]
	return start, n
}

// metadata checks a field that is a vector of key-value pairs.
func (t flatTable) metadata(slot int) error {
	if _, n := t.vector(slot, 4); n > maxMetadata {
		return invalid("the stream has %d entries of metadata, and the limit is %d", n, maxMetadata)
	}
	return nil
}

// nothing is an allocator that gives nothing: decoding an uncompressed body needs
// no memory beyond the message.
type nothing struct{}

// refused is what nothing panics with, where Arrow's decoder recovers it.
type refused struct{ bytes int }

// Error implements error.
func (r refused) Error() string { return "an allocation was refused" }

// Allocate implements memory.Allocator.
func (nothing) Allocate(size int) []byte {
	if size == 0 {
		return nil
	}
	panic(refused{size}) //nolint:forbidigo // the interface has no error; the decoder recovers
}

// Reallocate implements memory.Allocator.
func (n nothing) Reallocate(size int, _ []byte) []byte { return n.Allocate(size) }

// Free implements memory.Allocator.
func (nothing) Free([]byte) {}

func invalid(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, fault.InvalidArgument, format, args...)
}

func tooLarge(format string, args ...any) *fault.Error {
	return fault.New(fault.Limit, fault.LimitExceeded, format, args...)
}
