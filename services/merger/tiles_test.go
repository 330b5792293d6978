package merger

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// Layers of several tiles, whole cells and a part of a cell apart, make the same
// table, to the last byte of every batch, as when they are stored a row a cell:
// under every rule, in windows, in bands and endpoints that cut through tiles.
func TestTilesGiveTheSameBytes(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := start(t, Config{BandBytes: 200_000})
	rasters := []raster{
		generated(rng, utm(300, 530, 3e5, 5e6)),
		generated(rng, utm(370, 400, 3e5-90*30+9, 5e6+100*30-6)),
		generated(rng, utm(40, 20, 3e5+250*30, 5e6-250*30)),
	}
	// A tile without a cell, and rows without one.
	for r := range 256 {
		for c := 256; c < 512; c++ {
			rasters[0].cells[r][c] = nil
		}
	}
	for r := 100; r < 180; r++ {
		rasters[1].cells[r] = make([]*float64, 400)
	}
	for i, r := range rasters {
		s.put(t, fmt.Sprintf("rows%d", i), layer.FormatLegacy, r)
		s.put(t, fmt.Sprintf("tiles%d", i), layer.FormatTiled, r)
	}
	for n := range 16 {
		rows := &mergerv1.MergeSpec{
			RowsKept:          mergerv1.RowsKept(1 + n%4),
			CoordinateColumns: mergerv1.CoordinateColumns(1 + rng.IntN(4)), ValueTypes: mergerv1.ValueTypes(1 + rng.IntN(2)),
			BatchRows: int32(1000 + rng.IntN(60_000)), Endpoints: int32(1 + rng.IntN(3)),
			Reference: &mergerv1.Reference{Lattice: &mergerv1.Reference_Layer{Layer: "rows0"}},
		}
		if n > 8 {
			rows.Extent = &mergerv1.Extent{Part: &mergerv1.Extent_Rule{Rule: mergerv1.ExtentRule(1 + rng.IntN(3))}}
		}
		tiles := proto.CloneOf(rows)
		tiles.Reference = &mergerv1.Reference{Lattice: &mergerv1.Reference_Layer{Layer: "tiles0"}}
		for i := range rasters {
			name := []string{"rows", "tiles"}[rng.IntN(2)]
			if n%3 == 0 || i == 0 { // the reference is of the one kind on either side
				name = "tiles"
			}
			rows.Layers = append(rows.Layers, &mergerv1.LayerSelection{Name: fmt.Sprintf("rows%d", i), Column: fmt.Sprintf("c%d", i)})
			tiles.Layers = append(tiles.Layers, &mergerv1.LayerSelection{Name: fmt.Sprintf("%s%d", name, i), Column: fmt.Sprintf("c%d", i)})
		}
		want, got := s.merge(t, rows), s.merge(t, tiles)
		if len(want) != len(got) {
			t.Fatalf("merge %d: %d endpoints, want %d", n, len(got), len(want))
		}
		for e := range want {
			if got[e].trailer.Hash != want[e].trailer.Hash || len(got[e].bodies) != len(want[e].bodies) {
				t.Fatalf("merge %d, endpoint %d: %d rows of hash %s, want %d of %s (%v)", n, e, got[e].rows, got[e].trailer.Hash, want[e].rows, want[e].trailer.Hash, tiles)
			}
			for i := range want[e].bodies[1:] {
				if !bytes.Equal(got[e].bodies[1+i], want[e].bodies[1+i]) {
					t.Fatalf("merge %d, endpoint %d: message %d differs", n, e, 1+i)
				}
			}
		}
	}
}

// A tile with a wrong checksum ends the stream with DATA_LOSS and its name.
func TestBadTileIsDataLoss(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	l := s.put(t, "birds", layer.FormatTiled, generated(rand.New(rand.NewPCG(1, 8)), utm(300, 300, 3e5, 5e6)))
	s.exec(t, fmt.Sprintf("UPDATE %q.%q SET data = set_byte(data, 9, get_byte(data, 9) # 16) WHERE (tile_row, tile_col) = (1, 0)", l.Table.Schema, l.Table.Name))
	info, err := s.info(t.Context(), specOf("birds"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.get(t.Context(), info.GetEndpoint()[0].GetTicket().GetTicket())
	fields := requireStatus(t, err, codes.DataLoss, "DATA_CORRUPT")
	if fields["layer"] != "birds" || fields["tile_row"] != "1" || fields["tile_col"] != "0" {
		t.Errorf("fields %v", fields)
	}
}

// The legacy merge joins rows in SQL, and says that it cannot tiles.
func TestLegacyMergeRefusesTiles(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	s.put(t, "birds", layer.FormatTiled, generated(rand.New(rand.NewPCG(1, 9)), utm(30, 30, 3e5, 5e6)))
	spec := specOf("birds")
	spec.UseLegacyMerge = new(true)
	_, err := s.info(t.Context(), spec)
	if fields := requireStatus(t, err, codes.Unimplemented, "UNSUPPORTED"); fields["layer"] != "birds" {
		t.Errorf("fields %v", fields)
	}
}
