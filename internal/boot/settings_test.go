package boot_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/rasterloom/rasterloom/internal/boot"
)

// settingsProgram is a command line with the kinds of settings that there are.
type settingsProgram struct {
	boot.ConfigFile
	Up struct {
		Listen string        `default:"127.0.0.1:1" env:"SETTINGS_LISTEN"`
		Wait   time.Duration `default:"1s" env:"SETTINGS_WAIT"`
		Level  string        `enum:"low,high" default:"low" env:"SETTINGS_LEVEL"`
		Key    boot.Secret   `env:"SETTINGS_KEY"`
		Names  []string      `env:"SETTINGS_NAMES"`
		Trust  bool          `env:"SETTINGS_TRUST"`
		Share  *float64      `env:"SETTINGS_SHARE"`
		Merger struct {
			MaxLayers int `default:"256" env:"SETTINGS_MAX_LAYERS"`
		} `embed:"" prefix:"merger-"`
		Force bool
	} `cmd:""`
	Ask struct {
		URL string `default:"http://127.0.0.1:2" env:"SETTINGS_URL"`
	} `cmd:""`
}

func readProgram(t *testing.T, text string, args ...string) (*settingsProgram, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "s.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var p settingsProgram
	parser, err := kong.New(&p, kong.Vars{"config_default": "none.", "config_path": ""})
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(append([]string{"--config", file}, args...))
	return &p, err
}

const settingsFile = `# For every command.
listen: 127.0.0.1:8400
wait: 3m
level: high
key: hunter2
names: [a, "b c"]
trust: yes
share: 0.5
merger:
  max-layers: 64
url: http://db.example:1
`

// A flag goes before the environment, that before the file, and that before the
// default.
func TestSettingsComeInTheirOrder(t *testing.T) {
	p, err := readProgram(t, settingsFile, "up")
	if err != nil {
		t.Fatal(err)
	}
	up := p.Up
	if up.Listen != "127.0.0.1:8400" || up.Wait != 3*time.Minute || up.Level != "high" || up.Key != "hunter2" || !slices.Equal(up.Names, []string{"a", "b c"}) ||
		!up.Trust || up.Share == nil || *up.Share != 0.5 || up.Merger.MaxLayers != 64 {
		t.Errorf("from the file: %+v", up)
	}
	t.Setenv("SETTINGS_LISTEN", "127.0.0.1:9")
	t.Setenv("SETTINGS_LEVEL", "low")
	if _, err = readProgram(t, settingsFile, "up", "--wait=7s", "--no-such=1"); err == nil {
		t.Error("an unknown flag is taken")
	}
	if p, err = readProgram(t, settingsFile, "up", "--wait=7s", "--level=high"); err != nil {
		t.Fatal(err)
	}
	if up = p.Up; up.Listen != "127.0.0.1:9" || up.Wait != 7*time.Second || up.Level != "high" || up.Merger.MaxLayers != 64 {
		t.Errorf("flag, environment, file: %+v", up)
	}
	if p, err = readProgram(t, "", "up"); err != nil || p.Up.Wait != time.Second || p.Up.Key != "" {
		t.Errorf("of an empty file: %+v, %v", p.Up, err)
	}
	if p, err = readProgram(t, settingsFile, "ask"); err != nil || p.Ask.URL != "http://db.example:1" {
		t.Errorf("of another command: %+v, %v", p.Ask, err)
	}
	if place := p.Settings().Place("merger-max-layers"); !strings.HasSuffix(place, "s.yaml:10") {
		t.Errorf("merger-max-layers comes from %q", place)
	}
}

// What is wrong with a file is told with its line, and no secret of it.
func TestSettingsThatCannotBeRead(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"an unknown name", "wait: 3s\nlistn: x\n", "s.yaml:2: there is no setting listn; the nearest is listen"},
		{"an unknown name, nested", "merger:\n  max_layers: 3\n", "s.yaml:2: there is no setting merger-max_layers; the nearest is merger-max-layers"},
		{"a name like nothing", "completely-different: x\n", "s.yaml:1: there is no setting completely-different; `config print` lists"},
		{"a flag of one command only", "force: true\n", "s.yaml:1: there is no setting force"},
		{"a value of another type", "\nwait: soon\n", `s.yaml:2: wait: expected duration but got "soon"`},
		{"a number that is none", "merger: {max-layers: many}\n", "s.yaml:1: merger-max-layers: expected a valid 64 bit int"},
		{"a value out of an enum", "level: loud\n", `s.yaml:1: level: "loud" is none of low, high`},
		{"a list for one value", "level: [low, high]\n", "s.yaml:1: level: it takes one value"},
		{"twice", "wait: 3s\nlevel: low\nwait: 4s\n", "s.yaml:3: wait is set already in line 1"},
		{"twice, once nested", "merger: {max-layers: 3}\nmerger-max-layers: 4\n", "s.yaml:2: merger-max-layers is set already in line 1"},
		{"no value", "wait:\n", "s.yaml:1: wait has no value"},
		{"no mapping", "- wait\n", "s.yaml:1: settings are written as NAME: VALUE"},
		{"a list of lists", "names: [[a]]\n", "s.yaml:1: names is a list of something else"},
		{"an alias", "names: &n [a]\nwait: *n\n", "s.yaml:2: wait is neither"},
		{"no YAML", "wait: 3s\n  level: [low\n", "s.yaml: "},
		{"tabs", "merger:\n\tmax-layers: 3\n", "s.yaml: line 2: found character that cannot start any token"},
		{"far too long", "# " + strings.Repeat("x", 2<<20), "more than 1048576 bytes"},
		{"a secret that is a list", "key: [hunter2, hunter3]\n", "s.yaml:1: key: it takes one value"},
	} {
		_, err := readProgram(t, c.text, "up")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		} else if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: not one line, or with a secret: %v", c.name, err)
		}
	}
	var p settingsProgram
	parser, err := kong.New(&p, kong.Vars{"config_default": "none.", "config_path": filepath.Join(t.TempDir(), "none.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{"up"}); err != nil {
		t.Errorf("a file that need not be there: %v", err)
	}
	if _, err := parser.Parse([]string{"up", "--config=/no/such/file"}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a file that is named and not there: %v", err)
	}
}

// No text makes reading it fail in another way than by an error.
func FuzzSettings(f *testing.F) {
	f.Add([]byte(settingsFile))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("? {a: b}\n: c\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, _ = readProgram(t, string(text), "up")
	})
}
