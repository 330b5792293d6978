package refusal_test

import (
	"fmt"
	"strings"

	_ "github.com/rasterloom/rasterloom/gen/rasterloom/aligner/v1" // the messages, by their names
)

// alignerGrid is a grid that is good but for what is said otherwise.
func alignerGrid(change ...string) string {
	return changed(map[string]string{
		"crs": `"EPSG:32633"`, "rows": `"4"`, "cols": `"6"`, "originX": "1000", "originY": "2000", "stepX": "10", "stepY": "10",
	}, change)
}

// badGrids are no grids.
var badGrids = map[string]string{
	"step 0":      alignerGrid("stepX", "0"),
	"step -1":     alignerGrid("stepY", "-1"),
	"step NaN":    alignerGrid("stepX", `"NaN"`),
	"step Inf":    alignerGrid("stepY", `"Infinity"`),
	"step 1e-300": alignerGrid("stepX", "1e-300"),
	"origin NaN":  alignerGrid("originX", `"NaN"`),
	"origin -Inf": alignerGrid("originY", `"-Infinity"`),
	"no rows":     alignerGrid("rows", `"0"`),
	"-1 columns":  alignerGrid("cols", `"-1"`),
	"2^53+1 rows": alignerGrid("rows", `"9007199254740993"`),
	"nothing":     `{}`,
}

// badTolerances are not between 0 and 0.5.
var badTolerances = []string{"0", "-1", "0.5", `"NaN"`, `"Infinity"`}

func alignerLayer(name, grid string) string {
	return object("layer", object("name", quote(name), "grid", grid))
}

func named(names ...string) string {
	sources := make([]string, len(names))
	for i, name := range names {
		sources[i] = object("name", quote(name))
	}
	return "[" + strings.Join(sources, ",") + "]"
}

// alignerRefusals are the rows of the aligner.
func alignerRefusals() (list refusals) {
	good := alignerLayer("a", alignerGrid())
	for _, method := range []string{"CalculateGridShifts", "AnalyzeAlignment", "ChooseReference"} {
		add := func(name, request, code, reason string) { list.add(alignerService+method, name, request, code, reason) }
		for name, grid := range badGrids {
			add("a layer's grid: "+name, object("layers", "["+good+","+alignerLayer("b", grid)+"]"), "invalid_argument", "INVALID_GRID")
		}
		add("0 layers", `{}`, "invalid_argument", "INVALID_ARGUMENT")
		if method != "ChooseReference" {
			add("1 layer", object("layers", named("plain")), "invalid_argument", "INVALID_ARGUMENT")
			add("unknown reference", object("layers", named("plain", "moved"), "reference", `{"layer": "nobody"}`), "invalid_argument", "")
			add("no reference in a reference", object("layers", named("plain", "moved"), "reference", `{}`), "invalid_argument", "INVALID_ARGUMENT")
			for name, grid := range badGrids {
				add("the reference: "+name, object("layers", named("plain"), "reference", object("grid", grid)), "invalid_argument", "INVALID_GRID")
			}
		}
		add("4097 layers", object("layers", named(strings.Split(strings.Repeat("x,", 4096)+"x", ",")...)), "invalid_argument", "INVALID_ARGUMENT")
		add("a layer twice", object("layers", named("plain", "plain")), "invalid_argument", "LAYER_REPEATED")
		add("unknown layer", object("layers", named("plain", "nobody")), "not_found", "LAYER_NOT_FOUND")
		add("a layer without a source", object("layers", `[{}, {}]`), "invalid_argument", "INVALID_ARGUMENT")
		add("an empty name", object("layers", named("plain", "")), "invalid_argument", "INVALID_ARGUMENT")
		add("a name of 256 bytes", object("layers", named("plain", strings.Repeat("x", 256))), "invalid_argument", "INVALID_ARGUMENT")
		add("a name with NUL", object("layers", named("plain", "a\x00b")), "invalid_argument", "INVALID_ARGUMENT")
		add("a name of SQL", object("layers", named("plain", `x"; DROP TABLE plain; --`)), "not_found", "LAYER_NOT_FOUND")
		for _, tolerance := range badTolerances {
			add("tolerance "+tolerance, object("layers", named("plain", "moved"), "tolerancePixels", tolerance), "invalid_argument", "INVALID_ARGUMENT")
		}
	}
	list.add(alignerService+"CalculateGridShifts", "5 MiB", object("layers", named(strings.Repeat("x", 5<<20))), "resource_exhausted", "")
	add := func(name, request, code, reason string) {
		list.add(alignerService+"CreateAlignedCoordinateQuery", "query: "+name, request, code, reason)
	}
	query := func(layer string, more ...string) string {
		return object(append([]string{"layer", object("name", quote(layer)), "reference", alignerGrid()}, more...)...)
	}
	box := func(x0, y0, x1, y1 string) string {
		return fmt.Sprintf(`{"minX": %s, "minY": %s, "maxX": %s, "maxY": %s}`, x0, y0, x1, y1)
	}
	add("nothing", `{}`, "invalid_argument", "INVALID_ARGUMENT")
	add("no reference", `{"layer": {"name": "plain"}}`, "invalid_argument", "INVALID_ARGUMENT")
	add("no layer", object("reference", alignerGrid()), "invalid_argument", "INVALID_ARGUMENT")
	add("unknown layer", query("nobody"), "not_found", "LAYER_NOT_FOUND")
	add("other CRS", query("elsewhere"), "failed_precondition", "CRS_MISMATCH")
	add("residual over the tolerance", query("coarse"), "failed_precondition", "RESIDUAL_TOO_LARGE")
	add("nothing on the reference", query("far"), "out_of_range", "DISJOINT")
	add("nothing in the bounds", query("plain", "bounds", box("0", "0", "10", "10")), "out_of_range", "DISJOINT")
	add("tiles", query("tiled"), "unimplemented", "UNSUPPORTED")
	add("min above max", query("plain", "bounds", box("1050", "1960", "1000", "2000")), "invalid_argument", "")
	add("bounds NaN", query("plain", "bounds", box(`"NaN"`, "1960", "1060", "2000")), "invalid_argument", "")
	for name, grid := range badGrids {
		add("the reference: "+name, object("layer", `{"name": "plain"}`, "reference", grid), "invalid_argument", "INVALID_GRID")
	}
	for _, tolerance := range badTolerances {
		add("tolerance "+tolerance, query("plain", "tolerancePixels", tolerance), "invalid_argument", "INVALID_ARGUMENT")
	}
	return list
}
