package main

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/rasterloom/rasterloom/internal/boot"
)

type configCommand struct {
	Print configPrint `cmd:"" help:"Print the settings that a command would have, and where each comes from."`
	Check configCheck `cmd:"" help:"Look whether a command's settings can be read and go together, without running it."`
}

type configPrint struct {
	Output  string   `short:"o" help:"Form of the answer: ${enum}." enum:"table,json" default:"table"`
	Command []string `arg:"" passthrough:"" optional:"" help:"Command with its flags; up by default."`
}

// Help is what --help says besides.
func (configPrint) Help() string {
	return `A flag goes before the environment, and that before the default. Secrets are printed as ***.

Examples:

  rasterloom config print
  rasterloom config print up --listen=127.0.0.1:8400`
}

type configCheck struct {
	Command []string `arg:"" passthrough:"" optional:"" help:"Command with its flags; up by default."`
}

// setting is one flag of a command as it would be.
type setting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"` // flag, default, unset, or the variable of the environment
}

// parse reads a command line without running it.
func parse(command []string) (*cli, *kong.Context, error) {
	if len(command) == 0 {
		command = []string{"up"}
	}
	if err := boot.LoadSecretFiles(); err != nil {
		return nil, nil, err
	}
	var c cli
	parser, err := kong.New(&c, options()...)
	if err != nil {
		return nil, nil, err
	}
	parsed, err := parser.Parse(command)
	return &c, parsed, err
}

// Run prints the settings.
func (c configPrint) Run() error {
	_, parsed, err := parse(c.Command)
	if err != nil {
		return err
	}
	settings := settingsOf(parsed)
	if c.Output == "json" {
		out, err := json.MarshalIndent(map[string]any{"command": parsed.Command(), "settings": settings}, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(os.Stdout, string(out))
		return err
	}
	rows := make([][]string, 0, len(settings))
	for _, s := range settings {
		rows = append(rows, []string{s.Name, s.Source, s.Value})
	}
	newPainter(os.Stdout).table([]string{"setting", "from", "value"}, rows)
	return nil
}

// Run looks at the settings.
func (c configCheck) Run() error {
	parsed, command, err := parse(c.Command)
	if err != nil {
		return err
	}
	if command.Command() == "up" {
		if err := parsed.Up.check(); err != nil {
			return err
		}
		if err := parsed.Up.Config.Check(); err != nil {
			return err
		}
	}
	p := newPainter(os.Stdout)
	fmt.Fprintf(p, "%s  the settings of %s can be read and go together\n", p.paint(green, "ok"), command.Command())
	return nil
}

// settingsOf lists the flags of a command that has been read.
func settingsOf(parsed *kong.Context) []setting {
	given := map[*kong.Flag]bool{}
	for _, p := range parsed.Path {
		if p.Flag != nil && !p.Resolved {
			given[p.Flag] = true
		}
	}
	var settings []setting
	for _, flag := range parsed.Flags() {
		if flag.Hidden || flag.Name == "help" {
			continue
		}
		settings = append(settings, setting{"--" + flag.Name, printable(parsed.FlagValue(flag)), sourceOf(flag, given[flag])})
	}
	return settings
}

func sourceOf(flag *kong.Flag, given bool) string {
	if given {
		return "flag"
	}
	for _, name := range flag.Envs {
		if _, ok := os.LookupEnv(name); ok {
			return name
		}
	}
	if flag.HasDefault {
		return "default"
	}
	return "unset"
}

// printable is a value without what is secret about it.
func printable(value any) string {
	if v := reflect.ValueOf(value); v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		return printable(v.Elem().Interface())
	}
	switch v := value.(type) {
	case boot.Secret:
		if v == "" {
			return ""
		}
		return v.String()
	case []string:
		return strings.Join(v, ",")
	case string:
		if strings.Contains(v, "://") || strings.Contains(v, "password") {
			return withoutPassword(v)
		}
		return v
	default:
		return fmt.Sprint(v)
	}
}
