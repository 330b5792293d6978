package worker_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/internal/pgstore"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// restored is the stage in a database that was made of a dump of it.
func (s *stage) restored() *stage {
	s.t.Helper()
	r := *s
	r.url = pgtest.Restored(s.t, s.url)
	r.pool = pgtest.Connect(s.t, r.url)
	store, err := pgstore.Open(s.t.Context(), r.url, pgstore.Options{ApplicationName: "rasterloom-test"})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(store.Close)
	r.opened, r.migrations = store, store.Migrations()
	return &r
}

// restored is what is done by hand, in a database that was made of a dump. No worker is
// left, and its lease is over.
func (h *byHand) restored() *byHand {
	h.t.Helper()
	r := &byHand{stage: h.stage.restored(), id: h.id}
	r.do("UPDATE rasterloom.migration SET lease_until = NULL")
	return r
}

// kinds are those of migrations.
var kinds = []string{"a second table", "in place", "tiles"}

// newKind makes the stage of a kind.
func newKind(t *testing.T, kind string) *stage {
	t.Helper()
	if kind == "tiles" {
		return newTiledStage(t, 260, 20, false)
	}
	s := newStage(t, 30, 30, true)
	s.inPlace = kind == "in place"
	return s
}

// mustHold looks at what the table with the name holds, as the old code sees it, and a
// merge.
func (h *byHand) mustHold(content, when string) {
	h.t.Helper()
	if got := h.content(); got != content {
		h.t.Errorf("%s the table holds %s, and held %s", when, got, content)
	}
	if h.tiles != nil {
		h.sameAsTable(when)
	}
}

// A migration of a restored database is given up wherever it stood, and nothing of it is
// left; what else has an oid of before is left alone.
func TestRestoredIsGivenUp(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			s := newKind(t, kind)
			r := s.restored()
			before, content := r.dump(), r.content()
			h := s.byHand()
			for _, state := range pausable {
				h.to(state)
				r := h.restored()
				strangers := state == migrate.Indexed || state == migrate.Verified
				if strangers {
					r.do("CREATE TABLE public.stranger (row_idx integer, col_idx integer, value double precision)")
					r.do("UPDATE rasterloom.migration SET old_table = 'public.stranger'::regclass, new_table = 'public.stranger'::regclass")
				}
				r.must(r.migrations.Abort(t.Context(), r.id, r.etag()))
				if strangers {
					r.do("DROP TABLE public.stranger")
				}
				if after := r.dump(); after != before {
					t.Errorf("aborted in %s, the schema is\n%s\n--- before\n%s", state, after, before)
				}
				r.mustHold(content, fmt.Sprint("aborted in ", state))
				r.start("again")
			}
		})
	}
}

// A migration of a restored database moves no further by itself, and goes on from where
// it stood when it is resumed: everything that was compared is compared again. What is
// written before that is followed.
func TestRestoredGoesOn(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			s := newKind(t, kind)
			h := s.byHand()
			s.do("DELETE FROM public.passthrough_birds WHERE row_idx = 3")
			for _, state := range pausable[1:] {
				h.to(state)
				if state == migrate.Backfilling {
					s.do("UPDATE public.passthrough_birds SET value = 4 WHERE row_idx = 4") // noted
				}
				r := h.restored()
				r.do("UPDATE public.passthrough_birds SET value = 5 WHERE row_idx = 5")
				r.do("INSERT INTO public.passthrough_birds SELECT 3, c, c FROM generate_series(0, 19) c")
				content := r.content()
				if state == migrate.Verified {
					f := want(t, r.migrations.CutOver(t.Context(), r.id, r.etag()), fault.Conflict, fault.LayerChanged)
					t.Log(f)
				} else {
					lease, found, err := r.migrations.Claim(t.Context(), 1e9)
					if err != nil || !found {
						t.Fatal(found, err)
					}
					err = step(t, r, lease, state)
					t.Log(want(t, err, fault.Conflict, fault.LayerChanged))
					r.must(r.migrations.Fail(t.Context(), lease, err))
				}
				if state == migrate.Indexed { // adoption came first
					r.do("UPDATE rasterloom.layer SET table_oid = 'public.passthrough_birds'::regclass, generation = generation + 1")
				}
				r.must(r.migrations.Resume(t.Context(), r.id, r.etag()))
				if s.tiles != nil && !ask[bool](r.stage, "SELECT table_oid = 'public.passthrough_birds'::regclass AND table_file = pg_relation_filenode(table_oid) FROM rasterloom.layer") {
					t.Error("adoption would take the layer for another one")
				}
				r.claim()
				r.to(migrate.CutOver)
				r.mustHold(content, fmt.Sprint("restored in ", state, " and cut over"))
				r.do("UPDATE public.passthrough_birds SET value = 6 WHERE row_idx = 6")
				content = r.content()
				r.must(r.migrations.Rollback(t.Context(), r.id, r.etag()))
				r.mustHold(content, fmt.Sprint("restored in ", state, " and rolled back"))
			}
		})
	}
}

// step takes the next arrow as a worker does.
func step(t *testing.T, r *byHand, l migrate.Lease, from migrate.State) (err error) {
	t.Helper()
	m, ctx := r.migrations, t.Context()
	switch from {
	case migrate.Capturing:
		return m.Open(ctx, l)
	case migrate.Backfilling:
		_, _, err = m.CopyChunk(ctx, l, 0)
	case migrate.Indexed:
		_, err = m.ApplyNotes(ctx, l, 0)
	case migrate.Synced:
		return m.Verify(ctx, l)
	}
	return err
}

// A restored migration that was cut over is rolled back or finalized once both sides
// were compared; merges of tiles wait for that too.
func TestRestoredAfterTheCutOver(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			s := newKind(t, kind)
			before := s.restored().dump()
			h := s.byHand()
			h.to(migrate.CutOver)
			s.do("UPDATE public.passthrough_birds SET value = 5 WHERE row_idx = 5")
			accept := migrate.Losses{Name: true}
			for _, end := range []migrate.State{migrate.RolledBack, migrate.Finalized} {
				r := h.restored()
				r.do("UPDATE public.passthrough_birds SET value = 6 WHERE row_idx = 6")
				content, held := r.content(), r.held()
				t.Log(want(t, r.migrations.Rollback(t.Context(), r.id, r.etag()), fault.Conflict, fault.LayerChanged))
				want(t, r.migrations.Finalize(t.Context(), r.id, r.etag(), accept), fault.Conflict, fault.LayerChanged)
				if s.tiles != nil {
					_, err := r.woven()
					t.Log(want(t, err, fault.Conflict, fault.LayerChanged))
					lease, found, err := r.migrations.ClaimBehind(t.Context(), 1e9)
					if err != nil || !found {
						t.Fatal(found, err)
					}
					_, err = r.migrations.Follow(t.Context(), lease)
					want(t, err, fault.Conflict, fault.LayerChanged)
				}
				r.must(r.migrations.Resume(t.Context(), r.id, r.etag()))
				r.mustHold(content, "resumed")
				if end == migrate.RolledBack {
					r.must(r.migrations.Rollback(t.Context(), r.id, r.etag()))
					r.mustHold(content, "rolled back")
					if after := r.dump(); after != before {
						t.Errorf("rolled back, the schema is\n%s\n--- before\n%s", after, before)
					}
					continue
				}
				r.must(r.migrations.Finalize(t.Context(), r.id, r.etag(), accept))
				if s.tiles == nil {
					r.mustHold(content, "finalized")
				} else if got, err := r.woven(); err != nil || !maps.Equal(got, held) {
					t.Errorf("finalized, %d cells are read, and %d were there, or their values differ: %v", len(got), len(held), err)
				}
			}
		})
	}
}

// Where the table had been dropped before the dump, the tiles are the only copy, whatever
// has its oid or its name now.
func TestRestoredWithoutTheTable(t *testing.T) {
	for name, meddle := range map[string]string{
		"dropped": "DROP TABLE public.passthrough_birds", "made again": "DROP TABLE public.passthrough_birds; CREATE TABLE public.passthrough_birds ()",
	} {
		t.Run(name, func(t *testing.T) {
			s := newTiledStage(t, 260, 20, false)
			h := s.byHand()
			h.to(migrate.CutOver)
			held := s.held()
			_, err := s.pool.Exec(t.Context(), meddle, pgx.QueryExecModeSimpleProtocol)
			h.must(err)
			r := h.restored()
			r.do("CREATE TABLE public.stranger ()")
			r.do("UPDATE rasterloom.migration SET old_table = 'public.stranger'::regclass")
			strangers := ask[int](r.stage, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
			want(t, r.migrations.Rollback(t.Context(), r.id, r.etag()), fault.Conflict, fault.LayerChanged)
			r.must(r.migrations.Finalize(t.Context(), r.id, r.etag(), migrate.Losses{Name: true}))
			if got, err := r.woven(); err != nil || !maps.Equal(got, held) {
				t.Errorf("%d cells are read, and %d were there, or their values differ: %v", len(got), len(held), err)
			}
			if n := ask[int](r.stage, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"); n != strangers {
				t.Errorf("%d tables of others are there, and there were %d", n, strangers)
			}
		})
	}
}

// Before anything was made, a table that was restored cannot be told from another one of
// its name; nothing is done to a stranger's that has its oid.
func TestRestoredBeforeItBegan(t *testing.T) {
	s := newStage(t, 20, 20, false)
	s.do("ALTER TABLE public.passthrough_birds DROP CONSTRAINT passthrough_birds_pkey")
	h := &byHand{stage: s, id: s.start("planned").ID}
	r := h.restored()
	r.do("CREATE TABLE public.stranger (row_idx integer, col_idx integer, value double precision)")
	r.do("UPDATE rasterloom.migration SET old_table = 'public.stranger'::regclass")
	r.claim()
	f := want(t, r.migrations.Capture(t.Context(), r.lease), fault.Conflict, fault.LayerChanged)
	if !strings.Contains(f.Message, "abort") {
		t.Error(f)
	}
	if n := ask[int](r.stage, "SELECT count(*) FROM pg_index WHERE indrelid = 'public.stranger'::regclass"); n != 0 {
		t.Error("a stranger's table got an index")
	}
	r.must(r.migrations.Abort(t.Context(), r.id, r.etag()))
}

// What is not the same on both sides is named, and stays as it is.
func TestRestoredThatDiffers(t *testing.T) {
	for name, tamper := range map[string]string{
		"a second table": "UPDATE rasterloom.old_1 SET value = 7 WHERE row_idx = 5 AND col_idx = 5",
		"tiles":          "DELETE FROM %s",
	} {
		t.Run(name, func(t *testing.T) {
			s := newKind(t, name)
			s.do("UPDATE public.passthrough_birds SET value = 1 WHERE row_idx = 5")
			h := s.byHand()
			h.to(migrate.CutOver)
			r := h.restored()
			if s.tiles != nil {
				tamper = fmt.Sprintf(tamper, ask[string](r.stage, "SELECT tiles_schema || '.' || tiles_name FROM rasterloom.migration"))
			}
			r.do(tamper)
			before := r.dump()
			want(t, r.migrations.Resume(t.Context(), r.id, r.etag()), fault.Corrupt, fault.DataCorrupt)
			want(t, r.migrations.Rollback(t.Context(), r.id, r.etag()), fault.Conflict, fault.LayerChanged)
			if r.dump() != before {
				t.Error("a refusal changed something")
			}
		})
	}
}

// Where triggers did not come along, or do not fire, writes may have been missed: before
// the cut-over there is the way out, after it the side that has every row.
func TestRestoredWithoutTriggers(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			s := newKind(t, kind)
			before := s.restored().dump()
			h := s.byHand()
			h.to(migrate.Verified)
			r := h.restored()
			r.do("ALTER TABLE public.passthrough_birds DISABLE TRIGGER rasterloom_row_1")
			t.Log(want(t, r.migrations.Resume(t.Context(), r.id, r.etag()), fault.Conflict, fault.LayerChanged))
			r.do("DROP TRIGGER rasterloom_row_1 ON public.passthrough_birds")
			r.must(r.migrations.Abort(t.Context(), r.id, r.etag()))
			if after := r.dump(); after != before {
				t.Errorf("aborted, the schema is\n%s\n--- before\n%s", after, before)
			}
			h.to(migrate.CutOver)
			r = h.restored()
			r.do("DROP TRIGGER rasterloom_row_1 ON public.passthrough_birds")
			content := r.content()
			r.must(r.migrations.Resume(t.Context(), r.id, r.etag()))
			if s.tiles != nil {
				want(t, r.migrations.Finalize(t.Context(), r.id, r.etag(), migrate.Losses{Name: true}), fault.Conflict, fault.LayerChanged)
				r.must(r.migrations.Rollback(t.Context(), r.id, r.etag()))
			} else {
				want(t, r.migrations.Rollback(t.Context(), r.id, r.etag()), fault.Conflict, fault.LayerChanged)
				r.must(r.migrations.Finalize(t.Context(), r.id, r.etag(), migrate.Losses{}))
			}
			r.mustHold(content, "in the end")
			if n := ask[int](r.stage, "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal"); n != 0 {
				t.Errorf("%d triggers are left", n)
			}
		})
	}
}

// A new migration does not take the id of another one, or of what one left, though the
// dump was restored without the positions of sequences.
func TestRestoredIDsAreFresh(t *testing.T) {
	s := newStage(t, 40, 30, false)
	h := s.byHand()
	h.must(s.migrations.Abort(t.Context(), h.id, h.etag()))
	r := h.restored()
	r.do("ALTER SEQUENCE rasterloom.migration_id_seq RESTART")
	second := r.start("anew")
	if second.ID != 2 {
		t.Errorf("it is %s", second.ID)
	}
	r.must(r.migrations.Abort(t.Context(), second.ID, second.ETag()))
	r.do("CREATE TABLE rasterloom.shadow_7 ()")
	if m := r.start("after what was left"); m.ID != 8 {
		t.Errorf("it is %s", m.ID)
	}
}
