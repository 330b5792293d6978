package export

import (
	"strings"
	"testing"

	"github.com/rasterloom/rasterloom/fault"
)

func TestNames(t *testing.T) {
	for _, name := range []string{"a", "7", "a.parquet", "A-b_c.d", "nul", strings.Repeat("x", 128)} {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{
		"", ".", "..", ".a", "-a", "_a", "a/b", "/a", `a\b`, `C:\a`, "a:b", "a b", "a\x00b", "a\n", "ä", "a\u202e", "a%2fb", "s3://a", "~a", "a*",
		"a\xff", strings.Repeat("x", 129),
	} {
		if f := requireFault(t, CheckName(name), fault.Invalid, fault.InvalidArgument); f.Fields["field"] != "spec.name" {
			t.Errorf("%q: fields %v", name, f.Fields)
		}
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"a.parquet", "../a", "a/b", ".", "\xff", "a\u202eb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if CheckName(name) != nil {
			return
		}
		if len(name) > 128 || strings.ContainsAny(name, "/\\:%*? \x00\n") || name[0] == '.' || name[0] == '-' || strings.TrimFunc(name, func(r rune) bool {
			return r < 0x80 && r > 0x20
		}) != "" {
			t.Errorf("%q passed", name)
		}
	})
}

func TestParts(t *testing.T) {
	for _, test := range []struct {
		name        string
		rows, cols  int
		asked, want int64
		reason      fault.Reason
	}{
		{"a.parquet", 3, 4, 0, 12, ""},
		{"a.parquet", 3, 4, 5, 0, fault.InvalidArgument},
		{"a", 3, 4, 5, 5, ""},
		{"a", 3, 4, 0, (512 << 20) * 8 / 193 / batchRows * batchRows, ""}, // 24 bytes and a bit
		// So many rows that parts of the usual size would be too many.
		{"a", 1 << 20, 1 << 19, 0, (1<<39/10_000/batchRows + 1) * batchRows, ""},
		{"a", 1000, 1000, 99, 0, fault.LimitExceeded},
		{"a", 1000, 1000, 100, 100, ""},
		{"../a", 3, 4, 0, 0, fault.InvalidArgument},
	} {
		p := plan(t, 3, 4)
		p.Limits.Cells = 1 << 40
		p.Limits.MemoryBytes = 1 << 40
		g := p.Lattice
		g.Rows, g.Cols = test.rows, test.cols
		p.Lattice, p.Window, p.Threads[0].Layer.Grid = g, g.Window(), g
		if err := p.Complete(); err != nil {
			t.Fatal(err)
		}
		o := Order{Name: test.name, PartRows: test.asked, Plan: p}
		err := o.Complete()
		if test.reason != "" {
			if f := fault.From(err); f == nil || f.Reason != test.reason {
				t.Errorf("%+v: %v", test, err)
			}
			continue
		}
		if err != nil || o.PartRows != test.want {
			t.Errorf("%+v: %d rows a part, %v", test, o.PartRows, err)
		}
	}
}
