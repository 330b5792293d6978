package worker_test

import (
	"strings"
	"testing"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// In place, the whole way under writers: nothing is lost, coordinates are those of
// the grid to the last bit, also of rows that the old code writes later, and all
// of it can be undone.
func TestInPlaceUnderWriters(t *testing.T) {
	for name, southUp := range map[string]bool{"north-up": false, "south-up": true} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 400, 300, southUp)
			s.inPlace = true
			before := s.dump()
			c := s.crowd(4)
			s.work(2)
			m := s.await(s.start("k").ID, migrate.Verified)
			if !m.Verification.Equal() || m.Verification.OldRows == 0 || m.Progress.RowsCopied == 0 {
				t.Fatalf("verification %+v, progress %+v", m.Verification, m.Progress)
			}
			if err := s.migrations.CutOver(t.Context(), m.ID, m.ETag()); err != nil {
				t.Fatal(err)
			}
			s.do("INSERT INTO public.passthrough_birds (row_idx, col_idx, value) VALUES (7, 299, 1) ON CONFLICT (row_idx, col_idx) DO UPDATE SET value = 1")
			row := int64(7)
			if southUp {
				row = 399 - row
			}
			if x, y := ask[float64](s, "SELECT x_coord FROM public.passthrough_birds WHERE row_idx = 7 AND col_idx = 299"),
				ask[float64](s, "SELECT y_coord FROM public.passthrough_birds WHERE row_idx = 7 AND col_idx = 299"); x != s.layer.Grid.X(299) || y != s.layer.Grid.Y(row) {
				t.Errorf("cell (7, 299) is at %v, %v", x, y)
			}
			if g := s.generation(); g != 2 {
				t.Errorf("generation %d after the cut-over", g)
			}
			m = s.await(m.ID, migrate.CutOver)
			if err := s.migrations.Rollback(t.Context(), m.ID, m.ETag()); err != nil {
				t.Fatal(err)
			}
			c.end()
			if after := s.dump(); after != before {
				t.Errorf("the schema is not what it was:\n%s\n--- before\n%s", after, before)
			}
			// To the end: the trigger stays, and keeps the coordinates right.
			m = s.await(s.start("k2").ID, migrate.Verified)
			if err := s.migrations.CutOver(t.Context(), m.ID, m.ETag()); err != nil {
				t.Fatal(err)
			}
			m = s.await(m.ID, migrate.CutOver)
			if err := s.migrations.Finalize(t.Context(), m.ID, m.ETag(), migrate.Losses{}); err != nil {
				t.Fatal(err)
			}
			s.do("UPDATE public.passthrough_birds SET x_coord = 0 WHERE row_idx = 7")
			if n := ask[int](s, "SELECT count(*) FROM public.passthrough_birds WHERE x_coord = 0 OR x_coord IS NULL"); n != 0 {
				t.Errorf("%d wrong coordinates were stored", n)
			}
		})
	}
}

// Whatever happens to the table meanwhile, every row gets its coordinates; given
// up anywhere, nothing is left.
func TestInPlaceWhileTheTableChanges(t *testing.T) {
	for name, change := range map[string]string{
		"truncated": "TRUNCATE public.passthrough_birds", "rewritten": "VACUUM FULL public.passthrough_birds",
		"updated": "UPDATE public.passthrough_birds SET value = value + 1, row_idx = row_idx",
	} {
		for _, at := range pausable[1:] {
			t.Run(name+" while "+string(at), func(t *testing.T) {
				s := newStage(t, 100, 300, false)
				s.inPlace = true
				before := s.dump()
				h := s.byHand()
				h.to(at)
				if at == migrate.Backfilling {
					_, _, err := s.migrations.CopyChunk(t.Context(), h.lease, 1)
					h.must(err)
				}
				s.do(change)
				content := s.content()
				if at != migrate.Verified {
					h.to(migrate.Verified)
				}
				h.must(s.migrations.Abort(t.Context(), h.id, h.etag()))
				if s.dump() != before || s.content() != content {
					t.Error("something is left, or the content changed")
				}
			})
		}
	}
}

// A coordinate flipped behind the trigger's back is found and named.
func TestInPlaceNamesWrongCoordinates(t *testing.T) {
	s := newStage(t, 40, 30, false)
	s.inPlace = true
	s.do("INSERT INTO public.passthrough_birds VALUES (3, 7, 0) ON CONFLICT (row_idx, col_idx) DO UPDATE SET value = 0")
	h := s.byHand()
	h.to(migrate.Synced)
	s.do("ALTER TABLE public.passthrough_birds DISABLE TRIGGER rasterloom_row_1")
	s.do("UPDATE public.passthrough_birds SET rasterloom_y_1 = rasterloom_y_1 + 1e-9 WHERE row_idx = 3 AND col_idx = 7")
	f := want(t, s.migrations.Verify(t.Context(), h.lease), fault.Corrupt, fault.DataCorrupt)
	if !strings.Contains(f.Message, "(3, 7) coordinates") {
		t.Error(f)
	}
	s.do("UPDATE public.passthrough_birds SET rasterloom_y_1 = rasterloom_y_1 - 1e-9 WHERE row_idx = 3 AND col_idx = 7")
	s.do("UPDATE public.passthrough_birds SET rasterloom_y_1 = NULL WHERE row_idx = 3 AND col_idx = 7")
	want(t, s.migrations.Verify(t.Context(), h.lease), fault.Corrupt, fault.DataCorrupt)
	s.do("ALTER TABLE public.passthrough_birds ENABLE ALWAYS TRIGGER rasterloom_row_1")
	s.do("UPDATE public.passthrough_birds SET value = 1 WHERE row_idx = 3 AND col_idx = 7") // the trigger mends it
	h.to(migrate.Verified)
	s.do("ALTER TABLE public.passthrough_birds DISABLE TRIGGER rasterloom_row_1")
	want(t, s.migrations.CutOver(t.Context(), h.id, h.etag()), fault.Conflict, fault.LayerChanged)
}

// A table without a key gets one for as long as the migration can be undone; with
// it, cells are followed as ever.
func TestKeylessTable(t *testing.T) {
	for name, goal := range map[string]migrate.State{"and back": migrate.RolledBack, "given up": migrate.Aborted, "to the end": migrate.Finalized} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 100, 300, false)
			s.do("ALTER TABLE public.passthrough_birds DROP CONSTRAINT passthrough_birds_pkey")
			s.do("UPDATE rasterloom.layer SET has_key = false")
			before := s.dump()
			h := s.byHand()
			h.to(migrate.Backfilling)
			s.do("UPDATE public.passthrough_birds SET value = 5 WHERE row_idx = 8")
			s.do("DELETE FROM public.passthrough_birds WHERE row_idx = 9")
			content := s.content()
			h.to(migrate.Verified)
			if goal == migrate.Aborted {
				h.must(s.migrations.Abort(t.Context(), h.id, h.etag()))
			} else {
				h.to(migrate.CutOver)
				s.do("UPDATE public.passthrough_birds SET value = 6 WHERE row_idx = 8")
				content = s.content()
				if !ask[bool](s, "SELECT has_key FROM rasterloom.layer") {
					t.Error("the catalog knows no key")
				}
				if goal == migrate.RolledBack {
					h.must(s.migrations.Rollback(t.Context(), h.id, h.etag()))
				} else {
					h.must(s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{}))
				}
			}
			if s.content() != content {
				t.Error("the content changed")
			}
			if goal != migrate.Finalized {
				if after := s.dump(); after != before {
					t.Errorf("the schema is not what it was:\n%s\n--- before\n%s", after, before)
				}
				if ask[bool](s, "SELECT has_key FROM rasterloom.layer") {
					t.Error("the catalog knows a key")
				}
			}
		})
	}
	t.Run("a cell twice since the plan", func(t *testing.T) {
		s := newStage(t, 40, 30, false)
		s.do("ALTER TABLE public.passthrough_birds DROP CONSTRAINT passthrough_birds_pkey")
		h := s.byHand()
		s.do("INSERT INTO public.passthrough_birds VALUES (3, 3, 1), (3, 3, 2)")
		f := want(t, s.migrations.Capture(t.Context(), h.lease), fault.Precondition, fault.MigrationRefused)
		if f.Fields["refusals"] != "DUPLICATE_CELLS" {
			t.Error(f.Fields)
		}
		h.must(s.migrations.Abort(t.Context(), h.id, h.etag()))
		if n := ask[int](s, "SELECT count(*) FROM pg_index WHERE indrelid = 'public.passthrough_birds'::regclass"); n != 0 {
			t.Error("half a key is left")
		}
	})
}

// What the disk cannot hold is refused before anything is made; what is not known
// is said to be.
func TestHeadroom(t *testing.T) {
	s := newStage(t, 400, 300, false)
	spec := migrate.Spec{Layer: "birds", Level: migrate.LevelStored}
	plan, err := s.migrations.Plan(t.Context(), spec, s.layer, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The server of the tests runs here: its disk is measured.
	if plan.Headroom == nil || !plan.Headroom.Measured || plan.Headroom.Bytes < 1<<20 {
		t.Errorf("headroom %+v, notices %q", plan.Headroom, plan.Notices)
	}
	need := plan.DiskBytes + plan.WALBytes
	f := want(t, func() error { _, err := s.migrations.Start(t.Context(), "k", spec, s.layer, new(need-1)); return err }(), fault.Limit, fault.DiskFull)
	if f.Fields["headroom"] == "" || f.Fields["need"] == "" {
		t.Error(f.Fields)
	}
	if ask[int](s, "SELECT count(*) FROM rasterloom.migration") != 0 {
		t.Error("a refused migration was recorded")
	}
	m, err := s.migrations.Start(t.Context(), "k", spec, s.layer, new(need))
	if err != nil {
		t.Fatal(err)
	}
	if m.DiskBytes != plan.DiskBytes {
		t.Errorf("it takes %d bytes, and the plan said %d", m.DiskBytes, plan.DiskBytes)
	}
	// What the one still needs is not there for another.
	if plan, err = s.migrations.Plan(t.Context(), spec, s.layer, new(need)); err != nil || plan.Headroom.Left() != need-m.DiskBytes {
		t.Errorf("left %+v, %v", plan.Headroom, err)
	}
}
