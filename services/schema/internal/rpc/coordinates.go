package rpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rasterloom/rasterloom/fault"
	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/schema/internal/catalog"
)

// Coordinates looks at coordinates and makes them readable or stored.
type Coordinates interface {
	EnsureView(context.Context, layer.Layer) (layer.Table, error)
	Get(context.Context, migrate.ID) (migrate.Migration, error)
	Start(ctx context.Context, key string, spec migrate.Spec, l layer.Layer, headroom *int64) (migrate.Migration, error)
}

// CoordinateHandler implements the contract of coordinates.
type CoordinateHandler struct {
	keeper      *catalog.Keeper
	coordinates Coordinates
	wake        func()
}

var _ schemav1connect.CoordinateServiceHandler = (*CoordinateHandler)(nil)

// NewCoordinates makes a handler. wake is called when there is something to do
// for a worker.
func NewCoordinates(keeper *catalog.Keeper, c Coordinates, wake func()) *CoordinateHandler {
	return &CoordinateHandler{keeper: keeper, coordinates: c, wake: wake}
}

// EnsureCoordinates reports, and does what was asked.
func (h *CoordinateHandler) EnsureCoordinates(ctx context.Context, req *connect.Request[schemav1.EnsureCoordinatesRequest]) (*connect.Response[schemav1.EnsureCoordinatesResponse], error) {
	layers, err := h.keeper.Get(ctx, req.Msg.GetLayer())
	if err != nil {
		return nil, err
	}
	l := layers[0]
	if err := l.CheckReadable(); err != nil {
		return nil, err
	}
	described := wire.ToLayer(l)
	answer := &schemav1.EnsureCoordinatesResponse{
		Format: described.GetFormat(), Generation: l.Generation, GridHash: migrate.GridHash(l.Grid),
		Registration: described.GetRegistration(), Problems: described.GetProblems(),
	}
	if l.HasCoordinates && l.Format != layer.FormatPartial {
		answer.ReadableFrom = described.GetTable()
	}
	switch mode := req.Msg.GetMode(); {
	case mode == schemav1.EnsureMode_ENSURE_MODE_CHECK:
	case mode == schemav1.EnsureMode_ENSURE_MODE_VERIFY:
		if l.HasCoordinates {
			began := time.Now()
			report, err := h.keeper.ValidateCoordinates(ctx, l.Name, catalog.Validation{})
			if err != nil {
				return nil, err
			}
			answer.Validation = toValidation(report, time.Since(began))
			break
		}
		// Nothing is stored that could be wrong but the indices themselves.
		scanned, _, err := h.keeper.Detect(ctx, l.Name, true)
		if err != nil {
			return nil, err
		}
		answer.Problems = wire.ToLayer(scanned).GetProblems()
	case answer.ReadableFrom != nil: // readable and stored
	case mode == schemav1.EnsureMode_ENSURE_MODE_STORED:
		m, err := h.store(ctx, l)
		if err != nil {
			return nil, err
		}
		answer.Migration = toMigration(m)
	default:
		if l.Format == layer.FormatPartial {
			return nil, fault.New(fault.Precondition, fault.LayerUnreadable,
				"layer %q has coordinate columns that are not filled throughout, so neither they nor the grid can be believed", l.Name).With("layer", l.Name)
		}
		view, err := h.coordinates.EnsureView(ctx, l)
		if err != nil {
			return nil, err
		}
		answer.ReadableFrom = &layerv1.Table{Schema: view.Schema, Name: view.Name}
	}
	return connect.NewResponse(answer), nil
}

// store starts the one migration of this generation of a layer, or gives the one
// that its table has.
func (h *CoordinateHandler) store(ctx context.Context, l layer.Layer) (migrate.Migration, error) {
	m, err := h.coordinates.Start(ctx, fmt.Sprintf("ensure-stored/%s/%d", migrate.GridHash(l.Grid)[:16]+l.Table.String(), l.Generation),
		migrate.Spec{Layer: l.Name, Level: migrate.LevelStored}, l, nil)
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Reason == fault.MigrationExists {
		id, parsed := migrate.ParseID(f.Fields["migration"])
		if parsed == nil {
			return h.coordinates.Get(ctx, id)
		}
	}
	if err == nil {
		h.wake()
	}
	return m, err
}

// ValidateCoordinates compares every row.
func (h *CoordinateHandler) ValidateCoordinates(ctx context.Context, req *connect.Request[schemav1.ValidateCoordinatesRequest]) (*connect.Response[schemav1.ValidateCoordinatesResponse], error) {
	began := time.Now()
	report, err := h.keeper.ValidateCoordinates(ctx, req.Msg.GetLayer(), catalog.Validation{
		TolerancePixels: req.Msg.TolerancePixels, StatementTimeout: req.Msg.GetStatementTimeout().AsDuration(),
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&schemav1.ValidateCoordinatesResponse{Validation: toValidation(report, time.Since(began))}), nil
}

func toValidation(r catalog.CoordinateReport, elapsed time.Duration) *schemav1.CoordinateValidation {
	p := &schemav1.CoordinateValidation{
		Rows: r.Rows, Exact: r.Exact, Wrong: r.Wrong, Off: r.Off, Missing: r.Missing, Outside: r.Outside,
		LargestErrorPixels: &gridv1.Vector{X: r.Largest.X, Y: r.Largest.Y},
		RegistrationFound:  wire.ToRegistration(r.Found.Registration), SouthUpFound: r.Found.SouthUp, Fitting: r.Fitting,
		Problems: wire.ToLayer(layer.Layer{Problems: r.Problems}).GetProblems(), TolerancePixels: r.TolerancePixels,
		Elapsed: durationpb.New(elapsed),
	}
	for _, o := range r.Offenders {
		offender := &schemav1.CoordinateOffender{Row: o.Row, Col: o.Col, X: o.X, Y: o.Y}
		if o.ExpectedX != nil && o.ExpectedY != nil {
			offender.Expected = &gridv1.Vector{X: *o.ExpectedX, Y: *o.ExpectedY}
		}
		p.Offenders = append(p.Offenders, offender)
	}
	return p
}
