package wire_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rasterloom/rasterloom/fault"
	faultv1 "github.com/rasterloom/rasterloom/gen/rasterloom/fault/v1"
	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/wire"
)

func TestReasonsAreThoseOfTheContract(t *testing.T) {
	var contract, code []string
	for n, name := range faultv1.Reason_name {
		if n != 0 {
			contract = append(contract, strings.TrimPrefix(name, "REASON_"))
		}
	}
	for _, r := range fault.Reasons() {
		code = append(code, string(r))
	}
	slices.Sort(contract)
	slices.Sort(code)
	if !slices.Equal(contract, code) {
		t.Errorf("the contract has %v,\nthe code %v", contract, code)
	}
}

func TestEveryKindHasItsOwnCode(t *testing.T) {
	seen := map[codes.Code]fault.Kind{}
	for _, kind := range fault.Kinds() {
		code := wire.Code(kind)
		if other, twice := seen[code]; twice || code == codes.OK {
			t.Errorf("%v has code %v, as %v", kind, code, other)
		}
		seen[code] = kind
	}
}

// What a room stated goes before what caused it, whose text is for the log.
func TestStatedFaultGoesBeforeItsCause(t *testing.T) {
	for name, cause := range map[string]error{
		"a Connect error": connect.NewError(connect.CodeNotFound, errors.New("canary")),
		"a gRPC status":   status.Error(codes.NotFound, "canary"),
		"a context":       context.DeadlineExceeded,
	} {
		err := fmt.Errorf("ask: %w", fault.New(fault.Unavailable, fault.ServiceUnavailable, "the schema service cannot be reached").Because(cause))
		for protocol, got := range map[string]error{"Connect": wire.ToConnect(err), "gRPC": wire.ToStatus(err)} {
			if !strings.Contains(got.Error(), "cannot be reached") || strings.Contains(got.Error(), "canary") {
				t.Errorf("%s as a cause, over %s: %v", name, protocol, got)
			}
		}
		if code := connect.CodeOf(wire.ToConnect(err)); code != connect.CodeUnavailable {
			t.Errorf("%s as a cause: code %v", name, code)
		}
	}
}

func TestErrorsNobodyNamedLeakNothing(t *testing.T) {
	err := errors.New("canary: password=hunter2")
	if got := wire.ToConnect(err); got.Code() != connect.CodeInternal || strings.Contains(got.Error(), "canary") {
		t.Errorf("Connect: %v", got)
	}
	if got := wire.ToStatus(err); status.Code(got) != codes.Internal || strings.Contains(got.Error(), "canary") {
		t.Errorf("gRPC: %v", got)
	}
}

func TestErrorsOfOtherServices(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		kind fault.Kind
		is   error
	}{
		{"no connection", connect.NewError(connect.CodeUnavailable, errors.New("dial tcp 10.0.0.7: canary")), fault.Unavailable, nil},
		{"not even a status", errors.New("canary"), fault.Unavailable, nil},
		{"a bug over there", connect.NewError(connect.CodeInternal, errors.New("canary")), fault.Internal, nil},
		{"a limit of theirs", connect.NewError(connect.CodeInvalidArgument, errors.New("name: too long")), fault.Invalid, nil},
		{"we gave up", connect.NewError(connect.CodeCanceled, errors.New("canary")), fault.Internal, context.Canceled},
		{"too late", connect.NewError(connect.CodeDeadlineExceeded, errors.New("canary")), fault.Internal, context.DeadlineExceeded},
	} {
		got := wire.FromConnect("schema", c.err)
		if c.is != nil {
			if !errors.Is(got, c.is) {
				t.Errorf("%s: %v", c.name, got)
			}
			continue
		}
		f := fault.From(got)
		if f.Kind != c.kind || strings.Contains(f.Message, "canary") {
			t.Errorf("%s: %v %q", c.name, f.Kind, f.Message)
		}
	}
	if wire.FromConnect("schema", nil) != nil || wire.ToConnect(nil) != nil || wire.ToStatus(nil) != nil {
		t.Error("no error became one")
	}
}

// The enums of the domain and of the contract have the same names in the same
// number.
func TestEnumsOfTheContract(t *testing.T) {
	for p := range layerv1.Format_name {
		p := layerv1.Format(p)
		if got := wire.ToFormat(wire.FromFormat(p)); got != p {
			t.Errorf("format %v comes back as %v", p, got)
		}
	}
	types, severities := 0, 0
	for p := range layerv1.DataType_name {
		p := layerv1.DataType(p)
		got, err := wire.FromLayer(&layerv1.Layer{DeclaredType: p, StoredType: p})
		if err != nil || wire.ToDataType(got.DeclaredType) != p || wire.ToDataType(got.StoredType) != p {
			t.Errorf("data type %v comes back as %v (%v)", p, got.DeclaredType, err)
		}
		types++
	}
	for p := range layerv1.Severity_name {
		p := layerv1.Severity(p)
		got, err := wire.FromLayer(&layerv1.Layer{Problems: []*layerv1.Problem{{Severity: p}}})
		if err != nil || wire.ToSeverity(got.Problems[0].Severity) != p {
			t.Errorf("severity %v comes back as %v (%v)", p, got.Problems, err)
		}
		severities++
	}
	for p := range gridv1.Registration_name {
		p := gridv1.Registration(p)
		got, err := wire.FromLayer(&layerv1.Layer{Registration: p})
		if err != nil || wire.ToLayer(got).GetRegistration() != p {
			t.Errorf("registration %v comes back as %v (%v)", p, got.Registration, err)
		}
	}
	if n := int(layer.Float64) + 1; n != types {
		t.Errorf("the domain has %d data types, the contract %d", n, types)
	}
	if n := int(layer.Critical) + 1; n != severities {
		t.Errorf("the domain has %d severities, the contract %d", n, severities)
	}
	if n := int(layer.FormatInvalid) + 1; n != len(layerv1.Format_name) {
		t.Errorf("the domain has %d formats, the contract %d", n, len(layerv1.Format_name))
	}
	if n := int(grid.RegistrationUpperLeft) + 1; n != len(gridv1.Registration_name) {
		t.Errorf("the domain has %d registrations, the contract %d", n, len(gridv1.Registration_name))
	}
}
