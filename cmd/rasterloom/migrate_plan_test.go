package main

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
)

// The command that a plan ends with starts what was planned.
func TestPlannedMigrationIsTheOneThatStarts(t *testing.T) {
	t.Setenv("RASTERLOOM_CONFIG", "/dev/null")
	for _, flags := range []string{
		"", "--to=tiled", "--to=tiled --sql-view --declared-type", "--in-place --rate=4000", "--disk-headroom=0", "--rate=1 --disk-headroom=123456789012",
	} {
		read := func(line string) *parsedCommand {
			t.Helper()
			parsed, err := parse(noSettings, strings.Fields(line))
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			return parsed
		}
		plan := read("migrate plan birds " + flags).cli.Migrate.Plan
		start := read("migrate start birds" + plan.flags()).cli.Migrate.Start
		if !proto.Equal(start.message(), plan.message()) {
			t.Errorf("%s: %v was planned, and %v would start", flags, plan.message(), start.message())
		}
		if a, b := start.DiskHeadroom, plan.DiskHeadroom; (a == nil) != (b == nil) || a != nil && *a != *b {
			t.Errorf("%s: another free space", flags)
		}
	}
}
