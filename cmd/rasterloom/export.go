package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/rasterloom/rasterloom/fault"
	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1/mergerv1connect"
	"github.com/rasterloom/rasterloom/internal/wire"
)

type exportCommand struct {
	client
	merged
	To       string `required:"" help:"Name in the server's directory for exports. One that ends in .parquet gives one file, any other a directory of parts." placeholder:"NAME"`
	PartRows int64  `help:"Rows in a part of a directory. Default: the server decides." placeholder:"ROWS"`
	Key      string `help:"Names this request: the same key and request again give the same export." placeholder:"KEY"`
}

func (c client) exports() mergerv1connect.ExportServiceClient {
	return mergerv1connect.NewExportServiceClient(c.http(), c.url("merger"), wire.ClientOptions()...)
}

// Run has a merge written by the server, and follows it to its end. Ctrl-C
// cancels it.
func (c exportCommand) Run(ctx context.Context) error {
	spec, err := c.spec()
	if err != nil {
		return err
	}
	started, err := ask(ctx, c.client, "merger", c.exports().StartExport, &mergerv1.StartExportRequest{
		Spec: &mergerv1.ExportSpec{Merge: spec, Name: c.To, PartRows: c.PartRows}, IdempotencyKey: c.Key,
	})
	if err != nil {
		return err
	}
	id := started.GetExport().GetId()
	p := newPainter(os.Stdout)
	last, err := c.follow(ctx, p, id)
	switch {
	case err != nil && ctx.Err() != nil:
		return c.cancel(ctx, id)
	case err != nil:
		return &askError{client: c.client, service: "merger", err: err}
	}
	switch last.GetState() {
	case mergerv1.ExportState_EXPORT_STATE_SUCCEEDED:
		if c.Output != "json" {
			p.exported(last)
		}
		return nil
	case mergerv1.ExportState_EXPORT_STATE_FAILED:
		f := last.GetFailure()
		return &exportError{fault.New(fault.Internal, fault.Reason(f.GetReason()), "%s", f.GetMessage())}
	default:
		return errors.New("the export was cancelled by somebody else; nothing of it is left")
	}
}

// follow prints how an export goes on, and gives it as it was last.
func (c exportCommand) follow(ctx context.Context, p painter, id string) (*mergerv1.Export, error) {
	stream, err := c.exports().WatchExport(ctx, connect.NewRequest(&mergerv1.WatchExportRequest{Id: id}))
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	var last *mergerv1.Export
	for stream.Receive() {
		e := stream.Msg().GetExport()
		switch {
		case c.Output == "json":
			line, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(e)
			if err != nil {
				return nil, err
			}
			fmt.Fprintln(p, string(line))
		case p.width > 0:
			fmt.Fprint(p, "\r\x1b[K"+p.exporting(e))
		}
		last = e
	}
	if p.width > 0 && c.Output != "json" {
		fmt.Fprint(p, "\r\x1b[K")
	}
	return last, stream.Err()
}

// cancel ends the export after Ctrl-C, which has ended ctx.
func (c exportCommand) cancel(ctx context.Context, id string) error {
	const patience = 10 * time.Second
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer stop()
	if _, err := ask(ctx, c.client, "merger", c.exports().CancelExport, &mergerv1.CancelExportRequest{Id: id}); err != nil {
		return err
	}
	return errors.New("stopped: the export is cancelled, and nothing of it is left")
}

// exportError is an export that failed on the server, as it told.
type exportError struct{ said *fault.Error }

// Error gives the server's sentence with its reason.
func (e *exportError) Error() string { return fmt.Sprintf("%s (%s)", e.said.Message, e.said.Reason) }

// Unwrap gives what the server said.
func (e *exportError) Unwrap() error { return e.said }

// exporting is one line: a bar and what was written.
func (p painter) exporting(e *mergerv1.Export) string {
	const width = 24
	done := int(e.GetFraction() * width)
	what := strings.ToLower(enumName(e.GetState(), "EXPORT_STATE_"))
	if e.GetPhase() != mergerv1.ExportPhase_EXPORT_PHASE_UNSPECIFIED {
		what = strings.ToLower(enumName(e.GetPhase(), "EXPORT_PHASE_"))
	}
	return fmt.Sprintf("%s  %s%s  %s  %s rows, %s", p.paint(bold, e.GetName()), p.paint(green, strings.Repeat("━", done)),
		p.paint(dim, strings.Repeat("━", width-done)), what, grouped(e.GetRows()), size(e.GetBytes()))
}

// exported says what was written.
func (p painter) exported(e *mergerv1.Export) {
	m := e.GetManifest()
	took := e.GetEndTime().AsTime().Sub(e.GetStartTime().AsTime()).Round(time.Millisecond)
	fmt.Fprintf(p, "%s  %s rows, %s in %s, in %v\n", p.paint(bold, e.GetName()), grouped(m.GetRows()), size(m.GetBytes()), plural(len(m.GetParts()), "file"), took)
	layers := make([][]string, 0, len(m.GetLayers()))
	for _, l := range m.GetLayers() {
		layers = append(layers, []string{p.paint(bold, l.GetColumn()), l.GetName(), grouped(l.GetCells())})
	}
	p.table([]string{"column", "layer", "values|"}, layers)
	for _, w := range e.GetWarnings() {
		p.prose("", p.paint(yellow, "warning")+"  "+w)
	}
	if len(m.GetParts()) == 1 {
		fmt.Fprintf(p, "SHA-256 %s\n", m.GetParts()[0].GetSha256())
	}
}
