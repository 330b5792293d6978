package merger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	arrowflight "github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/internal/pgtest"
)

// The scenarios of Arrow's own integration tests, by their names there, asked
// of our server. python/tests/test_flight_scenarios.py asks them from pyarrow.

func TestScenarioOrdered(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	s.put(t, "birds", layer.FormatLegacy, generated(rand.New(rand.NewPCG(1, 1)), utm(40, 9, 3e5, 5e6)))
	spec := specOf("birds")
	spec.Endpoints, spec.BatchRows = 5, 16
	info, err := s.info(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if !info.GetOrdered() || len(info.GetEndpoint()) != 5 {
		t.Fatalf("ordered %v, %d endpoints: want 5 ordered ones", info.GetOrdered(), len(info.GetEndpoint()))
	}
	last := [2]float64{1e9, 0} // y, x
	for _, e := range info.GetEndpoint() {
		got, err := s.get(t.Context(), e.GetTicket().GetTicket())
		if err != nil {
			t.Fatal(err)
		}
		for i := range got.rows {
			at := [2]float64{*got.columns[1][i], *got.columns[0][i]}
			if at[0] > last[0] || at[0] == last[0] && at[1] <= last[1] {
				t.Fatalf("y, x %v come after %v", at, last)
			}
			last = at
		}
	}
}

func TestScenarioPollFlightInfo(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	s.put(t, "birds", layer.FormatLegacy, generated(rand.New(rand.NewPCG(1, 2)), utm(6, 7, 3e5, 5e6)))
	poll, err := s.flight.PollFlightInfo(t.Context(), &arrowflight.FlightDescriptor{Type: arrowflight.DescriptorPATH, Path: []string{"birds"}})
	if err != nil {
		t.Fatal(err)
	}
	if poll.GetFlightDescriptor() != nil || poll.GetProgress() != 1 || time.Until(poll.GetExpirationTime().AsTime()) < 14*time.Minute {
		t.Errorf("poll %v: want it complete, with nothing more to poll", poll)
	}
	if _, err := s.get(t.Context(), poll.GetInfo().GetEndpoint()[0].GetTicket().GetTicket()); err != nil {
		t.Error(err)
	}
	for _, test := range []struct {
		descriptor *arrowflight.FlightDescriptor
		code       codes.Code
		reason     string
	}{
		{&arrowflight.FlightDescriptor{Type: arrowflight.DescriptorPATH, Path: []string{"dodo"}}, codes.NotFound, "LAYER_NOT_FOUND"},
		{&arrowflight.FlightDescriptor{Type: arrowflight.DescriptorCMD, Cmd: []byte{0xff, 0xfe}}, codes.InvalidArgument, "INVALID_ARGUMENT"},
		{&arrowflight.FlightDescriptor{}, codes.InvalidArgument, "INVALID_ARGUMENT"},
	} {
		_, err := s.flight.PollFlightInfo(t.Context(), test.descriptor)
		requireStatus(t, err, test.code, test.reason)
	}
}

// Metadata says where a batch is, how much an endpoint covers and how many rows
// a flight can have: a client can tell how far it is.
func TestScenarioAppMetadata(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	s.put(t, "birds", layer.FormatLegacy, generated(rand.New(rand.NewPCG(1, 3)), utm(40, 9, 3e5, 5e6)))
	spec := specOf("birds")
	spec.Endpoints, spec.BatchRows = 2, 10
	info, err := s.info(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(info.GetAppMetadata()); got != `{"max_rows":360}` {
		t.Errorf("metadata of the flight %s", got)
	}
	for i, want := range []string{`{"row_start":0,"row_stop":20}`, `{"row_start":20,"row_stop":40}`} {
		e := info.GetEndpoint()[i]
		if got := string(e.GetAppMetadata()); got != want {
			t.Errorf("metadata of endpoint %d: %s", i, got)
		}
		got, err := s.get(t.Context(), e.GetTicket().GetTicket())
		if err != nil {
			t.Fatal(err)
		}
		row := int64(20 * i)
		for j, text := range got.metadata {
			var m struct{ Sequence, Row int64 }
			if err := json.Unmarshal([]byte(text), &m); err != nil || m.Sequence != int64(j) || m.Row < row || m.Row >= int64(20*i+20) {
				t.Errorf("metadata of batch %d: %s (%v)", j, text, err)
			}
			row = m.Row
		}
	}
}

func TestScenarioExpirationTimeListActions(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	stream, err := s.flight.ListActions(t.Context(), &arrowflight.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for {
		action, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(action.GetDescription()) < 40 {
			t.Errorf("action %s is described as %q", action.GetType(), action.GetDescription())
		}
		names = append(names, action.GetType())
	}
	if got := fmt.Sprint(names); got != "[CancelFlightInfo RenewFlightEndpoint ResumeFlightEndpoint]" {
		t.Errorf("actions %s", got)
	}
}

func TestScenarioExpirationTimeRenewFlightEndpoint(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	s.put(t, "birds", layer.FormatLegacy, generated(rand.New(rand.NewPCG(1, 4)), utm(6, 7, 3e5, 5e6)))
	info, err := s.info(t.Context(), specOf("birds"))
	if err != nil {
		t.Fatal(err)
	}
	old := info.GetEndpoint()[0]
	var renewed arrowflight.FlightEndpoint
	// Expiry is kept in whole seconds: in the second of the old one it is the same.
	for deadline := time.Now().Add(patience); !renewed.GetExpirationTime().AsTime().After(old.GetExpirationTime().AsTime()); time.Sleep(50 * time.Millisecond) {
		if err := s.act(t.Context(), "RenewFlightEndpoint", &arrowflight.RenewFlightEndpointRequest{Endpoint: old}, &renewed); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v was renewed as %v", old, &renewed)
		}
	}
	if string(renewed.GetTicket().GetTicket()) == string(old.GetTicket().GetTicket()) ||
		string(renewed.GetAppMetadata()) != string(old.GetAppMetadata()) {
		t.Errorf("%v was renewed as %v", old, &renewed)
	}
	for _, e := range []*arrowflight.FlightEndpoint{old, &renewed} {
		if _, err := s.get(t.Context(), e.GetTicket().GetTicket()); err != nil {
			t.Error(err)
		}
	}
	// Who cancels one ticket of an endpoint cancels the endpoint.
	if got := s.cancel(t, info); got != arrowflight.CancelStatusCancelled {
		t.Errorf("cancel: %v", got)
	}
	for _, e := range []*arrowflight.FlightEndpoint{old, &renewed} {
		_, err := s.get(t.Context(), e.GetTicket().GetTicket())
		requireStatus(t, err, codes.Aborted, "FLIGHT_CANCELLED")
		err = s.act(t.Context(), "RenewFlightEndpoint", &arrowflight.RenewFlightEndpointRequest{Endpoint: e}, &renewed)
		requireStatus(t, err, codes.Aborted, "FLIGHT_CANCELLED")
	}
}

func TestScenarioExpirationTimeCancelFlightInfo(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	s.putLarge(t, "large")
	spec := specOf("large")
	spec.Endpoints, spec.BatchRows = 2, 4096
	info, err := s.info(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.info(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	running, err := s.flight.DoGet(t.Context(), info.GetEndpoint()[0].GetTicket())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := running.Recv(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := s.cancel(t, info); got != arrowflight.CancelStatusCancelled {
			t.Errorf("cancel: %v", got)
		}
		s.requireIdle(t, time.Second)
	}
	for err == nil {
		_, err = running.Recv()
	}
	requireStatus(t, err, codes.Aborted, "FLIGHT_CANCELLED")
	for _, e := range info.GetEndpoint() {
		_, err := s.get(t.Context(), e.GetTicket().GetTicket())
		requireStatus(t, err, codes.Aborted, "FLIGHT_CANCELLED")
	}
	// The same merge, asked for by itself, is another flight.
	if _, err := s.get(t.Context(), other.GetEndpoint()[0].GetTicket().GetTicket()); err != nil {
		t.Error(err)
	}
}

// Compressed bodies hold the same table, by values, nulls and hash, in fewer
// bytes; a column that does not compress costs nothing but its length.
func TestCompressedBodies(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	rng := rand.New(rand.NewPCG(1, 6))
	s.put(t, "birds", layer.FormatLegacy, generated(rng, utm(60, 40, 3e5, 5e6)))
	s.put(t, "plants", layer.FormatCoordinate, generated(rng, utm(60, 40, 3e5, 5e6)))
	size := func(streams []*stream) (bytes int) {
		for _, got := range streams {
			for _, body := range got.bodies {
				bytes += len(body)
			}
		}
		return bytes
	}
	for _, coordinates := range []mergerv1.CoordinateColumns{mergerv1.CoordinateColumns_COORDINATE_COLUMNS_XY, mergerv1.CoordinateColumns_COORDINATE_COLUMNS_NONE} {
		spec := specOf("birds", "plants")
		spec.BatchRows, spec.Endpoints, spec.CoordinateColumns = 700, 2, coordinates
		want := s.merge(t, spec)
		for _, how := range []mergerv1.BodyCompression{mergerv1.BodyCompression_BODY_COMPRESSION_LZ4_FRAME, mergerv1.BodyCompression_BODY_COMPRESSION_ZSTD} {
			t.Run(fmt.Sprint(coordinates, how), func(t *testing.T) {
				spec := proto.CloneOf(spec)
				spec.BodyCompression = how
				got := s.merge(t, spec)
				for i := range want {
					if got[i].trailer.Hash != want[i].trailer.Hash || got[i].batches != want[i].batches || got[i].rows == 0 {
						t.Errorf("endpoint %d: trailer %+v, want %+v", i, got[i].trailer, want[i].trailer)
					}
				}
				compressed, raw := size(got), size(want)
				t.Logf("%d bytes of %d", compressed, raw)
				// Eight bytes a buffer say that it is as it was.
				if compressed > raw+16*int(got[0].batches+got[1].batches) {
					t.Errorf("%d bytes, and %d without compression", compressed, raw)
				}
				if coordinates == mergerv1.CoordinateColumns_COORDINATE_COLUMNS_XY && compressed > raw*3/4 {
					t.Errorf("coordinates take %d bytes of %d", compressed, raw)
				}
			})
		}
	}
}

func TestBadActions(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	s.put(t, "birds", layer.FormatLegacy, generated(rand.New(rand.NewPCG(1, 5)), utm(6, 7, 3e5, 5e6)))
	info, err := s.info(t.Context(), specOf("birds"))
	if err != nil {
		t.Fatal(err)
	}
	forged := proto.CloneOf(info.GetEndpoint()[0])
	forged.Ticket.Ticket[40] ^= 1
	for name, test := range map[string]struct {
		action string
		body   any
		code   codes.Code
		reason string
	}{
		"unknown":             {"dance", []byte(nil), codes.Unimplemented, "UNSUPPORTED"},
		"no name":             {"", []byte(nil), codes.Unimplemented, "UNSUPPORTED"},
		"long name":           {strings.Repeat("x", 1<<20), []byte(nil), codes.Unimplemented, "UNSUPPORTED"},
		"cancel noise":        {"CancelFlightInfo", []byte{0xff, 1, 2}, codes.InvalidArgument, "INVALID_ARGUMENT"},
		"cancel nothing":      {"CancelFlightInfo", []byte(nil), codes.InvalidArgument, "INVALID_ARGUMENT"},
		"cancel what is ours": {"CancelFlightInfo", &arrowflight.CancelFlightInfoRequest{Info: &arrowflight.FlightInfo{Endpoint: []*arrowflight.FlightEndpoint{info.GetEndpoint()[0], forged}}}, codes.InvalidArgument, "TICKET_INVALID"},
		"renew noise":         {"RenewFlightEndpoint", []byte{0xff, 1, 2}, codes.InvalidArgument, "INVALID_ARGUMENT"},
		"renew nothing":       {"RenewFlightEndpoint", []byte(nil), codes.InvalidArgument, "TICKET_INVALID"},
		"resume noise":        {"ResumeFlightEndpoint", []byte("noise"), codes.InvalidArgument, "INVALID_ARGUMENT"},
		"resume nowhere":      {"ResumeFlightEndpoint", resumption(info.GetEndpoint()[0], 6, 0), codes.InvalidArgument, "INVALID_ARGUMENT"},
		"resume what is not":  {"ResumeFlightEndpoint", resumption(forged, 0, 0), codes.InvalidArgument, "TICKET_INVALID"},
		"renew what is not":   {"RenewFlightEndpoint", &arrowflight.RenewFlightEndpointRequest{Endpoint: forged}, codes.InvalidArgument, "TICKET_INVALID"},
	} {
		t.Run(name, func(t *testing.T) {
			var result arrowflight.FlightEndpoint
			requireStatus(t, s.act(t.Context(), test.action, test.body, &result), test.code, test.reason)
		})
	}
	// A refused cancel cancels nothing.
	if _, err := s.get(t.Context(), info.GetEndpoint()[0].GetTicket().GetTicket()); err != nil {
		t.Error(err)
	}
}

// resumption is the body of an action that goes on behind a cell of an endpoint.
func resumption(e *arrowflight.FlightEndpoint, row, col int64) []byte {
	body, _ := json.Marshal(map[string]any{"ticket": e.GetTicket().GetTicket(), "after": map[string]int64{"row": row, "col": col}})
	return body
}

// What is left of an endpoint behind each of its batches is what came behind it
// in the first place, woven or joined.
func TestResumeFlightEndpoint(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	rng := rand.New(rand.NewPCG(1, 9))
	s.put(t, "birds", layer.FormatLegacy, generated(rng, utm(20, 9, 3e5, 5e6)))
	s.put(t, "plants", layer.FormatCoordinate, generated(rng, utm(20, 9, 3e5, 5e6)))
	for _, legacy := range []bool{false, true} {
		spec := specOf("birds", "plants")
		spec.Endpoints, spec.BatchRows, spec.UseLegacyMerge = 2, 7, &legacy
		info, err := s.info(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		endpoint := info.GetEndpoint()[1]
		whole, err := s.get(t.Context(), endpoint.GetTicket().GetTicket())
		if err != nil {
			t.Fatal(err)
		}
		for n, text := range whole.metadata {
			var m struct{ Last struct{ Row, Col int64 } }
			if err := json.Unmarshal([]byte(text), &m); err != nil {
				t.Fatal(err)
			}
			var rest arrowflight.FlightEndpoint
			if err := s.act(t.Context(), "ResumeFlightEndpoint", resumption(endpoint, m.Last.Row, m.Last.Col), &rest); err != nil {
				t.Fatal(err)
			}
			got, err := s.get(t.Context(), rest.GetTicket().GetTicket())
			if err != nil {
				t.Fatal(err)
			}
			if want := max(0, whole.rows-int64(7*(n+1))); got.rows != want {
				t.Errorf("legacy %v: behind batch %d come %d rows, want %d", legacy, n, got.rows, want)
			}
			for i, column := range got.columns {
				for j, v := range column {
					w := whole.columns[i][7*(n+1)+j]
					if (v == nil) != (w == nil) || v != nil && *v != *w {
						t.Fatalf("legacy %v: row %d behind batch %d differs in column %d", legacy, j, n, i)
					}
				}
			}
		}
		// Who cancels the endpoint cancels the rest of it.
		var rest arrowflight.FlightEndpoint
		if err := s.act(t.Context(), "ResumeFlightEndpoint", resumption(endpoint, 15, 3), &rest); err != nil {
			t.Fatal(err)
		}
		s.cancel(t, info)
		_, err = s.get(t.Context(), rest.GetTicket().GetTicket())
		requireStatus(t, err, codes.Aborted, "FLIGHT_CANCELLED")
	}
}

// act does an action. body is bytes or a message.
func (s *suite) act(ctx context.Context, name string, body any, result proto.Message) error {
	raw, ok := body.([]byte)
	if !ok {
		var err error
		if raw, err = proto.Marshal(body.(proto.Message)); err != nil {
			return err
		}
	}
	stream, err := s.flight.DoAction(ctx, &arrowflight.Action{Type: name, Body: raw})
	if err != nil {
		return err
	}
	answer, err := stream.Recv()
	if err != nil {
		return err
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the result: %w", err)
	}
	return proto.Unmarshal(answer.GetBody(), result)
}

func (s *suite) cancel(t *testing.T, info *arrowflight.FlightInfo) arrowflight.CancelStatus {
	t.Helper()
	var result arrowflight.CancelFlightInfoResult
	if err := s.act(t.Context(), "CancelFlightInfo", &arrowflight.CancelFlightInfoRequest{Info: info}, &result); err != nil {
		t.Fatal(err)
	}
	return result.GetStatus()
}

const largeSide = 700

// putLarge stores a layer whose table does not fit into the buffers between
// server and client.
func (s *suite) putLarge(t testing.TB, name string) layer.Layer {
	t.Helper()
	l := s.put(t, name, layer.FormatLegacy, raster{grid: utm(largeSide, largeSide, 3e5, 5e6)})
	s.exec(t, fmt.Sprintf("INSERT INTO %s SELECT r, c, r * 1000 + c FROM generate_series(0, %d) r, generate_series(0, %d) c", l.Table, largeSide-1, largeSide-1))
	return l
}

// requireIdle fails when a backend of the merger's is in a query or in a
// transaction after so long a time.
func (s *suite) requireIdle(t testing.TB, within time.Duration) {
	t.Helper()
	pgtest.Within(t, within, func() string {
		var busy int
		if err := s.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'rasterloom-merger' AND state <> 'idle'`).Scan(&busy); err != nil {
			t.Fatal(err)
		}
		if busy == 0 {
			return ""
		}
		return fmt.Sprintf("%d backends are busy", busy)
	})
}
