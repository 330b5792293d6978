package catalog

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

func TestTableNames(t *testing.T) {
	for _, c := range []struct {
		name, stated, metadata string
		want                   []string
	}{
		{"a", "", ``, []string{"resampled_a"}},
		{"a-b-c", "", `{"passthrough": true}`, []string{"passthrough_a_b_c"}},
		{"A-b", "", ``, []string{"resampled_A_b", "resampled_a_b"}},
		{"a", "T-1", ``, []string{"T-1", "T_1", "t-1", "t_1"}},
		{"a", "t", `{"passthrough": 1}`, []string{"t"}},
		{"a", "t", `{"memory_aware": true}`, []string{"windowed_a"}},
		{"a", "t", `{"memory_aware": true, "storage_table": "w", "passthrough": true}`, []string{"w"}},
		{"a", "t", `{"memory_aware": false, "storage_table": "w"}`, []string{"t"}},
		{"a", "t", `{"memory_aware": "yes", "storage_table": "w"}`, []string{"t"}},
		{"É", "", ``, []string{"resampled_É"}}, // PostgreSQL folds A to Z only
		{"a", "", `{"memory_aware": true, "storage_table": 7}`, []string{"windowed_a"}},
	} {
		got := tableNames(layer.CatalogRow{Name: c.name, DataTableName: c.stated}, readMetadata(c.metadata))
		if !slices.Equal(got, c.want) {
			t.Errorf("%q, %q, %s: %q, want %q", c.name, c.stated, c.metadata, got, c.want)
		}
	}
}

func TestNodata(t *testing.T) {
	for text, want := range map[string]float64{
		`{"nodata": 0}`: 0, `{"nodata": -9999}`: -9999, `{"nodata": "-3.4e38"}`: -3.4e38, `{"nodata": "NaN"}`: math.NaN(),
		`{"nodata": " nan "}`: math.NaN(), `{"nodata_value": "-inf"}`: math.Inf(-1), `{"no_data": 255}`: 255,
		`{"nodata": null, "no_data": 1}`: 1, `{"nodata": "", "nodata_value": 2}`: 2, `{"nodata": 1, "nodata_value": 1.0, "no_data": "1e0"}`: 1,
	} {
		m := readMetadata(text)
		if m.nodata == nil || !same(*m.nodata, want) || len(m.problems) != 0 {
			t.Errorf("%s: %v, want %v (%v)", text, m.nodata, want, m.problems)
		}
	}
	for _, text := range []string{`{"nodata": true}`, `{"nodata": [1]}`, `{"nodata": "0x10"}`, `{"nodata": "1_000"}`, `{"nodata": "none"}`, `{"nodata": {}}`, `{"nodata": 1e999}`} {
		m := readMetadata(text)
		if m.nodata != nil || len(m.problems) != 1 || m.problems[0].Code != NodataUnreadable {
			t.Errorf("%s: %v, %v", text, m.nodata, m.problems)
		}
	}
	for _, text := range []string{``, ` `, `null`, `{}`, `{"nodata": null}`} {
		if m := readMetadata(text); m.nodata != nil || len(m.problems) != 0 {
			t.Errorf("%q: %v, %v", text, m.nodata, m.problems)
		}
	}
}

func TestSouthUpOfMetadata(t *testing.T) {
	yes, no := new(true), new(false)
	for text, want := range map[string]*bool{
		`{}`: nil, `{"south_up": true}`: yes, `{"south_up": false}`: no, `{"south_up": null}`: nil,
		`{"transform": [10, 0, 0, 0, -10, 100]}`: no, `{"transform": [10, 0, 0, 0, 10, 0, 0, 0, 1]}`: yes,
		`{"transform": [10, 0, 0, 0, 0, 100]}`: nil, `{"transform": "10 0 0 0 10 0"}`: nil, `{"transform": [1, 2]}`: nil,
		`{"south_up": false, "transform": [10, 0, 0, 0, 10, 0]}`: no,
	} {
		got := readMetadata(text).southUp
		if (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestTypeNames(t *testing.T) {
	for text, want := range map[string]layer.DataType{
		"uint8": layer.Uint8, "Byte": layer.Uint8, "<f4": layer.Float32, "Float32": layer.Float32, "float": layer.Float64,
		"np.int16": layer.Int16, "Int16": layer.Int16, "double precision": layer.Float64, "|u1": layer.Uint8, ">i8": layer.Int64, "UInt32": layer.Uint32,
	} {
		if got, ok := parseType(text); !ok || got != want {
			t.Errorf("%s: %v, %v, want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "complex64", "unknown", "CFloat32", "object", "float16", "uint64"} {
		if got, ok := parseType(text); ok {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// A survey of a table laid out under a known hypothesis gives it back, at any
// place and step. Reading rows is tested on PostgreSQL; this is the decision.
func TestConcludeByTheRows(t *testing.T) {
	g := grid.Grid{CRS: "EPSG:4326", Rows: 10, Cols: 10, OriginX: 0, OriginY: 10, StepX: 1, StepY: 1}
	for _, stated := range []*bool{nil, new(true), new(false)} {
		for _, h := range layer.Hypotheses() {
			for _, both := range []bool{false, true} { // one row in the middle: both orientations fit
				c := &Claim{Record: layer.Record{Layer: layer.Layer{Grid: g, HasGrid: true, Format: layer.FormatCoordinate}}, indexed: true, located: true}
				c.meta.southUp = stated
				f := layer.Findings{Rows: 5, Located: 5, Fits: map[layer.Hypothesis]int64{h: 5}}
				if both {
					f.Fits[layer.Hypothesis{Registration: h.Registration, SouthUp: !h.SouthUp}] = 5
				}
				c.Conclude(f, false)
				wantSouth := h.SouthUp
				if both {
					wantSouth = stated != nil && *stated
				}
				conflict := slices.ContainsFunc(c.Problems, func(p layer.Problem) bool { return p.Code == OrientationConflict })
				wantConflict := stated != nil && !both && *stated != h.SouthUp
				if c.Registration != h.Registration || c.SouthUp != wantSouth || conflict != wantConflict {
					t.Errorf("%+v stated %v both %v: registration %v, south-up %v, problems %v", h, stated, both, c.Registration, c.SouthUp, c.Problems)
				}
			}
		}
	}
}

func TestSameFactsSeesEachFact(t *testing.T) {
	base := layer.Record{Layer: layer.Layer{Name: "n", Nodata: new(math.NaN()), TargetResolution: new(10.0), EstimatedRows: 1}}
	again := base
	again.Nodata, again.EstimatedRows, again.UpdateTime = new(math.NaN()), 2, time.Now()
	again.Problems = []layer.Problem{{Code: Empty}}
	if !sameFacts(base, again) {
		t.Error("observations count as facts")
	}
	for name, change := range map[string]func(*layer.Record){
		"band": func(r *layer.Record) { r.Band = "b" }, "format": func(r *layer.Record) { r.Format = layer.FormatLegacy },
		"grid": func(r *layer.Record) { r.Grid.OriginX = 1 }, "has grid": func(r *layer.Record) { r.HasGrid = true },
		"table": func(r *layer.Record) { r.Table.Name = "t" }, "oid": func(r *layer.Record) { r.TableOID = 1 }, "file": func(r *layer.Record) { r.TableFile = 1 },
		"declared": func(r *layer.Record) { r.DeclaredType = layer.Int8 }, "stored": func(r *layer.Record) { r.StoredType = layer.Int8 },
		"nodata": func(r *layer.Record) { r.Nodata = new(1.0) }, "no nodata": func(r *layer.Record) { r.Nodata = nil },
		"registration": func(r *layer.Record) { r.Registration = grid.RegistrationCenter }, "south up": func(r *layer.Record) { r.SouthUp = true },
		"resolution": func(r *layer.Record) { r.TargetResolution = nil }, "indices": func(r *layer.Record) { r.HasIndices = true },
		"coordinates": func(r *layer.Record) { r.HasCoordinates = true }, "key": func(r *layer.Record) { r.HasKey = true },
	} {
		other := base
		if change(&other); sameFacts(base, other) {
			t.Errorf("a change of the %s is no new generation", name)
		}
	}
}

// Whatever a catalog row holds, reading it ends in a layer that can be kept and
// sent: no panic, a grid that is one or none, names within their limits.
func FuzzClaim(f *testing.F) {
	f.Add("birds", `{"nodata": -9999, "memory_aware": true, "storage_table": "w"}`, "Float32", "t", 10.0, 0.0, 0.0, 60.0, 40.0, int64(4), int64(6))
	f.Add("", "[", "", "", math.NaN(), math.Inf(1), 0.0, 0.0, 0.0, int64(-1), int64(math.MaxInt64))
	f.Add("x\"; --\x00\u202e", `{"transform": [1,2,3,4,5,6]}`, "\xff", strings.Repeat("é", 40), 1e-300, -1e308, -1e308, 1e308, 1e308, int64(math.MaxInt32), int64(math.MaxInt32))
	f.Fuzz(func(t *testing.T, name, metadata, dataType, table string, resolution, x0, y0, x1, y1 float64, rows, cols int64) {
		row := layer.CatalogRow{
			Name: name, Metadata: metadata, DataType: dataType, DataTableName: table, TargetResolution: &resolution, TargetCRS: "EPSG:4326",
			Bounds: []*float64{&x0, &y0, &x1, &y1}, ShapeHeight: &rows, ShapeWidth: &cols,
		}
		c := NewClaim([]layer.CatalogRow{row}, "public")
		c.Settle(make([]layer.Relation, len(c.Candidates)))
		if c.HasGrid && c.Grid.Validate() != nil {
			t.Errorf("grid %+v is none: %v", c.Grid, c.Grid.Validate())
		}
		if c.Format != layer.FormatInvalid {
			t.Errorf("there is no table, and the format is %v", c.Format)
		}
		for _, table := range c.Candidates {
			if flaw := flawOf(table.Name, maxIdentifierBytes); flaw != "" {
				t.Errorf("candidate %q %s", table.Name, flaw)
			}
		}
		for _, p := range c.Problems {
			text := fmt.Sprint(p.Message, p.Fix, p.Fields)
			if !utf8.ValidString(name) || !utf8.ValidString(metadata) || !utf8.ValidString(dataType) || !utf8.ValidString(table) {
				continue // PostgreSQL gives UTF-8 only
			}
			if _, err := json.Marshal(p); err != nil || !utf8.ValidString(text) || len(p.Message) > 2000 {
				t.Errorf("problem %+v cannot be sent: %v", p, err)
			}
		}
	})
}
