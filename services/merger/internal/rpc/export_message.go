package rpc

import (
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/merger/internal/export"
)

var (
	exportStates = map[export.State]mergerv1.ExportState{
		export.Queued:    mergerv1.ExportState_EXPORT_STATE_QUEUED,
		export.Running:   mergerv1.ExportState_EXPORT_STATE_RUNNING,
		export.Succeeded: mergerv1.ExportState_EXPORT_STATE_SUCCEEDED,
		export.Failed:    mergerv1.ExportState_EXPORT_STATE_FAILED,
		export.Cancelled: mergerv1.ExportState_EXPORT_STATE_CANCELLED,
	}
	exportPhases = map[export.Phase]mergerv1.ExportPhase{
		export.Idle:       mergerv1.ExportPhase_EXPORT_PHASE_UNSPECIFIED,
		export.Waiting:    mergerv1.ExportPhase_EXPORT_PHASE_WAITING,
		export.Writing:    mergerv1.ExportPhase_EXPORT_PHASE_WRITING,
		export.Publishing: mergerv1.ExportPhase_EXPORT_PHASE_PUBLISHING,
	}
)

func toExport(j export.Job) *mergerv1.Export {
	e := &mergerv1.Export{
		Id: j.ID, Name: j.Order.Name, State: exportStates[j.State], Phase: exportPhases[j.Phase],
		Rows: j.Progress.Rows, Bytes: j.Progress.Bytes, Parts: int32(j.Progress.Parts), Fraction: j.Progress.Fraction,
		CreateTime: toTime(j.Created), StartTime: toTime(j.Started), EndTime: toTime(j.Ended),
		Warnings: j.Order.Plan.Warnings(),
	}
	if f := j.Failure; f != nil {
		e.Failure = &mergerv1.ExportFailure{
			Reason: string(f.Reason), Message: f.Message, Fields: f.Fields, Code: connect.Code(wire.Code(f.Kind)).String(),
		}
	}
	if j.State == export.Succeeded {
		e.Manifest = toManifest(j.Manifest)
	}
	return e
}

func toManifest(m export.Manifest) *mergerv1.ExportManifest {
	out := &mergerv1.ExportManifest{Rows: m.Rows, Bytes: m.Bytes}
	for _, p := range m.Parts {
		out.Parts = append(out.Parts, &mergerv1.ExportPart{File: p.File, Rows: p.Rows, Bytes: p.Bytes, Sha256: p.SHA256})
	}
	for _, l := range m.Layers {
		out.Layers = append(out.Layers, &mergerv1.ExportLayer{Name: l.Name, Column: l.Column, Generation: l.Generation, Cells: l.Cells})
	}
	return out
}

// toTime leaves out a time that has not come.
func toTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
