package pgstore

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/internal/tile"
)

func newSeed() maphash.Seed { return maphash.MakeSeed() }

// compare holds every tile against the table, cell by cell and bit by bit, in one
// snapshot. Tiles that are noted at that moment lag behind: they are made anew and
// compared in transactions of their own. Where an operator asks for the comparison,
// because the table is to be dropped, that has been done when they were made since,
// or is done before it is dropped. Where somebody dropped it there is nothing to
// compare with, and the comparison before the cut-over stands.
func (tiledTable) compare(ctx context.Context, m *Migrations, r migrationRow) (v migrate.Verification, err error) {
	if r.State == migrate.CutOver {
		if gone, err := r.tableGone(ctx, m.pool); err != nil || gone {
			return *r.Verification, err
		}
	}
	began, seed := time.Now(), newSeed()
	lagging, err := compareTiles(ctx, m, r, seed, &v)
	if err == nil && r.State == migrate.Synced {
		err = m.settle(ctx, r, lagging, seed, &v)
	}
	v.Seconds = time.Since(began).Seconds()
	return v, err
}

// settle makes tiles anew that lag behind, and compares them.
func (m *Migrations) settle(ctx context.Context, r migrationRow, lagging []tilePlace, seed maphash.Seed, v *migrate.Verification) error {
	for len(lagging) > 0 {
		now := lagging[:min(len(lagging), drainTiles)]
		lagging = lagging[len(now):]
		if err := m.take(ctx, "settle", r.ID, byLease(migrate.Lease{ID: r.ID, Fence: r.Fence, For: r.leaseFor}, migrate.Synced), func(ctx context.Context, a *arrow) error {
			if _, err := a.lockedSource(ctx, "ACCESS SHARE"); err != nil {
				return err
			}
			rows, cols := make([]int64, len(now)), make([]int64, len(now))
			for i, at := range now {
				rows[i], cols[i] = at.Row, at.Col
			}
			if _, err := a.takeNotes(ctx, "SELECT * FROM unnest($1::int8[], $2::int8[]) AS p (tile_row, tile_col)", rows, cols); err != nil {
				return err
			}
			found := *v // a try that fails counts nothing
			if err := a.makeAnew(ctx, now, seed, &found); err != nil {
				return err
			}
			found.WithoutValue = v.WithoutValue // of the snapshot
			*v = found
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// compareTiles compares all tiles in one snapshot, but for those that lag behind,
// which it gives.
func compareTiles(ctx context.Context, m *Migrations, r migrationRow, seed maphash.Seed, v *migrate.Verification) (behind []tilePlace, err error) {
	err = pgx.BeginTxFunc(ctx, m.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', $1, true)", lockWait); err != nil {
			return err
		}
		lagging, err := notedTiles(ctx, tx, ours(notesOf(r.ID)), r.Grid.Window())
		if err != nil {
			return err
		}
		old, err := existing(ctx, tx, r, r.oldTable)
		if err != nil {
			return err
		}
		// Less the cells that have a value.
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM "+old.quoted(), pgx.QueryExecModeExec).Scan(&v.WithoutValue); err != nil {
			return err
		}
		tiled, err := r.tiled(ctx, tx)
		if err != nil {
			return err
		}
		band, err := r.band(ctx, tx, tiled)
		if err != nil {
			return err
		}
		for at := range lagging {
			behind = append(behind, tilePlace{int64(at[0]), int64(at[1])})
		}
		slices.SortFunc(behind, func(a, b tilePlace) int { return cmp.Or(cmp.Compare(a.Row, b.Row), cmp.Compare(a.Col, b.Col)) })
		rows, cols := tile.Count(r.Grid)
		for row := range int64(rows) {
			for _, w := range bands(r.Grid, row) {
				if _, err := band.load(ctx, tx.Conn().PgConn(), w); err != nil {
					return err
				}
				if err := compareBand(ctx, tx, band, tiled, lagging, seed, v); err != nil {
					return err
				}
			}
		}
		v.Lagging = int64(len(behind))
		return strayTiles(ctx, tx, tiled, rows, cols, v)
	})
	return behind, err
}

// notedTiles gives the tiles of a window that are noted.
func notedTiles(ctx context.Context, q querier, notes string, w grid.Window) (map[[2]int32]bool, error) {
	rows, err := q.Query(ctx, "SELECT DISTINCT tile_row, tile_col FROM "+notes+` WHERE tile_row BETWEEN $1 AND $2 AND tile_col BETWEEN $3 AND $4`,
		pgx.QueryExecModeExec, w.RowStart/tile.Side, (w.RowStop-1)/tile.Side, w.ColStart/tile.Side, (w.ColStop-1)/tile.Side)
	if err != nil {
		return nil, err
	}
	noted := map[[2]int32]bool{}
	var at [2]int32
	_, err = pgx.ForEachRow(rows, []any{&at[0], &at[1]}, func() error {
		noted[at] = true
		return nil
	})
	return noted, err
}

// compareBand holds the stored tiles of a band against it, but for those that lag
// behind, and adds up what it finds.
func compareBand(ctx context.Context, tx pgx.Tx, band tileBand, tiled layer.Layer, lagging map[[2]int32]bool, seed maphash.Seed, v *migrate.Verification) error {
	n, first := band.tiles()
	q := cellQuery{}
	place := func(v int32) string { return q.bind(pgtype.Int4OID, strconv.Itoa(int(v))) }
	q.sql = "SELECT tile_row, tile_col, cells, min, max, valid, data FROM " + quote(tiled.Table) + " WHERE tile_row = " + place(first[0]) +
		" AND tile_col >= " + place(first[1]) + " AND tile_col < " + place(first[1]+int32(n)) + " AND cells <> 0 ORDER BY tile_col"
	rows := tx.Conn().PgConn().ExecParams(ctx, q.sql, q.args, q.oids, nil, binaryFormat)
	next, told := 0, int64(0)
	check := func(i int, stored *tile.Encoded) {
		cells := band.cells(i)
		v.WithoutValue -= cells
		if lagging[[2]int32{first[0], first[1] + int32(i)}] {
			return
		}
		if cells == 0 && stored == nil {
			return
		}
		v.Tiles++
		v.Differing = append(v.Differing, band.differ(i, stored, maxDiffering-len(v.Differing))...)
		hash, there := band.hashStored(seed)
		v.OldRows, v.NewRows = v.OldRows+cells, v.NewRows+there
		v.OldHash, v.NewHash = plus(v.OldHash, band.hash(seed, i)), plus(v.NewHash, hash)
	}
	for rows.NextRow() {
		told++
		e, err := tileOf(tiled, rows.Values())
		if err != nil {
			return err
		}
		for i := int(e.Col - first[1]); next < i; next++ {
			check(next, nil)
		}
		check(next, &e)
		next++
	}
	for ; next < n; next++ {
		check(next, nil)
	}
	return closeRows(rows, tiled.Name, told)
}

// plus adds to a sum that is kept as text.
func plus(sum string, v uint64) string {
	was, _ := strconv.ParseUint(sum, 16, 64)
	return fmt.Sprintf("%016x", was+v)
}

// strayTiles names tiles that are outside of the grid: no cell was compared with
// theirs.
func strayTiles(ctx context.Context, tx pgx.Tx, tiled layer.Layer, rows, cols int, v *migrate.Verification) error {
	found, err := tx.Query(ctx, "SELECT tile_row, tile_col, cells FROM "+quote(tiled.Table)+" WHERE cells <> 0 AND (tile_row NOT BETWEEN 0 AND $1 OR tile_col NOT BETWEEN 0 AND $2) ORDER BY 1, 2 LIMIT $3",
		pgx.QueryExecModeExec, rows-1, cols-1, maxDiffering)
	if err != nil {
		return err
	}
	var row, col, cells int64
	_, err = pgx.ForEachRow(found, []any{&row, &col, &cells}, func() error {
		v.NewRows += cells
		if len(v.Differing) < maxDiffering {
			v.Differing = append(v.Differing, migrate.DifferingRow{Row: row * tile.Side, Col: col * tile.Side, What: "added"})
		}
		return nil
	})
	return err
}
