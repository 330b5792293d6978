package flight

import (
	"encoding/json"

	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// flightMetadata goes with a flight, and endpointMetadata with each endpoint, so
// that a client can tell how far it is.
type flightMetadata struct {
	MaxRows int64 `json:"max_rows"`
}

type endpointMetadata struct {
	RowStart int64 `json:"row_start"`
	RowStop  int64 `json:"row_stop"`
}

// batchMetadata goes with each batch, and trailer with the last message.
type batchMetadata struct {
	Sequence int64      `json:"sequence"`
	Row      int64      `json:"row"`
	Last     merge.Cell `json:"last"`
	// Hash is of all rows up to this batch's last.
	Hash string `json:"hash"`
}

type trailer struct {
	Complete bool           `json:"complete"`
	Rows     int64          `json:"rows"`
	Batches  int64          `json:"batches"`
	Hash     string         `json:"hash"`
	Layers   []trailerLayer `json:"layers"`
}

type trailerLayer struct {
	Name       string `json:"name"`
	Generation int64  `json:"generation"`
	Cells      int64  `json:"cells"`
}

func metadataOf(b *merge.Batch, hash string) ([]byte, error) {
	return json.Marshal(batchMetadata{Sequence: b.Sequence, Row: b.FirstRow, Last: b.Last, Hash: hash})
}

func trailerOf(plan *merge.Plan, result merge.Result, hash string) ([]byte, error) {
	t := trailer{Complete: true, Rows: result.Rows, Batches: result.Batches, Hash: hash, Layers: []trailerLayer{}}
	for i, thread := range plan.Threads {
		if thread.Selected() {
			t.Layers = append(t.Layers, trailerLayer{thread.Layer.Name, thread.Layer.Generation, result.Cells[i]})
		}
	}
	return json.Marshal(t)
}
