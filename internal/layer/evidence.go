package layer

import "github.com/rasterloom/rasterloom/grid"

// CatalogRow is one row of an existing catalog table, as stored: nothing is
// interpreted, and what is NULL or has no column is nil or empty.
type CatalogRow struct {
	ID               *int64
	Name             string
	TargetResolution *float64
	TargetCRS        string
	// Bounds are the stored numbers, in the order min_x, min_y, max_x, max_y
	// when there are four; nil for one that is NULL.
	Bounds                  []*float64
	ShapeHeight, ShapeWidth *int64
	DataType                string
	BandName                string
	DataTableName           string
	Metadata                string // JSON text
}

// Source is where the facts of a layer come from: a row of an adopted catalog
// table, or, when zero, whoever registered it.
type Source struct {
	Table Table
	OID   uint32
	Row   *int64 // its id
}

// Registered reports whether the layer was registered by itself: no existing
// catalog lists it.
func (s Source) Registered() bool { return s.Table == Table{} }

// Record is a layer as our catalog keeps it.
type Record struct {
	Layer
	// TableOID and TableFile tell a table that was dropped and made again, or
	// truncated, from the one that was looked at; 0 where there is none.
	TableOID, TableFile uint32
	Source              Source
	// IngestedBy is the principal who sent the cells; empty where nobody is known.
	IngestedBy string
}

// Relation is what the database says of a table without reading a row of it.
type Relation struct {
	Table Table
	// Found is false when there is no relation of exactly this name.
	Found     bool
	OID, File uint32
	// Kind is pg_class.relkind: r table, p partitioned table, v view, m
	// materialized view, f foreign table, S sequence, c type, i index.
	Kind        string
	Temporary   bool
	RowSecurity bool
	// Readable is true when our role may select from it.
	Readable bool
	// Columns are those that a pixel table has, by name.
	Columns map[string]Column
	// IndexKey and CoordinateKey are the columns of a unique index over row_idx
	// and col_idx, and x_coord and y_coord, in its order; empty without one.
	IndexKey, CoordinateKey []string
	// TileKey is set when there is one over tile_row and tile_col. Tiling is the
	// comment of a table that has these columns.
	TileKey bool
	Tiling  string
	// EstimatedRows is by the planner's statistics; -1 if never analysed.
	EstimatedRows int64
	Bytes         int64
}

// Column is a column of a table.
type Column struct {
	// Type is the name that SQL has for it: "double precision".
	Type    string
	NotNull bool
}

// Survey asks how the stored cells of a table lie on a grid.
type Survey struct {
	Relation Relation
	Grid     grid.Grid
	// Whole: read every row, and look for cells stored twice. Otherwise a
	// sample: the head of the heap, some blocks spread over it, and both ends
	// of the key.
	Whole bool
	// Indexed and Located say which pairs of columns the table has.
	Indexed, Located bool
	// Tiled: the rows are tiles, and all of them are looked at: Findings has Rows
	// and OutsideGrid, and the rows and columns of the tiles.
	Tiled bool
}

// Findings answers a Survey. Counts are of rows. Offsets are in pixels.
type Findings struct {
	Rows int64
	// NullIndices have no row_idx or no col_idx; OutsideGrid have indices, or
	// without these coordinates, that the grid has not.
	NullIndices, OutsideGrid       int64
	MinRow, MaxRow, MinCol, MaxCol *int64
	// Located have both coordinates, HalfLocated one of them.
	Located, HalfLocated int64
	// Fits counts the located rows that fit each hypothesis, to within
	// MaxOffLattice.
	Fits map[Hypothesis]int64
	// OffsetX, OffsetYNorthUp and OffsetYSouthUp are how far the coordinates
	// lie from the centres of their cells, x to the east and y to the south.
	OffsetX, OffsetYNorthUp, OffsetYSouthUp Span
	// Of a whole survey only: cells stored more than once, the rows that are
	// too many, and some of the cells; and some rows that fit no cell under the
	// hypothesis that fits most.
	DuplicateCells, SurplusRows int64
	Duplicates, Offenders       []StoredCell
}

// Span is the smallest and the largest of some numbers; nil where there were
// none.
type Span struct{ Min, Max *float64 }

// StoredCell is one stored row, without its value.
type StoredCell struct {
	Row, Col *int64
	X, Y     *float64
}

// Hypothesis is one way in which stored coordinates can belong to the cells.
type Hypothesis struct {
	Registration grid.Registration
	SouthUp      bool
}

// MaxOffLattice is how far a stored coordinate may lie from the point of its
// cell that it names, in pixels.
const MaxOffLattice = 0.05

// Best is the hypothesis that most of the located rows fit, and how many do.
// North-up and centres win ties: they are what tables are by default. False
// when none fits any row.
func (f Findings) Best() (best Hypothesis, fits int64, ok bool) {
	for _, h := range Hypotheses() {
		if f.Fits[h] > fits {
			best, fits, ok = h, f.Fits[h], true
		}
	}
	return best, fits, ok
}

// Hypotheses lists all, the usual ones first.
func Hypotheses() []Hypothesis {
	return []Hypothesis{
		{Registration: grid.RegistrationCenter},
		{Registration: grid.RegistrationUpperLeft},
		{Registration: grid.RegistrationCenter, SouthUp: true},
		{Registration: grid.RegistrationUpperLeft, SouthUp: true},
	}
}
