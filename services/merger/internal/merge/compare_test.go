package merge

import (
	"context"
	"errors"
	"io"
	"math"
	"testing"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// listed is a join whose rows are known.
type listed struct{ rows []layer.JoinedRow }

func (l *listed) Next(context.Context) (*layer.JoinedRow, error) {
	if len(l.rows) == 0 {
		return nil, io.EOF
	}
	row := &l.rows[0]
	l.rows = l.rows[1:]
	return row, nil
}

// joinPlan is a plan of two layers, of float64 and int16, over a window of
// 3 × 4 cells whose lattice is awkward in binary.
func joinPlan(t *testing.T) *Plan {
	t.Helper()
	g := grid.Grid{CRS: "EPSG:4326", Rows: 3, Cols: 4, OriginX: 10.1, OriginY: 5.7, StepX: 1.0 / 3, StepY: 0.1}
	p := &Plan{Lattice: g, Window: g.Window(), Coordinates: Coordinates{XY: true}, BatchRows: 3}
	for name, typ := range map[string]layer.DataType{"a": layer.Float64, "b": layer.Int16} {
		p.Threads = append(p.Threads, Thread{
			Layer:    layer.Layer{Name: name, Grid: g, HasGrid: true, Format: layer.FormatLegacy, HasIndices: true, StoredType: typ},
			Relation: grid.Relation{Verdict: grid.VerdictIdentical}, Column: name, Type: typ,
		})
	}
	if p.Threads[0].Column != "a" {
		p.Threads[0], p.Threads[1] = p.Threads[1], p.Threads[0]
	}
	if err := p.Complete(); err != nil {
		t.Fatal(err)
	}
	return p
}

// cells makes the rows of a join: row, column, a and b; NaN is no value.
func cells(p *Plan, table ...[4]float64) *listed {
	l := &listed{}
	for _, c := range table {
		l.rows = append(l.rows, layer.JoinedRow{X: p.Lattice.X(int64(c[1])), Y: p.Lattice.Y(int64(c[0])), Values: []layer.JoinedValue{
			{Valid: !math.IsNaN(c[2]), Float: c[2]}, {Valid: !math.IsNaN(c[3]), Int: int64(c[3])},
		}})
	}
	return l
}

func runOf(l *listed) Run {
	return func(p *Plan, emit func(*Batch) error) (Result, error) {
		return Join(context.Background(), p, Rows{0, 3}, l, emit)
	}
}

// Every way in which two tables can differ is found, counted and named; a
// difference of one bit is one.
func TestCompareNamesTheCellsThatDiffer(t *testing.T) {
	p, none := joinPlan(t), math.NaN()
	woven := cells(p, [4]float64{0, 0, 1, 1}, [4]float64{0, 1, 2, none}, [4]float64{1, 0, 0, 5}, [4]float64{1, 3, 4, 4}, [4]float64{2, 2, 7, none})
	joined := cells(p, [4]float64{0, 0, 1, 1}, [4]float64{0, 1, 2, 2}, [4]float64{1, 0, math.Copysign(0, -1), 5}, [4]float64{1, 2, none, 9}, [4]float64{1, 3, 4, 3}, [4]float64{2, 3, 8, none})
	got, err := Compare(p, runOf(woven), runOf(joined))
	if err != nil {
		t.Fatal(err)
	}
	type cell struct {
		thread       int
		row, col     int64
		woven, other float64
	}
	want := []cell{
		{1, 0, 1, none, 2}, {0, 1, 0, 0, math.Copysign(0, -1)}, {1, 1, 2, none, 9}, {1, 1, 3, 4, 3}, {0, 2, 2, 7, none}, {0, 2, 3, none, 8},
	}
	number := func(v *float64) float64 {
		if v == nil {
			return none
		}
		return *v
	}
	if len(got.Differences) != len(want) {
		t.Fatalf("%d differences, want %d: %+v", len(got.Differences), len(want), got.Differences)
	}
	for i, d := range got.Differences {
		w := want[i]
		same := func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) || a != a && b != b }
		if d.Thread != w.thread || d.Row != w.row || d.Col != w.col || !same(number(d.Woven), w.woven) || !same(number(d.Joined), w.other) {
			t.Errorf("difference %d is %+v (%v, %v), want %+v", i, d, number(d.Woven), number(d.Joined), w)
		}
	}
	if got.Equal() || got.Woven.Rows != 5 || got.Joined.Rows != 6 || got.Differing[0] != 3 || got.Differing[1] != 3 ||
		got.Woven.Cells[0] != 5 || got.Joined.Cells[1] != 5 {
		t.Errorf("%+v", got)
	}
	same := [4]float64{1, 1, 1, 1}
	if got, err = Compare(p, runOf(cells(p, same)), runOf(cells(p, same))); err != nil || !got.Equal() {
		t.Errorf("equal tables: %+v, %v", got, err)
	}
	if got, err = Compare(p, runOf(cells(p)), runOf(cells(p))); err != nil || !got.Equal() {
		t.Errorf("empty tables: %+v, %v", got, err)
	}
}

// Of very many differences all are counted and the first hundred named. The
// error of one run ends the other.
func TestCompareIsBounded(t *testing.T) {
	p := joinPlan(t)
	p.Lattice.Rows, p.Window.RowStop = 1000, 1000
	var a, b [][4]float64
	for r := range 1000 {
		a, b = append(a, [4]float64{float64(r), 0, 1, 2}), append(b, [4]float64{float64(r), 0, 3, 2})
	}
	run := func(l *listed) Run {
		return func(p *Plan, emit func(*Batch) error) (Result, error) {
			return Join(context.Background(), p, Rows{0, 1000}, l, emit)
		}
	}
	got, err := Compare(p, run(cells(p, a...)), run(cells(p, b...)))
	if err != nil || len(got.Differences) != 100 || got.Differing[0] != 1000 || got.Differing[1] != 0 || got.Differences[99].Row != 99 {
		t.Errorf("%d named, %v counted, %v", len(got.Differences), got.Differing, err)
	}
	broken, other := errors.New("broken"), cells(p, a...)
	failing := func(*Plan, func(*Batch) error) (Result, error) { return Result{}, broken }
	if _, err := Compare(p, failing, run(other)); !errors.Is(err, broken) || len(other.rows) < 900 {
		t.Errorf("%v, and %d rows were left", err, len(other.rows))
	}
	if _, err := Compare(p, run(cells(p, a...)), failing); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

// The join is not believed where it can be checked.
func TestJoinChecksEveryRow(t *testing.T) {
	p := joinPlan(t)
	off := cells(p, [4]float64{0, 0, 1, 1})
	off.rows[0].X = math.Nextafter(off.rows[0].X, 20)
	for name, c := range map[string]struct {
		rows   *listed
		reason fault.Reason
	}{
		"twice":                       {cells(p, [4]float64{1, 1, 1, 1}, [4]float64{1, 1, 1, 1}), fault.DuplicateCell},
		"west after east":             {cells(p, [4]float64{1, 1, 1, 1}, [4]float64{1, 0, 1, 1}), fault.DataCorrupt},
		"north after south":           {cells(p, [4]float64{2, 0, 1, 1}, [4]float64{1, 3, 1, 1}), fault.DataCorrupt},
		"outside of the rows":         {cells(p, [4]float64{3, 0, 1, 1}), fault.DataCorrupt},
		"outside of the window":       {cells(p, [4]float64{0, -1, 1, 1}), fault.DataCorrupt},
		"a last bit from a centre":    {off, fault.DataCorrupt},
		"a value that the type loses": {cells(p, [4]float64{0, 0, 1, 1 << 20}), fault.NarrowingLoss},
	} {
		_, err := Join(t.Context(), p, Rows{0, 3}, c.rows, func(*Batch) error { return nil })
		if f := fault.From(err); f == nil || f.Reason != c.reason {
			t.Errorf("%s: %v", name, err)
		}
	}
}
