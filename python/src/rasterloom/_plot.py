"""The picture of an alignment report."""

# matplotlib is typed in part only.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from rasterloom._render import number
from rasterloom.grid import NOT_MEASURED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rasterloom.alignment import AlignmentReport
    from rasterloom.grid import Grid, Relation

REFERENCE, LAYER, SHIFT = "#1c5d99", "#c8501e", "#22303c"
MAX_PANELS = 6
TURN = 360.0


def plot_alignment(report: AlignmentReport, *, cells: int) -> Figure:
    """Draw one panel per way of lying on the reference; at most six, the largest displacement first."""
    from rasterloom._figure import picture

    groups: dict[tuple[object, ...], list[Relation]] = {}
    for relation in report.relations:
        if relation.layer == report.reference_layer and len(report.relations) > 1:
            continue
        key = (relation.verdict, *(round(v, 6) for v in (*relation.shift_pixels, *relation.residual_pixels)))
        groups.setdefault(key, []).append(relation)
    shown = sorted(groups.values(), key=lambda group: -max(group[0].displacement_pixels))[:MAX_PANELS]
    columns = min(3, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = picture(4.4 * columns, 4.6 * rows)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, group in zip(panels.flat, shown, strict=False):
        axes.set_axis_on()
        _panel(axes, report, group, cells)
    return figure


def _panel(axes: Axes, report: AlignmentReport, group: list[Relation], cells: int) -> None:
    relation = group[0]
    more = f" and {len(group) - 1} more" if len(group) > 1 else ""
    measured = relation.verdict not in NOT_MEASURED
    shift = f"shift {number(relation.shift.x)}, {number(relation.shift.y)}; " if any(relation.shift) else ""
    axes.set_title(
        f"{relation.layer}{more}\n{relation.verdict}"
        + (f": {shift}residual {number(max(relation.residual_pixels))} px" if measured else ""),
        fontsize=9,
        loc="left",
    )
    axes.tick_params(labelsize=7)
    grid = report.grids.get(relation.layer)
    if grid is None or not measured:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no common lattice to draw", ha="center", transform=axes.transAxes)
        return
    reference, turn = report.reference, relation.longitude_turns * TURN
    box = _window(reference, grid, turn, cells)
    # Where lattices coincide, the dashes of the one show the other beneath.
    for drawn, by, colour, label, line, mark in (
        (reference, 0.0, REFERENCE, report.reference_layer or "reference", "-", "o"),
        (grid, turn, LAYER, relation.layer, (0, (4, 4)), "."),
    ):
        x, y = _inside(drawn, by, box)
        axes.vlines(x - drawn.step_x / 2, box[1], box[3], color=colour, linewidth=1, linestyle=line)
        axes.hlines(y - drawn.step_y / 2, box[0], box[2], color=colour, linewidth=1, linestyle=line)
        face = "none" if mark == "o" else colour
        axes.plot(*np.meshgrid(x, y), mark, color=colour, markersize=5, markerfacecolor=face)
        axes.plot([], [], mark, linestyle=line, color=colour, markerfacecolor="none", linewidth=1, label=label)
    if any(relation.shift):
        x, y = _inside(grid, turn, box)
        for at_x, at_y in np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2):
            axes.annotate(
                "",
                (at_x + relation.shift.x, at_y + relation.shift.y),
                (at_x, at_y),
                arrowprops={"arrowstyle": "-|>", "color": SHIFT, "linewidth": 1.2},
                annotation_clip=True,
            )
    axes.set(xlim=(box[0], box[2]), ylim=(box[1], box[3]), aspect=reference.step_x / reference.step_y)
    axes.ticklabel_format(useOffset=False, style="plain")
    axes.legend(fontsize=7, loc="upper right", framealpha=0.95, edgecolor="none")


def _window(reference: Grid, grid: Grid, turn: float, cells: int) -> tuple[float, float, float, float]:
    """Take cells of the reference in the middle of what both cover: (min_x, min_y, max_x, max_y)."""
    a, b = reference.bounds, grid.bounds
    middle_x = (max(a.min_x, b.min_x + turn) + min(a.max_x, b.max_x + turn)) / 2
    middle_y = (max(a.min_y, b.min_y) + min(a.max_y, b.max_y)) / 2
    west = reference.origin_x + round((middle_x - reference.origin_x) / reference.step_x - cells / 2) * reference.step_x
    north = (
        reference.origin_y - round((reference.origin_y - middle_y) / reference.step_y - cells / 2) * reference.step_y
    )
    margin_x, margin_y = 0.15 * reference.step_x, 0.15 * reference.step_y
    return (
        west - margin_x,
        north - cells * reference.step_y - margin_y,
        west + cells * reference.step_x + margin_x,
        north + margin_y,
    )


def _inside(grid: Grid, turn: float, box: tuple[float, float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Give the centres of the cells that touch the box; computed there only, since grids may be huge."""
    first = math.floor((box[0] - turn - grid.origin_x) / grid.step_x)
    last = math.ceil((box[2] - turn - grid.origin_x) / grid.step_x)
    top = math.floor((grid.origin_y - box[3]) / grid.step_y)
    bottom = math.ceil((grid.origin_y - box[1]) / grid.step_y)
    x = grid.origin_x + turn + (np.arange(first, last + 1) + 0.5) * grid.step_x
    y = grid.origin_y - (np.arange(top, bottom + 1) + 0.5) * grid.step_y
    return x, y
