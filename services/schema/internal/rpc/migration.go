package rpc

import (
	"context"
	"time"

	"connectrpc.com/connect"

	"github.com/rasterloom/rasterloom/fault"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/services/schema/internal/catalog"
)

// Migrations carries migrations out.
type Migrations interface {
	Plan(ctx context.Context, spec migrate.Spec, l layer.Layer, headroom *int64) (migrate.Plan, error)
	Start(ctx context.Context, key string, spec migrate.Spec, l layer.Layer, headroom *int64) (migrate.Migration, error)
	Get(context.Context, migrate.ID) (migrate.Migration, error)
	List(ctx context.Context, layer string, limit int) ([]migrate.Migration, error)
	Pause(ctx context.Context, id migrate.ID, etag string) error
	Resume(ctx context.Context, id migrate.ID, etag string) error
	CutOver(ctx context.Context, id migrate.ID, etag string) error
	Rollback(ctx context.Context, id migrate.ID, etag string) error
	Finalize(ctx context.Context, id migrate.ID, etag string, accepted migrate.Losses) error
	Abort(ctx context.Context, id migrate.ID, etag string) error
}

// MigrationHandler implements the contract of migrations.
type MigrationHandler struct {
	keeper     *catalog.Keeper
	migrations Migrations
	wake       func()
	poll       time.Duration
	// draining is closed when the service is to shut down; onDrain has something done
	// then, unless it is stopped before.
	draining <-chan struct{}
	onDrain  func(func()) (stop func() bool)
	drain    context.CancelFunc
}

var _ schemav1connect.MigrationServiceHandler = (*MigrationHandler)(nil)

// NewMigrations makes a handler. wake is called when there is something to do
// for a worker.
func NewMigrations(keeper *catalog.Keeper, m Migrations, wake func()) *MigrationHandler {
	up, drain := context.WithCancel(context.Background())
	return &MigrationHandler{keeper: keeper, migrations: m, wake: wake, poll: 250 * time.Millisecond,
		draining: up.Done(), onDrain: func(do func()) func() bool { return context.AfterFunc(up, do) }, drain: drain}
}

// Drain ends the calls that only wait, or read whole tables, so that they do not
// hold up a shutdown: whoever watches a migration can go on watching it at another
// replica, and what was compared in vain is compared there.
func (h *MigrationHandler) Drain() { h.drain() }

// reading runs a part of a call that takes as long as a table is large. It ends with
// the caller, who need not wait for what he gave up, and with the service.
func (h *MigrationHandler) reading(ctx context.Context, do func(context.Context) error) error {
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	defer h.onDrain(cancel)()
	err := do(within)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		return fault.New(fault.Unavailable, fault.Draining, "the server is shutting down, and ended the call before it was done: look how it stands, and say it again").Because(err)
	}
	return err
}

// PlanMigration explains a migration.
func (h *MigrationHandler) PlanMigration(ctx context.Context, req *connect.Request[schemav1.PlanMigrationRequest]) (*connect.Response[schemav1.PlanMigrationResponse], error) {
	spec := fromSpec(req.Msg.GetSpec())
	layers, err := h.keeper.Get(ctx, spec.Layer)
	if err != nil {
		return nil, err
	}
	var plan migrate.Plan
	err = h.reading(ctx, func(ctx context.Context) (err error) {
		plan, err = h.migrations.Plan(ctx, spec, layers[0], req.Msg.DiskHeadroomBytes)
		return err
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&schemav1.PlanMigrationResponse{Plan: toPlan(plan)}), nil
}

// StartMigration starts one.
func (h *MigrationHandler) StartMigration(ctx context.Context, req *connect.Request[schemav1.StartMigrationRequest]) (*connect.Response[schemav1.StartMigrationResponse], error) {
	spec := fromSpec(req.Msg.GetSpec())
	layers, err := h.keeper.Get(ctx, spec.Layer)
	if err != nil {
		return nil, err
	}
	var m migrate.Migration
	err = h.reading(ctx, func(ctx context.Context) (err error) {
		m, err = h.migrations.Start(ctx, req.Msg.GetIdempotencyKey(), spec, layers[0], req.Msg.DiskHeadroomBytes)
		return err
	})
	if err != nil {
		return nil, err
	}
	h.wake()
	return connect.NewResponse(&schemav1.StartMigrationResponse{Migration: toMigration(m)}), nil
}

// GetMigration gives one.
func (h *MigrationHandler) GetMigration(ctx context.Context, req *connect.Request[schemav1.GetMigrationRequest]) (*connect.Response[schemav1.GetMigrationResponse], error) {
	m, err := h.get(ctx, req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&schemav1.GetMigrationResponse{Migration: toMigration(m)}), nil
}

func (h *MigrationHandler) get(ctx context.Context, text string) (migrate.Migration, error) {
	id, err := migrate.ParseID(text)
	if err != nil {
		return migrate.Migration{}, err
	}
	return h.migrations.Get(ctx, id)
}

// ListMigrations lists them.
func (h *MigrationHandler) ListMigrations(ctx context.Context, req *connect.Request[schemav1.ListMigrationsRequest]) (*connect.Response[schemav1.ListMigrationsResponse], error) {
	limit := int(req.Msg.GetLimit())
	if limit == 0 {
		limit = 100
	}
	list, err := h.migrations.List(ctx, req.Msg.GetLayer(), limit)
	if err != nil {
		return nil, err
	}
	answer := &schemav1.ListMigrationsResponse{}
	for _, m := range list {
		answer.Migrations = append(answer.Migrations, toMigration(m))
	}
	return connect.NewResponse(answer), nil
}

// WatchMigration tells how one goes on until nothing moves any more.
func (h *MigrationHandler) WatchMigration(ctx context.Context, req *connect.Request[schemav1.WatchMigrationRequest], stream *connect.ServerStream[schemav1.WatchMigrationResponse]) error {
	tick := time.NewTicker(h.poll)
	defer tick.Stop()
	var watch migrate.Watch
	for {
		m, err := h.get(ctx, req.Msg.GetId())
		if err != nil {
			return err
		}
		if news, changed := watch.See(m, time.Now()); changed {
			if err := stream.Send(toWatch(m, news)); err != nil {
				return err
			}
		}
		if _, moves := migrate.Next(m.State); !moves || m.Condition != migrate.Running {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-h.draining:
			return fault.New(fault.Unavailable, fault.Draining, "the server is shutting down; migration %s goes on, watch it again", m.ID).
				With("migration", m.ID)
		case <-tick.C:
		}
	}
}

// PauseMigration stops one.
func (h *MigrationHandler) PauseMigration(ctx context.Context, req *connect.Request[schemav1.PauseMigrationRequest]) (*connect.Response[schemav1.PauseMigrationResponse], error) {
	m, err := h.operate(ctx, req.Msg, h.migrations.Pause)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&schemav1.PauseMigrationResponse{Migration: m}), nil
}

// ResumeMigration lets one go on.
func (h *MigrationHandler) ResumeMigration(ctx context.Context, req *connect.Request[schemav1.ResumeMigrationRequest]) (*connect.Response[schemav1.ResumeMigrationResponse], error) {
	m, err := h.operate(ctx, req.Msg, h.migrations.Resume)
	if err != nil {
		return nil, err
	}
	h.wake()
	return connect.NewResponse(&schemav1.ResumeMigrationResponse{Migration: m}), nil
}

// CutOver gives the name to the new table.
func (h *MigrationHandler) CutOver(ctx context.Context, req *connect.Request[schemav1.CutOverRequest]) (*connect.Response[schemav1.CutOverResponse], error) {
	m, err := h.operate(ctx, req.Msg, h.migrations.CutOver)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&schemav1.CutOverResponse{Migration: m}), nil
}

// Rollback gives the name back.
func (h *MigrationHandler) Rollback(ctx context.Context, req *connect.Request[schemav1.RollbackRequest]) (*connect.Response[schemav1.RollbackResponse], error) {
	m, err := h.operate(ctx, req.Msg, h.migrations.Rollback)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&schemav1.RollbackResponse{Migration: m}), nil
}

// Finalize drops the old table.
func (h *MigrationHandler) Finalize(ctx context.Context, req *connect.Request[schemav1.FinalizeRequest]) (*connect.Response[schemav1.FinalizeResponse], error) {
	if !req.Msg.GetDropOldTable() {
		return nil, fault.New(fault.Invalid, fault.InvalidArgument,
			"finalizing drops the old table, and there is no way back: say so with drop_old_table (--drop-old-table)").With("field", "drop_old_table")
	}
	before, err := h.get(ctx, req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	if before.LosesName() && !req.Msg.GetDropName() {
		return nil, fault.New(fault.Invalid, fault.InvalidArgument,
			"finalizing migration %s leaves nothing under the name %s, since its tiles are for no SQL: say that this is meant with drop_name (--drop-name)", before.ID, before.Table).
			With("field", "drop_name").With("table", before.Table)
	}
	accepted := migrate.Losses{Name: req.Msg.GetDropName(), Writes: req.Msg.GetLoseWrites()}
	m, err := h.operate(ctx, req.Msg, func(ctx context.Context, id migrate.ID, etag string) error {
		return h.reading(ctx, func(ctx context.Context) error { return h.migrations.Finalize(ctx, id, etag, accepted) })
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&schemav1.FinalizeResponse{Migration: m}), nil
}

// AbortMigration gives one up.
func (h *MigrationHandler) AbortMigration(ctx context.Context, req *connect.Request[schemav1.AbortMigrationRequest]) (*connect.Response[schemav1.AbortMigrationResponse], error) {
	m, err := h.operate(ctx, req.Msg, h.migrations.Abort)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&schemav1.AbortMigrationResponse{Migration: m}), nil
}

// operate does what an operator asked for, and gives the migration as it is
// then.
func (h *MigrationHandler) operate(ctx context.Context, req interface {
	GetId() string
	GetEtag() string
}, do func(context.Context, migrate.ID, string) error,
) (*schemav1.Migration, error) {
	id, err := migrate.ParseID(req.GetId())
	if err != nil {
		return nil, err
	}
	if err := do(ctx, id, req.GetEtag()); err != nil {
		return nil, err
	}
	m, err := h.migrations.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return toMigration(m), nil
}
