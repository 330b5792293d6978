package refusal_test

import (
	"math/rand/v2"
	"testing"
)

// TestSuiteRefuses sends everything that must be refused to a suite that works.
func TestSuiteRefuses(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t)
	for _, sql := range tables {
		w.do(sql)
	}
	temporary := w.temporary()
	s := w.stage()
	all := schemaRefusals(temporary, s.etags)
	for _, more := range []refusals{
		alignerRefusals(), mergerRefusals(), exportRefusals(s.export), flightRefusals(t, rng, s.tickets), putRefusals(t, rng), accessRefusals(rng, w.credentials),
	} {
		all = append(all, more...)
	}
	w.refuses(all)

	// A lock that somebody else has all the time.
	release := w.hold("LOCK TABLE public.moved, public.swapped IN ACCESS SHARE MODE")
	defer release()
	w.refuses([]refusal{
		{Name: "the table in use", Method: migrationService + "CutOver", Request: object("id", `"m1"`, "etag", quote(s.m1)), code: "unavailable", reason: "TABLE_BUSY"},
		{Name: "the table in use", Method: migrationService + "Rollback", Request: object("id", `"m2"`, "etag", quote(s.m2)), code: "unavailable", reason: "TABLE_BUSY"},
	})
}
