package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
)

type layersCommand struct {
	Adopt adoptCommand `cmd:"" help:"Take over the layers of an existing catalog table. Nothing of it is changed, and it may be repeated."`
	List  listCommand  `cmd:"" help:"List the layers."`
	Show  showCommand  `cmd:"" help:"Show all that is known about one layer."`
	Check checkCommand `cmd:"" help:"Look at the tables of layers again, without changing the catalog, and say what is wrong."`

	Register registerCommand `cmd:"" help:"Take one table into the catalog that no existing catalog lists. Every row is read, and nothing of it is changed."`
	Drop     dropCommand     `cmd:"" help:"Remove a layer from the catalog. Its table is not touched."`
}

type adoptCommand struct {
	client
	Table      string `arg:"" optional:"" help:"The catalog table, as SCHEMA.NAME." default:"public.resampled_datasets"`
	DataSchema string `help:"PostgreSQL schema of the pixel tables, if another than the catalog's." placeholder:"SCHEMA"`
	DryRun     bool   `help:"Only say what would be adopted."`
}

// Run adopts a catalog.
func (c adoptCommand) Run(ctx context.Context) error {
	schema, name, ok := strings.Cut(c.Table, ".")
	if !ok {
		schema, name = "public", c.Table
	}
	res, err := ask(ctx, c.client, "schema", c.schema().AdoptCatalog, &schemav1.AdoptCatalogRequest{
		Table: &layerv1.Table{Schema: schema, Name: name}, DataSchema: c.DataSchema, DryRun: c.DryRun,
	})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return printJSON(standardOut, res)
	}
	p := newPainter(os.Stdout)
	p.layers(res.GetLayers())
	done := "Adopted"
	if c.DryRun {
		done = "Would adopt"
	}
	fmt.Fprintf(p, "\n%s %s from %s in %v: %d new, %d changed, %d as before, %d that cannot be read.\n", p.paint(bold, done),
		plural(len(res.GetLayers()), "layer"), c.Table, res.GetElapsed().AsDuration().Round(time.Millisecond),
		res.GetAdded(), res.GetChanged(), res.GetUnchanged(), res.GetInvalid())
	return nil
}

type listCommand struct {
	client
	Contains string   `help:"Only layers whose name has this text in it." placeholder:"TEXT"`
	Format   []string `help:"Only layers of these formats: ${enum}." enum:"legacy,coordinate,windowed,tiled,partial,invalid" placeholder:"FORMAT"`
}

// Run lists layers.
func (c listCommand) Run(ctx context.Context) error {
	filter := &schemav1.ListLayersRequest{NameContains: c.Contains}
	for _, f := range c.Format {
		filter.Formats = append(filter.Formats, layerv1.Format(layerv1.Format_value["FORMAT_"+strings.ToUpper(f)]))
	}
	res, err := allLayers(ctx, c.client, filter)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return printJSON(standardOut, res)
	}
	p := newPainter(os.Stdout)
	if len(res.GetLayers()) == 0 {
		fmt.Fprintln(p, "No layers. `rasterloom layers adopt` takes over those of an existing catalog.")
		return nil
	}
	p.layers(res.GetLayers())
	return nil
}

func (p painter) layers(layers []*layerv1.Layer) {
	rows := make([][]string, 0, len(layers))
	for _, l := range layers {
		format := strings.ToLower(enumName(l.GetFormat(), "FORMAT_"))
		if l.GetFormat() == layerv1.Format_FORMAT_INVALID {
			format = p.paint(red, format)
		}
		shape, step, crs := "", "", ""
		if g := l.GetGrid(); g != nil {
			shape, crs = fmt.Sprintf("%d × %d", g.GetRows(), g.GetCols()), crsName(g.GetCrs())
			step = number(g.GetStepX())
			if y := number(g.GetStepY()); y != step {
				step += ", " + y
			}
		}
		stored := "?"
		if n := l.GetEstimatedRows(); n >= 0 {
			stored = grouped(n)
		}
		rows = append(rows, []string{
			p.paint(bold, l.GetName()), format, strings.ToLower(enumName(l.GetStoredType(), "DATA_TYPE_")),
			shape, step, crs, stored, fmt.Sprint(l.GetGeneration()), p.codes(l.GetProblems()),
		})
	}
	p.table([]string{"layer", "format", "stored as", "rows × cols|", "step|", "CRS", "stored rows|", "gen|", "problems"}, rows)
}

// codes prints the codes of problems, the worst first.
func (p painter) codes(problems []*layerv1.Problem) string {
	sorted := slices.Clone(problems)
	slices.SortStableFunc(sorted, func(a, b *layerv1.Problem) int { return int(b.GetSeverity()) - int(a.GetSeverity()) })
	var codes []string
	for _, q := range sorted {
		if code := p.severity(q.GetSeverity(), q.GetCode()); !slices.Contains(codes, code) {
			codes = append(codes, code)
		}
	}
	return strings.Join(codes, " ")
}

// severity paints text by how bad it is.
func (p painter) severity(s layerv1.Severity, what string) string {
	switch s {
	case layerv1.Severity_SEVERITY_CRITICAL:
		return p.paint(red, what)
	case layerv1.Severity_SEVERITY_WARNING:
		return p.paint(yellow, what)
	default:
		return p.paint(dim, what)
	}
}

type showCommand struct {
	client
	Layer string `arg:"" help:"Name of the layer."`
	Look  bool   `help:"Look at its table again, without changing the catalog."`
	Scan  bool   `help:"With --look: read every row, and count what is wrong."`
}

// Run shows one layer.
func (c showCommand) Run(ctx context.Context) error {
	if c.Look || c.Scan {
		res, err := ask(ctx, c.client, "schema", c.schema().DetectFormat, &schemav1.DetectFormatRequest{Name: c.Layer, Scan: c.Scan})
		if err != nil {
			return err
		}
		if c.Output == "json" {
			return printJSON(standardOut, res)
		}
		p := newPainter(os.Stdout)
		p.layer(res.GetLayer())
		fmt.Fprintf(p, "\nLooked at %s just now.\n", plural(int(res.GetRowsRead()), "row"))
		return nil
	}
	res, err := ask(ctx, c.client, "schema", c.schema().GetLayer, &schemav1.GetLayerRequest{Name: c.Layer})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return printJSON(standardOut, res)
	}
	newPainter(os.Stdout).layer(res.GetLayer())
	return nil
}

func (p painter) layer(l *layerv1.Layer) {
	p.line(bold, l.GetName(), "")
	fact := func(name, value string) {
		if value != "" {
			fmt.Fprintf(p, "  %s %s\n", p.paint(dim, fmt.Sprintf("%-14s", name)), value)
		}
	}
	fact("band", l.GetBand())
	fact("format", strings.ToLower(enumName(l.GetFormat(), "FORMAT_")))
	if t := l.GetTable(); t != nil {
		fact("table", t.GetSchema()+"."+t.GetName())
	}
	fact("values", strings.ToLower(enumName(l.GetStoredType(), "DATA_TYPE_"))+" stored, "+
		strings.ToLower(enumName(l.GetDeclaredType(), "DATA_TYPE_"))+" in the source")
	if l.Nodata != nil {
		fact("nodata", number(l.GetNodata()))
	}
	if g := l.GetGrid(); g != nil {
		fact("shape", fmt.Sprintf("%s rows × %s columns", grouped(g.GetRows()), grouped(g.GetCols())))
		fact("origin", fmt.Sprintf("x %v, y %v (outer corner of the north-west cell)", g.GetOriginX(), g.GetOriginY()))
		fact("step", fmt.Sprintf("x %v, y %v", g.GetStepX(), g.GetStepY()))
		fact("CRS", crsName(g.GetCrs()))
	}
	coordinates := "implied by the grid"
	if l.GetHasCoordinates() {
		coordinates = map[gridv1.Registration]string{
			gridv1.Registration_REGISTRATION_UNSPECIFIED: "stored",
			gridv1.Registration_REGISTRATION_CENTER:      "stored, naming the centre of a cell",
			gridv1.Registration_REGISTRATION_UPPER_LEFT:  "stored, naming the upper-left corner of a cell",
		}[l.GetRegistration()]
	}
	fact("coordinates", coordinates)
	if l.GetSouthUp() {
		fact("rows", "from south to north")
	}
	fact("key", map[bool]string{true: "a cell cannot be stored twice", false: "none: a cell can be stored twice"}[l.GetHasKey()])
	if n := l.GetEstimatedRows(); n >= 0 {
		fact("stored rows", "about "+grouped(n))
	}
	fact("generation", fmt.Sprint(l.GetGeneration()))
	for _, q := range l.GetProblems() {
		fmt.Fprintln(p)
		p.prose("  ", p.severity(q.GetSeverity(), q.GetCode())+"  "+q.GetMessage())
		if q.GetFix() != "" {
			p.prose("    → ", q.GetFix())
		}
	}
}
