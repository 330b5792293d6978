package bitmap

import (
	"math/rand/v2"
	"testing"
)

// Bits agree with a plain slice of bools.
func TestBitmapLaws(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 2000 {
		n := 1 + rng.IntN(300)
		truth, b := make([]bool, n), make([]uint64, Words(n))
		for i := range truth {
			if truth[i] = rng.IntN(3) > 0; truth[i] {
				b[i>>6] |= 1 << (i & 63)
			}
		}
		from := rng.IntN(n)
		start, stop := Run(b, from, n)
		wantStart := from
		for wantStart < n && !truth[wantStart] {
			wantStart++
		}
		wantStop := wantStart
		for wantStop < n && truth[wantStop] {
			wantStop++
		}
		if start != wantStart || stop != wantStop {
			t.Fatalf("run from %d of %v is [%d, %d), want [%d, %d)", from, truth, start, stop, wantStart, wantStop)
		}
		k := 1 + rng.IntN(min(64, n-from))
		moved, at := make([]uint64, Words(n+64)), rng.IntN(64)
		Store(moved, at, k, Load(b, from, k))
		for i := range k {
			if moved[(at+i)>>6]>>((at+i)&63)&1 == 1 != truth[from+i] {
				t.Fatalf("bit %d of %d from %d to %d is wrong", i, k, from, at)
			}
		}
		if Ones(moved) != OnesInBoth(moved, moved) {
			t.Fatal("counts differ")
		}
	}
}
