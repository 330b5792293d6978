// Command rasterloom is the command line of the suite: it runs the suite in one
// process, and asks a running one.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/alecthomas/kong"

	"github.com/rasterloom/rasterloom/internal/boot"
)

const about = `Weaves raster layers that live in PostgreSQL as pixel tables into one aligned, columnar table.

Start here:

  rasterloom up                                # the suite, with a database of its own
  rasterloom layers adopt                      # take over public.resampled_datasets
  rasterloom align birds plants                # how do their grids relate?
  rasterloom plan birds plants --rows-kept=all # what would a merge do?
  rasterloom merge birds plants -o a.parquet   # the table, here
  rasterloom export birds plants --to=a.parquet # write it, on the server

Exit status: 0 done; 1 refused or failed; 2 the command line cannot be read; 3 the service cannot be reached.`

type cli struct {
	Up      upCommand      `cmd:"" help:"Run the whole suite in this process, until Ctrl-C."`
	Layers  layersCommand  `cmd:"" help:"The catalog of layers."`
	Ingest  ingestCommand  `cmd:"" help:"Send a raster: its bands become layers."`
	Migrate migrateCommand `cmd:"" help:"Move a layer's table to better storage, online."`
	Align   alignCommand   `cmd:"" help:"Report how the grids of layers relate."`
	Plan    planCommand    `cmd:"" help:"Say what a merge would do, without reading a cell."`
	Merge   mergeCommand   `cmd:"" help:"Weave layers into one table, and write it here: Parquet, CSV, Arrow."`
	Compare compareCommand `cmd:"" help:"Make a merge's table both ways, woven and by the deprecated legacy join, and say which cells differ."`
	Export  exportCommand  `cmd:"" help:"Have a merge written as Parquet by the server, into its directory for exports."`
	Doctor  doctorCommand  `cmd:"" help:"Look whether the suite can be reached and can work, and say how to mend what is wrong."`
	Config  configCommand  `cmd:"" help:"The settings of a command: flags, environment and defaults together."`
	Token   tokenCommand   `cmd:"" help:"Tokens that say who calls."`
	SQL     sqlCommand     `cmd:"" name:"sql" help:"SQL for the administrators of a database."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

// defaultURL is where a suite on this machine answers when nobody said otherwise.
const defaultURL = "http://127.0.0.1:7400"

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run() {
	fmt.Println("rasterloom", boot.Version())
}

// options are how the command line is read.
func options() []kong.Option {
	return []kong.Option{
		kong.Name("rasterloom"), kong.Description(about), kong.ShortUsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.PostBuild(hideWiring), kong.Vars{"url": defaultURL, "listen": "127.0.0.1:7400", "flight_listen": "127.0.0.1:7401", "log_level": "warn"},
		kong.Exit(boot.ExitStatus),
	}
}

func main() {
	var c cli
	command := kong.Parse(&c, options()...)
	ctx, stop := boot.UntilSignal(context.Background())
	command.BindTo(ctx, (*context.Context)(nil))
	err := command.Run()
	stop()
	if err != nil {
		os.Exit(report(os.Stderr, err))
	}
}

// report prints an error and gives the exit status.
func report(out *os.File, err error) int {
	if asked, ok := errors.AsType[*askError](err); ok {
		asked.print(out)
		return asked.status()
	}
	if said, ok := errors.AsType[clientError](err); ok {
		return int(said)
	}
	newPainter(out).line(red, "error:", " "+err.Error())
	return statusFailed
}
