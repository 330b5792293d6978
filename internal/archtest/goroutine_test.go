package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// plain are the functions that start a goroutine which cannot panic, or whose
// panic is rightly the end of the process, and why.
var plain = map[string]string{
	"cmd/rasterloom/demo.go Run":                        "a command of one's own, not a server",
	"cmd/rasterloom/merge.go pipe":                      "a command of one's own, not a server",
	"cmd/rasterloom/print.go waiting":                   "a command of one's own, not a server",
	"cmd/rasterloom/up.go watch":                        "it waits for one of two things",
	"internal/boot/process.go Serve":                    "net/http and grpc-go recover each call by themselves; a server that is gone is the end",
	"internal/boot/process.go drain":                    "the process ends anyway",
	"internal/boot/process.go stopGracefully":           "the process ends anyway",
	"internal/localpg/process.go run":                   "it waits for a process to end",
	"internal/localpg/registry.go unpack":               "before anything is served",
	"services/merger/internal/export/queue.go dispatch": "what it runs is guarded by the queue; the rest is bookkeeping under a lock",
	"services/schema/internal/ingest/ingest.go start":   "work recovers by itself",
	"services/schema/wait.go openCatalog":               "migrate is guarded in its loop",
}

// A panic in a goroutine of ours would end the process, and everybody's calls with
// it: each goroutine has a guard, or a reason to have none.
func TestGoroutinesAreGuarded(t *testing.T) {
	seen, started := map[string]bool{}, 0
	for _, top := range []string{"cmd", "fault", "grid", "internal", "services"} {
		err := filepath.WalkDir(filepath.Join("../..", top), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/pgtest/") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			for _, decl := range file.Decls {
				f, ok := decl.(*ast.FuncDecl)
				if !ok {
					continue
				}
				for _, body := range goroutines(f) {
					started++
					name := filepath.ToSlash(strings.TrimPrefix(path, "../../")) + " " + f.Name.Name
					seen[name] = true
					if _, reason := plain[name]; !reason && !guarded(body) {
						t.Errorf("%s starts a goroutine without a guard: let it go through fault.Guard", name)
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name := range plain {
		if !seen[name] {
			t.Errorf("%s starts no goroutine any more: take it off the list", name)
		}
	}
	if started < 15 {
		t.Errorf("only %d goroutines were found", started)
	}
	t.Logf("%d goroutines, %d of them without a guard for a reason", started, len(plain))
}

// goroutines gives what a function starts in a goroutine: go statements, and what
// is handed to a method Go, as of a sync.WaitGroup or an errgroup.Group.
func goroutines(f *ast.FuncDecl) (bodies []ast.Node) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			bodies = append(bodies, n.Call)
		case *ast.CallExpr:
			if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Go" && len(n.Args) == 1 {
				bodies = append(bodies, n.Args[0])
			}
		}
		return true
	})
	return bodies
}

// guarded says whether something in it recovers.
func guarded(body ast.Node) (found bool) {
	ast.Inspect(body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		found = found || slices.Contains([]string{"recover", "guarded", "Guard"}, nameOf(call.Fun))
		return true
	})
	return found
}

func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	default:
		return ""
	}
}
