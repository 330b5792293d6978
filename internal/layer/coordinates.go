package layer

import (
	"time"

	"github.com/rasterloom/rasterloom/grid"
)

// CoordinateCheck asks whether every stored coordinate of a table is where the
// grid puts it.
type CoordinateCheck struct {
	Relation Relation
	Grid     grid.Grid
	// As says which points the coordinates should name.
	As Hypothesis
	// Indexed: cells are told by their indices, else by the nearest point.
	Indexed bool
	// TolerancePixels is how far off a coordinate may be on each axis; at 0, every
	// bit must be right.
	TolerancePixels float64
	// MaxOffenders is how many wrong rows are named.
	MaxOffenders int
	// StatementTimeout bounds the pass; 0: nothing but the caller's context.
	StatementTimeout time.Duration
}

// CoordinateFindings answers a CoordinateCheck. Counts are of rows.
type CoordinateFindings struct {
	Rows  int64
	Exact int64 // both coordinates right to the last bit
	// Wrong are off, missing or outside, or several of these.
	Wrong int64
	// Off lie farther from their point than the tolerance, or nowhere: NaN and
	// infinities. Missing have a NULL coordinate. Outside have no cell of the grid.
	Off, Missing, Outside int64
	// Largest is the largest error on each axis in pixels, without sign, of finite
	// coordinates.
	Largest grid.Vector
	// Fits is as in Findings.
	Fits map[Hypothesis]int64
	// Offenders are the first wrong rows in the order of the table, by row and col.
	Offenders []CoordinateError
}

// CoordinateError is a row whose coordinates are wrong. What is not known is nil.
type CoordinateError struct {
	Row, Col             *int64 // as stored, else of the nearest cell
	X, Y                 *float64
	ExpectedX, ExpectedY *float64
}
