package boot

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/rasterloom/rasterloom/internal/access"
)

// AccessConfig says who is let in, and how much of the process one principal
// may take. Where nothing is said, a process on a loopback address lets in
// whoever is on the machine, and one on another address does not start.
type AccessConfig struct {
	Tokens        string `help:"File of principals, their roles, and the hashes of their tokens; read again when it changes. 'rasterloom token new' makes its lines." type:"path" env:"RASTERLOOM_TOKENS" placeholder:"FILE"`
	OIDCIssuer    string `help:"OpenID Connect issuer whose signed tokens are accepted." name:"oidc-issuer" env:"RASTERLOOM_OIDC_ISSUER" placeholder:"URL"`
	OIDCAudience  string `help:"Audience that those tokens must be for." name:"oidc-audience" env:"RASTERLOOM_OIDC_AUDIENCE" placeholder:"NAME"`
	OIDCRoleClaim string `help:"Claim with the roles: rasterloom-reader, rasterloom-submitter, rasterloom-operator. Dots lead into objects." name:"oidc-role-claim" default:"roles" env:"RASTERLOOM_OIDC_ROLE_CLAIM" placeholder:"PATH"`
	Anonymous     string `help:"Role of callers without credentials: nobody, reader, submitter or operator. Default: nobody, but operator where only this machine can call and nobody is known by credentials." enum:"nobody,reader,submitter,operator," default:"" env:"RASTERLOOM_ANONYMOUS" placeholder:"ROLE"`

	ServiceTokenFile string `help:"File with the token by which this process asks the other services; its role there is service. Without it, the certificate is shown." type:"path" env:"RASTERLOOM_SERVICE_TOKEN_FILE" placeholder:"FILE"`

	Rate       float64       `help:"Calls a second that one principal may make, on average; 0 is no limit." default:"100" env:"RASTERLOOM_RATE"`
	Burst      int           `help:"Calls that may come at once beyond that." default:"200" env:"RASTERLOOM_BURST"`
	MaxCalls   int           `help:"Calls of one principal in hand at a time; 0 is no limit." default:"64" env:"RASTERLOOM_MAX_CALLS"`
	MaxStreams int           `help:"Streams of one principal in hand at a time; 0 is no limit." default:"16" env:"RASTERLOOM_MAX_STREAMS"`
	CallTime   time.Duration `help:"Longest time of a call; 0 is no limit." default:"10m" env:"RASTERLOOM_CALL_TIME"`
	StreamTime time.Duration `help:"Longest time of a stream; 0 is no limit." default:"24h" env:"RASTERLOOM_STREAM_TIME"`
}

func (c AccessConfig) validate(tls TLSConfig) error {
	var problems []error
	if (c.OIDCIssuer == "") != (c.OIDCAudience == "") {
		problems = append(problems, errors.New("--oidc-issuer and --oidc-audience come together: a token must be for somebody"))
	}
	if tls.ClientCA != "" && c.Tokens == "" {
		problems = append(problems, errors.New("--tls-client-ca needs --tokens, which says whose the certificates are"))
	}
	if c.Rate < 0 || c.Burst < 0 || c.MaxCalls < 0 || c.MaxStreams < 0 || c.CallTime < 0 || c.StreamTime < 0 {
		problems = append(problems, errors.New("a limit of --rate, --burst, --max-calls, --max-streams, --call-time or --stream-time is negative"))
	}
	return errors.Join(problems...)
}

// guard makes the guard of the process's doors. local is true where only this
// machine can reach them.
func (c AccessConfig) guard(local bool, log *zap.Logger) (*access.Guard, error) {
	o := access.Options{Limits: access.Limits{
		Rate: c.Rate, Burst: c.Burst, Calls: c.MaxCalls, Streams: c.MaxStreams, CallTime: c.CallTime, StreamTime: c.StreamTime,
	}}
	var err error
	if c.Tokens != "" {
		if o.Tokens, err = access.Open(c.Tokens, access.ParseTokens); err != nil {
			return nil, fmt.Errorf("--tokens: %w", err)
		}
		o.Tokens.Failed = func(err error) {
			log.Error("the file of tokens cannot be read; what it said before holds", zap.Error(err))
		}
	}
	if c.OIDCIssuer != "" {
		if o.OIDC, err = access.NewOIDC(c.OIDCIssuer, c.OIDCAudience, c.OIDCRoleClaim); err != nil {
			return nil, fmt.Errorf("--oidc-issuer: %w", err)
		}
	}
	switch {
	case c.Anonymous == "nobody":
	case c.Anonymous != "":
		if o.Anonymous, err = access.ParseRole(c.Anonymous); err != nil {
			return nil, fmt.Errorf("--anonymous: %w", err)
		}
	case o.Tokens != nil || o.OIDC != nil:
	case local:
		// One's own machine is one's own: the times of calls stay bounded, no more.
		o.Anonymous, o.LocalHost = access.Operator, true
		o.Limits = access.Limits{CallTime: c.CallTime, StreamTime: c.StreamTime}
	default:
		return nil, errors.New("the process can be reached from other machines, and knows nobody who may call: name principals by --tokens, " +
			"or an issuer by --oidc-issuer, or say by --anonymous what those without credentials may do")
	}
	return access.New(o), nil
}
