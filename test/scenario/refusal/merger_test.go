package refusal_test

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
)

// merged writes the spec of a merge of layers.
func merged(layers string, more ...string) string {
	return object(append([]string{"layers", layers}, more...)...)
}

// badSpecs are merges that cannot be.
func badSpecs() (list refusals) {
	add := func(name, spec, code, reason string) { list.add("", name, spec, code, reason) }
	plain := named("plain")
	add("0 layers", `{}`, "invalid_argument", "INVALID_ARGUMENT")
	many := make([]string, 257)
	for i := range many {
		many[i] = fmt.Sprintf("layer%d", i)
	}
	add("257 layers", merged(named(many...)), "invalid_argument", "LIMIT_EXCEEDED")
	add("a layer twice", merged(named("plain", "plain")), "invalid_argument", "LAYER_REPEATED")
	add("two columns of one name", merged(`[{"name": "plain", "column": "c"}, {"name": "moved", "column": "c"}]`), "invalid_argument", "COLUMN_REPEATED")
	add("a column named x", merged(`[{"name": "plain", "column": "x"}]`), "invalid_argument", "COLUMN_REPEATED")
	add("a column with a line feed", merged(`[{"name": "plain", "column": "a\nb"}]`), "invalid_argument", "INVALID_ARGUMENT")
	add("an empty name", merged(named("")), "invalid_argument", "INVALID_ARGUMENT")
	add("a name of 256 bytes", merged(named(strings.Repeat("x", 256))), "invalid_argument", "INVALID_ARGUMENT")
	add("a name with NUL", merged(named("a\x00b")), "invalid_argument", "INVALID_ARGUMENT")
	add("a name of SQL", merged(named(`x"; DROP TABLE plain; --`)), "not_found", "LAYER_NOT_FOUND")
	add("a path for a name", merged(named("../../etc/passwd")), "not_found", "LAYER_NOT_FOUND")
	add("unknown layer", merged(named("plain", "nobody")), "not_found", "LAYER_NOT_FOUND")
	add("unknown reference", merged(plain, "reference", `{"layer": "nobody"}`), "not_found", "LAYER_NOT_FOUND")
	add("no reference in a reference", merged(plain, "reference", `{}`), "invalid_argument", "INVALID_ARGUMENT")
	for name, grid := range badGrids {
		add("the reference: "+name, merged(plain, "reference", object("grid", grid)), "invalid_argument", "INVALID_GRID")
	}
	add("residual over the tolerance", merged(named("plain", "coarse"), "reference", `{"layer": "plain"}`), "failed_precondition", "RESIDUAL_TOO_LARGE")
	add("other CRS", merged(named("plain", "elsewhere"), "reference", `{"layer": "plain"}`), "failed_precondition", "CRS_MISMATCH")
	box := func(x0, y0, x1, y1 string) string {
		return fmt.Sprintf(`{"bounds": {"minX": %s, "minY": %s, "maxX": %s, "maxY": %s}}`, x0, y0, x1, y1)
	}
	add("a window outside", merged(plain, "extent", box("0", "0", "10", "10")), "out_of_range", "DISJOINT")
	add("nothing in common", merged(named("plain", "far"), "extent", `{"rule": "EXTENT_RULE_INTERSECTION"}`), "out_of_range", "DISJOINT")
	add("min above max", merged(plain, "extent", box("1050", "1960", "1000", "2000")), "invalid_argument", "")
	add("bounds NaN", merged(plain, "extent", box(`"NaN"`, "1960", "1060", "2000")), "invalid_argument", "")
	huge := object("grid", alignerGrid("rows", `"1000000"`, "cols", `"1000000"`))
	add("cells over the limit", merged(plain, "reference", huge, "extent", `{"rule": "EXTENT_RULE_REFERENCE"}`, "resampling", `"RESAMPLING_NEAREST"`), "resource_exhausted", "LIMIT_EXCEEDED")
	wide := object("grid", alignerGrid("cols", `"60000000"`))
	add("memory over the limit", merged(plain, "reference", wide, "extent", `{"rule": "EXTENT_RULE_REFERENCE"}`), "resource_exhausted", "LIMIT_EXCEEDED")
	for _, tolerance := range badTolerances {
		add("tolerance "+tolerance, merged(plain, "tolerancePixels", tolerance), "invalid_argument", "INVALID_ARGUMENT")
	}
	for _, share := range []string{"-0.1", "1.1", `"NaN"`} {
		add("min_share "+share, merged(plain, "minShare", share), "invalid_argument", "INVALID_ARGUMENT")
		add("a layer's min_share "+share, merged("["+object("name", `"plain"`, "minShare", share)+"]"), "invalid_argument", "INVALID_ARGUMENT")
	}
	for _, field := range []string{"batchRows", "endpoints"} {
		for _, n := range []string{"-1", "1048577"} {
			add(field+" "+n, merged(plain, field, n), "invalid_argument", "INVALID_ARGUMENT")
		}
	}
	for _, field := range []string{"rowsKept", "coordinateColumns", "valueTypes", "duplicates", "resampling"} {
		add(field+" 99", merged(plain, field, "99"), "invalid_argument", "INVALID_ARGUMENT")
	}
	add("rows of a reference that is a grid", merged(plain, "reference", object("grid", alignerGrid()), "rowsKept", `"ROWS_KEPT_REFERENCE"`), "invalid_argument", "INVALID_ARGUMENT")
	for name, option := range map[string][2]string{
		"a path": {"path", `"/etc/passwd"`}, "a URL": {"url", `"http://169.254.169.254/"`}, "a format": {"format", `"csv"`},
		"a codec": {"codec", `"lzma"`}, "an unknown rule": {"rowsKept", `"ROWS_KEPT_BOGUS"`}, "a text for a number": {"batchRows", `"many"`},
	} {
		list = append(list, refusal{
			Name: name + " as an option", Request: merged(plain, option[0], option[1]), JSONOnly: true, code: "invalid_argument", reason: "INVALID_ARGUMENT",
		})
	}
	return list
}

// mergerRefusals are the rows of merges: each spec goes to whatever takes one.
func mergerRefusals() (list refusals) {
	for _, r := range badSpecs() {
		spec := r.Request
		for _, method := range []string{mergerService + "PlanMerge", mergerService + "CompareMerge", exportService + "StartExport"} {
			r.Method, r.Request = method, object("spec", spec)
			if method == exportService+"StartExport" {
				r.Request = object("spec", object("merge", spec, "name", `"refused.parquet"`))
			}
			list = append(list, r)
		}
		for _, method := range []string{"GetFlightInfo", "PollFlightInfo", "GetSchema"} {
			r.Method, r.Request, r.Messages = flightService+method, "", descriptor([]byte(spec))
			if method != "GetFlightInfo" && !r.JSONOnly {
				r.Messages = descriptor(inProtobuf(spec))
			}
			f := r
			f.JSONOnly = false
			list = append(list, f)
		}
	}
	for _, method := range []string{"PlanMerge", "CompareMerge"} {
		list.add(mergerService+method, "nothing", `{}`, "invalid_argument", "INVALID_ARGUMENT")
	}
	list.add(mergerService+"PlanMerge", "5 MiB", object("spec", merged(named(strings.Repeat("x", 5<<20)))), "resource_exhausted", "")
	return list
}

// inProtobuf is a spec as protobuf.
func inProtobuf(spec string) []byte {
	var m mergerv1.MergeSpec
	if err := protojson.Unmarshal([]byte(spec), &m); err != nil {
		panic(err)
	}
	return marshal(&m)
}

// exportRefusals are the rows of exports; mine is one of alice's that is
// published, under the key "key 1".
func exportRefusals(mine string) (list refusals) {
	start := func(name string, more ...string) string {
		return object("spec", object(append([]string{"merge", merged(named("plain")), "name", quote(name)}, more...)...))
	}
	add := func(method, name, request, code, reason string) {
		list.add(exportService+method, name, request, code, reason)
	}
	for _, name := range []string{
		"", "../x.parquet", "/tmp/x.parquet", "a/b", ".hidden", "-x", "x\n", "x\x00.parquet", "file:///x", "http://example.org/x.parquet", "x y", "é.parquet", strings.Repeat("x", 129),
	} {
		add("StartExport", fmt.Sprintf("name %.20q", name), start(name), "invalid_argument", "INVALID_ARGUMENT")
	}
	add("StartExport", "no spec", `{}`, "invalid_argument", "INVALID_ARGUMENT")
	add("StartExport", "no merge", `{"spec": {"name": "x.parquet"}}`, "invalid_argument", "INVALID_ARGUMENT")
	add("StartExport", "part_rows -1", start("refused", "partRows", `"-1"`), "invalid_argument", "INVALID_ARGUMENT")
	add("StartExport", "parts of a single file", start("refused.parquet", "partRows", `"5"`), "invalid_argument", "INVALID_ARGUMENT")
	for _, option := range []string{"path", "url", "format", "codec"} {
		list = append(list, refusal{
			Name: "a " + option + " as an option", Method: exportService + "StartExport", Request: start("refused.parquet", option, `"zip"`), JSONOnly: true,
			code: "invalid_argument", reason: "INVALID_ARGUMENT",
		})
	}
	keyed := func(key, name string) string {
		return object("spec", object("merge", merged(named("plain")), "name", quote(name)), "idempotencyKey", quote(key))
	}
	as := func(who, method, name, request, code, reason string) {
		add(method, who+": "+name, request, code, reason)
		list[len(list)-1].As = who
	}
	as("alice", "StartExport", "same key, same spec", keyed("key 1", "mine.parquet"), "ok", "")
	as("alice", "StartExport", "same key, other spec", keyed("key 1", "other.parquet"), "already_exists", "EXPORT_EXISTS")
	as("alice", "StartExport", "a name that is there", keyed("key 2", "mine.parquet"), "already_exists", "EXPORT_EXISTS")
	as("bob", "StartExport", "a name that is there", keyed("key 1", "mine.parquet"), "already_exists", "EXPORT_EXISTS")
	add("StartExport", "a key of 256 bytes", keyed(strings.Repeat("k", 256), "refused.parquet"), "invalid_argument", "INVALID_ARGUMENT")
	for _, method := range []string{"GetExport", "CancelExport", "WatchExport"} {
		for _, id := range []string{"", "1", "../" + mine, strings.ToUpper(mine), mine + "a", strings.Repeat("x", 25) + "'"} {
			add(method, fmt.Sprintf("id %q", id), object("id", quote(id)), "invalid_argument", "INVALID_ARGUMENT")
		}
		add(method, "unknown id", object("id", quote(strings.Repeat("a", 26))), "not_found", "EXPORT_NOT_FOUND")
		as("bob", method, "another tenant's id", object("id", quote(mine)), "not_found", "EXPORT_NOT_FOUND")
	}
	add("GetExport", "5 MiB", object("id", quote(strings.Repeat("x", 5<<20))), "resource_exhausted", "")
	as("alice", "CancelExport", "after the commit", object("id", quote(mine)), "failed_precondition", "EXPORT_STATE")
	add("ListExports", "limit -1", `{"limit": -1}`, "invalid_argument", "INVALID_ARGUMENT")
	add("ListExports", "limit 1001", `{"limit": 1001}`, "invalid_argument", "INVALID_ARGUMENT")
	return list
}
