package fault_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rasterloom/rasterloom/fault"
)

func TestFieldsAreCopied(t *testing.T) {
	base := fault.New(fault.Invalid, fault.InvalidGrid, "rows is %d", 0).With("field", "rows")
	longer := base.With("value", 0)
	if _, shared := base.Fields["value"]; shared {
		t.Fatal("With changed the fault it was called on")
	}
	if got, want := longer.Fields["field"]+" "+longer.Fields["value"], "rows 0"; got != want {
		t.Fatalf("fields: got %q, want %q", got, want)
	}
}

func TestFromKeepsTheFaultInAChain(t *testing.T) {
	inner := fault.New(fault.NotFound, fault.LayerNotFound, "no layer %q", "birds")
	if got := fault.From(fmt.Errorf("plan merge: %w", inner)); got != inner {
		t.Fatalf("got %v, want the fault itself", got)
	}
	if got := fault.KindOf(fmt.Errorf("plan: %w", inner)); got != fault.NotFound {
		t.Fatalf("kind: got %v", got)
	}
}

func TestFromHidesWhatIsNotAFault(t *testing.T) {
	cause := errors.New("password=hunter2")
	f := fault.From(cause)
	if f.Kind != fault.Internal || f.Reason != fault.Bug {
		t.Fatalf("got kind %v, reason %v", f.Kind, f.Reason)
	}
	if strings.Contains(f.Error(), "hunter2") {
		t.Fatalf("the message leaks its cause: %q", f.Error())
	}
	if !strings.Contains(f.Detail(), "hunter2") || !errors.Is(f, cause) {
		t.Fatalf("the cause is lost: %q", f.Detail())
	}
	if fault.From(nil) != nil {
		t.Fatal("From(nil) is a fault")
	}
}

func TestStackNamesThePlace(t *testing.T) {
	f := fault.New(fault.Internal, fault.Bug, "oops").With("a", 1).Because(errors.New("x"))
	if first, _, _ := strings.Cut(f.Stack(), "\n"); !strings.HasSuffix(first, "TestStackNamesThePlace") {
		t.Fatalf("the stack begins at %q", first)
	}
}

func TestKindsAndReasonsAreNamed(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range fault.Kinds() {
		if name := k.String(); seen[name] || strings.HasPrefix(name, "kind(") {
			t.Fatalf("kind %d has the name %q", k, name)
		} else {
			seen[name] = true
		}
	}
	for _, r := range fault.Reasons() {
		if seen[string(r)] {
			t.Fatalf("reason %q is listed twice", r)
		}
		seen[string(r)] = true
	}
}

// Nothing on the way from a cause to the caller is lost from the log: neither the
// cause of a cause, nor what was said around a fault. No sentence is there twice.
func TestDetailTellsTheWholeChain(t *testing.T) {
	root := errors.New("connection refused")
	lost := fault.New(fault.Unavailable, fault.DatabaseUnavailable, "the database cannot be reached").Because(fmt.Errorf("dial: %w", root))
	for want, err := range map[string]error{
		"connection refused": root,
		"the database cannot be reached: dial: connection refused":                          lost,
		"look at layer \"birds\": the database cannot be reached: dial: connection refused": fmt.Errorf("look at layer %q: %w", "birds", lost),
		"layer \"birds\": the database cannot be reached: dial: connection refused":         fault.New(fault.Unavailable, fault.DatabaseUnavailable, "layer %q: %s", "birds", lost.Message).Because(lost),
		"internal error: look: the database cannot be reached: dial: connection refused":    fault.New(fault.Internal, fault.Bug, "internal error").Because(fmt.Errorf("look: %w", lost)),
		"no room\nthe database cannot be reached: dial: connection refused":                 errors.Join(errors.New("no room"), lost),
	} {
		if got := fault.Detail(err); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
