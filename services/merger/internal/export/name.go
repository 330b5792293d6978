package export

import (
	"strings"

	"github.com/rasterloom/rasterloom/fault"
)

const (
	// fileSuffix makes an export one file.
	fileSuffix   = ".parquet"
	maxNameBytes = 128
)

// CheckName checks the name of a result: one element of a path, 1 to 128 of
// A-Z, a-z, 0-9, dot, dash and underscore, with a letter or digit first, so that
// it is never hidden, never a way out of the directory, and means the same on
// every file system. Errors: Invalid INVALID_ARGUMENT.
func CheckName(name string) error {
	refuse := func(why string) error {
		return fault.New(fault.Invalid, fault.InvalidArgument,
			"the name %.200q %s: it must be 1 to %d letters, digits, dots, dashes and underscores, a letter or digit first",
			name, why, maxNameBytes).With("field", "spec.name")
	}
	alphanumeric := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	}
	switch {
	case name == "":
		return refuse("is empty")
	case len(name) > maxNameBytes:
		return refuse("is too long")
	case !alphanumeric(rune(name[0])):
		return refuse("does not begin with a letter or digit")
	case strings.ContainsFunc(name, func(r rune) bool { return !alphanumeric(r) && !strings.ContainsRune("._-", r) }):
		return refuse("has other characters")
	}
	return nil
}

// single reports whether the result is one file.
func single(name string) bool { return strings.HasSuffix(name, fileSuffix) }
