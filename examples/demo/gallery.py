"""The second picture of the demo: what is in the two wide tables."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from picture import MUTED, STYLE, Field

MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
SEA = "#f1efea"


def gallery(path: Path, north_carolina: dict[str, Field], olinda: dict[str, Field]) -> None:
    """Draw every column of two tables: 24 months of North Carolina, six Landsat bands."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13.2, 8.3), dpi=130)
        FigureCanvasAgg(figure)
        figure.text(0.03, 0.95, "24 layers in one table, six in another", fontsize=17, fontweight="bold")
        figure.text(
            0.03,
            0.918,
            "Left: one column a picture; North Carolina in 1999, the sea is null. Right: Olinda, Brazil, three columns "
            "a picture.",
            color=MUTED,
            fontsize=10,
        )
        _, body = figure.subfigures(2, 1, height_ratios=[0.1, 0.9])
        left, right = body.subfigures(1, 2, width_ratios=[2.05, 1])
        upper, lower = left.subfigures(2, 1)
        months(upper, north_carolina, "pr", "YlGnBu", "precipitation, mm a month")
        months(lower, north_carolina, "tas", "Spectral_r", "mean temperature, \N{DEGREE SIGN}C")
        landsat(right, olinda)
        figure.savefig(path)


def months(part: SubFigure, fields: dict[str, Field], variable: str, colours: str, label: str) -> None:
    """Draw twelve months on one scale of colours."""
    shown = [fields[f"nc_{variable}_{m:02d}"] for m in range(1, 13)]
    norm = Normalize(*np.percentile(np.ma.stack([f.values for f in shown]).compressed(), [1, 99]))
    panels = part.subplots(3, 4)
    part.subplots_adjust(left=0.045, right=0.9, top=0.97, bottom=0.04, wspace=0.04, hspace=0.05)
    for axes, field, month in zip(panels.flat, shown, MONTHS, strict=True):
        axes.set_facecolor(SEA)
        axes.pcolormesh(*field.edges(), field.values, cmap=colours, norm=norm, rasterized=True)
        axes.text(0.98, 0.07, month, transform=axes.transAxes, ha="right", color=MUTED, fontsize=8)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    bar = part.colorbar(ScalarMappable(norm, colours), cax=part.add_axes((0.925, 0.06, 0.011, 0.88)))
    bar.outline.set_visible(False)
    bar.set_label(label)


def landsat(part: SubFigure, fields: dict[str, Field]) -> None:
    """Compose pictures of three bands each."""
    panels = part.subplots(2, 1)
    part.subplots_adjust(left=0.03, right=0.96, top=0.945, bottom=0.04, hspace=0.12)
    for axes, bands, title in zip(
        panels,
        ((3, 2, 1), (4, 3, 2)),
        ("bands 3, 2, 1: as the eye sees it", "bands 4, 3, 2: plants in red"),
        strict=True,
    ):
        axes.imshow(
            np.dstack([stretch(fields[f"olinda-l7-b{band}"].values) for band in bands]), interpolation="nearest"
        )
        axes.set_title(title, fontweight="normal")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)


def stretch(values: np.ma.MaskedArray) -> np.ndarray:
    """Spread the middle 96 % of values over 0 to 1, as is usual for satellite pictures."""
    low, high = np.percentile(values.compressed(), [2, 98])
    return np.clip((values.filled(0).astype(float) - low) / (high - low), 0, 1)
