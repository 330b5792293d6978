package pgstore

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// MaxCatalogRows is the largest existing catalog that is adopted.
const MaxCatalogRows = 100_000

// adoptionLock is the advisory lock by which adoptions take turns: "adoption"
// as a big-endian number.
const adoptionLock int64 = 0x61646f70_74696f6e

//go:embed adoption_source.sql
var adoptionSourceSQL string

//go:embed relations.sql
var relationsSQL string

// Tx is a transaction over existing catalogs and pixel tables, and our catalog.
// It is for one goroutine. Roll it back on every path; after Commit that does
// nothing.
type Tx struct {
	tx pgx.Tx
}

// Look begins a transaction that reads at one moment and can write nothing.
func (s *Store) Look(ctx context.Context) (*Tx, error) {
	return s.begin(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
}

// Change begins a transaction that may change our catalog. There is one at a
// time, over all replicas; others wait for their turn, at most the lock timeout
// (then Unavailable).
func (s *Store) Change(ctx context.Context) (*Tx, error) {
	t, err := s.begin(ctx, pgx.TxOptions{})
	if err != nil {
		return nil, err
	}
	if _, err := t.tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", adoptionLock); err != nil {
		t.Rollback(ctx)
		return nil, faultOf(err)
	}
	return t, nil
}

func (s *Store) begin(ctx context.Context, o pgx.TxOptions) (*Tx, error) {
	tx, err := s.pool.BeginTx(ctx, o)
	if err != nil {
		return nil, faultOf(err)
	}
	return &Tx{tx: tx}, nil
}

// Commit makes the changes last. Errors: as any query.
func (t *Tx) Commit(ctx context.Context) error { return faultOf(t.tx.Commit(ctx)) }

// Rollback ends the transaction. A connection on which that fails is dropped.
func (t *Tx) Rollback(ctx context.Context) { _ = t.tx.Rollback(context.WithoutCancel(ctx)) }

// sourceColumn is a column that a catalog table may have.
type sourceColumn struct {
	name     string
	required bool
	types    []uint32
	// as is what is selected: %s is the column; absent when there is none.
	as, absent string
}

// fromNumeric is the float8 of a numeric: those that are too large for one are
// infinite, and those too small are 0, as arithmetic has it. The cast alone would fail,
// and one odd row keep all others from being read.
const fromNumeric = "CASE WHEN abs(%[1]s) > 1.797693134862315e308 AND %[1]s <> 'NaN' THEN sign(%[1]s) * 'Infinity'::float8 WHEN abs(%[1]s) < 1e-307 THEN 0 ELSE %[1]s::float8 END"

var (
	integerTypes = []uint32{pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID}
	numberTypes  = append([]uint32{pgtype.Float4OID, pgtype.Float8OID, pgtype.NumericOID}, integerTypes...)
	textTypes    = []uint32{pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID}
	arrayTypes   = []uint32{
		pgtype.Float8ArrayOID, pgtype.Float4ArrayOID, pgtype.NumericArrayOID,
		pgtype.Int2ArrayOID, pgtype.Int4ArrayOID, pgtype.Int8ArrayOID,
	}
	jsonTypes = append([]uint32{pgtype.JSONOID, pgtype.JSONBOID}, textTypes...)

	// sourceColumns are read in this order.
	sourceColumns = []sourceColumn{
		{"id", false, integerTypes, "%s::int8", "NULL::int8"},
		{"name", true, textTypes, "COALESCE(%s::text, '')", ""},
		{"target_resolution", false, numberTypes, "%s::float8", "NULL::float8"},
		{"target_crs", false, textTypes, "COALESCE(%s::text, '')", "''"},
		{"bounds", true, arrayTypes, "ARRAY(SELECT unnest(%s)::float8)", ""},
		{"shape_height", true, integerTypes, "%s::int8", ""},
		{"shape_width", true, integerTypes, "%s::int8", ""},
		{"data_type", false, textTypes, "COALESCE(%s::text, '')", "''"},
		{"band_name", false, textTypes, "COALESCE(%s::text, '')", "''"},
		{"data_table_name", false, textTypes, "COALESCE(%s::text, '')", "''"},
		{"metadata", false, jsonTypes, "COALESCE(%s::text, '')", "''"},
	}
)

// CatalogRows reads an existing catalog table, by id and name. Columns that a
// catalog can do without may be missing; those it has must be of a type that
// holds what they say. Errors: NotFound and Precondition CATALOG_NOT_FOUND (no
// such table; not shaped like a catalog, naming the columns), Denied
// DATABASE_PERMISSION, Limit LIMIT_EXCEEDED above MaxCatalogRows.
func (t *Tx) CatalogRows(ctx context.Context, table layer.Table) (oid uint32, list []layer.CatalogRow, err error) {
	return t.catalogRows(ctx, table, nil)
}

// CatalogRowsNamed reads the rows of one name, of which there should be one. It
// is CatalogRows otherwise.
func (t *Tx) CatalogRowsNamed(ctx context.Context, table layer.Table, name string) ([]layer.CatalogRow, error) {
	_, list, err := t.catalogRows(ctx, table, &name)
	return list, err
}

func (t *Tx) catalogRows(ctx context.Context, table layer.Table, name *string) (oid uint32, list []layer.CatalogRow, err error) {
	oid, columns, err := t.sourceShape(ctx, table)
	if err != nil {
		return 0, nil, err
	}
	sql, err := sourceQuery(table, columns)
	if err != nil {
		return 0, nil, err
	}
	rows, err := t.tx.Query(ctx, sql, pgx.QueryExecModeDescribeExec, MaxCatalogRows+1, name)
	if err != nil {
		return 0, nil, faultOf(err)
	}
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r layer.CatalogRow, err error) {
		err = row.Scan(&r.ID, &r.Name, &r.TargetResolution, &r.TargetCRS, &r.Bounds, &r.ShapeHeight, &r.ShapeWidth,
			&r.DataType, &r.BandName, &r.DataTableName, &r.Metadata)
		return r, err
	})
	if err != nil {
		return 0, nil, faultOf(err)
	}
	if len(list) > MaxCatalogRows {
		return 0, nil, fault.New(fault.Limit, fault.LimitExceeded, "the catalog table %s has more than %d rows", table, MaxCatalogRows).
			With("table", table).With("limit", MaxCatalogRows)
	}
	return oid, list, nil
}

// sourceShape gives the types of the columns of a catalog table, by name.
func (t *Tx) sourceShape(ctx context.Context, table layer.Table) (oid uint32, types map[string]uint32, err error) {
	rows, err := t.tx.Query(ctx, adoptionSourceSQL, table.Schema, table.Name)
	if err != nil {
		return 0, nil, faultOf(err)
	}
	types = make(map[string]uint32)
	var kind, column string
	var typ uint32
	if _, err := pgx.ForEachRow(rows, []any{&oid, &kind, &column, &typ}, func() error {
		types[column] = typ
		return nil
	}); err != nil {
		return 0, nil, faultOf(err)
	}
	if len(types) == 0 {
		return 0, nil, fault.New(fault.NotFound, fault.CatalogNotFound, "there is no table %s to adopt", table).With("table", table)
	}
	if !strings.Contains("rpvmf", kind) {
		return 0, nil, fault.New(fault.Precondition, fault.CatalogNotFound, "%s is not a table", table).With("table", table)
	}
	return oid, types, nil
}

func sourceQuery(table layer.Table, types map[string]uint32) (string, error) {
	var selected, missing, mistyped []string
	for _, c := range sourceColumns {
		typ, ok := types[c.name]
		switch {
		case !ok && c.required:
			missing = append(missing, c.name)
		case !ok:
			selected = append(selected, c.absent)
		case !slices.Contains(c.types, typ):
			mistyped = append(mistyped, c.name)
		case typ == pgtype.NumericOID:
			selected = append(selected, fmt.Sprintf(fromNumeric, "c."+c.name))
		case typ == pgtype.NumericArrayOID:
			selected = append(selected, fmt.Sprintf("ARRAY(SELECT %s FROM unnest(c.%s) AS v)", fmt.Sprintf(fromNumeric, "v"), c.name))
		default:
			selected = append(selected, fmt.Sprintf(c.as, "c."+c.name))
		}
	}
	if len(missing)+len(mistyped) > 0 {
		f := fault.New(fault.Precondition, fault.CatalogNotFound, "the table %s is not shaped like a catalog:", table).With("table", table)
		for _, p := range []struct {
			field, words string
			columns      []string
		}{{"missing_columns", "has no column", missing}, {"wrong_columns", "has a type that does not fit in column", mistyped}} {
			if len(p.columns) > 0 {
				f = f.With(p.field, strings.Join(p.columns, ", "))
				f.Message += fmt.Sprintf(" it %s %s;", p.words, strings.Join(p.columns, ", "))
			}
		}
		f.Message = strings.TrimSuffix(f.Message, ";")
		return "", f
	}
	return "SELECT " + strings.Join(selected, ", ") + " FROM " + quote(table) +
		" AS c WHERE $2::text IS NULL OR COALESCE(c.name::text, '') = $2 ORDER BY 1, 2 LIMIT $1", nil
}

// quote writes the name of a table that was found in the system catalogs.
func quote(t layer.Table) string { return pgx.Identifier{t.Schema, t.Name}.Sanitize() }

// Relations looks up tables in the system catalogs, in request order. Names
// are compared byte for byte. Errors: as any query.
func (t *Tx) Relations(ctx context.Context, tables []layer.Table) ([]layer.Relation, error) {
	found := make([]layer.Relation, len(tables))
	schemas, names := make([]string, len(tables)), make([]string, len(tables))
	for i, table := range tables {
		found[i].Table = table
		schemas[i], names[i] = table.Schema, table.Name
	}
	rows, err := t.tx.Query(ctx, relationsSQL, schemas, names)
	if err != nil {
		return nil, faultOf(err)
	}
	var position int64
	var r layer.Relation
	var columns, types []string
	var required []bool
	_, err = pgx.ForEachRow(rows, []any{
		&position, &r.OID, &r.File, &r.Kind, &r.Temporary, &r.RowSecurity, &r.Readable, &r.EstimatedRows, &r.Bytes,
		&columns, &types, &required, &r.IndexKey, &r.CoordinateKey, &r.TileKey, &r.Tiling,
	}, func() error {
		r.Found, r.Table = true, tables[position-1]
		r.Columns = make(map[string]layer.Column, len(columns))
		for i, name := range columns {
			r.Columns[name] = layer.Column{Type: types[i], NotNull: required[i]}
		}
		found[position-1] = r
		r = layer.Relation{}
		return nil
	})
	return found, faultOf(err)
}

// Layers gives the layers of these names in our catalog, by name. Errors: as
// any query.
func (t *Tx) Layers(ctx context.Context, names []string) ([]layer.Record, error) {
	return layersNamed(ctx, t.tx, names)
}

// LayersOf gives the names of the layers that came from a catalog table.
// Errors: as any query.
func (t *Tx) LayersOf(ctx context.Context, source layer.Table, oid uint32) ([]string, error) {
	rows, err := t.tx.Query(ctx, layersOfSourceSQL, source.Schema, source.Name, oid)
	if err != nil {
		return nil, faultOf(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return names, faultOf(err)
}

// Save keeps layers, each in the place of the one of its name, and sets their
// UpdateTime. They keep the generation that they have, unless one of their name
// was dropped with a higher one: they go on from there. Errors: as any query.
func (t *Tx) Save(ctx context.Context, records []layer.Record) error {
	batch := &pgx.Batch{}
	for i := range records {
		r := &records[i]
		arguments, err := saveArguments(*r)
		if err != nil {
			return fault.From(err)
		}
		batch.Queue(layerSaveSQL, arguments...).QueryRow(func(row pgx.Row) error {
			err := row.Scan(&r.UpdateTime, &r.Generation)
			r.UpdateTime = r.UpdateTime.UTC()
			return err
		})
	}
	return faultOf(t.tx.SendBatch(ctx, batch).Close())
}
