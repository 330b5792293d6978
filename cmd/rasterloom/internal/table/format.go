package table

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/csv"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/rasterloom/rasterloom/internal/layer"
)

// rowGroupBytes is the size of a Parquet row group's values before encoding: what
// is held in memory, about twice.
const rowGroupBytes = 32 << 20

// Format is a form that tables are written in.
type Format func(w io.Writer, schema *arrow.Schema) (Sink, error)

// FormatOf gives the format that the name of a file asks for.
func FormatOf(name string) (Format, error) {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".parquet":
		return Parquet, nil
	case ".csv":
		return CSV, nil
	case ".arrow":
		return ArrowFile, nil
	default:
		return nil, fmt.Errorf("%s: the name says the form, and ends in .parquet, .csv or .arrow; - is an Arrow stream on stdout", name)
	}
}

// ArrowStream writes Arrow's IPC stream.
func ArrowStream(w io.Writer, schema *arrow.Schema) (Sink, error) {
	return ipc.NewWriter(w, ipc.WithSchema(schema)), nil
}

// ArrowFile writes Arrow's IPC file, also known as Feather.
func ArrowFile(w io.Writer, schema *arrow.Schema) (Sink, error) {
	return ipc.NewFileWriter(writeOnly{w}, ipc.WithSchema(schema))
}

// Parquet writes Parquet, with the schema's metadata.
func Parquet(w io.Writer, schema *arrow.Schema) (Sink, error) {
	options := []parquet.WriterProperty{
		parquet.WithVersion(parquet.V2_LATEST), // which has unsigned integers
		parquet.WithCompression(compress.Codecs.Zstd), parquet.WithCompressionLevel(1),
		// Measured values repeat too seldom for dictionaries.
		parquet.WithDictionaryDefault(false), parquet.WithStats(true),
	}
	width := 0
	for _, f := range schema.Fields() {
		t, _ := layer.ParseDataType(f.Type.Name())
		width += t.Width()
		if t == layer.Float32 || t == layer.Float64 {
			// Signs and exponents side by side are what zstd finds something in.
			options = append(options, parquet.WithEncodingFor(f.Name, parquet.Encodings.ByteStreamSplit))
		}
	}
	options = append(options, parquet.WithMaxRowGroupLength(int64(min(max(rowGroupBytes/max(width, 1), 1<<13), 1<<20))))
	out, err := pqarrow.NewFileWriter(schema, writeOnly{w}, parquet.NewWriterProperties(options...), pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema()))
	if err != nil {
		return nil, err
	}
	return parquetSink{out}, nil
}

type parquetSink struct{ *pqarrow.FileWriter }

// Write implements Sink.
func (s parquetSink) Write(batch arrow.RecordBatch) error { return s.WriteBuffered(batch) }

// CSV writes a header and one line a row, floats in the fewest digits that give
// them back, a null as nothing.
func CSV(w io.Writer, schema *arrow.Schema) (Sink, error) {
	if _, err := io.WriteString(w, strings.Join(quoted(schema), ",")+"\n"); err != nil {
		return nil, err
	}
	return csvSink{csv.NewWriter(w, schema, csv.WithHeader(false), csv.WithNullWriter(""))}, nil
}

// quoted are the names of columns as CSV has them. The library's own header comes
// with the first row, and so never for a table without one.
func quoted(schema *arrow.Schema) []string {
	names := make([]string, 0, schema.NumFields())
	for _, f := range schema.Fields() {
		name := f.Name
		if strings.ContainsAny(name, `,"`) {
			name = `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
		}
		names = append(names, name)
	}
	return names
}

type csvSink struct{ *csv.Writer }

// Close implements Sink.
func (s csvSink) Close() error {
	if err := s.Flush(); err != nil {
		return err
	}
	return s.Error()
}

// writeOnly keeps encoders from closing what they write to.
type writeOnly struct{ io.Writer }
