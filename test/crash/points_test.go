package crash_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"testing"
)

// steps reads the names of all failpoints out of the source of the migrations: a
// step is hit under the name of the arrow that takes it ("cut-over/state"), so
// only its own name is here. A step that no run ever hits fails the test.
func steps(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("../../internal/pgstore/migration*.go")
	if err != nil || len(files) == 0 {
		t.Fatal("no source of the migrations", err)
	}
	found := map[string]bool{}
	add := func(e ast.Expr) {
		lit, ok := e.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return
		}
		text, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		found[filepath.Base(text)] = true
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				selector, ok := n.Fun.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				switch {
				case selector.Sel.Name == "exec" && len(n.Args) >= 3: // a.exec(ctx, "step", sql)
					add(n.Args[1])
				case selector.Sel.Name == "Hit": // failpoint.Hit(name + "/step")
					if sum, ok := n.Args[0].(*ast.BinaryExpr); ok {
						add(sum.Y)
					} else {
						add(n.Args[0])
					}
				}
			case *ast.CompositeLit: // statement{"step", sql}, and lists of them
				name := func(e ast.Expr) string {
					if i, ok := e.(*ast.Ident); ok {
						return i.Name
					}
					return ""
				}
				if list, ok := n.Type.(*ast.ArrayType); ok && name(list.Elt) == "statement" {
					for _, e := range n.Elts {
						add(e.(*ast.CompositeLit).Elts[0])
					}
				} else if name(n.Type) == "statement" {
					add(n.Elts[0])
				}
			}
			return true
		})
	}
	return found
}
