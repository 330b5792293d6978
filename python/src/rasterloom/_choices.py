"""The words that options take, and what they mean in the contracts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar

from rasterloom import errors
from rasterloom._gen.aligner.v1 import aligner_pb2
from rasterloom._gen.grid.v1 import grid_pb2
from rasterloom._gen.layer.v1 import layer_pb2
from rasterloom._gen.merger.v1 import merger_pb2
from rasterloom.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Mapping

Rows = Literal["any", "all", "reference", "every"]
Coordinates = Literal["xy", "row_col", "both", "none"]
Types = Literal["stored", "declared"]
Duplicates = Literal["error", "first", "last", "mean"]
ExtentRule = Literal["union", "intersection", "reference"]
PixelPoint = Literal["center", "upper_left"]

ROWS: dict[str, merger_pb2.RowsKept] = {
    "any": merger_pb2.ROWS_KEPT_ANY,
    "all": merger_pb2.ROWS_KEPT_ALL,
    "reference": merger_pb2.ROWS_KEPT_REFERENCE,
    "every": merger_pb2.ROWS_KEPT_EVERY,
}
COORDINATES: dict[str, merger_pb2.CoordinateColumns] = {
    "xy": merger_pb2.COORDINATE_COLUMNS_XY,
    "row_col": merger_pb2.COORDINATE_COLUMNS_ROW_COL,
    "both": merger_pb2.COORDINATE_COLUMNS_BOTH,
    "none": merger_pb2.COORDINATE_COLUMNS_NONE,
}
TYPES: dict[str, merger_pb2.ValueTypes] = {
    "stored": merger_pb2.VALUE_TYPES_STORED,
    "declared": merger_pb2.VALUE_TYPES_DECLARED,
}
DUPLICATES: dict[str, merger_pb2.Duplicates] = {
    "error": merger_pb2.DUPLICATES_ERROR,
    "first": merger_pb2.DUPLICATES_FIRST,
    "last": merger_pb2.DUPLICATES_LAST,
    "mean": merger_pb2.DUPLICATES_MEAN,
}
DTYPES: dict[str, layer_pb2.DataType] = {
    "": layer_pb2.DATA_TYPE_UNSPECIFIED,
    "uint8": layer_pb2.DATA_TYPE_UINT8,
    "int8": layer_pb2.DATA_TYPE_INT8,
    "uint16": layer_pb2.DATA_TYPE_UINT16,
    "int16": layer_pb2.DATA_TYPE_INT16,
    "uint32": layer_pb2.DATA_TYPE_UINT32,
    "int32": layer_pb2.DATA_TYPE_INT32,
    "int64": layer_pb2.DATA_TYPE_INT64,
    "float32": layer_pb2.DATA_TYPE_FLOAT32,
    "float64": layer_pb2.DATA_TYPE_FLOAT64,
}
POINTS: dict[str, grid_pb2.Registration] = {
    "": grid_pb2.REGISTRATION_UNSPECIFIED,
    "center": grid_pb2.REGISTRATION_CENTER,
    "upper_left": grid_pb2.REGISTRATION_UPPER_LEFT,
}
EXTENTS: dict[str, merger_pb2.ExtentRule] = {
    "union": merger_pb2.EXTENT_RULE_UNION,
    "intersection": merger_pb2.EXTENT_RULE_INTERSECTION,
    "reference": merger_pb2.EXTENT_RULE_REFERENCE,
}

Choice = TypeVar("Choice")


def choice(parameter: str, value: str, choices: Mapping[str, Choice]) -> Choice:
    """Give what a word of the client means in the contract. Errors: InvalidArgument, with the words there are."""
    try:
        return choices[value]
    except (KeyError, TypeError):
        known = ", ".join(repr(choice) for choice in choices)
        raise errors.InvalidArgument(
            f"{parameter} is {value!r}, and must be one of {known}",
            reason="INVALID_ARGUMENT",
            fields={"field": parameter, "value": str(value)},
        ) from None


def extent_of(extent: ExtentRule | tuple[float, float, float, float]) -> merger_pb2.Extent:
    """Give the extent of a merge as the contract has it."""
    if isinstance(extent, str):
        return merger_pb2.Extent(rule=choice("extent", extent, EXTENTS))
    try:
        min_x, min_y, max_x, max_y = (float(side) for side in extent)
    except (TypeError, ValueError):
        raise errors.InvalidArgument(
            f"extent is {extent!r}, and must be 'union', 'intersection', 'reference' or (min_x, min_y, max_x, max_y)",
            reason="INVALID_ARGUMENT",
            fields={"field": "extent", "value": str(extent)},
        ) from None
    return merger_pb2.Extent(bounds=grid_pb2.Bounds(min_x=min_x, min_y=min_y, max_x=max_x, max_y=max_y))


def aligner_reference(reference: str | Grid | None) -> aligner_pb2.Reference | None:
    """Give a reference as the aligner takes it."""
    if reference is None:
        return None
    if isinstance(reference, Grid):
        return aligner_pb2.Reference(grid=reference.to_proto())
    return aligner_pb2.Reference(layer=reference)


def merger_reference(reference: str | Grid | None) -> merger_pb2.Reference | None:
    """Give a reference as the merger takes it."""
    if reference is None:
        return None
    if isinstance(reference, Grid):
        return merger_pb2.Reference(grid=reference.to_proto())
    return merger_pb2.Reference(layer=reference)
