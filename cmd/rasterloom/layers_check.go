package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/wire"
)

type checkCommand struct {
	client
	Layers           []string      `arg:"" optional:"" name:"layer" help:"Names of layers. None: every layer of the catalog."`
	Scan             bool          `help:"Read every row, and count what is wrong; else a sample is looked at."`
	Coordinates      bool          `help:"Compare the stored coordinates of every row with the grid."`
	Tolerance        *float64      `help:"With --coordinates: how far off they may be, in pixels; 0.001 by default, 0 for every bit." placeholder:"PIXELS"`
	StatementTimeout time.Duration `help:"With --coordinates: longest time for a layer in the database." placeholder:"TIME"`
}

func (c client) coordinates() schemav1connect.CoordinateServiceClient {
	return schemav1connect.NewCoordinateServiceClient(c.http(), c.url("schema"), wire.ClientOptions()...)
}

// checked is what was found of one layer.
type checked struct {
	format     *schemav1.DetectFormatResponse
	validation *schemav1.CoordinateValidation // nil: not asked, or nothing is stored
}

// bad reports whether the layer, or some of its cells, cannot be used.
func (c checked) bad() bool {
	for _, q := range slices.Concat(c.format.GetLayer().GetProblems(), c.validation.GetProblems()) {
		if q.GetSeverity() == layerv1.Severity_SEVERITY_CRITICAL {
			return true
		}
	}
	return c.validation.GetWrong() > 0
}

// Run checks layers. The exit status is 1 when one has a critical problem or wrong
// coordinates.
func (c checkCommand) Run(ctx context.Context) error {
	names := c.Layers
	if len(names) == 0 {
		all, err := allLayers(ctx, c.client, &schemav1.ListLayersRequest{})
		if err != nil {
			return err
		}
		for _, l := range all.GetLayers() {
			names = append(names, l.GetName())
		}
	}
	found := make([]checked, len(names))
	var bad []string
	schema, coordinates := c.schema(), c.coordinates() // each by one connection for all layers
	for i, name := range names {
		var err error
		if found[i], err = c.check(ctx, schema, coordinates, name); err != nil {
			return err
		}
		if found[i].bad() {
			bad = append(bad, strconv.Quote(name))
		}
	}
	show := c.show
	if c.Output == "json" {
		show = showJSON
	}
	if err := show(found); err != nil {
		return err
	}
	if len(bad) > 0 {
		return fmt.Errorf("%s with critical problems: %s", plural(len(bad), "layer"), strings.Join(bad, ", "))
	}
	return nil
}

func (c checkCommand) check(ctx context.Context, schema schemav1connect.SchemaServiceClient, coordinates schemav1connect.CoordinateServiceClient, name string) (checked, error) {
	format, err := ask(ctx, c.client, "schema", schema.DetectFormat, &schemav1.DetectFormatRequest{Name: name, Scan: c.Scan})
	if err != nil {
		return checked{}, err
	}
	found := checked{format: format}
	if l := format.GetLayer(); !c.Coordinates || !l.GetHasCoordinates() || l.GetFormat() == layerv1.Format_FORMAT_INVALID {
		return found, nil
	}
	req := &schemav1.ValidateCoordinatesRequest{Layer: name, TolerancePixels: c.Tolerance}
	if c.StatementTimeout > 0 {
		req.StatementTimeout = durationpb.New(c.StatementTimeout)
	}
	res, err := ask(ctx, c.client, "schema", coordinates.ValidateCoordinates, req)
	if err != nil {
		return checked{}, err
	}
	found.validation = res.GetValidation()
	return found, nil
}

func showJSON(found []checked) error {
	type one struct {
		Format      json.RawMessage `json:"format"`
		Coordinates json.RawMessage `json:"coordinates,omitempty"`
		Critical    bool            `json:"critical"`
	}
	options := protojson.MarshalOptions{EmitUnpopulated: true}
	list := make([]one, len(found))
	for i, f := range found {
		list[i].Critical = f.bad()
		var err error
		if list[i].Format, err = options.Marshal(f.format); err != nil {
			return err
		}
		if f.validation == nil {
			continue
		}
		if list[i].Coordinates, err = options.Marshal(f.validation); err != nil {
			return err
		}
	}
	out := json.NewEncoder(standardOut)
	out.SetIndent("", "  ")
	return out.Encode(map[string][]one{"layers": list})
}

func (c checkCommand) show(found []checked) error {
	p := newPainter(os.Stdout)
	header := []string{"layer", "format", "rows read|"}
	if c.Coordinates {
		header = append(header, "exact|", "wrong|", "largest error px (x, y)|", "naming")
	}
	header = append(header, "problems")
	rows := make([][]string, 0, len(found))
	for _, f := range found {
		l, v := f.format.GetLayer(), f.validation
		row := []string{p.paint(bold, l.GetName()), strings.ToLower(enumName(l.GetFormat(), "FORMAT_")), grouped(max(f.format.GetRowsRead(), v.GetRows()))}
		if c.Coordinates && v == nil {
			row = append(row, "·", "·", "·", "implied by the grid")
			if l.GetHasCoordinates() {
				row[len(row)-1] = "·"
			}
		} else if c.Coordinates {
			wrong := grouped(v.GetWrong())
			if v.GetWrong() > 0 {
				wrong = p.paint(red, wrong)
			}
			row = append(row, grouped(v.GetExact()), wrong, pair(v.GetLargestErrorPixels()),
				strings.ToLower(strings.ReplaceAll(enumName(v.GetRegistrationFound(), "REGISTRATION_"), "_", "-")))
		}
		rows = append(rows, append(row, p.codes(slices.Concat(l.GetProblems(), v.GetProblems()))))
	}
	p.table(header, rows)
	for _, f := range found {
		p.problems(f)
	}
	return nil
}

// problems prints what is wrong with one layer, in sentences.
func (p painter) problems(f checked) {
	problems := slices.Concat(f.format.GetLayer().GetProblems(), f.validation.GetProblems())
	if len(problems) == 0 {
		return
	}
	fmt.Fprintln(p)
	p.line(bold, f.format.GetLayer().GetName(), "")
	for _, q := range problems {
		p.prose("  ", p.severity(q.GetSeverity(), q.GetCode())+"  "+q.GetMessage())
		if q.GetFix() != "" {
			p.prose("    → ", q.GetFix())
		}
	}
	p.offenders(f.validation)
}

// offenders prints the first rows with wrong coordinates; all are in the JSON.
func (p painter) offenders(v *schemav1.CoordinateValidation) {
	const few = 10
	known := func(f *float64) string {
		if f == nil {
			return "NULL"
		}
		return strconv.FormatFloat(*f, 'g', -1, 64)
	}
	index := func(i *int64) string {
		if i == nil {
			return "NULL"
		}
		return strconv.FormatInt(*i, 10)
	}
	offenders := v.GetOffenders()
	if len(offenders) == 0 {
		return
	}
	rows := make([][]string, 0, few)
	for _, o := range offenders[:min(few, len(offenders))] {
		expected := "no cell"
		if e := o.GetExpected(); e != nil {
			expected = known(&e.X) + ", " + known(&e.Y)
		}
		rows = append(rows, []string{index(o.Row), index(o.Col), known(o.X) + ", " + known(o.Y), expected})
	}
	p.table([]string{"  row|", "col|", "stored x, y|", "should be|"}, rows)
	if more := v.GetWrong() - int64(len(rows)); more > 0 {
		fmt.Fprintf(p, "  … and %s more\n", plural(int(more), "row"))
	}
}
