package localpg

import (
	"cmp"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/rasterloom/rasterloom/fault"
)

// MinMajor is the oldest major version of PostgreSQL that we run on.
const MinMajor = 14

// Installation is a set of PostgreSQL binaries.
type Installation struct {
	// BinDir holds initdb and postgres.
	BinDir string
	// Version is the whole version, "15.13"; Major its first number.
	Version string
	Major   int
	// Source says where it comes from, for people.
	Source string

	minor int
}

// places are where packagers put the binaries, as patterns. PATH comes first.
var places = []string{
	"/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
	"/usr/pgsql-*/bin",                                   // the PostgreSQL project's RPMs
	"/usr/libexec/postgresql*",                           // Alpine
	"/usr/local/pgsql/bin",                               // from source
	"/opt/homebrew/opt/postgresql@*/bin",                 // Homebrew on Apple silicon
	"/usr/local/opt/postgresql@*/bin",                    // Homebrew on Intel
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",    // Homebrew on Linux
	"/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
	"/opt/local/lib/postgresql*/bin",                     // MacPorts
}

// Find lists the installed servers that can be used here, newest first.
func Find(ctx context.Context) ([]Installation, error) {
	a, err := serverAccount()
	if err != nil {
		return nil, err
	}
	return find(ctx, a), nil
}

func find(ctx context.Context, a account) []Installation {
	var dirs []string
	if postgres, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(postgres))
	}
	for _, pattern := range places {
		matches, _ := filepath.Glob(pattern) // the patterns are well-formed
		dirs = append(dirs, matches...)
	}
	var found []Installation
	seen := make(map[string]bool)
	for _, dir := range dirs {
		target, err := filepath.EvalSymlinks(dir)
		if err != nil || seen[target] {
			continue
		}
		seen[target] = true
		if i, ok := inspect(ctx, target, a); ok && i.Major >= MinMajor {
			i.Source = "installed in " + dir
			found = append(found, i)
		}
	}
	slices.SortStableFunc(found, func(x, y Installation) int {
		return cmp.Or(cmp.Compare(y.Major, x.Major), cmp.Compare(y.minor, x.minor))
	})
	return found
}

// versionPattern reads the answer to postgres --version. A beta has no minor
// version and is not used.
var versionPattern = regexp.MustCompile(`\(PostgreSQL\) ((\d+)\.(\d+))`)

// inspect looks whether a directory has binaries that the account can run.
func inspect(ctx context.Context, dir string, a account) (Installation, bool) {
	if _, ok := a.canEnter(filepath.Join(dir, "postgres")); !ok {
		return Installation{}, false
	}
	for _, name := range []string{"postgres", "initdb"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || !info.Mode().IsRegular() || !a.passes(info, 0o1) {
			return Installation{}, false
		}
	}
	output, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return Installation{}, false
	}
	m := versionPattern.FindStringSubmatch(string(output))
	if m == nil {
		return Installation{}, false
	}
	major, _ := strconv.Atoi(m[2])
	minor, _ := strconv.Atoi(m[3])
	return Installation{BinDir: dir, Version: m[1], Major: major, minor: minor}, true
}

// locate chooses the binaries for a cluster made by a major version, or for a
// new one when that is 0: an installed set if there is one, else the registry's.
func locate(ctx context.Context, o Options, major int, a account, tell func(string)) (Installation, error) {
	if !o.FromRegistry {
		for _, i := range find(ctx, a) {
			if major == 0 || i.Major == major {
				return i, nil
			}
		}
	}
	cache := o.CacheDir
	if cache == "" {
		var err error
		if cache, err = DefaultCacheDir(); err != nil {
			return Installation{}, err
		}
	}
	version, ok := registryVersion(major)
	if !ok {
		return Installation{}, fault.New(fault.Precondition, fault.DatabaseUnavailable,
			"the data directory was made by PostgreSQL %d, which is neither installed here nor in the registry", major).With("major", major)
	}
	return fetch(ctx, cache, version, a, tell)
}
