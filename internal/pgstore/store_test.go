package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	neturl "net/url"
	"strings"
	"testing"
	"time"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/localpg"
	"github.com/rasterloom/rasterloom/internal/pgstore"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func open(t *testing.T, url string, o pgstore.Options) *pgstore.Store {
	t.Helper()
	s, err := pgstore.Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(fault.From(err).Detail())
	}
	t.Cleanup(s.Close)
	return s
}

func wantFault(t *testing.T, err error, kind fault.Kind, reason fault.Reason) *fault.Error {
	t.Helper()
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Kind != kind || f.Reason != reason {
		t.Fatalf("got %v (%s), want %v %v", err, fault.From(err).Detail(), kind, reason)
	}
	for _, leak := range []string{"SQLSTATE", "SELECT", "FATAL", "rl_test_", "/tmp"} {
		if strings.Contains(f.Message, leak) {
			t.Errorf("the message leaks %q: %s", leak, f.Message)
		}
	}
	return f
}

// pixels is a survey of a table that the test has made.
func pixels(name string) layer.Survey {
	return layer.Survey{
		Relation: layer.Relation{Table: layer.Table{Schema: "public", Name: name}}, Indexed: true,
		Grid: grid.Grid{Rows: 10, Cols: 10, OriginX: 0, OriginY: 10, StepX: 1, StepY: 1},
	}
}

// Each fault comes from a real database in the state that the SQLSTATE tells.
func TestFaultsOfTheDatabase(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := pgtest.Connect(t, url)
	if _, err := admin.Exec(t.Context(), `CREATE TABLE public.cells (row_idx int, col_idx int, value float8)`); err != nil {
		t.Fatal(err)
	}
	survey := func(ctx context.Context, s *pgstore.Store, name string) error {
		tx, err := s.Look(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback(ctx)
		_, err = tx.Survey(ctx, pixels(name))
		return err
	}
	t.Run("table gone", func(t *testing.T) {
		wantFault(t, survey(t.Context(), open(t, url, pgstore.Options{}), "gone"), fault.Conflict, fault.LayerChanged)
	})
	t.Run("locked by somebody", func(t *testing.T) {
		tx, err := admin.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(context.WithoutCancel(t.Context()))
		if _, err := tx.Exec(t.Context(), "LOCK TABLE public.cells IN ACCESS EXCLUSIVE MODE"); err != nil {
			t.Fatal(err)
		}
		s := open(t, url, pgstore.Options{LockTimeout: 50 * time.Millisecond})
		wantFault(t, survey(t.Context(), s, "cells"), fault.Unavailable, fault.DatabaseUnavailable)
		s = open(t, url, pgstore.Options{StatementTimeout: 50 * time.Millisecond})
		wantFault(t, survey(t.Context(), s, "cells"), fault.Unavailable, fault.DatabaseUnavailable)
		// Among others, the one that failed is known by what was found before it.
		for _, sql := range []string{"CREATE TABLE public.free (row_idx int, col_idx int, value float8)", "INSERT INTO public.free VALUES (0, 0, 1)"} {
			if _, err := admin.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		looking, err := open(t, url, pgstore.Options{LockTimeout: 50 * time.Millisecond}).Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer looking.Rollback(t.Context())
		found, err := looking.Surveys(t.Context(), []layer.Survey{pixels("free"), pixels("free"), pixels("cells"), pixels("free")})
		wantFault(t, err, fault.Unavailable, fault.DatabaseUnavailable)
		if len(found) != 2 || found[0].Rows != 1 || found[1].Rows != 1 {
			t.Errorf("found before the locked table: %+v", found)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := survey(ctx, open(t, url, pgstore.Options{}), "cells"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller's own deadline became %v", err)
		}
	})
	t.Run("an adoption waits its turn", func(t *testing.T) {
		s := open(t, url, pgstore.Options{LockTimeout: 50 * time.Millisecond})
		first, err := s.Change(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Change(t.Context())
		wantFault(t, err, fault.Unavailable, fault.DatabaseUnavailable)
		first.Rollback(t.Context())
		second, err := s.Change(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		second.Rollback(t.Context())
	})
	t.Run("looking cannot write", func(t *testing.T) {
		tx, err := open(t, url, pgstore.Options{}).Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(t.Context())
		err = tx.Save(t.Context(), []layer.Record{{Layer: layer.Layer{Name: "n", Format: layer.FormatInvalid, Generation: 1}}})
		wantFault(t, err, fault.Denied, fault.DatabasePermission)
	})
	t.Run("a lacking permission is named", func(t *testing.T) {
		poor := fmt.Sprintf("poor_%d", time.Now().UnixNano()) // roles are the server's
		if _, err := admin.Exec(t.Context(), "CREATE ROLE "+poor+" LOGIN PASSWORD 'p'; REVOKE ALL ON public.cells FROM PUBLIC"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_, _ = admin.Exec(context.WithoutCancel(t.Context()), "DROP OWNED BY "+poor+"; DROP ROLE "+poor)
		})
		if _, err := admin.Exec(t.Context(), "GRANT USAGE ON SCHEMA rasterloom TO "+poor); err != nil {
			t.Fatal(err)
		}
		address, err := neturl.Parse(url)
		if err != nil {
			t.Fatal(err)
		}
		address.User = neturl.UserPassword(poor, "p")
		f := wantFault(t, survey(t.Context(), open(t, address.String(), pgstore.Options{}), "cells"), fault.Denied, fault.DatabasePermission)
		if f.Fields["role"] != poor || f.Fields["object"] != "table cells" || !strings.Contains(f.Message, poor) || !strings.Contains(f.Message, "permission denied for table cells") {
			t.Errorf("%s %v", f.Message, f.Fields)
		}
	})
	t.Run("backend terminated", func(t *testing.T) {
		s := open(t, url, pgstore.Options{ApplicationName: "victim"})
		tx, err := s.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(t.Context())
		var ended int
		err = admin.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE application_name = 'victim'`).Scan(&ended)
		if err != nil || ended != 1 {
			t.Fatal(ended, err)
		}
		_, err = tx.Survey(t.Context(), pixels("cells"))
		wantFault(t, err, fault.Unavailable, fault.DatabaseUnavailable)
		if err := s.Ping(t.Context()); err != nil {
			t.Errorf("the next one gets a new connection, not %v", err)
		}
	})
	t.Run("all backends terminated between two calls", func(t *testing.T) {
		s := open(t, url, pgstore.Options{ApplicationName: "victims"})
		const kept = 4
		var looks []*pgstore.Tx
		for range kept {
			tx, err := s.Look(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			looks = append(looks, tx)
		}
		for _, tx := range looks {
			tx.Rollback(t.Context())
		}
		var ended int
		err := admin.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE application_name = 'victims'`).Scan(&ended)
		if err != nil || ended != kept {
			t.Fatal(ended, err)
		}
		for range kept {
			if _, err := s.LayerNames(t.Context(), 1); err != nil {
				t.Errorf("a call after the database was restarted: %v", err)
			}
		}
	})
	t.Run("closed", func(t *testing.T) {
		s := open(t, url, pgstore.Options{})
		s.Close()
		wantFault(t, s.Ping(t.Context()), fault.Unavailable, fault.Draining)
	})
	t.Run("wrong password", func(t *testing.T) {
		s := open(t, strings.Replace(url, "@", "wrong@", 1), pgstore.Options{})
		wantFault(t, s.Ping(t.Context()), fault.Unavailable, fault.DatabaseUnavailable)
	})
}

func TestServerStops(t *testing.T) {
	t.Parallel()
	server, err := localpg.Start(t.Context(), localpg.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, server.URL(), pgstore.Options{})
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantFault(t, s.Ping(t.Context()), fault.Unavailable, fault.DatabaseUnavailable)
	_, err = s.Layers(t.Context(), []string{"a"})
	wantFault(t, err, fault.Unavailable, fault.DatabaseUnavailable)
}

// A store of a database that is down can be made, and says so; migrating it
// fails in the same words.
func TestDatabaseIsDown(t *testing.T) {
	t.Parallel()
	server, err := localpg.Start(t.Context(), localpg.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := open(t, server.URL(), pgstore.Options{})
	wantFault(t, s.Ping(t.Context()), fault.Unavailable, fault.DatabaseUnavailable)
	wantFault(t, s.Migrate(t.Context()), fault.Unavailable, fault.DatabaseUnavailable)
}

// Whatever the URL asks for, names are looked up in pg_catalog alone, and values
// never become part of a text.
func TestConnectionSettings(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t) + "&search_path=public&default_query_exec_mode=simple_protocol&lock_timeout=0"
	s := open(t, url, pgstore.Options{ApplicationName: "me", StatementTimeout: 7 * time.Second})
	for name, want := range map[string]string{
		"search_path": "pg_catalog", "application_name": "me", "statement_timeout": "7s", "lock_timeout": "5s",
	} {
		if got, err := s.Setting(t.Context(), name); err != nil || got != want {
			t.Errorf("%s is %q, want %q (%v)", name, got, want, err)
		}
	}
	if mode := s.QueryMode(); mode != "cache statement" {
		t.Errorf("queries go by %q", mode)
	}
}

// A hundred tables are looked up in one query that takes about a millisecond;
// here only that they come in request order.
func TestRelationsInRequestOrder(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := pgtest.Connect(t, url)
	var tables []layer.Table
	for i := range 100 {
		name := fmt.Sprintf("cells_%d", 99-i)
		if _, err := admin.Exec(t.Context(), fmt.Sprintf(`CREATE TABLE public.%s (row_idx int, col_idx int, value float8, PRIMARY KEY (col_idx, row_idx))`, name)); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, layer.Table{Schema: "public", Name: name})
	}
	// Found byte for byte, or not at all.
	long := strings.Repeat("l", 63)
	if _, err := admin.Exec(t.Context(), "CREATE TABLE public."+long+" (value float8)"); err != nil {
		t.Fatal(err)
	}
	tables = append(tables, layer.Table{Schema: "public", Name: long + "x"}, layer.Table{Schema: "public", Name: "CELLS_1"}, tables[0])
	tx, err := open(t, url, pgstore.Options{}).Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	var relations []layer.Relation
	for range 3 {
		began := time.Now()
		if relations, err = tx.Relations(t.Context(), tables); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d tables in %v", len(tables), time.Since(began))

	}
	for i, r := range relations {
		want := i < 100 || i == 102
		if r.Table != tables[i] || r.Found != want {
			t.Errorf("place %d: %v, found %v", i, r.Table, r.Found)
		}
		if want && (strings.Join(r.IndexKey, ",") != "col_idx,row_idx" || len(r.CoordinateKey) != 0 || r.Columns["value"].Type != "double precision" || !r.Columns["row_idx"].NotNull || r.EstimatedRows != -1) {
			t.Errorf("place %d: %+v", i, r)
		}
	}
}
