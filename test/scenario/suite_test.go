package scenario

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1/alignerv1connect"
	"github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1/mergerv1connect"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// startLimit bounds the start and the end of a process.
const startLimit = 60 * time.Second

// suite is a running suite, however many processes it is.
type suite struct {
	http                    *http.Client
	schema, aligner, merger string // URLs
	flight                  string // HOST:PORT
	pid                     int    // of the one process; 0 where there are three
}

func (s suite) schemaClient() schemav1connect.SchemaServiceClient {
	return schemav1connect.NewSchemaServiceClient(s.http, s.schema)
}

func (s suite) alignerClient() alignerv1connect.AlignerServiceClient {
	return alignerv1connect.NewAlignerServiceClient(s.http, s.aligner)
}

func (s suite) mergerClient() mergerv1connect.MergerServiceClient {
	return mergerv1connect.NewMergerServiceClient(s.http, s.merger)
}

func (s suite) flightClient(t *testing.T) flight.Client {
	t.Helper()
	client, err := flight.NewClientWithMiddleware(s.flight, nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

// built builds the four commands as they are now, into a folder of the checkout that git ignores.
var built = sync.OnceValues(func() (string, error) {
	dir, err := filepath.Abs("../../.bin/scenario")
	if err != nil {
		return "", err
	}
	for folder, command := range map[string]string{
		"cmd/rasterloom": ".", "services/aligner": "./cmd/aligner", "services/schema": "./cmd/schema", "services/merger": "./cmd/merger",
	} {
		cmd := exec.CommandContext(context.Background(), "go", "build", "-o", dir+string(filepath.Separator), command)
		cmd.Dir = filepath.Join("..", "..", folder)
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", folder, err, out)
		}
	}
	return dir, nil
})

// binaries is the folder of rasterloom, aligner, schema and merger.
func binaries(t *testing.T) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// environment is ours without what would tell a process more than the test does.
func environment() []string {
	own := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "RASTERLOOM_") || strings.HasPrefix(v, "DATABASE_URL=") || strings.HasPrefix(v, "PG")
	})
	// Not the settings of whoever runs the tests.
	return append(own, "RASTERLOOM_CONFIG="+os.DevNull)
}

// processLog keeps what a process says, and hands it out line by line. It is read
// as it comes: a process that cannot write its log stands still.
type processLog struct {
	mu    sync.Mutex
	more  *sync.Cond
	lines []string
	ended bool
	at    int
}

func newProcessLog(from io.Reader) *processLog {
	l := &processLog{}
	l.more = sync.NewCond(&l.mu)
	go func() {
		lines := bufio.NewScanner(from)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			l.mu.Lock()
			l.lines = append(l.lines, lines.Text())
			l.more.Broadcast()
			l.mu.Unlock()
		}
		l.mu.Lock()
		l.ended = true
		l.more.Broadcast()
		l.mu.Unlock()
	}()
	return l
}

// Scan waits for the next line; false when there is none any more.
func (l *processLog) Scan() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.at >= len(l.lines) && !l.ended {
		l.more.Wait()
	}
	l.at++
	return l.at <= len(l.lines)
}

// Text gives the line that Scan came to.
func (l *processLog) Text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines[l.at-1]
}

// whole gives all that was said so far.
func (l *processLog) whole() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// start runs a process until the test ends, and fails the test when it does
// not end well. It gives the log of the process, line by line.
func start(t *testing.T, binary string, args ...string) *processLog {
	t.Helper()
	cmd := exec.Command(binary, append(args, "--log-level=info", "--log-format=json")...)
	cmd.Env = environment()
	name := filepath.Base(binary)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log := newProcessLog(stderr)
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("%s has ended before its time: %v", name, err)
		}
		kill := time.AfterFunc(startLimit, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		for log.Scan() {
			if t.Failed() {
				t.Logf("%s: %s", name, log.Text())
			}
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s ended with %v", name, err)
		}
	})
	return log
}

// serving reads a process's log until it says where it serves.
func serving(t *testing.T, log *processLog) (url, flightAddress string) {
	t.Helper()
	var said []string
	for log.Scan() {
		said = append(said, log.Text())
		line := struct {
			Msg, URL, Flight string
		}{}
		if json.Unmarshal([]byte(log.Text()), &line) == nil && line.Msg == "serving" {
			return line.URL, strings.TrimPrefix(line.Flight, "grpc://")
		}
	}
	t.Fatalf("the process ended without serving:\n%s", strings.Join(said, "\n"))
	return "", ""
}

func newSuite(t *testing.T) suite {
	t.Helper()
	client := boot.NewHTTPClient()
	t.Cleanup(client.CloseIdleConnections)
	return suite{http: client}
}

// oneProcess runs `rasterloom up`.
func oneProcess(t *testing.T, bin, databaseURL string) suite {
	t.Helper()
	return oneProcessWith(t, bin, databaseURL)
}

// oneProcessWith runs it with more flags.
func oneProcessWith(t *testing.T, bin, databaseURL string, more ...string) suite {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ready.json")
	start(t, filepath.Join(bin, "rasterloom"), append([]string{
		"up", "--database-url", databaseURL,
		"--listen", "127.0.0.1:0", "--flight-listen", "127.0.0.1:0", "--ready-file", path,
	}, more...)...)
	ready := struct {
		PID         int    `json:"pid"`
		URL         string `json:"url"`
		FlightURI   string `json:"flight_uri"`
		DatabaseURL string `json:"database_url"`
	}{}
	text := waitForFile(t, path)
	if err := json.Unmarshal(text, &ready); err != nil || ready.PID == 0 || ready.DatabaseURL != databaseURL {
		t.Fatalf("the ready file says %s (%v)", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the ready file has mode %v (%v)", info.Mode(), err)
	}
	s := newSuite(t)
	s.schema, s.aligner, s.merger = ready.URL, ready.URL, ready.URL
	s.flight, s.pid = strings.TrimPrefix(ready.FlightURI, "grpc://"), ready.PID
	return s
}

// threeProcesses runs each service on its own.
func threeProcesses(t *testing.T, bin, databaseURL string) suite {
	t.Helper()
	s := newSuite(t)
	s.schema, _ = serving(t, start(t, filepath.Join(bin, "schema"), "--listen=127.0.0.1:0", "--database-url="+databaseURL))
	s.aligner, _ = serving(t, start(t, filepath.Join(bin, "aligner"), "--listen=127.0.0.1:0", "--schema-url="+s.schema))
	s.merger, s.flight = serving(t, start(t, filepath.Join(bin, "merger"), "--listen=127.0.0.1:0", "--flight-listen=127.0.0.1:0",
		"--database-url="+databaseURL, "--schema-url="+s.schema, "--aligner-url="+s.aligner))
	return s
}

func waitForFile(t *testing.T, path string) []byte {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(startLimit); time.Now().Before(deadline); {
		text, err := os.ReadFile(path)
		if err == nil {
			return text
		}
		if !os.IsNotExist(err) {
			t.Fatal(err)
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal(fmt.Errorf("wait for %s: %w", path, t.Context().Err()))
		}
	}
	t.Fatalf("%s did not appear within %v", path, startLimit)
	return nil
}
