package schema_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/services/schema"
)

// Damage that a sample of a large table cannot see is counted by a scan.
func TestScanCountsEveryRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	big := row{name: "big", bounds: []float64{0, 0, 4000, 3000}, height: 300, width: 400}
	w.add(big)
	w.exec(`CREATE TABLE public.resampled_big (row_idx int, col_idx int, x_coord double precision, y_coord double precision, value real)`)
	w.exec(`INSERT INTO public.resampled_big SELECT r, c, (c + 0.5) * 10, 3000 - (r + 0.5) * 10, 1 FROM generate_series(0, 299) r, generate_series(0, 399) c`)
	const middle = 150
	for _, sql := range []string{
		`INSERT INTO public.resampled_big SELECT row_idx, col_idx, x_coord, y_coord, 2 FROM public.resampled_big WHERE row_idx = 150 AND col_idx < 3`,
		`INSERT INTO public.resampled_big VALUES (150, 1, 15, 1495, 3)`,
		`UPDATE public.resampled_big SET x_coord = x_coord + 3 WHERE row_idx = 150 AND col_idx IN (100, 101)`,
		`UPDATE public.resampled_big SET x_coord = NULL WHERE row_idx = 150 AND col_idx = 200`,
		`UPDATE public.resampled_big SET x_coord = NULL, y_coord = NULL WHERE row_idx = 150 AND col_idx = 201`,
		`UPDATE public.resampled_big SET row_idx = NULL WHERE row_idx = 150 AND col_idx = 300`,
		`UPDATE public.resampled_big SET col_idx = 400 WHERE row_idx = 150 AND col_idx = 301`,
	} {
		w.exec(sql)
	}
	w.adopt()
	l, rows := w.detect("big", true)
	if rows != 300*400+4 {
		t.Errorf("%d rows read", rows)
	}
	got := codes(l)
	slices.Sort(got)
	want := []string{"CELLS_OUTSIDE_GRID", "COORDINATES_HALF_FILLED", "COORDINATES_OFF_GRID", "DUPLICATE_CELLS", "INDEX_NULL", "NO_KEY"}
	// Adoption saw a sample, and may have seen some of it: the formats can differ.
	got = slices.DeleteFunc(got, func(c string) bool { return c == "FACTS_CHANGED" })
	if !slices.Equal(got, want) {
		t.Fatalf("problems %v, want %v\n%v", got, want, l.GetProblems())
	}
	for code, fields := range map[string]map[string]string{
		"CELLS_OUTSIDE_GRID":      {"rows": "1", "max_col": "400"},
		"COORDINATES_HALF_FILLED": {"rows": "2", "half": "1"},
		"DUPLICATE_CELLS":         {"cells": "3", "surplus_rows": "4"},
		"INDEX_NULL":              {"rows": "1"},
		// Two that were moved, one whose row is gone and one whose column moved.
		"COORDINATES_OFF_GRID": {"rows": "4"},
	} {
		p := problemOf(t, l, code)
		t.Log(p.GetMessage())
		for key, value := range fields {
			if p.GetFields()[key] != value {
				t.Errorf("%s: %s = %q, want %q", code, key, p.GetFields()[key], value)
			}
		}
	}
	if first := problemOf(t, l, "DUPLICATE_CELLS").GetFields()["first"]; first != fmt.Sprintf("(row %d, col 0), (row %d, col 1), (row %d, col 2)", middle, middle, middle) {
		t.Errorf("first duplicates: %s", first)
	}
}

func TestScanOfPlaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(row{name: "places"})
	w.exec(`CREATE TABLE public.resampled_places (x_coord double precision, y_coord double precision, value smallint)`)
	w.exec(`INSERT INTO public.resampled_places SELECT ` + cornerX + `, ` + cornerY + `, c FROM generate_series(0, 3) r, generate_series(0, 5) c`)
	// Not equal as numbers, and the same cell.
	w.exec(`INSERT INTO public.resampled_places VALUES (1010.0000001, 1990, 1)`)
	w.adopt()
	l, rows := w.detect("places", true)
	if p := problemOf(t, l, "DUPLICATE_CELLS"); rows != 25 || p.GetFields()["first"] != "(row 1, col 1)" {
		t.Errorf("%d rows, %v", rows, p)
	}
}

func TestDetectSeesWhatHasChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(row{name: "moving"})
	w.legacy("resampled_moving")
	w.adopt()
	before := w.dump("rasterloom")
	if l, rows := w.detect("moving", false); len(codes(l)) != 0 || rows == 0 || l.GetGeneration() != 1 {
		t.Errorf("%d rows, %v", rows, l)
	}
	w.exec(`ALTER TABLE public.resampled_moving ADD COLUMN x_coord double precision, ADD COLUMN y_coord double precision`)
	l, _ := w.detect("moving", false)
	if l.GetFormat().String() != "FORMAT_PARTIAL" {
		t.Errorf("format %v", l.GetFormat())
	}
	problemOf(t, l, "FACTS_CHANGED")
	w.exec(`DROP TABLE public.resampled_moving`)
	l, _ = w.detect("moving", true)
	problemOf(t, l, "TABLE_MISSING")
	w.exec(`DROP TABLE public.resampled_datasets`)
	l, _ = w.detect("moving", false)
	problemOf(t, l, "CATALOG_ROW_GONE")
	if w.dump("rasterloom") != before {
		t.Error("looking has changed our catalog")
	}
}

// A large table with a damaged middle: the blocks spread over it find it.
func TestSampleReachesTheMiddle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(row{name: "long", bounds: []float64{0, 0, 4000, 3000}, height: 300, width: 400})
	w.exec(`CREATE TABLE public.resampled_long (row_idx int, col_idx int, x_coord double precision, y_coord double precision, value real, PRIMARY KEY (row_idx, col_idx))`)
	w.exec(`INSERT INTO public.resampled_long SELECT r, c, CASE WHEN r < 100 THEN (c + 0.5) * 10 END, CASE WHEN r < 100 THEN 3000 - (r + 0.5) * 10 END, 1 FROM generate_series(0, 299) r, generate_series(0, 399) c ORDER BY r % 100, r`)
	w.adopt()
	if l := w.layer("long"); l.GetFormat().String() != "FORMAT_PARTIAL" {
		t.Errorf("format %v: %v", l.GetFormat(), l.GetProblems())
	}
}

// Replicas may start at once on an empty database.
func TestManyReplicasStartAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`DROP SCHEMA rasterloom CASCADE`)
	const replicas = 8
	errs := make(chan error, replicas)
	for range replicas {
		go func() {
			s, err := schema.New(t.Context(), schema.Config{DatabaseURL: w.url}, boot.Deps{})
			if err == nil {
				s.Close()
			}
			errs <- err
		}()
	}
	for range replicas {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	var versions int
	if err := w.pool.QueryRow(t.Context(), "SELECT count(*) FROM rasterloom.schema_version WHERE version_id = 1").Scan(&versions); err != nil || versions != 1 {
		t.Errorf("version 1 was applied %d times, %v", versions, err)
	}
}

// Adoptions at once take turns, and all find the same.
func TestManyAdoptAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"a", "b", "c"} {
		w.add(row{name: name})
		w.legacy("resampled_" + name)
	}
	added := make(chan int32, 6)
	for range cap(added) {
		go func() { added <- w.adopt().GetAdded() }()
	}
	total := int32(0)
	for range cap(added) {
		total += <-added
	}
	if total != 3 {
		t.Errorf("%d layers were added by all, want 3", total)
	}
	for _, name := range []string{"a", "b", "c"} {
		if l := w.layer(name); l.GetGeneration() != 1 {
			t.Errorf("%s has generation %d", name, l.GetGeneration())
		}
	}
}
