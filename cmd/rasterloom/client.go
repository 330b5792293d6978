package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1/alignerv1connect"
	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1/mergerv1connect"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/internal/wire"
)

const (
	statusFailed      = 1
	statusUnreachable = 3
	statusStopped     = 130 // as shells say of a command that Ctrl-C ended
)

// connection is the flags that say where a running suite is, and who asks.
type connection struct {
	URL               string `help:"Where the suite answers." default:"${url}" env:"RASTERLOOM_URL" placeholder:"URL" group:"Connection"`
	SchemaURL         string `help:"Where the schema service answers, if elsewhere." env:"RASTERLOOM_SCHEMA_URL" placeholder:"URL" group:"Connection"`
	AlignerURL        string `help:"Where the aligner answers, if elsewhere." env:"RASTERLOOM_ALIGNER_URL" placeholder:"URL" group:"Connection"`
	MergerURL         string `help:"Where the merger answers, if elsewhere." env:"RASTERLOOM_MERGER_URL" placeholder:"URL" group:"Connection"`
	boot.ClientConfig `group:"Connection"`
	Timeout           time.Duration `help:"Longest time to wait for an answer. What plans or moves a migration takes as long as its table is large." default:"2m" env:"RASTERLOOM_TIMEOUT" group:"Connection"`
}

// client is the flags of every command that asks a running suite and prints what
// it answers.
type client struct {
	connection
	Output string `short:"o" help:"Form of the answer: ${enum}." enum:"table,json" default:"table"`
}

// Validate refuses addresses that cannot be asked; kong calls it.
func (c connection) Validate() error {
	for flag, address := range map[string]string{"url": c.URL, "schema-url": c.SchemaURL, "aligner-url": c.AlignerURL, "merger-url": c.MergerURL} {
		if err := checkURL(flag, address); err != nil {
			return err
		}
	}
	return nil
}

func checkURL(flag, address string) error {
	if address == "" {
		return nil
	}
	if u, err := url.Parse(address); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		if at := strings.LastIndex(address, "@"); at >= 0 {
			address = "…" + address[at:] // What stands before it may be a password.
		}
		return fmt.Errorf("--%s %q is not http://HOST:PORT or https://HOST:PORT", flag, address)
	}
	return nil
}

func (c connection) url(service string) string {
	own := map[string]string{"schema": c.SchemaURL, "aligner": c.AlignerURL, "merger": c.MergerURL}[service]
	if own != "" {
		return own
	}
	return c.URL
}

// http makes the client that shows who asks.
func (c connection) http() connect.HTTPClient {
	asker, err := boot.NewClient(c.ClientConfig)
	if err != nil {
		return refusal{err}
	}
	return asker
}

// shows says by what the client says who asks; empty: by nothing.
func (c connection) shows() string {
	switch {
	case c.Token != "" || c.TokenFile != "":
		return "token"
	case c.Cert != "":
		return "certificate"
	}
	return ""
}

// refusal is a client that cannot ask, and says why with every call.
type refusal struct{ err error }

// Do implements connect.HTTPClient.
func (r refusal) Do(*http.Request) (*http.Response, error) {
	return nil, &boot.CredentialsError{Message: r.err.Error()}
}

func (c client) schema() schemav1connect.SchemaServiceClient {
	return schemav1connect.NewSchemaServiceClient(c.http(), c.url("schema"), wire.ClientOptions()...)
}

func (c client) aligner() alignerv1connect.AlignerServiceClient {
	return alignerv1connect.NewAlignerServiceClient(c.http(), c.url("aligner"), wire.ClientOptions()...)
}

func (c client) merger() mergerv1connect.MergerServiceClient {
	return mergerv1connect.NewMergerServiceClient(c.http(), c.url("merger"), wire.ClientOptions()...)
}

// ask makes one call and turns its error into one for people.
func ask[Req, Res any](ctx context.Context, c client, service string,
	call func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), req *Req,
) (*Res, error) {
	limited, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	return askWithin(ctx, limited, c, service, call, req)
}

// askWithin is ask with the limit that a context has; ctx is the one of the command.
func askWithin[Req, Res any](ctx, limited context.Context, c client, service string,
	call func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), req *Req,
) (*Res, error) {
	res, err := call(limited, connect.NewRequest(req))
	if err != nil {
		failed := &askError{client: c, service: service, err: err, stopped: ctx.Err() != nil}
		// The server is told of our limit, and may be the first to find it passed.
		end, bounded := limited.Deadline()
		failed.waited = bounded && time.Until(end) <= c.Timeout/10
		if connect.CodeOf(err) == connect.CodeUnimplemented {
			// Which release does not know the call is worth another question.
			if answer, err := c.health(ctx, c.url(service), ""); err == nil {
				failed.release = answer.version
			}
		}
		return nil, failed
	}
	return res.Msg, nil
}

// askLong is ask for a call that takes as long as a table is large: it has no limit of
// ours, and who waits is told what for. A server that is gone is found out all the
// same, by the pings of the connection.
func askLong[Req, Res any](ctx context.Context, c client, service, what string,
	call func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), req *Req,
) (*Res, error) {
	done := newPainter(os.Stderr).waiting(what)
	defer done()
	return askWithin(ctx, ctx, c, service, call, req)
}

// flightFailed turns the error of a call by Arrow Flight, asked of an address, into
// one for people, as ask does.
func (c client) flightFailed(ctx context.Context, address string, err error) error {
	said, ok := errors.AsType[*connect.Error](wire.ConnectFromStatus(err))
	if !ok {
		return err
	}
	why := error(said)
	if at, err := url.Parse(address); err == nil && said.Code() == connect.CodeUnavailable {
		// gRPC says that there was no connection, and not why.
		why = errors.Join(said, knock(ctx, at))
	}
	c.MergerURL = address
	return &askError{client: c, service: "merger", err: why, stopped: ctx.Err() != nil}
}

// knock looks whether anybody listens at an address, and gives why not.
func knock(ctx context.Context, at *url.URL) error {
	conn, err := (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, "tcp", net.JoinHostPort(at.Hostname(), portOf(at)))
	if err != nil {
		return err
	}
	return conn.Close()
}

func portOf(at *url.URL) string {
	return cmp.Or(at.Port(), map[string]string{"http": "80", "https": "443"}[at.Scheme])
}

// allLayers lists the whole catalog, page by page.
func allLayers(ctx context.Context, c client, filter *schemav1.ListLayersRequest) (*schemav1.ListLayersResponse, error) {
	all, schema := &schemav1.ListLayersResponse{}, c.schema()
	for {
		page, err := ask(ctx, c, "schema", schema.ListLayers, filter)
		if err != nil {
			return nil, err
		}
		all.Layers, all.TotalSize = append(all.Layers, page.GetLayers()...), page.GetTotalSize()
		if filter.PageToken = page.GetNextPageToken(); filter.PageToken == "" {
			return all, nil
		}
	}
}

// names gives the asked layers, or every layer of the catalog that can be read.
func names(ctx context.Context, c client, asked []string) ([]string, error) {
	if len(asked) > 0 {
		return asked, nil
	}
	all, err := allLayers(ctx, c, &schemav1.ListLayersRequest{})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, l := range all.GetLayers() {
		if l.GetFormat() != layerv1.Format_FORMAT_INVALID {
			out = append(out, l.GetName())
		}
	}
	if len(out) == 0 {
		return nil, errors.New("the catalog has no layer that can be read; `rasterloom layers adopt` fills it")
	}
	return out, nil
}

// askError is a call that did not work out.
type askError struct {
	client  client
	service string
	err     error
	stopped bool   // by Ctrl-C
	waited  bool   // as long as --timeout allows
	release string // of a service that does not know the call; empty: it is none of ours
}

// Error gives the sentence for people.
func (e *askError) Error() string { return e.fault().Message }

// Unwrap gives what the client library said.
func (e *askError) Unwrap() error { return e.err }

func (e *askError) fault() *fault.Error {
	at := e.client.url(e.service)
	if own, ok := errors.AsType[*boot.CredentialsError](e.err); ok {
		return fault.New(fault.Invalid, fault.InvalidArgument, "%s", own.Message)
	}
	switch connect.CodeOf(e.err) {
	case connect.CodeCanceled:
		if e.stopped {
			return fault.New(fault.Unavailable, fault.FlightCancelled, "stopped")
		}
		// What net/http makes of a peer that hangs up as it is greeted.
		return fault.New(fault.Unavailable, fault.ServiceUnavailable, "%s", unreached(e.service, at, e.err))
	case connect.CodeDeadlineExceeded:
		if e.waited {
			return fault.New(fault.Unavailable, fault.ServiceUnavailable, "no answer from %s within %v; --timeout allows more", at, e.client.Timeout)
		}
		said := "a limit of the server"
		if answer, ok := errors.AsType[*connect.Error](e.err); ok && answer.Message() != "" {
			said = answer.Message()
		}
		return fault.New(fault.Limit, fault.LimitExceeded, "%s ended the call: %s", at, said)
	}
	f := fault.From(wire.FromConnect(e.service, e.err))
	switch {
	case f.Reason == fault.ServiceUnavailable && f.Fields["service"] == e.service:
		return fault.New(f.Kind, f.Reason, "%s", unreached(e.service, at, e.err))
	case f.Reason == fault.Bug && e.release != "":
		return fault.New(fault.Unsupported, fault.NotSupported, "the %s service at %s is of release %s and does not know this call, and this program is %s: use one release of both",
			e.service, at, e.release, boot.Release())
	case f.Reason == fault.Bug && f.Fields["request_id"] == "":
		return fault.New(f.Kind, f.Reason, "what answers at %s is not Rasterloom's %s service: is --url right?", at, e.service)
	case f.Reason == fault.Bug:
		return fault.New(f.Kind, f.Reason, "%s; the log of the server has it under request id %s", f.Message, f.Fields["request_id"])
	case f.Reason == fault.CredentialsInvalid && e.client.shows() != "":
		return fault.New(f.Kind, f.Reason, "%s does not know the %s that was shown: it is not in the server's file of tokens, or has expired", at, e.client.shows())
	case f.Reason == fault.CredentialsInvalid:
		return fault.New(f.Kind, f.Reason, "%s wants to know who asks: give a token by RASTERLOOM_TOKEN or --token-file, or a certificate by --client-cert and --client-key; "+
			"whoever runs the server makes tokens by `rasterloom token new`", at)
	}
	return f
}

// unreached says why there was no answer at all.
func unreached(service, url string, err error) string {
	if name, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Sprintf("no %s service at %s: there is no machine %s, or the network does not say where it is", service, url, name.Name)
	}
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
		return fmt.Sprintf("no %s service at %s: start the suite with `rasterloom up`, or say where it is with --url", service, url)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return fmt.Sprintf("what answers at %s does not speak TLS: say http:// where nothing is encrypted", url)
	}
	if verify, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Sprintf("the certificate of %s is not believed (%v): --ca names the authorities to believe", url, verify.Err)
	}
	return fmt.Sprintf("what answers at %s hung up, or does not talk like Rasterloom's %s service: is --url right? `rasterloom doctor` looks closer", url, service)
}

func (e *askError) status() int {
	if f := e.fault(); f.Kind == fault.Unavailable && f.Reason == fault.ServiceUnavailable {
		return statusUnreachable
	}
	return statusFailed
}
