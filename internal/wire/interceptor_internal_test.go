package wire

import (
	"fmt"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rasterloom/rasterloom/fault"
)

// A warning of a handler is in the line of its call, once, and raises its level.
func TestWarningsAreInTheLineOfTheCall(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.DebugLevel)
	for _, err := range []error{nil, fault.New(fault.Corrupt, fault.DataCorrupt, "broken")} {
		c := newCall(t.Context(), "/a/B", "peer", "")
		ctx := c.in(t.Context())
		Warn(ctx, "this is deprecated")
		Warn(ctx, "this is deprecated")
		c.err = err
		c.write(zap.New(core))
	}
	Warn(t.Context(), "outside of a call nobody hears it")
	lines := logs.TakeAll()
	if len(lines) != 2 || lines[0].Level != zap.WarnLevel || lines[1].Level != zap.ErrorLevel {
		t.Fatalf("%v", lines)
	}
	for _, l := range lines {
		if got := fmt.Sprint(l.ContextMap()["warnings"]); got != "[this is deprecated]" {
			t.Errorf("warnings %s", got)
		}
	}
}
