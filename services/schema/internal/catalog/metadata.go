package catalog

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/rasterloom/rasterloom/internal/layer"
)

// metadata is what we understand of a catalog row's metadata.
type metadata struct {
	memoryAware  bool
	storageTable string
	passthrough  bool
	southUp      *bool // nil: nothing said
	nodata       *float64
	problems     []layer.Problem
}

// nodataKeys are where writers have put the nodata value, the first one wins.
var nodataKeys = []string{"nodata", "nodata_value", "no_data"}

// readMetadata reads the JSON of a catalog row. What cannot be read is a
// problem, and read as absent.
func readMetadata(text string) metadata {
	var m metadata
	if strings.TrimSpace(text) == "" {
		return m
	}
	var values map[string]any
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber() // an int64 nodata is not rounded before we look at it
	if err := decoder.Decode(&values); err != nil {
		m.problems = append(m.problems, problem(MetadataUnreadable, layer.Warning, nil,
			"correct the metadata column of its catalog row, and adopt again",
			"its catalogued metadata are no JSON object, and are taken for empty"))
		return m
	}
	m.memoryAware = truth(values["memory_aware"])
	m.passthrough = truth(values["passthrough"])
	m.storageTable, _ = values["storage_table"].(string)
	m.southUp = readSouthUp(values)
	m.readNodata(values)
	return m
}

// truth reads a flag as its writers wrote it: true, 1, "true".
func truth(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case json.Number:
		return v == "1"
	case string:
		return strings.EqualFold(v, "true") || v == "1"
	default:
		return false
	}
}

// readSouthUp takes south_up, else an affine transform in the order of rasterio
// (a, b, c, d, e, f): rows run from the south where e is positive.
func readSouthUp(values map[string]any) *bool {
	if v, ok := values["south_up"]; ok && v != nil {
		return new(truth(v))
	}
	transform, ok := values["transform"].([]any)
	if !ok || len(transform) != 6 && len(transform) != 9 {
		return nil
	}
	if e, ok := transform[4].(json.Number); ok {
		if e, err := e.Float64(); err == nil && e != 0 {
			return new(e > 0)
		}
	}
	return nil
}

func (m *metadata) readNodata(values map[string]any) {
	var from string
	for _, key := range nodataKeys {
		v, ok := values[key]
		if !ok || v == nil || v == "" {
			continue
		}
		nodata, ok := number(v)
		switch {
		case !ok:
			m.problems = append(m.problems, problem(NodataUnreadable, layer.Warning,
				fields{"key": key, "value": fmt.Sprint(v)}, "correct metadata."+key+" in its catalog row, and adopt again",
				"metadata.%s is %.80q, which is not a number", key, fmt.Sprint(v)))
		case m.nodata == nil:
			m.nodata, from = &nodata, key
		case !same(*m.nodata, nodata):
			m.problems = append(m.problems, problem(NodataConflict, layer.Warning,
				fields{"used": *m.nodata, "used_key": from, "other": nodata, "other_key": key},
				"remove the wrong one from the metadata, and adopt again",
				"metadata.%s is %v and metadata.%s is %v; the first is used", from, *m.nodata, key, nodata))
		}
	}
}

// number reads a JSON number, or a text that is one: "-9999", "nan", "-inf".
func number(v any) (float64, bool) {
	var text string
	switch v := v.(type) {
	case json.Number:
		text = v.String()
	case string:
		text = strings.TrimSpace(v)
	default:
		return 0, false
	}
	// Go reads more than decimal numbers, such as 0x10 and 1_000.
	if strings.ContainsAny(text, "xX_") {
		return 0, false
	}
	f, err := strconv.ParseFloat(text, 64)
	return f, err == nil
}

// same is equality in which NaN is NaN.
func same(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }
