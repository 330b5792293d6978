package table

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// File is a file that appears under its name whole, or not at all.
type File struct {
	*os.File
	name  string
	force bool
	done  bool
}

// CreateFile begins a file beside where it will be. A file that is there already is
// refused, unless force replaces it.
func CreateFile(name string, force bool) (*File, error) {
	if _, err := os.Lstat(name); err == nil && !force {
		return nil, exists(name)
	}
	partial := filepath.Join(filepath.Dir(name), fmt.Sprintf(".%s.%s.partial", filepath.Base(name), rand.Text()[:8]))
	// What it is in the end is for others to read, as far as the umask lets them.
	f, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666) //nolint:gosec // See above.
	if err != nil {
		return nil, unwritable(name, err)
	}
	return &File{File: f, name: name, force: force}, nil
}

// Write implements io.Writer.
func (f *File) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	return n, unwritable(f.name, err)
}

// Commit gives the file its name, and says how many bytes it has.
func (f *File) Commit() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, unwritable(f.name, err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return 0, unwritable(f.name, err)
	}
	return info.Size(), f.publish()
}

func (f *File) publish() error {
	if !f.force {
		// A link, unlike a rename, never replaces what came there meanwhile.
		err := os.Link(f.Name(), f.name)
		if errors.Is(err, fs.ErrExist) {
			return exists(f.name)
		}
		if err == nil {
			return nil // Discard takes the other name away.
		}
		// A file system without links.
	}
	if err := os.Rename(f.Name(), f.name); err != nil {
		return err
	}
	f.done = true
	return nil
}

// Discard removes what is left of the file in the making.
func (f *File) Discard() {
	if !f.done {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}
}

// unwritable names the file as it was asked for, and not as it is in the making.
func unwritable(name string, err error) error {
	if err == nil {
		return nil
	}
	if system, ok := errors.AsType[*fs.PathError](err); ok {
		err = system.Err
	}
	return fmt.Errorf("%s cannot be written, and nothing is: %w", name, err)
}

func exists(name string) error { return fmt.Errorf("%s exists already; --force replaces it", name) }
