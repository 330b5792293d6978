package worker_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap/zaptest"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/internal/pgstore"
	"github.com/rasterloom/rasterloom/internal/pgtest"
	"github.com/rasterloom/rasterloom/services/schema/internal/worker"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// patience is far more than anything here takes: a test that waits for it fails.
const patience = 2 * time.Minute

// stage is a database with one layer in a LEGACY table.
type stage struct {
	t          testing.TB
	url        string
	pool       *pgxpool.Pool // the users' of the table
	opened     *pgstore.Store
	migrations *pgstore.Migrations
	layer      layer.Layer
	inPlace    bool
	tiles      *migrate.TileSpec // of a migration to tiles
	seed       uint64
}

// newSeed gives the seed of a test, printed; RASTERLOOM_TEST_SEED repeats one.
func newSeed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("RASTERLOOM_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("RASTERLOOM_TEST_SEED=%d", seed)
	return seed
}

func odd(seed, i uint64) float64 {
	switch h := (seed ^ i) * 0x9e3779b97f4a7c15 >> 56; {
	case h < 4:
		return math.NaN()
	case h < 8:
		return math.Copysign(0, -1)
	case h < 16:
		return 0
	case h < 18:
		return math.Inf(1)
	case h < 20:
		return math.Inf(-1)
	default:
		return float64((seed^i)*0xbf58476d1ce4e5b9) / 7
	}
}

// newStage makes a table of rows × cols cells, of which some are missing, some
// NULL, NaN, -0 and infinite.
func newStage(t testing.TB, rows, cols int, southUp bool) *stage {
	t.Helper()
	return newStageOn(t, pgtest.URL(t), rows, cols, southUp)
}

// newStageOn makes the stage on a database with our schema.
func newStageOn(t testing.TB, url string, rows, cols int, southUp bool) *stage {
	t.Helper()
	s := &stage{t: t, url: url, seed: newSeed(t)}
	s.pool = pgtest.Connect(t, s.url)
	store, err := pgstore.Open(t.Context(), s.url, pgstore.Options{ApplicationName: "rasterloom-test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	s.opened, s.migrations = store, store.Migrations()
	s.layer = layer.Layer{
		Name: "birds", HasGrid: true, SouthUp: southUp,
		Grid:   grid.Grid{CRS: "EPSG:32633", Rows: rows, Cols: cols, OriginX: 499980.1, OriginY: 5600040.7, StepX: 30.1, StepY: 29.9},
		Format: layer.FormatLegacy, Table: layer.Table{Schema: "public", Name: "passthrough_birds"},
		StoredType: layer.Float64, DeclaredType: layer.Float64, HasIndices: true, HasKey: true, Generation: 1,
	}
	s.do("CREATE TABLE public.passthrough_birds (row_idx integer, col_idx integer, value double precision, PRIMARY KEY (row_idx, col_idx))")
	s.fill()
	s.do(`INSERT INTO rasterloom.layer (name, band, format, crs, grid_rows, grid_cols, origin_x, origin_y, step_x, step_y, table_schema, table_name,
		table_oid, table_file, declared_type, stored_type, registration, south_up, has_indices, has_coordinates, has_key, estimated_rows, problems,
		source_schema, source_table, source_oid, generation)
		SELECT 'birds', '', 'LEGACY', 'EPSG:32633', $1, $2, 499980.1, 5600040.7, 30.1, 29.9, 'public', 'passthrough_birds', oid, relfilenode, 'float64', 'float64',
		'UNKNOWN', $3, true, false, true, 0, '[]', 'public', 'resampled_datasets', 0, 1 FROM pg_class WHERE oid = 'public.passthrough_birds'::regclass`,
		rows, cols, southUp)
	return s
}

func (s *stage) fill() {
	g := s.layer.Grid
	i := -1
	_, err := s.pool.CopyFrom(s.t.Context(), pgx.Identifier{"public", "passthrough_birds"}, []string{"row_idx", "col_idx", "value"},
		pgx.CopyFromFunc(func() ([]any, error) {
			for {
				if i++; i >= g.Rows*g.Cols {
					return nil, nil
				}
				switch h := (s.seed ^ uint64(i)) * 0x94d049bb133111eb >> 58; h {
				case 0:
					continue // not stored
				case 1:
					return []any{i / g.Cols, i % g.Cols, nil}, nil
				default:
					return []any{i / g.Cols, i % g.Cols, odd(s.seed, uint64(i))}, nil
				}
			}
		}))
	if err != nil {
		s.t.Fatal(err)
	}
	s.do("ANALYZE public.passthrough_birds")
}

func (s *stage) do(sql string, args ...any) {
	s.t.Helper()
	if _, err := s.pool.Exec(s.t.Context(), sql, args...); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

func ask[T any](s *stage, sql string, args ...any) T {
	s.t.Helper()
	var v T
	if err := s.pool.QueryRow(s.t.Context(), sql, args...).Scan(&v); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// content is a hash of what the table with the name holds, all bits, as the old
// code sees it.
func (s *stage) content() string {
	return ask[string](s, `SELECT count(*) || ':' || coalesce(md5(string_agg(record_send(ROW(row_idx, col_idx, value))::text, '' ORDER BY row_idx, col_idx)), '')
		FROM public.passthrough_birds`)
}

// dump describes all there is in the database's catalogs that is not the server's
// own, as a schema dump would, apart from the records of migrations.
func (s *stage) dump() string {
	return ask[string](s, `SELECT string_agg(line, E'\n' ORDER BY line) FROM (
		SELECT format('%s %s.%s owner %s acl %s options %s comment %s', c.relkind, n.nspname, c.relname, pg_get_userbyid(relowner), relacl, reloptions, obj_description(c.oid)) AS line
		FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname IN ('public', 'rasterloom', 'rasterloom_tiles')
		UNION ALL SELECT format('column %s %s %s %s %s', attrelid::regclass, attname, atttypid::regtype, attnotnull, attacl) FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
			JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname IN ('public', 'rasterloom', 'rasterloom_tiles') AND attnum > 0 AND NOT attisdropped
		UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class c ON c.oid = indrelid WHERE relnamespace IN ('public'::regnamespace, 'rasterloom'::regnamespace)
		UNION ALL SELECT format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace IN ('public'::regnamespace, 'rasterloom'::regnamespace)
		UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
		UNION ALL SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace IN ('public'::regnamespace, 'rasterloom'::regnamespace)
		UNION ALL SELECT format('view %s %s', oid::regclass, pg_get_viewdef(oid)) FROM pg_class WHERE relkind = 'v' AND relnamespace IN ('public'::regnamespace, 'rasterloom'::regnamespace)
	) l`)
}

func (s *stage) generation() int64 {
	return ask[int64](s, "SELECT generation FROM rasterloom.layer WHERE name = 'birds'")
}

// work runs workers until the test is over.
func (s *stage) work(n int) {
	ctx, stop := context.WithCancel(context.Background())
	var working sync.WaitGroup
	for range n {
		w := worker.New(s.migrations, s.migrations, worker.Config{Poll: 20 * time.Millisecond}, zaptest.NewLogger(s.t))
		working.Go(func() {
			if err := w.Run(ctx); err != nil {
				s.t.Error(err)
			}
		})
	}
	s.t.Cleanup(func() { stop(); working.Wait() })
}

func (s *stage) spec() migrate.Spec {
	if s.tiles != nil {
		return migrate.Spec{Layer: "birds", Level: migrate.LevelTiled, Tiles: *s.tiles}
	}
	return migrate.Spec{Layer: "birds", Level: migrate.LevelStored, InPlace: s.inPlace}
}

func (s *stage) start(key string) migrate.Migration {
	s.t.Helper()
	s.layer.Generation = s.generation()
	m, err := s.migrations.Start(s.t.Context(), key, s.spec(), s.layer, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// await waits until a migration stands still.
func (s *stage) await(id migrate.ID, want migrate.State) migrate.Migration {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		m, err := s.migrations.Get(s.t.Context(), id)
		if err != nil {
			s.t.Fatal(err)
		}
		if m.State == want {
			return m
		}
		if m.Condition == migrate.Failed || time.Now().After(deadline) {
			s.t.Fatalf("migration is %s %s, not %s: %+v %+v", m.State, m.Condition, want, m.Failure, m.Verification)
		}
	}
}

// patiently does what an operator does, again and again while the table is busy,
// and gives how often it was.
func (s *stage) patiently(do func(context.Context, migrate.ID, string) error, m migrate.Migration) (busy int) {
	s.t.Helper()
	for {
		err := do(s.t.Context(), m.ID, m.ETag())
		if err == nil {
			return busy
		}
		want(s.t, err, fault.Unavailable, fault.TableBusy)
		busy++
	}
}

// crowd are writers that go on until told to stop. Each has cells of its own, so
// that it knows what they must hold. The last column is nobody's: a test may
// write there.
type crowd struct {
	s        *stage
	stop     context.CancelFunc
	working  sync.WaitGroup
	commits  atomic.Int64
	failures atomic.Int64
	longest  atomic.Int64 // ns
	ended    atomic.Int64 // when that was, in Unix ns
	mu       sync.Mutex
	errors   []error
	expected map[[2]int]string // cell → bits, "gone" when deleted
}

func (s *stage) crowd(n int) *crowd {
	ctx, stop := context.WithCancel(context.Background())
	c := &crowd{s: s, stop: stop, expected: map[[2]int]string{}}
	for w := range n {
		c.working.Go(func() { c.write(ctx, w, n) })
	}
	s.t.Cleanup(func() { stop(); c.working.Wait() })
	return c
}

// waited notes how long a transaction took.
func (c *crowd) waited(began time.Time) {
	took := int64(time.Since(began))
	for {
		longest := c.longest.Load()
		if took <= longest {
			return
		}
		if c.longest.CompareAndSwap(longest, took) {
			c.ended.Store(time.Now().UnixNano())
			return
		}
	}
}

// write makes transactions of one to three statements: inserts, updates of values
// and of keys, deletes; some are rolled back.
func (c *crowd) write(ctx context.Context, w, of int) {
	random := rand.New(rand.NewPCG(c.s.seed, uint64(w)))
	g := c.s.layer.Grid
	cell := func() [2]int { return [2]int{random.IntN(g.Rows/of)*of + w, random.IntN(g.Cols - 1)} }
	for ctx.Err() == nil {
		mine := map[[2]int]string{}
		began := time.Now()
		err := pgx.BeginFunc(context.Background(), c.s.pool, func(tx pgx.Tx) error {
			for range 1 + random.IntN(3) {
				at, value := cell(), any(odd(c.s.seed, random.Uint64()))
				if random.IntN(20) == 0 {
					value = nil
				}
				var sql string
				args := []any{at[0], at[1]}
				switch random.IntN(4) {
				case 0:
					sql = "DELETE FROM public.passthrough_birds WHERE row_idx = $1 AND col_idx = $2"
					mine[at] = "gone"
				case 1:
					to := cell()
					if to == at {
						continue
					}
					// A cell moves to another place, which is emptied first.
					if _, err := tx.Exec(context.Background(), "DELETE FROM public.passthrough_birds WHERE row_idx = $1 AND col_idx = $2", to[0], to[1]); err != nil {
						return err
					}
					mine[to] = "gone"
					rows, err := tx.Query(context.Background(), `UPDATE public.passthrough_birds SET row_idx = $3, col_idx = $4
						WHERE row_idx = $1 AND col_idx = $2 RETURNING coalesce(float8send(value)::text, 'null')`, at[0], at[1], to[0], to[1])
					if err != nil {
						return err
					}
					moved, err := pgx.CollectRows(rows, pgx.RowTo[string])
					if err != nil {
						return err
					}
					if len(moved) == 1 {
						mine[at], mine[to] = "gone", moved[0]
					}
					continue
				default:
					sql = `INSERT INTO public.passthrough_birds (row_idx, col_idx, value) VALUES ($1, $2, $3)
						ON CONFLICT (row_idx, col_idx) DO UPDATE SET value = EXCLUDED.value`
					args = append(args, value)
					mine[at] = bits(value)
				}
				if _, err := tx.Exec(context.Background(), sql, args...); err != nil {
					return err
				}
			}
			if random.IntN(10) == 0 {
				return errRollback
			}
			return nil
		})
		c.waited(began)
		switch {
		case err == nil:
			c.commits.Add(1)
			c.mu.Lock()
			maps.Copy(c.expected, mine)
			c.mu.Unlock()
		case errors.Is(err, errRollback):
		default:
			c.failures.Add(1)
			c.mu.Lock()
			c.errors = append(c.errors, err)
			c.mu.Unlock()
		}
	}
}

var errRollback = errors.New("rolled back on purpose")

func bits(v any) string {
	if v == nil {
		return "null"
	}
	return fmt.Sprintf(`\x%016x`, math.Float64bits(v.(float64)))
}

// end stops the writers and compares what they were told with what is there.
func (c *crowd) end() {
	c.s.t.Helper()
	c.stop()
	c.working.Wait()
	lost := 0
	rows, err := c.s.pool.Query(c.s.t.Context(), "SELECT row_idx, col_idx, coalesce(float8send(value)::text, 'null') FROM public.passthrough_birds")
	if err != nil {
		c.s.t.Fatal(err)
	}
	stored := map[[2]int]string{}
	var row, col int
	var value string
	if _, err := pgx.ForEachRow(rows, []any{&row, &col, &value}, func() error { stored[[2]int{row, col}] = value; return nil }); err != nil {
		c.s.t.Fatal(err)
	}
	for cell, want := range c.expected {
		got, there := stored[cell]
		if !there {
			got = "gone"
		}
		if got != want {
			if lost++; lost < 5 {
				c.s.t.Errorf("cell %v holds %s, and %s was committed", cell, got, want)
			}
		}
	}
	for _, err := range c.errors[:min(5, len(c.errors))] {
		c.s.t.Errorf("a writer failed: %v", err)
	}
	c.s.t.Logf("writers: %d transactions, %d failed, %d of %d cells lost, longest wait %v, until %s",
		c.commits.Load(), c.failures.Load(), lost, len(c.expected), time.Duration(c.longest.Load()).Round(time.Millisecond), time.Unix(0, c.ended.Load()).UTC().Format("15:04:05.000"))
	if c.commits.Load() == 0 {
		c.s.t.Error("the writers wrote nothing")
	}
}
