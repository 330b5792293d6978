package schema_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/tile"
	"github.com/rasterloom/rasterloom/services/schema"
)

// stored reads a layer's tiles with nothing but SQL and the codec: cell by cell,
// nil where there is none.
func stored[T layer.Value](k *taker, name string) [][]*T {
	k.t.Helper()
	l := k.layer(name)
	decoder, err := tile.NewDecoder[T](l)
	if err != nil {
		k.t.Fatal(err)
	}
	out := make([][]*T, l.Grid.Rows)
	for r := range out {
		out[r] = make([]*T, l.Grid.Cols)
	}
	rows, err := k.pool.Query(k.t.Context(), fmt.Sprintf("SELECT tile_row, tile_col, cells, min, max, valid, data FROM %q.%q", l.Table.Schema, l.Table.Name))
	if err != nil {
		k.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var e tile.Encoded
		if err := rows.Scan(&e.Row, &e.Col, &e.Cells, &e.Min, &e.Max, &e.Valid, &e.Data); err != nil {
			k.t.Fatal(err)
		}
		values, valid, err := decoder.Decode(&tile.Scratch{}, e)
		if err != nil {
			k.t.Fatal(err)
		}
		w := tile.Window(l.Grid, e.Row, e.Col)
		for r := w.RowStart; r < w.RowStop; r++ {
			for c := w.ColStart; c < w.ColStop; c++ {
				at := (r-w.RowStart)*tile.Side + c - w.ColStart
				if valid == nil || valid[at>>6]>>(at&63)&1 == 1 {
					out[r][c] = new(values[at])
				}
			}
		}
	}
	if rows.Err() != nil {
		k.t.Fatal(rows.Err())
	}
	return out
}

// roundTrip sends a raster of random values in each form and compares it with what
// is stored, bit for bit.
func roundTrip[T layer.Value](t *testing.T, k *taker) {
	t.Helper()
	typ := layer.TypeOf[T]()
	rng := rand.New(rand.NewPCG(7, uint64(typ)))
	const rows, cols = 300, 515
	nodata := T(7)
	want := make([][]*T, rows)
	for r := range want {
		want[r] = make([]*T, cols)
		for c := range want[r] {
			switch v := T(rng.Uint64()); {
			case rng.IntN(5) == 0 || v == nodata:
			case r < 256 && c >= 256 && c < 512: // a tile without a value
			default:
				want[r][c] = new(v)
			}
		}
	}
	// What is missing is sent as null, as nodata, and as NaN.
	sent := func(r, c int) (T, bool) {
		if v := want[r][c]; v != nil {
			return *v, true
		}
		if nan := T(0); (typ == layer.Float32 || typ == layer.Float64) && (r+c)%3 == 0 {
			zero := nan
			return zero / nan, true
		}
		return nodata, (r+c)%3 == 1
	}
	check := func(form string, r putResult) {
		t.Helper()
		if r.Generation != 1 || r.Tiles != 5 || r.Repeated {
			t.Errorf("%s as %s: %+v", typ, form, r)
		}
		got, n := stored[T](k, r.Layer), int64(0)
		for r := range want {
			for c := range want[r] {
				a, b := got[r][c], want[r][c]
				if b != nil {
					n++
				}
				if (a == nil) != (b == nil) || a != nil && math.Float64bits(float64(*a)) != math.Float64bits(float64(*b)) {
					t.Fatalf("%s as %s: cell (%d, %d) is %v, want %v", typ, form, r, c, a, b)
				}
			}
		}
		l := k.layer(r.Layer)
		if r.Cells != n || l.StoredType != typ || l.DeclaredType != typ || *l.Nodata != float64(nodata) || l.Format != layer.FormatTiled || l.Grid.Cols != cols {
			t.Errorf("%s as %s: %d cells, want %d, in %+v", typ, form, r.Cells, n, l)
		}
	}
	spec := func(form string) *schemav1.IngestSpec {
		s := specOf(form+"_"+typ.String(), rows, cols, typ)
		s.Nodata = new(float64(nodata))
		return s
	}

	s := blocksSchema(typ)
	p := k.begin(spec("blocks"), s)
	for tr := range 2 {
		for _, tc := range []int{2, 0, 1} { // any order in a row of tiles
			b := array.NewRecordBuilder(memory.DefaultAllocator, s)
			b.Field(0).(*array.Int32Builder).Append(int32(tr))
			b.Field(1).(*array.Int32Builder).Append(int32(tc))
			list := b.Field(2).(*array.FixedSizeListBuilder)
			list.Append(true)
			for i := range tile.Cells {
				r, c := tr*tile.Side+i/tile.Side, tc*tile.Side+i%tile.Side
				if r >= rows || c >= cols {
					appendValue(list.ValueBuilder(), T(i), true) // what is outside of the grid is nothing
					continue
				}
				v, valid := sent(r, c)
				appendValue(list.ValueBuilder(), v, valid)
			}
			p.send(b.NewRecordBatch())
		}
	}
	check("blocks", k.must(p.done()))

	places := rng.Perm(rows * cols)
	s = cellsSchema(typ)
	p = k.begin(spec("cells"), s)
	for part := range slices.Chunk(places, 50_001) {
		b := array.NewRecordBuilder(memory.DefaultAllocator, s)
		for _, at := range part {
			v, valid := sent(at/cols, at%cols)
			b.Field(0).(*array.Int32Builder).Append(int32(at / cols))
			b.Field(1).(*array.Int32Builder).Append(int32(at % cols))
			appendValue(b.Field(2), v, valid)
		}
		p.send(b.NewRecordBatch())
	}
	check("cells", k.must(p.done()))
}

func appendValue[T layer.Value](into array.Builder, v T, valid bool) {
	if !valid {
		into.AppendNull()
		return
	}
	switch b := into.(type) {
	case *array.Uint8Builder:
		b.Append(uint8(v))
	case *array.Int8Builder:
		b.Append(int8(v))
	case *array.Uint16Builder:
		b.Append(uint16(v))
	case *array.Int16Builder:
		b.Append(int16(v))
	case *array.Uint32Builder:
		b.Append(uint32(v))
	case *array.Int32Builder:
		b.Append(int32(v))
	case *array.Int64Builder:
		b.Append(int64(v))
	case *array.Float32Builder:
		b.Append(float32(v))
	case *array.Float64Builder:
		b.Append(float64(v))
	}
}

// Every type comes back bit for bit, whether sent as blocks or as cells.
func TestIngestKeepsEveryValue(t *testing.T) {
	k := startTaker(t, schema.IngestConfig{})
	roundTrip[uint8](t, k)
	roundTrip[int8](t, k)
	roundTrip[uint16](t, k)
	roundTrip[int16](t, k)
	roundTrip[uint32](t, k)
	roundTrip[int32](t, k)
	roundTrip[int64](t, k)
	roundTrip[float32](t, k)
	roundTrip[float64](t, k)
	if tables, layers := k.leftovers(); tables != 0 || layers != 18 {
		t.Errorf("%d tables too many, %d layers", tables, layers)
	}
}

// Points are the centres of cells, given in units of the CRS.
func TestIngestPoints(t *testing.T) {
	k := startTaker(t, schema.IngestConfig{})
	s := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Float64}, {Name: "y", Type: arrow.PrimitiveTypes.Float64}, {Name: "value", Type: arrow.PrimitiveTypes.Int16}}, nil)
	r := k.must(k.begin(specOf("points", 4, 6, layer.Int16), s).write(s, `[{"x": 500005, "y": 5599995, "value": 1}, {"x": 500055.4, "y": 5599965.4, "value": 2}]`).done())
	got := stored[int16](k, "points")
	if r.Cells != 2 || *got[0][0] != 1 || *got[3][5] != 2 {
		t.Errorf("%+v, %v", r, got)
	}
}
