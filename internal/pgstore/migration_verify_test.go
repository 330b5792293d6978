package pgstore

import (
	"fmt"
	"strings"
	"testing"
)

// Rows that differ in a bit, or by what is where, have different hashes; tables of
// the same rows in another order have the same.
func TestRowHash(t *testing.T) {
	t.Parallel()
	s, ctx := openStore(t), t.Context()
	table := pixelTable{
		columns: []string{"row_idx", "col_idx", "value", "r", "b", "s", "n", "w"},
		types:   []string{"integer", "integer", "double precision", "real", "bigint", "smallint", "numeric", "double precision"},
	}
	columns := []string{"1", "2", "0.5", "0.5", "7", "7", "7.0", "0.25"}
	row := func(changes ...string) string {
		values := append([]string{}, columns...)
		for i := 0; i < len(changes); i += 2 {
			for c, name := range table.columns {
				if name == changes[i] {
					values[c] = changes[i+1]
				}
			}
		}
		for c := range values {
			values[c] = "(" + values[c] + ")::" + table.types[c]
		}
		return "(" + strings.Join(values, ", ") + ")"
	}
	different := map[string]string{
		"as it is": row(), "transposed": row("row_idx", "2", "col_idx", "1"),
		"no row": row("row_idx", "NULL"), "no column": row("col_idx", "NULL"), "neither": row("row_idx", "NULL", "col_idx", "NULL"),
		"value and w change places": row("value", "0.25", "w", "0.5"), "b and s differ alike": row("b", "8", "s", "8"),
		"numeric of another scale": row("n", "7.00"), "bits of both halves of b": row("b", "7::bigint # 4294967297"),
		"all halves of b": row("b", "~7::bigint"), "b 0": row("b", "0"), "b -1": row("b", "-1"),
	}
	for _, c := range table.columns[2:] {
		different[c+" NULL"] = row(c, "NULL")
	}
	for _, c := range []string{"value", "r", "w"} {
		for _, v := range []string{"0", "-0", "Infinity", "-Infinity", "NaN", "1e-38"} {
			different[c+" "+v] = row(c, "'"+v+"'")
		}
	}
	nulls := []string{"value", "NULL", "r", "NULL", "b", "NULL", "s", "NULL", "n", "NULL", "w", "NULL"}
	different["all NULL"] = row(nulls...)
	different["all NULL in another cell"] = row(append(nulls, "row_idx", "9")...)
	names, rows := make([]string, 0, len(different)), make([]string, 0, len(different))
	for name, r := range different {
		names, rows = append(names, name), append(rows, r)
	}
	from := fmt.Sprintf("(VALUES %s) t(%s)", strings.Join(rows, ", "), quotedList(table.columns, ""))
	for seed := int64(-3); seed < 4; seed++ { // 0 among them
		var hashes []int64
		if err := s.pool.QueryRow(ctx, fmt.Sprintf("SELECT array_agg(%s) FROM %s", rowHash(table), from), seed).Scan(&hashes); err != nil {
			t.Fatal(err)
		}
		seen := map[int64]string{}
		for i, h := range hashes {
			if other, twice := seen[h]; twice {
				t.Errorf("seed %d: %q and %q have one hash", seed, other, names[i])
			}
			seen[h] = names[i]
		}
		if len(hashes) != len(different) {
			t.Fatalf("%d hashes of %d rows", len(hashes), len(different))
		}
		// A value that moves from one cell to another is seen in the sum.
		var moved bool
		if err := s.pool.QueryRow(ctx, fmt.Sprintf(`SELECT (SELECT sum(%[1]s) FROM (VALUES %[2]s, %[3]s) t(%[6]s)) = (SELECT sum(%[1]s) FROM (VALUES %[4]s, %[5]s) t(%[6]s))`,
			rowHash(table), row("value", "1"), row("value", "2", "row_idx", "2"), row("value", "2"), row("value", "1", "row_idx", "2"),
			quotedList(table.columns, "")), seed).Scan(&moved); err != nil {
			t.Fatal(err)
		}
		if moved {
			t.Errorf("seed %d: values that changed cells are not seen", seed)
		}
	}
}
