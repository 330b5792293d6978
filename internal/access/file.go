package access

import (
	"os"
	"sync"
	"time"
)

// lookEvery is how often a file is looked at again, at most.
const lookEvery = time.Second

// File is what a file says, read again when the file changes. A file that
// becomes unreadable, or does not parse, leaves what was read before in force:
// half a write locks nobody out. It is safe for concurrent use.
type File[T any] struct {
	path  string
	parse func([]byte) (T, error)
	// Failed, if set, is told when a change cannot be read: once for each reason.
	Failed func(error)

	mu     sync.Mutex
	value  T
	stamp  stamp // of value
	looked time.Time
	told   string // the last failure
}

// stamp tells versions of a file apart. Secrets of container platforms are links
// that are moved, so the file behind the name counts.
type stamp struct {
	modified time.Time
	size     int64
	info     os.FileInfo
}

func (s stamp) same(o stamp) bool {
	return s.modified.Equal(o.modified) && s.size == o.size && os.SameFile(s.info, o.info)
}

// Open reads a file for the first time. Errors: those of the file and of parse.
func Open[T any](path string, parse func([]byte) (T, error)) (*File[T], error) {
	f := &File[T]{path: path, parse: parse}
	return f, f.read()
}

// Get gives what the file says now, at most a second late.
func (f *File[T]) Get() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.looked) >= lookEvery {
		f.tell(f.read())
	}
	return f.value
}

func (f *File[T]) read() error {
	f.looked = time.Now()
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	now := stamp{info.ModTime(), info.Size(), info}
	if f.stamp.info != nil && now.same(f.stamp) {
		return nil
	}
	text, err := os.ReadFile(f.path)
	if err != nil {
		return err
	}
	value, err := f.parse(text)
	if err != nil {
		// Read again at the next look: a certificate may be there before its key.
		return err
	}
	f.value, f.stamp = value, now
	return nil
}

func (f *File[T]) tell(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != f.told && f.Failed != nil {
		f.Failed(err)
	}
	f.told = text
}
