package boot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Config is what every process of the suite can be told. The tags are kong's:
// flag, then environment, then default. A process gives the variables ${listen},
// ${flight_listen} and ${log_level}, since their defaults differ.
type Config struct {
	Listen       string        `help:"Address for Connect and gRPC calls; port 0 takes a free one." default:"${listen}" env:"RASTERLOOM_LISTEN"`
	Insecure     bool          `help:"Listen on an address other than loopback, and send tokens, although nothing is encrypted." env:"RASTERLOOM_INSECURE"`
	DrainDelay   time.Duration `help:"At shutdown, time between saying NOT_SERVING and closing the door, for load balancers to notice." default:"0s" env:"RASTERLOOM_DRAIN_DELAY"`
	DrainTimeout time.Duration `help:"At shutdown, longest time that calls in hand get to end." default:"30s" env:"RASTERLOOM_DRAIN_TIMEOUT"`
	DebugListen  string        `help:"Loopback address for profiles (Go's pprof), such as 127.0.0.1:6060. Default: none." env:"RASTERLOOM_DEBUG_LISTEN" placeholder:"HOST:PORT"`
	Trace        TraceConfig   `embed:"" prefix:"trace-"`
	Log          LogConfig     `embed:"" prefix:"log-" envprefix:"RASTERLOOM_LOG_"`
	TLS          TLSConfig     `embed:"" prefix:"tls-" envprefix:"RASTERLOOM_TLS_" group:"Encryption"`
	Access       AccessConfig  `embed:"" group:"Who is let in"`
}

// FlightConfig is what a process with a Flight server can be told besides.
type FlightConfig struct {
	FlightListen string `help:"Address for Arrow Flight; port 0 takes a free one." default:"${flight_listen}" env:"RASTERLOOM_FLIGHT_LISTEN"`
}

// LogConfig says what is logged, and how.
type LogConfig struct {
	Level  string `help:"Least severe level that is logged: ${enum}." enum:"debug,info,warn,error" default:"${log_level}" env:"LEVEL"`
	Format string `help:"Form of the log: ${enum}; auto is text on a terminal, else JSON." enum:"auto,text,json" default:"auto" env:"FORMAT"`
}

// Check reports every problem of the settings at once. No file is opened, and no
// port. It is not called Validate: the command line would be refused as unreadable.
func (c Config) Check() error { return c.validate() }

// validate reports every problem at once.
func (c Config) validate() error {
	var problems []error
	if c.DrainDelay < 0 {
		problems = append(problems, fmt.Errorf("--drain-delay is %v, and must not be negative", c.DrainDelay))
	}
	if c.DrainTimeout <= 0 {
		problems = append(problems, fmt.Errorf("--drain-timeout is %v, and must be more than 0", c.DrainTimeout))
	}
	problems = append(problems, c.TLS.validate(), c.Access.validate(c.TLS))
	return errors.Join(problems...)
}

// listen opens a listener. flag names the setting for people. covered is true
// where what is said there is encrypted, or need not be.
func listen(ctx context.Context, address, flag string, covered bool) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("--%s %q is not HOST:PORT, such as 127.0.0.1:7400", flag, address)
	}
	if !covered && !isLoopback(host) {
		return nil, fmt.Errorf("--%s %s can be reached from other machines, and nothing is encrypted: "+
			"listen on 127.0.0.1, give a certificate by --tls-cert and --tls-key, or say --insecure where a proxy or a private network protects it", flag, address)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("port %s on %s is in use: stop the process that has it (lsof -i :%s shows which), "+
			"or choose another with --%s", port, host, port, flag)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("port %s may not be opened by this user: choose one above 1023 with --%s", port, flag)
	case err != nil:
		return nil, fmt.Errorf("--%s %s: %w", flag, address, err)
	}
	return l, nil
}

// isLoopback reports whether only this machine can reach host. A name other
// than localhost is not trusted to stay what it resolves to now.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// onLoopback reports whether only this machine can reach a listener.
func onLoopback(l net.Listener) bool {
	address, ok := l.Addr().(*net.TCPAddr)
	return ok && address.IP.IsLoopback()
}

// reachable gives the address by which others can reach a listener: the
// machine's name where it listens on every address.
func reachable(l net.Listener) string {
	address, ok := l.Addr().(*net.TCPAddr)
	if !ok || !address.IP.IsUnspecified() {
		return l.Addr().String()
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return net.JoinHostPort(host, fmt.Sprint(address.Port))
}
