package layer

import (
	"math"
	"testing"
)

func TestMissing(t *testing.T) {
	of := func(v float64) *float64 { return &v }
	var (
		nan  = math.NaN()
		zero = 0.0
	)
	for _, test := range []struct {
		name     string
		nodata   *float64
		declared DataType
		missing  []float64
		values   []float64
	}{
		{"none: only NaN", nil, Float64, []float64{nan}, []float64{0, math.Copysign(zero, -1), -9999, math.Inf(1)}},
		{"a number", of(-9999), Float64, []float64{nan, -9999}, []float64{0, 9999}},
		{"zero, said to be nodata", of(0), Float64, []float64{nan, 0, math.Copysign(zero, -1)}, []float64{1}},
		{"NaN", of(nan), Float64, []float64{nan}, []float64{0, -9999}},
		{"infinity", of(math.Inf(-1)), Float64, []float64{math.Inf(-1)}, []float64{math.Inf(1), -math.MaxFloat64}},
		{"decimals of a float32", of(-3.4028235e38), Float32, []float64{-math.MaxFloat32, -3.4028235e38}, []float64{math.Inf(-1)}},
		{"0.1 of a float32", of(0.1), Float32, []float64{0.1, float64(float32(0.1))}, []float64{0.100001}},
		{"0.1 of a float64", of(0.1), Float64, []float64{0.1}, []float64{float64(float32(0.1))}},
		{"past float32", of(1e300), Float32, []float64{1e300}, []float64{math.Inf(1)}},
	} {
		m := MissingOf[float64](Layer{Nodata: test.nodata, DeclaredType: test.declared})
		for _, v := range test.missing {
			if !m.Is(v) {
				t.Errorf("%s: %v is a value", test.name, v)
			}
		}
		for _, v := range test.values {
			if m.Is(v) {
				t.Errorf("%s: %v is missing", test.name, v)
			}
		}
	}
	if m := MissingOf[int16](Layer{Nodata: of(-32768)}); !m.Is(-32768) || m.Is(0) {
		t.Error("int16: -32768 should be missing, and 0 not")
	}
	// What the type cannot hold must match nothing, and not what it wraps to.
	for _, nodata := range []float64{65536, 0.5, nan, math.Inf(1), -1e300, 32768} {
		m := MissingOf[int16](Layer{Nodata: &nodata})
		for v := math.MinInt16; v <= math.MaxInt16; v++ {
			if m.Is(int16(v)) {
				t.Fatalf("int16: nodata %v makes %d missing", nodata, v)
			}
		}
	}
	if huge := float64(1 << 63); MissingOf[int64](Layer{Nodata: &huge}).Is(math.MaxInt64) || MissingOf[int64](Layer{Nodata: &huge}).Is(math.MinInt64) {
		t.Error("int64: nodata 2^63 matches")
	}
	if m := MissingOf[float32](Layer{Nodata: of(1e300)}); m.Is(float32(math.Inf(1))) {
		t.Error("float32: nodata 1e300 makes infinity missing")
	}
}

func TestTypeOf(t *testing.T) {
	for got, want := range map[DataType]DataType{
		TypeOf[uint8](): Uint8, TypeOf[int8](): Int8, TypeOf[uint16](): Uint16, TypeOf[int16](): Int16, TypeOf[uint32](): Uint32,
		TypeOf[int32](): Int32, TypeOf[int64](): Int64, TypeOf[float32](): Float32, TypeOf[float64](): Float64,
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
