package export

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/rasterloom/rasterloom/fault"
)

const (
	// stagingPrefix begins the hidden directories that hold what is not whole
	// yet, one for each process.
	stagingPrefix = ".rasterloom-"
	lockName      = "lock"
	// What is published is to be read by others: the umask has the last word.
	fileMode, directoryMode = 0o644, 0o755
)

// Directory is the one directory that exports are written to. It is an os.Root:
// no name leads out of it, not even by a symbolic link. Several processes may
// share one.
type Directory struct {
	root    *os.Root
	staging string
	lock    *os.File
}

// OpenDirectory opens a directory, which has to exist, and removes what
// processes that were killed left unfinished in it. Close it.
func OpenDirectory(dir string) (*Directory, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the directory for exports: %w", err)
	}
	d := &Directory{root: root}
	d.sweep()
	if err := d.claim(); err != nil {
		_ = root.Close()
		return nil, fmt.Errorf("prepare the directory for exports: %w", err)
	}
	return d, nil
}

// claim makes the staging directory of this process.
func (d *Directory) claim() error {
	const tries = 5
	for range tries {
		staging := stagingPrefix + strings.ToLower(rand.Text())
		if err := d.root.Mkdir(staging, directoryMode); err != nil {
			return err
		}
		lock, err := d.root.OpenFile(path.Join(staging, lockName), os.O_CREATE|os.O_RDWR, fileMode)
		if err != nil {
			return err
		}
		locked := tryLock(lock) || !canLock
		// Another process that sweeps may have been faster than the lock.
		if _, err := d.root.Stat(path.Join(staging, lockName)); locked && err == nil {
			d.staging, d.lock = staging, lock
			return nil
		}
		_ = lock.Close()
	}
	return errors.New("other processes remove what this one makes")
}

// sweep removes the staging directories of processes that are gone. What cannot
// be removed now stays until the next time.
func (d *Directory) sweep() {
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return
	}
	for _, entry := range entries {
		if !entry.IsDir() || !strings.HasPrefix(entry.Name(), stagingPrefix) {
			continue
		}
		lock, err := d.root.OpenFile(path.Join(entry.Name(), lockName), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if tryLock(lock) {
			_ = d.root.RemoveAll(entry.Name())
		}
		_ = lock.Close()
	}
}

// Close removes what is unfinished and lets go of the directory.
func (d *Directory) Close() {
	_ = d.root.RemoveAll(d.staging)
	_ = d.lock.Close()
	_ = d.root.Close()
}

// CheckFree says whether a name is free. Errors: Exists EXPORT_EXISTS.
func (d *Directory) CheckFree(name string) error {
	_, err := d.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return diskFault(err, name)
	default:
		return taken(name)
	}
}

func taken(name string) error {
	return fault.New(fault.Exists, fault.ExportExists,
		"there is something named %q in the directory for exports, and nothing is ever replaced: take another name", name).
		With("name", name)
}

// stage is where one export is written until it is whole.
type stage struct {
	directory *Directory
	name      string
	path      string
}

// stage makes room for the export of an id.
func (d *Directory) stage(id, name string) (*stage, error) {
	s := &stage{directory: d, name: name, path: path.Join(d.staging, id)}
	if err := d.root.Mkdir(s.path, directoryMode); err != nil {
		return nil, diskFault(err, name)
	}
	return s, nil
}

// discard removes what was written and is not published.
func (s *stage) discard() { _ = s.directory.root.RemoveAll(s.path) }

// file is a file being written. It has its name only once it is whole and on
// the disk.
type file struct {
	stage  *stage
	name   string
	handle *os.File
	buffer *bufio.Writer
	hash   hash.Hash
	bytes  int64
	// err is the first error of the disk, kept since an encoder may hide it.
	err error
}

func (s *stage) create(name string) (*file, error) {
	handle, err := s.directory.root.OpenFile(path.Join(s.path, name+".tmp"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode)
	if err != nil {
		return nil, diskFault(err, s.name)
	}
	const buffered = 256 << 10
	return &file{stage: s, name: name, handle: handle, buffer: bufio.NewWriterSize(handle, buffered), hash: sha256.New()}, nil
}

// Write implements io.Writer. Its error is a fault.
func (f *file) Write(b []byte) (int, error) {
	n, err := f.buffer.Write(b)
	_, _ = f.hash.Write(b[:n]) // never fails
	f.bytes += int64(n)
	return n, f.keep(err)
}

func (f *file) keep(err error) error {
	if err != nil && f.err == nil {
		f.err = diskFault(err, f.stage.name)
	}
	return f.err
}

// commit gives the file its name, and says what it is.
func (f *file) commit(rows int64) (Part, error) {
	err := f.buffer.Flush()
	if err == nil {
		err = f.handle.Sync()
	}
	if closeErr := f.handle.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = f.stage.directory.root.Rename(path.Join(f.stage.path, f.name+".tmp"), path.Join(f.stage.path, f.name))
	}
	if f.keep(err) != nil {
		return Part{}, f.err
	}
	return Part{File: f.name, Rows: rows, Bytes: f.bytes, SHA256: hex.EncodeToString(f.hash.Sum(nil))}, nil
}

// close gives up a file. After commit it does nothing.
func (f *file) close() { _ = f.handle.Close() }

// publish gives the whole result its name, in one step, unless there is
// something of that name. Errors: Exists EXPORT_EXISTS.
func (s *stage) publish() error {
	root := s.directory.root
	if err := s.directory.sync(s.path); err != nil {
		return diskFault(err, s.name)
	}
	var err error
	if single(s.name) {
		// A link is refused where a rename would replace.
		err = root.Link(path.Join(s.path, s.name), s.name)
		if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EPERM) {
			// A file system without links: looking before has to do.
			if err = s.directory.CheckFree(s.name); err == nil {
				err = root.Rename(path.Join(s.path, s.name), s.name)
			}
		}
	} else if err = s.directory.CheckFree(s.name); err == nil {
		// A directory replaces nothing but an empty one.
		err = root.Rename(s.path, s.name)
	}
	switch {
	case errors.Is(err, fs.ErrExist), errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, syscall.ENOTDIR):
		return taken(s.name)
	case err != nil:
		return diskFault(err, s.name)
	}
	// It is there; that it also survives a power cut is not worth failing for.
	_ = s.directory.sync(".")
	return nil
}

// sync makes names in a directory survive a power cut.
func (d *Directory) sync(dir string) error {
	f, err := d.root.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// diskFault is an error of the file system as a fault. Faults stay as they are.
func diskFault(err error, name string) error {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
		return fault.New(fault.Limit, fault.DiskFull,
			"the disk for exports, or a quota on it, is full: nothing of export %q was kept; make room and start it again", name).
			With("name", name).Because(err)
	}
	return fault.New(fault.Internal, fault.Bug, "internal error").With("name", name).Because(err)
}
