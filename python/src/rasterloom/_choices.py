"""The words that options take, and what they mean in the contracts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral, Real
from typing import Literal, TypeVar, cast

from rasterloom import errors
from rasterloom._gen.aligner.v1 import aligner_pb2
from rasterloom._gen.grid.v1 import grid_pb2
from rasterloom._gen.layer.v1 import layer_pb2
from rasterloom._gen.merger.v1 import merger_pb2
from rasterloom.grid import Grid
from rasterloom.layers import Layer, name_of

Rows = Literal["any", "all", "reference", "every"]
Coordinates = Literal["xy", "row_col", "both", "none"]
Types = Literal["stored", "declared"]
Duplicates = Literal["error", "first", "last", "mean"]
Compression = Literal["none", "lz4", "zstd"]
Resampling = Literal[
    "none", "nearest", "bilinear", "cubic", "average", "mode", "min", "max", "sum",
    "auto", "continuous", "categorical", "count",
]  # fmt: skip
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
RESAMPLING: dict[str, merger_pb2.Resampling] = {
    "none": merger_pb2.RESAMPLING_NONE,
    "nearest": merger_pb2.RESAMPLING_NEAREST,
    "bilinear": merger_pb2.RESAMPLING_BILINEAR,
    "cubic": merger_pb2.RESAMPLING_CUBIC,
    "average": merger_pb2.RESAMPLING_AVERAGE,
    "mode": merger_pb2.RESAMPLING_MODE,
    "min": merger_pb2.RESAMPLING_MIN,
    "max": merger_pb2.RESAMPLING_MAX,
    "sum": merger_pb2.RESAMPLING_SUM,
    "auto": merger_pb2.RESAMPLING_AUTO,
    "continuous": merger_pb2.RESAMPLING_AUTO,
    "categorical": merger_pb2.RESAMPLING_AUTO,
    "count": merger_pb2.RESAMPLING_AUTO,
}
KINDS: dict[str, merger_pb2.ValueKind] = {
    "continuous": merger_pb2.VALUE_KIND_CONTINUOUS,
    "categorical": merger_pb2.VALUE_KIND_CATEGORICAL,
    "count": merger_pb2.VALUE_KIND_COUNT,
}
DUPLICATES: dict[str, merger_pb2.Duplicates] = {
    "error": merger_pb2.DUPLICATES_ERROR,
    "first": merger_pb2.DUPLICATES_FIRST,
    "last": merger_pb2.DUPLICATES_LAST,
    "mean": merger_pb2.DUPLICATES_MEAN,
}
COMPRESSIONS: dict[str, merger_pb2.BodyCompression] = {
    "none": merger_pb2.BODY_COMPRESSION_NONE,
    "lz4": merger_pb2.BODY_COMPRESSION_LZ4_FRAME,
    "zstd": merger_pb2.BODY_COMPRESSION_ZSTD,
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
Item = TypeVar("Item")


def choice(parameter: str, value: str, choices: Mapping[str, Choice]) -> Choice:
    """Give what a word of the client means in the contract. Errors: InvalidArgument, with the words there are."""
    try:
        return choices[value]
    except (KeyError, TypeError):
        known = ", ".join(repr(choice) for choice in choices)
        raise errors.invalid(parameter, value, f"one of {known}") from None


def number(parameter: str, value: object) -> float | None:
    """Check that an option is a number, where it is given."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real):
        raise errors.invalid(parameter, value, "a number")
    return float(value)


def whole(parameter: str, value: object) -> int:
    """Check that an option is a whole number, where it is given; 0 where not."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise errors.invalid(parameter, value, "a whole number")
    return int(value)


def text(parameter: str, value: object) -> str:
    """Check that an option is a text."""
    if not isinstance(value, str):
        raise errors.invalid(parameter, value, "a text")
    return value


def crs_text(value: object) -> str:
    """Check that a CRS is one as the server takes it."""
    if not isinstance(value, str):
        raise errors.invalid("crs", value, 'a text, such as "EPSG:4326" or WKT (to_wkt() of rasterio and pyproj)')
    return value


def box(parameter: str, value: object) -> tuple[float, float, float, float]:
    """Check that an option is the four sides of a box."""
    try:
        min_x, min_y, max_x, max_y = (float(side) for side in cast("Iterable[float]", value))
    except (TypeError, ValueError):
        raise errors.invalid(parameter, value, "(min_x, min_y, max_x, max_y)") from None
    return min_x, min_y, max_x, max_y


def resample(
    spec: merger_pb2.MergeSpec, resampling: str | Mapping[str, str], min_share: float | Mapping[str, float] | None
) -> None:
    """Write down how layers are resampled, for the merge or for its columns."""
    if isinstance(resampling, str):
        spec.resampling = choice("resampling", resampling, RESAMPLING)
        for layer in spec.layers:
            layer.kind = KINDS.get(resampling, merger_pb2.VALUE_KIND_UNSPECIFIED)
    elif not isinstance(resampling, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise errors.invalid("resampling", resampling, "a method, or {column: method}")
    else:
        for layer, method in _by_column("resampling", spec, resampling):
            layer.resampling = choice("resampling", method, RESAMPLING)
            layer.kind = KINDS.get(method, merger_pb2.VALUE_KIND_UNSPECIFIED)
    if isinstance(min_share, Mapping):
        for layer, share in _by_column("min_share", spec, min_share):
            layer.min_share = number("min_share", share) or 0.0
    elif (least := number("min_share", min_share)) is not None:
        spec.min_share = least


def _by_column(
    parameter: str, spec: merger_pb2.MergeSpec, items: Mapping[str, Item]
) -> Iterator[tuple[merger_pb2.LayerSelection, Item]]:
    """Find the layer of each item by the name of its column, or by its own."""
    named = {layer.name: layer for layer in spec.layers} | {layer.column or layer.name: layer for layer in spec.layers}
    for name, item in items.items():
        if name not in named:
            raise errors.InvalidArgument(
                f"{parameter} names {name!r}, which is neither a column nor a layer of the merge: {', '.join(named)}",
                reason="INVALID_ARGUMENT",
                fields={"field": parameter, "value": name},
            )
        yield named[name], item


def extent_of(extent: ExtentRule | tuple[float, float, float, float]) -> merger_pb2.Extent:
    """Give the extent of a merge as the contract has it."""
    if isinstance(extent, str):
        return merger_pb2.Extent(rule=choice("extent", extent, EXTENTS))
    try:
        min_x, min_y, max_x, max_y = (float(side) for side in extent)
    except (TypeError, ValueError):
        raise errors.invalid(
            "extent", extent, "'union', 'intersection', 'reference' or (min_x, min_y, max_x, max_y)"
        ) from None
    return merger_pb2.Extent(bounds=grid_pb2.Bounds(min_x=min_x, min_y=min_y, max_x=max_x, max_y=max_y))


def aligner_reference(reference: str | Layer | Grid | None) -> aligner_pb2.Reference | None:
    """Give a reference as the aligner takes it."""
    if reference is None:
        return None
    if isinstance(reference, Grid):
        return aligner_pb2.Reference(grid=reference.to_proto())
    return aligner_pb2.Reference(layer=name_of(reference, "reference"))


def merger_reference(reference: str | Layer | Grid | None) -> merger_pb2.Reference | None:
    """Give a reference as the merger takes it."""
    if reference is None:
        return None
    if isinstance(reference, Grid):
        return merger_pb2.Reference(grid=reference.to_proto())
    return merger_pb2.Reference(layer=name_of(reference, "reference"))
