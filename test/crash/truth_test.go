package crash_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/internal/bitmap"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/internal/pgstore"
)

// content compares the table that has the name with everything that was
// committed (I1, I6, I7).
func (s *scene) content(when string) {
	s.t.Helper()
	s.gate.Lock()
	defer s.gate.Unlock()
	s.contentLocked(when)
}

// cells are what a table holds, as bits.
type cells map[[2]int]string

func (c cells) at(cell [2]int) string {
	if v, there := c[cell]; there {
		return v
	}
	return "gone"
}

func (s *scene) stored() cells {
	s.t.Helper()
	stored := cells{}
	found, err := s.pool.Query(context.Background(), "SELECT row_idx, col_idx, coalesce(float8send(value)::text, 'null') FROM public.passthrough_birds")
	if err != nil {
		s.t.Error(err)
		return stored
	}
	var row, col int
	var v string
	if _, err := pgx.ForEachRow(found, []any{&row, &col, &v}, func() error { stored[[2]int{row, col}] = v; return nil }); err != nil {
		s.t.Error(err)
	}
	return stored
}

func (s *scene) contentLocked(when string) {
	s.t.Helper()
	if s.hash != "" {
		if now := s.hashOfAll(); now != s.hash {
			s.t.Errorf("%s: the table has %s, and had %s", when, now, s.hash)
		}
		return
	}
	stored := s.stored()
	// A view of tiles has the cells that have a value, and they are all kept.
	view := s.script.tiles && s.count("SELECT count(*) FROM pg_class WHERE oid = 'public.passthrough_birds'::regclass AND relkind = 'v'") == 1
	for cell, want := range s.expected {
		if view && (want == "null" || want == bits(math.NaN())) {
			want = "gone"
		}
		if got := stored.at(cell); got != want {
			s.plan.count.lost.Add(1)
			s.t.Errorf("%s: cell %v holds %s, and %s was committed", when, cell, got, want)
		}
		delete(stored, cell)
	}
	for cell := range stored {
		s.t.Errorf("%s: cell %v was never committed", when, cell)
	}
}

// hashOfAll is the number of rows and a hash of all their bits.
func (s *scene) hashOfAll() (hash string) {
	s.t.Helper()
	err := s.pool.QueryRow(context.Background(), `SELECT count(*) || ' rows ' || sum(hash_record_extended(ROW(row_idx, col_idx, float8send(value)), 0))
		FROM public.passthrough_birds`).Scan(&hash)
	if err != nil {
		s.t.Error(err)
	}
	return hash
}

// orphans looks for what a migration that is over has left behind.
func (s *scene) orphans() {
	s.t.Helper()
	if n := s.count(`SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'rasterloom'::regnamespace AND relname ~ '^(old|shadow|notes|index)_')
		+ (SELECT count(*) FROM pg_proc WHERE pronamespace = 'rasterloom'::regnamespace AND proname ~ '^rasterloom_')
		+ (SELECT count(*) FROM pg_trigger WHERE tgname ~ '^rasterloom_')`); n != 0 {
		s.t.Errorf("%d relations, functions or triggers are left over", n)
	}
}

// invariants holds what must be true at any moment (reliability: I2 to I5, I8).
// Nobody writes meanwhile.
func (s *scene) invariants(ctx context.Context) {
	s.t.Helper()
	var id, fence int64
	var state migrate.State
	err := s.pool.QueryRow(ctx, "SELECT id, replace(state, 'TILED_', ''), fence FROM rasterloom.migration ORDER BY id DESC LIMIT 1").Scan(&id, (*string)(&state), &fence)
	if errors.Is(err, pgx.ErrNoRows) {
		return
	}
	if err != nil {
		s.t.Errorf("read the migration: %v", err)
		return
	}
	if fence < s.fences[id] {
		s.t.Errorf("I5: the fence of migration %d fell from %d to %d", id, s.fences[id], fence)
	}
	s.fences[id] = fence
	capture := state.Capture()
	exists := func(name string) int64 {
		return s.count("SELECT count(*) FROM pg_class WHERE relnamespace = 'rasterloom'::regnamespace AND relname = $1", fmt.Sprintf("%s_%d", name, id))
	}
	one := func(b bool) int64 {
		if b {
			return 1
		}
		return 0
	}
	if s.script.tiles && capture != migrate.CaptureNone {
		capture = migrate.CaptureNoted // all the way
	}
	if s.script.inPlace {
		capture = migrate.CaptureNone // there is one table: what is said of a second one holds
	}
	for name, want := range map[string]bool{
		"shadow": !s.script.tiles && (capture == migrate.CaptureNoted || capture == migrate.CaptureForward),
		"notes":  capture == migrate.CaptureNoted, "old": capture == migrate.CaptureReverse,
	} {
		if exists(name) != one(want) {
			s.t.Errorf("I4: the state is %s, and the table %s is there: %v", state, name, !want)
		}
	}
	onName := s.count("SELECT count(*) FROM pg_trigger WHERE tgname ~ '^rasterloom_' AND tgenabled = 'A' AND tgrelid = 'public.passthrough_birds'::regclass")
	all := s.count("SELECT count(*) FROM pg_trigger WHERE tgname ~ '^rasterloom_'")
	want := 2 * one(capture != migrate.CaptureNone)
	if s.script.inPlace {
		// The one that fills the columns; no row may lack coordinates once they
		// were all found right.
		want = one(state.Capture() != migrate.CaptureNone || state == migrate.Finalized)
		if n := s.count("SELECT count(*) FROM pg_attribute WHERE attrelid = 'public.passthrough_birds'::regclass AND NOT attisdropped AND attname ~ '^(rasterloom_[xy]_[0-9]+|[xy]_coord)$'"); n != 2*want {
			s.t.Errorf("I4: the state is %s, and the table has %d columns of ours", state, n)
		}
		if x := map[migrate.State]string{migrate.Verified: fmt.Sprintf("rasterloom_x_%d", id), migrate.CutOver: "x_coord"}[state]; x != "" {
			if n := s.count("SELECT count(*) FROM public.passthrough_birds WHERE " + x + " IS NULL"); n != 0 {
				s.t.Errorf("I2: the state is %s, and %d rows have no coordinates", state, n)
			}
		}
	}
	if onName != want || all != want {
		s.t.Errorf("I3: the state is %s, and %d of %d triggers are on the table with the name", state, onName, all)
	}
	// One for each cut-over, and one for each way back.
	if n := s.count(`SELECT (SELECT generation FROM rasterloom.layer WHERE name = 'birds') - 1 - coalesce(sum(
		CASE state WHEN 'CUT_OVER' THEN 1 WHEN 'TILED_CUT_OVER' THEN 1 WHEN 'FINALIZED' THEN 1 WHEN 'ROLLED_BACK' THEN 2 ELSE 0 END), 0) FROM rasterloom.migration`); n != 0 {
		s.t.Errorf("I8: the state is %s, and the generation is %d off", state, n)
	}
	if s.script.tiles {
		s.readsAsTold(ctx, state)
		return
	}
	const bitsOf = "SELECT row_idx, col_idx, float8send(value) AS value FROM "
	switch capture {
	case migrate.CaptureNoted:
		// What is copied and not noted is what the table has.
		sql := fmt.Sprintf(`SELECT count(*) FROM (%s rasterloom.shadow_%d EXCEPT %s public.passthrough_birds) e
			WHERE NOT EXISTS (SELECT FROM rasterloom.notes_%d n WHERE n.row_idx = e.row_idx AND n.col_idx = e.col_idx)`, bitsOf, id, bitsOf, id)
		if n := s.count(sql); n != 0 {
			s.t.Errorf("I2: %d copied cells differ from the table's", n)
		}
		// What lies before a checkpoint is copied or noted, unless the table has got
		// another file, and the copying begins again.
		sql = fmt.Sprintf(`SELECT count(*) FROM public.passthrough_birds b
			JOIN rasterloom.migration m ON m.id = $1 AND m.old_file = pg_relation_filenode('public.passthrough_birds')
			JOIN rasterloom.migration_lane l ON l.migration = m.id AND (b.ctid::text::point)[0]::bigint >= l.start_block AND (b.ctid::text::point)[0]::bigint < l.next_block
			WHERE NOT EXISTS (SELECT FROM rasterloom.shadow_%[1]d s WHERE s.row_idx = b.row_idx AND s.col_idx = b.col_idx)
			  AND NOT EXISTS (SELECT FROM rasterloom.notes_%[1]d n WHERE n.row_idx = b.row_idx AND n.col_idx = b.col_idx)`, id)
		if n := s.count(sql, id); n != 0 {
			s.t.Errorf("I2: %d cells before a checkpoint are neither copied nor noted", n)
		}
	case migrate.CaptureForward, migrate.CaptureReverse:
		other := fmt.Sprintf("rasterloom.shadow_%d", id)
		if capture == migrate.CaptureReverse {
			other = fmt.Sprintf("rasterloom.old_%d", id)
		}
		sql := fmt.Sprintf(`SELECT (SELECT count(*) FROM (%[1]s %[2]s EXCEPT %[1]s public.passthrough_birds) a) +
			(SELECT count(*) FROM (%[1]s public.passthrough_birds EXCEPT %[1]s %[2]s) b)`, bitsOf, other)
		if n := s.count(sql); n != 0 {
			s.t.Errorf("I2: %d cells differ between the tables", n)
		}
	}
}

// dump describes what the catalogs have of ours and theirs, apart from records.
func (s *scene) dump() (text string) {
	s.t.Helper()
	err := s.pool.QueryRow(context.Background(), `SELECT string_agg(line, E'\n' ORDER BY line) FROM (
		SELECT format('%s %s.%s owner %s acl %s options %s comment %s identity %s', c.relkind, n.nspname, c.relname, pg_get_userbyid(relowner), relacl, reloptions, obj_description(c.oid), relreplident) AS line
		FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname IN ('public', 'rasterloom', 'rasterloom_tiles')
		UNION ALL SELECT format('column %s %s %s %s %s %s %s', attrelid::regclass, attname, atttypid::regtype, attnotnull, attacl, attstattarget, attoptions)
		FROM pg_attribute JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
		WHERE nspname IN ('public', 'rasterloom', 'rasterloom_tiles') AND attnum > 0 AND NOT attisdropped
		UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class c ON c.oid = indrelid WHERE relnamespace IN ('public'::regnamespace, 'rasterloom'::regnamespace)
		UNION ALL SELECT format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace IN ('public'::regnamespace, 'rasterloom'::regnamespace)
		UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
		UNION ALL SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace IN ('public'::regnamespace, 'rasterloom'::regnamespace)
		UNION ALL SELECT format('view %s %s', oid::regclass, pg_get_viewdef(oid)) FROM pg_class WHERE relkind = 'v' AND relnamespace IN ('public'::regnamespace, 'rasterloom'::regnamespace)
	) l`).Scan(&text)
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// readsAsTold holds what a merge reads against the table (I2): from the tiles, with
// what is noted, once the layer is read from them.
func (s *scene) readsAsTold(ctx context.Context, state migrate.State) {
	s.t.Helper()
	store, err := pgstore.Open(ctx, s.url, pgstore.Options{ApplicationName: "crash-test"})
	if err != nil {
		s.t.Error(err)
		return
	}
	defer store.Close()
	records, err := store.Layers(ctx, []string{"birds"})
	if err != nil || len(records) != 1 {
		s.t.Errorf("read the layer: %v, %v", records, err)
		return
	}
	l := records[0].Layer
	if tiled := state == migrate.CutOver || state == migrate.Finalized; tiled != (l.Format == layer.FormatTiled) {
		s.t.Errorf("I4: the state is %s, and the layer is %s", state, l.Format)
	}
	set, err := pgstore.NewCellReader(store, pgstore.CellOptions{Connections: 1}).Open(ctx, []layer.CellRequest{{Layer: l, Window: l.Grid.Window(), ChunkCells: 65536}})
	if err != nil {
		s.t.Errorf("I2: the state is %s, and the layer cannot be read: %v", state, err)
		return
	}
	defer set.Close()
	stored, read := s.stored(), 0
	for {
		chunk, err := set.Stream(0).Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			s.t.Errorf("I2: the state is %s, and the layer cannot be read: %v", state, err)
			return
		}
		at := 0
		for _, run := range chunk.Runs {
			for i := range int(run.Cells) {
				cell := [2]int{int(run.Row), int(run.Col) + i}
				if chunk.Valid == nil || bitmap.Load(chunk.Valid, at, 1) == 1 {
					read++
					if got := bits(chunk.Values.([]float64)[at]); got != stored.at(cell) {
						s.t.Errorf("I2: the state is %s, and cell %v is read as %s, and is %s", state, cell, got, stored.at(cell))
					}
				}
				at++
			}
		}
		set.Stream(0).Recycle(chunk)
	}
	valued := 0
	for _, v := range stored {
		if v != "null" && v != bits(math.NaN()) {
			valued++
		}
	}
	if read != valued {
		s.t.Errorf("I2: the state is %s, and %d cells are read of %d", state, read, valued)
	}
}
