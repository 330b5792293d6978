// Package contenthash hashes the rows of a table in the way that docs/flight.md
// defines: whatever batches they are cut into, the hash is the same.
package contenthash

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/rasterloom/rasterloom/internal/layer"
)

// Column is a column of numbers. One of fixed-size lists counts as a column of
// their values.
type Column struct {
	Name     string
	Type     layer.DataType
	Nullable bool
}

// Hash is the hash of a table so far. It is for one goroutine.
type Hash struct {
	columns  []Column
	values   []*xxh3.Hasher
	validity []*xxh3.Hasher // nil for a column that cannot be null
	rows     int64
	mask     []byte // a multiple of 64 long
}

// New begins the hash of a table with these columns.
func New(columns []Column) *Hash {
	h := &Hash{
		columns: columns, values: make([]*xxh3.Hasher, len(columns)), validity: make([]*xxh3.Hasher, len(columns)),
		mask: make([]byte, 4096),
	}
	for i, c := range columns {
		h.values[i] = xxh3.New()
		if c.Nullable {
			h.validity[i] = xxh3.New()
		}
	}
	return h
}

// AddRows counts rows, whose columns come by Add.
func (h *Hash) AddRows(rows int) { h.rows += int64(rows) }

// Rows is the number of rows so far.
func (h *Hash) Rows() int64 { return h.rows }

// Add takes the next values of a column, as bytes, and a bit for each of them, the
// least significant first: 1 for a value, 0 for a null; nil where none is null.
func (h *Hash) Add(column int, values []byte, valid []uint64) {
	// Hash.Write never fails.
	_, _ = h.values[column].Write(values)
	if into := h.validity[column]; into != nil {
		h.addMask(into, valid, len(values)/h.columns[column].Type.Width())
	}
}

// spread has, for each byte, eight bytes: one for each of its bits.
var spread = func() (table [256]uint64) {
	for b := range table {
		for bit := range 8 {
			table[b] |= uint64(b>>bit&1) << (8 * bit)
		}
	}
	return table
}()

// addMask hashes a byte for each bit.
func (h *Hash) addMask(into *xxh3.Hasher, valid []uint64, cells int) {
	for done := 0; done < cells; done += len(h.mask) {
		for word := range len(h.mask) / 64 {
			bits := ^uint64(0)
			if valid != nil {
				if done/64+word >= len(valid) {
					break
				}
				bits = valid[done/64+word]
			}
			for i := range 8 {
				binary.LittleEndian.PutUint64(h.mask[64*word+8*i:], spread[bits>>(8*i)&0xff])
			}
		}
		_, _ = into.Write(h.mask[:min(len(h.mask), cells-done)])
	}
}

// Sum gives the hash as it is written in messages.
func (h *Hash) Sum() string {
	var b strings.Builder
	fmt.Fprintf(&b, "rasterloom 1 %d\n", h.rows)
	for i, c := range h.columns {
		validity := "-"
		if h.validity[i] != nil {
			validity = hexOf(h.validity[i].Sum128())
		}
		fmt.Fprintf(&b, "%s %s %s %s\n", c.Type, hexOf(h.values[i].Sum128()), validity, c.Name)
	}
	return "xxh3-128:" + hexOf(xxh3.HashString128(b.String()))
}

// hexOf is the canonical form: the higher half first.
func hexOf(u xxh3.Uint128) string {
	b := u.Bytes()
	return hex.EncodeToString(b[:])
}
