package scenario

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// result is what a command said and how it ended.
type result struct {
	out, err string
	status   int
}

func command(t *testing.T, bin string, args ...string) result {
	t.Helper()
	return run(t, bin, "rasterloom", args...)
}

// run is command for any of the programs.
func run(t *testing.T, bin, program string, args ...string) result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, program), args...)
	cmd.Env = environment()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// What the command line prints, where, and how it ends.
func TestCommandLine(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	address := pgtest.URL(t)
	pool := pgtest.Connect(t, address)
	if _, err := pool.Exec(t.Context(), catalog); err != nil {
		t.Fatal(err)
	}
	for _, r := range append(rasters(random), damaged(random)...) {
		r.store(t, pool)
	}
	bin := binaries(t)
	s := oneProcess(t, bin, address)
	at := "--url=" + s.schema

	for _, c := range []struct {
		name   string
		args   []string
		status int
		out    []string // in this order
		err    []string
	}{
		{"nothing adopted", []string{"layers", "list", at}, 0, []string{"No layers", "layers adopt"}, nil},
		{"dry run", []string{"layers", "adopt", "--dry-run", at}, 0, []string{"birds", "Would adopt 7 layers"}, nil},
		{"still nothing", []string{"layers", "list", at}, 0, []string{"No layers"}, nil},
		{"adopt", []string{"layers", "adopt", at}, 0, []string{"birds", "legacy", "30 × 40", "Adopted 7 layers", "7 new", "2 that cannot be read"}, nil},
		{"adopt again", []string{"layers", "adopt", "resampled_datasets", at}, 0, []string{"0 new, 0 changed, 7 as before"}, nil},
		{"list some", []string{"layers", "list", "--format=windowed", at}, 0, []string{"elevation-1"}, nil},
		{"show", []string{"layers", "show", "plants", at}, 0, []string{"plants", "public.resampled_plants", "25 rows × 50 columns", "EPSG:3035"}, nil},
		{"scan", []string{"layers", "show", "birds", "--scan", at}, 0, []string{"birds", "rows just now"}, nil},
		{"show what is wrong", []string{"layers", "show", "ghost", at}, 0, []string{"invalid", "TABLE_MISSING"}, nil},
		{"align", []string{"align", "birds", "plants", "elevation-1", "--reference=birds", at}, 0, []string{"Reference: birds", "birds", "IDENTICAL", "plants", "SHIFT", "-2, 3", "-3", "elevation-1", "ALIGNED"}, nil},
		{"align everything", []string{"align", at}, 0, []string{"elsewhere", "DISJOINT", "utm", "REPROJECT"}, nil},
		{"plan", []string{"plan", "b=birds", "plants", at}, 0, []string{"column", "b", "float64", "birds", "Arrow Flight", "grpc://"}, nil},
		{"plan resampled", []string{"plan", "birds", "p=plants", "--reference=birds", "--resampling=p=bilinear", "--min-share=0.5", at}, 0, []string{"p", "float64", "plants", "warning", "plants: resampled by bilinear", "as asked for this layer"}, nil},
		{"resample by nothing known", []string{"plan", "birds", "plants", "--resampling=plants=bicubic", at}, 1, nil, []string{"error:", "bicubic", "--help"}},
		{"resample nobody", []string{"plan", "birds", "plants", "--resampling=plant=mode", at}, 1, nil, []string{"error:", "plant", "neither a column nor a layer"}},
		{"plan the old way", []string{"plan", "birds", "--use-legacy-merge", at}, 0, []string{"warning", "use_legacy_merge is deprecated"}, nil},
		{"compare", []string{"compare", "birds", "p=plants", "elevation-1", at}, 0, []string{"column", "birds", "p", "EQUAL", "bit for bit"}, nil},
		{"unknown layer", []string{"align", "birds", "brids", at}, 1, nil, []string{"error:", "brids", "birds", "LAYER_NOT_FOUND"}},
		{"bad tolerance", []string{"align", "birds", "plants", "--tolerance=0.7", at}, 1, nil, []string{"error:", "0.7", "INVALID_ARGUMENT"}},
		{"no such catalog", []string{"layers", "adopt", "public.none", at}, 1, nil, []string{"error:", "public.none", "CATALOG_NOT_FOUND"}},
		{"nobody there", []string{"layers", "list", "--url=http://127.0.0.1:1"}, 3, nil, []string{"error: no schema service at http://127.0.0.1:1", "rasterloom up"}},
		{"unknown flag", []string{"layers", "list", "--colour"}, 2, nil, []string{"unknown flag --colour"}},
		{"no command", nil, 2, nil, []string{"Usage: rasterloom", "merge"}},
		{"port in use", []string{"up", "--listen=" + strings.TrimPrefix(s.schema, "http://"), "--throwaway"}, 1, nil, []string{"is in use", "--listen"}},
		{"two databases", []string{"up", "--database-url=postgres:///x", "--throwaway"}, 1, nil, []string{"give one of them"}},
		{"no database", []string{"up", "--listen=127.0.0.1:0", "--flight-listen=127.0.0.1:0", "--database-url=postgres://u:hunter2@127.0.0.1:1/x"}, 1, nil, []string{"error:"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := command(t, bin, c.args...)
			if got.status != c.status {
				t.Errorf("status %d, want %d", got.status, c.status)
			}
			for _, stream := range []struct {
				said string
				want []string
			}{{got.out, c.out}, {got.err, c.err}} {
				rest := stream.said
				for _, w := range stream.want {
					_, after, found := strings.Cut(rest, w)
					if !found {
						t.Errorf("no %q (after what comes before it) in:\n%s", w, stream.said)
						break
					}
					rest = after
				}
			}
			if strings.Contains(got.out+got.err, "\x1b") {
				t.Error("colours although nobody sees them")
			}
			if strings.Contains(got.out+got.err, "hunter2") {
				t.Error("a password is printed")
			}
			if c.status == 0 && got.err != "" {
				t.Errorf("said on stderr: %s", got.err)
			}
		})
	}
	for _, args := range [][]string{
		{"layers", "list"}, {"layers", "adopt"}, {"layers", "show", "birds"}, {"align", "birds", "plants"}, {"plan", "birds"}, {"compare", "birds", "plants"},
	} {
		got := command(t, bin, append(args, at, "--output=json")...)
		if !json.Valid([]byte(got.out)) || got.status != 0 {
			t.Errorf("%v: status %d, %s%s", args, got.status, got.out, got.err)
		}
	}
	got := command(t, bin, "layers", "show", "brids", at, "-ojson")
	said := struct {
		Error struct{ Reason, Message string }
	}{}
	if err := json.Unmarshal([]byte(got.err), &said); err != nil || said.Error.Reason != "LAYER_NOT_FOUND" || said.Error.Message == "" || got.status != 1 {
		t.Errorf("an error as JSON is %q (%v), status %d", got.err, err, got.status)
	}
}
