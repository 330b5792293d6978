package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/rasterloom/rasterloom"

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath string
	Standard   bool
	GoFiles    []string
	Imports    []string
	Deps       []string
}

// importGraph lists the packages of every module of the workspace, and what
// they depend on.
func importGraph(t *testing.T) map[string]pkg {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Standard,GoFiles,Imports,Deps", module+"/...")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOWORK="+filepath.Join(root, "go.work"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	graph := map[string]pkg{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return graph
		} else if err != nil {
			t.Fatal(err)
		}
		graph[p.ImportPath] = p
	}
}

func TestEveryPackageKeepsToItsRoom(t *testing.T) {
	graph := importGraph(t)
	used := map[string]bool{}
	ours := 0
	for path, p := range graph {
		below, mine := strings.CutPrefix(path, module+"/")
		if !mine || len(p.GoFiles) == 0 {
			continue
		}
		ours++
		if slices.Contains(tests, below) {
			continue
		}
		r, star, found := roomOf(below)
		if !found {
			t.Errorf("%s is in no room: give it one in internal/archtest/rooms.go and docs/architecture.md", below)
			continue
		}
		used[r.path] = true
		for _, imported := range p.Imports {
			if !mayImport(r, star, imported, graph[imported].Standard) {
				t.Errorf("%s must not import %s: %s", below, imported, r.why)
			}
		}
		for _, rule := range append([]room{r}, bansOn(below)...) {
			for _, dep := range p.Deps {
				if under(dep, rule.never) && dep != interfacesOfSQL {
					t.Errorf("%s must not depend on %s, and does through %v: %s", below, dep, chain(graph, path, dep), rule.why)
				}
			}
		}
	}
	for _, r := range rooms {
		if !used[r.path] {
			t.Errorf("no package is in the room %s: take it out of the table", r.path)
		}
	}
	if ours < 20 {
		t.Errorf("only %d packages found", ours)
	}
}

// TestTheRuleBites shows that the test can fail: imports that the rule forbids
// are found out.
func TestTheRuleBites(t *testing.T) {
	for _, c := range []struct {
		from, imported string
		standard, want bool
	}{
		{"grid", "math", true, true},
		{"grid", "context", true, false},
		{"grid", "net/http", true, false},
		{"grid", module + "/fault", false, true},
		{"grid", module + "/internal/layer", false, false},
		{"internal/pgstore", module + "/gen/rasterloom/layer/v1", false, false},
		{"internal/pgstore", "github.com/jackc/pgx/v5/pgxpool", false, true},
		{"internal/boot", module + "/gen/rasterloom/layer/v1", false, false},
		{"services/merger", module + "/services/aligner", false, false},
		{"services/merger", module + "/services/merger/internal/flight", false, true},
		{"services/merger/internal/rpc", module + "/services/merger/internal/merge", false, true},
		{"services/merger/internal/rpc", module + "/services/schema/internal/catalog", false, false},
		{"services/merger/internal/rpc", "github.com/apache/arrow-go/v18/arrow", false, false},
		{"services/merger/cmd/merger", module + "/services/merger", false, true},
		{"services/merger/cmd/merger", module + "/internal/pgstore", false, false},
		{"cmd/rasterloom", "github.com/jackc/pgx/v5", false, false},
	} {
		r, star, found := roomOf(c.from)
		if !found {
			t.Fatalf("%s is in no room", c.from)
		}
		if got := mayImport(r, star, c.imported, c.standard); got != c.want {
			t.Errorf("%s may import %s: %v, want %v", c.from, c.imported, got, c.want)
		}
	}
	if _, _, found := roomOf("internal/utils"); found {
		t.Error("internal/utils has a room")
	}
}

// roomOf finds the room of a package, and what the first "*" stands for.
func roomOf(below string) (r room, star string, found bool) {
	for _, r := range rooms {
		if star, ok := match(r.path, below); ok {
			return r, star, true
		}
	}
	return room{}, "", false
}

func bansOn(below string) []room {
	var on []room
	for _, b := range bans {
		if _, ok := match(b.path, below); ok {
			on = append(on, b)
		}
	}
	return on
}

func match(pattern, path string) (star string, ok bool) {
	wants, has := strings.Split(pattern, "/"), strings.Split(path, "/")
	if i := len(wants) - 1; wants[i] == "…" {
		if wants = wants[:i]; len(has) > i {
			has = has[:i]
		}
	}
	if len(wants) != len(has) {
		return "", false
	}
	for i, want := range wants {
		switch {
		case want == "*" && star == "":
			star = has[i]
		case want == "*" && star != has[i], want != "*" && want != has[i]:
			return "", false
		}
	}
	return star, true
}

func mayImport(r room, star, imported string, standard bool) bool {
	if standard {
		return !under(imported, r.std)
	}
	for _, allowed := range r.may {
		allowed = strings.ReplaceAll(allowed, "*", star)
		if under(imported, []string{allowed}) {
			// A front door is open to its command and to the suite; the rooms
			// behind it are not.
			return allowed != "services/"+star && !isFrontDoor(allowed) || imported == module+"/"+allowed
		}
	}
	return false
}

func isFrontDoor(allowed string) bool {
	return strings.HasPrefix(allowed, "services/") && strings.Count(allowed, "/") == 1
}

// under reports whether an import path is one of the roots or below one. Roots
// without a dot in their first element are below our module.
func under(imported string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		for _, full := range []string{root, module + "/" + root} {
			if imported == full || strings.HasPrefix(imported, full+"/") {
				return true
			}
		}
		return false
	})
}

// chain finds a shortest way by which a package depends on another.
func chain(graph map[string]pkg, from, to string) []string {
	came := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if at == to {
			var way []string
			for ; at != from; at = came[at] {
				way = append([]string{at}, way...)
			}
			return way
		}
		for _, next := range graph[at].Imports {
			if _, seen := came[next]; !seen {
				came[next] = at
				queue = append(queue, next)
			}
		}
	}
	return nil
}
