from rasterloom._gen.grid.v1 import grid_pb2 as _grid_pb2
from rasterloom._gen.layer.v1 import layer_pb2 as _layer_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExtentRule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXTENT_RULE_UNSPECIFIED: _ClassVar[ExtentRule]
    EXTENT_RULE_UNION: _ClassVar[ExtentRule]
    EXTENT_RULE_INTERSECTION: _ClassVar[ExtentRule]
    EXTENT_RULE_REFERENCE: _ClassVar[ExtentRule]

class RowsKept(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROWS_KEPT_UNSPECIFIED: _ClassVar[RowsKept]
    ROWS_KEPT_ANY: _ClassVar[RowsKept]
    ROWS_KEPT_ALL: _ClassVar[RowsKept]
    ROWS_KEPT_REFERENCE: _ClassVar[RowsKept]
    ROWS_KEPT_EVERY: _ClassVar[RowsKept]

class CoordinateColumns(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COORDINATE_COLUMNS_UNSPECIFIED: _ClassVar[CoordinateColumns]
    COORDINATE_COLUMNS_XY: _ClassVar[CoordinateColumns]
    COORDINATE_COLUMNS_ROW_COL: _ClassVar[CoordinateColumns]
    COORDINATE_COLUMNS_BOTH: _ClassVar[CoordinateColumns]
    COORDINATE_COLUMNS_NONE: _ClassVar[CoordinateColumns]

class ValueTypes(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VALUE_TYPES_UNSPECIFIED: _ClassVar[ValueTypes]
    VALUE_TYPES_STORED: _ClassVar[ValueTypes]
    VALUE_TYPES_DECLARED: _ClassVar[ValueTypes]

class BodyCompression(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BODY_COMPRESSION_UNSPECIFIED: _ClassVar[BodyCompression]
    BODY_COMPRESSION_NONE: _ClassVar[BodyCompression]
    BODY_COMPRESSION_LZ4_FRAME: _ClassVar[BodyCompression]
    BODY_COMPRESSION_ZSTD: _ClassVar[BodyCompression]

class Duplicates(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DUPLICATES_UNSPECIFIED: _ClassVar[Duplicates]
    DUPLICATES_ERROR: _ClassVar[Duplicates]
    DUPLICATES_FIRST: _ClassVar[Duplicates]
    DUPLICATES_LAST: _ClassVar[Duplicates]
    DUPLICATES_MEAN: _ClassVar[Duplicates]

class Resampling(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESAMPLING_UNSPECIFIED: _ClassVar[Resampling]
    RESAMPLING_NONE: _ClassVar[Resampling]
    RESAMPLING_NEAREST: _ClassVar[Resampling]
    RESAMPLING_BILINEAR: _ClassVar[Resampling]
    RESAMPLING_CUBIC: _ClassVar[Resampling]
    RESAMPLING_AVERAGE: _ClassVar[Resampling]
    RESAMPLING_MODE: _ClassVar[Resampling]
    RESAMPLING_MIN: _ClassVar[Resampling]
    RESAMPLING_MAX: _ClassVar[Resampling]
    RESAMPLING_SUM: _ClassVar[Resampling]
    RESAMPLING_AUTO: _ClassVar[Resampling]

class ValueKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VALUE_KIND_UNSPECIFIED: _ClassVar[ValueKind]
    VALUE_KIND_CONTINUOUS: _ClassVar[ValueKind]
    VALUE_KIND_CATEGORICAL: _ClassVar[ValueKind]
    VALUE_KIND_COUNT: _ClassVar[ValueKind]
EXTENT_RULE_UNSPECIFIED: ExtentRule
EXTENT_RULE_UNION: ExtentRule
EXTENT_RULE_INTERSECTION: ExtentRule
EXTENT_RULE_REFERENCE: ExtentRule
ROWS_KEPT_UNSPECIFIED: RowsKept
ROWS_KEPT_ANY: RowsKept
ROWS_KEPT_ALL: RowsKept
ROWS_KEPT_REFERENCE: RowsKept
ROWS_KEPT_EVERY: RowsKept
COORDINATE_COLUMNS_UNSPECIFIED: CoordinateColumns
COORDINATE_COLUMNS_XY: CoordinateColumns
COORDINATE_COLUMNS_ROW_COL: CoordinateColumns
COORDINATE_COLUMNS_BOTH: CoordinateColumns
COORDINATE_COLUMNS_NONE: CoordinateColumns
VALUE_TYPES_UNSPECIFIED: ValueTypes
VALUE_TYPES_STORED: ValueTypes
VALUE_TYPES_DECLARED: ValueTypes
BODY_COMPRESSION_UNSPECIFIED: BodyCompression
BODY_COMPRESSION_NONE: BodyCompression
BODY_COMPRESSION_LZ4_FRAME: BodyCompression
BODY_COMPRESSION_ZSTD: BodyCompression
DUPLICATES_UNSPECIFIED: Duplicates
DUPLICATES_ERROR: Duplicates
DUPLICATES_FIRST: Duplicates
DUPLICATES_LAST: Duplicates
DUPLICATES_MEAN: Duplicates
RESAMPLING_UNSPECIFIED: Resampling
RESAMPLING_NONE: Resampling
RESAMPLING_NEAREST: Resampling
RESAMPLING_BILINEAR: Resampling
RESAMPLING_CUBIC: Resampling
RESAMPLING_AVERAGE: Resampling
RESAMPLING_MODE: Resampling
RESAMPLING_MIN: Resampling
RESAMPLING_MAX: Resampling
RESAMPLING_SUM: Resampling
RESAMPLING_AUTO: Resampling
VALUE_KIND_UNSPECIFIED: ValueKind
VALUE_KIND_CONTINUOUS: ValueKind
VALUE_KIND_CATEGORICAL: ValueKind
VALUE_KIND_COUNT: ValueKind

class MergeSpec(_message.Message):
    __slots__ = ("layers", "reference", "extent", "rows_kept", "tolerance_pixels", "coordinate_columns", "value_types", "batch_rows", "endpoints", "use_legacy_merge", "duplicates", "resampling", "min_share", "body_compression")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    EXTENT_FIELD_NUMBER: _ClassVar[int]
    ROWS_KEPT_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    COORDINATE_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    VALUE_TYPES_FIELD_NUMBER: _ClassVar[int]
    BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    USE_LEGACY_MERGE_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    RESAMPLING_FIELD_NUMBER: _ClassVar[int]
    MIN_SHARE_FIELD_NUMBER: _ClassVar[int]
    BODY_COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedCompositeFieldContainer[LayerSelection]
    reference: Reference
    extent: Extent
    rows_kept: RowsKept
    tolerance_pixels: float
    coordinate_columns: CoordinateColumns
    value_types: ValueTypes
    batch_rows: int
    endpoints: int
    use_legacy_merge: bool
    duplicates: Duplicates
    resampling: Resampling
    min_share: float
    body_compression: BodyCompression
    def __init__(self, layers: _Optional[_Iterable[_Union[LayerSelection, _Mapping]]] = ..., reference: _Optional[_Union[Reference, _Mapping]] = ..., extent: _Optional[_Union[Extent, _Mapping]] = ..., rows_kept: _Optional[_Union[RowsKept, str]] = ..., tolerance_pixels: _Optional[float] = ..., coordinate_columns: _Optional[_Union[CoordinateColumns, str]] = ..., value_types: _Optional[_Union[ValueTypes, str]] = ..., batch_rows: _Optional[int] = ..., endpoints: _Optional[int] = ..., use_legacy_merge: _Optional[bool] = ..., duplicates: _Optional[_Union[Duplicates, str]] = ..., resampling: _Optional[_Union[Resampling, str]] = ..., min_share: _Optional[float] = ..., body_compression: _Optional[_Union[BodyCompression, str]] = ...) -> None: ...

class LayerSelection(_message.Message):
    __slots__ = ("name", "column", "duplicates", "resampling", "min_share", "kind")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    RESAMPLING_FIELD_NUMBER: _ClassVar[int]
    MIN_SHARE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    name: str
    column: str
    duplicates: Duplicates
    resampling: Resampling
    min_share: float
    kind: ValueKind
    def __init__(self, name: _Optional[str] = ..., column: _Optional[str] = ..., duplicates: _Optional[_Union[Duplicates, str]] = ..., resampling: _Optional[_Union[Resampling, str]] = ..., min_share: _Optional[float] = ..., kind: _Optional[_Union[ValueKind, str]] = ...) -> None: ...

class Reference(_message.Message):
    __slots__ = ("layer", "grid")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    GRID_FIELD_NUMBER: _ClassVar[int]
    layer: str
    grid: _grid_pb2.Grid
    def __init__(self, layer: _Optional[str] = ..., grid: _Optional[_Union[_grid_pb2.Grid, _Mapping]] = ...) -> None: ...

class Extent(_message.Message):
    __slots__ = ("rule", "bounds")
    RULE_FIELD_NUMBER: _ClassVar[int]
    BOUNDS_FIELD_NUMBER: _ClassVar[int]
    rule: ExtentRule
    bounds: _grid_pb2.Bounds
    def __init__(self, rule: _Optional[_Union[ExtentRule, str]] = ..., bounds: _Optional[_Union[_grid_pb2.Bounds, _Mapping]] = ...) -> None: ...

class PlanMergeRequest(_message.Message):
    __slots__ = ("spec",)
    SPEC_FIELD_NUMBER: _ClassVar[int]
    spec: MergeSpec
    def __init__(self, spec: _Optional[_Union[MergeSpec, _Mapping]] = ...) -> None: ...

class PlannedLayer(_message.Message):
    __slots__ = ("layer", "column", "type", "relation", "resampled")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    RELATION_FIELD_NUMBER: _ClassVar[int]
    RESAMPLED_FIELD_NUMBER: _ClassVar[int]
    layer: _layer_pb2.Layer
    column: str
    type: _layer_pb2.DataType
    relation: _grid_pb2.Relation
    resampled: Resampled
    def __init__(self, layer: _Optional[_Union[_layer_pb2.Layer, _Mapping]] = ..., column: _Optional[str] = ..., type: _Optional[_Union[_layer_pb2.DataType, str]] = ..., relation: _Optional[_Union[_grid_pb2.Relation, _Mapping]] = ..., resampled: _Optional[_Union[Resampled, _Mapping]] = ...) -> None: ...

class Resampled(_message.Message):
    __slots__ = ("method", "explanation", "ratio_x", "ratio_y", "offset_x", "offset_y", "min_share", "widened", "version")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    RATIO_X_FIELD_NUMBER: _ClassVar[int]
    RATIO_Y_FIELD_NUMBER: _ClassVar[int]
    OFFSET_X_FIELD_NUMBER: _ClassVar[int]
    OFFSET_Y_FIELD_NUMBER: _ClassVar[int]
    MIN_SHARE_FIELD_NUMBER: _ClassVar[int]
    WIDENED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    method: Resampling
    explanation: str
    ratio_x: float
    ratio_y: float
    offset_x: float
    offset_y: float
    min_share: float
    widened: bool
    version: int
    def __init__(self, method: _Optional[_Union[Resampling, str]] = ..., explanation: _Optional[str] = ..., ratio_x: _Optional[float] = ..., ratio_y: _Optional[float] = ..., offset_x: _Optional[float] = ..., offset_y: _Optional[float] = ..., min_share: _Optional[float] = ..., widened: _Optional[bool] = ..., version: _Optional[int] = ...) -> None: ...

class PlanMergeResponse(_message.Message):
    __slots__ = ("reference", "reference_layer", "reference_explanation", "window", "lattice", "layers", "max_rows", "max_bytes", "peak_memory_bytes", "endpoints", "warnings", "arrow_schema", "flight_uri")
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_LAYER_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    LATTICE_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    MAX_ROWS_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    PEAK_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    ARROW_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    FLIGHT_URI_FIELD_NUMBER: _ClassVar[int]
    reference: _grid_pb2.Grid
    reference_layer: str
    reference_explanation: str
    window: _grid_pb2.Window
    lattice: _grid_pb2.Grid
    layers: _containers.RepeatedCompositeFieldContainer[PlannedLayer]
    max_rows: int
    max_bytes: int
    peak_memory_bytes: int
    endpoints: int
    warnings: _containers.RepeatedScalarFieldContainer[str]
    arrow_schema: bytes
    flight_uri: str
    def __init__(self, reference: _Optional[_Union[_grid_pb2.Grid, _Mapping]] = ..., reference_layer: _Optional[str] = ..., reference_explanation: _Optional[str] = ..., window: _Optional[_Union[_grid_pb2.Window, _Mapping]] = ..., lattice: _Optional[_Union[_grid_pb2.Grid, _Mapping]] = ..., layers: _Optional[_Iterable[_Union[PlannedLayer, _Mapping]]] = ..., max_rows: _Optional[int] = ..., max_bytes: _Optional[int] = ..., peak_memory_bytes: _Optional[int] = ..., endpoints: _Optional[int] = ..., warnings: _Optional[_Iterable[str]] = ..., arrow_schema: _Optional[bytes] = ..., flight_uri: _Optional[str] = ...) -> None: ...

class CompareMergeRequest(_message.Message):
    __slots__ = ("spec",)
    SPEC_FIELD_NUMBER: _ClassVar[int]
    spec: MergeSpec
    def __init__(self, spec: _Optional[_Union[MergeSpec, _Mapping]] = ...) -> None: ...

class ComparedLayer(_message.Message):
    __slots__ = ("layer", "column", "cells", "legacy_cells", "differing_cells")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    LEGACY_CELLS_FIELD_NUMBER: _ClassVar[int]
    DIFFERING_CELLS_FIELD_NUMBER: _ClassVar[int]
    layer: str
    column: str
    cells: int
    legacy_cells: int
    differing_cells: int
    def __init__(self, layer: _Optional[str] = ..., column: _Optional[str] = ..., cells: _Optional[int] = ..., legacy_cells: _Optional[int] = ..., differing_cells: _Optional[int] = ...) -> None: ...

class CellDifference(_message.Message):
    __slots__ = ("layer", "row", "col", "x", "y", "value", "legacy_value")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    COL_FIELD_NUMBER: _ClassVar[int]
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LEGACY_VALUE_FIELD_NUMBER: _ClassVar[int]
    layer: str
    row: int
    col: int
    x: float
    y: float
    value: float
    legacy_value: float
    def __init__(self, layer: _Optional[str] = ..., row: _Optional[int] = ..., col: _Optional[int] = ..., x: _Optional[float] = ..., y: _Optional[float] = ..., value: _Optional[float] = ..., legacy_value: _Optional[float] = ...) -> None: ...

class CompareMergeResponse(_message.Message):
    __slots__ = ("equal", "rows", "legacy_rows", "layers", "differences")
    EQUAL_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    LEGACY_ROWS_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    equal: bool
    rows: int
    legacy_rows: int
    layers: _containers.RepeatedCompositeFieldContainer[ComparedLayer]
    differences: _containers.RepeatedCompositeFieldContainer[CellDifference]
    def __init__(self, equal: _Optional[bool] = ..., rows: _Optional[int] = ..., legacy_rows: _Optional[int] = ..., layers: _Optional[_Iterable[_Union[ComparedLayer, _Mapping]]] = ..., differences: _Optional[_Iterable[_Union[CellDifference, _Mapping]]] = ...) -> None: ...
