package pgstore

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// A table that is loaded anew just after a set's snapshot is read as it is then,
// and never as empty; while a set is open, loading anew waits.
func TestSetsAreNotOvertakenByReloads(t *testing.T) {
	t.Parallel()
	const side = 50
	for name, table := range map[string]struct{ make, truncate string }{
		"plain":       {"CREATE TABLE %s (row_idx int, col_idx int, value float8)", "TRUNCATE %s"},
		"keyed":       {"CREATE TABLE %s (" + keyed + ")", "TRUNCATE %s"},
		"partitioned": {"CREATE TABLE %s (" + keyed + ") PARTITION BY RANGE (row_idx); CREATE TABLE public.part PARTITION OF %s DEFAULT", "TRUNCATE public.part"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reader, pool := newReader(t, CellOptions{Connections: 4})
			l := layer.Layer{
				Name: "birds", Grid: grid.Grid{CRS: "EPSG:32633", Rows: side, Cols: side, OriginY: side, StepX: 1, StepY: 1},
				HasGrid: true, HasIndices: true, StoredType: layer.Float64, Table: layer.Table{Schema: "public", Name: "birds"},
			}
			request := layer.CellRequest{Layer: l, Window: l.Grid.Window(), ChunkCells: 100}
			for sql := range strings.SplitSeq(strings.ReplaceAll(table.make, "%s", l.Table.String()), "; ") {
				run(t, pool, sql)
			}
			loads := 0
			load := func() error {
				tx, err := pool.Begin(t.Context())
				if err != nil {
					return err
				}
				defer tx.Rollback(t.Context())
				loads++
				for _, sql := range []string{
					"SET LOCAL lock_timeout = '100ms'",
					strings.ReplaceAll(table.truncate, "%s", l.Table.String()),
					fmt.Sprintf("INSERT INTO %s SELECT r, c, %d FROM generate_series(0, %d) r, generate_series(0, %[3]d) c", l.Table, loads, side-1),
				} {
					if _, err := tx.Exec(t.Context(), sql); err != nil {
						return err
					}
				}
				return tx.Commit(t.Context())
			}
			if err := load(); err != nil {
				t.Fatal(err)
			}
			overtake := 2
			fits := reader.fits
			// It is asked after the snapshot and before the locks.
			reader.fits = func(request layer.CellRequest, table cellTable) bool {
				if overtake > 0 {
					overtake--
					if err := load(); err != nil {
						t.Error(err)
					}
				}
				return fits(request, table)
			}
			set, err := reader.Open(t.Context(), []layer.CellRequest{request})
			if err != nil {
				t.Fatal(err)
			}
			defer set.Close()
			var locked *pgconn.PgError
			if err := load(); !errors.As(err, &locked) || locked.Code != "55P03" {
				t.Errorf("error %v of loading while the set is open, want that it waits", err)
			}
			cells, err := readAll(t.Context(), set.Stream(0))
			if err != nil || len(cells) != side*side {
				t.Fatalf("%d cells, %v", len(cells), err)
			}
			for _, c := range cells {
				if c.value != 3 {
					t.Fatalf("%v is not of the third load", c)
				}
			}
			set.Close()

			overtake = mostSnapshots
			_, err = reader.Open(t.Context(), []layer.CellRequest{request})
			if f := fault.From(err); f == nil || f.Kind != fault.Conflict || f.Reason != fault.DatabaseUnavailable {
				t.Errorf("error %v, want that somebody is in the way", err)
			}
			requireQuiet(t, pool)
		})
	}
}

// A join holds its tables as a set does.
func TestJoinsAreNotOvertakenByReloads(t *testing.T) {
	t.Parallel()
	reader, pool := newReader(t, CellOptions{})
	request := dense(t, pool, "birds", 20)
	request.Layer.Format = layer.FormatLegacy
	all := grid.Placement{RowStop: 20, Segments: []grid.Segment{{SrcStop: 20}}}
	joined, err := reader.OpenJoined(t.Context(), layer.JoinRequest{
		Lattice: request.Layer.Grid, Layers: []layer.JoinedLayer{{Layer: request.Layer, Placement: all}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer joined.Close()
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err = conn.Exec(t.Context(), "SET lock_timeout = '100ms'"); err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), "TRUNCATE public.birds")
	var locked *pgconn.PgError
	if !errors.As(err, &locked) || locked.Code != "55P03" {
		t.Errorf("error %v, want that TRUNCATE waits", err)
	}
}

// Transactions that wait for locks and then read see what was committed
// meanwhile, whatever the database has for a default.
func TestTransactionsReadWhatIsCommitted(t *testing.T) {
	t.Parallel()
	_, pool := newReader(t, CellOptions{})
	run(t, pool, fmt.Sprintf(`ALTER DATABASE %s SET default_transaction_isolation = 'serializable'`, quoted(pool.Config().ConnConfig.Database)))
	s, err := Open(t.Context(), pool.Config().ConnString(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var level string
	if err := s.pool.QueryRow(t.Context(), "SHOW transaction_isolation").Scan(&level); err != nil || level != "read committed" {
		t.Errorf("transactions are %s, %v", level, err)
	}
}
