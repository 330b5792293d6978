package faults_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rasterloom/rasterloom/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// world is a database and the schema service, as a process.
type world struct {
	t    *testing.T
	pool *pgxpool.Pool
	url  string
	send []speaker
	log  string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	database := pgtest.URL(t)
	w := &world{t: t, pool: pgtest.Connect(t, database), log: filepath.Join(t.TempDir(), "log")}
	binary := filepath.Join(t.TempDir(), "schema")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../services/schema/cmd/schema").CombinedOutput(); err != nil {
		t.Fatalf("build the service: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	log, err := os.Create(w.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(binary, "serve", "--listen", address)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+database, "RASTERLOOM_LOG_LEVEL=warn")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("the service ended before its time: %v", err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the service ended with %v", err)
		}
		if text, err := os.ReadFile(w.log); err == nil && t.Failed() {
			t.Logf("the service said:\n%.20000s", text)
		}
	})
	w.url = "http://" + address
	w.send = speakers(t, w.url)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if o, err := w.send[0].send(t.Context(), refusal{Method: schemaService + "ListLayers", Request: "{}"}); err == nil && o.Code == "ok" {
			return w
		}
		if time.Now().After(deadline) {
			t.Fatal("the service does not answer")
		}
	}
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

// must sends what has to go well.
func (w *world) must(method, request string) string {
	w.t.Helper()
	o, err := w.send[0].send(w.t.Context(), refusal{Method: method, Request: request})
	if err != nil || o.Code != "ok" {
		w.t.Fatalf("%s %s: %v %v", method, request, o, err)
	}
	return o.Text
}

// stage registers layers and brings migration m1 to VERIFIED and m2 to CUT_OVER.
func (w *world) stage() etags {
	w.t.Helper()
	for _, name := range []string{"plain", "moved", "swapped"} {
		w.must(schemaService+"RegisterLayer", register(name, "public", name, goodExtent))
	}
	w.must(migrationService+"StartMigration", `{"spec": {"layer": "moved"}, "idempotencyKey": "key 1"}`)
	m1 := w.await("m1", "VERIFIED")
	w.must(migrationService+"StartMigration", `{"spec": {"layer": "swapped"}, "idempotencyKey": "key 2"}`)
	w.must(migrationService+"CutOver", object("id", `"m2"`, "etag", quote(w.await("m2", "VERIFIED"))))
	return etags{m1, w.await("m2", "CUT_OVER")}
}

var etagPattern = regexp.MustCompile(`"etag":"([^"]*)"`)

// await gives the etag of a migration that is in a state, and at rest.
func (w *world) await(id, state string) string {
	w.t.Helper()
	var text string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
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
	stored, goroutines := w.stored(), w.goroutines()
	began := time.Now()
	var sending sync.WaitGroup
	outcomes := map[string][]outcome{}
	var mu sync.Mutex
	for _, s := range w.send {
		sending.Go(func() {
			results := make([]outcome, len(list))
			for i, r := range list {
				var err error
				if results[i], err = s.send(w.t.Context(), r); err != nil {
					w.t.Errorf("%s: %s, %s: %v", s.name, r.Method, r.Name, err)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			outcomes[s.name] = results
		})
	}
	fromPython, err := python(w.t.Context(), w.url, list)
	sending.Wait()
	if err != nil {
		w.t.Fatal(err)
	}
	maps.Copy(outcomes, fromPython)
	wrong := 0
	for protocol, results := range outcomes {
		for i, o := range results {
			r := list[i]
			if o.Code != r.code || r.reason != "" && o.Reason != r.reason || !strings.Contains(o.Text, r.answer) {
				wrong++
				w.t.Errorf("%s: %s, %s: %s %s %.300s; want %s %s %s", protocol, r.Method, r.Name, o.Code, o.Reason, o.Text, r.code, r.reason, r.answer)
			}
		}
	}
	if now := w.stored(); now != stored {
		w.t.Errorf("what is stored has changed:\n%s\n--- before\n%s", now, stored)
	}
	w.rests(goroutines)
	w.t.Logf("%d requests × %d protocols: %d sent, %d answered otherwise than promised; nothing stored has changed, the process rests as before; %v",
		len(list), len(outcomes), len(list)*len(outcomes), wrong, time.Since(began).Round(time.Second))
}

// stored is everything in the schemas public and rasterloom, objects and rows.
func (w *world) stored() string {
	w.t.Helper()
	return w.ask(`SELECT coalesce(string_agg(line, E'\n' ORDER BY line), '') FROM (
		SELECT format('%s %s.%s %s', relkind, relnamespace::regnamespace, relname, relacl) AS line FROM pg_class WHERE relnamespace IN ('public'::regnamespace, 'rasterloom'::regnamespace)
		UNION ALL SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace IN ('public'::regnamespace, 'rasterloom'::regnamespace)
		UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
		UNION ALL SELECT relname || ' ' || query_to_xml(format('SELECT md5(string_agg(t::text, '' '' ORDER BY t::text)) AS md5 FROM %s t', c.oid::regclass), true, true, '')::text
			FROM pg_class c WHERE relkind = 'r' AND relnamespace IN ('public'::regnamespace, 'rasterloom'::regnamespace)) l`)
}

// rests waits until the process has no more goroutines than it had, but for a few
// of connections kept alive, and no session of its is at work.
func (w *world) rests(goroutines int) {
	w.t.Helper()
	const kept = 8
	var now int
	var busy string
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		now = w.goroutines()
		busy = w.ask("SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'rasterloom schema' AND state <> 'idle'")
		if now <= goroutines+kept && busy == "0" {
			return
		}
	}
	w.t.Errorf("%d goroutines after %d, %s sessions at work", now, goroutines, busy)
}

func (w *world) goroutines() int {
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
	found := regexp.MustCompile(`(?m)^go_goroutines (\d+)`).FindSubmatch(text)
	if found == nil {
		w.t.Fatal(fmt.Errorf("no number of goroutines in %.200s", text))
	}
	n, err := strconv.Atoi(string(found[1]))
	if err != nil {
		w.t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	return n
}
