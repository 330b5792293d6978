// Package rpc answers the calls of the schema service: it decodes a message,
// asks the catalog and encodes the answer.
package rpc

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/schema/internal/catalog"
)

// Handler implements the contract over a catalog.
type Handler struct {
	keeper *catalog.Keeper
}

var _ schemav1connect.SchemaServiceHandler = (*Handler)(nil)

// New makes a handler.
func New(keeper *catalog.Keeper) *Handler { return &Handler{keeper: keeper} }

// AdoptCatalog adopts an existing catalog.
func (h *Handler) AdoptCatalog(ctx context.Context, req *connect.Request[schemav1.AdoptCatalogRequest]) (*connect.Response[schemav1.AdoptCatalogResponse], error) {
	began := time.Now()
	table := req.Msg.GetTable()
	a := catalog.Adoption{
		Source:     layer.Table{Schema: table.GetSchema(), Name: table.GetName()},
		DataSchema: req.Msg.GetDataSchema(), DryRun: req.Msg.GetDryRun(),
	}
	if table != nil && a.Source.Schema == "" {
		a.Source.Schema = catalog.DefaultSource.Schema
	}
	adopted, err := h.keeper.Adopt(ctx, a)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&schemav1.AdoptCatalogResponse{
		Layers: messages(adopted.Layers),
		Added:  int32(adopted.Added), Changed: int32(adopted.Changed), Unchanged: int32(adopted.Unchanged),
		Invalid: int32(adopted.Invalid), Elapsed: durationpb.New(time.Since(began)),
	}), nil
}

// ListLayers lists a page of the catalog.
func (h *Handler) ListLayers(ctx context.Context, req *connect.Request[schemav1.ListLayersRequest]) (*connect.Response[schemav1.ListLayersResponse], error) {
	f := catalog.Filter{NameContains: req.Msg.GetNameContains()}
	for _, format := range req.Msg.GetFormats() {
		f.Formats = append(f.Formats, wire.FromFormat(format))
	}
	page, err := h.keeper.List(ctx, f, int(req.Msg.GetPageSize()), req.Msg.GetPageToken())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&schemav1.ListLayersResponse{
		Layers: messages(page.Layers), NextPageToken: page.Next, TotalSize: page.Total,
	}), nil
}

// GetLayer gives one layer.
func (h *Handler) GetLayer(ctx context.Context, req *connect.Request[schemav1.GetLayerRequest]) (*connect.Response[schemav1.GetLayerResponse], error) {
	layers, err := h.keeper.Get(ctx, req.Msg.GetName())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&schemav1.GetLayerResponse{Layer: wire.ToLayer(layers[0])}), nil
}

// BatchGetLayers gives several layers at one moment.
func (h *Handler) BatchGetLayers(ctx context.Context, req *connect.Request[schemav1.BatchGetLayersRequest]) (*connect.Response[schemav1.BatchGetLayersResponse], error) {
	layers, err := h.keeper.Get(ctx, req.Msg.GetNames()...)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&schemav1.BatchGetLayersResponse{Layers: messages(layers)}), nil
}

// DetectFormat looks at a layer's table again.
func (h *Handler) DetectFormat(ctx context.Context, req *connect.Request[schemav1.DetectFormatRequest]) (*connect.Response[schemav1.DetectFormatResponse], error) {
	l, rows, err := h.keeper.Detect(ctx, req.Msg.GetName(), req.Msg.GetScan())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&schemav1.DetectFormatResponse{Layer: wire.ToLayer(l), RowsRead: rows}), nil
}

func messages(layers []layer.Layer) []*layerv1.Layer {
	out := make([]*layerv1.Layer, len(layers))
	for i, l := range layers {
		out[i] = wire.ToLayer(l)
	}
	return out
}
