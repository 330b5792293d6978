package tile

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

func layerOf[T layer.Value](rows, cols int, nodata *float64, chain Chain) layer.Layer {
	l := layer.Layer{
		Name: "birds", Format: layer.FormatTiled, HasGrid: true, StoredType: layer.TypeOf[T](), DeclaredType: layer.TypeOf[T](), Nodata: nodata,
		Grid: grid.Grid{CRS: "EPSG:4326", Rows: rows, Cols: cols, OriginX: -180, OriginY: 90, StepX: 0.1, StepY: 0.1},
	}
	l.Tiling = LayoutOf(l, chain).JSON()
	return l
}

// Every type, in every chain, comes back as it was put in, and what the tile says
// of itself is so.
func TestDecodeInvertsEncode(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	t.Run("uint8", func(t *testing.T) { invert(t, rng, func() uint8 { return uint8(rng.Uint32()) }) })
	t.Run("int8", func(t *testing.T) { invert(t, rng, func() int8 { return int8(rng.Uint32()) }) })
	t.Run("uint16", func(t *testing.T) { invert(t, rng, func() uint16 { return uint16(rng.Uint32()) }) })
	t.Run("int16", func(t *testing.T) { invert(t, rng, func() int16 { return int16(rng.Uint32()) }) })
	t.Run("uint32", func(t *testing.T) { invert(t, rng, func() uint32 { return rng.Uint32() }) })
	t.Run("int32", func(t *testing.T) { invert(t, rng, func() int32 { return int32(rng.Uint32()) }) })
	t.Run("int64", func(t *testing.T) { invert(t, rng, func() int64 { return int64(rng.Uint64()) >> rng.IntN(64) }) })
	t.Run("float32", func(t *testing.T) {
		invert(t, rng, func() float32 { return math.Float32frombits(rng.Uint32()) })
	})
	t.Run("float64", func(t *testing.T) {
		invert(t, rng, func() float64 { return math.Float64frombits(rng.Uint64()) })
	})
}

func invert[T layer.Value](t *testing.T, rng *rand.Rand, random func() T) {
	t.Helper()
	special := []T{0, 1}
	switch any(special).(type) {
	case []float64:
		special = append(special, T(math.Copysign(0, -1)), T(math.Inf(1)), T(math.Inf(-1)), T(math.NaN()))
	case []float32:
		special = append(special, T(math.Copysign(0, -1)), T(math.Inf(1)), T(math.Inf(-1)), T(math.NaN()))
	}
	var scratch Scratch
	for range 30 {
		var nodata *float64
		if rng.IntN(2) == 0 {
			nodata = new(float64(rng.IntN(3)))
		}
		rows, cols := 1+rng.IntN(600), 1+rng.IntN(600)
		l := layerOf[T](rows, cols, nodata, Chains()[rng.IntN(3)])
		encoder, err := NewEncoder(l)
		if err != nil {
			t.Fatal(err)
		}
		decoder, err := NewDecoder[T](l)
		if err != nil {
			t.Fatal(err)
		}
		tileRows, tileCols := Count(l.Grid)
		row, col := int32(rng.IntN(tileRows)), int32(rng.IntN(tileCols))
		values, pool, some := make([]T, Cells), []T{random(), random(), special[rng.IntN(len(special))]}, rng.IntN(2) == 0
		for i := range values {
			if values[i] = random(); some {
				values[i] = pool[rng.IntN(len(pool))]
			}
		}
		var valid []uint64
		if rng.IntN(2) == 0 {
			valid = make([]uint64, bitmapWords)
			for i := range valid {
				valid[i] = rng.Uint64() | rng.Uint64()
			}
		}
		given := slices.Clone(values)
		e, err := encoder.Encode(row, col, values, valid)
		if err != nil {
			t.Fatal(err)
		}
		missing, window := layer.MissingOf[T](l), Window(l.Grid, row, col)
		has := func(i int) bool {
			return int64(i/Side) < window.Rows() && int64(i%Side) < window.Cols() &&
				(valid == nil || valid[i>>6]>>(i&63)&1 == 1) && !missing.Is(given[i])
		}
		want, exactly := int32(0), true
		for i, v := range given {
			if !has(i) {
				continue
			}
			want++
			exactly = exactly && (math.Abs(float64(v)) >= 1<<53 || float64(v) >= e.Min && float64(v) <= e.Max)
			if f := float64(v); f < e.Min || f > e.Max {
				t.Fatalf("%v is outside of [%v, %v]", v, e.Min, e.Max)
			}
		}
		if e.Cells != want || !exactly {
			t.Fatalf("%d cells between %v and %v, want %d", e.Cells, e.Min, e.Max, want)
		}
		if want == 0 {
			continue
		}
		got, mask, err := decoder.Decode(&scratch, e)
		if err != nil {
			t.Fatal(err)
		}
		if e.Valid == nil != (int64(want) == window.Cells()) {
			t.Fatalf("%d of %d cells, and the bitmap is nil: %v", want, window.Cells(), e.Valid == nil)
		}
		for i := range given {
			inside := int64(i/Side) < window.Rows() && int64(i%Side) < window.Cols()
			if gotHas := inside && (mask == nil || mask[i>>6]>>(i&63)&1 == 1); gotHas != has(i) {
				t.Fatalf("cell %d has a value: %v, want %v", i, gotHas, has(i))
			}
			if has(i) && !slices.Equal(bytesOf(got[i:i+1]), bytesOf(given[i:i+1])) {
				t.Fatalf("cell %d is %v, want %v", i, got[i], given[i])
			}
		}
	}
}

// Minimum and maximum bound int64 from outside, and are exact where they can be.
func TestBoundsOfInt64(t *testing.T) {
	for _, v := range []int64{0, 1, -1, 1<<53 + 1, -(1<<53 + 1), math.MaxInt64, math.MinInt64, math.MinInt64 + 1, math.MaxInt64 - 512, 1<<62 + 3} {
		below, above := outward(v, v)
		if below >= 1<<63 || int64(below) > v || above < 1<<63 && int64(above) < v {
			t.Errorf("%d is bounded by %v and %v", v, below, above)
		}
		if f := float64(v); f < 1<<63 && int64(f) == v && (below != f || above != f) {
			t.Errorf("%d is a float64, and bounded by %v and %v", v, below, above)
		}
	}
}

// A layout survives being written down, and what this program cannot read it says.
func TestLayout(t *testing.T) {
	for typ := layer.Uint8; typ <= layer.Float64; typ++ {
		for _, chain := range Chains() {
			y := LayoutOf(layer.Layer{StoredType: typ, Nodata: new(-1.0), Grid: grid.Grid{Rows: 3, Cols: 700}}, chain)
			y.Following = chain == Zstd
			got, err := ParseLayout(y.JSON())
			if chain == ShuffledZstd && typ.Width() == 1 {
				continue
			}
			if err != nil || got != y {
				t.Errorf("%s %s: %+v came back as %+v, %v", typ, chain, y, got, err)
			}
		}
	}
	good := LayoutOf(layer.Layer{StoredType: layer.Int16, Grid: grid.Grid{Rows: 3, Cols: 700}}, Zstd).JSON()
	for old, with := range map[string]string{
		`"rasterloom_tiles":1`: `"rasterloom_tiles":3`, `[256,256]`: `[512,256]`, `"int16"`: `"complex64"`, `"zstd"`: `"blosc"`,
		`,{"name":"crc32c"}`: ``, `[3,700]`: `[3,700,2]`, `"little"`: `"big"`, `{"zarr`: `{zarr`,
	} {
		text := replace(t, good, old, with)
		if _, err := ParseLayout(text); fault.KindOf(err) != fault.Unsupported {
			t.Errorf("%s: %v", text, err)
		}
	}
	// Another writer's level is as good.
	if y, err := ParseLayout(replace(t, good, `"level":1,"checksum":false`, `"level":19`)); err != nil || y.Chain != Zstd {
		t.Errorf("%+v, %v", y, err)
	}
}

// What is wrong with a tile is found, and said with its name; nothing is
// allocated for what it claims.
func TestDecodeRefuses(t *testing.T) {
	values := make([]int32, Cells)
	for i := range values {
		values[i] = int32(i % 1000)
	}
	valid := make([]uint64, bitmapWords)
	for i := range valid {
		valid[i] = 0x5555555555555555
	}
	var scratch Scratch
	for _, chain := range Chains() {
		l := layerOf[int32](300, 300, nil, chain)
		encoder, err := NewEncoder(l)
		if err != nil {
			t.Fatal(err)
		}
		decoder, err := NewDecoder[int32](l)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := encoder.Encode(1, 1, values, valid)
		if err != nil {
			t.Fatal(err)
		}
		// In another order of cells, with its checksum.
		flipped := func(b []byte, at int) []byte {
			b = slices.Clone(b)
			b[at] ^= 1
			return b
		}
		resummed := func(b []byte) []byte { return appendSum(slices.Clone(b), 0) }
		for name, spoil := range map[string]func(*Encoded){
			"a bit of the data":            func(e *Encoded) { e.Data = flipped(e.Data, len(e.Data)/2) },
			"a bit of its checksum":        func(e *Encoded) { e.Data = flipped(e.Data, len(e.Data)-1) },
			"a bit of the bitmap":          func(e *Encoded) { e.Valid = flipped(e.Valid, 0) },
			"data cut off":                 func(e *Encoded) { e.Data = e.Data[:len(e.Data)-10] },
			"data cut off, summed again":   func(e *Encoded) { e.Data = resummed(e.Data[:len(e.Data)-10]) },
			"no data":                      func(e *Encoded) { e.Data = nil },
			"empty data, summed":           func(e *Encoded) { e.Data = resummed(nil) },
			"bitmap cut off":               func(e *Encoded) { e.Valid = e.Valid[:100] },
			"empty bitmap":                 func(e *Encoded) { e.Valid = []byte{} },
			"no bitmap":                    func(e *Encoded) { e.Valid = nil },
			"a bit outside of the grid":    func(e *Encoded) { e.Valid = resummed(flipped(e.Valid[:Cells/8], 255*Side/8)); e.Cells++ },
			"a bit that is not counted":    func(e *Encoded) { e.Valid = resummed(flipped(e.Valid[:Cells/8], 0)) },
			"a cell too many":              func(e *Encoded) { e.Cells++ },
			"more cells than a tile has":   func(e *Encoded) { e.Cells = Cells + 1 },
			"no cell":                      func(e *Encoded) { e.Cells = 0 },
			"fewer than no cell":           func(e *Encoded) { e.Cells = math.MinInt32 },
			"minimum above maximum":        func(e *Encoded) { e.Min = e.Max + 1 },
			"minimum NaN":                  func(e *Encoded) { e.Min = math.NaN() },
			"outside of the grid":          func(e *Encoded) { e.Row = 2 },
			"far outside":                  func(e *Encoded) { e.Row, e.Col = math.MaxInt32, math.MaxInt32 },
			"north of the grid":            func(e *Encoded) { e.Row = -1 },
			"data of a tile and a half":    func(e *Encoded) { e.Data = bomb(t, chain, Cells*6) },
			"data of a thousand tiles":     func(e *Encoded) { e.Data = bomb(t, chain, Cells*4000) },
			"data of three and a half":     func(e *Encoded) { e.Data = bomb(t, chain, Cells*4-1) },
			"what is no frame, but summed": func(e *Encoded) { e.Data = resummed([]byte("tiles")) },
		} {
			e := whole
			spoil(&e)
			var err error
			allocated := testing.AllocsPerRun(1, func() { _, _, err = decoder.Decode(&scratch, e) })
			f := fault.From(err)
			if f == nil || f.Kind != fault.Corrupt || f.Fields["layer"] != "birds" || f.Fields["tile_row"] == "" || f.Fields["tile_col"] == "" {
				t.Errorf("%s, %s: %v", chain, name, err)
			}
			if allocated > 100 {
				t.Errorf("%s, %s: %v allocations", chain, name, allocated)
			}
		}
		if _, _, err := decoder.Decode(&scratch, whole); err != nil {
			t.Errorf("%s: the tile itself: %v", chain, err)
		}
	}
}

// bomb is data of so many zero bytes, in a chain, with its checksum.
func bomb(t *testing.T, chain Chain, size int) []byte {
	t.Helper()
	if chain == Raw {
		return appendSum(make([]byte, size), 0)
	}
	z, err := compressor()
	if err != nil {
		t.Fatal(err)
	}
	return appendSum(z.EncodeAll(make([]byte, size), nil), 0)
}

func TestDecodeRefusesNaN(t *testing.T) {
	l := layerOf[float32](256, 256, nil, Raw)
	values := make([]float32, Cells)
	encoder, err := NewEncoder(l)
	if err != nil {
		t.Fatal(err)
	}
	e, err := encoder.Encode(0, 0, values, nil)
	if err != nil {
		t.Fatal(err)
	}
	values[700] = float32(math.NaN())
	e.Data = appendSum(slices.Clone(bytesOf(values)), 0)
	var scratch Scratch
	decoder, err := NewDecoder[float32](l)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := decoder.Decode(&scratch, e); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("a NaN that is marked as a value: %v", err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	encoder, err := NewEncoder(layerOf[int16](300, 300, nil, Raw))
	if err != nil {
		t.Fatal(err)
	}
	whole := make([]int16, Cells)
	for name, f := range map[string]func() error{
		"outside":      func() error { _, err := encoder.Encode(2, 0, whole, nil); return err },
		"west":         func() error { _, err := encoder.Encode(0, -1, whole, nil); return err },
		"short":        func() error { _, err := encoder.Encode(0, 0, whole[1:], nil); return err },
		"another type": func() error { _, err := encoder.Encode(0, 0, make([]int32, Cells), nil); return err },
		"no values":    func() error { _, err := encoder.Encode(0, 0, nil, nil); return err },
		"short bitmap": func() error { _, err := encoder.Encode(0, 0, whole, make([]uint64, 3)); return err },
	} {
		if err := f(); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	l := layerOf[int16](300, 300, nil, Raw)
	l.Grid.Rows = 301
	if _, err := NewEncoder(l); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("a layout of another grid: %v", err)
	}
}

// Shuffling and back is nothing, in every width; and it is what numcodecs does:
// the golden tiles show that.
func TestUnshuffleInvertsShuffle(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, width := range []int{1, 2, 4, 8} {
		src := make([]byte, 64*width)
		for i := range src {
			src[i] = byte(rng.Uint32())
		}
		planes, back := make([]byte, len(src)), make([]byte, len(src))
		shuffle(planes, src, width)
		unshuffle(back, planes, width)
		if !slices.Equal(src, back) {
			t.Errorf("width %d: %v became %v", width, src, back)
		}
	}
}

// Noise stays raw, rounded values go to zstd, and counting up to shuffled.
func TestTrial(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 3))
	noise, rounded, smooth := make([]float64, Cells), make([]float64, Cells), make([]int32, Cells)
	for i := range noise {
		noise[i] = math.Float64frombits(rng.Uint64()>>2 | 1<<61)
		rounded[i] = math.Round(100*rng.NormFloat64()) / 100
		smooth[i] = int32(i*7 + rng.IntN(3))
	}
	for _, test := range []struct {
		l      layer.Layer
		values any
		want   Chain
	}{
		{layerOf[float64](256, 256, nil, Raw), noise, Raw},
		{layerOf[float64](256, 256, nil, Raw), rounded, Zstd},
		{layerOf[int32](256, 256, nil, Raw), smooth, ShuffledZstd},
		{layerOf[uint8](256, 256, nil, Raw), make([]uint8, Cells), Zstd},
	} {
		trial, err := NewTrial(test.l)
		if err != nil {
			t.Fatal(err)
		}
		if trial.Best() != Raw {
			t.Error("nothing was tried, and the best is not raw")
		}
		if err := trial.Add(0, 0, test.values, nil); err != nil {
			t.Fatal(err)
		}
		if got := trial.Best(); got != test.want {
			t.Errorf("%s: %s, want %s (%d, %d, %d bytes)", test.l.StoredType, got, test.want, trial.Bytes(Raw), trial.Bytes(Zstd), trial.Bytes(ShuffledZstd))
		}
	}
}

func replace(t *testing.T, text, old, with string) string {
	t.Helper()
	for i := range text {
		if i+len(old) <= len(text) && text[i:i+len(old)] == old {
			return text[:i] + with + text[i+len(old):]
		}
	}
	t.Fatalf("%q is not in %s", old, text)
	return ""
}

// Whatever bytes are stored, decoding ends with a tile or with DATA_LOSS, and what
// it gives encodes to a tile that decodes to the same.
func FuzzDecode(f *testing.F) {
	l := layerOf[int16](300, 300, new(7.0), Zstd)
	encoder, err := NewEncoder(l)
	if err != nil {
		f.Fatal(err)
	}
	values := make([]int16, Cells)
	for i := range values {
		values[i] = int16(i >> 12) // so that the frame is small, and every byte of it counts
	}
	e, err := encoder.Encode(1, 1, values, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(e.Row, e.Col, e.Cells, e.Min, e.Max, e.Valid, e.Data[:len(e.Data)-sumBytes], uint8(Zstd))
	f.Add(int32(0), int32(0), int32(Cells), -1., 1., []byte(nil), []byte("raw"), uint8(Raw))
	f.Fuzz(func(t *testing.T, row, col, cells int32, lo, hi float64, valid, data []byte, chain uint8) {
		l := layerOf[int16](300, 300, new(7.0), Chains()[chain%3])
		decoder, err := NewDecoder[int16](l)
		if err != nil {
			t.Fatal(err)
		}
		// With right checksums, so that what comes after them is reached.
		e := Encoded{Row: row, Col: col, Cells: cells, Min: lo, Max: hi, Data: appendSum(slices.Clone(data), 0)}
		if len(valid) > 0 {
			e.Valid = appendSum(slices.Clone(valid), 0)
		}
		var scratch Scratch
		values, mask, err := decoder.Decode(&scratch, e)
		if err != nil {
			if fault.KindOf(err) != fault.Corrupt {
				t.Fatal(err)
			}
			return
		}
		encoder, err := NewEncoder(l)
		if err != nil {
			t.Fatal(err)
		}
		values, mask = slices.Clone(values), slices.Clone(mask)
		again, err := encoder.Encode(row, col, values, mask)
		if err != nil {
			t.Fatal(err)
		}
		if again.Cells == 0 {
			return // every value is nodata
		}
		if _, _, err := decoder.Decode(&scratch, again); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 4))
	rounded := make([]float64, Cells)
	for i := range rounded {
		rounded[i] = math.Round(100*rng.NormFloat64()) / 100
	}
	for _, chain := range Chains() {
		b.Run(chain.String(), func(b *testing.B) {
			l := layerOf[float64](256, 256, nil, chain)
			encoder, err := NewEncoder(l)
			if err != nil {
				b.Fatal(err)
			}
			e, err := encoder.Encode(0, 0, rounded, nil)
			if err != nil {
				b.Fatal(err)
			}
			decoder, err := NewDecoder[float64](l)
			if err != nil {
				b.Fatal(err)
			}
			var scratch Scratch
			for b.Loop() {
				if _, _, err := decoder.Decode(&scratch, e); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(Cells)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mcells/s")
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 4))
	rounded := make([]float64, Cells)
	for i := range rounded {
		rounded[i] = math.Round(100*rng.NormFloat64()) / 100
	}
	for _, chain := range Chains() {
		b.Run(chain.String(), func(b *testing.B) {
			encoder, err := NewEncoder(layerOf[float64](256, 256, new(-9999.0), chain))
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := encoder.Encode(0, 0, rounded, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(Cells)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mcells/s")
		})
	}
}
