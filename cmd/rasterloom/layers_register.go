package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
)

type registerCommand struct {
	client
	Name         string    `arg:"" help:"Name of the new layer."`
	Table        string    `arg:"" help:"Its pixel table, as SCHEMA.NAME."`
	Bounds       []float64 `help:"Outer edges of the grid in units of the CRS." required:"" sep:"," placeholder:"MIN_X,MIN_Y,MAX_X,MAX_Y"`
	Shape        []int64   `help:"Number of rows and columns." sep:"," xor:"cells" required:"" placeholder:"ROWS,COLS"`
	Resolution   *float64  `help:"Edge of a cell, in the place of --shape." xor:"cells" required:"" placeholder:"NUMBER"`
	CRS          string    `name:"crs" help:"Coordinate reference system: an authority code, WKT or PROJJSON." placeholder:"EPSG:4326"`
	Band         string    `help:"Name of the band in its source."`
	Type         string    `help:"Type of the values in the source: ${enum}. Default: as they are stored." enum:",uint8,int8,uint16,int16,uint32,int32,int64,float32,float64" default:"" placeholder:"TYPE"`
	Nodata       *float64  `help:"Value that means no data." placeholder:"NUMBER"`
	Registration string    `help:"Point of a cell that stored coordinates name: center or upper-left. Default: as they say." enum:",center,upper-left" default:"" placeholder:"POINT"`
	SouthUp      *bool     `help:"Whether row 0 is the south row. Default: as stored coordinates say." negatable:""`
	DryRun       bool      `help:"Only say what would be registered."`
}

// Run registers a layer.
func (c registerCommand) Run(ctx context.Context) error {
	extent := &gridv1.Extent{Crs: c.CRS, Bounds: c.Bounds, Resolution: c.Resolution}
	if c.Shape != nil {
		if len(c.Shape) != 2 {
			return fmt.Errorf("--shape has %d numbers, and must have 2: rows, columns", len(c.Shape))
		}
		extent.Rows, extent.Cols = c.Shape[0], c.Shape[1]
	}
	schema, name, ok := strings.Cut(c.Table, ".")
	if !ok {
		schema, name = "public", c.Table
	}
	res, err := ask(ctx, c.client, "schema", c.schema().RegisterLayer, &schemav1.RegisterLayerRequest{
		Name: c.Name, Band: c.Band, Table: &layerv1.Table{Schema: schema, Name: name},
		Lattice:      &schemav1.RegisterLayerRequest_Extent{Extent: extent},
		DeclaredType: layerv1.DataType(layerv1.DataType_value["DATA_TYPE_"+strings.ToUpper(c.Type)]),
		Nodata:       c.Nodata,
		Registration: gridv1.Registration(gridv1.Registration_value["REGISTRATION_"+strings.ToUpper(strings.ReplaceAll(c.Registration, "-", "_"))]),
		SouthUp:      c.SouthUp, DryRun: c.DryRun,
	})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return printJSON(standardOut, res)
	}
	p := newPainter(os.Stdout)
	p.layer(res.GetLayer())
	done := "Registered"
	switch {
	case c.DryRun && res.GetAdded():
		done = "Would register"
	case !res.GetAdded():
		done = "Registered before; looked at again,"
	}
	fmt.Fprintf(p, "\n%s after reading %s in %v.\n", p.paint(bold, done), plural(int(res.GetRowsRead()), "row"),
		res.GetElapsed().AsDuration().Round(time.Millisecond))
	return nil
}

type dropCommand struct {
	client
	Layer       string `arg:"" help:"Name of the layer."`
	Generation  int64  `help:"Only if this is still its generation." placeholder:"NUMBER"`
	DeleteTiles bool   `help:"Delete its cells as well. Only of a layer that was ingested, or migrated to tiles; there is no way back."`
}

// Run drops a layer.
func (c dropCommand) Run(ctx context.Context) error {
	res, err := ask(ctx, c.client, "schema", c.schema().DropLayer, &schemav1.DropLayerRequest{Name: c.Layer, Generation: c.Generation, DeleteTiles: c.DeleteTiles})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return printJSON(standardOut, res)
	}
	p, t := newPainter(os.Stdout), res.GetLayer().GetTable()
	kept := ""
	switch {
	case c.DeleteTiles:
		kept = fmt.Sprintf(" Its table %s.%s is deleted.", t.GetSchema(), t.GetName())
	case t.GetName() != "":
		kept = fmt.Sprintf(" Its table %s.%s is untouched.", t.GetSchema(), t.GetName())
	}
	fmt.Fprintf(p, "%s the layer %s, generation %d, from the catalog.%s\n", p.paint(bold, "Dropped"), c.Layer, res.GetLayer().GetGeneration(), kept)
	return nil
}
