package layer

import "github.com/rasterloom/rasterloom/grid"

// JoinRequest asks for the cells of several layers, joined by the database on
// their coordinates: the legacy way to merge.
type JoinRequest struct {
	// Lattice is where the layers are placed.
	Lattice grid.Grid
	Layers  []JoinedLayer
	// Every, unless empty, is a window of the lattice of which every cell
	// becomes a row. Else the cells do where some layer has a value.
	Every grid.Window
}

// JoinedLayer is a layer of a join.
type JoinedLayer struct {
	Layer Layer
	// Placement is where its cells land; those that do not are left out.
	Placement grid.Placement
	// Required is set where only cells with a value of this layer become rows.
	Required bool
}

// JoinedRow is a cell of the lattice with the values of all layers of a join.
type JoinedRow struct {
	// X and Y are its centre, in units of the CRS.
	X, Y float64
	// Values has one for each layer of the request.
	Values []JoinedValue
}

// JoinedValue is a value, or none.
type JoinedValue struct {
	Valid bool
	// Float holds the value of a layer stored as a float type, Int that of the
	// others.
	Float float64
	Int   int64
}
