package worker_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// Finalized without a view, the name is gone, and the cells are all there.
func TestTilesToTheEnd(t *testing.T) {
	s := newTiledStage(t, 300, 300, false)
	h := s.byHand()
	h.to(migrate.CutOver)
	s.do("UPDATE public.passthrough_birds SET value = 5 WHERE row_idx = 8") // lags behind until then
	held := s.held()
	// Readers that do not know of notes refuse the tiles by their version, until then.
	versions := func() string {
		return ask[string](s, `SELECT (tiling::jsonb #>> '{attributes,rasterloom_tiles}') || ' ' || (obj_description(table_oid, 'pg_class')::jsonb #>> '{attributes,rasterloom_tiles}')
			FROM rasterloom.layer`)
	}
	if v := versions(); v != "2 2" {
		t.Errorf("tiles that follow a table are of versions %s", v)
	}
	s.do("CREATE VIEW public.late AS SELECT value FROM public.passthrough_birds")
	f := want(t, s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{}), fault.Precondition, fault.Dependent)
	if f.Fields["refusals"] != "DEPENDENT" {
		t.Error(f.Fields)
	}
	s.do("DROP VIEW public.late")
	h.must(s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{}))
	if v := versions(); v != "1 1" {
		t.Errorf("tiles that are all there is are of versions %s", v)
	}
	got, err := s.woven()
	h.must(err)
	if !maps.Equal(got, held) {
		t.Errorf("%d cells are in the tiles, and the table had %d, or their values differ", len(got), len(held))
	}
	left := ask[string](s, `SELECT coalesce(string_agg(c.oid::regclass::text, ' '), '') FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
		WHERE nspname = 'public' OR nspname = 'rasterloom' AND relname ~ '_[0-9]+$'`)
	if functions := ask[int](s, "SELECT count(*) FROM pg_proc WHERE pronamespace = 'rasterloom'::regnamespace AND proname ~ '^rasterloom_'"); left != "" || functions != 0 {
		t.Errorf("left over: %s, and %d functions", left, functions)
	}
	if l := s.catalogued(); l.Format != layer.FormatTiled || l.Generation != 2 {
		t.Errorf("catalogued as %+v", l)
	}
	want(t, s.migrations.Rollback(t.Context(), h.id, h.etag()), fault.Precondition, fault.MigrationState)
}

// Finalized with a view, plain SQL reads the cells under the old name, to the last
// bit, with the privileges, and through the views, that there were.
func TestTilesLeaveAView(t *testing.T) {
	southUp := false // by turns
	for name, c := range map[string]struct{ kind, values string }{
		"double precision": {"double precision", "'-0', 0, 'Infinity', '-Infinity', 4.9406564584124654e-324, 2.2250738585072014e-308, 2.225073858507201e-308, 1.7976931348623157e308, -1.1, 0.1, 1e300"},
		"real":             {"real", "'-0', 0, 'Infinity', '-Infinity', 1e-45, 1.17549435e-38, 1.1754942e-38, 3.4028235e38, -1.1, 0.1"},
		"smallint":         {"smallint", "0, 1, -1, 32767, -32768, 255, 256, -256"},
		"integer":          {"integer", "0, 1, -1, 2147483647, -2147483648, 65536, -65537"},
		"bigint":           {"bigint", "0, 1, -1, 9223372036854775807, -9223372036854775808, 4294967296, -4294967297"},
	} {
		southUp = !southUp
		t.Run(fmt.Sprint(name, " south-up ", southUp), func(t *testing.T) {
			s := newTiledStage(t, 300, 270, southUp)
			s.tiles.SQLView = true
			s.do("TRUNCATE public.passthrough_birds")
			s.do("ALTER TABLE public.passthrough_birds ALTER value TYPE " + c.kind)
			s.retype(c.kind)
			s.do(fmt.Sprintf("INSERT INTO public.passthrough_birds SELECT (i * 37) %% 300, (i * 31) %% 270, v FROM unnest(ARRAY[%s]::%s[]) WITH ORDINALITY a (v, i)", c.values, c.kind))
			s.do("INSERT INTO public.passthrough_birds VALUES (299, 269, 7), (0, 0, 8), (0, 269, 9), (299, 0, 10), (150, 150, NULL)")
			s.do("CREATE VIEW public.seen AS SELECT row_idx, value FROM public.passthrough_birds")
			s.do("CREATE VIEW public.seen_again AS SELECT count(*) AS n FROM public.seen")
			s.do("GRANT SELECT ON public.passthrough_birds TO PUBLIC")
			s.do("COMMENT ON TABLE public.passthrough_birds IS 'it''s theirs'")
			content := func() string {
				return ask[string](s, "SELECT string_agg(record_send(ROW(row_idx, col_idx, value))::text, ' ' ORDER BY row_idx, col_idx) FROM public.passthrough_birds WHERE value IS NOT NULL")
			}
			h := s.byHand()
			h.to(migrate.CutOver)
			before, seen := content(), ask[int](s, "SELECT n FROM public.seen_again")
			h.must(s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{}))
			if after := content(); after != before {
				t.Errorf("the view has\n%s\nthe table had\n%s", after, before)
			}
			if n := ask[int](s, "SELECT n FROM public.seen_again"); n != seen-1 {
				t.Errorf("the views upon it see %d rows, and the table had %d with and 1 without a value", n, seen-1)
			}
			if looks := ask[string](s, `SELECT relkind::text || ' ' || obj_description(oid) || ' ' || has_table_privilege('public', oid, 'SELECT')::text || ' ' ||
					(SELECT string_agg(attname || ':' || format_type(atttypid, atttypmod), ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0)
					FROM pg_class c WHERE oid = 'public.passthrough_birds'::regclass`); looks != "v it's theirs true row_idx:integer col_idx:integer value:"+c.kind {
				t.Error(looks)
			}
			// The tiles cannot go under the view's feet.
			tx, err := s.opened.Change(t.Context())
			h.must(err)
			defer tx.Rollback(t.Context())
			f := want(t, tx.DropTileTable(t.Context(), s.catalogued().Table), fault.Precondition, fault.Dependent)
			if f.Fields["dependents"] != "view public.passthrough_birds" {
				t.Error(f.Fields)
			}
		})
	}
}

// retype says that the layer's values are stored otherwise.
func (s *stage) retype(kind string) {
	s.t.Helper()
	types := map[string]layer.DataType{"double precision": layer.Float64, "real": layer.Float32, "smallint": layer.Int16, "integer": layer.Int32, "bigint": layer.Int64}
	s.layer.StoredType = types[kind]
	s.layer.DeclaredType = types[kind]
	s.do("UPDATE rasterloom.layer SET stored_type = $1, declared_type = $1", types[kind].String())
}

// Values go into a narrower type where it holds all of them exactly; else they are
// counted and named, and nothing begins. One that is written later stops the tiles,
// and merges, but nothing that was committed.
func TestTilesInTheDeclaredType(t *testing.T) {
	set := func(s *stage, declared layer.DataType, nodata float64, values string) {
		s.tiles.Declared = true
		s.layer.DeclaredType, s.layer.Nodata = declared, &nodata
		s.do("UPDATE rasterloom.layer SET declared_type = $1, nodata = $2", declared.String(), nodata)
		s.do("TRUNCATE public.passthrough_birds")
		s.do("INSERT INTO public.passthrough_birds SELECT 7, i, v FROM unnest(ARRAY[" + values + "]::float8[]) WITH ORDINALITY a (v, i)")
		s.do("ANALYZE public.passthrough_birds")
	}
	for _, c := range []struct {
		declared layer.DataType
		values   string
		refused  int
		named    string
	}{
		{layer.Int16, "0, -1, 32767, -32768, 'NaN', -9999", 0, ""},
		{layer.Int16, "0, 0.5, 32768, -32769, '-0', 'Infinity', 1e300", 6, "0.5 at row_idx 7, col_idx 2"},
		{layer.Uint8, "0, 255", 0, ""},
		{layer.Uint8, "0, 256, -1", 2, "256 at row_idx 7, col_idx 2"},
		{layer.Uint32, "4294967295, 4294967296", 1, "4294967296 at"},
		{layer.Float32, "0.5, '-0', 'Infinity', 1.401298464324817e-45, 3.4028234663852886e38", 0, ""},
		{layer.Float32, "0.1, 1e39, 1e-46, 2.1e-45, 16777217", 5, "0.1 at"},
	} {
		t.Run(fmt.Sprint(c.declared, " ", c.values), func(t *testing.T) {
			s := newTiledStage(t, 40, 30, false)
			set(s, c.declared, -9999, c.values)
			plan, err := s.migrations.Plan(t.Context(), s.spec(), s.layer, nil)
			if err != nil {
				t.Fatal(err)
			}
			refused := slices.IndexFunc(plan.Refusals, func(r migrate.Refusal) bool { return r.Code == "INEXACT_VALUES" })
			if c.refused > 0 {
				if refused < 0 || plan.Refusals[refused].Count != int64(c.refused) || !strings.Contains(plan.Refusals[refused].Message, c.named) {
					t.Errorf("%+v", plan.Refusals)
				}
				return
			}
			h := s.byHand()
			h.to(migrate.CutOver)
			if l := s.catalogued(); l.StoredType != c.declared {
				t.Errorf("stored as %s", l.StoredType)
			}
			got, err := s.woven()
			h.must(err)
			held := s.held()
			maps.DeleteFunc(held, func(_ [2]int, v string) bool { return v == bits(-9999.0) })
			if !maps.Equal(got, held) {
				t.Errorf("read %v, stored %v", got, held)
			}
		})
	}
	s := newTiledStage(t, 40, 30, false)
	set(s, layer.Int16, -9999, "1, 2")
	h := s.byHand()
	h.to(migrate.CutOver)
	s.do("UPDATE public.passthrough_birds SET value = 0.5 WHERE col_idx = 2")
	_, err := s.woven()
	if f := want(t, err, fault.Precondition, fault.NarrowingLoss); f.Fields["row"] != "7" || f.Fields["col"] != "2" {
		t.Error(f.Fields)
	}
	lease, _, err := s.migrations.ClaimBehind(t.Context(), 1e9)
	h.must(err)
	_, err = s.migrations.Follow(t.Context(), lease)
	want(t, err, fault.Precondition, fault.NarrowingLoss)
	want(t, s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{}), fault.Precondition, fault.NarrowingLoss)
	h.must(s.migrations.Fail(t.Context(), lease, err))
	s.do("UPDATE public.passthrough_birds SET value = 3 WHERE col_idx = 2")
	s.sameAsTable("it was put right")
	h.must(s.migrations.Resume(t.Context(), h.id, h.etag()))
	h.must(s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{}))
}

// Tables that say by coordinates where cells are, with indices beside or without;
// tables without a key; empty ones, and ones in which nothing has a value.
func TestTilesOfOtherTables(t *testing.T) {
	g := grid.Grid{CRS: "EPSG:32633", Rows: 300, Cols: 300, OriginX: 499980.1, OriginY: 5600040.7, StepX: 30.1, StepY: 29.9}
	coordinates := func(s *stage, format layer.Format, corner float64) {
		s.do("TRUNCATE public.passthrough_birds")
		s.fill()
		s.do("ALTER TABLE public.passthrough_birds ADD x_coord double precision, ADD y_coord double precision")
		s.do("UPDATE public.passthrough_birds SET x_coord = $1::float8 + (col_idx + $5::float8) * $2::float8, y_coord = $3::float8 - (row_idx + $5::float8) * $4::float8", g.OriginX, g.StepX, g.OriginY, g.StepY, corner)
		s.layer.Format, s.layer.HasCoordinates, s.layer.Registration = format, true, grid.RegistrationCenter
		if corner == 0 {
			s.layer.Registration = grid.RegistrationUpperLeft
		}
		s.do("UPDATE rasterloom.layer SET format = $1, has_coordinates = true, registration = $2", format.String(), s.layer.Registration.String())
	}
	for name, c := range map[string]struct {
		setup func(s *stage)
		write []string
	}{
		"coordinates beside the indices": {func(s *stage) { coordinates(s, layer.FormatCoordinate, 0.5) }, []string{"UPDATE public.passthrough_birds SET value = 4 WHERE row_idx = 270"}},
		"window by window":               {func(s *stage) { coordinates(s, layer.FormatWindowed, 0) }, []string{"UPDATE public.passthrough_birds SET value = 4 WHERE row_idx = 270"}},
		"coordinates alone": {func(s *stage) {
			coordinates(s, layer.FormatCoordinate, 0)
			s.do("ALTER TABLE public.passthrough_birds RENAME TO t")
			s.do("CREATE TABLE public.passthrough_birds AS SELECT x_coord, y_coord, value FROM public.t ORDER BY random()")
			s.do("DROP TABLE public.t")
			s.layer.HasIndices, s.layer.HasKey = false, false
			s.do("UPDATE rasterloom.layer SET has_indices = false, has_key = false")
		}, []string{
			"UPDATE public.passthrough_birds SET value = 4 WHERE y_coord < 5593000 AND x_coord > 505000",
			"DELETE FROM public.passthrough_birds WHERE x_coord BETWEEN 503000 AND 503200",
		}},
		"without a key": {func(s *stage) {
			s.do("ALTER TABLE public.passthrough_birds DROP CONSTRAINT passthrough_birds_pkey")
			s.layer.HasKey = false
			s.do("UPDATE rasterloom.layer SET has_key = false")
		}, []string{"DELETE FROM public.passthrough_birds WHERE row_idx = 7"}},
		"a key the other way round": {func(s *stage) {
			s.do("ALTER TABLE public.passthrough_birds DROP CONSTRAINT passthrough_birds_pkey, ADD PRIMARY KEY (col_idx, row_idx)")
		}, []string{"DELETE FROM public.passthrough_birds WHERE row_idx = 7"}},
		"scattered and sparse": {func(s *stage) {
			s.do("DELETE FROM public.passthrough_birds WHERE (row_idx * 31 + col_idx * 17) % 50 <> 0")
			s.do("CREATE TABLE public.t AS SELECT * FROM public.passthrough_birds ORDER BY random()")
			s.do("TRUNCATE public.passthrough_birds")
			s.do("INSERT INTO public.passthrough_birds SELECT * FROM public.t")
			s.do("DROP TABLE public.t")
			s.do("ANALYZE public.passthrough_birds")
		}, []string{"INSERT INTO public.passthrough_birds VALUES (3, 3, 3) ON CONFLICT DO NOTHING"}},
		"empty": {func(s *stage) { s.do("TRUNCATE public.passthrough_birds") }, []string{"INSERT INTO public.passthrough_birds VALUES (3, 3, 3)"}},
		"without a value": {func(s *stage) {
			s.do("UPDATE public.passthrough_birds SET value = CASE WHEN col_idx < 100 THEN 'NaN'::float8 END")
		}, []string{"INSERT INTO public.passthrough_birds VALUES (3, 3, 3) ON CONFLICT (row_idx, col_idx) DO UPDATE SET value = 3"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTiledStage(t, g.Rows, g.Cols, false)
			c.setup(s)
			before := s.dump()
			same := func(when string) {
				t.Helper()
				got, err := s.woven()
				h := ask[int](s, "SELECT count(*) FROM public.passthrough_birds WHERE value <> 'NaN'")
				if err != nil || len(got) != h {
					t.Errorf("%s: %d cells are read of %d: %v", when, len(got), h, err)
				}
				if s.layer.HasIndices {
					s.sameAsTable(when)
				}
			}
			was, err := s.woven()
			if err != nil {
				t.Fatal(err)
			}
			h := s.byHand()
			h.to(migrate.CutOver)
			got, err := s.woven()
			h.must(err)
			if !maps.Equal(got, was) {
				t.Errorf("%d cells are read from tiles, and %d were from the table, or they differ", len(got), len(was))
			}
			for _, sql := range c.write {
				s.do(sql)
				same(sql)
			}
			lease, found, err := s.migrations.ClaimBehind(t.Context(), 1e9)
			if h.must(err); !found {
				t.Error("nothing was noted")
			}
			_, err = s.migrations.Follow(t.Context(), lease)
			h.must(err)
			same("made anew")
			h.must(s.migrations.Rollback(t.Context(), h.id, h.etag()))
			same("after the rollback")
			if after := s.dump(); after != before {
				t.Errorf("the schema is not what it was:\n%s\n--- before\n%s", after, before)
			}
		})
	}
}

// Rows that have no place are refused beforehand; one that is written meanwhile is
// the writer's success, and named by what reads it.
func TestRowsWithoutAPlaceInTiles(t *testing.T) {
	for _, sql := range []string{
		"INSERT INTO public.passthrough_birds VALUES (2147483647, -2147483648, 1)",
		"INSERT INTO public.passthrough_birds VALUES (-1, 3, 1)",
		"INSERT INTO public.passthrough_birds VALUES (40, 3, 1)",
		"INSERT INTO public.passthrough_birds VALUES (NULL, 3, 1)",
	} {
		s := newTiledStage(t, 40, 30, true)
		s.do("ALTER TABLE public.passthrough_birds DROP CONSTRAINT passthrough_birds_pkey, ADD UNIQUE (row_idx, col_idx), ALTER row_idx DROP NOT NULL")
		h := s.byHand()
		h.to(migrate.CutOver)
		s.do(sql)
		_, err := s.woven()
		want(t, err, fault.Precondition, fault.CellOffGrid)
		lease, _, err := s.migrations.ClaimBehind(t.Context(), 1e9)
		h.must(err)
		_, err = s.migrations.Follow(t.Context(), lease)
		want(t, err, fault.Precondition, fault.CellOffGrid)
		h.must(s.migrations.Rollback(t.Context(), h.id, h.etag()))
		_, err = s.migrations.Start(t.Context(), "again", s.spec(), s.layer, nil)
		if f := fault.From(err); f.Reason != fault.MigrationRefused || f.Fields["refusals"] != "OFF_GRID" && f.Fields["refusals"] != "NULL_INDEX" {
			t.Errorf("%v", err)
		}
	}
}

func TestTilesRefuse(t *testing.T) {
	for name, c := range map[string]struct{ setup, codes string }{
		"another column":    {"ALTER TABLE public.passthrough_birds ADD quality text", "COLUMNS"},
		"a view":            {"CREATE VIEW public.seen AS SELECT value FROM public.passthrough_birds", "DEPENDENT"},
		"materialized view": {"CREATE MATERIALIZED VIEW public.mv AS SELECT count(*) FROM public.passthrough_birds", "DEPENDENT"},
		"trigger":           {"CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER t BEFORE INSERT ON public.passthrough_birds FOR EACH ROW EXECUTE FUNCTION public.f()", "DEPENDENT"},
		"cells twice":       {"ALTER TABLE public.passthrough_birds DROP CONSTRAINT passthrough_birds_pkey; INSERT INTO public.passthrough_birds VALUES (9, 9, 1), (9, 9, 2)", "DUPLICATE_CELLS"},
		"another type":      {"ALTER TABLE public.passthrough_birds ALTER value TYPE text", "COLUMNS"},
		"another layer":     {"INSERT INTO rasterloom.layer SELECT (jsonb_populate_record(l, '{\"name\": \"other\"}')).* FROM rasterloom.layer l", "TABLE_SHARED"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTiledStage(t, 40, 30, false)
			if _, err := s.pool.Exec(t.Context(), c.setup, pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatal(err)
			}
			before := s.dump()
			_, err := s.migrations.Start(t.Context(), "k", s.spec(), s.layer, nil)
			if f := want(t, err, fault.Precondition, fault.MigrationRefused); f.Fields["refusals"] != c.codes {
				t.Errorf("%v %v", f, f.Fields)
			}
			if s.dump() != before || ask[int](s, "SELECT count(*) FROM rasterloom.migration") != 0 {
				t.Error("a refusal left something behind")
			}
		})
	}
	s := newTiledStage(t, 40, 30, false)
	_, err := s.migrations.Start(t.Context(), "k", migrate.Spec{Layer: "birds", Level: migrate.LevelTiled, InPlace: true}, s.layer, nil)
	want(t, err, fault.Invalid, fault.InvalidArgument)
	_, err = s.migrations.Plan(t.Context(), migrate.Spec{Layer: "birds", Level: migrate.LevelStored, Tiles: migrate.TileSpec{SQLView: true}}, s.layer, nil)
	want(t, err, fault.Invalid, fault.InvalidArgument)
	// What the catalog says of it changes while it is made.
	h := s.byHand()
	h.to(migrate.Verified)
	s.do("UPDATE rasterloom.layer SET nodata = 5, generation = generation + 1")
	want(t, s.migrations.CutOver(t.Context(), h.id, h.etag()), fault.Conflict, fault.LayerChanged)
	h.must(s.migrations.Abort(t.Context(), h.id, h.etag()))
}
