package scenario

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	flightgen "github.com/apache/arrow-go/v18/arrow/flight/gen/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"

	_ "github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1" // all contracts, for the registry
	_ "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	_ "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// contracts lists every method of ours that can be called over Connect.
func contracts() []string {
	var methods []string
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(file.Package()), "rasterloom.") {
			return true
		}
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				methods = append(methods, fmt.Sprintf("%s/%s", service.FullName(), service.Methods().Get(j).Name()))
			}
		}
		return true
	})
	slices.Sort(methods)
	return methods
}

// overGRPC lists the methods of a grpc-go service.
func overGRPC(desc grpc.ServiceDesc) []string {
	var methods []string
	for _, m := range desc.Methods {
		methods = append(methods, desc.ServiceName+"/"+m.MethodName)
	}
	for _, s := range desc.Streams {
		methods = append(methods, desc.ServiceName+"/"+s.StreamName)
	}
	slices.Sort(methods)
	return methods
}

// Every method has its rule, and only health checks and the handshake are open.
func TestEveryMethodHasARule(t *testing.T) {
	ours := contracts()
	all := slices.Concat(ours, overGRPC(flightgen.FlightService_ServiceDesc), overGRPC(healthv1.Health_ServiceDesc))
	if len(ours) < 29 {
		t.Fatalf("only %d methods of ours were found: %v", len(ours), ours)
	}
	var open []string
	count := map[access.Role]int{}
	for _, method := range all {
		rule, ok := access.RuleOf(method)
		if !ok {
			t.Errorf("%s has no rule: give it one in internal/access/rules.go", method)
		}
		count[rule.Role]++
		if ok && rule.Role == access.Nobody {
			open = append(open, method)
		}
	}
	want := []string{"arrow.flight.protocol.FlightService/Handshake", "grpc.health.v1.Health/Check", "grpc.health.v1.Health/List", "grpc.health.v1.Health/Watch"}
	slices.Sort(open)
	if !slices.Equal(open, want) {
		t.Errorf("open to all: %v, want %v", open, want)
	}
	for _, word := range []string{"CutOver", "Rollback", "Finalize", "DropLayer", "AbortMigration"} {
		i := slices.IndexFunc(all, func(m string) bool { return strings.HasSuffix(m, "/"+word) })
		if rule, _ := access.RuleOf(all[max(0, i)]); i < 0 || rule.Role != access.Operator {
			t.Errorf("%s is for a %s", word, rule.Role)
		}
	}
	t.Logf("%d methods: %v", len(all), count)
}

// tokens writes a file of tokens, and gives the token of each role.
func tokens(t *testing.T) (path string, of map[access.Role]string) {
	t.Helper()
	of = map[access.Role]string{}
	var lines []string
	for _, role := range []access.Role{access.Service, access.Reader, access.Submitter, access.Operator} {
		of[role] = access.NewToken()
		lines = append(lines, access.Line(access.Principal{Name: "the-" + role.String(), Role: role}, of[role], time.Time{}))
	}
	path = filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, of
}

// Every method of the running suite refuses who shows nothing, or something that
// is not good, or has too low a role; over HTTP and over Flight.
func TestEveryMethodIsGuarded(t *testing.T) {
	file, of := tokens(t)
	s := oneProcessWith(t, binaries(t), pgtest.URL(t), "--tokens", file)
	post := func(method, token string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.schema+"/"+method, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := s.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode == http.StatusUnauthorized && !strings.Contains(string(body), "unauthenticated") {
			t.Errorf("%s: %s", method, body)
		}
		return res.StatusCode
	}
	calls := 0
	for _, method := range contracts() {
		rule, _ := access.RuleOf(method)
		if rule.Stream {
			continue // asked over gRPC below, in the same way
		}
		for what, token := range map[string]string{"nothing": "", "another token": access.NewToken()} {
			calls++
			if got := post(method, token); got != http.StatusUnauthorized {
				t.Errorf("%s with %s: status %d", method, what, got)
			}
		}
		for role := access.Reader; role < rule.Role; role++ {
			calls++
			if got := post(method, of[role]); got != http.StatusForbidden {
				t.Errorf("%s as %s: status %d", method, role, got)
			}
		}
		calls++
		if got := post(method, of[rule.Role]); got == http.StatusUnauthorized || got == http.StatusForbidden {
			t.Errorf("%s as %s: status %d", method, rule.Role, got)
		}
	}

	web, err := grpc.NewClient(strings.TrimPrefix(s.schema, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = web.Close() })
	flight, err := grpc.NewClient(s.flight, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = flight.Close() })
	ask := func(conn *grpc.ClientConn, method, token string) codes.Code {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
		}
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/"+method)
		if err != nil {
			return status.Code(err)
		}
		_ = stream.SendMsg(&emptypb.Empty{})
		_ = stream.CloseSend()
		return status.Code(stream.RecvMsg(&emptypb.Empty{}))
	}
	targets := map[string]*grpc.ClientConn{}
	for _, method := range contracts() {
		targets[method] = web
	}
	for _, method := range overGRPC(flightgen.FlightService_ServiceDesc) {
		targets[method] = flight
	}
	for _, method := range slices.Sorted(maps.Keys(targets)) {
		rule, _ := access.RuleOf(method)
		for what, token := range map[string]string{"nothing": "", "another token": access.NewToken()} {
			calls++
			if got := ask(targets[method], method, token); (got == codes.Unauthenticated) != (rule.Role != access.Nobody) {
				t.Errorf("gRPC %s with %s: %s", method, what, got)
			}
		}
		for role := access.Reader; role < rule.Role; role++ {
			calls++
			if got := ask(targets[method], method, of[role]); got != codes.PermissionDenied {
				t.Errorf("gRPC %s as %s: %s", method, role, got)
			}
		}
	}
	for name, conn := range map[string]*grpc.ClientConn{"RPC": web, "Flight": flight} {
		calls++
		if res, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil || res.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("health on the port of %s: %v, %v", name, res, err)
		}
	}
	t.Logf("%d calls", calls)
}
