package contenthash_test

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/rasterloom/rasterloom/internal/contenthash"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// The hash of a small table, computed by the Python code of docs/flight.md
// (numpy 2, pyarrow 26, xxhash 4): columns x = [1, 2, 3] and birds = [7, null,
// -1] as int16.
const pythonsHash = "xxh3-128:13f3ecf824fa748aa69b1a0f46376620"

func TestHashIsThatOfTheDocumentation(t *testing.T) {
	columns := []contenthash.Column{{Name: "x", Type: layer.Float64}, {Name: "birds", Type: layer.Int16, Nullable: true}}
	var x, birds []byte
	for _, v := range []float64{1, 2, 3} {
		x = binary.LittleEndian.AppendUint64(x, math.Float64bits(v))
	}
	for _, v := range []int16{7, 0, -1} {
		birds = binary.LittleEndian.AppendUint16(birds, uint16(v))
	}
	whole := contenthash.New(columns)
	whole.AddRows(3)
	whole.Add(0, x, nil)
	whole.Add(1, birds, []uint64{0b101})
	if got := whole.Sum(); got != pythonsHash {
		t.Errorf("hash %s, want %s", got, pythonsHash)
	}
	cut := contenthash.New(columns)
	cut.AddRows(3)
	cut.Add(0, x[:8], nil)
	cut.Add(1, birds[:2], nil) // none is null
	cut.Add(0, x[8:], nil)
	cut.Add(1, birds[2:], []uint64{0b10})
	if got := cut.Sum(); got != pythonsHash || cut.Rows() != 3 {
		t.Errorf("cut into two batches the hash of %d rows is %s, want %s", cut.Rows(), got, pythonsHash)
	}
}
