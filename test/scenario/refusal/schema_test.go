package refusal_test

import (
	"fmt"
	"strings"

	_ "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1" // the messages, by their names
)

// tables are the old system's, good and bad; plain has a layer without a
// migration, and a temporary table is made by the session that is asked for it.
var tables = []string{
	`CREATE TABLE public.plain (row_idx int, col_idx int, value double precision, PRIMARY KEY (row_idx, col_idx))`,
	`INSERT INTO public.plain SELECT r, c, r * 10 + c FROM generate_series(0, 3) r, generate_series(0, 5) c`,
	`CREATE TABLE public.moved (LIKE public.plain INCLUDING ALL)`,
	`INSERT INTO public.moved SELECT * FROM public.plain`,
	`CREATE TABLE public.swapped (LIKE public.plain INCLUDING ALL)`,
	`INSERT INTO public.swapped SELECT * FROM public.plain`,
	`CREATE VIEW public.a_view AS SELECT * FROM public.plain`,
	`CREATE FOREIGN DATA WRAPPER nothing`,
	`CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing`,
	`CREATE FOREIGN TABLE public.a_foreign (row_idx int, col_idx int, value double precision) SERVER nowhere`,
	`CREATE TABLE public.a_parted (row_idx int, col_idx int, value double precision) PARTITION BY RANGE (row_idx)`,
	`CREATE TABLE public.text_x (row_idx int, col_idx int, x_coord text, y_coord double precision, value real)`,
	`CREATE TABLE public.no_value (row_idx int, col_idx int, val real)`,
	`CREATE TABLE public.twice AS SELECT * FROM public.plain`,
	`INSERT INTO public.twice VALUES (1, 1, 0), (1, 1, 2), (2, 2, NULL)`,
	`CREATE TABLE public.nulls AS SELECT * FROM public.plain`,
	`INSERT INTO public.nulls VALUES (NULL, 1, 0), (1, NULL, 2)`,
	`CREATE TABLE public.outside AS SELECT * FROM public.plain`,
	`INSERT INTO public.outside VALUES (4, 1, 0), (1, -1, 2)`,
	`CREATE TABLE public.coarse AS SELECT * FROM public.plain WHERE row_idx < 2 AND col_idx < 3`,
	`CREATE TABLE public.elsewhere AS SELECT * FROM public.plain`,
	`CREATE TABLE public.far AS SELECT * FROM public.plain`,
	`CREATE TABLE public.gone AS SELECT * FROM public.plain`,
}

// extents are of the tables that are layers.
var extents = map[string]string{
	"plain": goodExtent, "moved": goodExtent, "swapped": goodExtent, "gone": goodExtent,
	"coarse":    `{"crs": "EPSG:32633", "bounds": [1000, 1960, 1060, 2000], "rows": "2", "cols": "3"}`,
	"elsewhere": `{"crs": "EPSG:3035", "bounds": [1000, 1960, 1060, 2000], "rows": "4", "cols": "6"}`,
	"far":       `{"crs": "EPSG:32633", "bounds": [91000, 1960, 91060, 2000], "rows": "4", "cols": "6"}`,
}

const goodExtent = `{"crs": "EPSG:32633", "bounds": [1000, 1960, 1060, 2000], "rows": "4", "cols": "6"}`

func register(name, schema, table, extent string) string {
	return object("name", quote(name), "table", object("schema", quote(schema), "name", quote(table)), "extent", extent)
}

// etags are of the migrations m1 (VERIFIED) and m2 (CUT_OVER).
type etags struct{ m1, m2 string }

// schemaRefusals are the rows of the schema service.
func schemaRefusals(temporary string, etag etags) (list refusals) {
	add := list.add
	// Names.
	for _, bad := range []string{"", strings.Repeat("x", 64), "a\x00b", "a\nb", "a\u202eb", `x"; DROP TABLE y; --`, "pg_temp.x"} {
		add(schemaService+"RegisterLayer", fmt.Sprintf("layer %.20q", bad), register(bad, "public", "plain", goodExtent), "invalid_argument", "INVALID_ARGUMENT")
		add(schemaService+"RegisterLayer", fmt.Sprintf("table %.20q", bad), register("l", "public", bad, goodExtent), "invalid_argument", "INVALID_ARGUMENT")
		for _, mode := range []string{"CHECK", "VERIFY", "READABLE", "STORED"} {
			code, reason := "not_found", "LAYER_NOT_FOUND" // the name of a layer is a value, and may be any text
			if bad == "" || strings.Contains(bad, "\x00") {
				code, reason = "invalid_argument", "INVALID_ARGUMENT"
			}
			add(coordinateService+"EnsureCoordinates", fmt.Sprintf("%s of %.20q", mode, bad),
				object("layer", quote(bad), "mode", quote("ENSURE_MODE_"+mode)), code, reason)
		}
	}
	for _, schema := range []string{"pg_catalog", "information_schema", "rasterloom", "pg_toast"} {
		add(schemaService+"RegisterLayer", "system schema "+schema, register("l", schema, "pg_class", goodExtent), "permission_denied", "DATABASE_PERMISSION")
		add(schemaService+"AdoptCatalog", "system schema "+schema, object("table", object("schema", quote(schema), "name", `"pg_class"`)), "permission_denied", "DATABASE_PERMISSION")
	}
	add(schemaService+"AdoptCatalog", "no such catalog", `{"table": {"schema": "public", "name": "nothing"}}`, "not_found", "CATALOG_NOT_FOUND")
	add(schemaService+"AdoptCatalog", "not shaped like a catalog", `{"table": {"schema": "public", "name": "plain"}}`, "failed_precondition", "CATALOG_NOT_FOUND")
	// Tables.
	add(schemaService+"RegisterLayer", "missing table", register("l", "public", "nothing", goodExtent), "not_found", "TABLE_NOT_FOUND")
	for table, reason := range map[string]string{
		"a_view": "LAYER_UNREADABLE", "a_foreign": "LAYER_UNREADABLE", "a_parted": "LAYER_UNREADABLE", "text_x": "LAYER_UNREADABLE",
		"no_value": "LAYER_UNREADABLE", "nulls": "LAYER_UNREADABLE", "twice": "DUPLICATE_CELL", "outside": "CELL_OFF_GRID",
	} {
		add(schemaService+"RegisterLayer", table, register("l", "public", table, goodExtent), "failed_precondition", reason)
	}
	add(schemaService+"RegisterLayer", "a temporary table", register("l", temporary, "a_temporary", goodExtent), "failed_precondition", "LAYER_UNREADABLE")
	// Grids.
	box := `"crs": "EPSG:32633", "bounds": [1000, 1960, 1060, 2000]`
	for name, extent := range map[string]string{
		"resolution 0":      `{` + box + `, "resolution": 0}`,
		"resolution -1":     `{` + box + `, "resolution": -1}`,
		"resolution NaN":    `{` + box + `, "resolution": "NaN"}`,
		"resolution Inf":    `{` + box + `, "resolution": "Infinity"}`,
		"resolution 1e-300": `{` + box + `, "resolution": 1e-300}`,
		"a part of a cell":  `{` + box + `, "resolution": 7}`,
		"2^53+1 cells":      `{` + box + `, "rows": "1", "cols": "9007199254740993"}`,
		"no shape":          `{` + box + `}`,
		"min above max":     `{"bounds": [2000, 1960, 1060, 2000], "rows": "4", "cols": "6"}`,
		"min at max":        `{"bounds": [1000, 2000, 1060, 2000], "rows": "4", "cols": "6"}`,
		"NaN bounds":        `{"bounds": [1000, 1960, 1060, "NaN"], "rows": "4", "cols": "6"}`,
		"3 bounds":          `{"bounds": [1000, 1960, 1060], "rows": "4", "cols": "6"}`,
		"5 bounds":          `{"bounds": [1000, 1960, 1060, 2000, 1], "rows": "4", "cols": "6"}`,
	} {
		add(schemaService+"RegisterLayer", name, register("l", "public", "plain", extent), "invalid_argument", "INVALID_GRID")
	}
	// Sizes, of a message and of what a small one unpacks to.
	for method, key := range map[string]string{
		schemaService + "GetLayer": "name", migrationService + "GetMigration": "id", coordinateService + "EnsureCoordinates": "layer",
	} {
		add(method, "5 MiB", object(key, quote(strings.Repeat("x", 5<<20))), "resource_exhausted", "")
	}
	list = append(list, refusal{
		Name: "gzip bomb of 32 MiB", Method: schemaService + "GetLayer", Request: object("name", quote(strings.Repeat("x", 32<<20))), Gzip: true,
		code: "resource_exhausted",
	})
	// Starting.
	start := func(layer, key string, more ...string) string {
		return object("spec", object(append([]string{"layer", quote(layer)}, more...)...), "idempotencyKey", quote(key))
	}
	list = append(list, refusal{
		Name: "same key, same spec", Method: migrationService + "StartMigration", Request: start("moved", "key 1"), code: "ok", answer: `"id":"m1"`,
	})
	add(migrationService+"StartMigration", "same key, other spec", start("moved", "key 1", "rowsPerSecondLimit", `"5"`), "already_exists", "MIGRATION_EXISTS")
	add(migrationService+"StartMigration", "same key, other layer", start("plain", "key 1"), "already_exists", "MIGRATION_EXISTS")
	add(migrationService+"StartMigration", "a live migration", start("moved", "key 9"), "already_exists", "MIGRATION_EXISTS")
	add(migrationService+"StartMigration", "no key", start("plain", ""), "invalid_argument", "INVALID_ARGUMENT")
	add(migrationService+"StartMigration", "no spec", `{"idempotencyKey": "key 9"}`, "invalid_argument", "INVALID_ARGUMENT")
	add(migrationService+"StartMigration", "unknown layer", start("nobody", "key 9"), "not_found", "LAYER_NOT_FOUND")
	add(migrationService+"StartMigration", "negative limit", start("plain", "key 9", "rowsPerSecondLimit", `"-1"`), "invalid_argument", "INVALID_ARGUMENT")
	// Cut-over, rollback, finalize: wrong state, stale etag, no such migration.
	call := func(id, etag string) string { return object("id", quote(id), "etag", quote(etag)) }
	final := func(id, etag string) string {
		return object("id", quote(id), "etag", quote(etag), "dropOldTable", "true")
	}
	add(migrationService+"CutOver", "in CUT_OVER", call("m2", etag.m2), "failed_precondition", "MIGRATION_STATE")
	add(migrationService+"Rollback", "in VERIFIED", call("m1", etag.m1), "failed_precondition", "MIGRATION_STATE")
	add(migrationService+"Finalize", "in VERIFIED", final("m1", etag.m1), "failed_precondition", "MIGRATION_STATE")
	add(migrationService+"AbortMigration", "in CUT_OVER", call("m2", etag.m2), "failed_precondition", "MIGRATION_STATE")
	add(migrationService+"PauseMigration", "in VERIFIED", call("m1", etag.m1), "failed_precondition", "MIGRATION_STATE")
	for _, stale := range []string{"", "0", etag.m1 + "0"} {
		add(migrationService+"CutOver", "etag "+stale, call("m1", stale), "aborted", "MIGRATION_CHANGED")
		add(migrationService+"AbortMigration", "etag "+stale, call("m1", stale), "aborted", "MIGRATION_CHANGED")
		add(migrationService+"Rollback", "etag "+stale, call("m2", stale), "aborted", "MIGRATION_CHANGED")
		add(migrationService+"Finalize", "etag "+stale, final("m2", stale), "aborted", "MIGRATION_CHANGED")
	}
	add(migrationService+"Finalize", "without saying that the old table goes", call("m2", etag.m2), "invalid_argument", "INVALID_ARGUMENT")
	for _, method := range []string{"CutOver", "Rollback", "AbortMigration", "GetMigration"} {
		for _, id := range []string{"", "17", "m0", "m-1", "m1; DROP TABLE x", "m99999999999999999999"} {
			add(migrationService+method, fmt.Sprintf("id %q", id), object("id", quote(id)), "invalid_argument", "INVALID_ARGUMENT")
		}
		add(migrationService+method, "unknown id", object("id", `"m4711"`), "not_found", "MIGRATION_NOT_FOUND")
	}
	return list
}
