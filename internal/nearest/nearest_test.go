package nearest

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestTheNearestComeFirstAndNothingFar(t *testing.T) {
	names := []string{"elevation", "birds", "Bird", "brids", "soil", "nc_relief_b1", "Relief_2000_B1"}
	for _, c := range []struct {
		name string
		n    int
		want []string
	}{
		{"bird", 3, []string{"Bird", "birds"}},
		{"BRIDS", 1, []string{"brids"}},
		{"temperature", 3, nil},
		{"", 3, nil},
		{"relief", 3, []string{"Relief_2000_B1", "nc_relief_b1"}},
		{"b1", 9, nil},
	} {
		if got := To(c.name, names, c.n); !slices.Equal(got, c.want) {
			t.Errorf("%q: %v, want %v", c.name, got, c.want)
		}
	}
}

// Distances are those of the definition, computed the slow way.
func TestEditsByTheDefinition(t *testing.T) {
	var slow func(a, b []rune) int
	slow = func(a, b []rune) int {
		switch {
		case len(a) == 0:
			return len(b)
		case len(b) == 0:
			return len(a)
		case a[0] == b[0]:
			return slow(a[1:], b[1:])
		}
		return 1 + min(slow(a[1:], b), slow(a, b[1:]), slow(a[1:], b[1:]))
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	word := func() []rune {
		w := make([]rune, r.IntN(7))
		for i := range w {
			w[i] = []rune("abé")[r.IntN(3)]
		}
		return w
	}
	for range 500 {
		a, b := word(), word()
		if got, want := edits(a, b, 10), slow(a, b); got != want {
			t.Errorf("edits(%q, %q) = %d, want %d", string(a), string(b), got, want)
		}
	}
}
