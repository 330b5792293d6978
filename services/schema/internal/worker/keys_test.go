package worker_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// Where the indices may be NULL, a row without one is refused as long as it could not
// be followed, and none is left over: neither by the cut-over nor by the way back.
func TestIndicesThatMayBeNull(t *testing.T) {
	const insert = "INSERT INTO public.passthrough_birds VALUES (NULL, 1, 2)"
	nullable := func(t *testing.T, key string) *stage {
		t.Helper()
		s := newStage(t, 40, 30, false)
		s.do("ALTER TABLE public.passthrough_birds DROP CONSTRAINT passthrough_birds_pkey, ALTER row_idx DROP NOT NULL, ALTER col_idx DROP NOT NULL" + key)
		return s
	}
	for name, key := range map[string]string{"unique": ", ADD UNIQUE (row_idx, col_idx)", "no key": ""} {
		t.Run(name, func(t *testing.T) {
			s := nullable(t, key)
			before := s.dump()
			plan, err := s.migrations.Plan(t.Context(), s.spec(), s.layer, nil)
			if err != nil || len(plan.Refusals) > 0 || !strings.Contains(strings.Join(plan.Notices, " "), "row_idx or col_idx may be NULL") {
				t.Fatal(plan.Refusals, plan.Notices, err)
			}
			h := s.byHand()
			for _, state := range []migrate.State{migrate.Capturing, migrate.Backfilling, migrate.Indexed, migrate.Synced, migrate.Verified, migrate.CutOver} {
				h.to(state)
				if state == migrate.Capturing {
					continue // triggers come with the next step
				}
				for _, sql := range []string{insert, "UPDATE public.passthrough_birds SET col_idx = NULL WHERE row_idx = 3 AND col_idx = 3"} {
					var refused *pgconn.PgError
					if _, err := s.pool.Exec(t.Context(), sql); !errors.As(err, &refused) || refused.Code != "23502" || !strings.Contains(refused.Message, "migration m1") {
						t.Errorf("%s: %v of %s", state, err, sql)
					}
				}
			}
			content := s.content()
			h.must(s.migrations.Rollback(t.Context(), h.id, h.etag()))
			if s.content() != content {
				t.Error("the content changed")
			}
			if after := s.dump(); after != before {
				t.Errorf("the schema is not what it was:\n%s\n--- before\n%s", after, before)
			}
			s.do(insert)
		})
	}
	t.Run("one since the plan", func(t *testing.T) {
		s := nullable(t, ", ADD UNIQUE (row_idx, col_idx)")
		h := s.byHand()
		s.do(insert)
		h.to(migrate.Synced)
		f := want(t, s.migrations.Verify(t.Context(), h.lease), fault.Precondition, fault.MigrationRefused)
		if f.Fields["refusals"] != "NULL_INDEX" || f.Fields["null_index"] != "1" {
			t.Error(f, f.Fields)
		}
		// It may go, and is missed.
		s.do("DELETE FROM public.passthrough_birds WHERE row_idx IS NULL")
		want(t, s.migrations.Verify(t.Context(), h.lease), fault.Corrupt, fault.DataCorrupt)
		h.must(s.migrations.Abort(t.Context(), h.id, h.etag()))
	})
	t.Run("in place", func(t *testing.T) {
		s := nullable(t, ", ADD UNIQUE (row_idx, col_idx)")
		s.inPlace = true
		h := s.byHand()
		h.to(migrate.Backfilling)
		s.do("INSERT INTO public.passthrough_birds VALUES (NULL, 1, 2), (NULL, 1, 2), (NULL, 3, 4)")
		h.to(migrate.CutOver)
		s.do("DELETE FROM public.passthrough_birds WHERE row_idx IS NULL AND col_idx = 1")
		before := s.content()
		h.must(s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{}))
		if s.content() != before {
			t.Error("the content changed")
		}
	})
}

// Values of a second unique column change places while they are noted: each state
// on the way is legal, and so is the one at the end, in whatever order it is made.
func TestAnotherUniqueColumn(t *testing.T) {
	s := newStage(t, 60, 70, false) // more than are applied at a time
	s.do("ALTER TABLE public.passthrough_birds ADD tag integer")
	s.do("UPDATE public.passthrough_birds SET tag = row_idx * 70 + col_idx")
	s.do("ALTER TABLE public.passthrough_birds ADD UNIQUE (tag)")
	content := func() string {
		return ask[string](s, "SELECT md5(string_agg(format('%s %s %s %s', row_idx, col_idx, tag, value), ',' ORDER BY row_idx, col_idx)) FROM public.passthrough_birds")
	}
	turn := func(where string) []string {
		return []string{
			"UPDATE public.passthrough_birds SET tag = -1 - tag WHERE " + where,
			`UPDATE public.passthrough_birds b SET tag = n.tag FROM (SELECT row_idx, col_idx, -1 - lead(tag, 1, first) OVER (ORDER BY tag) AS tag
				FROM (SELECT *, min(tag) OVER () AS first FROM public.passthrough_birds WHERE ` + where + `) t) n WHERE b.row_idx = n.row_idx AND b.col_idx = n.col_idx`,
		}
	}
	h := s.byHand()
	h.to(migrate.Backfilling)
	h.copyAll()
	for _, sql := range append(turn("row_idx >= 0"), "DELETE FROM public.passthrough_birds WHERE row_idx = 7", "UPDATE public.passthrough_birds SET tag = tag + 10000 WHERE row_idx = 9") {
		s.do(sql)
	}
	h.must(s.migrations.Index(t.Context(), h.lease))
	// A writer who is not over keeps its notes, and what was committed before is in
	// the way of others.
	tx, err := s.pool.Begin(t.Context())
	h.must(err)
	defer func() { _ = tx.Rollback(t.Context()) }()
	for _, sql := range turn("row_idx BETWEEN 3 AND 5") {
		_, err := tx.Exec(t.Context(), sql)
		h.must(err)
	}
	for turn := range 4 {
		_, err := s.migrations.ApplyNotes(t.Context(), h.lease, turn)
		h.must(err)
	}
	h.must(tx.Commit(t.Context()))
	for _, sql := range turn("row_idx % 2 = 1") {
		s.do(sql)
	}
	h.to(migrate.Verified)
	for _, sql := range turn("row_idx % 3 = 1") {
		s.do(sql)
	}
	before := content()
	h.to(migrate.CutOver)
	if content() != before {
		t.Error("the content changed")
	}
	for _, sql := range turn("row_idx > 40") {
		s.do(sql)
	}
	before = content()
	h.must(s.migrations.Rollback(t.Context(), h.id, h.etag()))
	if content() != before {
		t.Error("the rollback lost writes")
	}
}

// Columns that take no NULL by their domain, and names that would end a function's
// text: writers delete, and move cells, in every state.
func TestOddColumns(t *testing.T) {
	for name, column := range map[string]string{
		"a domain":      "q public.quality DEFAULT 1",
		"dollars":       `"a$function$b" integer DEFAULT 1`,
		"other letters": `"it's\""" integer DEFAULT 1`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 40, 30, false)
			s.do("CREATE DOMAIN public.quality AS integer NOT NULL CHECK (VALUE > 0)")
			s.do("ALTER TABLE public.passthrough_birds ADD " + column)
			h := s.byHand()
			for i, state := range []migrate.State{migrate.Capturing, migrate.Backfilling, migrate.Indexed, migrate.Synced, migrate.Verified, migrate.CutOver} {
				h.to(state)
				s.do("DELETE FROM public.passthrough_birds WHERE row_idx = $1", i)
				s.do("UPDATE public.passthrough_birds SET row_idx = $1 WHERE row_idx = $2", i, i+20)
				s.do("UPDATE public.passthrough_birds SET value = 4 WHERE row_idx = $1", i+10)
			}
			before := s.content()
			h.must(s.migrations.Rollback(t.Context(), h.id, h.etag()))
			if s.content() != before {
				t.Error("the rollback lost writes")
			}
		})
	}
}

// A key is one however its definition reads; what does not keep every cell from
// being stored twice is none.
func TestKeysByTheirCatalogs(t *testing.T) {
	const table = "ALTER TABLE public.passthrough_birds ADD "
	for name, c := range map[string]struct {
		key           string
		stored, tiled bool // whether it is one
		quoting       bool
	}{
		"with storage":      {key: table + "PRIMARY KEY (row_idx, col_idx) WITH (fillfactor = 90)", stored: true, tiled: true},
		"with a column":     {key: table + "PRIMARY KEY (row_idx, col_idx) INCLUDE (value)", stored: true, tiled: true},
		"everything quoted": {key: table + "PRIMARY KEY (row_idx, col_idx)", stored: true, tiled: true, quoting: true},
		"the other way":     {key: table + "UNIQUE (col_idx, row_idx)", stored: true},
		"descending":        {key: "CREATE UNIQUE INDEX ON public.passthrough_birds (row_idx DESC, col_idx)", stored: true, tiled: true},
		"of some rows":      {key: "CREATE UNIQUE INDEX ON public.passthrough_birds (row_idx, col_idx) WHERE value > 3"},
		"of an expression":  {key: "CREATE UNIQUE INDEX ON public.passthrough_birds (row_idx, col_idx, (value + 1))"},
		"of one more":       {key: "CREATE UNIQUE INDEX ON public.passthrough_birds (row_idx, col_idx, value)"},
		"not unique":        {key: "CREATE INDEX ON public.passthrough_birds (row_idx, col_idx)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := pgtest.URL(t)
			if c.quoting {
				u, err := url.Parse(address)
				if err != nil {
					t.Fatal(err)
				}
				q := u.Query()
				q.Set("quote_all_identifiers", "on")
				u.RawQuery = q.Encode()
				address = u.String()
			}
			s := newStageOn(t, address, 40, 30, false)
			s.do("ALTER TABLE public.passthrough_birds DROP CONSTRAINT passthrough_birds_pkey")
			s.do(c.key)
			for level, is := range map[migrate.Level]bool{migrate.LevelStored: c.stored, migrate.LevelTiled: c.tiled} {
				plan, err := s.migrations.Plan(t.Context(), migrate.Spec{Layer: "birds", Level: level}, s.layer, nil)
				if err != nil || len(plan.Refusals) > 0 {
					t.Fatal(plan.Refusals, err)
				}
				if told := strings.Contains(strings.Join(plan.Notices, " "), "has no key"); told == is {
					t.Errorf("to %v: %v", level, plan.Notices)
				}
			}
			if !c.stored {
				return
			}
			indexes := func() int {
				return ask[int](s, "SELECT count(*) FROM pg_index WHERE indrelid = 'public.passthrough_birds'::regclass AND indisunique")
			}
			h := s.byHand()
			h.to(migrate.CutOver)
			s.do("UPDATE public.passthrough_birds SET value = 3 WHERE row_idx = 2")
			h.must(s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{}))
			if n := indexes(); n != 1 {
				t.Errorf("%d unique indexes", n)
			}
		})
	}
}

// Somebody makes a publication of all tables, ours among them, and takes it back
// for the cut-over: neither the worker nor the writers mind, and every table with the
// name goes by the identity that it had.
func TestPublicationOfAllTables(t *testing.T) {
	const unique = "ALTER TABLE public.passthrough_birds DROP CONSTRAINT passthrough_birds_pkey, ADD UNIQUE (row_idx, col_idx)"
	writes := []string{
		"INSERT INTO public.passthrough_birds VALUES (39, 29, 1) ON CONFLICT DO NOTHING",
		"UPDATE public.passthrough_birds SET value = 5 WHERE row_idx = 8",
		"UPDATE public.passthrough_birds SET row_idx = 3, col_idx = 2 WHERE row_idx = 9 AND col_idx = (SELECT min(col_idx) FROM public.passthrough_birds WHERE row_idx = 9)",
		"DELETE FROM public.passthrough_birds WHERE row_idx = 7",
	}
	for name, c := range map[string]struct {
		tiled    bool
		setup    string
		identity string
		writes   []string // that the publication allows
	}{
		"a primary key":     {setup: "SELECT", identity: "d", writes: writes},
		"everything":        {setup: "ALTER TABLE public.passthrough_birds REPLICA IDENTITY FULL", identity: "f", writes: writes},
		"nothing":           {setup: "ALTER TABLE public.passthrough_birds REPLICA IDENTITY NOTHING", identity: "n", writes: writes[:1]},
		"no identity":       {setup: unique, identity: "d", writes: writes[:1]},
		"tiles":             {tiled: true, setup: "SELECT", identity: "d", writes: writes},
		"tiles, no primary": {tiled: true, setup: unique, identity: "d", writes: writes[:1]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, 40, 30, false)
			if c.tiled {
				s.tiles = &migrate.TileSpec{}
			}
			s.do("DELETE FROM public.passthrough_birds WHERE (row_idx, col_idx) IN ((3, 2), (39, 28), (39, 29))")
			s.do(c.setup)
			written := func() {
				t.Helper()
				for _, sql := range c.writes {
					s.do(sql)
				}
			}
			as := func() string {
				return ask[string](s, "SELECT relreplident::text FROM pg_class WHERE oid = 'public.passthrough_birds'::regclass")
			}
			h := s.byHand()
			h.to(migrate.Capturing)
			s.do("CREATE PUBLICATION everything FOR ALL TABLES")
			written()
			h.to(migrate.Indexed)
			if len(c.writes) > 1 { // there and back
				s.do("UPDATE public.passthrough_birds SET row_idx = 9, col_idx = 0 WHERE row_idx = 3 AND col_idx = 2")
			}
			h.to(migrate.Synced)
			written()
			h.to(migrate.Verified)
			s.do("DROP PUBLICATION everything")
			h.to(migrate.CutOver)
			if as() != c.identity {
				t.Errorf("the new table goes by %s", as())
			}
			s.do("CREATE PUBLICATION everything FOR ALL TABLES")
			s.do("INSERT INTO public.passthrough_birds VALUES (39, 28, 1)")
			if len(c.writes) > 1 {
				s.do("UPDATE public.passthrough_birds SET value = 5 WHERE row_idx = 10")
			}
			if c.tiled {
				lease, _, err := s.migrations.ClaimBehind(t.Context(), 1e9)
				h.must(err)
				_, err = s.migrations.Follow(t.Context(), lease)
				h.must(err)
			}
			s.do("DROP PUBLICATION everything")
			before := s.content()
			h.must(s.migrations.Rollback(t.Context(), h.id, h.etag()))
			if s.content() != before || as() != c.identity {
				t.Errorf("the table goes by %s, or the content changed", as())
			}
		})
	}
}

// A column goes while a migration follows its table: not without CASCADE, and with it
// the migration stops, not the writers.
func TestDropColumn(t *testing.T) {
	for _, tiled := range []bool{false, true} {
		for _, state := range []migrate.State{migrate.Backfilling, migrate.Verified, migrate.CutOver} {
			t.Run(fmt.Sprint(state, ", tiles ", tiled), func(t *testing.T) {
				t.Parallel()
				s, column := newStage(t, 40, 30, false), "note"
				if tiled {
					s.tiles, column = &migrate.TileSpec{}, "value"
				} else {
					s.do("ALTER TABLE public.passthrough_birds ADD note text")
				}
				h := s.byHand()
				h.to(state)
				for sql, code := range map[string]string{
					"DROP COLUMN " + column: "2BP01", "DROP COLUMN col_idx": "2BP01", // dependent_objects_still_exist
					"ALTER " + column + " TYPE numeric USING NULL": "0A000", // feature_not_supported
				} {
					_, err := s.pool.Exec(t.Context(), "ALTER TABLE public.passthrough_birds "+sql)
					if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != code || !strings.Contains(e.Message+e.Detail, "rasterloom_row_1") {
						t.Errorf("%s: %v", sql, err)
					}
				}
				s.do("ALTER TABLE public.passthrough_birds DROP COLUMN " + column + " CASCADE")
				for _, sql := range []string{
					"DELETE FROM public.passthrough_birds WHERE row_idx < 5", "UPDATE public.passthrough_birds SET row_idx = 4 WHERE row_idx = 6",
					"INSERT INTO public.passthrough_birds (row_idx, col_idx) VALUES (1, 2)",
				} {
					s.do(sql)
				}
				switch state {
				case migrate.Backfilling:
					_, _, err := s.migrations.CopyChunk(t.Context(), h.lease, 0)
					want(t, err, fault.Conflict, fault.LayerChanged)
				case migrate.Verified:
					want(t, s.migrations.CutOver(t.Context(), h.id, h.etag()), fault.Conflict, fault.LayerChanged)
				default:
					want(t, s.migrations.Rollback(t.Context(), h.id, h.etag()), fault.Conflict, fault.LayerChanged)
					return
				}
				h.must(s.migrations.Abort(t.Context(), h.id, h.etag()))
				if n := ask[int](s, "SELECT count(*) FROM pg_proc WHERE proname ~ '^rasterloom_' AND pronamespace = 'rasterloom'::regnamespace"); n != 0 {
					t.Errorf("%d functions are left", n)
				}
				s.do("INSERT INTO public.passthrough_birds (row_idx, col_idx) VALUES (2, 2)")
			})
		}
	}
}
