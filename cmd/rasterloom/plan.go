package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
)

// merged is what a merge is asked for by.
type merged struct {
	Layers     []string `arg:"" name:"layer" help:"Layers to merge, in the order of their columns; NAME or COLUMN=NAME."`
	Reference  string   `help:"Layer whose lattice the table is on. Default: the one that needs the fewest and smallest shifts." placeholder:"LAYER"`
	Extent     string   `help:"Part of the lattice that the table covers: ${enum}." enum:"union,intersection,reference" default:"union"`
	RowsKept   string   `help:"Cells that become rows: ${enum} (any layer has a value, all have, the reference layer has, every cell)." enum:"any,all,reference,every" default:"any"`
	Resampling []string `help:"How layers are resampled that no shift brings onto the lattice: nearest, bilinear, cubic, average, mode, min, max, sum, or auto; what the values are (continuous, categorical, count) chooses, too. COLUMN=METHOD for one layer; may be repeated." placeholder:"METHOD"`
	MinShare   *float64 `help:"Least share of a cell's area, from 0 to 1, that cells with a value must cover for a resampled value." placeholder:"SHARE"`
	Tolerance  *float64 `help:"Largest distance, in pixels, that may remain after a shift; between 0 and 0.5, 0.1 by default." placeholder:"PIXELS"`
}

func (m merged) spec() (*mergerv1.MergeSpec, error) {
	spec := &mergerv1.MergeSpec{
		Extent: &mergerv1.Extent{Part: &mergerv1.Extent_Rule{
			Rule: mergerv1.ExtentRule(mergerv1.ExtentRule_value["EXTENT_RULE_"+strings.ToUpper(m.Extent)]),
		}},
		RowsKept:        mergerv1.RowsKept(mergerv1.RowsKept_value["ROWS_KEPT_"+strings.ToUpper(m.RowsKept)]),
		TolerancePixels: m.Tolerance, MinShare: m.MinShare,
	}
	for _, l := range m.Layers {
		column, name, ok := strings.Cut(l, "=")
		if !ok {
			column, name = "", l
		}
		spec.Layers = append(spec.Layers, &mergerv1.LayerSelection{Name: name, Column: column})
	}
	if m.Reference != "" {
		spec.Reference = &mergerv1.Reference{Lattice: &mergerv1.Reference_Layer{Layer: m.Reference}}
	}
	return spec, m.resample(spec)
}

// resample writes down how layers are resampled.
func (m merged) resample(spec *mergerv1.MergeSpec) error {
	for _, asked := range m.Resampling {
		column, word, one := strings.Cut(asked, "=")
		if !one {
			column, word = "", asked
		}
		method := mergerv1.Resampling(mergerv1.Resampling_value["RESAMPLING_"+strings.ToUpper(word)])
		kind := mergerv1.ValueKind(mergerv1.ValueKind_value["VALUE_KIND_"+strings.ToUpper(word)])
		if kind != mergerv1.ValueKind_VALUE_KIND_UNSPECIFIED {
			method = mergerv1.Resampling_RESAMPLING_AUTO
		}
		if method == mergerv1.Resampling_RESAMPLING_UNSPECIFIED {
			return fmt.Errorf("--resampling=%s: %q is neither a method nor a kind of values; --help lists them", asked, word)
		}
		if !one {
			spec.Resampling = method
		}
		found := !one
		for _, l := range spec.GetLayers() {
			if !one && l.GetKind() == mergerv1.ValueKind_VALUE_KIND_UNSPECIFIED {
				l.Kind = kind
			}
			if one && (l.GetColumn() == column || l.GetName() == column) {
				l.Resampling, l.Kind, found = method, kind, true
			}
		}
		if !found {
			return fmt.Errorf("--resampling=%s: %q is neither a column nor a layer of the merge", asked, column)
		}
	}
	return nil
}

type planCommand struct {
	client
	merged
	UseLegacyMerge bool `help:"Plan the deprecated legacy merge."`
}

// Run prints the plan of a merge.
func (c planCommand) Run(ctx context.Context) error {
	spec, err := c.spec()
	if err != nil {
		return err
	}
	if c.UseLegacyMerge {
		spec.UseLegacyMerge = &c.UseLegacyMerge
	}
	res, err := ask(ctx, c.client, "merger", c.merger().PlanMerge, &mergerv1.PlanMergeRequest{Spec: spec})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return printJSON(standardOut, res)
	}
	p := newPainter(os.Stdout)
	p.reference(res.GetReferenceLayer(), res.GetReferenceExplanation(), res.GetReference())
	g := res.GetLattice()
	fmt.Fprintf(p, "Table: at most %s rows on %s × %s cells, %s in %s; the server needs %s of memory\n\n", p.paint(bold, grouped(res.GetMaxRows())),
		grouped(g.GetRows()), grouped(g.GetCols()), size(res.GetMaxBytes()), plural(int(res.GetEndpoints()), "endpoint"), size(res.GetPeakMemoryBytes()))
	relations := make([]*gridv1.Relation, 0, len(res.GetLayers()))
	rows := make([][]string, 0, len(res.GetLayers()))
	for _, l := range res.GetLayers() {
		relations = append(relations, l.GetRelation())
		rows = append(rows, []string{
			p.paint(bold, l.GetColumn()), strings.ToLower(enumName(l.GetType(), "DATA_TYPE_")), l.GetLayer().GetName(),
			strings.ToLower(enumName(l.GetLayer().GetFormat(), "FORMAT_")), fmt.Sprint(l.GetLayer().GetGeneration()),
		})
	}
	p.table([]string{"column", "type", "layer", "format", "gen|"}, rows)
	fmt.Fprintln(p)
	p.relations(relations)
	for _, w := range res.GetWarnings() {
		fmt.Fprintln(p)
		p.prose("", p.paint(yellow, "warning")+"  "+w)
	}
	fmt.Fprintf(p, "\nRead it by Arrow Flight at %s\n", p.paint(cyan, res.GetFlightUri()))
	return nil
}
