package flight

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/rasterloom/rasterloom/services/merger/internal/merge"
)

// digest is the content hash of an endpoint, which does not depend on how its
// rows are cut into batches. docs/flight.md defines it.
type digest struct {
	columns  []merge.Column
	values   []*xxh3.Hasher
	validity []*xxh3.Hasher // nil for a column that cannot be null
	rows     int64
	mask     []byte
}

func newDigest(columns []merge.Column) *digest {
	d := &digest{
		columns: columns, values: make([]*xxh3.Hasher, len(columns)), validity: make([]*xxh3.Hasher, len(columns)),
		mask: make([]byte, 0, 4096),
	}
	for i, c := range columns {
		d.values[i] = xxh3.New()
		if c.Thread >= 0 {
			d.validity[i] = xxh3.New()
		}
	}
	return d
}

// add takes a batch's columns: values[i] are the bytes of column i, zero under
// nulls, and valid[i] its bits.
func (d *digest) add(rows int, values [][]byte, valid [][]uint64) {
	d.rows += int64(rows)
	for i := range d.columns {
		// Hash.Write never fails.
		_, _ = d.values[i].Write(values[i])
		if d.validity[i] != nil {
			d.addMask(d.validity[i], valid[i], rows)
		}
	}
}

// addMask hashes a byte for each bit.
func (d *digest) addMask(h *xxh3.Hasher, valid []uint64, rows int) {
	for done := 0; done < rows; {
		d.mask = d.mask[:min(cap(d.mask), rows-done)]
		for i := range d.mask {
			at := done + i
			d.mask[i] = byte(valid[at>>6] >> (at & 63) & 1)
		}
		_, _ = h.Write(d.mask)
		done += len(d.mask)
	}
}

// sum gives the hash as it stands in a trailer.
func (d *digest) sum() string {
	var b strings.Builder
	fmt.Fprintf(&b, "rasterloom 1 %d\n", d.rows)
	for i, c := range d.columns {
		validity := "-"
		if d.validity[i] != nil {
			validity = hexOf(d.validity[i].Sum128())
		}
		fmt.Fprintf(&b, "%s %s %s %s\n", c.Type, hexOf(d.values[i].Sum128()), validity, c.Name)
	}
	return "xxh3-128:" + hexOf(xxh3.HashString128(b.String()))
}

// hexOf is the canonical form: the higher half first.
func hexOf(u xxh3.Uint128) string {
	b := u.Bytes()
	return hex.EncodeToString(b[:])
}
