// Package merger is the front door of the merger service: it weaves layers on
// one lattice into one table, plans merges by Connect, streams tables by Arrow
// Flight and writes them as files. It reads cells and never writes any.
package merger

import (
	"context"
	"net/http"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"

	"github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1/alignerv1connect"
	"github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1/mergerv1connect"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/pgstore"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/merger/internal/columnar"
	"github.com/rasterloom/rasterloom/services/merger/internal/flight"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
	"github.com/rasterloom/rasterloom/services/merger/internal/rpc"
)

// Config is what the merger can be told. Zero values mean the defaults.
type Config struct {
	DatabaseURL   string      `help:"PostgreSQL that holds the cells." env:"DATABASE_URL" placeholder:"URL"`
	SchemaURL     string      `help:"Where the schema service is, which knows the layers." env:"RASTERLOOM_SCHEMA_URL" default:"http://127.0.0.1:7420" placeholder:"URL"`
	AlignerURL    string      `help:"Where the aligner service is, which relates grids." env:"RASTERLOOM_ALIGNER_URL" default:"http://127.0.0.1:7410" placeholder:"URL"`
	FlightURI     string      `help:"Flight address that clients are told to read tables from. Default: the address this process listens on." env:"RASTERLOOM_FLIGHT_URI" placeholder:"URI"`
	TicketKey     boot.Secret `help:"Secrets that sign tickets, the same for all mergers of a deployment, with blanks between them: the first one signs, and what any of them signed is good. Default: a random one, good for this process." env:"RASTERLOOM_TICKET_KEY" placeholder:"SECRET"`
	TicketKeyFile string      `help:"File with these secrets, a line each; read again when it changes." type:"path" env:"RASTERLOOM_TICKET_KEY_FILE" placeholder:"FILE"`

	MaxLayers      int   `help:"Largest number of layers of a merge." env:"RASTERLOOM_MAX_LAYERS" default:"256"`
	MaxCells       int64 `help:"Largest number of cells of a merge's window." env:"RASTERLOOM_MAX_CELLS" default:"68719476736"`
	MaxStreamBytes int64 `help:"Largest memory of one stream, in bytes." env:"RASTERLOOM_MAX_STREAM_BYTES" default:"402653184"`
	MemoryBytes    int64 `help:"Largest memory of all streams together, in bytes." env:"RASTERLOOM_MEMORY_BYTES" default:"536870912"`
	BandBytes      int64 `help:"Size of the bands that the lattice is cut into, in bytes." env:"RASTERLOOM_BAND_BYTES" default:"2097152"`
	MaxConnections int   `help:"Database connections of this process: each stream needs one." env:"RASTERLOOM_MAX_CONNECTIONS" default:"48"`
	Connections    int   `help:"Database connections that one stream reads over, while there are enough." env:"RASTERLOOM_STREAM_CONNECTIONS" default:"4"`

	UseLegacyMerge bool `help:"Deprecated: merge by one full outer join in SQL where a request does not say otherwise. See docs/legacy-merge.md." env:"RASTERLOOM_USE_LEGACY_MERGE"`

	StallLimit time.Duration `help:"How long a client may take nothing of a stream before it is dropped." env:"RASTERLOOM_STALL_LIMIT" default:"60s"`

	ExportDir      string `help:"Directory that exports are written to. Default: none, and exports are refused." env:"RASTERLOOM_EXPORT_DIR" placeholder:"DIR"`
	Exports        int    `help:"Exports that run at the same time." env:"RASTERLOOM_EXPORTS" default:"2"`
	WaitingExports int    `help:"Exports that may wait for others to end." env:"RASTERLOOM_WAITING_EXPORTS" default:"64"`
	ExportsEach    int    `help:"Exports of one principal that may run or wait." env:"RASTERLOOM_EXPORTS_EACH" default:"16"`

	lockTimeout time.Duration // of pgstore.Options; tests that lock a table change it
}

// New builds the service. Neither the database nor the other services have to
// answer by then: Check says whether the database does. Errors: as pgstore.Open.
func New(ctx context.Context, cfg Config, deps boot.Deps) (*boot.Service, error) {
	return build(ctx, cfg, deps, memory.DefaultAllocator)
}

// build is New with the allocator of Arrow's buffers, which tests check.
func build(ctx context.Context, cfg Config, deps boot.Deps, allocator memory.Allocator) (*boot.Service, error) {
	store, err := pgstore.Open(ctx, cfg.DatabaseURL, pgstore.Options{
		ApplicationName: "rasterloom-merger", MaxConnections: cfg.MaxConnections, LockTimeout: cfg.lockTimeout,
	})
	if err != nil {
		return nil, err
	}
	schema := schemav1connect.NewSchemaServiceClient(deps.HTTPClient, cfg.SchemaURL, wire.ClientOptions()...)
	aligner := alignerv1connect.NewAlignerServiceClient(deps.HTTPClient, cfg.AlignerURL, wire.ClientOptions()...)
	planner := rpc.NewPlanner(schema, aligner, merge.Limits{
		Layers: cfg.MaxLayers, Cells: cfg.MaxCells, MemoryBytes: cfg.MaxStreamBytes, BandBytes: cfg.BandBytes,
	})
	if planner.UseLegacy = cfg.UseLegacyMerge; planner.UseLegacy {
		deps.Log.Warn(merge.LegacyWarning)
	}
	keys, err := ticketKeys(cfg, deps.Log)
	if err != nil {
		store.Close()
		return nil, err
	}
	uri := cfg.FlightURI
	if uri == "" {
		uri = deps.FlightURI
	}
	budget := merge.NewBudget(cfg.MemoryBytes, 0, deps.Leased)
	cells := cellSource{pgstore.NewCellReader(store, pgstore.CellOptions{Connections: cfg.Connections})}
	queue, drain, stop, err := exports(cfg, deps, cells, planner, budget, allocator)
	if err != nil {
		store.Close()
		return nil, err
	}
	path, handler := mergerv1connect.NewMergerServiceHandler(rpc.NewHandler(planner, uri, columnar.EncodeSchema, comparison(cells.reader, budget)), wire.Options()...)
	exportPath, exportHandler := mergerv1connect.NewExportServiceHandler(rpc.NewExportHandler(planner, queue), wire.Options()...)

	streams := flight.NewServer(planner, cells, flight.Options{
		TicketKeys: keys, Budget: budget, Stall: cfg.StallLimit, Allocator: allocator, Metrics: deps.Metrics,
	})
	return &boot.Service{
		Name:     mergerv1connect.MergerServiceName,
		Handlers: map[string]http.Handler{path: handler, exportPath: exportHandler},
		Flight:   &boot.Flight{Register: streams.Register, Options: []grpc.ServerOption{grpc.ForceServerCodecV2(flight.Codec())}},
		Check:    store.Ping,
		Drain:    drain,
		Close:    func() { stop(); store.Close() },
	}, nil
}

// cellSource joins storage to the room that streams: each names the other's
// part by an interface of its own.
type cellSource struct{ reader *pgstore.CellReader }

// Open implements flight.Cells.
func (c cellSource) Open(ctx context.Context, requests []layer.CellRequest) ([]merge.Source, func(), error) {
	set, err := c.reader.Open(ctx, requests)
	if err != nil {
		return nil, nil, err
	}
	sources := make([]merge.Source, len(requests))
	for i := range sources {
		sources[i] = set.Stream(i)
	}
	return sources, set.Close, nil
}
