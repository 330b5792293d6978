package pgstore_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/pgstore"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// The SQL that we ship makes roles that can do their work and nothing else.
func TestRoles(t *testing.T) {
	address := pgtest.URL(t)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	suffix := strings.ToLower(rand.Text())[:12] // roles belong to the server, not to a database
	roles := pgstore.Roles{
		Database: u.Path[1:], Schema: `rl "schema" ` + suffix, Merger: `rl 'merger' ` + suffix,
		Schemas: []string{"public"}, Owners: []string{"rl_legacy_" + suffix},
	}
	text, err := roles.SQL()
	if err != nil {
		t.Fatal(err)
	}
	admin := pgtest.Connect(t, address)
	run := func(sql string) {
		t.Helper()
		if _, err := admin.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%v: %.300s", err, sql)
		}
	}
	t.Cleanup(func() {
		for _, role := range []string{roles.Merger, roles.Schema, roles.Owners[0]} {
			ident := pgx.Identifier{role}.Sanitize()
			for _, sql := range []string{"DROP OWNED BY " + ident + " CASCADE", "DROP ROLE " + ident} {
				if _, err := admin.Exec(context.Background(), sql); err != nil {
					t.Error(err)
				}
			}
		}
	})
	run(`DROP SCHEMA IF EXISTS rasterloom CASCADE; DROP SCHEMA IF EXISTS rasterloom_tiles CASCADE`)
	run(`CREATE ROLE rl_legacy_` + suffix)
	run(`CREATE TABLE public.resampled_birds (row_idx int, col_idx int, value float8, PRIMARY KEY (row_idx, col_idx));
		INSERT INTO public.resampled_birds VALUES (0, 0, 1); ALTER TABLE public.resampled_birds OWNER TO rl_legacy_` + suffix)
	run(text)
	run(text) // again changes nothing
	as := func(role string) string {
		t.Helper()
		run(`ALTER ROLE ` + pgx.Identifier{role}.Sanitize() + ` PASSWORD 'secret'`)
		own := *u
		own.User = url.UserPassword(role, "secret")
		return own.String()
	}

	// The schema service makes its catalog, and can do what a migration does.
	owner := as(roles.Schema)
	if err := open(t, owner, pgstore.Options{}).Migrate(t.Context()); err != nil {
		t.Fatal(fault.From(err).Detail())
	}
	schema := pgtest.Connect(t, owner)
	for _, sql := range []string{
		`CREATE TABLE public.resampled_birds_new (row_idx int, col_idx int, x_coord float8, y_coord float8, value float8)`,
		`INSERT INTO public.resampled_birds_new SELECT row_idx, col_idx, 0, 0, value FROM public.resampled_birds`,
		`ALTER TABLE public.resampled_birds RENAME TO resampled_birds_old`,
		`ALTER TABLE public.resampled_birds_new RENAME TO resampled_birds`,
		`CREATE TABLE rasterloom_tiles.birds (tile_row int, tile_col int, data bytea)`,
	} {
		if _, err := schema.Exec(t.Context(), sql); err != nil {
			t.Errorf("the schema service: %v: %s", err, sql)
		}
	}
	var sees, keeps bool
	if err := schema.QueryRow(t.Context(), `SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'), has_schema_privilege($1, 'rasterloom', 'CREATE')`,
		roles.Owners[0]).Scan(&sees, &keeps); err != nil || !sees || !keeps {
		t.Errorf("a migration may see the transactions of others: %v; make tables of their owner's in our schema: %v (%v)", sees, keeps, err)
	}

	// The merger reads old tables and those made since, and nothing else.
	reader := pgtest.Connect(t, as(roles.Merger))
	for _, table := range []string{"public.resampled_birds", "public.resampled_birds_old", "rasterloom_tiles.birds", "rasterloom.layer"} {
		if _, err := reader.Exec(t.Context(), "SELECT * FROM "+table); err != nil {
			t.Errorf("the merger reads %s: %v", table, err)
		}
	}
	var readOnly string
	if err := reader.QueryRow(t.Context(), `SHOW default_transaction_read_only`).Scan(&readOnly); err != nil || readOnly != "on" {
		t.Errorf("default_transaction_read_only is %s, %v", readOnly, err)
	}
	refused := 0
	for _, sql := range []string{
		`DELETE FROM public.resampled_birds`, `UPDATE public.resampled_birds SET value = 0`, `INSERT INTO public.resampled_birds VALUES (1, 1, 1, 1, 1)`,
		`TRUNCATE public.resampled_birds`, `DROP TABLE public.resampled_birds`, `ALTER TABLE public.resampled_birds ADD COLUMN x int`,
		`DO $$ BEGIN LOCK TABLE public.resampled_birds IN ACCESS EXCLUSIVE MODE; END $$`, `DELETE FROM rasterloom.layer`, `DELETE FROM rasterloom_tiles.birds`,
		`CREATE TABLE public.mine (x int)`, `CREATE TEMPORARY TABLE mine (x int)`, `CREATE SCHEMA mine`,
		`COPY public.resampled_birds TO PROGRAM 'cat > /dev/null'`, `COPY public.resampled_birds FROM PROGRAM 'true'`, `COPY public.resampled_birds TO '/dev/null'`,
		`SELECT pg_read_file('/etc/hostname')`, `SELECT pg_ls_dir('/')`, `SELECT lo_import('/etc/hostname')`, `SELECT rolpassword FROM pg_authid`,
		`ALTER SYSTEM SET log_statement = 'all'`, `SELECT pg_reload_conf()`, `CREATE ROLE more`, `SET ROLE ` + pgx.Identifier{roles.Schema}.Sanitize(),
		`SET ROLE rl_legacy_` + suffix, `CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'`, `SELECT pg_switch_wal()`,
	} {
		conn, err := reader.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// The privilege has to refuse, and not only the setting.
		if _, err := conn.Exec(t.Context(), `SET default_transaction_read_only = off`); err != nil {
			t.Fatal(err)
		}
		_, err = conn.Exec(t.Context(), sql)
		conn.Release()
		if pgErr := (*pgconn.PgError)(nil); !errors.As(err, &pgErr) || pgErr.Code != "42501" {
			t.Errorf("the merger may %s: %v", sql, err)
			continue
		}
		refused++
	}
	t.Logf("%d statements refused", refused)
}

func TestRolesThatAreNone(t *testing.T) {
	good := pgstore.Roles{Database: "d", Schema: "s", Merger: "m"}
	for what, change := range map[string]func(*pgstore.Roles){
		"no name":         func(r *pgstore.Roles) { r.Schema = "" },
		"64 bytes":        func(r *pgstore.Roles) { r.Merger = strings.Repeat("x", 64) },
		"a second line":   func(r *pgstore.Roles) { r.Database = "d\nDROP TABLE x" },
		"a bidi override": func(r *pgstore.Roles) { r.Schemas = []string{"a\u202eb"} },
		"a NUL":           func(r *pgstore.Roles) { r.Owners = []string{"a\x00b"} },
	} {
		r := good
		change(&r)
		_, err := r.SQL()
		if err == nil {
			t.Errorf("%s passes", what)
			continue
		}
		wantFault(t, err, fault.Invalid, fault.InvalidArgument)
	}
}
