package boot_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/boot"
)

// authority signs certificates for one test.
type authority struct {
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	n    int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.sign(t, "ca", pkix.Name{CommonName: "test authority"})
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// sign writes NAME.pem and NAME.key, the key first; the first one is of the
// authority itself.
func (a *authority) sign(t *testing.T, name string, subject pkix.Name) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.n++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.n), Subject: subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct {
		name string
		pem.Block
	}{{name + ".key", pem.Block{Type: "PRIVATE KEY", Bytes: private}}, {name + ".pem", pem.Block{Type: "CERTIFICATE", Bytes: der}}} {
		if err := os.WriteFile(a.path(f.name), pem.EncodeToMemory(&f.Block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// secured is a process with certificates and tokens, on loopback.
func secured(t *testing.T, a *authority, lines ...string) (*boot.Process, boot.Config) {
	t.Helper()
	a.sign(t, "server", pkix.Name{CommonName: "server"})
	tokens := a.path("tokens")
	if err := os.WriteFile(tokens, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config()
	cfg.TLS = boot.TLSConfig{Cert: a.path("server.pem"), Key: a.path("server.key"), ClientCA: a.path("ca.pem")}
	cfg.Access.Tokens = tokens
	p, _ := start(t, cfg, "127.0.0.1:0", func(p *boot.Process) []*boot.Service {
		service := echo(p)[0]
		service.Flight = flightOf("arrow.flight.protocol.FlightService")
		return []*boot.Service{service}
	})
	return p, cfg
}

// flightOf answers DoGet with who asked.
func flightOf(name string) *boot.Flight {
	desc := &grpc.ServiceDesc{ServiceName: name, Streams: []grpc.StreamDesc{{StreamName: "DoGet", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
		return s.SendMsg(wrapperspb.String(access.From(s.Context()).Name))
	}}}}
	return &boot.Flight{Register: func(into grpc.ServiceRegistrar) { into.RegisterService(desc, nil) }}
}

const getLayer = "/rasterloom.schema.v1.SchemaService/GetLayer"

// statusOf gives the status of a call by HTTP.
func statusOf(t *testing.T, client *http.Client, url string) (int, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+getLayer, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	return res.StatusCode, nil
}

func clientOf(t *testing.T, c boot.ClientConfig) *http.Client {
	t.Helper()
	client, err := boot.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func TestTLSAndWhoIsLetIn(t *testing.T) {
	a := newAuthority(t)
	a.sign(t, "nightly", pkix.Name{CommonName: "nightly job", Organization: []string{"Example"}})
	a.sign(t, "stranger", pkix.Name{CommonName: "stranger"})
	other := newAuthority(t)
	other.sign(t, "nightly", pkix.Name{CommonName: "nightly job", Organization: []string{"Example"}})
	token := access.NewToken()
	p, cfg := secured(t, a, access.Line(access.Principal{Name: "alice", Role: access.Reader}, token, time.Time{}), "nightly reader cert:CN=nightly job,O=Example")
	if !strings.HasPrefix(p.URL(), "https://") || !strings.HasPrefix(p.FlightURI(), "grpc+tls://") {
		t.Fatalf("addresses %s, %s", p.URL(), p.FlightURI())
	}
	ca := a.path("ca.pem")
	for what, c := range map[string]struct {
		client boot.ClientConfig
		want   int // 0: no answer at all
	}{
		"a token":                           {boot.ClientConfig{CA: ca, Token: boot.Secret(token)}, http.StatusOK},
		"a certificate":                     {boot.ClientConfig{CA: ca, Cert: a.path("nightly.pem"), Key: a.path("nightly.key")}, http.StatusOK},
		"nothing":                           {boot.ClientConfig{CA: ca}, http.StatusUnauthorized},
		"another token":                     {boot.ClientConfig{CA: ca, Token: boot.Secret(access.NewToken())}, http.StatusUnauthorized},
		"a certificate of nobody":           {boot.ClientConfig{CA: ca, Cert: a.path("stranger.pem"), Key: a.path("stranger.key")}, http.StatusUnauthorized},
		"a certificate of another":          {boot.ClientConfig{CA: ca, Cert: other.path("nightly.pem"), Key: other.path("nightly.key")}, 0},
		"who does not believe the server":   {boot.ClientConfig{CA: other.path("ca.pem"), Token: boot.Secret(token)}, 0},
		"who believes the system's, not us": {boot.ClientConfig{Token: boot.Secret(token)}, 0},
	} {
		got, err := statusOf(t, clientOf(t, c.client), p.URL())
		if got != c.want || (err == nil) != (c.want != 0) {
			t.Errorf("%s: status %d, %v, want %d", what, got, err, c.want)
		}
	}

	// The same over Flight.
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	pair, err := tls.LoadX509KeyPair(a.path("nightly.pem"), a.path("nightly.key"))
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		config *tls.Config
		token  string
		want   string
	}{
		"a token":         {&tls.Config{RootCAs: pool}, token, "alice"},
		"a certificate":   {&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}, "", "nightly"},
		"nothing":         {&tls.Config{RootCAs: pool}, "", ""},
		"another token":   {&tls.Config{RootCAs: pool}, access.NewToken(), ""},
		"TLS 1.2 at most": {&tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS12}, token, "-"},
	} {
		who, err := flightAsks(t, strings.TrimPrefix(p.FlightURI(), "grpc+tls://"), c.config, c.token)
		code := map[string]codes.Code{"": codes.Unauthenticated, "-": codes.Unavailable}[c.want]
		if status.Code(err) != code || code == codes.OK && who != c.want {
			t.Errorf("Flight, %s: %q, %v", what, who, err)
		}
	}
	for _, config := range []*tls.Config{{RootCAs: pool, MaxVersion: tls.VersionTLS12}, {RootCAs: pool}} {
		_, err := tls.Dial("tcp", strings.TrimPrefix(p.URL(), "https://"), config)
		if (err == nil) != (config.MaxVersion == 0) {
			t.Errorf("TLS of at most %x: %v", config.MaxVersion, err)
		}
	}
	if err := boot.CheckHealth(t.Context(), strings.TrimPrefix(p.URL(), "https://"), cfg.TLS.Cert); err != nil {
		t.Errorf("the health check of the process itself: %v", err)
	}
	if err := boot.CheckHealth(t.Context(), strings.TrimPrefix(p.URL(), "https://"), other.path("nightly.pem")); err == nil {
		t.Error("a health check believes another certificate")
	}
}

// flightAsks asks DoGet who asks.
func flightAsks(t *testing.T, address string, config *tls.Config, token string) (string, error) {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := t.Context()
	var options []grpc.CallOption
	if token != "" {
		options = append(options, grpc.PerRPCCredentials(bearerToken(token)))
	}
	who := &wrapperspb.StringValue{}
	err = conn.Invoke(ctx, "/arrow.flight.protocol.FlightService/DoGet", wrapperspb.String(""), who, options...)
	return who.GetValue(), err
}

type bearerToken string

func (b bearerToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearerToken) RequireTransportSecurity() bool { return true }

func TestACertificateIsReadAgain(t *testing.T) {
	a := newAuthority(t)
	p, _ := secured(t, a)
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	serials := func() (out [2]int64) {
		for i, address := range []string{strings.TrimPrefix(p.URL(), "https://"), strings.TrimPrefix(p.FlightURI(), "grpc+tls://")} {
			conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: pool, NextProtos: []string{"h2"}})
			if err != nil {
				t.Fatal(err)
			}
			out[i] = conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
			_ = conn.Close()
		}
		return out
	}
	first := serials()
	renewed, _ := a.sign(t, "server", pkix.Name{CommonName: "renewed"})
	want := [2]int64{renewed.SerialNumber.Int64(), renewed.SerialNumber.Int64()}
	until(t, fmt.Sprintf("the certificates are %v, were %v", want, first), func() bool { return serials() == want })
}

// A token is shown over TLS and to this machine, and to nobody who could be
// overheard on the way.
func TestATokenIsNotSentInClear(t *testing.T) {
	got := make(chan string, 4)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("Authorization") })}
	server.Protocols = new(http.Protocols)
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })

	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]boot.ClientConfig{"Bearer given": {Token: "given"}, "Bearer from-file": {TokenFile: file}, "": {}} {
		if _, err := get(t, clientOf(t, c), "http://"+listener.Addr().String()+getLayer); err != nil {
			t.Fatal(err)
		}
		if shown := <-got; shown != want {
			t.Errorf("%+v shows %q", c, shown)
		}
	}
	_, err = get(t, clientOf(t, boot.ClientConfig{Token: "given"}), "http://rasterloom.example:7400"+getLayer)
	if err == nil || !strings.Contains(err.Error(), "not sent to rasterloom.example:7400 in clear text") || strings.Contains(err.Error(), "given") {
		t.Errorf("to another machine in clear text: %v", err)
	}
	// Whoever still writes what he asks is let go.
	body, write := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://rasterloom.example:7400"+getLayer, body)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := clientOf(t, boot.ClientConfig{Token: "given"}).Do(req); err == nil {
		_ = res.Body.Close()
		t.Error("another machine was asked")
	}
	if _, err := write.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("writing a request that was not sent: %v", err)
	}
	if text := fmt.Sprintf("%v %+v %#v", boot.ClientConfig{Token: "given"}, boot.ClientConfig{Token: "given"}, boot.ClientConfig{Token: "given"}); strings.Contains(text, "given") {
		t.Errorf("the token prints: %s", text)
	}
}

// Off loopback there is no door without a certificate, and none without a guard.
func TestNoOpenDoorOffLoopback(t *testing.T) {
	a := newAuthority(t)
	a.sign(t, "server", pkix.Name{CommonName: "server"})
	withTLS := boot.TLSConfig{Cert: a.path("server.pem"), Key: a.path("server.key")}
	for what, c := range map[string]struct {
		change func(*boot.Config)
		want   string
	}{
		"nothing":                   {func(*boot.Config) {}, "give a certificate by --tls-cert"},
		"tokens, in clear text":     {func(c *boot.Config) { c.Access.Anonymous = "reader" }, "give a certificate by --tls-cert"},
		"a certificate, and nobody": {func(c *boot.Config) { c.TLS = withTLS }, "name principals by --tokens"},
		"a certificate and a role":  {func(c *boot.Config) { c.TLS, c.Access.Anonymous = withTLS, "reader" }, ""},
	} {
		cfg := config()
		cfg.Listen = "0.0.0.0:0"
		c.change(&cfg)
		p, err := boot.Open(t.Context(), cfg, "", zap.NewNop())
		if err == nil {
			p.Close()
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}
