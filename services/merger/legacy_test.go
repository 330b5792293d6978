package merger

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/rasterloom/rasterloom/fault"
	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// scattered stores layers of all formats that SQL can join, whose lattices lie apart by whole
// cells, by parts of cells and by turns of longitude, and gives their names.
func scattered(t *testing.T, s *suite, rng *rand.Rand, set int) []string {
	t.Helper()
	origin := grid.Grid{CRS: "EPSG:4326", OriginX: 100, OriginY: 10, StepX: 1.0 / 3, StepY: 0.5}
	names := make([]string, 1+rng.IntN(4))
	for i := range names {
		g := origin
		g.Rows, g.Cols = 9+rng.IntN(20), 9+rng.IntN(20)
		g.OriginX += g.StepX * (float64(rng.IntN(9)-4) + []float64{0, 0, 0.3, -0.2}[rng.IntN(4)])
		g.OriginY -= g.StepY * (float64(rng.IntN(9)-4) + []float64{0, 0, 0.25}[rng.IntN(3)])
		if rng.IntN(3) == 0 {
			g.OriginX += 360
		}
		names[i] = fmt.Sprintf("set%d_%d", set, i)
		s.put(t, names[i], formats[rng.IntN(3)], generated(rng, g))
	}
	return names
}

// The legacy join makes the same table as the engine, to the last byte of every
// batch, over generated sets and every rule of a merge; and a comparison finds
// them equal.
func TestLegacyMergeGivesTheSameBytes(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := start(t, Config{BandBytes: 3000})
	rows, sets := int64(0), 60
	for set := range sets {
		spec := specOf(scattered(t, s, rng, set)...)
		spec.RowsKept = mergerv1.RowsKept(1 + rng.IntN(4))
		spec.CoordinateColumns = mergerv1.CoordinateColumns(1 + rng.IntN(4))
		spec.ValueTypes = mergerv1.ValueTypes(1 + rng.IntN(2))
		spec.BatchRows, spec.Endpoints = int32(1+rng.IntN(300)), int32(1+rng.IntN(3))
		if len(spec.GetLayers()) > 1 && rng.IntN(2) == 0 {
			// The reference decides on rows, and has no column.
			spec.Reference = &mergerv1.Reference{Lattice: &mergerv1.Reference_Layer{Layer: spec.GetLayers()[0].GetName()}}
			spec.Layers = spec.GetLayers()[1:]
		}
		if rng.IntN(3) == 0 {
			spec.Extent = &mergerv1.Extent{Part: &mergerv1.Extent_Bounds{Bounds: &gridv1.Bounds{MinX: 99, MaxX: 104, MinY: 3, MaxY: 11}}}
		}
		woven := s.merge(t, spec)
		legacy := proto.CloneOf(spec)
		legacy.UseLegacyMerge = new(true)
		joined := s.merge(t, legacy)
		if len(woven) != len(joined) {
			t.Fatalf("set %d: %d endpoints and %d", set, len(woven), len(joined))
		}
		for e := range woven {
			// The first message is the schema, which warns.
			if woven[e].trailer.Hash != joined[e].trailer.Hash || !slices.EqualFunc(woven[e].bodies[1:], joined[e].bodies[1:], bytes.Equal) ||
				!slices.Equal(woven[e].metadata, joined[e].metadata) {
				t.Fatalf("set %d, endpoint %d: %+v and %+v for %s", set, e, woven[e].trailer, joined[e].trailer, asJSON(t, spec))
			}
			rows += woven[e].rows
		}
		compared, err := s.rpc.CompareMerge(t.Context(), connect.NewRequest(&mergerv1.CompareMergeRequest{Spec: spec}))
		if err != nil {
			t.Fatal(err)
		}
		total := int64(0)
		for _, w := range woven {
			total += w.rows
		}
		if c := compared.Msg; !c.GetEqual() || c.GetRows() != total || c.GetLegacyRows() != total || len(c.GetLayers()) != len(spec.GetLayers()) || len(c.GetDifferences()) != 0 {
			t.Fatalf("set %d: %v", set, c)
		}
	}
	if rows < int64(sets) {
		t.Fatalf("%d rows in %d sets: this compares nothing", rows, sets)
	}
	t.Logf("%d rows in %d sets", rows, sets)
}

// Who takes the legacy way is told so, by plan and schema; who does not is not.
// The request goes before the configuration.
func TestLegacyMergeWarns(t *testing.T) {
	t.Parallel()
	for _, configured := range []bool{false, true} {
		s := start(t, Config{UseLegacyMerge: configured})
		s.put(t, "birds", layer.FormatLegacy, generated(rand.New(rand.NewPCG(1, 2)), utm(4, 5, 3e5, 5e6)))
		for _, asked := range []*bool{nil, new(false), new(true)} {
			spec := specOf("birds")
			spec.UseLegacyMerge = asked
			legacy := configured
			if asked != nil {
				legacy = *asked
			}
			got := s.merge(t, spec)[0]
			metadata, _ := got.schema.Metadata().GetValue("rasterloom")
			warned := slices.Contains(planOf(t, s, spec).GetWarnings(), merge.LegacyWarning)
			if warned != legacy || strings.Contains(metadata, `"deprecated":"`+merge.LegacyWarning) != legacy || got.rows == 0 {
				t.Errorf("configured %v, asked %v: warned by the plan %v, metadata %s", configured, asked, warned, metadata)
			}
		}
	}
}

// What the engine refuses to guess at, the join refuses as well.
func TestLegacyMergeRefuses(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	full := raster{grid: utm(3, 3, 3e5, 5e6), cells: make([][]*float64, 3)}
	for i := range full.cells {
		full.cells[i] = []*float64{new(1.0), new(2.0), new(300.0)}
	}
	for _, name := range []string{"twice", "off", "wide"} {
		s.put(t, name, layer.FormatCoordinate, full)
	}
	s.exec(t, `INSERT INTO public.twice SELECT x_coord, y_coord, 9 FROM public.twice LIMIT 1`)
	s.exec(t, `UPDATE public.off SET x_coord = x_coord + 7 WHERE value = 2`)
	s.exec(t, `UPDATE public.wide SET value = 0.5 WHERE value = 2`)
	for name, reason := range map[string]string{"twice": "DUPLICATE_CELL", "off": "CELL_OFF_GRID", "wide": "NARROWING_LOSS"} {
		for _, legacy := range []bool{false, true} {
			spec := specOf(name)
			spec.UseLegacyMerge, spec.ValueTypes = &legacy, mergerv1.ValueTypes_VALUE_TYPES_DECLARED
			info, err := s.info(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.get(t.Context(), info.GetEndpoint()[0].GetTicket().GetTicket())
			requireStatus(t, err, codes.FailedPrecondition, reason)
		}
		choosing := specOf(name)
		choosing.UseLegacyMerge, choosing.Duplicates = new(true), mergerv1.Duplicates_DUPLICATES_FIRST
		_, err := s.info(t.Context(), choosing)
		requireStatus(t, err, codes.InvalidArgument, "INVALID_ARGUMENT")
		_, err = s.rpc.CompareMerge(t.Context(), connect.NewRequest(&mergerv1.CompareMergeRequest{Spec: &mergerv1.MergeSpec{
			Layers: specOf(name).GetLayers(), ValueTypes: mergerv1.ValueTypes_VALUE_TYPES_DECLARED,
		}}))
		if f := fault.From(wire.FromConnect("merger", err)); err == nil || f.Kind != fault.Precondition || string(f.Reason) != reason {
			t.Errorf("%s: compared with %v", name, err)
		}
	}
}
