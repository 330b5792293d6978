"""The third picture of the demo: three resolutions, one lattice, and a model."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from picture import INK, LAND, MUTED, STYLE, Field

# Pamlico Sound and the Outer Banks: a coast of many cells of 30 seconds.
COAST = (-77.5, 34.75, -75.25, 36.25)
HEIGHTS, SHARES, TEMPERATURE, DIFFERENCE = "terrain", "BuGn", "Spectral_r", "RdBu_r"


def carolina(
    path: Path, sources: dict[str, Field], woven: dict[str, Field], predicted: Field, *, r2: tuple[float, float]
) -> None:
    """Draw height and land as stored and as woven, and what a model makes of them.

    Parameters
    ----------
    sources, woven : dict of Field
        Height and land from their own rasters and from the table, and the
        temperature that is predicted, from the table: ``elevation``, ``land``,
        ``temperature``.
    r2 : (float, float)
        Of the model without and with the resampled columns.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13.2, 6.3), dpi=130)
        FigureCanvasAgg(figure)
        figure.text(0.035, 0.945, "Three resolutions, one lattice", fontsize=17, fontweight="bold")
        figure.text(
            0.035,
            0.908,
            "Left and middle: height (5\N{PRIME}) and land (30\N{DOUBLE PRIME}) as stored, and resampled to the "
            "1/8\N{DEGREE SIGN} of the climate by area; the lattice is drawn over both. "
            "Right: July 1999, and a linear model of it.",
            color=MUTED,
            fontsize=10,
        )
        panels = figure.subplots(2, 3, width_ratios=[1, 1, 1.55])
        figure.subplots_adjust(left=0.035, right=0.965, top=0.83, bottom=0.03, wspace=0.08, hspace=0.16)
        lattice = woven["elevation"]
        for col, (name, colours, norm, title) in enumerate(
            (
                ("elevation", HEIGHTS, Normalize(-60, 60), "height"),
                ("land", SHARES, Normalize(0, 1), "land"),
            )
        ):
            for row, (field, when) in enumerate(((sources[name], "as stored"), (woven[name], "woven"))):
                coast(panels[row, col], field, lattice, colours, norm)
                panels[row, col].set_title(f"{title}, {when}")
        region(
            panels[0, 2],
            woven["temperature"],
            TEMPERATURE,
            Normalize(20, 29),
            "temperature of July 1999, \N{DEGREE SIGN}C",
        )
        wrong = Field(lattice.x, lattice.y, predicted.values - woven["temperature"].values)
        region(
            panels[1, 2],
            wrong,
            DIFFERENCE,
            Normalize(-3, 3),
            f"model \N{MINUS SIGN} measured: R\N{SUPERSCRIPT TWO} {r2[1]:.2f}, from x and y alone {r2[0]:.2f}",
        )
        figure.savefig(path)


def coast(axes: Axes, field: Field, lattice: Field, colours: str, norm: Normalize) -> None:
    """Draw the cells of the coast, with the lattice over them."""
    near, warp = field.within(COAST), lattice.within(COAST)
    axes.set_facecolor(LAND)
    axes.pcolormesh(*near.edges(), near.values, cmap=colours, norm=norm, rasterized=True)
    x, y = warp.edges()
    axes.vlines(x, COAST[1], COAST[3], color=INK, linewidth=0.35, alpha=0.6)
    axes.hlines(y, COAST[0], COAST[2], color=INK, linewidth=0.35, alpha=0.6)
    axes.set(xlim=(COAST[0], COAST[2]), ylim=(COAST[1], COAST[3]), aspect="equal", xticks=[], yticks=[])


def region(axes: Axes, field: Field, colours: str, norm: Normalize, title: str) -> None:
    """Draw a whole column of the table."""
    axes.set_facecolor(LAND)
    axes.pcolormesh(*field.edges(), field.values, cmap=colours, norm=norm, rasterized=True)
    axes.set(aspect="equal", xticks=[], yticks=[])
    axes.set_title(title)
    bar = axes.figure.colorbar(ScalarMappable(norm, colours), ax=axes, fraction=0.018, pad=0.015)
    bar.outline.set_visible(False)


def on_lattice(lattice: Field, positions: np.ndarray, values: np.ndarray) -> Field:
    """Lay a value for each row of a table out on its lattice."""
    out = np.ma.masked_all(lattice.values.shape)
    out.flat[positions] = values
    return Field(lattice.x, lattice.y, out)
