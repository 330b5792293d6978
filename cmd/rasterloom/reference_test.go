package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/services/aligner"
	"github.com/rasterloom/rasterloom/services/merger"
	"github.com/rasterloom/rasterloom/services/schema"
)

var update = flag.Bool("update", false, "write docs/cli.md and docs/reference/config.md anew")

const (
	referencePage = "../../docs/cli.md"
	configPage    = "../../docs/reference/config.md"
)

// The page on the command line is what the command line says of itself.
func TestReferenceIsFresh(t *testing.T) {
	var c cli
	parser, err := kong.New(&c, options()...)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(`# The command line

Made from the program itself by ` + "`go test ./cmd/rasterloom -run TestReferenceIsFresh -update`" + `; ` + "`rasterloom COMMAND --help`" + ` says the same.
Answers go to stdout, progress, warnings and errors to stderr; colours are for terminals only, and not where ` + "`NO_COLOR`" + ` is set.
With ` + "`--output=json`" + ` an error is JSON too: ` + "`error.reason`" + `, ` + "`error.message`" + ` and ` + "`error.fields`" + `, on stderr.

What has a variable of the environment can stand in a [file of settings](reference/config.md), too. ` + "`rasterloom completion SHELL`" + ` prints what lets
bash, zsh, fish or PowerShell complete commands, flags, values and the names of the server's layers.

| exit status | meaning |
| --- | --- |
| 0 | done |
| 1 | refused or failed; the error says why |
| 2 | the command line, or the file of settings, cannot be read |
| 3 | the service cannot be reached |
| 130 | stopped by Ctrl-C or SIGTERM; a suite that is up is done then, and ends with 0 |
`)
	for _, leaf := range parser.Model.Leaves(true) {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", leaf.Path(), leaf.Help)
		if leaf.Detail != "" {
			// Four blanks are what Markdown takes for code.
			fmt.Fprintf(&b, "\n%s\n", strings.ReplaceAll(leaf.Detail, "\n  ", "\n    "))
		}
		b.WriteString("\n| | default | environment | |\n| --- | --- | --- | --- |\n")
		for _, arg := range leaf.Positional {
			row(&b, "`"+arg.Summary()+"`", arg, false)
		}
		for _, group := range leaf.AllFlags(true) {
			for _, f := range group {
				if f.Name != "help" {
					row(&b, "`"+strings.TrimSuffix(f.String(), "="+f.FormatPlaceHolder())+"`", f.Value, false)
				}
			}
		}
	}
	compare(t, referencePage, b.String())
}

// compare holds a page against what the program says, or writes it.
func compare(t *testing.T, page, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(page, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(page); err != nil || string(want) != got {
		t.Errorf("%s is not what the program says of itself (%v): run this test with -update", page, err)
	}
}

const aboutSettings = `# Configuration

A flag goes before the environment, the environment before the file of settings, and that before the default. This page is made from the structs that the programs
read, by ` + "`go test ./cmd/rasterloom -run TestReference -update`" + `.

The file is YAML. ` + "`--config FILE`" + `, or ` + "`RASTERLOOM_CONFIG`" + `, names it; the command line also reads ` + "`rasterloom/config.yaml`" + ` in the place where the user keeps settings
(` + "`~/.config`" + ` on Linux, ` + "`~/Library/Application Support`" + ` on macOS), if it is there. Names are those of the flags; they may be nested at any hyphen, so that both of these say the same:

` + "```yaml" + `
listen: 0.0.0.0:7400
tls-cert: /etc/rasterloom/cert.pem
tls-key: /etc/rasterloom/key.pem
merger-max-layers: 64
` + "```" + `

` + "```yaml" + `
listen: 0.0.0.0:7400
tls:
  cert: /etc/rasterloom/cert.pem
  key: /etc/rasterloom/key.pem
merger:
  max-layers: 64
` + "```" + `

A file may have settings for several commands: each takes its own. A name that no command has is refused, with the nearest that there is; so is a value that cannot be
read, with the file and the line. ` + "`rasterloom config print`" + ` shows what is in force and where each value comes from, secrets as ` + "`***`" + `; ` + "`rasterloom config check`" + ` looks
whether the settings go together. ` + "`PGPASSWORD_FILE` and `DATABASE_URL_FILE`" + ` name files that hold these secrets, as container platforms hand them out. Relative paths are
relative to where the program runs.
`

// The page on settings is what the structs of the programs say.
func TestReferenceOfSettingsIsFresh(t *testing.T) {
	var b strings.Builder
	b.WriteString(aboutSettings)
	var c cli
	parser, err := kong.New(&c, options()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, leaf := range parser.Model.Leaves(true) {
		switch pathOf(leaf) {
		case "up":
			settingsTable(&b, "rasterloom up", "The suite in one process.", leaf.AllFlags(true))
		case "doctor":
			settingsTable(&b, "Commands that ask a suite", "`align`, `merge`, `layers` and the rest.", leaf.AllFlags(true))
		}
	}
	service(t, &b, "aligner", "The aligner on its own.", &struct {
		boot.Config
		Service aligner.Config `embed:""`
	}{})
	service(t, &b, "schema", "The schema service on its own.", &struct {
		boot.Config
		boot.FlightConfig
		Service schema.Config `embed:""`
	}{})
	service(t, &b, "merger", "The merger on its own.", &struct {
		boot.Config
		boot.FlightConfig
		Service merger.Config `embed:""`
	}{})
	compare(t, configPage, b.String())
}

// service writes down the settings of a program that runs one service; where it
// listens by default is in its main.
func service(t *testing.T, b *strings.Builder, name, about string, grammar any) {
	t.Helper()
	text, err := os.ReadFile("../../services/" + name + "/cmd/" + name + "/main.go")
	if err != nil {
		t.Fatal(err)
	}
	vars := kong.Vars{"log_level": "info"}
	for key, field := range map[string]string{"listen": "Listen", "flight_listen": "FlightListen"} {
		if found := regexp.MustCompile(`\b` + field + `: +"([^"]+)"`).FindSubmatch(text); found != nil {
			vars[key] = string(found[1])
		}
	}
	parser, err := kong.New(grammar, vars)
	if err != nil {
		t.Fatal(err)
	}
	settingsTable(b, name, about, parser.Model.AllFlags(true))
}

func settingsTable(b *strings.Builder, name, about string, groups [][]*kong.Flag) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n| in the file | environment | default | |\n| --- | --- | --- | --- |\n", name, about)
	for _, group := range groups {
		for _, f := range group {
			if len(f.Envs) > 0 && f.Name != "config" {
				row(b, "`"+f.Name+"`", f.Value, true)
			}
		}
	}
}

func row(b *strings.Builder, name string, v *kong.Value, environmentFirst bool) {
	value, environment := "", ""
	if v.HasDefault && v.Default != "" {
		value = "`" + v.Default + "`"
	}
	if v.Tag != nil && len(v.Tag.Envs) > 0 {
		environment = "`" + strings.Join(v.Tag.Envs, "`, `") + "`"
	}
	if environmentFirst {
		value, environment = environment, value
	}
	fmt.Fprintf(b, "| %s | %s | %s | %s |\n", name, value, environment, strings.ReplaceAll(v.Help, "|", "\\|"))
}
