import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from rasterloom._gen.grid.v1 import grid_pb2 as _grid_pb2
from rasterloom._gen.layer.v1 import layer_pb2 as _layer_pb2
from rasterloom._gen.schema.v1 import migration_pb2 as _migration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EnsureMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENSURE_MODE_UNSPECIFIED: _ClassVar[EnsureMode]
    ENSURE_MODE_CHECK: _ClassVar[EnsureMode]
    ENSURE_MODE_VERIFY: _ClassVar[EnsureMode]
    ENSURE_MODE_READABLE: _ClassVar[EnsureMode]
    ENSURE_MODE_STORED: _ClassVar[EnsureMode]
ENSURE_MODE_UNSPECIFIED: EnsureMode
ENSURE_MODE_CHECK: EnsureMode
ENSURE_MODE_VERIFY: EnsureMode
ENSURE_MODE_READABLE: EnsureMode
ENSURE_MODE_STORED: EnsureMode

class EnsureCoordinatesRequest(_message.Message):
    __slots__ = ("layer", "mode")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    layer: str
    mode: EnsureMode
    def __init__(self, layer: _Optional[str] = ..., mode: _Optional[_Union[EnsureMode, str]] = ...) -> None: ...

class EnsureCoordinatesResponse(_message.Message):
    __slots__ = ("format", "generation", "grid_hash", "registration", "problems", "readable_from", "validation", "migration")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    GRID_HASH_FIELD_NUMBER: _ClassVar[int]
    REGISTRATION_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    READABLE_FROM_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    MIGRATION_FIELD_NUMBER: _ClassVar[int]
    format: _layer_pb2.Format
    generation: int
    grid_hash: str
    registration: _grid_pb2.Registration
    problems: _containers.RepeatedCompositeFieldContainer[_layer_pb2.Problem]
    readable_from: _layer_pb2.Table
    validation: CoordinateValidation
    migration: _migration_pb2.Migration
    def __init__(self, format: _Optional[_Union[_layer_pb2.Format, str]] = ..., generation: _Optional[int] = ..., grid_hash: _Optional[str] = ..., registration: _Optional[_Union[_grid_pb2.Registration, str]] = ..., problems: _Optional[_Iterable[_Union[_layer_pb2.Problem, _Mapping]]] = ..., readable_from: _Optional[_Union[_layer_pb2.Table, _Mapping]] = ..., validation: _Optional[_Union[CoordinateValidation, _Mapping]] = ..., migration: _Optional[_Union[_migration_pb2.Migration, _Mapping]] = ...) -> None: ...

class ValidateCoordinatesRequest(_message.Message):
    __slots__ = ("layer", "tolerance_pixels", "statement_timeout")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    layer: str
    tolerance_pixels: float
    statement_timeout: _duration_pb2.Duration
    def __init__(self, layer: _Optional[str] = ..., tolerance_pixels: _Optional[float] = ..., statement_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ValidateCoordinatesResponse(_message.Message):
    __slots__ = ("validation",)
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    validation: CoordinateValidation
    def __init__(self, validation: _Optional[_Union[CoordinateValidation, _Mapping]] = ...) -> None: ...

class CoordinateValidation(_message.Message):
    __slots__ = ("rows", "exact", "off", "missing", "largest_error_pixels", "offenders", "elapsed", "wrong", "outside", "registration_found", "south_up_found", "fitting", "problems", "tolerance_pixels")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    OFF_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    LARGEST_ERROR_PIXELS_FIELD_NUMBER: _ClassVar[int]
    OFFENDERS_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_FIELD_NUMBER: _ClassVar[int]
    WRONG_FIELD_NUMBER: _ClassVar[int]
    OUTSIDE_FIELD_NUMBER: _ClassVar[int]
    REGISTRATION_FOUND_FIELD_NUMBER: _ClassVar[int]
    SOUTH_UP_FOUND_FIELD_NUMBER: _ClassVar[int]
    FITTING_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    exact: int
    off: int
    missing: int
    largest_error_pixels: _grid_pb2.Vector
    offenders: _containers.RepeatedCompositeFieldContainer[CoordinateOffender]
    elapsed: _duration_pb2.Duration
    wrong: int
    outside: int
    registration_found: _grid_pb2.Registration
    south_up_found: bool
    fitting: int
    problems: _containers.RepeatedCompositeFieldContainer[_layer_pb2.Problem]
    tolerance_pixels: float
    def __init__(self, rows: _Optional[int] = ..., exact: _Optional[int] = ..., off: _Optional[int] = ..., missing: _Optional[int] = ..., largest_error_pixels: _Optional[_Union[_grid_pb2.Vector, _Mapping]] = ..., offenders: _Optional[_Iterable[_Union[CoordinateOffender, _Mapping]]] = ..., elapsed: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., wrong: _Optional[int] = ..., outside: _Optional[int] = ..., registration_found: _Optional[_Union[_grid_pb2.Registration, str]] = ..., south_up_found: _Optional[bool] = ..., fitting: _Optional[int] = ..., problems: _Optional[_Iterable[_Union[_layer_pb2.Problem, _Mapping]]] = ..., tolerance_pixels: _Optional[float] = ...) -> None: ...

class CoordinateOffender(_message.Message):
    __slots__ = ("row", "col", "x", "y", "expected")
    ROW_FIELD_NUMBER: _ClassVar[int]
    COL_FIELD_NUMBER: _ClassVar[int]
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    row: int
    col: int
    x: float
    y: float
    expected: _grid_pb2.Vector
    def __init__(self, row: _Optional[int] = ..., col: _Optional[int] = ..., x: _Optional[float] = ..., y: _Optional[float] = ..., expected: _Optional[_Union[_grid_pb2.Vector, _Mapping]] = ...) -> None: ...
