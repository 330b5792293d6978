"""The picture of a layer: a bounded part of it, thinned out by the server."""

# matplotlib is typed in part only.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from rasterloom import errors
from rasterloom._choices import extent_of, merger_reference, resample
from rasterloom._gen.merger.v1 import merger_pb2
from rasterloom._render import number
from rasterloom.grid import Grid, Window
from rasterloom.merge import Merge

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from rasterloom.connection import Connection
    from rasterloom.layers import Layer

COLUMN = "value"
ROBUST = (2.0, 98.0)
"""Percentiles that the colours span: a single odd value does not blacken the rest."""


def preview(
    connection: Connection, layer: Layer, *, extent: tuple[float, float, float, float] | None, pixels: int, cells: int
) -> Figure:
    """Read and draw a part of a layer; see :meth:`Layer.preview`."""
    if pixels < 1 or cells < 1:
        raise errors.InvalidArgument(
            f"pixels is {pixels} and cells is {cells}, and both must be 1 at least",
            reason="INVALID_ARGUMENT",
            fields={"field": "pixels" if pixels < 1 else "cells"},
        )
    if layer.grid is None:
        raise errors.FailedPrecondition(
            f"layer {layer.name!r} has no grid, so it has no picture: {'; '.join(p.message for p in layer.problems)}",
            reason="LAYER_UNREADABLE",
            fields={"layer": layer.name},
        )
    part = _part(layer.grid, extent, cells)
    if 0 in part.shape:
        raise errors.OutOfRange(
            f"no cell of layer {layer.name!r} lies in {extent}", reason="EMPTY_EXTENT", fields={"layer": layer.name}
        )
    every = math.ceil(max(part.shape) / pixels)
    seen = _thinned(layer.grid, part, every)
    values = _read(connection, layer, seen, every)
    return _draw(layer, layer.grid, part, every, seen, values)


def _part(grid: Grid, extent: tuple[float, float, float, float] | None, cells: int) -> Window:
    """Take the cells in ``extent``, or all of the grid; of more than ``cells``, as many in the middle."""
    window = Window(0, grid.rows, 0, grid.cols)
    if extent is not None:
        min_x, min_y, max_x, max_y = (float(side) for side in extent)
        window = Window(
            max(0, math.floor((grid.origin_y - max_y) / grid.step_y + 0.5)),
            min(grid.rows, math.floor((grid.origin_y - min_y) / grid.step_y + 0.5)),
            max(0, math.ceil((min_x - grid.origin_x) / grid.step_x - 0.5)),
            min(grid.cols, math.ceil((max_x - grid.origin_x) / grid.step_x - 0.5)),
        )
    rows, cols = window.shape
    if rows * cols <= cells:
        return window
    # As near to a square as the shape allows, so that a long strip is not read as a line.
    side = math.isqrt(cells)
    taken_rows, taken_cols = min(rows, max(side, cells // cols)), min(cols, max(side, cells // rows))
    top, left = window.row_start + (rows - taken_rows) // 2, window.col_start + (cols - taken_cols) // 2
    return Window(top, top + taken_rows, left, left + taken_cols)


def _thinned(grid: Grid, part: Window, every: int) -> Grid:
    """Give the lattice of the picture: cells as large as ``every`` of the grid's along each side."""
    rows, cols = (max(1, round(count / every)) for count in part.shape)
    return Grid(
        crs=grid.crs,
        rows=rows,
        cols=cols,
        origin_x=grid.origin_x + part.col_start * grid.step_x,
        origin_y=grid.origin_y - part.row_start * grid.step_y,
        step_x=grid.step_x * every,
        step_y=grid.step_y * every,
    )


def _read(connection: Connection, layer: Layer, seen: Grid, every: int) -> NDArray[np.float64]:
    """Read the picture's cells, float64 of shape (rows, cols); NaN where there is no finite value."""
    spec = merger_pb2.MergeSpec(
        layers=[merger_pb2.LayerSelection(name=layer.name, column=COLUMN)],
        reference=merger_reference(seen),
        extent=extent_of("reference"),
        rows_kept=merger_pb2.ROWS_KEPT_ANY,
    )
    resample(spec, {COLUMN: "nearest"} if every > 1 else "none", None)
    values = Merge(connection, spec, progress=False).to_numpy()[COLUMN]
    known = ~np.ma.getmaskarray(values) & np.isfinite(values.data)
    return np.where(known, values.data.astype(np.float64), np.nan)


def _draw(layer: Layer, grid: Grid, part: Window, every: int, seen: Grid, values: NDArray[np.float64]) -> Figure:
    from rasterloom._figure import picture

    figure = picture(6.4, 4.8)
    axes = figure.subplots()
    box = seen.bounds
    known = values[~np.isnan(values)]
    low, high = np.percentile(known, ROBUST) if known.size else (0.0, 1.0)
    image = axes.imshow(
        values,
        extent=(box.min_x, box.max_x, box.min_y, box.max_y),
        interpolation="nearest",
        vmin=float(low),
        vmax=float(high),
    )
    beyond = (bool(known.size) and float(known.min()) < low, bool(known.size) and float(known.max()) > high)
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[beyond]
    figure.colorbar(image, ax=axes, shrink=0.8, extend=extend)
    rows, cols = part.shape
    notes = [f"{grid.rows:,} x {grid.cols:,} cells of {number(grid.step_x)} x {number(grid.step_y)}"]
    if (rows, cols) != grid.shape:
        notes.append(f"{rows:,} x {cols:,} of them")
    if every > 1:
        notes.append(f"one in {every} along each side")
    if not known.size:
        notes.append("no values")
    axes.set_title(f"{layer.name}\n{'; '.join(notes)}", fontsize=9, loc="left")
    axes.tick_params(labelsize=7)
    axes.ticklabel_format(useOffset=False, style="plain")
    return figure
