package rpc

import (
	"context"
	"errors"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/rasterloom/rasterloom/fault"
	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// errAsked says that a command was good enough to ask for its layers.
var errAsked = errors.New("asked")

// asked is a catalog that notes what it is asked for.
type asked struct {
	schemav1connect.UnimplementedSchemaServiceHandler
	names []string
}

func (a *asked) BatchGetLayers(_ context.Context, r *connect.Request[schemav1.BatchGetLayersRequest]) (*connect.Response[schemav1.BatchGetLayersResponse], error) {
	a.names = r.Msg.GetNames()
	return nil, connect.NewError(connect.CodeAborted, errAsked)
}

// FuzzCommands reads commands of descriptors: each is refused as invalid, or asks the
// catalog for no more layers than the limit, and none twice.
func FuzzCommands(f *testing.F) {
	for _, text := range []string{
		`{"layers": [{"name": "a"}, {"name": "b", "column": "c"}], "reference": {"layer": "r"}, "rowsKept": "ROWS_KEPT_ALL"}`,
		`{"layers": [{"name": "a", "minShare": "NaN"}], "extent": {"bounds": {"minX": -1e308, "maxX": 1e308}}, "tolerancePixels": 0.4999}`,
		`{"layers": [{"name": "a"}], "reference": {"grid": {"rows": "9007199254740993", "stepX": 1e-300}}}`,
	} {
		var spec mergerv1.MergeSpec
		if err := protojson.Unmarshal([]byte(text), &spec); err != nil {
			f.Fatal(err)
		}
		b, err := proto.Marshal(&spec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(text))
		f.Add(b)
	}
	f.Add([]byte("{"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, command []byte) {
		const most = 8
		catalog := &asked{}
		_, _, err := NewPlanner(catalog, nil, merge.Limits{Layers: most}).PlanCommand(t.Context(), command)
		if err == nil {
			t.Fatal("a merge was planned of nothing")
		}
		seen := map[string]bool{}
		for _, name := range catalog.names {
			if name == "" || seen[name] {
				t.Fatalf("asked for %q", catalog.names)
			}
			seen[name] = true
		}
		if kind := fault.KindOf(err); len(catalog.names) > most+1 || len(catalog.names) == 0 && kind != fault.Invalid {
			t.Fatalf("%d layers, and %v: %v", len(catalog.names), kind, err)
		}
	})
}
