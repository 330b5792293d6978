package worker_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/internal/pgstore"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// byHand takes the arrows one by one, so that a test can do things in between.
type byHand struct {
	*stage
	id    migrate.ID
	lease migrate.Lease
}

func (s *stage) byHand() *byHand {
	s.t.Helper()
	h := &byHand{stage: s, id: s.start("by-hand").ID}
	h.claim()
	return h
}

func (h *byHand) claim() {
	h.t.Helper()
	lease, found, err := h.migrations.Claim(h.t.Context(), time.Hour)
	if err != nil || !found || lease.ID != h.id {
		h.t.Fatalf("claim: %v %v %v", lease, found, err)
	}
	h.lease = lease
}

func (h *byHand) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err, fault.From(err).Detail())
	}
}

// to takes arrows up to a state.
func (h *byHand) to(want migrate.State) {
	h.t.Helper()
	ctx, m := h.t.Context(), h.migrations
	for {
		now, err := m.Get(ctx, h.id)
		h.must(err)
		if now.State == want {
			return
		}
		switch now.State {
		case migrate.Planned:
			h.must(m.Capture(ctx, h.lease))
		case migrate.Capturing:
			h.must(m.Open(ctx, h.lease))
		case migrate.Backfilling:
			h.copyAll()
			h.must(m.Index(ctx, h.lease))
		case migrate.Indexed:
			turn := 0
			for ; ; turn++ {
				left, err := m.ApplyNotes(ctx, h.lease, turn)
				h.must(err)
				if !left {
					break
				}
			}
			more, err := m.Sync(ctx, h.lease, turn)
			h.must(err)
			if more {
				h.t.Log("more notes to apply")
			}
		case migrate.Synced:
			h.must(m.Verify(ctx, h.lease))
		case migrate.Verified:
			h.must(m.CutOver(ctx, h.id, now.ETag()))
		default:
			h.t.Fatalf("no way from %s to %s", now.State, want)
		}
	}
}

func (h *byHand) copyAll() {
	h.t.Helper()
	for {
		lanes, err := h.migrations.Lanes(h.t.Context(), h.id)
		h.must(err)
		if len(lanes) == 0 {
			return
		}
		_, _, err = h.migrations.CopyChunk(h.t.Context(), h.lease, lanes[0])
		h.must(err)
	}
}

func (h *byHand) etag() string {
	h.t.Helper()
	m, err := h.migrations.Get(h.t.Context(), h.id)
	h.must(err)
	return m.ETag()
}

func want(t testing.TB, err error, kind fault.Kind, reason fault.Reason) *fault.Error {
	t.Helper()
	f := fault.From(err)
	if err == nil || f.Kind != kind || f.Reason != reason {
		t.Fatalf("got %v, want %v %v", err, kind, reason)
	}
	return f
}

var pausable = []migrate.State{migrate.Planned, migrate.Capturing, migrate.Backfilling, migrate.Indexed, migrate.Synced, migrate.Verified}

// I6: given up anywhere before the cut-over, nothing is left of a migration.
func TestAbortLeavesNothing(t *testing.T) { newStage(t, 40, 30, false).giveUpEverywhere() }

func TestTilesGivenUpLeaveNothing(t *testing.T) { newTiledStage(t, 260, 260, false).giveUpEverywhere() }

// giveUpEverywhere gives a migration up in each state before the cut-over, and looks
// that nothing is left of it.
func (s *stage) giveUpEverywhere() {
	s.t.Helper()
	before, content := s.dump(), s.content()
	for i, state := range pausable {
		m := s.start(fmt.Sprint("key ", i))
		h := &byHand{stage: s, id: m.ID}
		h.claim()
		h.to(state)
		h.must(s.migrations.Abort(s.t.Context(), m.ID, h.etag()))
		if after := s.dump(); after != before {
			s.t.Errorf("aborted in %s, the schema is\n%s\n--- before\n%s", state, after, before)
		}
		if s.content() != content || s.generation() != 1 {
			s.t.Errorf("aborted in %s, the content or the generation changed", state)
		}
	}
}

// The old code's statements after the cut-over, and the end.
func TestFinalize(t *testing.T) {
	for name, southUp := range map[string]bool{"north-up": false, "south-up": true} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 1000, 1050, southUp)
			h := s.byHand()
			h.to(migrate.CutOver)
			s.do("INSERT INTO public.passthrough_birds (row_idx, col_idx, value) VALUES (0, 0, 1.5) ON CONFLICT (row_idx, col_idx) DO UPDATE SET value = EXCLUDED.value")
			s.do("UPDATE public.passthrough_birds SET col_idx = 5 WHERE row_idx = 7 AND col_idx = 5")
			s.do("DELETE FROM public.passthrough_birds WHERE row_idx = 3")
			content := s.content()
			h.must(s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{}))
			if s.content() != content {
				t.Error("finalizing changed the content")
			}
			if n := ask[int](s, "SELECT count(*) FROM pg_class WHERE relnamespace = 'rasterloom'::regnamespace AND relname ~ '^(old|shadow|notes|index)_'"); n != 0 {
				t.Errorf("%d relations are left over", n)
			}
			if names := ask[string](s, "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace"); names != "passthrough_birds passthrough_birds_pkey" {
				t.Errorf("the schema has %s", names)
			}
			// Every coordinate, by the domain's own arithmetic, to the last bit.
			rows, err := s.pool.Query(t.Context(), "SELECT row_idx, col_idx, x_coord, y_coord FROM public.passthrough_birds")
			h.must(err)
			var row, col int64
			var x, y float64
			cells, wrong := 0, 0
			_, err = pgx.ForEachRow(rows, []any{&row, &col, &x, &y}, func() error {
				north := row
				if southUp {
					north = int64(s.layer.Grid.Rows) - 1 - row
				}
				if math.Float64bits(x) != math.Float64bits(s.layer.Grid.X(col)) || math.Float64bits(y) != math.Float64bits(s.layer.Grid.Y(north)) {
					wrong++
				}
				cells++
				return nil
			})
			h.must(err)
			if wrong != 0 || cells < 1e6 {
				t.Errorf("%d of %d coordinates differ from the grid's", wrong, cells)
			}
			_, err = s.pool.Exec(t.Context(), "UPDATE public.passthrough_birds SET x_coord = 0 WHERE row_idx = 7")
			if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "428C9" {
				t.Errorf("a coordinate can be overwritten: %v", err)
			}
			want(t, s.migrations.Rollback(t.Context(), h.id, h.etag()), fault.Precondition, fault.MigrationState)
		})
	}
}

// A value flipped behind the triggers' back is found, named, and nothing goes on.
func TestVerifyNamesWhatDiffers(t *testing.T) {
	for name, harm := range map[string]struct{ sql, what string }{
		"flipped": {"UPDATE rasterloom.shadow_1 SET value = '-0'::float8 WHERE row_idx = 3 AND col_idx = 7", "changed"},
		"missing": {"DELETE FROM rasterloom.shadow_1 WHERE row_idx = 3 AND col_idx = 7", "missing"},
		"added":   {"INSERT INTO rasterloom.shadow_1 (row_idx, col_idx, value) VALUES (3, 1000, 1)", "added"},
		"flipped in the table itself": {`ALTER TABLE public.passthrough_birds DISABLE TRIGGER rasterloom_row_1;
			UPDATE public.passthrough_birds SET value = '-0'::float8 WHERE row_idx = 3 AND col_idx = 7;
			ALTER TABLE public.passthrough_birds ENABLE ALWAYS TRIGGER rasterloom_row_1`, "changed"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 40, 30, false)
			s.do("INSERT INTO public.passthrough_birds VALUES (3, 7, 0) ON CONFLICT (row_idx, col_idx) DO UPDATE SET value = 0")
			h := s.byHand()
			h.to(migrate.Synced)
			s.do(harm.sql)
			f := want(t, s.migrations.Verify(t.Context(), h.lease), fault.Corrupt, fault.DataCorrupt)
			m, err := s.migrations.Get(t.Context(), h.id)
			h.must(err)
			if m.State != migrate.Synced || len(m.Verification.Differing) != 1 || m.Verification.Differing[0].What != harm.what ||
				m.Verification.Differing[0].Row != 3 || !strings.Contains(f.Message, "(3, ") {
				t.Errorf("%s: %v, %+v", m.State, f, m.Verification)
			}
		})
	}
}

// What happens to the table while it is being copied.
func TestTruncateAndRewriteWhileCopying(t *testing.T) {
	for name, change := range map[string][]string{
		"truncated":               {"TRUNCATE public.passthrough_birds"},
		"truncated and refilled":  {"TRUNCATE public.passthrough_birds", "INSERT INTO public.passthrough_birds SELECT i, 3, i FROM generate_series(0, 99) i"},
		"rewritten":               {"VACUUM FULL public.passthrough_birds"},
		"rewritten after changes": {"UPDATE public.passthrough_birds SET value = value + 1 WHERE row_idx < 20", "DELETE FROM public.passthrough_birds WHERE row_idx = 90", "VACUUM FULL public.passthrough_birds"},
		"deleted and vacuumed":    {"DELETE FROM public.passthrough_birds WHERE row_idx > 40", "VACUUM public.passthrough_birds", "INSERT INTO public.passthrough_birds SELECT 99, i, i FROM generate_series(0, 299) i"},
	} {
		for _, at := range []migrate.State{migrate.Capturing, migrate.Backfilling, migrate.Indexed, migrate.Synced, migrate.Verified, migrate.CutOver} {
			t.Run(name+" while "+string(at), func(t *testing.T) {
				t.Parallel()
				s := newStage(t, 100, 300, false) // some 160 pages: two lanes
				h := s.byHand()
				h.to(at)
				if at == migrate.Backfilling {
					_, _, err := s.migrations.CopyChunk(t.Context(), h.lease, 1)
					h.must(err)
				}
				for _, sql := range change {
					s.do(sql)
				}
				content := s.content()
				h.to(migrate.CutOver)
				if s.content() != content {
					t.Error("the content changed with the cut-over")
				}
				h.must(s.migrations.Rollback(t.Context(), h.id, h.etag()))
				if s.content() != content {
					t.Error("the content changed with the rollback")
				}
			})
		}
	}
}

// A REPEATABLE READ writer deletes a row that was copied after its snapshot.
func TestDeleteFromBeforeTheCopy(t *testing.T) {
	s := newStage(t, 40, 30, false)
	h := s.byHand()
	h.to(migrate.Indexed)
	s.do("INSERT INTO public.passthrough_birds VALUES (3, 7, 0) ON CONFLICT (row_idx, col_idx) DO UPDATE SET value = 1")
	tx, err := s.pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	h.must(err)
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	_, err = tx.Exec(t.Context(), "SELECT txid_current()")
	h.must(err)
	h.to(migrate.Synced)
	_, err = tx.Exec(t.Context(), "DELETE FROM public.passthrough_birds WHERE row_idx = 3 AND col_idx = 7")
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "40001" {
		t.Errorf("the copy stays behind: %v", err)
	}
	h.must(tx.Rollback(t.Context()))
	h.to(migrate.Verified)
}

// A long REPEATABLE READ reader from before the copy was complete would see a
// part of the table: the cut-over waits for its end, and says so.
func TestCutOverWaitsForOldSnapshots(t *testing.T) {
	s := newStage(t, 40, 30, false)
	h := s.byHand()
	h.to(migrate.Indexed)
	tx, err := s.pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	h.must(err)
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	_, err = tx.Exec(t.Context(), "SELECT 1")
	h.must(err)
	h.to(migrate.Verified)
	etag, content := h.etag(), s.content()
	f := want(t, s.migrations.CutOver(t.Context(), h.id, etag), fault.Unavailable, fault.TableBusy)
	if pid := fmt.Sprint(tx.Conn().PgConn().PID()); f.Fields["sessions"] != pid || !strings.Contains(f.Message, pid) {
		t.Errorf("%s %v, and session %s is open", f.Message, f.Fields, pid)
	}
	if h.etag() != etag {
		t.Error("a refused cut-over changed the migration")
	}
	h.must(tx.Rollback(t.Context()))
	h.must(s.migrations.CutOver(t.Context(), h.id, etag))
	if s.content() != content {
		t.Error("the content changed with the cut-over")
	}
}

// A role that may only INSERT goes on writing, and gets no other right.
func TestWritersNeedNoNewRights(t *testing.T) {
	s := newStage(t, 40, 30, false)
	role := fmt.Sprintf("writer_%d", rand.Uint32())
	s.do("CREATE ROLE " + role)
	t.Cleanup(func() {
		pool := pgtest.Connect(t, s.url)
		_, err := pool.Exec(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			t.Error(err)
		}
	})
	s.do("GRANT INSERT ON public.passthrough_birds TO " + role)
	s.do("GRANT UPDATE (value), SELECT (row_idx) ON public.passthrough_birds TO " + role)
	privileges := func() string {
		return ask[string](s, `SELECT (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(relacl) a) || (SELECT string_agg(attname || attacl::text, ' ' ORDER BY attname)
			FROM pg_attribute WHERE attrelid = c.oid) FROM pg_class c WHERE oid = 'public.passthrough_birds'::regclass`)
	}
	before := privileges()
	h := s.byHand()
	for i, state := range append(pausable, migrate.CutOver) {
		h.to(state)
		err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), "SET LOCAL ROLE "+role)
			if err == nil {
				_, err = tx.Exec(t.Context(), "INSERT INTO public.passthrough_birds (row_idx, col_idx, value) VALUES ($1, 999, 1)", i)
			}
			return err
		})
		if err != nil {
			t.Errorf("in %s a writer fails: %v", state, err)
		}
	}
	if after := privileges(); after != before {
		t.Errorf("privileges are %s\nand were %s", after, before)
	}
	if n := ask[int](s, "SELECT count(*) FROM rasterloom.old_1 WHERE col_idx = 999"); n != len(pausable)+1 {
		t.Errorf("%d of %d rows arrived", n, len(pausable)+1)
	}
	h.must(s.migrations.Rollback(t.Context(), h.id, h.etag()))
	if after := privileges(); after != before {
		t.Errorf("privileges are %s\nand were %s", after, before)
	}
}

// A worker that was taken over does nothing any more.
func TestZombieIsFencedOut(t *testing.T) {
	for _, state := range pausable[:5] {
		s := newStage(t, 40, 30, false)
		h := s.byHand()
		h.to(state)
		zombie := h.lease
		h.must(s.migrations.Release(t.Context(), h.lease))
		h.claim()
		if h.lease.Fence <= zombie.Fence {
			t.Errorf("fence %d after %d", h.lease.Fence, zombie.Fence)
		}
		before := h.etag()
		m, ctx := s.migrations, t.Context()
		var err error
		switch state {
		case migrate.Planned:
			err = m.Capture(ctx, zombie)
		case migrate.Capturing:
			err = m.Open(ctx, zombie)
		case migrate.Backfilling:
			_, _, err = m.CopyChunk(ctx, zombie, 0)
		case migrate.Indexed:
			_, err = m.Sync(ctx, zombie, 0)
		case migrate.Synced:
			err = m.Verify(ctx, zombie)
		}
		want(t, err, fault.Conflict, fault.MigrationChanged)
		want(t, m.Renew(ctx, zombie), fault.Conflict, fault.MigrationChanged)
		want(t, m.Fail(ctx, zombie, errors.New("no")), fault.Conflict, fault.MigrationChanged)
		if h.etag() != before {
			t.Errorf("in %s a zombie changed the migration", state)
		}
	}
}

// An arrow that takes longer than the lease, as the indexes of a large table do,
// keeps it: nobody can claim a migration whose row is locked, and the new state
// comes with a new lease.
func TestLongArrowKeepsItsLease(t *testing.T) {
	s := newStage(t, 40, 30, false)
	h := s.byHand()
	ctx := t.Context()
	impatient, err := pgstore.Open(ctx, s.url, pgstore.Options{LockTimeout: 20 * time.Millisecond})
	h.must(err)
	defer impatient.Close()
	h.must(pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { // as an arrow does
		_, err := tx.Exec(ctx, "SELECT FROM rasterloom.migration WHERE id = $1 FOR UPDATE", int64(h.id))
		h.must(err)
		h.must(impatient.Migrations().Renew(ctx, h.lease))
		_, found, err := impatient.Migrations().Claim(ctx, time.Hour)
		if found {
			t.Error("a migration was claimed whose row is locked")
		}
		return err
	}))
	for _, state := range []migrate.State{migrate.Capturing, migrate.Backfilling, migrate.Indexed, migrate.Synced} {
		s.do("UPDATE rasterloom.migration SET lease_until = clock_timestamp() - interval '1 hour'")
		h.to(state)
		if _, found, err := h.migrations.Claim(ctx, time.Hour); found || err != nil {
			t.Errorf("in %s somebody else claims the migration, whose arrow took longer than its lease: %v", state, err)
		}
	}
	h.to(migrate.Verified)
}

func TestOperatorsMustHaveSeenIt(t *testing.T) {
	s := newStage(t, 40, 30, false)
	h := s.byHand()
	stale := h.etag()
	ctx, m := t.Context(), s.migrations
	want(t, m.CutOver(ctx, h.id, stale), fault.Precondition, fault.MigrationState)
	want(t, m.Finalize(ctx, h.id, stale, migrate.Losses{}), fault.Precondition, fault.MigrationState)
	want(t, m.Rollback(ctx, h.id, stale), fault.Precondition, fault.MigrationState)
	h.to(migrate.Verified)
	want(t, m.CutOver(ctx, h.id, stale), fault.Conflict, fault.MigrationChanged)
	want(t, m.Abort(ctx, h.id, stale), fault.Conflict, fault.MigrationChanged)
	want(t, m.CutOver(ctx, 4711, stale), fault.NotFound, fault.MigrationNotFound)
	h.to(migrate.CutOver)
	want(t, m.Finalize(ctx, h.id, stale, migrate.Losses{}), fault.Conflict, fault.MigrationChanged)
	want(t, m.Rollback(ctx, h.id, stale), fault.Conflict, fault.MigrationChanged)
	want(t, m.Abort(ctx, h.id, h.etag()), fault.Precondition, fault.MigrationState)
}

func TestKeysAndOneMigrationAtATime(t *testing.T) {
	s := newStage(t, 40, 30, false)
	first := s.start("key")
	if again := s.start("key"); again.ID != first.ID {
		t.Errorf("the same request made %s and %s", first.ID, again.ID)
	}
	spec := migrate.Spec{Layer: "birds", Level: migrate.LevelStored, RowsPerSecond: 5}
	_, err := s.migrations.Start(t.Context(), "key", spec, s.layer, nil)
	want(t, err, fault.Exists, fault.MigrationExists)
	_, err = s.migrations.Start(t.Context(), "another key", spec, s.layer, nil)
	want(t, err, fault.Exists, fault.MigrationExists)
}

func TestPauseAndResume(t *testing.T) {
	s := newStage(t, 40, 30, false)
	h := s.byHand()
	h.to(migrate.Backfilling)
	h.must(s.migrations.Pause(t.Context(), h.id, h.etag()))
	_, _, err := s.migrations.CopyChunk(t.Context(), h.lease, 0)
	want(t, err, fault.Conflict, fault.MigrationChanged)
	if _, found, err := s.migrations.Claim(t.Context(), time.Hour); found || err != nil {
		t.Errorf("a paused migration is claimed (%v)", err)
	}
	s.do("UPDATE public.passthrough_birds SET value = 42 WHERE row_idx = 8") // captured all the same
	h.must(s.migrations.Resume(t.Context(), h.id, h.etag()))
	h.claim()
	h.to(migrate.CutOver)
	want(t, s.migrations.Pause(t.Context(), h.id, h.etag()), fault.Precondition, fault.MigrationState)
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		setup string
		codes string
		field string
		count string
	}{
		"no key, cells twice": {"ALTER TABLE public.passthrough_birds DROP CONSTRAINT passthrough_birds_pkey; INSERT INTO public.passthrough_birds VALUES (9, 99, 1), (9, 99, 2)", "DUPLICATE_CELLS,OFF_GRID", "duplicate_cells", "1"},
		"without an index":    {"ALTER TABLE public.passthrough_birds DROP CONSTRAINT passthrough_birds_pkey, ALTER row_idx DROP NOT NULL; CREATE UNIQUE INDEX ON public.passthrough_birds (row_idx, col_idx); INSERT INTO public.passthrough_birds VALUES (NULL, 3, 1), (NULL, 3, 2)", "NULL_INDEX", "null_index", "2"},
		"outside":             {"INSERT INTO public.passthrough_birds VALUES (40, 3, 1), (-1, 3, 1), (3, 30, 1)", "OFF_GRID", "off_grid", "3"},
		"foreign key":         {"CREATE TABLE public.other (row_idx integer, col_idx integer, FOREIGN KEY (row_idx, col_idx) REFERENCES public.passthrough_birds)", "DEPENDENT", "", ""},
		"trigger":             {"CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER t BEFORE INSERT ON public.passthrough_birds FOR EACH ROW EXECUTE FUNCTION public.f()", "DEPENDENT", "", ""},
		"publication":         {"CREATE PUBLICATION p FOR TABLE public.passthrough_birds", "DEPENDENT", "", ""},
		"row-level security":  {"ALTER TABLE public.passthrough_birds ENABLE ROW LEVEL SECURITY", "DEPENDENT", "", ""},
		"materialized view":   {"CREATE MATERIALIZED VIEW public.mv AS SELECT count(*) FROM public.passthrough_birds", "DEPENDENT", "", ""},
		"inheritance":         {"CREATE TABLE public.child () INHERITS (public.passthrough_birds)", "DEPENDENT", "", ""},
		"rule on a view":      {"CREATE VIEW public.entry AS SELECT row_idx, col_idx FROM public.passthrough_birds; CREATE RULE put AS ON INSERT TO public.entry DO INSTEAD INSERT INTO public.passthrough_birds (row_idx, col_idx) VALUES (NEW.row_idx, NEW.col_idx)", "DEPENDENT", "", ""},
		"function of a row":   {"CREATE FUNCTION public.twice(p public.passthrough_birds) RETURNS float8 LANGUAGE sql AS 'SELECT p.value * 2'", "DEPENDENT", "", ""},
		"function of rows":    {"CREATE FUNCTION public.all_of(p public.passthrough_birds[]) RETURNS integer LANGUAGE sql AS 'SELECT cardinality(p)'", "DEPENDENT", "", ""},
		"policy of another":   {"CREATE TABLE public.other (a integer); CREATE POLICY seen ON public.other USING (a IN (SELECT row_idx FROM public.passthrough_birds))", "DEPENDENT", "", ""},
		"domain on the rows":  {"CREATE DOMAIN public.bird AS public.passthrough_birds", "DEPENDENT", "", ""},
		"not valid":           {"INSERT INTO public.passthrough_birds VALUES (3, 3, -1) ON CONFLICT (row_idx, col_idx) DO UPDATE SET value = -1; ALTER TABLE public.passthrough_birds ADD CONSTRAINT many CHECK (value >= 0) NOT VALID", "NOT_VALID", "", ""},
		"unlogged":            {"ALTER TABLE public.passthrough_birds SET UNLOGGED", "NOT_A_TABLE", "", ""},
		"coordinate column":   {"ALTER TABLE public.passthrough_birds ADD x_coord text", "COLUMNS", "", ""},
		"no value":            {"ALTER TABLE public.passthrough_birds DROP value", "COLUMNS", "", ""},
		"a view instead":      {"ALTER TABLE public.passthrough_birds RENAME TO t; CREATE VIEW public.passthrough_birds AS SELECT * FROM public.t", "NOT_A_TABLE", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 40, 30, false)
			if _, err := s.pool.Exec(t.Context(), c.setup, pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatal(err)
			}
			before := s.dump()
			_, err := s.migrations.Start(t.Context(), "k", migrate.Spec{Layer: "birds", Level: migrate.LevelStored}, s.layer, nil)
			f := want(t, err, fault.Precondition, fault.MigrationRefused)
			if name == "unlogged" && (!strings.Contains(f.Message, "unlogged") || !strings.Contains(f.Message, "SET LOGGED")) {
				t.Errorf("%v", f)
			}
			if f.Fields["refusals"] != c.codes || c.field != "" && f.Fields[c.field] != c.count {
				t.Errorf("%v %v", f, f.Fields)
			}
			if s.dump() != before || ask[int](s, "SELECT count(*) FROM rasterloom.migration") != 0 {
				t.Error("a refusal left something behind")
			}
		})
	}
	s := newStage(t, 4, 3, false)
	s.do("DROP TABLE public.passthrough_birds")
	_, err := s.migrations.Start(t.Context(), "k", migrate.Spec{Layer: "birds", Level: migrate.LevelStored}, s.layer, nil)
	want(t, err, fault.NotFound, fault.LayerNotFound)
}
