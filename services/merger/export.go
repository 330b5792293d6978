package merger

import (
	"io"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"go.uber.org/zap"

	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/services/merger/internal/columnar"
	"github.com/rasterloom/rasterloom/services/merger/internal/export"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
	"github.com/rasterloom/rasterloom/services/merger/internal/rpc"
)

// exports builds the queue of exports; none without a directory.
func exports(cfg Config, deps boot.Deps, cells cellSource, planner *rpc.Planner, budget *merge.Budget, allocator memory.Allocator) (queue rpc.Exports, drain, stop func(), err error) {
	nothing := func() {}
	if cfg.ExportDir == "" {
		return nil, nothing, nothing, nil
	}
	directory, err := export.OpenDirectory(cfg.ExportDir)
	if err != nil {
		return nil, nil, nil, err
	}
	log := deps.Log
	if log == nil {
		log = zap.NewNop()
	}
	encoder := parquetEncoder{columnar.Parquet{Allocator: allocator}}
	metrics := newExportMetrics(deps.Metrics)
	q := export.NewQueue(export.NewWriter(directory, cells, planner, encoder, budget),
		export.Limits{Running: cfg.Exports, Waiting: cfg.WaitingExports, Each: cfg.ExportsEach}, log.Named("export"), metrics.over)
	metrics.of(deps.Metrics, q.Count)
	return q, q.Drain, func() { q.Close(); directory.Close() }, nil
}

// parquetEncoder gives the room that writes files the room that encodes them.
type parquetEncoder struct{ columnar.Parquet }

// New implements export.Encoder.
func (p parquetEncoder) New(w io.Writer, plan *merge.Plan) (export.Table, error) {
	file, err := p.Parquet.New(w, plan)
	if err != nil {
		return nil, err
	}
	return file, nil
}
