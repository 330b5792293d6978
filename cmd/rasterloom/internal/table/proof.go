package table

import (
	"encoding/json"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/rasterloom/rasterloom/internal/contenthash"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// trailer is what the server says of an endpoint once all of it is sent.
type trailer struct {
	Complete bool   `json:"complete"`
	Rows     int64  `json:"rows"`
	Batches  int64  `json:"batches"`
	Hash     string `json:"hash"`
}

// parseTrailer reads what goes with a batch without rows: a trailer, or nil for a
// sign of life.
func parseTrailer(metadata []byte) (*trailer, error) {
	var t trailer
	if err := json.Unmarshal(metadata, &t); err != nil {
		return nil, corrupt("a batch without rows is neither a trailer nor a sign of life").Because(err)
	}
	if !t.Complete {
		return nil, nil //nolint:nilnil // A sign of life: it means nothing else.
	}
	return &t, nil
}

// proof gathers what a trailer is compared with.
type proof struct {
	columns []contenthash.Column
	hash    *contenthash.Hash
	batches int64
}

func newProof(schema *arrow.Schema) *proof {
	columns := make([]contenthash.Column, schema.NumFields())
	for i, f := range schema.Fields() {
		// A type that no column has makes a hash that does not agree.
		t, _ := layer.ParseDataType(f.Type.Name())
		columns[i] = contenthash.Column{Name: f.Name, Type: t, Nullable: f.Nullable}
	}
	return &proof{columns: columns, hash: contenthash.New(columns)}
}

// add takes the next rows.
func (p *proof) add(batch arrow.RecordBatch) error {
	rows := int(batch.NumRows())
	p.batches++
	p.hash.AddRows(rows)
	for i, c := range p.columns {
		data := batch.Column(i).Data()
		buffers := data.Buffers()
		if len(buffers) < 2 || buffers[1] == nil || data.Offset() != 0 || buffers[1].Len() < rows*c.Type.Width() || c.Type == layer.TypeUnknown {
			return corrupt("column %s of a batch is not %d numbers", c.Name, rows)
		}
		var valid []uint64
		if b := buffers[0]; b != nil && b.Len() > 0 {
			if b.Len() < (rows+7)/8 {
				return corrupt("column %s of a batch has %d bytes for the validity of %d values", c.Name, b.Len(), rows)
			}
			valid = make([]uint64, (rows+63)/64)
			copy(arrow.GetBytes(valid), b.Bytes()[:(rows+7)/8])
		}
		p.hash.Add(i, buffers[1].Bytes()[:rows*c.Type.Width()], valid)
	}
	return nil
}

// agrees compares what came with what the server says it sent.
func (p *proof) agrees(t *trailer) error {
	switch {
	case t == nil:
		return corrupt("the stream ended after %d rows without its trailer: it was cut", p.hash.Rows())
	case t.Rows != p.hash.Rows() || t.Batches != p.batches:
		return corrupt("%d rows in %d batches came, and the trailer says %d in %d", p.hash.Rows(), p.batches, t.Rows, t.Batches)
	case t.Hash != p.hash.Sum():
		return corrupt("the rows that came have the hash %s, and the trailer says %s", p.hash.Sum(), t.Hash)
	}
	return nil
}
