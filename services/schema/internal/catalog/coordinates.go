package catalog

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

const (
	// standardTolerancePixels is far above what the rounding of coordinates does,
	// and far below what moves a cell.
	standardTolerancePixels = 1e-3
	// offendersNamed is how many wrong rows a report names.
	offendersNamed = 100
)

// Validation says how strictly coordinates are compared.
type Validation struct {
	// TolerancePixels is from 0 (every bit) to 0.5; nil: standardTolerancePixels.
	TolerancePixels *float64
	// StatementTimeout bounds the time in the database; 0: the context does.
	StatementTimeout time.Duration
}

// CoordinateReport says how the stored coordinates of a layer lie on its grid.
type CoordinateReport struct {
	layer.CoordinateFindings
	// Found is what most rows say, unknown when none says anything; Fitting is how
	// many do.
	Found           layer.Hypothesis
	Fitting         int64
	Problems        []layer.Problem
	TolerancePixels float64
}

// ValidateCoordinates compares the stored coordinates of every row of a layer with
// its grid, under the registration and orientation that it is catalogued with
// (centres, where no registration is).
//
// Errors: Invalid INVALID_ARGUMENT (tolerance), NotFound LAYER_NOT_FOUND,
// Precondition LAYER_UNREADABLE (the layer, or that it stores no coordinates),
// Conflict LAYER_CHANGED (the table is not as it was catalogued), Unavailable
// (the timeout), and as any query.
func (k *Keeper) ValidateCoordinates(ctx context.Context, name string, v Validation) (CoordinateReport, error) {
	r := CoordinateReport{TolerancePixels: standardTolerancePixels}
	if v.TolerancePixels != nil {
		r.TolerancePixels = *v.TolerancePixels
	}
	if !(r.TolerancePixels >= 0 && r.TolerancePixels <= 0.5) {
		return r, fault.New(fault.Invalid, fault.InvalidArgument, "tolerance_pixels is %v, and must be between 0 and 0.5", r.TolerancePixels).
			With("field", "tolerance_pixels").With("value", r.TolerancePixels)
	}
	records, err := k.records(ctx, []string{name})
	if err != nil {
		return r, err
	}
	l := records[0].Layer
	if err := l.CheckReadable(); err != nil {
		return r, err
	}
	if !l.HasCoordinates {
		return r, fault.New(fault.Precondition, fault.LayerUnreadable,
			"layer %q is %s: it stores no coordinates that could be validated", l.Name, l.Format).
			With("layer", l.Name).With("format", l.Format)
	}
	tx, err := k.store.Look(ctx)
	if err != nil {
		return r, err
	}
	defer tx.Rollback(ctx)
	relations, err := tx.Relations(ctx, []layer.Table{l.Table})
	if err != nil {
		return r, err
	}
	if err := asCatalogued(l, relations[0]); err != nil {
		return r, err
	}
	as := layer.Hypothesis{Registration: l.Registration, SouthUp: l.SouthUp && l.HasIndices}
	if as.Registration == grid.RegistrationUnknown {
		as.Registration = grid.RegistrationCenter
	}
	r.CoordinateFindings, err = tx.CheckCoordinates(ctx, layer.CoordinateCheck{
		Relation: relations[0], Grid: l.Grid, As: as, Indexed: l.HasIndices,
		TolerancePixels: r.TolerancePixels, MaxOffenders: offendersNamed, StatementTimeout: v.StatementTimeout,
	})
	if err != nil {
		return r, inLayer(l.Name, err)
	}
	var known bool
	if r.Found, r.Fitting, known = (layer.Findings{Fits: r.Fits}).Best(); known && r.Fits[as] == r.Fitting {
		r.Found = as // several fit as well: a single row, or none but the middle one
	}
	r.tell(l, as)
	return r, nil
}

// asCatalogued refuses a table without the columns that the layer has.
func asCatalogued(l layer.Layer, r layer.Relation) error {
	wanted := map[string]map[string]bool{"x_coord": coordinateTypes, "y_coord": coordinateTypes}
	if l.HasIndices {
		wanted["row_idx"], wanted["col_idx"] = indexTypes, indexTypes
	}
	if !r.Found {
		return fault.New(fault.Conflict, fault.LayerChanged, "layer %q: its table is gone", l.Name).With("layer", l.Name).With("table", l.Table)
	}
	for column, types := range wanted {
		if !types[r.Columns[column].Type] {
			return fault.New(fault.Conflict, fault.LayerChanged, "layer %q: its column %s is gone or of another type; catalogue it again", l.Name, column).
				With("layer", l.Name).With("column", column)
		}
	}
	return nil
}

// tell puts what is wrong into sentences.
func (r *CoordinateReport) tell(l layer.Layer, as layer.Hypothesis) {
	find := func(code string, f fields, fix, format string, args ...any) {
		severity := layer.Warning
		if !l.HasIndices {
			severity = layer.Critical // nothing else says where the cells are
		}
		if code == CellsOutsideGrid {
			severity = layer.Critical
		}
		f["rows_read"] = r.Rows
		r.Problems = append(r.Problems, problem(code, severity, f, fix, format, args...))
	}
	if r.Missing > 0 {
		find(CoordinatesHalfFilled, fields{"rows": r.Missing}, "give them their coordinates, or delete these rows",
			"%d of %d rows have no coordinates, or only one", r.Missing, r.Rows)
	}
	if r.Outside > 0 {
		find(CellsOutsideGrid, fields{"rows": r.Outside, "grid_rows": l.Grid.Rows, "grid_cols": l.Grid.Cols},
			"correct the shape in the catalog, or delete these rows",
			"%d of %d rows have no cell on the grid of %d × %d cells", r.Outside, r.Rows, l.Grid.Rows, l.Grid.Cols)
	}
	if r.Off > 0 {
		how := fmt.Sprintf("farther than %v pixels from", r.TolerancePixels)
		if r.TolerancePixels == 0 {
			how = "not to the last bit at"
		}
		find(CoordinatesOffGrid, fields{
			"rows": r.Off, "largest_x_pixels": r.Largest.X, "largest_y_pixels": r.Largest.Y, "limit_pixels": r.TolerancePixels,
		}, "correct the bounds in the catalog if all coordinates are off by the same, else the coordinates",
			"the coordinates of %d of %d rows are %s the %s of their cells, at most %s pixels on x and %s on y",
			r.Off, r.Rows, how, pointNames[as.Registration], pixelsText(r.Largest.X), pixelsText(r.Largest.Y))
	}
	if found := r.Found; r.Fitting > 0 && found != as {
		r.Problems = append(r.Problems, problem(FactsChanged, layer.Warning,
			fields{"registration": found.Registration, "south_up": found.SouthUp, "rows": r.Fitting, "rows_read": r.Rows},
			"adopt its catalog again, or drop the layer and register it again",
			"%d of %d rows name the %s of cells whose rows run from the %s, and the catalog says %s from the %s",
			r.Fitting, r.Rows, pointNames[found.Registration], end(found.SouthUp), pointNames[as.Registration], end(as.SouthUp)))
	}
}

var pointNames = map[grid.Registration]string{
	grid.RegistrationCenter: "centres", grid.RegistrationUpperLeft: "upper-left corners",
}

func pixelsText(v float64) string {
	if v == 0 || math.Abs(v) >= 0.01 && math.Abs(v) < 1e6 {
		return fmt.Sprintf("%.4g", v)
	}
	return fmt.Sprintf("%.1e", v)
}
