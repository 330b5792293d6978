package pgstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// EnsureView gives SQL users the coordinates of a layer that stores none: a view
// beside the table that computes them. It runs with the rights of whoever reads
// it, so it opens nothing. Repeating it changes nothing. Errors: Precondition
// CELL_OFF_GRID when rows lie outside of the grid, Exists when the view's name is
// taken by something else.
func (m *Migrations) EnsureView(ctx context.Context, l layer.Layer) (layer.Table, error) {
	view := layer.Table{Schema: l.Table.Schema, Name: viewName(l.Table.Name)}
	table, name := quoted(l.Table.Schema, l.Table.Name), quoted(view.Schema, view.Name)
	err := pgx.BeginFunc(ctx, m.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('lock_timeout', $1, true)", lockWait); err != nil {
			return err
		}
		var version int
		if err := tx.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
			return err
		}
		if version < 150000 {
			return fault.New(fault.Unsupported, fault.NotSupported, "views with the rights of whoever reads them need PostgreSQL 15; store the coordinates instead").
				With("layer", l.Name)
		}
		// By the ends of the key, so that it takes no time. Columns out of range
		// are for a comparison of all rows.
		var outside *int64
		if err := tx.QueryRow(ctx, fmt.Sprintf(`SELECT r::int8 FROM (SELECT min(row_idx) AS lo, max(row_idx) AS hi FROM %s) e,
			LATERAL (VALUES (lo), (hi)) v (r) WHERE r NOT BETWEEN 0 AND $1 LIMIT 1`, table), l.Grid.Rows-1).Scan(&outside); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if outside != nil {
			return fault.New(fault.Precondition, fault.CellOffGrid, "layer %q has a row with row_idx %d, outside of its grid of %d rows",
				l.Name, *outside, l.Grid.Rows).With("layer", l.Name).With("row", *outside).With("rows", l.Grid.Rows)
		}
		mark := viewMark(l.Name) + migrate.GridHash(l.Grid)
		var kind, comment string
		err := tx.QueryRow(ctx, `SELECT c.relkind::text, coalesce(obj_description(c.oid, 'pg_class'), '') FROM pg_class c
			JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2`, view.Schema, view.Name).Scan(&kind, &comment)
		switch {
		case err == nil && comment == mark:
			return nil
		case err == nil && (kind != "v" || !strings.HasPrefix(comment, "Rasterloom: ")):
			return fault.New(fault.Exists, fault.InvalidArgument, "there is a %s already, which is not the view of layer %q", view, l.Name).
				With("layer", l.Name).With("view", view)
		case err != nil && !errors.Is(err, pgx.ErrNoRows):
			return err
		}
		x, y := formulas(l.Grid, l.SouthUp)
		for _, sql := range []string{
			fmt.Sprintf("CREATE OR REPLACE VIEW %s WITH (security_invoker = true) AS SELECT row_idx, col_idx, %s AS x, %s AS y, value FROM %s", name, x, y, table),
			"COMMENT ON VIEW " + name + " IS " + text(mark),
			"GRANT SELECT ON " + name + " TO PUBLIC",
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
	return view, faultOf(err)
}

// viewMark begins the comment by which the view of a layer is known as ours.
func viewMark(layerName string) string {
	return "Rasterloom: coordinates of layer " + layerName + ", grid "
}

// dropView removes the view of a layer. One that others have built upon stays: it
// is theirs to take down.
func (t *Tx) dropView(ctx context.Context, l layer.Layer) error {
	if l.Table.Name == "" {
		return nil
	}
	view := layer.Table{Schema: l.Table.Schema, Name: viewName(l.Table.Name)}
	var ours bool
	if err := t.tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind = 'v' AND starts_with(obj_description(c.oid, 'pg_class'), $3))`,
		view.Schema, view.Name, viewMark(l.Name)).Scan(&ours); err != nil || !ours {
		return err
	}
	err := pgx.BeginFunc(ctx, t.tx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "DROP VIEW "+quoted(view.Schema, view.Name))
		return err
	})
	if isCode(err, "2BP01") { // dependent_objects_still_exist
		return nil
	}
	return err
}

// viewName is the table's with _xy, shortened where it would be too long for an
// identifier.
func viewName(table string) string {
	const suffix, limit = "_xy", 63
	if len(table)+len(suffix) <= limit {
		return table + suffix
	}
	sum := sha256.Sum256([]byte(table))
	keep := limit - len(suffix) - 9
	for keep > 0 && table[keep]&0xC0 == 0x80 { // not within a character
		keep--
	}
	return table[:keep] + "_" + hex.EncodeToString(sum[:4]) + suffix
}
