package resample_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/merger/internal/resample"
)

// TestStream: a layer that comes a few rows at a time gives the same bits as one
// that is all there, whatever is skipped.
func TestStream(t *testing.T) {
	rng := seeded(t)
	values := 0
	for n := range 150 {
		p := generate[float32](rng, n%3 > 0)
		if n%2 == 0 {
			p = global(rng)
		}
		// Many rows of the layer to one of the lattice.
		p.src.StepY /= 4 + 10*rng.Float64()
		if n%4 == 1 {
			p.src.StepX /= 8
		}
		if n%5 == 0 {
			p.values[rng.IntN(len(p.values))] = float32(math.Inf(1 - 2*rng.IntN(2)))
		}
		o := resample.Options{}
		if n%3 == 1 {
			o.MinShare = rng.Float64()
		}
		for _, m := range methods {
			if m.Computes() {
				values += checkStream[float32, float64](t, rng, p, m, o)
			} else {
				values += checkStream[float32, float32](t, rng, p, m, o)
			}
		}
	}
	t.Logf("%d values", values)
	if values < 50_000 {
		t.Errorf("only %d values were compared", values)
	}
}

// checkStream compares some of the rows, and gives the number of values.
func checkStream[S, D layer.Value](t *testing.T, rng *rand.Rand, p pair[S], m resample.Method, o resample.Options) (values int) {
	t.Helper()
	window := p.ref.Window()
	want := resampled[S, D](t, p, m, window, window.Rows(), o)
	k, err := resample.New(m, p.src, p.ref, window, o)
	if err != nil {
		t.Fatal(err)
	}
	if !k.Streams() {
		if most := k.MaxSourceRows(1); most > resample.PartRows {
			t.Fatalf("%s, %s: no stream, and a row takes up to %d rows of the layer", p.name, m, most)
		}
		return 0
	}
	s, err := resample.NewStream[S, D](k, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	last := int64(0)
	for row := window.RowStart; row < window.RowStop; row += 1 + int64(rng.IntN(5)/4*rng.IntN(3)) {
		for need := s.Need(row, 1); !need.Empty(); need = s.Need(row, resample.PartRows+int64(rng.IntN(20))) {
			if need.RowStart < last || need.Rows() > 27 {
				t.Fatalf("%s, %s: row %d needs %s after row %d", p.name, m, row, need, last)
			}
			last = need.RowStart
			if err := s.Take(p.cells(k, need)); err != nil {
				t.Fatal(err)
			}
		}
		got := resample.NewWindow[D](grid.Window{RowStart: row, RowStop: row + 1, ColStart: window.ColStart, ColStop: window.ColStop})
		s.Row(got, row)
		for j, v := range got.Values {
			x := float64(v)
			if got.Valid[j>>6]>>(j&63)&1 == 0 {
				if v != 0 {
					t.Fatalf("%s: a cell without a value is %v in memory, and not 0", p.name, v)
				}
				x = math.NaN()
			} else {
				values++
			}
			at := int(row-window.RowStart)*p.ref.Cols + j
			if math.Float64bits(x) != math.Float64bits(want[at]) {
				t.Fatalf("%s, %s, %s, share %v: %v row by row, %v at once", p.name, m, cellName(p.ref, at), o.MinShare, x, want[at])
			}
		}
	}
	return values
}

// TestStreamOfModeIsBounded: values that are all different are too many to count
// at some point, and that is said.
func TestStreamOfModeIsBounded(t *testing.T) {
	p := pair[int32]{name: "all different", src: square(400, 1), ref: square(1, 400)}
	p.values, p.valid = make([]int32, 400*400), make([]bool, 400*400)
	for i := range p.values {
		p.values[i], p.valid[i] = int32(i), true
	}
	k, err := resample.New(resample.Mode, p.src, p.ref, p.ref.Window(), resample.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := resample.NewStream[int32, int32](k, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for need := s.Need(0, 16); !need.Empty(); need = s.Need(0, 16) {
		if err = s.Take(p.cells(k, need)); err != nil {
			break
		}
	}
	if f := fault.From(err); f == nil || f.Reason != fault.LimitExceeded || f.Kind != fault.Limit {
		t.Errorf("160000 different values in 1 MiB: %v", err)
	}
}
