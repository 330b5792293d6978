package tile

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/layer"
)

// The versions of the specification (docs/tiles.md) that there are.
const (
	// Version is of tiles that are all there is.
	Version = 1
	// FollowingVersion is of tiles that may lag behind a table which is still
	// written: a reader that knows version 1 alone would not look there, and refuses.
	FollowingVersion = 2
)

// Chain is a sequence of codecs that values go through to become bytes. Every
// chain ends with a checksum.
type Chain uint8

// The chains.
const (
	Raw          Chain = iota // bytes, crc32c
	Zstd                      // bytes, zstd, crc32c
	ShuffledZstd              // bytes, numcodecs.shuffle, zstd, crc32c
)

// Chains lists all.
func Chains() []Chain { return []Chain{Raw, Zstd, ShuffledZstd} }

// String names the chain for people.
func (c Chain) String() string { return [...]string{"raw", "zstd", "shuffle+zstd"}[c] }

// ParseChain gives the chain of a name; false where none has it.
func ParseChain(name string) (Chain, bool) {
	i := slices.IndexFunc(Chains(), func(c Chain) bool { return c.String() == name })
	return Chain(max(i, 0)), i >= 0
}

// Layout is what has to be known of a layer to read its tiles. As JSON it is the
// metadata of a Zarr v3 array whose chunks the tiles are.
type Layout struct {
	// Rows and Cols are the shape of the grid.
	Rows, Cols int
	Type       layer.DataType
	// Fill stands where a cell has no value, as a JSON value: "NaN" for floats,
	// the nodata value or 0 for integers. Readers go by the bitmap.
	Fill  string
	Chain Chain
	// Following says that the tiles may lag behind the table that they are made of.
	Following bool
}

// LayoutOf makes the layout of a layer by its grid, stored type and nodata.
func LayoutOf(l layer.Layer, chain Chain) Layout {
	y := Layout{Rows: l.Grid.Rows, Cols: l.Grid.Cols, Type: l.StoredType, Fill: "0", Chain: chain}
	switch y.Type {
	case layer.Float32, layer.Float64:
		y.Fill = `"NaN"`
	default:
		if nodata := layer.NodataValues(l); len(nodata) > 0 {
			y.Fill = strconv.FormatInt(nodata[0].(int64), 10)
		}
	}
	return y
}

// array is the metadata of a Zarr v3 array, as far as it matters.
type array struct {
	Format     int             `json:"zarr_format"`
	Node       string          `json:"node_type"`
	Shape      []int           `json:"shape"`
	Type       string          `json:"data_type"`
	Grid       chunkGrid       `json:"chunk_grid"`
	Keys       codec           `json:"chunk_key_encoding"`
	Fill       json.RawMessage `json:"fill_value"`
	Codecs     []codec         `json:"codecs"`
	Attributes attributes      `json:"attributes"`
}

type chunkGrid struct {
	Name          string     `json:"name"`
	Configuration chunkShape `json:"configuration"`
}

type chunkShape struct {
	Shape []int `json:"chunk_shape"`
}

type codec struct {
	Name          string        `json:"name"`
	Configuration *codecOptions `json:"configuration,omitempty"`
}

type codecOptions struct {
	Endian   string `json:"endian,omitempty"`
	Element  int    `json:"elementsize,omitempty"`
	Level    *int   `json:"level,omitempty"`
	Checksum *bool  `json:"checksum,omitempty"`
}

type attributes struct {
	Version int `json:"rasterloom_tiles"`
}

// JSON writes the layout down.
func (y Layout) JSON() string {
	version := Version
	if y.Following {
		version = FollowingVersion
	}
	text, err := json.Marshal(array{
		Format: 3, Node: "array", Shape: []int{y.Rows, y.Cols}, Type: y.Type.String(),
		Grid:   chunkGrid{"regular", chunkShape{[]int{Side, Side}}},
		Keys:   codec{Name: "default"},
		Fill:   json.RawMessage(y.Fill),
		Codecs: y.codecs(), Attributes: attributes{version},
	})
	if err != nil {
		return "" // a Fill that LayoutOf did not make
	}
	return string(text)
}

func (y Layout) codecs() []codec {
	list := []codec{{Name: "bytes"}}
	if y.Type.Width() > 1 {
		list[0].Configuration = &codecOptions{Endian: "little"}
	}
	if y.Chain == ShuffledZstd {
		list = append(list, codec{"numcodecs.shuffle", &codecOptions{Element: y.Type.Width()}})
	}
	if y.Chain != Raw {
		list = append(list, codec{"zstd", &codecOptions{Level: new(1), Checksum: new(false)}})
	}
	return append(list, codec{Name: "crc32c"})
}

// ParseLayout reads a layout. Errors: Unsupported UNSUPPORTED for one that this
// program does not know: another version, shape of tiles, type or chain.
func ParseLayout(text string) (Layout, error) {
	unknown := func(format string, args ...any) (Layout, error) {
		return Layout{}, fault.New(fault.Unsupported, fault.NotSupported, "this program cannot read tiles "+format, args...)
	}
	var a array
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		f := fault.New(fault.Unsupported, fault.NotSupported, "the layout of the tiles is no metadata of a Zarr v3 array")
		return Layout{}, f.Because(err)
	}
	typ, known := layer.ParseDataType(a.Type)
	switch {
	case a.Attributes.Version != Version && a.Attributes.Version != FollowingVersion:
		return unknown("of version %d of their specification, only of versions %d and %d", a.Attributes.Version, Version, FollowingVersion)
	case a.Format != 3 || a.Node != "array" || len(a.Shape) != 2 || a.Grid.Name != "regular":
		return unknown("that are not the chunks of a two-dimensional Zarr v3 array")
	case !slices.Equal(a.Grid.Configuration.Shape, []int{Side, Side}):
		return unknown("of %v cells, only of %d × %d", a.Grid.Configuration.Shape, Side, Side)
	case !known:
		return unknown("of values of type %.40q", a.Type)
	}
	y := Layout{Rows: a.Shape[0], Cols: a.Shape[1], Type: typ, Fill: string(a.Fill), Following: a.Attributes.Version == FollowingVersion}
	for _, y.Chain = range Chains() {
		if sameCodecs(a.Codecs, y.codecs()) {
			return y, nil
		}
	}
	names := make([]string, len(a.Codecs))
	for i, c := range a.Codecs {
		names[i] = c.Name
	}
	return unknown("of %s in the codecs %.200q", typ, names)
}

// sameCodecs reports whether what one list encoded, the other decodes. The level
// of zstd is the encoder's business, and so is the checksum of its own.
func sameCodecs(a, b []codec) bool {
	return slices.EqualFunc(a, b, func(a, b codec) bool {
		if a.Configuration == nil {
			a.Configuration = &codecOptions{}
		}
		if b.Configuration == nil {
			b.Configuration = &codecOptions{}
		}
		// Of bytes there is no order within one.
		endian := a.Configuration.Endian == b.Configuration.Endian || b.Name == "bytes" && b.Configuration.Endian == ""
		return a.Name == b.Name && endian && a.Configuration.Element == b.Configuration.Element
	})
}

// fillOf reads the fill value of a layout as a T; 0 for one that T cannot hold.
func fillOf[T layer.Value](fill string) T {
	switch layer.TypeOf[T]() {
	case layer.Float32, layer.Float64:
		if v, err := strconv.ParseFloat(fill, 64); err == nil {
			return T(v)
		}
		nan := math.NaN()
		return T(nan)
	default:
		v, err := strconv.ParseInt(fill, 10, 64)
		if err != nil || int64(T(v)) != v {
			return 0
		}
		return T(v)
	}
}

// layoutOf reads the layout of a layer's tiles and holds it against the layer.
// Errors: as ParseLayout, and Corrupt DATA_CORRUPT.
func layoutOf[T layer.Value](l layer.Layer) (Layout, error) {
	y, err := ParseLayout(l.Tiling)
	if err != nil {
		f := fault.From(err)
		f.Message = "layer " + strconv.Quote(l.Name) + ": " + f.Message
		return y, f.With("layer", l.Name)
	}
	if y.Rows != l.Grid.Rows || y.Cols != l.Grid.Cols || y.Type != l.StoredType || y.Type != layer.TypeOf[T]() {
		return y, fault.New(fault.Corrupt, fault.DataCorrupt,
			"layer %q is catalogued as %d × %d cells of type %s, and its tiles as %d × %d cells of type %s",
			l.Name, l.Grid.Rows, l.Grid.Cols, l.StoredType, y.Rows, y.Cols, y.Type).With("layer", l.Name)
	}
	return y, nil
}
