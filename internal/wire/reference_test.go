package wire_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/wire"
)

var update = flag.Bool("update", false, "write docs/reference/errors.md anew")

const (
	root       = "../.."
	errorsPage = root + "/docs/reference/errors.md"
)

// The page on errors is made from the contract's comments, from the one table of
// kinds and codes, from the places where faults are made, and from the classes of
// the Python client.
func TestReferenceOfErrorsIsFresh(t *testing.T) {
	comments, kinds, classes := reasonsOfTheContract(t), kindsInTheCode(t), classesOfPython(t)
	var b strings.Builder
	b.WriteString(`# Errors

Every error of a call, over Connect, gRPC or Arrow Flight, carries a reason (` + "`google.rpc.ErrorInfo`" + ` of the domain ` + "`" + wire.Domain + "`" + `) that stays the same from release to
release, and the names, measured values and limits of its message as fields. Programs look at reasons and fields, never at messages. The command line prints the
reason under the message, and with ` + "`--output=json`" + ` reason and fields as JSON; in Python they are ` + "`error.reason`" + ` and ` + "`error.fields`" + `.

Made from the contract, the code and the Python client by ` + "`go test ./internal/wire -run TestReferenceOfErrors -update`" + `.

## Reasons

| reason | code | meaning | what to do |
| --- | --- | --- | --- |
`)
	for _, reason := range fault.Reasons() {
		said, todo, ok := strings.Cut(comments[string(reason)], " To do: ")
		if !ok || todo == "" {
			t.Errorf("the contract does not say what to do about %s", reason)
		}
		if len(kinds[string(reason)]) == 0 {
			t.Errorf("nothing in the code is refused or fails by %s", reason)
		}
		var list []string
		for _, kind := range kinds[string(reason)] {
			list = append(list, "`"+codeName(wire.Code(kind))+"`")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", reason, strings.Join(list, ", "), said, todo)
	}
	b.WriteString(`
## Codes

| kind in the code | Connect, gRPC, Flight | number | Python exception | HTTP status of Connect |
| --- | --- | --- | --- | --- |
`)
	for _, kind := range fault.Kinds() {
		name := codeName(wire.Code(kind))
		if classes[name] == "" {
			t.Errorf("the Python client has no class for %s", name)
		}
		fmt.Fprintf(&b, "| %s | `%s` | %d | `rasterloom.%s` | %d |\n", kind, name, wire.Code(kind), classes[name], httpStatus[wire.Code(kind)])
	}
	b.WriteString(`
` + "`aborted`, `resource_exhausted` and `unavailable`" + ` pass by waiting: they carry a ` + "`RetryInfo`" + `. The rest fail again until something is changed.
A deadline of the client's own is ` + "`deadline_exceeded`" + `, in Python ` + "`rasterloom." + classes["deadline_exceeded"] + "`" + `; a call that the client gave up is ` + "`canceled`" + `.

Reasons of the Python client itself: ` + "`" + strings.Join(reasonsOfPython(t), "`, `") + "`" + `.
`)
	got := b.String()
	if *update {
		if err := os.WriteFile(errorsPage, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(errorsPage); err != nil || string(want) != got {
		t.Errorf("docs/reference/errors.md is not what the code says (%v): run this test with -update", err)
	}
}

// httpStatus is the table of the Connect protocol.
var httpStatus = map[codes.Code]int{
	codes.InvalidArgument: 400, codes.FailedPrecondition: 400, codes.OutOfRange: 400, codes.Unauthenticated: 401, codes.PermissionDenied: 403,
	codes.NotFound: 404, codes.AlreadyExists: 409, codes.Aborted: 409, codes.ResourceExhausted: 429, codes.Internal: 500, codes.DataLoss: 500,
	codes.Unimplemented: 501, codes.Unavailable: 503,
}

// codeName spells InvalidArgument as invalid_argument.
func codeName(c codes.Code) string {
	return strings.ToLower(regexp.MustCompile("([a-z])([A-Z])").ReplaceAllString(c.String(), "${1}_$2"))
}

// reasonsOfTheContract reads the comments of the enum.
func reasonsOfTheContract(t *testing.T) map[string]string {
	t.Helper()
	text := read(t, "proto/rasterloom/fault/v1/fault.proto")
	comments := map[string]string{}
	for _, m := range regexp.MustCompile(`((?:  //[^\n]*\n)+)  REASON_([A-Z_]+) = `).FindAllStringSubmatch(text, -1) {
		comments[m[2]] = strings.Join(strings.Fields(strings.ReplaceAll(m[1], "//", "")), " ")
	}
	return comments
}

// kindsInTheCode finds what kind each reason is stated as, where faults are made.
func kindsInTheCode(t *testing.T) map[string][]fault.Kind {
	t.Helper()
	kindOf, reasonOf := map[string]fault.Kind{}, map[string]string{}
	names := regexp.MustCompile(`(?m)^\t([A-Z]\w+) +(?:Kind = iota )?// `).FindAllStringSubmatch(read(t, "fault/fault.go"), -1)
	for i, kind := range fault.Kinds() {
		kindOf[names[i][1]] = kind
	}
	for _, m := range regexp.MustCompile(`(?m)^\t(\w+) +Reason = "([A-Z_]+)"`).FindAllStringSubmatch(read(t, "fault/fault.go"), -1) {
		reasonOf[m[1]] = m[2]
	}
	found := map[string][]fault.Kind{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && path != root:
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/cmd/") || strings.Contains(path, "/localpg/"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			// A kind and the reason after it: given to a function, returned or assigned.
			var list []ast.Expr
			switch n := n.(type) {
			case *ast.CallExpr:
				list = n.Args
			case *ast.ReturnStmt:
				list = n.Results
			case *ast.AssignStmt:
				list = n.Rhs
			}
			for i := 0; i+1 < len(list); i++ {
				kind, isKind := kindOf[ofFault(list[i])]
				reason, isReason := reasonOf[ofFault(list[i+1])]
				if isKind && isReason && !slices.Contains(found[reason], kind) {
					found[reason] = append(found[reason], kind)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, kinds := range found {
		slices.Sort(kinds)
	}
	return found
}

// ofFault is X of the expression fault.X.
func ofFault(e ast.Expr) string {
	if s, ok := e.(*ast.SelectorExpr); ok {
		if p, ok := s.X.(*ast.Ident); ok && p.Name == "fault" {
			return s.Sel.Name
		}
	}
	return ""
}

// classesOfPython are the exceptions of the client by their codes.
func classesOfPython(t *testing.T) map[string]string {
	t.Helper()
	classes := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^class (\w+)\(RasterloomError[^\n]*\n(?:[^\n]*\n)*?    code = "(\w+)"`).FindAllStringSubmatch(read(t, "python/src/rasterloom/errors.py"), -1) {
		classes[m[2]] = m[1]
	}
	return classes
}

// reasonsOfPython are those that no server states.
func reasonsOfPython(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(root + "/python/src/rasterloom/*.py")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	var reasons []string
	for _, file := range files {
		text := read(t, strings.TrimPrefix(file, root+"/"))
		for _, m := range regexp.MustCompile(`reason="([A-Z_]+)"`).FindAllStringSubmatch(text, -1) {
			if !slices.Contains(fault.Reasons(), fault.Reason(m[1])) && !slices.Contains(reasons, m[1]) {
				reasons = append(reasons, m[1])
			}
		}
	}
	slices.Sort(reasons)
	return reasons
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
