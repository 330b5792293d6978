package main

import (
	"context"
	"embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/internal/boot"
)

// Scripts ask this program what can follow, so that they never fall behind it. The
// libraries that do this for kong know no PowerShell, and no candidates that come
// from a server.
//
//go:embed completion
var scripts embed.FS

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish,powershell" help:"Shell: ${enum}."`
}

// Help is what --help says besides.
func (completionCommand) Help() string {
	return `Commands, flags and their values are completed, and names of layers, as the suite at --url or RASTERLOOM_URL has them.`
}

// Run prints the script of a shell.
func (c completionCommand) Run() error {
	script, err := scripts.ReadFile("completion/" + c.Shell)
	if err != nil {
		return err
	}
	_, err = standardOut.Write(script)
	return err
}

// completeCommand is what the scripts call, with the words after the program's
// name, the last of them being the one to complete.
type completeCommand struct {
	Words []string `arg:"" optional:"" passthrough:""`
}

// patience is how long a shell waits for the names of layers: a server that does
// not answer at once is no reason to keep somebody from typing.
const patience = time.Second

// completeFiles tells the scripts to complete names of files.
const completeFiles = ":files"

// Run prints candidates, a line each, with what they are behind a tab.
func (c completeCommand) Run(ctx context.Context) error {
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	if len(words) == 0 {
		words = []string{""}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// An error is not told: whoever is typing wants none in between.
	out, _ := complete(ctx, words)
	for _, candidate := range out {
		fmt.Fprintln(standardOut, candidate)
	}
	return standardOut.err
}

// complete gives what can stand for the last word.
func complete(ctx context.Context, words []string) ([]string, error) {
	before, word := words[:len(words)-1], words[len(words)-1]
	var c cli
	parser, err := kong.New(&c, options()...)
	if err != nil {
		return nil, err
	}
	at := position{node: parser.Model.Node}
	for _, w := range before {
		at.pass(w)
	}
	switch name, value, hasValue := strings.Cut(word, "="); {
	case at.lost:
		return nil, nil
	case at.flag != nil:
		return valuesOf(ctx, at, at.flag.Value, word, "", before)
	case strings.HasPrefix(word, "--") && hasValue && !at.onlyArguments:
		if flag := at.find(name); flag != nil {
			return valuesOf(ctx, at, flag.Value, value, name+"=", before)
		}
		return nil, nil
	case strings.HasPrefix(word, "-") && !at.onlyArguments:
		return at.flagsLike(word), nil
	}
	var candidates []string
	for _, child := range at.node.Children {
		if child.Type == kong.CommandNode && !child.Hidden && strings.HasPrefix(child.Name, word) {
			candidates = append(candidates, described(child.Name, child.Help))
		}
	}
	if argument := at.argument(); argument != nil {
		more, err := valuesOf(ctx, at, argument, word, "", before)
		return append(candidates, more...), err
	}
	return candidates, nil
}

// position is how far a command line is understood.
type position struct {
	node          *kong.Node
	flag          *kong.Flag // waits for its value
	arguments     int        // given so far
	onlyArguments bool       // after --
	lost          bool       // after a word that nothing takes
}

// pass goes over a word.
func (p *position) pass(word string) {
	switch {
	case p.flag != nil:
		p.flag = nil
	case p.onlyArguments:
		p.arguments++
	case word == "--":
		p.onlyArguments = true
	case strings.HasPrefix(word, "-") && word != "-":
		if name, _, hasValue := strings.Cut(word, "="); !hasValue {
			if flag := p.find(name); flag != nil && !flag.IsBool() && !flag.IsCounter() {
				p.flag = flag
			}
		}
	default:
		for _, child := range p.node.Children {
			if child.Type == kong.CommandNode && child.Name == word {
				p.node, p.arguments = child, 0
				return
			}
		}
		p.lost = p.lost || len(p.node.Positional) == 0
		p.arguments++
	}
}

// flags are those that can be given here.
func (p *position) flags() []*kong.Flag {
	var all []*kong.Flag
	for _, group := range p.node.AllFlags(true) {
		all = append(all, group...)
	}
	return all
}

func (p *position) find(word string) *kong.Flag {
	for _, flag := range p.flags() {
		if word == "--"+flag.Name || flag.Short != 0 && word == "-"+string(flag.Short) {
			return flag
		}
	}
	return nil
}

func (p *position) flagsLike(word string) []string {
	var candidates []string
	for _, flag := range p.flags() {
		if name := "--" + flag.Name; strings.HasPrefix(name, word) {
			candidates = append(candidates, described(name, flag.Help))
		}
	}
	slices.Sort(candidates)
	return candidates
}

// argument is the one that the next word would be.
func (p *position) argument() *kong.Value {
	list := p.node.Positional
	if len(list) == 0 {
		return nil
	}
	if p.arguments < len(list) {
		return list[p.arguments]
	}
	if last := list[len(list)-1]; last.IsSlice() {
		return last
	}
	return nil
}

// valuesOf gives the values that a flag or an argument can have.
func valuesOf(ctx context.Context, at position, value *kong.Value, word, prefix string, before []string) ([]string, error) {
	switch {
	case value.Enum != "":
		var candidates []string
		for _, e := range value.EnumSlice() {
			if e != "" && strings.HasPrefix(e, word) {
				candidates = append(candidates, prefix+e)
			}
		}
		return candidates, nil
	case value.Tag.Type == "path", pathOf(at.node) == "merge" && value.Name == "output", pathOf(at.node) == "ingest" && value.Name == "file":
		return []string{completeFiles}, nil
	case namesLayers(value):
		column, name, renamed := strings.Cut(word, "=")
		if renamed {
			prefix, word = prefix+column+"=", name
		}
		return layersLike(ctx, before, word, prefix)
	default:
		return nil, nil
	}
}

// namesLayers reports whether a value is the name of a layer.
func namesLayers(value *kong.Value) bool {
	switch value.Name {
	case "layer", "reference", "same-grid-as", "migration":
		return true
	}
	return false
}

// layersLike asks the suite for the layers whose names begin so.
func layersLike(ctx context.Context, before []string, word, prefix string) ([]string, error) {
	args := []string{"layers", "list"}
	for i, w := range before {
		name, _, hasValue := strings.Cut(w, "=")
		switch name {
		case "--url", "--schema-url", "--token", "--token-file", "--ca", "--client-cert", "--client-key", "--config":
			if args = append(args, w); !hasValue && i+1 < len(before) {
				args = append(args, before[i+1])
			}
		}
	}
	list, err := parse(boot.ConfigFile{}, args)
	if err != nil {
		return nil, err
	}
	all, err := allLayers(ctx, list.cli.Layers.List.client, &schemav1.ListLayersRequest{NameContains: word})
	if err != nil {
		return nil, err
	}
	var candidates []string
	for _, l := range all.GetLayers() {
		if strings.HasPrefix(l.GetName(), word) {
			candidates = append(candidates, described(prefix+l.GetName(), strings.ToLower(enumName(l.GetFormat(), "FORMAT_"))))
		}
	}
	return candidates, nil
}

// described is a candidate and what it is, in a sentence.
func described(candidate, help string) string {
	const most = 70
	help, _, _ = strings.Cut(help, "\n")
	if runes := []rune(help); len(runes) > most {
		help = string(runes[:most-1]) + "…"
	}
	return candidate + "\t" + strings.ReplaceAll(help, "\t", " ")
}
