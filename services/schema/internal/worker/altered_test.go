package worker_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// doAll runs statements of somebody's.
func (s *stage) doAll(sql string) {
	s.t.Helper()
	if _, err := s.pool.Exec(s.t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

// alteration is what somebody does to a table, or hangs on it, while it is migrated.
type alteration struct{ do, undo, named string }

const birds = "public.passthrough_birds"

// alterations are all that one table may have and another one lack.
var alterations = map[string]alteration{
	"trigger": {"CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER audit BEFORE INSERT ON " + birds + " FOR EACH ROW EXECUTE FUNCTION public.f()",
		"DROP TRIGGER audit ON " + birds + "; DROP FUNCTION public.f()", "trigger audit"},
	"row-level security": {"ALTER TABLE " + birds + " ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON " + birds + " USING (row_idx < 3)",
		"DROP POLICY few ON " + birds + "; ALTER TABLE " + birds + " DISABLE ROW LEVEL SECURITY", "policy few, row-level security passthrough_birds"},
	"policy of another table": {"CREATE TABLE public.other (row_idx integer); CREATE POLICY seen ON public.other USING (EXISTS (SELECT FROM " + birds + " b WHERE b.row_idx = other.row_idx))",
		"DROP TABLE public.other", "policy seen on public.other"},
	"foreign key": {"CREATE TABLE public.other (row_idx integer, col_idx integer, CONSTRAINT there FOREIGN KEY (row_idx, col_idx) REFERENCES " + birds + ")",
		"DROP TABLE public.other", "foreign key there on public.other"},
	"check":                 {"ALTER TABLE " + birds + " ADD CONSTRAINT near CHECK (row_idx < 1000)", "ALTER TABLE " + birds + " DROP CONSTRAINT near", "check constraint near"},
	"check not valid":       {"ALTER TABLE " + birds + " ADD CONSTRAINT near CHECK (row_idx < 3) NOT VALID", "ALTER TABLE " + birds + " DROP CONSTRAINT near", "check constraint near"},
	"index":                 {"CREATE INDEX by_value ON " + birds + " (value)", "DROP INDEX public.by_value", "index by_value"},
	"deferrable constraint": {"ALTER TABLE " + birds + " ADD CONSTRAINT once UNIQUE (row_idx, col_idx) DEFERRABLE", "ALTER TABLE " + birds + " DROP CONSTRAINT once", "index once"},
	"materialized view":     {"CREATE MATERIALIZED VIEW public.sums AS SELECT sum(row_idx) FROM " + birds, "DROP MATERIALIZED VIEW public.sums", "materialized view public.sums"},
	"publication":           {"CREATE PUBLICATION news FOR TABLE " + birds, "DROP PUBLICATION news", "publication news"},
	"subscription": {"CREATE SUBSCRIPTION far CONNECTION 'dbname=none' PUBLICATION p WITH (connect = false, slot_name = NONE); INSERT INTO pg_subscription_rel SELECT oid, '" + birds + "'::regclass, 'r', NULL FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
		"DELETE FROM pg_subscription_rel; DROP SUBSCRIPTION far", "subscription far"},
	"child":               {"CREATE TABLE public.child () INHERITS (" + birds + "); INSERT INTO public.child (row_idx, col_idx) VALUES (1, 1)", "DROP TABLE public.child", "inheritance public.child"},
	"statistics":          {"CREATE STATISTICS public.both (dependencies) ON row_idx, col_idx FROM " + birds, "DROP STATISTICS public.both", "extended statistics both"},
	"storage parameter":   {"ALTER TABLE " + birds + " SET (autovacuum_enabled = false)", "ALTER TABLE " + birds + " RESET (autovacuum_enabled)", "storage parameter autovacuum_enabled"},
	"replica identity":    {"ALTER TABLE " + birds + " REPLICA IDENTITY FULL", "ALTER TABLE " + birds + " REPLICA IDENTITY DEFAULT", "replica identity"},
	"statistics target":   {"ALTER TABLE " + birds + " ALTER value SET STATISTICS 500", "ALTER TABLE " + birds + " ALTER value SET STATISTICS -1", "statistics target of column value"},
	"column options":      {"ALTER TABLE " + birds + " ALTER value SET (n_distinct = 7)", "ALTER TABLE " + birds + " ALTER value RESET (n_distinct)", "options of column value"},
	"comment on an index": {"COMMENT ON INDEX public.passthrough_birds_pkey IS 'cells'", "COMMENT ON INDEX public.passthrough_birds_pkey IS NULL", "index passthrough_birds_pkey"},
	"comment on a column": {"COMMENT ON COLUMN " + birds + ".value IS 'counted'", "COMMENT ON COLUMN " + birds + ".value IS NULL", "comment on column value"},
	"unlogged":            {"ALTER TABLE " + birds + " SET UNLOGGED", "ALTER TABLE " + birds + " SET LOGGED", "persistence"},
	"rule on a view": {"CREATE VIEW public.entry AS SELECT row_idx, col_idx, value * 2 AS twice FROM " + birds + "; CREATE RULE put AS ON INSERT TO public.entry DO INSTEAD INSERT INTO " + birds +
		" (row_idx, col_idx, value) VALUES (NEW.row_idx, NEW.col_idx, NEW.twice / 2)", "DROP VIEW public.entry", "rule put on public.entry"},
	"rule on another table": {"CREATE TABLE public.log (a integer); CREATE RULE copy AS ON INSERT TO public.log DO ALSO INSERT INTO " + birds + " (row_idx, col_idx) VALUES (NEW.a, 0)",
		"DROP TABLE public.log", "rule copy on public.log"},
	"function of a row": {"CREATE FUNCTION public.twice(p " + birds + ") RETURNS float8 LANGUAGE sql AS 'SELECT p.value * 2'; CREATE FUNCTION public.many() RETURNS " + birds + "[] LANGUAGE sql AS 'SELECT ARRAY[]::" + birds + "[]'",
		"DROP FUNCTION public.twice, public.many", "function public.many(), function public.twice(public.passthrough_birds)"},
	"domain on the row type": {"CREATE DOMAIN public.bird AS " + birds, "DROP DOMAIN public.bird", "row type type public.bird"},
}

// What is put on the table while a migration waits is neither lost by the cut-over nor by
// the way back: both are refused and say what it is. Once it is gone, they go on.
func TestNothingIsLostThatWasPutOnTheTable(t *testing.T) {
	for name, c := range alterations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, 40, 30, false)
			h := s.byHand()
			h.to(migrate.Verified)
			refuses := func(what string, do func(etag string) error) {
				t.Helper()
				s.doAll(c.do)
				before := s.dump()
				f := want(t, do(h.etag()), fault.Precondition, fault.Dependent)
				if f.Fields["dependents"] != c.named || !strings.Contains(f.Message, c.named) {
					t.Errorf("%s: %v names %q, want %q", what, f, f.Fields["dependents"], c.named)
				}
				if s.dump() != before {
					t.Errorf("a refused %s changed something", what)
				}
				s.doAll(c.undo)
			}
			cutOver := func(etag string) error { return s.migrations.CutOver(t.Context(), h.id, etag) }
			rollback := func(etag string) error { return s.migrations.Rollback(t.Context(), h.id, etag) }
			refuses("cut-over", cutOver)
			h.must(cutOver(h.etag()))
			refuses("rollback", rollback)
			h.must(rollback(h.etag()))
		})
	}
}

// What is taken off would be back, or be looked for in vain.
func TestNothingIsBackThatWasTakenOff(t *testing.T) {
	s := newStage(t, 40, 30, false)
	s.doAll("CREATE INDEX by_value ON " + birds + " (value); ALTER TABLE " + birds + " ADD CONSTRAINT near CHECK (row_idx < 1000), ALTER value SET STATISTICS 500")
	h := s.byHand()
	h.to(migrate.Verified)
	taken := "DROP INDEX public.by_value; ALTER TABLE " + birds + " DROP CONSTRAINT near, ALTER value SET STATISTICS 400; CREATE TABLE public.by_value ()"
	back := "DROP TABLE public.by_value; CREATE INDEX by_value ON " + birds + " (value); ALTER TABLE " + birds + " ADD CONSTRAINT near CHECK (row_idx < 1000), ALTER value SET STATISTICS 500"
	const named = "check constraint near, index by_value, statistics target of column value"
	refused := func(err error) {
		t.Helper()
		if f := want(t, err, fault.Precondition, fault.Dependent); f.Fields["dependents"] != named {
			t.Errorf("%v: %q", f, f.Fields["dependents"])
		}
	}
	s.doAll(taken)
	refused(s.migrations.CutOver(t.Context(), h.id, h.etag()))
	s.doAll(back)
	h.must(s.migrations.CutOver(t.Context(), h.id, h.etag()))
	s.doAll(taken)
	refused(s.migrations.Rollback(t.Context(), h.id, h.etag()))
	s.doAll(back)
	h.must(s.migrations.Rollback(t.Context(), h.id, h.etag()))
}

// All that the plan lets pass is carried to the new table, and back.
func TestWhatIsCarriedIsAlike(t *testing.T) {
	s := newStage(t, 40, 30, false)
	s.doAll(`ALTER TABLE ` + birds + ` ADD note text COLLATE "C" DEFAULT 'none' CHECK (note <> ''), ADD CONSTRAINT near CHECK (row_idx < 1000) NO INHERIT;
		ALTER TABLE ` + birds + ` ALTER note SET STORAGE EXTERNAL, ALTER value SET STATISTICS 500, ALTER note SET (n_distinct = 7);
		ALTER TABLE ` + birds + ` SET (fillfactor = 50, autovacuum_enabled = false, toast.autovacuum_enabled = false);
		ALTER TABLE ` + birds + ` ADD UNIQUE (col_idx, row_idx, note);
		COMMENT ON COLUMN ` + birds + `.note IS 'it''s theirs';
		COMMENT ON CONSTRAINT near ON ` + birds + ` IS 'near';
		CREATE UNIQUE INDEX of_some ON ` + birds + ` (col_idx DESC, row_idx) INCLUDE (value) WITH (fillfactor = 70) WHERE value > 0;
		CREATE INDEX of_notes ON ` + birds + ` (lower(note) text_pattern_ops);
		CREATE UNIQUE INDEX identity ON ` + birds + ` (col_idx, row_idx);
		ALTER TABLE ` + birds + ` REPLICA IDENTITY USING INDEX identity;
		COMMENT ON INDEX public.of_some IS E'a \\ and a ''';
		COMMENT ON CONSTRAINT passthrough_birds_pkey ON ` + birds + ` IS 'cells';
		CREATE VIEW public.seen AS SELECT row_idx, col_idx, max(value) AS most FROM ` + birds + ` GROUP BY row_idx, col_idx;
		GRANT SELECT (value), UPDATE (note), INSERT ON ` + birds + ` TO PUBLIC`)
	before := s.dump()
	h := s.byHand()
	h.to(migrate.CutOver)
	if n := ask[int](s, `SELECT count(*) FROM pg_description d JOIN pg_index i ON d.objoid = i.indexrelid OR d.objoid = (SELECT oid FROM pg_constraint WHERE conindid = i.indexrelid)
			WHERE i.indrelid = '`+birds+`'::regclass`); n != 2 {
		t.Errorf("%d comments of indexes were carried", n)
	}
	h.must(s.migrations.Rollback(t.Context(), h.id, h.etag()))
	after := strings.Split(s.dump(), "\n")
	for line := range strings.SplitSeq(before, "\n") {
		if i := slices.Index(after, line); i >= 0 {
			after = slices.Delete(after, i, i+1)
		} else {
			t.Error("gone:", line)
		}
	}
	for _, line := range after {
		t.Error("new:", line)
	}
}

// What needs the coordinates stands in the way back, which takes them away; finalizing
// keeps both.
func TestWayBackNamesWhatNeedsCoordinates(t *testing.T) {
	const do = "CREATE VIEW public.places AS SELECT x_coord, value FROM " + birds + "; GRANT SELECT (y_coord) ON " + birds + " TO PUBLIC; CREATE INDEX by_x ON " + birds +
		" (x_coord); ALTER TABLE " + birds + " ADD CONSTRAINT east CHECK (x_coord > 0)"
	for name, inPlace := range map[string]bool{"beside": false, "in place": true} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 40, 30, false)
			s.inPlace = inPlace
			h := s.byHand()
			h.to(migrate.CutOver)
			s.doAll(do)
			before := s.dump()
			f := want(t, s.migrations.Rollback(t.Context(), h.id, h.etag()), fault.Precondition, fault.Dependent)
			for _, name := range []string{"view public.places", "privilege on column y_coord (SELECT for PUBLIC)", "index by_x", "check constraint east"} {
				if strings.Count(f.Fields["dependents"], name) != 1 {
					t.Errorf("%s is not named once in %s", name, f.Fields["dependents"])
				}
			}
			if s.dump() != before {
				t.Error("a refused rollback changed something")
			}
			h.must(s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{}))
			s.doAll("SELECT x_coord FROM public.places")
		})
	}
}

// What hangs on the old table when it is to be dropped is named: a migration that an
// older program cut over may have left it there.
func TestFinalizeNamesWhatHangsOnTheOldTable(t *testing.T) {
	s := newStage(t, 40, 30, false)
	h := s.byHand()
	h.to(migrate.CutOver)
	content := s.content()
	s.doAll(`CREATE TABLE public.other (row_idx integer, col_idx integer, CONSTRAINT there FOREIGN KEY (row_idx, col_idx) REFERENCES rasterloom.old_1);
		CREATE MATERIALIZED VIEW public.sums AS SELECT sum(row_idx) FROM rasterloom.old_1;
		CREATE TABLE public.child () INHERITS (rasterloom.old_1);
		INSERT INTO public.child VALUES (1, 1, 1);
		CREATE VIEW public.late AS SELECT row_idx FROM rasterloom.old_1;
		ALTER TABLE rasterloom.old_1 ENABLE ROW LEVEL SECURITY;
		DROP INDEX IF EXISTS public.none`)
	before := s.dump()
	f := want(t, s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{}), fault.Precondition, fault.Dependent)
	if f.Fields["dependents"] != `foreign key there on public.other, inheritance public.child, materialized view public.sums, row-level security old_1, view "public"."late"` {
		t.Error(f.Fields["dependents"])
	}
	if s.dump() != before {
		t.Error("a refusal changed something")
	}
	s.doAll("DROP TABLE public.other, public.child; DROP MATERIALIZED VIEW public.sums; DROP VIEW public.late; ALTER TABLE rasterloom.old_1 DISABLE ROW LEVEL SECURITY")
	// What is on the new table stays.
	s.doAll("CREATE INDEX by_value ON " + birds + " (value); CREATE MATERIALIZED VIEW public.sums AS SELECT sum(x_coord) FROM " + birds)
	h.must(s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{}))
	if s.content() != content {
		t.Error("finalizing changed the content")
	}
}

// Tiles: the table stays as it is until it is dropped in the end, with a view or without.
func TestTilesNameWhatWouldBeLostWithTheTable(t *testing.T) {
	for name, sqlView := range map[string]bool{"with a view": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			s := newTiledStage(t, 40, 30, false)
			s.tiles.SQLView = sqlView
			h := s.byHand()
			h.to(migrate.CutOver)
			for name, c := range alterations {
				switch name {
				case "index", "check", "check not valid", "storage parameter", "replica identity", "statistics", "statistics target", "column options", "comment on an index", "comment on a column", "unlogged":
					continue // which go with the table, as the plan said
				case "rule on a view":
					if !sqlView {
						c.named += ", view public.entry"
					}
				case "child":
					continue // whose rows are the table's
				}
				s.doAll(c.do)
				before := s.dump()
				f := want(t, s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{Name: true}), fault.Precondition, fault.Dependent)
				if f.Fields["dependents"] != c.named {
					t.Errorf("%s: %v names %q, want %q", name, f, f.Fields["dependents"], c.named)
				}
				if s.dump() != before {
					t.Error("a refusal changed something")
				}
				s.doAll(c.undo)
			}
			h.must(s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{Name: true}))
		})
	}
}

// Constraints that hold for new rows alone are refused by name, with what to do about it;
// done, the migration begins.
func TestConstraintsThatAreNotValid(t *testing.T) {
	s := newStage(t, 40, 30, false)
	s.doAll("UPDATE " + birds + " SET value = -1 WHERE row_idx = 3; ALTER TABLE " + birds + ` ADD CONSTRAINT "not many" CHECK (value >= -0.5) NOT VALID`)
	for _, inPlace := range []bool{false, true} {
		s.inPlace = inPlace
		plan, err := s.migrations.Plan(t.Context(), s.spec(), s.layer, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(plan.Refusals) != 1 || plan.Refusals[0].Code != "NOT_VALID" || !strings.Contains(plan.Refusals[0].Message, "not many, CHECK") ||
			!strings.Contains(plan.Refusals[0].Fix, `VALIDATE CONSTRAINT "not many"`) {
			t.Errorf("%+v", plan.Refusals)
		}
	}
	// Tiles have none.
	s.inPlace, s.tiles = false, &migrate.TileSpec{}
	plan, err := s.migrations.Plan(t.Context(), s.spec(), s.layer, nil)
	if err != nil || len(plan.Refusals) != 0 {
		t.Errorf("%+v %v", plan.Refusals, err)
	}
	s.tiles = nil
	s.doAll("DELETE FROM " + birds + " WHERE NOT value >= -0.5; ALTER TABLE " + birds + ` VALIDATE CONSTRAINT "not many"`)
	s.byHand().to(migrate.CutOver)
}
