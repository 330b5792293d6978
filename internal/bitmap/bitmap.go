// Package bitmap reads and writes bitmaps of cells: words of 64 bits, the least
// significant bit first. In the memory of a little-endian machine that is Arrow's
// order of bits. Offsets and lengths are in bits.
package bitmap

import "math/bits"

// Words is the number of words that hold n bits.
func Words(n int) int { return (n + 63) >> 6 }

// Low is a word with its n lowest bits set, 0 <= n <= 64.
func Low(n int) uint64 {
	if n >= 64 {
		return ^uint64(0)
	}
	return 1<<n - 1
}

// Load gives the n bits from offset at, 1 <= n <= 64, in the low end of a word.
func Load(b []uint64, at, n int) uint64 {
	i, s := at>>6, at&63
	w := b[i] >> s
	if got := 64 - s; got < n {
		w |= b[i+1] << got
	}
	return w & Low(n)
}

// Store sets the n bits from offset at to the low end of w, 1 <= n <= 64, where
// the bits of b are still zero and w has no bit above n.
func Store(b []uint64, at, n int, w uint64) {
	i, s := at>>6, at&63
	b[i] |= w << s
	if s+n > 64 {
		b[i+1] |= w >> (64 - s)
	}
}

// Set sets the n bits from offset at.
func Set(b []uint64, at, n int) {
	for n > 0 {
		k := min(n, 64-at&63)
		b[at>>6] |= Low(k) << (at & 63)
		at, n = at+k, n-k
	}
}

// Unset clears the n bits from offset at.
func Unset(b []uint64, at, n int) {
	for n > 0 {
		k := min(n, 64-at&63)
		b[at>>6] &^= Low(k) << (at & 63)
		at, n = at+k, n-k
	}
}

// Move copies the n bits from place from to place to, which lies before it.
func Move(b []uint64, to, from, n int) {
	for done := 0; done < n; done += 64 {
		k := min(64, n-done)
		w := Load(b, from+done, k)
		Unset(b, to+done, k)
		Store(b, to+done, k, w)
	}
}

// SetLow sets the first n bits and clears the rest.
func SetLow(b []uint64, n int) {
	for i := range b {
		b[i] = Low(min(64, max(0, n-64*i)))
	}
}

// Ones counts the bits that are set.
func Ones(b []uint64) (n int64) {
	for _, w := range b {
		n += int64(bits.OnesCount64(w))
	}
	return n
}

// OnesBetween counts the bits that are set in [from, to).
func OnesBetween(b []uint64, from, to int) (n int64) {
	for ; from < to; from += 64 {
		n += int64(bits.OnesCount64(Load(b, from, min(64, to-from))))
	}
	return n
}

// OnesInBoth counts the bits that are set in both.
func OnesInBoth(a, b []uint64) (n int64) {
	for i, w := range a {
		n += int64(bits.OnesCount64(w & b[i]))
	}
	return n
}

// Run finds the first run of set bits at or after from, in a bitmap of n bits:
// [start, stop). start is n if there is none.
func Run(b []uint64, from, n int) (start, stop int) {
	start = Next(b, from, n, 0)
	if start == n {
		return n, n
	}
	return start, Next(b, start, n, ^uint64(0))
}

// Next finds the first bit at or after from that differs from the bits of
// same, which is all zeros or all ones; n if there is none.
func Next(b []uint64, from, n int, same uint64) int {
	if from >= n {
		return n
	}
	i := from >> 6
	w := (b[i] ^ same) >> (from & 63) << (from & 63)
	for w == 0 {
		i++
		if i<<6 >= n {
			return n
		}
		w = b[i] ^ same
	}
	return min(n, i<<6+bits.TrailingZeros64(w))
}
