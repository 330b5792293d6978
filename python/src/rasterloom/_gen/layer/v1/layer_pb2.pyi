import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from rasterloom._gen.grid.v1 import grid_pb2 as _grid_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Format(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FORMAT_UNSPECIFIED: _ClassVar[Format]
    FORMAT_LEGACY: _ClassVar[Format]
    FORMAT_COORDINATE: _ClassVar[Format]
    FORMAT_WINDOWED: _ClassVar[Format]
    FORMAT_TILED: _ClassVar[Format]
    FORMAT_PARTIAL: _ClassVar[Format]
    FORMAT_INVALID: _ClassVar[Format]

class DataType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DATA_TYPE_UNSPECIFIED: _ClassVar[DataType]
    DATA_TYPE_UINT8: _ClassVar[DataType]
    DATA_TYPE_INT8: _ClassVar[DataType]
    DATA_TYPE_UINT16: _ClassVar[DataType]
    DATA_TYPE_INT16: _ClassVar[DataType]
    DATA_TYPE_UINT32: _ClassVar[DataType]
    DATA_TYPE_INT32: _ClassVar[DataType]
    DATA_TYPE_INT64: _ClassVar[DataType]
    DATA_TYPE_FLOAT32: _ClassVar[DataType]
    DATA_TYPE_FLOAT64: _ClassVar[DataType]

class Severity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEVERITY_UNSPECIFIED: _ClassVar[Severity]
    SEVERITY_INFO: _ClassVar[Severity]
    SEVERITY_WARNING: _ClassVar[Severity]
    SEVERITY_CRITICAL: _ClassVar[Severity]
FORMAT_UNSPECIFIED: Format
FORMAT_LEGACY: Format
FORMAT_COORDINATE: Format
FORMAT_WINDOWED: Format
FORMAT_TILED: Format
FORMAT_PARTIAL: Format
FORMAT_INVALID: Format
DATA_TYPE_UNSPECIFIED: DataType
DATA_TYPE_UINT8: DataType
DATA_TYPE_INT8: DataType
DATA_TYPE_UINT16: DataType
DATA_TYPE_INT16: DataType
DATA_TYPE_UINT32: DataType
DATA_TYPE_INT32: DataType
DATA_TYPE_INT64: DataType
DATA_TYPE_FLOAT32: DataType
DATA_TYPE_FLOAT64: DataType
SEVERITY_UNSPECIFIED: Severity
SEVERITY_INFO: Severity
SEVERITY_WARNING: Severity
SEVERITY_CRITICAL: Severity

class Table(_message.Message):
    __slots__ = ("schema", "name")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    schema: str
    name: str
    def __init__(self, schema: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("code", "severity", "message", "fields", "fix")
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    FIX_FIELD_NUMBER: _ClassVar[int]
    code: str
    severity: Severity
    message: str
    fields: _containers.ScalarMap[str, str]
    fix: str
    def __init__(self, code: _Optional[str] = ..., severity: _Optional[_Union[Severity, str]] = ..., message: _Optional[str] = ..., fields: _Optional[_Mapping[str, str]] = ..., fix: _Optional[str] = ...) -> None: ...

class Layer(_message.Message):
    __slots__ = ("name", "band", "grid", "format", "table", "declared_type", "stored_type", "nodata", "registration", "south_up", "target_resolution", "has_indices", "has_coordinates", "has_key", "generation", "estimated_rows", "problems", "update_time", "tiling")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BAND_FIELD_NUMBER: _ClassVar[int]
    GRID_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    DECLARED_TYPE_FIELD_NUMBER: _ClassVar[int]
    STORED_TYPE_FIELD_NUMBER: _ClassVar[int]
    NODATA_FIELD_NUMBER: _ClassVar[int]
    REGISTRATION_FIELD_NUMBER: _ClassVar[int]
    SOUTH_UP_FIELD_NUMBER: _ClassVar[int]
    TARGET_RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    HAS_INDICES_FIELD_NUMBER: _ClassVar[int]
    HAS_COORDINATES_FIELD_NUMBER: _ClassVar[int]
    HAS_KEY_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_ROWS_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    TILING_FIELD_NUMBER: _ClassVar[int]
    name: str
    band: str
    grid: _grid_pb2.Grid
    format: Format
    table: Table
    declared_type: DataType
    stored_type: DataType
    nodata: float
    registration: _grid_pb2.Registration
    south_up: bool
    target_resolution: float
    has_indices: bool
    has_coordinates: bool
    has_key: bool
    generation: int
    estimated_rows: int
    problems: _containers.RepeatedCompositeFieldContainer[Problem]
    update_time: _timestamp_pb2.Timestamp
    tiling: str
    def __init__(self, name: _Optional[str] = ..., band: _Optional[str] = ..., grid: _Optional[_Union[_grid_pb2.Grid, _Mapping]] = ..., format: _Optional[_Union[Format, str]] = ..., table: _Optional[_Union[Table, _Mapping]] = ..., declared_type: _Optional[_Union[DataType, str]] = ..., stored_type: _Optional[_Union[DataType, str]] = ..., nodata: _Optional[float] = ..., registration: _Optional[_Union[_grid_pb2.Registration, str]] = ..., south_up: _Optional[bool] = ..., target_resolution: _Optional[float] = ..., has_indices: _Optional[bool] = ..., has_coordinates: _Optional[bool] = ..., has_key: _Optional[bool] = ..., generation: _Optional[int] = ..., estimated_rows: _Optional[int] = ..., problems: _Optional[_Iterable[_Union[Problem, _Mapping]]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., tiling: _Optional[str] = ...) -> None: ...
