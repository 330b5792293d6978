package rpc

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/schema/internal/catalog"
)

// RegisterLayer takes one table into the catalog.
func (h *Handler) RegisterLayer(ctx context.Context, req *connect.Request[schemav1.RegisterLayerRequest]) (*connect.Response[schemav1.RegisterLayerResponse], error) {
	began := time.Now()
	g, err := latticeOf(req.Msg)
	if err != nil {
		return nil, err
	}
	table := req.Msg.GetTable()
	registered, err := h.keeper.Register(ctx, catalog.Registration{
		Name: req.Msg.GetName(), Band: req.Msg.GetBand(),
		Table: layer.Table{Schema: table.GetSchema(), Name: table.GetName()}, Grid: g,
		DeclaredType: wire.FromDataType(req.Msg.GetDeclaredType()), Nodata: req.Msg.Nodata,
		Registration: wire.FromRegistration(req.Msg.GetRegistration()), SouthUp: req.Msg.SouthUp, DryRun: req.Msg.GetDryRun(),
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&schemav1.RegisterLayerResponse{
		Layer: wire.ToLayer(registered.Layer), Added: registered.Added, RowsRead: registered.RowsRead,
		Elapsed: durationpb.New(time.Since(began)),
	}), nil
}

// latticeOf reads a grid that is told in one of two ways.
func latticeOf(req interface {
	GetGrid() *gridv1.Grid
	GetExtent() *gridv1.Extent
}) (grid.Grid, error) {
	if extent := req.GetExtent(); extent != nil {
		return wire.FromExtent(extent)
	}
	return wire.FromGrid(req.GetGrid())
}

// DropLayer removes a layer from the catalog.
func (h *Handler) DropLayer(ctx context.Context, req *connect.Request[schemav1.DropLayerRequest]) (*connect.Response[schemav1.DropLayerResponse], error) {
	l, err := h.keeper.Drop(ctx, req.Msg.GetName(), req.Msg.GetGeneration(), req.Msg.GetDeleteTiles())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&schemav1.DropLayerResponse{Layer: wire.ToLayer(l)}), nil
}
