package grid

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// The turn with the most overlap, the eastern one of equals, found by trying
// many: what turnsToReach decides from the widths alone must be the same.
func TestTurnsToReachTriesNothingInVain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const step = 0.5
		box := func(name string) Bounds {
			west := step * float64(rapid.IntRange(-1600, 1600).Draw(t, name+" west"))
			return Bounds{MinX: west, MaxX: west + step*float64(rapid.IntRange(1, 900).Draw(t, name+" cols"))}
		}
		src, ref := box("src"), box("ref")
		best, most := 0, math.Inf(-1)
		for turns := -8; turns <= 8; turns++ {
			shift := 360 * float64(turns)
			if overlap := math.Min(src.MaxX+shift, ref.MaxX) - math.Max(src.MinX+shift, ref.MinX); overlap >= most {
				best, most = turns, overlap
			}
		}
		if got := turnsToReach(&src, &ref, step); got != best {
			t.Fatalf("%d turns, want %d with an overlap of %v", got, best, most)
		}
	})
}
