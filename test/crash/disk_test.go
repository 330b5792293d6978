package crash_test

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/internal/migrate"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

const (
	smallDiskBytes = 64 << 20
	// smallDisk names a directory on a file system of some 64 MiB that
	// PostgreSQL may write to, for those who may not mount one.
	smallDisk = "RASTERLOOM_TEST_SMALL_DISK"
)

// The disk of the table is full when the migration needs it: the migration stops
// and says so, the table is as it was, and with some room it goes on.
func TestDiskFills(t *testing.T) {
	disk := mountSmallDisk(t)
	seed := newSeed(t)
	random := rand.New(rand.NewPCG(seed, 3))
	server := pgtest.NewServer(t, nil)
	sc := script{setup: []string{
		fmt.Sprintf("CREATE TABLESPACE small LOCATION '%s'", disk.tablespace(t, server)),
		"ALTER TABLE public.passthrough_birds SET TABLESPACE small",
		"ALTER INDEX public.passthrough_birds_pkey SET TABLESPACE small",
	}}
	s := newScene(t, build(t), sc, seed, shape{rows: 400, cols: 400, large: true}, server)
	s.patience = 5 * time.Minute
	defer s.close()
	s.listen()
	before := s.dump()
	s.serve(false)
	full, stopped := 0, map[string]int{}
	runs := times(3, 20)
	for i := range runs {
		s.do("CHECKPOINT") // files of dropped tables are emptied by now, and gone by then
		room := int64(random.IntN(16 << 20))
		disk.fill(t, room)
		key := fmt.Sprint("k", i)
		m := s.stands(key)
		if m.GetCondition() == schemav1.MigrationCondition_MIGRATION_CONDITION_FAILED {
			full++
			stopped[strings.TrimPrefix(m.GetState().String(), "MIGRATION_STATE_")]++
			if m.GetFailure().GetReason() != "DISK_FULL" {
				t.Errorf("with %d bytes left it failed by %v", room, m.GetFailure())
			}
			if n := s.count("SELECT count(*) FROM information_schema.columns WHERE table_schema = 'public' AND table_name = 'passthrough_birds'"); n != 3 {
				t.Errorf("the table has %d columns", n)
			}
			s.look("with a full disk", nil)
		}
		disk.clear(t)
		if m.GetCondition() == schemav1.MigrationCondition_MIGRATION_CONDITION_FAILED {
			if _, err := s.client().ResumeMigration(t.Context(), connect.NewRequest(&schemav1.ResumeMigrationRequest{Id: m.GetId(), Etag: m.GetEtag()})); err != nil {
				t.Fatal(err)
			}
		}
		s.driveAs(key, migrate.RolledBack)
		s.look("after a full disk", nil)
		if after := s.dump(); after != before {
			t.Fatalf("the schema is not what it was:\n%s\n--- before\n%s", after, before)
		}
		s.orphans()
	}
	t.Logf("%d runs, the disk of %d MiB was full in %d of them, in %v; each stopped with DISK_FULL, the table untouched, and went on to the end", runs, smallDiskBytes>>20, full, stopped)
	if full == 0 {
		t.Error("the disk was never full")
	}
}

// stands starts a migration and waits until it stands still.
func (s *scene) stands(key string) *schemav1.Migration {
	s.t.Helper()
	for deadline := time.Now().Add(s.patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		began, err := s.client().StartMigration(s.t.Context(), connect.NewRequest(&schemav1.StartMigrationRequest{
			Spec: &schemav1.MigrationSpec{Layer: "birds"}, IdempotencyKey: key,
			// Whoever believes this is in for it: measured, the disk would have been
			// found too small before anything began.
			DiskHeadroomBytes: new(int64(1 << 40)),
		}))
		if err != nil {
			continue // the service may not be up yet
		}
		m := began.Msg.GetMigration()
		if m.GetCondition() == schemav1.MigrationCondition_MIGRATION_CONDITION_FAILED || m.GetState() == schemav1.MigrationState_MIGRATION_STATE_VERIFIED {
			return m
		}
	}
	s.t.Fatal("the migration does not come to stand")
	return nil
}

// disk is a small file system.
type disk struct{ dir string }

// mountSmallDisk mounts a tmpfs of 64 MiB. Who may not mount, names a file system
// by RASTERLOOM_TEST_SMALL_DISK; with neither, this is not proved, and make crash
// fails, while make test says so where it is seen.
func mountSmallDisk(t *testing.T) *disk {
	t.Helper()
	d := &disk{dir: os.Getenv(smallDisk)}
	if d.dir == "" && runtime.GOOS == "linux" && os.Geteuid() == 0 {
		dir, err := os.MkdirTemp("", "rldisk") //nolint:usetesting // PostgreSQL's account must reach it
		if err != nil {
			t.Fatal(err)
		}
		err = mount(dir)
		t.Cleanup(func() {
			if err == nil {
				if err := unmount(dir); err != nil {
					t.Error(err)
				}
			}
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		})
		if err == nil {
			err = os.Chmod(dir, 0o711)
		}
		if err == nil {
			d.dir = dir
		} else {
			t.Log(err)
		}
	}
	if d.dir == "" {
		const say = "NOT PROVED HERE: what a migration does when the disk is full. Run as root on Linux, or name a file system of 64 MiB by " + smallDisk
		if long {
			t.Fatal(say)
		}
		fmt.Fprintln(os.Stderr, say)
		t.Skip(say)
	}
	if size, _ := d.bytes(t); size > 2*smallDiskBytes {
		t.Fatalf("%s has %d bytes; a small file system is wanted", d.dir, size)
	}
	return d
}

func (d *disk) bytes(t *testing.T) (size, free int64) {
	t.Helper()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &fs); err != nil {
		t.Fatal(err)
	}
	return int64(fs.Blocks) * fs.Bsize, int64(fs.Bavail) * fs.Bsize
}

// tablespace makes a directory for the server's account.
func (d *disk) tablespace(t *testing.T, server *pgtest.Server) string {
	t.Helper()
	dir := filepath.Join(d.dir, "tablespace")
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		uid, gid := server.Account(t)
		err = os.Chown(dir, uid, gid)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// fill leaves so many bytes on the disk.
func (d *disk) fill(t *testing.T, room int64) {
	t.Helper()
	f, err := os.Create(filepath.Join(d.dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 64<<10)
	_, free := d.bytes(t)
	_, err = w.Write(make([]byte, max(0, free-room)))
	if err = errors.Join(err, w.Flush()); err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

func (d *disk) clear(t *testing.T) {
	t.Helper()
	if err := os.Remove(filepath.Join(d.dir, "ballast")); err != nil {
		t.Fatal(err)
	}
}
