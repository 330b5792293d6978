package catalog

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rasterloom/rasterloom/internal/layer"
)

const (
	maxLayerNameBytes  = 255
	maxIdentifierBytes = 63 // PostgreSQL cuts the rest off, with a mere notice
)

// flawOf says what is wrong with a name of at most limit bytes; empty if
// nothing is. Control and invisible characters let one name pass for another.
func flawOf(name string, limit int) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > limit:
		return fmt.Sprintf("has %d bytes, and the limit is %d", len(name), limit)
	case !utf8.ValidString(name):
		return "is not UTF-8"
	}
	for _, r := range name {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return fmt.Sprintf("holds the character %U, which a name may not", r)
		}
	}
	return ""
}

// tableNames lists the names that a layer's table can have, the likeliest
// first. The old code writes - as _, and its SQL does not quote, so that
// PostgreSQL folds A to Z to lower case: a table can exist under either name.
func tableNames(row layer.CatalogRow, m metadata) []string {
	var stated string
	switch {
	case m.memoryAware && m.storageTable != "":
		stated = m.storageTable
	case m.memoryAware:
		stated = "windowed_" + row.Name
	case row.DataTableName != "":
		stated = row.DataTableName
	case m.passthrough:
		stated = "passthrough_" + row.Name
	default:
		stated = "resampled_" + row.Name
	}
	var names []string
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	written := strings.ReplaceAll(stated, "-", "_")
	if stated == m.storageTable || stated == row.DataTableName {
		add(stated) // stated in full: as it is
	}
	add(written)
	add(foldASCII(stated))
	add(foldASCII(written))
	if stated != m.storageTable && stated != row.DataTableName {
		// Made of the layer's name: always with _.
		names = slices.DeleteFunc(names, func(n string) bool { return strings.Contains(n, "-") })
	}
	return names
}

// foldASCII folds an identifier as PostgreSQL does in a UTF-8 database.
func foldASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + ('a' - 'A')
		}
		return r
	}, s)
}
