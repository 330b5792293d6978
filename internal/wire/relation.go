package wire

import (
	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	"github.com/rasterloom/rasterloom/grid"
)

// ToRelation writes what two grids are to each other. Name, explanation,
// registration and row order belong to the layer: the caller adds them.
func ToRelation(r grid.Relation) *gridv1.Relation {
	return &gridv1.Relation{
		Verdict:            ToVerdict(r.Verdict),
		OffsetRows:         r.OffsetRows,
		OffsetCols:         r.OffsetCols,
		Shift:              ToVector(r.Shift),
		ShiftPixels:        ToVector(r.ShiftPixels),
		DisplacementPixels: ToVector(r.DisplacementPixels),
		ResidualPixels:     ToVector(r.ResidualPixels),
		PositionError:      ToVector(r.PositionError),
		DriftPer_1000:      ToVector(r.DriftPer1000),
		NoisePixels:        ToVector(r.NoisePixels),
		LongitudeTurns:     int32(r.LongitudeTurns),
		TurnCols:           r.TurnCols,
	}
}

// FromRelation reads what two grids are to each other. What belongs to the
// layer stays in the message.
func FromRelation(p *gridv1.Relation) grid.Relation {
	return grid.Relation{
		Verdict:            FromVerdict(p.GetVerdict()),
		OffsetRows:         p.GetOffsetRows(),
		OffsetCols:         p.GetOffsetCols(),
		Shift:              FromVector(p.GetShift()),
		ShiftPixels:        FromVector(p.GetShiftPixels()),
		DisplacementPixels: FromVector(p.GetDisplacementPixels()),
		ResidualPixels:     FromVector(p.GetResidualPixels()),
		PositionError:      FromVector(p.GetPositionError()),
		DriftPer1000:       FromVector(p.GetDriftPer_1000()),
		NoisePixels:        FromVector(p.GetNoisePixels()),
		LongitudeTurns:     int(p.GetLongitudeTurns()),
		TurnCols:           p.GetTurnCols(),
	}
}

// ToVector writes a vector.
func ToVector(v grid.Vector) *gridv1.Vector { return &gridv1.Vector{X: v.X, Y: v.Y} }

// FromVector reads a vector.
func FromVector(p *gridv1.Vector) grid.Vector { return grid.Vector{X: p.GetX(), Y: p.GetY()} }

// ToRegistration writes a registration.
func ToRegistration(r grid.Registration) gridv1.Registration { return registrations[r] }

var verdicts = map[grid.Verdict]gridv1.Verdict{
	grid.VerdictUnknown:   gridv1.Verdict_VERDICT_UNSPECIFIED,
	grid.VerdictIdentical: gridv1.Verdict_VERDICT_IDENTICAL,
	grid.VerdictAligned:   gridv1.Verdict_VERDICT_ALIGNED,
	grid.VerdictShift:     gridv1.Verdict_VERDICT_SHIFT,
	grid.VerdictResample:  gridv1.Verdict_VERDICT_RESAMPLE,
	grid.VerdictReproject: gridv1.Verdict_VERDICT_REPROJECT,
	grid.VerdictDisjoint:  gridv1.Verdict_VERDICT_DISJOINT,
}

// ToVerdict writes a verdict.
func ToVerdict(v grid.Verdict) gridv1.Verdict { return verdicts[v] }

// FromVerdict reads a verdict. One that we do not know is VerdictUnknown.
func FromVerdict(p gridv1.Verdict) grid.Verdict {
	for k, v := range verdicts {
		if v == p {
			return k
		}
	}
	return grid.VerdictUnknown
}
