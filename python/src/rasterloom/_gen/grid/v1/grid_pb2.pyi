from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Registration(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REGISTRATION_UNSPECIFIED: _ClassVar[Registration]
    REGISTRATION_CENTER: _ClassVar[Registration]
    REGISTRATION_UPPER_LEFT: _ClassVar[Registration]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_IDENTICAL: _ClassVar[Verdict]
    VERDICT_ALIGNED: _ClassVar[Verdict]
    VERDICT_SHIFT: _ClassVar[Verdict]
    VERDICT_RESAMPLE: _ClassVar[Verdict]
    VERDICT_REPROJECT: _ClassVar[Verdict]
    VERDICT_DISJOINT: _ClassVar[Verdict]
REGISTRATION_UNSPECIFIED: Registration
REGISTRATION_CENTER: Registration
REGISTRATION_UPPER_LEFT: Registration
VERDICT_UNSPECIFIED: Verdict
VERDICT_IDENTICAL: Verdict
VERDICT_ALIGNED: Verdict
VERDICT_SHIFT: Verdict
VERDICT_RESAMPLE: Verdict
VERDICT_REPROJECT: Verdict
VERDICT_DISJOINT: Verdict

class Grid(_message.Message):
    __slots__ = ("crs", "rows", "cols", "origin_x", "origin_y", "step_x", "step_y")
    CRS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLS_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_X_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_Y_FIELD_NUMBER: _ClassVar[int]
    STEP_X_FIELD_NUMBER: _ClassVar[int]
    STEP_Y_FIELD_NUMBER: _ClassVar[int]
    crs: str
    rows: int
    cols: int
    origin_x: float
    origin_y: float
    step_x: float
    step_y: float
    def __init__(self, crs: _Optional[str] = ..., rows: _Optional[int] = ..., cols: _Optional[int] = ..., origin_x: _Optional[float] = ..., origin_y: _Optional[float] = ..., step_x: _Optional[float] = ..., step_y: _Optional[float] = ...) -> None: ...

class Window(_message.Message):
    __slots__ = ("row_start", "row_stop", "col_start", "col_stop")
    ROW_START_FIELD_NUMBER: _ClassVar[int]
    ROW_STOP_FIELD_NUMBER: _ClassVar[int]
    COL_START_FIELD_NUMBER: _ClassVar[int]
    COL_STOP_FIELD_NUMBER: _ClassVar[int]
    row_start: int
    row_stop: int
    col_start: int
    col_stop: int
    def __init__(self, row_start: _Optional[int] = ..., row_stop: _Optional[int] = ..., col_start: _Optional[int] = ..., col_stop: _Optional[int] = ...) -> None: ...

class Bounds(_message.Message):
    __slots__ = ("min_x", "min_y", "max_x", "max_y")
    MIN_X_FIELD_NUMBER: _ClassVar[int]
    MIN_Y_FIELD_NUMBER: _ClassVar[int]
    MAX_X_FIELD_NUMBER: _ClassVar[int]
    MAX_Y_FIELD_NUMBER: _ClassVar[int]
    min_x: float
    min_y: float
    max_x: float
    max_y: float
    def __init__(self, min_x: _Optional[float] = ..., min_y: _Optional[float] = ..., max_x: _Optional[float] = ..., max_y: _Optional[float] = ...) -> None: ...

class Extent(_message.Message):
    __slots__ = ("crs", "bounds", "rows", "cols", "resolution")
    CRS_FIELD_NUMBER: _ClassVar[int]
    BOUNDS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLS_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    crs: str
    bounds: _containers.RepeatedScalarFieldContainer[float]
    rows: int
    cols: int
    resolution: float
    def __init__(self, crs: _Optional[str] = ..., bounds: _Optional[_Iterable[float]] = ..., rows: _Optional[int] = ..., cols: _Optional[int] = ..., resolution: _Optional[float] = ...) -> None: ...

class Vector(_message.Message):
    __slots__ = ("x", "y")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ...) -> None: ...

class Relation(_message.Message):
    __slots__ = ("layer", "verdict", "explanation", "offset_rows", "offset_cols", "shift", "shift_pixels", "displacement_pixels", "residual_pixels", "position_error", "drift_per_1000", "registration", "registration_pixels", "longitude_turns", "turn_cols", "south_up", "noise_pixels")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_ROWS_FIELD_NUMBER: _ClassVar[int]
    OFFSET_COLS_FIELD_NUMBER: _ClassVar[int]
    SHIFT_FIELD_NUMBER: _ClassVar[int]
    SHIFT_PIXELS_FIELD_NUMBER: _ClassVar[int]
    DISPLACEMENT_PIXELS_FIELD_NUMBER: _ClassVar[int]
    RESIDUAL_PIXELS_FIELD_NUMBER: _ClassVar[int]
    POSITION_ERROR_FIELD_NUMBER: _ClassVar[int]
    DRIFT_PER_1000_FIELD_NUMBER: _ClassVar[int]
    REGISTRATION_FIELD_NUMBER: _ClassVar[int]
    REGISTRATION_PIXELS_FIELD_NUMBER: _ClassVar[int]
    LONGITUDE_TURNS_FIELD_NUMBER: _ClassVar[int]
    TURN_COLS_FIELD_NUMBER: _ClassVar[int]
    SOUTH_UP_FIELD_NUMBER: _ClassVar[int]
    NOISE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    layer: str
    verdict: Verdict
    explanation: str
    offset_rows: int
    offset_cols: int
    shift: Vector
    shift_pixels: Vector
    displacement_pixels: Vector
    residual_pixels: Vector
    position_error: Vector
    drift_per_1000: Vector
    registration: Registration
    registration_pixels: Vector
    longitude_turns: int
    turn_cols: int
    south_up: bool
    noise_pixels: Vector
    def __init__(self, layer: _Optional[str] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., explanation: _Optional[str] = ..., offset_rows: _Optional[int] = ..., offset_cols: _Optional[int] = ..., shift: _Optional[_Union[Vector, _Mapping]] = ..., shift_pixels: _Optional[_Union[Vector, _Mapping]] = ..., displacement_pixels: _Optional[_Union[Vector, _Mapping]] = ..., residual_pixels: _Optional[_Union[Vector, _Mapping]] = ..., position_error: _Optional[_Union[Vector, _Mapping]] = ..., drift_per_1000: _Optional[_Union[Vector, _Mapping]] = ..., registration: _Optional[_Union[Registration, str]] = ..., registration_pixels: _Optional[_Union[Vector, _Mapping]] = ..., longitude_turns: _Optional[int] = ..., turn_cols: _Optional[int] = ..., south_up: _Optional[bool] = ..., noise_pixels: _Optional[_Union[Vector, _Mapping]] = ...) -> None: ...
