package boot

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rasterloom/rasterloom/internal/access"
)

// innerHost is the name by which services of one process reach each other. The
// top-level domain .internal is reserved for private use.
const innerHost = "process.rasterloom.internal"

// Secret is a text that does not print.
type Secret string

// String hides the secret.
func (Secret) String() string { return "***" }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return "***" }

// ClientConfig is what somebody who asks the services can say of himself, and of
// whom he believes.
type ClientConfig struct {
	Token     Secret `help:"Token that says who asks. Better in the environment, or in a file: others see command lines." env:"RASTERLOOM_TOKEN" placeholder:"TOKEN"`
	TokenFile string `help:"File with the token." type:"path" env:"RASTERLOOM_TOKEN_FILE" placeholder:"FILE"`
	CA        string `help:"Authorities (PEM) of the services. Default: those of the system." name:"ca" type:"path" env:"RASTERLOOM_CA" placeholder:"FILE"`
	Cert      string `help:"Certificate (PEM) to show to the services." name:"client-cert" type:"path" env:"RASTERLOOM_CLIENT_CERT" placeholder:"FILE"`
	Key       string `help:"Private key of that certificate." name:"client-key" type:"path" env:"RASTERLOOM_CLIENT_KEY" placeholder:"FILE"`
	Insecure  bool   `help:"Send the token although nothing is encrypted on the way to another machine." env:"RASTERLOOM_INSECURE"`
}

// NewHTTPClient makes the client by which one service asks another, or a person
// any of them, without credentials: HTTP/2, over TLS for https and in clear text
// for http.
func NewHTTPClient() *http.Client {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return newHTTPClient(dialer.DialContext, nil)
}

// NewClient is NewHTTPClient with credentials. Errors: files that cannot be read.
func NewClient(c ClientConfig) (*http.Client, error) {
	if (c.Cert == "") != (c.Key == "") {
		return nil, errors.New("--client-cert and --client-key come together")
	}
	var certificate *access.File[*tls.Certificate]
	var err error
	if c.Cert != "" {
		if certificate, err = openCertificate(c.Cert, c.Key); err != nil {
			return nil, fmt.Errorf("--client-cert: %w", err)
		}
	}
	config, err := clientTLS(c.CA, certificate)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	client := newHTTPClient(dialer.DialContext, config)
	switch {
	case c.Token != "":
		token := string(c.Token)
		client.Transport = bearer{client.Transport, func() string { return token }, c.Insecure}
	case c.TokenFile != "":
		token, err := openToken(c.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("--token-file: %w", err)
		}
		client.Transport = bearer{client.Transport, token.Get, c.Insecure}
	}
	return client, nil
}

// openToken reads a file with a token.
func openToken(path string) (*access.File[string], error) {
	return access.Open(path, func(text []byte) (string, error) {
		token := strings.TrimSpace(string(text))
		if token == "" || strings.ContainsAny(token, " \t\r\n") {
			return "", errors.New("the file is not one token")
		}
		return token, nil
	})
}

// CredentialsError says why credentials were not shown to a service, which then
// was not asked.
type CredentialsError struct{ Message string }

// Error gives the sentence for people.
func (e *CredentialsError) Error() string { return e.Message }

// bearer shows a token with every request, but to nobody who could be overheard.
type bearer struct {
	http.RoundTripper
	token    func() string
	insecure bool
}

// RoundTrip implements http.RoundTripper.
func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	host := r.URL.Hostname()
	if host == innerHost {
		return b.RoundTripper.RoundTrip(r)
	}
	if r.URL.Scheme != "https" && !b.insecure && !isLoopback(host) {
		if r.Body != nil {
			_ = r.Body.Close() // who writes to it is not to wait for a reader
		}
		return nil, &CredentialsError{fmt.Sprintf("the token is not sent to %s in clear text: use https, or say --insecure where the network is private", r.URL.Host)}
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token())
	return b.RoundTripper.RoundTrip(r)
}

// CloseIdleConnections is what http.Client asks for.
func (b bearer) CloseIdleConnections() {
	if t, ok := b.RoundTripper.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}

// stay follows no redirect: the services send none, and credentials are for the
// address that somebody gave, not for whatever answers there names.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func newHTTPClient(dial func(ctx context.Context, network, address string) (net.Conn, error), config *tls.Config) *http.Client {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{CheckRedirect: stay, Transport: &http.Transport{
		DialContext:         dial,
		TLSClientConfig:     config,
		Protocols:           &protocols,
		TLSHandshakeTimeout: 5 * time.Second,
		IdleConnTimeout:     90 * time.Second,
		// A peer that is gone without a word is found out in 15 seconds.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
	}}
}

// pipeListener accepts connections from within the process. Calls between the
// services of one process go through it: the same protocol and the same limits
// as over the network, no port, and a door that stays open while the ones to
// the outside are already closed, so that calls in hand can be ended.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

// Network implements net.Addr.
func (pipeAddr) Network() string { return "pipe" }

// String implements net.Addr.
func (pipeAddr) String() string { return innerHost }
