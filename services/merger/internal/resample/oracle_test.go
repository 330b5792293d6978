package resample_test

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
	"github.com/rasterloom/rasterloom/services/merger/internal/resample"
)

// oracle is the process that gives reference results: GDAL's, and exact ones
// (test/golden/resample/oracle.py).
type oracle struct {
	mu  sync.Mutex
	in  io.WriteCloser
	out *bufio.Reader
	cmd *exec.Cmd
}

var theOracle oracle

func TestMain(m *testing.M) {
	code := m.Run()
	if theOracle.cmd != nil {
		_ = theOracle.in.Close()
		_ = theOracle.cmd.Wait()
	}
	os.Exit(code)
}

// repository is the root of the checkout.
func repository() string {
	root, err := filepath.Abs("../../../..")
	if err != nil {
		panic(err)
	}
	return root
}

// start runs the oracle with the interpreter of the checkout, or the one that
// RASTERLOOM_PYTHON names. Without it there is no proof, and the test fails.
func (o *oracle) start(t *testing.T) {
	t.Helper()
	python := os.Getenv("RASTERLOOM_PYTHON")
	if python == "" {
		python = filepath.Join(repository(), ".venv", "bin", "python")
	}
	cmd := exec.Command(python, filepath.Join(repository(), "test", "golden", "resample", "oracle.py"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("GDAL is needed to compare with: make the Python environment of the checkout (.venv) with rasterio, or name "+
			"an interpreter in RASTERLOOM_PYTHON: %v", err)
	}
	o.cmd, o.in, o.out = cmd, in, bufio.NewReaderSize(out, 1<<20)
}

func (o *oracle) ask(t *testing.T, request map[string]any, payload []byte, answer any) []byte {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cmd == nil {
		o.start(t)
	}
	request["bytes"] = len(payload)
	line, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.in.Write(append(append(line, '\n'), payload...)); err != nil {
		t.Fatalf("asking the oracle: %v", err)
	}
	head, err := o.out.ReadBytes('\n')
	if err != nil {
		t.Fatalf("hearing the oracle: %v", err)
	}
	var size struct{ Bytes int }
	if err := json.Unmarshal(head, &size); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(head, answer); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, size.Bytes)
	if _, err := io.ReadFull(o.out, body); err != nil {
		t.Fatal(err)
	}
	return body
}

func floats(b []byte) []float64 {
	v := make([]float64, len(b)/8)
	for i := range v {
		v[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:]))
	}
	return v
}

func bytesOf[T layer.Value](values []T) []byte {
	b, err := binary.Append(nil, binary.LittleEndian, values)
	if err != nil {
		panic(err)
	}
	return b
}

func gridOf(g grid.Grid) []float64 { return []float64{g.OriginX, g.OriginY, g.StepX, g.StepY} }

// pair is a layer and the lattice to bring it to.
type pair[S layer.Value] struct {
	name     string
	src, ref grid.Grid
	// values and valid are the layer, row by row.
	values []S
	valid  []bool
}

// references are results to compare with, NaN where there is no value: by the
// names that oracle.py gives them.
type references struct {
	gdal, exact, size, share []float64
	// more are those of single methods.
	more    map[string][]float64
	version string
}

// reference asks the oracle. Values that are not valid are sent as a nodata
// value that no valid cell has; GDAL's output is of type out.
func (p pair[S]) reference(t *testing.T, m resample.Method, out layer.DataType) references {
	t.Helper()
	from := layer.TypeOf[S]()
	values := append([]S(nil), p.values...)
	request := map[string]any{
		"op": "warp", "method": m.String(), "dtype": from.String(), "out": out.String(), "crs": p.src.CRS,
		"src": gridOf(p.src), "ref": gridOf(p.ref), "src_shape": []int{p.src.Rows, p.src.Cols},
		"shape": []int{p.ref.Rows, p.ref.Cols}, "nodata": nil,
	}
	missing := p.unused(t)
	if missing == missing {
		request["nodata"] = float64(missing)
	}
	request["out_nodata"] = request["nodata"]
	for i, ok := range p.valid {
		if !ok {
			values[i] = missing
		}
	}
	var answer struct {
		Names []string
		GDAL  string `json:"gdal"`
	}
	body := floats(theOracle.ask(t, request, bytesOf(values), &answer))
	n := p.ref.Rows * p.ref.Cols
	r := references{version: answer.GDAL, more: make(map[string][]float64)}
	for i, name := range answer.Names {
		r.more[name] = body[i*n : (i+1)*n]
	}
	r.gdal, r.exact, r.size, r.share = r.more["gdal"], r.more["exact"], r.more["size"], r.more["share"]
	return r
}

// unused is a value that no valid cell has: NaN, or a whole number.
func (p pair[S]) unused(t *testing.T) S {
	t.Helper()
	lo, hi := layer.TypeOf[S]().Limits()
	if math.IsInf(lo, -1) {
		return S(math.NaN())
	}
	taken := make(map[S]bool)
	for i, v := range p.values {
		taken[v] = taken[v] || p.valid[i]
	}
	for v := lo; v < hi; v++ {
		if !taken[S(v)] {
			return S(v)
		}
	}
	t.Fatalf("%s: all values are taken, and none is left for nodata", p.name)
	return 0
}

// source is what a band of the kernel needs of a layer.
func (p pair[S]) source(k *resample.Kernel, rowStart, rowStop int64) resample.Window[S] {
	return p.cells(k, k.SourceWindow(rowStart, rowStop))
}

// cells are those of a part of the source window.
func (p pair[S]) cells(k *resample.Kernel, part grid.Window) resample.Window[S] {
	w := resample.NewWindow[S](part)
	for i := range w.Values {
		w.Values[i] = 113 // what must never be seen
	}
	for row := w.RowStart; row < w.RowStop; row++ {
		for _, s := range k.Segments() {
			for c := range s.Cols() {
				from := int(row)*p.src.Cols + int(s.SrcStart+c)
				to := int((row-w.RowStart)*w.Cols() + s.DstStart + c - w.ColStart)
				if p.valid[from] {
					w.Values[to] = p.values[from]
					w.Valid[to>>6] |= 1 << (to & 63)
				}
			}
		}
	}
	return w
}

// resampled is the window of the lattice, band by band, as a cell-wise copy: NaN
// for no value.
func resampled[S, D layer.Value](t testing.TB, p pair[S], m resample.Method, w grid.Window, bandRows int64, o resample.Options) []float64 {
	t.Helper()
	k, err := resample.New(m, p.src, p.ref, w, o)
	if err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	r, err := resample.NewResampler[S, D](k)
	if err != nil {
		t.Fatal(err)
	}
	var all []float64
	for row := w.RowStart; row < w.RowStop; row += bandRows {
		dst := resample.NewWindow[D](grid.Window{
			RowStart: row, RowStop: min(row+bandRows, w.RowStop), ColStart: w.ColStart, ColStop: w.ColStop,
		})
		for i := range dst.Values {
			dst.Values[i] = 77 // of an earlier band
		}
		for i := range dst.Valid {
			dst.Valid[i] = ^uint64(0)
		}
		if most, need := k.MaxSourceRows(dst.Rows()), k.SourceWindow(dst.RowStart, dst.RowStop).Rows(); need > most {
			t.Fatalf("%s: a band of %d rows needs %d rows of the layer, and MaxSourceRows says %d", p.name, dst.Rows(), need, most)
		}
		if err := r.Band(dst, p.source(k, dst.RowStart, dst.RowStop)); err != nil {
			t.Fatal(err)
		}
		for i, v := range dst.Values {
			x := float64(v)
			if dst.Valid[i>>6]>>(i&63)&1 == 0 {
				if v != 0 {
					t.Fatalf("%s: a cell without a value is %v in memory, and not 0", p.name, v)
				}
				x = math.NaN()
			}
			all = append(all, x)
		}
		for i := len(dst.Values); i < 64*len(dst.Valid); i++ {
			if dst.Valid[i>>6]>>(i&63)&1 != 0 {
				t.Fatalf("%s: a bit past the last cell is set", p.name)
			}
		}
	}
	return all
}

// same reports whether two results agree to 1e-9, relative to the larger of them
// and of size: what came of the values' magnitudes, before they cancelled.
func same(a, b, size float64) bool {
	if math.IsNaN(a) || math.IsNaN(b) {
		return math.IsNaN(a) && math.IsNaN(b)
	}
	if math.IsNaN(size) {
		size = 0
	}
	return a == b || math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b), size)
}

func cellName(g grid.Grid, i int) string {
	return fmt.Sprintf("row %d, column %d", i/g.Cols, i%g.Cols)
}
