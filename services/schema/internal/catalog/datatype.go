package catalog

import (
	"strings"

	"github.com/rasterloom/rasterloom/internal/layer"
)

// typeNames are the names of data types that are not numpy's own: those of
// GDAL, C, Python and PostgreSQL that catalogs hold, in lower case.
var typeNames = map[string]layer.DataType{
	"byte": layer.Uint8, "ubyte": layer.Uint8, "unsigned char": layer.Uint8, "u1": layer.Uint8,
	"i1": layer.Int8, "u2": layer.Uint16, "ushort": layer.Uint16, "i2": layer.Int16, "short": layer.Int16, "smallint": layer.Int16,
	"u4": layer.Uint32, "uint": layer.Uint32, "i4": layer.Int32, "int": layer.Int32, "integer": layer.Int32,
	"i8": layer.Int64, "long": layer.Int64, "bigint": layer.Int64,
	"f4": layer.Float32, "single": layer.Float32, "real": layer.Float32, "float4": layer.Float32,
	// Python's and PostgreSQL's float is the wide one.
	"f8": layer.Float64, "double": layer.Float64, "float": layer.Float64, "float8": layer.Float64, "double precision": layer.Float64,
}

// parseType reads the data type of a catalog row: a numpy name, with or without
// byte order ("<f4"), a GDAL name ("Float32", "Byte"), or another usual one.
func parseType(name string) (layer.DataType, bool) {
	name = strings.ToLower(strings.TrimSpace(name))
	name = strings.TrimPrefix(strings.TrimPrefix(name, "numpy."), "np.")
	name = strings.TrimLeft(name, "<>=|")
	if t, ok := layer.ParseDataType(name); ok {
		return t, true
	}
	t, ok := typeNames[name]
	return t, ok
}

// The types of columns that a pixel table can have, by their SQL names.
var (
	valueTypes = map[string]layer.DataType{
		"double precision": layer.Float64, "real": layer.Float32,
		"smallint": layer.Int16, "integer": layer.Int32, "bigint": layer.Int64,
	}
	indexTypes      = map[string]bool{"smallint": true, "integer": true, "bigint": true}
	coordinateTypes = map[string]bool{"double precision": true, "real": true}
)
