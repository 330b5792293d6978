package wire_test

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/wire"
)

func TestVerdictsOfTheContract(t *testing.T) {
	for number, name := range gridv1.Verdict_name {
		v := wire.FromVerdict(gridv1.Verdict(number))
		if wire.ToVerdict(v) != gridv1.Verdict(number) {
			t.Errorf("%s becomes %v, and %v again", name, v, wire.ToVerdict(v))
		}
		if number != 0 && "VERDICT_"+v.String() != name {
			t.Errorf("%s is called %v", name, v)
		}
	}
	if v := wire.FromVerdict(99); v != grid.VerdictUnknown || v.Mergeable() {
		t.Errorf("a verdict of a later contract is %v", v)
	}
}

// Every field of a relation, whichever are added later, survives the wire.
func TestRelationsSurviveTheWire(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var r grid.Relation
	fill(t, random, reflect.ValueOf(&r).Elem())
	if got := wire.FromRelation(wire.ToRelation(r)); got != r {
		t.Errorf("got  %+v\nwant %+v", got, r)
	}
	if got := wire.FromRelation(nil); got != (grid.Relation{}) {
		t.Errorf("no relation is %+v", got)
	}
}

func fill(t *testing.T, random *rand.Rand, v reflect.Value) {
	t.Helper()
	for _, f := range v.Fields() {
		switch f.Kind() {
		case reflect.Struct:
			fill(t, random, f)
		case reflect.Float64:
			f.SetFloat(random.NormFloat64())
		case reflect.Int, reflect.Int64:
			f.SetInt(1 + random.Int64N(math.MaxInt32))
		case reflect.Uint8:
			f.SetUint(uint64(grid.VerdictShift))
		default:
			t.Fatalf("a field of kind %v", f.Kind())
		}
	}
}
