package rpc

import (
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/rasterloom/rasterloom/fault"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
)

// FuzzIngestCommands reads commands of DoPut: each is refused as invalid, or has a
// grid that is one and a type.
func FuzzIngestCommands(f *testing.F) {
	for _, text := range []string{
		`{"name": "a", "dataType": "DATA_TYPE_INT16", "nodata": -1, "grid": {"crs": "EPSG:32633", "rows": 4, "cols": 6, "originX": 1, "originY": 2, "stepX": 10, "stepY": 10}}`,
		`{"name": "x\"; --", "dataType": 9, "extent": {"bounds": [1000, 1960, 1060, 2000], "resolution": 1e-300}, "mode": 2, "replaceGeneration": 3}`,
		`{"name": "a\u0000b", "dataType": 1, "extent": {"bounds": [0, 0, 9e99, 1], "rows": "9007199254740993", "cols": 1}}`,
	} {
		var spec schemav1.IngestSpec
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
		request, err := IngestCommand(t.Context(), command)
		switch {
		case err != nil:
			if kind := fault.KindOf(err); kind != fault.Invalid {
				t.Fatalf("%v: %v", kind, err)
			}
		case request.Grid.Validate() != nil || request.Type == 0:
			t.Fatalf("%+v is taken", request)
		}
	})
}
