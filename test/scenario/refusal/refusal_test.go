// Package refusal_test sends what must be refused, over every protocol and from
// Go and Python, and looks whether each refusal is the promised one and whether
// anything was changed or left behind.
package refusal_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	schemaService     = "rasterloom.schema.v1.SchemaService/"
	migrationService  = "rasterloom.schema.v1.MigrationService/"
	coordinateService = "rasterloom.schema.v1.CoordinateService/"
	ingestService     = "rasterloom.schema.v1.IngestService/"
	alignerService    = "rasterloom.aligner.v1.AlignerService/"
	mergerService     = "rasterloom.merger.v1.MergerService/"
	exportService     = "rasterloom.merger.v1.ExportService/"
	flightService     = "arrow.flight.protocol.FlightService/"
)

// refusal is a request and what has to come of it.
type refusal struct {
	Name string `json:"name"`
	// Method is the whole name, "rasterloom.schema.v1.SchemaService/GetLayer".
	Method string `json:"method"`
	// Request is in the JSON form of the contract.
	Request string `json:"request"`
	// JSONOnly is for a request that has no form in protobuf.
	JSONOnly bool `json:"jsonOnly"`
	// Body is what is sent in place of a request, by every protocol as it is.
	Body []byte `json:"body"`
	// Messages are those of a call of Flight, as protobuf.
	Messages [][]byte `json:"messages"`
	// Batches is a stream of Arrow's that pyarrow can send by itself, with a
	// command before and closing words after it.
	Batches []byte `json:"batches"`
	Closing string `json:"closing"`
	// Compression is how pyarrow is to compress them.
	Compression string `json:"compression"`
	// NoPyarrow is for a message that pyarrow cannot be made to send.
	NoPyarrow bool `json:"noPyarrow"`
	// Gzip compresses it.
	Gzip bool `json:"gzip"`
	// As names the credentials that go along: an operator's where it is empty.
	As string `json:"-"`
	// Authorization is their header.
	Authorization string `json:"authorization"`

	// code as Connect writes it ("invalid_argument"), or "ok"; reason of the
	// ErrorInfo, "" for one that a protocol gives before our code has its say.
	code, reason string
	// answer is what a good answer holds, or a bad one's text.
	answer string
}

// byFlight says whether it is a call of Flight.
func (r refusal) byFlight() bool { return strings.HasPrefix(r.Method, flightService) }

// outcome is what came of a request.
type outcome struct {
	Code   string `json:"code"`
	Reason string `json:"reason"`
	Text   string `json:"text"` // the message of an error, or the answer as JSON
}

// malformed stands for the two codes of what is broken in some random way: it has
// either no sense or too large a size.
const malformed = "invalid_argument or resource_exhausted"

// meets says whether the outcome is the promised one.
func (o outcome) meets(r refusal) bool {
	return (o.Code == r.code || r.code == malformed && strings.Contains(malformed, o.Code)) && (r.reason == "" || o.Reason == r.reason) && strings.Contains(o.Text, r.answer)
}

// refusals is the table while it is written.
type refusals []refusal

// add appends a request in JSON.
func (l *refusals) add(method, name, request, code, reason string) {
	*l = append(*l, refusal{Name: name, Method: method, Request: request, code: code, reason: reason})
}

// object writes a JSON object of pairs; a value is JSON already.
func object(pairs ...string) string {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(&b, ",%q:%s", pairs[i], pairs[i+1])
	}
	return "{" + strings.TrimPrefix(b.String(), ",") + "}"
}

// changed writes a JSON object of fields with some of them otherwise.
func changed(fields map[string]string, change []string) string {
	for i := 0; i < len(change); i += 2 {
		fields[change[i]] = change[i+1]
	}
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		pairs = append(pairs, k, fields[k])
	}
	return object(pairs...)
}

func quote(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(text)
}
