package schema_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/internal/pgtest"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/schema"
)

// The service starts before its database, says that it cannot work, and works
// once the database is there.
func TestTheDatabaseMayComeLater(t *testing.T) {
	t.Parallel()
	config, err := pgx.ParseConfig(pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	network, there := pgconn.NetworkAddress(config.Host, config.Port)
	reserved, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	here := reserved.Addr().String()
	_ = reserved.Close()
	u := url.URL{Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Host: here, Path: "/" + config.Database, RawQuery: "sslmode=disable"}

	service, err := schema.New(t.Context(), schema.Config{DatabaseURL: u.String(), WaitForDatabase: true}, boot.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	mux := http.NewServeMux()
	for path, handler := range service.Handlers {
		mux.Handle(path, handler)
	}
	server := httptest.NewServer(wire.Edge(zap.NewNop(), access.Everybody(), mux))
	t.Cleanup(server.Close)
	for _, options := range [][]connect.ClientOption{nil, {connect.WithProtoJSON()}} {
		client := schemav1connect.NewSchemaServiceClient(server.Client(), server.URL, options...)
		_, err = client.ListLayers(t.Context(), connect.NewRequest(&schemav1.ListLayersRequest{}))
		wantError(t, err, connect.CodeUnavailable, "DATABASE_UNAVAILABLE")
	}
	if err := service.Check(t.Context()); err == nil {
		t.Error("the service says that it can work")
	}

	forward(t, here, network, there)
	for deadline := time.Now().Add(patience); service.Check(t.Context()) != nil; {
		if time.Now().After(deadline) {
			t.Fatal("the service does not notice that the database is there")
		}
	}
	client := schemav1connect.NewSchemaServiceClient(server.Client(), server.URL)
	if _, err := client.ListLayers(t.Context(), connect.NewRequest(&schemav1.ListLayersRequest{})); err != nil {
		t.Error(err)
	}
}

// A service that still waits can be stopped.
func TestWaitingEnds(t *testing.T) {
	t.Parallel()
	service, err := schema.New(t.Context(), schema.Config{DatabaseURL: "postgres://u@127.0.0.1:1/d", WaitForDatabase: true}, boot.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	service.Close()
}

// forward gives what comes to one address to another, until the test ends.
func forward(t *testing.T, from, network, to string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", from)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	t.Cleanup(func() { cancel(); _ = listener.Close(); work.Wait() })
	work.Go(func() {
		for {
			here, err := listener.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer here.Close()
				there, err := new(net.Dialer).DialContext(ctx, network, to)
				if err != nil {
					return
				}
				stop := context.AfterFunc(ctx, func() { _ = here.Close(); _ = there.Close() })
				defer stop()
				work.Go(func() { _, _ = io.Copy(there, here); _ = there.Close() })
				_, _ = io.Copy(here, there)
			})
		}
	})
}
