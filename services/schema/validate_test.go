package schema_test

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/durationpb"

	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/grid"
)

func (w *world) validate(req *schemav1.ValidateCoordinatesRequest) (*schemav1.CoordinateValidation, error) {
	w.t.Helper()
	res, err := w.coordinates().ValidateCoordinates(w.t.Context(), connect.NewRequest(req))
	if err != nil {
		return nil, err
	}
	return res.Msg.GetValidation(), nil
}

// storedPlace is a row as the test stores it.
type storedPlace struct {
	row, col *int64
	x, y     *float64
}

// judge says in Go what the report has to say of a row.
func judge(g grid.Grid, anchor float64, southUp, indexed, single bool, tolerance float64, p storedPlace) (exact, off, missing, outside bool, errX, errY float64) {
	finite := func(v *float64) bool { return v != nil && !math.IsNaN(*v) && !math.IsInf(*v, 0) }
	missing = p.x == nil || p.y == nil
	var row, col float64
	switch {
	case indexed && (p.row == nil || p.col == nil):
		row, col, outside = math.NaN(), math.NaN(), true
		if p.col != nil {
			col = float64(*p.col)
		}
		if p.row != nil {
			row = float64(*p.row)
		}
	case indexed:
		row, col = float64(*p.row), float64(*p.col)
	default:
		row, col = math.NaN(), math.NaN()
		if finite(p.x) {
			col = math.RoundToEven((*p.x-g.OriginX)/g.StepX - anchor)
		}
		if finite(p.y) {
			row = math.RoundToEven((g.OriginY-*p.y)/g.StepY - anchor)
		}
	}
	if southUp {
		row = float64(g.Rows-1) - row
	}
	known := !math.IsNaN(row) && !math.IsNaN(col)
	outside = outside || known && (row < 0 || row >= float64(g.Rows) || col < 0 || col >= float64(g.Cols))
	x, y := g.X(int64(col)), g.Y(int64(row)) // the grid's own formula
	if anchor == 0 {
		x, y = g.OriginX+float64(col*g.StepX), g.OriginY-float64(row*g.StepY)
	}
	if single {
		x, y = float64(float32(x)), float64(float32(y))
	}
	if finite(p.x) && !math.IsNaN(col) {
		errX = math.Abs(*p.x-x) / g.StepX
	}
	if finite(p.y) && !math.IsNaN(row) {
		errY = math.Abs(*p.y-y) / g.StepY
	}
	if !missing && known {
		exact = math.Float64bits(*p.x) == math.Float64bits(x) && math.Float64bits(*p.y) == math.Float64bits(y)
	}
	switch {
	case missing:
	case !finite(p.x) || !finite(p.y):
		off = known || !indexed
	case !known:
	case tolerance == 0:
		off = !exact
	default:
		off = errX > tolerance || errY > tolerance
	}
	return exact, off, missing, outside, errX, errY
}

// Generated tables with generated damage, in each way of storing coordinates: the
// report against a loop in Go.
func TestValidateAgainstAReference(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t)
	// Steps that are no binary fractions, and an origin at 0, where -0 is near.
	g, err := grid.FromBounds("EPSG:32633", grid.Bounds{MinX: 0, MinY: -123.4, MaxX: 77.7, MaxY: 0}, 20, 30)
	if err != nil {
		t.Fatal(err)
	}
	type way struct {
		name             string
		anchor           float64
		southUp, indexed bool
		typ              string
	}
	var ways []way
	for _, anchor := range []float64{0.5, 0} {
		for _, typ := range []string{"double precision", "real"} {
			point := map[float64]string{0.5: "centres", 0: "corners"}[anchor]
			suffix := map[string]string{"double precision": "", "real": "_single"}[typ]
			ways = append(ways, way{point + suffix, anchor, false, true, typ}, way{point + "_south" + suffix, anchor, true, true, typ},
				way{point + "_alone" + suffix, anchor, false, false, typ})
		}
	}
	tables := make(map[string][]storedPlace)
	for _, way := range ways {
		indices := ""
		if way.indexed {
			indices = "row_idx int, col_idx int, "
		}
		w.exec(fmt.Sprintf(`CREATE TABLE public.resampled_%s (%sx_coord %s, y_coord %s, value real)`, way.name, indices, way.typ, way.typ))
		places := make([]storedPlace, 0, g.Cells())
		for r := range int64(g.Rows) {
			for c := range int64(g.Cols) {
				north := r
				if way.southUp {
					north = int64(g.Rows) - 1 - r
				}
				x, y := g.OriginX+float64((float64(c)+way.anchor)*g.StepX), g.OriginY-float64((float64(north)+way.anchor)*g.StepY)
				if way.typ == "real" {
					x, y = float64(float32(x)), float64(float32(y))
				}
				places = append(places, storedPlace{&r, &c, &x, &y})
			}
		}
		tables[way.name] = places
		w.fill("resampled_"+way.name, way.indexed, places)
		w.add(row{name: way.name, bounds: []float64{0, -123.4, 77.7, 0}, height: 20, width: 30, resolution: nilFloat()})
	}
	w.adopt()
	for _, way := range ways {
		// Damage after the adoption: a flipped bit of any significance, no number,
		// nothing, an index that is gone or beyond the grid.
		places := tables[way.name]
		for range 25 {
			p := &places[rng.IntN(len(places))]
			if p.x == nil || p.y == nil {
				continue
			}
			x := *p.x
			switch rng.IntN(7) {
			case 0, 1:
				if way.typ == "real" {
					x = float64(math.Float32frombits(math.Float32bits(float32(x)) ^ 1<<rng.IntN(30)))
				} else {
					x = math.Float64frombits(math.Float64bits(x) ^ 1<<rng.IntN(60))
				}
				if math.Abs(x) > 1e14 { // beyond any map: no position at all
					continue
				}
				p.x = &x
			case 2:
				p.y = new(math.NaN())
			case 3:
				p.x = new(math.Inf(rng.IntN(2)*2 - 1))
			case 4:
				p.y = nil
			case 5:
				p.x, p.y = nil, nil
			case 6:
				p.col = nil
				if rng.IntN(2) == 0 {
					p.col = new(int64(30 + rng.IntN(5)))
				}
			}
		}
		w.exec(`TRUNCATE public.resampled_` + way.name)
		rng.Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] })
		w.fill("resampled_"+way.name, way.indexed, places)
		for _, tolerance := range []float64{0, 1e-3, 0.5} {
			v, err := w.validate(&schemav1.ValidateCoordinatesRequest{Layer: way.name, TolerancePixels: &tolerance})
			if err != nil {
				t.Fatalf("%s: %v", way.name, err)
			}
			want := &schemav1.CoordinateValidation{Rows: int64(len(places))}
			var largestX, largestY float64
			var first []storedPlace
			for _, p := range places {
				exact, off, missing, outside, x, y := judge(g, way.anchor, way.southUp, way.indexed, way.typ == "real", tolerance, p)
				for count, is := range map[*int64]bool{
					&want.Exact: exact, &want.Off: off, &want.Missing: missing, &want.Outside: outside, &want.Wrong: off || missing || outside,
				} {
					if is {
						*count++
					}
				}
				if off || missing || outside {
					first = append(first, p)
				}
				largestX, largestY = max(largestX, x), max(largestY, y)
			}
			got := fmt.Sprint(v.GetRows(), v.GetExact(), v.GetOff(), v.GetMissing(), v.GetOutside(), v.GetWrong())
			if wanted := fmt.Sprint(want.GetRows(), want.GetExact(), want.GetOff(), want.GetMissing(), want.GetOutside(), want.GetWrong()); got != wanted {
				t.Errorf("%s at %v: rows, exact, off, missing, outside, wrong are %s, want %s", way.name, tolerance, got, wanted)
			}
			if l := v.GetLargestErrorPixels(); l.GetX() != largestX || l.GetY() != largestY {
				t.Errorf("%s: largest %v, want %v, %v", way.name, l, largestX, largestY)
			}
			if wantFound := "REGISTRATION_" + map[float64]string{0.5: "CENTER", 0: "UPPER_LEFT"}[way.anchor]; v.GetRegistrationFound().String() != wantFound || v.GetSouthUpFound() != way.southUp {
				t.Errorf("%s: found %v, south-up %v", way.name, v.GetRegistrationFound(), v.GetSouthUpFound())
			}
			if len(v.GetOffenders()) != min(len(first), 100) {
				t.Errorf("%s: %d offenders named of %d", way.name, len(v.GetOffenders()), len(first))
			}
			for _, o := range v.GetOffenders() {
				if !slices.ContainsFunc(first, func(p storedPlace) bool {
					return sameBits(p.x, o.X) && sameBits(p.y, o.Y) && (!way.indexed || cmp.Compare(valueOf(p.row), valueOf(o.Row)) == 0 && valueOf(p.col) == valueOf(o.Col))
				}) {
					t.Errorf("%s: the offender %v is none", way.name, o)
				}
			}
			if !slices.IsSortedFunc(v.GetOffenders(), func(a, b *schemav1.CoordinateOffender) int {
				return cmp.Compare(valueOf(a.Row), valueOf(b.Row))
			}) {
				t.Errorf("%s: offenders out of order", way.name)
			}
			if problems := len(v.GetProblems()); (problems > 0) != (want.GetWrong() > 0) {
				t.Errorf("%s: %d wrong rows and %d problems", way.name, want.GetWrong(), problems)
			}
		}
	}
}

func nilFloat() *float64 { return nil }

func valueOf(i *int64) int64 {
	if i == nil {
		return math.MaxInt64
	}
	return *i
}

func sameBits(a, b *float64) bool {
	if a == nil || b == nil {
		return a == b
	}
	return math.Float64bits(*a) == math.Float64bits(*b) || math.IsNaN(*a) && math.IsNaN(*b)
}

func (w *world) fill(table string, indexed bool, places []storedPlace) {
	w.t.Helper()
	columns := []string{"row_idx", "col_idx", "x_coord", "y_coord"}
	if !indexed {
		columns = columns[2:]
	}
	_, err := w.pool.CopyFrom(w.t.Context(), pgx.Identifier{"public", table}, columns, pgx.CopyFromSlice(len(places), func(i int) ([]any, error) {
		p := places[i]
		if !indexed {
			return []any{p.x, p.y}, nil
		}
		return []any{p.row, p.col, p.x, p.y}, nil
	}))
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestValidateNamesAFewOfMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(row{name: "big", bounds: []float64{0, 0, 4000, 3000}, height: 300, width: 400})
	w.exec(`CREATE TABLE public.resampled_big (row_idx int, col_idx int, x_coord double precision, y_coord double precision, value real)`)
	w.exec(`INSERT INTO public.resampled_big SELECT r, c, (c + 0.5::float8) * 10, 3000 - (r + 0.5::float8) * 10, 1 FROM generate_series(0, 299) r, generate_series(0, 399) c`)
	w.adopt()
	w.exec(`UPDATE public.resampled_big SET x_coord = x_coord + 4, y_coord = y_coord - 2.5 WHERE row_idx >= 200`)
	v, err := w.validate(&schemav1.ValidateCoordinatesRequest{Layer: "big"})
	if err != nil {
		t.Fatal(err)
	}
	if l := v.GetLargestErrorPixels(); v.GetRows() != 120_000 || v.GetExact() != 80_000 || v.GetOff() != 40_000 || v.GetFitting() != 80_000 || l.GetX() != 0.4 || l.GetY() != 0.25 {
		t.Errorf("%v", v)
	}
	if o := v.GetOffenders(); len(o) != 100 || o[0].GetRow() != 200 || o[0].GetX() != 9 || o[0].GetExpected().GetX() != 5 || o[0].GetExpected().GetY() != 995 {
		t.Errorf("%d offenders, the first %v", len(o), o[0])
	}
	if p := v.GetProblems(); len(p) != 1 || p[0].GetFields()["rows"] != "40000" || !strings.Contains(p[0].GetMessage(), "at most 0.4 pixels on x and 0.25 on y") {
		t.Errorf("problems %v", p)
	}

	// The time it may take: the database's, and the caller's.
	_, err = w.validate(&schemav1.ValidateCoordinatesRequest{Layer: "big", StatementTimeout: durationpb.New(time.Millisecond)})
	wantError(t, err, connect.CodeUnavailable, "DATABASE_UNAVAILABLE")
	c := w.coordinates()
	w.exec(`INSERT INTO public.resampled_big SELECT b.* FROM public.resampled_big b, generate_series(1, 8)`)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.ValidateCoordinates(ctx, connect.NewRequest(&schemav1.ValidateCoordinatesRequest{Layer: "big"})); connect.CodeOf(err) != connect.CodeDeadlineExceeded {
		t.Errorf("a caller in a hurry: %v", err)
	}
	for busy := 1; busy > 0; { // ends when the database does, or with the test's own limit
		if err := w.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()
			AND application_name LIKE 'rasterloom%'`).Scan(&busy); err != nil {
			t.Fatal(err)
		}
	}
}

func TestValidateRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(row{name: "plain"})
	w.legacy("resampled_plain")
	w.add(row{name: "ghost"})
	w.add(row{name: "located"})
	w.coordinate("resampled_located", cornerX, cornerY)
	w.adopt()
	for _, bad := range []struct {
		layer     string
		tolerance *float64
		code      connect.Code
		reason    string
	}{
		{"", nil, connect.CodeInvalidArgument, "INVALID_ARGUMENT"},
		{"unknown", nil, connect.CodeNotFound, "LAYER_NOT_FOUND"},
		{"ghost", nil, connect.CodeFailedPrecondition, "LAYER_UNREADABLE"},
		{"plain", nil, connect.CodeFailedPrecondition, "LAYER_UNREADABLE"},
		{"located", new(-0.1), connect.CodeInvalidArgument, "INVALID_ARGUMENT"},
		{"located", new(math.NaN()), connect.CodeInvalidArgument, "INVALID_ARGUMENT"},
		{"located", new(0.6), connect.CodeInvalidArgument, "INVALID_ARGUMENT"},
	} {
		_, err := w.validate(&schemav1.ValidateCoordinatesRequest{Layer: bad.layer, TolerancePixels: bad.tolerance})
		wantError(t, err, bad.code, bad.reason)
	}
	// Corners that are centres now: right for what they say, not for the catalog.
	w.exec(`UPDATE public.resampled_located SET x_coord = x_coord + 5, y_coord = y_coord - 5`)
	v, err := w.validate(&schemav1.ValidateCoordinatesRequest{Layer: "located"})
	if err != nil || v.GetWrong() != 24 || v.GetFitting() != 24 || v.GetRegistrationFound().String() != "REGISTRATION_CENTER" ||
		len(v.GetProblems()) != 2 || v.GetProblems()[1].GetCode() != "FACTS_CHANGED" {
		t.Errorf("%v, %v", v, err)
	}
	w.exec(`ALTER TABLE public.resampled_located ALTER COLUMN x_coord TYPE text`)
	_, err = w.validate(&schemav1.ValidateCoordinatesRequest{Layer: "located"})
	wantError(t, err, connect.CodeAborted, "LAYER_CHANGED")
	w.exec(`DROP TABLE public.resampled_located`)
	_, err = w.validate(&schemav1.ValidateCoordinatesRequest{Layer: "located"})
	wantError(t, err, connect.CodeAborted, "LAYER_CHANGED")
}
