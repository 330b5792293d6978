package pgstore

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/tile"
)

// leaveName renames the table that is to be dropped, and puts a view in its place
// where one was asked for. Views of others then read that one.
func (a *arrow) leaveName(ctx context.Context, old pixelTable, tiled layer.Layer) error {
	rename := statement{"rename-away", fmt.Sprintf("ALTER TABLE %s RENAME TO %s", old.quoted(), quoted(hiddenName(a.row.ID)))}
	if !a.row.Spec.Tiles.SQLView {
		// The view of coordinates is ours: it goes with what it reads.
		pixels, err := a.row.pixels()
		if err != nil {
			return err
		}
		if err := (&Tx{tx: a.Tx}).dropView(ctx, pixels); err != nil {
			return err
		}
		return a.exec(ctx, rename.step, rename.sql)
	}
	views, err := readViews(ctx, a.Tx, old.oid)
	if err != nil {
		return err
	}
	definition, err := a.tileView(ctx, old, tiled)
	if err != nil {
		return err
	}
	name := quoted(old.schema, old.name)
	if err := a.exec(ctx, rename.step, rename.sql); err != nil {
		return err
	}
	for _, s := range []statement{
		{"grant-tiles", fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s", quoted(tiled.Table.Schema), quoted(old.owner))},
		{"grant-tiles", fmt.Sprintf("GRANT SELECT ON %s TO %s", quote(tiled.Table), quoted(old.owner))},
		{"create-view", "CREATE VIEW " + name + " AS " + definition},
		{"own-view", "ALTER VIEW " + name + " OWNER TO " + quoted(old.owner)},
	} {
		if err := a.exec(ctx, s.step, s.sql); err != nil {
			return err
		}
	}
	var oid uint32
	if err := a.Tx.QueryRow(ctx, "SELECT $1::text::regclass::oid", name).Scan(&oid); err != nil {
		return err
	}
	_, bequest, err := a.bequest(ctx, old.oid, oid, pixelTable{owner: old.owner, comment: old.comment})
	if err != nil {
		return err
	}
	for _, s := range bequest {
		if s.step == "comment" {
			s.sql = strings.Replace(s.sql, "COMMENT ON TABLE", "COMMENT ON VIEW", 1)
		}
		if err := a.exec(ctx, s.step, s.sql); err != nil {
			return err
		}
	}
	return a.redefine(ctx, views)
}

// tileView is a query that takes raw tiles apart: a row for each cell that has a
// value, with the columns that the table has, in their order and of their types.
func (a *arrow) tileView(ctx context.Context, old pixelTable, tiled layer.Layer) (string, error) {
	rows, err := a.Tx.Query(ctx, `SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
		WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum`, old.oid)
	if err != nil {
		return "", err
	}
	pixels, err := a.row.pixels()
	if err != nil {
		return "", err
	}
	row := fmt.Sprintf("(t.tile_row * %d + r)", tile.Side)
	if pixels.SouthUp {
		row = fmt.Sprintf("(%d - %s)", a.row.Grid.Rows-1, row)
	}
	x, y := formulas(a.row.Grid, pixels.SouthUp)
	inner := strings.NewReplacer("row_idx", "cell.row_idx", "col_idx", "cell.col_idx")
	of := map[string]string{"row_idx": "cell.row_idx", "col_idx": "cell.col_idx", "value": "cell.value", "x_coord": inner.Replace(x), "y_coord": inner.Replace(y)}
	var columns []string
	var name, kind string
	if _, err := pgx.ForEachRow(rows, []any{&name, &kind}, func() error {
		columns = append(columns, fmt.Sprintf("(%s)::%s AS %s", of[name], kind, quoted(name)))
		return nil
	}); err != nil {
		return "", err
	}
	// OFFSET 0 keeps both queries apart: a tile is then fetched, and its value
	// made, once and not for each cell or byte.
	return fmt.Sprintf(`SELECT %[1]s FROM (
		SELECT %[2]s AS row_idx, t.tile_col * %[3]d + c AS col_idx, %[4]s AS value
		FROM (SELECT tile_row, tile_col, valid || ''::bytea AS valid, data || ''::bytea AS data FROM %[5]s WHERE cells > 0 OFFSET 0) t,
			generate_series(0, least(%[6]d - t.tile_row * %[3]d, %[3]d) - 1) r, generate_series(0, least(%[7]d - t.tile_col * %[3]d, %[3]d) - 1) c,
			LATERAL (SELECT %[8]s AS bits OFFSET 0) b
		WHERE t.valid IS NULL OR get_bit(t.valid, (r * %[3]d + c)::bigint) = 1) cell`,
		strings.Join(columns, ", "), row, tile.Side, valueOfBits(tiled.StoredType), quote(tiled.Table), a.row.Grid.Rows, a.row.Grid.Cols,
		littleEndian(tiled.StoredType.Width())), nil
}

// littleEndian are the bytes of cell (r, c) as a bigint that has their bits.
func littleEndian(width int) string {
	parts := make([]string, width)
	for i := range parts {
		parts[i] = fmt.Sprintf("(get_byte(t.data, (r * %d + c) * %d + %d)::bigint << %d)", tile.Side, width, i, 8*i)
	}
	return "(" + strings.Join(parts, " | ") + ")"
}

// valueOfBits turns bits into the number that they are.
func valueOfBits(t layer.DataType) string {
	switch t {
	case layer.Uint8, layer.Uint16, layer.Uint32, layer.Int64:
		return "b.bits"
	case layer.Int8:
		return "((b.bits # 128) - 128)"
	case layer.Int16:
		return "((b.bits # 32768) - 32768)"
	case layer.Int32:
		return "((b.bits # 2147483648) - 2147483648)"
	case layer.Float32:
		return floatOfBits(8, 23)
	default:
		return floatOfBits(11, 52)
	}
}

// floatOfBits is the value of an IEEE 754 number with so many bits of exponent and
// mantissa, as float8. Powers of two, and products with them, are exact.
func floatOfBits(exponent, mantissa int) string {
	const one = "'1'::float8"
	bias := 1<<(exponent-1) - 1
	e := fmt.Sprintf("((b.bits >> %d) & %d)", mantissa, 1<<exponent-1)
	m := fmt.Sprintf("(b.bits & %d)", int64(1)<<mantissa-1)
	power := func(of string) string { return fmt.Sprintf("power('2'::float8, (%s)::float8)", of) }
	sign := fmt.Sprintf("(CASE WHEN (b.bits >> %d) & 1 = 1 THEN -%s ELSE %s END)", exponent+mantissa, one, one)
	return fmt.Sprintf("%s * CASE %s WHEN %d THEN 'Infinity'::float8 WHEN 0 THEN %s::float8 * %s ELSE (%s + %d)::float8 * %s END",
		sign, e, 1<<exponent-1, m, power(fmt.Sprint(1-bias-mantissa)), m, int64(1)<<mantissa, power(fmt.Sprintf("%s - %d", e, bias+mantissa)))
}
