package rpc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/rasterloom/rasterloom/fault"
	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1/mergerv1connect"
	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/merger/internal/export"
)

// watchPause is the least time between two answers of WatchExport.
const watchPause = 200 * time.Millisecond

// Exports keeps the jobs of exports, each for who started it.
type Exports interface {
	// Find gives the job that was started with a key, if any.
	Find(ctx context.Context, who export.Who, key, fingerprint string) (export.Job, bool, error)
	Start(ctx context.Context, o export.Order) (export.Job, error)
	Get(ctx context.Context, who export.Who, id string) (export.Job, error)
	// List gives the newest first.
	List(ctx context.Context, who export.Who, limit int) ([]export.Job, error)
	// Watch calls see with the job, at once and when it changed, until it is
	// over.
	Watch(ctx context.Context, who export.Who, id string, pause time.Duration, see func(export.Job) error) error
	Cancel(ctx context.Context, who export.Who, id string) (export.Job, error)
}

// ExportHandler answers ExportService.
type ExportHandler struct {
	planner *Planner
	exports Exports
}

var _ mergerv1connect.ExportServiceHandler = (*ExportHandler)(nil)

// NewExportHandler makes a handler. Without exports, every call says how to have
// them.
func NewExportHandler(planner *Planner, exports Exports) *ExportHandler {
	if exports == nil {
		exports = noExports{}
	}
	return &ExportHandler{planner: planner, exports: exports}
}

// StartExport implements ExportService.
func (h *ExportHandler) StartExport(ctx context.Context, request *connect.Request[mergerv1.StartExportRequest]) (*connect.Response[mergerv1.StartExportResponse], error) {
	spec, key := request.Msg.GetSpec(), request.Msg.GetIdempotencyKey()
	fingerprint, err := fingerprintOf(spec)
	if err != nil {
		return nil, err
	}
	// A request that is repeated gets its export, whatever became of the layers.
	job, found, err := h.exports.Find(ctx, asker(ctx), key, fingerprint)
	if err != nil {
		return nil, err
	}
	if !found {
		if err := export.CheckName(spec.GetName()); err != nil {
			return nil, err
		}
		what := proto.CloneOf(spec.GetMerge())
		what.BatchRows, what.Endpoints, what.BodyCompression = 0, 1, mergerv1.BodyCompression_BODY_COMPRESSION_UNSPECIFIED
		// Exports are younger than the legacy way, and never take it.
		what.UseLegacyMerge = new(false)
		plan, err := h.planner.plan(ctx, what)
		if err != nil {
			return nil, err
		}
		job, err = h.exports.Start(ctx, export.Order{
			Key: key, Fingerprint: fingerprint, Name: spec.GetName(), PartRows: spec.GetPartRows(), Plan: plan.Plan,
			RequestID: wire.RequestID(ctx), Owner: asker(ctx).Name,
		})
		if err != nil {
			return nil, err
		}
	}
	return connect.NewResponse(&mergerv1.StartExportResponse{Export: toExport(job)}), nil
}

// asker says who asks for exports: an operator looks after those of everybody.
func asker(ctx context.Context) export.Who {
	p := access.From(ctx)
	return export.Who{Name: p.Name, All: p.Role == access.Operator}
}

// fingerprintOf is equal for equal requests.
func fingerprintOf(spec *mergerv1.ExportSpec) (string, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(spec)
	if err != nil {
		return "", fmt.Errorf("encode the spec of an export: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// GetExport implements ExportService.
func (h *ExportHandler) GetExport(ctx context.Context, request *connect.Request[mergerv1.GetExportRequest]) (*connect.Response[mergerv1.GetExportResponse], error) {
	job, err := h.exports.Get(ctx, asker(ctx), request.Msg.GetId())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&mergerv1.GetExportResponse{Export: toExport(job)}), nil
}

// ListExports implements ExportService.
func (h *ExportHandler) ListExports(ctx context.Context, request *connect.Request[mergerv1.ListExportsRequest]) (*connect.Response[mergerv1.ListExportsResponse], error) {
	limit := int(request.Msg.GetLimit())
	if limit == 0 {
		limit = 100
	}
	jobs, err := h.exports.List(ctx, asker(ctx), limit)
	if err != nil {
		return nil, err
	}
	answer := &mergerv1.ListExportsResponse{}
	for _, job := range jobs {
		e := toExport(job)
		e.Manifest = nil
		answer.Exports = append(answer.Exports, e)
	}
	return connect.NewResponse(answer), nil
}

// WatchExport implements ExportService.
func (h *ExportHandler) WatchExport(ctx context.Context, request *connect.Request[mergerv1.WatchExportRequest], stream *connect.ServerStream[mergerv1.WatchExportResponse]) error {
	return h.exports.Watch(ctx, asker(ctx), request.Msg.GetId(), watchPause, func(job export.Job) error {
		return stream.Send(&mergerv1.WatchExportResponse{Export: toExport(job)})
	})
}

// CancelExport implements ExportService.
func (h *ExportHandler) CancelExport(ctx context.Context, request *connect.Request[mergerv1.CancelExportRequest]) (*connect.Response[mergerv1.CancelExportResponse], error) {
	job, err := h.exports.Cancel(ctx, asker(ctx), request.Msg.GetId())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&mergerv1.CancelExportResponse{Export: toExport(job)}), nil
}

// noExports is a server without a directory for them.
type noExports struct{}

func (noExports) refuse() error {
	return fault.New(fault.Precondition, fault.NotSupported,
		"this server writes no exports, since it was given no directory for them: start the merger with --export-dir "+
			"(`rasterloom up` with --merger-export-dir), or set RASTERLOOM_EXPORT_DIR").
		With("flag", "--export-dir").With("environment", "RASTERLOOM_EXPORT_DIR")
}

// Find implements Exports, as do the others.
func (n noExports) Find(context.Context, export.Who, string, string) (export.Job, bool, error) {
	return export.Job{}, false, n.refuse()
}

func (n noExports) Start(context.Context, export.Order) (export.Job, error) {
	return export.Job{}, n.refuse()
}

func (n noExports) Get(context.Context, export.Who, string) (export.Job, error) {
	return export.Job{}, n.refuse()
}

func (n noExports) List(context.Context, export.Who, int) ([]export.Job, error) {
	return nil, n.refuse()
}

func (n noExports) Watch(context.Context, export.Who, string, time.Duration, func(export.Job) error) error {
	return n.refuse()
}

func (n noExports) Cancel(context.Context, export.Who, string) (export.Job, error) {
	return export.Job{}, n.refuse()
}
