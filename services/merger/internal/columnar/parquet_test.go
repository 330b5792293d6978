package columnar

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// batchRows cuts tables of these tests into several batches, the last a short one.
const batchRows = 5000

var types = []layer.DataType{
	layer.Uint8, layer.Int8, layer.Uint16, layer.Int16, layer.Uint32, layer.Int32, layer.Int64, layer.Float32, layer.Float64,
}

// tablePlan is a merge with a column of every type.
func tablePlan(t *testing.T, coordinates merge.Coordinates) *merge.Plan {
	t.Helper()
	g := grid.Grid{CRS: "EPSG:32633", Rows: 60, Cols: 200, OriginX: 3e5, OriginY: 5e6, StepX: 30, StepY: 30}
	relation, err := grid.Relate(g, g, grid.DefaultTolerancePixels)
	if err != nil {
		t.Fatal(err)
	}
	p := &merge.Plan{Lattice: g, Window: g.Window(), Coordinates: coordinates}
	for _, typ := range types {
		p.Threads = append(p.Threads, merge.Thread{
			Layer:    layer.Layer{Name: typ.String(), Grid: g, HasGrid: true, StoredType: layer.Float64, Format: layer.FormatLegacy, Generation: 1},
			Relation: relation, Column: "of." + typ.String(), Type: typ,
		})
	}
	if err := p.Complete(); err != nil {
		t.Fatal(err)
	}
	return p
}

// batchesOf makes batches of every cell, with extremes and nulls.
func batchesOf(p *merge.Plan, rng *rand.Rand, size int) []*merge.Batch {
	var batches []*merge.Batch
	cells := int(p.Window.Cells())
	for start := 0; start < cells; start += size {
		n := min(size, cells-start)
		b := &merge.Batch{Sequence: int64(len(batches)), FirstRow: int64(start) / p.Window.Cols(), Rows: n}
		for _, c := range p.Columns() {
			v := merge.Vector{Values: reflect.MakeSlice(reflect.SliceOf(goTypes[c.Type]), n, n).Interface()}
			if c.Thread >= 0 {
				v.Valid = make([]uint64, (n+63)/64)
			}
			values := reflect.ValueOf(v.Values)
			for i := range n {
				if c.Thread >= 0 && rng.IntN(5) == 0 {
					v.Nulls++
					continue
				}
				if c.Thread >= 0 {
					v.Valid[i>>6] |= 1 << (i & 63)
				}
				bits := rng.Uint64()
				switch e := values.Index(i); {
				case e.CanInt():
					e.SetInt(int64(bits) >> (64 - e.Type().Bits()))
				case e.CanUint():
					e.SetUint(bits >> (64 - e.Type().Bits()))
				default:
					e.SetFloat([]float64{0, math.Copysign(0, -1), math.Inf(1), math.MaxFloat32, rng.NormFloat64()}[rng.IntN(5)])
				}
			}
			b.Columns = append(b.Columns, v)
		}
		batches = append(batches, b)
	}
	return batches
}

var goTypes = map[layer.DataType]reflect.Type{
	layer.Uint8: reflect.TypeFor[uint8](), layer.Int8: reflect.TypeFor[int8](), layer.Uint16: reflect.TypeFor[uint16](),
	layer.Int16: reflect.TypeFor[int16](), layer.Uint32: reflect.TypeFor[uint32](), layer.Int32: reflect.TypeFor[int32](),
	layer.Int64: reflect.TypeFor[int64](), layer.Float32: reflect.TypeFor[float32](), layer.Float64: reflect.TypeFor[float64](),
}

// Every type comes back bit for bit, and making a file again gives its bytes.
func TestParquetKeepsEveryBit(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, coordinates := range []merge.Coordinates{{XY: true}, {RowCol: true}, {}, {XY: true, RowCol: true}} {
		allocator := memory.NewCheckedAllocator(memory.DefaultAllocator)
		p := tablePlan(t, coordinates)
		batches := batchesOf(p, rand.New(rand.NewPCG(seed, 0)), batchRows)
		var sums [2][sha256.Size]byte
		var out bytes.Buffer
		for i := range sums {
			out.Reset()
			f, err := Parquet{Allocator: allocator}.New(&out, p)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range batches {
				if err := f.Write(b, 0, b.Rows); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			f.Discard() // does nothing now
			sums[i] = sha256.Sum256(out.Bytes())
		}
		if sums[0] != sums[1] {
			t.Error("two files of one table differ")
		}
		allocator.AssertSize(t, 0)
		requireSame(t, p, out.Bytes(), batches)
	}
}

// requireSame reads a file and compares it with batches.
func requireSame(t *testing.T, p *merge.Plan, content []byte, batches []*merge.Batch) {
	t.Helper()
	raw, err := file.NewParquetReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if rows := rowGroupRows(p); raw.MetaData().RowGroup(0).NumRows() > rows || rows%rowGroupStep != 0 {
		t.Errorf("a row group of %d rows, want at most %d", raw.MetaData().RowGroup(0).NumRows(), rows)
	}
	reader, err := pqarrow.NewFileReader(raw, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	table, err := reader.ReadTable(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer table.Release()
	records := array.NewTableReader(table, batchRows)
	defer records.Release()
	schema, err := SchemaOf(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range batches {
		if !records.Next() {
			t.Fatal("rows are missing")
		}
		want, err := Record(schema, b)
		if err != nil {
			t.Fatal(err)
		}
		got := records.RecordBatch()
		for i := range want.Columns() {
			if !arrow.TypeEqual(got.Column(i).DataType(), want.Column(i).DataType()) || !array.Equal(got.Column(i), want.Column(i)) {
				t.Errorf("batch %d: column %s differs", b.Sequence, schema.Field(i).Name)
			}
		}
		// Equal takes -0 and 0 for the same: compare bits.
		last := want.NumCols() - 1
		for j := range b.Rows {
			x, y := got.Column(int(last)).(*array.Float64), want.Column(int(last)).(*array.Float64)
			if x.IsValid(j) && math.Float64bits(x.Value(j)) != math.Float64bits(y.Value(j)) {
				t.Fatalf("batch %d, row %d: %v, want %v", b.Sequence, j, x.Value(j), y.Value(j))
			}
		}
		want.Release()
	}
	if records.Next() {
		t.Error("there are more rows than were written")
	}
}

// brittle fails after so many bytes.
type brittle struct{ left int }

var errBrittle = errors.New("brittle")

func (b *brittle) Write(p []byte) (int, error) {
	if len(p) > b.left {
		return 0, errBrittle
	}
	b.left -= len(p)
	return len(p), nil
}

// A disk that fails, anywhere, gives an error. (The library then keeps a buffer,
// which the garbage collector takes; giving up a file on a good disk keeps none.)
func TestParquetOnAFailingDisk(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	p := tablePlan(t, merge.Coordinates{XY: true})
	batches := batchesOf(p, rng, batchRows)
	write := func(w *brittle, allocator memory.Allocator) (err error) {
		f, err := Parquet{Allocator: allocator}.New(w, p)
		if err != nil {
			return err
		}
		defer f.Discard()
		for i, b := range batches {
			cut := rng.IntN(b.Rows + 1)
			for _, r := range [][2]int{{0, cut}, {cut, b.Rows}} {
				if r[0] == r[1] {
					continue
				}
				if err := f.Write(b, r[0], r[1]); err != nil {
					return fmt.Errorf("batch %d: %w", i, err)
				}
			}
		}
		return f.Close()
	}
	whole := &brittle{left: 1 << 40}
	if err := write(whole, memory.DefaultAllocator); err != nil {
		t.Fatal(err)
	}
	size := 1<<40 - whole.left
	for range 20 {
		at := rng.IntN(size)
		if err := write(&brittle{left: at}, memory.DefaultAllocator); err == nil {
			t.Errorf("no error although only %d of %d bytes could be written", at, size)
		}
	}
	// Given up half-way.
	allocator := memory.NewCheckedAllocator(memory.DefaultAllocator)
	f, err := Parquet{Allocator: allocator}.New(&brittle{left: 1 << 40}, p)
	if err == nil {
		err = f.Write(batches[0], 0, batches[0].Rows)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Discard()
	allocator.AssertSize(t, 0)
}
