package migrate_test

import (
	"testing"
	"time"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// From every state some end can be reached, ends have no way out, and a worker
// never has a choice.
func TestArrows(t *testing.T) {
	onward := map[migrate.State][]migrate.Arrow{}
	for _, a := range migrate.Arrows() {
		if !a.From.Known() || !a.To.Known() {
			t.Errorf("%v has an unknown state", a)
		}
		onward[a.From] = append(onward[a.From], a)
	}
	for _, s := range migrate.States() {
		workers := 0
		for _, a := range onward[s] {
			if !a.ByOperator {
				workers++
			}
		}
		if workers > 1 || s.Ended() && len(onward[s]) > 0 || !s.Ended() && len(onward[s]) == 0 {
			t.Errorf("%s has the arrows %v", s, onward[s])
		}
		if next, moves := migrate.Next(s); moves != (workers == 1) || moves && migrate.Check(s, next) != nil {
			t.Errorf("the next of %s is %s %v", s, next, moves)
		}
		for _, to := range migrate.States() {
			there := false
			for _, a := range onward[s] {
				there = there || a.To == to
			}
			err := migrate.Check(s, to)
			if f := fault.From(err); there != (err == nil) || err != nil && (f.Kind != fault.Precondition || f.Reason != fault.MigrationState) {
				t.Errorf("%s → %s: %v", s, to, err)
			}
		}
	}
	// No way back before the cut-over but giving up, and none at all after the end.
	for s := migrate.Planned; ; {
		next, moves := migrate.Next(s)
		if !moves {
			if s != migrate.Verified {
				t.Errorf("workers stop at %s", s)
			}
			break
		}
		if migrate.Check(s, migrate.Aborted) != nil || migrate.Check(s, migrate.CutOver) == nil || migrate.Check(s, migrate.Finalized) == nil {
			t.Errorf("wrong ways out of %s", s)
		}
		s = next
	}
}

func TestIDs(t *testing.T) {
	for _, id := range []migrate.ID{1, 17, 1 << 62} {
		if got, err := migrate.ParseID(id.String()); err != nil || got != id {
			t.Errorf("%s comes back as %v, %v", id, got, err)
		}
	}
	for _, bad := range []string{"", "m", "17", "m0", "m01", "m-3", "m+3", "m 3", "M3", "m9223372036854775808", "m1\x00"} {
		if _, err := migrate.ParseID(bad); fault.KindOf(err) != fault.Invalid || err == nil {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestWatchTellsSpeed(t *testing.T) {
	var w migrate.Watch
	at := time.Unix(0, 0)
	m := migrate.Migration{State: migrate.Backfilling, Progress: migrate.Progress{BlocksTotal: 100}}
	if news, changed := w.See(m, at); !changed || news != (migrate.News{}) {
		t.Errorf("at first: %v %v", news, changed)
	}
	if _, changed := w.See(m, at.Add(time.Second)); changed {
		t.Error("the same is news")
	}
	m.Progress.RowsCopied, m.Progress.BlocksDone = 1000, 20
	if news, _ := w.See(m, at.Add(2*time.Second)); news.RowsPerSecond != 500 || news.Remaining != 8*time.Second {
		t.Errorf("%v", news)
	}
	m.State = migrate.Indexed
	if news, changed := w.See(m, at.Add(3*time.Second)); !changed || news != (migrate.News{}) {
		t.Errorf("in another state: %v %v", news, changed)
	}
}

func TestGridHash(t *testing.T) {
	g := grid.Grid{CRS: "EPSG:4326", Rows: 2, Cols: 3, OriginX: 1, OriginY: 2, StepX: 3, StepY: 4}
	seen := map[string]grid.Grid{}
	for _, o := range []grid.Grid{
		g, {CRS: "EPSG:4327", Rows: 2, Cols: 3, OriginX: 1, OriginY: 2, StepX: 3, StepY: 4},
		{CRS: "EPSG:4326", Rows: 3, Cols: 2, OriginX: 1, OriginY: 2, StepX: 3, StepY: 4},
		{CRS: "EPSG:4326", Rows: 2, Cols: 3, OriginX: 1.0000000000000002, OriginY: 2, StepX: 3, StepY: 4},
		{CRS: "EPSG:4326", Rows: 2, Cols: 3, OriginX: 1, OriginY: 2, StepX: 4, StepY: 3},
	} {
		h := migrate.GridHash(o)
		if other, twice := seen[h]; twice {
			t.Errorf("%v and %v have one hash", o, other)
		}
		seen[h] = o
	}
	again := g
	if seen[migrate.GridHash(again)] != g {
		t.Error("a hash changes")
	}
}
