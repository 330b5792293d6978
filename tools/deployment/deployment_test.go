package deployment

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	promql "github.com/prometheus/prometheus/promql/parser"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const root = "../.."

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// variables are the environment variables that the programs read, from the tags
// of their configuration.
func variables(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{
		// Of the Go runtime and of PostgreSQL's clients.
		"GOMEMLIMIT": true, "GOMAXPROCS": true, "PGPASSWORD_FILE": true,
	}
	tag := regexp.MustCompile(`\benv:"([A-Z0-9_,]+)"`)
	prefix := regexp.MustCompile(`\benvprefix:"([A-Z0-9_]+)"`)
	tags, prefixes := []string{}, []string{""}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range prefix.FindAllSubmatch(text, -1) {
			prefixes = append(prefixes, string(m[1]))
		}
		for _, m := range tag.FindAllSubmatch(text, -1) {
			tags = append(tags, strings.Split(string(m[1]), ",")...)
		}
		return err
	})
	// A prefix may be in another file than the names that it is for.
	for _, name := range tags {
		for _, p := range prefixes {
			known[p+name] = true
		}
	}
	if err != nil || len(known) < 10 {
		t.Fatalf("%d variables found in the code: %v", len(known), err)
	}
	return known
}

func TestCompose(t *testing.T) {
	known := variables(t)
	for _, profile := range []string{"", "monitoring"} {
		config := types.ConfigDetails{
			WorkingDir:  root,
			ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(root, "docker-compose.yml")}},
			Environment: types.Mapping{"DATABASE_PASSWORD": "check", "GRAFANA_PASSWORD": "check", "TICKET_KEY": "check"},
		}
		project, err := loader.LoadWithContext(t.Context(), config, func(o *loader.Options) {
			if profile != "" {
				o.Profiles = []string{profile}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"aligner", "merger", "postgres", "schema"}
		if profile != "" {
			want = []string{"aligner", "grafana", "merger", "postgres", "prometheus", "schema"}
		}
		if got := slices.Sorted(maps.Keys(project.Services)); !slices.Equal(got, want) {
			t.Errorf("profile %q has %v, want %v", profile, got, want)
		}
		for name, s := range project.Services {
			if s.HealthCheck == nil && s.Build == nil {
				t.Errorf("%s has no health check", name)
			}
			for _, p := range s.Ports {
				if p.HostIP != "127.0.0.1" {
					t.Errorf("%s publishes port %s on %q: only this machine should reach it", name, p.Published, p.HostIP)
				}
			}
			for _, v := range s.Volumes {
				if v.Type == types.VolumeTypeBind {
					if _, err := os.Stat(filepath.Join(root, strings.TrimPrefix(v.Source, root))); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
			if s.Build == nil {
				continue
			}
			if !s.ReadOnly || !slices.Contains(s.CapDrop, "ALL") {
				t.Errorf("%s may write to its image or keeps capabilities", name)
			}
			for v := range s.Environment {
				if !known[v] {
					t.Errorf("%s sets %s, which no program reads", name, v)
				}
			}
		}
	}
}

func TestDockerfile(t *testing.T) {
	var warnings []string
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, message string, _ []parser.Range) {
		warnings = append(warnings, rule+": "+message)
	}})
	file, err := parser.Parse(bytes.NewReader(read(t, "Dockerfile")))
	if err != nil {
		t.Fatal(err)
	}
	stages, _, err := instructions.Parse(file.AST, lint)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range file.Warnings {
		warnings = append(warnings, w.Short)
	}
	if len(warnings) > 0 {
		t.Error(strings.Join(warnings, "\n"))
	}
	// Each directory that is copied exists, so that a move of code breaks here
	// and not in somebody's build.
	for _, stage := range stages {
		for _, command := range stage.Commands {
			from, ok := command.(*instructions.CopyCommand)
			if !ok || from.From != "" {
				continue
			}
			for _, path := range from.SourcePaths {
				for _, service := range []string{"aligner", "schema", "merger"} {
					if _, err := os.Stat(filepath.Join(root, strings.ReplaceAll(path, "${SERVICE}", service))); err != nil {
						t.Error(err)
					}
				}
			}
		}
	}
	last := stages[len(stages)-1]
	var user string
	for _, command := range last.Commands {
		if u, ok := command.(*instructions.UserCommand); ok {
			user = u.User
		}
	}
	if user != "nonroot" {
		t.Errorf("the image runs as %q", user)
	}
}

// decoded is one object of a manifest, decoded strictly: an unknown field, a
// field of the wrong type or an unknown kind is an error.
func decoded(t *testing.T, document []byte) any {
	t.Helper()
	var kind struct{ Kind string }
	if err := yaml.Unmarshal(document, &kind); err != nil {
		t.Fatal(err)
	}
	object := map[string]any{
		"Deployment": &appsv1.Deployment{}, "Service": &corev1.Service{}, "ConfigMap": &corev1.ConfigMap{},
		"Secret": &corev1.Secret{}, "Namespace": &corev1.Namespace{}, "NetworkPolicy": &networkingv1.NetworkPolicy{},
		"PodDisruptionBudget": &policyv1.PodDisruptionBudget{},
	}[kind.Kind]
	if object == nil {
		t.Fatalf("%q is no kind that this test knows", kind.Kind)
	}
	if err := yaml.UnmarshalStrict(document, object); err != nil {
		t.Fatalf("%s: %v", kind.Kind, err)
	}
	return object
}

func TestKubernetes(t *testing.T) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).
		Run(filesys.MakeFsOnDisk(), filepath.Join(root, "deploy/kubernetes/example"))
	if err != nil {
		t.Fatal(err)
	}
	var (
		deployments []*appsv1.Deployment
		services    = map[string]*corev1.Service{}
		keys        = map[string]bool{} // of secrets, as name/key
		maps        = map[string]bool{}
		secrets     = map[string]bool{}
		known       = variables(t)
		checkKnown  = func(where, variable string) {
			if !known[variable] {
				t.Errorf("%s sets %s, which no program reads", where, variable)
			}
		}
	)
	for _, resource := range built.Resources() {
		switch object := decoded(t, []byte(resource.MustYaml())).(type) {
		case *appsv1.Deployment:
			deployments = append(deployments, object)
		case *corev1.Service:
			services[object.Name] = object
		case *corev1.Secret:
			secrets[object.Name] = true
			for k := range object.Data {
				keys[object.Name+"/"+k] = true
			}
		case *corev1.ConfigMap:
			maps[object.Name] = true
			for v := range object.Data {
				checkKnown(object.Name, v)
			}
		}
	}
	if len(deployments) != 3 {
		t.Fatalf("%d deployments", len(deployments))
	}
	for _, d := range deployments {
		pod := d.Spec.Template.Spec
		c := pod.Containers[0]
		if c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem || !*pod.SecurityContext.RunAsNonRoot {
			t.Errorf("%s may write to its image or run as root", d.Name)
		}
		for _, e := range c.Env {
			checkKnown(d.Name, e.Name)
			if e.ValueFrom != nil && !keys[e.ValueFrom.SecretKeyRef.Name+"/"+e.ValueFrom.SecretKeyRef.Key] {
				t.Errorf("%s: %s refers to key %s of %s, which is not there", d.Name, e.Name, e.ValueFrom.SecretKeyRef.Key, e.ValueFrom.SecretKeyRef.Name)
			}
		}
		for _, e := range c.EnvFrom {
			if !maps[e.ConfigMapRef.Name] {
				t.Errorf("%s: there is no config map %s", d.Name, e.ConfigMapRef.Name)
			}
		}
		volumes := map[string]bool{}
		for _, v := range pod.Volumes {
			volumes[v.Name] = true
			if !secrets[v.Secret.SecretName] {
				t.Errorf("%s: there is no secret %s", d.Name, v.Secret.SecretName)
			}
		}
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				t.Errorf("%s: there is no volume %s", d.Name, m.Name)
			}
		}
		service := services[d.Name]
		if service == nil {
			t.Errorf("no service %s", d.Name)
			continue
		}
		for k, v := range service.Spec.Selector {
			if d.Spec.Template.Labels[k] != v {
				t.Errorf("service %s selects %s=%s, the pods have %q", d.Name, k, v, d.Spec.Template.Labels[k])
			}
		}
		for _, p := range service.Spec.Ports {
			if !slices.ContainsFunc(c.Ports, func(at corev1.ContainerPort) bool {
				return at.Name == p.TargetPort.StrVal && at.ContainerPort == p.Port
			}) {
				t.Errorf("service %s has port %s (%d), the pods do not", d.Name, p.TargetPort.StrVal, p.Port)
			}
		}
	}
}

// metrics are the names that docs/metrics.md describes, which a test of the
// suite holds equal to what a running one shows.
func metrics(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{
		"up": true, "process_resident_memory_bytes": true, "process_open_fds": true, "process_cpu_seconds_total": true, "go_goroutines": true,
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(rasterloom_[a-z_]+)` \\| ([a-z]+)").FindAllStringSubmatch(string(read(t, "docs/metrics.md")), -1) {
		known[m[1]] = true
		if m[2] == "histogram" {
			known[m[1]+"_bucket"], known[m[1]+"_sum"], known[m[1]+"_count"] = true, true, true
		}
	}
	return known
}

func checkQuery(t *testing.T, where, query string, known map[string]bool) {
	t.Helper()
	expr, err := promql.NewParser(promql.Options{}).ParseExpr(query)
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	promql.Inspect(expr, func(node promql.Node, _ []promql.Node) error {
		if v, ok := node.(*promql.VectorSelector); ok && !known[v.Name] {
			t.Errorf("%s asks for %s, which docs/metrics.md does not know", where, v.Name)
		}
		return nil
	})
}

func TestAlerts(t *testing.T) {
	known := metrics(t)
	groups, errs := rulefmt.Parse(read(t, "deploy/prometheus/alerts.yml"), false, model.UTF8Validation, promql.NewParser(promql.Options{}), slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	count := 0
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			count++
			checkQuery(t, r.Alert, r.Expr, known)
			if r.Annotations["summary"] == "" || r.Labels["severity"] == "" {
				t.Errorf("%s has no summary or severity", r.Alert)
			}
		}
	}
	if count == 0 {
		t.Error("no rules")
	}
}

func TestDashboard(t *testing.T) {
	known := metrics(t)
	var board struct {
		UID    string
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(read(t, "deploy/grafana/rasterloom.json"), &board); err != nil {
		t.Fatal(err)
	}
	if board.UID == "" || len(board.Panels) == 0 {
		t.Fatal("no panels")
	}
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			checkQuery(t, p.Title, strings.ReplaceAll(target.Expr, "$__rate_interval", "1m"), known)
		}
	}
}
