package export

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rasterloom/rasterloom/fault"
)

func open(t *testing.T, dir string) *Directory {
	t.Helper()
	d, err := OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// put publishes an export with these files.
func put(d *Directory, name string, files ...string) error {
	s, err := d.stage("id-"+name, name)
	if err != nil {
		return err
	}
	defer s.discard()
	for _, f := range files {
		w, err := s.create(f)
		if err != nil {
			return err
		}
		defer w.close()
		if _, err := w.Write([]byte("content of " + f)); err != nil {
			return err
		}
		if _, err := w.commit(1); err != nil {
			return err
		}
	}
	return s.publish()
}

// names lists everything below a directory, hidden or not.
func names(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != lockName {
			name, _ := filepath.Rel(dir, path)
			all = append(all, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestPublish(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	if err := put(d, "a.parquet", "a.parquet"); err != nil {
		t.Fatal(err)
	}
	if err := put(d, "b", "part-00000.parquet", ManifestName); err != nil {
		t.Fatal(err)
	}
	want := []string{"a.parquet", "b/_manifest.json", "b/part-00000.parquet"}
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("published %v, want %v", got, want)
	}
	content, err := os.ReadFile(filepath.Join(dir, "a.parquet"))
	if err != nil || string(content) != "content of a.parquet" {
		t.Errorf("%q, %v", content, err)
	}
	// Nothing is ever replaced, whatever it is, and even where it came after
	// the check.
	for _, made := range []func(string) error{
		func(p string) error { return os.WriteFile(p, []byte("old"), 0o600) },
		func(p string) error { return os.Mkdir(p, 0o700) },
		func(p string) error { return os.Symlink("nowhere", p) },
		func(p string) error { return os.MkdirAll(filepath.Join(p, "x"), 0o700) },
	} {
		for _, name := range []string{"c.parquet", "c"} {
			path := filepath.Join(dir, name)
			if err := made(path); err != nil {
				t.Fatal(err)
			}
			before, _ := os.Lstat(path)
			requireFault(t, put(d, name, name), fault.Exists, fault.ExportExists)
			requireFault(t, d.CheckFree(name), fault.Exists, fault.ExportExists)
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
				t.Errorf("%s was replaced (%v)", name, err)
			}
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("left over: %v", got)
	}
}

// A file has no name before it is whole, and is what it says.
func TestFiles(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	d := open(t, dir)
	s, err := d.stage("id", "x")
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.create("part")
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for range 100 {
		piece := make([]byte, rng.IntN(20_000))
		for i := range piece {
			piece[i] = byte(rng.Uint32())
		}
		if n, err := f.Write(piece); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
		all.Write(piece)
	}
	if got := names(t, dir); len(got) != 1 || !strings.HasSuffix(got[0], "/part.tmp") {
		t.Errorf("before commit: %v", got)
	}
	part, err := f.commit(5)
	sum := sha256.Sum256(all.Bytes())
	if want := (Part{"part", 5, int64(all.Len()), hex.EncodeToString(sum[:])}); err != nil || part != want {
		t.Errorf("%v, %v; want %v", part, err, want)
	}
	if got := names(t, dir); len(got) != 1 || strings.HasSuffix(got[0], ".tmp") {
		t.Errorf("after commit: %v", got)
	}
	s.discard()
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("discarded: %v", got)
	}
}

// What a killed process left is removed; what a live one writes is not.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	alive := open(t, dir)
	s, err := alive.stage("id", "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.create("part"); err != nil {
		t.Fatal(err)
	}
	killed := startChild(t, dir, "wait")
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait()
	if got := names(t, dir); len(got) != 2 {
		t.Fatalf("the child left %v", got)
	}
	open(t, dir)
	if got := names(t, dir); len(got) != 1 || !strings.HasPrefix(got[0], alive.staging) {
		t.Errorf("after the sweep: %v", got)
	}
	// Files of others that look like ours are not.
	if err := os.WriteFile(filepath.Join(dir, stagingPrefix+"notes"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, stagingPrefix+"stuff"), 0o700); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	for _, name := range []string{"notes", "stuff"} {
		if _, err := os.Stat(filepath.Join(dir, stagingPrefix+name)); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenDirectoryThatIsNone(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenDirectory(filepath.Join(dir, "nowhere")); err == nil {
		t.Error("opened what is not there")
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDirectory(filepath.Join(dir, "file")); err == nil {
		t.Error("opened a file")
	}
}

// The kernel refuses to write more than a limit, at many places: the fault says
// that there is no room, and nothing stays.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	child := startChild(t, dir, "full")
	if err := child.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, child.Stdout)
	}
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("left over: %v", got)
	}
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		err := diskFault(fmt.Errorf("write a page: %w", &fs.PathError{Op: "write", Path: "/secret/place", Err: errno}), "a")
		if f := requireFault(t, err, fault.Limit, fault.DiskFull); strings.Contains(f.Message, "secret") {
			t.Errorf("message %q", f.Message)
		}
	}
	f := requireFault(t, diskFault(&fs.PathError{Op: "write", Path: "/secret/place", Err: syscall.EIO}, "a"), fault.Internal, fault.Bug)
	if strings.Contains(f.Message, "secret") || !errors.Is(f, syscall.EIO) {
		t.Errorf("fault %v", f.Detail())
	}
}

// The variables that make this test's program a child: where, and what for.
const (
	childVariable   = "RASTERLOOM_TEST_EXPORT_CHILD"
	purposeVariable = "RASTERLOOM_TEST_EXPORT_PURPOSE"
)

func startChild(t *testing.T, dir, purpose string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+dir, purposeVariable+"="+purpose)
	if purpose == "full" {
		cmd.Stdout = &bytes.Buffer{}
		cmd.Stderr = cmd.Stdout
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// child is what the program does as a child.
func child(dir string) int {
	d, err := OpenDirectory(dir)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if os.Getenv(purposeVariable) == "wait" {
		s, err := d.stage("id", "x")
		if err == nil {
			_, err = s.create("part")
		}
		fmt.Println(err)
		select {}
	}
	defer d.Close()
	// Files may have 100,000 bytes; exports of more and more bytes meet that.
	const limit = 100_000
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		fmt.Println(err)
		return 1
	}
	for size := limit - 2; size < 20*limit; size += size/3 + 1 {
		err := func() error {
			s, err := d.stage(fmt.Sprint("id", size), "x")
			if err != nil {
				return err
			}
			defer s.discard()
			f, err := s.create("part")
			if err != nil {
				return err
			}
			defer f.close()
			for left := size; left > 0; left -= 7777 {
				if _, err := f.Write(make([]byte, min(left, 7777))); err != nil {
					return err
				}
			}
			_, err = f.commit(1)
			return err
		}()
		if f := fault.From(err); (size > limit) != (err != nil) || err != nil && (f.Kind != fault.Limit || f.Reason != fault.DiskFull) {
			fmt.Printf("%d bytes: %v\n", size, err)
			return 1
		}
	}
	return 0
}
