package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1/alignerv1connect"
	"github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1/mergerv1connect"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/boot"
)

// olderServer answers as a release would that has none of today's calls.
func olderServer(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	path, handler := schemav1connect.NewSchemaServiceHandler(schemav1connect.UnimplementedSchemaServiceHandler{})
	mux.Handle(path, handler)
	path, handler = alignerv1connect.NewAlignerServiceHandler(alignerv1connect.UnimplementedAlignerServiceHandler{})
	mux.Handle(path, handler)
	path, handler = mergerv1connect.NewMergerServiceHandler(mergerv1connect.UnimplementedMergerServiceHandler{})
	mux.Handle(path, handler)
	mux.HandleFunc("/grpc.health.v1.Health/Check", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(boot.VersionHeader, "v0.0.1")
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"SERVING_STATUS_SERVING"}`)
	})
	server := httptest.NewUnstartedServer(mux)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

// hangsUp listens and hangs up on whoever says anything, as PostgreSQL and others
// do who do not understand.
func hangsUp(t *testing.T) string {
	t.Helper()
	door, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = door.Close() })
	go func() {
		for {
			conn, err := door.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
	}()
	return "http://" + door.Addr().String()
}

// Whatever is wrong around a command is told in one line, by an exit status that
// says whose fault it is, and leaves no file behind.
func TestBadInput(t *testing.T) {
	bin, folder := binaries(t), t.TempDir()
	tokens := filepath.Join(folder, "tokens")
	line := access.Line(access.Principal{Name: "lab", Role: access.Reader}, access.NewToken(), time.Time{})
	if err := os.WriteFile(tokens, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBroken(t, 2, "--tokens="+tokens, "--anonymous=operator")
	at := "--url=" + b.schema
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	elsewhere, older, nobody := hangsUp(t), olderServer(t), "http://127.0.0.1:1"
	there := filepath.Join(folder, "there.csv")
	if err := os.WriteFile(there, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(folder, "out.parquet")

	type badCase struct {
		name   string
		args   []string
		status int
		want   string
	}
	cases := []badCase{
		{"wrong token", []string{"layers", "list", at, "--token=nonsense"}, 1, "does not know the token that was shown"},
		{"a file of tokens that is none", []string{"layers", "list", at, "--token-file=" + filepath.Join(folder, "none")}, 1, "--token-file"},
		{"unknown layer", []string{"layers", "show", "layre_1", at}, 1, "the nearest to \"layre_1\": layer_1"},
		{"unknown layer of a merge", []string{"merge", "layer_0", "layre_1", "-o", out, at}, 1, "the nearest to \"layre_1\": layer_1"},
		{"unknown reference", []string{"plan", "layer_0", "layer_1", "--reference=nobody", at}, 1, "nobody"},
		{"unknown layer to resample", []string{"plan", "layer_0", "--resampling=layer_9=mode", at}, 1, "neither a column nor a layer"},
		{"an existing file", []string{"merge", "layer_0", "-o", there, at}, 1, "there.csv exists already; --force replaces it"},
		{"no folder", []string{"merge", "layer_0", "-o", filepath.Join(folder, "none", "a.csv"), at}, 1, "a.csv cannot be written, and nothing is: no such file or directory"},
		{"a folder that is a file", []string{"merge", "layer_0", "-o", filepath.Join(there, "a.csv"), at}, 1, "a.csv cannot be written, and nothing is: not a directory"},
		{"a folder that takes no files", []string{"merge", "layer_0", "-o", "/proc/a.csv", at}, 1, "/proc/a.csv cannot be written"},
		{"a form that is none", []string{"merge", "layer_0", "-o", filepath.Join(folder, "a.xlsx"), at}, 1, ".parquet, .csv or .arrow"},
		{"no address", []string{"align", "--url=nonsense"}, 2, `--url "nonsense" is not http://HOST:PORT`},
		{"an address of another kind", []string{"align", "--url=grpc://127.0.0.1:1"}, 2, "is not http://HOST:PORT"},
		{"TLS where there is none", []string{"layers", "list", "--url=https" + strings.TrimPrefix(b.schema, "http")}, 3, "https://"},
		{"a number that is none", []string{"align", "--tolerance=much", at}, 2, "--tolerance"},
		{"a duration that is none", []string{"align", "--timeout=long", at}, 2, "--timeout"},
		{"a word out of an enum", []string{"plan", "layer_0", "--extent=all", at}, 2, "--extent must be one of"},
		{"a flag that is none", []string{"align", "--toleranse=0.1", at}, 2, "unknown flag --toleranse"},
		{"a command that is none", []string{"algin", at}, 2, `did you mean "align"`},
		{"a number out of its range", []string{"align", "layer_0", "layer_1", "--tolerance=0.7", at}, 1, "tolerance_pixels is 0.7"},
		{"no time", []string{"layers", "list", at, "--timeout=1ns"}, 3, "--timeout allows more"},
	}
	// Commands that ask each service, where something else answers, or nothing.
	for _, asks := range [][]string{{"layers", "list"}, {"align", "layer_0", "layer_1"}, {"merge", "layer_0", "-o", out}} {
		for _, where := range []badCase{
			{"nobody", []string{nobody}, 3, "service at " + nobody + ": start the suite with"},
			{"a web server", []string{plain.URL}, 3, "is --url right?"},
			{"something that hangs up", []string{elsewhere}, 3, "is --url right?"},
			{"Flight's port", []string{"http://" + b.flight}, 1, "is --url right?"},
			{"an older release", []string{older}, 1, "is of release v0.0.1 and does not know this call"},
		} {
			cases = append(cases, badCase{strings.Join(asks[:2], " ") + ": " + where.name, append(asks, "--url="+where.args[0]), where.status, where.want})
		}
	}
	for _, c := range cases {
		got := command(t, bin, c.args...)
		if got.status != c.status || !strings.Contains(got.err, c.want) || got.out != "" || !oneLine(got.err) || strings.Contains(got.err, "\x1b") {
			t.Errorf("%s: status %d, want %d and %q:\n%s%s", c.name, got.status, c.status, c.want, got.out, got.err)
		}
		if !strings.Contains(strings.Join(c.args, " "), "merge") && c.status == 1 && strings.HasPrefix(c.name, "unknown layer") {
			said := struct {
				Error struct{ Reason, Message string }
			}{}
			asJSON := command(t, bin, append(c.args, "--output=json")...)
			if err := json.Unmarshal([]byte(asJSON.err), &said); err != nil || said.Error.Message == "" || asJSON.status != c.status {
				t.Errorf("%s: as JSON (%v): %s", c.name, err, asJSON.err)
			}
		}
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 2 {
		t.Errorf("files are left: %v, %v", left, err)
	}
	if text, err := os.ReadFile(there); err != nil || string(text) != "mine" {
		t.Errorf("a file that was there is changed: %q, %v", text, err)
	}

	full := []string{"layers list", "layers list -o json", "align layer_0 layer_1", "plan layer_0", "merge layer_0 -o -", "config print", "version", "completion bash", "sql roles", "doctor"}
	for _, asks := range full {
		got := into(t, bin, "/dev/full", append(strings.Fields(asks), urlOf(asks, at)...)...)
		if got.status != 1 || !strings.Contains(got.err, "no space left on device") || !oneLine(got.err) {
			t.Errorf("%s on a full disk: status %d: %s", asks, got.status, got.err)
		}
	}
	t.Logf("%d cases of bad input, %d of a full disk", len(cases), len(full))
}

// urlOf is the flag that says where the suite is, for the commands that have it.
func urlOf(asks, at string) []string {
	switch strings.Fields(asks)[0] {
	case "config", "version", "completion", "sql":
		return nil
	}
	return []string{at}
}

// into runs a command whose answer goes into a file.
func into(t *testing.T, bin, path string, args ...string) result {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "rasterloom"), args...)
	cmd.Env = environment()
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = file, &stderr
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{err: stderr.String(), status: cmd.ProcessState.ExitCode()}
}

// Ctrl-C, and a reader that goes away, end a command and the server's work for it.
func TestStoppedCommands(t *testing.T) {
	bin, folder := binaries(t), t.TempDir()
	b := newBroken(t, 3)
	const running = "rasterloom_merger_streams_running"
	out := filepath.Join(folder, "a.arrow")
	// 490,000 rows do not fit into what lies between the server and who does not read.
	for _, c := range []struct {
		name   string
		args   []string
		end    func(*exec.Cmd, io.Closer) error
		status int
		signal syscall.Signal
	}{
		{"Ctrl-C", []string{"-o", "-"}, func(cmd *exec.Cmd, _ io.Closer) error { return cmd.Process.Signal(os.Interrupt) }, 130, 0},
		{"SIGTERM", []string{"-o", "-"}, func(cmd *exec.Cmd, _ io.Closer) error { return cmd.Process.Signal(syscall.SIGTERM) }, 130, 0},
		{"a reader that goes away", []string{"-o", "-"}, func(_ *exec.Cmd, pipe io.Closer) error { return pipe.Close() }, -1, syscall.SIGPIPE},
	} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "rasterloom"), append([]string{"merge", "layer_0", "layer_1", "layer_2", "--url=" + b.schema}, c.args...)...)
		cmd.Env = environment()
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// The table comes, and stands still when nobody takes more of it.
		if _, err := io.ReadFull(pipe, make([]byte, 1<<16)); err != nil {
			t.Fatal(err)
		}
		if n := b.metric(t, running); n != 1 {
			t.Fatalf("%s: %v streams are at work", c.name, n)
		}
		if err := c.end(cmd, pipe); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		b.until(t, running, 0)
		gone := time.Since(began)
		_ = cmd.Wait()
		ended := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if cmd.ProcessState.ExitCode() != c.status || c.signal != 0 && ended.Signal() != c.signal || c.signal == 0 && !oneLine(stderr.String()) {
			t.Errorf("%s: %v: %s", c.name, cmd.ProcessState, stderr.String())
		}
		t.Logf("%s: the server's work ended after %v", c.name, gone.Round(time.Millisecond))
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 0 {
		t.Errorf("files are left: %v, %v (%s)", left, err, out)
	}
}

// until waits for a metric.
func (b broken) until(t *testing.T, name string, want float64) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	for b.metric(t, name) != want {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s is %v, and not %v after %v", name, b.metric(t, name), want, startLimit)
		}
	}
}
