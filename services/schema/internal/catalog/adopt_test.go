package catalog

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/rasterloom/rasterloom/fault"
)

// Whatever goes wrong with a layer names it, to the caller and in the log.
func TestLayerIsNamed(t *testing.T) {
	bug := fault.New(fault.Internal, fault.Bug, "internal error").Because(errors.New("canary"))
	for want, err := range map[string]error{
		`layer "birds": internal error: canary`: bug,
		`layer "birds": internal error: odd`:    errors.New("odd"),
		`layer "birds": no`:                     fault.New(fault.Denied, fault.DatabasePermission, "no"),
	} {
		f, ok := errors.AsType[*fault.Error](inLayer("birds", err))
		if !ok || f.Fields["layer"] != "birds" || f.Detail() != want || f.Kind != fault.KindOf(err) {
			t.Errorf("%v %q, want %q", f, f.Detail(), want)
		}
	}
	if f := fault.From(inLayer("birds", bug)); f.Stack() != bug.Stack() {
		t.Errorf("the stack is that of %s", f.Stack())
	}
	// The end of a context stays what it is.
	if err := inLayer("birds", fmt.Errorf("read: %w", context.Canceled)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	} else if _, isFault := errors.AsType[*fault.Error](err); isFault {
		t.Errorf("%v is a fault", err)
	}
}
