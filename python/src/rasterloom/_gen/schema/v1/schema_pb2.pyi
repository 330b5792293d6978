import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from rasterloom._gen.grid.v1 import grid_pb2 as _grid_pb2
from rasterloom._gen.layer.v1 import layer_pb2 as _layer_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AdoptCatalogRequest(_message.Message):
    __slots__ = ("table", "data_schema", "dry_run")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    DATA_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    table: _layer_pb2.Table
    data_schema: str
    dry_run: bool
    def __init__(self, table: _Optional[_Union[_layer_pb2.Table, _Mapping]] = ..., data_schema: _Optional[str] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class AdoptCatalogResponse(_message.Message):
    __slots__ = ("layers", "added", "changed", "unchanged", "invalid", "elapsed")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    INVALID_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedCompositeFieldContainer[_layer_pb2.Layer]
    added: int
    changed: int
    unchanged: int
    invalid: int
    elapsed: _duration_pb2.Duration
    def __init__(self, layers: _Optional[_Iterable[_Union[_layer_pb2.Layer, _Mapping]]] = ..., added: _Optional[int] = ..., changed: _Optional[int] = ..., unchanged: _Optional[int] = ..., invalid: _Optional[int] = ..., elapsed: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ListLayersRequest(_message.Message):
    __slots__ = ("name_contains", "formats", "page_size", "page_token")
    NAME_CONTAINS_FIELD_NUMBER: _ClassVar[int]
    FORMATS_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    name_contains: str
    formats: _containers.RepeatedScalarFieldContainer[_layer_pb2.Format]
    page_size: int
    page_token: str
    def __init__(self, name_contains: _Optional[str] = ..., formats: _Optional[_Iterable[_Union[_layer_pb2.Format, str]]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListLayersResponse(_message.Message):
    __slots__ = ("layers", "next_page_token", "total_size")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedCompositeFieldContainer[_layer_pb2.Layer]
    next_page_token: str
    total_size: int
    def __init__(self, layers: _Optional[_Iterable[_Union[_layer_pb2.Layer, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class GetLayerRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetLayerResponse(_message.Message):
    __slots__ = ("layer",)
    LAYER_FIELD_NUMBER: _ClassVar[int]
    layer: _layer_pb2.Layer
    def __init__(self, layer: _Optional[_Union[_layer_pb2.Layer, _Mapping]] = ...) -> None: ...

class BatchGetLayersRequest(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class BatchGetLayersResponse(_message.Message):
    __slots__ = ("layers",)
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedCompositeFieldContainer[_layer_pb2.Layer]
    def __init__(self, layers: _Optional[_Iterable[_Union[_layer_pb2.Layer, _Mapping]]] = ...) -> None: ...

class DetectFormatRequest(_message.Message):
    __slots__ = ("name", "scan")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCAN_FIELD_NUMBER: _ClassVar[int]
    name: str
    scan: bool
    def __init__(self, name: _Optional[str] = ..., scan: _Optional[bool] = ...) -> None: ...

class DetectFormatResponse(_message.Message):
    __slots__ = ("layer", "rows_read")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    ROWS_READ_FIELD_NUMBER: _ClassVar[int]
    layer: _layer_pb2.Layer
    rows_read: int
    def __init__(self, layer: _Optional[_Union[_layer_pb2.Layer, _Mapping]] = ..., rows_read: _Optional[int] = ...) -> None: ...

class RegisterLayerRequest(_message.Message):
    __slots__ = ("name", "band", "table", "grid", "extent", "declared_type", "nodata", "registration", "south_up", "dry_run")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BAND_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    GRID_FIELD_NUMBER: _ClassVar[int]
    EXTENT_FIELD_NUMBER: _ClassVar[int]
    DECLARED_TYPE_FIELD_NUMBER: _ClassVar[int]
    NODATA_FIELD_NUMBER: _ClassVar[int]
    REGISTRATION_FIELD_NUMBER: _ClassVar[int]
    SOUTH_UP_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    name: str
    band: str
    table: _layer_pb2.Table
    grid: _grid_pb2.Grid
    extent: _grid_pb2.Extent
    declared_type: _layer_pb2.DataType
    nodata: float
    registration: _grid_pb2.Registration
    south_up: bool
    dry_run: bool
    def __init__(self, name: _Optional[str] = ..., band: _Optional[str] = ..., table: _Optional[_Union[_layer_pb2.Table, _Mapping]] = ..., grid: _Optional[_Union[_grid_pb2.Grid, _Mapping]] = ..., extent: _Optional[_Union[_grid_pb2.Extent, _Mapping]] = ..., declared_type: _Optional[_Union[_layer_pb2.DataType, str]] = ..., nodata: _Optional[float] = ..., registration: _Optional[_Union[_grid_pb2.Registration, str]] = ..., south_up: _Optional[bool] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class RegisterLayerResponse(_message.Message):
    __slots__ = ("layer", "added", "rows_read", "elapsed")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    ROWS_READ_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_FIELD_NUMBER: _ClassVar[int]
    layer: _layer_pb2.Layer
    added: bool
    rows_read: int
    elapsed: _duration_pb2.Duration
    def __init__(self, layer: _Optional[_Union[_layer_pb2.Layer, _Mapping]] = ..., added: _Optional[bool] = ..., rows_read: _Optional[int] = ..., elapsed: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class DropLayerRequest(_message.Message):
    __slots__ = ("name", "generation", "delete_tiles")
    NAME_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    DELETE_TILES_FIELD_NUMBER: _ClassVar[int]
    name: str
    generation: int
    delete_tiles: bool
    def __init__(self, name: _Optional[str] = ..., generation: _Optional[int] = ..., delete_tiles: _Optional[bool] = ...) -> None: ...

class DropLayerResponse(_message.Message):
    __slots__ = ("layer",)
    LAYER_FIELD_NUMBER: _ClassVar[int]
    layer: _layer_pb2.Layer
    def __init__(self, layer: _Optional[_Union[_layer_pb2.Layer, _Mapping]] = ...) -> None: ...
