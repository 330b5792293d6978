package schema_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowflight "github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/tile"
	"github.com/rasterloom/rasterloom/services/schema"
)

// What a stream must not hold is refused with its reason, and nothing is stored.
func TestIngestRefuses(t *testing.T) {
	k := startTaker(t, schema.IngestConfig{MaxBytes: 200_000, MaxCells: 1 << 20, MemoryBytes: 2 << 20})
	cells, blocks := cellsSchema(layer.Int16), blocksSchema(layer.Int16)
	spec := specOf("refused", 4, 6, layer.Int16)
	command, err := protojson.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	one := `[{"row": 0, "col": 0, "value": 1}]`
	fields := func(f ...arrow.Field) *arrow.Schema { return arrow.NewSchema(f, nil) }
	i32, i16 := arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int16
	row, col := arrow.Field{Name: "row", Type: i32, Nullable: true}, arrow.Field{Name: "col", Type: i32, Nullable: true}
	nullable := fields(row, col, arrow.Field{Name: "value", Type: i16})
	points := fields(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Float64}, arrow.Field{Name: "y", Type: arrow.PrimitiveTypes.Float64}, arrow.Field{Name: "value", Type: i16})
	with := func(change func(*schemav1.IngestSpec)) []byte {
		s := proto.CloneOf(spec)
		change(s)
		command, err := proto.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return command
	}
	begin := func(s *arrow.Schema) *put { return k.beginCommand(t.Context(), command, s) }
	commanded := func(command []byte) func() (putResult, error) {
		return func() (putResult, error) {
			return k.beginCommand(t.Context(), command, cells).write(cells, one).done()
		}
	}
	raw := func(messages ...*arrowflight.FlightData) func() (putResult, error) {
		return func() (putResult, error) {
			stream, err := k.flight.DoPut(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range messages {
				_ = stream.Send(m)
			}
			return (&put{t: t, stream: stream, writer: arrowflight.NewRecordWriter(stream, ipc.WithSchema(cells))}).result()
		}
	}
	descriptor := &arrowflight.FlightDescriptor{Type: arrowflight.DescriptorCMD, Cmd: command}
	captured := capture(t, cells, one)
	const (
		invalid = grpccodes.InvalidArgument
		limit   = grpccodes.ResourceExhausted
	)
	for name, c := range map[string]struct {
		send   func() (putResult, error)
		code   grpccodes.Code
		reason string
	}{
		"nothing":                    {raw(), invalid, "INVALID_ARGUMENT"},
		"no descriptor":              {raw(&arrowflight.FlightData{DataHeader: captured[0].DataHeader}), invalid, "INVALID_ARGUMENT"},
		"a path":                     {raw(&arrowflight.FlightData{FlightDescriptor: &arrowflight.FlightDescriptor{Type: arrowflight.DescriptorPATH, Path: []string{"x"}}, DataHeader: captured[0].DataHeader}), invalid, "INVALID_ARGUMENT"},
		"empty messages":             {raw(&arrowflight.FlightData{}, &arrowflight.FlightData{}), invalid, "INVALID_ARGUMENT"},
		"a descriptor alone":         {raw(&arrowflight.FlightData{FlightDescriptor: descriptor}), invalid, "INVALID_ARGUMENT"},
		"a garbage header":           {raw(&arrowflight.FlightData{FlightDescriptor: descriptor, DataHeader: []byte("garbage, and not a header")}), invalid, "INVALID_ARGUMENT"},
		"a batch before the schema":  {raw(&arrowflight.FlightData{FlightDescriptor: descriptor, DataHeader: captured[1].DataHeader, DataBody: captured[1].DataBody}), invalid, "INVALID_ARGUMENT"},
		"a second schema":            {raw(&arrowflight.FlightData{FlightDescriptor: descriptor, DataHeader: captured[0].DataHeader}, captured[0]), invalid, "INVALID_ARGUMENT"},
		"a garbage batch":            {raw(&arrowflight.FlightData{FlightDescriptor: descriptor, DataHeader: captured[0].DataHeader}, &arrowflight.FlightData{DataHeader: []byte{4, 0, 0, 0, 255, 255, 255, 255}}), invalid, "INVALID_ARGUMENT"},
		"a body cut off":             {raw(&arrowflight.FlightData{FlightDescriptor: descriptor, DataHeader: captured[0].DataHeader}, &arrowflight.FlightData{DataHeader: captured[1].DataHeader, DataBody: captured[1].DataBody[:8]}), limit, "LIMIT_EXCEEDED"},
		"a body without a header":    {raw(&arrowflight.FlightData{FlightDescriptor: descriptor, DataHeader: captured[0].DataHeader}, &arrowflight.FlightData{DataBody: []byte{1}}), invalid, "INVALID_ARGUMENT"},
		"no command":                 {commanded(nil), invalid, ""},
		"a garbage command":          {commanded([]byte("\xff\xff\xff")), invalid, "INVALID_ARGUMENT"},
		"a garbage JSON command":     {commanded([]byte(`{"nam": 1}`)), invalid, "INVALID_ARGUMENT"},
		"an empty name":              {commanded(with(func(s *schemav1.IngestSpec) { s.Name = "" })), invalid, "INVALID_ARGUMENT"},
		"a name of 64 bytes":         {commanded(with(func(s *schemav1.IngestSpec) { s.Name = string(make([]byte, 64)) })), invalid, "INVALID_ARGUMENT"},
		"a name of SQL":              {commanded(with(func(s *schemav1.IngestSpec) { s.Name = `x"; DROP TABLE y; --` })), invalid, "INVALID_ARGUMENT"},
		"a name that turns the text": {commanded(with(func(s *schemav1.IngestSpec) { s.Name = "x\u202ey" })), invalid, "INVALID_ARGUMENT"},
		"no type":                    {commanded(with(func(s *schemav1.IngestSpec) { s.DataType = 0 })), invalid, "INVALID_ARGUMENT"},
		"no grid":                    {commanded(with(func(s *schemav1.IngestSpec) { s.Lattice = nil })), invalid, "INVALID_ARGUMENT"},
		"a step of 0":                {commanded(with(func(s *schemav1.IngestSpec) { s.GetGrid().StepX = 0 })), invalid, "INVALID_GRID"},
		"a step below 0":             {commanded(with(func(s *schemav1.IngestSpec) { s.GetGrid().StepY = -1 })), invalid, "INVALID_GRID"},
		"an origin of NaN":           {commanded(with(func(s *schemav1.IngestSpec) { s.GetGrid().OriginX = math.NaN() })), invalid, "INVALID_GRID"},
		"a grid too large":           {commanded(with(func(s *schemav1.IngestSpec) { s.GetGrid().Rows = 1 << 19 })), limit, "LIMIT_EXCEEDED"},
		"the grid of no layer":       {commanded(with(func(s *schemav1.IngestSpec) { s.SameGridAs = "nobody" })), grpccodes.NotFound, "LAYER_NOT_FOUND"},
		"a generation of nothing":    {commanded(with(func(s *schemav1.IngestSpec) { s.Mode, s.ReplaceGeneration = 2, 3 })), grpccodes.Aborted, "LAYER_CHANGED"},
		"a generation that is kept":  {commanded(with(func(s *schemav1.IngestSpec) { s.ReplaceGeneration = 3 })), invalid, "INVALID_ARGUMENT"},
		"another type":               {func() (putResult, error) { s := cellsSchema(layer.Int32); return begin(s).write(s, one).done() }, invalid, "INVALID_ARGUMENT"},
		"a text": {func() (putResult, error) {
			s := fields(row, col, arrow.Field{Name: "value", Type: arrow.BinaryTypes.String})
			return begin(s).done()
		}, invalid, "INVALID_ARGUMENT"},
		"a dictionary": {func() (putResult, error) {
			s := fields(row, col, arrow.Field{Name: "value", Type: &arrow.DictionaryType{IndexType: i32, ValueType: i16}})
			return begin(s).done()
		}, invalid, "INVALID_ARGUMENT"},
		"a view": {func() (putResult, error) {
			s := fields(row, col, arrow.Field{Name: "value", Type: arrow.BinaryTypes.StringView})
			return begin(s).done()
		}, invalid, "INVALID_ARGUMENT"},
		"a list": {func() (putResult, error) {
			s := fields(row, col, arrow.Field{Name: "value", Type: arrow.ListOf(i16)})
			return begin(s).done()
		}, invalid, "INVALID_ARGUMENT"},
		"an int64 index": {func() (putResult, error) {
			s := fields(arrow.Field{Name: "row", Type: arrow.PrimitiveTypes.Int64}, col, arrow.Field{Name: "value", Type: i16})
			return begin(s).done()
		}, invalid, "INVALID_ARGUMENT"},
		"a column too many": {func() (putResult, error) {
			s := fields(row, col, arrow.Field{Name: "value", Type: i16}, arrow.Field{Name: "more", Type: i16})
			return begin(s).done()
		}, invalid, "INVALID_ARGUMENT"},
		"a thousand columns": {func() (putResult, error) {
			s := fields(slices.Repeat([]arrow.Field{row}, 1000)...)
			return begin(s).done()
		}, invalid, "INVALID_ARGUMENT"},
		"blocks of another size": {func() (putResult, error) {
			s := fields(arrow.Field{Name: "tile_row", Type: i32}, arrow.Field{Name: "tile_col", Type: i32}, arrow.Field{Name: "values", Type: arrow.FixedSizeListOf(64, i16)})
			return begin(s).done()
		}, invalid, "INVALID_ARGUMENT"},
		"a NULL index": {func() (putResult, error) {
			return begin(nullable).write(nullable, `[{"row": 0, "col": null, "value": 1}]`).done()
		}, invalid, "INVALID_ARGUMENT"},
		"a negative index": {func() (putResult, error) {
			return begin(cells).write(cells, `[{"row": -1, "col": 0, "value": 1}]`).done()
		}, invalid, "CELL_OFF_GRID"},
		"an index too large": {func() (putResult, error) {
			return begin(cells).write(cells, `[{"row": 0, "col": 6, "value": 1}]`).done()
		}, invalid, "CELL_OFF_GRID"},
		"a cell twice": {func() (putResult, error) { return begin(cells).write(cells, one).write(cells, one).done() }, invalid, "DUPLICATE_CELL"},
		"a null cell twice": {func() (putResult, error) {
			return begin(cells).write(cells, `[{"row": 1, "col": 1, "value": null}, {"row": 1, "col": 1, "value": null}]`).done()
		}, invalid, "DUPLICATE_CELL"},
		"a point of NaN": {func() (putResult, error) {
			return begin(points).write(points, `[{"x": "NaN", "y": 5599995, "value": 1}]`).done()
		}, invalid, "CELL_OFF_GRID"},
		"a point off the lattice": {func() (putResult, error) {
			return begin(points).write(points, `[{"x": 500006, "y": 5599995, "value": 1}]`).done()
		}, invalid, "CELL_OFF_GRID"},
		"a point outside": {func() (putResult, error) {
			return begin(points).write(points, `[{"x": 499995, "y": 5599995, "value": 1}]`).done()
		}, invalid, "CELL_OFF_GRID"},
		"a block outside":           {func() (putResult, error) { return begin(blocks).send(block(0, 1)).done() }, invalid, "CELL_OFF_GRID"},
		"a block north of the grid": {func() (putResult, error) { return begin(blocks).send(block(-1, 0)).done() }, invalid, "CELL_OFF_GRID"},
		"a block twice":             {func() (putResult, error) { return begin(blocks).send(block(0, 0)).send(block(0, 0)).done() }, invalid, "DUPLICATE_CELL"},
		"blocks out of order": {func() (putResult, error) {
			return k.beginCommand(t.Context(), with(func(s *schemav1.IngestSpec) { s.GetGrid().Rows = 600 }), blocks).send(block(1, 0)).send(block(0, 0)).done()
		}, invalid, "INVALID_ARGUMENT"},
		"more bytes than the limit": {func() (putResult, error) {
			return k.beginCommand(t.Context(), with(func(s *schemav1.IngestSpec) { s.GetGrid().Rows = 600 }), blocks).send(block(0, 0)).send(block(1, 0)).done()
		}, limit, "LIMIT_EXCEEDED"},
		"a message too large": {func() (putResult, error) { return begin(blocks).send(block(0, 0, 40)).done() }, limit, ""},
		"zstd bodies": {func() (putResult, error) {
			return k.beginCommand(t.Context(), command, cells, ipc.WithZstd()).write(cells, one).done()
		}, limit, "LIMIT_EXCEEDED"},
		"lz4 bodies": {func() (putResult, error) {
			return k.beginCommand(t.Context(), command, cells, ipc.WithLZ4()).write(cells, one).done()
		}, limit, "LIMIT_EXCEEDED"},
		"an early end":              {func() (putResult, error) { return begin(cells).write(cells, one).result() }, invalid, "INVALID_ARGUMENT"},
		"no closing and no rows":    {func() (putResult, error) { return begin(cells).result() }, invalid, "INVALID_ARGUMENT"},
		"a closing that is none":    {func() (putResult, error) { return begin(cells).write(cells, one).close(`{"complete": true}`).result() }, invalid, "INVALID_ARGUMENT"},
		"a closing that is no JSON": {func() (putResult, error) { return begin(cells).write(cells, one).close(`"complete"!`).result() }, invalid, "INVALID_ARGUMENT"},
		"a message of other words":  {func() (putResult, error) { return begin(cells).write(cells, one).close(`hello`).result() }, invalid, "INVALID_ARGUMENT"},
		"an unfinished closing": {func() (putResult, error) {
			return begin(cells).write(cells, one).close(`{"complete": false, "rows": 1}`).result()
		}, invalid, "INVALID_ARGUMENT"},
		"another number of rows": {func() (putResult, error) {
			return begin(cells).write(cells, one).close(`{"complete": true, "rows": 2}`).result()
		}, grpccodes.DataLoss, "DATA_CORRUPT"},
		"another hash": {func() (putResult, error) {
			return begin(cells).write(cells, one).close(`{"complete": true, "rows": 1, "hash": "xxh3-128:0"}`).result()
		}, grpccodes.DataLoss, "DATA_CORRUPT"},
		"rows after the closing": {func() (putResult, error) {
			return begin(cells).write(cells, one).close(`{"complete": true, "rows": 1}`).write(cells, `[{"row": 1, "col": 0, "value": 1}]`).result()
		}, invalid, "INVALID_ARGUMENT"},
		"cells in more tiles than memory":  {cellsOfManyTiles(k, with, cells), limit, "LIMIT_EXCEEDED"},
		"a cell for rows that are written": {lateCells(k, with, cells), invalid, "INVALID_ARGUMENT"},
	} {
		_, err := c.send()
		code, reason, _ := reasonOf(err)
		if err == nil || code != c.code || reason != c.reason && c.reason != "" {
			t.Errorf("%s: %v %s: %v; want %v %s", name, code, reason, err, c.code, c.reason)
		}
		if tables, layers := k.leftovers(); tables != 0 || layers != 0 {
			t.Fatalf("%s: %d tables and %d layers are there", name, tables, layers)
		}
	}
	// The service is as good as before.
	if r := k.must(begin(cells).write(cells, one).done()); r.Cells != 1 {
		t.Errorf("%+v", r)
	}
}

// cellsOfManyTiles sends cells into more tiles than the memory holds, all in one row.
func cellsOfManyTiles(k *taker, with func(func(*schemav1.IngestSpec)) []byte, s *arrow.Schema) func() (putResult, error) {
	return func() (putResult, error) {
		p := k.beginCommand(k.t.Context(), with(func(s *schemav1.IngestSpec) { s.GetGrid().Cols = 1 << 16 }), s)
		for col := 0; col < 1<<16; col += tile.Side {
			p.write(s, fmt.Sprintf(`[{"row": 0, "col": %d, "value": 1}]`, col))
		}
		return p.done()
	}
}

// lateCells sends cells of so many rows that the first ones are written, and then
// one of the first row.
func lateCells(k *taker, with func(func(*schemav1.IngestSpec)) []byte, s *arrow.Schema) func() (putResult, error) {
	return func() (putResult, error) {
		p := k.beginCommand(k.t.Context(), with(func(s *schemav1.IngestSpec) { s.GetGrid().Rows = 1 << 14 }), s)
		for row := 0; row < 1<<14; row += tile.Side {
			p.write(s, fmt.Sprintf(`[{"row": %d, "col": 0, "value": 1}]`, row))
		}
		return p.write(s, `[{"row": 1, "col": 0, "value": 1}]`).done()
	}
}

// block is a batch of a block of int16, or of the same one some times.
func block(row, col int32, times ...int) arrow.RecordBatch {
	n := 1
	if len(times) > 0 {
		n = times[0]
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, blocksSchema(layer.Int16))
	for range n {
		b.Field(0).(*array.Int32Builder).Append(row)
		b.Field(1).(*array.Int32Builder).Append(col)
		list := b.Field(2).(*array.FixedSizeListBuilder)
		list.Append(true)
		list.ValueBuilder().(*array.Int16Builder).AppendValues(make([]int16, tile.Cells), nil)
	}
	return b.NewRecordBatch()
}

// capture gives the messages that a client sends: schema and batch.
func capture(t *testing.T, s *arrow.Schema, rows string) []*arrowflight.FlightData {
	t.Helper()
	record, _, err := array.RecordFromJSON(memory.DefaultAllocator, s, jsonReader(rows))
	if err != nil {
		t.Fatal(err)
	}
	var messages recorder
	w := arrowflight.NewRecordWriter(&messages, ipc.WithSchema(s))
	if err := errors.Join(w.Write(record), w.Close()); err != nil || len(messages) < 2 {
		t.Fatal(err, len(messages))
	}
	return messages
}

type recorder []*arrowflight.FlightData

func (r *recorder) Send(m *arrowflight.FlightData) error {
	*r = append(*r, proto.CloneOf(m))
	return nil
}
