"""Draws docs/images/lattices.png: two lattices half a pixel apart, and one that drifts.

python docs/images/lattices.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

REFERENCE, LAYER, ARROW, SHIFTED = "#1c5d99", "#c8501e", "#22303c", "#2f855a"


def apart(axes) -> None:
    """Draw a layer half a pixel west of the reference, and its shift."""
    for i in range(5):
        axes.axvline(i, color=REFERENCE, linewidth=1.2)
        axes.axhline(i, color=REFERENCE, linewidth=1.2)
        axes.axvline(i + 0.5, color=LAYER, linewidth=1.2, linestyle=(0, (4, 4)))
        axes.axhline(i, color=LAYER, linewidth=1.2, linestyle=(0, (4, 4)))
    for row in range(4):
        for col in range(4):
            axes.plot(col + 0.5, row + 0.5, "o", color=REFERENCE, markerfacecolor="none", markersize=6)
            axes.plot(col, row + 0.5, ".", color=LAYER, markersize=6)
            axes.annotate(
                "", (col + 0.46, row + 0.5), (col + 0.03, row + 0.5), arrowprops={"arrowstyle": "-|>", "color": ARROW}
            )
    axes.set(xlim=(-0.2, 4.2), ylim=(-0.2, 4.2), aspect="equal", xticks=range(5), yticks=range(5))
    axes.set_title(
        "Half a pixel apart: one shift of +0.5 px (arrows)\nputs every cell on the lattice; 0 px remain",
        fontsize=10,
        loc="left",
    )
    axes.set_xlabel("columns of the reference")


def drift(axes) -> None:
    """Draw the line of a layer whose step is 1 + 5e-4 times the reference's."""
    e = np.array([0, 4000])
    away = e * 5e-4
    axes.axhspan(-0.1, 0.1, color="#d8e6f3", label="tolerance, ±0.1 px")
    axes.plot(e, away, color=LAYER, label="as stored: displaced by up to 2 px")
    axes.plot(e, away - 1, color=SHIFTED, label="after the best shift: 1 px remains")
    axes.annotate("", (2000, 0.03), (2000, 0.97), arrowprops={"arrowstyle": "-|>", "color": ARROW})
    axes.text(1940, 0.3, "the middle goes to 0:\nhere by a whole pixel", fontsize=9, ha="right")
    axes.axhline(0, color=REFERENCE, linewidth=1)
    axes.set(xlim=(0, 4000), ylim=(-1.4, 2.4), xlabel="column of the layer", ylabel="distance from the lattice, px")
    axes.set_title(
        "Drift: steps of 10.005 m and 10 m over 4,000 columns;\nno single shift mends both ends",
        fontsize=10,
        loc="left",
    )
    axes.legend(fontsize=8, loc="upper left")


def main() -> None:
    """Write the picture beside this file."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    apart(left)
    drift(right)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
