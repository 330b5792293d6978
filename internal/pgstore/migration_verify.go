package pgstore

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
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
	if err := row.asRecorded(ctx, m.pool); err != nil {
		return faultOf(err)
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

// filesOf gives what the rows of both tables are in; 0 for a table that is gone.
func filesOf(ctx context.Context, q querier, r migrationRow) (files [2]uint32, err error) {
	err = q.QueryRow(ctx, "SELECT coalesce(pg_relation_filenode($1::oid::regclass), 0), coalesce(pg_relation_filenode($2::oid::regclass), 0)", r.oldTable, r.newTable).
		Scan(&files[0], &files[1])
	return files, err
}

// asCompared gives the newest comparison of a migration that is about to go to a state,
// where that relies on it. Where a table was written anew since, by ALTER TABLE … TYPE
// … USING as well as by VACUUM FULL, it makes another one; nobody waits for that.
// Errors: Corrupt DATA_CORRUPT when the tables differ by now.
func (m *Migrations) asCompared(ctx context.Context, id migrate.ID, etag string, to migrate.State) (v migrate.Verification, err error) {
	row, err := readMigration(ctx, m.pool, id, "")
	if err != nil {
		return v, faultOf(err)
	}
	if err := byOperator(etag, to)(&row); err != nil {
		return v, err
	}
	if err := row.asRecorded(ctx, m.pool); err != nil {
		return v, faultOf(err)
	}
	files, err := filesOf(ctx, m.pool, row)
	if err != nil {
		return v, faultOf(err)
	}
	if row.Verification != nil {
		v = *row.Verification
	}
	if v.Files == files || !row.target().relies(to) {
		return v, nil
	}
	if v, err = row.target().compare(ctx, m, row); err != nil {
		return v, faultOf(err)
	}
	return v, differs(row, v)
}

// stillCompared makes sure that the tables, which are locked, are in the files that were
// compared.
func (a *arrow) stillCompared(ctx context.Context, v migrate.Verification) error {
	files, err := filesOf(ctx, a.Tx, a.row)
	if err != nil {
		return err
	}
	if files != v.Files {
		return fault.New(fault.Conflict, fault.LayerChanged, "table %s was written anew (VACUUM FULL, ALTER TABLE) since migration %s compared it; try again", a.row.Table, a.row.ID).
			With("table", a.row.Table).With("migration", a.row.ID)
	}
	return nil
}

// differs is the fault of tables that do not agree.
func differs(r migrationRow, v migrate.Verification) error {
	if v.Equal() {
		return nil
	}
	anew := ""
	if old := r.Verification; old != nil && old.Equal() && old.Files != v.Files {
		if r.Spec.Level == migrate.LevelTiled {
			// Not for long: all of them are noted then.
			return fault.New(fault.Unavailable, fault.TableBusy,
				"table %s was written anew (VACUUM FULL, ALTER TABLE) since the tiles of migration %s were compared with it, and they are not all made anew yet", r.Table, r.ID).
				With("layer", r.Spec.Layer).With("table", r.Table).With("migration", r.ID)
		}
		anew = fmt.Sprintf("; a table was written anew since they were compared, by ALTER TABLE … USING for example, which no trigger is told: carry that over with UPDATE %s SET value = value", r.Table)
		if r.State == migrate.Verified {
			anew += ", or abort the migration and start again"
		}
	}
	var cells []string
	for _, d := range v.Differing[:min(5, len(v.Differing))] {
		cells = append(cells, fmt.Sprintf("(%d, %d) %s", d.Row, d.Col, d.What))
	}
	return fault.New(fault.Corrupt, fault.DataCorrupt,
		"migration %s: the old table of layer %q has %d rows and the new one %d, and %d or more cells differ: %s%s",
		r.ID, r.Spec.Layer, v.OldRows, v.NewRows, len(v.Differing), strings.Join(cells, ", "), anew).
		With("layer", r.Spec.Layer).With("migration", r.ID).With("old_rows", v.OldRows).With("new_rows", v.NewRows).
		With("wrong_coordinates", v.WrongCoordinates).With("cells", strings.Join(cells, "; "))
}

// readSettings are those of a transaction that reads whole tables: however long that
// takes, it waits no longer than others for a lock.
const readSettings = "SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', $1, true)"

// reading runs a transaction that compares tables, in one snapshot. They are locked before
// that is taken, so that they stay in the files that they are in: rows that are written
// anew after a snapshot are not there for it.
func (m *Migrations) reading(ctx context.Context, r migrationRow, oids []uint32, do func(pgx.Tx) error) error {
	var locks []string
	for _, oid := range oids {
		t, err := existing(ctx, m.pool, r, oid)
		if err != nil {
			return err
		}
		locks = append(locks, "LOCK TABLE "+t.quoted()+" IN ACCESS SHARE MODE")
	}
	return pgx.BeginTxFunc(ctx, m.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		for _, sql := range append([]string{"SET LOCAL lock_timeout = '" + lockWait + "'"}, locks...) {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, readSettings, lockWait); err != nil {
			return err
		}
		return do(tx)
	})
}

// compare reads both tables in one snapshot.
//
// The hash of a table is the sum over its rows' (rowHash), whatever their order. The
// seed is new each time.
func (shadowTable) compare(ctx context.Context, m *Migrations, r migrationRow) (v migrate.Verification, err error) {
	began := time.Now()
	err = m.reading(ctx, r, []uint32{r.oldTable, r.newTable}, func(tx pgx.Tx) error {
		old, err := existing(ctx, tx, r, r.oldTable)
		if err != nil {
			return err
		}
		fresh, err := existing(ctx, tx, r, r.newTable)
		if err != nil {
			return err
		}
		seed := rand.Int64()
		hash := rowHash(old)
		var noCells int64
		if err := tx.QueryRow(ctx, fmt.Sprintf(`SELECT count(*), coalesce(sum(%s), 0)::text,
				count(*) FILTER (WHERE row_idx NOT BETWEEN 0 AND $2 OR col_idx NOT BETWEEN 0 AND $3),
				count(*) FILTER (WHERE row_idx IS NULL OR col_idx IS NULL) FROM ONLY %s`, hash, old.quoted()),
			seed, r.Grid.Rows-1, r.Grid.Cols-1).Scan(&v.OldRows, &v.OldHash, &v.OffGrid, &noCells); err != nil {
			return err
		}
		if noCells > 0 { // written between the plan and the triggers
			return fault.New(fault.Precondition, fault.MigrationRefused,
				"migration %s: %d rows of layer %q have no row_idx or no col_idx, and cannot be followed; abort, delete them, and start again", r.ID, noCells, r.Spec.Layer).
				With("layer", r.Spec.Layer).With("migration", r.ID).With("refusals", "NULL_INDEX").With("null_index", noCells)
		}
		x, y := coordinateFormulas(r.SouthUp, 2)
		if err := tx.QueryRow(ctx, fmt.Sprintf(`SELECT count(*), coalesce(sum(%s), 0)::text, count(*) FILTER (WHERE %s OR %s) FROM ONLY %s`,
			hash, unlike("x_coord", x), unlike("y_coord", y), fresh.quoted()),
			append([]any{seed}, gridValues(r)...)...).Scan(&v.NewRows, &v.NewHash, &v.WrongCoordinates); err != nil {
			return err
		}
		if v.Files, err = filesOf(ctx, tx, r); err != nil || v.Equal() {
			return err
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
		err = errGone(r)
	}
	return t, err
}

func errGone(r migrationRow) error {
	return fault.New(fault.Conflict, fault.LayerChanged, "a table of migration %s is gone", r.ID).With("migration", r.ID)
}

// bitsOf gives the columns of a table as values that are equal when their bits
// are. Integers are as they are; what compares equal with other bits is turned
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

// rowHash is a hash of all bits of a row, seeded by the parameter $1: that of its two
// indices seeds those of its other columns, so that a value that moved to another
// cell, or column, is seen. Made of scalars, it costs half of what a hash of the
// record costs.
//
// PostgreSQL's hashes take what compares equal for the same: a zero and a NaN go by
// their bytes. That of a bigint folds its halves onto each other, so it goes by its
// bytes too, and so does what is of any other type.
func rowHash(t pixelTable) string {
	key, list := "$1::bigint", []string(nil)
	for _, name := range []string{"col_idx", "row_idx"} {
		key = hashOf(name, t.types[slices.Index(t.columns, name)], key)
	}
	for i, c := range t.columns {
		if c != "row_idx" && c != "col_idx" {
			list = append(list, hashOf(c, t.types[i], fmt.Sprintf("(%s # %d)", key, i)))
		}
	}
	return strings.Join(list, " # ")
}

// hashOf is the hash of all bits of a column. A NULL's is that of no bytes: a hash
// of NULL does not mind its seed.
func hashOf(column, kind, seed string) string {
	name := quoted(column)
	bytes := func(value string) string { return fmt.Sprintf("hash_record_extended(ROW(%s), %s)", value, seed) }
	var scalar string
	switch kind {
	case "smallint":
		scalar = fmt.Sprintf("hashint2extended(%s, %s)", name, seed)
	case "integer":
		scalar = fmt.Sprintf("hashint4extended(%s, %s)", name, seed)
	case "double precision":
		scalar = oddOr(name, bytes("float8send("+name+")"), fmt.Sprintf("hashfloat8extended(%s, %s)", name, seed))
	case "real":
		scalar = oddOr(name, bytes("float4send("+name+")"), fmt.Sprintf("hashfloat4extended(%s, %s)", name, seed))
	case "bigint":
		return bytes("coalesce(int8send(" + name + "), '')")
	default:
		return bytes("record_send(ROW(" + name + "))") // which says what is NULL
	}
	return fmt.Sprintf("coalesce(%s, %s)", scalar, bytes("''::bytea"))
}

// oddOr chooses for numbers that are equal to others with other bits.
func oddOr(name, odd, other string) string {
	return fmt.Sprintf("CASE WHEN %[1]s = '0'::float8 OR %[1]s = 'NaN'::float8 THEN %[2]s ELSE %[3]s END", name, odd, other)
}

// unlike tells a stored coordinate from a computed one that is finite: when both
// are equal and not 0, so are their bits.
func unlike(column, formula string) string {
	return fmt.Sprintf("(%[1]s IS DISTINCT FROM %[2]s OR %[1]s = '0'::float8 AND float8send(%[1]s) <> float8send(%[2]s))", quoted(column), formula)
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
		FROM (SELECT row_idx, col_idx, record_send(ROW(%[1]s)) AS bits FROM ONLY %[2]s) o
		FULL JOIN (SELECT row_idx, col_idx, record_send(ROW(%[1]s)) AS bits,
				%[4]s OR %[5]s AS off
			FROM ONLY %[3]s) f USING (row_idx, col_idx)
		WHERE o.bits IS DISTINCT FROM f.bits OR f.off ORDER BY row_idx, col_idx LIMIT $1`,
		bits, old.quoted(), fresh.quoted(), unlike("x_coord", x), unlike("y_coord", y)), append([]any{maxDiffering}, gridValues(r)...)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(c pgx.CollectableRow) (d migrate.DifferingRow, err error) {
		return d, c.Scan(&d.Row, &d.Col, &d.What)
	})
}
