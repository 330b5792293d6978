package boot_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/rasterloom/rasterloom/internal/boot"
)

// programConfig is the Config of the program that this test binary becomes.
type programConfig struct {
	DatabaseURL string `name:"database-url" help:"Where the layers are." env:"TEST_DATABASE_URL"`
	Refuse      bool   `help:"Do not start."`
}

// TestMain runs the tests or, when asked by the environment, is a program of
// the suite: the way to test what only a process does (signals, status, output).
func TestMain(m *testing.M) {
	if os.Getenv("BOOT_TEST_PROGRAM") != "" {
		boot.Main(boot.Program[programConfig]{
			Name: "echo", About: "Answers.", Listen: "127.0.0.1:0",
			New: func(_ context.Context, cfg programConfig, deps boot.Deps) (*boot.Service, error) {
				if cfg.Refuse {
					return nil, fmt.Errorf("connect to %s: no", cfg.DatabaseURL)
				}
				deps.Log.Info("password=" + os.Getenv("PGPASSWORD"))
				return &boot.Service{Name: echoName, Handlers: map[string]http.Handler{"/rasterloom.schema.v1.SchemaService/": http.HandlerFunc(protocolOf)}}, nil
			},
		})
		return
	}
	goleak.VerifyTestMain(m)
}

func program(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), "BOOT_TEST_PROGRAM=1")
	return cmd
}

func TestProgramServesAndDrains(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := program(t.Context(), "--log-format=json")
	cmd.Env = append(cmd.Env, "PGPASSWORD_FILE="+secret)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	var whole strings.Builder
	next := func() map[string]any {
		if !lines.Scan() {
			t.Fatalf("no more lines after %s", whole.String())
		}
		whole.WriteString(lines.Text() + "\n")
		line := map[string]any{}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		return line
	}
	if line := next(); line["msg"] != "password=***" {
		t.Errorf("got %v", line)
	}
	line := next()
	url := fmt.Sprint(line["url"])
	if got, err := get(t, newClient(t), url+"/rasterloom.schema.v1.SchemaService/GetLayer"); err != nil || got != "HTTP/2.0" {
		t.Errorf("got %q, %v from %v", got, err, line)
	}
	listen := strings.TrimPrefix(url, "http://")
	if out, err := program(t.Context(), "healthcheck", "--listen", listen).CombinedOutput(); err != nil {
		t.Errorf("healthcheck: %v: %s", err, out)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for next()["msg"] != "stopped" {
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	if strings.Contains(whole.String(), "hunter2") {
		t.Errorf("the log has the password: %s", whole.String())
	}
	out, err := program(t.Context(), "healthcheck", "--listen", listen).CombinedOutput()
	if exit := (&exec.ExitError{}); !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "no answer from "+listen) {
		t.Errorf("healthcheck of nobody: %v: %s", err, out)
	}
}

func TestProgramFailsInOneLine(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want string
		code int
	}{
		{"address", []string{"--listen=0.0.0.0:0"}, "error: --listen 0.0.0.0:0 can be reached from other machines", 1},
		{"front door", []string{"--refuse", "--database-url=postgres://u:hunter2@db/x"}, "error: connect to postgres://u:***@db/x: no", 1},
		{"flag", []string{"--no-such"}, "unknown flag --no-such", 2},
		{"log level", []string{"--log-level=loud"}, "must be one of", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var stderr bytes.Buffer
			cmd := program(ctx, c.args...)
			cmd.Stderr = &stderr
			err := cmd.Run()
			if exit := (&exec.ExitError{}); !errors.As(err, &exit) || exit.ExitCode() != c.code {
				t.Errorf("ended with %v, want status %d", err, c.code)
			}
			if lines := strings.Count(strings.TrimSpace(stderr.String()), "\n"); lines != 0 || !strings.Contains(stderr.String(), c.want) {
				t.Errorf("said %q, want one line with %q", stderr.String(), c.want)
			}
		})
	}
}
