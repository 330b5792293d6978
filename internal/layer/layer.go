// Package layer says what a stored raster layer is. It is pure: values only.
package layer

import (
	"time"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
)

// Format is how the cells of a layer are stored.
type Format uint8

// The formats.
const (
	FormatUnknown    Format = iota
	FormatLegacy            // (row_idx, col_idx, value): coordinates implied by the grid
	FormatCoordinate        // coordinates written out beside, or instead of, the indices
	FormatWindowed          // as coordinate, written window by window
	FormatTiled             // a row per tile
	FormatPartial           // coordinate columns there, and not filled throughout
	FormatInvalid           // cannot be read; Problems say why
)

var formatNames = [...]string{"UNKNOWN", "LEGACY", "COORDINATE", "WINDOWED", "TILED", "PARTIAL", "INVALID"}

// String names the format as the contract does.
func (f Format) String() string { return nameOf(formatNames[:], int(f)) }

// ParseFormat is the inverse of String; false for an unknown name.
func ParseFormat(name string) (Format, bool) { return parseName[Format](formatNames[:], name) }

// DataType is the type of a value.
type DataType uint8

// The data types.
const (
	TypeUnknown DataType = iota
	Uint8
	Int8
	Uint16
	Int16
	Uint32
	Int32
	Int64
	Float32
	Float64
)

var (
	typeNames = [...]string{"unknown", "uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float32", "float64"}
	typeWidth = [...]int{0, 1, 1, 2, 2, 4, 4, 8, 4, 8}
)

// String names the type as numpy does.
func (t DataType) String() string { return nameOf(typeNames[:], int(t)) }

// Width is the size of a value in bytes; 0 for the unknown type.
func (t DataType) Width() int {
	if int(t) < len(typeWidth) {
		return typeWidth[t]
	}
	return 0
}

// ParseDataType reads a numpy type name; false for one that is not a DataType.
func ParseDataType(name string) (DataType, bool) { return parseName[DataType](typeNames[:], name) }

// Severity ranks a problem.
type Severity uint8

// The severities.
const (
	SeverityUnknown Severity = iota
	Info
	Warning
	Critical
)

var severityNames = [...]string{"UNKNOWN", "INFO", "WARNING", "CRITICAL"}

// String names the severity as the contract does.
func (s Severity) String() string { return nameOf(severityNames[:], int(s)) }

// ParseSeverity is the inverse of String; false for an unknown name.
func ParseSeverity(name string) (Severity, bool) { return parseName[Severity](severityNames[:], name) }

// Problem is one thing found about a layer.
type Problem struct {
	Code     string // UPPER_SNAKE, stable
	Severity Severity
	Message  string // one sentence, with names and numbers
	Fields   map[string]string
	Fix      string // what to do about it; may be empty
}

// Table names a relation, byte for byte.
type Table struct {
	Schema, Name string
}

// String prints the name for people. It is not SQL.
func (t Table) String() string { return t.Schema + "." + t.Name }

// TiledTable is a table of pixels of which a migration made tiles.
type TiledTable struct {
	Pixels, Tiles Table
	// PixelsOID tells the table from another one that took its name when it was
	// dropped; 0 where it was dropped in the end, and any is another one.
	PixelsOID uint32
}

// TileSide is the number of rows and of columns of a tile of a TILED layer.
const TileSide = 256

// TileSchema is the PostgreSQL schema of the tables of tiles that we make.
const TileSchema = "rasterloom_tiles"

// Layer is a dataset: one band on one grid.
type Layer struct {
	Name string
	Band string
	// Grid comes from the catalogued bounds and shape. HasGrid is false where
	// they give none; the layer is then invalid.
	Grid    grid.Grid
	HasGrid bool
	Format  Format
	Table   Table
	// DeclaredType is the type of the source raster as catalogued, StoredType
	// that of the stored values.
	DeclaredType, StoredType DataType
	// Nodata is the value that means "no data"; nil if none. Zero is a value
	// like any other: only a catalogued nodata of 0 makes it nodata.
	Nodata       *float64
	Registration grid.Registration
	// SouthUp is true when row_idx 0 is the south row. Grid is north-up all the
	// same: the reader turns the rows.
	SouthUp bool
	// TargetResolution is what the catalog claims; nil if nothing.
	TargetResolution *float64
	HasIndices       bool
	HasCoordinates   bool
	// HasKey is true when a unique index over the indices (or coordinates)
	// forbids storing a cell twice.
	HasKey bool
	// Tiling says how the cells of a TILED layer are encoded: JSON, the metadata of
	// a Zarr v3 array whose chunks its tiles are (docs/tiles.md). Empty for others.
	Tiling string
	// Generation counts changes of layout or content, from 1.
	Generation int64
	// EstimatedRows is by the planner's statistics; -1 if never analysed.
	EstimatedRows int64
	Problems      []Problem
	UpdateTime    time.Time
}

// CheckReadable returns nil when the layer's cells can be read, else a
// Precondition fault LAYER_UNREADABLE that tells its first critical problem.
func (l Layer) CheckReadable() error {
	if l.Format != FormatInvalid && l.Format != FormatUnknown && l.HasGrid {
		return nil
	}
	f := fault.New(fault.Precondition, fault.LayerUnreadable, "layer %q cannot be read", l.Name).With("layer", l.Name)
	for _, p := range l.Problems {
		if p.Severity == Critical {
			f.Message += ": " + p.Message
			for k, v := range p.Fields {
				f = f.With(k, v)
			}
			return f.With("problem", p.Code)
		}
	}
	return f.With("format", l.Format)
}

func nameOf(names []string, i int) string {
	if i >= 0 && i < len(names) {
		return names[i]
	}
	return names[0]
}

func parseName[T ~uint8](names []string, name string) (T, bool) {
	for i := 1; i < len(names); i++ {
		if names[i] == name {
			return T(i), true
		}
	}
	return 0, false
}
