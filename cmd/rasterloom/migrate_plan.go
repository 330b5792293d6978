package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
)

// migrationSpec says what is to be migrated, and to what.
type migrationSpec struct {
	Layer        string `arg:"" help:"Name of the layer."`
	To           string `help:"What to make of it: ${enum} (x and y beside the cells, or tiles, which are read much faster)." enum:"stored,tiled" default:"stored"`
	SQLView      bool   `help:"With --to=tiled: leave a view under the table's name in the end, for reading by SQL. The tiles are then not compressed."`
	DeclaredType bool   `help:"With --to=tiled: store values in the layer's declared type, if it holds all of them exactly. Default: as the table has them."`
	Rate         int64  `help:"Copy at most so many rows a second." placeholder:"ROWS"`
	InPlace      bool   `help:"Give the columns to the table itself, where the disk has no room for a second one. Slower, and the table grows."`
	DiskHeadroom *int64 `help:"Free space on the server's disk, in bytes. Default: measured, where the server runs on the machine of the service." placeholder:"BYTES"`
}

func (s migrationSpec) message() *schemav1.MigrationSpec {
	spec := &schemav1.MigrationSpec{Layer: s.Layer, RowsPerSecondLimit: s.Rate, InPlace: s.InPlace}
	if s.To == "tiled" {
		spec.Level = schemav1.MigrationLevel_MIGRATION_LEVEL_TILED
	}
	if s.SQLView || s.DeclaredType {
		spec.Tiles = &schemav1.TileOptions{SqlView: s.SQLView, DeclaredType: s.DeclaredType}
	}
	return spec
}

// flags says the same again.
func (s migrationSpec) flags() string {
	text := ""
	if s.To != "stored" {
		text = " --to " + s.To
	}
	for _, flag := range []struct {
		on   bool
		name string
	}{{s.SQLView, " --sql-view"}, {s.DeclaredType, " --declared-type"}, {s.InPlace, " --in-place"}} {
		if flag.on {
			text += flag.name
		}
	}
	if s.Rate != 0 {
		text += fmt.Sprint(" --rate ", s.Rate)
	}
	if s.DiskHeadroom != nil {
		text += fmt.Sprint(" --disk-headroom ", *s.DiskHeadroom)
	}
	return text
}

type planMigrationCommand struct {
	client
	migrationSpec
}

// Help is what --help says besides.
func (planMigrationCommand) Help() string {
	return `Exit status: 0 it can be started; 1 something stands in its way, or the disk is too small; 3 the service cannot be reached.`
}

// Run explains a migration.
func (c planMigrationCommand) Run(ctx context.Context) error {
	res, err := askLong(ctx, c.client, "schema", "the rows of layer "+c.Layer+" are counted", c.migrations().PlanMigration, &schemav1.PlanMigrationRequest{
		Spec: c.message(), DiskHeadroomBytes: c.DiskHeadroom,
	})
	if err != nil {
		return err
	}
	plan := res.GetPlan()
	full := plan.DiskHeadroomBytes != nil && plan.GetDiskBytes()+plan.GetWalBytes() > plan.GetDiskHeadroomBytes()
	// What `start` would refuse is no success for a script that plans first.
	var refused error
	if len(plan.GetRefusals()) > 0 || full {
		refused = clientError(statusFailed)
	}
	if c.Output == "json" {
		return cmp.Or(printJSON(standardOut, res), refused)
	}
	p := newPainter(os.Stdout)
	if len(plan.GetRefusals()) > 0 {
		p.line(red, "Not possible", fmt.Sprintf(": layer %q cannot be migrated as it is.", c.Layer))
		for _, r := range plan.GetRefusals() {
			p.prose("  ", p.paint(bold, r.GetCode())+" "+r.GetMessage()+".")
			if r.GetFix() != "" {
				p.prose("    ", "To do: "+r.GetFix())
			}
		}
		return refused
	}
	p.line(bold, c.Layer, fmt.Sprintf(": %s rows, %s with indexes", grouped(plan.GetRows()), size(plan.GetTableBytes())))
	fmt.Fprintf(p, "  needs about %s of disk until it is finalized, makes about %s of write-ahead log, and takes about %v\n",
		size(plan.GetDiskBytes()), size(plan.GetWalBytes()), plan.GetEstimate().AsDuration().Round(100*time.Millisecond))
	if plan.DiskHeadroomBytes != nil {
		left := fmt.Sprintf("%s left", size(plan.GetDiskHeadroomBytes()))
		if full {
			left = p.paint(red, left+", which is not enough")
		}
		fmt.Fprintf(p, "  disk: %s\n", left)
	}
	for _, notice := range plan.GetNotices() {
		p.prose("  ", p.paint(yellow, "note")+" "+notice)
	}
	for _, lock := range plan.GetLocks() {
		p.prose("  ", "locks "+lock)
	}
	for _, d := range plan.GetDependents() {
		fmt.Fprintf(p, "  carries %s %s\n", d.GetKind(), d.GetName())
	}
	if full {
		return refused
	}
	fmt.Fprintf(p, "\nStart it with: rasterloom migrate start %s%s\n", c.Layer, c.flags())
	return nil
}
