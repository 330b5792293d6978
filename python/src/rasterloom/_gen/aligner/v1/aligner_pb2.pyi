from rasterloom._gen.grid.v1 import grid_pb2 as _grid_pb2
from rasterloom._gen.layer.v1 import layer_pb2 as _layer_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Strategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STRATEGY_UNSPECIFIED: _ClassVar[Strategy]
    STRATEGY_MERGE: _ClassVar[Strategy]
    STRATEGY_SHIFT: _ClassVar[Strategy]
    STRATEGY_RESAMPLE: _ClassVar[Strategy]
    STRATEGY_REPROJECT: _ClassVar[Strategy]
    STRATEGY_EXCLUDE: _ClassVar[Strategy]
STRATEGY_UNSPECIFIED: Strategy
STRATEGY_MERGE: Strategy
STRATEGY_SHIFT: Strategy
STRATEGY_RESAMPLE: Strategy
STRATEGY_REPROJECT: Strategy
STRATEGY_EXCLUDE: Strategy

class LayerSource(_message.Message):
    __slots__ = ("name", "layer")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    name: str
    layer: _layer_pb2.Layer
    def __init__(self, name: _Optional[str] = ..., layer: _Optional[_Union[_layer_pb2.Layer, _Mapping]] = ...) -> None: ...

class Reference(_message.Message):
    __slots__ = ("layer", "grid")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    GRID_FIELD_NUMBER: _ClassVar[int]
    layer: str
    grid: _grid_pb2.Grid
    def __init__(self, layer: _Optional[str] = ..., grid: _Optional[_Union[_grid_pb2.Grid, _Mapping]] = ...) -> None: ...

class CalculateGridShiftsRequest(_message.Message):
    __slots__ = ("layers", "reference", "tolerance_pixels")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedCompositeFieldContainer[LayerSource]
    reference: Reference
    tolerance_pixels: float
    def __init__(self, layers: _Optional[_Iterable[_Union[LayerSource, _Mapping]]] = ..., reference: _Optional[_Union[Reference, _Mapping]] = ..., tolerance_pixels: _Optional[float] = ...) -> None: ...

class CalculateGridShiftsResponse(_message.Message):
    __slots__ = ("reference", "reference_layer", "reference_explanation", "relations")
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_LAYER_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    RELATIONS_FIELD_NUMBER: _ClassVar[int]
    reference: _grid_pb2.Grid
    reference_layer: str
    reference_explanation: str
    relations: _containers.RepeatedCompositeFieldContainer[_grid_pb2.Relation]
    def __init__(self, reference: _Optional[_Union[_grid_pb2.Grid, _Mapping]] = ..., reference_layer: _Optional[str] = ..., reference_explanation: _Optional[str] = ..., relations: _Optional[_Iterable[_Union[_grid_pb2.Relation, _Mapping]]] = ...) -> None: ...

class AnalyzeAlignmentRequest(_message.Message):
    __slots__ = ("layers", "reference", "tolerance_pixels")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedCompositeFieldContainer[LayerSource]
    reference: Reference
    tolerance_pixels: float
    def __init__(self, layers: _Optional[_Iterable[_Union[LayerSource, _Mapping]]] = ..., reference: _Optional[_Union[Reference, _Mapping]] = ..., tolerance_pixels: _Optional[float] = ...) -> None: ...

class Issue(_message.Message):
    __slots__ = ("code", "severity", "layer", "message", "values", "fixable", "fix")
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    FIXABLE_FIELD_NUMBER: _ClassVar[int]
    FIX_FIELD_NUMBER: _ClassVar[int]
    code: str
    severity: _layer_pb2.Severity
    layer: str
    message: str
    values: _containers.ScalarMap[str, float]
    fixable: bool
    fix: str
    def __init__(self, code: _Optional[str] = ..., severity: _Optional[_Union[_layer_pb2.Severity, str]] = ..., layer: _Optional[str] = ..., message: _Optional[str] = ..., values: _Optional[_Mapping[str, float]] = ..., fixable: _Optional[bool] = ..., fix: _Optional[str] = ...) -> None: ...

class Overlap(_message.Message):
    __slots__ = ("window", "grid", "cells", "percent_of_reference")
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    GRID_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    PERCENT_OF_REFERENCE_FIELD_NUMBER: _ClassVar[int]
    window: _grid_pb2.Window
    grid: _grid_pb2.Grid
    cells: int
    percent_of_reference: float
    def __init__(self, window: _Optional[_Union[_grid_pb2.Window, _Mapping]] = ..., grid: _Optional[_Union[_grid_pb2.Grid, _Mapping]] = ..., cells: _Optional[int] = ..., percent_of_reference: _Optional[float] = ...) -> None: ...

class Summary(_message.Message):
    __slots__ = ("layers", "verdicts", "formats", "severities", "codes")
    class VerdictsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class FormatsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class SeveritiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class CodesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    FORMATS_FIELD_NUMBER: _ClassVar[int]
    SEVERITIES_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    layers: int
    verdicts: _containers.ScalarMap[str, int]
    formats: _containers.ScalarMap[str, int]
    severities: _containers.ScalarMap[str, int]
    codes: _containers.ScalarMap[str, int]
    def __init__(self, layers: _Optional[int] = ..., verdicts: _Optional[_Mapping[str, int]] = ..., formats: _Optional[_Mapping[str, int]] = ..., severities: _Optional[_Mapping[str, int]] = ..., codes: _Optional[_Mapping[str, int]] = ...) -> None: ...

class AnalyzeAlignmentResponse(_message.Message):
    __slots__ = ("reference", "reference_layer", "reference_explanation", "relations", "issues", "summary", "strategy", "recommendation", "union", "intersection", "tolerance_pixels")
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_LAYER_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    RELATIONS_FIELD_NUMBER: _ClassVar[int]
    ISSUES_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    RECOMMENDATION_FIELD_NUMBER: _ClassVar[int]
    UNION_FIELD_NUMBER: _ClassVar[int]
    INTERSECTION_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    reference: _grid_pb2.Grid
    reference_layer: str
    reference_explanation: str
    relations: _containers.RepeatedCompositeFieldContainer[_grid_pb2.Relation]
    issues: _containers.RepeatedCompositeFieldContainer[Issue]
    summary: Summary
    strategy: Strategy
    recommendation: str
    union: Overlap
    intersection: Overlap
    tolerance_pixels: float
    def __init__(self, reference: _Optional[_Union[_grid_pb2.Grid, _Mapping]] = ..., reference_layer: _Optional[str] = ..., reference_explanation: _Optional[str] = ..., relations: _Optional[_Iterable[_Union[_grid_pb2.Relation, _Mapping]]] = ..., issues: _Optional[_Iterable[_Union[Issue, _Mapping]]] = ..., summary: _Optional[_Union[Summary, _Mapping]] = ..., strategy: _Optional[_Union[Strategy, str]] = ..., recommendation: _Optional[str] = ..., union: _Optional[_Union[Overlap, _Mapping]] = ..., intersection: _Optional[_Union[Overlap, _Mapping]] = ..., tolerance_pixels: _Optional[float] = ...) -> None: ...

class ChooseReferenceRequest(_message.Message):
    __slots__ = ("layers", "tolerance_pixels")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedCompositeFieldContainer[LayerSource]
    tolerance_pixels: float
    def __init__(self, layers: _Optional[_Iterable[_Union[LayerSource, _Mapping]]] = ..., tolerance_pixels: _Optional[float] = ...) -> None: ...

class ReferenceCandidate(_message.Message):
    __slots__ = ("layer", "unmergeable", "shifted", "largest_shift_pixels", "total_shift_pixels")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    UNMERGEABLE_FIELD_NUMBER: _ClassVar[int]
    SHIFTED_FIELD_NUMBER: _ClassVar[int]
    LARGEST_SHIFT_PIXELS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SHIFT_PIXELS_FIELD_NUMBER: _ClassVar[int]
    layer: str
    unmergeable: int
    shifted: int
    largest_shift_pixels: float
    total_shift_pixels: float
    def __init__(self, layer: _Optional[str] = ..., unmergeable: _Optional[int] = ..., shifted: _Optional[int] = ..., largest_shift_pixels: _Optional[float] = ..., total_shift_pixels: _Optional[float] = ...) -> None: ...

class ChooseReferenceResponse(_message.Message):
    __slots__ = ("layer", "grid", "explanation", "candidates")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    GRID_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    layer: str
    grid: _grid_pb2.Grid
    explanation: str
    candidates: _containers.RepeatedCompositeFieldContainer[ReferenceCandidate]
    def __init__(self, layer: _Optional[str] = ..., grid: _Optional[_Union[_grid_pb2.Grid, _Mapping]] = ..., explanation: _Optional[str] = ..., candidates: _Optional[_Iterable[_Union[ReferenceCandidate, _Mapping]]] = ...) -> None: ...

class CreateAlignedCoordinateQueryRequest(_message.Message):
    __slots__ = ("layer", "reference", "bounds", "tolerance_pixels")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    BOUNDS_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    layer: LayerSource
    reference: _grid_pb2.Grid
    bounds: _grid_pb2.Bounds
    tolerance_pixels: float
    def __init__(self, layer: _Optional[_Union[LayerSource, _Mapping]] = ..., reference: _Optional[_Union[_grid_pb2.Grid, _Mapping]] = ..., bounds: _Optional[_Union[_grid_pb2.Bounds, _Mapping]] = ..., tolerance_pixels: _Optional[float] = ...) -> None: ...

class QueryParameter(_message.Message):
    __slots__ = ("position", "description", "float8", "int8")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    FLOAT8_FIELD_NUMBER: _ClassVar[int]
    INT8_FIELD_NUMBER: _ClassVar[int]
    position: int
    description: str
    float8: float
    int8: int
    def __init__(self, position: _Optional[int] = ..., description: _Optional[str] = ..., float8: _Optional[float] = ..., int8: _Optional[int] = ...) -> None: ...

class CreateAlignedCoordinateQueryResponse(_message.Message):
    __slots__ = ("sql", "parameters", "relation")
    SQL_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    RELATION_FIELD_NUMBER: _ClassVar[int]
    sql: str
    parameters: _containers.RepeatedCompositeFieldContainer[QueryParameter]
    relation: _grid_pb2.Relation
    def __init__(self, sql: _Optional[str] = ..., parameters: _Optional[_Iterable[_Union[QueryParameter, _Mapping]]] = ..., relation: _Optional[_Union[_grid_pb2.Relation, _Mapping]] = ...) -> None: ...
