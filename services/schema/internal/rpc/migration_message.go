package rpc

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// The enums of the contract and of the domain share their names, apart from a
// prefix; a test holds them equal.

func toState(s migrate.State) schemav1.MigrationState {
	return schemav1.MigrationState(schemav1.MigrationState_value["MIGRATION_STATE_"+string(s)])
}

func toCondition(c migrate.Condition) schemav1.MigrationCondition {
	return schemav1.MigrationCondition(schemav1.MigrationCondition_value["MIGRATION_CONDITION_"+string(c)])
}

func toLevel(l migrate.Level) schemav1.MigrationLevel {
	return schemav1.MigrationLevel(schemav1.MigrationLevel_value["MIGRATION_LEVEL_"+string(l)])
}

// fromSpec reads a spec. Stored coordinates are the default.
func fromSpec(p *schemav1.MigrationSpec) migrate.Spec {
	spec := migrate.Spec{
		Layer: p.GetLayer(), Level: migrate.LevelStored, RowsPerSecond: p.GetRowsPerSecondLimit(), InPlace: p.GetInPlace(),
		Tiles: migrate.TileSpec{SQLView: p.GetTiles().GetSqlView(), Declared: p.GetTiles().GetDeclaredType()},
	}
	if p.GetLevel() == schemav1.MigrationLevel_MIGRATION_LEVEL_TILED {
		spec.Level = migrate.LevelTiled
	}
	return spec
}

func toMigration(m migrate.Migration) *schemav1.Migration {
	p := &schemav1.Migration{
		Id: m.ID.String(), Layer: m.Spec.Layer, Table: &layerv1.Table{Schema: m.Table.Schema, Name: m.Table.Name},
		Level: toLevel(m.Spec.Level), State: toState(m.State), Condition: toCondition(m.Condition), Etag: m.ETag(),
		RowsPerSecondLimit: m.Spec.RowsPerSecond, RowsTotal: m.Progress.RowsTotal, RowsCopied: m.Progress.RowsCopied,
		FractionCopied: m.Progress.Fraction(), NotesPending: m.Progress.NotesPending,
		InPlace: m.Spec.InPlace, DiskBytes: m.DiskBytes,
		CreateTime: timestamppb.New(m.CreateTime), StateTime: timestamppb.New(m.StateTime),
	}
	if m.Spec.Level == migrate.LevelTiled {
		p.Tiles = &schemav1.TileOptions{SqlView: m.Spec.Tiles.SQLView, DeclaredType: m.Spec.Tiles.Declared}
	}
	if f := m.Failure; f != nil {
		p.Failure = &schemav1.MigrationFailure{Reason: f.Reason, Message: f.Message, Fields: f.Fields}
	}
	if f := m.Waiting; f != nil {
		p.Waiting = &schemav1.MigrationFailure{Reason: f.Reason, Message: f.Message, Fields: f.Fields}
	}
	if v := m.Verification; v != nil {
		p.Verification = &schemav1.Verification{
			OldRows: v.OldRows, NewRows: v.NewRows, OldHash: v.OldHash, NewHash: v.NewHash,
			WrongCoordinates: v.WrongCoordinates, OffGrid: v.OffGrid, Elapsed: durationpb.New(seconds(v.Seconds)),
			RowsWithoutValue: v.WithoutValue, Tiles: v.Tiles, LaggingTiles: v.Lagging,
		}
		for _, d := range v.Differing {
			p.Verification.Differing = append(p.Verification.Differing, &schemav1.DifferingRow{Row: d.Row, Col: d.Col, Difference: d.What})
		}
	}
	return p
}

func toPlan(plan migrate.Plan) *schemav1.MigrationPlan {
	p := &schemav1.MigrationPlan{
		Layer: plan.Spec.Layer, Level: toLevel(plan.Spec.Level), Rows: plan.Rows, TableBytes: plan.TableBytes,
		DiskBytes: plan.DiskBytes, WalBytes: plan.WALBytes, Estimate: durationpb.New(seconds(plan.Seconds)), Locks: plan.Locks, Notices: plan.Notices,
		Tiles: plan.Tiles, RowsWithoutValue: plan.WithoutValue,
	}
	if h := plan.Headroom; h != nil {
		p.DiskHeadroomBytes, p.DiskHeadroomMeasured = new(h.Left()), h.Measured
	}
	for _, d := range plan.Dependents {
		p.Dependents = append(p.Dependents, &schemav1.Dependent{Kind: d.Kind, Name: d.Name})
	}
	for _, r := range plan.Refusals {
		p.Refusals = append(p.Refusals, &schemav1.Refusal{Code: r.Code, Message: r.Message, Count: r.Count, Fix: r.Fix})
	}
	return p
}

func toWatch(m migrate.Migration, news migrate.News) *schemav1.WatchMigrationResponse {
	p := &schemav1.WatchMigrationResponse{Migration: toMigration(m), RowsPerSecond: news.RowsPerSecond}
	if news.Remaining > 0 {
		p.Remaining = durationpb.New(news.Remaining)
	}
	return p
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
