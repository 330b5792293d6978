package pgstore

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/internal/tile"
)

// compare holds every tile against the table, cell by cell and bit by bit, in one
// snapshot. Tiles that are noted at that moment lag behind: they are made anew and
// compared in transactions of their own. Where an operator asks for the comparison,
// because the table is to be dropped, that has been done when they were made since,
// or is done before it is dropped. Where somebody dropped it there is nothing to
// compare with, and the comparison before the cut-over stands.
func (tiledTable) compare(ctx context.Context, m *Migrations, r migrationRow) (migrate.Verification, error) {
	if r.State == migrate.CutOver {
		if gone, err := r.tableGone(ctx, m.pool); err != nil || gone {
			return *r.Verification, err
		}
	}
	began, c := time.Now(), comparison{seed: maphash.MakeSeed()}
	lagging, err := compareTiles(ctx, m, r, &c)
	if err == nil && r.State == migrate.Synced {
		err = m.settle(ctx, r, lagging, &c)
	}
	if err == nil && c.uncounted {
		c.WithoutValue, err = m.countWithoutValue(ctx, r)
	}
	c.Seconds = time.Since(began).Seconds()
	return c.Verification, err
}

// comparison is what was found of some tiles.
type comparison struct {
	migrate.Verification
	seed maphash.Seed
	// uncounted is set where WithoutValue lacks rows that were not read.
	uncounted bool
}

// beside is an empty one for other tiles, whose hashes can be added to those of this.
func (c *comparison) beside() comparison { return comparison{seed: c.seed} }

// add adds what was found of other tiles.
func (c *comparison) add(o comparison) {
	c.OldRows, c.NewRows, c.Tiles = c.OldRows+o.OldRows, c.NewRows+o.NewRows, c.Tiles+o.Tiles
	c.OldHash, c.NewHash = plus(c.OldHash, number(o.OldHash)), plus(c.NewHash, number(o.NewHash))
	c.WithoutValue, c.uncounted = c.WithoutValue+o.WithoutValue, c.uncounted || o.uncounted
	c.Differing = append(c.Differing, o.Differing...)
	slices.SortFunc(c.Differing, func(a, b migrate.DifferingRow) int {
		return cmp.Or(cmp.Compare(a.Row, b.Row), cmp.Compare(a.Col, b.Col))
	})
	c.Differing = c.Differing[:min(len(c.Differing), maxDiffering)]
}

// settle makes tiles anew that lag behind, and compares them: some in each lane at the
// same time.
func (m *Migrations) settle(ctx context.Context, r migrationRow, lagging []tilePlace, c *comparison) error {
	if len(lagging) == 0 {
		return nil
	}
	l := migrate.Lease{ID: r.ID, Fence: r.Fence, For: r.leaseFor}
	// Whoever had the lease before may be in a lane still. This waits for all of them;
	// later the fence keeps them out.
	var lanes []int
	if err := m.take(ctx, "settle", r.ID, byLease(l, migrate.Synced), func(ctx context.Context, a *arrow) error {
		rows, err := a.Tx.Query(ctx, "SELECT lane FROM rasterloom.migration_lane WHERE migration = $1 ORDER BY lane", int64(r.ID))
		if err != nil {
			return err
		}
		lanes, err = pgx.CollectRows(rows, pgx.RowTo[int])
		return err
	}); err != nil {
		return err
	}
	if len(lanes) == 0 {
		// Tiles that nobody compared must not pass for verified.
		return fault.New(fault.Internal, fault.Bug, "internal error").With("migration", r.ID).With("lanes", 0)
	}
	var mu sync.Mutex
	some := func() []tilePlace {
		mu.Lock()
		defer mu.Unlock()
		now := lagging[:min(len(lagging), settledTiles)]
		lagging = lagging[len(now):]
		return now
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, lane := range lanes {
		group.Go(func() error {
			return fault.Guard(func() error {
				for now := some(); len(now) > 0; now = some() {
					found := c.beside()
					if err := m.settleSome(ctx, l, lane, now, &found); err != nil {
						return err
					}
					mu.Lock()
					c.add(found)
					mu.Unlock()
				}
				return nil
			})
		})
	}
	return group.Wait()
}

func (m *Migrations) settleSome(ctx context.Context, l migrate.Lease, lane int, places []tilePlace, c *comparison) error {
	rows, cols := make([]int64, len(places)), make([]int64, len(places))
	for i, at := range places {
		rows[i], cols[i] = at.Row, at.Col
	}
	return m.inLane(ctx, "settle", l, lane, migrate.Synced, arrowSettings, func(ctx context.Context, a *arrow) error {
		*c = c.beside() // a try that fails counts nothing
		if _, err := a.lockedSource(ctx, "ACCESS SHARE"); err != nil {
			return err
		}
		if _, err := a.takeNotes(ctx, "SELECT * FROM unnest($1::int8[], $2::int8[]) AS p (tile_row, tile_col)", rows, cols); err != nil {
			return err
		}
		return a.makeAnew(ctx, places, c)
	})
}

// compareTiles compares all tiles in one snapshot, but for those that lag behind,
// which it gives.
func compareTiles(ctx context.Context, m *Migrations, r migrationRow, c *comparison) (behind []tilePlace, err error) {
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = m.reading(ctx, r, []uint32{r.oldTable}, func(tx pgx.Tx) error {
		old, err := existing(ctx, tx, r, r.oldTable)
		if err != nil {
			return err
		}
		c.Files[0] = old.file // that of the tiles does not matter: we alone write them
		lagging, err := notedTiles(ctx, tx, ours(notesOf(r.ID)), r.Grid.Window())
		if err != nil {
			return err
		}
		for at := range lagging {
			behind = append(behind, tilePlace{int64(at[0]), int64(at[1])})
		}
		slices.SortFunc(behind, func(a, b tilePlace) int { return cmp.Or(cmp.Compare(a.Row, b.Row), cmp.Compare(a.Col, b.Col)) })
		c.Lagging = int64(len(behind))
		tiled, err := r.tiled(ctx, tx)
		if err != nil {
			return err
		}
		var name string
		if err := tx.QueryRow(ctx, "SELECT pg_export_snapshot()").Scan(&name); err != nil {
			return err
		}
		// Rows of tiles, dealt to whoever is free.
		rows, cols := tile.Count(r.Grid)
		var mu sync.Mutex
		var next atomic.Int64
		compare := func(ctx context.Context, tx pgx.Tx) error {
			band, err := r.band(ctx, tx, tiled)
			if err != nil {
				return err
			}
			found := c.beside()
			for row := next.Add(1) - 1; row < int64(rows); row = next.Add(1) - 1 {
				if err := compareRow(ctx, tx, r.Grid, row, band, tiled, lagging, &found); err != nil {
					return err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			c.add(found)
			return nil
		}
		beside := func(ctx context.Context, conn *pgxpool.Conn) error {
			return pgx.BeginTxFunc(ctx, conn, snapshot, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, "SET TRANSACTION SNAPSHOT "+text(name)); err != nil {
					return err
				}
				if _, err := tx.Exec(ctx, readSettings, lockWait); err != nil {
					return err
				}
				return compare(ctx, tx)
			})
		}
		group, within := errgroup.WithContext(ctx)
		group.Go(func() error { return fault.Guard(func() error { return compare(within, tx) }) })
		if min(rows, runtime.GOMAXPROCS(0)) > 1 {
			if conn := spareConn(ctx, m.pool); conn != nil {
				defer conn.Release()
				group.Go(func() error { return fault.Guard(func() error { return beside(within, conn) }) })
			}
		}
		if err := group.Wait(); err != nil {
			return err
		}
		return strayTiles(ctx, tx, tiled, rows, cols, c)
	})
	return behind, err
}

// countWithoutValue counts the rows of the table whose cell has no value: those with
// NULL are not read with the others.
func (m *Migrations) countWithoutValue(ctx context.Context, r migrationRow) (n int64, err error) {
	pixels, err := r.pixels()
	if err != nil {
		return 0, err
	}
	q := cellQuery{}
	missing := q.missing(pixels)
	err = pgx.BeginTxFunc(ctx, m.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, readSettings, lockWait); err != nil {
			return err
		}
		old, err := existing(ctx, tx, r, r.oldTable)
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT count(*) FROM "+old.quoted()+" WHERE "+missing, q.values()...).Scan(&n)
	})
	return n, err
}

// compareRow compares the tiles of a row of tiles, but for those that lag behind.
func compareRow(ctx context.Context, tx pgx.Tx, g grid.Grid, row int64, band tileBand, tiled layer.Layer, lagging map[[2]int32]bool, c *comparison) error {
	_, cols := tile.Count(g)
	lags := func(col int64) bool { return lagging[[2]int32{int32(row), int32(col)}] }
	for from := int64(0); from < int64(cols); from++ {
		if lags(from) {
			continue
		}
		upto := from + 1
		for upto < int64(cols) && !lags(upto) {
			upto++
		}
		for _, w := range windowsBetween(g, row, from, upto) {
			if _, err := band.load(ctx, tx.Conn().PgConn(), w); err != nil {
				return err
			}
			if _, err := compareBand(ctx, tx, band, tiled, c); err != nil {
				return err
			}
		}
		from = upto
	}
	return nil
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

// compareBand holds the stored tiles of a band against it, adds up what it finds, and
// gives the tiles that differ.
func compareBand(ctx context.Context, tx pgx.Tx, band tileBand, tiled layer.Layer, c *comparison) (differing []int, err error) {
	n, first := band.tiles()
	without, known := band.withoutValue()
	c.WithoutValue, c.uncounted = c.WithoutValue+without, c.uncounted || !known
	q := cellQuery{}
	place := func(v int32) string { return q.bind(pgtype.Int4OID, strconv.Itoa(int(v))) }
	q.sql = "SELECT " + tileFields(tiled) + " FROM " + quote(tiled.Table) + " WHERE tile_row = " + place(first[0]) +
		" AND tile_col >= " + place(first[1]) + " AND tile_col < " + place(first[1]+int32(n)) + " AND cells <> 0 ORDER BY tile_col"
	rows := tx.Conn().PgConn().ExecParams(ctx, q.sql, q.args, q.oids, nil, binaryFormat)
	next, told := 0, int64(0)
	check := func(i int, stored *tile.Encoded) {
		cells := band.cells(i)
		if cells == 0 && stored == nil {
			return
		}
		c.Tiles++
		if found := band.differ(i, stored, max(1, maxDiffering-len(c.Differing))); len(found) > 0 {
			c.Differing = append(c.Differing, found...)
			differing = append(differing, i)
		}
		hash, there := band.hashStored(c.seed)
		c.OldRows, c.NewRows = c.OldRows+cells, c.NewRows+there
		c.OldHash, c.NewHash = plus(c.OldHash, band.hash(c.seed, i)), plus(c.NewHash, hash)
	}
	for rows.NextRow() {
		told++
		e, err := tileOf(tiled, rows.Values())
		if err != nil {
			return nil, err
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
	return differing, closeRows(rows, tiled.Name, told)
}

// plus adds to a sum that is kept as text.
func plus(sum string, v uint64) string { return fmt.Sprintf("%016x", number(sum)+v) }

func number(sum string) uint64 {
	v, _ := strconv.ParseUint(sum, 16, 64)
	return v
}

// strayTiles names tiles that are outside of the grid: no cell was compared with
// theirs.
func strayTiles(ctx context.Context, tx pgx.Tx, tiled layer.Layer, rows, cols int, c *comparison) error {
	found, err := tx.Query(ctx, "SELECT tile_row, tile_col, cells FROM "+quote(tiled.Table)+" WHERE cells <> 0 AND (tile_row NOT BETWEEN 0 AND $1 OR tile_col NOT BETWEEN 0 AND $2) ORDER BY 1, 2 LIMIT $3",
		pgx.QueryExecModeExec, rows-1, cols-1, maxDiffering)
	if err != nil {
		return err
	}
	var row, col, cells int64
	_, err = pgx.ForEachRow(found, []any{&row, &col, &cells}, func() error {
		c.NewRows += cells
		if len(c.Differing) < maxDiffering {
			c.Differing = append(c.Differing, migrate.DifferingRow{Row: row * tile.Side, Col: col * tile.Side, What: "added"})
		}
		return nil
	})
	return err
}
