package worker_test

import (
	"testing"

	"github.com/rasterloom/rasterloom/internal/migrate"
)

// The whole way, under writers: nothing is lost, coordinates are those of the
// grid to the last bit, the old code goes on, and all of it can be undone.
func TestMigrateAndRollBackUnderWriters(t *testing.T) {
	for name, southUp := range map[string]bool{"north-up": false, "south-up": true} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 400, 300, southUp)
			s.do("CREATE VIEW public.seen WITH (security_barrier = true) AS SELECT row_idx, value FROM public.passthrough_birds")
			s.do("CREATE VIEW public.seen_again AS SELECT count(*) FROM public.seen")
			s.do("CREATE INDEX by_value ON public.passthrough_birds (value) WHERE value > 0")
			s.do("GRANT SELECT ON public.passthrough_birds TO PUBLIC")
			s.do("COMMENT ON TABLE public.passthrough_birds IS 'it''s theirs'")
			before := s.dump()
			c := s.crowd(4)
			s.work(2)
			m := s.await(s.start("k").ID, migrate.Verified)
			if !m.Verification.Equal() || m.Verification.OldRows == 0 {
				t.Fatalf("verification %+v", m.Verification)
			}
			if err := s.migrations.CutOver(t.Context(), m.ID, m.ETag()); err != nil {
				t.Fatal(err)
			}
			if g := s.generation(); g != 2 {
				t.Errorf("generation %d after the cut-over", g)
			}
			if n := ask[int](s, "SELECT count(x_coord) FROM public.passthrough_birds"); n == 0 {
				t.Error("there are no coordinates")
			}
			m = s.await(m.ID, migrate.CutOver)
			if err := s.migrations.Rollback(t.Context(), m.ID, m.ETag()); err != nil {
				t.Fatal(err)
			}
			c.end()
			if after := s.dump(); after != before {
				t.Errorf("the schema is not what it was:\n%s\n--- before\n%s", after, before)
			}
			if g := s.generation(); g != 3 {
				t.Errorf("generation %d after the rollback", g)
			}
		})
	}
}
