package scenario

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// findings is what `rasterloom doctor` says, by what it looked at.
func findings(t *testing.T, got result) map[string]string {
	t.Helper()
	var said struct {
		Findings []struct{ Check, State, Message, Mend string }
	}
	if err := json.Unmarshal([]byte(got.out), &said); err != nil {
		t.Fatalf("%v: %s%s", err, got.out, got.err)
	}
	states := map[string]string{}
	for _, f := range said.Findings {
		states[f.Check] = f.State
		if f.Message == "" || f.State != "ok" && f.Check != "access" && f.Mend == "" {
			t.Errorf("%s: %q, mend %q", f.Check, f.Message, f.Mend)
		}
	}
	return states
}

// The doctor finds a suite well that is, and says what is wrong with one that is not.
func TestDoctorCommand(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	address := pgtest.URL(t)
	pool := pgtest.Connect(t, address)
	if _, err := pool.Exec(t.Context(), catalog); err != nil {
		t.Fatal(err)
	}
	for _, r := range rasters(rand.New(rand.NewPCG(seed, 0))) {
		r.store(t, pool)
	}
	bin := binaries(t)
	s := oneProcess(t, bin, address)
	doctor := func(status int, want map[string]string, args ...string) {
		t.Helper()
		got := command(t, bin, append([]string{"doctor", "-o", "json"}, args...)...)
		states := findings(t, got)
		if got.status != status {
			t.Errorf("%v: status %d, want %d: %s%s", args, got.status, status, got.out, got.err)
		}
		for check, state := range want {
			if states[check] != state {
				t.Errorf("%v: %s is %q, want %q: %s", args, check, states[check], state, got.out)
			}
		}
	}
	at := "--url=" + s.schema
	doctor(0, map[string]string{"schema": "ok", "aligner": "ok", "merger": "ok", "schema version": "ok", "merger clock": "ok", "access": "ok", "migrations": "ok", "catalog": "warning"}, at)
	if got := command(t, bin, "layers", "adopt", at); got.status != 0 {
		t.Fatal(got.err)
	}
	doctor(0, map[string]string{"catalog": "ok", "flight": "ok"}, at)
	doctor(1, map[string]string{"flight": "failed"}, at, "--flight-url=grpc://127.0.0.1:1")
	if got := command(t, bin, "doctor", at, "--flight-url=grpc://127.0.0.1:1"); !strings.Contains(got.out, "grpc://127.0.0.1:1: no merger service") {
		t.Errorf("where nobody listens, it says %s", got.out)
	}
	doctor(3, map[string]string{"schema": "failed", "merger": "failed"}, "--url=http://127.0.0.1:1")
	doctor(3, map[string]string{"schema": "ok", "aligner": "failed"}, at, "--aligner-url=http://127.0.0.1:1")

	// A service of another release, whose clock is an hour behind, and which cannot work.
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	other := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		w.Header().Set("Rasterloom-Version", "v0.0.1")
		if _, err := w.Write([]byte(`{"status": "NOT_SERVING"}`)); err != nil {
			t.Error(err)
		}
	}))
	other.Config.Protocols = &protocols
	other.Start()
	defer other.Close()
	doctor(1, map[string]string{"merger": "failed", "merger version": "warning", "merger clock": "warning"}, at, "--merger-url="+other.URL)

	// Another program has the port.
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	doctor(3, map[string]string{"schema": "failed"}, "--url="+web.URL)
}
