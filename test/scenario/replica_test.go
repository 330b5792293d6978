package scenario

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// replica is a process that a test stops itself.
type replica struct {
	url, flight string
	log         *processLog
	stop        func()
}

// startReplica runs one, in a time zone; it is stopped when the test ends, if not
// before.
func startReplica(t *testing.T, zone, binary string, args ...string) *replica {
	t.Helper()
	cmd := exec.Command(binary, append(args, "--log-level=info", "--log-format=json")...)
	cmd.Env = append(environment(), "TZ="+zone)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := &replica{log: newProcessLog(stderr)}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("%s has ended before its time: %v", filepath.Base(binary), err)
		}
		kill := time.AfterFunc(startLimit, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		for r.log.Scan() { // to its end
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s ended with %v", filepath.Base(binary), err)
		}
	}
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			for line := range strings.SplitSeq(r.log.whole(), "\n") {
				if strings.Contains(line, `"level":"error"`) || strings.Contains(line, `"level":"warn"`) {
					t.Logf("%s: %.1000s", filepath.Base(binary), line)
				}
			}
		}
	})
	r.url, r.flight = serving(t, r.log)
	return r
}
