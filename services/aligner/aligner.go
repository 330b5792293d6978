// Package aligner is the front door of the aligner service: how grids relate,
// from metadata alone. Nothing behind it can reach a database or a file.
package aligner

import (
	"context"
	"net/http"

	"github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1/alignerv1connect"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/aligner/internal/rpc"
)

// Config is what the aligner can be told.
type Config struct {
	SchemaURL string `help:"Where the schema service is, which knows the layers." env:"RASTERLOOM_SCHEMA_URL" default:"http://127.0.0.1:7420" placeholder:"URL"`
}

// New builds the service. It can work as long as it runs: requests that bring
// their metadata along need no other service.
func New(_ context.Context, cfg Config, deps boot.Deps) (*boot.Service, error) {
	schema := schemav1connect.NewSchemaServiceClient(deps.HTTPClient, cfg.SchemaURL, wire.ClientOptions()...)
	path, handler := alignerv1connect.NewAlignerServiceHandler(rpc.New(schema), wire.Options()...)
	return &boot.Service{
		Name:     alignerv1connect.AlignerServiceName,
		Handlers: map[string]http.Handler{path: handler},
		Check:    func(context.Context) error { return nil },
		Close:    func() {},
	}, nil
}
