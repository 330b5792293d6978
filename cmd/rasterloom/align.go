package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"

	alignerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1"
	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
)

type alignCommand struct {
	client
	Layers    []string `arg:"" optional:"" name:"layer" help:"Names of layers. None: every layer of the catalog that can be read."`
	Reference string   `help:"Layer whose lattice the others are related to. Default: the one that needs the fewest and smallest shifts." placeholder:"LAYER"`
	Tolerance *float64 `help:"Largest distance, in pixels, that may remain after a shift; between 0 and 0.5, 0.1 by default." placeholder:"PIXELS"`
}

// Run prints an alignment report.
func (c alignCommand) Run(ctx context.Context) error {
	layers, err := names(ctx, c.client, c.Layers)
	if err != nil {
		return err
	}
	req := &alignerv1.AnalyzeAlignmentRequest{TolerancePixels: c.Tolerance}
	for _, name := range layers {
		req.Layers = append(req.Layers, &alignerv1.LayerSource{Source: &alignerv1.LayerSource_Name{Name: name}})
	}
	if c.Reference != "" {
		req.Reference = &alignerv1.Reference{Lattice: &alignerv1.Reference_Layer{Layer: c.Reference}}
	}
	res, err := ask(ctx, c.client, "aligner", c.aligner().AnalyzeAlignment, req)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return printJSON(standardOut, res)
	}
	p := newPainter(os.Stdout)
	p.reference(res.GetReferenceLayer(), res.GetReferenceExplanation(), res.GetReference())
	fmt.Fprintln(p)
	p.relations(res.GetRelations())
	for i, issue := range res.GetIssues() {
		if i == 0 {
			fmt.Fprintln(p)
		}
		what := p.severity(issue.GetSeverity(), issue.GetCode()) + "  "
		if l := issue.GetLayer(); l != "" && !strings.Contains(issue.GetMessage(), l) {
			what += l + ": "
		}
		p.prose("", what+issue.GetMessage())
		if issue.GetFix() != "" {
			p.prose("  → ", issue.GetFix())
		}
	}
	fmt.Fprintln(p)
	p.overlap("union", res.GetUnion())
	p.overlap("intersection", res.GetIntersection())
	p.prose("", p.paint(bold, enumName(res.GetStrategy(), "STRATEGY_"))+"  "+res.GetRecommendation())
	return nil
}

func (p painter) reference(layer, why string, g *gridv1.Grid) {
	name := layer
	if name == "" {
		name = "the grid that was given"
	}
	fmt.Fprintf(p, "Reference: %s, %s × %s cells of %s × %s, %s\n", p.paint(bold, name), grouped(g.GetRows()), grouped(g.GetCols()),
		number(g.GetStepX()), number(g.GetStepY()), crsName(g.GetCrs()))
	if why != "" {
		p.prose("  ", p.paint(dim, why))
	}
}

// relations prints the table of how layers lie on the reference. Pairs are x, y;
// offsets are rows, cols.
func (p painter) relations(relations []*gridv1.Relation) {
	rows := make([][]string, 0, len(relations))
	for _, r := range relations {
		offset := fmt.Sprintf("%d, %d", r.GetOffsetRows(), r.GetOffsetCols())
		if r.GetOffsetRows() == 0 && r.GetOffsetCols() == 0 {
			offset = "0"
		}
		row := []string{
			p.paint(bold, r.GetLayer()), p.verdict(r.GetVerdict()), offset, pair(r.GetShift()), pair(r.GetShiftPixels()),
			largest(r.GetResidualPixels()), largest(r.GetDriftPer_1000()), pair(r.GetPositionError()), r.GetExplanation(),
		}
		switch r.GetVerdict() {
		case gridv1.Verdict_VERDICT_REPROJECT, gridv1.Verdict_VERDICT_UNSPECIFIED:
			// Nothing was measured.
			for i := 2; i <= 7; i++ {
				row[i] = "·"
			}
		}
		rows = append(rows, row)
	}
	header := []string{
		"layer", "verdict", "offset (row, col)|", "shift (x, y)|", "in pixels|",
		"residual px|", "drift px/1000|", "position error|", "why",
	}
	const roomForWhy = 170
	if p.width == 0 || p.width >= roomForWhy {
		p.table(header, rows)
		return
	}
	last := len(header) - 1
	narrow := make([][]string, len(rows))
	for i, row := range rows {
		narrow[i] = row[:last]
	}
	p.table(header[:last], narrow)
	for i, r := range relations {
		if r.GetVerdict() != gridv1.Verdict_VERDICT_IDENTICAL {
			p.prose("  ", rows[i][0]+": "+rows[i][last])
		}
	}
}

func (p painter) verdict(v gridv1.Verdict) string {
	colours := map[gridv1.Verdict]text.Colors{
		gridv1.Verdict_VERDICT_IDENTICAL: green, gridv1.Verdict_VERDICT_ALIGNED: green, gridv1.Verdict_VERDICT_SHIFT: yellow,
	}[v]
	if colours == nil {
		colours = red
	}
	return p.paint(colours, enumName(v, "VERDICT_"))
}

func (p painter) overlap(name string, o *alignerv1.Overlap) {
	if o == nil || o.GetCells() == 0 {
		fmt.Fprintf(p, "%-13s no cell\n", name)
		return
	}
	w := o.GetWindow()
	fmt.Fprintf(p, "%-13s %s × %s = %s cells, %.4g %% of the reference\n", name, grouped(w.GetRowStop()-w.GetRowStart()),
		grouped(w.GetColStop()-w.GetColStart()), grouped(o.GetCells()), o.GetPercentOfReference())
}
