package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/jedib0t/go-pretty/v6/text"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/rasterloom/rasterloom/fault"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/wire"
)

type migrateCommand struct {
	Plan     planMigrationCommand  `cmd:"" help:"Say what a migration of a layer would do and what stands in its way. Changes nothing."`
	Start    startMigrationCommand `cmd:"" help:"Start a migration. It copies and verifies, then waits for cutover."`
	List     listMigrationsCommand `cmd:"" help:"List migrations, the newest first."`
	Show     showMigrationCommand  `cmd:"" help:"Show all that is known about one migration."`
	Watch    watchCommand          `cmd:"" help:"Follow a migration until it waits for somebody, or is over."`
	Pause    pauseCommand          `cmd:"" help:"Stop a migration where it is. Writes to the table are captured all the same."`
	Resume   resumeCommand         `cmd:"" help:"Let a paused or failed migration go on."`
	Cutover  cutOverCommand        `cmd:"" help:"Give the table's name to the new table, or have the layer read from its tiles. Takes milliseconds; can be undone."`
	Rollback rollbackCommand       `cmd:"" help:"Give the name, or the layer, back to the old table, which has every write."`
	Finalize finalizeCommand       `cmd:"" help:"Compare once more and drop the old table. There is no way back."`
	Abort    abortCommand          `cmd:"" help:"Give a migration up before its cut-over. Nothing is left of it."`
}

func (c client) migrations() schemav1connect.MigrationServiceClient {
	return schemav1connect.NewMigrationServiceClient(c.http(), c.url("schema"), wire.ClientOptions()...)
}

type startMigrationCommand struct {
	client
	migrationSpec
	Key   string `help:"Idempotency key: the same key never starts a second migration. Default: a new one." placeholder:"TEXT"`
	Watch bool   `help:"Follow it."`
}

// Run starts a migration.
func (c startMigrationCommand) Run(ctx context.Context) error {
	key := c.Key
	if key == "" {
		key = "cli-" + rand.Text()
	}
	res, err := askLong(ctx, c.client, "schema", "the rows of layer "+c.Layer+" are counted", c.migrations().StartMigration, &schemav1.StartMigrationRequest{
		Spec: c.message(), IdempotencyKey: key, DiskHeadroomBytes: c.DiskHeadroom,
	})
	if err != nil {
		return err
	}
	if c.Watch {
		return watchCommand{migrationArg: migrationArg{client: c.client, Migration: res.GetMigration().GetId()}}.Run(ctx)
	}
	return c.printMigration(res.GetMigration())
}

type listMigrationsCommand struct {
	client
	Layer string `arg:"" optional:"" help:"Only migrations of this layer."`
}

// Run lists migrations.
func (c listMigrationsCommand) Run(ctx context.Context) error {
	res, err := ask(ctx, c.client, "schema", c.migrations().ListMigrations, &schemav1.ListMigrationsRequest{Layer: c.Layer})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return printJSON(standardOut, res)
	}
	p := newPainter(os.Stdout)
	if len(res.GetMigrations()) == 0 {
		fmt.Fprintln(p, "No migrations.")
		return nil
	}
	rows := make([][]string, 0, len(res.GetMigrations()))
	for _, m := range res.GetMigrations() {
		rows = append(rows, []string{
			p.paint(bold, m.GetId()), m.GetLayer(), p.state(m), grouped(m.GetRowsTotal()),
			m.GetStateTime().AsTime().Local().Format(time.DateTime), p.next(m),
		})
	}
	p.table([]string{"migration", "layer", "state", "rows|", "since", "next"}, rows)
	return nil
}

// migrationArg names a migration, by its id or by its layer.
type migrationArg struct {
	client
	Migration string `arg:"" help:"Id of the migration (m17), or name of its layer."`
}

// find gives the migration: of a layer, the newest.
func (c migrationArg) find(ctx context.Context) (*schemav1.Migration, error) {
	list, err := ask(ctx, c.client, "schema", c.migrations().ListMigrations, &schemav1.ListMigrationsRequest{Layer: c.Migration, Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(list.GetMigrations()) > 0 {
		return list.GetMigrations()[0], nil
	}
	res, err := ask(ctx, c.client, "schema", c.migrations().GetMigration, &schemav1.GetMigrationRequest{Id: c.Migration})
	if connect.CodeOf(errors.Unwrap(err)) == connect.CodeInvalidArgument {
		// It is no id, so it is meant for a layer: is there one?
		if _, err := ask(ctx, c.client, "schema", c.schema().GetLayer, &schemav1.GetLayerRequest{Name: c.Migration}); err != nil {
			return nil, err
		}
		return nil, fault.New(fault.NotFound, fault.MigrationNotFound, "layer %s has no migration", c.Migration).With("layer", c.Migration)
	}
	if err != nil {
		return nil, err
	}
	return res.GetMigration(), nil
}

type showMigrationCommand struct{ migrationArg }

// Run shows a migration.
func (c showMigrationCommand) Run(ctx context.Context) error {
	m, err := c.find(ctx)
	if err != nil {
		return err
	}
	return c.printMigration(m)
}

type watchCommand struct{ migrationArg }

// Run follows a migration. On a terminal one line is drawn over and over; else a
// line is printed for each state; with --output=json, one object a line.
func (c watchCommand) Run(ctx context.Context) error {
	m, err := c.find(ctx)
	if err != nil {
		return err
	}
	stream, err := c.migrations().WatchMigration(ctx, connect.NewRequest(&schemav1.WatchMigrationRequest{Id: m.GetId()}))
	if err != nil {
		return &askError{client: c.client, service: "schema", err: err, stopped: ctx.Err() != nil}
	}
	defer stream.Close()
	p := newPainter(os.Stdout)
	var shown, waited string
	for stream.Receive() {
		news := stream.Msg()
		switch {
		case c.Output == "json":
			line, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(news)
			if err != nil {
				return err
			}
			fmt.Fprintln(p, string(line))
		case p.width > 0:
			fmt.Fprint(p, "\r\x1b[K"+text.Trim(p.progress(news), p.width-1))
		case news.GetMigration().GetState().String() != shown, news.GetMigration().GetWaiting().GetReason() != waited:
			fmt.Fprintln(p, p.progress(news))
		}
		m = news.GetMigration()
		shown, waited = m.GetState().String(), m.GetWaiting().GetReason()
	}
	if p.width > 0 && c.Output != "json" {
		fmt.Fprintln(p)
	}
	if err := stream.Err(); err != nil {
		return &askError{client: c.client, service: "schema", err: err, stopped: ctx.Err() != nil}
	}
	if c.Output != "json" {
		if err := c.printMigration(m); err != nil {
			return err
		}
	}
	if m.GetCondition() == schemav1.MigrationCondition_MIGRATION_CONDITION_FAILED {
		return clientError(statusFailed) // why has been printed
	}
	return nil
}

// Help is what --help says besides.
func (watchCommand) Help() string {
	return `Exit status: 0 it waits for somebody, or is over; 1 it failed; 3 the service cannot be reached. A migration that somebody paused waits for him.`
}

// progress is one line: a bar while rows are copied, the state otherwise.
func (p painter) progress(w *schemav1.WatchMigrationResponse) string {
	m := w.GetMigration()
	line := fmt.Sprintf("%s %s  %s", p.paint(bold, m.GetId()), m.GetLayer(), p.state(m))
	if f := m.GetWaiting(); f != nil {
		return line + "  " + p.paint(yellow, "waits") + " " + f.GetReason() + " " + f.GetMessage()
	}
	if m.GetState() != schemav1.MigrationState_MIGRATION_STATE_BACKFILLING {
		return line
	}
	const width = 24
	full := int(m.GetFractionCopied() * width)
	line += fmt.Sprintf("  %s%s %3.0f %%  %s of %s rows", p.paint(green, strings.Repeat("█", full)), p.paint(dim, strings.Repeat("░", width-full)),
		100*m.GetFractionCopied(), grouped(m.GetRowsCopied()), grouped(m.GetRowsTotal()))
	if w.GetRowsPerSecond() > 0 {
		line += fmt.Sprintf("  %s rows/s", grouped(int64(w.GetRowsPerSecond())))
	}
	if left := w.GetRemaining(); left != nil {
		line += fmt.Sprintf("  %v left", left.AsDuration().Round(time.Second))
	}
	return line
}

// operatorArg is what changes a migration needs.
type operatorArg struct {
	migrationArg
	ETag string `name:"etag" help:"Do it only if the migration is still as it was when this etag was read. Default: as it is now." placeholder:"ETAG"`
}

// operate finds the migration, makes the call and prints what came of it.
func operate[Req, Res any, Answer interface {
	*Res
	GetMigration() *schemav1.Migration
}](ctx context.Context, c operatorArg, what string,
	call func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), request func(id, etag string) *Req,
) error {
	m, err := c.find(ctx)
	if err != nil {
		return err
	}
	etag := c.ETag
	if etag == "" {
		etag = m.GetEtag()
	}
	res, err := askLong(ctx, c.client, "schema", what, call, request(m.GetId(), etag))
	if asked, ok := errors.AsType[*askError](err); ok && asked.stopped {
		// It may have been done by then.
		return fault.New(fault.Unavailable, fault.FlightCancelled, "stopped; `rasterloom migrate show %s` says how it stands", m.GetId()).With("migration", m.GetId())
	}
	if err != nil {
		return err
	}
	return c.printMigration(Answer(res).GetMigration())
}

type (
	pauseCommand    struct{ operatorArg }
	resumeCommand   struct{ operatorArg }
	cutOverCommand  struct{ operatorArg }
	rollbackCommand struct{ operatorArg }
	abortCommand    struct{ operatorArg }
	finalizeCommand struct {
		operatorArg
		DropOldTable bool `help:"Say that the old table is to be dropped." required:""`
		DropName     bool `help:"Say, of a migration to tiles without --sql-view, that nothing is to have the table's name any more."`
		LoseWrites   bool `help:"Accept, where somebody dropped the table while tiles lagged behind it, that what was written to these last is lost."`
	}
)

// Run stops a migration where it is.
func (c pauseCommand) Run(ctx context.Context) error {
	return operate(ctx, c.operatorArg, "the migration is looked at", c.migrations().PauseMigration, func(id, etag string) *schemav1.PauseMigrationRequest {
		return &schemav1.PauseMigrationRequest{Id: id, Etag: etag}
	})
}

// Run lets a migration go on.
func (c resumeCommand) Run(ctx context.Context) error {
	return operate(ctx, c.operatorArg, "the migration is looked at", c.migrations().ResumeMigration, func(id, etag string) *schemav1.ResumeMigrationRequest {
		return &schemav1.ResumeMigrationRequest{Id: id, Etag: etag}
	})
}

// Run gives the name to the new table.
func (c cutOverCommand) Run(ctx context.Context) error {
	return operate(ctx, c.operatorArg, "the locks are tried for", c.migrations().CutOver, func(id, etag string) *schemav1.CutOverRequest {
		return &schemav1.CutOverRequest{Id: id, Etag: etag}
	})
}

// Run gives the name back to the old table.
func (c rollbackCommand) Run(ctx context.Context) error {
	return operate(ctx, c.operatorArg, "the locks are tried for", c.migrations().Rollback, func(id, etag string) *schemav1.RollbackRequest {
		return &schemav1.RollbackRequest{Id: id, Etag: etag}
	})
}

// Run drops the old table.
func (c finalizeCommand) Run(ctx context.Context) error {
	return operate(ctx, c.operatorArg, "both tables are compared once more, then the old one is dropped", c.migrations().Finalize, func(id, etag string) *schemav1.FinalizeRequest {
		return &schemav1.FinalizeRequest{Id: id, Etag: etag, DropOldTable: c.DropOldTable, DropName: c.DropName, LoseWrites: c.LoseWrites}
	})
}

// Run gives a migration up.
func (c abortCommand) Run(ctx context.Context) error {
	return operate(ctx, c.operatorArg, "the locks are tried for", c.migrations().AbortMigration, func(id, etag string) *schemav1.AbortMigrationRequest {
		return &schemav1.AbortMigrationRequest{Id: id, Etag: etag}
	})
}

// printMigration prints a migration as asked for.
func (c client) printMigration(m *schemav1.Migration) error {
	if c.Output == "json" {
		return printJSON(standardOut, m)
	}
	p := newPainter(os.Stdout)
	p.line(bold, m.GetId(), fmt.Sprintf(" of layer %s: %s since %s", m.GetLayer(), p.state(m), m.GetStateTime().AsTime().Local().Format(time.DateTime)))
	if f := m.GetFailure(); f != nil {
		p.prose("  ", p.paint(red, f.GetReason())+" "+f.GetMessage())
	}
	if f := m.GetWaiting(); f != nil {
		p.prose("  ", p.paint(yellow, "waits")+" "+f.GetReason()+" "+f.GetMessage())
	}
	if v := m.GetVerification(); v != nil {
		verdict := p.paint(green, "equal, every bit")
		if v.GetOldHash() != v.GetNewHash() || v.GetOldRows() != v.GetNewRows() || v.GetWrongCoordinates() > 0 {
			verdict = p.paint(red, "different")
		}
		what, also := "rows", grouped(v.GetWrongCoordinates())+" coordinates wrong"
		if m.GetLevel() == schemav1.MigrationLevel_MIGRATION_LEVEL_TILED {
			what = "cells"
			also = fmt.Sprintf("%s tiles, %s of them written to meanwhile; %s rows have no value", grouped(v.GetTiles()), grouped(v.GetLaggingTiles()), grouped(v.GetRowsWithoutValue()))
		}
		fmt.Fprintf(p, "  compared %s and %s %s in %v: %s; %s\n", grouped(v.GetOldRows()), grouped(v.GetNewRows()), what,
			v.GetElapsed().AsDuration().Round(time.Millisecond), verdict, also)
		for _, d := range v.GetDiffering() {
			fmt.Fprintf(p, "    row %d, col %d: %s\n", d.GetRow(), d.GetCol(), d.GetDifference())
		}
	}
	if next := p.next(m); next != "" {
		fmt.Fprintf(p, "  next: %s\n", next)
	}
	return nil
}

func (p painter) state(m *schemav1.Migration) string {
	state := strings.ToLower(strings.ReplaceAll(enumName(m.GetState(), "MIGRATION_STATE_"), "_", " "))
	switch m.GetCondition() {
	case schemav1.MigrationCondition_MIGRATION_CONDITION_FAILED:
		return p.paint(red, state+", failed")
	case schemav1.MigrationCondition_MIGRATION_CONDITION_PAUSED:
		return p.paint(yellow, state+", paused")
	default:
		return p.paint(cyan, state)
	}
}

// next says what an operator can do.
func (p painter) next(m *schemav1.Migration) string {
	switch {
	case m.GetCondition() != schemav1.MigrationCondition_MIGRATION_CONDITION_RUNNING && m.GetState() == schemav1.MigrationState_MIGRATION_STATE_CUT_OVER:
		return "resume or rollback"
	case m.GetCondition() == schemav1.MigrationCondition_MIGRATION_CONDITION_FAILED,
		m.GetCondition() == schemav1.MigrationCondition_MIGRATION_CONDITION_PAUSED:
		return "resume or abort"
	case m.GetState() == schemav1.MigrationState_MIGRATION_STATE_VERIFIED:
		return "cutover or abort"
	case m.GetState() == schemav1.MigrationState_MIGRATION_STATE_CUT_OVER:
		return "finalize or rollback"
	case m.GetState() < schemav1.MigrationState_MIGRATION_STATE_VERIFIED:
		return "watch"
	default:
		return ""
	}
}
