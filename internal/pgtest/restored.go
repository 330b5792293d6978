package pgtest

import (
	"bytes"
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Restored gives the address of a fresh database with all that is in another one, as
// pg_restore makes it of a dump: the same names, definitions, rows and positions of
// sequences, under other oids; triggers when the rows are there. (The servers that
// tests bring have no pg_dump.) Privileges and owners are not carried.
func Restored(t testing.TB, from string) string {
	t.Helper()
	c, err := started()
	if err != nil {
		t.Fatal(err)
	}
	to := c.fresh(t, "template0")
	if err := restore(t.Context(), from, to); err != nil {
		t.Fatalf("restore a database: %v", err)
	}
	return to
}

// What a dump says, in its order. Each gives statements, but for the rows.
const (
	others   = `nspname !~ '^pg_' AND nspname <> 'information_schema'`
	dumpPre  = `SELECT 'CREATE SCHEMA IF NOT EXISTS ' || quote_ident(nspname) FROM pg_namespace WHERE ` + others
	dumpCode = `SELECT unnest(ARRAY[pg_get_functiondef(p.oid)] || CASE WHEN proacl IS NULL THEN '{}' ELSE ARRAY['REVOKE ALL ON FUNCTION ' || p.oid::regprocedure || ' FROM PUBLIC'] END)
		FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE ` + others
	dumpSequences = `SELECT format('CREATE SEQUENCE %I.%I', nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
		WHERE relkind = 'S' AND ` + others + ` AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'i')`
	dumpTables = `SELECT format('CREATE TABLE %I.%I (%s)%s', nspname, relname, (
			SELECT string_agg(format('%I %s%s%s%s', attname, format_type(atttypid, atttypmod),
				CASE WHEN attcollation NOT IN (0, 100) THEN (SELECT format(' COLLATE %I.%I', collnamespace::regnamespace, collname) FROM pg_collation WHERE oid = attcollation) END,
				CASE WHEN attidentity <> '' THEN ' GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME ' || pg_get_serial_sequence(attrelid::regclass::text, attname) || ')'
					WHEN attgenerated <> '' THEN format(' GENERATED ALWAYS AS (%s) STORED', pg_get_expr(adbin, adrelid))
					WHEN adbin IS NOT NULL THEN ' DEFAULT ' || pg_get_expr(adbin, adrelid) END,
				CASE WHEN attnotnull THEN ' NOT NULL' END), ', ' ORDER BY attnum)
			FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
			' WITH (' || array_to_string(reloptions, ', ') || ')')
		FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'r' AND ` + others + ` ORDER BY c.oid`
	dumpStorage = `SELECT format('ALTER TABLE %s ALTER COLUMN %I SET STORAGE EXTERNAL', attrelid::regclass, attname) FROM pg_attribute a
		JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'r' AND attstorage = 'e' AND attnum > 0 AND NOT attisdropped AND ` + others
	dumpRows = `SELECT format('%s (%s)', c.oid::regclass, string_agg(quote_ident(attname), ', ' ORDER BY attnum)) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
		JOIN pg_attribute ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '' WHERE relkind = 'r' AND ` + others + ` GROUP BY c.oid`
	dumpPositions = `SELECT format('SELECT setval(%L, %s, %L)', format('%I.%I', schemaname, sequencename), coalesce(last_value, 1), last_value IS NOT NULL) FROM pg_sequences`
	dumpPost      = `SELECT statement FROM (
		SELECT 1 AS turn, pg_get_indexdef(indexrelid) AS statement FROM pg_index JOIN pg_class c ON c.oid = indrelid JOIN pg_namespace n ON n.oid = relnamespace
			WHERE ` + others + ` AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
		UNION ALL SELECT CASE contype WHEN 'f' THEN 3 ELSE 2 END, format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(k.oid))
			FROM pg_constraint k JOIN pg_class c ON c.oid = conrelid JOIN pg_namespace n ON n.oid = relnamespace WHERE contype IN ('p', 'u', 'c', 'f') AND ` + others + `
		UNION ALL SELECT 4, format('CREATE VIEW %s AS %s', c.oid::regclass, pg_get_viewdef(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'v' AND ` + others + `
		UNION ALL SELECT 5, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
		UNION ALL SELECT 6, format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', tgrelid::regclass, tgname) FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'A'
		UNION ALL SELECT 7, format('COMMENT ON %s %s IS %L', CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, c.oid::regclass, description)
			FROM pg_description d JOIN pg_class c ON c.oid = objoid JOIN pg_namespace n ON n.oid = relnamespace WHERE classoid = 'pg_class'::regclass AND objsubid = 0 AND relkind IN ('r', 'v') AND ` + others + `
		UNION ALL SELECT 7, format('COMMENT ON COLUMN %s.%I IS %L', attrelid::regclass, attname, description)
			FROM pg_description d JOIN pg_attribute a ON attrelid = objoid AND attnum = objsubid JOIN pg_class c ON c.oid = objoid JOIN pg_namespace n ON n.oid = relnamespace
			WHERE classoid = 'pg_class'::regclass AND ` + others + `) s ORDER BY turn, statement`
)

func restore(ctx context.Context, from, to string) error {
	source, err := bare(ctx, from)
	if err != nil {
		return err
	}
	defer source.Close(context.WithoutCancel(ctx))
	target, err := bare(ctx, to)
	if err != nil {
		return err
	}
	defer target.Close(context.WithoutCancel(ctx))
	for _, part := range []string{dumpPre, dumpCode, dumpSequences, dumpTables, dumpStorage, dumpRows, dumpPositions, dumpPost} {
		rows, err := source.Query(ctx, part)
		if err != nil {
			return err
		}
		list, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, statement := range list {
			if part == dumpRows {
				err = carry(ctx, source, target, statement)
			} else {
				_, err = target.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// bare gives a connection on which every name is printed with its schema.
func bare(ctx context.Context, address string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["search_path"] = "pg_catalog"
	config.RuntimeParams["check_function_bodies"] = "off"
	return pgx.ConnectConfig(ctx, config)
}

// carry copies the rows of a table, named with its columns, as text: a dump has them so.
func carry(ctx context.Context, source, target *pgx.Conn, table string) error {
	var rows bytes.Buffer
	if _, err := source.PgConn().CopyTo(ctx, &rows, "COPY "+table+" TO STDOUT"); err != nil {
		return err
	}
	_, err := target.PgConn().CopyFrom(ctx, &rows, "COPY "+table+" FROM STDIN")
	return err
}
