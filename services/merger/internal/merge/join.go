package merge

import (
	"context"
	"errors"
	"io"
	"math"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// LegacyWarning is told wherever the legacy way is taken.
const LegacyWarning = "use_legacy_merge is deprecated: the legacy join gives the same table, slower, and goes in the release after the next; see docs/legacy-merge.md"

// Joined gives the rows of a join, from north to south and from west to east.
type Joined interface {
	// Next gives the next row, good until the call after it, and io.EOF after
	// the last.
	Next(ctx context.Context) (*layer.JoinedRow, error)
}

// JoinRequest is the join that gives a range of rows the legacy way.
func (p *Plan) JoinRequest(rows Rows) layer.JoinRequest {
	request := layer.JoinRequest{Lattice: p.Lattice}
	for i, t := range p.Threads {
		if !p.joins(i) {
			continue
		}
		place := t.Placement
		place.RowStart = max(place.RowStart, rows.Start-place.RowShift)
		place.RowStop = min(place.RowStop, rows.Stop-place.RowShift)
		request.Layers = append(request.Layers, layer.JoinedLayer{
			Layer: t.Layer, Placement: place,
			Required: p.Keep == KeepAll && t.Selected() || p.Keep == KeepReference && i == p.Reference,
		})
	}
	if p.Keep == KeepEvery {
		request.Every = p.Window
		request.Every.RowStart, request.Every.RowStop = rows.Start, rows.Stop
	}
	return request
}

// CheckJoin refuses what the legacy way never could. Errors: Invalid
// INVALID_ARGUMENT and Unsupported UNSUPPORTED, naming the layer.
func (p *Plan) CheckJoin() error {
	for _, t := range p.Threads {
		if t.Layer.Format == layer.FormatTiled {
			return fault.New(fault.Unsupported, fault.NotSupported,
				"layer %q is stored as tiles, which the legacy merge cannot read: leave out use_legacy_merge", t.Layer.Name).
				With("layer", t.Layer.Name).With("format", t.Layer.Format)
		}
		if t.Resampling != nil {
			return fault.New(fault.Invalid, fault.InvalidArgument,
				"layer %q: the legacy merge cannot resample (%s was asked for): leave out use_legacy_merge", t.Layer.Name, t.Resampling.Method).
				With("layer", t.Layer.Name).With("field", "resampling").With("method", t.Resampling.Method)
		}
		if t.Duplicates != layer.DuplicatesError {
			return fault.New(fault.Invalid, fault.InvalidArgument,
				"layer %q: the legacy merge cannot choose between cells that are stored more than once (%s)", t.Layer.Name, t.Duplicates).
				With("layer", t.Layer.Name).With("field", "duplicates")
		}
	}
	return nil
}

// joins reports whether a thread has part in the join: it has a column, or
// decides which rows are kept.
func (p *Plan) joins(i int) bool {
	return p.Threads[i].Selected() || p.Keep == KeepReference && i == p.Reference
}

// Join makes batches of a join, the legacy way to do what Weave does: the same
// rows, batches and values. It trusts the join with the values, and checks that
// every row is a cell of the lattice, and comes once and in order.
//
// Errors: those of the join and of emit; Precondition DUPLICATE_CELL or
// NARROWING_LOSS, naming the cell of the lattice; Corrupt DATA_CORRUPT.
func Join(ctx context.Context, p *Plan, rows Rows, joined Joined, emit func(*Batch) error) (Result, error) {
	j, err := newJoiner(p, emit)
	if err != nil {
		return Result{}, err
	}
	last := int64(math.MinInt64)
	for {
		row, err := joined.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Result{}, err
		}
		r, c, err := p.cellOf(row.X, row.Y)
		if err != nil {
			return Result{}, err
		}
		at := (r-p.Window.RowStart)*p.Window.Cols() + c - p.Window.ColStart
		switch {
		case at == last:
			return Result{}, fault.New(fault.Precondition, fault.DuplicateCell,
				"the cell at row %d, column %d of the reference lattice comes twice out of the join: a layer stores it more than once", r, c).
				With("row", r).With("col", c)
		case at < last || r < rows.Start || r >= rows.Stop || c < p.Window.ColStart || c >= p.Window.ColStop:
			return Result{}, fault.New(fault.Corrupt, fault.DataCorrupt, "row %d, column %d came out of place from the join", r, c).
				With("row", r).With("col", c)
		}
		last = at
		if p.After.covers(r, c) {
			continue
		}
		if err := j.add(r, c, row); err != nil {
			return Result{}, err
		}
	}
	return j.end()
}

// cellOf is the cell of the lattice whose centre a point is, to the last bit.
func (p *Plan) cellOf(x, y float64) (row, col int64, err error) {
	col = int64(math.Round((x-p.Lattice.OriginX)/p.Lattice.StepX - 0.5))
	row = int64(math.Round((p.Lattice.OriginY-y)/p.Lattice.StepY - 0.5))
	if p.Lattice.X(col) != x || p.Lattice.Y(row) != y {
		return 0, 0, fault.New(fault.Corrupt, fault.DataCorrupt, "the point x %v, y %v of the join is no centre of a cell", x, y).
			With("x", x).With("y", y)
	}
	return row, col, nil
}

// joiner collects rows into batches.
type joiner struct {
	plan    *Plan
	emit    func(*Batch) error
	places  []joinedColumn // x, y, row and col, those that the plan has
	place   []layer.JoinedValue
	values  []joinedColumn // of the threads that join; nil for one without a column
	threads []int          // their indices in the plan
	batch   Batch
	result  Result
}

func newJoiner(p *Plan, emit func(*Batch) error) (*joiner, error) {
	j := &joiner{plan: p, emit: emit, result: Result{Cells: make([]int64, len(p.Threads))}}
	for _, c := range p.Columns() {
		if c.Thread < 0 {
			column, err := newJoinedColumn(c.Type, c.Type, "")
			if err != nil {
				return nil, err
			}
			j.places = append(j.places, column)
		}
	}
	j.place = make([]layer.JoinedValue, 0, 4)
	for i, t := range p.Threads {
		if !p.joins(i) {
			continue
		}
		var column joinedColumn
		if t.Selected() {
			var err error
			if column, err = newJoinedColumn(t.Layer.StoredType, t.Type, t.Layer.Name); err != nil {
				return nil, err
			}
		}
		j.values, j.threads = append(j.values, column), append(j.threads, i)
	}
	return j, nil
}

func (j *joiner) add(r, c int64, row *layer.JoinedRow) error {
	if j.batch.Rows == 0 {
		j.batch.FirstRow = r
	}
	j.place = j.place[:0]
	if j.plan.Coordinates.XY {
		j.place = append(j.place, layer.JoinedValue{Valid: true, Float: row.X}, layer.JoinedValue{Valid: true, Float: row.Y})
	}
	if j.plan.Coordinates.RowCol {
		j.place = append(j.place, layer.JoinedValue{Valid: true, Int: r}, layer.JoinedValue{Valid: true, Int: c})
	}
	for i, v := range j.place {
		if err := j.places[i].add(v, r, c); err != nil {
			return err
		}
	}
	for i, v := range row.Values {
		if j.values[i] == nil {
			continue
		}
		if err := j.values[i].add(v, r, c); err != nil {
			return err
		}
		if v.Valid {
			j.result.Cells[j.threads[i]]++
		}
	}
	j.batch.Rows++
	j.batch.Last = Cell{r, c}
	if j.batch.Rows == j.plan.BatchRows {
		return j.flush()
	}
	return nil
}

func (j *joiner) flush() error {
	if j.batch.Rows == 0 {
		return nil
	}
	j.batch.Columns = j.batch.Columns[:0]
	for _, c := range j.places {
		j.batch.Columns = append(j.batch.Columns, Vector{Values: c.vector().Values})
	}
	for _, c := range j.values {
		if c != nil {
			j.batch.Columns = append(j.batch.Columns, c.vector())
		}
	}
	if err := j.emit(&j.batch); err != nil {
		return err
	}
	for _, c := range append(j.places, j.values...) {
		if c != nil {
			c.clear()
		}
	}
	j.result.Rows += int64(j.batch.Rows)
	j.result.Batches++
	j.batch.Rows = 0
	j.batch.Sequence++
	return nil
}

func (j *joiner) end() (Result, error) {
	if err := j.flush(); err != nil {
		return Result{}, err
	}
	return j.result, nil
}

// joinedColumn collects a column of a batch, a value at a time.
type joinedColumn interface {
	add(v layer.JoinedValue, row, col int64) error
	vector() Vector
	clear()
}

// ofJoin is joinedColumn for values that the join gives as S and the column has
// as T.
type ofJoin[S, T layer.Value] struct {
	layer   string
	of      func(layer.JoinedValue) S
	convert func(S) (T, bool) // nil where every S is a T
	values  []T
	valid   []uint64
	nulls   int
}

func newJoinedColumn(stored, typ layer.DataType, name string) (joinedColumn, error) {
	if stored == layer.Float64 || stored == layer.Float32 {
		return newOfJoin(typ, name, func(v layer.JoinedValue) float64 { return v.Float })
	}
	return newOfJoin(typ, name, func(v layer.JoinedValue) int64 { return v.Int })
}

func newOfJoin[S layer.Value](typ layer.DataType, name string, of func(layer.JoinedValue) S) (joinedColumn, error) {
	switch typ {
	case layer.Uint8:
		return &ofJoin[S, uint8]{layer: name, of: of, convert: converter[S, uint8]()}, nil
	case layer.Int8:
		return &ofJoin[S, int8]{layer: name, of: of, convert: converter[S, int8]()}, nil
	case layer.Uint16:
		return &ofJoin[S, uint16]{layer: name, of: of, convert: converter[S, uint16]()}, nil
	case layer.Int16:
		return &ofJoin[S, int16]{layer: name, of: of, convert: converter[S, int16]()}, nil
	case layer.Uint32:
		return &ofJoin[S, uint32]{layer: name, of: of, convert: converter[S, uint32]()}, nil
	case layer.Int32:
		return &ofJoin[S, int32]{layer: name, of: of, convert: converter[S, int32]()}, nil
	case layer.Int64:
		return &ofJoin[S, int64]{layer: name, of: of, convert: converter[S, int64]()}, nil
	case layer.Float32:
		return &ofJoin[S, float32]{layer: name, of: of, convert: converter[S, float32]()}, nil
	case layer.Float64:
		return &ofJoin[S, float64]{layer: name, of: of, convert: converter[S, float64]()}, nil
	default:
		return nil, unknownType(name, typ)
	}
}

func (c *ofJoin[S, T]) add(v layer.JoinedValue, row, col int64) error {
	at := len(c.values)
	if at>>6 == len(c.valid) {
		c.valid = append(c.valid, 0)
	}
	if !v.Valid {
		c.values = append(c.values, 0)
		c.nulls++
		return nil
	}
	value := c.of(v)
	out, ok := T(value), true
	if c.convert != nil {
		out, ok = c.convert(value)
	}
	if !ok {
		return fault.New(fault.Precondition, fault.NarrowingLoss,
			"layer %q: the value %v at row %d, column %d of the reference lattice does not fit %s without loss",
			c.layer, value, row, col, layer.TypeOf[T]()).
			With("layer", c.layer).With("row", row).With("col", col).With("value", value).With("type", layer.TypeOf[T]())
	}
	c.values = append(c.values, out)
	c.valid[at>>6] |= 1 << (at & 63)
	return nil
}

func (c *ofJoin[S, T]) vector() Vector {
	return Vector{Values: c.values, Valid: c.valid, Nulls: c.nulls}
}

func (c *ofJoin[S, T]) clear() { c.values, c.valid, c.nulls = c.values[:0], c.valid[:0], 0 }
