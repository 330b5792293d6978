package scenario

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5/pgxpool"

	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1/mergerv1connect"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

const (
	exportSide = 600
	// exportDisk is the size of a disk that can be full: more than one export, and
	// less than two.
	exportDisk = 8 << 20
)

// exporting is what exports are broken with.
type exporting struct {
	database *pgtest.Server
	url      string
	pool     *pgxpool.Pool
	rng      *rand.Rand
	dir      string
	whole    map[string]string // SHA-256 of each file of an export that nothing disturbed
	took     time.Duration
	ended    map[string]int // exports by what was done to them, and how they ended
}

// exporter is a server that can be killed, with a client of its exports.
type exporter struct {
	mortal
	exports mergerv1connect.ExportServiceClient
}

func newExporting(t *testing.T) *exporting {
	t.Helper()
	x := &exporting{database: pgtest.NewServer(t, nil), rng: seeded(t), dir: t.TempDir(), ended: map[string]int{}}
	x.url = x.database.URL(t)
	x.pool = pgtest.Connect(t, x.url)
	for _, sql := range []string{
		catalog,
		fmt.Sprintf(`INSERT INTO public.resampled_datasets (name, target_crs, bounds, shape_height, shape_width, data_type, data_table_name, metadata)
			SELECT name, 'EPSG:3035', ARRAY[0, 0, %[1]d, %[1]d], %[1]d, %[1]d, 'float64', 'resampled_' || name, '{}' FROM unnest(ARRAY['noise', 'waves']) AS name`, exportSide),
		// So that a file is of some size.
		fmt.Sprintf(`CREATE TABLE public.resampled_noise AS SELECT r AS row_idx, c AS col_idx, random() AS value
			FROM generate_series(0, %[1]d) r, generate_series(0, %[1]d) c`, exportSide-1),
		fmt.Sprintf(`CREATE TABLE public.resampled_waves AS SELECT r AS row_idx, c AS col_idx, sin(r * %[1]d + c) AS value
			FROM generate_series(0, %[1]d - 1) r, generate_series(0, %[1]d - 1) c WHERE (r + c) %% 10 <> 0`, exportSide),
		"ALTER TABLE public.resampled_noise ADD PRIMARY KEY (row_idx, col_idx)",
		"ANALYZE public.resampled_noise, public.resampled_waves",
	} {
		if _, err := x.pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

func (x *exporting) serve(t *testing.T, dir string) exporter {
	t.Helper()
	return x.serveUnder(t, nil, dir)
}

func (x *exporting) serveUnder(t *testing.T, command []string, dir string) exporter {
	t.Helper()
	m := newMortalUnder(t, command, x.url, x.pool, "--merger-export-dir="+dir)
	return exporter{m, mergerv1connect.NewExportServiceClient(m.http, m.merger)}
}

// begin starts the export, always the same.
func (e exporter) begin(ctx context.Context) (id string, err error) {
	started, err := e.exports.StartExport(ctx, connect.NewRequest(&mergerv1.StartExportRequest{Spec: &mergerv1.ExportSpec{
		Merge: &mergerv1.MergeSpec{Layers: []*mergerv1.LayerSelection{{Name: "noise"}, {Name: "waves"}}},
		Name:  "table", PartRows: exportSide * exportSide / 5,
	}}))
	if err != nil {
		return "", err
	}
	return started.Msg.GetExport().GetId(), nil
}

func (e exporter) mustBegin(t *testing.T) (id string) {
	t.Helper()
	for deadline := time.Now().Add(startLimit); ; time.Sleep(10 * time.Millisecond) {
		id, err := e.begin(t.Context())
		if err == nil {
			return id
		}
		// Connections that were cut are found out as they are used: try again.
		if connect.CodeOf(err) != connect.CodeUnavailable || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// watch follows an export until it is over, or see says that it saw enough. It
// gives what it saw last.
func (e exporter) watch(ctx context.Context, id string, see func(*mergerv1.Export) (enough bool)) (last *mergerv1.Export, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	watch, err := e.exports.WatchExport(ctx, connect.NewRequest(&mergerv1.WatchExportRequest{Id: id}))
	if err != nil {
		return nil, err
	}
	for watch.Receive() {
		last = watch.Msg().GetExport()
		if see != nil && see(last) {
			return last, nil
		}
	}
	return last, watch.Err()
}

// end waits until an export is over.
func (e exporter) end(t *testing.T, id string) *mergerv1.Export {
	t.Helper()
	last, err := e.watch(t.Context(), id, nil)
	if err != nil || last.GetState() <= mergerv1.ExportState_EXPORT_STATE_RUNNING {
		t.Fatalf("%v, %v", last, err)
	}
	return last
}

// await waits for the moment to break an export: any, or as soon as it writes.
func (x *exporting) await(t *testing.T, e exporter, id string) {
	t.Helper()
	if x.rng.IntN(2) == 0 {
		time.Sleep(time.Duration(x.rng.Int64N(int64(x.took))))
		return
	}
	if _, err := e.watch(t.Context(), id, func(j *mergerv1.Export) bool { return j.GetRows() > 0 }); err != nil {
		t.Fatal(err)
	}
}

// look says whether the export is there. It has to be so whole, with the bytes of
// one that nothing disturbed, or not at all.
func (x *exporting) look(t *testing.T, dir, when string) (there bool) {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case d.IsDir() || d.Name() == "ballast":
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		name, err := filepath.Rel(dir, path)
		found[name] = hex.EncodeToString(sum[:])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) > 0 && x.whole != nil && !maps.Equal(found, x.whole) {
		t.Errorf("%s: there is %v, and whole is %v", when, found, x.whole)
	}
	if x.whole == nil {
		x.whole = found
	}
	return len(found) > 0
}

// staged lists what is hidden: unfinished parts, by the exports' ids.
func staged(t *testing.T, dir string) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, ".rasterloom-*", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// requireTruth checks that what an export says of itself is what is there, and
// that it left nothing else.
func (x *exporting) requireTruth(t *testing.T, what string, j *mergerv1.Export, reasons ...string) {
	t.Helper()
	there := x.look(t, x.dir, what)
	succeeded := j.GetState() == mergerv1.ExportState_EXPORT_STATE_SUCCEEDED
	if there != succeeded {
		t.Errorf("%s: the export is there: %v, and says %v", what, there, j)
	}
	if j.GetState() == mergerv1.ExportState_EXPORT_STATE_FAILED && !slices.Contains(reasons, j.GetFailure().GetReason()) {
		t.Errorf("%s: failed by %v, want %v", what, j.GetFailure(), reasons)
	}
	if left := staged(t, x.dir); len(left) > 0 {
		t.Errorf("%s: left over %v", what, left)
	}
	x.count(what, strings.ToLower(strings.TrimPrefix(j.GetState().String(), "EXPORT_STATE_")))
}

func (x *exporting) count(what, end string) { x.ended[what+" "+end]++ }

// again removes what is there and exports once more, to the same bytes.
func (x *exporting) again(t *testing.T, e exporter, what string) {
	t.Helper()
	x.remove(t)
	if j := e.end(t, e.mustBegin(t)); j.GetState() != mergerv1.ExportState_EXPORT_STATE_SUCCEEDED || !x.look(t, x.dir, "again after "+what) {
		t.Fatalf("again after %s: %v", what, j)
	}
	x.remove(t)
}

func (x *exporting) remove(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(x.dir, "table")); err != nil {
		t.Fatal(err)
	}
}

// restarted starts a server after one that is gone: it knows nothing of the old
// one's export, has cleared up after it, and takes the name if it is free.
func (x *exporting) restarted(t *testing.T, what, id string) {
	t.Helper()
	there := x.look(t, x.dir, what)
	e := x.serve(t, x.dir)
	_, err := e.exports.GetExport(t.Context(), connect.NewRequest(&mergerv1.GetExportRequest{Id: id}))
	if connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("%s: after a restart the export is %v", what, err)
	}
	if left := staged(t, x.dir); len(left) > 0 {
		t.Errorf("%s: after a restart there is %v", what, left)
	}
	if there {
		x.count(what, "whole")
		if _, err := e.begin(t.Context()); connect.CodeOf(err) != connect.CodeAlreadyExists {
			t.Errorf("%s: a name that is taken: %v", what, err)
		}
	} else {
		x.count(what, "nothing")
	}
	x.again(t, e, what)
	if err := e.process.Kill(); err != nil {
		t.Error(err)
	}
	<-e.exited
}

// Exports that are broken in every way are there whole, or not at all; what they
// say of themselves is so; and the same export afterwards has the same bytes.
func TestFaultExports(t *testing.T) {
	x := newExporting(t)
	e := x.serve(t, x.dir)
	if _, err := e.schemaClient().AdoptCatalog(t.Context(), connect.NewRequest(&schemav1.AdoptCatalogRequest{})); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if j := e.end(t, e.mustBegin(t)); j.GetState() != mergerv1.ExportState_EXPORT_STATE_SUCCEEDED || !x.look(t, x.dir, "undisturbed") || len(x.whole) != 6 {
		t.Fatalf("%v: %v", j, x.whole)
	}
	x.took = time.Since(began)
	x.remove(t)

	for range times(1, 20) {
		id := e.mustBegin(t)
		x.await(t, e, id)
		if _, err := e.exports.CancelExport(t.Context(), connect.NewRequest(&mergerv1.CancelExportRequest{Id: id})); err != nil && connect.CodeOf(err) != connect.CodeFailedPrecondition {
			t.Errorf("cancel: %v", err)
		}
		x.requireTruth(t, "cancelled:", e.end(t, id))
		x.remove(t)

		id = e.mustBegin(t)
		x.await(t, e, id)
		if _, err := x.pool.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name LIKE 'rasterloom%'`); err != nil {
			t.Fatal(err)
		}
		x.requireTruth(t, "backends terminated:", e.end(t, id), "DATABASE_UNAVAILABLE")
		x.remove(t)
	}
	x.again(t, e, "cancels and terminated backends")

	for range times(1, 10) {
		id := e.mustBegin(t)
		x.await(t, e, id)
		x.database.Kill(t)
		j := e.end(t, id)
		x.database.Start(t)
		x.requireTruth(t, "database killed:", j, "DATABASE_UNAVAILABLE")
		x.remove(t)
		x.pool.Reset()
		for deadline := time.Now().Add(startLimit); x.pool.Ping(t.Context()) != nil; time.Sleep(10 * time.Millisecond) { // it recovers
			if time.Now().After(deadline) {
				t.Fatal("the database does not come back")
			}
		}
		x.again(t, e, "a killed database")
	}
	x.race(t, e)
	_ = e.process.Kill()
	<-e.exited

	for range times(1, 20) {
		e := x.serve(t, x.dir)
		id := e.mustBegin(t)
		x.await(t, e, id)
		if err := e.process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-e.exited
		x.restarted(t, "server killed:", id)
	}
	for range times(1, 20) {
		x.stop(t)
	}
	x.fill(t)
	for _, what := range slices.Sorted(maps.Keys(x.ended)) {
		t.Logf("%3d × %s", x.ended[what], what)
	}
	if !t.Failed() {
		t.Log("none was there in part, none said what was not so, and each export afterwards had the bytes of the undisturbed one")
	}
}

// stop has a server stop in the middle: who watches learns how the export ended.
func (x *exporting) stop(t *testing.T) {
	t.Helper()
	e := x.serve(t, x.dir)
	id := e.mustBegin(t)
	type told struct {
		job *mergerv1.Export
		err error
	}
	last := make(chan told, 1)
	seen := make(chan struct{}, 1)
	go func() {
		j, err := e.watch(context.Background(), id, func(*mergerv1.Export) bool {
			select {
			case seen <- struct{}{}:
			default:
			}
			return false
		})
		last <- told{j, err}
	}()
	<-seen // it is watched
	x.await(t, e, id)
	if err := e.process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-e.exited; err != nil {
		t.Errorf("a server that was asked to stop ended with %v", err)
	}
	if l := <-last; l.err != nil {
		t.Errorf("who watched a server that was asked to stop got %v after %v", l.err, l.job)
	} else {
		x.requireTruth(t, "server stopped:", l.job, "DRAINING")
	}
	x.restarted(t, "server stopped, and another started:", id)
}

// race has two servers write one name in one directory: one of them does.
func (x *exporting) race(t *testing.T, e exporter) {
	t.Helper()
	other := x.serve(t, x.dir)
	for range times(1, 20) {
		ended := make(chan *mergerv1.Export, 2)
		for _, side := range []exporter{e, other} {
			go func() {
				id, err := side.begin(t.Context())
				var last *mergerv1.Export
				if err == nil {
					last, err = side.watch(t.Context(), id, nil)
				} else if connect.CodeOf(err) == connect.CodeAlreadyExists {
					err = nil // the other one was faster by far
				}
				if err != nil {
					t.Error(err)
				}
				ended <- last
			}()
		}
		succeeded := 0
		for range 2 {
			switch j := <-ended; j.GetState() {
			case mergerv1.ExportState_EXPORT_STATE_SUCCEEDED:
				succeeded++
			case mergerv1.ExportState_EXPORT_STATE_FAILED:
				if j.GetFailure().GetReason() != "EXPORT_EXISTS" {
					t.Errorf("two of one name: %v", j.GetFailure())
				}
			}
		}
		if succeeded != 1 || !x.look(t, x.dir, "two of one name") {
			t.Errorf("%d of two exports to one name succeeded", succeeded)
		}
		x.count("two servers, one name:", "one of them")
		x.remove(t)
	}
	id := e.mustBegin(t)
	if _, err := e.begin(t.Context()); connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("a second export to the same name: %v", err)
	}
	e.end(t, id)
	x.remove(t)
	_ = other.process.Kill()
	<-other.exited
}

// fill has the disk be full at any place; with some room the export goes well.
// Who may not mount a small disk has the size of files limited instead.
func (x *exporting) fill(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	mount := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", exportDisk), "tmpfs", dir)
	if said, err := mount.CombinedOutput(); err != nil {
		t.Logf("files are limited, as no small disk can be mounted: %v %s", err, said)
		x.limitFiles(t)
		return
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	ours := x.dir
	x.dir = dir
	defer func() { x.dir = ours }()
	e := x.serve(t, dir)
	defer func() {
		_ = e.process.Kill()
		<-e.exited
	}()
	size := int64(0)
	for range times(2, 20) {
		ballast := filepath.Join(dir, "ballast")
		room := exportDisk / 2 // not enough, at first
		if size > 0 {
			room = int(x.rng.Int64N(size))
		}
		if err := os.WriteFile(ballast, make([]byte, exportDisk-room-64<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		x.requireTruth(t, "disk full:", e.end(t, e.mustBegin(t)), "DISK_FULL")
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		x.remove(t) // it may have fitted after all
		j := e.end(t, e.mustBegin(t))
		if size = j.GetBytes(); size < exportDisk/2 || j.GetState() != mergerv1.ExportState_EXPORT_STATE_SUCCEEDED || !x.look(t, dir, "after a full disk") {
			t.Fatalf("after a full disk: %v", j)
		}
		x.remove(t)
	}
}

// limitFiles has the kernel refuse to write more of a file.
func (x *exporting) limitFiles(t *testing.T) {
	t.Helper()
	e := x.serveUnder(t, []string{"sh", "-c", `ulimit -f 512; exec "$0" "$@"`}, x.dir)
	for range times(1, 20) {
		x.requireTruth(t, "file too large:", e.end(t, e.mustBegin(t)), "DISK_FULL")
	}
	_ = e.process.Kill()
	<-e.exited
	e = x.serve(t, x.dir)
	x.again(t, e, "files that were too large")
	_ = e.process.Kill()
	<-e.exited
}
