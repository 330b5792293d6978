package worker_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/internal/migrate"
)

// Writers who touch every tile, again and again, keep a migration from nothing:
// it goes on to be verified, and after the cut-over each tile has its turn.
func TestWritersEverywhereHoldNothingUp(t *testing.T) {
	const tiles = 70 // more than are made in one transaction
	s := newTiledStage(t, 1, tiles*256, false)
	h := s.byHand()
	h.to(migrate.Indexed)
	touch := func() { s.do("UPDATE public.passthrough_birds SET value = value + 1") }
	touch()
	left, err := s.migrations.ApplyNotes(t.Context(), h.lease, 0)
	h.must(err)
	if left {
		t.Error("a migration waits for the end of the writes before it is verified")
	}
	h.to(migrate.Synced)
	touch()
	h.must(s.migrations.Verify(t.Context(), h.lease))
	h.to(migrate.CutOver)

	table := ask[string](s, "SELECT new_table::regclass::text FROM rasterloom.migration")
	versions := func() map[int]string {
		rows, err := s.pool.Query(t.Context(), "SELECT tile_col, xmin::text FROM "+table)
		h.must(err)
		made := map[int]string{}
		var col int
		var version string
		_, err = pgx.ForEachRow(rows, []any{&col, &version}, func() error { made[col] = version; return nil })
		h.must(err)
		return made
	}
	before := versions()
	touch()
	lease, found, err := s.migrations.ClaimBehind(t.Context(), 1e10)
	if h.must(err); !found {
		t.Fatal("nothing was noted")
	}
	// That one of them is left out each time has a probability of 10⁻²⁰.
	for range 20 {
		_, err := s.migrations.Follow(t.Context(), lease)
		h.must(err)
		touch()
	}
	for col, version := range versions() {
		if version == before[col] {
			t.Errorf("tile %d never had its turn", col)
		}
	}
	if len(before) != tiles {
		t.Errorf("%d tiles, want %d", len(before), tiles)
	}
}
