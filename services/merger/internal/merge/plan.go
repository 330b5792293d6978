// Package merge weaves layers into one table: it plans how the cells of each
// layer land on one lattice, and joins them there by exact integer row and
// column, in memory that does not depend on the size of the data.
//
// The package is pure: it gets cells from sources and gives batches of columns
// to whoever wants them. The same plan and the same cells give the same bytes,
// whatever the sizes of chunks and bands and whatever runs in parallel.
package merge

import (
	"fmt"
	"math"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// RowsKept says which cells of the lattice become rows.
type RowsKept uint8

// The rules.
const (
	KeepAny       RowsKept = iota // at least one layer has a value: an outer join
	KeepAll                       // every layer has a value: an inner join
	KeepReference                 // the reference layer has a value
	KeepEvery                     // every cell of the window
)

// String names the rule as the contract does.
func (k RowsKept) String() string {
	return [...]string{"ANY", "ALL", "REFERENCE", "EVERY"}[k]
}

// Coordinates says which columns tell where a row is.
type Coordinates struct {
	XY     bool // x, y of the cell's centre, float64
	RowCol bool // row, col on the reference lattice, int32
}

// Compression is a codec for the bodies of batches.
type Compression int

// Codecs, by their names in Arrow IPC.
const (
	Uncompressed Compression = iota
	LZ4Frame
	ZSTD
)

// Thread is one layer of a merge.
type Thread struct {
	Layer    layer.Layer
	Relation grid.Relation
	// Explanation is the relation in the words of whoever found it, for
	// warnings.
	Explanation string
	// Resampling is how the cells of the lattice get values from those of the
	// layer; nil where these are taken as they are.
	Resampling *Resampling
	// Placement is where the layer's cells land in the plan's window; of a
	// resampled one, the cells of the lattice themselves that can have a value.
	// Plan makes it.
	Placement grid.Placement
	// Duplicates says what becomes of cells that are stored more than once.
	Duplicates layer.Duplicates
	// Column is the name of the output column, and Type its type. A thread
	// without a column is read only to decide which rows are kept.
	Column string
	Type   layer.DataType
}

// Selected reports whether the thread has a column.
func (t Thread) Selected() bool { return t.Column != "" }

// Limits bound a merge. The zero value of a limit means its default.
type Limits struct {
	// Layers is the largest number of layers. Default 256.
	Layers int
	// Cells is the largest number of cells of the window. Default 2^36.
	Cells int64
	// MemoryBytes is the largest memory of one stream. Default 384 MiB.
	MemoryBytes int64
	// BandBytes is the size that a band of the lattice is cut to, over all
	// layers. One row of the window is the least. Default 2 MiB.
	BandBytes int64
}

// Defaults of a plan.
const (
	// DefaultBatchRows is the number of rows of a batch when nobody says
	// otherwise, as long as the batch has no more than batchBytes: the first one
	// can only leave once that much was read. Four times as many arrive no sooner
	// as a whole, and half as many take a tenth longer.
	DefaultBatchRows = 1 << 14
	batchBytes       = 1 << 20
	defaultBandBytes = 2 << 20
	defaultLayers    = 256
	defaultCells     = 1 << 36
	defaultMemory    = 384 << 20
	// chunkBudget is the memory that the chunks of all layers share; each
	// layer's chunks are between minChunk and maxChunk cells.
	chunkBudget = 32 << 20
	minChunk    = 1 << 10
	maxChunk    = 1 << 16
	// tileBudget is the memory that the chunks of tiled layers share.
	tileBudget = 128 << 20
	// tileScratch is what reading tiles takes beside chunks: for each connection a
	// tile as it comes and one as it is decoded.
	tileScratch = 8 << 20
	// endpointCells is the size of the endpoints that the server cuts a merge
	// into when nobody says otherwise, up to maxEndpoints.
	endpointCells = 1 << 26
	maxEndpoints  = 16
	// bandsInFlight is one band being filled and one being read.
	bandsInFlight = 2
	// lz4Bytes and zstdBytes are what a compressor holds for a stream. Measured with
	// the libraries of arrow-go.
	lz4Bytes  = 1 << 20
	zstdBytes = 24 << 20
	// streamBytes is what a stream takes that no plan decides: buffers of
	// connections, stacks, messages.
	streamBytes = 512 << 10
)

func (l Limits) withDefaults() Limits {
	if l.Layers == 0 {
		l.Layers = defaultLayers
	}
	if l.Cells == 0 {
		l.Cells = defaultCells
	}
	if l.MemoryBytes == 0 {
		l.MemoryBytes = defaultMemory
	}
	if l.BandBytes == 0 {
		l.BandBytes = defaultBandBytes
	}
	return l
}

// Plan is a merge, decided. Make one by filling Lattice to Endpoints and
// calling Complete.
type Plan struct {
	// Lattice is the reference lattice, and Window the part of it that the
	// table covers.
	Lattice grid.Grid
	Window  grid.Window
	// Threads are the layers in the order of their columns; those without a
	// column come last.
	Threads []Thread
	// Reference is the index in Threads of the layer that the lattice comes
	// from; -1 for an explicit grid.
	Reference   int
	Keep        RowsKept
	Coordinates Coordinates
	BatchRows   int
	// Endpoints is the number of ranges of rows. Complete decides it when it
	// is 0, and cuts it down to the rows of the window.
	Endpoints int
	Limits    Limits
	// Compression is how batches are compressed on their way.
	Compression Compression
	// Legacy asks for the deprecated way to merge: Join in place of Weave.
	Legacy bool
	// After is the last cell that the receiver has already: the table goes on
	// behind it. Nil: from the beginning.
	After *Cell

	// tightness is how often the memory was halved: see Within.
	tightness int
}

// Complete checks the plan against its limits, fills what was left to it and
// places the layers. Errors: Invalid (no layer, a bad column name, a column
// twice), Range DISJOINT (an empty window, or one that no layer touches), Limit
// LIMIT_EXCEEDED (layers, cells, memory).
func (p *Plan) Complete() error {
	p.Limits = p.Limits.withDefaults()
	if p.BatchRows == 0 {
		p.BatchRows = p.defaultBatchRows()
	}
	var columns []string
	for _, t := range p.Threads {
		if t.Selected() {
			columns = append(columns, t.Column)
		}
		if err := CheckStored(t.Layer); err != nil {
			return err
		}
		if err := t.Duplicates.Check(t.Layer); err != nil {
			return err
		}
	}
	if err := CheckCount(len(columns), p.Limits); err != nil {
		return err
	}
	if err := CheckColumns(p.Coordinates, columns); err != nil {
		return err
	}
	if p.Legacy {
		if err := p.CheckJoin(); err != nil {
			return err
		}
	}
	if p.Keep == KeepReference && p.Reference < 0 {
		return fault.New(fault.Invalid, fault.InvalidArgument,
			"rows of the reference are to be kept, and the reference is an explicit grid, not a layer").With("field", "rows_kept")
	}
	if p.Window.Empty() {
		return fault.New(fault.Range, fault.Disjoint, "the window has no cell of the lattice").With("window", p.Window)
	}
	if err := p.checkIndices(); err != nil {
		return err
	}
	// By division: the product of two sides may overflow.
	if p.Window.Rows() > p.Limits.Cells/p.Window.Cols() {
		return fault.New(fault.Limit, fault.LimitExceeded, "the window has %d × %d cells, and the limit is %d",
			p.Window.Rows(), p.Window.Cols(), p.Limits.Cells).
			With("rows", p.Window.Rows()).With("cols", p.Window.Cols()).With("limit", p.Limits.Cells)
	}
	touched := false
	for i := range p.Threads {
		t := &p.Threads[i]
		if err := p.place(t); err != nil {
			return err
		}
		t.Type = t.typeOfColumn(t.Type)
		touched = touched || t.Selected() && !t.Placement.Empty()
	}
	if !touched {
		return fault.New(fault.Range, fault.Disjoint, "no layer has a cell in the window (%s of the reference lattice)", p.Window).
			With("window", p.Window)
	}
	if need := p.PeakMemory(); need > p.Limits.MemoryBytes {
		return fault.New(fault.Limit, fault.LimitExceeded,
			"a stream of this merge needs %d bytes of memory (%d layers, %d columns wide), and the limit is %d",
			need, len(p.Threads), p.Window.Cols(), p.Limits.MemoryBytes).
			With("bytes", need).With("limit", p.Limits.MemoryBytes)
	}
	if p.Endpoints == 0 {
		var cells float64
		for _, t := range p.Threads {
			read := t.cellsToRead(Rows{p.Window.RowStart, p.Window.RowStop})
			cells += math.Max(float64(p.Window.Cells()), float64(read.Cells()))
		}
		p.Endpoints = int(min(maxEndpoints, math.Ceil(cells/endpointCells)))
	}
	p.Endpoints = int(min(int64(p.Endpoints), p.Window.Rows()))
	return nil
}

// CheckCount checks the number of layers. Errors: Invalid INVALID_ARGUMENT.
func CheckCount(layers int, l Limits) error {
	l = l.withDefaults()
	if layers == 0 {
		return fault.New(fault.Invalid, fault.InvalidArgument, "no layer to merge").With("field", "layers")
	}
	if layers > l.Layers {
		return fault.New(fault.Invalid, fault.LimitExceeded, "%d layers to merge, and the limit is %d", layers, l.Layers).
			With("field", "layers").With("value", layers).With("limit", l.Layers)
	}
	return nil
}

// CheckColumns checks the names of the layers' columns, in order, beside the
// columns of the coordinates. Errors: Invalid COLUMN_REPEATED or
// INVALID_ARGUMENT, naming the column.
func CheckColumns(coordinates Coordinates, names []string) error {
	seen := make(map[string]bool, len(names)+4)
	for _, c := range (&Plan{Coordinates: coordinates}).Columns() {
		seen[c.Name] = true
	}
	for _, name := range names {
		if seen[name] {
			return fault.New(fault.Invalid, fault.ColumnRepeated, "two columns are named %q", name).
				With("field", "layers").With("column", name)
		}
		seen[name] = true
		// A line feed in a name would forge a line of the content hash.
		if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
			return fault.New(fault.Invalid, fault.InvalidArgument, "the column name %q has a control character", name).
				With("field", "layers").With("column", name)
		}
	}
	return nil
}

// CheckStored checks that cells of a layer's stored type can be merged. Errors:
// Precondition LAYER_UNREADABLE.
func CheckStored(l layer.Layer) error {
	if l.StoredType == layer.TypeUnknown {
		return unknownType(l.Name, l.StoredType)
	}
	return nil
}

// checkIndices keeps row and col within int32, as their columns are.
func (p *Plan) checkIndices() error {
	for _, side := range []struct {
		name  string
		value int64
	}{
		{"row", p.Window.RowStart}, {"row", p.Window.RowStop},
		{"column", p.Window.ColStart}, {"column", p.Window.ColStop},
	} {
		if side.value < math.MinInt32 || side.value > math.MaxInt32 {
			return fault.New(fault.Limit, fault.LimitExceeded, "the window reaches %s %d of the reference lattice, and the limit is ±%d",
				side.name, side.value, math.MaxInt32).With("value", side.value).With("limit", math.MaxInt32)
		}
	}
	return nil
}

// Column is one column of the table.
type Column struct {
	Name string
	Type layer.DataType
	// Thread is the index of the layer that it holds, -1 for coordinates and
	// indices. Only a layer's column can have nulls.
	Thread int
}

// Columns lists the columns of the table in order.
func (p *Plan) Columns() []Column {
	columns := make([]Column, 0, len(p.Threads)+4)
	if p.Coordinates.XY {
		columns = append(columns, Column{"x", layer.Float64, -1}, Column{"y", layer.Float64, -1})
	}
	if p.Coordinates.RowCol {
		columns = append(columns, Column{"row", layer.Int32, -1}, Column{"col", layer.Int32, -1})
	}
	for i, t := range p.Threads {
		if t.Selected() {
			columns = append(columns, Column{t.Column, t.Type, i})
		}
	}
	return columns
}

// Rows is a half-open range of rows of the reference lattice.
type Rows struct{ Start, Stop int64 }

// Range gives the rows of an endpoint, 0 <= endpoint < Endpoints: together
// they are the window's rows, in order.
func (p *Plan) Range(endpoint int) Rows {
	rows, n := p.Window.Rows(), int64(p.Endpoints)
	return Rows{
		Start: p.Window.RowStart + rows*int64(endpoint)/n,
		Stop:  p.Window.RowStart + rows*int64(endpoint+1)/n,
	}
}

// MaxRows is the largest possible number of rows of the table, and whether it
// is the exact one.
func (p *Plan) MaxRows() (rows int64, exact bool) {
	window := p.Window.Cells()
	covered := func(t Thread) int64 {
		var cols int64
		for _, s := range t.Placement.Segments {
			cols += s.Cols()
		}
		return cols * max(0, t.Placement.RowStop-t.Placement.RowStart)
	}
	switch p.Keep {
	case KeepEvery:
		return window, true
	case KeepReference:
		return covered(p.Threads[p.Reference]), false
	case KeepAll:
		rows = window
		for _, t := range p.Threads {
			if t.Selected() {
				rows = min(rows, covered(t))
			}
		}
		return rows, false
	default:
		for _, t := range p.Threads {
			if t.Selected() {
				rows += covered(t)
			}
		}
		return min(rows, window), false
	}
}

// RowBytes is the size of a row in a record batch in bytes, an eighth of a byte
// for each validity bit.
func (p *Plan) RowBytes() float64 {
	var size float64
	for _, c := range p.Columns() {
		size += float64(c.Type.Width())
		if c.Thread >= 0 {
			size += 1. / 8
		}
	}
	return size
}

// defaultBatchRows is DefaultBatchRows, halved until a batch fits batchBytes.
func (p *Plan) defaultBatchRows() int {
	rows := DefaultBatchRows
	for rows > 1 && float64(rows)*p.RowBytes() > batchBytes {
		rows /= 2
	}
	return rows
}

// bandRowBytes is the memory of one row of a band, over all layers, with the
// bitmap of kept cells.
func (p *Plan) bandRowBytes() float64 {
	size := 1. / 8
	for _, t := range p.Threads {
		size += float64(t.Type.Width()) + 1./8
	}
	return size * float64(p.Window.Cols())
}

// bandRows is the number of rows of a band. It bounds the indices of cells in a
// band to what fits int on every machine. Source cells under the band count, the
// halo around them does not: it is the same for a band of one row.
func (p *Plan) bandRows() int64 {
	most := float64(p.Limits.BandBytes >> p.tightness)
	rows := int64(most / p.bandRowBytes())
	rows = max(1, min(rows, math.MaxInt32/p.Window.Cols(), p.Window.Rows()))
	return max(1, int64(sort.Search(int(rows), func(i int) bool {
		rows := int64(i) + 1
		size := float64(rows) * p.bandRowBytes()
		for j := range p.Threads {
			size += p.sourceBytes(&p.Threads[j], rows) - p.sourceBytes(&p.Threads[j], 0)
		}
		return size > most
	})))
}

// firstRows is how many rows of the lattice the first batch takes, or a few more.
func (p *Plan) firstRows() int64 { return int64(p.BatchRows)/p.Window.Cols() + 1 }

// Requests are the cells to read for a range of rows, one for each thread. A
// thread that has no cell there has an empty window.
func (p *Plan) Requests(rows Rows) []layer.CellRequest {
	requests := make([]layer.CellRequest, len(p.Threads))
	// That a band is full is known by a cell behind it.
	first := Rows{rows.Start, min(rows.Stop, rows.Start+p.firstRows()+1)}
	for i, t := range p.Threads {
		requests[i] = layer.CellRequest{Layer: t.Layer, ChunkCells: p.chunkCells(&t), Duplicates: t.Duplicates}
		requests[i].Window = t.cellsToRead(rows)
		requests[i].FirstCells = int(min(t.cellsToRead(first).Cells(), math.MaxInt32))
	}
	return requests
}

// Warnings are the things worth knowing before the merge.
func (p *Plan) Warnings() []string {
	var warnings []string
	if p.Legacy {
		warnings = append(warnings, LegacyWarning)
	}
	for _, t := range p.Threads {
		r := t.Relation
		if t.Resampling != nil {
			warnings = append(warnings, t.Resampling.warning(t.Layer.Name))
		} else if r.Verdict == grid.VerdictShift {
			explanation := t.Explanation
			if explanation == "" {
				explanation = fmt.Sprintf("shifted by %+.3g pixels on x and %+.3g on y", r.ShiftPixels.X, r.ShiftPixels.Y)
			}
			warnings = append(warnings, t.Layer.Name+": "+explanation)
		}
		for _, q := range t.Layer.Problems {
			if q.Severity >= layer.Warning {
				warnings = append(warnings, t.Layer.Name+": "+q.Message)
			}
		}
	}
	return warnings
}
