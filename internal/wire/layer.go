package wire

import (
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// FromLayer reads a layer of the contract. A grid that is not valid is an
// error: Invalid INVALID_GRID.
func FromLayer(p *layerv1.Layer) (layer.Layer, error) {
	l := layer.Layer{
		Name: p.GetName(), Band: p.GetBand(),
		Format:       FromFormat(p.GetFormat()),
		Table:        layer.Table{Schema: p.GetTable().GetSchema(), Name: p.GetTable().GetName()},
		DeclaredType: FromDataType(p.GetDeclaredType()), StoredType: FromDataType(p.GetStoredType()),
		Nodata: p.Nodata, Registration: FromRegistration(p.GetRegistration()), SouthUp: p.GetSouthUp(),
		TargetResolution: p.TargetResolution,
		HasIndices:       p.GetHasIndices(), HasCoordinates: p.GetHasCoordinates(), HasKey: p.GetHasKey(),
		Generation: p.GetGeneration(), EstimatedRows: p.GetEstimatedRows(), Tiling: p.GetTiling(),
	}
	if p.GetUpdateTime() != nil {
		l.UpdateTime = p.GetUpdateTime().AsTime()
	}
	if p.GetGrid() != nil {
		g, err := FromGrid(p.GetGrid())
		if err != nil {
			return l, err
		}
		l.Grid, l.HasGrid = g, true
	}
	for _, q := range p.GetProblems() {
		l.Problems = append(l.Problems, layer.Problem{
			Code: q.GetCode(), Severity: fromSeverity(q.GetSeverity()), Message: q.GetMessage(),
			Fields: q.GetFields(), Fix: q.GetFix(),
		})
	}
	return l, nil
}

// ToLayer writes a layer for the contract.
func ToLayer(l layer.Layer) *layerv1.Layer {
	p := &layerv1.Layer{
		Name: l.Name, Band: l.Band, Format: ToFormat(l.Format),
		DeclaredType: ToDataType(l.DeclaredType), StoredType: ToDataType(l.StoredType),
		Nodata: l.Nodata, Registration: registrations[l.Registration], SouthUp: l.SouthUp,
		TargetResolution: l.TargetResolution,
		HasIndices:       l.HasIndices, HasCoordinates: l.HasCoordinates, HasKey: l.HasKey,
		Generation: l.Generation, EstimatedRows: l.EstimatedRows, Tiling: l.Tiling,
	}
	if l.Table != (layer.Table{}) {
		p.Table = &layerv1.Table{Schema: l.Table.Schema, Name: l.Table.Name}
	}
	if l.HasGrid {
		p.Grid = ToGrid(l.Grid)
	}
	if !l.UpdateTime.IsZero() {
		p.UpdateTime = timestamppb.New(l.UpdateTime)
	}
	for _, q := range l.Problems {
		p.Problems = append(p.Problems, &layerv1.Problem{
			Code: q.Code, Severity: ToSeverity(q.Severity), Message: q.Message, Fields: q.Fields, Fix: q.Fix,
		})
	}
	return p
}

// The enums of the contract and of the domain share their names, apart from a
// prefix and case; a test holds them equal.

// FromFormat reads a format.
func FromFormat(p layerv1.Format) layer.Format {
	f, _ := layer.ParseFormat(strings.TrimPrefix(p.String(), "FORMAT_"))
	return f
}

// ToFormat writes a format.
func ToFormat(f layer.Format) layerv1.Format {
	return layerv1.Format(layerv1.Format_value["FORMAT_"+f.String()])
}

// FromDataType reads a data type.
func FromDataType(p layerv1.DataType) layer.DataType {
	t, _ := layer.ParseDataType(strings.ToLower(strings.TrimPrefix(p.String(), "DATA_TYPE_")))
	return t
}

// ToDataType writes a data type.
func ToDataType(t layer.DataType) layerv1.DataType {
	return layerv1.DataType(layerv1.DataType_value["DATA_TYPE_"+strings.ToUpper(t.String())])
}

func fromSeverity(p layerv1.Severity) layer.Severity {
	s, _ := layer.ParseSeverity(strings.TrimPrefix(p.String(), "SEVERITY_"))
	return s
}

// ToSeverity writes a severity.
func ToSeverity(s layer.Severity) layerv1.Severity {
	return layerv1.Severity(layerv1.Severity_value["SEVERITY_"+s.String()])
}
