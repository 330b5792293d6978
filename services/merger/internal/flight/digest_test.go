package flight

import (
	"testing"

	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/merger/internal/columnar"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// The digest of a small table, computed by the Python code of docs/flight.md
// (numpy 2, pyarrow 26, xxhash 4): columns x = [1, 2, 3] and birds = [7, null,
// -1] as int16.
const pythonsHash = "xxh3-128:13f3ecf824fa748aa69b1a0f46376620"

func TestDigestIsThatOfTheDocumentation(t *testing.T) {
	columns := []merge.Column{{Name: "x", Type: layer.Float64, Thread: -1}, {Name: "birds", Type: layer.Int16, Thread: 0}}
	x, err := columnar.Bytes([]float64{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	birds, err := columnar.Bytes([]int16{7, 0, -1})
	if err != nil {
		t.Fatal(err)
	}
	whole := newDigest(columns)
	whole.add(3, [][]byte{x, birds}, [][]uint64{nil, {0b101}})
	if got := whole.sum(); got != pythonsHash {
		t.Errorf("hash %s, want %s", got, pythonsHash)
	}
	cut := newDigest(columns)
	cut.add(1, [][]byte{x[:8], birds[:2]}, [][]uint64{nil, {1}})
	cut.add(2, [][]byte{x[8:], birds[2:]}, [][]uint64{nil, {0b10}})
	if got := cut.sum(); got != pythonsHash {
		t.Errorf("cut into two batches the hash is %s, want %s", got, pythonsHash)
	}
}
