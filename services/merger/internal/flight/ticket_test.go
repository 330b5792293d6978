package flight

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rasterloom/rasterloom/fault"
)

func TestTicketOpensOnlyAsSigned(t *testing.T) {
	s := newSigner("a secret of this deployment")
	want := ticket{
		Spec: []byte{1, 2, 3}, Start: -4, Stop: 100, Layers: []ticketLayer{{"birds", 7}},
		Expires: time.Now().Add(ticketLife).Unix(),
	}
	raw, err := s.sign(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := newSigner("a secret of this deployment").open(raw)
	if err != nil || !bytes.Equal(got.Spec, want.Spec) || got.Start != -4 || got.Stop != 100 || got.Layers[0] != want.Layers[0] {
		t.Fatalf("another replica with the key reads %+v, %v", got, err)
	}

	refuse := func(name string, s *signer, raw []byte) {
		t.Helper()
		_, err := s.open(raw)
		f := fault.From(err)
		if f == nil || f.Reason != fault.TicketInvalid || f.Kind != fault.Invalid {
			t.Fatalf("%s: %v, want TICKET_INVALID", name, err)
		}
	}
	for bit := range len(raw) * 8 {
		flipped := bytes.Clone(raw)
		flipped[bit/8] ^= 1 << (bit % 8)
		refuse("a flipped bit", s, flipped)
	}
	for n := range raw {
		refuse("a cut ticket", s, raw[:n])
	}
	refuse("a longer ticket", s, append(bytes.Clone(raw), ' '))
	refuse("another key", newSigner("another"), raw)
	refuse("a random key", newSigner(""), raw)
	refuse("a mebibyte", s, make([]byte, 1<<20))
	noise := make([]byte, 300)
	for range 1000 {
		for i := range noise {
			noise[i] = byte(rand.Uint32())
		}
		refuse("noise", s, noise)
	}

	s.now = func() time.Time { return time.Now().Add(ticketLife + 2*time.Second) }
	if _, err := s.open(raw); fault.From(err).Reason != fault.TicketExpired || fault.KindOf(err) != fault.NotFound {
		t.Errorf("after its life: %v, want TICKET_EXPIRED", err)
	}
}
