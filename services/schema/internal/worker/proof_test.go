package worker_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// rollbacks is how often TestRollBacksAtRandomTimes goes back:
// RASTERLOOM_ROLLBACKS, else few. The promise is about 50.
func rollbacks(t *testing.T) int {
	t.Helper()
	n := 5
	if text := os.Getenv("RASTERLOOM_ROLLBACKS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// A migration is undone at random times under writers, before its cut-over or
// after: the table holds what the writers were told, the schema is as before, and
// nothing of the migration is left.
func TestRollBacksAtRandomTimes(t *testing.T) {
	s := newStage(t, 300, 200, false)
	random := rand.New(rand.NewPCG(s.seed, 50))
	before := s.dump()
	s.work(2)
	c := s.crowd(3)
	undone := map[migrate.State]int{}
	n := rollbacks(t)
	for i := range n {
		m := s.start(fmt.Sprint("undo ", i))
		if random.IntN(2) == 0 {
			m = s.await(m.ID, migrate.Verified)
			s.patiently(s.migrations.CutOver, m)
		}
		time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond) // the undoing comes at any moment
		for {
			now, err := s.migrations.Get(t.Context(), m.ID)
			if err != nil {
				t.Fatal(err)
			}
			undo := s.migrations.Abort
			if now.State == migrate.CutOver {
				undo = s.migrations.Rollback
			}
			err = undo(t.Context(), m.ID, now.ETag())
			if err == nil {
				undone[now.State]++
				break
			}
			// The worker was quicker, or a lock was not had: look again.
			if f := fault.From(err); f.Reason != fault.MigrationChanged && f.Reason != fault.TableBusy {
				t.Fatal(f.Detail())
			}
		}
		if after := s.dump(); after != before {
			t.Fatalf("the schema is not what it was:\n%s\n--- before\n%s", after, before)
		}
	}
	c.end()
	t.Logf("%d migrations undone at random times, in %v; each time the schema was as before", n, undone)
}

// oddities are values whose bits are easily lost.
var oddities = map[string]uint64{
	"0": 0, "-0": 1 << 63, "+Inf": math.Float64bits(math.Inf(1)), "-Inf": math.Float64bits(math.Inf(-1)),
	"NaN": math.Float64bits(math.NaN()), "-NaN": 0xfff8000000000000, "NaN with a payload": 0x7ff800000000beef, "signalling NaN": 0x7ff0000000000001,
	"smallest": 1, "smallest normal": 0x0010000000000000, "largest": math.Float64bits(math.MaxFloat64), "0.1": math.Float64bits(0.1), "nodata": math.Float64bits(-9999),
}

// Values move with all their bits, and come back so; what nobody can say where to
// put is refused with counts (TestRefusals).
func TestOddValuesMoveBitForBit(t *testing.T) {
	s := newStage(t, 40, 30, false)
	s.do("TRUNCATE public.passthrough_birds")
	want := map[[2]int]string{{39, 29}: "null"}
	s.do("INSERT INTO public.passthrough_birds VALUES (39, 29, NULL)")
	var rows [][]any
	i := 0
	for _, pattern := range oddities {
		at := [2]int{i, 29 - i}
		rows = append(rows, []any{at[0], at[1], math.Float64frombits(pattern)})
		want[at] = fmt.Sprintf(`\x%x`, binary.BigEndian.AppendUint64(nil, pattern))
		i++
	}
	if _, err := s.pool.CopyFrom(t.Context(), pgx.Identifier{"public", "passthrough_birds"}, []string{"row_idx", "col_idx", "value"}, pgx.CopyFromRows(rows)); err != nil {
		t.Fatal(err)
	}
	same := func(when string) {
		t.Helper()
		found, err := s.pool.Query(t.Context(), "SELECT row_idx, col_idx, coalesce(float8send(value)::text, 'null') FROM public.passthrough_birds")
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		var row, col int
		var bits string
		if _, err := pgx.ForEachRow(found, []any{&row, &col, &bits}, func() error {
			n++
			if want[[2]int{row, col}] != bits {
				t.Errorf("%s: cell (%d, %d) is %s, want %s", when, row, col, bits, want[[2]int{row, col}])
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if n != len(want) {
			t.Errorf("%s: %d cells, want %d", when, n, len(want))
		}
	}
	same("before")
	h := s.byHand()
	h.to(migrate.CutOver)
	same("after the cut-over")
	h.must(s.migrations.Rollback(t.Context(), h.id, h.etag()))
	same("after the rollback")
	t.Logf("%d cells moved there and back bit for bit: NULL, and %d odd values", len(want), len(oddities))
}

// What differs when the old table is to be dropped is found then, and it stays.
func TestFinalizeComparesOnceMore(t *testing.T) {
	s := newStage(t, 40, 30, false)
	s.do("INSERT INTO public.passthrough_birds VALUES (3, 7, 0) ON CONFLICT (row_idx, col_idx) DO UPDATE SET value = 0")
	h := s.byHand()
	h.to(migrate.CutOver)
	s.do("UPDATE rasterloom.old_1 SET value = '-0'::float8 WHERE row_idx = 3 AND col_idx = 7")
	f := want(t, s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{}), fault.Corrupt, fault.DataCorrupt)
	if f.Fields["cells"] != "(3, 7) changed" {
		t.Errorf("%v %v", f, f.Fields)
	}
	if n := ask[int](s, "SELECT count(*) FROM pg_class WHERE relname = 'old_1'"); n != 1 {
		t.Error("the old table is gone")
	}
}

// The old Python code's statements, as they are, on a table that was cut over,
// and on one that was finalized.
func TestOldCodeGoesOn(t *testing.T) {
	statements := []string{
		"INSERT INTO public.passthrough_birds (row_idx, col_idx, value) VALUES (1, 2, 3.5) ON CONFLICT (row_idx, col_idx) DO UPDATE SET value = EXCLUDED.value",
		"INSERT INTO public.passthrough_birds (row_idx, col_idx, value) VALUES (1, 3, 4.5), (1, 4, NULL) ON CONFLICT DO NOTHING",
		"DELETE FROM public.passthrough_birds WHERE row_idx = 2",
		"INSERT INTO public.passthrough_birds VALUES (2, 0, 7)", // by position
		"UPDATE public.passthrough_birds SET value = 0 WHERE row_idx = 1 AND col_idx = 2",
		"SELECT row_idx, col_idx, value FROM public.passthrough_birds WHERE value IS NOT NULL AND value != 0 ORDER BY row_idx, col_idx",
		"SELECT count(*), min(value), max(value) FROM public.passthrough_birds",
		"SELECT (1000 + (col_idx + 0.5) * 10) AS x, (2000 - (row_idx + 0.5) * 10) AS y, value FROM public.passthrough_birds WHERE row_idx BETWEEN 1 AND 3",
		"CREATE INDEX IF NOT EXISTS passthrough_birds_value ON public.passthrough_birds (value)",
		"ANALYZE public.passthrough_birds",
	}
	plain, moved := newStage(t, 40, 30, false), newStage(t, 40, 30, false)
	moved.do("TRUNCATE public.passthrough_birds") // to hold what plain holds
	moved.seed = plain.seed
	moved.fill()
	h := moved.byHand()
	h.to(migrate.CutOver)
	run := func(when string) {
		t.Helper()
		for _, s := range []*stage{plain, moved} {
			for _, sql := range statements {
				s.do(sql)
			}
			rows := [][]any{{30, 1, 1.5}, {30, 2, math.NaN()}}
			s.do("DELETE FROM public.passthrough_birds WHERE row_idx = 30")
			if _, err := s.pool.CopyFrom(t.Context(), pgx.Identifier{"public", "passthrough_birds"}, []string{"row_idx", "col_idx", "value"}, pgx.CopyFromRows(rows)); err != nil {
				t.Fatal(err)
			}
		}
		if plain.content() != moved.content() {
			t.Errorf("%s the old code makes another table of it", when)
		}
	}
	run("after the cut-over")
	moved.do("DROP INDEX public.passthrough_birds_value")
	h.must(moved.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{}))
	run("after the end")
	t.Logf("%d statements and a COPY, twice: the same content as of a table that was never migrated", len(statements))
}
