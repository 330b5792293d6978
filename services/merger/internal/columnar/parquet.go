package columnar

import (
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

const (
	// rowGroupBytes is the size of a row group's values before encoding: large
	// enough for readers to work in parallel on, small enough to be held.
	rowGroupBytes = 32 << 20
	// rowGroupStep is what the rows of a row group are a multiple of.
	rowGroupStep = 1 << 13
	maxRowGroup  = 1 << 20
	// zstdLevel 1 is what the codec can do at the speed of the disk; higher
	// levels take a multiple of the time for a few per cent.
	zstdLevel = 1
)

// Parquet writes tables as Parquet files. Their bytes depend on the plan, the
// rows and nothing else: no time, no chance, and not on how the rows came in
// batches, as long as each but the last has the same number of them.
// docs/exports.md says what is in a file.
type Parquet struct {
	// Allocator makes the buffers. Default memory.DefaultAllocator.
	Allocator memory.Allocator
}

// ParquetFile is a file in the making. Close or Discard it on every path.
type ParquetFile struct {
	schema *arrow.Schema
	out    *sink
	writer *pqarrow.FileWriter
	open   bool
}

// New begins a file of a plan's table. w is not closed.
func (p Parquet) New(w io.Writer, plan *merge.Plan) (*ParquetFile, error) {
	allocator := p.Allocator
	if allocator == nil {
		allocator = memory.DefaultAllocator
	}
	schema, err := SchemaOf(plan)
	if err != nil {
		return nil, err
	}
	out := &sink{w}
	writer, err := pqarrow.NewFileWriter(schema, out, properties(plan, allocator),
		// The Arrow schema inside keeps the types that Parquet has no name for.
		pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema(), pqarrow.WithAllocator(allocator)))
	if err != nil {
		return nil, err
	}
	return &ParquetFile{schema: schema, out: out, writer: writer, open: true}, nil
}

// Memory is what a file in the making takes, in bytes: a row group, whose pages
// are encoded, and what is not yet a page, with its levels.
func (Parquet) Memory(plan *merge.Plan) int64 {
	rows, _ := plan.MaxRows()
	const copies = 2
	return int64(copies * float64(min(rows, rowGroupRows(plan))) * (plan.RowBytes() + 2*float64(len(plan.Threads))))
}

// rowGroupRows is the number of rows of a row group.
func rowGroupRows(plan *merge.Plan) int64 {
	rows := int64(rowGroupBytes/plan.RowBytes()) / rowGroupStep * rowGroupStep
	return min(max(rows, rowGroupStep), maxRowGroup)
}

// properties decide the bytes of a file.
func properties(plan *merge.Plan, allocator memory.Allocator) *parquet.WriterProperties {
	options := []parquet.WriterProperty{
		parquet.WithAllocator(allocator),
		parquet.WithVersion(parquet.V2_LATEST), // which has unsigned integers
		parquet.WithCompression(compress.Codecs.Zstd), parquet.WithCompressionLevel(zstdLevel),
		// Measured values repeat too seldom for dictionaries: they cost time and
		// save nothing.
		parquet.WithDictionaryDefault(false),
		parquet.WithStats(true),
		parquet.WithMaxRowGroupLength(rowGroupRows(plan)),
		parquet.WithSortingColumns(sorting(plan)),
	}
	for _, c := range plan.Columns() {
		if c.Type == layer.Float32 || c.Type == layer.Float64 {
			// Signs and exponents side by side are what zstd finds something in.
			options = append(options, parquet.WithEncodingFor(c.Name, parquet.Encodings.ByteStreamSplit))
		}
	}
	return parquet.NewWriterProperties(options...)
}

// sorting names the columns that the rows are sorted by: from north to south,
// then from west to east.
func sorting(plan *merge.Plan) []parquet.SortingColumn {
	const x, y = 0, 1
	switch {
	case plan.Coordinates.XY:
		return []parquet.SortingColumn{{ColumnIdx: y, Descending: true}, {ColumnIdx: x}}
	case plan.Coordinates.RowCol:
		return []parquet.SortingColumn{{ColumnIdx: 0}, {ColumnIdx: 1}}
	default:
		return nil
	}
}

// Write adds the rows [start, stop) of a batch.
func (f *ParquetFile) Write(b *merge.Batch, start, stop int) error {
	record, err := Record(f.schema, b)
	if err != nil {
		return err
	}
	defer record.Release()
	if start > 0 || stop < b.Rows {
		part := record.NewSlice(int64(start), int64(stop))
		defer part.Release()
		return f.writer.WriteBuffered(part)
	}
	return f.writer.WriteBuffered(record)
}

// Close ends the file.
func (f *ParquetFile) Close() error {
	f.open = false
	return f.writer.Close()
}

// Discard gives the file up and frees what it holds. After Close it does
// nothing.
func (f *ParquetFile) Discard() {
	if f.open {
		f.open = false
		f.out.Writer = io.Discard
		_ = f.writer.Close()
	}
}

// sink keeps the encoder from closing what it writes to.
type sink struct{ io.Writer }
