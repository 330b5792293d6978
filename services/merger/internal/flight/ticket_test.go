package flight

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rasterloom/rasterloom/fault"
)

// secrets gives the same keys every time.
func secrets(s ...string) func() []string { return func() []string { return s } }

func TestTicketOpensOnlyAsSigned(t *testing.T) {
	s := newSigner(secrets("a secret of this deployment"))
	want := ticket{
		Principal: "alice",
		Spec:      []byte{1, 2, 3}, Start: -4, Stop: 100, Layers: []ticketLayer{{"birds", 7}},
		Expires: time.Now().Add(ticketLife).Unix(),
	}
	raw, err := s.sign(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := newSigner(secrets("a secret of this deployment")).open(raw, "alice")
	if err != nil || !bytes.Equal(got.Spec, want.Spec) || got.Start != -4 || got.Stop != 100 || got.Layers[0] != want.Layers[0] {
		t.Fatalf("another replica with the key reads %+v, %v", got, err)
	}

	refuse := func(name string, s *signer, raw []byte) {
		t.Helper()
		_, err := s.open(raw, "alice")
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
	refuse("another key", newSigner(secrets("another")), raw)
	refuse("a random key", newSigner(nil), raw)
	refuse("a mebibyte", s, make([]byte, 1<<20))
	noise := make([]byte, 300)
	for range 1000 {
		for i := range noise {
			noise[i] = byte(rand.Uint32())
		}
		refuse("noise", s, noise)
	}

	s.now = func() time.Time { return time.Now().Add(ticketLife + 2*time.Second) }
	if _, err := s.open(raw, "alice"); fault.From(err).Reason != fault.TicketExpired || fault.KindOf(err) != fault.NotFound {
		t.Errorf("after its life: %v, want TICKET_EXPIRED", err)
	}
}

// The first key signs; what any of them signed is good until its key is taken
// out.
func TestTicketKeysAreExchanged(t *testing.T) {
	sign := func(keys ...string) []byte {
		t.Helper()
		raw, err := newSigner(secrets(keys...)).sign(ticket{Principal: "alice", Expires: time.Now().Add(ticketLife).Unix()})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	old, young := sign("old"), sign("new", "old")
	for _, c := range []struct {
		keys     []string
		old, new bool
	}{{[]string{"old"}, true, false}, {[]string{"old", "new"}, true, true}, {[]string{"new", "old"}, true, true}, {[]string{"new"}, false, true}} {
		s := newSigner(secrets(c.keys...))
		_, oldErr := s.open(old, "alice")
		_, newErr := s.open(young, "alice")
		if (oldErr == nil) != c.old || (newErr == nil) != c.new {
			t.Errorf("keys %v: the old ticket %v, the new one %v", c.keys, oldErr, newErr)
		}
	}
}

func TestTicketIsOfItsPrincipalAlone(t *testing.T) {
	s := newSigner(nil)
	raw, err := s.sign(ticket{Principal: "alice", Expires: time.Now().Add(ticketLife).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{"bob", "", "Alice", "alice "} {
		if _, err := s.open(raw, other); fault.KindOf(err) != fault.Denied || fault.From(err).Reason != fault.PermissionDenied {
			t.Errorf("%q opens the ticket of alice: %v", other, err)
		}
	}
	if _, err := s.open(raw, "alice"); err != nil {
		t.Error(err)
	}
}

// A ticket says when it ends in Unix time: replicas in other time zones agree, and
// one whose clock is off is off by as much and no more.
func TestTicketsKnowNoTimeZone(t *testing.T) {
	at := time.Date(2026, 3, 29, 0, 59, 0, 0, time.UTC) // an hour before clocks change in Europe
	s := newSigner(secrets("a secret of this deployment"))
	s.now = func() time.Time { return at }
	raw, err := s.sign(ticket{Expires: s.now().Add(ticketLife).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	for _, zone := range []string{"UTC", "Europe/Berlin", "Pacific/Kiritimati", "America/St_Johns"} {
		location, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		for skew, good := range map[time.Duration]bool{
			0: true, -time.Hour: true, ticketLife: true, 14 * time.Minute: true, ticketLife + time.Second: false, time.Hour: false,
		} {
			s.now = func() time.Time { return at.Add(skew).In(location) }
			if _, err := s.open(raw, ""); (err == nil) != good {
				t.Errorf("%s, a clock that is %v ahead: %v", zone, skew, err)
			}
		}
	}
}

// Clocks of replicas differ. The expiry is a moment by the clock of who signed, so to
// another replica a ticket lives shorter or longer by the difference.
func TestTicketsAndClocksThatDiffer(t *testing.T) {
	signs, reads := newSigner(secrets("a secret of both replicas")), newSigner(secrets("a secret of both replicas"))
	moment := time.Date(2026, 3, 29, 0, 59, 0, 0, time.UTC)   // before a change to summer time
	for ahead, good := range map[time.Duration]time.Duration{ // the reader's clock; how long, by it
		0: 15 * time.Minute, 10 * time.Minute: 5 * time.Minute, -10 * time.Minute: 25 * time.Minute, 16 * time.Minute: -time.Minute,
	} {
		raw, err := signs.sign(ticket{Principal: "alice", Expires: moment.Add(ticketLife).Unix()})
		if err != nil {
			t.Fatal(err)
		}
		for _, after := range []time.Duration{good, good + time.Second} {
			reads.now = func() time.Time { return moment.Add(ahead + after).In(time.FixedZone("somewhere", 20700)) }
			_, err := reads.open(raw, "alice")
			if f := fault.From(err); (err == nil) != (after == good) || f != nil && f.Reason != fault.TicketExpired {
				t.Errorf("the reader's clock is %v ahead, %v later: %v", ahead, after, err)
			}
		}
	}
}

// FuzzTickets opens what anybody may send, as it is and signed by a key of ours.
func FuzzTickets(f *testing.F) {
	s := newSigner(secrets("a secret of this deployment"))
	good, err := s.sign(ticket{Principal: "alice", Spec: []byte{1}, Stop: 9, Layers: []ticketLayer{{"birds", 7}}, Expires: time.Now().Add(time.Hour).Unix()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[32:])
	f.Add([]byte(nil))
	f.Add([]byte(`{"version":2,"key":"","expires":1e99,"start":-9223372036854775808,"after":{"row":1},"layers":null}`))
	f.Add([]byte("{\"version\":2,\"principal\":\"alice\\u0000\",\"spec\":\"!\"}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := s.open(raw, "alice"); err == nil && !bytes.Equal(raw, good) {
			t.Fatalf("a ticket that nobody signed is good: %q", raw)
		}
		// What a key of ours signed is ours, whatever it says; reading it does no harm.
		key := s.keys()[0]
		read, ok := s.read(append(key.mac(raw), raw...))
		if ok && (read.Version != ticketVersion || read.Key != key.id) {
			t.Fatalf("a ticket of another version or key is read: %+v", read)
		}
	})
}
