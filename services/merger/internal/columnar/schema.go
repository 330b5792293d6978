// Package columnar gives the engine's batches the forms that others read: Arrow
// schemas and record batches, without a copy, and Parquet files.
package columnar

import (
	"encoding/json"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	arrowflight "github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// metadataKey is the key of the schema's metadata, in streams and in files.
// docs/flight.md says what is under it.
const metadataKey = "rasterloom"

var arrowTypes = map[layer.DataType]arrow.DataType{
	layer.Uint8: arrow.PrimitiveTypes.Uint8, layer.Int8: arrow.PrimitiveTypes.Int8,
	layer.Uint16: arrow.PrimitiveTypes.Uint16, layer.Int16: arrow.PrimitiveTypes.Int16,
	layer.Uint32: arrow.PrimitiveTypes.Uint32, layer.Int32: arrow.PrimitiveTypes.Int32,
	layer.Int64:   arrow.PrimitiveTypes.Int64,
	layer.Float32: arrow.PrimitiveTypes.Float32, layer.Float64: arrow.PrimitiveTypes.Float64,
}

// SchemaOf is the schema of the table that a plan makes.
func SchemaOf(p *merge.Plan) (*arrow.Schema, error) {
	fields := make([]arrow.Field, 0, len(p.Threads)+4)
	for _, c := range p.Columns() {
		typ, ok := arrowTypes[c.Type]
		if !ok {
			return nil, fmt.Errorf("column %q has the type %s, which Arrow has not", c.Name, c.Type)
		}
		fields = append(fields, arrow.Field{Name: c.Name, Type: typ, Nullable: c.Thread >= 0})
	}
	text, err := json.Marshal(describe(p))
	if err != nil {
		return nil, fmt.Errorf("write the metadata of the schema: %w", err)
	}
	metadata := arrow.NewMetadata([]string{metadataKey}, []string{string(text)})
	return arrow.NewSchema(fields, &metadata), nil
}

// EncodeSchema is the schema of a plan as an encapsulated IPC message.
func EncodeSchema(p *merge.Plan) ([]byte, error) {
	schema, err := SchemaOf(p)
	if err != nil {
		return nil, err
	}
	return arrowflight.SerializeSchema(schema, memory.DefaultAllocator), nil
}

// The metadata of a schema, as JSON. Pairs are x, y.
type tableMetadata struct {
	Version   int            `json:"version"`
	CRS       string         `json:"crs"`
	Grid      gridMetadata   `json:"grid"`
	Window    windowMetadata `json:"window"`
	Reference string         `json:"reference"`
	RowsKept  string         `json:"rows_kept"`
	// Deprecated says what is deprecated in how the table was asked for.
	Deprecated string          `json:"deprecated,omitempty"`
	Layers     []layerMetadata `json:"layers"`
}

type gridMetadata struct {
	OriginX float64 `json:"origin_x"`
	OriginY float64 `json:"origin_y"`
	StepX   float64 `json:"step_x"`
	StepY   float64 `json:"step_y"`
	Rows    int     `json:"rows"`
	Cols    int     `json:"cols"`
}

type windowMetadata struct {
	RowStart int64 `json:"row_start"`
	RowStop  int64 `json:"row_stop"`
	ColStart int64 `json:"col_start"`
	ColStop  int64 `json:"col_stop"`
}

type layerMetadata struct {
	Name           string `json:"name"`
	Column         string `json:"column"`
	Type           string `json:"type"`
	Format         string `json:"format"`
	Table          string `json:"table"`
	Generation     int64  `json:"generation"`
	Verdict        string `json:"verdict"`
	OffsetRows     int64  `json:"offset_rows"`
	OffsetCols     int64  `json:"offset_cols"`
	LongitudeTurns int    `json:"longitude_turns"`
	// A layer has a shift where its cells are taken as they are, and a receipt
	// where they are resampled.
	*shiftMetadata
	Resampling *resamplingMetadata `json:"resampling,omitempty"`
}

type shiftMetadata struct {
	Shift          [2]float64 `json:"shift"`
	ShiftPixels    [2]float64 `json:"shift_pixels"`
	ResidualPixels [2]float64 `json:"residual_pixels"`
	PositionError  [2]float64 `json:"position_error"`
}

type resamplingMetadata struct {
	Method   string     `json:"method"`
	Ratio    [2]float64 `json:"ratio"`
	Offset   [2]float64 `json:"offset"`
	MinShare float64    `json:"min_share"`
	Widened  bool       `json:"widened"`
	Version  int        `json:"version"`
	Why      string     `json:"why"`
}

func describe(p *merge.Plan) tableMetadata {
	m := tableMetadata{
		Version: 1,
		CRS:     p.Lattice.CRS,
		Grid: gridMetadata{
			OriginX: p.Lattice.OriginX, OriginY: p.Lattice.OriginY, StepX: p.Lattice.StepX, StepY: p.Lattice.StepY,
			Rows: p.Lattice.Rows, Cols: p.Lattice.Cols,
		},
		Window: windowMetadata{
			RowStart: p.Window.RowStart, RowStop: p.Window.RowStop, ColStart: p.Window.ColStart, ColStop: p.Window.ColStop,
		},
		RowsKept: p.Keep.String(),
	}
	if p.Legacy {
		m.Deprecated = merge.LegacyWarning
	}
	if p.Reference >= 0 {
		m.Reference = p.Threads[p.Reference].Layer.Name
	}
	for _, t := range p.Threads {
		if !t.Selected() {
			continue
		}
		r := t.Relation
		m.Layers = append(m.Layers, layerMetadata{
			Name: t.Layer.Name, Column: t.Column, Type: t.Type.String(),
			Format: t.Layer.Format.String(), Table: t.Layer.Table.String(), Generation: t.Layer.Generation,
			Verdict: r.Verdict.String(), OffsetRows: r.OffsetRows, OffsetCols: r.OffsetCols, LongitudeTurns: r.LongitudeTurns,
			shiftMetadata: describeShift(t), Resampling: describeResampling(t.Resampling),
		})
	}
	return m
}

func describeShift(t merge.Thread) *shiftMetadata {
	if t.Resampling != nil {
		return nil
	}
	r := t.Relation
	return &shiftMetadata{Shift: pair(r.Shift), ShiftPixels: pair(r.ShiftPixels), ResidualPixels: pair(r.ResidualPixels), PositionError: pair(r.PositionError)}
}

func describeResampling(r *merge.Resampling) *resamplingMetadata {
	if r == nil {
		return nil
	}
	is := r.Kernel.Receipt()
	return &resamplingMetadata{
		Method: is.Method.String(), Ratio: [2]float64{is.RatioX, is.RatioY}, Offset: [2]float64{is.OffsetX, is.OffsetY},
		MinShare: is.MinShare, Widened: is.Widened, Version: is.Version, Why: r.Why,
	}
}

func pair(v grid.Vector) [2]float64 { return [2]float64{v.X, v.Y} }
