package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
	"google.golang.org/protobuf/proto"

	"github.com/rasterloom/rasterloom/cmd/rasterloom/internal/table"
	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	"github.com/rasterloom/rasterloom/internal/boot"
)

type mergeCommand struct {
	connection
	merged
	FlightURL      string `help:"Where the merger answers by Arrow Flight: grpc://HOST:PORT, or grpc+tls://HOST:PORT. Default: as the plan says." env:"RASTERLOOM_FLIGHT_URL" placeholder:"URL" group:"Connection"`
	UseLegacyMerge bool   `help:"Merge in the deprecated legacy way."`
	Output         string `short:"o" required:"" help:"File for the table, whose name ends in .parquet, .csv or .arrow; - is an Arrow stream on stdout." placeholder:"FILE"`
	Force          bool   `short:"f" help:"Replace a file that is there already."`
}

// Help is what --help says besides.
func (mergeCommand) Help() string {
	return `The table is streamed by Arrow Flight, in memory that does not grow with it. The file appears under its name once the table has proved to be whole, by the number of its rows and its content hash, or not at all.`
}

// Run writes the table of a merge.
func (c mergeCommand) Run(ctx context.Context) error {
	form, err := c.form()
	if err != nil {
		return err
	}
	spec, err := c.spec()
	if err != nil {
		return err
	}
	if c.UseLegacyMerge {
		spec.UseLegacyMerge = &c.UseLegacyMerge
	}
	if c.Output == "-" {
		return c.pipe(ctx, spec, form)
	}
	file, err := table.CreateFile(c.Output, c.Force)
	if err != nil {
		return err
	}
	defer file.Discard()
	start := time.Now()
	out := bufio.NewWriterSize(file, 1<<20)
	rows, err := c.write(ctx, spec, out, form)
	if err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	bytes, err := file.Commit()
	if err != nil {
		return err
	}
	p := newPainter(os.Stdout)
	fmt.Fprintf(p, "%s  %s rows, %s, in %v\n", p.paint(bold, c.Output), grouped(rows), size(bytes), time.Since(start).Round(time.Millisecond))
	return nil
}

// pipe writes the table to stdout. Whoever reads finds no end of the stream in a
// table that is not whole.
func (c mergeCommand) pipe(ctx context.Context, spec *mergerv1.MergeSpec, form table.Format) error {
	written := make(chan error, 1)
	go func() {
		out := bufio.NewWriterSize(standardOut, 1<<20)
		_, err := c.write(ctx, spec, out, form)
		if err == nil {
			err = out.Flush()
		}
		written <- err
	}()
	select {
	case err := <-written:
		return err
	case <-ctx.Done():
		// A write to a reader that takes nothing does not end by itself.
		return errStopped
	}
}

// errStopped is a table given up by Ctrl-C.
var errStopped = errors.New("stopped; nothing is written")

func (c mergeCommand) form() (table.Format, error) {
	if c.Output != "-" {
		return table.FormatOf(c.Output)
	}
	if term.IsTerminal(int(os.Stdout.Fd())) {
		return nil, errors.New("an Arrow stream is nothing for a terminal: pipe it into a program, or give a file with -o")
	}
	return table.ArrowStream, nil
}

// write plans the merge, says what is doubtful about it, and writes its table.
func (c mergeCommand) write(ctx context.Context, spec *mergerv1.MergeSpec, out io.Writer, form table.Format) (int64, error) {
	asker := client{connection: c.connection}
	plan, err := ask(ctx, asker, "merger", asker.merger().PlanMerge, &mergerv1.PlanMergeRequest{Spec: spec})
	if err != nil {
		return 0, err
	}
	p := newPainter(os.Stderr)
	for _, w := range plan.GetWarnings() {
		p.prose("", p.paint(yellow, "warning")+"  "+w)
	}
	at := cmp.Or(c.FlightURL, plan.GetFlightUri())
	conn, err := boot.DialFlight(c.ClientConfig, at)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	command, err := proto.Marshal(spec)
	if err != nil {
		return 0, err
	}
	reader := table.Reader{Conn: conn, Patience: c.Timeout}
	if p.width > 0 {
		reader.Progress = p.merging()
		defer fmt.Fprint(p, "\r\x1b[K")
	}
	rows, err := reader.Read(ctx, command, out, form)
	switch {
	case err == nil:
		return rows, nil
	case ctx.Err() != nil:
		return rows, errStopped
	case errors.Is(err, table.ErrSilent):
		return rows, fmt.Errorf("%s has said nothing for %v, which --timeout allows; nothing is written", at, c.Timeout)
	}
	failed := asker.flightFailed(ctx, at, err)
	if asked, ok := errors.AsType[*askError](failed); ok && rows > 0 {
		f := asked.fault()
		return rows, fmt.Errorf("the stream broke off after %s rows, and nothing is written: %s (%s)", grouped(rows), f.Message, f.Reason)
	}
	return rows, failed
}

// merging prints how a table grows, a few times a second.
func (p painter) merging() func(table.Progress) {
	const width, often = 24, 200 * time.Millisecond
	var last time.Time
	start := time.Now()
	return func(now table.Progress) {
		if time.Since(last) < often {
			return
		}
		last = time.Now()
		bar := ""
		if now.MaxRows > 0 {
			done := int(min(1, float64(now.Rows)/float64(now.MaxRows)) * width)
			bar = p.paint(green, strings.Repeat("━", done)) + p.paint(dim, strings.Repeat("━", width-done)) + "  "
		}
		perSecond := int64(float64(now.Rows) / max(time.Since(start).Seconds(), 0.001))
		fmt.Fprintf(p, "\r\x1b[K%s%s rows, %s a second", bar, grouped(now.Rows), grouped(perSecond))
	}
}
