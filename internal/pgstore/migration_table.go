package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/migrate"
)

// Names of what a migration makes. All of it is in the schema rasterloom, so
// that nothing of ours is seen beside the tables of others.
func shadowOf(id migrate.ID) string { return fmt.Sprintf("shadow_%d", id) }
func notesOf(id migrate.ID) string  { return fmt.Sprintf("notes_%d", id) }
func oldOf(id migrate.ID) string    { return fmt.Sprintf("old_%d", id) }

// ours quotes the name of something of ours.
func ours(name string) string { return quoted("rasterloom", name) }

func quoted(parts ...string) string { return pgx.Identifier(parts).Sanitize() }

func quotedList(names []string, prefix string) string {
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = prefix + quoted(n)
	}
	return strings.Join(list, ", ")
}

// text quotes a string literal, for DDL, which takes no parameters.
func text(s string) string {
	if strings.Contains(s, `\`) {
		return " E'" + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), `'`, `''`) + "'"
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// literal is a float8 that PostgreSQL reads back to the same bits.
func literal(v float64) string {
	return "'" + strconv.FormatFloat(v, 'g', -1, 64) + "'::float8"
}

// formulas are the coordinates of a cell's centre by the indices of its row:
// the same operations in the same order as grid.Grid.X and Y, so the same bits.
// Where rows run from the south, row_idx is turned first, in float8, which holds
// it exactly and cannot overflow.
func formulas(g grid.Grid, southUp bool) (x, y string) {
	row := "row_idx"
	if southUp {
		row = fmt.Sprintf("(%s - row_idx)", literal(float64(g.Rows-1)))
	}
	x = fmt.Sprintf("(%s + ((col_idx + '0.5'::float8) * %s))", literal(g.OriginX), literal(g.StepX))
	y = fmt.Sprintf("(%s - ((%s + '0.5'::float8) * %s))", literal(g.OriginY), row, literal(g.StepY))
	return x, y
}

// pixelTable is a table as it is found.
type pixelTable struct {
	oid                uint32
	schema, name       string
	kind, persistence  string
	owner              string
	file               uint32
	tablespace, access string
	options            []string
	replicaIdentity    string
	comment            string
	signature          string
	columns, types     []string // those that can be written
	blocks             int64
}

func (t pixelTable) quoted() string { return quoted(t.schema, t.name) }

// readTable looks at the table with an oid; false when there is none.
func readTable(ctx context.Context, q querier, oid uint32) (pixelTable, bool, error) {
	t := pixelTable{oid: oid}
	err := q.QueryRow(ctx, sqlSignature, oid).Scan(&t.schema, &t.name, &t.kind, &t.persistence, &t.owner, &t.file, &t.tablespace, &t.access,
		&t.options, &t.replicaIdentity, &t.comment, &t.signature, &t.columns, &t.types, &t.blocks)
	if errors.Is(err, pgx.ErrNoRows) {
		return t, false, nil
	}
	return t, err == nil, err
}

// source reads the table that has the public name, and checks that it is the
// one that the migration is about, with the columns that it had.
func (a *arrow) source(ctx context.Context, oid uint32, signature string) (pixelTable, error) {
	t, found, err := readTable(ctx, a.Tx, oid)
	if err != nil {
		return t, err
	}
	if !found || t.schema != a.row.Table.Schema || t.name != a.row.Table.Name {
		way := ""
		if a.row.State == migrate.Planned {
			way = "; abort it, and start again"
		}
		return t, fault.New(fault.Conflict, fault.LayerChanged,
			"table %s is not the one that migration %s began with: it was dropped, renamed, made again or restored from a dump%s", a.row.Table, a.row.ID, way).
			With("table", a.row.Table).With("migration", a.row.ID)
	}
	if t.signature != signature {
		return t, fault.New(fault.Conflict, fault.LayerChanged,
			"the columns of table %s were changed since migration %s looked at them", a.row.Table, a.row.ID).
			With("table", a.row.Table).With("migration", a.row.ID)
	}
	return t, nil
}

// tableIndex is an index as it is found.
type tableIndex struct {
	Name       string
	Unique     bool
	Constraint string // "p", "u", "x" or ""
	Tablespace string
	Identity   bool   // the replica identity
	Definition string // what follows the table's name
	Key        []string
	NotNull    bool // of all its columns
	// Comment is its own, and Remark that of its constraint.
	Comment, Remark string
}

// indexName pairs the names of an index that both tables have.
type indexName struct {
	Name   string `json:"name"`   // the public one
	Hidden string `json:"hidden"` // while its table is in our schema
}

func readIndexes(ctx context.Context, q querier, oid uint32) ([]tableIndex, error) {
	rows, err := q.Query(ctx, sqlIndexes, oid)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (i tableIndex, err error) {
		return i, r.Scan(&i.Name, &i.Unique, &i.Constraint, &i.Tablespace, &i.Identity, &i.Definition, &i.Key, &i.NotNull, &i.Comment, &i.Remark)
	})
}

// lacks gives the columns of want that have does not have.
func lacks(have, want []string) (missing []string) {
	for _, w := range want {
		if !slices.Contains(have, w) {
			missing = append(missing, w)
		}
	}
	return missing
}
