package access

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/rasterloom/rasterloom/fault"
)

const (
	// issuerTimeout bounds each question to an issuer.
	issuerTimeout = 10 * time.Second
	// issuerPause is the time between two attempts to reach one.
	issuerPause = 5 * time.Second
	// rolePrefix is what our roles are called among those of others.
	rolePrefix = "rasterloom-"
)

// OIDC knows principals by the signed tokens of an OpenID Connect issuer. The
// issuer is asked for its keys when the first token comes, and need not be up
// before.
type OIDC struct {
	issuer, audience string
	roleClaim        []string

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier
	tried    time.Time
}

// NewOIDC makes an OIDC. Tokens must name the audience. roleClaim is the claim
// with the names of roles (rasterloom-reader and so on; the highest counts), a
// path with dots into objects, such as realm_access.roles.
func NewOIDC(issuer, audience, roleClaim string) (*OIDC, error) {
	if audience == "" || roleClaim == "" {
		return nil, fmt.Errorf("an issuer of tokens needs the audience they are for, and the claim that has the roles")
	}
	return &OIDC{issuer: issuer, audience: audience, roleClaim: strings.Split(roleClaim, ".")}, nil
}

// isJWT reports whether a token looks like a signed one, which ours never do.
func isJWT(token string) bool { return strings.Count(token, ".") == 2 }

// ready gives the verifier. Errors: Unavailable SERVICE_UNAVAILABLE.
func (o *OIDC) ready() (*oidc.IDTokenVerifier, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.verifier != nil {
		return o.verifier, nil
	}
	away := fault.New(fault.Unavailable, fault.ServiceUnavailable, "the issuer of tokens cannot be reached: try again later").With("service", "oidc")
	if time.Since(o.tried) < issuerPause {
		return nil, away
	}
	o.tried = time.Now()
	// The context stays with the verifier, which asks for new keys by it.
	ctx := oidc.ClientContext(context.Background(), &http.Client{Timeout: issuerTimeout})
	provider, err := oidc.NewProvider(ctx, o.issuer)
	if err != nil {
		return nil, away.Because(err)
	}
	o.verifier = provider.VerifierContext(ctx, &oidc.Config{ClientID: o.audience})
	return o.verifier, nil
}

// verify gives the principal of a token: oidc: and its subject. ok is false for
// a token that is not good here, with the cause for the log.
func (o *OIDC) verify(ctx context.Context, token string) (p Principal, cause, err error) {
	verifier, err := o.ready()
	if err != nil {
		return Principal{}, nil, err
	}
	verified, err := verifier.Verify(ctx, token)
	if err != nil {
		return Principal{}, err, nil
	}
	var claims map[string]any
	if err := verified.Claims(&claims); err != nil {
		return Principal{}, err, nil
	}
	p = Principal{Name: "oidc:" + verified.Subject, Role: o.role(claims)}
	if err := CheckName(p.Name); err != nil {
		return Principal{}, err, nil
	}
	return p, nil, nil
}

// role gives the highest role of ours among the claims. Service is not among
// them: services of the suite have tokens or certificates of their own.
func (o *OIDC) role(claims map[string]any) Role {
	var at any = claims
	for _, step := range o.roleClaim {
		object, ok := at.(map[string]any)
		if !ok {
			return Nobody
		}
		at = object[step]
	}
	var names []any
	switch at := at.(type) {
	case string:
		for n := range strings.FieldsSeq(at) {
			names = append(names, n)
		}
	case []any:
		names = at
	}
	highest := Nobody
	for _, n := range names {
		name, ok := n.(string)
		if !ok {
			continue
		}
		name, ours := strings.CutPrefix(name, rolePrefix)
		if role, err := ParseRole(name); ours && err == nil && role > Service {
			highest = max(highest, role)
		}
	}
	return highest
}
