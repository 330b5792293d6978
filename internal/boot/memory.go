package boot

import (
	"os"
	"runtime/debug"
)

// processBytes is what a process takes beside the memory that its services lease.
const processBytes = 32 << 20

// limitMemory has the collector keep the process within what its services may
// lease, and not let garbage double it. GOMEMLIMIT overrides that.
func limitMemory(services []*Service) {
	var leased int64
	for _, s := range services {
		leased += s.MemoryBytes
	}
	if _, told := os.LookupEnv("GOMEMLIMIT"); !told && leased > 0 {
		debug.SetMemoryLimit(leased + processBytes)
	}
}
