package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// Every command shows how it is used, by command lines that can be read and are
// its own.
func TestExamplesCanBeRead(t *testing.T) {
	t.Setenv("RASTERLOOM_CONFIG", "/dev/null")
	var c cli
	parser, err := kong.New(&c, options()...)
	if err != nil {
		t.Fatal(err)
	}
	read, known := 0, map[string]bool{}
	for _, leaf := range parser.Model.Leaves(true) {
		path := pathOf(leaf)
		known[path] = true
		if len(examples[path]) == 0 {
			t.Errorf("%s has no example", path)
		}
		for _, example := range examples[path] {
			var c cli
			parser, err := kong.New(&c, options()...)
			if err != nil {
				t.Fatal(err)
			}
			words := strings.Fields(example)
			if end := slices.IndexFunc(words, func(w string) bool { return w == "|" || w == ">" || w == ">>" }); end >= 0 {
				words = words[:end]
			}
			// A file that is named need not be there for the line to be good.
			words = slices.DeleteFunc(words, func(w string) bool { return strings.HasPrefix(w, "--config=") })
			command, err := parser.Parse(words[1:])
			if err != nil {
				t.Errorf("%s: %v", example, err)
				continue
			}
			if got := pathOf(command.Selected()); got != path {
				t.Errorf("%s is an example of %s, and not of %s", example, got, path)
			}
			read++
		}
		if !strings.Contains(leaf.Detail, "Examples:\n\n  rasterloom ") {
			t.Errorf("the help of %s shows no example", path)
		}
	}
	for path := range examples {
		if !known[path] {
			t.Errorf("there are examples of %s, which is no command", path)
		}
	}
	t.Logf("%d examples of %d commands", read, len(known))
}
