package pgstore_test

import (
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
