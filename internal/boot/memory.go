package boot

import (
	"math"
	"os"
	"runtime/debug"
	"sync"
)

// memory has the collector keep the process within what its services have leased
// just now, where it would let garbage double what is held.
type memory struct {
	most int64 // GOMEMLIMIT, which stays the upper bound

	mu     sync.Mutex
	leased int64
}

const (
	// smallBytes is what a process may take before leases count: work that leases
	// nothing, such as a migration, is to find room.
	smallBytes = 256 << 20
	// processBytes is what it takes beside what is leased.
	processBytes = 48 << 20
	// garbagePercent is how much garbage may gather, as a part of what is held; Go's own
	// is 100. What is held are buffers, used again and again and without pointers, which
	// the collector passes over: more cycles cost nothing that could be measured,
	// and in make bench FORM=full the server took 195 MiB at most with 50, and 244 with
	// 100. GOGC sets another.
	garbagePercent = 40
)

func newMemory() *memory {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
	return &memory{most: debug.SetMemoryLimit(-1)}
}

// changed takes note that so many bytes more, or less, are leased.
func (m *memory) changed(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leased += bytes
	debug.SetMemoryLimit(min(m.most, m.limit()))
}

// limit is by leases. These are for the worst moment of each stream, and all streams
// do not have it at once: of 408 MiB that 32 slow streams and 2 fast ones had leased
// 330 were in use. The pages of the program itself (50 MiB) are not in the limit, so
// that seven eighths make the whole process as large as its leases and a tenth.
func (m *memory) limit() int64 {
	if m.leased <= 0 {
		return math.MaxInt64
	}
	return max(smallBytes, processBytes+m.leased/8*7)
}
