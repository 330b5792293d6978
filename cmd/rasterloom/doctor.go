package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/rasterloom/rasterloom/cmd/rasterloom/internal/table"
	"github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1/alignerv1connect"
	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1/mergerv1connect"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/boot"
)

// maxSkew is how far clocks may be apart: tickets are good for 15 minutes, and
// tokens of an OIDC provider for about as long.
const maxSkew = 30 * time.Second

// checkup is how long a service may take to say whether it is well.
const checkup = 10 * time.Second

type doctorCommand struct {
	client
	FlightURL string `help:"Where the merger answers by Arrow Flight. Default: as the plan of a merge says." env:"RASTERLOOM_FLIGHT_URL" placeholder:"URL" group:"Connection"`
}

// Help is what --help says besides.
func (doctorCommand) Help() string {
	return `Nothing is changed. Exit status: 0 all is well, or no more than a warning; 1 something is to be mended; 3 a service cannot be reached.`
}

// finding is one thing that was looked at.
type finding struct {
	Check   string `json:"check"`
	State   string `json:"state"` // ok, warning, failed
	Message string `json:"message"`
	Mend    string `json:"mend,omitempty"`
}

const (
	stateOK      = "ok"
	stateWarning = "warning"
	stateFailed  = "failed"
)

// doctor gathers findings.
type doctor struct {
	c           doctorCommand
	findings    []finding
	unreachable bool
}

func (d *doctor) say(check, state, mend, format string, args ...any) {
	d.findings = append(d.findings, finding{Check: check, State: state, Message: fmt.Sprintf(format, args...), Mend: mend})
}

// Run looks at everything that can be looked at from here.
func (c doctorCommand) Run(ctx context.Context) error {
	d := &doctor{c: c}
	reached := true
	for _, s := range []struct{ name, health string }{
		{"schema", schemav1connect.SchemaServiceName}, {"aligner", alignerv1connect.AlignerServiceName}, {"merger", mergerv1connect.MergerServiceName},
	} {
		reached = d.service(ctx, s.name, s.health) && reached
	}
	if reached {
		d.access(ctx)
	}
	failed := 0
	for _, f := range d.findings {
		if f.State == stateFailed {
			failed++
		}
	}
	if err := d.print(); err != nil {
		return err
	}
	switch {
	case d.unreachable:
		return clientError(statusUnreachable)
	case failed > 0:
		return clientError(statusFailed)
	}
	return nil
}

// service looks whether a service is where it should be, can work, and agrees with
// this program on version and time. It reports whether the service can be asked.
func (d *doctor) service(ctx context.Context, name, healthName string) bool {
	at := d.c.url(name)
	where, err := url.Parse(at)
	if err != nil || where.Host == "" {
		d.say(name, stateFailed, "give --url as http://HOST:PORT", "%q is not an address", at)
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, min(d.c.Timeout, checkup))
	defer cancel()
	before := time.Now()
	answer, err := d.c.health(ctx, at, healthName)
	if err != nil {
		mend, why := d.absent(ctx, where, err)
		d.say(name, stateFailed, mend, "%v", why)
		return false
	}
	after := time.Now()
	switch {
	case answer.status == "SERVING":
		d.say(name, stateOK, "", "answers at %s, and can work", at)
	case answer.status == "NOT_SERVING" && name != "aligner":
		d.say(name, stateFailed, "look whether PostgreSQL runs, and whether DATABASE_URL (or --database-url) of the service is right: its log says what is wrong",
			"answers at %s, but cannot work: its database cannot be reached, or it is shutting down", at)
	case answer.status == "NOT_SERVING":
		d.say(name, stateFailed, "look into its log: the schema service that it asks may be away, or it is shutting down", "answers at %s, but cannot work", at)
	default:
		d.say(name, stateFailed, "say with --"+name+"-url where the service is", "what answers at %s is not Rasterloom's %s service", at, name)
		d.unreachable = true
		return false
	}
	d.version(name, answer.version)
	d.clock(name, answer.date, before, after)
	return answer.status == "SERVING"
}

// absent says how to mend that nobody answers, and why nobody does.
func (d *doctor) absent(ctx context.Context, where *url.URL, err error) (mend string, why error) {
	d.unreachable = true
	if _, ok := errors.AsType[*boot.CredentialsError](err); ok {
		return "see `rasterloom doctor --help` for the flags of the connection", err
	}
	port := portOf(where)
	if knock(ctx, where) != nil {
		return "start the suite with `rasterloom up`, or say with --url, or RASTERLOOM_URL, where it is",
			fmt.Errorf("nobody listens at %s", net.JoinHostPort(where.Hostname(), port))
	}
	return fmt.Sprintf("see which process has the port (lsof -i :%s); with TLS the URL begins with https, and --ca names the authorities", port),
		fmt.Errorf("port %s on %s is in use, but not by Rasterloom, or not in the way asked (%s): %w", port, where.Hostname(), where.Scheme, err)
}

// condition is what a service says of itself.
type condition struct {
	status, version string
	date            time.Time
}

// health asks by plain HTTP: the answer's header has the version and the time.
func (c connection) health(ctx context.Context, at, service string) (condition, error) {
	body, err := json.Marshal(map[string]string{"service": service})
	if err != nil {
		return condition{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(at, "/")+"/grpc.health.v1.Health/Check", strings.NewReader(string(body)))
	if err != nil {
		return condition{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.http().Do(req)
	if err != nil {
		return condition{}, err
	}
	defer res.Body.Close()
	var said struct {
		Status string `json:"status"`
	}
	const most = 64 << 10
	// What is no JSON has no status.
	_ = json.NewDecoder(io.LimitReader(res.Body, most)).Decode(&said)
	date, _ := http.ParseTime(res.Header.Get("Date"))
	return condition{strings.TrimPrefix(said.Status, "SERVING_STATUS_"), res.Header.Get(boot.VersionHeader), date}, nil
}

func (d *doctor) version(name, theirs string) {
	switch ours := boot.Release(); theirs {
	case ours:
		d.say(name+" version", stateOK, "", "%s", theirs)
	case "":
		d.say(name+" version", stateWarning, "update the service", "the service does not say which it is, and so is older than this program, %s", ours)
	default:
		d.say(name+" version", stateWarning, "use a command line and services of one release", "%s, and this program is %s", theirs, ours)
	}
}

// clock compares the service's time, in whole seconds, with ours.
func (d *doctor) clock(name string, theirs, before, after time.Time) {
	if theirs.IsZero() {
		return
	}
	var skew time.Duration
	if theirs.Add(time.Second).Before(before) {
		skew = before.Sub(theirs.Add(time.Second))
	} else if theirs.After(after) {
		skew = theirs.Sub(after)
	}
	if skew = skew.Round(time.Second); skew > maxSkew {
		d.say(name+" clock", stateWarning, "synchronise both machines (NTP): tickets and tokens end by the clock", "%v apart from this machine's", skew)
		return
	}
	d.say(name+" clock", stateOK, "", "agrees with this machine's to %v", max(skew, time.Second))
}

// access looks whether the caller is let in, whether there are layers, and whether
// tables can be fetched.
func (d *doctor) access(ctx context.Context) {
	all, err := allLayers(ctx, d.c.client, &schemav1.ListLayersRequest{})
	if err != nil {
		d.say("access", stateFailed, "", "%v", err)
		return
	}
	d.say("access", stateOK, "", "may read the catalog: reader, or more")
	d.migrations(ctx)
	if len(all.GetLayers()) == 0 {
		d.say("catalog", stateWarning, "`rasterloom layers adopt` takes over an existing catalog; `rasterloom ingest` sends rasters", "has no layer")
		return
	}
	var readable string
	broken := 0
	for _, l := range all.GetLayers() {
		if l.GetFormat() == layerv1.Format_FORMAT_INVALID {
			broken++
		} else if readable == "" {
			readable = l.GetName()
		}
	}
	if broken > 0 {
		d.say("catalog", stateWarning, "`rasterloom layers list` shows which, `rasterloom layers show NAME` why", "%s, %d of them cannot be read", plural(len(all.GetLayers()), "layer"), broken)
	} else {
		d.say("catalog", stateOK, "", "%s, all of them readable", plural(len(all.GetLayers()), "layer"))
	}
	if readable != "" {
		d.flight(ctx, readable)
	}
}

// manyMigrations is as many as can be asked for at once; the newest come first.
const manyMigrations = 1000

// migrations looks whether one of them waits for somebody to mend something.
func (d *doctor) migrations(ctx context.Context) {
	list, err := ask(ctx, d.c.client, "schema", d.c.client.migrations().ListMigrations, &schemav1.ListMigrationsRequest{Limit: manyMigrations})
	if err != nil {
		d.say("migrations", stateFailed, "", "%v", err)
		return
	}
	live := 0
	var stand []finding
	for _, m := range list.GetMigrations() {
		if m.GetState() >= schemav1.MigrationState_MIGRATION_STATE_FINALIZED {
			continue
		}
		live++
		name := fmt.Sprintf("%s of layer %s", m.GetId(), m.GetLayer())
		switch m.GetCondition() {
		case schemav1.MigrationCondition_MIGRATION_CONDITION_FAILED:
			stand = append(stand, finding{State: stateFailed, Message: fmt.Sprintf("%s failed: %s %s", name, m.GetFailure().GetReason(), m.GetFailure().GetMessage()),
				Mend: "mend what it names, then " + painter{}.next(m) + ": `rasterloom migrate show " + m.GetId() + "` shows it whole"})
		case schemav1.MigrationCondition_MIGRATION_CONDITION_PAUSED:
			stand = append(stand, finding{State: stateWarning, Message: name + " is paused, and each write to its table costs twice",
				Mend: painter{}.next(m) + " it by `rasterloom migrate`"})
		case schemav1.MigrationCondition_MIGRATION_CONDITION_RUNNING:
			if f := m.GetWaiting(); f != nil {
				stand = append(stand, finding{State: stateWarning, Message: fmt.Sprintf("%s waits: %s %s", name, f.GetReason(), f.GetMessage()),
					Mend: "it is tried again; `rasterloom migrate watch " + m.GetId() + "` follows it"})
			}
		}
	}
	for _, f := range stand {
		f.Check = "migrations"
		d.findings = append(d.findings, f)
	}
	if len(stand) == 0 {
		d.say("migrations", stateOK, "", "%s under way, none failed", plural(live, "migration"))
	}
}

// flight looks whether tables can be fetched from where the merger says.
func (d *doctor) flight(ctx context.Context, layer string) {
	spec := &mergerv1.MergeSpec{Layers: []*mergerv1.LayerSelection{{Name: layer}}}
	plan, err := ask(ctx, d.c.client, "merger", d.c.merger().PlanMerge, &mergerv1.PlanMergeRequest{Spec: spec})
	if err != nil {
		d.say("merger plans", stateFailed, "", "%v", err)
		return
	}
	at := cmp.Or(d.c.FlightURL, plan.GetFlightUri())
	if err := d.reachFlight(ctx, at); err != nil {
		d.say("flight", stateFailed, "open the port between here and there, or say with --flight-url how the merger is reached from here", "%s: %v", at, err)
		return
	}
	d.say("flight", stateOK, "", "answers at %s", at)
}

func (d *doctor) reachFlight(ctx context.Context, at string) error {
	conn, err := boot.DialFlight(d.c.ClientConfig, at)
	if err != nil {
		return err
	}
	defer conn.Close()
	asker := d.c.client
	asker.Timeout = min(asker.Timeout, checkup)
	limited, cancel := context.WithTimeout(ctx, asker.Timeout)
	defer cancel()
	if err := table.Reach(limited, conn); err != nil {
		failed := asker.flightFailed(ctx, at, err)
		if asked, ok := errors.AsType[*askError](failed); ok {
			asked.waited = limited.Err() != nil
		}
		return failed
	}
	return nil
}

func (d *doctor) print() error {
	if d.c.Output == "json" {
		out, err := json.MarshalIndent(map[string]any{"findings": d.findings}, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(standardOut, string(out))
		return err
	}
	p := newPainter(os.Stdout)
	for _, f := range d.findings {
		colours := map[string]text.Colors{stateOK: green, stateWarning: yellow, stateFailed: red}[f.State]
		p.prose("", p.paint(colours, fmt.Sprintf("%-8s", f.State))+fmt.Sprintf("%-16s %s", f.Check, f.Message))
		if f.Mend != "" {
			p.prose("         ", p.paint(dim, "mend: ")+f.Mend)
		}
	}
	return nil
}
