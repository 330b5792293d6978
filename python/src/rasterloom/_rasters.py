"""Rasters as they come: files that GDAL reads, xarray, numpy. One window at a time."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from rasterloom import errors
from rasterloom._choices import DTYPES, box, crs_text, number
from rasterloom.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from numpy.typing import NDArray

    Window = tuple[int, int, int, int]
    Read = Callable[[Window], tuple[NDArray[Any], NDArray[np.bool_] | None]]

WIDENED = {"bool": "uint8", "float16": "float32"}
"""Types that no layer has, and those that hold all their values."""

X_NAMES = ("x", "lon", "longitude", "easting", "projection_x_coordinate")
Y_NAMES = ("y", "lat", "latitude", "northing", "projection_y_coordinate")
MAX_UNEVEN_PIXELS = 0.05
"""How far a coordinate of an axis may lie from where even steps put it."""


@dataclass(frozen=True, slots=True)
class Band:
    """One band of a raster, not yet read.

    Attributes
    ----------
    label : str
        What tells it from the others: its number, or a name.
    grid : Grid
        North-up.
    dtype : str
        numpy type of the values that ``read`` gives, one that a layer can have.
    nodata : float or None
        Value that means "no data".
    masked : bool
        Whether ``read`` may give a mask.
    read : callable
        Gives the values of a window (row_start, row_stop, col_start, col_stop),
        and where they are values and not missing; None: everywhere.
    """

    label: str
    grid: Grid
    dtype: str
    nodata: float | None
    masked: bool
    read: Read


@dataclass(frozen=True, slots=True)
class Where:
    """What was said about where a raster lies, before it was looked at."""

    crs: str | None = None
    bounds: tuple[float, float, float, float] | None = None
    transform: Any = None
    grid: Grid | None = None
    corner: bool = False
    """Whether coordinates name the upper-left corners of cells and not their centres."""

    def check(self) -> None:
        """Refuse what contradicts itself, and what is none of what it should be."""
        places = [name for name in ("bounds", "transform", "grid") if getattr(self, name) is not None]
        if len(places) > 1:
            raise refused(f"{' and '.join(places)} each say where the raster lies: give one of them", places[1])
        if self.crs is not None:
            crs_text(self.crs)
        if self.bounds is not None:
            box("bounds", self.bounds)
        if self.grid is not None and not isinstance(self.grid, Grid):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise errors.invalid("grid", self.grid, "a Grid")
        if self.grid is not None and self.crs not in (None, self.grid.crs):
            raise refused(f"the grid has the CRS {self.grid.crs!r}, and crs is {self.crs!r}: give one of them", "crs")

    def of_array(self, shape: tuple[int, int]) -> Grid:
        """Give the grid of an array that does not say itself where it is."""
        rows, cols = shape
        if self.grid is not None:
            if self.grid.shape != shape:
                raise refused(f"the array has {shape} cells, and its grid {self.grid.shape}", "grid")
            return self.grid
        crs = self.said_crs("an array")
        if self.transform is not None:
            return of_transform(self.transform, shape, crs)
        if self.bounds is None:
            raise refused("an array does not say where it is: give its bounds, its transform or its grid", "bounds")
        if 0 in shape:
            raise refused(f"the array has {shape} cells: it must have one at least", "source")
        min_x, min_y, max_x, max_y = self.bounds
        return Grid(crs, rows, cols, min_x, max_y, (max_x - min_x) / cols, (max_y - min_y) / rows)

    def said_crs(self, what: str) -> str:
        """Give the CRS that was said."""
        if self.crs is None:
            raise refused(f'{what} does not say its CRS: give one, such as crs="EPSG:4326" (crs="": unknown)', "crs")
        return self.crs


def refused(message: str, field: str) -> errors.InvalidArgument:
    """Say what is wrong with an argument, or with the raster."""
    return errors.InvalidArgument(message, reason="INVALID_ARGUMENT", fields={"field": field})


def of_transform(transform: Any, shape: tuple[int, int], crs: str) -> Grid:
    """Read a north-up affine transform: six numbers a, b, c, d, e, f, as rasterio's Affine. Refuse others."""
    try:
        a, b, c, d, e, f = (float(v) for v in tuple(transform)[:6])
    except (TypeError, ValueError):
        raise errors.invalid("transform", transform, "an Affine, or its six numbers a, b, c, d, e, f") from None
    how = "gdalwarp (or rasterio.warp.reproject) makes a north-up raster of it"
    if b or d:
        raise refused(
            f"the grid is rotated or sheared: its transform has {b:g} and {d:g} off the diagonal; {how}", "transform"
        )
    if e > 0:
        raise refused(
            f"the rows run from south to north: the transform steps {e:g} in y; flip them (array[::-1]), or {how}",
            "transform",
        )
    if a <= 0 or e == 0:
        raise refused(f"the transform steps {a:g} in x and {e:g} in y, which is no north-up grid; {how}", "transform")
    return Grid(crs, shape[0], shape[1], c, f, a, -e)


def stored_type(dtype: np.dtype[Any], label: str) -> str:
    """Give the type that values of a type are stored in, without loss."""
    name = WIDENED.get(dtype.name, dtype.name)
    if name not in DTYPES or not name:
        raise refused(
            f"band {label} has values of type {dtype.name}, and a layer can have {', '.join(t for t in DTYPES if t)}: "
            "convert it first",
            "dtype",
        )
    return name


def name_part(label: str) -> str:
    """Make a part of a layer's name of a label.

    >>> name_part("2021-07-01"), name_part("B4 (red)")
    ('2021-07-01', 'B4_red')
    """
    return re.sub(r"[^\w.-]+", "_", label).strip("_")


@contextlib.contextmanager
def bands_of(
    source: Any, wanted: Sequence[int | str] | None, where: Where, nodata: float | None, unscale: bool | None
) -> Generator[list[Band]]:
    """Open a raster and give its bands, or those that are wanted."""
    where.check()
    with contextlib.ExitStack() as stack:
        if isinstance(source, np.ndarray):
            found = _of_numpy(cast("NDArray[Any]", source), where)
        elif hasattr(source, "dims") and hasattr(source, "coords"):
            found = _of_xarray(source, where, unscale)
        elif isinstance(source, (str, os.PathLike)):
            found = _of_path(os.fspath(cast("str | os.PathLike[str]", source)), where, unscale, stack, wanted)
        elif hasattr(source, "read_masks"):
            found = _of_rasterio(source, where, unscale)
        else:
            raise refused(
                f"a raster is a path, a rasterio dataset, an xarray object or a numpy array, and not {type(source)}",
                "source",
            )
        if wanted is not None:
            labels = [band.label for band in found]
            for label in wanted:
                if str(label) not in labels:
                    raise refused(f"there is no band {label!r}: the bands are {', '.join(labels)}", "band")
            found = [found[labels.index(str(label))] for label in wanted]
        if (missing := number("nodata", nodata)) is not None:
            found = [replace(band, nodata=missing) for band in found]
        for band in found:
            if not band.grid.cells:
                raise refused(f"the raster has {band.grid.shape} cells: it must have one at least", "source")
        yield found


def _of_numpy(array: NDArray[Any], where: Where) -> list[Band]:
    if array.ndim not in (2, 3):
        raise refused(
            f"the array has {array.ndim} dimensions: it must be (rows, cols) or (bands, rows, cols)", "source"
        )
    layers = array[np.newaxis] if array.ndim == 2 else array
    grid = where.of_array((layers.shape[1], layers.shape[2]))
    dtype = stored_type(array.dtype, "1")
    masked = isinstance(array, np.ma.MaskedArray)

    def band(at: int) -> Band:
        def read(window: Window) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
            top, bottom, left, right = window
            part = layers[at, top:bottom, left:right]
            if not isinstance(part, np.ma.MaskedArray):
                return part, None
            return np.asarray(cast("Any", part).data), ~np.ma.getmaskarray(part)

        return Band(str(at + 1), grid, dtype, None, masked, read)

    return [band(at) for at in range(layers.shape[0])]


def _of_path(
    path: str, where: Where, unscale: bool | None, stack: contextlib.ExitStack, wanted: Sequence[int | str] | None
) -> list[Band]:
    rasterio = _rasterio()
    opened = stack.enter_context(_open(rasterio, path))
    if opened.count or not opened.subdatasets:
        return _of_rasterio(opened, where, unscale)
    # Variables of a netCDF, Zarr or HDF5: those that are rasters, by their names.
    names = {sub.rsplit(":", 1)[-1].strip("/").replace("/", "_"): sub for sub in cast("list[str]", opened.subdatasets)}
    if wanted is not None:
        chosen = {n: s for n, s in names.items() if any(str(w) == n or str(w).startswith(n + "_") for w in wanted)}
        names = chosen or names
    found: list[Band] = []
    for name, sub in names.items():
        bands = _of_rasterio(stack.enter_context(_open(rasterio, sub)), where, unscale)
        found += [replace(b, label=name if len(bands) == 1 else f"{name}_{b.label}") for b in bands]
    return found


def _open(rasterio: Any, path: str) -> Any:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # said below, as an error
            return rasterio.open(path)
    except rasterio.errors.RasterioIOError as error:
        raise refused(f"GDAL cannot open {path}: {error}", "source") from error


def _rasterio() -> Any:
    with errors.needs("rasterio", "reading raster files"):
        import rasterio  # pyright: ignore[reportMissingTypeStubs]
    return cast("Any", rasterio)


def _of_rasterio(source: Any, where: Where, unscale: bool | None) -> list[Band]:
    rasterio = _rasterio()
    shape = (int(source.height), int(source.width))
    if where.grid is not None or where.bounds is not None or where.transform is not None:
        grid = replace_crs(where, source.crs).of_array(shape)
    else:
        if source.transform.is_identity:
            hint = "gdalwarp makes a raster of its control points" if source.gcps[0] else "give its bounds or transform"
            raise refused(f"{source.name} does not say where it is: {hint}", "bounds")
        grid = of_transform(source.transform, shape, replace_crs(where, source.crs).said_crs(source.name))
    flags = rasterio.enums.MaskFlags
    bands: list[Band] = []
    for at in range(1, source.count + 1):
        if source.colorinterp[at - 1] == rasterio.enums.ColorInterp.alpha:
            continue  # the mask of the others
        scale, offset = float(source.scales[at - 1]), float(source.offsets[at - 1])
        unpacked = _unpacked(scale, offset, f"band {at} of {source.name}", unscale)
        dtype = stored_type(np.dtype(source.dtypes[at - 1]), str(at))
        masked = bool({flags.per_dataset, flags.alpha} & set(source.mask_flag_enums[at - 1]))
        nodata = source.nodatavals[at - 1]
        nodata = None if nodata is None else float(nodata)
        read = _rasterio_reader(source, at, dtype, masked)
        if unpacked:
            read, dtype, nodata, masked = _unscaled(read, nodata, scale, offset), "float64", None, True
        bands.append(Band(str(at), grid, dtype, nodata, masked, read))
    return bands


def replace_crs(where: Where, crs: Any) -> Where:
    """Take the CRS of a rasterio dataset where none was said."""
    if where.crs is not None or not crs:
        return where
    authority = crs.to_authority(confidence_threshold=100)
    return replace(where, crs=":".join(authority) if authority else str(crs.to_wkt()))


def _rasterio_reader(source: Any, at: int, dtype: str, masked: bool) -> Read:
    def read(window: Window) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        top, bottom, left, right = window
        part = ((top, bottom), (left, right))
        values = source.read(at, window=part)
        return values.astype(dtype, copy=False), source.read_masks(at, window=part) != 0 if masked else None

    return read


def _unpacked(scale: float, offset: float, what: str, unscale: bool | None) -> bool:
    """Say whether values are to be unpacked. Refuse packed ones of which that was not said."""
    packed = (scale, offset) != (1.0, 0.0)
    if packed and unscale is None:
        raise refused(
            f"the values of {what} are packed (times {scale:g}, plus {offset:g}): "
            "unscale=True stores what they mean, as float64, unscale=False as they are",
            "unscale",
        )
    return packed and bool(unscale)


def _unscaled(read: Read, nodata: float | None, scale: float, offset: float) -> Read:
    def unpack(window: Window) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        values, valid = read(window)
        if nodata is not None:
            there = values != nodata
            valid = there if valid is None else valid & there
        return values * np.float64(scale) + offset, valid

    return unpack


def _of_xarray(source: Any, where: Where, unscale: bool | None) -> list[Band]:
    if hasattr(source, "data_vars"):
        bands: list[Band] = []
        common = _xarray_crs(source, where)
        for name, variable in source.data_vars.items():
            if _spatial(variable.dims, Y_NAMES) and _spatial(variable.dims, X_NAMES):
                found = _of_xarray(variable, replace(where, crs=_xarray_crs(variable, where) or common), unscale)
                bands += [replace(b, label=str(name) if len(found) == 1 else f"{name}_{b.label}") for b in found]
        if not bands:
            raise refused("no variable of the dataset has an x and a y dimension", "source")
        return bands
    y, x = _spatial(source.dims, Y_NAMES), _spatial(source.dims, X_NAMES)
    if y is None or x is None:
        raise refused(
            f"the dimensions are {tuple(source.dims)}, and one must be an x ({', '.join(X_NAMES)}) "
            f"and one a y ({', '.join(Y_NAMES)}): rename them",
            "source",
        )
    others = [d for d in source.dims if d not in (y, x) and source.sizes[d] > 1]
    if len(others) > 1:
        raise refused(
            f"besides {y} and {x} there are the dimensions {', '.join(others)}: choose in all but one", "source"
        )
    source = source.squeeze([d for d in source.dims if d not in (y, x) and d not in others])
    shape = (int(source.sizes[y]), int(source.sizes[x]))
    flip = False
    if where.grid is not None or where.bounds is not None or where.transform is not None:
        grid = replace(where, crs=_xarray_crs(source, where)).of_array(shape)
    else:
        grid, flip = _grid_of_axes(source, y, x, replace(where, crs=_xarray_crs(source, where)))
    dtype = stored_type(source.dtype, str(source.name or "1"))
    nodata = _number(source.attrs, "_FillValue", "missing_value", "nodata")
    scale, offset = _number(source.attrs, "scale_factor"), _number(source.attrs, "add_offset")
    scale, offset = 1.0 if scale is None else scale, offset or 0.0
    unpacked = _unpacked(scale, offset, f"the array {source.name}" if source.name else "the array", unscale)

    def band(label: str, part: Any) -> Band:
        read = _xarray_reader(part, y, x, dtype, flip)
        if unpacked:
            return Band(label, grid, "float64", None, True, _unscaled(read, nodata, scale, offset))
        return Band(label, grid, dtype, nodata, False, read)

    if not others:
        return [band("1", source)]
    labels = [_label(v) for v in source[others[0]].values] if others[0] in source.coords else None
    return [
        band(labels[i] if labels else str(i + 1), source.isel({others[0]: i})) for i in range(source.sizes[others[0]])
    ]


def _number(attributes: Any, *names: str) -> float | None:
    """Give the first attribute of these names, which netCDF may have as an array of one number."""
    found = next((attributes[name] for name in names if attributes.get(name) is not None), None)
    return None if found is None else float(np.asarray(found).ravel()[0])


def _spatial(dims: Sequence[Any], names: Sequence[str]) -> str | None:
    return next((d for d in dims if str(d).lower() in names), None)


def _label(value: Any) -> str:
    """Name a coordinate: a number, a text, a day or a moment."""
    text = str(value)
    if type(value) is not np.datetime64:
        return text
    return text.removesuffix("000000000").removesuffix(".").removesuffix("T00:00:00").replace(":", "")


def _xarray_crs(source: Any, where: Where) -> str | None:
    if where.crs is not None:
        return where.crs
    places: list[Any] = [source.coords[c].attrs for c in ("spatial_ref", "crs") if c in source.coords] + [source.attrs]
    for attributes in places:
        for key in ("crs_wkt", "spatial_ref", "crs"):
            if isinstance(text := attributes.get(key), str) and text:
                return text
    return None


def _grid_of_axes(source: Any, y: str, x: str, where: Where) -> tuple[Grid, bool]:
    """Give the grid that two axes say, and whether the rows run from the south."""
    starts: list[float] = []
    steps: list[float] = []
    for dim in (x, y):
        if dim not in source.coords:
            raise refused(f"{dim} has no coordinates: give bounds, a transform or a grid", "bounds")
        axis = np.asarray(source[dim].values, dtype=np.float64)
        if len(axis) < 2:
            raise refused(f"{dim} has one coordinate, which says no step: give bounds, a transform or a grid", "bounds")
        step = (axis[-1] - axis[0]) / (len(axis) - 1)
        uneven = float(np.abs(axis - (axis[0] + step * np.arange(len(axis)))).max() / abs(step)) if step else np.inf
        if not uneven <= MAX_UNEVEN_PIXELS:
            raise refused(
                f"the coordinates of {dim} are not evenly spaced: they lie up to {uneven:.3g} pixels off, "
                f"and the limit is {MAX_UNEVEN_PIXELS}",
                dim,
            )
        starts.append(float(axis[0]))
        steps.append(float(step))
    if steps[0] < 0:
        raise refused(f"{x} runs from east to west: sort it first, .sortby({x!r})", x)
    flip = steps[1] > 0
    rows, cols = int(source.sizes[y]), int(source.sizes[x])
    step_x, step_y = steps[0], abs(steps[1])
    north = starts[1] + step_y * (rows - 1) if flip else starts[1]
    half = 0.0 if where.corner else 0.5
    crs = where.said_crs("the array")
    return Grid(crs, rows, cols, starts[0] - half * step_x, north + half * step_y, step_x, step_y), flip


def _xarray_reader(source: Any, y: str, x: str, dtype: str, flip: bool) -> Read:
    rows = int(source.sizes[y])
    source = source.transpose(y, x)

    def read(window: Window) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        top, bottom, left, right = window
        if flip:
            part = source.isel({y: slice(rows - bottom, rows - top), x: slice(left, right)}).values[::-1]
        else:
            part = source.isel({y: slice(top, bottom), x: slice(left, right)}).values
        return part.astype(dtype, copy=False), None

    return read
