package worker_test

import (
	"maps"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// Somebody drops the table after the cut-over, or makes another one under the name:
// there is nothing to go back to, and merges are refused; finalized, the tiles are
// what there is, and what they had not is lost only where that is accepted.
func TestTilesWhoseTableWasDropped(t *testing.T) {
	const dropped = "DROP TABLE public.passthrough_birds CASCADE"
	for name, c := range map[string]struct {
		sqlView bool
		lag     int    // tiles
		meddle  string // after the last write
		left    int    // relations that have the name in the end
	}{
		"all is in the tiles":   {meddle: dropped},
		"a view was asked for":  {meddle: dropped, sqlView: true},
		"tiles lag":             {meddle: dropped, lag: 2},
		"made again":            {meddle: dropped + "; CREATE TABLE public.passthrough_birds (row_idx integer, col_idx integer, value double precision)", left: 1},
		"tiles lag, made again": {meddle: dropped + "; CREATE TABLE public.passthrough_birds ()", lag: 2, left: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTiledStage(t, 300, 300, false)
			s.tiles.SQLView = c.sqlView
			h := s.byHand()
			h.to(migrate.CutOver)
			s.do("UPDATE public.passthrough_birds SET value = 5 WHERE row_idx = 8")
			lease, found, err := s.migrations.ClaimBehind(t.Context(), 1e9)
			if h.must(err); !found {
				t.Fatal("nothing was noted")
			}
			_, err = s.migrations.Follow(t.Context(), lease)
			h.must(err)
			held := s.held() // is in the tiles
			if c.lag > 0 {
				s.do("UPDATE public.passthrough_birds SET value = 6 WHERE row_idx = 9")
			}
			_, err = s.pool.Exec(t.Context(), c.meddle, pgx.QueryExecModeSimpleProtocol)
			h.must(err)

			_, err = s.woven()
			want(t, err, fault.Conflict, fault.LayerChanged)
			if c.lag > 0 { // the worker stops
				_, err := s.migrations.Follow(t.Context(), lease)
				if err == nil {
					t.Error("tiles were made of a table that is gone")
				}
				t.Log(err)
				h.must(s.migrations.Fail(t.Context(), lease, err))
			}
			want(t, s.migrations.Rollback(t.Context(), h.id, h.etag()), fault.Conflict, fault.LayerChanged)
			before := s.dump()
			f := want(t, s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{Writes: true}), fault.Invalid, fault.InvalidArgument)
			if f.Fields["field"] != "drop_name" {
				t.Error(f.Fields)
			}
			if c.lag > 0 {
				f := want(t, s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{Name: true}), fault.Precondition, fault.MigrationRefused)
				if f.Fields["tiles"] != "2" || f.Fields["refusals"] != "TILES_LAG" {
					t.Error(f.Fields)
				}
			}
			if s.dump() != before {
				t.Error("a refusal changed something")
			}
			h.must(s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{Name: true, Writes: c.lag > 0}))
			got, err := s.woven()
			h.must(err)
			if !maps.Equal(got, held) {
				t.Errorf("%d cells are in the tiles, and they had %d, or their values differ", len(got), len(held))
			}
			m, err := s.migrations.Get(t.Context(), h.id)
			if h.must(err); m.State != migrate.Finalized || m.Verification == nil || m.Failure != nil {
				t.Errorf("it is %s, verified as %v, failed as %v", m.State, m.Verification, m.Failure)
			}
			if n := ask[int](s, "SELECT count(*) FROM pg_class WHERE relname = 'passthrough_birds'"); n != c.left {
				t.Errorf("%d relations have the name", n)
			}
			if n := ask[int](s, `SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'rasterloom'::regnamespace AND relname ~ '_[0-9]+$')
					+ (SELECT count(*) FROM pg_proc WHERE pronamespace = 'rasterloom'::regnamespace AND proname ~ '^rasterloom_')`); n != 0 {
				t.Errorf("%d relations and functions are left over", n)
			}
		})
	}
}
