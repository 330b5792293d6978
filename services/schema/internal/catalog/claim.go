package catalog

import (
	"fmt"
	"math"
	"strings"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// maxCRSBytes is the longest text of a CRS that the contract carries.
const maxCRSBytes = 65536

// Drift of the catalogued resolution over the extent, in pixels: below the
// first it is rounding, from the second on it moves values.
const (
	driftWorthTelling = 0.01
	driftThatMatters  = 0.1
)

// Claim is what an existing catalog says of one layer, and what is found about
// it as evidence comes in: first Settle, then Survey and Conclude. Problems are
// added in that order.
type Claim struct {
	layer.Record
	meta metadata
	// Candidates are the tables that the cells can be in, the likeliest first;
	// none when the row names no possible one.
	Candidates []layer.Table
	relation   layer.Relation
	indexed    bool
	located    bool
	rowsRead   int64
}

// fields are the names and numbers of a problem, for programs.
type fields map[string]any

func problem(code string, severity layer.Severity, f fields, fix, format string, args ...any) layer.Problem {
	p := layer.Problem{Code: code, Severity: severity, Message: fmt.Sprintf(format, args...), Fix: fix}
	for key, value := range f {
		if p.Fields == nil {
			p.Fields = make(map[string]string, len(f))
		}
		p.Fields[key] = fmt.Sprint(value)
	}
	return p
}

// find adds a problem.
func (c *Claim) find(code string, severity layer.Severity, f fields, fix, format string, args ...any) {
	c.Problems = append(c.Problems, problem(code, severity, f, fix, format, args...))
}

// refuse adds a critical problem that makes the layer unreadable.
func (c *Claim) refuse(code string, f fields, fix, format string, args ...any) {
	c.Format = layer.FormatInvalid
	c.find(code, layer.Critical, f, fix, format, args...)
}

// NewClaim reads the catalog rows of one name: one row, or else the layer is
// invalid. dataSchema is the schema of pixel tables.
func NewClaim(rows []layer.CatalogRow, dataSchema string) *Claim {
	row := rows[0]
	c := &Claim{Record: layer.Record{Layer: layer.Layer{Name: row.Name, Band: row.BandName, EstimatedRows: -1}}}
	c.Source.Row = row.ID
	if len(rows) > 1 {
		ids := make([]string, len(rows))
		for i, r := range rows {
			ids[i] = "(no id)"
			if r.ID != nil {
				ids[i] = fmt.Sprint(*r.ID)
			}
		}
		c.refuse(NameDuplicate, fields{"ids": strings.Join(ids, ", ")}, "rename or remove all but one of the rows, and adopt again",
			"the catalog has %d rows of this name, with the ids %s", len(rows), strings.Join(ids, ", "))
		return c
	}
	if flaw := flawOf(row.Name, maxLayerNameBytes); flaw != "" {
		c.refuse(NameInvalid, fields{"name": shorten(row.Name)}, "rename the row, and adopt again", "the name of the layer %s", flaw)
	}
	c.meta = readMetadata(row.Metadata)
	c.Problems = append(c.Problems, c.meta.problems...)
	c.Nodata = c.meta.nodata
	c.readGrid(row)
	c.readType(row)
	c.readResolution(row)
	for _, name := range tableNames(row, c.meta) {
		if flaw := flawOf(name, maxIdentifierBytes); flaw != "" {
			c.Candidates = nil
			c.refuse(TableNameInvalid, fields{"table": shorten(name)}, "name the table in data_table_name, and adopt again",
				"the name of its table, %.80q, %s", name, flaw)
			break
		}
		c.Candidates = append(c.Candidates, layer.Table{Schema: dataSchema, Name: name})
	}
	if len(c.Candidates) > 0 {
		c.Table = c.Candidates[0]
	}
	return c
}

func (c *Claim) readGrid(row layer.CatalogRow) {
	const fix = "correct bounds and shape in its catalog row, and adopt again"
	c.Grid.CRS = row.TargetCRS
	switch {
	case len(row.TargetCRS) > maxCRSBytes:
		c.Grid.CRS = ""
		c.refuse(GridInvalid, fields{"field": "target_crs", "value": len(row.TargetCRS), "limit": maxCRSBytes}, fix,
			"target_crs has %d bytes, and the limit is %d", len(row.TargetCRS), maxCRSBytes)
		return
	case strings.TrimSpace(row.TargetCRS) == "":
		c.find(CRSMissing, layer.Warning, nil, "set target_crs in its catalog row, and adopt again",
			"it has no CRS, so how it lies to other layers cannot be told")
	}
	if len(row.Bounds) != 4 {
		c.refuse(GridInvalid, fields{"field": "bounds", "value": len(row.Bounds)}, fix,
			"bounds has %d numbers, and must have 4: min_x, min_y, max_x, max_y", len(row.Bounds))
		return
	}
	var b [4]float64
	for i, v := range row.Bounds {
		if b[i] = math.NaN(); v != nil {
			b[i] = *v
		}
	}
	if row.ShapeHeight == nil || row.ShapeWidth == nil {
		c.refuse(GridInvalid, fields{"field": "shape"}, fix, "shape_height or shape_width is NULL")
		return
	}
	for _, side := range []int64{*row.ShapeHeight, *row.ShapeWidth} {
		if side > grid.MaxSide { // before int: it may be narrower
			c.refuse(GridInvalid, fields{"field": "shape", "value": side, "limit": grid.MaxSide}, fix,
				"the shape has a side of %d cells, and the limit is %d", side, grid.MaxSide)
			return
		}
	}
	g, err := grid.FromBounds(row.TargetCRS, grid.Bounds{MinX: b[0], MinY: b[1], MaxX: b[2], MaxY: b[3]},
		int(*row.ShapeHeight), int(*row.ShapeWidth))
	if err != nil {
		f := fault.From(err)
		told := fields{}
		for key, value := range f.Fields {
			told[key] = value
		}
		c.refuse(GridInvalid, told, fix, "its grid is none: %s", f.Message)
		return
	}
	c.Grid, c.HasGrid = g, true
}

func (c *Claim) readType(row layer.CatalogRow) {
	if row.DataType == "" {
		return
	}
	var ok bool
	if c.DeclaredType, ok = parseType(row.DataType); !ok {
		c.find(TypeUnknown, layer.Info, fields{"data_type": shorten(row.DataType)}, "",
			"its catalogued data type %.80q is not one we know; values are read as they are stored", row.DataType)
	}
}

// readResolution compares the catalogued resolution with the grid. Bounds and
// shape are the truth: a table laid out by the resolution would run away from
// them by the drift.
func (c *Claim) readResolution(row layer.CatalogRow) {
	c.TargetResolution = row.TargetResolution
	if row.TargetResolution == nil || !c.HasGrid {
		return
	}
	resolution := *row.TargetResolution
	if !(resolution > 0) || math.IsInf(resolution, 1) {
		c.find(ResolutionInvalid, layer.Info, fields{"target_resolution": resolution}, "",
			"its catalogued resolution is %v; bounds and shape are used", resolution)
		return
	}
	g := c.Grid
	driftX := math.Abs(resolution-g.StepX) * float64(g.Cols) / g.StepX
	driftY := math.Abs(resolution-g.StepY) * float64(g.Rows) / g.StepY
	drift := max(driftX, driftY)
	if drift < driftWorthTelling {
		return
	}
	severity := layer.Info
	if drift >= driftThatMatters {
		severity = layer.Warning
	}
	c.find(ResolutionDrift, severity,
		fields{"target_resolution": resolution, "step_x": g.StepX, "step_y": g.StepY, "drift_pixels": drift},
		"correct target_resolution in its catalog row, or the bounds if those are wrong",
		"its catalogued resolution is %.9g, but bounds and shape give %.9g × %.9g, which are used; over the extent that is a drift of %.3g pixels",
		resolution, g.StepX, g.StepY, drift)
}

// shorten keeps fields to a size that every protocol carries.
func shorten(s string) string {
	if len(s) <= 80 {
		return s
	}
	return strings.ToValidUTF8(s[:80], "") + "…"
}
