package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/bitmap"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/internal/pgstore"
)

// newTiledStage is a stage whose migration makes tiles.
func newTiledStage(t testing.TB, rows, cols int, southUp bool) *stage {
	t.Helper()
	s := newStage(t, rows, cols, southUp)
	s.tiles = &migrate.TileSpec{}
	return s
}

// catalogued is the layer as it is catalogued now.
func (s *stage) catalogued() layer.Layer {
	s.t.Helper()
	records, err := s.opened.Layers(s.t.Context(), []string{"birds"})
	if err != nil || len(records) != 1 {
		s.t.Fatal(records, err)
	}
	return records[0].Layer
}

// woven reads the layer as a merge does: bits of its values, by cell.
func (s *stage) woven() (map[[2]int]string, error) {
	s.t.Helper()
	l := s.catalogued()
	set, err := pgstore.NewCellReader(s.opened, pgstore.CellOptions{Connections: 2}).Open(s.t.Context(),
		[]layer.CellRequest{{Layer: l, Window: l.Grid.Window(), ChunkCells: 65536}})
	if err != nil {
		return nil, err
	}
	defer set.Close()
	cells := map[[2]int]string{}
	for {
		chunk, err := set.Stream(0).Next(s.t.Context())
		if errors.Is(err, io.EOF) {
			return cells, nil
		}
		if err != nil {
			return nil, err
		}
		at := 0
		for _, run := range chunk.Runs {
			for i := range int(run.Cells) {
				if chunk.Valid == nil || bitmap.Load(chunk.Valid, at, 1) == 1 {
					cells[[2]int{int(run.Row), int(run.Col) + i}] = numberBits(chunk.Values, at)
				}
				at++
			}
		}
		set.Stream(0).Recycle(chunk)
	}
}

func numberBits(values any, i int) string {
	switch v := values.(type) {
	case []float64:
		return bits(v[i])
	case []float32:
		return bits(float64(v[i]))
	case []int16:
		return bits(float64(v[i]))
	case []int32:
		return bits(float64(v[i]))
	case []int64:
		return bits(float64(v[i]))
	case []uint8:
		return bits(float64(v[i]))
	default:
		return fmt.Sprintf("%T", values)
	}
}

// held is what the table with the name holds, where it has a value.
func (s *stage) held() map[[2]int]string {
	s.t.Helper()
	rows, err := s.pool.Query(s.t.Context(), "SELECT row_idx, col_idx, float8send(value)::text FROM public.passthrough_birds WHERE value <> 'NaN'")
	if err != nil {
		s.t.Fatal(err)
	}
	cells := map[[2]int]string{}
	var row, col int
	var value string
	if _, err := pgx.ForEachRow(rows, []any{&row, &col, &value}, func() error {
		if s.layer.SouthUp {
			row = s.layer.Grid.Rows - 1 - row
		}
		cells[[2]int{row, col}] = value
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	return cells
}

// sameAsTable compares what a merge reads with the table. Nobody writes meanwhile.
func (s *stage) sameAsTable(when string) {
	s.t.Helper()
	got, err := s.woven()
	if err != nil {
		s.t.Fatalf("%s: %v", when, err)
	}
	want, wrong := s.held(), 0
	for cell, v := range want {
		if got[cell] != v {
			if wrong++; wrong < 4 {
				s.t.Errorf("%s: cell %v is read as %q, and the table has %s", when, cell, got[cell], v)
			}
		}
	}
	if wrong > 0 || len(got) != len(want) {
		s.t.Errorf("%s: %d cells differ; %d are read, and the table has %d", when, wrong, len(got), len(want))
	}
}

// To tiles and back, the whole way under writers: merges read what was written, at
// any moment, and nothing is left in the end.
func TestTilesAndBackUnderWriters(t *testing.T) {
	for name, southUp := range map[string]bool{"north-up": false, "south-up": true} {
		t.Run(name, func(t *testing.T) {
			s := newTiledStage(t, 300, 300, southUp)
			s.do("GRANT SELECT ON public.passthrough_birds TO PUBLIC")
			before := s.dump()
			c := s.crowd(4)
			s.work(2)
			m := s.await(s.start("k").ID, migrate.Verified)
			v := m.Verification
			if !v.Equal() || v.OldRows == 0 || v.WithoutValue == 0 || v.Tiles == 0 || len(v.Differing) != 0 {
				t.Fatalf("verification %+v", v)
			}
			if err := s.migrations.CutOver(t.Context(), m.ID, m.ETag()); err != nil {
				t.Fatal(err)
			}
			if l := s.catalogued(); l.Format != layer.FormatTiled || l.Generation != 2 || l.SouthUp || l.Tiling == "" || l.Table.Schema != layer.TileSchema {
				t.Errorf("catalogued as %+v", l)
			}
			if _, err := s.woven(); err != nil {
				t.Error(err)
			}
			c.stop()
			c.working.Wait()
			s.sameAsTable("after the cut-over")
			m = s.await(m.ID, migrate.CutOver)
			if err := s.migrations.Rollback(t.Context(), m.ID, m.ETag()); err != nil {
				t.Fatal(err)
			}
			c.end()
			s.sameAsTable("after the rollback")
			if after := s.dump(); after != before {
				t.Errorf("the schema is not what it was:\n%s\n--- before\n%s", after, before)
			}
			if l := s.catalogued(); l.Format != layer.FormatLegacy || l.Generation != 3 || l.SouthUp != southUp || l.Tiling != "" || !l.HasIndices || !l.HasKey {
				t.Errorf("catalogued as %+v", l)
			}
		})
	}
}

// What is committed is read, before any worker has made the tiles anew, whatever it
// was; and a table that no longer notes is not read at all.
func TestTilesAreNeverBehind(t *testing.T) {
	s := newTiledStage(t, 520, 300, true)
	h := s.byHand()
	h.to(migrate.CutOver)
	s.sameAsTable("nothing was written")
	for _, sql := range []string{
		"UPDATE public.passthrough_birds SET value = value + 1 WHERE row_idx = 299 AND col_idx BETWEEN 250 AND 260",
		"DELETE FROM public.passthrough_birds WHERE row_idx = 300",
		"INSERT INTO public.passthrough_birds VALUES (300, 255, 7), (300, 256, -0.0), (300, 257, NULL), (300, 258, 'NaN'), (300, 299, 'Infinity')",
		"UPDATE public.passthrough_birds SET col_idx = 3, row_idx = 300 WHERE row_idx = 0 AND col_idx = 290",
		"DELETE FROM public.passthrough_birds WHERE row_idx < 264", // all of the southern tiles
		"TRUNCATE public.passthrough_birds",
		"INSERT INTO public.passthrough_birds SELECT i, i % 300, i FROM generate_series(0, 519) i",
	} {
		s.do(sql)
		s.sameAsTable(sql)
	}
	if n := ask[int](s, "SELECT count(DISTINCT (tile_row, tile_col)) FROM rasterloom.notes_1"); n != 6 {
		t.Errorf("%d tiles are noted", n)
	}
	lease, found, err := s.migrations.ClaimBehind(t.Context(), 1e9)
	if err != nil || !found {
		t.Fatal(found, err)
	}
	for left := true; left; {
		left, err = s.migrations.Follow(t.Context(), lease)
		h.must(err)
	}
	if n := ask[int](s, "SELECT count(*) FROM rasterloom.notes_1"); n != 0 {
		t.Errorf("%d notes are left", n)
	}
	s.sameAsTable("tiles were made anew")
	h.must(s.migrations.Release(t.Context(), lease))
	if _, found, err := s.migrations.ClaimBehind(t.Context(), 1e9); found || err != nil {
		t.Errorf("it does not lag behind, and is claimed (%v)", err)
	}
	s.do("ALTER TABLE public.passthrough_birds DISABLE TRIGGER rasterloom_row_1")
	_, err = s.woven()
	want(t, err, fault.Conflict, fault.LayerChanged)
	s.do("ALTER TABLE public.passthrough_birds ENABLE ALWAYS TRIGGER rasterloom_row_1")
	s.sameAsTable("the trigger is back")
	s.do("ALTER TABLE public.passthrough_birds RENAME TO passthrough_birds_old")
	s.do("CREATE TABLE public.passthrough_birds (LIKE public.passthrough_birds_old INCLUDING ALL)")
	_, err = s.woven()
	want(t, err, fault.Conflict, fault.LayerChanged)
}

// Under writers that carry amounts from tile to tile, and workers that follow, each
// merge sees all of a transaction or nothing.
func TestTilesShowWholeTransactions(t *testing.T) {
	s := newTiledStage(t, 520, 520, false)
	s.do("TRUNCATE public.passthrough_birds")
	s.do("INSERT INTO public.passthrough_birds SELECT i * 65, j * 65, 1000 FROM generate_series(0, 7) i, generate_series(0, 7) j")
	const sum = 64 * 1000
	h := s.byHand()
	h.to(migrate.CutOver)
	h.must(s.migrations.Release(t.Context(), h.lease))
	s.work(2)
	ctx, stop := context.WithCancel(t.Context())
	var carrying sync.WaitGroup
	for w := range 3 {
		carrying.Go(func() {
			random := rand.New(rand.NewPCG(s.seed, uint64(w)))
			for ctx.Err() == nil {
				a, b := random.IntN(64), random.IntN(64)
				if a >= b {
					continue // in one order, so that writers have no deadlocks of their own
				}
				err := pgx.BeginFunc(context.WithoutCancel(ctx), s.pool, func(tx pgx.Tx) error {
					for i, cell := range []int{a, b} {
						if _, err := tx.Exec(context.WithoutCancel(ctx), "UPDATE public.passthrough_birds SET value = value + $3 WHERE row_idx = $1 AND col_idx = $2",
							cell/8*65, cell%8*65, float64(1-2*i)); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	differing := 0
	for range 25 {
		cells, err := s.woven()
		if err != nil {
			t.Error(err)
			break
		}
		total := 0.
		for _, text := range cells {
			var b uint64
			_, _ = fmt.Sscanf(text, `\x%016x`, &b)
			total += math.Float64frombits(b)
			if math.Float64frombits(b) != 1000 {
				differing++
			}
		}
		if total != sum || len(cells) != 64 {
			t.Errorf("%d cells with a sum of %v, not %d", len(cells), total, sum)
		}
	}
	stop()
	carrying.Wait()
	s.sameAsTable("at the end")
	if differing == 0 {
		t.Error("nobody carried anything")
	}
}

// What happens to the table at any time reaches the tiles.
func TestTilesWhileTheTableChanges(t *testing.T) {
	for name, change := range map[string][]string{
		"truncated":    {"TRUNCATE public.passthrough_birds"},
		"refilled":     {"TRUNCATE public.passthrough_birds", "INSERT INTO public.passthrough_birds SELECT i, 3, i FROM generate_series(0, 259) i"},
		"rewritten":    {"UPDATE public.passthrough_birds SET value = value + 1 WHERE row_idx < 20", "VACUUM FULL public.passthrough_birds"},
		"deleted from": {"DELETE FROM public.passthrough_birds WHERE row_idx > 40", "VACUUM public.passthrough_birds", "INSERT INTO public.passthrough_birds SELECT 259, i, i FROM generate_series(0, 259) i"},
	} {
		for _, at := range []migrate.State{migrate.Backfilling, migrate.Synced, migrate.CutOver} {
			t.Run(name+" while "+string(at), func(t *testing.T) {
				t.Parallel()
				s := newTiledStage(t, 260, 260, false)
				h := s.byHand()
				h.to(at)
				if at == migrate.Backfilling {
					_, _, err := s.migrations.CopyChunk(t.Context(), h.lease, 1)
					h.must(err)
				}
				for _, sql := range change {
					s.do(sql)
				}
				held := s.held()
				h.to(migrate.CutOver)
				s.sameAsTable("after the cut-over")
				h.must(s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{}))
				got, err := s.woven()
				h.must(err)
				if !maps.Equal(got, held) {
					t.Errorf("%d cells are in the tiles, and the table had %d, or their values differ", len(got), len(held))
				}
			})
		}
	}
}

// A value flipped in a tile, or behind the triggers' back in the table, is found,
// named, and nothing goes on; so is a tile that cannot be read.
func TestVerifyNamesWhatDiffersFromTiles(t *testing.T) {
	for name, c := range map[string]struct{ sql, where, what string }{
		"missing": {"DELETE FROM %s WHERE tile_row = 1 AND tile_col = 1", "(256, 256)", "missing"},
		"broken":  {"UPDATE %s SET data = set_byte(data, 17, get_byte(data, 17) # 1) WHERE tile_row = 1 AND tile_col = 0", "(256, 0)", "unreadable"},
		"another tile's": {"UPDATE %[1]s t SET (cells, min, max, valid, data) = (SELECT cells, min, max, valid, data FROM %[1]s WHERE tile_row = 0 AND tile_col = 0) WHERE tile_row = 0 AND tile_col = 1",
			"(0, 256)", ""},
		"outside of the grid": {"INSERT INTO %[1]s SELECT 7, 0, cells, min, max, valid, data FROM %[1]s WHERE tile_row = 0 AND tile_col = 0", "(1792, 0)", "added"},
		"flipped in the table itself": {`ALTER TABLE public.passthrough_birds DISABLE TRIGGER rasterloom_row_1;
			UPDATE public.passthrough_birds SET value = '-0'::float8 WHERE row_idx = 3 AND col_idx = 7;
			ALTER TABLE public.passthrough_birds ENABLE ALWAYS TRIGGER rasterloom_row_1`, "(3, 7)", "changed"},
	} {
		for _, at := range []migrate.State{migrate.Synced, migrate.CutOver} {
			if at == migrate.CutOver && c.what == "added" {
				continue
			}
			t.Run(name+" in "+string(at), func(t *testing.T) {
				s := newTiledStage(t, 260, 260, false)
				s.do("INSERT INTO public.passthrough_birds VALUES (3, 7, 0), (256, 256, 1), (256, 0, 1), (0, 256, 1) ON CONFLICT (row_idx, col_idx) DO UPDATE SET value = EXCLUDED.value")
				h := s.byHand()
				h.to(at)
				sql := c.sql
				if strings.Contains(sql, "%") {
					sql = fmt.Sprintf(sql, ask[string](s, "SELECT new_table::regclass::text FROM rasterloom.migration"))
				}
				if _, err := s.pool.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
					t.Fatal(err)
				}
				var err error
				if at == migrate.Synced {
					err = s.migrations.Verify(t.Context(), h.lease)
				} else {
					err = s.migrations.Finalize(t.Context(), h.id, h.etag(), migrate.Losses{})
				}
				f := want(t, err, fault.Corrupt, fault.DataCorrupt)
				if !strings.Contains(f.Message, c.where+" "+c.what) {
					t.Errorf("%v %v", f, f.Fields)
				}
				if state := ask[string](s, "SELECT state FROM rasterloom.migration"); state != "TILED_"+string(at) {
					t.Errorf("it is %s", state)
				}
				if n := ask[int](s, "SELECT count(*) FROM pg_class WHERE oid = 'public.passthrough_birds'::regclass"); n != 1 {
					t.Error("the table is gone")
				}
			})
		}
	}
}

// Programs of before there were migrations to tiles know a migration by its state
// alone, and take it for one to stored coordinates. So none of the states that they
// know is that of a migration to tiles which is not over.
func TestOlderProgramsLeaveTilesAlone(t *testing.T) {
	s := newTiledStage(t, 260, 260, false)
	h := s.byHand()
	for _, at := range migrate.States() {
		if at.Ended() {
			break
		}
		h.to(at)
		if stored := ask[migrate.State](s, "SELECT state FROM rasterloom.migration"); stored.Known() {
			t.Errorf("a migration to tiles that is %s is stored as %s", at, stored)
		}
	}
	h.must(s.migrations.Rollback(t.Context(), h.id, h.etag()))
	if stored := ask[migrate.State](s, "SELECT state FROM rasterloom.migration"); stored != migrate.RolledBack {
		t.Errorf("one that is over is stored as %s", stored)
	}
}

// Rows without a value are counted, whether they are read with the others or not, and
// whether their tile was written to meanwhile or not.
func TestVerifyCountsRowsWithoutValue(t *testing.T) {
	for name, c := range map[string]struct {
		sql  string
		want int64
	}{
		"every row has one": {"", 0},
		"NaN":               {"UPDATE public.passthrough_birds SET value = 'NaN' WHERE col_idx = 250", 260},
		"NULL":              {"UPDATE public.passthrough_birds SET value = NULL WHERE col_idx = 250", 260},
		"both, and rows that are not there": {`UPDATE public.passthrough_birds SET value = 'NaN' WHERE col_idx = 250;
			UPDATE public.passthrough_birds SET value = NULL WHERE col_idx = 3; DELETE FROM public.passthrough_birds WHERE row_idx < 9`, 2 * 251},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTiledStage(t, 260, 260, false)
			s.do("TRUNCATE public.passthrough_birds")
			s.do("INSERT INTO public.passthrough_birds SELECT r, c, r + c FROM generate_series(0, 259) r, generate_series(0, 259) c")
			if _, err := s.pool.Exec(t.Context(), c.sql+"; ANALYZE public.passthrough_birds", pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatal(err)
			}
			h := s.byHand()
			h.to(migrate.Synced)
			s.do("UPDATE public.passthrough_birds SET value = value WHERE row_idx = 20 AND col_idx = 20") // notes a tile
			h.to(migrate.Verified)
			m, err := s.migrations.Get(t.Context(), h.id)
			if err != nil {
				t.Fatal(err)
			}
			if v := m.Verification; v.WithoutValue != c.want || v.Lagging != 1 || !v.Equal() {
				t.Errorf("%d rows without a value instead of %d: %+v", v.WithoutValue, c.want, v)
			}
		})
	}
}

// A tile is made anew where it is not as the table has it, and left alone where a
// write changed nothing.
func TestTilesThatAreRightStay(t *testing.T) {
	s := newTiledStage(t, 260, 260, false)
	s.do("INSERT INTO public.passthrough_birds VALUES (3, 7, 0), (256, 256, 1), (256, 0, 1), (0, 256, 1) ON CONFLICT (row_idx, col_idx) DO UPDATE SET value = EXCLUDED.value")
	h := s.byHand()
	h.to(migrate.Verified)
	tiles := ask[string](s, "SELECT new_table::regclass::text FROM rasterloom.migration")
	written := func() string {
		return ask[string](s, "SELECT string_agg(format('%s,%s: %s', tile_row, tile_col, xmin), '; ' ORDER BY tile_row, tile_col) FROM "+tiles+" WHERE tile_col = 0")
	}
	before := written()
	s.do("UPDATE public.passthrough_birds SET value = value WHERE row_idx IN (3, 256) AND col_idx IN (0, 7)")
	s.do("UPDATE public.passthrough_birds SET value = value + 1 WHERE row_idx = 0 AND col_idx = 256")
	if _, err := s.migrations.Follow(t.Context(), h.lease); err != nil {
		t.Fatal(err)
	}
	if after := written(); after != before || strings.Count(after, ";") != 1 {
		t.Errorf("tiles were written again: %s, and before %s", after, before)
	}
	if n := ask[int](s, "SELECT count(*) FROM rasterloom.notes_1"); n != 0 {
		t.Errorf("%d notes are left", n)
	}
	h.to(migrate.CutOver)
	s.sameAsTable("after a value changed")
}
