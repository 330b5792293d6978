package pixelsql_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/pgtest"
	"github.com/rasterloom/rasterloom/internal/pixelsql"
)

// A join of as many layers as a merge may have is one that PostgreSQL takes; a
// layer of which nothing lands is NULL, and every cell of a window comes when
// it is asked for.
func TestJoinOfManyLayers(t *testing.T) {
	pool := pgtest.Pool(t)
	g := grid.Grid{CRS: "EPSG:4326", Rows: 3, Cols: 4, OriginX: 1.0 / 3, OriginY: 4, StepX: 1.0 / 3, StepY: 0.1}
	place := grid.Placement{RowStop: 3, Segments: []grid.Segment{{SrcStop: 2}, {SrcStart: 2, SrcStop: 4, DstStart: 2}}}
	request := layer.JoinRequest{Lattice: g, Every: grid.Window{RowStop: 3, ColStop: 4}}
	const layers = 256
	for i := range layers {
		l := layer.Layer{Name: "l", Grid: g, HasGrid: true, StoredType: layer.Float64}
		s := storages[i%len(storages)]
		s.name = fmt.Sprintf("%d", i)
		store(t, pool, &l, s, "float8", []cell{{i % 2, i % 4, float64(i)}, {2, 3, 0.0}})
		joined := layer.JoinedLayer{Layer: l, Placement: place}
		if i == layers-1 {
			joined.Placement = grid.Placement{}
		}
		request.Layers = append(request.Layers, joined)
	}
	q, err := pixelsql.JoinedCells(request)
	if err != nil {
		t.Fatal(err)
	}
	args := make([]any, len(q.Parameters))
	for i, p := range q.Parameters {
		args[i] = p.Value
	}
	began := time.Now()
	rows, err := pool.Query(t.Context(), q.SQL, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		got, err := rows.Values()
		if err != nil {
			t.Fatal(err)
		}
		row, col := n/4, n%4
		if got[0] != g.X(int64(col)) || got[1] != g.Y(int64(row)) {
			t.Fatalf("row %d is at %v, %v", n, got[0], got[1])
		}
		for i := range layers {
			var want any
			switch {
			case i == layers-1:
			case row == 2 && col == 3:
				want = 0.0
			case i%2 == row && i%4 == col:
				want = float64(i)
			}
			if want != got[i+2] {
				t.Errorf("row %d, col %d of layer %d is %v, want %v", row, col, i, got[i+2], want)
			}
		}
	}
	if err := rows.Err(); err != nil || n != 12 {
		t.Fatalf("%d rows, %v", n, err)
	}
	t.Logf("%d layers joined in %v with %d parameters", layers, time.Since(began), len(q.Parameters))
}
