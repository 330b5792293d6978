package migration_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/internal/pgstore/migration"
)

// column is what a program reads and writes by.
type column struct {
	Table, Column, Type string
	// Needed is true where an INSERT has to name it.
	Needed bool
}

func columns(t *testing.T, conn *pgx.Conn) map[[2]string]column {
	t.Helper()
	rows, err := conn.Query(t.Context(), `
		SELECT c.oid::regclass::text, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = ''
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE c.relnamespace = 'rasterloom'::regnamespace AND c.relkind = 'r'`)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
	if err != nil {
		t.Fatal(err)
	}
	found := map[[2]string]column{}
	for _, c := range list {
		found[[2]string{c.Table, c.Column}] = c
	}
	return found
}

// While a deployment is renewed, a program of the version before works on the
// new catalog: every table and column that it knows is still there, of the same
// type, and what it writes need not name anything new.
func TestEachVersionIsCompatibleOneStepBack(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	do(t, conn, `DROP SCHEMA IF EXISTS rasterloom CASCADE`)
	do(t, conn, `DROP SCHEMA IF EXISTS rasterloom_tiles CASCADE`)
	known := map[[2]string]column{}
	for version := int64(1); version <= migration.Versions(); version++ {
		if err := migration.UpTo(t.Context(), conn.Config(), version); err != nil {
			t.Fatal(err)
		}
		now := columns(t, conn)
		tables := map[string]bool{}
		for key, was := range known {
			tables[was.Table] = true
			is, there := now[key]
			if !there || is.Type != was.Type || is.Needed && !was.Needed {
				t.Errorf("version %d takes %s.%s (%s) from the programs before it: it is %+v", version, was.Table, was.Column, was.Type, is)
			}
		}
		for key, is := range now {
			if _, old := known[key]; !old && tables[is.Table] && is.Needed {
				t.Errorf("version %d: programs before it cannot insert into %s, which needs %s", version, is.Table, is.Column)
			}
		}
		known = now
	}
	if len(known) < 30 {
		t.Errorf("only %d columns were looked at", len(known))
	}
}

// A program of before starts on a catalog that is newer than it.
func TestACatalogMayBeNewerThanItsProgram(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	do(t, conn, `INSERT INTO rasterloom.schema_version (version_id, is_applied) VALUES (99999, true)`)
	if _, applied, err := migration.Up(t.Context(), conn.Config()); err != nil || applied != 0 {
		t.Errorf("%d applied, %v", applied, err)
	}
}

// A migration to tiles that was begun before its states got names of their own goes
// on under these, and no other one is touched.
func TestMigrationsToTilesGetStatesOfTheirOwn(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	do(t, conn, `DROP SCHEMA IF EXISTS rasterloom CASCADE`)
	do(t, conn, `DROP SCHEMA IF EXISTS rasterloom_tiles CASCADE`)
	if err := migration.UpTo(t.Context(), conn.Config(), 8); err != nil {
		t.Fatal(err)
	}
	do(t, conn, `INSERT INTO rasterloom.migration (idempotency_key, layer, level, tiles, state, condition, rows_per_second, table_schema, table_name, old_table, signature, old_file,
			crs, grid_rows, grid_cols, origin_x, origin_y, step_x, step_y, south_up, old_format, old_registration, rows_total)
		SELECT n, n, level, tiles, state, 'RUNNING', 0, 'public', n, 0, '', 0, '', 1, 1, 0, 0, 1, 1, false, 'LEGACY', 'CENTER', 0
		FROM (VALUES ('a', 'TILED', jsonb '{}', 'BACKFILLING'), ('b', 'TILED', '{}', 'FINALIZED'), ('c', 'STORED', NULL, 'CUT_OVER')) m (n, level, tiles, state)`)
	if _, _, err := migration.Up(t.Context(), conn.Config()); err != nil {
		t.Fatal(err)
	}
	var states string
	if err := conn.QueryRow(t.Context(), `SELECT string_agg(state, ' ' ORDER BY layer) FROM rasterloom.migration`).Scan(&states); err != nil {
		t.Fatal(err)
	}
	if states != "TILED_BACKFILLING FINALIZED CUT_OVER" {
		t.Errorf("the states are %s", states)
	}
}

// Tiles of before have their names noted, also where the catalog alone still knows
// them because the database was restored from a dump.
func TestTilesOfBeforeGetTheirNames(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	do(t, conn, `DROP SCHEMA IF EXISTS rasterloom CASCADE`)
	do(t, conn, `DROP SCHEMA IF EXISTS rasterloom_tiles CASCADE`)
	if err := migration.UpTo(t.Context(), conn.Config(), 9); err != nil {
		t.Fatal(err)
	}
	do(t, conn, `CREATE TABLE rasterloom_tiles.there ()`)
	do(t, conn, `CREATE TABLE public.stranger ()`)
	do(t, conn, `INSERT INTO rasterloom.layer (name, band, format, crs, table_schema, table_name, table_oid, table_file, declared_type, stored_type, registration,
			south_up, has_indices, has_coordinates, has_key, estimated_rows, problems, source_schema, source_table, source_oid, generation, tiling)
		VALUES ('b', '', 'TILED', '', 'rasterloom_tiles', 'catalogued', 1, 0, 'float64', 'float64', 'CENTER', false, false, false, true, 0, '[]', '', '', 0, 1, '{}')`)
	do(t, conn, `INSERT INTO rasterloom.migration (idempotency_key, layer, level, tiles, state, condition, rows_per_second, table_schema, table_name, old_table, new_table, signature, old_file,
			crs, grid_rows, grid_cols, origin_x, origin_y, step_x, step_y, south_up, old_format, old_registration, rows_total)
		SELECT n, n, 'TILED', '{}', state, 'RUNNING', 0, 'public', n, 0, oid, '', 0, '', 1, 1, 0, 0, 1, 1, false, 'LEGACY', 'CENTER', 0
		FROM (VALUES ('a', 'TILED_VERIFIED', 'rasterloom_tiles.there'::regclass::oid), ('b', 'FINALIZED', 1), ('c', 'TILED_CUT_OVER', 'public.stranger'::regclass::oid),
			('d', 'TILED_PLANNED', NULL)) m (n, state, oid)`)
	if _, _, err := migration.Up(t.Context(), conn.Config()); err != nil {
		t.Fatal(err)
	}
	var names string
	if err := conn.QueryRow(t.Context(), `SELECT string_agg(coalesce(tiles_schema || '.' || tiles_name, '-'), ' ' ORDER BY layer) FROM rasterloom.migration`).Scan(&names); err != nil {
		t.Fatal(err)
	}
	if names != "rasterloom_tiles.there rasterloom_tiles.catalogued - -" {
		t.Errorf("the names are %s", names)
	}
}
