from rasterloom._gen.grid.v1 import grid_pb2 as _grid_pb2
from rasterloom._gen.layer.v1 import layer_pb2 as _layer_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IngestMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INGEST_MODE_UNSPECIFIED: _ClassVar[IngestMode]
    INGEST_MODE_CREATE: _ClassVar[IngestMode]
    INGEST_MODE_REPLACE: _ClassVar[IngestMode]
INGEST_MODE_UNSPECIFIED: IngestMode
INGEST_MODE_CREATE: IngestMode
INGEST_MODE_REPLACE: IngestMode

class IngestSpec(_message.Message):
    __slots__ = ("name", "band", "grid", "extent", "data_type", "nodata", "mode", "replace_generation", "same_grid_as", "idempotency_key")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BAND_FIELD_NUMBER: _ClassVar[int]
    GRID_FIELD_NUMBER: _ClassVar[int]
    EXTENT_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    NODATA_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    REPLACE_GENERATION_FIELD_NUMBER: _ClassVar[int]
    SAME_GRID_AS_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    name: str
    band: str
    grid: _grid_pb2.Grid
    extent: _grid_pb2.Extent
    data_type: _layer_pb2.DataType
    nodata: float
    mode: IngestMode
    replace_generation: int
    same_grid_as: str
    idempotency_key: str
    def __init__(self, name: _Optional[str] = ..., band: _Optional[str] = ..., grid: _Optional[_Union[_grid_pb2.Grid, _Mapping]] = ..., extent: _Optional[_Union[_grid_pb2.Extent, _Mapping]] = ..., data_type: _Optional[_Union[_layer_pb2.DataType, str]] = ..., nodata: _Optional[float] = ..., mode: _Optional[_Union[IngestMode, str]] = ..., replace_generation: _Optional[int] = ..., same_grid_as: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class PlanIngestRequest(_message.Message):
    __slots__ = ("spec",)
    SPEC_FIELD_NUMBER: _ClassVar[int]
    spec: IngestSpec
    def __init__(self, spec: _Optional[_Union[IngestSpec, _Mapping]] = ...) -> None: ...

class PlanIngestResponse(_message.Message):
    __slots__ = ("flight_uri", "grid", "replaced", "tile_rows", "tile_cols", "max_message_bytes", "max_stream_bytes")
    FLIGHT_URI_FIELD_NUMBER: _ClassVar[int]
    GRID_FIELD_NUMBER: _ClassVar[int]
    REPLACED_FIELD_NUMBER: _ClassVar[int]
    TILE_ROWS_FIELD_NUMBER: _ClassVar[int]
    TILE_COLS_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAM_BYTES_FIELD_NUMBER: _ClassVar[int]
    flight_uri: str
    grid: _grid_pb2.Grid
    replaced: _layer_pb2.Layer
    tile_rows: int
    tile_cols: int
    max_message_bytes: int
    max_stream_bytes: int
    def __init__(self, flight_uri: _Optional[str] = ..., grid: _Optional[_Union[_grid_pb2.Grid, _Mapping]] = ..., replaced: _Optional[_Union[_layer_pb2.Layer, _Mapping]] = ..., tile_rows: _Optional[int] = ..., tile_cols: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., max_stream_bytes: _Optional[int] = ...) -> None: ...
