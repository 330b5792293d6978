package pgtest

import (
	"testing"
	"time"
)

// pause is what lies between two looks of Within.
const pause = 5 * time.Millisecond

// Within looks until look has nothing more to say, and fails the test with what
// it still says once the promised time is over.
//
// What is promised is for a machine that does nothing else. On one that does,
// whoever looks is as slow as whoever is looked at: so the time is over only when
// there were also as many looks as a quiet machine makes in half of it.
func Within(t testing.TB, promised time.Duration, look func() (still string)) {
	t.Helper()
	began := time.Now()
	for looks := 1; ; looks++ {
		still := look()
		if still == "" {
			return
		}
		if over := time.Since(began); over > promised && looks > int(promised/pause/2) {
			t.Fatalf("%v after %d looks, and %v are promised: %s", over, looks, promised, still)
		}
		<-time.After(pause)
	}
}
