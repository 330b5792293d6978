package pgstore

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// A point off the lattice ends a join as it ends reading the cells, however far off.
func TestJoinOfFarPoints(t *testing.T) {
	reader, pool := newReader(t, CellOptions{})
	g := grid.Grid{CRS: "EPSG:32633", Rows: 4, Cols: 4, StepX: 0.5, StepY: 0.5}
	for i, point := range []string{"0.4, -0.25", "1e30, -0.25", "0.25, -1e30", "1.7e308, -0.25"} {
		name := fmt.Sprintf("far_%d", i)
		run(t, pool, "CREATE TABLE public."+name+" (x_coord float8, y_coord float8, value float8)")
		run(t, pool, "INSERT INTO public."+name+" VALUES (0.25, -0.25, 1), ("+point+", 2)")
		l := layer.Layer{
			Name: name, Grid: g, HasGrid: true, Format: layer.FormatCoordinate, HasCoordinates: true, Registration: grid.RegistrationCenter,
			StoredType: layer.Float64, Table: layer.Table{Schema: "public", Name: name},
		}
		j, err := reader.OpenJoined(t.Context(), layer.JoinRequest{Lattice: g, Every: g.Window(), Layers: []layer.JoinedLayer{{
			Layer: l, Placement: grid.Placement{RowStop: 4, Segments: []grid.Segment{{SrcStop: 4}}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = j.Next(t.Context())
		}
		j.Close()
		if f := fault.From(err); errors.Is(err, io.EOF) || f.Kind != fault.Precondition || f.Reason != fault.CellOffGrid {
			t.Errorf("(%s) joined: %v (%s)", point, err, f.Detail())
		}
		set, err := reader.Open(t.Context(), []layer.CellRequest{{Layer: l, Window: g.Window(), ChunkCells: 100}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = readAll(t.Context(), set.Stream(0))
		set.Close()
		if f := fault.From(err); f.Reason != fault.CellOffGrid {
			t.Errorf("(%s) read: %v", point, err)
		}
	}
}
