package columnar

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// Record wraps a batch's buffers as Arrow arrays of the schema of its plan. It
// copies nothing, so it is good only as long as the batch is. Release it.
func Record(schema *arrow.Schema, b *merge.Batch) (arrow.RecordBatch, error) {
	arrays := make([]arrow.Array, 0, len(b.Columns))
	defer func() { releaseAll(arrays) }()
	for i, v := range b.Columns {
		values, err := Bytes(v.Values)
		if err != nil {
			return nil, err
		}
		arrays = append(arrays, arrayOf(schema.Field(i).Type, b.Rows, values, v))
	}
	return array.NewRecordBatch(schema, arrays, int64(b.Rows)), nil
}

// Empty is a record batch without rows. Release it.
func Empty(schema *arrow.Schema) arrow.RecordBatch {
	arrays := make([]arrow.Array, 0, schema.NumFields())
	defer func() { releaseAll(arrays) }()
	for _, f := range schema.Fields() {
		arrays = append(arrays, arrayOf(f.Type, 0, nil, merge.Vector{}))
	}
	return array.NewRecordBatch(schema, arrays, 0)
}

func releaseAll(arrays []arrow.Array) {
	for _, a := range arrays {
		a.Release()
	}
}

// arrayOf wraps the buffers of a column, without copying.
func arrayOf(typ arrow.DataType, rows int, values []byte, v merge.Vector) arrow.Array {
	var bitmap *memory.Buffer
	if v.Nulls > 0 {
		// On a little-endian machine the words are Arrow's bytes.
		bitmap = memory.NewBufferBytes(arrow.GetBytes(v.Valid))
	}
	data := array.NewData(typ, rows, []*memory.Buffer{bitmap, memory.NewBufferBytes(values)}, nil, v.Nulls, 0)
	defer data.Release()
	return array.MakeFromData(data)
}

// Bytes is the memory of a flat slice, as it is in Values of a merge.Vector.
func Bytes(values any) ([]byte, error) {
	switch v := values.(type) {
	case []uint8:
		return v, nil
	case []int8:
		return arrow.GetBytes(v), nil
	case []uint16:
		return arrow.GetBytes(v), nil
	case []int16:
		return arrow.GetBytes(v), nil
	case []uint32:
		return arrow.GetBytes(v), nil
	case []int32:
		return arrow.GetBytes(v), nil
	case []int64:
		return arrow.GetBytes(v), nil
	case []float32:
		return arrow.GetBytes(v), nil
	case []float64:
		return arrow.GetBytes(v), nil
	default:
		return nil, fmt.Errorf("a column came as %T", values)
	}
}
