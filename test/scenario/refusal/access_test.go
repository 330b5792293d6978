package refusal_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"

	flightgen "github.com/apache/arrow-go/v18/arrow/flight/gen/flight"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/rasterloom/rasterloom/internal/access"
)

// badCredentials are shown by nobody in particular.
func badCredentials(good string) map[string]string {
	token := strings.TrimPrefix(good, "Bearer ")
	last := token[len(token)-1]
	flipped := token[:len(token)-1] + string(rune(last^1))
	return map[string]string{
		"no credentials": "", "an empty token": "Bearer ", "no token": "Bearer", "another scheme": "Basic b2xnYTpvbGdh", "the token alone": token,
		"somebody else's": "Bearer " + access.NewToken(), "a token with one bit changed": "Bearer " + flipped, "a token and more": good + " " + token,
		"a token that looks signed": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJvbGdhIn0.", "1 KiB": "Bearer " + strings.Repeat("x", 1<<10),
	}
}

// everyMethod lists the methods of the contracts and of Flight that have a rule.
func everyMethod() (methods []string) {
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(string(file.Package()), "rasterloom.") {
			for i := range file.Services().Len() {
				s := file.Services().Get(i)
				for j := range s.Methods().Len() {
					methods = append(methods, fmt.Sprintf("%s/%s", s.FullName(), s.Methods().Get(j).Name()))
				}
			}
		}
		return true
	})
	for _, m := range flightgen.FlightService_ServiceDesc.Methods {
		methods = append(methods, flightService+m.MethodName)
	}
	for _, s := range flightgen.FlightService_ServiceDesc.Streams {
		methods = append(methods, flightService+s.StreamName)
	}
	return methods
}

// accessRefusals ask every method with credentials that are not good, have
// expired, or are of too low a role. Of the bad ones a method is shown a few, drawn
// anew each time, and all of them in `make faults`.
func accessRefusals(rng *rand.Rand, world map[string]string) (list refusals) {
	add := func(method, name, header, code, reason string) {
		r := refusal{Name: name, Method: method, Request: "{}", Authorization: header, As: "whoever", code: code, reason: reason}
		if r.byFlight() {
			r.Request, r.Messages = "", [][]byte{nil}
			// What pyarrow has a call for, with a message that it takes.
			switch strings.TrimPrefix(method, flightService) {
			case "GetFlightInfo", "GetSchema":
				r.Messages = path("plain")
			case "ListFlights", "ListActions", "DoGet", "DoAction":
			default:
				r.NoPyarrow = true
			}
		}
		list = append(list, r)
	}
	for _, method := range everyMethod() {
		rule, ok := access.RuleOf(method)
		if !ok || rule.Role == access.Nobody {
			continue
		}
		bad := badCredentials(world["olga"])
		names := slices.Sorted(maps.Keys(bad))
		rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		if os.Getenv("RASTERLOOM_FAULTS") != "all" {
			names = names[:3]
		}
		for _, name := range names {
			add(method, name, bad[name], "unauthenticated", "CREDENTIALS_INVALID")
		}
		add(method, "an expired token", world["expired"], "unauthenticated", "CREDENTIALS_INVALID")
		for who, role := range map[string]access.Role{"carol": access.Reader, "alice": access.Submitter, "suite": access.Service} {
			if role < rule.Role && (role != access.Service || rule.Role > access.Reader) { // a service reads
				add(method, who+", a "+role.String(), world[who], "permission_denied", "PERMISSION_DENIED")
			}
		}
	}
	return append(list, refusal{
		Name: "a method that is not", Method: flightService + "DoEverything", Messages: [][]byte{nil}, NoPyarrow: true, code: "unimplemented",
	})
}
