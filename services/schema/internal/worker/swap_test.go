package worker_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rasterloom/rasterloom/internal/migrate"
)

// swaps is how often the table is cut over and rolled back: RASTERLOOM_SWAPS,
// else few. The promise is about 50.
func swaps(t *testing.T) int {
	t.Helper()
	n := 8
	if text := os.Getenv("RASTERLOOM_SWAPS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// Cut-overs and back, again and again, under 4 writers, 2 readers and one who
// reads for 5 s: nobody fails, nothing is lost.
func TestManySwapsUnderEverybody(t *testing.T) {
	s := newStage(t, 200, 150, false)
	before := s.dump()
	c := s.crowd(4)
	ctx, stop := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	var longest time.Duration
	var mu sync.Mutex
	read := func(sql string) {
		for ctx.Err() == nil {
			began := time.Now()
			if _, err := s.pool.Exec(context.Background(), sql); err != nil {
				t.Errorf("a reader failed: %v", err)
			}
			mu.Lock()
			longest = max(longest, time.Since(began))
			mu.Unlock()
		}
	}
	reading.Go(func() { read("SELECT sum(value) FROM public.passthrough_birds WHERE row_idx < 20") })
	reading.Go(func() { read("SELECT count(*) FROM public.passthrough_birds WHERE row_idx = 7") })
	reading.Go(func() {
		for ctx.Err() == nil {
			if _, err := s.pool.Exec(context.Background(), "SELECT count(*), pg_sleep(5) FROM public.passthrough_birds WHERE row_idx = 3"); err != nil {
				t.Errorf("the long reader failed: %v", err)
			}
			// There is more than one kind of moment: leave a gap.
			time.Sleep(300 * time.Millisecond)
		}
	})
	defer func() { stop(); reading.Wait() }()
	// How long it takes when nothing is migrated, to compare with: the long reader
	// comes once in that time.
	time.Sleep(5 * time.Second)
	mu.Lock()
	t.Logf("before anything is migrated: longest wait of a writer %v, of a short reader %v",
		time.Duration(c.longest.Load()).Round(time.Millisecond), longest.Round(time.Millisecond))
	c.longest.Store(0)
	longest = 0
	mu.Unlock()
	s.work(1)
	busy, n := 0, swaps(t)
	for i := range n {
		m := s.await(s.start(fmt.Sprint("swap ", i)).ID, migrate.Verified)
		busy += s.patiently(s.migrations.CutOver, m)
		busy += s.patiently(s.migrations.Rollback, s.await(m.ID, migrate.CutOver))
	}
	c.end()
	stop()
	reading.Wait()
	t.Logf("%d cut-overs and back, %d times told that the table is busy; longest wait of a short reader %v", n, busy, longest.Round(time.Millisecond))
	if after := s.dump(); after != before {
		t.Errorf("the schema is not what it was:\n%s\n--- before\n%s", after, before)
	}
}

// BenchmarkMigrate measures, in one run: the old script's way, ALTER and one
// UPDATE; and a migration, copied, indexed and verified, with nobody else there
// and with two writers. RASTERLOOM_BENCH_ROWS is the number of rows.
func BenchmarkMigrate(b *testing.B) {
	rows := 1_000_000
	if text := os.Getenv("RASTERLOOM_BENCH_ROWS"); text != "" {
		var err error
		if rows, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	side := int(math.Sqrt(float64(rows)))
	for _, writers := range []int{0, 2} {
		b.Run(fmt.Sprintf("online/writers=%d", writers), func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				s := newStage(b, side, side, false)
				n := ask[int64](s, "SELECT count(*) FROM public.passthrough_birds")
				s.work(1)
				var c *crowd
				if writers > 0 {
					c = s.crowd(writers)
				}
				b.StartTimer()
				began := time.Now()
				m := s.start("k")
				s.await(m.ID, migrate.Verified)
				b.ReportMetric(float64(n)/time.Since(began).Seconds(), "rows/s")
				b.StopTimer()
				if c != nil {
					c.end()
					b.ReportMetric(float64(c.longest.Load())/1e6, "longest-wait-ms")
				}
			}
		})
	}
	b.Run("old-script", func(b *testing.B) {
		for range b.N {
			b.StopTimer()
			s := newStage(b, side, side, false)
			n := ask[int64](s, "SELECT count(*) FROM public.passthrough_birds")
			b.StartTimer()
			began := time.Now()
			s.do("ALTER TABLE public.passthrough_birds ADD x_coord double precision, ADD y_coord double precision")
			s.do("UPDATE public.passthrough_birds SET x_coord = $1::float8 + (col_idx + 0.5::float8) * $2::float8, y_coord = $3::float8 - (row_idx + 0.5::float8) * $4::float8",
				499980.1, 30.1, 5600040.7, 29.9)
			b.ReportMetric(float64(n)/time.Since(began).Seconds(), "rows/s")
		}
	})
}
