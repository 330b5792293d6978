package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// tokenPrefix makes a token of ours known to people, and to scanners for secrets
// in repositories.
const tokenPrefix = "rlt_"

// NewToken makes a token of 130 random bits. Only its hash is kept: see Line.
func NewToken() string { return tokenPrefix + strings.ToLower(rand.Text()) }

// nameOf is what a principal may be called: it goes into logs and headers.
var nameOf = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@:/-]{0,127}$`)

// CheckName says whether a principal can have a name.
func CheckName(name string) error {
	if !nameOf.MatchString(name) {
		return fmt.Errorf("%q cannot be the name of a principal: 1 to 128 letters, digits and . _ @ : / - , the first a letter or digit", name)
	}
	return nil
}

// Line is a line of a file of tokens: principal, role, hash, and the last day
// (UTC) of the token, if it has one.
func Line(p Principal, token string, lastDay time.Time) string {
	sum := sha256.Sum256([]byte(token))
	line := fmt.Sprintf("%s %s sha256:%s", p.Name, p.Role, hex.EncodeToString(sum[:]))
	if !lastDay.IsZero() {
		line += " expires=" + lastDay.Format(time.DateOnly)
	}
	return line
}

// Tokens are the principals of a file: by the hash of a token, or by the
// certificate of a client.
type Tokens struct {
	tokens []hashed
	// subjects and uris are of client certificates.
	subjects, uris map[string]Principal
}

type hashed struct {
	sum       [sha256.Size]byte
	principal Principal
	expires   time.Time // zero: never
}

// ParseTokens reads a file of tokens. A line is
//
//	PRINCIPAL ROLE sha256:HEX [expires=YYYY-MM-DD]
//	PRINCIPAL ROLE cert:SUBJECT     the subject of a client certificate, as RFC 2253 writes it
//	PRINCIPAL ROLE uri:URI          a URI among its alternative names, such as a SPIFFE id
//
// Empty lines and lines that begin with # are left out. A principal may have
// several lines. Errors name the line, and never quote it.
func ParseTokens(text []byte) (*Tokens, error) {
	t := &Tokens{subjects: map[string]Principal{}, uris: map[string]Principal{}}
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if err := t.add(line); err != nil {
			return nil, fmt.Errorf("line %d of the file of tokens: %w", i+1, err)
		}
	}
	return t, nil
}

func (t *Tokens) add(line string) error {
	fields := strings.Fields(line)
	if len(fields) < 3 {
		return fmt.Errorf("it has %d words, and looks like: PRINCIPAL ROLE sha256:HEX", len(fields))
	}
	p := Principal{Name: fields[0]}
	if err := CheckName(p.Name); err != nil {
		return err
	}
	role, err := ParseRole(fields[1])
	if err != nil {
		return err
	}
	p.Role = role
	kind, value, _ := strings.Cut(fields[2], ":")
	switch kind {
	case "sha256":
		return t.addHash(p, value, fields[3:])
	case "cert":
		// A subject may have spaces.
		_, subject, _ := strings.Cut(line, "cert:")
		return claim(t.subjects, strings.TrimSpace(subject), p)
	case "uri":
		return claim(t.uris, value, p)
	default:
		return fmt.Errorf("the third word is none of sha256:HEX, cert:SUBJECT and uri:URI")
	}
}

func (t *Tokens) addHash(p Principal, value string, more []string) error {
	h := hashed{principal: p}
	sum, err := hex.DecodeString(value)
	if err != nil || len(sum) != sha256.Size {
		return fmt.Errorf("what follows sha256: is not %d hexadecimal digits", 2*sha256.Size)
	}
	copy(h.sum[:], sum)
	for _, word := range more {
		day, ok := strings.CutPrefix(word, "expires=")
		if !ok {
			return fmt.Errorf("after the hash comes nothing but expires=YYYY-MM-DD")
		}
		last, err := time.Parse(time.DateOnly, day)
		if err != nil {
			return fmt.Errorf("expires=%.32q is not a day such as 2027-06-30", day)
		}
		h.expires = last.AddDate(0, 0, 1)
	}
	t.tokens = append(t.tokens, h)
	return nil
}

func claim(by map[string]Principal, key string, p Principal) error {
	if key == "" {
		return fmt.Errorf("the certificate is not named")
	}
	if other, ok := by[key]; ok && other != p {
		return fmt.Errorf("the certificate belongs to %s already", other.Name)
	}
	by[key] = p
	return nil
}

// byToken gives the principal of a token. Every hash is compared, each in
// constant time, so that the time says nothing of how close a guess came.
func (t *Tokens) byToken(token string, now time.Time) (Principal, bool) {
	sum := sha256.Sum256([]byte(token))
	var found *hashed
	for i := range t.tokens {
		if subtle.ConstantTimeCompare(sum[:], t.tokens[i].sum[:]) == 1 {
			found = &t.tokens[i]
		}
	}
	if found == nil || !found.expires.IsZero() && !now.Before(found.expires) {
		return Principal{}, false
	}
	return found.principal, true
}

// byCertificate gives the principal of a certificate that was verified.
func (t *Tokens) byCertificate(c *x509.Certificate) (Principal, bool) {
	if p, ok := t.subjects[c.Subject.String()]; ok {
		return p, true
	}
	for _, uri := range c.URIs {
		if p, ok := t.uris[uri.String()]; ok {
			return p, true
		}
	}
	return Principal{}, false
}
