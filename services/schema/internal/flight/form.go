package flight

import (
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/rasterloom/rasterloom/internal/contenthash"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/tile"
	"github.com/rasterloom/rasterloom/services/schema/internal/ingest"
)

// form is one of the shapes that record batches of cells come in.
type form uint8

const (
	// blocks: tile_row int32, tile_col int32, values fixed_size_list<T>[65536].
	blocks form = iota
	// cells: row int32, col int32, value T.
	cells
	// points: x float64, y float64, value T.
	points
)

var arrowTypes = map[layer.DataType]arrow.DataType{
	layer.Uint8: arrow.PrimitiveTypes.Uint8, layer.Int8: arrow.PrimitiveTypes.Int8,
	layer.Uint16: arrow.PrimitiveTypes.Uint16, layer.Int16: arrow.PrimitiveTypes.Int16,
	layer.Uint32: arrow.PrimitiveTypes.Uint32, layer.Int32: arrow.PrimitiveTypes.Int32,
	layer.Int64: arrow.PrimitiveTypes.Int64, layer.Float32: arrow.PrimitiveTypes.Float32, layer.Float64: arrow.PrimitiveTypes.Float64,
}

// formOf finds the form of a schema for values of a type. Errors: Invalid, telling
// the forms.
func formOf(schema *arrow.Schema, t layer.DataType) (form, error) {
	value := arrowTypes[t]
	for f, want := range [][3]struct {
		name string
		of   func(arrow.DataType) bool
	}{
		blocks: {{"tile_row", is(arrow.INT32)}, {"tile_col", is(arrow.INT32)}, {"values", isBlock(value)}},
		cells:  {{"row", is(arrow.INT32)}, {"col", is(arrow.INT32)}, {"value", is(value.ID())}},
		points: {{"x", is(arrow.FLOAT64)}, {"y", is(arrow.FLOAT64)}, {"value", is(value.ID())}},
	} {
		fits := schema.NumFields() == len(want)
		for i := 0; fits && i < len(want); i++ {
			field := schema.Field(i)
			fits = field.Name == want[i].name && want[i].of(field.Type)
		}
		if fits {
			return form(f), nil
		}
	}
	got := make([]string, 0, maxFields)
	for _, f := range schema.Fields() {
		got = append(got, fmt.Sprintf("%.80s %.80s", f.Name, f.Type))
	}
	return 0, invalid("the columns of the stream are (%s), and must be (tile_row int32, tile_col int32, values fixed_size_list<%s>[%d]), (row int32, col int32, value %s) or (x float64, y float64, value %s)",
		strings.Join(got, ", "), t, tile.Cells, t, t).With("field", "schema")
}

func is(id arrow.Type) func(arrow.DataType) bool {
	return func(t arrow.DataType) bool { return t.ID() == id }
}

func isBlock(value arrow.DataType) func(arrow.DataType) bool {
	return func(t arrow.DataType) bool {
		list, ok := t.(*arrow.FixedSizeListType)
		return ok && list.Len() == tile.Cells && list.Elem().ID() == value.ID()
	}
}

// columnsOf are the columns of a schema as the content hash takes them.
func columnsOf(schema *arrow.Schema, f form, t layer.DataType) []contenthash.Column {
	of := [][2]layer.DataType{blocks: {layer.Int32, layer.Int32}, cells: {layer.Int32, layer.Int32}, points: {layer.Float64, layer.Float64}}[f]
	columns := []contenthash.Column{{Type: of[0]}, {Type: of[1]}, {Type: t}}
	for i := range columns {
		field := schema.Field(i)
		columns[i].Name, columns[i].Nullable = field.Name, field.Nullable
	}
	if f == blocks {
		columns[2].Nullable = schema.Field(2).Type.(*arrow.FixedSizeListType).ElemField().Nullable
	}
	return columns
}

// column is a column of numbers, or of fixed-size lists of them.
type column struct {
	bytes []byte
	valid []uint64 // nil: all
}

// columnOf checks a column of so many values of a width, and gives it. Arrow's own
// arrays are not asked for more than their buffers: their lengths are claims.
func columnOf(data arrow.ArrayData, name string, values, width int) (column, error) {
	buffers := data.Buffers()
	if data.Len() < values || data.Offset() != 0 || len(buffers) < 2 {
		return column{}, invalid("column %s has %d values, not %d", name, data.Len(), values)
	}
	var c column
	if b := buffers[1]; b != nil {
		c.bytes = b.Bytes()
	}
	if len(c.bytes) < values*width {
		return column{}, invalid("column %s has %d bytes for %d values of %d bytes", name, len(c.bytes), values, width)
	}
	c.bytes = c.bytes[: values*width : values*width]
	var err error
	c.valid, err = bitsOf(data, name, values)
	return c, err
}

// bitsOf gives the validity of a column as words; nil where all values are there.
func bitsOf(data arrow.ArrayData, name string, values int) ([]uint64, error) {
	b := data.Buffers()[0]
	if b == nil || b.Len() == 0 {
		if data.NullN() > 0 {
			return nil, invalid("column %s says that it has %d nulls, and not where", name, data.NullN())
		}
		return nil, nil
	}
	if b.Len() < (values+7)/8 {
		return nil, invalid("column %s has %d bytes for the validity of %d values", name, b.Len(), values)
	}
	words := make([]uint64, (values+63)/64)
	copy(arrow.GetBytes(words), b.Bytes()[:(values+7)/8])
	return words, nil
}

// place gives the two columns that say where the values are. Errors: Invalid for a
// null among them.
func place(record arrow.RecordBatch, width int) (a, b column, err error) {
	rows := int(record.NumRows())
	var both [2]column
	for i := range both {
		name := record.ColumnName(i)
		if both[i], err = columnOf(record.Column(i).Data(), name, rows, width); err != nil {
			return a, b, err
		}
		if at := firstNull(both[i].valid, rows); at >= 0 {
			return a, b, invalid("column %s is null in row %d of a batch", name, at).With("field", name)
		}
	}
	return both[0], both[1], nil
}

func firstNull(valid []uint64, n int) int {
	if valid == nil {
		return -1
	}
	for i := range n {
		if valid[i>>6]>>(i&63)&1 == 0 {
			return i
		}
	}
	return -1
}

// typed is a column's values as a flat slice of their type.
func typed(b []byte, t layer.DataType) any {
	switch t {
	case layer.Uint8:
		return b
	case layer.Int8:
		return arrow.GetData[int8](b)
	case layer.Uint16:
		return arrow.GetData[uint16](b)
	case layer.Int16:
		return arrow.GetData[int16](b)
	case layer.Uint32:
		return arrow.GetData[uint32](b)
	case layer.Int32:
		return arrow.GetData[int32](b)
	case layer.Int64:
		return arrow.GetData[int64](b)
	case layer.Float32:
		return arrow.GetData[float32](b)
	default:
		return arrow.GetData[float64](b)
	}
}

// take gives a batch to the ingest and to the hash. The batch's memory belongs to
// the ingest from then on.
func (f form) take(s *ingest.Stream, hash *contenthash.Hash, record arrow.RecordBatch, t layer.DataType) error {
	rows := int(record.NumRows())
	hash.AddRows(rows)
	width := 4
	if f == points {
		width = 8
	}
	a, b, err := place(record, width)
	if err != nil {
		return err
	}
	hash.Add(0, a.bytes, a.valid)
	hash.Add(1, b.bytes, b.valid)
	if f == blocks {
		return takeBlocks(s, hash, record, a, b, t)
	}
	v, err := columnOf(record.Column(2).Data(), record.ColumnName(2), rows, t.Width())
	if err != nil {
		return err
	}
	hash.Add(2, v.bytes, v.valid)
	if f == points {
		return s.Points(arrow.GetData[float64](a.bytes), arrow.GetData[float64](b.bytes), typed(v.bytes, t), v.valid)
	}
	return s.Cells(arrow.GetData[int32](a.bytes), arrow.GetData[int32](b.bytes), typed(v.bytes, t), v.valid)
}

func takeBlocks(s *ingest.Stream, hash *contenthash.Hash, record arrow.RecordBatch, tileRows, tileCols column, t layer.DataType) error {
	rows := int(record.NumRows())
	list, ok := record.Column(2).(*array.FixedSizeList)
	if !ok || list.Len() != rows {
		return invalid("column values is not what its schema says")
	}
	valid, err := bitsOf(list.Data(), "values", rows)
	if err != nil {
		return err
	}
	if at := firstNull(valid, rows); at >= 0 {
		return invalid("column values is null in row %d of a batch: leave a block without values out", at).With("field", "values")
	}
	v, err := columnOf(list.ListValues().Data(), "values", rows*tile.Cells, t.Width())
	if err != nil {
		return err
	}
	hash.Add(2, v.bytes, v.valid)
	atRow, atCol := arrow.GetData[int32](tileRows.bytes), arrow.GetData[int32](tileCols.bytes)
	size := tile.Cells * t.Width()
	for i := range rows {
		var bits []uint64
		if v.valid != nil {
			bits = v.valid[i*tile.Cells/64 : (i+1)*tile.Cells/64]
		}
		if err := s.Block(atRow[i], atCol[i], typed(v.bytes[i*size:(i+1)*size], t), bits); err != nil {
			return err
		}
	}
	return nil
}
