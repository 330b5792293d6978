package resample

import (
	"unsafe"

	"golang.org/x/sys/cpu"

	"github.com/rasterloom/rasterloom/internal/layer"
)

// vectors says whether the processor has AVX2. Tests change it.
var vectors = cpu.X86.HasAVX2

// addVectors is addRows for the first columns, as many of them as it gives back:
// a multiple of 8, 0 where there is no code for it.
func addVectors[S layer.Value](sums []float64, values []S, stride int, weights []float64, first bool) int {
	n := len(sums) &^ 7
	if !vectors || n == 0 || len(weights) == 0 {
		return 0
	}
	_ = values[(len(weights)-1)*stride+n-1] // all that is read
	var add func(sums *float64, n int, values unsafe.Pointer, stride int, weights *float64, rows int, first bool)
	switch any(values).(type) {
	case []float32:
		add = addFloat32
	case []float64:
		add = addFloat64
	case []int32:
		add = addInt32
	case []int16:
		add = addInt16
	case []uint16:
		add = addUint16
	case []int8:
		add = addInt8
	case []uint8:
		add = addUint8
	default:
		return 0
	}
	add(&sums[0], n, unsafe.Pointer(&values[0]), stride*int(unsafe.Sizeof(values[0])), &weights[0], len(weights), first) //nolint:gosec // within values, see above
	return n
}

//go:noescape
func addFloat32(sums *float64, n int, values unsafe.Pointer, stride int, weights *float64, rows int, first bool)

//go:noescape
func addFloat64(sums *float64, n int, values unsafe.Pointer, stride int, weights *float64, rows int, first bool)

//go:noescape
func addInt32(sums *float64, n int, values unsafe.Pointer, stride int, weights *float64, rows int, first bool)

//go:noescape
func addInt16(sums *float64, n int, values unsafe.Pointer, stride int, weights *float64, rows int, first bool)

//go:noescape
func addUint16(sums *float64, n int, values unsafe.Pointer, stride int, weights *float64, rows int, first bool)

//go:noescape
func addInt8(sums *float64, n int, values unsafe.Pointer, stride int, weights *float64, rows int, first bool)

//go:noescape
func addUint8(sums *float64, n int, values unsafe.Pointer, stride int, weights *float64, rows int, first bool)
