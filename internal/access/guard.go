package access

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/rasterloom/rasterloom/fault"
)

// Call is what an edge knows of a call before it reads its message.
type Call struct {
	// Method is the full name, such as rasterloom.schema.v1.SchemaService/GetLayer.
	Method string
	// Authorization is the header of that name; empty without.
	Authorization string
	// OnBehalf names who a service calls for: see OnBehalfHeader.
	OnBehalf string
	// Certificate is the client's, once the chain was verified; nil without.
	Certificate *x509.Certificate
	// Host is the host that the client believes it speaks to, in HTTP.
	Host string
}

// OnBehalfHeader carries the name of the principal that a service of the suite
// calls for. It counts only from a Service.
const OnBehalfHeader = "Rasterloom-On-Behalf-Of"

// Anonymous is the name of callers without credentials, where they are let in.
const Anonymous = "anonymous"

// Options say who is let in.
type Options struct {
	// Tokens and OIDC know principals; nil for none.
	Tokens *File[*Tokens]
	OIDC   *OIDC
	// Anonymous is what callers without credentials may.
	Anonymous Role
	// LocalHost refuses calls that name another host than this machine: those
	// of a web page that was tricked into calling, or of a proxy that opens a
	// loopback address to others.
	LocalHost bool
	Limits    Limits
	// Rules replaces the table of methods, for tests.
	Rules map[string]Rule
}

// Guard stands before every method of a process: by default it lets nobody in.
// A nil Guard refuses everything.
type Guard struct {
	o      Options
	rules  map[string]Rule
	quotas *quotas
	now    func() time.Time
}

// New makes a guard.
func New(o Options) *Guard {
	g := &Guard{o: o, rules: o.Rules, quotas: newQuotas(o.Limits), now: time.Now}
	if g.rules == nil {
		g.rules = rules
	}
	return g
}

// Everybody makes a guard that lets everybody do everything: for the loopback
// address of one's own machine, and for tests.
func Everybody() *Guard { return New(Options{Anonymous: Operator}) }

// Within makes the guard of calls between the services of one process, which
// nobody else can make.
func Within() *Guard { return New(Options{Anonymous: Service}) }

// Admit decides on a call, before its message is read. The context it gives has
// the principal and the longest time of the call; release ends the call's share
// of its principal's quotas, and is to be called in any case but an error.
// Errors: Unauthenticated CREDENTIALS_INVALID, Denied PERMISSION_DENIED, Unsupported
// UNSUPPORTED (no such method), Limit QUOTA_EXCEEDED, Unavailable (the issuer of
// tokens).
func (g *Guard) Admit(ctx context.Context, c Call) (inner context.Context, release func(), err error) {
	if g == nil {
		return nil, nil, unauthenticated(errors.New("the process has no guard"))
	}
	rule, known := g.rules[strings.TrimPrefix(c.Method, "/")]
	if known && rule.Role == Nobody {
		return ctx, func() {}, nil
	}
	p, err := g.identify(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	if !known {
		return nil, nil, fault.New(fault.Unsupported, fault.NotSupported, "there is no method %.128q here", strings.TrimPrefix(c.Method, "/"))
	}
	if !p.Role.may(rule.Role) {
		return nil, nil, fault.New(fault.Denied, fault.PermissionDenied, "%q is a %s, and this is for a %s: ask who runs this server", p.Name, p.Role, rule.Role).
			With("principal", p.Name).With("role", p.Role).With("needed", rule.Role)
	}
	release = func() {}
	if p.Role == Service {
		// Quotas were met at the door where the caller came in.
		if c.OnBehalf != "" && CheckName(c.OnBehalf) == nil {
			p.Name = c.OnBehalf
		}
	} else if release, err = g.quotas.enter(ctx, p.Name, rule.Stream); err != nil {
		return nil, nil, err
	}
	ctx = With(ctx, p)
	limit, flag := g.o.Limits.CallTime, "--call-time"
	if rule.Stream || rule.Long {
		limit, flag = g.o.Limits.StreamTime, "--stream-time"
	}
	if limit <= 0 {
		return ctx, release, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, &OvertimeError{Limit: limit, Flag: flag})
	leave := release
	return ctx, func() { cancel(); leave() }, nil
}

// OvertimeError is why the context of a call that took too long ended.
type OvertimeError struct {
	Limit time.Duration
	Flag  string // of the process, that sets it
}

// Error gives the sentence for people.
func (e *OvertimeError) Error() string {
	return fmt.Sprintf("the call took longer than the %v that this server allows (%s)", e.Limit, e.Flag)
}

// Unwrap tells that it is a deadline that passed.
func (e *OvertimeError) Unwrap() error { return context.DeadlineExceeded }

// identify says who calls. Whoever shows credentials is known by them or refused;
// nobody falls back to being anonymous. Where nobody is known by credentials,
// they are not looked at.
func (g *Guard) identify(ctx context.Context, c Call) (Principal, error) {
	if g.o.LocalHost && !localHost(c.Host) {
		return Principal{}, fault.New(fault.Denied, fault.PermissionDenied,
			"this server lets anybody of this machine in and nobody else, and the call is for host %.128q: "+
				"give it --tokens, or say --anonymous where others are to be let in", c.Host).With("host", c.Host)
	}
	knows := g.o.Tokens != nil || g.o.OIDC != nil
	if c.Authorization != "" && knows {
		return g.byToken(ctx, c.Authorization)
	}
	if c.Certificate != nil && g.o.Tokens != nil {
		if p, ok := g.o.Tokens.Get().byCertificate(c.Certificate); ok {
			return p, nil
		}
		return Principal{}, unauthenticated(errors.New("nobody has the certificate of " + c.Certificate.Subject.String()))
	}
	if g.o.Anonymous == Nobody {
		return Principal{}, unauthenticated(errors.New("no credentials"))
	}
	return Principal{Name: Anonymous, Role: g.o.Anonymous}, nil
}

func (g *Guard) byToken(ctx context.Context, header string) (Principal, error) {
	scheme, token, _ := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return Principal{}, unauthenticated(errors.New("the header is not Bearer and a token"))
	}
	if g.o.OIDC != nil && isJWT(token) {
		p, cause, err := g.o.OIDC.verify(ctx, token)
		if cause != nil {
			err = unauthenticated(cause)
		}
		return p, err
	}
	if g.o.Tokens != nil {
		if p, ok := g.o.Tokens.Get().byToken(token, g.now()); ok {
			return p, nil
		}
	}
	return Principal{}, unauthenticated(errors.New("nobody has this token, or it has expired"))
}

// unauthenticated is one answer for all, so that nothing can be learnt by
// trying. The cause is for the log.
func unauthenticated(cause error) error {
	return fault.New(fault.Unauthenticated, fault.CredentialsInvalid, "no credentials that are good here: send a bearer token, or a client certificate").
		Because(cause)
}

func localHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	if host == "" || host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
