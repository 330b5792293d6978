package boot

import (
	"runtime/debug"
	"testing"
)

// The limit of the collector follows what is leased, below GOMEMLIMIT, and leaves
// small processes and those without leases alone.
func TestMemoryFollowsLeases(t *testing.T) {
	const mib = 1 << 20
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	m := &memory{most: 700 * mib}
	for i, step := range []struct{ change, want int64 }{
		{100 * mib, 256 * mib},        // small
		{300 * mib, (48 + 350) * mib}, // 400 MiB
		{112 * mib, (48 + 448) * mib}, // 512 MiB: with the program's pages, a tenth more
		{512 * mib, 700 * mib},        // GOMEMLIMIT
		{-1024 * mib, 700 * mib},      // nothing
	} {
		m.changed(step.change)
		if got := debug.SetMemoryLimit(-1); got != step.want {
			t.Errorf("step %d: the limit is %d MiB, want %d", i, got/mib, step.want/mib)
		}
	}
}

// What gathers as garbage is ours to say, unless the environment says it.
func TestGarbageIsHalf(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	for setting, want := range map[string]int{"200": 100, "": garbagePercent} {
		t.Setenv("GOGC", setting)
		newMemory()
		if got := debug.SetGCPercent(100); got != want {
			t.Errorf("with GOGC=%q the collector waits for %d %% of garbage, want %d", setting, got, want)
		}
	}
}
