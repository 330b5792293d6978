package pgstore

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// maxDiffering is how many differing rows are named.
const maxDiffering = 100

// Verify compares every row of both tables, bit for bit, in one snapshot, and
// every coordinate with the grid's formula. Errors: Corrupt DATA_CORRUPT naming
// rows that differ; the comparison is kept with the migration either way.
func (m *Migrations) Verify(ctx context.Context, l migrate.Lease) error {
	row, err := readMigration(ctx, m.pool, l.ID, "")
	if err != nil {
		return faultOf(err)
	}
	if err := byLease(l, migrate.Synced)(&row); err != nil {
		return err
	}
	v, err := row.target().compare(ctx, m, row)
	if err != nil {
		return faultOf(err)
	}
	if err := m.take(ctx, "verify", l.ID, byLease(l, migrate.Synced), func(ctx context.Context, a *arrow) error {
		if err := a.keep(ctx, v); err != nil {
			return err
		}
		if !v.Equal() {
			return nil
		}
		return a.enter(ctx, migrate.Verified)
	}); err != nil {
		return err
	}
	return differs(row, v)
}

func (a *arrow) keep(ctx context.Context, v migrate.Verification) error {
	record, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.exec(ctx, "verification", "UPDATE rasterloom.migration SET verification = $2 WHERE id = $1", int64(a.row.ID), record)
}

// differs is the fault of tables that do not agree.
func differs(r migrationRow, v migrate.Verification) error {
	if v.Equal() {
		return nil
	}
	var cells []string
	for _, d := range v.Differing[:min(5, len(v.Differing))] {
		cells = append(cells, fmt.Sprintf("(%d, %d) %s", d.Row, d.Col, d.What))
	}
	return fault.New(fault.Corrupt, fault.DataCorrupt,
		"migration %s: the old table of layer %q has %d rows and the new one %d, and %d or more cells differ: %s",
		r.ID, r.Spec.Layer, v.OldRows, v.NewRows, len(v.Differing), strings.Join(cells, ", ")).
		With("layer", r.Spec.Layer).With("migration", r.ID).With("old_rows", v.OldRows).With("new_rows", v.NewRows).
		With("wrong_coordinates", v.WrongCoordinates).With("cells", strings.Join(cells, "; "))
}

// compare reads both tables in one snapshot.
//
// The hash of a row is of the bytes that its values have on the wire, so NaNs,
// -0 and 0, NULL and 0 are told apart; the hash of a table is the sum over its
// rows, whatever their order. The seed is new each time.
func (shadowTable) compare(ctx context.Context, m *Migrations, r migrationRow) (v migrate.Verification, err error) {
	began := time.Now()
	err = pgx.BeginTxFunc(ctx, m.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', $1, true)", lockWait); err != nil {
			return err
		}
		old, err := existing(ctx, tx, r, r.oldTable)
		if err != nil {
			return err
		}
		fresh, err := existing(ctx, tx, r, r.newTable)
		if err != nil {
			return err
		}
		seed := rand.Int64()
		bits := bitsOf(old)
		if err := tx.QueryRow(ctx, fmt.Sprintf(`SELECT count(*), coalesce(sum(hash_record_extended(ROW(%s), $1)), 0)::text,
				count(*) FILTER (WHERE row_idx NOT BETWEEN 0 AND $2 OR col_idx NOT BETWEEN 0 AND $3) FROM %s`, bits, old.quoted()),
			seed, r.Grid.Rows-1, r.Grid.Cols-1).Scan(&v.OldRows, &v.OldHash, &v.OffGrid); err != nil {
			return err
		}
		x, y := coordinateFormulas(r.SouthUp, 2)
		if err := tx.QueryRow(ctx, fmt.Sprintf(`SELECT count(*), coalesce(sum(hash_record_extended(ROW(%s), $1)), 0)::text,
				count(*) FILTER (WHERE float8send(x_coord) IS DISTINCT FROM float8send(%s) OR float8send(y_coord) IS DISTINCT FROM float8send(%s)) FROM %s`,
			bits, x, y, fresh.quoted()),
			append([]any{seed}, gridValues(r)...)...).Scan(&v.NewRows, &v.NewHash, &v.WrongCoordinates); err != nil {
			return err
		}
		if v.Equal() {
			return nil
		}
		v.Differing, err = differing(ctx, tx, r, old, fresh)
		return err
	})
	v.Seconds = time.Since(began).Seconds()
	return v, err
}

func existing(ctx context.Context, q querier, r migrationRow, oid uint32) (pixelTable, error) {
	t, found, err := readTable(ctx, q, oid)
	if err == nil && !found {
		err = fault.New(fault.Conflict, fault.LayerChanged, "a table of migration %s is gone", r.ID).With("migration", r.ID)
	}
	return t, err
}

// bitsOf gives the columns of a table as values whose hash is that of their
// bits. Integers are as they are; what compares equal with other bits is turned
// into bytes.
func bitsOf(t pixelTable) string {
	list := make([]string, len(t.columns))
	for i, c := range t.columns {
		switch name := quoted(c); t.types[i] {
		case "smallint", "integer", "bigint":
			list[i] = name
		case "double precision":
			list[i] = "float8send(" + name + ")"
		case "real":
			list[i] = "float4send(" + name + ")"
		default:
			list[i] = "record_send(ROW(" + name + "))"
		}
	}
	return strings.Join(list, ", ")
}

// coordinateFormulas are the formulas with the grid as parameters from $first on, in
// the order of gridValues: computed apart from what the table's definition says.
func coordinateFormulas(southUp bool, first int) (x, y string) {
	row := "row_idx"
	if southUp {
		row = fmt.Sprintf("($%d::float8 - row_idx)", first+4)
	}
	x = fmt.Sprintf("$%d::float8 + ((col_idx + 0.5::float8) * $%d::float8)", first, first+1)
	y = fmt.Sprintf("$%d::float8 - ((%s + 0.5::float8) * $%d::float8)", first+2, row, first+3)
	return x, y
}

func gridValues(r migrationRow) []any {
	values := []any{r.Grid.OriginX, r.Grid.StepX, r.Grid.OriginY, r.Grid.StepY}
	if r.SouthUp {
		values = append(values, float64(r.Grid.Rows-1))
	}
	return values
}

// differing names rows that are not the same, by row and column.
func differing(ctx context.Context, tx pgx.Tx, r migrationRow, old, fresh pixelTable) ([]migrate.DifferingRow, error) {
	x, y := coordinateFormulas(r.SouthUp, 2)
	bits := bitsOf(old)
	rows, err := tx.Query(ctx, fmt.Sprintf(`SELECT coalesce(row_idx, -1), coalesce(col_idx, -1),
			CASE WHEN f.bits IS NULL THEN 'missing' WHEN o.bits IS NULL THEN 'added' WHEN o.bits <> f.bits THEN 'changed' ELSE 'coordinates' END
		FROM (SELECT row_idx, col_idx, record_send(ROW(%[1]s)) AS bits FROM %[2]s) o
		FULL JOIN (SELECT row_idx, col_idx, record_send(ROW(%[1]s)) AS bits,
				float8send(x_coord) IS DISTINCT FROM float8send(%[4]s) OR float8send(y_coord) IS DISTINCT FROM float8send(%[5]s) AS off
			FROM %[3]s) f USING (row_idx, col_idx)
		WHERE o.bits IS DISTINCT FROM f.bits OR f.off ORDER BY row_idx, col_idx LIMIT $1`,
		bits, old.quoted(), fresh.quoted(), x, y), append([]any{maxDiffering}, gridValues(r)...)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(c pgx.CollectableRow) (d migrate.DifferingRow, err error) {
		return d, c.Scan(&d.Row, &d.Col, &d.What)
	})
}
