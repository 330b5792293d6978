package merge

import (
	"math"
	"slices"

	"github.com/rasterloom/rasterloom/internal/layer"
)

const (
	// mostTightness is how often the memory of a plan is halved at most, and
	// looseTiles how often before its tiles are, too: rows of tiles that are cut
	// are decoded once for each part.
	mostTightness = 6
	looseTiles    = 4
)

// PeakMemory is the memory that one stream of the merge needs at most, in
// bytes: bands and chunks in flight, what is resampled from, and a batch, which
// is sent from where it lies, or compressed before.
func (p *Plan) PeakMemory() int64 {
	size := streamBytes + bandsInFlight*float64(p.bandRows())*p.bandRowBytes() + p.resamplingBytes()
	size += float64(p.Window.Cols()) * 12 // a row of the coordinates and indices that depend on the column
	batch := p.RowBytes() * float64(min(int64(p.BatchRows), p.Window.Cells()))
	size += batch
	switch p.Compression {
	case Uncompressed:
	case LZ4Frame:
		size += batch + lz4Bytes
	case ZSTD:
		size += batch + zstdBytes
	}
	if slices.ContainsFunc(p.Threads, func(t Thread) bool { return t.Layer.Format == layer.FormatTiled }) {
		size += tileScratch
	}
	for _, t := range p.Threads {
		size += float64(layer.ChunksPerStream(t.Layer)) * float64(layer.ChunkBytes(t.Layer, p.chunkCells(&t)))
	}
	return int64(math.Min(size, math.MaxInt64/2))
}

// Wish is the memory that one stream of the merge can do with, and can use.
func (p *Plan) Wish() Wish {
	tight := *p
	tight.tightness = mostTightness
	return Wish{Least: tight.PeakMemory(), Most: p.PeakMemory()}
}

// Within gives the plan of the same table, to the batch, in memory of so many
// bytes, or in the least there is: it goes through the lattice in lower bands and
// reads it in smaller chunks.
func (p *Plan) Within(bytes int64) *Plan {
	within := *p
	for within.tightness = 0; within.tightness < mostTightness && within.PeakMemory() > bytes; {
		within.tightness++
	}
	return &within
}

// chunkCells is the size of the chunks that a thread is read in. Those of a tiled
// layer take whole rows of its tiles, so that no tile is decoded twice, as long as
// the memory for that lasts; else parts of these rows, down to one row of cells.
// Those of the others take a row at least, if they can: see docs/reading.md.
func (p *Plan) chunkCells(t *Thread) int {
	per := func(budget int64) int64 {
		return budget / (int64(layer.ChunksPerStream(t.Layer)) * layer.CellBytes(t.Layer) * int64(max(1, len(p.Threads))))
	}
	width := t.cellsToRead(Rows{p.Window.RowStart, p.Window.RowStop}).Cols()
	if t.Layer.Format == layer.FormatTiled {
		cells := min(width*layer.TileSide, per(tileBudget)) >> max(0, p.tightness-looseTiles)
		return int(max(width, cells))
	}
	cells := min(maxChunk, max(minChunk, per(chunkBudget)))
	least := int64(minChunk)
	if width <= cells {
		least = max(least, width)
	}
	return int(max(cells>>p.tightness, least))
}
