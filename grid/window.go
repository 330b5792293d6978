package grid

import "fmt"

// Window is a half-open range of rows and columns of a lattice. Indices count
// from the origin of the reference lattice and may be negative. The zero Window
// is empty.
type Window struct {
	RowStart, RowStop int64
	ColStart, ColStop int64
}

// Rows is the number of rows, 0 for an empty window.
func (w Window) Rows() int64 { return max(0, w.RowStop-w.RowStart) }

// Cols is the number of columns, 0 for an empty window.
func (w Window) Cols() int64 { return max(0, w.ColStop-w.ColStart) }

// Cells is the number of cells.
func (w Window) Cells() int64 { return w.Rows() * w.Cols() }

// Empty reports whether the window has no cell.
func (w Window) Empty() bool { return w.Rows() == 0 || w.Cols() == 0 }

// Contains reports whether the cell is in the window.
func (w Window) Contains(row, col int64) bool {
	return row >= w.RowStart && row < w.RowStop && col >= w.ColStart && col < w.ColStop
}

// Intersect is the part common to both, the zero Window if none.
func (w Window) Intersect(o Window) Window {
	i := Window{
		RowStart: max(w.RowStart, o.RowStart), RowStop: min(w.RowStop, o.RowStop),
		ColStart: max(w.ColStart, o.ColStart), ColStop: min(w.ColStop, o.ColStop),
	}
	if i.Empty() {
		return Window{}
	}
	return i
}

// Union is the smallest window that holds both. An empty window adds nothing.
func (w Window) Union(o Window) Window {
	if w.Empty() {
		return o
	}
	if o.Empty() {
		return w
	}
	return Window{
		RowStart: min(w.RowStart, o.RowStart), RowStop: max(w.RowStop, o.RowStop),
		ColStart: min(w.ColStart, o.ColStart), ColStop: max(w.ColStop, o.ColStop),
	}
}

// String prints the window as rows a:b, cols c:d.
func (w Window) String() string {
	return fmt.Sprintf("rows %d:%d, cols %d:%d", w.RowStart, w.RowStop, w.ColStart, w.ColStop)
}
