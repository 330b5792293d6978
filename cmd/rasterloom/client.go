package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
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
)

// connection is the flags that say where a running suite is, and who asks.
type connection struct {
	URL               string `help:"Where the suite answers." default:"${url}" env:"RASTERLOOM_URL" placeholder:"URL" group:"Connection"`
	SchemaURL         string `help:"Where the schema service answers, if elsewhere." env:"RASTERLOOM_SCHEMA_URL" placeholder:"URL" group:"Connection"`
	AlignerURL        string `help:"Where the aligner answers, if elsewhere." env:"RASTERLOOM_ALIGNER_URL" placeholder:"URL" group:"Connection"`
	MergerURL         string `help:"Where the merger answers, if elsewhere." env:"RASTERLOOM_MERGER_URL" placeholder:"URL" group:"Connection"`
	boot.ClientConfig `group:"Connection"`
	Timeout           time.Duration `help:"Longest time to wait for an answer." default:"2m" group:"Connection"`
}

// client is the flags of every command that asks a running suite and prints what
// it answers.
type client struct {
	connection
	Output string `short:"o" help:"Form of the answer: ${enum}." enum:"table,json" default:"table"`
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
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	res, err := call(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, &askError{client: c, service: service, err: err}
	}
	return res.Msg, nil
}

// allLayers lists the whole catalog, page by page.
func allLayers(ctx context.Context, c client, filter *schemav1.ListLayersRequest) (*schemav1.ListLayersResponse, error) {
	all := &schemav1.ListLayersResponse{}
	for {
		page, err := ask(ctx, c, "schema", c.schema().ListLayers, filter)
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
}

// Error gives the sentence for people.
func (e *askError) Error() string { return e.fault().Message }

// Unwrap gives what the client library said.
func (e *askError) Unwrap() error { return e.err }

func (e *askError) fault() *fault.Error {
	url := e.client.url(e.service)
	if own, ok := errors.AsType[*boot.CredentialsError](e.err); ok {
		return fault.New(fault.Invalid, fault.InvalidArgument, "%s", own.Message)
	}
	switch connect.CodeOf(e.err) {
	case connect.CodeCanceled:
		return fault.New(fault.Unavailable, fault.Draining, "stopped")
	case connect.CodeDeadlineExceeded:
		return fault.New(fault.Unavailable, fault.ServiceUnavailable, "no answer from %s within %v; --timeout allows more", url, e.client.Timeout)
	}
	f := fault.From(wire.FromConnect(e.service, e.err))
	switch {
	case f.Reason == fault.ServiceUnavailable && f.Fields["service"] == e.service:
		return fault.New(f.Kind, f.Reason, "no %s service at %s: start the suite with `rasterloom up`, or say where it is with --url", e.service, url)
	case f.Reason == fault.Bug && f.Fields["request_id"] == "":
		return fault.New(f.Kind, f.Reason, "what answers at %s is not Rasterloom's %s service: is --url right?", url, e.service)
	case f.Reason == fault.Bug:
		return fault.New(f.Kind, f.Reason, "%s; the log of the server has it under request id %s", f.Message, f.Fields["request_id"])
	case f.Reason == fault.CredentialsInvalid:
		return fault.New(f.Kind, f.Reason, "%s wants to know who asks: give a token by RASTERLOOM_TOKEN or --token-file, or a certificate by --client-cert and --client-key; "+
			"whoever runs the server makes tokens by `rasterloom token new`", url)
	}
	return f
}

func (e *askError) status() int {
	if f := e.fault(); f.Kind == fault.Unavailable && f.Reason == fault.ServiceUnavailable {
		return statusUnreachable
	}
	return statusFailed
}

func (e *askError) print(out *os.File) {
	f := e.fault()
	if e.client.Output == "json" {
		type said struct {
			Reason  fault.Reason      `json:"reason"`
			Message string            `json:"message"`
			Fields  map[string]string `json:"fields,omitempty"`
		}
		// An error of the terminal cannot be told to anybody.
		_ = json.NewEncoder(out).Encode(map[string]said{"error": {f.Reason, f.Message, f.Fields}})
		return
	}
	p := newPainter(out)
	p.line(red, "error:", " "+f.Message)
	p.line(dim, "       "+string(f.Reason), "")
}
