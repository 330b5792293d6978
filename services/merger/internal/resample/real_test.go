package resample_test

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// raster is a band of a file.
type raster struct {
	grid   grid.Grid
	values []float64 // NaN where missing
}

// read reads a band of a file of the repository. The CRS is told: the files name
// theirs in many ways, or not at all.
func read(t *testing.T, path string, band int, crs string) raster {
	t.Helper()
	prefix, suffix := "", ""
	if filepath.Ext(path) == ".nc" {
		prefix, suffix = "netcdf:", ":tas"
	}
	var head struct {
		Grid  [4]float64
		Shape [2]int
	}
	body := theOracle.ask(t, map[string]any{
		"op": "read", "path": prefix + filepath.Join(repository(), path) + suffix, "band": band,
	}, nil, &head)
	return raster{
		grid: grid.Grid{
			CRS: crs, Rows: head.Shape[0], Cols: head.Shape[1],
			OriginX: head.Grid[0], OriginY: head.Grid[1], StepX: head.Grid[2], StepY: head.Grid[3],
		},
		values: floats(body),
	}
}

// onto is the pair of a raster and a lattice, cut to at most so many rows and
// columns.
func onto[S layer.Value](r raster, ref grid.Grid, name string, rows, cols int) pair[S] {
	ref.Rows, ref.Cols = min(ref.Rows, rows), min(ref.Cols, cols)
	p := pair[S]{name: name, src: r.grid, ref: ref, values: make([]S, len(r.values)), valid: make([]bool, len(r.values))}
	for i, v := range r.values {
		if !math.IsNaN(v) {
			p.values[i], p.valid[i] = S(v), true
		}
	}
	return p
}

// checkAll compares all methods on a pair; turns is for a layer that goes round
// the globe.
func checkAll[S layer.Value](t *testing.T, p pair[S], turns bool) {
	t.Helper()
	t.Run(p.name, func(t *testing.T) {
		asked := p
		if turns {
			asked = p.threeTurns(p.ref.OriginX)
		}
		for _, m := range methods {
			var c tally
			check(t, &c, p, asked, m, 11)
			c.report(t, m)
		}
	})
}

// TestRealAgainstGDAL compares on measured rasters whose lattices do not fit:
// 28.5 m and 90 m (3.1577), 1/8 degree, 5 minutes and 30 seconds, 2 degrees and
// 1/3 degree.
func TestRealAgainstGDAL(t *testing.T) {
	const utm, degrees, plain = "EPSG:31985", "OGC:CRS84", "EPSG:32633"
	landsat := read(t, "data/olinda/L7_ETMs.tif", 4, utm)
	dem := read(t, "data/olinda/olinda_dem_utm25s.tif", 1, utm)
	checkAll(t, onto[uint8](landsat, dem.grid, "Landsat to DEM", 111, 111), false)
	checkAll(t, onto[float32](dem, landsat.grid, "DEM to Landsat", 50, 349), false)

	climate := read(t, "data/north_carolina/bcsd_obs_1999.nc", 7, degrees)
	relief := read(t, "data/north_carolina/etopo5_relief.tif", 1, degrees)
	relief.grid.OriginX -= 360
	mask := read(t, "data/north_carolina/globe_landmask_30s.tif", 1, degrees)
	checkAll(t, onto[int16](relief, climate.grid, "relief to climate", 33, 81), false)
	checkAll(t, onto[uint8](mask, climate.grid, "land mask to climate", 33, 81), false)
	checkAll(t, onto[float32](climate, relief.grid, "climate to relief", 67, 139), false)
	checkAll(t, onto[float32](climate, mask.grid, "climate to land mask", 40, 200), false)

	sea := read(t, "data/global/coads_sst_monthly_2deg.tif", 1, plain)
	etopo := read(t, "test/golden/resample/etopo20_north.tif", 1, plain)
	sea.grid.CRS, etopo.grid.CRS = plain, plain
	checkAll(t, onto[float32](sea, etopo.grid, "sea to relief", 72, 150), false)
	north := sea.grid
	north.OriginY, north.Rows = 60, 12
	checkAll(t, onto[float32](etopo, north, "relief to sea", 12, 180), false)

	sea.grid.CRS = degrees
	west := grid.Grid{CRS: degrees, OriginX: -180, OriginY: 66, StepX: 1.3, StepY: 1.3, Rows: 40, Cols: 277}
	checkAll(t, onto[float32](sea, west, "sea from 20…380 to -180…180", 40, 277), true)
}
