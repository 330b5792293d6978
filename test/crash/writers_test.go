package crash_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func value(i uint64) any {
	switch h := i * 0x9e3779b97f4a7c15 >> 56; {
	case h < 8:
		return nil
	case h < 16:
		return math.NaN()
	case h < 24:
		return math.Copysign(0, -1)
	case h < 40:
		return 0.0
	case h < 44:
		return math.Inf(-1)
	default:
		return float64(i*0xbf58476d1ce4e5b9) / 7
	}
}

func bits(v any) string {
	if v == nil {
		return "null"
	}
	return fmt.Sprintf(`\x%016x`, math.Float64bits(v.(float64)))
}

// crew are writers with cells of their own.
type crew struct {
	cancel  context.CancelFunc
	working sync.WaitGroup
}

func (c *crew) stop() { c.cancel(); c.working.Wait() }

func (s *scene) writers(n int) *crew {
	ctx, cancel := context.WithCancel(context.Background())
	c := &crew{cancel: cancel}
	for w := range n {
		c.working.Go(func() {
			random := rand.New(rand.NewPCG(s.seed, uint64(w)))
			for ctx.Err() == nil {
				s.gate.RLock()
				s.write(random, w, n)
				s.gate.RUnlock()
				time.Sleep(time.Millisecond) // who looks gets the gate now and then
			}
		})
	}
	s.t.Cleanup(c.stop)
	return c
}

var errOnPurpose = errors.New("rolled back on purpose")

func (s *scene) write(random *rand.Rand, w, of int) {
	mine := map[[2]int]string{}
	ctx := context.Background()
	sent := false
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		for range 1 + random.IntN(3) {
			at := [2]int{random.IntN(s.shape.rows/of)*of + w, random.IntN(s.shape.cols)}
			var err error
			if random.IntN(3) == 0 {
				_, err = tx.Exec(ctx, "DELETE FROM public.passthrough_birds WHERE row_idx = $1 AND col_idx = $2", at[0], at[1])
				mine[at] = "gone"
			} else {
				v := value(random.Uint64())
				_, err = tx.Exec(ctx, `INSERT INTO public.passthrough_birds (row_idx, col_idx, value) VALUES ($1, $2, $3)
					ON CONFLICT (row_idx, col_idx) DO UPDATE SET value = EXCLUDED.value`, at[0], at[1], v)
				mine[at] = bits(v)
			}
			if err != nil {
				return err
			}
		}
		if random.IntN(10) == 0 {
			return errOnPurpose
		}
		sent = true
		return nil
	})
	s.plan.count.transactions.Add(1)
	s.recorded.Lock()
	defer s.recorded.Unlock()
	switch {
	case err == nil:
		maps.Copy(s.expected, mine)
	case errors.Is(err, errOnPurpose):
	case s.script.tiles && onView(err): // nobody writes to it from then on
	case s.down.Load() && lost(err):
		s.plan.count.interrupted.Add(1)
		if sent {
			s.plan.count.doubtful.Add(1)
			s.doubts = append(s.doubts, mine)
		}
	default:
		s.plan.count.failed.Add(1)
		s.t.Errorf("a writer failed: %v", err)
	}
}

// onView says whether the name is a view's by now: a migration to tiles was
// finalized.
func onView(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == "55000"
}

// lost says whether an error is the end of the server.
func lost(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return !ok || strings.HasPrefix(e.Code, "57P")
}

// settle finds out what became of transactions whose COMMIT was not answered:
// all of one, or nothing. Nobody writes meanwhile.
func (s *scene) settle() {
	s.t.Helper()
	stored := s.stored()
	for _, doubt := range s.doubts {
		was, is := true, true
		for cell, v := range doubt {
			now := stored.at(cell)
			was = was && now == s.expected[cell]
			is = is && now == v
		}
		switch {
		case is:
			maps.Copy(s.expected, doubt)
		case !was:
			s.t.Errorf("half of a transaction is there: %v", doubt)
		}
	}
	s.doubts = nil
}
