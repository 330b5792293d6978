package scenario

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// readsDemo compares the first table of the demo with the rasters of data/, as the
// longer demo does: every cell.
const readsDemo = `
import sys
sys.path[:0] = ["../../examples/demo"]
import demo, pyarrow.parquet as pq, rasterloom as rl
sst = pq.read_table(sys.argv[1] + "/sst.parquet")
lattice = rl.Lattice.of(sst.schema)
differing = demo.compare(sst, lattice, demo.expected_sst(lattice))
carolina = pq.read_table(sys.argv[1] + "/north_carolina.parquet")
print(differing, sst.num_rows, carolina.num_rows, carolina.num_columns, carolina["elevation"].null_count)
`

// The demo of the program alone weaves what is in data/, and shows commands that do it.
func TestDemoCommand(t *testing.T) {
	bin, folder := binaries(t), filepath.Join(t.TempDir(), "tables")
	// What the surroundings say of other suites is not for the demo.
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "rasterloom"), "demo", folder)
	cmd.Env = append(environment(), "DATABASE_URL=postgres://nobody@127.0.0.1:1/none", "RASTERLOOM_URL=http://127.0.0.1:1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	rest := string(out)
	for _, want := range []string{
		"63,537 rows of pixels in 15 tables", "$ rasterloom layers adopt", "Adopted 15 layers", "$ rasterloom align coads_sst_jan oisst_19811231", "SUBPIXEL_OFFSET",
		"$ rasterloom merge coads_sst_jan oisst_19811231 -o ", "11,894 rows", "--resampling=elevation=average", "2,080 rows", "Done",
	} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("no %q (after what comes before it) in:\n%s", want, out)
		}
		rest = after
	}
	if strings.Contains(string(out), "\x1b") {
		t.Error("colours although nobody sees them")
	}
	said, err := exec.CommandContext(t.Context(), "../../.venv/bin/python", "-c", readsDemo, folder).CombinedOutput()
	if err != nil || strings.TrimSpace(string(said)) != "0 11894 2080 15 0" {
		t.Errorf("differing cells, rows, rows, columns, nulls: %s (%v)", said, err)
	}
	if _, err := os.Stat(filepath.Join(folder, "rasterloom.log")); err != nil {
		t.Error(err)
	}
}

// Ctrl-C while a database is made is no failure of the database.
func TestDemoCommandStoppedEarly(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), filepath.Join(binaries(t), "rasterloom"), "demo", t.TempDir())
	cmd.Env = environment()
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(pipe)
	for said := ""; !strings.Contains(said, "Making a new database cluster"); {
		if said, err = out.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(rest); got != "error: stopped before the suite was up\n" {
		t.Errorf("says %q", got)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 130 {
		t.Errorf("%v, want status 130", err)
	}
}
