package worker_test

import (
	"testing"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// Where a unique index is the key, its columns must not be NULL: neither at the
// plan, nor by a change in between.
func TestIndicesThatMayBeNull(t *testing.T) {
	unique := func(t *testing.T) *stage {
		s := newStage(t, 40, 30, false)
		s.do("ALTER TABLE public.passthrough_birds DROP CONSTRAINT passthrough_birds_pkey, ADD UNIQUE (row_idx, col_idx)")
		return s
	}
	const allow = "ALTER TABLE public.passthrough_birds ALTER row_idx DROP NOT NULL"
	t.Run("before the cut-over", func(t *testing.T) {
		s := unique(t)
		h := s.byHand()
		h.to(migrate.Verified)
		s.do(allow)
		want(t, s.migrations.CutOver(t.Context(), h.id, h.etag()), fault.Conflict, fault.LayerChanged)
		h.must(s.migrations.Abort(t.Context(), h.id, h.etag()))
	})
	t.Run("after it", func(t *testing.T) {
		s := unique(t)
		h := s.byHand()
		h.to(migrate.CutOver)
		before := s.content()
		s.do(allow)
		if _, err := s.pool.Exec(t.Context(), "INSERT INTO public.passthrough_birds VALUES (NULL, 1, 2)"); err == nil {
			t.Error("the old table took a row that is no cell")
		}
		want(t, s.migrations.Rollback(t.Context(), h.id, h.etag()), fault.Conflict, fault.LayerChanged)
		s.do("ALTER TABLE public.passthrough_birds ALTER row_idx SET NOT NULL")
		h.must(s.migrations.Rollback(t.Context(), h.id, h.etag()))
		if s.content() != before {
			t.Error("the content changed")
		}
	})
	t.Run("in place", func(t *testing.T) {
		s := unique(t)
		s.do(allow)
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
