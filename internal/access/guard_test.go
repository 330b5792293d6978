package access_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/access"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is far more than anything here takes: a test that waits for it fails.
const patience = 30 * time.Second

const (
	get     = "rasterloom.schema.v1.SchemaService/GetLayer"
	start   = "rasterloom.schema.v1.MigrationService/StartMigration"
	cutOver = "rasterloom.schema.v1.MigrationService/CutOver"
	watch   = "rasterloom.schema.v1.MigrationService/WatchMigration"
	// finalize takes as long as a table is large.
	finalize = "rasterloom.schema.v1.MigrationService/Finalize"
	health   = "grpc.health.v1.Health/Check"
)

// tokenFile writes a file of tokens.
func tokenFile(t *testing.T, lines ...string) *access.File[*access.Tokens] {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := access.Open(path, access.ParseTokens)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// admit gives who a call comes in as, or the kind of the fault.
func admit(t *testing.T, g *access.Guard, c access.Call) (access.Principal, error) {
	t.Helper()
	ctx, release, err := g.Admit(t.Context(), c)
	if err != nil {
		return access.Principal{}, err
	}
	release()
	return access.From(ctx), nil
}

func requireReason(t *testing.T, what string, err error, kind fault.Kind, reason fault.Reason) {
	t.Helper()
	f := fault.From(err)
	if f == nil || f.Kind != kind || f.Reason != reason {
		t.Errorf("%s: %v, want %v %s", what, err, kind, reason)
	}
}

func TestEachRoleMayItsOwnAndNoMore(t *testing.T) {
	names := []string{"service", "reader", "submitter", "operator"}
	tokens := map[string]string{}
	var lines []string
	for _, name := range names {
		role, err := access.ParseRole(name)
		if err != nil {
			t.Fatal(err)
		}
		tokens[name] = access.NewToken()
		lines = append(lines, access.Line(access.Principal{Name: "the-" + name, Role: role}, tokens[name], time.Time{}))
	}
	g := access.New(access.Options{Tokens: tokenFile(t, lines...)})
	for method, allowed := range map[string]string{
		get: "service reader submitter operator", start: "submitter operator", cutOver: "operator", watch: "service reader submitter operator",
	} {
		for _, name := range names {
			p, err := admit(t, g, access.Call{Method: "/" + method, Authorization: "Bearer " + tokens[name]})
			switch {
			case !strings.Contains(allowed, name):
				requireReason(t, name+" calls "+method, err, fault.Denied, fault.PermissionDenied)
			case err != nil || p.Name != "the-"+name || p.Role.String() != name:
				t.Errorf("%s calls %s as %v: %v", name, method, p, err)
			}
		}
	}
}

func TestCredentialsThatAreNotGood(t *testing.T) {
	alice, old := access.NewToken(), access.NewToken()
	yesterday := time.Now().UTC().AddDate(0, 0, -1)
	g := access.New(access.Options{Tokens: tokenFile(t,
		access.Line(access.Principal{Name: "alice", Role: access.Reader}, alice, time.Now().UTC()), // good until the day ends
		access.Line(access.Principal{Name: "old", Role: access.Operator}, old, yesterday),
		"# a comment", "", "cert-only operator cert:CN=nightly job,O=Example",
	)})
	if p, err := admit(t, g, access.Call{Method: get, Authorization: "bearer  " + alice}); err != nil || p.Name != "alice" {
		t.Fatalf("alice is %v, %v", p, err)
	}
	texts := map[string]bool{}
	for what, header := range map[string]string{
		"none": "", "empty": "Bearer ", "no scheme": alice, "another scheme": "Basic " + alice, "wrong": "Bearer " + access.NewToken(),
		"expired": "Bearer " + old, "cut": "Bearer " + alice[:len(alice)-1], "longer": "Bearer " + alice + "x", "a hash": "Bearer sha256:00",
		"upper case": "Bearer " + strings.ToUpper(alice), "a signed one": "Bearer a.b.c", "huge": "Bearer " + strings.Repeat("x", 1<<20),
	} {
		_, err := admit(t, g, access.Call{Method: get, Authorization: header})
		requireReason(t, what, err, fault.Unauthenticated, fault.CredentialsInvalid)
		texts[err.Error()] = true
	}
	if len(texts) != 1 {
		t.Errorf("%d texts tell apart why credentials are not good: %v", len(texts), texts)
	}
	_, err := admit(t, nil, access.Call{Method: get})
	requireReason(t, "no guard", err, fault.Unauthenticated, fault.CredentialsInvalid)
	_, err = admit(t, access.New(access.Options{}), access.Call{Method: get})
	requireReason(t, "a guard that was told nothing", err, fault.Unauthenticated, fault.CredentialsInvalid)
	_, err = admit(t, g, access.Call{Method: "no.Such/Method"})
	requireReason(t, "no such method, and no token", err, fault.Unauthenticated, fault.CredentialsInvalid)
	_, err = admit(t, access.Everybody(), access.Call{Method: "no.Such/Method"})
	requireReason(t, "no such method", err, fault.Unsupported, fault.NotSupported)
	for _, g := range []*access.Guard{g, access.New(access.Options{})} {
		if _, err := admit(t, g, access.Call{Method: health}); err != nil {
			t.Errorf("health is refused: %v", err)
		}
	}
}

func TestCertificatesAreOfTheirPrincipal(t *testing.T) {
	id, err := url.Parse("spiffe://example.org/merger")
	if err != nil {
		t.Fatal(err)
	}
	g := access.New(access.Options{Tokens: tokenFile(t, "nightly submitter cert:CN=nightly job,O=Example", "merger service uri:spiffe://example.org/merger")})
	subject := pkix.Name{CommonName: "nightly job", Organization: []string{"Example"}}
	for what, c := range map[string]struct {
		certificate *x509.Certificate
		want        string
	}{
		"a subject":       {&x509.Certificate{Subject: subject}, "nightly"},
		"a URI":           {&x509.Certificate{URIs: []*url.URL{id}}, "merger"},
		"another subject": {&x509.Certificate{Subject: pkix.Name{CommonName: "nightly job"}}, ""},
		"no subject":      {&x509.Certificate{}, ""},
	} {
		p, err := admit(t, g, access.Call{Method: get, Certificate: c.certificate})
		if c.want == "" {
			requireReason(t, what, err, fault.Unauthenticated, fault.CredentialsInvalid)
		} else if err != nil || p.Name != c.want {
			t.Errorf("%s is %v, %v", what, p, err)
		}
	}
	// A token that is not good does not fall back to the certificate.
	_, err = admit(t, g, access.Call{Method: get, Certificate: &x509.Certificate{Subject: subject}, Authorization: "Bearer x"})
	requireReason(t, "a good certificate and a bad token", err, fault.Unauthenticated, fault.CredentialsInvalid)
}

func TestOnlyAServiceSpeaksForOthers(t *testing.T) {
	service, reader := access.NewToken(), access.NewToken()
	g := access.New(access.Options{Tokens: tokenFile(t,
		access.Line(access.Principal{Name: "merger", Role: access.Service}, service, time.Time{}),
		access.Line(access.Principal{Name: "bob", Role: access.Reader}, reader, time.Time{}))})
	for _, c := range []struct{ token, onBehalf, want string }{
		{service, "alice", "alice"}, {service, "", "merger"}, {service, "line\nbreak", "merger"}, {reader, "alice", "bob"},
	} {
		p, err := admit(t, g, access.Call{Method: get, Authorization: "Bearer " + c.token, OnBehalf: c.onBehalf})
		if err != nil || p.Name != c.want {
			t.Errorf("on behalf of %q: %v, %v, want %s", c.onBehalf, p, err, c.want)
		}
	}
	if p, err := admit(t, access.Within(), access.Call{Method: get, OnBehalf: "alice"}); err != nil || p != (access.Principal{Name: "alice", Role: access.Service}) {
		t.Errorf("within the process: %v, %v", p, err)
	}
	_, err := admit(t, access.Within(), access.Call{Method: cutOver, OnBehalf: "alice"})
	requireReason(t, "a service that cuts over", err, fault.Denied, fault.PermissionDenied)
}

func TestAnOpenDoorOnLoopbackIsForThisMachineOnly(t *testing.T) {
	g := access.New(access.Options{Anonymous: access.Operator, LocalHost: true})
	for _, host := range []string{"", "localhost", "localhost:7400", "127.0.0.1:7400", "[::1]:7400", "127.1.2.3"} {
		if p, err := admit(t, g, access.Call{Method: cutOver, Host: host}); err != nil || p.Name != access.Anonymous {
			t.Errorf("%q: %v, %v", host, p, err)
		}
	}
	for _, host := range []string{"evil.example", "evil.example:7400", "localhost.evil.example", "10.0.0.1", "rasterloom.company.example"} {
		_, err := admit(t, g, access.Call{Method: get, Host: host})
		requireReason(t, host, err, fault.Denied, fault.PermissionDenied)
	}
}

func TestAFileOfTokensIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	first, second := access.NewToken(), access.NewToken()
	write := func(text string) {
		t.Helper()
		next := path + ".next"
		if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, path); err != nil {
			t.Fatal(err)
		}
	}
	line := func(token string) string {
		return access.Line(access.Principal{Name: "alice", Role: access.Reader}, token, time.Time{})
	}
	write(line(first))
	f, err := access.Open(path, access.ParseTokens)
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 10)
	f.Failed = func(err error) { told <- err }
	g := access.New(access.Options{Tokens: f})
	good := func(token string) bool {
		_, err := admit(t, g, access.Call{Method: get, Authorization: "Bearer " + token})
		return err == nil
	}
	if !good(first) || good(second) {
		t.Fatal("the first token is not good, or the second is")
	}
	write("half a lin")
	select {
	case err := <-wait(t, told, func() { good(first) }):
		if strings.Contains(err.Error(), "half") {
			t.Errorf("the error quotes the file: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("a broken file is not told of")
	}
	if !good(first) {
		t.Error("a broken file locks out who was known")
	}
	write(line(second))
	for deadline := time.Now().Add(patience); !good(second); {
		if time.Now().After(deadline) {
			t.Fatal("the new token is not taken up")
		}
	}
	if good(first) {
		t.Error("a token that was taken out is still good")
	}
}

// wait calls do until something was told.
func wait(t *testing.T, told chan error, do func()) <-chan error {
	t.Helper()
	out := make(chan error, 1)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); do() {
		select {
		case err := <-told:
			out <- err
			return out
		default:
		}
	}
	return out
}

func TestFilesOfTokensThatMeanNothing(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	for what, line := range map[string]string{
		"two words":        "alice reader",
		"no such role":     "alice admin sha256:" + sum,
		"nobody":           "alice nobody sha256:" + sum,
		"a bad name":       "al\u202eice reader sha256:" + sum,
		"a token in clear": "alice reader rlt_abcdefgh",
		"half a hash":      "alice reader sha256:abcd",
		"no day":           "alice reader sha256:" + sum + " expires=soon",
		"one word more":    "alice reader sha256:" + sum + " forever",
		"no subject":       "alice reader cert:",
	} {
		_, err := access.ParseTokens([]byte("# first\n" + line))
		if err == nil || !strings.Contains(err.Error(), "line 2") || strings.Contains(err.Error(), "rlt_") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := access.ParseTokens([]byte("a reader cert:CN=x\nb reader cert:CN=x")); err == nil {
		t.Error("one certificate of two principals")
	}
}

func TestQuotas(t *testing.T) {
	alice, bob := access.NewToken(), access.NewToken()
	tokens := tokenFile(t, access.Line(access.Principal{Name: "alice", Role: access.Reader}, alice, time.Time{}),
		access.Line(access.Principal{Name: "bob", Role: access.Reader}, bob, time.Time{}))
	call := func(token, method string) access.Call {
		return access.Call{Method: method, Authorization: "Bearer " + token}
	}
	t.Run("rate", func(t *testing.T) {
		g := access.New(access.Options{Tokens: tokens, Limits: access.Limits{Rate: 0.001, Burst: 3}})
		for range 3 {
			if _, err := admit(t, g, call(alice, get)); err != nil {
				t.Fatal(err)
			}
		}
		_, err := admit(t, g, call(alice, get))
		requireReason(t, "the fourth call", err, fault.Limit, fault.QuotaExceeded)
		if fault.From(err).Fields["limit"] != "0.001" {
			t.Errorf("fields %v", fault.From(err).Fields)
		}
		if _, err := admit(t, g, call(bob, get)); err != nil {
			t.Errorf("bob pays for alice: %v", err)
		}
	})
	t.Run("streams", func(t *testing.T) {
		g := access.New(access.Options{Tokens: tokens, Limits: access.Limits{Streams: 2, Calls: 1}})
		g.SetWait(20 * time.Millisecond)
		var releases []func()
		for range 2 {
			_, release, err := g.Admit(t.Context(), call(alice, watch))
			if err != nil {
				t.Fatal(err)
			}
			releases = append(releases, release)
		}
		_, err := admit(t, g, call(alice, watch))
		requireReason(t, "the third stream", err, fault.Limit, fault.QuotaExceeded)
		if f := fault.From(err).Fields; f["limit"] != "2" || f["quota"] != "streams" {
			t.Errorf("fields %v", f)
		}
		if _, err := admit(t, g, call(alice, get)); err != nil {
			t.Errorf("calls pay for streams: %v", err)
		}
		if _, err := admit(t, g, call(bob, watch)); err != nil {
			t.Errorf("bob pays for alice: %v", err)
		}
		// Who waits gets in when another leaves.
		g.SetWait(patience)
		entered := make(chan error, 1)
		go func() {
			_, release, err := g.Admit(context.WithoutCancel(t.Context()), call(alice, watch))
			if err == nil {
				release()
			}
			entered <- err
		}()
		releases[0]()
		if err := <-entered; err != nil {
			t.Errorf("after one has left: %v", err)
		}
		releases[1]()
	})
	t.Run("time", func(t *testing.T) {
		g := access.New(access.Options{Tokens: tokens, Limits: access.Limits{CallTime: time.Minute, StreamTime: time.Hour}})
		for method, want := range map[string]time.Duration{get: time.Minute, watch: time.Hour} {
			ctx, release, err := g.Admit(t.Context(), call(alice, method))
			if err != nil {
				t.Fatal(err)
			}
			end, ok := ctx.Deadline()
			if left := time.Until(end); !ok || left > want || left < want-10*time.Second {
				t.Errorf("%s has %v left, want %v", method, left, want)
			}
			release()
		}
		g = access.New(access.Options{Anonymous: access.Operator, Limits: access.Limits{CallTime: time.Minute, StreamTime: time.Hour}})
		ctx, release, err := g.Admit(t.Context(), access.Call{Method: finalize})
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		if end, _ := ctx.Deadline(); time.Until(end) <= time.Minute {
			t.Errorf("a table of any size is to be finalized, and %v are left", time.Until(end))
		}
	})
	t.Run("overtime", func(t *testing.T) {
		g := access.New(access.Options{Tokens: tokens, Limits: access.Limits{CallTime: time.Nanosecond}})
		ctx, release, err := g.Admit(t.Context(), call(alice, get))
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		<-ctx.Done()
		if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) || !strings.Contains(cause.Error(), "--call-time") {
			t.Errorf("%v", cause)
		}
	})
}
