package scenario

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// readsTables compares the files of a merge with its table as pyarrow reads it by
// Flight: names, types, nulls and values.
const readsTables = `
import json, sys
import pyarrow as pa, pyarrow.csv, pyarrow.feather, pyarrow.flight as fl, pyarrow.parquet as pq
uri, spec, folder = sys.argv[1:]
with fl.connect(uri) as client:
    info = client.get_flight_info(fl.FlightDescriptor.for_command(spec.encode()))
    want = pa.concat_tables(client.do_get(e.ticket).read_all() for e in info.endpoints).combine_chunks()
assert want.num_rows > 100 and sum(c.null_count for c in want.columns) > 0, want
read = {
    "a.parquet": pq.read_table,
    "a.arrow": lambda path: pa.feather.read_table(path),
    "stdout": lambda path: pa.ipc.open_stream(path).read_all(),
}
for name, reader in read.items():
    got = reader(f"{folder}/{name}").combine_chunks()
    assert got.schema.equals(want.schema, check_metadata=False), (name, got.schema, want.schema)
    assert json.loads(got.schema.metadata[b"rasterloom"]) == json.loads(want.schema.metadata[b"rasterloom"]), name
    assert got.equals(want), name
types = pa.csv.ConvertOptions(column_types={f.name: f.type for f in want.schema})
assert pa.csv.read_csv(f"{folder}/a.csv", convert_options=types).cast(want.schema).combine_chunks().equals(want), "a.csv"
print(want.num_rows)
`

// A merge written by the command line is the table that Flight gives, in every
// form; and a file is there whole, or not at all.
func TestMergeCommand(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	address := pgtest.URL(t)
	pool := pgtest.Connect(t, address)
	if _, err := pool.Exec(t.Context(), catalog); err != nil {
		t.Fatal(err)
	}
	for _, r := range rasters(rand.New(rand.NewPCG(seed, 0))) {
		r.store(t, pool)
	}
	bin := binaries(t)
	s := oneProcess(t, bin, address)
	at := "--url=" + s.schema
	if got := command(t, bin, "layers", "adopt", at); got.status != 0 {
		t.Fatal(got.err)
	}
	folder := t.TempDir()
	in := func(name string) string { return filepath.Join(folder, name) }
	merge := func(more ...string) result {
		return command(t, bin, append([]string{"merge", "birds", "p=plants", "elevation-1", "--reference=birds", at}, more...)...)
	}
	for _, name := range []string{"a.parquet", "a.csv", "a.arrow"} {
		if got := merge("-o", in(name)); got.status != 0 || !strings.Contains(got.out, "rows") || strings.Contains(got.err, "error") {
			t.Fatalf("%s: status %d, %s%s", name, got.status, got.out, got.err)
		}
	}
	piped := merge("-o", "-")
	if err := os.WriteFile(in("stdout"), []byte(piped.out), 0o600); err != nil || piped.status != 0 {
		t.Fatalf("status %d, %v: %s", piped.status, err, piped.err)
	}
	spec := `{"layers": [{"name": "birds"}, {"name": "plants", "column": "p"}, {"name": "elevation-1"}], "reference": {"layer": "birds"}}`
	out, err := exec.CommandContext(t.Context(), "../../.venv/bin/python", "-c", readsTables, "grpc://"+s.flight, spec, folder).CombinedOutput()
	if err != nil {
		t.Errorf("pyarrow reads something else (%v):\n%s", err, out)
	}
	t.Logf("%s rows", strings.TrimSpace(string(out)))

	before, err := os.ReadFile(in("a.csv"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		args   []string
		status int
		want   []string
	}{
		{"an existing file", []string{"-o", in("a.csv")}, 1, []string{"a.csv exists already", "--force"}},
		{"an unknown form", []string{"-o", in("a.xlsx")}, 1, []string{".parquet, .csv or .arrow"}},
		{"no folder", []string{"-o", in("none/a.csv")}, 1, []string{"none", "no such file or directory"}},
		{"an unknown reference", []string{"--reference=brids", "-o", in("b.csv")}, 1, []string{"brids"}},
		{"no file", nil, 2, []string{"missing flags: --output=FILE"}},
		{"nobody there", []string{"--url=http://127.0.0.1:1", "-o", in("b.csv")}, 3, []string{"no merger service at http://127.0.0.1:1"}},
		{"no Flight there", []string{"--flight-url=grpc://127.0.0.1:1", "-o", in("b.csv")}, 3, []string{"no merger service at grpc://127.0.0.1:1"}},
		{"not a Flight address", []string{"--flight-url=http://127.0.0.1:1", "-o", in("b.csv")}, 1, []string{"grpc+tls://"}},
		{"another server there", []string{"--flight-url=grpc://" + strings.TrimPrefix(s.schema, "http://"), "-o", in("b.csv")}, 1, []string{"is --url right?"}},
	} {
		if got := merge(c.args...); got.status != c.status || c.status != 2 && got.out != "" {
			t.Errorf("%s: status %d, %s%s", c.name, got.status, got.out, got.err)
		} else {
			for _, w := range c.want {
				if !strings.Contains(got.err, w) {
					t.Errorf("%s: no %q in %s", c.name, w, got.err)
				}
			}
		}
	}
	if after, err := os.ReadFile(in("a.csv")); err != nil || string(after) != string(before) {
		t.Errorf("the file that was there has changed (%v)", err)
	}
	if got := merge("--rows-kept=all", "-o", in("a.csv"), "--force"); got.status != 0 {
		t.Errorf("--force: status %d, %s", got.status, got.err)
	}
	if after, err := os.ReadFile(in("a.csv")); err != nil || len(after) >= len(before) {
		t.Errorf("--force left %d bytes of %d (%v)", len(after), len(before), err)
	}
	if got := merge("--use-legacy-merge", "-o", in("legacy.arrow")); got.status != 0 || !strings.Contains(got.err, "deprecated") {
		t.Errorf("the old way: status %d, %s", got.status, got.err)
	}
	// A stored cell that cannot be woven shows only while the rows come.
	if _, err := pool.Exec(t.Context(), `INSERT INTO public.windowed_elevation_1 SELECT * FROM public.windowed_elevation_1 WHERE value IS NOT NULL LIMIT 1`); err != nil {
		t.Fatal(err)
	}
	if got := merge("-o", in("c.parquet")); got.status != 1 || !strings.Contains(got.err, "DUPLICATE_CELL") {
		t.Errorf("a cell stored twice: status %d, %s", got.status, got.err)
	}
	if got := merge("-o", "-"); got.status != 1 || strings.HasSuffix(got.out, "\xff\xff\xff\xff\x00\x00\x00\x00") {
		t.Errorf("a cell stored twice: status %d, and the stream on stdout has an end", got.status)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got, want := strings.Join(names, " "), "a.arrow a.csv a.parquet legacy.arrow stdout"; got != want {
		t.Errorf("the folder has %s, want %s", got, want)
	}
}
