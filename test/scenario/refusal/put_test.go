package refusal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
)

// ingestSpec is a spec of 4 × 6 cells of 10, from x 1000 and y 2000, that is good
// but for what is said otherwise.
func ingestSpec(name string, change ...string) string {
	return changed(map[string]string{"name": quote(name), "dataType": `"DATA_TYPE_INT16"`, "grid": alignerGrid()}, change)
}

var (
	i16, i32, f64 = arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Float64
	cellsForm     = columns("row", i32, "col", i32, "value", i16)
	pointsForm    = columns("x", f64, "y", f64, "value", i16)
)

// columns makes a schema of names and types; all may be null.
func columns(namesAndTypes ...any) *arrow.Schema {
	var fields []arrow.Field
	for i := 0; i < len(namesAndTypes); i += 2 {
		fields = append(fields, arrow.Field{Name: namesAndTypes[i].(string), Type: namesAndTypes[i+1].(arrow.DataType), Nullable: true})
	}
	return arrow.NewSchema(fields, nil)
}

// recorder keeps the messages that a writer would send.
type recorder []*flight.FlightData

// Send implements flight.DataStreamWriter.
func (r *recorder) Send(m *flight.FlightData) error {
	*r = append(*r, proto.CloneOf(m))
	return nil
}

// sending is a stream of DoPut: as messages, and as a stream of Arrow's.
type sending struct {
	data    []*flight.FlightData
	batches []byte
}

// stream writes rows, given as JSON, in a form.
func stream(t *testing.T, command string, form *arrow.Schema, rows string, options ...ipc.Option) sending {
	t.Helper()
	record, _, err := array.RecordFromJSON(memory.DefaultAllocator, form, strings.NewReader(rows))
	if err != nil {
		t.Fatal(err)
	}
	defer record.Release()
	var messages recorder
	var batches bytes.Buffer
	options = append(options, ipc.WithSchema(form))
	w, file := flight.NewRecordWriter(&messages, options...), ipc.NewWriter(&batches, options...)
	w.SetFlightDescriptor(&flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: []byte(command)})
	if err := errors.Join(w.Write(record), w.Close(), file.Write(record), file.Close()); err != nil || len(messages) < 2 {
		t.Fatal(err, len(messages))
	}
	return sending{messages, batches.Bytes()}
}

// closed is a stream with words at its end.
func (s sending) closed(words string) [][]byte {
	var out [][]byte
	for _, m := range s.data {
		out = append(out, marshal(m))
	}
	if words != "" {
		out = append(out, marshal(&flight.FlightData{AppMetadata: []byte(words)}))
	}
	return out
}

// goodPut stores the layer tiled.
func goodPut(t *testing.T) refusal {
	t.Helper()
	s := stream(t, ingestSpec("tiled"), cellsForm, `[{"row": 0, "col": 0, "value": 1}]`)
	return refusal{Name: "a good stream", Method: flightService + "DoPut", Messages: s.closed(`{"complete": true, "rows": 1}`), code: "ok"}
}

// putRefusals are the rows of DoPut, and of the plan before it. Nothing is stored
// of any.
func putRefusals(t *testing.T, rng *rand.Rand) (list refusals) {
	t.Helper()
	const (
		one  = `[{"row": 0, "col": 0, "value": 1}]`
		done = `{"complete": true, "rows": 1}`
	)
	command := ingestSpec("refused")
	// By all clients, pyarrow too.
	put := func(name, command string, form *arrow.Schema, rows, closing, code, reason string, options ...ipc.Option) {
		t.Helper()
		s := stream(t, command, form, rows, options...)
		list = append(list, refusal{
			Name: name, Method: flightService + "DoPut", Request: command, Messages: s.closed(closing), Batches: s.batches, Closing: closing, code: code, reason: reason,
		})
	}
	// By those that send any bytes.
	raw := func(name, code, reason string, messages ...*flight.FlightData) {
		list = append(list, refusal{Name: name, Method: flightService + "DoPut", Messages: sending{data: messages}.closed(""), NoPyarrow: true, code: code, reason: reason})
	}
	good := stream(t, command, cellsForm, one)
	head, batch := good.data[0], good.data[1]
	with := head.GetFlightDescriptor()
	raw("nothing", "invalid_argument", "INVALID_ARGUMENT")
	raw("no descriptor", "invalid_argument", "INVALID_ARGUMENT", &flight.FlightData{DataHeader: head.DataHeader}, batch)
	raw("a path for a command", "invalid_argument", "INVALID_ARGUMENT", &flight.FlightData{
		FlightDescriptor: &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{"refused"}}, DataHeader: head.DataHeader,
	}, batch)
	raw("empty messages", "invalid_argument", "INVALID_ARGUMENT", &flight.FlightData{}, &flight.FlightData{})
	raw("an empty message in between", "invalid_argument", "INVALID_ARGUMENT", head, &flight.FlightData{}, batch)
	raw("a descriptor alone", "invalid_argument", "INVALID_ARGUMENT", &flight.FlightData{FlightDescriptor: with})
	raw("a garbage header", "invalid_argument", "INVALID_ARGUMENT", &flight.FlightData{FlightDescriptor: with, DataHeader: []byte("garbage, and not a header")})
	raw("a batch before the schema", "invalid_argument", "INVALID_ARGUMENT", &flight.FlightData{FlightDescriptor: with, DataHeader: batch.DataHeader, DataBody: batch.DataBody})
	raw("a second schema", "invalid_argument", "INVALID_ARGUMENT", head, &flight.FlightData{DataHeader: head.DataHeader})
	raw("a garbage batch", "invalid_argument", "INVALID_ARGUMENT", head, &flight.FlightData{DataHeader: []byte{4, 0, 0, 0, 255, 255, 255, 255}})
	raw("a body without a header", "invalid_argument", "INVALID_ARGUMENT", head, &flight.FlightData{DataBody: []byte{1}})
	raw("a body cut off", "resource_exhausted", "LIMIT_EXCEEDED", head, &flight.FlightData{DataHeader: batch.DataHeader, DataBody: batch.DataBody[:8]})
	for i, hostile := range hostileSizes(batch.DataHeader) {
		raw("hostile sizes "+string(rune('a'+i)), "resource_exhausted", "LIMIT_EXCEEDED", head, &flight.FlightData{DataHeader: hostile, DataBody: batch.DataBody})
	}
	raw("a message over the limit", "resource_exhausted", "", head, &flight.FlightData{DataHeader: batch.DataHeader, DataBody: make([]byte, 5<<20)})
	for range 16 { // whatever it then is, it is refused
		header := bytes.Clone(batch.DataHeader)
		for range 3 {
			header[rng.IntN(len(header))] = byte(rng.Uint32())
		}
		raw("a header with garbage in it, and no end", malformed, "", head, &flight.FlightData{DataHeader: header, DataBody: batch.DataBody})
	}

	put("another type", command, columns("row", i32, "col", i32, "value", i32), one, done, "invalid_argument", "INVALID_ARGUMENT")
	put("wide indices", command, columns("row", arrow.PrimitiveTypes.Int64, "col", i32, "value", i16), one, done, "invalid_argument", "INVALID_ARGUMENT")
	put("a column too many", command, columns("row", i32, "col", i32, "value", i16, "more", i16), `[{"row": 0, "col": 0, "value": 1, "more": 1}]`, done, "invalid_argument", "INVALID_ARGUMENT")
	put("other names", command, columns("a", i32, "b", i32, "c", i16), `[{"a": 0, "b": 0, "c": 1}]`, done, "invalid_argument", "INVALID_ARGUMENT")
	put("texts", command, columns("row", i32, "col", i32, "value", arrow.BinaryTypes.String), `[{"row": 0, "col": 0, "value": "1"}]`, done, "invalid_argument", "INVALID_ARGUMENT")
	put("views", command, columns("row", i32, "col", i32, "value", arrow.BinaryTypes.StringView), `[{"row": 0, "col": 0, "value": "1"}]`, done, "invalid_argument", "INVALID_ARGUMENT")
	put("lists", command, columns("row", i32, "col", i32, "value", arrow.ListOf(i16)), `[{"row": 0, "col": 0, "value": [1]}]`, done, "invalid_argument", "INVALID_ARGUMENT")
	put("a dictionary", command, columns("row", i32, "col", i32, "value", &arrow.DictionaryType{IndexType: i32, ValueType: i16}), `[{"row": 0, "col": 0, "value": 1}]`, done, "invalid_argument", "INVALID_ARGUMENT")
	put("a NULL row", command, cellsForm, `[{"row": null, "col": 0, "value": 1}]`, done, "invalid_argument", "INVALID_ARGUMENT")
	put("a NULL column", command, cellsForm, `[{"row": 0, "col": null, "value": 1}]`, done, "invalid_argument", "INVALID_ARGUMENT")
	put("a negative index", command, cellsForm, `[{"row": -1, "col": 0, "value": 1}]`, done, "invalid_argument", "CELL_OFF_GRID")
	put("an index too large", command, cellsForm, `[{"row": 0, "col": 6, "value": 1}]`, done, "invalid_argument", "CELL_OFF_GRID")
	put("a cell twice", command, cellsForm, `[{"row": 1, "col": 1, "value": 1}, {"row": 1, "col": 1, "value": 2}]`, `{"complete": true, "rows": 2}`, "invalid_argument", "DUPLICATE_CELL")
	put("a NaN coordinate", command, pointsForm, `[{"x": "NaN", "y": 1995, "value": 1}]`, done, "invalid_argument", "CELL_OFF_GRID")
	put("an infinite coordinate", command, pointsForm, `[{"x": 1005, "y": "+Inf", "value": 1}]`, done, "invalid_argument", "CELL_OFF_GRID")
	put("a coordinate off the lattice", command, pointsForm, `[{"x": 1006, "y": 1995, "value": 1}]`, done, "invalid_argument", "CELL_OFF_GRID")
	put("a coordinate outside", command, pointsForm, `[{"x": 995, "y": 1995, "value": 1}]`, done, "invalid_argument", "CELL_OFF_GRID")
	put("zstd bodies", command, cellsForm, one, done, "resource_exhausted", "LIMIT_EXCEEDED", ipc.WithZstd())
	list[len(list)-1].Compression = "zstd"
	put("lz4 bodies", command, cellsForm, one, done, "resource_exhausted", "LIMIT_EXCEEDED", ipc.WithLZ4())
	list[len(list)-1].Compression = "lz4"
	put("an early end", command, cellsForm, one, "", "invalid_argument", "INVALID_ARGUMENT")
	put("words that do not close", command, cellsForm, one, `{"complete": true}`, "invalid_argument", "INVALID_ARGUMENT")
	put("another number of rows", command, cellsForm, one, `{"complete": true, "rows": 2}`, "data_loss", "DATA_CORRUPT")
	put("another hash", command, cellsForm, one, `{"complete": true, "rows": 1, "hash": "xxh3-128:0"}`, "data_loss", "DATA_CORRUPT")

	quota := ingestSpec("refused", "grid", alignerGrid("rows", `"600"`, "cols", `"600"`))
	put("over the quota of bytes", quota, cellsForm, "["+strings.TrimSuffix(strings.Repeat(`{"row": 0, "col": 0, "value": 1},`, ingestMaxBytes/2+1), ",")+"]", done, "resource_exhausted", "LIMIT_EXCEEDED")

	plan := func(name, command, code, reason string) {
		put(name, command, cellsForm, one, done, code, reason)
		list.add(ingestService+"PlanIngest", name, object("spec", command), code, reason)
	}
	for _, bad := range []string{"", strings.Repeat("x", 64), "a\x00b", "a\nb", "a\u202eb", `x"; DROP TABLE y; --`} {
		plan("name "+quote(bad), ingestSpec(bad), "invalid_argument", "INVALID_ARGUMENT")
	}
	for name, grid := range badGrids {
		plan("grid: "+name, ingestSpec("refused", "grid", grid), "invalid_argument", "INVALID_GRID")
	}
	plan("no grid", `{"name": "refused", "dataType": "DATA_TYPE_INT16"}`, "invalid_argument", "INVALID_ARGUMENT")
	plan("no type", object("name", `"refused"`, "grid", alignerGrid()), "invalid_argument", "INVALID_ARGUMENT")
	plan("type 99", object("name", `"refused"`, "dataType", "99", "grid", alignerGrid()), "invalid_argument", "INVALID_ARGUMENT")
	plan("mode 99", ingestSpec("refused", "mode", "99"), "invalid_argument", "INVALID_ARGUMENT")
	plan("cells over the limit", ingestSpec("refused", "grid", alignerGrid("rows", `"2000000"`, "cols", `"2000000"`)), "resource_exhausted", "LIMIT_EXCEEDED")
	plan("a layer that is there", ingestSpec("plain"), "already_exists", "LAYER_EXISTS")
	plan("a registered layer is not replaced", ingestSpec("plain", "mode", `"INGEST_MODE_REPLACE"`), "already_exists", "LAYER_EXISTS")
	plan("the grid of no layer", ingestSpec("refused", "sameGridAs", `"nobody"`), "not_found", "LAYER_NOT_FOUND")
	plan("the grid of another layer", ingestSpec("refused", "sameGridAs", `"coarse"`), "failed_precondition", "INVALID_GRID")
	plan("a generation of nothing", ingestSpec("refused", "mode", `"INGEST_MODE_REPLACE"`, "replaceGeneration", `"3"`), "aborted", "LAYER_CHANGED")
	list.add(ingestService+"PlanIngest", "nothing", `{}`, "invalid_argument", "INVALID_ARGUMENT")
	put("no command", "", cellsForm, one, done, "invalid_argument", "")
	put("a garbage command", "\x01\x02", cellsForm, one, done, "invalid_argument", "INVALID_ARGUMENT")
	put("an unknown option", ingestSpec("refused", "path", `"/etc/passwd"`), cellsForm, one, done, "invalid_argument", "INVALID_ARGUMENT")

	var spec schemav1.IngestSpec
	if err := protojson.Unmarshal([]byte(command), &spec); err != nil {
		t.Fatal(err)
	}
	spec.GetGrid().StepX = 0
	put("a bad grid in protobuf", string(marshal(&spec)), cellsForm, one, done, "invalid_argument", "INVALID_GRID")
	list[len(list)-1].NoPyarrow = true // its command goes through JSON here
	return list
}

// hostileSizes are headers of a batch that claim what its body does not have: each
// number of its field nodes and buffers made huge in turn.
func hostileSizes(header []byte) (hostile [][]byte) {
	for at := 0; at+8 <= len(header); at += 8 {
		// Lengths of one cell: 1 value, 2, 4 or 8 bytes.
		if n := binary.LittleEndian.Uint64(header[at:]); n == 1 || n == 2 || n == 4 || n == 8 {
			changed := bytes.Clone(header)
			binary.LittleEndian.PutUint64(changed[at:], 1<<40)
			hostile = append(hostile, changed)
		}
	}
	return hostile
}
