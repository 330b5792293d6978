package access_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/access"
)

// issuer is an OpenID Connect issuer of this machine.
type issuer struct {
	*httptest.Server
	key  *ecdsa.PrivateKey
	down atomic.Bool
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{key: newKey(t)}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		if i.down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": i.URL, "jwks_uri": i.URL + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"},
		})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: "1", Algorithm: "ES256", Use: "sig"}}})
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, key crypto.Signer, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestTokensOfAnIssuer(t *testing.T) {
	i := newIssuer(t)
	o, err := access.NewOIDC(i.URL, "rasterloom", "realm_access.roles")
	if err != nil {
		t.Fatal(err)
	}
	own := access.NewToken()
	g := access.New(access.Options{OIDC: o, Tokens: tokenFile(t, access.Line(access.Principal{Name: "local", Role: access.Operator}, own, time.Time{}))})
	claims := func(change func(map[string]any)) map[string]any {
		c := map[string]any{
			"iss": i.URL, "aud": "rasterloom", "sub": "3f2a-carol", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
			"realm_access": map[string]any{"roles": []string{"other", "rasterloom-reader", "rasterloom-submitter"}},
		}
		if change != nil {
			change(c)
		}
		return c
	}
	ask := func(method, token string) (access.Principal, error) {
		return admit(t, g, access.Call{Method: method, Authorization: "Bearer " + token})
	}

	// An issuer that is away is no reason to say that the token is not good.
	i.down.Store(true)
	_, err = ask(get, sign(t, i.key, claims(nil)))
	requireReason(t, "an issuer that is away", err, fault.Unavailable, fault.ServiceUnavailable)
	if p, err := ask(get, own); err != nil || p.Name != "local" {
		t.Errorf("a token of the file, with the issuer away: %v, %v", p, err)
	}
	i.down.Store(false)
	access.TryAgain(o)

	good := sign(t, i.key, claims(nil))
	if p, err := ask(start, good); err != nil || p != (access.Principal{Name: "oidc:3f2a-carol", Role: access.Submitter}) {
		t.Errorf("carol is %v, %v", p, err)
	}
	_, err = ask(cutOver, good)
	requireReason(t, "a submitter cuts over", err, fault.Denied, fault.PermissionDenied)
	_, err = ask(get, sign(t, i.key, claims(func(c map[string]any) { delete(c, "realm_access") })))
	requireReason(t, "no role", err, fault.Denied, fault.PermissionDenied)
	_, err = ask(get, sign(t, i.key, claims(func(c map[string]any) {
		c["realm_access"] = map[string]any{"roles": []string{"rasterloom-service", "reader"}}
	})))
	requireReason(t, "a role that an issuer cannot give", err, fault.Denied, fault.PermissionDenied)

	parts := strings.Split(good, ".")
	none := "eyJhbGciOiJub25lIn0." + parts[1] + "."
	for what, token := range map[string]string{
		"expired":         sign(t, i.key, claims(func(c map[string]any) { c["exp"] = time.Now().Add(-time.Minute).Unix() })),
		"of another":      sign(t, i.key, claims(func(c map[string]any) { c["iss"] = "https://issuer.test" })),
		"for another":     sign(t, i.key, claims(func(c map[string]any) { c["aud"] = "other" })),
		"another key":     sign(t, newKey(t), claims(nil)),
		"unsigned":        none,
		"changed":         parts[0] + "." + parts[1][:len(parts[1])-2] + "AA." + parts[2],
		"a bad subject":   sign(t, i.key, claims(func(c map[string]any) { c["sub"] = "line\nbreak" })),
		"no token at all": "a.b.c",
	} {
		_, err := ask(get, token)
		requireReason(t, fmt.Sprintf("a token that is %s", what), err, fault.Unauthenticated, fault.CredentialsInvalid)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}
