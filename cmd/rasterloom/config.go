package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
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
	return `A flag goes before the environment, that before the file of settings, and that before the default. Secrets are printed as ***.

The file is YAML. It names flags without their hyphens in front, and what it names has a variable of the environment, too; names may be nested, so that merger: {max-layers: 64} is --merger-max-layers=64.`
}

type configCheck struct {
	Output  string   `short:"o" help:"Form of the answer: ${enum}." enum:"table,json" default:"table"`
	Command []string `arg:"" passthrough:"" optional:"" help:"Command with its flags; up by default."`
}

// setting is one flag of a command as it would be.
type setting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"` // flag, default, unset, the variable of the environment, or FILE:LINE
}

// parsedCommand is a command line that was read and not run.
type parsedCommand struct {
	*kong.Context
	cli  cli
	file *boot.Settings
}

// parse reads a command line without running it, with the file of settings that
// this one was given.
func parse(file boot.ConfigFile, command []string) (*parsedCommand, error) {
	if len(command) == 0 {
		command = []string{"up"}
	}
	if err := boot.LoadSecretFiles(); err != nil {
		return nil, err
	}
	c := &parsedCommand{}
	parser, err := kong.New(&c.cli, options()...)
	if err != nil {
		return nil, err
	}
	if file.Config != "" {
		command = append([]string{"--config=" + file.Config}, command...)
	}
	if c.Context, err = parser.Parse(command); err != nil {
		return nil, err
	}
	c.Bind(&c.cli.ConfigFile)
	c.file = c.cli.Settings()
	return c, nil
}

// Run prints the settings.
func (c configPrint) Run(file *boot.ConfigFile) error {
	parsed, err := parse(*file, c.Command)
	if err != nil {
		return err
	}
	settings := settingsOf(parsed)
	if c.Output == "json" {
		out, err := json.MarshalIndent(map[string]any{"command": parsed.Command(), "settings": settings}, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(standardOut, string(out))
		return err
	}
	rows := make([][]string, 0, len(settings))
	for _, s := range settings {
		rows = append(rows, []string{s.Name, s.Source, s.Value})
	}
	newPainter(os.Stdout).table([]string{"setting", "from", "value"}, rows)
	return nil
}

// Help is what --help says besides.
func (configCheck) Help() string {
	return `Each problem is told with the file and the line that it comes from. Exit status: 0 the settings are good; 1 they do not go together; 2 they cannot be read.`
}

// Run looks at the settings.
func (c configCheck) Run(file *boot.ConfigFile) error {
	parsed, err := parse(*file, c.Command)
	if err != nil {
		return err
	}
	if parsed.Command() == "up" {
		up := parsed.cli.Up
		if err := errors.Join(up.check(), up.Config.Check()); err != nil {
			return parsed.placed(err)
		}
	}
	if c.Output == "json" {
		return json.NewEncoder(standardOut).Encode(map[string]any{"command": parsed.Command(), "ok": true, "file": parsed.file.Path()})
	}
	p := newPainter(os.Stdout)
	fmt.Fprintf(p, "%s  the settings of %s can be read and go together\n", p.paint(green, "ok"), parsed.Command())
	return nil
}

// placed adds to each problem where the settings that it names come from, as far
// as that is not the command line.
func (c *parsedCommand) placed(problems error) error {
	lines := strings.Split(problems.Error(), "\n")
	for i, line := range lines {
		var places []string
		for _, s := range settingsOf(c) {
			named := regexp.MustCompile(regexp.QuoteMeta(s.Name) + `([^-\w]|$)`).MatchString(line)
			if named && s.Source != "flag" && s.Source != "default" && s.Source != "unset" {
				places = append(places, s.Name+" comes from "+s.Source)
			}
		}
		if len(places) > 0 {
			lines[i] += " (" + strings.Join(places, ", ") + ")"
		}
	}
	return errors.New(strings.Join(lines, "\n"))
}

// settingsOf lists the flags of a command that has been read.
func settingsOf(parsed *parsedCommand) []setting {
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
		settings = append(settings, setting{"--" + flag.Name, printable(parsed.FlagValue(flag)), sourceOf(flag, given[flag], parsed.file)})
	}
	return settings
}

func sourceOf(flag *kong.Flag, given bool, file *boot.Settings) string {
	if given {
		return "flag"
	}
	for _, name := range flag.Envs {
		if _, ok := os.LookupEnv(name); ok {
			return name
		}
	}
	if place := file.Place(flag.Name); place != "" {
		return place
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
