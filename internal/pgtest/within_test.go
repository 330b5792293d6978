package pgtest_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// judged is a test that only says how it failed.
type judged struct {
	testing.TB
	failed string
}

func (*judged) Helper() {}

func (j *judged) Fatalf(format string, args ...any) {
	j.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestWithin(t *testing.T) {
	for name, c := range map[string]struct {
		promised time.Duration
		look     func(n int) string
		failed   string
	}{
		"at once":                       {time.Hour, func(int) string { return "" }, ""},
		"late, for looks are slow":      {100 * time.Millisecond, slow(3, 50*time.Millisecond), ""},
		"late, though looks are quick":  {100 * time.Millisecond, slow(1000, 0), "100ms are promised: still there"},
		"later than slow looks explain": {20 * time.Millisecond, slow(1000, 10*time.Millisecond), "20ms are promised: still there"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, ended := &judged{TB: t}, make(chan struct{})
			go func() {
				defer close(ended)
				n := 0
				pgtest.Within(j, c.promised, func() string { n++; return c.look(n) })
			}()
			<-ended
			if (j.failed == "") != (c.failed == "") || !strings.Contains(j.failed, c.failed) {
				t.Errorf("said %q, want %q", j.failed, c.failed)
			}
		})
	}
}

// slow are looks that find something until the last of them.
func slow(last int, each time.Duration) func(n int) string {
	return func(n int) string {
		<-time.After(each)
		if n == last {
			return ""
		}
		return "still there"
	}
}
