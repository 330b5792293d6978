package catalog

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// Ingestion says what a raster is that somebody sends us.
type Ingestion struct {
	Name, Band string
	Grid       grid.Grid      // valid
	Type       layer.DataType // of the values, as sent and as stored
	Nodata     *float64
	// Replace takes the place of an ingested layer that has the name, which must
	// have the generation ReplaceGeneration unless that is 0.
	Replace           bool
	ReplaceGeneration int64
	// SameGridAs names a layer that must have the same grid; empty: none.
	SameGridAs string
	// By is the principal who sends it. An ingested layer is replaced by whom it is
	// from, and by an Operator: nobody else can destroy what it holds.
	By       string
	Operator bool
}

// IngestPlan is what an ingestion would do.
type IngestPlan struct {
	// Layer is what would become of it, without a table, a tiling and a number of
	// rows. Its generation may be a later one in the end.
	Layer layer.Layer
	// Replaced is the layer that it would replace.
	Replaced *layer.Layer
}

// PlanIngest says whether an ingestion can be entered, as the catalog stands now,
// and as what.
//
// Errors: Invalid INVALID_ARGUMENT (impossible names), Exists LAYER_EXISTS, Denied
// PERMISSION_DENIED (somebody else's layer),
// Conflict LAYER_CHANGED (another generation than ReplaceGeneration), NotFound
// LAYER_NOT_FOUND and Precondition INVALID_GRID (SameGridAs), and as any query.
func (k *Keeper) PlanIngest(ctx context.Context, i Ingestion) (IngestPlan, error) {
	if err := checkIngestion(i); err != nil {
		return IngestPlan{}, err
	}
	known, err := k.store.Layers(ctx, []string{i.Name})
	if err != nil {
		return IngestPlan{}, err
	}
	if i.SameGridAs != "" {
		other, err := k.records(ctx, []string{i.SameGridAs})
		if err != nil {
			return IngestPlan{}, err
		}
		if err := sameGrid(i, other[0].Layer); err != nil {
			return IngestPlan{}, err
		}
	}
	old, err := replaced(i, known)
	if err != nil {
		return IngestPlan{}, err
	}
	return IngestPlan{Layer: layerOf(i, old), Replaced: old}, nil
}

// EnterIngest puts a layer whose tiles are stored in l.Table into the catalog, in
// the transaction that stored them and has taken its turn (see Store.Change): what
// PlanIngest checked may have changed since. l is that of the plan with its table,
// tiling and number of rows. old is the layer whose place it takes, if there was one.
// Errors: as PlanIngest, and Precondition MIGRATION_STATE when a migration of the
// layer is not over.
func EnterIngest(ctx context.Context, tx Tx, i Ingestion, l layer.Layer) (entered layer.Layer, old *layer.Layer, err error) {
	known, err := tx.Layers(ctx, []string{i.Name})
	if err != nil {
		return layer.Layer{}, nil, err
	}
	if old, err = replaced(i, known); err != nil {
		return layer.Layer{}, nil, err
	}
	if old != nil {
		if err := noMigration(ctx, tx, *old); err != nil {
			return layer.Layer{}, nil, err
		}
	}
	relations, err := tx.Relations(ctx, []layer.Table{l.Table})
	if err != nil {
		return layer.Layer{}, nil, err
	}
	l.Generation = layerOf(i, old).Generation
	records := []layer.Record{{Layer: l, TableOID: relations[0].OID, TableFile: relations[0].File, IngestedBy: i.By}}
	if err := tx.Save(ctx, records); err != nil {
		return layer.Layer{}, nil, err
	}
	return records[0].Layer, old, nil
}

// checkIngestion refuses what needs no look at the catalog.
func checkIngestion(i Ingestion) error {
	if err := checkName("name", i.Name, `"'`+"`"+`\;`); err != nil {
		return err
	}
	if flaw := flawOf(i.Band, maxLayerNameBytes); i.Band != "" && flaw != "" {
		return fault.New(fault.Invalid, fault.InvalidArgument, "band %s", flaw).With("field", "band").With("value", shorten(i.Band))
	}
	if i.Type == layer.TypeUnknown {
		return fault.New(fault.Invalid, fault.InvalidArgument, "data_type is not given").With("field", "data_type")
	}
	if i.ReplaceGeneration != 0 && !i.Replace {
		return fault.New(fault.Invalid, fault.InvalidArgument, "replace_generation is %d, and the mode is not REPLACE", i.ReplaceGeneration).
			With("field", "replace_generation").With("value", i.ReplaceGeneration)
	}
	return checkCRSLength(i.Grid.CRS)
}

// replaced gives the layer among known, which is none or one, that an ingestion
// takes the place of, and refuses one that it may not.
func replaced(i Ingestion, known []layer.Record) (*layer.Layer, error) {
	if len(known) == 0 {
		if i.ReplaceGeneration != 0 {
			return nil, fault.New(fault.Conflict, fault.LayerChanged,
				"there is no layer %q any more, and the request replaces its generation %d", i.Name, i.ReplaceGeneration).
				With("layer", i.Name).With("sent", i.ReplaceGeneration)
		}
		return nil, nil
	}
	old := known[0]
	f := fault.New(fault.Exists, fault.LayerExists, "there is a layer %q already", i.Name).With("layer", i.Name).With("generation", old.Generation)
	switch {
	case !old.Source.Registered():
		f.Message += fmt.Sprintf(", adopted from %s: it is not replaced; choose another name", old.Source.Table)
		return nil, f.With("catalog", old.Source.Table)
	case old.Format != layer.FormatTiled:
		f.Message += fmt.Sprintf(", whose table %s is not ours: it is not replaced; drop the layer first, or choose another name", old.Table)
		return nil, f.With("table", old.Table).With("format", old.Format)
	case !i.Replace:
		f.Message += fmt.Sprintf(", of generation %d: ask for it to be replaced, or choose another name", old.Generation)
		return nil, f
	case !i.Operator && (old.IngestedBy == "" || old.IngestedBy != i.By):
		return nil, fault.New(fault.Denied, fault.PermissionDenied,
			"layer %q was ingested by somebody else: only they and operators may replace it; choose another name", i.Name).With("layer", i.Name)
	case i.ReplaceGeneration != 0 && i.ReplaceGeneration != old.Generation:
		return nil, fault.New(fault.Conflict, fault.LayerChanged, "layer %q has generation %d, and the request replaces %d; look at it again",
			i.Name, old.Generation, i.ReplaceGeneration).With("layer", i.Name).With("generation", old.Generation).With("sent", i.ReplaceGeneration)
	}
	return &old.Layer, nil
}

// layerOf is the layer that an ingestion makes.
func layerOf(i Ingestion, old *layer.Layer) layer.Layer {
	l := layer.Layer{
		Name: i.Name, Band: i.Band, Grid: i.Grid, HasGrid: true, Format: layer.FormatTiled,
		DeclaredType: i.Type, StoredType: i.Type, Nodata: i.Nodata, Registration: grid.RegistrationCenter, HasKey: true,
		Generation: 1, EstimatedRows: -1,
	}
	if old != nil {
		l.Generation = old.Generation + 1
	}
	if strings.TrimSpace(i.Grid.CRS) == "" {
		l.Problems = append(l.Problems, problem(CRSMissing, layer.Warning, nil, "ingest it again, with its CRS",
			"it has no CRS, so how it lies to other layers cannot be told"))
	}
	return l
}

// sameGridPixels is how far the corners of two grids may be apart for these to be
// the same: a box and its shape give the last bits of a step otherwise than an
// origin and a step do.
const sameGridPixels = 1e-6

// sameGrid refuses a grid that is not another layer's.
func sameGrid(i Ingestion, other layer.Layer) error {
	if !other.HasGrid {
		return fault.New(fault.Precondition, fault.LayerUnreadable, "layer %q has no grid to be equal to", other.Name).With("layer", other.Name)
	}
	a, b := i.Grid, other.Grid
	if same, _ := grid.SameCRS(a.CRS, b.CRS); same || a.CRS == b.CRS {
		b.CRS = a.CRS
	}
	near := func(x, y, step float64) bool { return math.Abs(x-y) <= sameGridPixels*step }
	p, q := a.Bounds(), b.Bounds()
	if a.CRS == b.CRS && a.Rows == b.Rows && a.Cols == b.Cols && near(p.MinX, q.MinX, b.StepX) && near(p.MaxX, q.MaxX, b.StepX) &&
		near(p.MinY, q.MinY, b.StepY) && near(p.MaxY, q.MaxY, b.StepY) {
		return nil
	}
	if a.CRS != b.CRS {
		return fault.New(fault.Precondition, fault.CRSMismatch, "the CRS of %q is %s, and that of %q is %s, or cannot be told to be the same",
			i.Name, shorten(a.CRS), other.Name, shorten(b.CRS)).With("layer", other.Name)
	}
	text := func(g grid.Grid) string {
		return fmt.Sprintf("%d × %d cells of %v × %v from (%v, %v)", g.Rows, g.Cols, g.StepX, g.StepY, g.OriginX, g.OriginY)
	}
	return fault.New(fault.Precondition, fault.InvalidGrid, "the grid of %q has %s, and that of %q has %s: they must be equal, to within %v of a cell",
		i.Name, text(a), other.Name, text(b), sameGridPixels).With("layer", other.Name).With("sent", text(a)).With("grid", text(b))
}
