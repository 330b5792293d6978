package pgstore

import (
	"context"
	_ "embed"
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

//go:embed layers.sql
var layersSQL string

//go:embed layers_count.sql
var layersCountSQL string

//go:embed layer_save.sql
var layerSaveSQL string

//go:embed layers_of_source.sql
var layersOfSourceSQL string

// reader is what a pool and a transaction have in common here.
type reader interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// LayerFilter chooses layers of our catalog.
type LayerFilter struct {
	NameContains string // in any case; empty: all
	Formats      []layer.Format
}

// Layers gives the layers of these names that exist, by name. It reads them
// at one moment. Errors: as any query.
func (s *Store) Layers(ctx context.Context, names []string) ([]layer.Record, error) {
	return layersNamed(ctx, s.pool, names)
}

// ListLayers gives a page of at most limit layers by name, from the first
// after a name. Errors: as any query.
func (s *Store) ListLayers(ctx context.Context, f LayerFilter, after string, limit int) ([]layer.Record, error) {
	return queryLayers(ctx, s.pool, nil, f, after, limit)
}

// CountLayers counts the layers. Errors: as any query.
func (s *Store) CountLayers(ctx context.Context, f LayerFilter) (int64, error) {
	var n int64
	err := s.pool.QueryRow(ctx, layersCountSQL, f.NameContains, formatNames(f.Formats)).Scan(&n)
	return n, faultOf(err)
}

// LayerNames gives the names of all layers, at most limit. Errors: as any
// query.
func (s *Store) LayerNames(ctx context.Context, limit int) ([]string, error) {
	rows, err := s.pool.Query(ctx, "SELECT name FROM rasterloom.layer ORDER BY name LIMIT $1", limit)
	if err != nil {
		return nil, faultOf(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return names, faultOf(err)
}

func layersNamed(ctx context.Context, q reader, names []string) ([]layer.Record, error) {
	if names == nil {
		names = []string{} // NULL would be all
	}
	return queryLayers(ctx, q, names, LayerFilter{}, "", len(names))
}

func queryLayers(ctx context.Context, q reader, names []string, f LayerFilter, after string, limit int) ([]layer.Record, error) {
	rows, err := q.Query(ctx, layersSQL, names, f.NameContains, formatNames(f.Formats), after, limit)
	if err != nil {
		return nil, faultOf(err)
	}
	records, err := pgx.CollectRows(rows, scanLayer)
	return records, faultOf(err)
}

func formatNames(formats []layer.Format) []string {
	names := make([]string, len(formats))
	for i, f := range formats {
		names[i] = f.String()
	}
	return names
}

// problem is how a problem is stored.
type problem struct {
	Code     string            `json:"code"`
	Severity string            `json:"severity"`
	Message  string            `json:"message"`
	Fields   map[string]string `json:"fields,omitempty"`
	Fix      string            `json:"fix,omitempty"`
}

func scanLayer(row pgx.CollectableRow) (layer.Record, error) {
	var (
		r                                                     layer.Record
		crs, format, declared, stored, registration, problems string
		gridRows, gridCols                                    *int64
		originX, originY, stepX, stepY                        *float64
	)
	err := row.Scan(&r.Name, &r.Band, &format, &crs, &gridRows, &gridCols, &originX, &originY, &stepX, &stepY,
		&r.Table.Schema, &r.Table.Name, &r.TableOID, &r.TableFile, &declared, &stored, &r.Nodata,
		&registration, &r.SouthUp, &r.TargetResolution, &r.HasIndices, &r.HasCoordinates, &r.HasKey,
		&r.EstimatedRows, &problems, &r.Source.Table.Schema, &r.Source.Table.Name, &r.Source.OID, &r.Source.Row,
		&r.Generation, &r.UpdateTime, &r.Tiling, &r.IngestedBy)
	if err != nil {
		return r, err
	}
	r.UpdateTime = r.UpdateTime.UTC()
	r.Grid.CRS = crs
	if gridRows != nil {
		r.Grid = grid.Grid{
			CRS: crs, Rows: int(*gridRows), Cols: int(*gridCols),
			OriginX: *originX, OriginY: *originY, StepX: *stepX, StepY: *stepY,
		}
		if err := r.Grid.Validate(); err != nil {
			return r, fault.New(fault.Corrupt, fault.DataCorrupt, "layer %q: its catalogued grid is none", r.Name).With("layer", r.Name).Because(err)
		}
		r.HasGrid = true
	}
	var known [3]bool
	r.Format, known[0] = layer.ParseFormat(format)
	r.DeclaredType, _ = layer.ParseDataType(declared)
	r.StoredType, _ = layer.ParseDataType(stored)
	r.Registration, known[1] = parseRegistration(registration)
	var list []problem
	known[2] = json.Unmarshal([]byte(problems), &list) == nil
	if known != [3]bool{true, true, true} {
		return r, fault.New(fault.Corrupt, fault.DataCorrupt, "layer %q: our catalog holds values that this version does not know", r.Name).With("layer", r.Name)
	}
	for _, p := range list {
		severity, _ := layer.ParseSeverity(p.Severity)
		r.Problems = append(r.Problems, layer.Problem{Code: p.Code, Severity: severity, Message: p.Message, Fields: p.Fields, Fix: p.Fix})
	}
	return r, nil
}

func parseRegistration(name string) (grid.Registration, bool) {
	for _, r := range []grid.Registration{grid.RegistrationUnknown, grid.RegistrationCenter, grid.RegistrationUpperLeft} {
		if r.String() == name {
			return r, true
		}
	}
	return grid.RegistrationUnknown, false
}

// saveArguments are the parameters of layer_save.sql.
func saveArguments(r layer.Record) ([]any, error) {
	list := make([]problem, 0, len(r.Problems))
	for _, p := range r.Problems {
		list = append(list, problem{Code: p.Code, Severity: p.Severity.String(), Message: p.Message, Fields: p.Fields, Fix: p.Fix})
	}
	problems, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	var rows, cols *int64
	var originX, originY, stepX, stepY *float64
	if g := r.Grid; r.HasGrid {
		rows, cols = new(int64(g.Rows)), new(int64(g.Cols))
		originX, originY, stepX, stepY = &g.OriginX, &g.OriginY, &g.StepX, &g.StepY
	}
	return []any{
		r.Name, r.Band, r.Format.String(), r.Grid.CRS, rows, cols, originX, originY, stepX, stepY,
		r.Table.Schema, r.Table.Name, r.TableOID, r.TableFile, r.DeclaredType.String(), r.StoredType.String(), r.Nodata,
		r.Registration.String(), r.SouthUp, r.TargetResolution, r.HasIndices, r.HasCoordinates, r.HasKey,
		r.EstimatedRows, string(problems), r.Source.Table.Schema, r.Source.Table.Name, r.Source.OID, r.Source.Row, r.Generation, r.Tiling, r.IngestedBy,
	}, nil
}
