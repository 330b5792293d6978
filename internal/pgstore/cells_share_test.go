package pgstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// connections is how many connections the set has now.
func (s *CellSet) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.lines)
}

// await waits until the set has so many connections, which nothing tells of.
func (s *CellSet) await(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); s.connections() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the set has %d connections, want %d", s.connections(), n)
		}
	}
}

// As many sets can be at work as there are connections: those with more than
// one give up what is not needed. The next one waits, and is refused.
func TestCellsShareConnections(t *testing.T) {
	t.Parallel()
	reader, pool := newReader(t, CellOptions{Connections: 4, Wait: 20 * time.Second})
	request := dense(t, pool, "birds", 400)
	request.ChunkCells = 400
	var sets []*CellSet
	for range reader.shares.limit {
		set, err := reader.Open(t.Context(), []layer.CellRequest{request})
		if err != nil {
			t.Fatalf("set %d: %v", len(sets), err)
		}
		defer set.Close()
		sets = append(sets, set)
	}
	reader.shares.wait = 50 * time.Millisecond
	_, err := reader.Open(t.Context(), []layer.CellRequest{request})
	if f := fault.From(err); f == nil || f.Kind != fault.Limit {
		t.Fatalf("error %v, want Limit", err)
	}
	for i, set := range sets {
		cells, err := readAll(t.Context(), set.Stream(0))
		if err != nil || len(cells) != 400*400 {
			t.Fatalf("set %d: %d cells, %v", i, len(cells), err)
		}
		set.Close()
	}
	requireQuiet(t, pool)
}

// Connections that have nothing to do go back, and come again with the work:
// the cells are the same.
func TestSurplusConnectionsComeAndGo(t *testing.T) {
	t.Parallel()
	reader, pool := newReader(t, CellOptions{Connections: 4})
	reader.idle = time.Second // they are counted before that
	request := dense(t, pool, "birds", 800)
	request.ChunkCells = 800
	set, err := reader.Open(t.Context(), []layer.CellRequest{request})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if n := set.connections(); n != 4 {
		t.Fatalf("%d connections, want 4", n)
	}
	stream := set.Stream(0)
	row := int32(0)
	read := func() {
		chunk, err := stream.Next(t.Context())
		if err != nil {
			t.Fatalf("row %d: %v", row, err)
		}
		if len(chunk.Runs) != 1 || chunk.Runs[0] != (layer.Run{Row: row, Cells: 800}) {
			t.Fatalf("runs %v, want row %d", chunk.Runs, row)
		}
		row++
		stream.Recycle(chunk)
	}
	set.await(t, 1) // nobody reads
	reader.idle = time.Hour
	for set.connections() == 1 {
		read()
	}
	for row < 800 {
		read()
	}
	set.Close()
	requireQuiet(t, pool)
}

// Layers that are read as a whole keep what they have, and leave the
// others a connection each.
func TestSurplusIsBounded(t *testing.T) {
	t.Parallel()
	reader, pool := newReader(t, CellOptions{Connections: 4, Wait: 50 * time.Millisecond})
	var requests []layer.CellRequest
	for i := range 4 {
		l := big(t, pool, fmt.Sprintf("layer_%d", i), 30)
		requests = append(requests, layer.CellRequest{Layer: l, Window: l.Grid.Window(), ChunkCells: 10})
	}
	var had, sets int64
	for had < reader.shares.limit {
		set, err := reader.Open(t.Context(), requests)
		if err != nil {
			t.Fatalf("after %d connections: %v", had, err)
		}
		defer set.Close()
		had += int64(set.connections())
		sets++
	}
	if taken := reader.shares.more(1); taken != 0 {
		t.Error("there is more than all")
	}
	if sets < reader.shares.limit-3 {
		t.Errorf("%d connections were enough for %d sets", reader.shares.limit, sets)
	}
	if _, err := reader.Open(t.Context(), requests); fault.From(err) == nil || fault.From(err).Kind != fault.Limit {
		t.Fatalf("error %v, want Limit", err)
	}
}

// A connection that is still being made may never be there: the only one that
// takes slices does not leave for it.
func TestTheOnlyConnectionStays(t *testing.T) {
	t.Parallel()
	set := &CellSet{}
	first, l, other := set.add(false), set.add(true), set.add(true)
	if l.mayLeave() || !l.slices {
		t.Error("it leaves, and another one is still connecting")
	}
	other.ready = true
	if first.mayLeave() || !l.mayLeave() || l.slices {
		t.Error("it is not surplus, and another one is there")
	}
	if other.mayLeave() {
		t.Error("both leave")
	}
}
