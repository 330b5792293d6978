package catalog

// Codes of the problems that adoption and detection find. They are stable; what
// each means is in docs/problems.md.
const (
	// Of the catalog row.
	NameInvalid        = "NAME_INVALID"
	NameDuplicate      = "NAME_DUPLICATE"
	NameTaken          = "NAME_TAKEN"
	GridInvalid        = "GRID_INVALID"
	CRSMissing         = "CRS_MISSING"
	MetadataUnreadable = "METADATA_UNREADABLE"
	NodataUnreadable   = "NODATA_UNREADABLE"
	NodataConflict     = "NODATA_CONFLICT"
	TypeUnknown        = "TYPE_UNKNOWN"
	ResolutionInvalid  = "RESOLUTION_INVALID"
	ResolutionDrift    = "RESOLUTION_DRIFT"
	CatalogRowGone     = "CATALOG_ROW_GONE"
	FactsChanged       = "FACTS_CHANGED"
	// Of the table.
	TableNameInvalid = "TABLE_NAME_INVALID"
	TableMissing     = "TABLE_MISSING"
	TableAmbiguous   = "TABLE_AMBIGUOUS"
	TableShared      = "TABLE_SHARED"
	TableKind        = "TABLE_KIND"
	TablePermission  = "TABLE_PERMISSION"
	RowSecurity      = "ROW_SECURITY"
	ColumnMissing    = "COLUMN_MISSING"
	ColumnType       = "COLUMN_TYPE"
	NoKey            = "NO_KEY"
	TilingUnknown    = "TILING_UNKNOWN"
	TilingConflict   = "TILING_CONFLICT"
	// Of the rows.
	Empty                 = "EMPTY"
	IndexNull             = "INDEX_NULL"
	CellsOutsideGrid      = "CELLS_OUTSIDE_GRID"
	DuplicateCells        = "DUPLICATE_CELLS"
	CoordinatesHalfFilled = "COORDINATES_HALF_FILLED"
	CoordinatesOffGrid    = "COORDINATES_OFF_GRID"
	RegistrationCorner    = "REGISTRATION_CORNER"
	SouthUp               = "SOUTH_UP"
	OrientationConflict   = "ORIENTATION_CONFLICT"
)
