"""The picture of the demo: two layers on their own lattices, and on one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from rasters import Raster

INK, MUTED, LAND = "#22303c", "#6b7680", "#dcd8d0"
BLUE, ORANGE = "#1c5d99", "#c8501e"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "figure.facecolor": "white",
}
TEMPERATURE, DIFFERENCE = "Spectral_r", "RdBu_r"
# The Gulf Stream off Cape Hatteras: a place where half a cell is degrees of temperature.
ZOOM = (282.0, 31.0, 298.0, 41.0)


@dataclass(frozen=True)
class Field:
    """Values on the lattice that they are drawn on; x, y are cell centres, y from north to south."""

    x: np.ndarray
    y: np.ndarray
    values: np.ma.MaskedArray

    @property
    def step(self) -> tuple[float, float]:
        """Size of a cell."""
        return float(self.x[1] - self.x[0]), float(self.y[0] - self.y[1])

    def edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Cell edges: one more than centres on each axis."""
        dx, dy = self.step
        return np.append(self.x - dx / 2, self.x[-1] + dx / 2), np.append(self.y + dy / 2, self.y[-1] - dy / 2)

    def within(self, box: tuple[float, float, float, float]) -> Field:
        """Keep the cells that touch a box."""
        dx, dy = self.step
        cols = np.flatnonzero((self.x > box[0] - dx) & (self.x < box[2] + dx))
        rows = np.flatnonzero((self.y > box[1] - dy) & (self.y < box[3] + dy))
        return Field(self.x[cols], self.y[rows], self.values[np.ix_(rows, cols)])

    @classmethod
    def of(cls, raster: Raster) -> Field:
        """Draw a raster where it was measured."""
        return cls(raster.x, raster.y, raster.values)


def before_and_after(
    path: Path,
    stored: tuple[Field, Field],
    woven: tuple[Field, Field],
    names: tuple[str, str],
    shift: tuple[float, float],
    position_error: float,
) -> None:
    """Draw two layers on their own lattices, and on one.

    Parameters
    ----------
    stored, woven : pair of Field
        The reference layer and the other one, from the source rasters and from
        the merged table.
    shift : (float, float)
        What the merge added to the other layer's coordinates, in degrees.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13.2, 9.9), dpi=130)
        FigureCanvasAgg(figure)
        grid = GridSpec(
            3, 3, figure, left=0.045, right=0.985, top=0.885, bottom=0.115, wspace=0.13, hspace=0.36,
            height_ratios=[1, 1, 0.94],
        )  # fmt: skip
        shades = Normalize(4, 28)
        heading(figure, names, shift)
        for row, (pair, when) in enumerate(((stored, "as stored"), (woven, "woven"))):
            for col, (layer, name, colour) in enumerate(zip(pair, names, (BLUE, ORANGE), strict=True)):
                axes = figure.add_subplot(grid[row, col])
                cells(axes, layer, shades, TEMPERATURE, edge=colour if row == 0 else BLUE)
                axes.set_title(f"{name}, {when}", color=colour)
        lattices(figure.add_subplot(grid[0, 2]), stored, names, shift)
        spread = Normalize(-4, 4)
        difference = Field(woven[0].x, woven[0].y, woven[1].values - woven[0].values)
        axes = figure.add_subplot(grid[1, 2])
        cells(axes, difference, spread, DIFFERENCE, edge=BLUE, sign=True)
        axes.set_title("their difference, cell by cell")
        for col, (layer, title, colours, norm) in enumerate(
            (
                (woven[0], names[0], TEMPERATURE, Normalize(-2, 31)),
                (woven[1], names[1], TEMPERATURE, Normalize(-2, 31)),
                (difference, f"{names[1]} \N{MINUS SIGN} {names[0]}", DIFFERENCE, spread),
            )
        ):
            axes = figure.add_subplot(grid[2, col])
            world(axes, layer, colours, norm)
            axes.set_title(f"{title}, the whole table", fontweight="normal")
            bar = figure.colorbar(
                ScalarMappable(norm, colours), ax=axes, orientation="horizontal", fraction=0.06, pad=0.14, aspect=45
            )
            bar.outline.set_visible(False)
            bar.set_label("\N{DEGREE SIGN}C", labelpad=1)
        figure.text(
            0.045,
            0.022,
            f"No value was changed: every cell of {names[1]} keeps its number (compare the rows), and is now at most "
            f"{position_error:g}\N{DEGREE SIGN} from where it was measured.\n"
            "Numbers in the cells are \N{DEGREE SIGN}C; grey is land, or not measured. The two are a January "
            "climatology and one December day, so they differ.",
            color=MUTED,
            linespacing=1.5,
        )
        figure.savefig(path)


def heading(figure: Figure, names: tuple[str, str], shift: tuple[float, float]) -> None:
    """Say what the picture shows."""
    figure.text(0.045, 0.957, "Two sea surface temperatures, half a cell apart", fontsize=17, fontweight="bold")
    figure.text(
        0.045,
        0.928,
        f"Top: each on its own 2\N{DEGREE SIGN} lattice. Middle: {names[1]} moved by {shift[0]:+g}\N{DEGREE SIGN} "
        f"of longitude onto the lattice of {names[0]}, so that cells can be compared. Both show the Gulf Stream.",
        color=MUTED,
        fontsize=10,
    )


def cells(axes: Axes, layer: Field, norm: Normalize, colours: str, *, edge: str, sign: bool = False) -> None:
    """Draw the cells of the zoom with their edges and numbers."""
    layer = layer.within(ZOOM)
    x_edges, y_edges = layer.edges()
    axes.set_facecolor(LAND)
    axes.pcolormesh(x_edges, y_edges, layer.values, cmap=colours, norm=norm, edgecolors="white", linewidth=0.8)
    for row, col in zip(*np.nonzero(~np.ma.getmaskarray(layer.values)), strict=True):
        x, y, value = layer.x[col], layer.y[row], float(layer.values[row, col])
        if ZOOM[0] < x < ZOOM[2] and ZOOM[1] < y < ZOOM[3]:
            red, green, blue, _ = mpl.colormaps[colours](norm(value))
            dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.55
            text = f"{value:+.1f}" if sign else f"{value:.1f}"
            axes.text(x, y, text, ha="center", va="center", fontsize=6.5, color="white" if dark else INK, clip_on=True)
    frame(axes)
    for side in axes.spines.values():
        side.set(color=edge, linewidth=1.6)


def lattices(axes: Axes, stored: tuple[Field, Field], names: tuple[str, str], shift: tuple[float, float]) -> None:
    """Draw the edges and centres of both lattices over each other, and the shift."""
    for layer, colour, name in zip(stored, (BLUE, ORANGE), names, strict=True):
        near = layer.within(ZOOM)
        x_edges, y_edges = near.edges()
        axes.vlines(x_edges, ZOOM[1], ZOOM[3], color=colour, linewidth=0.9, alpha=0.8)
        axes.hlines(y_edges, ZOOM[0], ZOOM[2], color=colour, linewidth=0.9, alpha=0.8)
        axes.plot(*np.meshgrid(near.x, near.y), ".", color=colour, markersize=4.5)
        axes.plot([], [], ".-", color=colour, linewidth=0.9, label=name)
    other = stored[1]
    x0 = other.x[np.searchsorted(other.x, 289)]
    for y0 in other.y[(other.y > ZOOM[1]) & (other.y < ZOOM[3])]:
        axes.annotate(
            "", (x0 + shift[0], y0 + shift[1]), (x0, y0), arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.4}
        )
    frame(axes)
    axes.set_title(f"both lattices; arrows: the shift, {shift[0]:+g}\N{DEGREE SIGN}")
    axes.legend(loc="lower right", fontsize=8, framealpha=0.95, edgecolor="none")


def frame(axes: Axes) -> None:
    """Show the zoom, in degrees east and north."""
    axes.set(xlim=(ZOOM[0], ZOOM[2]), ylim=(ZOOM[1], ZOOM[3]), aspect="equal")
    axes.xaxis.set_major_formatter(lambda x, _: f"{360 - x:g}\N{DEGREE SIGN}W")
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}\N{DEGREE SIGN}N")
    axes.tick_params(length=2)


def world(axes: Axes, layer: Field, colours: str, norm: Normalize) -> None:
    """Draw a whole layer, with the zoom marked."""
    x_edges, y_edges = layer.edges()
    axes.set_facecolor(LAND)
    axes.pcolormesh(x_edges, y_edges, layer.values, cmap=colours, norm=norm, rasterized=True)
    axes.add_patch(
        mpl.patches.Rectangle(ZOOM[:2], ZOOM[2] - ZOOM[0], ZOOM[3] - ZOOM[1], fill=False, edgecolor=INK, linewidth=1.1)
    )
    axes.set(xlim=(x_edges[0], x_edges[-1]), ylim=(-80, 85), aspect="equal", xticks=[], yticks=[])
