package wire

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1" // all contracts, for the registry
	_ "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	_ "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/internal/access"
)

// Every call that can change something has a line in the audit log: all that take
// more than a reader, but for a plan that only says what would be.
func TestWhatChangesIsAudited(t *testing.T) {
	methods := []string{}
	for _, name := range []string{"Handshake", "ListFlights", "GetFlightInfo", "PollFlightInfo", "GetSchema", "DoGet", "DoPut", "DoExchange", "DoAction", "ListActions"} {
		methods = append(methods, "arrow.flight.protocol.FlightService/"+name)
	}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			if s := file.Services().Get(i); strings.HasPrefix(string(s.FullName()), "rasterloom.") {
				for j := range s.Methods().Len() {
					methods = append(methods, fmt.Sprintf("%s/%s", s.FullName(), s.Methods().Get(j).Name()))
				}
			}
		}
		return true
	})
	var audited, quiet []string
	for _, method := range methods {
		rule, ok := access.RuleOf(method)
		if !ok {
			t.Errorf("%s has no rule", method)
		}
		_, name, _ := strings.Cut(method, "/")
		switch changes := changes(&call{method: method}); {
		case changes:
			audited = append(audited, name)
		case rule.Role > access.Reader:
			quiet = append(quiet, name)
		}
	}
	slices.Sort(audited)
	want := []string{
		"AbortMigration", "AdoptCatalog", "CancelExport", "CutOver", "DoAction", "DoExchange", "DoPut", "DropLayer", "EnsureCoordinates", "Finalize",
		"PauseMigration", "RegisterLayer", "ResumeMigration", "Rollback", "StartExport", "StartMigration",
	}
	if !slices.Equal(audited, want) {
		t.Errorf("audited are %v", audited)
	}
	if !slices.Equal(quiet, []string{"PlanIngest"}) {
		t.Errorf("take more than a reader, and are not audited: %v", quiet)
	}
}
