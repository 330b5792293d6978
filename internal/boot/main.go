package boot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"github.com/alecthomas/kong"
	"go.uber.org/zap"

	"github.com/rasterloom/rasterloom/fault"
)

// version is set by the build: -ldflags "-X …/internal/boot.version=v1.2.3".
var version = "development"

// VersionHeader names the header of answers about health that has the server's
// release.
const VersionHeader = "Rasterloom-Version"

// Release is the release alone, such as v1.2.3.
func Release() string { return version }

// Version says which build this is.
func Version() string {
	return fmt.Sprintf("%s (%s, %s/%s)", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// Program is a command that runs one service. C is the Config of its front
// door, whose kong tags become flags beside those of Config.
type Program[C any] struct {
	Name         string // aligner
	About        string // one line for the help
	Listen       string // default address for RPC
	FlightListen string // default address for Flight; empty without it
	New          func(ctx context.Context, cfg C, deps Deps) (*Service, error)
}

// Main runs a program and ends the process: status 0 after a clean shutdown, 1
// after a failure, 2 when the command line cannot be read.
func Main[C any](program Program[C]) {
	var flight FlightConfig
	cli := struct {
		ConfigFile
		Serve struct {
			Config
			kong.Plugins
			Service C `embed:""`
		} `cmd:"" default:"withargs" help:"Serve until SIGTERM or Ctrl-C (the default)."`
		Healthcheck struct {
			Listen  string `help:"Address that the process listens on." default:"${listen}" env:"RASTERLOOM_LISTEN"`
			TLSCert string `help:"Certificate of the process, if it has one." name:"tls-cert" type:"path" env:"RASTERLOOM_TLS_CERT" placeholder:"FILE"`
		} `cmd:"" help:"Ask the running process whether it can work: status 0 if so, else 1. For containers without a shell."`
		Version struct{} `cmd:"" help:"Print the version."`
	}{}
	if program.FlightListen != "" {
		cli.Serve.Plugins = kong.Plugins{&flight}
	}
	exitOn(LoadSecretFiles())
	parser, err := kong.New(&cli, kong.Name(program.Name), kong.Description(program.About), Paths(), kong.Vars{
		"listen": program.Listen, "flight_listen": program.FlightListen, "log_level": "info",
		"config_default": "none.", "config_path": "",
	})
	exitOn(err)
	command, err := parser.Parse(os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "error: %s (%s --help lists the flags)\n", redact(err.Error()), program.Name)
		os.Exit(StatusUsage)
	}
	switch command.Command() {
	case "version":
		fmt.Println(program.Name, Version())
	case "healthcheck":
		exitOn(CheckHealth(context.Background(), cli.Healthcheck.Listen, cli.Healthcheck.TLSCert))
	default:
		exitOn(run(program, cli.Serve.Config, flight.FlightListen, cli.Serve.Service))
	}
}

func run[C any](program Program[C], cfg Config, flightListen string, service C) error {
	log, err := NewLogger(cfg.Log, os.Stderr)
	if err != nil {
		return err
	}
	log = log.With(zap.String("process", program.Name))
	ctx, stop := UntilSignal(context.Background())
	defer stop()

	stopTraces, err := StartTraces(ctx, cfg.Trace, program.Name, log)
	if err != nil {
		return err
	}
	defer stopTraces()
	process, err := Open(ctx, cfg, flightListen, log)
	if err != nil {
		return err
	}
	built, err := program.New(ctx, service, process.Deps())
	if err != nil {
		process.Close()
		return err
	}
	log.Info("serving", zap.String("version", version), zap.String("url", process.URL()), zap.String("flight", process.FlightURI()))
	err = process.Serve(ctx, built)
	log.Info("stopped")
	return err
}

// UntilSignal gives a context that ends at the first SIGTERM or Ctrl-C. The
// second one ends the process at once.
func UntilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// CheckHealth asks the process that listens on an address whether all of its
// services can work. certFile has the certificate of the process, and is empty
// where it has none.
func CheckHealth(ctx context.Context, listen, certFile string) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT", listen)
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "localhost"
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	scheme, asker := "http://", NewHTTPClient()
	if certFile != "" {
		config, err := pinned(certFile)
		if err != nil {
			return fmt.Errorf("--tls-cert: %w", err)
		}
		scheme, asker = "https://", newHTTPClient((&net.Dialer{Timeout: 5 * time.Second}).DialContext, config)
	}
	client := grpchealth.NewClient(asker, scheme+net.JoinHostPort(host, port), connect.WithGRPC())
	answer, err := client.Check(ctx, &grpchealth.CheckRequest{})
	if err != nil {
		return fmt.Errorf("no answer from %s: %w", net.JoinHostPort(host, port), err)
	}
	if answer.Status != grpchealth.StatusServing {
		return errors.New("not serving")
	}
	return nil
}

// LoadSecretFiles reads PGPASSWORD and DATABASE_URL from the files that
// PGPASSWORD_FILE and DATABASE_URL_FILE name, the way container platforms hand
// out secrets.
func LoadSecretFiles() error {
	for _, name := range []string{"PGPASSWORD", "DATABASE_URL"} {
		path := os.Getenv(name + "_FILE")
		if path == "" || os.Getenv(name) != "" {
			continue
		}
		secret, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("%s_FILE: %w", name, err)
		}
		if err := os.Setenv(name, strings.TrimRight(string(secret), "\r\n")); err != nil {
			return err
		}
	}
	return nil
}

// StatusUsage is the exit status where the command line, or a file of settings,
// cannot be read.
const StatusUsage = 2

// Told is the text of an error of a process for whoever starts it: with its causes,
// as in the log, and without secrets.
func Told(err error) string { return redact(fault.Detail(err)) }

func exitOn(err error) {
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "error:", Told(err))
	os.Exit(1)
}
