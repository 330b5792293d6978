package merger

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	"github.com/rasterloom/rasterloom/grid"
)

// fineGrid has nine cells under each of utm's, three to a side.
func fineGrid(rows, cols int, x, y float64) grid.Grid {
	g := utm(rows, cols, x, y)
	g.StepX, g.StepY = 10, 10
	return g
}

func resampleBy(method mergerv1.Resampling, names ...string) *mergerv1.MergeSpec {
	spec := specOf(names...)
	spec.Reference = &mergerv1.Reference{Lattice: &mergerv1.Reference_Layer{Layer: names[0]}}
	spec.Resampling, spec.RowsKept = method, mergerv1.RowsKept_ROWS_KEPT_EVERY
	return spec
}

// A fine layer on a coarse lattice, stored in three formats, gives the same
// bytes in bands of any size and over any endpoints, and they are means by
// definition.
func TestResampledLayersFromEveryFormat(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	small, large := start(t, Config{BandBytes: 1000}), start(t, Config{})
	coarse, fine := generated(rng, utm(11, 13, 3e5, 5e6)), generated(rng, fineGrid(40, 30, 3e5+60, 5e6+30))
	var first string
	for _, s := range []*suite{small, large} {
		s.put(t, "coarse", formats[0], coarse)
		for _, f := range formats {
			name := "fine_" + strings.ToLower(f.String())
			s.put(t, name, f, fine)
			spec := resampleBy(mergerv1.Resampling_RESAMPLING_AVERAGE, "coarse", name)
			spec.Layers[1].Column = "fine"
			hash := s.merge(t, spec)[0].trailer.Hash
			if first == "" {
				first = hash
			}
			if hash != first {
				t.Errorf("%s: hash %s, and %s before", name, hash, first)
			}
			spec.Endpoints = 4
			var got []*float64
			for _, part := range s.merge(t, spec) {
				got = append(got, part.columns[3]...)
			}
			// The union begins a row north of the coarse layer.
			at := 0
			for row := int64(-1); row < 13; row++ {
				for col := range int64(13) {
					if at == len(got) {
						break
					}
					want, ok := meanUnder(fine, 3*(row+1), 3*(col-2))
					if v := got[at]; ok != (v != nil) || ok && math.Abs(*v-want) > 1e-9*math.Max(1, math.Abs(want)) {
						t.Fatalf("%s: row %d, column %d has %v, want %v (%v)", name, row, col, v, want, ok)
					}
					at++
				}
			}
			if at < 13*13 || at != len(got) {
				t.Fatalf("%s: %d cells came, %d were looked at", name, len(got), at)
			}
		}
	}
}

// meanUnder is the mean of the 3 × 3 cells of a raster from a row and a column on.
func meanUnder(r raster, row, col int64) (mean float64, ok bool) {
	var sum, n float64
	for i := row; i < row+3; i++ {
		for j := col; j < col+3; j++ {
			if i >= 0 && j >= 0 && i < int64(r.grid.Rows) && j < int64(r.grid.Cols) && r.cells[i][j] != nil {
				sum, n = sum+*r.cells[i][j], n+1
			}
		}
	}
	return sum / n, n > 0
}

// The plan says what is resampled and how, and so does the table.
func TestResamplingIsTold(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	rng := rand.New(rand.NewPCG(8, 8))
	s.put(t, "coarse", formats[0], generated(rng, utm(11, 13, 3e5, 5e6)))
	s.put(t, "fine", formats[0], generated(rng, fineGrid(33, 39, 3e5, 5e6)))
	s.put(t, "beside", formats[0], generated(rng, utm(11, 13, 3e5+12, 5e6)))

	// By default: refused, with what would fit.
	_, err := s.info(t.Context(), specOf("coarse", "fine"))
	fields := requireStatus(t, err, codes.FailedPrecondition, "RESIDUAL_TOO_LARGE")
	if fields["layer"] == "" || fields["field"] != "resampling" || fields["methods"] == "" || !strings.Contains(err.Error(), "for measurements") {
		t.Errorf("%v, %v", err, fields)
	}

	spec := resampleBy(mergerv1.Resampling_RESAMPLING_AUTO, "coarse", "fine", "beside")
	spec.Layers[1].Kind = mergerv1.ValueKind_VALUE_KIND_COUNT
	spec.Layers[1].MinShare = new(0.5)
	plan := planOf(t, s, spec)
	if plan.GetLayers()[0].GetResampled() != nil || plan.GetLayers()[2].GetResampled() != nil {
		t.Errorf("layers that a shift brings onto the lattice are resampled: %v", plan.GetLayers())
	}
	r := plan.GetLayers()[1].GetResampled()
	if r.GetMethod() != mergerv1.Resampling_RESAMPLING_SUM || r.GetRatioX() != 3 || r.GetRatioY() != 3 || r.GetOffsetX() != 0 ||
		r.GetMinShare() != 0.5 || r.GetVersion() != 1 || !strings.Contains(r.GetExplanation(), "count") {
		t.Errorf("plan: %v", r)
	}
	if w := strings.Join(plan.GetWarnings(), "\n"); !strings.Contains(w, "fine: resampled by sum; a cell of the lattice is 3 of the layer's") {
		t.Errorf("warnings: %s", w)
	}
	var table struct {
		Layers []struct {
			Name       string
			Type       string
			Resampling *struct {
				Method   string
				Ratio    []float64
				MinShare float64 `json:"min_share"`
				Version  int
			}
		}
	}
	text, ok := s.merge(t, spec)[0].schema.Metadata().GetValue("rasterloom")
	if err := json.Unmarshal([]byte(text), &table); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if l := table.Layers[1]; l.Type != "float64" || l.Resampling == nil || l.Resampling.Method != "sum" || l.Resampling.Ratio[1] != 3 || l.Resampling.MinShare != 0.5 || l.Resampling.Version != 1 {
		t.Errorf("metadata: %+v", l)
	}
	if table.Layers[0].Resampling != nil || strings.Contains(text[:strings.Index(text, "fine")], "resampling") {
		t.Errorf("a layer taken as it is has a receipt: %s", text)
	}

	// A method named for a layer is used where a shift would do, too; NONE for a
	// layer stands against the merge's.
	spec.Layers[2].Resampling = mergerv1.Resampling_RESAMPLING_BILINEAR
	if r := planOf(t, s, spec).GetLayers()[2].GetResampled(); r.GetMethod() != mergerv1.Resampling_RESAMPLING_BILINEAR || r.GetOffsetX() != -0.4 {
		t.Errorf("a method named for a layer 0.4 px off: %v", r)
	}
	spec.Layers[1].Resampling = mergerv1.Resampling_RESAMPLING_NONE
	_, err = s.info(t.Context(), spec)
	requireStatus(t, err, codes.FailedPrecondition, "RESIDUAL_TOO_LARGE")

	spec.Layers[1].Resampling, spec.Layers[1].MinShare = mergerv1.Resampling_RESAMPLING_MODE, new(1.5)
	_, err = s.info(t.Context(), spec)
	requireStatus(t, err, codes.InvalidArgument, "INVALID_ARGUMENT")

	spec.Layers[1].MinShare, spec.UseLegacyMerge = nil, new(true)
	_, err = s.info(t.Context(), spec)
	if fields := requireStatus(t, err, codes.InvalidArgument, "INVALID_ARGUMENT"); fields["field"] != "resampling" {
		t.Errorf("the legacy way: %v", fields)
	}
	spec.UseLegacyMerge = nil
	if _, err := s.rpc.CompareMerge(t.Context(), connect.NewRequest(&mergerv1.CompareMergeRequest{Spec: spec})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("compare: %v", err)
	}
}

// Layers of 0 to 360 and of -180 to 180 degrees, and a seam across which both are
// resampled: there is no gap, and totals stay.
func TestResampledRoundTheGlobe(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	lattice := grid.Grid{CRS: "EPSG:4326", Rows: 18, Cols: 36, OriginX: -180, OriginY: 90, StepX: 10, StepY: 10}
	whole := func(g grid.Grid) (r raster, total float64) {
		rng := rand.New(rand.NewPCG(4, 2))
		r = generated(rng, g)
		for _, row := range r.cells {
			for j := range row {
				row[j] = new(float64(rng.IntN(1000)))
				total += *row[j]
			}
		}
		return r, total
	}
	east, west := lattice, lattice
	east.OriginX, east.StepX, east.StepY, east.Rows, east.Cols = 0, 4, 3, 60, 90
	west.OriginX, west.StepX, west.StepY, west.Rows, west.Cols = -181.5, 1.5, 20, 9, 240
	warp, _ := whole(lattice)
	s.put(t, "lattice", formats[0], warp)
	var totals [2]float64
	for i, g := range []grid.Grid{east, west} {
		var r raster
		r, totals[i] = whole(g)
		s.put(t, []string{"east", "west"}[i], formats[i], r)
	}
	for _, method := range []mergerv1.Resampling{
		mergerv1.Resampling_RESAMPLING_BILINEAR, mergerv1.Resampling_RESAMPLING_CUBIC, mergerv1.Resampling_RESAMPLING_SUM,
		mergerv1.Resampling_RESAMPLING_AVERAGE, mergerv1.Resampling_RESAMPLING_NEAREST,
	} {
		spec := resampleBy(method, "lattice", "east", "west")
		spec.RowsKept = mergerv1.RowsKept_ROWS_KEPT_ALL
		got := s.merge(t, spec)[0]
		if got.rows != 18*36 {
			t.Errorf("%s: %d rows, want %d without a gap", method, got.rows, 18*36)
		}
		if method != mergerv1.Resampling_RESAMPLING_SUM {
			continue
		}
		for i, want := range totals {
			sum := 0.
			for _, v := range got.columns[3+i] {
				sum += *v
			}
			if math.Abs(sum-want) > 1e-12*want {
				t.Errorf("the total of layer %d is %v, and was %v", i, sum, want)
			}
		}
	}
}

// An export of a resampled layer is a file like any other.
func TestExportOfResampledLayers(t *testing.T) {
	t.Parallel()
	s := start(t, Config{ExportDir: t.TempDir()})
	rng := rand.New(rand.NewPCG(8, 8))
	s.put(t, "coarse", formats[0], generated(rng, utm(11, 13, 3e5, 5e6)))
	s.put(t, "fine", formats[2], generated(rng, fineGrid(33, 39, 3e5, 5e6)))
	spec := resampleBy(mergerv1.Resampling_RESAMPLING_MODE, "coarse", "fine")
	started, err := s.exports.StartExport(t.Context(), connect.NewRequest(&mergerv1.StartExportRequest{Spec: &mergerv1.ExportSpec{Merge: spec, Name: "fine.parquet"}}))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := s.exports.WatchExport(t.Context(), connect.NewRequest(&mergerv1.WatchExportRequest{Id: started.Msg.GetExport().GetId()}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var last *mergerv1.Export
	for stream.Receive() {
		last = stream.Msg().GetExport()
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	streamed := s.merge(t, spec)[0]
	if last.GetManifest().GetRows() != streamed.rows || last.GetManifest().GetLayers()[1].GetCells() != streamed.trailer.Layers[1].Cells {
		t.Errorf("exported %v, streamed %+v", last, streamed.trailer)
	}
	if !strings.Contains(strings.Join(last.GetWarnings(), "\n"), "resampled by mode") {
		t.Errorf("warnings %v", last.GetWarnings())
	}
}
