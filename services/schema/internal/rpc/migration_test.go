package rpc

import (
	"context"
	"testing"

	"connectrpc.com/connect"

	"github.com/rasterloom/rasterloom/fault"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// comparing is a migration that is compared until somebody gives up.
type comparing struct {
	Migrations
	begun chan struct{}
}

func (comparing) Get(_ context.Context, id migrate.ID) (migrate.Migration, error) {
	return migrate.Migration{ID: id, State: migrate.CutOver}, nil
}

func (c comparing) Finalize(ctx context.Context, _ migrate.ID, _ string, _ migrate.Losses) error {
	close(c.begun)
	<-ctx.Done()
	return ctx.Err()
}

// A comparison of hours does not hold up a shutdown, and its caller is told.
func TestShutdownEndsAComparison(t *testing.T) {
	c := comparing{begun: make(chan struct{})}
	h := NewMigrations(nil, c, func() {})
	ended := make(chan error, 1)
	go func() {
		_, err := h.Finalize(t.Context(), connect.NewRequest(&schemav1.FinalizeRequest{Id: "m1", DropOldTable: true}))
		ended <- err
	}()
	<-c.begun
	h.Drain()
	if err := <-ended; fault.From(err).Reason != fault.Draining {
		t.Error(err)
	}
}
