package refusal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/grpc/metadata"

	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	// patience is far more than anything here takes: a test that waits for it fails.
	patience = time.Minute
	// ticketKey signs tickets.
	ticketKey = "a-key-that-the-tests-know-0123456789"
	// ingestMaxBytes is the quota of a stream of DoPut.
	ingestMaxBytes = 1 << 16
)

// world is a database and the suite, in one process that knows who calls.
type world struct {
	t       *testing.T
	pool    *pgxpool.Pool
	url     string
	flight  string
	exports string
	send    []speaker
	log     string
	// credentials are headers, by whose they are.
	credentials map[string]string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	database := pgtest.URL(t)
	dir := t.TempDir()
	w := &world{
		t: t, pool: pgtest.Connect(t, database), log: filepath.Join(dir, "log"), exports: filepath.Join(dir, "exports"), credentials: map[string]string{},
	}
	if err := os.Mkdir(w.exports, 0o700); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "rasterloom")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	build.Dir = "../../../cmd/rasterloom"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the suite: %v\n%s", err, out)
	}
	log, err := os.Create(w.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	ready := filepath.Join(dir, "ready.json")
	cmd := exec.Command(binary, "up", "--database-url="+database, "--listen=127.0.0.1:0", "--flight-listen=127.0.0.1:0", "--ready-file="+ready,
		"--tokens="+w.principals(dir), "--rate=0", "--merger-ticket-key="+ticketKey, "--merger-export-dir="+w.exports,
		"--ingest-max-bytes="+strconv.Itoa(ingestMaxBytes), "--log-level=warn")
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "RASTERLOOM_") || strings.HasPrefix(v, "PG") })
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("the suite ended before its time: %v", err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the suite ended with %v", err)
		}
		// What was refused has its lines too; these are somebody's to look at.
		text, err := os.ReadFile(w.log)
		if lines := regexp.MustCompile(`(?m)^.*"level":"error".*$`).FindAll(text, 20); err == nil && t.Failed() {
			t.Logf("the suite said:\n%s", bytes.Join(lines, []byte("\n")))
		}
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if text, err := os.ReadFile(ready); err == nil {
			said := struct {
				URL       string `json:"url"`
				FlightURI string `json:"flight_uri"`
			}{}
			if err := json.Unmarshal(text, &said); err != nil {
				t.Fatal(err)
			}
			w.url, w.flight = said.URL, strings.TrimPrefix(said.FlightURI, "grpc://")
			w.send = speakers(t, w.url, w.flight)
			return w
		}
		if time.Now().After(deadline) {
			t.Fatal("the suite does not come up")
		}
	}
}

// principals writes a file of tokens.
func (w *world) principals(dir string) (file string) {
	w.t.Helper()
	var lines []string
	enter := func(name string, role access.Role, lastDay time.Time) {
		token := access.NewToken()
		w.credentials[name] = "Bearer " + token
		lines = append(lines, access.Line(access.Principal{Name: name, Role: role}, token, lastDay))
	}
	enter("olga", access.Operator, time.Time{})
	enter("alice", access.Submitter, time.Time{})
	enter("bob", access.Submitter, time.Time{})
	enter("carol", access.Reader, time.Time{})
	enter("suite", access.Service, time.Time{})
	enter("expired", access.Operator, time.Now().AddDate(0, 0, -2))
	file = filepath.Join(dir, "tokens")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return file
}

// as gives the request the credentials that it is sent with.
func (w *world) as(r refusal) refusal {
	switch r.As {
	case "whoever": // it has them already
	case "":
		r.Authorization = w.credentials["olga"]
	default:
		r.Authorization = w.credentials[r.As]
	}
	return r
}

func (w *world) do(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.pool.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

func (w *world) ask(sql string) (text string) {
	w.t.Helper()
	if err := w.pool.QueryRow(w.t.Context(), sql).Scan(&text); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return text
}

// temporary makes a temporary table that lasts as long as the test, and gives
// its schema.
func (w *world) temporary() (schema string) {
	w.t.Helper()
	session, err := w.pool.Acquire(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(session.Release)
	if _, err := session.Exec(w.t.Context(), "CREATE TEMPORARY TABLE a_temporary (row_idx int, col_idx int, value real)"); err != nil {
		w.t.Fatal(err)
	}
	if err := session.QueryRow(w.t.Context(), "SELECT nspname::text FROM pg_namespace WHERE oid = pg_my_temp_schema()").Scan(&schema); err != nil {
		w.t.Fatal(err)
	}
	return schema
}

// hold takes locks until release.
func (w *world) hold(sql string) (release func()) {
	w.t.Helper()
	tx, err := w.pool.Begin(w.t.Context())
	if err == nil {
		_, err = tx.Exec(w.t.Context(), sql)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return func() { _ = tx.Rollback(context.WithoutCancel(w.t.Context())) }
}

// must sends what has to go well, as somebody.
func (w *world) must(method, request string, as ...string) string {
	w.t.Helper()
	r := refusal{Method: method, Request: request}
	if len(as) > 0 {
		r.As = as[0]
	}
	o, err := w.send[0].send(w.t.Context(), w.as(r))
	if err != nil || o.Code != "ok" {
		w.t.Fatalf("%s %s: %v %v", method, request, o, err)
	}
	return o.Text
}

// ticket asks for the ticket of a layer, as alice.
func (w *world) ticket(layer string) []byte {
	w.t.Helper()
	client := flight.NewClientFromConn(dial(w.t, w.flight), nil)
	ctx := metadata.AppendToOutgoingContext(w.t.Context(), "authorization", w.credentials["alice"])
	info, err := client.GetFlightInfo(ctx, &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{layer}})
	if err != nil || len(info.GetEndpoint()) != 1 {
		w.t.Fatal(info, err)
	}
	return info.GetEndpoint()[0].GetTicket().GetTicket()
}

// stage is what the tables of requests are about.
type stage struct {
	etags
	tickets
	export string // alice's, published
}

// stage registers layers, gets tickets, writes an export, and brings migration m1
// to VERIFIED and m2 to CUT_OVER.
func (w *world) stage() (s stage) {
	w.t.Helper()
	for name, extent := range extents {
		w.must(schemaService+"RegisterLayer", register(name, "public", name, extent))
	}
	if o, err := w.send[len(w.send)-1].send(w.t.Context(), w.as(goodPut(w.t))); err != nil || o.Code != "ok" {
		w.t.Fatal(o, err)
	}
	s.alices, s.changed, s.gone = w.ticket("plain"), w.ticket("swapped"), w.ticket("gone")
	w.do("DROP TABLE public.gone")
	started := w.must(exportService+"StartExport", object("spec", object("merge", merged(named("plain")), "name", `"mine.parquet"`), "idempotencyKey", `"key 1"`), "alice")
	s.export = regexp.MustCompile(`"id":"([^"]*)"`).FindStringSubmatch(started)[1]
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if strings.Contains(w.must(exportService+"GetExport", object("id", quote(s.export)), "alice"), "EXPORT_STATE_SUCCEEDED") {
			break
		}
		if time.Now().After(deadline) {
			w.t.Fatal("the export does not come to its end")
		}
	}
	w.must(migrationService+"StartMigration", `{"spec": {"layer": "moved"}, "idempotencyKey": "key 1"}`)
	s.m1 = w.await("m1", "VERIFIED")
	w.must(migrationService+"StartMigration", `{"spec": {"layer": "swapped"}, "idempotencyKey": "key 2"}`)
	w.must(migrationService+"CutOver", object("id", `"m2"`, "etag", quote(w.await("m2", "VERIFIED"))))
	s.m2 = w.await("m2", "CUT_OVER")
	return s
}

var etagPattern = regexp.MustCompile(`"etag":"([^"]*)"`)

// await gives the etag of a migration that is in a state, and at rest.
func (w *world) await(id, state string) string {
	w.t.Helper()
	var text string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		text = w.must(migrationService+"GetMigration", object("id", quote(id)))
		if strings.Contains(text, `"MIGRATION_STATE_`+state+`"`) &&
			w.ask("SELECT count(*) FROM rasterloom.migration WHERE lease_until IS NOT NULL") == "0" {
			return etagPattern.FindStringSubmatch(text)[1]
		}
	}
	w.t.Fatalf("%s is not %s: %s", id, state, text)
	return ""
}

// refuses sends each over every protocol, from Go and Python, and looks at what
// came of it, at what is stored, and at what the process still holds.
func (w *world) refuses(list []refusal) {
	w.t.Helper()
	for i := range list {
		list[i] = w.as(list[i])
	}
	stored, base := w.stored(), w.rest()
	began := time.Now()
	var sending sync.WaitGroup
	outcomes := map[string][]*outcome{}
	var mu sync.Mutex
	for _, s := range w.send {
		sending.Go(func() {
			results := make([]*outcome, len(list))
			for i, r := range list {
				if !s.speaks(r) {
					continue
				}
				o, err := s.send(w.t.Context(), r)
				if err != nil {
					w.t.Errorf("%s: %s, %s: %v", s.name, r.Method, r.Name, err)
				}
				results[i] = &o
			}
			mu.Lock()
			defer mu.Unlock()
			outcomes[s.name] = results
		})
	}
	fromPython, err := python(w.t.Context(), w.url, w.flight, list)
	sending.Wait()
	if err != nil {
		w.t.Fatal(err)
	}
	maps.Copy(outcomes, fromPython)
	wrong, all, sent := 0, 0, map[string]int{}
	for protocol, results := range outcomes {
		for i, o := range results {
			if o == nil {
				continue
			}
			r := list[i]
			all++
			sent[protocol]++
			if !o.meets(r) {
				wrong++
				w.t.Errorf("%s: %s, %s: %s %s %.300s; want %s %s %s", protocol, r.Method, r.Name, o.Code, o.Reason, o.Text, r.code, r.reason, r.answer)
			}
		}
	}
	after := "nothing stored has changed"
	if now := w.stored(); now != stored {
		after = "what is stored has changed"
		w.t.Errorf("%s:\n%s\n--- before\n%s", after, now, stored)
	}
	w.t.Logf("%d requests, %d sent (%v), %d answered otherwise than promised; %s; %s; %v",
		len(list), all, sent, wrong, after, w.rests(base), time.Since(began).Round(time.Second))
}

// stored is everything in the schemas public and rasterloom, objects and rows, and
// what is in the directory of exports.
func (w *world) stored() string {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.exports, "*"))
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.Join(files, "\n") + w.ask(`SELECT coalesce(string_agg(line, E'\n' ORDER BY line), '') FROM (
		SELECT format('%s %s.%s %s', relkind, relnamespace::regnamespace, relname, relacl) AS line FROM pg_class WHERE relnamespace IN ('public'::regnamespace, 'rasterloom'::regnamespace, 'rasterloom_tiles'::regnamespace)
		UNION ALL SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace IN ('public'::regnamespace, 'rasterloom'::regnamespace, 'rasterloom_tiles'::regnamespace)
		UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
		UNION ALL SELECT relname || ' ' || query_to_xml(format('SELECT md5(string_agg(t::text, '' '' ORDER BY t::text)) AS md5 FROM %s t', c.oid::regclass), true, true, '')::text
			FROM pg_class c WHERE relkind = 'r' AND relnamespace IN ('public'::regnamespace, 'rasterloom'::regnamespace, 'rasterloom_tiles'::regnamespace)) l`)
}

// resting is what a process that does nothing has.
type resting struct{ goroutines, leased, streams, calls float64 }

// rests waits until the process has no more goroutines than it had, but for a few
// of connections kept alive, and no session of its is at work; and says so.
func (w *world) rests(before resting) string {
	w.t.Helper()
	const kept = 8
	var now resting
	var busy string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		now = w.rest()
		busy = w.ask("SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'rasterloom%' AND state <> 'idle'")
		if now.goroutines <= before.goroutines+kept && now.leased == 0 && now.streams == 0 && now.calls == 0 && busy == "0" {
			return fmt.Sprintf("the process rests as before (%.0f goroutines, %.0f before)", now.goroutines, before.goroutines)
		}
	}
	w.t.Errorf("%+v after %+v, %s sessions at work", now, before, busy)
	return "the process does not rest"
}

// rest reads the numbers of the process.
func (w *world) rest() (r resting) {
	w.t.Helper()
	response, err := http.Get(w.url + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	for name, into := range map[string]*float64{
		"go_goroutines": &r.goroutines, "rasterloom_merger_memory_leased_bytes": &r.leased, "rasterloom_merger_streams_running": &r.streams,
		"rasterloom_rpc_calls_running": &r.calls,
	} {
		found := regexp.MustCompile(`(?m)^`+name+`(?:\{.*\})? (\S+)`).FindAllSubmatch(text, -1)
		if found == nil {
			w.t.Fatal(fmt.Errorf("no %s in %.200s", name, text))
		}
		for _, f := range found {
			n, err := strconv.ParseFloat(string(f[1]), 64)
			if err != nil {
				w.t.Fatal(err)
			}
			*into += n
		}
	}
	http.DefaultClient.CloseIdleConnections()
	return r
}
