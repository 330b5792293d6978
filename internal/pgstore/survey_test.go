package pgstore_test

import (
	"math"
	"testing"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/pgstore"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// surveyed makes tables and finds one of them.
func surveyed(t *testing.T, name string, setup ...string) (*pgstore.Tx, layer.Survey) {
	t.Helper()
	url := pgtest.URL(t)
	admin := pgtest.Connect(t, url)
	for _, sql := range setup {
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	tx, err := open(t, url, pgstore.Options{}).Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tx.Rollback(t.Context()) })
	found, err := tx.Relations(t.Context(), []layer.Table{{Schema: "public", Name: name}})
	if err != nil {
		t.Fatal(err)
	}
	return tx, layer.Survey{Relation: found[0], Grid: grid.Grid{CRS: "EPSG:32633", Rows: 4, Cols: 4, StepX: 1, StepY: 1}, Indexed: true}
}

// An index of a table says nothing of the rows of its children, but one of a
// partitioned table does.
func TestKeysOfParents(t *testing.T) {
	t.Parallel()
	tx, s := surveyed(t, "parent",
		"CREATE TABLE public.parent (row_idx int, col_idx int, value float8, PRIMARY KEY (row_idx, col_idx))",
		"CREATE TABLE public.child () INHERITS (public.parent)",
		"INSERT INTO public.parent VALUES (0, 0, 1)", "INSERT INTO public.child VALUES (0, 0, 2)",
		"CREATE TABLE public.parted (row_idx int, col_idx int, value float8, PRIMARY KEY (row_idx, col_idx)) PARTITION BY RANGE (row_idx)",
		"CREATE TABLE public.part PARTITION OF public.parted DEFAULT")
	s.Whole = true
	f, err := tx.Survey(t.Context(), s)
	if err != nil || len(s.Relation.IndexKey) != 0 || f.DuplicateCells != 1 || f.SurplusRows != 1 {
		t.Errorf("key %v, %d cells twice, %d rows too many: %v", s.Relation.IndexKey, f.DuplicateCells, f.SurplusRows, err)
	}
	found, err := tx.Relations(t.Context(), []layer.Table{{Schema: "public", Name: "parted"}})
	if err != nil || len(found[0].IndexKey) != 2 {
		t.Errorf("%+v, %v", found, err)
	}
}

// One row that is nowhere is told, and does not keep all others from being looked at.
func TestSurveyOfFarRows(t *testing.T) {
	t.Parallel()
	tx, s := surveyed(t, "far",
		"CREATE TABLE public.far (row_idx bigint, col_idx bigint, x_coord float8, y_coord float8, value float8)",
		"INSERT INTO public.far VALUES (3, 0, 0.5, -0.5, 1), (-9223372036854775808, 9223372036854775807, 1e308, '-Infinity', 1)")
	s.Located = true
	found, err := tx.Surveys(t.Context(), []layer.Survey{s})
	if err != nil || found[0].OutsideGrid != 1 || *found[0].MinRow != math.MinInt64 {
		t.Fatalf("%+v, %v", found, err)
	}
	southUp := layer.Hypothesis{Registration: grid.RegistrationCenter, SouthUp: true}
	if found[0].Fits[southUp] != 1 {
		t.Errorf("%v", found[0].Fits)
	}
	s.Whole = true
	f, err := tx.Survey(t.Context(), s)
	if err != nil || len(f.Offenders) != 1 || *f.Offenders[0].Row != math.MinInt64 {
		t.Errorf("%+v, %v", f, err)
	}
	c, err := tx.CheckCoordinates(t.Context(), layer.CoordinateCheck{Relation: s.Relation, Grid: s.Grid, Indexed: true, As: southUp, MaxOffenders: 5})
	if err != nil || c.Wrong != 1 || c.Outside != 1 || len(c.Offenders) != 1 || *c.Offenders[0].Row != math.MinInt64 {
		t.Errorf("%+v, %v", c, err)
	}
}

// Numbers of a catalog that no float8 holds are infinite, or 0, in their row alone.
func TestCatalogOfLargeNumbers(t *testing.T) {
	t.Parallel()
	tx, _ := surveyed(t, "catalog",
		"CREATE TABLE public.catalog (id int, name text, bounds numeric[], shape_height int, shape_width int, target_resolution numeric)",
		"INSERT INTO public.catalog VALUES (1, 'good', '{0.1,NULL,NaN,-4.25}', 4, 4, 30), (2, 'odd', '{0,1e400,-1e400,1e-400}', 4, 4, 1e400), (3, 'none', NULL, 4, 4, NULL)")
	_, rows, err := tx.CatalogRows(t.Context(), layer.Table{Schema: "public", Name: "catalog"})
	if err != nil || len(rows) != 3 {
		t.Fatalf("%+v, %v", rows, err)
	}
	bounds := func(i int, want ...float64) {
		t.Helper()
		for j, w := range want {
			if got := rows[i].Bounds[j]; got == nil && w != -1 || got != nil && *got != w && !(math.IsNaN(w) && math.IsNaN(*got)) {
				t.Errorf("row %d, bound %d: %v, not %v", i, j, got, w)
			}
		}
	}
	bounds(0, 0.1, -1, math.NaN(), -4.25) // -1 stands for NULL
	bounds(1, 0, math.Inf(1), math.Inf(-1), 0)
	if *rows[0].TargetResolution != 30 || !math.IsInf(*rows[1].TargetResolution, 1) || rows[2].TargetResolution != nil || len(rows[2].Bounds) != 0 {
		t.Errorf("%+v", rows)
	}
}
