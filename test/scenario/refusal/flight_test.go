package refusal_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/protobuf/proto"
)

func marshal(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

// descriptor is a FlightDescriptor with a command.
func descriptor(command []byte) [][]byte {
	return [][]byte{marshal(&flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: command})}
}

// path is a FlightDescriptor with a path.
func path(names ...string) [][]byte {
	return [][]byte{marshal(&flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: names})}
}

// tickets are of endpoints of one layer each.
type tickets struct {
	alices, changed, gone []byte
}

// expired is a ticket as the merger signed it, a quarter of an hour ago: its form
// is HMAC-SHA256 over a JSON text, and the text.
func expired(t *testing.T, ticket []byte) []byte {
	t.Helper()
	var said map[string]any
	decoder := json.NewDecoder(bytes.NewReader(ticket[sha256.Size:]))
	decoder.UseNumber()
	if err := decoder.Decode(&said); err != nil {
		t.Fatal(err)
	}
	said["expires"] = 1_700_000_000
	text, err := json.Marshal(said)
	if err != nil {
		t.Fatal(err)
	}
	key := sha256.Sum256([]byte("rasterloom flight ticket\n" + ticketKey))
	mac := hmac.New(sha256.New, key[:])
	mac.Write(text)
	return append(mac.Sum(nil), text...)
}

// flightRefusals are the rows of the calls of Flight that read.
func flightRefusals(t *testing.T, rng *rand.Rand, tickets tickets) (list refusals) {
	t.Helper()
	add := func(method, name string, messages [][]byte, code, reason string) *refusal {
		list = append(list, refusal{Name: name, Method: flightService + method, Messages: messages, code: code, reason: reason})
		return &list[len(list)-1]
	}
	for _, method := range []string{"GetFlightInfo", "PollFlightInfo", "GetSchema"} {
		add(method, "an empty command", descriptor(nil), "invalid_argument", "INVALID_ARGUMENT")
		add(method, "a garbage command", descriptor([]byte("\xff\xff\xff\xff")), "invalid_argument", "INVALID_ARGUMENT")
		add(method, "half a command in JSON", descriptor([]byte(`{"layers": [`)), "invalid_argument", "INVALID_ARGUMENT")
		add(method, "no path", path(), "invalid_argument", "INVALID_ARGUMENT")
		add(method, "an unknown path", path("nobody"), "not_found", "LAYER_NOT_FOUND")
		add(method, "a layer twice", path("plain", "plain"), "invalid_argument", "LAYER_REPEATED")
		add(method, "neither command nor path", [][]byte{marshal(&flight.FlightDescriptor{Cmd: []byte("x")})}, "invalid_argument", "INVALID_ARGUMENT").NoPyarrow = true
		add(method, "no descriptor", [][]byte{nil}, "invalid_argument", "INVALID_ARGUMENT").NoPyarrow = true
		// gRPC's own answer to what does not parse, before anybody of ours is asked.
		add(method, "a descriptor that is none", [][]byte{[]byte("\xff\xff")}, "internal", "").NoPyarrow = true
	}
	add("GetFlightInfo", "5 MiB", descriptor(make([]byte, 5<<20)), "resource_exhausted", "")
	add("GetFlightInfo", "gzip bomb of 32 MiB", descriptor(make([]byte, 32<<20)), "resource_exhausted", "").Gzip = true
	// Tickets: one text for all that are not ours.
	const notOurs = "the ticket is not one of this deployment"
	ticket := func(name string, raw []byte, code, reason string) *refusal {
		return add("DoGet", name, [][]byte{marshal(&flight.Ticket{Ticket: raw})}, code, reason)
	}
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	for name, raw := range map[string][]byte{
		"empty": nil, "one byte": {0}, "random": random(200), "1 MiB": random(1 << 20), "the key": []byte(ticketKey), "cut": tickets.alices[:len(tickets.alices)-1],
		"longer": append(bytes.Clone(tickets.alices), 0), "the text alone": tickets.alices[sha256.Size:], "the signature alone": tickets.alices[:sha256.Size],
	} {
		ticket(name+" ticket", raw, "invalid_argument", "TICKET_INVALID").answer = notOurs
	}
	for range 24 {
		flipped := bytes.Clone(tickets.alices)
		flipped[rng.IntN(len(flipped))] ^= 1 << rng.IntN(8)
		ticket("bit-flipped ticket", flipped, "invalid_argument", "TICKET_INVALID").answer = notOurs
	}
	ticket("expired ticket", expired(t, tickets.alices), "not_found", "TICKET_EXPIRED").As = "alice"
	ticket("another principal's ticket", tickets.alices, "permission_denied", "PERMISSION_DENIED").As = "bob"
	ticket("another principal's ticket, to an operator", tickets.alices, "permission_denied", "PERMISSION_DENIED")
	ticket("ticket of a layer that changed since", tickets.changed, "aborted", "LAYER_CHANGED").As = "alice"
	ticket("ticket of a layer whose table is gone", tickets.gone, "aborted", "LAYER_CHANGED").As = "alice"
	ticket("a good ticket", tickets.alices, "ok", "").As = "alice"
	add("DoGet", "no ticket", [][]byte{nil}, "invalid_argument", "TICKET_INVALID").NoPyarrow = true
	add("DoGet", "5 MiB", [][]byte{marshal(&flight.Ticket{Ticket: make([]byte, 5<<20)})}, "resource_exhausted", "")

	action := func(kind, name string, body []byte, code, reason string) *refusal {
		return add("DoAction", kind+": "+name, [][]byte{marshal(&flight.Action{Type: kind, Body: body})}, code, reason)
	}
	action("", "unknown", nil, "unimplemented", "UNSUPPORTED")
	action("Shutdown", "unknown", nil, "unimplemented", "UNSUPPORTED")
	action(`x"; DROP TABLE plain`, "unknown", random(1000), "unimplemented", "UNSUPPORTED")
	endpoint := func(raw []byte) *flight.FlightEndpoint {
		return &flight.FlightEndpoint{Ticket: &flight.Ticket{Ticket: raw}}
	}
	cancel := func(endpoints ...*flight.FlightEndpoint) []byte {
		return marshal(&flight.CancelFlightInfoRequest{Info: &flight.FlightInfo{Endpoint: endpoints}})
	}
	resume := func(raw []byte, after string) []byte {
		return []byte(object("ticket", quote(base64.StdEncoding.EncodeToString(raw)), "after", after))
	}
	for _, kind := range []string{"CancelFlightInfo", "RenewFlightEndpoint", "ResumeFlightEndpoint"} {
		reason := "TICKET_INVALID"
		if kind != "RenewFlightEndpoint" {
			reason = "INVALID_ARGUMENT"
		}
		action(kind, "an empty body", nil, "invalid_argument", reason)
		action(kind, "garbage", []byte("\xff\xff\xff"), "invalid_argument", "INVALID_ARGUMENT")
		body := map[string]func([]byte) []byte{
			"CancelFlightInfo":     func(raw []byte) []byte { return cancel(endpoint(raw)) },
			"RenewFlightEndpoint":  func(raw []byte) []byte { return marshal(&flight.RenewFlightEndpointRequest{Endpoint: endpoint(raw)}) },
			"ResumeFlightEndpoint": func(raw []byte) []byte { return resume(raw, `{"row": 0, "col": 0}`) },
		}[kind]
		action(kind, "a random ticket", body(random(200)), "invalid_argument", "TICKET_INVALID")
		action(kind, "another principal's ticket", body(tickets.alices), "permission_denied", "PERMISSION_DENIED").As = "bob"
		if kind != "CancelFlightInfo" { // nothing is left to cancel, which is no error
			action(kind, "an expired ticket", body(expired(t, tickets.alices)), "not_found", "TICKET_EXPIRED").As = "alice"
		}
	}
	action("ResumeFlightEndpoint", "a row that is not in it", resume(tickets.alices, `{"row": 99, "col": 0}`), "invalid_argument", "INVALID_ARGUMENT").As = "alice"
	action("ResumeFlightEndpoint", "an unknown field", []byte(`{"path": "/etc/passwd"}`), "invalid_argument", "INVALID_ARGUMENT")

	add("ListFlights", "garbage criteria", [][]byte{marshal(&flight.Criteria{Expression: []byte("\xff'; --")})}, "invalid_argument", "INVALID_ARGUMENT")
	add("ListFlights", "criteria", [][]byte{marshal(&flight.Criteria{Expression: []byte("plain")})}, "invalid_argument", "INVALID_ARGUMENT")
	add("DoExchange", "not offered", [][]byte{nil}, "unimplemented", "").NoPyarrow = true
	add("Handshake", "not offered", [][]byte{nil}, "unimplemented", "UNSUPPORTED").NoPyarrow = true
	return list
}
