package scenario

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What `config print` says is what a command would have, and no secret.
func TestConfigCommand(t *testing.T) {
	bin := binaries(t)
	printed := func(args ...string) map[string][2]string {
		t.Helper()
		got := command(t, bin, append([]string{"config", "print", "-o", "json"}, args...)...)
		var said struct {
			Settings []struct{ Name, Value, Source string }
		}
		if err := json.Unmarshal([]byte(got.out), &said); err != nil || got.status != 0 {
			t.Fatalf("%v: status %d, %v: %s%s", args, got.status, err, got.out, got.err)
		}
		if strings.Contains(got.out, "hunter2") {
			t.Errorf("%v: a secret is printed: %s", args, got.out)
		}
		settings := map[string][2]string{}
		for _, s := range said.Settings {
			settings[s.Name] = [2]string{s.Value, s.Source}
		}
		return settings
	}
	for name, want := range map[string][2]string{
		"--listen": {"127.0.0.1:8400", "flag"}, "--drain-timeout": {"30s", "default"}, "--tls-cert": {"", "unset"},
		"--database-url": {"postgres://u:xxxxx@db/x", "flag"}, "--merger-ticket-key": {"***", "flag"}, "--throwaway": {"false", "unset"},
	} {
		if got := printed("up", "--listen=127.0.0.1:8400", "--database-url=postgres://u:hunter2@db/x", "--merger-ticket-key=hunter2")[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := printed()["--flight-listen"]; got != [2]string{"127.0.0.1:7401", "default"} {
		t.Errorf("--flight-listen is %q", got)
	}
	merge := printed("merge", "birds", "-o", "a.csv", "--min-share=0.5", "--token=hunter2")
	for name, want := range map[string][2]string{"--output": {"a.csv", "flag"}, "--min-share": {"0.5", "flag"}, "--tolerance": {"", "unset"}, "--token": {"***", "flag"}} {
		if merge[name] != want {
			t.Errorf("merge: %s is %q, want %q", name, merge[name], want)
		}
	}
	fromOutside := exec.CommandContext(t.Context(), filepath.Join(bin, "rasterloom"), "config", "print")
	fromOutside.Env = append(environment(), "RASTERLOOM_LISTEN=127.0.0.1:9000")
	if out, err := fromOutside.Output(); err != nil || !regexp.MustCompile(`--listen +RASTERLOOM_LISTEN +127\.0\.0\.1:9000\n`).Match(out) {
		t.Errorf("--listen from the environment (%v):\n%s", err, out)
	}
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{nil, 0, "go together"},
		{[]string{"up", "--tls-cert=a.pem"}, 1, "--tls-cert and --tls-key come together"},
		{[]string{"up", "--database-url=postgres:///x", "--throwaway"}, 1, "give one of them"},
		{[]string{"up", "--drain-timeout=soon"}, 1, "--drain-timeout"},
		{[]string{"align", "--colour"}, 1, "unknown flag --colour"},
	} {
		if got := command(t, bin, append([]string{"config", "check"}, c.args...)...); got.status != c.status || !strings.Contains(got.out+got.err, c.want) {
			t.Errorf("check %v: status %d: %s%s", c.args, got.status, got.out, got.err)
		}
	}
}
