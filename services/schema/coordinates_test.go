package schema_test

import (
	"math"
	"net/http"
	"net/http/httptest"
	"testing"

	"connectrpc.com/connect"
	"go.uber.org/zap/zaptest"

	gridv1 "github.com/rasterloom/rasterloom/gen/rasterloom/grid/v1"
	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
	"github.com/rasterloom/rasterloom/internal/access"
	"github.com/rasterloom/rasterloom/internal/boot"
	"github.com/rasterloom/rasterloom/internal/wire"
	"github.com/rasterloom/rasterloom/services/schema"
)

func (w *world) coordinates() schemav1connect.CoordinateServiceClient {
	w.t.Helper()
	log := zaptest.NewLogger(w.t)
	service, err := schema.New(w.t.Context(), schema.Config{DatabaseURL: w.url}, boot.Deps{Log: log})
	if err != nil {
		w.t.Fatal(err)
	}
	mux := http.NewServeMux()
	for path, handler := range service.Handlers {
		mux.Handle(path, handler)
	}
	server := httptest.NewServer(wire.Edge(log, access.Everybody(), mux))
	w.t.Cleanup(func() {
		server.Close()
		service.Close()
	})
	return schemav1connect.NewCoordinateServiceClient(server.Client(), server.URL)
}

func ensure(t *testing.T, c schemav1connect.CoordinateServiceClient, layer string, mode schemav1.EnsureMode) (*schemav1.EnsureCoordinatesResponse, error) {
	t.Helper()
	res, err := c.EnsureCoordinates(t.Context(), connect.NewRequest(&schemav1.EnsureCoordinatesRequest{Layer: layer, Mode: mode}))
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}

func TestEnsureCoordinatesOfALegacyLayer(t *testing.T) {
	w := newWorld(t)
	w.legacy("passthrough_birds")
	w.add(row{name: "birds", metadata: `{"passthrough": true}`})
	w.adopt()
	c := w.coordinates()
	before := w.dump("public")
	for _, mode := range []schemav1.EnsureMode{schemav1.EnsureMode_ENSURE_MODE_CHECK, schemav1.EnsureMode_ENSURE_MODE_VERIFY} {
		r, err := ensure(t, c, "birds", mode)
		if err != nil {
			t.Fatal(err)
		}
		if r.GetFormat() != layerv1.Format_FORMAT_LEGACY || r.GetReadableFrom() != nil || len(r.GetGridHash()) != 64 || r.GetGeneration() != 1 {
			t.Errorf("%v: %v", mode, r)
		}
	}
	if w.dump("public") != before {
		t.Error("looking changed something")
	}
	_, err := c.ValidateCoordinates(t.Context(), connect.NewRequest(&schemav1.ValidateCoordinatesRequest{Layer: "birds"}))
	wantError(t, err, connect.CodeFailedPrecondition, "LAYER_UNREADABLE")

	// L0: a view, twice the same.
	for range 2 {
		r, err := ensure(t, c, "birds", schemav1.EnsureMode_ENSURE_MODE_UNSPECIFIED)
		if err != nil || r.GetReadableFrom().GetName() != "passthrough_birds_xy" {
			t.Fatal(r, err)
		}
	}
	var wrong int
	if err := w.pool.QueryRow(t.Context(), `SELECT count(*) FROM public.passthrough_birds_xy
		WHERE x <> 1000 + (col_idx + 0.5::float8) * 10 OR y <> 2000 - (row_idx + 0.5::float8) * 10 OR value <> row_idx * 10 + col_idx`).Scan(&wrong); err != nil || wrong != 0 {
		t.Errorf("%d rows of the view are wrong (%v)", wrong, err)
	}

	// L1, idempotent; the view goes along.
	first, err := ensure(t, c, "birds", schemav1.EnsureMode_ENSURE_MODE_STORED)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ensure(t, c, "birds", schemav1.EnsureMode_ENSURE_MODE_STORED)
	if err != nil || again.GetMigration().GetId() != first.GetMigration().GetId() {
		t.Errorf("a second one: %v %v", again, err)
	}
	migrations := w.migrations()
	m := watch(t.Context(), t, migrations, first.GetMigration().GetId())
	if _, err := migrations.CutOver(t.Context(), connect.NewRequest(&schemav1.CutOverRequest{Id: m.GetId(), Etag: m.GetEtag()})); err != nil {
		t.Fatal(err)
	}
	r, err := ensure(t, c, "birds", schemav1.EnsureMode_ENSURE_MODE_VERIFY)
	if err != nil || r.GetReadableFrom().GetName() != "passthrough_birds" || r.GetValidation().GetExact() != 24 || r.GetValidation().GetRows() != 24 {
		t.Errorf("after the cut-over: %v %v", r, err)
	}
	var from string
	if err := w.pool.QueryRow(t.Context(), `SELECT DISTINCT d.refobjid::regclass::text FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
		WHERE r.ev_class = 'public.passthrough_birds_xy'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class`).Scan(&from); err != nil || from != "public.passthrough_birds" {
		t.Errorf("the view reads %s (%v)", from, err)
	}
}

func TestEnsureRefusesToGuess(t *testing.T) {
	w := newWorld(t)
	w.add(row{name: "ghost", metadata: `{"passthrough": true}`})
	w.legacy("passthrough_outside")
	w.add(row{name: "outside", metadata: `{"passthrough": true}`})
	w.legacy("passthrough_taken")
	w.add(row{name: "taken", metadata: `{"passthrough": true}`})
	w.exec("CREATE TABLE public.passthrough_taken_xy (id int)")
	w.adopt()
	w.exec("INSERT INTO public.passthrough_outside VALUES (4, 0, 1)")
	c := w.coordinates()
	_, err := ensure(t, c, "unknown", schemav1.EnsureMode_ENSURE_MODE_CHECK)
	wantError(t, err, connect.CodeNotFound, "LAYER_NOT_FOUND")
	_, err = ensure(t, c, "ghost", schemav1.EnsureMode_ENSURE_MODE_CHECK)
	wantError(t, err, connect.CodeFailedPrecondition, "LAYER_UNREADABLE")
	_, err = ensure(t, c, "outside", schemav1.EnsureMode_ENSURE_MODE_READABLE)
	if f := wantError(t, err, connect.CodeFailedPrecondition, "CELL_OFF_GRID"); f["row"] != "4" {
		t.Errorf("fields %v", f)
	}
	_, err = ensure(t, c, "outside", schemav1.EnsureMode_ENSURE_MODE_STORED)
	if f := wantError(t, err, connect.CodeFailedPrecondition, "MIGRATION_REFUSED"); f["off_grid"] != "1" {
		t.Errorf("fields %v", f)
	}
	_, err = ensure(t, c, "taken", schemav1.EnsureMode_ENSURE_MODE_READABLE)
	wantError(t, err, connect.CodeAlreadyExists, "INVALID_ARGUMENT")
}

func TestValidateNamesOffenders(t *testing.T) {
	for name, c := range map[string]struct {
		x, y, harm string
		off        int64
		missing    int64
		largest    *gridv1.Vector
	}{
		"centre":    {x: centerX, y: centerY, harm: "SELECT"},
		"corner":    {x: cornerX, y: cornerY, harm: "SELECT"},
		"south-up":  {x: centerX, y: southY, harm: "SELECT"},
		"one moved": {x: centerX, y: centerY, harm: "UPDATE public.resampled_l SET x_coord = x_coord + 2.5 WHERE row_idx = 2 AND col_idx = 3", off: 1, largest: &gridv1.Vector{X: 0.25}},
		"one NaN":   {x: centerX, y: centerY, harm: "UPDATE public.resampled_l SET y_coord = 'NaN' WHERE row_idx = 2 AND col_idx = 3", off: 1, largest: &gridv1.Vector{}},
		"one NULL":  {x: centerX, y: centerY, harm: "UPDATE public.resampled_l SET y_coord = NULL WHERE row_idx = 2 AND col_idx = 3", missing: 1, largest: &gridv1.Vector{}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.coordinate("resampled_l", c.x, c.y)
			w.add(row{name: "l"})
			w.adopt()
			w.exec(c.harm)
			res, err := w.coordinates().ValidateCoordinates(t.Context(), connect.NewRequest(&schemav1.ValidateCoordinatesRequest{Layer: "l"}))
			if err != nil {
				t.Fatal(err)
			}
			v := res.Msg.GetValidation()
			bad := c.off + c.missing
			if v.GetRows() != 24 || v.GetExact() != 24-bad || v.GetOff() != c.off || v.GetMissing() != c.missing || int64(len(v.GetOffenders())) != bad {
				t.Errorf("%v", v)
			}
			if bad > 0 {
				if o := v.GetOffenders()[0]; o.GetRow() != 2 || o.GetCol() != 3 || o.GetExpected().GetX() != 1035 || o.GetExpected().GetY() != 1975 {
					t.Errorf("offender %v", o)
				}
				got, want := v.GetLargestErrorPixels(), c.largest
				if !(got.GetX() == want.GetX() || math.IsNaN(got.GetX()) && math.IsNaN(want.GetX())) ||
					!(got.GetY() == want.GetY() || math.IsNaN(got.GetY()) && math.IsNaN(want.GetY())) {
					t.Errorf("largest %v, want %v", got, want)
				}
			}
		})
	}
}
