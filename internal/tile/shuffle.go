package tile

import "encoding/binary"

// The codec numcodecs.shuffle: the first bytes of all values, then the second
// ones, and so on. Values that are near one another share their high bytes, which
// then lie side by side. len(dst) is len(src), a multiple of width.

func shuffle(dst, src []byte, width int) {
	n := len(src) / width
	for j := range width {
		plane := dst[j*n : (j+1)*n]
		for i := range plane {
			plane[i] = src[i*width+j]
		}
	}
}

func unshuffle(dst, src []byte, width int) {
	n := len(src) / width
	switch width {
	case 8:
		unshuffle8(dst, src, n)
	case 4:
		p0, p1, p2, p3 := src[:n], src[n:2*n], src[2*n:3*n], src[3*n:4*n]
		for i := range n {
			binary.LittleEndian.PutUint32(dst[4*i:], uint32(p0[i])|uint32(p1[i])<<8|uint32(p2[i])<<16|uint32(p3[i])<<24)
		}
	case 2:
		p0, p1 := src[:n], src[n:2*n]
		for i := range n {
			binary.LittleEndian.PutUint16(dst[2*i:], uint16(p0[i])|uint16(p1[i])<<8)
		}
	default:
		copy(dst, src)
	}
}

// unshuffle8 transposes squares of 8 × 8 bytes: in three rounds, squares of 4, of
// 2 and of 1 change places across the diagonal (Warren, Hacker's Delight, 7-3).
// n, the number of values, is a multiple of 8.
func unshuffle8(dst, src []byte, n int) {
	const (
		low4 = 0x00000000ffffffff
		low2 = 0x0000ffff0000ffff
		low1 = 0x00ff00ff00ff00ff
	)
	for i := 0; i < n; i += 8 {
		var w [8]uint64
		for j := range w {
			w[j] = binary.LittleEndian.Uint64(src[j*n+i:])
		}
		for j := range 4 {
			a, b := w[j], w[j+4]
			w[j], w[j+4] = a&low4|b<<32, a>>32|b&^low4
		}
		for _, j := range [4]int{0, 1, 4, 5} {
			a, b := w[j], w[j+2]
			w[j], w[j+2] = a&low2|b&low2<<16, a>>16&low2|b&^low2
		}
		for _, j := range [4]int{0, 2, 4, 6} {
			a, b := w[j], w[j+1]
			w[j], w[j+1] = a&low1|b&low1<<8, a>>8&low1|b&^low1
		}
		for j := range w {
			binary.LittleEndian.PutUint64(dst[8*(i+j):], w[j])
		}
	}
}
