package scenario

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1/mergerv1connect"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// canaryTicketKey is a secret that must never be seen again, once it was handed
// over; as the tokens are, and the password of the database.
const canaryTicketKey = "canary-ticket-key-91c2-0123456789"

// canaryName is a value that goes into a query, and so into none of its traces.
const canaryName = "canary-layer-5b0e"

// deployment is the suite as three processes, encrypted and with principals.
type deployment struct {
	suite
	dir     string
	ingest  string            // Flight address of the schema service
	tokens  map[string]string // by principal
	logs    []*processLog
	replies *bytes.Buffer // everything that was answered to failing calls
	traces  *collected
}

func deploy(t *testing.T, databaseURL string) *deployment {
	t.Helper()
	d := &deployment{dir: t.TempDir(), tokens: map[string]string{}, replies: &bytes.Buffer{}, traces: collect(t)}
	d.certify(t)
	var lines []string
	for name, role := range map[string]access.Role{
		"alice": access.Submitter, "bob": access.Submitter, "carol": access.Reader, "olga": access.Operator, "suite": access.Service,
	} {
		d.tokens[name] = access.NewToken()
		lines = append(lines, access.Line(access.Principal{Name: name, Role: role}, d.tokens[name], time.Time{}))
	}
	d.write(t, "tokens", strings.Join(lines, "\n"))
	d.write(t, "service.token", d.tokens["suite"])
	d.write(t, "ticket.keys", canaryTicketKey)
	secured := []string{
		"--listen=127.0.0.1:0", "--tls-cert=" + d.path("server.pem"), "--tls-key=" + d.path("server.key"), "--tls-peer-ca=" + d.path("ca.pem"),
		"--tokens=" + d.path("tokens"), "--service-token-file=" + d.path("service.token"),
		"--trace-endpoint=" + d.traces.url,
	}
	if err := os.Mkdir(d.path("exports"), 0o700); err != nil {
		t.Fatal(err)
	}
	bin := binaries(t)
	run := func(name string, more ...string) (url, flight string) {
		t.Helper()
		log := start(t, filepath.Join(bin, name), slices.Concat(secured, more)...)
		d.logs = append(d.logs, log)
		return serving(t, log)
	}
	d.schema, d.ingest = run("schema", "--flight-listen=127.0.0.1:0", "--database-url="+databaseURL)
	d.aligner, _ = run("aligner", "--schema-url="+d.schema)
	d.merger, d.flight = run("merger", "--flight-listen=127.0.0.1:0", "--database-url="+databaseURL, "--schema-url="+d.schema, "--aligner-url="+d.aligner,
		"--ticket-key-file="+d.path("ticket.keys"), "--export-dir="+filepath.Join(d.dir, "exports"))
	return d
}

func (d *deployment) path(name string) string { return filepath.Join(d.dir, name) }

func (d *deployment) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(d.path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// certify makes an authority and the certificate that the services share.
func (d *deployment) certify(t *testing.T) {
	t.Helper()
	now := time.Now()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	d.write(t, "server.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	for name, c := range map[string]*x509.Certificate{"ca.pem": authority, "server.pem": server} {
		der, err := x509.CreateCertificate(rand.Reader, c, authority, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		d.write(t, name, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	}
}

// as gives the client of a principal; an empty name is nobody.
func (d *deployment) as(t *testing.T, name string) *http.Client {
	t.Helper()
	client, err := boot.NewClient(boot.ClientConfig{CA: d.path("ca.pem"), Token: boot.Secret(d.tokens[name])})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func (d *deployment) exports(t *testing.T, name string) mergerv1connect.ExportServiceClient {
	t.Helper()
	return mergerv1connect.NewExportServiceClient(d.as(t, name), d.merger)
}

// flightAs gives the Flight client of the deployment, and the context of a principal.
// flightAs gives a client of the merger, or of the Flight server at another
// address, and a context with the token of somebody.
func (d *deployment) flightAs(t *testing.T, name string, at ...string) (flight.Client, context.Context) {
	t.Helper()
	address := d.flight
	if len(at) > 0 {
		address = at[0]
	}
	text, err := os.ReadFile(d.path("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	client, err := flight.NewClientWithMiddleware(strings.TrimPrefix(address, "grpc+tls://"), nil, nil,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client, metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+d.tokens[name])
}

// refused keeps an answer, and checks its code.
func (d *deployment) refused(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	fmt.Fprintf(d.replies, "%s: %+v\n", what, err)
	code := status.Code(err)
	if ce := (*connect.Error)(nil); err != nil && code == codes.Unknown && asConnect(err, &ce) {
		code = codes.Code(ce.Code())
		for _, detail := range ce.Details() {
			value, valueErr := detail.Value()
			fmt.Fprintf(d.replies, "%v %v\n", value, valueErr)
		}
	} else {
		fmt.Fprintf(d.replies, "%v\n", status.Convert(err).Details())
	}
	if code != want {
		t.Errorf("%s: %v, want %s", what, err, want)
	}
}

// The suite as operators would run it: three processes, encrypted, with
// principals who do not see each other's tickets and exports. Nothing of what
// it was told in confidence is ever said again.
func TestTenantsAndSecrets(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	address := pgtest.URL(t)
	pool := pgtest.Connect(t, address)
	if _, err := pool.Exec(t.Context(), catalog); err != nil {
		t.Fatal(err)
	}
	good := rasters(mathrand.New(mathrand.NewPCG(seed, 0)))
	for _, r := range good {
		r.store(t, pool)
	}
	d := deploy(t, address)
	adopt := func(name string) error {
		_, err := schemav1connect.NewSchemaServiceClient(d.as(t, name), d.schema).AdoptCatalog(t.Context(), connect.NewRequest(&schemav1.AdoptCatalogRequest{}))
		return err
	}
	d.refused(t, "a reader adopts", adopt("carol"), codes.PermissionDenied)
	d.refused(t, "nobody adopts", adopt(""), codes.Unauthenticated)
	if err := adopt("alice"); err != nil {
		t.Fatal(err)
	}

	// A merge asks all three services.
	spec := &mergerv1.MergeSpec{Layers: []*mergerv1.LayerSelection{{Name: good[0].name}}}
	command, err := proto.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	descriptor := &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: command}
	client, alice := d.flightAs(t, "alice")
	_, bob := d.flightAs(t, "bob")
	info, err := client.GetFlightInfo(alice, descriptor)
	if err != nil {
		t.Fatal(err)
	}
	ticket := info.GetEndpoint()[0].GetTicket()
	read := func(ctx context.Context, ticket *flight.Ticket) error {
		stream, err := client.DoGet(ctx, ticket)
		for err == nil {
			_, err = stream.Recv()
		}
		if err == io.EOF { //nolint:errorlint // as gRPC gives it
			return nil
		}
		return err
	}
	if err := read(alice, ticket); err != nil {
		t.Fatal(err)
	}
	d.refused(t, "bob reads by the ticket of alice", read(bob, ticket), codes.PermissionDenied)
	d.refused(t, "nobody reads by the ticket of alice", read(t.Context(), ticket), codes.Unauthenticated)
	flipped := bytes.Clone(ticket.GetTicket())
	flipped[len(flipped)/2] ^= 1
	d.refused(t, "a flipped ticket", read(alice, &flight.Ticket{Ticket: flipped}), codes.InvalidArgument)
	d.refused(t, "the key as a ticket", read(alice, &flight.Ticket{Ticket: []byte(canaryTicketKey)}), codes.InvalidArgument)

	// Exports.
	started, err := d.exports(t, "alice").StartExport(t.Context(), connect.NewRequest(&mergerv1.StartExportRequest{
		Spec: &mergerv1.ExportSpec{Name: "alice.parquet", Merge: spec},
	}))
	if err != nil {
		t.Fatal(err)
	}
	id := started.Msg.GetExport().GetId()
	_, err = d.exports(t, "bob").GetExport(t.Context(), connect.NewRequest(&mergerv1.GetExportRequest{Id: id}))
	d.refused(t, "bob gets the export of alice", err, codes.NotFound)
	_, err = d.exports(t, "bob").CancelExport(t.Context(), connect.NewRequest(&mergerv1.CancelExportRequest{Id: id}))
	d.refused(t, "bob cancels the export of alice", err, codes.NotFound)
	for name, want := range map[string]int{"alice": 1, "bob": 0, "olga": 1} {
		list, err := d.exports(t, name).ListExports(t.Context(), connect.NewRequest(&mergerv1.ListExportsRequest{}))
		if err != nil || len(list.Msg.GetExports()) != want {
			t.Errorf("%s sees %v, %v", name, list, err)
		}
	}

	d.replacing(t)

	// Failures of the inside: a table that is not what the catalog says, and one
	// that is gone.
	for what, change := range map[string]string{
		"a column is gone":  "ALTER TABLE %s RENAME COLUMN value TO canary_column",
		"the table is gone": "DROP TABLE %s",
	} {
		if _, err := pool.Exec(t.Context(), fmt.Sprintf(change, "public."+good[0].table)); err != nil {
			t.Fatal(err)
		}
		info, err := client.GetFlightInfo(alice, descriptor)
		if err == nil {
			err = read(alice, info.GetEndpoint()[0].GetTicket())
		}
		if err == nil {
			t.Errorf("%s, and the merge goes well", what)
		}
		d.refused(t, what, err, status.Code(err))
	}
	d.garbage(t)
	_, err = schemav1connect.NewSchemaServiceClient(d.as(t, "alice"), d.schema).GetLayer(t.Context(), connect.NewRequest(&schemav1.GetLayerRequest{Name: canaryName}))
	d.refused(t, "a layer that is not there", err, codes.NotFound)
	d.keepsSecrets(t, address)
}

// replacing lets some send rasters under one name: what a layer holds is lost when
// it is replaced, so that only who ingested it, or an operator, may.
func (d *deployment) replacing(t *testing.T) {
	t.Helper()
	const spec = `{"name": "drawn", "dataType": "DATA_TYPE_INT32", "mode": "INGEST_MODE_REPLACE",
		"grid": {"crs": "EPSG:32633", "rows": 2, "cols": 2, "originX": 0, "originY": 0, "stepX": 10, "stepY": 10}}`
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "row", Type: arrow.PrimitiveTypes.Int32}, {Name: "col", Type: arrow.PrimitiveTypes.Int32}, {Name: "value", Type: arrow.PrimitiveTypes.Int32},
	}, nil)
	record, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(`[{"row": 0, "col": 1, "value": 7}]`))
	if err != nil {
		t.Fatal(err)
	}
	defer record.Release()
	send := func(name string) (string, error) {
		client, ctx := d.flightAs(t, name, d.ingest)
		stream, err := client.DoPut(ctx)
		if err != nil {
			return "", err
		}
		writer := flight.NewRecordWriter(stream, ipc.WithSchema(schema))
		writer.SetFlightDescriptor(&flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: []byte(spec)})
		// A refusal is what Recv says, whenever it came.
		_ = writer.Write(record)
		_ = stream.Send(&flight.FlightData{AppMetadata: []byte(`{"complete": true, "rows": 1}`)})
		_ = writer.Close()
		_ = stream.CloseSend()
		answer, err := stream.Recv()
		return string(answer.GetAppMetadata()), err
	}
	plan := func(name string) error {
		request := &schemav1.PlanIngestRequest{Spec: &schemav1.IngestSpec{}}
		if err := protojson.Unmarshal([]byte(spec), request.GetSpec()); err != nil {
			t.Fatal(err)
		}
		_, err := schemav1connect.NewIngestServiceClient(d.as(t, name), d.schema).PlanIngest(t.Context(), connect.NewRequest(request))
		return err
	}
	for i, step := range []struct {
		who  string
		want codes.Code
	}{
		{"carol", codes.PermissionDenied}, // a reader
		{"alice", codes.OK},
		{"alice", codes.OK},
		{"bob", codes.PermissionDenied},
		{"olga", codes.OK},
		{"alice", codes.PermissionDenied}, // it is the operator's now
	} {
		what := fmt.Sprintf("turn %d: %s sends a layer of the name", i, step.who)
		answer, err := send(step.who)
		if step.want == codes.OK {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if err := plan(step.who); err != nil {
				t.Errorf("%s, as a plan: %v", what, err)
			}
			continue
		}
		d.refused(t, what+" and gets "+answer, err, step.want)
		d.refused(t, what+", as a plan", plan(step.who), step.want)
	}
}

// garbage sends what no client would.
func (d *deployment) garbage(t *testing.T) {
	t.Helper()
	for _, method := range contracts() {
		for what, body := range map[string]string{"no JSON": "{", "an unknown field": `{"canary": 1}`, "a path": `{"name": "/etc/passwd", "id": "../../etc"}`} {
			address := d.merger
			switch {
			case strings.Contains(method, ".schema."):
				address = d.schema
			case strings.Contains(method, ".aligner."):
				address = d.aligner
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"/"+method, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			res, err := d.as(t, "olga").Do(req)
			if err != nil {
				t.Fatalf("%s to %s: %v", what, method, err)
			}
			text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			fmt.Fprintf(d.replies, "%s to %s: %v %s\n", what, method, res.Header, text)
		}
	}
}

// keepsSecrets looks for what was told in confidence, in everything that was said.
func (d *deployment) keepsSecrets(t *testing.T, databaseURL string) {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{"replies": d.replies.String()}
	for i, log := range d.logs {
		said[[]string{"the log of schema", "the log of aligner", "the log of merger"}[i]] = log.whole()
	}
	said["the traces"] = d.traces.whole(t, "rasterloom.schema.v1.SchemaService/GetLayer", "rasterloom.aligner.v1.AlignerService/CalculateGridShifts", "arrow.flight.protocol.FlightService/DoGet", "SELECT", "rasterloom.layer")
	if i := strings.Index(said["the traces"], canaryName); i >= 0 {
		t.Errorf("the traces have a value of a query: …%s…", said["the traces"][max(0, i-300):i+100])
	}
	said["the metrics"] = d.metrics(t)
	secrets := map[string]string{"ticket key": canaryTicketKey}
	if password, ok := u.User.Password(); ok {
		secrets["password"] = password
	}
	for name, token := range d.tokens {
		secrets["token of "+name] = token
	}
	for where, text := range said {
		if len(text) < 500 {
			t.Errorf("%s is hardly anything: %q", where, text)
		}
		for what, secret := range secrets {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s has the %s: …%s…", where, what, text[max(0, i-100):min(len(text), i+100)])
			}
		}
	}
	// What is inside is nobody's business either.
	inside := map[string]string{
		"the database's address": u.Host, "the directory of its socket": u.Query().Get("host"), "its name": u.Path[1:], "a URL of it": "postgres://", "a query": "SELECT", "a directory": d.dir, "a source file": ".go:",
	}
	for what, text := range inside {
		if i := strings.Index(said["replies"], text); i >= 0 && text != "" {
			t.Errorf("an answer has %s: …%s…", what, said["replies"][max(0, i-200):min(len(said["replies"]), i+100)])
		}
	}
	t.Logf("%d secrets looked for in %d bytes of answers, %d of logs, %d of traces (%d spans), %d of metrics", len(secrets), len(said["replies"]),
		len(said["the log of schema"])+len(said["the log of aligner"])+len(said["the log of merger"]), len(said["the traces"]), len(d.traces.spans), len(said["the metrics"]))
}

// metrics are the pages of all three.
func (d *deployment) metrics(t *testing.T) string {
	t.Helper()
	var pages strings.Builder
	for _, address := range []string{d.schema, d.aligner, d.merger} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := d.as(t, "").Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(&pages, res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatal(res.Status, err)
		}
	}
	return pages.String()
}

func asConnect(err error, into **connect.Error) bool {
	found, ok := err.(*connect.Error) //nolint:errorlint // as the clients give it
	*into = found
	return ok
}
