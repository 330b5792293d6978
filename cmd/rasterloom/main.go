// Command rasterloom is the command line of the suite: it runs the suite in one
// process, and asks a running one.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/alecthomas/kong"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/boot"
)

const about = `Weaves raster layers that live in PostgreSQL as pixel tables into one aligned, columnar table.

Start here:

  rasterloom demo                              # real rasters, woven while you watch
  rasterloom up                                # the suite, with a database of its own
  rasterloom layers adopt                      # take over public.resampled_datasets
  rasterloom align birds plants                # how do their grids relate?
  rasterloom plan birds plants --rows-kept=all # what would a merge do?
  rasterloom merge birds plants -o a.parquet   # the table, here
  rasterloom export birds plants --to=a.parquet # write it, on the server

Exit status: 0 done; 1 refused or failed; 2 the command line or the file of settings cannot be read; 3 the service cannot be reached; 130 stopped by Ctrl-C or SIGTERM.`

type cli struct {
	boot.ConfigFile

	Up         upCommand         `cmd:"" help:"Run the whole suite in this process, until Ctrl-C."`
	Demo       demoCommand       `cmd:"" help:"Weave real rasters, which the program brings along, and show the commands that do it."`
	Layers     layersCommand     `cmd:"" help:"The catalog of layers."`
	Ingest     ingestCommand     `cmd:"" help:"Send a raster: its bands become layers."`
	Migrate    migrateCommand    `cmd:"" help:"Move a layer's table to better storage, online."`
	Align      alignCommand      `cmd:"" help:"Report how the grids of layers relate."`
	Plan       planCommand       `cmd:"" help:"Say what a merge would do, without reading a cell."`
	Merge      mergeCommand      `cmd:"" help:"Weave layers into one table, and write it here: Parquet, CSV, Arrow."`
	Compare    compareCommand    `cmd:"" help:"Make a merge's table both ways, woven and by the deprecated legacy join, and say which cells differ."`
	Export     exportCommand     `cmd:"" help:"Have a merge written as Parquet by the server, into its directory for exports."`
	Doctor     doctorCommand     `cmd:"" help:"Look whether the suite can be reached and can work, and say how to mend what is wrong."`
	Config     configCommand     `cmd:"" help:"The settings of a command: flags, environment and defaults together."`
	Token      tokenCommand      `cmd:"" help:"Tokens that say who calls."`
	SQL        sqlCommand        `cmd:"" name:"sql" help:"SQL for the administrators of a database."`
	Completion completionCommand `cmd:"" help:"Print a script that lets a shell complete commands, flags and layers."`
	Version    versionCommand    `cmd:"" help:"Print the version."`

	Complete completeCommand `cmd:"" name:"__complete" hidden:"" help:"Say what can follow."`
}

// defaultURL is where a suite on this machine answers when nobody said otherwise.
const defaultURL = "http://127.0.0.1:7400"

type versionCommand struct {
	Output string `short:"o" help:"Form of the answer: ${enum}." enum:"table,json" default:"table"`
}

// Run prints the version.
func (c versionCommand) Run() error {
	if c.Output == "json" {
		return json.NewEncoder(standardOut).Encode(map[string]string{
			"version": boot.Release(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
		})
	}
	_, err := fmt.Fprintln(standardOut, "rasterloom", boot.Version())
	return err
}

// options are how the command line is read.
func options() []kong.Option {
	return []kong.Option{
		kong.Name("rasterloom"), kong.Description(about), boot.Paths(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.PostBuild(hideWiring), kong.PostBuild(addExamples), kong.Vars{
			"url": defaultURL, "listen": "127.0.0.1:7400", "flight_listen": "127.0.0.1:7401", "log_level": "warn",
			"config_default": "rasterloom/config.yaml where this user keeps settings (~/.config), if it is there.", "config_path": boot.UserConfigFile(),
		},
	}
}

func main() {
	var c cli
	parser, err := kong.New(&c, options()...)
	if err != nil {
		os.Exit(report(os.Stderr, err, false))
	}
	command, err := parser.Parse(os.Args[1:])
	if err != nil {
		misread(os.Stderr, err)
		os.Exit(boot.StatusUsage)
	}
	ctx, stop := boot.UntilSignal(context.Background())
	command.BindTo(ctx, (*context.Context)(nil))
	command.Bind(&c.ConfigFile)
	err = command.Run()
	if err == nil {
		err = standardOut.err
	}
	stopped := ctx.Err() != nil
	stop()
	if err == nil {
		return
	}
	if parsed, ok := errors.AsType[*kong.ParseError](err); ok {
		// The command line within one of `config`.
		misread(os.Stderr, parsed)
		os.Exit(boot.StatusUsage)
	}
	status := report(os.Stderr, err, asksForJSON(command))
	if stopped {
		status = statusStopped
	}
	os.Exit(status)
}

// misread says why a command line cannot be read.
func misread(out *os.File, err error) {
	p := newPainter(out)
	more := "rasterloom"
	if parsed, ok := errors.AsType[*kong.ParseError](err); ok {
		node := parsed.Context.Selected()
		if node == nil {
			node = parsed.Context.Model.Node
		}
		if len(node.Children) > 0 && parsed.Context.Error == nil {
			// A command of commands: which there are is the answer.
			parsed.Context.Stdout = out
			if parsed.Context.PrintUsage(false) == nil {
				return
			}
		}
		more = node.FullPath()
	}
	p.line(red, "error:", fmt.Sprintf(" %v %s", err, p.paint(dim, "(`"+more+" --help` says more)")))
}

// asksForJSON reports whether a command was asked to answer in JSON.
func asksForJSON(command *kong.Context) bool {
	for _, flag := range command.Flags() {
		if flag.Name == "output" {
			return command.FlagValue(flag) == "json"
		}
	}
	return false
}

// report prints an error and gives the exit status.
func report(out *os.File, err error, asJSON bool) int {
	if said, ok := errors.AsType[clientError](err); ok {
		return int(said)
	}
	status, text := statusFailed, boot.Told(err)
	said, isFault := errors.AsType[*fault.Error](err)
	if asked, ok := errors.AsType[*askError](err); ok {
		said, isFault, status, text = asked.fault(), true, asked.status(), err.Error()
	}
	if asJSON {
		answer := struct {
			Reason  fault.Reason      `json:"reason,omitempty"`
			Message string            `json:"message"`
			Fields  map[string]string `json:"fields,omitempty"`
		}{Message: text}
		if isFault {
			answer.Reason, answer.Fields = said.Reason, said.Fields
		}
		// An error of the terminal cannot be told to anybody.
		_ = json.NewEncoder(out).Encode(map[string]any{"error": answer})
		return status
	}
	p := newPainter(out)
	p.line(red, "error:", " "+text)
	if isFault {
		p.line(dim, "       "+string(said.Reason), "")
	}
	return status
}
