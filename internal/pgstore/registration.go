package pgstore

import (
	"context"
	_ "embed"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

//go:embed layer_drop.sql
var layerDropSQL string

//go:embed tiled_tables.sql
var tiledTablesSQL string

// Drop removes a layer from our catalog, and our view beside its table, unless
// views of others read it. The table is not touched. Errors: as any query.
func (t *Tx) Drop(ctx context.Context, l layer.Layer) error {
	if err := t.dropView(ctx, l); err != nil {
		return faultOf(err)
	}
	_, err := t.tx.Exec(ctx, layerDropSQL, l.Name)
	return faultOf(err)
}

// LiveMigration gives the id and the state of a migration of the layer, or of its
// table, that is not over; empty when there is none. It locks the layer, so that
// none can start until the transaction ends. Errors: as any query.
func (t *Tx) LiveMigration(ctx context.Context, l layer.Layer) (id, state string, err error) {
	if _, err := t.tx.Exec(ctx, "SELECT FROM rasterloom.layer WHERE name = $1 FOR UPDATE", l.Name); err != nil {
		return "", "", faultOf(err)
	}
	var n migrate.ID
	err = t.tx.QueryRow(ctx, `SELECT id, state FROM rasterloom.migration
		WHERE (layer = $1 OR (table_schema = $2 AND table_name = $3)) AND state NOT IN ('FINALIZED', 'ROLLED_BACK', 'ABORTED')
		ORDER BY id DESC LIMIT 1`, l.Name, l.Table.Schema, l.Table.Name).Scan((*int64)(&n), &state)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", "", nil
	}
	if err != nil {
		return "", "", faultOf(err)
	}
	return n.String(), string(stateOf(state)), nil
}

// LayersOfTable gives the names of the layers whose cells are in a table, by
// name. Errors: as any query.
func (t *Tx) LayersOfTable(ctx context.Context, table layer.Table) ([]string, error) {
	// By both: a table that was renamed has another name than it is catalogued with,
	// one that was restored from a dump another oid.
	rows, err := t.tx.Query(ctx, `SELECT l.name FROM rasterloom.layer l WHERE (l.table_schema, l.table_name) = ($1, $2) OR l.table_oid = (
		SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE (n.nspname, c.relname) = ($1, $2)) ORDER BY l.name`, table.Schema, table.Name)
	if err != nil {
		return nil, faultOf(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return names, faultOf(err)
}

// TiledTables gives the tables of which a migration made tiles that layers are read
// from now, and where these are, among tables that are either. Tiles are found by the
// name that was noted with them: an oid is another one after a restore from a dump.
// Errors: as any query.
func (t *Tx) TiledTables(ctx context.Context, tables []layer.Table) ([]layer.TiledTable, error) {
	schemas, names := make([]string, len(tables)), make([]string, len(tables))
	for i, table := range tables {
		schemas[i], names[i] = table.Schema, table.Name
	}
	rows, err := t.tx.Query(ctx, tiledTablesSQL, schemas, names)
	if err != nil {
		return nil, faultOf(err)
	}
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (t layer.TiledTable, err error) {
		return t, r.Scan(&t.Pixels.Schema, &t.Pixels.Name, &t.Tiles.Schema, &t.Tiles.Name, &t.PixelsOID)
	})
	return list, faultOf(err)
}
