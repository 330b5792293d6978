package resample

import (
	"math"
	"math/bits"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/grid"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// PartRows is the least number of rows of the layer that a stream is fed at
// once: four make a step of its sums, and up to three wait for the rest of one.
const PartRows = 8

// Stream makes rows of the lattice from a layer that comes a few rows at a time,
// so that a lattice however much coarser than the layer needs no more of it at
// once. It gives what a Resampler gives, to the bit: sums take the same steps, and
// what a row of the lattice hangs on before all of its cells are seen is kept
// both ways. A stream is for one goroutine at a time, and goes from north to
// south.
type Stream[S, D layer.Value] struct {
	*Resampler[S, D]
	// begun are the rows in the making, north to south, and idle are those that
	// can be used again.
	begun, idle []*partial[S]
	// next is the first row that is not begun yet.
	next int64
	// ballotBytes is what the votes of mode may take, and votesBytes what they do.
	ballotBytes, votesBytes int64
}

// partial is a row of the lattice in the making.
type partial[S layer.Value] struct {
	row int64
	// taps and area are the rows of the layer that are still to come, with their
	// weights: for the method, and for the least share.
	taps, area rest
	// total is the sum of the weights of the rows that the layer has, and all that
	// of the weights in the order of the rows.
	total, all float64
	some       bool // a row that counts was there

	// sums are those of all cells, in steps of four rows; loose and weights those
	// of the valid ones, one by one, which count where whole has no bit: columns
	// of the source window valid in all rows.
	sums, loose, weights []float64
	whole                []uint64
	covered              []float64
	// near are the cells of the row that holds the centres, and valid their bits.
	near   []S
	valid  []uint64
	picked []S
	known  []uint64
	votes  []ballot[S]
}

// rest is a range of rows with their weights, which is taken from the north.
type rest struct {
	start, stop int64
	weights     []float64
}

func (r *rest) empty() bool { return r.start >= r.stop }

// upTo splits off the rows before stop, in whole steps unless they are the last.
func (r *rest) upTo(stop, step int64) (rows grid.Window, weights []float64) {
	rows = grid.Window{RowStart: r.start, RowStop: min(stop, r.stop)}
	if rows.RowStop < r.stop {
		rows.RowStop -= (rows.RowStop - rows.RowStart) % step
	}
	n := max(0, rows.RowStop-rows.RowStart)
	weights = r.weights[:n]
	r.weights, r.start = r.weights[n:], r.start+n
	return rows, weights
}

// NewStream makes a stream. ballotBytes bounds what it holds beside StreamBytes:
// the different values under cells, for mode. Errors: as NewResampler, and Internal
// INTERNAL for a kernel that does not stream.
func NewStream[S, D layer.Value](k *Kernel, ballotBytes int64) (*Stream[S, D], error) {
	if !k.Streams() {
		return nil, fault.New(fault.Internal, fault.Bug, "%s takes a few rows at once and is no stream", k.method)
	}
	r, err := NewResampler[S, D](k)
	if err != nil {
		return nil, err
	}
	return &Stream[S, D]{Resampler: r, next: math.MinInt64, ballotBytes: ballotBytes}, nil
}

// Streams reports whether a layer can come a few rows at a time: always where a row
// of the lattice takes more than PartRows of them.
func (k *Kernel) Streams() bool { return k.form != formLinear && k.form != formCubic }

// Need says which part of the layer the stream takes next to make a row of the
// lattice: at most so many rows, which are PartRows or more. Empty when it has all
// that the row takes. Rows north of this one are given up.
func (s *Stream[S, D]) Need(row, rows int64) grid.Window {
	s.giveUp(row)
	need := s.k.SourceWindow(row, row+1)
	if need.Empty() {
		return need
	}
	if len(s.begun) == 0 || s.begun[0].row != row {
		s.begin(row)
	}
	first := s.begun[0]
	if first.taps.empty() && first.area.empty() {
		return grid.Window{}
	}
	stop := need.RowStop
	need.RowStart = stop
	for _, p := range s.begun {
		for _, r := range []*rest{&p.taps, &p.area} {
			if !r.empty() {
				need.RowStart = min(need.RowStart, r.start)
			}
		}
	}
	need.RowStop = min(stop, need.RowStart+max(rows, PartRows))
	return need
}

// Begun is the first row at or after row that has taken some of the layer
// already; false if there is none.
func (s *Stream[S, D]) Begun(row int64) (int64, bool) {
	for _, p := range s.begun {
		if p.row >= row {
			return p.row, true
		}
	}
	return 0, false
}

// giveUp ends what is made of rows north of a row.
func (s *Stream[S, D]) giveUp(row int64) {
	n := 0
	for n < len(s.begun) && s.begun[n].row < row {
		s.end(s.begun[n])
		n++
	}
	s.begun = s.begun[:copy(s.begun, s.begun[n:])]
}

// end keeps a partial for a later row.
func (s *Stream[S, D]) end(p *partial[S]) {
	for i := range p.votes {
		s.votesBytes -= p.votes[i].bytes()
	}
	s.idle = append(s.idle, p)
}

// begin begins a row that takes some of the layer, behind those that are begun.
func (s *Stream[S, D]) begin(row int64) {
	var p *partial[S]
	if n := len(s.idle); n > 0 {
		p, s.idle = s.idle[n-1], s.idle[:n-1]
	} else {
		p = s.newPartial()
	}
	p.row, p.some = row, false
	p.taps, p.total = s.rest(s.k.form, row)
	p.area = rest{}
	if s.k.minShare > 0 {
		p.area, _ = s.rest(formArea, row)
	}
	p.all = 0
	for _, w := range p.taps.weights {
		p.all += w
	}
	clear(p.sums)
	clear(p.loose)
	clear(p.weights)
	clear(p.covered)
	clear(p.known)
	clear(p.valid)
	for i := range p.whole {
		p.whole[i] = ^uint64(0)
	}
	for i := range p.votes {
		p.votes[i] = ballot[S]{}
	}
	s.begun, s.next = append(s.begun, p), row+1
}

// rest is all that a row takes.
func (s *Stream[S, D]) rest(f form, row int64) (rest, float64) {
	s.down = nil
	rows, total := s.rowsOf(f, row)
	return rest{rows.RowStart, rows.RowStop, s.down}, total
}

func (s *Stream[S, D]) newPartial() *partial[S] {
	k := s.k
	p := &partial[S]{}
	switch {
	case k.method.Computes():
		p.sums, p.loose, p.weights = make([]float64, k.reach), make([]float64, k.reach), make([]float64, k.reach)
		p.whole = make([]uint64, words(k.width))
	case k.method == Mode:
		p.votes = make([]ballot[S], k.window.Cols())
	case k.method == Min || k.method == Max:
		p.picked, p.known = make([]S, k.width), make([]uint64, words(k.width))
	}
	if k.method.byCentre() {
		p.near, p.valid = make([]S, k.width), make([]uint64, words(k.width))
	}
	if k.minShare > 0 {
		p.covered = make([]float64, k.reach)
	}
	return p
}

// Take takes the part of the layer that Need asked for, for all rows of the
// lattice that it is of use to. Errors: Limit LIMIT_EXCEEDED for more different
// values than mode can count; Internal INTERNAL for another window.
func (s *Stream[S, D]) Take(src Window[S]) error {
	if src.ColStart != s.k.source.ColStart || src.ColStop != s.k.source.ColStop || !holds(src) {
		return fault.New(fault.Internal, fault.Bug, "a part of the layer is %s, and its columns are %s", src.Window, s.k.source)
	}
	for len(s.begun) > 0 && s.next < s.k.window.RowStop {
		need := s.k.SourceWindow(s.next, s.next+1)
		if need.Empty() || need.RowStart >= src.RowStop {
			break
		}
		s.begin(s.next)
	}
	for _, p := range s.begun {
		if err := s.take(p, src); err != nil {
			return err
		}
	}
	return nil
}

// take takes what a row has use for.
func (s *Stream[S, D]) take(p *partial[S], src Window[S]) error {
	if p.area.start < src.RowStop && !p.area.empty() {
		var rows grid.Window
		rows, s.down = p.area.upTo(src.RowStop, 1)
		s.covered, p.covered = p.covered, s.covered
		s.cover(rows, src)
		s.covered, p.covered = p.covered, s.covered
	}
	if p.taps.empty() || p.taps.start >= src.RowStop {
		return nil
	}
	fresh := !p.some
	rows, weights := p.taps.upTo(src.RowStop, 4)
	if rows.RowStart >= rows.RowStop {
		return nil
	}
	s.down, p.some = weights, true
	if s.k.method.byCentre() {
		if y, ok := s.k.y.holder(p.row); ok && y >= rows.RowStart && y < rows.RowStop {
			at := src.at(y, src.ColStart)
			copy(p.near, src.Values[at:][:s.k.width])
			for i := range p.valid {
				p.valid[i] = load(src.Valid, at+i*64, min(64, s.k.width-i*64))
			}
		}
	}
	switch s.k.method {
	case Nearest:
	case Min, Max:
		s.picked, s.all, p.picked, p.known = p.picked, p.known, s.picked, s.all
		s.extremeDown(rows, src)
		s.picked, s.all, p.picked, p.known = p.picked, p.known, s.picked, s.all
	case Mode:
		return s.count(p, rows, src)
	default:
		s.add(p, rows, src, fresh)
	}
	return nil
}

// add adds rows to the sums of a row.
func (s *Stream[S, D]) add(p *partial[S], rows grid.Window, src Window[S], fresh bool) {
	k, stride := s.k, int(src.Cols())
	for _, g := range k.segments {
		n, first := int(g.Cols()), int(g.DstStart-k.source.ColStart)
		start, at := k.lead+first, src.at(rows.RowStart, g.DstStart)
		addRows(p.sums[start:start+n], src.Values[at:], stride, s.down, fresh)
		for d := 0; d < n; d += 64 {
			m := min(64, n-d)
			for i, w := range s.down {
				row := at + i*stride + d
				valid := load(src.Valid, row, m)
				if valid != low(m) {
					mask(p.whole, first+d, m, valid)
				}
				addWord(p.loose[start+d:][:m], p.weights[start+d:][:m], src.Values[row:row+m], valid, w)
			}
		}
	}
}

// mask clears those of the n bits from place at that w does not have.
func mask(b []uint64, at, n int, w uint64) {
	i, off := at>>6, at&63
	lost := low(n) &^ w
	b[i] &^= lost << off
	if off+n > 64 {
		b[i+1] &^= lost >> (64 - off)
	}
}

// count counts the votes of rows.
func (s *Stream[S, D]) count(p *partial[S], rows grid.Window, src Window[S]) error {
	for i, down := range s.down {
		at := src.at(rows.RowStart+int64(i), src.ColStart)
		for word, some := range s.k.some {
			for ; some != 0; some &= some - 1 {
				j := word*64 + bits.TrailingZeros64(some)
				b := &p.votes[j]
				had := b.bytes()
				s.vote(b, j, down, src, at)
				s.votesBytes += b.bytes() - had
			}
		}
		if s.votesBytes > s.ballotBytes {
			return fault.New(fault.Limit, fault.LimitExceeded,
				"mode counts each of the different values under a cell of the lattice, and those of row %d take more than %d bytes: "+
					"ask for another method, for a finer lattice, or for fewer columns", p.row, s.ballotBytes).
				With("field", "resampling").With("row", p.row).With("limit", s.ballotBytes)
		}
	}
	return nil
}

// Row makes a row of dst, once Need has nothing more for it. dst is as Band has
// it, with no bit set in the row.
func (s *Stream[S, D]) Row(dst Window[D], row int64) {
	at := dst.at(row, dst.ColStart)
	values := dst.Values[at:][:s.k.window.Cols()]
	clear(s.ok)
	if len(s.begun) > 0 && s.begun[0].row == row {
		s.settle(s.begun[0], values)
		s.giveUp(row + 1)
	}
	s.finish(values, dst.Valid, at)
}

// settle makes the values and the bits of a row of all that it took.
func (s *Stream[S, D]) settle(p *partial[S], values []D) {
	if !p.some {
		return
	}
	s.near = p.near
	s.aim(values)
	switch {
	case s.k.method.byCentre():
		if !s.centres(p.valid, 0) {
			clear(s.ok)
			return
		}
	case s.k.method.Computes():
		copy(s.ok, s.k.some)
	}
	switch s.k.method {
	case Nearest:
		s.pickNear(any(values).([]S))
	case Min, Max:
		s.picked, s.all, p.picked, p.known = p.picked, p.known, s.picked, s.all
		s.extremeAll(any(values).([]S))
		s.picked, s.all, p.picked, p.known = p.picked, p.known, s.picked, s.all
	case Mode:
		picked := any(values).([]S)
		for j := range p.votes {
			if p.votes[j].most > 0 {
				picked[j] = p.votes[j].winner
				set(s.ok, j)
			}
		}
	default:
		s.blendPartial(p)
		convert(values, s.out)
	}
	if s.k.minShare > 0 {
		s.covered, p.covered = p.covered, s.covered
		s.dropUncovered()
		s.covered, p.covered = p.covered, s.covered
	}
}

// blendPartial is blend for the sums of a row.
func (s *Stream[S, D]) blendPartial(p *partial[S]) {
	s.sums, p.sums = p.sums, s.sums
	defer func() { s.sums, p.sums = p.sums, s.sums }()
	everywhere := true
	for _, g := range s.k.segments {
		everywhere = everywhere && full(p.whole, int(g.DstStart-s.k.source.ColStart), int(g.Cols()))
	}
	if everywhere {
		s.repeat(s.sums)
		if s.acrossFull(p.total) {
			return
		}
	}
	for _, g := range s.k.segments {
		first := int(g.DstStart - s.k.source.ColStart)
		for c := range int(g.Cols()) {
			at := s.k.lead + first + c
			if v := s.sums[at]; has(p.whole, first+c) && v-v == 0 {
				s.weights[at] = p.all
			} else {
				s.sums[at], s.weights[at] = p.loose[at], p.weights[at]
			}
		}
	}
	s.repeat(s.sums)
	s.repeat(s.weights)
	for at, w := range s.weights {
		s.entire[at>>6] &^= 1 << (at & 63)
		if w == p.all {
			set(s.entire, at)
		}
	}
	s.acrossValid(p.all)
}

// StreamBytes is about what a stream holds beside MemoryBytes and the votes of
// mode, of values of so many bytes each.
func (k *Kernel) StreamBytes(width int) int64 {
	var row int64
	switch {
	case k.method.Computes():
		row = int64(k.reach)*24 + int64(k.width)/8
	case k.method == Mode:
		row = k.window.Cols() * ballotBytes
	case k.method == Min || k.method == Max:
		row = int64(k.width)*int64(width) + int64(k.width)/8
	}
	if k.method.byCentre() {
		row += int64(k.width)*int64(width) + int64(k.width)/8
	}
	if k.minShare > 0 {
		row += int64(k.reach) * 8
	}
	return row * k.rowsAtOnce()
}

// rowsAtOnce is how many rows of the lattice take the same row of the layer, at
// most, where the layer has several rows to one of the lattice.
func (k *Kernel) rowsAtOnce() int64 {
	switch k.form {
	case formWideCubic:
		return 5
	case formWideLinear:
		return 3
	default:
		return 2
	}
}
