package tile

import (
	"encoding/binary"
	"hash/crc32"
	"unsafe"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendSum appends the checksum of what b has from an index on.
func appendSum(b []byte, from int) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[from:], castagnoli))
}

// checkedSum takes the checksum off; false where it is wrong or missing.
func checkedSum(b []byte) ([]byte, bool) {
	if len(b) < sumBytes {
		return nil, false
	}
	body, sum := b[:len(b)-sumBytes], b[len(b)-sumBytes:]
	return body, crc32.Checksum(body, castagnoli) == binary.LittleEndian.Uint32(sum)
}

// bytesOf is the memory of values: on a little-endian machine what the codec
// "bytes" makes of them.
func bytesOf[T layer.Value | uint64](values []T) []byte {
	var v T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*int(unsafe.Sizeof(v))) //nolint:gosec // within the slice
}

// valuesOf is the memory of words as values of a tile.
func valuesOf[T layer.Value](b []uint64) []T {
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), Cells) //nolint:gosec // room made it long enough
}

// checkMachine refuses machines on which bytesOf would be wrong.
func checkMachine() error {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return nil
	}
	return fault.New(fault.Unsupported, fault.NotSupported, "tiles are read and written on little-endian machines only")
}
