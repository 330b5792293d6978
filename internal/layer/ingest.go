package layer

// Ingest is a raster that was stored, whole.
type Ingest struct {
	// Key is the idempotency key of the request, empty for none, and Spec what was
	// asked for under it.
	Key, Spec string
	Layer     string
	// Generation is that of the layer then.
	Generation int64
	// Cells have a value; Tiles are those with such a cell, and Bytes what they take
	// in the table.
	Cells, Tiles, Bytes int64
}
