package merger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	mergerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/merger/v1"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// export starts an export and waits for its end.
func (s *suite) export(t testing.TB, spec *mergerv1.ExportSpec) *mergerv1.Export {
	t.Helper()
	started, err := s.exports.StartExport(t.Context(), connect.NewRequest(&mergerv1.StartExportRequest{Spec: spec}))
	if err != nil {
		t.Fatal(err)
	}
	return s.wait(t, started.Msg.GetExport().GetId())
}

// wait watches an export to its end.
func (s *suite) wait(t testing.TB, id string) *mergerv1.Export {
	t.Helper()
	watch, err := s.exports.WatchExport(t.Context(), connect.NewRequest(&mergerv1.WatchExportRequest{Id: id}))
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	var last *mergerv1.Export
	for watch.Receive() {
		e := watch.Msg().GetExport()
		if e.GetRows() < last.GetRows() || e.GetBytes() < last.GetBytes() || e.GetFraction() < last.GetFraction() {
			t.Errorf("progress went back from %v to %v", last, e)
		}
		last = e
	}
	if err := watch.Err(); err != nil {
		t.Fatal(err)
	}
	return last
}

// requireFailure checks code and reason of an error of Connect.
func requireFailure(t *testing.T, err error, code connect.Code, reason string) map[string]string {
	t.Helper()
	if connect.CodeOf(err) != code || err == nil {
		t.Fatalf("error %v, want %s", err, code)
	}
	failure, ok := errors.AsType[*connect.Error](err)
	if !ok {
		t.Fatalf("error %v is none of Connect", err)
	}
	for _, d := range failure.Details() {
		if v, err := d.Value(); err == nil {
			if info, ok := v.(*errdetails.ErrorInfo); ok {
				if info.GetReason() != reason {
					t.Fatalf("reason %s, want %s (%v)", info.GetReason(), reason, err)
				}
				return info.GetMetadata()
			}
		}
	}
	t.Fatalf("%v has no ErrorInfo", err)
	return nil
}

// visible lists what a reader of the directory sees.
func visible(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		if !d.IsDir() {
			name, err := filepath.Rel(dir, path)
			names = append(names, filepath.ToSlash(name))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// readParquet reads a file as a reader that knows nothing of us would.
func readParquet(t *testing.T, path string) (*arrow.Schema, [][]*float64, *file.Reader) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := file.NewParquetReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	reader, err := pqarrow.NewFileReader(raw, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	table, err := reader.ReadTable(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer table.Release()
	columns := make([][]*float64, table.NumCols())
	for i := range columns {
		for _, chunk := range table.Column(i).Data().Chunks() {
			for j := range chunk.Len() {
				var v *float64
				if !chunk.IsNull(j) {
					v = new(valueAt(chunk, j))
				}
				columns[i] = append(columns[i], v)
			}
		}
	}
	return table.Schema(), columns, raw
}

func valueAt(a arrow.Array, i int) float64 {
	if a, ok := a.(*array.Float32); ok {
		return float64(a.Value(i))
	}
	return number(a, i)
}

// requireFields leaves out the ids that the reader puts on fields.
func requireFields(t *testing.T, got, want *arrow.Schema) {
	t.Helper()
	if !slices.EqualFunc(got.Fields(), want.Fields(), func(a, b arrow.Field) bool {
		return a.Name == b.Name && arrow.TypeEqual(a.Type, b.Type) && a.Nullable == b.Nullable
	}) {
		t.Errorf("schema %v, want %v", got, want)
	}
}

func requireColumns(t *testing.T, got, want [][]*float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d columns, want %d", len(got), len(want))
	}
	for i := range want {
		if !slices.EqualFunc(got[i], want[i], func(a, b *float64) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }) {
			t.Fatalf("column %d differs (%d rows, want %d)", i, len(got[i]), len(want[i]))
		}
	}
}

func sumOf(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// A file has the schema and the values of the stream, and its bytes are the same
// however it is made: whatever batches are asked for, whatever the bands.
func TestExportedFile(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	sums := map[string]bool{}
	for _, band := range []int64{1, 1 << 20} {
		dir := t.TempDir()
		s := start(t, Config{ExportDir: dir, BandBytes: band})
		rng := rand.New(rand.NewPCG(seed, 0))
		s.put(t, "birds", layer.FormatLegacy, generated(rng, utm(230, 310, 3e5, 5e6)))
		s.put(t, "plants", layer.FormatWindowed, generated(rng, utm(200, 400, 3e5-90, 5e6+60)))
		spec := specOf("birds", "plants")
		spec.Layers[1].Column = "green.ratio"
		spec.CoordinateColumns = mergerv1.CoordinateColumns_COORDINATE_COLUMNS_BOTH
		want := s.merge(t, spec)[0]

		done := s.export(t, &mergerv1.ExportSpec{Merge: spec, Name: "table.parquet"})
		if done.GetState() != mergerv1.ExportState_EXPORT_STATE_SUCCEEDED || done.GetFraction() != 1 || done.GetParts() != 1 ||
			done.GetRows() != want.rows || done.GetFailure() != nil {
			t.Fatalf("%v", done)
		}
		path := filepath.Join(dir, "table.parquet")
		schema, columns, raw := readParquet(t, path)
		requireColumns(t, columns, want.columns)
		requireFields(t, schema, want.schema)
		text, _ := want.schema.Metadata().GetValue("rasterloom")
		if meta := raw.MetaData().KeyValueMetadata().FindValue("rasterloom"); meta == nil || *meta != text || text == "" {
			t.Errorf("the file's metadata have not %q", text)
		}
		requireLayout(t, raw, want.schema)
		manifest := done.GetManifest()
		if p := manifest.GetParts(); len(p) != 1 || p[0].GetSha256() != sumOf(t, path) || p[0].GetRows() != want.rows || p[0].GetFile() != "table.parquet" {
			t.Errorf("parts %v", p)
		}
		for i, l := range manifest.GetLayers() {
			if w := want.trailer.Layers[i]; l.GetName() != w.Name || l.GetCells() != w.Cells || l.GetGeneration() != w.Generation {
				t.Errorf("layer %v, want %v", l, w)
			}
		}
		spec.BatchRows, spec.Endpoints = 77, 5
		s.export(t, &mergerv1.ExportSpec{Merge: spec, Name: "again.parquet"})
		sums[sumOf(t, path)], sums[sumOf(t, filepath.Join(dir, "again.parquet"))] = true, true
		if got := visible(t, dir); !slices.Equal(got, []string{"again.parquet", "table.parquet"}) {
			t.Errorf("visible: %v", got)
		}
	}
	if len(sums) != 1 {
		t.Errorf("four exports of one merge have %d sums: %v", len(sums), slices.Collect(maps.Keys(sums)))
	}
}

// requireLayout checks how the columns are stored.
func requireLayout(t *testing.T, raw *file.Reader, schema *arrow.Schema) {
	t.Helper()
	for g := range raw.NumRowGroups() {
		group := raw.MetaData().RowGroup(g)
		if sorted := group.SortingColumns(); len(sorted) != 2 || sorted[0].ColumnIdx != 1 || !sorted[0].Descending || sorted[1].ColumnIdx != 0 || sorted[1].Descending {
			t.Errorf("sorted by %v, want y descending, x", sorted)
		}
		for i, f := range schema.Fields() {
			chunk, err := group.ColumnChunk(i)
			if err != nil {
				t.Fatal(err)
			}
			floats := f.Type.ID() == arrow.FLOAT64
			if chunk.Compression() != compress.Codecs.Zstd || chunk.HasDictionaryPage() ||
				slices.Contains(chunk.Encodings(), parquet.Encodings.ByteStreamSplit) != floats {
				t.Errorf("column %s: %s, %v, dictionary %v", f.Name, chunk.Compression(), chunk.Encodings(), chunk.HasDictionaryPage())
			}
			optional := raw.MetaData().Schema.Column(i).MaxDefinitionLevel() > 0
			if optional != f.Nullable {
				t.Errorf("column %s is optional: %v, want %v", f.Name, optional, f.Nullable)
			}
			if stats, err := chunk.Statistics(); err != nil || stats == nil || !stats.HasMinMax() {
				t.Errorf("column %s has no statistics: %v", f.Name, err)
			}
		}
	}
}

// A directory has the rows in parts, and a manifest that is true.
func TestExportedDirectory(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	s := start(t, Config{ExportDir: dir, BandBytes: 2000})
	s.put(t, "birds", layer.FormatLegacy, generated(rng, utm(40, 50, 3e5, 5e6)))
	s.put(t, "plants", layer.FormatCoordinate, generated(rng, utm(30, 60, 3e5+60, 5e6)))
	spec := specOf("birds", "plants")
	want := s.merge(t, spec)[0]
	const partRows = 700
	done := s.export(t, &mergerv1.ExportSpec{Merge: spec, Name: "tables", PartRows: partRows})
	parts := (want.rows-1)/partRows + 1
	if done.GetState() != mergerv1.ExportState_EXPORT_STATE_SUCCEEDED || int64(done.GetParts()) != parts || done.GetManifest().GetRows() != want.rows {
		t.Fatalf("%v, want %d parts", done, parts)
	}
	columns := make([][]*float64, len(want.columns))
	names := []string{"tables/_manifest.json"}
	for i, p := range done.GetManifest().GetParts() {
		path := filepath.Join(dir, "tables", p.GetFile())
		names = append(names, "tables/"+p.GetFile())
		schema, part, _ := readParquet(t, path)
		requireFields(t, schema, want.schema)
		if sumOf(t, path) != p.GetSha256() || int64(len(part[0])) != p.GetRows() || int64(i+1) < parts && p.GetRows() != partRows {
			t.Errorf("part %v", p)
		}
		for c := range columns {
			columns[c] = append(columns[c], part[c]...)
		}
	}
	requireColumns(t, columns, want.columns)
	if got := visible(t, dir); !slices.Equal(got, names) {
		t.Errorf("visible: %v, want %v", got, names)
	}
	var manifest struct {
		Version int   `json:"version"`
		Rows    int64 `json:"rows"`
		Parts   []struct {
			File   string `json:"file"`
			SHA256 string `json:"sha256"`
		} `json:"parts"`
	}
	text, err := os.ReadFile(filepath.Join(dir, "tables", "_manifest.json"))
	if err == nil {
		err = json.Unmarshal(text, &manifest)
	}
	if err != nil || manifest.Version != 1 || manifest.Rows != want.rows || len(manifest.Parts) != int(parts) ||
		manifest.Parts[0].SHA256 != done.GetManifest().GetParts()[0].GetSha256() {
		t.Errorf("%v: manifest %s", err, text)
	}

	// A merge without a row has a part with the columns.
	s.put(t, "nothing", layer.FormatLegacy, raster{grid: utm(9, 9, 3e5, 5e6)})
	empty := s.export(t, &mergerv1.ExportSpec{Merge: specOf("nothing"), Name: "none"})
	schema, part, _ := readParquet(t, filepath.Join(dir, "none", "part-00000.parquet"))
	if empty.GetRows() != 0 || len(part) != 3 || len(part[0]) != 0 || schema.Field(2).Name != "nothing" {
		t.Errorf("%v: %v", empty, schema)
	}
}

// Bad requests are refused with their codes, and nothing appears.
func TestExportsAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, Config{ExportDir: dir})
	rng := rand.New(rand.NewPCG(5, 5))
	s.put(t, "birds", layer.FormatLegacy, generated(rng, utm(6, 7, 3e5, 5e6)))
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	request := func(name string, change func(*mergerv1.StartExportRequest)) error {
		r := &mergerv1.StartExportRequest{Spec: &mergerv1.ExportSpec{Merge: specOf("birds"), Name: name}}
		if change != nil {
			change(r)
		}
		_, err := s.exports.StartExport(t.Context(), connect.NewRequest(r))
		return err
	}
	for _, name := range []string{
		"", ".", "..", ".hidden", "-flag", "_x", "a/b", "../a", "/etc/passwd", `a\b`, "a b", "a\x00", "a\n", "a\u202eb", "b:c", "s3://bucket/a",
		"file:///a", strings.Repeat("a", 129), "ä", "a*", "%2e%2e",
	} {
		err := request(name, nil)
		if code := connect.CodeOf(err); err == nil || code != connect.CodeInvalidArgument {
			t.Errorf("name %q: %v, want INVALID_ARGUMENT", name, err)
		}
	}
	requireFailure(t, request("taken", nil), connect.CodeAlreadyExists, "EXPORT_EXISTS")
	requireFailure(t, request("a.parquet", func(r *mergerv1.StartExportRequest) { r.Spec.PartRows = 5 }), connect.CodeInvalidArgument, "INVALID_ARGUMENT")
	requireFailure(t, request("a", func(r *mergerv1.StartExportRequest) { r.Spec.PartRows = -1 }), connect.CodeInvalidArgument, "INVALID_ARGUMENT")
	requireFailure(t, request("a", func(r *mergerv1.StartExportRequest) { r.Spec.Merge = nil }), connect.CodeInvalidArgument, "INVALID_ARGUMENT")
	requireFailure(t, request("a", func(r *mergerv1.StartExportRequest) { r.Spec.Merge = specOf("nobody") }), connect.CodeNotFound, "LAYER_NOT_FOUND")
	for _, id := range []string{"", "x", "../..", strings.Repeat("A", 26), strings.Repeat("a", 27)} {
		_, err := s.exports.GetExport(t.Context(), connect.NewRequest(&mergerv1.GetExportRequest{Id: id}))
		requireFailure(t, err, connect.CodeInvalidArgument, "INVALID_ARGUMENT")
		_, err = s.exports.CancelExport(t.Context(), connect.NewRequest(&mergerv1.CancelExportRequest{Id: id}))
		requireFailure(t, err, connect.CodeInvalidArgument, "INVALID_ARGUMENT")
	}
	unknown := strings.Repeat("a", 26)
	_, err := s.exports.GetExport(t.Context(), connect.NewRequest(&mergerv1.GetExportRequest{Id: unknown}))
	requireFailure(t, err, connect.CodeNotFound, "EXPORT_NOT_FOUND")
	_, err = s.exports.CancelExport(t.Context(), connect.NewRequest(&mergerv1.CancelExportRequest{Id: unknown}))
	requireFailure(t, err, connect.CodeNotFound, "EXPORT_NOT_FOUND")
	if got := visible(t, dir); len(got) != 0 {
		t.Errorf("visible: %v", got)
	}

	off := start(t, Config{})
	_, err = off.exports.StartExport(t.Context(), connect.NewRequest(&mergerv1.StartExportRequest{Spec: &mergerv1.ExportSpec{Merge: specOf("birds"), Name: "a"}}))
	if got := requireFailure(t, err, connect.CodeFailedPrecondition, "UNSUPPORTED"); got["flag"] != "--export-dir" {
		t.Errorf("fields %v", got)
	}
	_, err = off.exports.GetExport(t.Context(), connect.NewRequest(&mergerv1.GetExportRequest{Id: unknown}))
	requireFailure(t, err, connect.CodeFailedPrecondition, "UNSUPPORTED")
}

// A key names one request for as long as the server remembers it.
func TestExportKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, Config{ExportDir: dir})
	rng := rand.New(rand.NewPCG(6, 6))
	l := s.put(t, "birds", layer.FormatLegacy, generated(rng, utm(6, 7, 3e5, 5e6)))
	request := &mergerv1.StartExportRequest{Spec: &mergerv1.ExportSpec{Merge: specOf("birds"), Name: "a.parquet"}, IdempotencyKey: "monday"}
	first, err := s.exports.StartExport(t.Context(), connect.NewRequest(request))
	if err != nil {
		t.Fatal(err)
	}
	id := first.Msg.GetExport().GetId()
	done := s.wait(t, id)
	// Even when it could not be started any more.
	s.peers.mu.Lock()
	delete(s.peers.layers, l.Name)
	s.peers.mu.Unlock()
	again, err := s.exports.StartExport(t.Context(), connect.NewRequest(request))
	if err != nil || again.Msg.GetExport().GetId() != id || again.Msg.GetExport().GetState() != done.GetState() {
		t.Errorf("%v, %v: want export %s", again, err, id)
	}
	request.Spec.Name = "b.parquet"
	_, err = s.exports.StartExport(t.Context(), connect.NewRequest(request))
	if got := requireFailure(t, err, connect.CodeAlreadyExists, "EXPORT_EXISTS"); got["id"] != id {
		t.Errorf("fields %v", got)
	}
	_, err = s.exports.CancelExport(t.Context(), connect.NewRequest(&mergerv1.CancelExportRequest{Id: id}))
	requireFailure(t, err, connect.CodeFailedPrecondition, "EXPORT_STATE")
	list, err := s.exports.ListExports(t.Context(), connect.NewRequest(&mergerv1.ListExportsRequest{}))
	if err != nil || len(list.Msg.GetExports()) != 1 || list.Msg.GetExports()[0].GetId() != id || list.Msg.GetExports()[0].GetManifest() != nil {
		t.Errorf("%v, %v", list, err)
	}
}

// An export that fails says why, and leaves nothing.
func TestFailedExportsLeaveNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, Config{ExportDir: dir, BandBytes: 1})
	rng := rand.New(rand.NewPCG(7, 7))
	s.put(t, "birds", layer.FormatLegacy, generated(rng, utm(60, 7, 3e5, 5e6)))
	s.exec(t, "INSERT INTO public.birds VALUES (99, 0, 5)")
	for _, name := range []string{"birds", "birds.parquet"} {
		done := s.export(t, &mergerv1.ExportSpec{Merge: specOf("birds"), Name: name})
		if f := done.GetFailure(); done.GetState() != mergerv1.ExportState_EXPORT_STATE_FAILED || f.GetReason() != "CELL_OFF_GRID" || f.GetCode() != "failed_precondition" || f.GetFields()["row_idx"] != "99" {
			t.Errorf("%s: %v", name, done)
		}
	}
	if got := visible(t, dir); len(got) != 0 {
		t.Errorf("visible: %v", got)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".rasterloom-*", "*", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// Cancelling stops the queries in the database within a second, and what was
// written is gone; so does a shutdown, which says so.
func TestCancelledExports(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, Config{ExportDir: dir, BandBytes: 1 << 16})
	const side = 1500
	l := s.put(t, "birds", layer.FormatLegacy, raster{grid: utm(side, side, 3e5, 5e6)})
	s.exec(t, fmt.Sprintf("INSERT INTO %s SELECT r, c, r FROM generate_series(0, %d) r, generate_series(0, %d) c", l.Table, side-1, side-1))
	for _, when := range []string{"at once", "writing"} {
		started, err := s.exports.StartExport(t.Context(), connect.NewRequest(&mergerv1.StartExportRequest{
			Spec: &mergerv1.ExportSpec{Merge: specOf("birds"), Name: "table", PartRows: 1 << 17},
		}))
		if err != nil {
			t.Fatal(err)
		}
		id := started.Msg.GetExport().GetId()
		if when == "writing" {
			ctx, stop := context.WithCancel(t.Context())
			watch, err := s.exports.WatchExport(ctx, connect.NewRequest(&mergerv1.WatchExportRequest{Id: id}))
			if err != nil {
				t.Fatal(err)
			}
			for watch.Receive() && watch.Msg().GetExport().GetParts() == 0 {
				if watch.Msg().GetExport().GetState() > mergerv1.ExportState_EXPORT_STATE_RUNNING {
					t.Fatalf("%v", watch.Msg())
				}
			}
			stop()
			_ = watch.Close()
		}
		cancelled, err := s.exports.CancelExport(t.Context(), connect.NewRequest(&mergerv1.CancelExportRequest{Id: id}))
		if err != nil || cancelled.Msg.GetExport().GetState() != mergerv1.ExportState_EXPORT_STATE_CANCELLED {
			t.Fatalf("%s: %v, %v", when, cancelled, err)
		}
		s.requireIdle(t, time.Second)
		again, err := s.exports.CancelExport(t.Context(), connect.NewRequest(&mergerv1.CancelExportRequest{Id: id}))
		if err != nil || again.Msg.GetExport().GetState() != mergerv1.ExportState_EXPORT_STATE_CANCELLED {
			t.Errorf("cancelled again: %v, %v", again, err)
		}
		left, err := filepath.Glob(filepath.Join(dir, ".rasterloom-*", "*", "*"))
		if got := visible(t, dir); err != nil || len(got)+len(left) != 0 {
			t.Errorf("%s: left over %v and %v, %v", when, got, left, err)
		}
	}
}
