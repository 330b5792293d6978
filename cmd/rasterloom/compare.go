package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
)

type compareCommand struct {
	client
	merged
}

// errDiffers makes the exit status of a comparison that found differences.
var errDiffers = errors.New("the woven and the legacy table differ")

// Run prints how the woven table and the legacy one compare.
func (c compareCommand) Run(ctx context.Context) error {
	spec, err := c.spec()
	if err != nil {
		return err
	}
	res, err := ask(ctx, c.client, "merger", c.merger().CompareMerge, &mergerv1.CompareMergeRequest{Spec: spec})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		err = printJSON(standardOut, res)
	} else {
		newPainter(os.Stdout).comparison(res)
	}
	if err == nil && !res.GetEqual() {
		err = errDiffers
	}
	return err
}

func (p painter) comparison(res *mergerv1.CompareMergeResponse) {
	rows := make([][]string, 0, len(res.GetLayers()))
	for _, l := range res.GetLayers() {
		rows = append(rows, []string{
			p.paint(bold, l.GetColumn()), l.GetLayer(), grouped(l.GetCells()), grouped(l.GetLegacyCells()), grouped(l.GetDifferingCells()),
		})
	}
	p.table([]string{"column", "layer", "values, woven|", "values, legacy|", "cells that differ|"}, rows)
	fmt.Fprintln(p)
	if res.GetEqual() {
		p.line(green, "EQUAL", fmt.Sprintf("  %s rows, the same both ways, bit for bit", grouped(res.GetRows())))
		return
	}
	rows = rows[:0]
	value := func(v *float64) string {
		if v == nil {
			return "none"
		}
		return fmt.Sprint(*v)
	}
	for _, d := range res.GetDifferences() {
		rows = append(rows, []string{
			p.paint(bold, d.GetLayer()), fmt.Sprintf("%d, %d", d.GetRow(), d.GetCol()), fmt.Sprintf("%v, %v", d.GetX(), d.GetY()),
			value(d.Value), value(d.LegacyValue),
		})
	}
	p.table([]string{"layer", "row, col|", "x, y|", "woven|", "legacy|"}, rows)
	fmt.Fprintln(p)
	p.line(red, "DIFFERENT", fmt.Sprintf("  %s rows woven, %s by the legacy join; the first %s named",
		grouped(res.GetRows()), grouped(res.GetLegacyRows()), plural(len(res.GetDifferences()), "cell")))
}
