package pixelsql

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// maxIdentifierBytes is PostgreSQL's limit: it cuts what is longer, with a mere
// notice, so that another table would be read.
const maxIdentifierBytes = 63

// Quote gives an identifier as PostgreSQL reads it byte for byte: in double
// quotes, quotes inside doubled. Errors: Invalid INVALID_ARGUMENT for one that
// is empty, longer than 63 bytes, not UTF-8, or holds NUL, control, line
// separating or invisible formatting characters. field names it for people.
func Quote(field, name string) (string, error) {
	bad := func(format string, args ...any) error {
		return fault.New(fault.Invalid, fault.InvalidArgument, field+" "+format, args...).
			With("field", field).With("value", name)
	}
	switch {
	case name == "":
		return "", bad("is empty")
	case len(name) > maxIdentifierBytes:
		return "", bad("%.80q has %d bytes, and the limit of an identifier is %d", name, len(name), maxIdentifierBytes)
	case !utf8.ValidString(name):
		return "", bad("%q is not UTF-8", name)
	}
	for _, r := range name {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return "", bad("%q holds the character %U, which an identifier may not", name, r)
		}
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`, nil
}

// QuoteTable gives a table with its schema. Errors: as Quote, for
// "table.schema" and "table.name".
func QuoteTable(t layer.Table) (string, error) {
	schema, err := Quote("table.schema", t.Schema)
	if err != nil {
		return "", err
	}
	name, err := Quote("table.name", t.Name)
	if err != nil {
		return "", err
	}
	return schema + "." + name, nil
}
