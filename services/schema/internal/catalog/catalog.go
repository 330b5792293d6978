// Package catalog decides what a stored layer is: it reads the claims of an
// existing catalog against the evidence of the database, and keeps the result.
//
// Deciding is pure (Claim): the same claims and evidence give the same layer.
// What has to be asked of a database goes through the interfaces Store and Tx.
package catalog

import (
	"context"

	"github.com/rasterloom/rasterloom/internal/layer"
)

// Store is our catalog of layers.
type Store interface {
	// Layers gives those of these names that exist, by name.
	Layers(ctx context.Context, names []string) ([]layer.Record, error)
	// Look begins a transaction that reads; Change one that may write, of which
	// there is one at a time.
	Look(ctx context.Context) (Tx, error)
	Change(ctx context.Context) (Tx, error)
	// Page gives at most limit layers by name, from the first after a name.
	Page(ctx context.Context, f Filter, after string, limit int) ([]layer.Record, error)
	Count(ctx context.Context, f Filter) (int64, error)
	// LayerNames gives at most limit names.
	LayerNames(ctx context.Context, limit int) ([]string, error)
}

// Filter chooses layers.
type Filter struct {
	NameContains string // in any case; empty: all
	Formats      []layer.Format
}

// Tx is a transaction over existing catalogs, pixel tables and our catalog.
type Tx interface {
	CatalogRows(ctx context.Context, table layer.Table) (oid uint32, rows []layer.CatalogRow, err error)
	// CatalogRowsNamed gives those of one name.
	CatalogRowsNamed(ctx context.Context, table layer.Table, name string) ([]layer.CatalogRow, error)
	// Relations answers in request order.
	Relations(ctx context.Context, tables []layer.Table) ([]layer.Relation, error)
	Survey(ctx context.Context, s layer.Survey) (layer.Findings, error)
	// Surveys surveys samples, in request order; where one fails, those before
	// it are given with the error.
	Surveys(ctx context.Context, s []layer.Survey) ([]layer.Findings, error)
	CheckCoordinates(ctx context.Context, c layer.CoordinateCheck) (layer.CoordinateFindings, error)
	Layers(ctx context.Context, names []string) ([]layer.Record, error)
	LayersOf(ctx context.Context, source layer.Table, oid uint32) ([]string, error)
	LayersOfTable(ctx context.Context, table layer.Table) ([]string, error)
	// LiveMigration gives the migration of a layer, or of its table, that is not
	// over; an empty id when there is none. None can start until the
	// transaction ends.
	LiveMigration(ctx context.Context, l layer.Layer) (id, state string, err error)
	// TiledTables gives the tables of which tiles were made that layers are read
	// from now, and where these are, among tables that are either.
	TiledTables(ctx context.Context, tables []layer.Table) ([]layer.TiledTable, error)
	// Save sets UpdateTime, and Generation where a layer of that name was dropped.
	Save(ctx context.Context, records []layer.Record) error
	Drop(ctx context.Context, l layer.Layer) error
	// DropTileTable refuses tables that are not of tiles of ours.
	DropTileTable(ctx context.Context, table layer.Table) error
	Commit(ctx context.Context) error
	Rollback(ctx context.Context)
}

// Keeper keeps the catalog of layers.
type Keeper struct {
	store Store
}

// New makes a keeper over a store.
func New(store Store) *Keeper { return &Keeper{store: store} }
