package tile

import "github.com/rasterloom/rasterloom/internal/layer"

// A chain that packs or unpacks costs time at every reading; it is only taken
// where it takes off at least this part of what the next simpler one leaves.
const (
	worthZstd    = 0.8
	worthShuffle = 0.9
)

// Trial finds the chain that suits the values of a layer, by trying all of them
// on some of its tiles.
type Trial struct {
	encoders []Encoder
	sizes    [3]int64
}

// NewTrial begins a trial for a layer, by its grid, stored type and nodata.
func NewTrial(l layer.Layer) (*Trial, error) {
	t := &Trial{}
	for _, chain := range Chains() {
		if chain == ShuffledZstd && l.StoredType.Width() == 1 {
			continue // the same bytes in the same order
		}
		l.Tiling = LayoutOf(l, chain).JSON()
		e, err := NewEncoder(l)
		if err != nil {
			return nil, err
		}
		t.encoders = append(t.encoders, e)
	}
	return t, nil
}

// Add tries a tile, given as to Encoder.Encode.
func (t *Trial) Add(row, col int32, values any, valid []uint64) error {
	for i, e := range t.encoders {
		encoded, err := e.Encode(row, col, values, valid)
		if err != nil {
			return err
		}
		t.sizes[i] += int64(len(encoded.Data))
	}
	return nil
}

// Bytes is what the tiles have taken so far in a chain.
func (t *Trial) Bytes(c Chain) int64 { return t.sizes[c] }

// Best is the chain for tiles like these; raw as long as there were none.
func (t *Trial) Best() Chain {
	best := Raw
	if float64(t.sizes[Zstd]) < worthZstd*float64(t.sizes[Raw]) {
		best = Zstd
	}
	if len(t.encoders) > int(ShuffledZstd) && float64(t.sizes[ShuffledZstd]) < min(worthZstd*float64(t.sizes[Raw]), worthShuffle*float64(t.sizes[Zstd])) {
		best = ShuffledZstd
	}
	return best
}
