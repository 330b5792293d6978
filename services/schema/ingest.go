package schema

import (
	"context"
	"net/http"
	"time"

	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/pgstore"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/schema/internal/catalog"
	"github.com/rasterloom/rasterloom/services/schema/internal/flight"
	"github.com/rasterloom/rasterloom/services/schema/internal/ingest"
	"github.com/rasterloom/rasterloom/services/schema/internal/rpc"
)

// IngestConfig is what can be told about taking rasters from clients. Zero values
// mean the defaults.
type IngestConfig struct {
	FlightURI   string        `help:"Flight address that clients are told to send cells to. Default: the address this process listens on." env:"RASTERLOOM_INGEST_FLIGHT_URI" placeholder:"URI"`
	MaxCells    int64         `help:"Largest number of cells of a grid." env:"RASTERLOOM_INGEST_MAX_CELLS" default:"68719476736"`
	MaxBytes    int64         `help:"Largest number of bytes of values of one stream." env:"RASTERLOOM_INGEST_MAX_BYTES" default:"274877906944"`
	MemoryBytes int64         `help:"Largest memory of one stream for cells that come out of order, in bytes." env:"RASTERLOOM_INGEST_MEMORY_BYTES" default:"134217728"`
	Streams     int           `help:"Largest number of streams at the same time." env:"RASTERLOOM_INGEST_STREAMS" default:"4"`
	StallLimit  time.Duration `help:"How long a client may send nothing before it is dropped." env:"RASTERLOOM_INGEST_STALL_LIMIT" default:"60s"`
}

// ingests builds the part of the service that takes rasters.
func ingests(db *pgstore.Store, ready func() error, keeper *catalog.Keeper, cfg IngestConfig, deps boot.Deps) (path string, handler http.Handler, puts *boot.Flight) {
	ingester := ingest.New(keeper, ingestStore{db, ready}, ingest.Limits{
		Cells: cfg.MaxCells, StreamBytes: cfg.MaxBytes, MemoryBytes: cfg.MemoryBytes, Streams: cfg.Streams,
	}, deps.Leased)
	uri := cfg.FlightURI
	if uri == "" {
		uri = deps.FlightURI
	}
	server := flight.NewServer(ingester, rpc.IngestCommand, cfg.StallLimit)
	path, handler = schemav1connect.NewIngestServiceHandler(rpc.NewIngests(ingester, uri), wire.Options()...)
	return path, handler, &boot.Flight{Register: server.Register, Calls: server.Calls()}
}

// ingestStore is a pgstore.Store as ingests want it.
type ingestStore struct {
	db    *pgstore.Store
	ready func() error
}

// Done implements ingest.Store.
func (s ingestStore) Done(ctx context.Context, key string) (*layer.Ingest, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	return s.db.IngestDone(ctx, key)
}

// Begin implements ingest.Store.
func (s ingestStore) Begin(ctx context.Context, name string) (ingest.Tx, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	tx, err := s.db.Ingest(ctx, name)
	if err != nil {
		return nil, err
	}
	return tx, nil
}

// Sweep implements ingest.Store.
func (s ingestStore) Sweep(ctx context.Context) error { return s.db.SweepTiles(ctx) }
