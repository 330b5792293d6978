package merger

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/rasterloom/rasterloom/fault"
	alignerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1/alignerv1connect"
	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/wire"
)

// peers are the two services that the merger asks, by their contracts: a
// catalog that a test writes to, and relations by the grid package. The
// services themselves, all three together, are tested in test/scenario.
type peers struct {
	schemav1connect.UnimplementedSchemaServiceHandler
	alignerv1connect.UnimplementedAlignerServiceHandler

	mu     sync.Mutex
	layers map[string]*layerv1.Layer
}

// startPeers serves both on one address.
func startPeers(t testing.TB) (*peers, *httptest.Server) {
	t.Helper()
	p := &peers{layers: map[string]*layerv1.Layer{}}
	mux := http.NewServeMux()
	mux.Handle(schemav1connect.NewSchemaServiceHandler(p, wire.Options()...))
	mux.Handle(alignerv1connect.NewAlignerServiceHandler(p, wire.Options()...))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return p, server
}

func (p *peers) put(l layer.Layer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.layers[l.Name] = wire.ToLayer(l)
}

func (p *peers) BatchGetLayers(_ context.Context, r *connect.Request[schemav1.BatchGetLayersRequest]) (*connect.Response[schemav1.BatchGetLayersResponse], error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	answer := &schemav1.BatchGetLayersResponse{}
	for _, name := range r.Msg.GetNames() {
		l, ok := p.layers[name]
		if !ok {
			return nil, fault.New(fault.NotFound, fault.LayerNotFound, "no layer is named %q", name).With("layer", name)
		}
		answer.Layers = append(answer.Layers, proto.CloneOf(l))
	}
	return connect.NewResponse(answer), nil
}

func (p *peers) ListLayers(context.Context, *connect.Request[schemav1.ListLayersRequest]) (*connect.Response[schemav1.ListLayersResponse], error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	answer := &schemav1.ListLayersResponse{}
	for _, name := range slices.Sorted(maps.Keys(p.layers)) {
		answer.Layers = append(answer.Layers, proto.CloneOf(p.layers[name]))
	}
	return connect.NewResponse(answer), nil
}

func (p *peers) CalculateGridShifts(_ context.Context, r *connect.Request[alignerv1.CalculateGridShiftsRequest]) (*connect.Response[alignerv1.CalculateGridShiftsResponse], error) {
	reference := r.Msg.GetReference().GetGrid()
	answer := &alignerv1.CalculateGridShiftsResponse{}
	if reference == nil {
		answer.ReferenceLayer = r.Msg.GetReference().GetLayer()
		if answer.ReferenceLayer == "" {
			answer.ReferenceLayer = r.Msg.GetLayers()[0].GetLayer().GetName()
		}
		for _, source := range r.Msg.GetLayers() {
			if source.GetLayer().GetName() == answer.ReferenceLayer {
				reference = source.GetLayer().GetGrid()
			}
		}
	}
	answer.Reference = reference
	ref, err := wire.FromGrid(reference)
	if err != nil {
		return nil, err
	}
	for _, source := range r.Msg.GetLayers() {
		g, err := wire.FromGrid(source.GetLayer().GetGrid())
		if err != nil {
			return nil, err
		}
		relation, err := grid.Relate(g, ref, r.Msg.GetTolerancePixels())
		if err != nil {
			return nil, err
		}
		message := wire.ToRelation(relation)
		message.Layer = source.GetLayer().GetName()
		answer.Relations = append(answer.Relations, message)
	}
	return connect.NewResponse(answer), nil
}
