package flight

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowflight "github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/protobuf/proto"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/tile"
)

// recorder keeps what a writer sends.
type recorder []*arrowflight.FlightData

func (r *recorder) Send(m *arrowflight.FlightData) error {
	*r = append(*r, proto.CloneOf(m))
	return nil
}

// sent gives the messages of a stream: its schema, and a batch of three cells, or
// of one block.
func sent(t testing.TB, shape form, o ...ipc.Option) (schema, batch *arrowflight.FlightData) {
	t.Helper()
	s := arrow.NewSchema([]arrow.Field{{Name: "row", Type: arrow.PrimitiveTypes.Int32}, {Name: "col", Type: arrow.PrimitiveTypes.Int32}, {Name: "value", Type: arrow.PrimitiveTypes.Int16, Nullable: true}}, nil)
	if shape == blocks {
		s = arrow.NewSchema([]arrow.Field{{Name: "tile_row", Type: arrow.PrimitiveTypes.Int32}, {Name: "tile_col", Type: arrow.PrimitiveTypes.Int32}, {Name: "values", Type: arrow.FixedSizeListOf(tile.Cells, arrow.PrimitiveTypes.Int16)}}, nil)
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	n := 3
	if list, ok := b.Field(2).(*array.FixedSizeListBuilder); ok {
		n = 1
		list.Append(true)
		list.ValueBuilder().(*array.Int16Builder).AppendValues(make([]int16, tile.Cells), nil)
	} else {
		b.Field(2).(*array.Int16Builder).AppendValues([]int16{7, 0, -1}, []bool{true, false, true})
	}
	for i := range n {
		b.Field(0).(*array.Int32Builder).Append(int32(i))
		b.Field(1).(*array.Int32Builder).Append(0)
	}
	var messages recorder
	w := arrowflight.NewRecordWriter(&messages, append(o, ipc.WithSchema(s))...)
	if err := errors.Join(w.Write(b.NewRecordBatch()), w.Close()); err != nil || len(messages) < 2 {
		t.Fatal(err, len(messages))
	}
	return messages[0], messages[1]
}

// messages gives what it has, and then an end.
type messages []*arrowflight.FlightData

func (m *messages) Recv() (*arrowflight.FlightData, error) {
	if len(*m) == 0 {
		return nil, io.EOF
	}
	first := (*m)[0]
	*m = (*m)[1:]
	return first, nil
}

func TestGuardPassesWhatArrowWrites(t *testing.T) {
	for _, shape := range []form{blocks, cells} {
		schema, batch := sent(t, shape)
		if err := guard(schema.GetDataHeader(), len(schema.GetDataBody()), schemaMessage); err != nil {
			t.Errorf("form %d, schema: %v", shape, err)
		}
		if err := guard(batch.GetDataHeader(), len(batch.GetDataBody()), recordBatchMessage); err != nil {
			t.Errorf("form %d, batch: %v", shape, err)
		}
		for _, compressed := range []ipc.Option{ipc.WithZstd(), ipc.WithLZ4()} {
			_, batch := sent(t, shape, compressed)
			if err := guard(batch.GetDataHeader(), len(batch.GetDataBody()), recordBatchMessage); fault.KindOf(err) != fault.Limit {
				t.Errorf("form %d, compressed: %v", shape, err)
			}
		}
	}
}

// Whatever a client sends, reading it ends, with values that are in the messages or
// with an error of ours, and without memory for what it claims.
func FuzzMessages(f *testing.F) {
	for _, shape := range []form{blocks, cells} {
		schema, batch := sent(f, shape)
		if shape == blocks { // a body of 128 KiB makes a slow corpus
			batch.DataBody = batch.GetDataBody()[:64]
		}
		f.Add(schema.GetDataHeader(), batch.GetDataHeader(), batch.GetDataBody())
		_, batch = sent(f, shape, ipc.WithLZ4())
		f.Add(schema.GetDataHeader(), batch.GetDataHeader(), batch.GetDataBody())
	}
	f.Fuzz(func(t *testing.T, schemaHeader, header, body []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := read(t, schemaHeader, header, body)
		runtime.ReadMemStats(&after)
		if took, limit := after.TotalAlloc-before.TotalAlloc, uint64(4<<20+16*(len(schemaHeader)+len(header)+len(body))); took > limit {
			t.Fatalf("%d bytes of memory, of %d: %v", took, limit, err)
		}
		if err != nil && fault.KindOf(err) != fault.Invalid && fault.KindOf(err) != fault.Limit {
			t.Fatal(err)
		}
	})
}

func read(t *testing.T, schemaHeader, header, body []byte) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	fed := &feed{ctx: ctx, stall: 1 << 40, came: make(chan *arrowflight.FlightData), ended: make(chan error, 1)}
	fed.peeked = &arrowflight.FlightData{DataHeader: bytes.Clone(schemaHeader)}
	rest := messages{{DataHeader: bytes.Clone(header), DataBody: bytes.Clone(body)}}
	go func() {
		for {
			m, err := rest.Recv()
			if err != nil {
				fed.ended <- err
				return
			}
			select {
			case fed.came <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	reader, err := arrowflight.NewRecordReader(fed, ipc.WithAllocator(nothing{}))
	if err != nil {
		return fed.fault(err)
	}
	defer reader.Release()
	shape, err := formOf(reader.Schema(), layer.Int16)
	if err != nil {
		return err
	}
	for reader.Next() {
		record := reader.RecordBatch()
		width := 4
		if shape == points {
			width = 8
		}
		if _, _, err := place(record, width); err != nil {
			return err
		}
		values := record.Column(2).Data()
		if shape == blocks {
			list, ok := record.Column(2).(*array.FixedSizeList)
			if !ok {
				return invalid("no list")
			}
			values = list.ListValues().Data()
		}
		if _, err := columnOf(values, "values", 1, 2); err != nil {
			return err
		}
	}
	return fed.fault(reader.Err())
}
