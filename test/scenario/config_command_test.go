package scenario

import (
	"encoding/json"
	"os"
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
		{[]string{"up", "--drain-timeout=soon"}, 2, "--drain-timeout"},
		{[]string{"align", "--colour"}, 2, "unknown flag --colour"},
	} {
		if got := command(t, bin, append([]string{"config", "check"}, c.args...)...); got.status != c.status || !strings.Contains(got.out+got.err, c.want) {
			t.Errorf("check %v: status %d: %s%s", c.args, got.status, got.out, got.err)
		}
	}
}

// Settings come from a file as well: printed with their place, refused with it.
func TestConfigFile(t *testing.T) {
	bin, folder := binaries(t), t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good.yaml", "listen: 127.0.0.1:8400\nlog: {level: error}\nmerger:\n  max-layers: 3\n  ticket-key: hunter2\n")
	got := command(t, bin, "config", "print", "--config", good, "up", "--log-level=debug")
	for _, want := range []string{`--listen +` + good + `:1 +127\.0\.0\.1:8400\n`, `--log-level +flag +debug\n`, `--merger-max-layers +` + good + `:4 +3\n`, `--merger-ticket-key +` + good + `:5 +\*\*\*\n`} {
		if !regexp.MustCompile(want).MatchString(got.out) {
			t.Errorf("no %s in\n%s%s", want, got.out, got.err)
		}
	}
	cases := []struct {
		name   string
		args   []string
		status int
		want   string // of the one line on stderr
	}{
		{"nothing wrong", []string{"config", "check", "--config", good}, 0, ""},
		{"no YAML", []string{"config", "check", "--config", write("a.yaml", "listen: [\n")}, 2, "a.yaml: line 1: did not find expected node content"},
		{"an unknown name", []string{"config", "check", "--config", write("b.yaml", "\nlistn: x\n")}, 2, "b.yaml:2: there is no setting listn; the nearest is listen"},
		{"a bad value", []string{"config", "check", "--config", write("c.yaml", "drain-timeout: soon\n")}, 2, "c.yaml:1: drain-timeout: expected duration"},
		{"values that do not go together", []string{"config", "check", "--config", write("d.yaml", "tls-cert: a.pem\n")}, 1, "--tls-cert comes from " + folder + "/d.yaml:1"},
		{"no file", []string{"align", "--config=/no/such/file"}, 2, "no such file or directory"},
		{"a folder", []string{"align", "--config=" + folder}, 2, "is a directory"},
		{"with a command that asks", []string{"align", "--config", write("e.yaml", "url: http://127.0.0.1:1\n")}, 3, "http://127.0.0.1:1"},
		{"a service", []string{"schema", "--config", write("f.yaml", "listen: 127.0.0.1:0\ndatabase: x\n")}, 2, "f.yaml:2: there is no setting database; the nearest is database-url"},
	}
	for _, c := range cases {
		program := "rasterloom"
		if c.args[0] == "schema" {
			program, c.args = "schema", c.args[1:]
		}
		got := run(t, bin, program, c.args...)
		if got.status != c.status || !strings.Contains(got.err, c.want) || c.status != 0 && !oneLine(got.err) {
			t.Errorf("%s: status %d: %s", c.name, got.status, got.err)
		}
		if strings.Contains(got.err, "hunter2") {
			t.Errorf("%s: a secret is printed", c.name)
		}
	}
	t.Logf("%d cases", len(cases))
}

// oneLine reports whether an error is told in one line, but for its reason.
func oneLine(said string) bool {
	lines := strings.Split(strings.TrimSuffix(said, "\n"), "\n")
	return len(lines) == 1 || len(lines) == 2 && regexp.MustCompile(`^ +[A-Z_]+$`).MatchString(lines[1])
}
