package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"go.uber.org/zap"

	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/internal/localpg"
	"github.com/rasterloom/rasterloom/services/aligner"
	"github.com/rasterloom/rasterloom/services/merger"
	"github.com/rasterloom/rasterloom/services/schema"
)

type upCommand struct {
	boot.Config
	boot.FlightConfig
	DatabaseURL string `help:"PostgreSQL that has the layers. Default: one of our own, kept between runs." env:"DATABASE_URL" placeholder:"URL"`
	DataDir     string `help:"Where the PostgreSQL of our own keeps its data. Default: a directory of the user's." env:"RASTERLOOM_DATA_DIR" type:"path" placeholder:"DIR"`
	Throwaway   bool   `help:"A PostgreSQL of our own that is gone afterwards." xor:"database"`
	// Merger has the limits of merges. What it says of addresses is overruled:
	// here the services find each other.
	Merger merger.Config `embed:"" prefix:"merger-" group:"Limits of merges"`
	// Ingest has the limits of what clients send.
	Ingest    schema.IngestConfig `embed:"" prefix:"ingest-" group:"Taking rasters from clients"`
	ReadyFile string              `help:"Write the addresses, as JSON, to this file once the suite can be asked; only this user can read it." type:"path" placeholder:"PATH"`
}

// ready is what the ready file says.
type ready struct {
	PID         int    `json:"pid"`
	URL         string `json:"url"`
	FlightURI   string `json:"flight_uri"`
	DatabaseURL string `json:"database_url"`
}

// check refuses settings that do not go together.
func (c upCommand) check() error {
	if c.DatabaseURL != "" && (c.DataDir != "" || c.Throwaway) {
		return errors.New("--data-dir and --throwaway are for a PostgreSQL of our own, and --database-url (or DATABASE_URL) names another: give one of them")
	}
	if c.DataDir != "" && c.Throwaway {
		return errors.New("--data-dir keeps the data, and --throwaway does not: give one of them")
	}
	return nil
}

// running is a suite that can be asked.
type running struct {
	process  *boot.Process
	database *database
	took     time.Duration
}

// Run serves the suite until ctx ends.
func (c upCommand) Run(ctx context.Context) error {
	return c.serve(ctx, os.Stderr, func(ctx context.Context, r running) {
		c.welcome(newPainter(os.Stdout), r)
		context.AfterFunc(ctx, func() { newPainter(os.Stderr).line(dim, "Stopping …", "") })
	})
}

// serve serves the suite until ctx ends, and logs to a file. began is called once
// the suite can be asked, with a context that ends when the suite stops.
func (c upCommand) serve(ctx context.Context, logs *os.File, began func(context.Context, running)) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := boot.LoadSecretFiles(); err != nil {
		return err
	}
	log, err := boot.NewLogger(c.Log, logs)
	if err != nil {
		return err
	}
	stopTraces, err := boot.StartTraces(ctx, c.Trace, "rasterloom", log)
	if err != nil {
		return err
	}
	defer stopTraces()
	start := time.Now()
	// The doors first: a port in use is known at once, before a database starts.
	process, err := boot.Open(ctx, c.Config, c.FlightListen, log)
	if err != nil {
		return err
	}
	database, err := c.database(ctx)
	if err != nil {
		process.Close()
		if ctx.Err() != nil {
			// What Ctrl-C broke off, initdb or a download, says that it failed.
			return errNotUpYet
		}
		return err
	}
	defer database.stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	database.watch(ctx, cancel)

	services, err := suite(ctx, process, database.url, c.Merger, c.Ingest)
	if err != nil {
		process.Close()
		return err
	}
	if c.ReadyFile != "" {
		said := ready{PID: os.Getpid(), URL: process.URL(), FlightURI: process.FlightURI(), DatabaseURL: database.url}
		if err := writeReady(c.ReadyFile, said); err != nil {
			closeAll(services)
			process.Close()
			return err
		}
		defer func() { _ = os.Remove(c.ReadyFile) }()
	}
	began(ctx, running{process, database, time.Since(start)})
	err = process.Serve(ctx, services...)
	if cause := context.Cause(ctx); errors.Is(cause, errDatabaseEnded) {
		return errors.Join(cause, err)
	}
	return err
}

// errNotUpYet is a suite given up by Ctrl-C while it started.
var errNotUpYet = errors.New("stopped before the suite was up")

// hideWiring takes the flags of the merger that up overrules out of the help.
func hideWiring(k *kong.Kong) error {
	return kong.Visit(k.Model, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			switch flag.Name {
			case "merger-database-url", "merger-schema-url", "merger-aligner-url":
				flag.Hidden = true
			}
		}
		return next(nil)
	})
}

// suite builds the three services. They reach one another by the clients of
// their contracts, within the process.
func suite(ctx context.Context, process *boot.Process, databaseURL string, weaver merger.Config, taker schema.IngestConfig) ([]*boot.Service, error) {
	inner := process.InnerURL()
	deps := func(name string) boot.Deps {
		d := process.Deps()
		d.Log = d.Log.With(zap.String("service", name))
		return d
	}
	var services []*boot.Service
	for _, build := range []func() (*boot.Service, error){
		func() (*boot.Service, error) {
			return schema.New(ctx, schema.Config{DatabaseURL: databaseURL, Ingest: taker}, deps("schema"))
		},
		func() (*boot.Service, error) {
			return aligner.New(ctx, aligner.Config{SchemaURL: inner}, deps("aligner"))
		},
		func() (*boot.Service, error) {
			weaver.DatabaseURL, weaver.SchemaURL, weaver.AlignerURL = databaseURL, inner, inner
			return merger.New(ctx, weaver, deps("merger"))
		},
	} {
		service, err := build()
		if err != nil {
			closeAll(services)
			return nil, err
		}
		services = append(services, service)
	}
	return services, nil
}

// closeAll gives up services that were never served.
func closeAll(services []*boot.Service) {
	for _, s := range services {
		if s.Close != nil {
			s.Close()
		}
	}
}

// database is the PostgreSQL that the suite works on.
type database struct {
	url    string
	said   []string // what it is, for people
	server *localpg.Server
	dir    string // of the data and the log; empty where they are thrown away
}

var errDatabaseEnded = errors.New("PostgreSQL ended while the suite was up")

func (c upCommand) database(ctx context.Context) (*database, error) {
	if c.DatabaseURL != "" {
		return &database{url: c.DatabaseURL, said: []string{"the one of DATABASE_URL, " + withoutPassword(c.DatabaseURL)}}, nil
	}
	dir := c.DataDir
	if dir == "" && !c.Throwaway {
		var err error
		if dir, err = localpg.DefaultDataDir(); err != nil {
			return nil, err
		}
	}
	p := newPainter(os.Stderr)
	server, err := localpg.Start(ctx, localpg.Options{DataDir: dir, Progress: func(what string) {
		p.line(dim, what+" …", "")
	}})
	if err != nil {
		return nil, err
	}
	kept := "data kept in " + dir
	if c.Throwaway {
		kept = "throwaway: the data are gone afterwards"
	}
	return &database{url: server.URL(), server: server, dir: dir, said: []string{server.Version + ", " + server.Source, kept, withoutPassword(server.URL())}}, nil
}

// watch ends the suite when its own PostgreSQL ends.
func (d *database) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	if d.server == nil {
		return
	}
	go func() {
		select {
		case <-d.server.Done():
			err := errDatabaseEnded
			if d.dir != "" {
				err = fmt.Errorf("%w; its log is in %s", err, d.dir)
			}
			cancel(err)
		case <-ctx.Done():
		}
	}()
}

func (d *database) stop() {
	if d.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := d.server.Stop(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "warning:", err)
	}
}

func (c upCommand) welcome(p painter, r running) {
	process := r.process
	fmt.Fprintf(p, "%s  %s\n\n", p.paint(bold, "Rasterloom is up."), p.paint(dim, fmt.Sprintf("%.1f s", r.took.Seconds())))
	row := func(name, value, note string) {
		if note != "" {
			note = "  " + p.paint(dim, note)
		}
		fmt.Fprintf(p, "  %s %s%s\n", p.paint(dim, fmt.Sprintf("%-11s", name)), value, note)
	}
	row("services", p.paint(cyan, process.URL()), "aligner, schema, merger: Connect, gRPC, JSON by curl")
	row("Flight", p.paint(cyan, process.FlightURI()), "merged tables out and rasters in, by Arrow Flight")
	for i, said := range r.database.said {
		row(cmp.Or(map[int]string{0: "PostgreSQL"}[i], ""), said, "")
	}
	fmt.Fprintf(p, "\n%s\n\n", p.paint(bold, "Try next, in another terminal"))
	if process.URL() != defaultURL {
		fmt.Fprintf(p, "  export RASTERLOOM_URL=%s\n", process.URL())
	}
	for _, next := range [][2]string{
		{"rasterloom layers adopt", "take over the layers of public.resampled_datasets"},
		{"rasterloom layers list", "what is stored, and how"},
		{"rasterloom align", "how do the grids relate?"},
		{`python -c "import rasterloom as rl; print(rl.connect().layers())"`, ""},
	} {
		fmt.Fprintln(p, strings.TrimRight(fmt.Sprintf("  %-25s%s", next[0], p.paint(dim, next[1])), " "))
	}
	fmt.Fprintf(p, "\n%s\n", p.paint(dim, "Ctrl-C stops it."))
}

// withoutPassword prints a database URL for people.
func withoutPassword(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "" {
		return "given as key=value pairs"
	}
	if query := u.Query(); query.Has("password") {
		query.Set("password", "xxxxx")
		u.RawQuery = query.Encode()
	}
	return u.Redacted()
}

// writeReady writes the file in one step, so that whoever waits for it never
// reads half of it.
func writeReady(path string, said ready) error {
	text, err := json.Marshal(said)
	if err != nil {
		return err
	}
	// CreateTemp makes it readable by this user only.
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("--ready-file: %w", err)
	}
	_, err = file.Write(append(text, '\n'))
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return fmt.Errorf("--ready-file: %w", err)
	}
	return nil
}
