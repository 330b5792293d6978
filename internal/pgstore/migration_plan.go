package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// Plan says what a migration of a layer would do, and what stands in its way.
// It reads the whole table once and writes nothing. headroom is the free space on
// the server's disk, in bytes, as an operator says; nil: it is measured where the
// server runs on this machine. Errors: NotFound
// LAYER_NOT_FOUND when the layer's table does not exist.
func (m *Migrations) Plan(ctx context.Context, spec migrate.Spec, l layer.Layer, headroom *int64) (migrate.Plan, error) {
	if err := spec.Check(); err != nil {
		return migrate.Plan{}, err
	}
	plan, _, err := m.plan(ctx, spec, l, headroom)
	return plan, faultOf(err)
}

func (m *Migrations) plan(ctx context.Context, spec migrate.Spec, l layer.Layer, headroom *int64) (plan migrate.Plan, t pixelTable, err error) {
	plan.Spec = spec
	refusal, explain := unfit(l), explain
	if spec.Level == migrate.LevelTiled {
		refusal, explain = notPixels(l), explainTiled
	}
	if refusal != nil {
		plan.Refusals = append(plan.Refusals, *refusal)
		return plan, t, nil
	}
	err = pgx.BeginTxFunc(ctx, m.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, readSettings, lockWait); err != nil {
			return err
		}
		if t, err = tableNamed(ctx, tx, l); err != nil {
			return err
		}
		if err := explain(ctx, tx, &plan, t, l); err != nil {
			return err
		}
		plan.Headroom, err = headroomFor(ctx, tx, t, headroom)
		if err == nil && plan.Headroom == nil {
			plan.Notices = append(plan.Notices, headroomUnknown)
		}
		return err
	})
	return plan, t, err
}

// unfit refuses a layer to which no coordinates can be given.
func unfit(l layer.Layer) *migrate.Refusal {
	switch {
	case l.Format != layer.FormatLegacy:
		return notLegacy(l)
	case !l.HasGrid:
		return &migrate.Refusal{Code: "NO_GRID",
			Message: fmt.Sprintf("layer %q has no grid, so its coordinates are not known", l.Name),
			Fix:     "correct the bounds and the shape in the catalog table and adopt it again"}
	}
	return nil
}

const headroomUnknown = "the free space of the server's disk is not known here, so it is not compared with what is needed; say it with disk_headroom_bytes (--disk-headroom)"

// tableNamed looks at a layer's table. Errors: NotFound LAYER_NOT_FOUND.
func tableNamed(ctx context.Context, tx pgx.Tx, l layer.Layer) (t pixelTable, err error) {
	var oid uint32
	err = tx.QueryRow(ctx, `SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2`, l.Table.Schema, l.Table.Name).Scan(&oid)
	if errors.Is(err, pgx.ErrNoRows) {
		return t, fault.New(fault.NotFound, fault.LayerNotFound, "layer %q: there is no table %s", l.Name, l.Table).
			With("layer", l.Name).With("table", l.Table)
	}
	if err != nil {
		return t, err
	}
	t, _, err = readTable(ctx, tx, oid)
	return t, err
}

func notLegacy(l layer.Layer) *migrate.Refusal {
	switch l.Format {
	case layer.FormatCoordinate, layer.FormatWindowed:
		return &migrate.Refusal{Code: "ALREADY_STORED", Message: fmt.Sprintf("layer %q has its coordinates stored already (%s)", l.Name, l.Format)}
	case layer.FormatPartial:
		return &migrate.Refusal{Code: "PARTIAL", Message: fmt.Sprintf("layer %q has coordinate columns that are not filled throughout", l.Name),
			Fix: "drop the columns x_coord and y_coord, adopt the catalog again, and migrate"}
	default:
		refusal := &migrate.Refusal{Code: "UNREADABLE", Message: fmt.Sprintf("layer %q is %s", l.Name, l.Format)}
		if err := l.CheckReadable(); err != nil {
			refusal.Message = err.Error()
		}
		return refusal
	}
}

// otherThanTable says what a relation is that is no ordinary, permanent table on a
// heap, and what can be done about it.
func (t pixelTable) otherThanTable() (what, fix string) {
	kinds := map[string]string{"v": "a view", "m": "a materialized view", "p": "a partitioned table", "f": "a foreign table"}
	switch {
	case kinds[t.kind] != "":
		return kinds[t.kind], ""
	case t.persistence == "u":
		return "an unlogged table, which a crash of the server empties", "ALTER TABLE " + t.quoted() + " SET LOGGED, which writes it anew while everybody waits"
	case t.persistence == "t":
		return "a temporary table", ""
	case t.kind == "r":
		return "a table of the access method " + t.access, "ALTER TABLE " + t.quoted() + " SET ACCESS METHOD heap (PostgreSQL 15 and newer), which writes it anew while everybody waits"
	}
	return "something else", ""
}

// explain fills in a plan for a table that exists.
func explain(ctx context.Context, tx pgx.Tx, plan *migrate.Plan, t pixelTable, l layer.Layer) error {
	refuse := func(code, fix, format string, args ...any) {
		plan.Refusals = append(plan.Refusals, migrate.Refusal{Code: code, Message: fmt.Sprintf(format, args...), Fix: fix})
	}
	if t.kind != "r" || t.persistence != "p" || t.access != "heap" {
		what, fix := t.otherThanTable()
		refuse("NOT_A_TABLE", fix, "%s is %s, not an ordinary, permanent table on a heap", l.Table, what)
		return nil
	}
	if missing := lacks(t.columns, []string{"row_idx", "col_idx", "value"}); len(missing) > 0 {
		refuse("COLUMNS", "", "%s has no column %s that can be written", l.Table, strings.Join(missing, ", "))
		return nil
	}
	for _, c := range []string{"row_idx", "col_idx"} {
		if kind := t.types[slices.Index(t.columns, c)]; !slices.Contains([]string{"smallint", "integer", "bigint"}, kind) {
			refuse("COLUMNS", "", "%s of %s is of type %s, and must be an integer", c, l.Table, kind)
			return nil
		}
	}
	for _, c := range []string{"x_coord", "y_coord", "deleted"} {
		if slices.Contains(t.columns, c) {
			refuse("COLUMNS", "", "%s has a column %s", l.Table, c)
		}
	}
	if err := explainDependents(ctx, tx, plan, t, l, refuse); err != nil {
		return err
	}
	if err := explainConstraints(ctx, tx, t, l, refuse); err != nil {
		return err
	}
	if err := explainRights(ctx, tx, t, l, refuse); err != nil {
		return err
	}
	if !plan.Spec.InPlace {
		if err := explainNullable(ctx, tx, plan, t); err != nil {
			return err
		}
	}
	keyless, err := explainRows(ctx, tx, plan, t, l)
	if err != nil {
		return err
	}
	if plan.Spec.InPlace {
		plan.EstimateInPlace()
	} else {
		plan.EstimateStored(keyless)
	}
	return nil
}

type refuseFunc = func(code, fix, format string, args ...any)

// staysInPlace are the kinds that cannot be carried to another table, and do not
// mind two more columns of their own. Triggers, rules and row-level security would
// see our updates, publications would send them.
var staysInPlace = map[string]bool{
	"foreign key": true, "materialized view": true, "extended statistics": true, "sequence": true, "generated column": true,
	"function": true, "security label": true,
}

func explainDependents(ctx context.Context, tx pgx.Tx, plan *migrate.Plan, t pixelTable, l layer.Layer, refuse refuseFunc) error {
	rows, err := tx.Query(ctx, sqlDependents, t.oid)
	if err != nil {
		return err
	}
	var kind, name string
	var carried bool
	_, err = pgx.ForEachRow(rows, []any{&kind, &name, &carried}, func() error {
		if carried || plan.Spec.InPlace && staysInPlace[kind] {
			plan.Dependents = append(plan.Dependents, migrate.Dependent{Kind: kind, Name: name})
			return nil
		}
		refuse("DEPENDENT", "take it off for the time of the migration", "%s has the %s %s, which cannot be carried over", l.Table, kind, name)
		return nil
	})
	return err
}

// explainConstraints refuses constraints that hold for new rows alone: each row is new
// where it is copied to, or updated. One that is not enforced stays so.
func explainConstraints(ctx context.Context, tx pgx.Tx, t pixelTable, l layer.Layer, refuse refuseFunc) error {
	rows, err := tx.Query(ctx, `SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint c
		WHERE conrelid = $1 AND contype IN ('c', 'n') AND NOT convalidated AND to_jsonb(c) ->> 'conenforced' IS DISTINCT FROM 'false' ORDER BY conname`, t.oid)
	if err != nil {
		return err
	}
	var name, definition string
	_, err = pgx.ForEachRow(rows, []any{&name, &definition}, func() error {
		refuse("NOT_VALID", fmt.Sprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s, once no row breaks it; or drop it", t.quoted(), quoted(name)),
			"%s has the constraint %s, %s: rows that are there may break it, and could not be written anew", l.Table, name, definition)
		return nil
	})
	return err
}

// explainRights asks for what the migration needs besides reading.
func explainRights(ctx context.Context, tx pgx.Tx, t pixelTable, l layer.Layer, refuse refuseFunc) error {
	var owns, creates, sees bool
	if err := tx.QueryRow(ctx, `SELECT pg_has_role(current_user, $1::text, 'USAGE'), has_schema_privilege(current_user, $2::text, 'CREATE')
			AND ((SELECT rolsuper FROM pg_roles WHERE rolname = current_user) OR has_schema_privilege($1::text, 'rasterloom', 'CREATE')),
		pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')`, t.owner, t.schema).Scan(&owns, &creates, &sees); err != nil {
		return err
	}
	if !owns {
		refuse("NOT_OWNER", fmt.Sprintf("GRANT %s TO the role of this service", quoted(t.owner)), "%s belongs to role %s, of which the role of this service is no member", l.Table, t.owner)
	}
	if !creates {
		refuse("NO_CREATE", fmt.Sprintf("GRANT CREATE ON SCHEMA %s TO the role of this service, and CREATE ON SCHEMA rasterloom TO %s", quoted(t.schema), quoted(t.owner)),
			"tables cannot be moved between the schemas %s and rasterloom", t.schema)
	}
	if !sees {
		refuse("NO_STATISTICS", "GRANT pg_read_all_stats TO the role of this service",
			"the role of this service cannot see the transactions of others, which the cut-over has to wait for")
	}
	return nil
}

// explainNullable tells that rows without an index cannot be written for a while. Such
// a row is no cell, and any number of rows may be alike in it: a trigger could not say
// which one of them was changed, so it cannot keep another table equal.
func explainNullable(ctx context.Context, tx pgx.Tx, plan *migrate.Plan, t pixelTable) error {
	var nullable bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = $1 AND attname IN ('row_idx', 'col_idx') AND NOT attnotnull)`, t.oid).Scan(&nullable)
	if nullable {
		plan.Notices = append(plan.Notices, "row_idx or col_idx may be NULL: rows without one are no cells, and are refused until the migration ends")
	}
	return err
}

// explainRows counts the rows, and those that stand in the way.
// keyless: nothing forbids that a cell is stored twice, though none is.
func explainRows(ctx context.Context, tx pgx.Tx, plan *migrate.Plan, t pixelTable, l layer.Layer) (keyless bool, err error) {
	indexes, err := readIndexes(ctx, tx, t.oid)
	if err != nil {
		return false, err
	}
	keyless = !hasKey(indexes)
	var nulls, outside, repeated int64
	err = tx.QueryRow(ctx, fmt.Sprintf(`SELECT count(*), count(*) FILTER (WHERE row_idx IS NULL OR col_idx IS NULL),
			count(*) FILTER (WHERE row_idx NOT BETWEEN 0 AND $1 OR col_idx NOT BETWEEN 0 AND $2), pg_total_relation_size($3::oid::regclass)
		FROM %s`, t.quoted()), l.Grid.Rows-1, l.Grid.Cols-1, t.oid).Scan(&plan.Rows, &nulls, &outside, &plan.TableBytes)
	if err != nil {
		return keyless, err
	}
	if keyless {
		err := tx.QueryRow(ctx, fmt.Sprintf(`SELECT count(*) FROM (SELECT FROM %s WHERE row_idx IS NOT NULL AND col_idx IS NOT NULL
			GROUP BY row_idx, col_idx HAVING count(*) > 1) r`, t.quoted())).Scan(&repeated)
		if err != nil {
			return keyless, err
		}
	}
	for _, r := range []migrate.Refusal{
		{Code: "DUPLICATE_CELLS", Count: repeated, Message: fmt.Sprintf("%s holds %d cells more than once", l.Table, repeated), Fix: "delete the rows that are too many"},
		{Code: "NULL_INDEX", Count: nulls, Message: fmt.Sprintf("%s has %d rows without row_idx or col_idx", l.Table, nulls), Fix: "delete these rows"},
		{Code: "OFF_GRID", Count: outside, Message: fmt.Sprintf("%s has %d rows outside of its grid of %d × %d cells", l.Table, outside, l.Grid.Rows, l.Grid.Cols),
			Fix: "delete these rows, or correct the shape in the catalog table and adopt it again"},
	} {
		if r.Count > 0 {
			plan.Refusals = append(plan.Refusals, r)
		}
	}
	return keyless, nil
}
