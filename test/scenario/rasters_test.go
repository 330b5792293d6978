package scenario

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const nodata = -9999

// raster is a generated layer, and how its table was left behind.
type raster struct {
	name         string
	rows, cols   int
	originX      float64 // outer north-west corner
	originY      float64
	step         float64
	crs          string
	coordinates  bool // store x_coord, y_coord
	corners      bool // these name upper-left corners
	noIndices    bool // row_idx and col_idx are lost
	southUp      bool // row_idx 0 is the south row
	key          bool
	table        string
	metadata     string
	withoutTable bool
	// cells holds what is stored, by row from the north and column: absent cells
	// are missing, nil is NULL.
	cells map[[2]int]*float64
}

// fill stores a value in most cells, and every kind of "none" in some.
func (r raster) fill(random *rand.Rand) raster {
	r.cells = map[[2]int]*float64{}
	for row := range r.rows {
		for col := range r.cols {
			v := math.Round(random.NormFloat64()*1000) / 8
			switch random.IntN(12) {
			case 0: // absent
				continue
			case 1:
				r.cells[[2]int{row, col}] = nil
				continue
			case 2:
				v = math.NaN()
			case 3:
				v = nodata
			case 4, 5:
				v = 0
			}
			r.cells[[2]int{row, col}] = &v
		}
	}
	return r
}

// value is what a merge must find in a cell: false for none.
func (r raster) value(row, col int) (float64, bool) {
	v := r.cells[[2]int{row, col}]
	if v == nil || math.IsNaN(*v) || *v == nodata {
		return 0, false
	}
	return *v, true
}

const catalog = `CREATE TABLE public.resampled_datasets (
	id serial PRIMARY KEY, name text, source_path text, target_resolution double precision, target_crs text,
	bounds double precision[], shape_height integer, shape_width integer, data_type text, resampling_method text,
	band_name text, data_table_name text, metadata jsonb, created_at timestamptz DEFAULT now())`

// store writes the catalog row and the table of a raster as the old writers did.
func (r raster) store(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec(`INSERT INTO public.resampled_datasets
		(name, target_resolution, target_crs, bounds, shape_height, shape_width, data_type, data_table_name, metadata)
		VALUES ($1, $2, $3, $4, $5, $6, 'float64', $7, $8::jsonb)`,
		r.name, r.step, r.crs, []float64{
			r.originX, r.originY - r.step*float64(r.rows), r.originX + r.step*float64(r.cols), r.originY,
		}, r.rows, r.cols, r.table, r.metadata)
	if r.withoutTable {
		return
	}
	table := pgx.Identifier{"public", r.table}
	columns, definition := []string{"value"}, "value double precision"
	if !r.noIndices {
		columns = append(columns, "row_idx", "col_idx")
		definition += ", row_idx integer, col_idx integer"
	}
	if r.coordinates {
		columns = append(columns, "x_coord", "y_coord")
		definition += ", x_coord double precision, y_coord double precision"
	}
	if r.key {
		definition += ", PRIMARY KEY (row_idx, col_idx)"
	}
	exec(fmt.Sprintf("CREATE TABLE %s (%s)", table.Sanitize(), definition))
	rows := make([][]any, 0, len(r.cells))
	// The order of a map is the order of a heap that years of use have stirred.
	for at, v := range r.cells {
		row := []any{v}
		if !r.noIndices {
			stored := at[0]
			if r.southUp {
				stored = r.rows - 1 - at[0]
			}
			row = append(row, stored, at[1])
		}
		if r.coordinates {
			within := 0.5
			if r.corners {
				within = 0
			}
			row = append(row, r.originX+(float64(at[1])+within)*r.step, r.originY-(float64(at[0])+within)*r.step)
		}
		rows = append(rows, row)
	}
	if n, err := pool.CopyFrom(t.Context(), table, columns, pgx.CopyFromRows(rows)); err != nil || n != int64(len(rows)) {
		t.Fatalf("copy %d rows into %s: %d, %v", len(rows), table.Sanitize(), n, err)
	}
	exec("ANALYZE " + table.Sanitize())
}

// rasters are three layers of one lattice in the three old formats: the second
// reaches beyond the first and lies 0.3 pixels off, the third is inside of it.
func rasters(random *rand.Rand) []raster {
	return []raster{
		raster{
			name: "birds", rows: 30, cols: 40, originX: 1000, originY: 2000, step: 10, crs: "EPSG:3035",
			key: true, table: "resampled_birds", metadata: `{"nodata": -9999}`,
		}.fill(random),
		raster{
			name: "plants", rows: 25, cols: 50, originX: 1033, originY: 2020, step: 10, crs: "EPSG:3035",
			coordinates: true, key: true, table: "resampled_plants", metadata: `{"nodata": -9999}`,
		}.fill(random),
		raster{
			name: "elevation-1", rows: 12, cols: 9, originX: 1100, originY: 1950, step: 10, crs: "EPSG:3035",
			coordinates: true, table: "windowed_elevation_1", metadata: `{"nodata": -9999, "memory_aware": true}`,
		}.fill(random),
	}
}

// damaged are catalog rows that cannot be merged with birds, each for its own
// reason. Two share a name.
func damaged(random *rand.Rand) []raster {
	small := func(name, crs string, originX float64) raster {
		return raster{
			name: name, rows: 3, cols: 3, originX: originX, originY: 2000, step: 10, crs: crs, key: true,
			table: "resampled_" + strings.ReplaceAll(name, "-", "_"), metadata: "{}",
		}.fill(random)
	}
	ghost := small("ghost", "EPSG:3035", 1000)
	ghost.withoutTable = true
	twin := small("twin", "EPSG:3035", 1000)
	other := twin
	other.withoutTable = true
	return []raster{
		ghost, twin, other, small("elsewhere", "EPSG:3035", 900000), small("utm", "EPSG:32633", 1000),
	}
}
