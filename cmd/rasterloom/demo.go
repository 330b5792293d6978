package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rasterloom/rasterloom/cmd/rasterloom/internal/demo"
	"github.com/rasterloom/rasterloom/internal/boot"
)

type demoCommand struct {
	Folder  string `arg:"" optional:"" help:"Folder for the tables that are woven; it is made if need be." type:"path" default:"rasterloom-demo"`
	Stay    bool   `help:"Leave the suite up afterwards, on its usual ports, until Ctrl-C."`
	DataDir string `help:"Where a PostgreSQL of our own keeps the layers. Default: nowhere, they are gone afterwards." type:"path" placeholder:"DIR"`
}

// Help is what --help says besides.
func (demoCommand) Help() string {
	return `Starts the suite with a PostgreSQL of its own, stores real rasters that the program brings along the way old code left such tables behind (two sea surface temperatures, a year of temperatures of North Carolina, and height), and then runs the very commands that it shows.

Sources: COADS and ETOPO5 by NOAA's Ferret, OISST by NOAA, and the observations of Maurer et al.; data/README.md has the particulars.`
}

// scene is one step of the demo: why, and the command.
type scene struct {
	why     string
	command []string
}

const (
	coads, oisst = "coads_sst_jan", "oisst_19811231"
	climate      = "nc_tas"
	height       = "nc_relief"
)

// scenes tells the story; files go into the folder.
func scenes(folder string) []scene {
	months := make([]string, 0, 12)
	for month := range 12 {
		months = append(months, fmt.Sprintf("%s_%02d", climate, month+1))
	}
	sst, carolina := filepath.Join(folder, "sst.parquet"), filepath.Join(folder, "north_carolina.parquet")
	return []scene{
		{"Rasterloom takes over the catalog, and changes nothing of it.", []string{"layers", "adopt"}},
		{"Two sea surface temperatures, both of 2°. A join on rounded x and y finds nothing, or the wrong cells: they lie half a cell apart.", []string{"align", coads, oisst}},
		{"Woven onto one lattice, cell by cell; the file is there once the stream has proved whole.", []string{"merge", coads, oisst, "-o", sst, "--force"}},
		{"A year of climate (1/8°) with height (5′), averaged over the area of each cell of the climate.", slices.Concat(
			[]string{"merge"}, months, []string{
				"elevation=" + height, "--reference=" + months[0], "--extent=reference", "--rows-kept=reference",
				"--resampling=elevation=average", "-o", carolina, "--force",
			})},
	}
}

// Run starts a suite, tells the story, and stops it.
func (c demoCommand) Run(ctx context.Context) error {
	if err := os.MkdirAll(c.Folder, 0o750); err != nil {
		return err
	}
	up, err := c.suite()
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(c.Folder, "rasterloom.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	newPainter(os.Stderr).line(dim, "Starting PostgreSQL, aligner, schema and merger; the first time takes longer …", "")
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var told chan error
	served := up.serve(ctx, log, func(ctx context.Context, r running) {
		told = make(chan error, 1)
		go func() {
			err := c.story(ctx, r)
			told <- err
			if err != nil || !c.Stay {
				stop()
			}
		}()
	})
	if told == nil {
		return served
	}
	return errors.Join(<-told, served)
}

// suite reads the settings of `up`: the usual ones, but for where it listens.
// Nothing that the surroundings say of other suites or databases holds for it.
func (c demoCommand) suite() (upCommand, error) {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "RASTERLOOM_") || strings.HasPrefix(name, "DATABASE_URL") {
			if err := os.Unsetenv(name); err != nil {
				return upCommand{}, err
			}
		}
	}
	args := []string{"up", "--throwaway"}
	if c.DataDir != "" {
		args = []string{"up", "--data-dir=" + c.DataDir}
	}
	if !c.Stay {
		args = append(args, "--listen=127.0.0.1:0", "--flight-listen=127.0.0.1:0")
	}
	parsed, err := parse(noSettings, args)
	if err != nil {
		return upCommand{}, err
	}
	return parsed.cli.Up, nil
}

// noSettings is a file of settings without any.
var noSettings = boot.ConfigFile{Config: os.DevNull}

// story stores the rasters and runs the commands.
func (c demoCommand) story(ctx context.Context, r running) error {
	p := newPainter(os.Stdout)
	start := time.Now()
	if err := c.store(ctx, p, r.database.url); err != nil {
		return err
	}
	folder := c.Folder
	if here, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(here, folder); err == nil && !strings.HasPrefix(rel, "..") {
			folder = rel
		}
	}
	for _, s := range scenes(folder) {
		fmt.Fprintln(p)
		p.prose("", p.paint(bold, s.why))
		fmt.Fprintf(p, "\n%s rasterloom %s\n\n", p.paint(dim, "$"), p.paint(cyan, shown(s.command)))
		if err := asked(ctx, append(slices.Clone(s.command), "--url="+r.process.URL())); err != nil {
			return err
		}
	}
	fmt.Fprintf(p, "\n%s  in %.1f s. The tables are in %s:\n\n", p.paint(green, "Done"), time.Since(start).Seconds(), p.paint(bold, folder))
	fmt.Fprintf(p, "  python -c \"import pandas as pd; print(pd.read_parquet('%s').describe())\"\n\n", filepath.Join(folder, "north_carolina.parquet"))
	if c.Stay {
		fmt.Fprintf(p, "The suite stays up at %s; in another terminal, try\n\n", p.paint(cyan, r.process.URL()))
		fmt.Fprintf(p, "  rasterloom layers show %s\n  rasterloom plan %s %s\n  python -c \"import rasterloom as rl; print(rl.connect().align(['%s', '%s']))\"\n\n%s\n",
			oisst, coads, height, coads, oisst, p.paint(dim, "Ctrl-C stops it, and takes its database away."))
		return nil
	}
	fmt.Fprintf(p, "Next: %s runs the suite on your own database, %s leaves this one up.\n",
		p.paint(cyan, "rasterloom up --database-url=URL"), p.paint(cyan, "rasterloom demo --stay"))
	return nil
}

// store puts the rasters into the database, which a data directory of an earlier
// run has already.
func (c demoCommand) store(ctx context.Context, p painter, databaseURL string) error {
	start := time.Now()
	stored, err := demo.Store(ctx, databaseURL)
	switch {
	case errors.Is(err, demo.ErrThere):
		fmt.Fprintf(p, "%s: the rasters are there from an earlier run.\n", p.paint(bold, "What years of use left in a database"))
		return nil
	case err != nil:
		return fmt.Errorf("the rasters cannot be stored: %w", err)
	}
	fmt.Fprintf(p, "%s: %s rows of pixels in %d tables, of three generations of code %s\n", p.paint(bold, "What years of use left in a database"),
		grouped(stored.Rows), stored.Layers, p.paint(dim, fmt.Sprintf("(%.1f s)", time.Since(start).Seconds())))
	return nil
}

// asked runs a command line within this process.
func asked(ctx context.Context, args []string) error {
	command, err := parse(noSettings, args)
	if err != nil {
		return err
	}
	command.BindTo(ctx, (*context.Context)(nil))
	return command.Run()
}

// shown is a command line as one would type it, a long list of layers in short.
func shown(args []string) string {
	const few = 4
	var words []string
	months := 0
	for _, a := range args {
		if strings.HasPrefix(a, climate+"_") {
			if months++; months == few {
				words = append(words, "…")
			}
			if months >= few && months < 12 {
				continue
			}
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}
