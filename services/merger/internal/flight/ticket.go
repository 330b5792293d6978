package flight

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

const (
	ticketVersion = 2
	// ticketLife is how long a ticket is good for.
	ticketLife = 15 * time.Minute
	// maxTicketBytes is far above what 256 layers need.
	maxTicketBytes = 512 << 10
)

// ticket is what DoGet needs to know, so that any merger with the same key can
// serve any endpoint.
type ticket struct {
	Version int    `json:"version"`
	Key     string `json:"key"`
	// Flight names the answer that the ticket came with; all its endpoints have
	// the same.
	Flight string `json:"flight"`
	// Principal is who asked; nobody else may read by it.
	Principal string `json:"principal"`
	// Spec is the canonical request.
	Spec []byte `json:"spec"`
	// Start and Stop are the rows of the reference lattice.
	Start int64 `json:"start"`
	Stop  int64 `json:"stop"`
	// After is the last cell that the client has already; nil for none.
	After *merge.Cell `json:"after,omitempty"`
	// Endpoint is the Start of the endpoint that this is all or the rest of.
	Endpoint int64 `json:"endpoint"`
	// Layers are the layers as they were planned with.
	Layers  []ticketLayer `json:"layers"`
	Expires int64         `json:"expires"` // Unix time in seconds
}

// key names the endpoint that the ticket is for.
func (t ticket) key() endpointKey { return endpointKey{t.Flight, t.Endpoint} }

type ticketLayer struct {
	Name       string `json:"name"`
	Generation int64  `json:"generation"`
}

// signer makes tickets and knows its own: a ticket is HMAC-SHA256 over a JSON
// text, followed by the text.
type signer struct {
	keys func() []signingKey // never empty; the first signs
	now  func() time.Time
}

type signingKey struct {
	secret [sha256.Size]byte
	id     string
}

func newKey(secret string) signingKey {
	k := signingKey{secret: sha256.Sum256([]byte("rasterloom flight ticket\n" + secret))}
	id := sha256.Sum256(k.secret[:])
	k.id = hex.EncodeToString(id[:4])
	return k
}

// newSigner takes the secrets that all mergers of a deployment share. Without
// any it makes its own, and its tickets end with the process.
func newSigner(secrets func() []string) *signer {
	own := newKey(rand.Text() + rand.Text())
	return &signer{now: time.Now, keys: func() []signingKey {
		var keys []signingKey
		if secrets != nil {
			for _, s := range secrets() {
				keys = append(keys, newKey(s))
			}
		}
		if len(keys) == 0 {
			keys = append(keys, own)
		}
		return keys
	}}
}

func (s *signer) sign(t ticket) ([]byte, error) {
	key := s.keys()[0]
	t.Version, t.Key = ticketVersion, key.id
	text, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("write a ticket: %w", err)
	}
	if len(text) > maxTicketBytes-sha256.Size {
		return nil, fault.New(fault.Limit, fault.LimitExceeded, "the ticket of this merge takes %d bytes, and the limit is %d", len(text), maxTicketBytes).
			With("bytes", len(text)).With("limit", maxTicketBytes)
	}
	return append(key.mac(text), text...), nil
}

// expiry is when a ticket expires that is signed now: in whole seconds, as tickets
// have it, so that nobody is promised more.
func (s *signer) expiry() time.Time { return s.now().Add(ticketLife).Truncate(time.Second) }

// open checks a ticket that somebody shows, and reads it. Everything but one of
// our own gets the same answer, so that nothing can be learnt by trying. Errors:
// Invalid TICKET_INVALID, Denied PERMISSION_DENIED (somebody else's), NotFound
// TICKET_EXPIRED.
func (s *signer) open(raw []byte, principal string) (ticket, error) {
	t, ok := s.read(raw)
	if !ok {
		return ticket{}, fault.New(fault.Invalid, fault.TicketInvalid, "the ticket is not one of this deployment: ask for the flight again").
			With("field", "ticket")
	}
	if t.Principal != principal {
		return ticket{}, fault.New(fault.Denied, fault.PermissionDenied, "the ticket is somebody else's: ask for the flight yourself").
			With("field", "ticket")
	}
	if expires := time.Unix(t.Expires, 0); s.now().After(expires) {
		return ticket{}, fault.New(fault.NotFound, fault.TicketExpired, "the ticket expired at %s: ask for the flight again",
			expires.UTC().Format(time.RFC3339)).With("expired", expires.UTC().Format(time.RFC3339))
	}
	return t, nil
}

// read gives what a ticket says, if one of the keys signed it.
func (s *signer) read(raw []byte) (t ticket, ok bool) {
	if len(raw) <= sha256.Size || len(raw) > maxTicketBytes {
		return ticket{}, false
	}
	mac, text := raw[:sha256.Size], raw[sha256.Size:]
	for _, key := range s.keys() {
		if hmac.Equal(mac, key.mac(text)) {
			err := json.Unmarshal(text, &t)
			return t, err == nil && t.Version == ticketVersion && t.Key == key.id
		}
	}
	return ticket{}, false
}

func (k signingKey) mac(text []byte) []byte {
	h := hmac.New(sha256.New, k.secret[:])
	h.Write(text)
	return h.Sum(nil)
}

// check fails when the plan is not the one that the ticket was made from.
func (t ticket) check(plan *merge.Plan, canonical []byte) error {
	for i, l := range t.Layers {
		if i < len(plan.Threads) && plan.Threads[i].Layer.Name == l.Name && plan.Threads[i].Layer.Generation != l.Generation {
			now := plan.Threads[i].Layer.Generation
			return fault.New(fault.Conflict, fault.LayerChanged,
				"layer %q changed since the ticket was made: its generation is %d, and was %d", l.Name, now, l.Generation).
				With("layer", l.Name).With("generation", now).With("planned_generation", l.Generation)
		}
	}
	within := t.Start >= plan.Window.RowStart && t.Start < t.Stop && t.Stop <= plan.Window.RowStop
	if len(t.Layers) != len(plan.Threads) || string(t.Spec) != string(canonical) || !within {
		return fault.New(fault.Conflict, fault.LayerChanged, "the merge is planned otherwise than when the ticket was made: ask for the flight again")
	}
	return nil
}
