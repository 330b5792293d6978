package catalog

import (
	"maps"
	"slices"

	"github.com/rasterloom/rasterloom/internal/layer"
)

// sameFacts reports whether a reader of the one layer can take the other for
// it: the facts that make a generation. What was observed about the rows, and
// when, is no part of them.
func sameFacts(a, b layer.Record) bool {
	return a.Band == b.Band && a.Format == b.Format && a.HasGrid == b.HasGrid && a.Grid == b.Grid &&
		a.Table == b.Table && a.TableOID == b.TableOID && a.TableFile == b.TableFile &&
		a.DeclaredType == b.DeclaredType && a.StoredType == b.StoredType && sameOptional(a.Nodata, b.Nodata) &&
		a.Registration == b.Registration && a.SouthUp == b.SouthUp && sameOptional(a.TargetResolution, b.TargetResolution) &&
		a.HasIndices == b.HasIndices && a.HasCoordinates == b.HasCoordinates && a.HasKey == b.HasKey && a.Tiling == b.Tiling
}

// sameObservations reports whether the rest is the same too.
func sameObservations(a, b layer.Record) bool {
	sameRow := (a.Source.Row == nil) == (b.Source.Row == nil) && (a.Source.Row == nil || *a.Source.Row == *b.Source.Row)
	return a.EstimatedRows == b.EstimatedRows && sameRow && a.Source.Table == b.Source.Table && a.Source.OID == b.Source.OID &&
		slices.EqualFunc(a.Problems, b.Problems, func(p, q layer.Problem) bool {
			return p.Code == q.Code && p.Severity == q.Severity && p.Message == q.Message && p.Fix == q.Fix && maps.Equal(p.Fields, q.Fields)
		})
}

func sameOptional(a, b *float64) bool {
	if a == nil || b == nil {
		return a == b
	}
	return same(*a, *b)
}
