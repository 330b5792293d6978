package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

const referencePage = "../../docs/cli.md"

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
Answers go to stdout, progress, warnings and errors to stderr; colours are for terminals only.

| exit status | meaning |
| --- | --- |
| 0 | done |
| 1 | refused or failed; the error says why |
| 2 | the command line cannot be read |
| 3 | the service cannot be reached |
`)
	for _, leaf := range parser.Model.Leaves(true) {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", leaf.Path(), leaf.Help)
		if leaf.Detail != "" {
			// Four blanks are what Markdown takes for code.
			fmt.Fprintf(&b, "\n%s\n", strings.ReplaceAll(leaf.Detail, "\n  ", "\n    "))
		}
		b.WriteString("\n| | default | environment | |\n| --- | --- | --- | --- |\n")
		for _, arg := range leaf.Positional {
			row(&b, "`"+arg.Summary()+"`", arg)
		}
		for _, group := range leaf.AllFlags(true) {
			for _, f := range group {
				if f.Name != "help" {
					row(&b, "`"+strings.TrimSuffix(f.String(), "="+f.FormatPlaceHolder())+"`", f.Value)
				}
			}
		}
	}
	got := b.String()
	if *update {
		if err := os.WriteFile(referencePage, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(referencePage); err != nil || string(want) != got {
		t.Errorf("docs/cli.md is not what the command line says of itself (%v): run this test with -update", err)
	}
}

func row(b *strings.Builder, name string, v *kong.Value) {
	value, environment := "", ""
	if v.HasDefault && v.Default != "" {
		value = "`" + v.Default + "`"
	}
	if v.Tag != nil && len(v.Tag.Envs) > 0 {
		environment = "`" + strings.Join(v.Tag.Envs, "`, `") + "`"
	}
	fmt.Fprintf(b, "| %s | %s | %s | %s |\n", name, value, environment, strings.ReplaceAll(v.Help, "|", "\\|"))
}
