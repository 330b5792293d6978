package migrate

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"

	"github.com/rasterloom/rasterloom/grid"
)

// GridHash tells grids apart: equal for equal grids only, CRS text included.
func GridHash(g grid.Grid) string {
	sum := sha256.New()
	fmt.Fprintf(sum, "%d\n%d\n", g.Rows, g.Cols)
	for _, v := range []float64{g.OriginX, g.OriginY, g.StepX, g.StepY} {
		fmt.Fprintf(sum, "%016x\n", math.Float64bits(v))
	}
	fmt.Fprint(sum, g.CRS)
	return hex.EncodeToString(sum.Sum(nil))
}
