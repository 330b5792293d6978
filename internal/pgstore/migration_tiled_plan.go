package pgstore

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/internal/tile"
)

// sampledTiles is how many tiles are tried to choose how all are encoded.
const sampledTiles = 6

// notPixels refuses a layer that is not stored a row per cell.
func notPixels(l layer.Layer) *migrate.Refusal {
	switch {
	case l.Format == layer.FormatTiled:
		return &migrate.Refusal{Code: "ALREADY_TILED", Message: fmt.Sprintf("layer %q is stored as tiles already", l.Name)}
	case l.CheckReadable() != nil:
		return &migrate.Refusal{Code: "UNREADABLE", Message: l.CheckReadable().Error()}
	case !l.HasIndices && l.Registration == grid.RegistrationUnknown:
		return &migrate.Refusal{Code: "UNREADABLE", Message: fmt.Sprintf("layer %q stores coordinates and no indices, and nothing says whether they name centres or corners of cells", l.Name)}
	}
	return nil
}

func explainTiled(ctx context.Context, tx pgx.Tx, plan *migrate.Plan, t pixelTable, l layer.Layer) error {
	refuse := func(code, fix, format string, args ...any) {
		plan.Refusals = append(plan.Refusals, migrate.Refusal{Code: code, Message: fmt.Sprintf(format, args...), Fix: fix})
	}
	if t.kind != "r" || t.persistence != "p" {
		what, fix := t.otherThanTable()
		refuse("NOT_A_TABLE", fix, "%s is %s, not an ordinary, permanent table", l.Table, what)
		return nil
	}
	tables, err := describe(ctx, tx, []layer.CellRequest{{Layer: l}})
	if err != nil {
		return err
	}
	if err := tables[0].check(layer.CellRequest{Layer: l}); err != nil {
		refuse("COLUMNS", "adopt its catalog again", "%s", fault.From(err).Message)
		return nil
	}
	for _, c := range t.columns {
		if !slices.Contains([]string{"row_idx", "col_idx", "x_coord", "y_coord", "value"}, c) {
			refuse("COLUMNS", "drop the column, or keep it elsewhere", "%s has a column %s, which tiles cannot hold", l.Table, c)
		}
	}
	if err := dependentsOfTiled(ctx, tx, plan, t, l, refuse); err != nil {
		return err
	}
	indexes, err := readIndexes(ctx, tx, t.oid)
	if err != nil {
		return err
	}
	keyless := !hasKeyFor(indexes, l.HasIndices)
	if err := rightsForTiled(ctx, tx, plan, t, l, keyless, refuse); err != nil {
		return err
	}
	others, err := othersOf(ctx, tx, t.oid, l.Name)
	if err != nil {
		return err
	}
	if len(others) > 0 {
		refuse("TABLE_SHARED", "drop the layer that is not needed", "layer %q is read from %s too, which finalizing drops", others[0], l.Table)
	}
	tiled := tiledOf(l, plan.Spec.Tiles)
	if err := countForTiled(ctx, tx, plan, t, l, tiled); err != nil {
		return err
	}
	rows, cols := tile.Count(l.Grid)
	plan.Tiles = int64(rows) * int64(cols)
	if len(plan.Refusals) > 0 {
		return nil // a sample would meet the rows that are refused
	}
	chosen, err := chooseChain(ctx, tx, l, tiled, plan.Spec.Tiles.SQLView)
	if err != nil {
		return err
	}
	plan.Codecs = chosen.chain.String()
	// No more tiles than rows.
	plan.EstimateTiled(min(plan.Tiles, plan.Rows), chosen.bytesPerCell*tile.Cells, keyless)
	plan.Notices = append(plan.Notices, fmt.Sprintf("values are stored as %s, in %d tiles at most, of %.2f bytes a cell by a sample (codecs: %s)",
		tiled.StoredType, plan.Tiles, chosen.bytesPerCell, chosen.chain))
	return nil
}

// dependentsOfTiled tells what hangs on the table, which stays as it is until it is
// dropped in the end.
func dependentsOfTiled(ctx context.Context, tx pgx.Tx, plan *migrate.Plan, t pixelTable, l layer.Layer, refuse refuseFunc) error {
	lost, kept, err := lostWithTable(ctx, tx, t, plan.Spec.Tiles.SQLView)
	if err != nil {
		return err
	}
	for _, f := range lost {
		if f.kind == "view" {
			refuse("DEPENDENT", "ask for a view under the table's name (sql_view, --sql-view), or drop this one", "%s is read by the view %s, which would have nothing to read once the table is dropped", l.Table, f.name)
			continue
		}
		refuse("DEPENDENT", "take it off first", "%s has the %s, which would be lost with the table", l.Table, f)
	}
	for _, f := range kept {
		plan.Dependents = append(plan.Dependents, migrate.Dependent{Kind: f.kind, Name: f.name})
	}
	return nil
}

// lostWithTable parts what hangs on a table into what must not be lost with it, and the
// rest: its indexes, privileges and, where a view takes its place, the views upon it.
func lostWithTable(ctx context.Context, q querier, t pixelTable, sqlView bool) (lost, kept []feature, err error) {
	rows, err := q.Query(ctx, sqlDependents, t.oid)
	if err != nil {
		return nil, nil, err
	}
	var f feature
	var carried bool
	_, err = pgx.ForEachRow(rows, []any{&f.kind, &f.name, &carried}, func() error {
		switch {
		case f.kind == "view" && !sqlView && f.name != quotedIfNeeded(t.schema)+"."+quotedIfNeeded(viewName(t.name)):
			lost = append(lost, f)
		case carried, f.kind == "extended statistics", f.kind == "generated column" && (f.name == "x_coord" || f.name == "y_coord"):
			kept = append(kept, f)
		default:
			lost = append(lost, f)
		}
		return nil
	})
	return lost, kept, err
}

// quotedIfNeeded writes a name as format('%I') does.
func quotedIfNeeded(name string) string {
	plain := name != "" && (name[0] == '_' || name[0] >= 'a' && name[0] <= 'z')
	for _, r := range name {
		plain = plain && (r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9')
	}
	if plain {
		return name
	}
	return quoted(name)
}

func rightsForTiled(ctx context.Context, tx pgx.Tx, plan *migrate.Plan, t pixelTable, l layer.Layer, keyless bool, refuse refuseFunc) error {
	var owns, creates, sees bool
	if err := tx.QueryRow(ctx, `SELECT pg_has_role(current_user, $1::text, 'USAGE'), has_schema_privilege(current_user, $2::text, 'CREATE'),
		pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')`, t.owner, t.schema).Scan(&owns, &creates, &sees); err != nil {
		return err
	}
	if !owns {
		refuse("NOT_OWNER", fmt.Sprintf("GRANT %s TO the role of this service", quoted(t.owner)), "%s belongs to role %s, of which the role of this service is no member", l.Table, t.owner)
	}
	if !creates && (keyless || plan.Spec.Tiles.SQLView) {
		refuse("NO_CREATE", fmt.Sprintf("GRANT CREATE ON SCHEMA %s TO the role of this service", quoted(t.schema)), "nothing can be made in the schema %s", t.schema)
	}
	if !sees {
		refuse("NO_STATISTICS", "GRANT pg_read_all_stats TO the role of this service",
			"the role of this service cannot see the transactions of others, which the cut-over has to wait for")
	}
	return nil
}

// countForTiled counts the rows, and those that stand in the way.
func countForTiled(ctx context.Context, tx pgx.Tx, plan *migrate.Plan, t pixelTable, l, tiled layer.Layer) error {
	// Indices as they are: a cast of each would take a fifth of the time of all.
	row, col, place := "row_idx", "col_idx", uint32(pgtype.Int8OID)
	q := cellQuery{}
	off, once := "false", ""
	if !l.HasIndices {
		// Computed once for a row; the indices cost nothing, and without this several
		// processes of the server count.
		once = " OFFSET 0"
		row, col = q.nearest(l)
		c := func(exact string) string {
			return fmt.Sprintf("abs((%s) - round(%[1]s)) > %s", exact, q.bind(pgtype.Float8OID, float(offLatticePixels)))
		}
		off = c(row) + " OR " + c(col)
		row, col, place = "round("+row+")", "round("+col+")", pgtype.Float8OID
	}
	inexact, missing := q.inexact(l, tiled), q.missing(l)
	text := fmt.Sprintf(`SELECT count(*), count(*) FILTER (WHERE r IS NULL OR c IS NULL), count(*) FILTER (WHERE NOT (r BETWEEN 0 AND %s AND c BETWEEN 0 AND %s)),
			count(*) FILTER (WHERE off), count(*) FILTER (WHERE missing), count(*) FILTER (WHERE inexact AND NOT missing), pg_total_relation_size(%s::oid::regclass)
		FROM (SELECT %s AS r, %s AS c, %s AS off, %s AS missing, %s AS inexact FROM %s%s) cell`,
		q.bind(place, strconv.Itoa(l.Grid.Rows-1)), q.bind(place, strconv.Itoa(l.Grid.Cols-1)), q.bind(pgtype.OIDOID, fmt.Sprint(t.oid)),
		row, col, off, missing, inexact, t.quoted(), once)
	var nulls, outside, offLattice, lossy int64
	if err := tx.QueryRow(ctx, text, q.values()...).Scan(&plan.Rows, &nulls, &outside, &offLattice, &plan.WithoutValue, &lossy, &plan.TableBytes); err != nil {
		return err
	}
	repeated, err := countRepeated(ctx, tx, t, l)
	if err != nil {
		return err
	}
	examples := ""
	if lossy > 0 {
		if examples, err = inexactCells(ctx, tx, t, l, tiled); err != nil {
			return err
		}
	}
	for _, r := range []migrate.Refusal{
		{Code: "DUPLICATE_CELLS", Count: repeated, Message: fmt.Sprintf("%s holds %d cells more than once", l.Table, repeated), Fix: "delete the rows that are too many"},
		{Code: "NULL_INDEX", Count: nulls, Message: fmt.Sprintf("%s has %d rows that do not say where they are", l.Table, nulls), Fix: "delete these rows"},
		{Code: "OFF_GRID", Count: outside, Message: fmt.Sprintf("%s has %d rows outside of its grid of %d × %d cells", l.Table, outside, l.Grid.Rows, l.Grid.Cols),
			Fix: "delete these rows, or correct the shape in the catalog table and adopt it again"},
		{Code: "OFF_LATTICE", Count: offLattice, Message: fmt.Sprintf("%s has %d rows whose coordinates name no cell, to within %v of a cell", l.Table, offLattice, offLatticePixels),
			Fix: "correct these coordinates, or delete the rows"},
		{Code: "INEXACT_VALUES", Count: lossy, Message: fmt.Sprintf("%s holds %d values that %s cannot hold exactly, such as %s", l.Table, lossy, tiled.StoredType, examples),
			Fix: "store the tiles in the type of the table, without declared_type"},
	} {
		if r.Count > 0 {
			plan.Refusals = append(plan.Refusals, r)
		}
	}
	return nil
}

// values are the parameters for a query through pgx, which takes text for any type.
func (q *cellQuery) values() []any {
	args := []any{pgx.QueryExecModeExec}
	for i, v := range q.args {
		switch q.oids[i] {
		case pgtype.Float8OID:
			var f pgtype.Float8
			_ = f.Scan(string(v))
			args = append(args, f)
		default:
			args = append(args, string(v))
		}
	}
	return args
}

// nearest are the places of a row by its coordinates, in cells, not rounded.
func (q *cellQuery) nearest(l layer.Layer) (row, col string) {
	g, corner := l.Grid, 0.
	if l.Registration == grid.RegistrationCenter {
		corner = 0.5
	}
	of := func(column string, origin, step float64) string {
		return "((" + column + "::float8 - " + q.bind(pgtype.Float8OID, float(origin)) + ") / " +
			q.bind(pgtype.Float8OID, float(step)) + " - " + q.bind(pgtype.Float8OID, float(corner)) + ")"
	}
	return of("y_coord", g.OriginY, -g.StepY), of("x_coord", g.OriginX, g.StepX)
}

// missing is the condition that a row has no value.
func (q *cellQuery) missing(l layer.Layer) string {
	conditions := []string{"value IS NULL"}
	if l.StoredType == layer.Float64 || l.StoredType == layer.Float32 {
		conditions = append(conditions, "value = 'NaN'")
	}
	for _, v := range layer.NodataValues(l) {
		switch v := v.(type) {
		case float64:
			conditions = append(conditions, "value::float8 = "+q.bind(pgtype.Float8OID, float(v)))
		case int64:
			conditions = append(conditions, fmt.Sprintf("value = %d", v))
		}
	}
	return "(" + strings.Join(conditions, " OR ") + ")"
}

// inexact is the condition that a value is not one of the type of the tiles. See
// exactly.
func (q *cellQuery) inexact(l, tiled layer.Layer) string {
	lo, hi := tiled.StoredType.Limits()
	bound := func(v float64) string { return q.bind(pgtype.Float8OID, float(v)) }
	from, to := l.StoredType == layer.Float64 || l.StoredType == layer.Float32, tiled.StoredType == layer.Float64 || tiled.StoredType == layer.Float32
	switch {
	case tiled.StoredType == l.StoredType, tiled.StoredType == layer.Float64 && l.StoredType != layer.Int64:
		return "false"
	case tiled.StoredType == layer.Float32 && from:
		// The cast of a number out of range is an error; below the least normal one
		// there are the multiples of the smallest.
		smallest := bound(math.SmallestNonzeroFloat32)
		return fmt.Sprintf(`(CASE WHEN abs(value) > %s THEN abs(value) <> 'Infinity'
			WHEN abs(value) < %s THEN value / %s <> trunc(value / %[3]s) ELSE value::real::float8 <> value END)`, bound(math.MaxFloat32), bound(0x1p-126), smallest)
	case to:
		as := map[layer.DataType]string{layer.Float32: "value::real::float8", layer.Float64: "value::float8"}[tiled.StoredType]
		return fmt.Sprintf("(CASE WHEN %s >= %s THEN true ELSE %[1]s::bigint <> value END)", as, bound(1<<63))
	case from:
		return fmt.Sprintf("(value::float8 < %s OR value::float8 >= %s OR trunc(value::float8) <> value::float8 OR float8send(value::float8) = '\\x8000000000000000')", bound(lo), bound(hi))
	default:
		return fmt.Sprintf("(value < %s OR value >= %s)", bound(lo), bound(hi))
	}
}

// inexactCells names the first of them.
func inexactCells(ctx context.Context, tx pgx.Tx, t pixelTable, l, tiled layer.Layer) (string, error) {
	row, col, _ := placeColumns(l)
	q := cellQuery{}
	condition, missing := q.inexact(l, tiled), q.missing(l)
	rows, err := tx.Query(ctx, fmt.Sprintf("SELECT format('%%s at %[1]s %%s, %[2]s %%s', value, %[1]s, %[2]s) FROM %[3]s WHERE %[4]s AND NOT %[5]s ORDER BY %[1]s, %[2]s LIMIT 3",
		row, col, t.quoted(), condition, missing), q.values()...)
	if err != nil {
		return "", err
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return strings.Join(list, "; "), err
}

// countRepeated counts the cells that are stored more than once, where nothing
// forbids it.
func countRepeated(ctx context.Context, tx pgx.Tx, t pixelTable, l layer.Layer) (repeated int64, err error) {
	indexes, err := readIndexes(ctx, tx, t.oid)
	if err != nil || l.HasIndices && hasKey(indexes) {
		return 0, err
	}
	q := cellQuery{}
	row, col := "row_idx", "col_idx"
	if !l.HasIndices {
		row, col = q.nearest(l)
		row, col = "round("+row+")", "round("+col+")"
	}
	err = tx.QueryRow(ctx, fmt.Sprintf(`SELECT count(*) FROM (SELECT FROM (SELECT %s AS r, %s AS c FROM %s OFFSET 0) cell
		WHERE r IS NOT NULL AND c IS NOT NULL GROUP BY r, c HAVING count(*) > 1) twice`, row, col, t.quoted()), q.values()...).Scan(&repeated)
	return repeated, err
}

// choice is how tiles are to be encoded, and what they take by a sample.
type choice struct {
	chain        tile.Chain
	bytesPerCell float64
}

// chooseChain tries the chains on tiles of rows that lie spread over the table,
// unless it has to be raw. A table without a value gets one that costs nothing.
func chooseChain(ctx context.Context, tx pgx.Tx, pixels, tiled layer.Layer, raw bool) (choice, error) {
	c := choice{chain: tile.Zstd, bytesPerCell: float64(tiled.StoredType.Width())}
	if raw {
		c.chain = tile.Raw
	}
	places, err := samplePlaces(ctx, tx, pixels)
	if err != nil {
		return c, err
	}
	band, err := bandFrom(ctx, tx, pixels, tiled)
	if err != nil {
		return c, err
	}
	trial, err := tile.NewTrial(tiled)
	if err != nil {
		return c, err
	}
	tried := 0
	for _, at := range places {
		if _, err := band.load(ctx, tx.Conn().PgConn(), tile.Window(tiled.Grid, at[0], at[1])); err != nil {
			return c, err
		}
		if band.cells(0) == 0 {
			continue
		}
		values, valid := band.raw(0)
		if err := trial.Add(at[0], at[1], values, valid); err != nil {
			return c, err
		}
		tried++
	}
	if tried > 0 && !raw {
		c.chain = trial.Best()
	}
	if tried > 0 {
		c.bytesPerCell = float64(trial.Bytes(c.chain)) / float64(tried) / tile.Cells
	}
	return c, nil
}

// samplePlaces gives some tiles in which there are rows with a value.
func samplePlaces(ctx context.Context, tx pgx.Tx, l layer.Layer) ([][2]int32, error) {
	tileRow, tileCol := tileFormulas(l)
	here := strings.NewReplacer("§", "")
	table := quoted(l.Table.Schema, l.Table.Name)
	rows, err := tx.Query(ctx, fmt.Sprintf(`SELECT DISTINCT c.r, c.c FROM (SELECT pg_relation_size($1::text::regclass) / current_setting('block_size')::bigint AS n) blocks,
		generate_series(0, $2::bigint - 1) i, LATERAL (SELECT %s AS r, %s AS c FROM %s WHERE value IS NOT NULL
			AND ctid >= format('(%%s,0)', n * (2 * i + 1) / (2 * $2::bigint))::tid AND ctid < format('(%%s,0)', n * (2 * i + 1) / (2 * $2::bigint) + 16)::tid LIMIT 1) c
		ORDER BY 1, 2`, here.Replace(tileRow), here.Replace(tileCol), table), table, sampledTiles)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (at [2]int32, err error) {
		return at, r.Scan(&at[0], &at[1])
	})
}
