"""Draws the pictures of docs/corrections.md from the rasters of the demo.

What is "as stored" is read from the pixel tables by SQL and drawn as a naive reader
would draw it; what is woven comes from the suite. Starts a suite of its own:

    python docs/images/corrections.py [FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import psycopg
import rasterloom as rl
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "examples" / "demo"))

import rasters  # noqa: E402
from load import load  # noqa: E402
from picture import BLUE, INK, LAND, MUTED, ORANGE, STYLE, TEMPERATURE, Field  # noqa: E402
from suite import running_suite  # noqa: E402

SHORE, SEA = "#c9c2b4", "#eef2f5"
WRONG = "#b03a2e"
HEIGHTS = ListedColormap(mpl.colormaps["gist_earth"](np.linspace(0.32, 0.98, 256)))


@dataclass(frozen=True)
class Source:
    """The suite, and the database behind it as the old programs see it."""

    loom: rl.Loom
    database: psycopg.Connection

    def table(self, query: str) -> np.ndarray:
        """Give the rows of a query, float64 of shape (rows, columns)."""
        return np.array(self.database.execute(query).fetchall(), float)  # pyright: ignore[reportArgumentType,reportCallIssue]

    def woven(self, merge: rl.Merge) -> dict[str, Field]:
        """Read a merge, each column on the lattice of the table."""
        table = merge.to_arrow()
        lattice = rl.Lattice.of(table.schema)
        return {name: Field(lattice.x, lattice.y, values) for name, values in rl.to_numpy(table).items()}


def canvas(width: float, height: float) -> Figure:
    """Make a figure of this size in inches."""
    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def titled(axes: Axes, title: str, note: str = "", colour: str = INK) -> None:
    """Say what a panel shows: one line in bold, and one below it."""
    axes.set_title(title + ("\n" if note else ""), color=colour)
    if note:
        axes.text(
            0,
            1.025,
            note,
            transform=axes.transAxes,
            fontsize=8.5,
            color=MUTED,
            va="bottom",
        )


def bare(axes: Axes) -> None:
    """Take out what says nothing."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def corner(source: Source) -> Figure:
    """Draw stored coordinates that name corners: sea on land, and by the indices where it was measured."""
    box = (275.0, 33.0, 285.0, 37.0)
    shore = Field.of(rasters.land())
    stored = source.table("SELECT x_coord, y_coord, value FROM resampled_oisst_19811231 WHERE value > -999")
    oisst = source.woven(source.loom.merge(["oisst_19811231"]))["oisst_19811231"]
    placed_x, placed_y = np.meshgrid(oisst.x, oisst.y)
    known = ~np.ma.getmaskarray(oisst.values)
    right = np.column_stack([placed_x[known], placed_y[known], oisst.values.compressed()])
    figure = canvas(9.6, 2.55)
    for axes, cells, away, title, note, colour in zip(
        figure.subplots(1, 2),
        (stored, right),
        (0, 1),
        ("Coordinates read as centres", "Woven by the indices"),
        (
            "dots: the stored coordinates; the values sit 1\N{DEGREE SIGN} too far west and north",
            "the dots are corners; arrows: half a cell to the centre",
        ),
        (WRONG, BLUE),
        strict=True,
    ):
        axes.set_facecolor(SEA)
        axes.pcolormesh(
            shore.x + 360,
            shore.y,
            np.ma.masked_equal(shore.values, 0),
            cmap=ListedColormap([SHORE]),
        )
        for x, y, value in cells:
            if box[0] - 1 < x < box[2] + 1 and box[1] - 1 < y < box[3] + 1:
                shade = mpl.colormaps[TEMPERATURE](Normalize(4, 26)(value))
                axes.add_patch(
                    mpl.patches.Rectangle(
                        (x - 1, y - 1),
                        2,
                        2,
                        facecolor=shade,
                        edgecolor="white",
                        alpha=0.72,
                    )
                )
                axes.plot(x - away, y + away, "o", color=INK, markersize=4)
                if away and y + away <= box[3]:
                    axes.annotate(
                        "",
                        (x, y),
                        (x - away, y + away),
                        arrowprops={
                            "arrowstyle": "-|>",
                            "color": INK,
                            "linewidth": 0.8,
                        },
                    ).set_clip_on(True)
                axes.text(
                    x,
                    y - 0.18,
                    f"{value:.1f}",
                    ha="center",
                    va="top",
                    fontsize=8,
                    color=INK,
                    clip_on=True,
                )
        axes.set(xlim=(box[0], box[2]), ylim=(box[1], box[3]), aspect="equal")
        bare(axes)
        titled(axes, title, note, colour)
    return figure


def south_up(source: Source) -> Figure:
    """Draw rows stored from south to north: on their head, and turned."""
    stored = source.table("SELECT row_idx, col_idx, value FROM resampled_nc_tas_01")
    naive = np.ma.masked_all((33, 81))
    naive[stored[:, 0].astype(int), stored[:, 1].astype(int)] = stored[:, 2]
    woven = source.woven(source.loom.merge({"rain": "nc_pr_01", "warmth": "nc_tas_01"}))["warmth"]
    figure = canvas(9.6, 2.5)
    panels = figure.subplots(1, 2)
    shades = {"cmap": TEMPERATURE, "norm": Normalize(0, 13)}
    panels[0].imshow(naive, interpolation="nearest", **shades)
    titled(
        panels[0],
        "Row 0 drawn on top",
        "as in the rows of the rain it would be joined with",
        WRONG,
    )
    image = panels[1].imshow(woven.values, interpolation="nearest", **shades)
    titled(
        panels[1],
        "Woven",
        "turned when it is read; the warm coast is in the south-east",
        BLUE,
    )
    for axes in panels:
        axes.set_facecolor(LAND)
        bare(axes)
    bar = figure.colorbar(image, ax=panels, shrink=0.75, pad=0.015)
    bar.outline.set_visible(False)
    bar.set_label("January 1999, \N{DEGREE SIGN}C")
    return figure


def longitude(source: Source) -> Figure:
    """Draw longitudes that begin elsewhere: one layer in two pieces."""
    sst = ["coads_sst_jan", "oisst_19811231"]
    stored = source.woven(source.loom.merge(sst[1:]))[sst[1]]
    table = source.woven(source.loom.merge(sst))
    pieces = source.loom.align(sst).relation(sst[1])
    cut = -pieces.offset[1]  # columns of the layer west of the reference's first
    figure = canvas(9.6, 5.0)
    panels = figure.subplots(2, 2)
    west, east = ORANGE, BLUE
    shades = {"cmap": TEMPERATURE, "norm": Normalize(-2, 31)}
    for axes, field, title, note, colour, starts in (
        (
            panels[0, 0],
            stored,
            "OISST, as stored",
            "columns begin at \N{MINUS SIGN}1\N{DEGREE SIGN}",
            ORANGE,
            (0, cut),
        ),
        (
            panels[0, 1],
            table[sst[0]],
            "COADS, the reference",
            "columns begin at 20\N{DEGREE SIGN}",
            BLUE,
            None,
        ),
        (
            panels[1, 0],
            stored,
            "Column by column",
            "the coasts of COADS, blue, are elsewhere",
            WRONG,
            None,
        ),
        (
            panels[1, 1],
            table[sst[1]],
            "Woven",
            f"two pieces: its first {cut} columns go to the end",
            BLUE,
            (180 - cut, 180),
        ),
    ):
        axes.set_facecolor(LAND)
        axes.imshow(field.values, interpolation="nearest", aspect="equal", **shades)
        if starts:
            first, last = starts
            axes.axvspan(first - 0.5, last - 0.5, color=west, alpha=0.45, linewidth=0)
            other = (last, 180) if first == 0 else (0, first)
            for (a, b), name in ((starts, "A"), (other, "B")):
                axes.text(
                    (a + b) / 2,
                    45,
                    name,
                    fontsize=15,
                    fontweight="bold",
                    ha="center",
                    va="center",
                    color="white",
                )
            axes.axvline((last if first == 0 else first) - 0.5, color=INK, linewidth=1.4)
        bare(axes)
        titled(axes, title, note, colour)
    for axes, shown in ((panels[1, 0], table[sst[0]]), (panels[1, 1], table[sst[0]])):
        axes.contour(
            np.ma.getmaskarray(shown.values),
            levels=[0.5],
            colors=[east],
            linewidths=0.9,
        )
    return figure


def resampling(source: Source) -> Figure:
    """Draw coarse on fine and fine on coarse, around Olinda."""
    band, height = "olinda-l7-b4", "olinda_dem"
    fine = source.woven(source.loom.merge([band, height], reference=band, extent="reference", resampling="bilinear"))
    coarse = source.woven(source.loom.merge([band, height], reference=height, extent="reference", resampling="average"))
    stored = (
        source.woven(source.loom.merge([height]))[height],
        source.woven(source.loom.merge([band]))[band],
    )
    at = stored[0].x[0] + 90 * 62, stored[0].y[0] - 90 * 32
    box = (at[0], at[1] - 1900, at[0] + 2700, at[1])
    figure = canvas(9.6, 6.9)
    panels = figure.subplots(2, 2)
    metres, light = Normalize(0, 55), Normalize(10, 110)
    for axes, field, colours, norm, title, note, colour in (
        (
            panels[0, 0],
            stored[0],
            HEIGHTS,
            metres,
            "Height, as stored",
            "cells of 90 m",
            ORANGE,
        ),
        (
            panels[0, 1],
            fine[height],
            HEIGHTS,
            metres,
            "Height on the lattice of Landsat",
            "bilinear, 28.5 m",
            BLUE,
        ),
        (
            panels[1, 0],
            stored[1],
            "YlGn",
            light,
            "Landsat band 4, as stored",
            "cells of 28.5 m",
            ORANGE,
        ),
        (
            panels[1, 1],
            coarse[band],
            "YlGn",
            light,
            "Landsat on the lattice of the height",
            "average by area, 90 m",
            BLUE,
        ),
    ):
        near = field.within(box)
        shown = axes.pcolormesh(*near.edges(), near.values, cmap=colours, norm=norm, rasterized=True)
        x, y = stored[0].within(box).edges()
        axes.vlines(x, box[1], box[3], color=INK, linewidth=0.35, alpha=0.55)
        axes.hlines(y, box[0], box[2], color=INK, linewidth=0.35, alpha=0.55)
        axes.set(xlim=(box[0], box[2]), ylim=(box[1], box[3]), aspect="equal")
        bare(axes)
        titled(axes, title, note, colour)
        if axes in panels[:, 1]:
            bar = figure.colorbar(shown, ax=axes, shrink=0.8, pad=0.02)
            bar.outline.set_visible(False)
            bar.set_label("m" if norm is metres else "digital number")
    return figure


def drift(source: Source) -> Figure:
    """Draw a band placed by the step that the catalog claims, and by its bounds and shape."""
    bands = {name: Field.of(r) for name, r in zip("123456", rasters.landsat(), strict=True)}
    true = source.loom.align(["olinda-l7-b3", "olinda-l7-b4"]).grids["olinda-l7-b4"]
    claimed, (rows, cols) = 30.0, true.shape
    # Where the claim says that the cell under each place is; outside of it the last one.
    r, c = (np.minimum((np.arange(n) + 0.5) * true.step_x // claimed, n - 1).astype(int) for n in (rows, cols))
    naive = bands["4"].values[np.ix_(r, c)]
    woven = source.woven(source.loom.merge({"b4": "olinda-l7-b4", "b3": "olinda-l7-b3", "b2": "olinda-l7-b2"}))
    figure = canvas(10.6, 3.9)
    panels = figure.subplots(1, 3, width_ratios=[1, 1, 1.18])
    away = np.arange(0, 4001)
    corner = np.s_[rows - 150 : rows, cols - 150 : cols]
    for axes, near, title, note, colour in (
        (
            panels[0],
            naive,
            "By the step that is claimed, 30 m",
            "band 4 (red) runs away from bands 3 and 2",
            WRONG,
        ),
        (
            panels[1],
            woven["b4"].values,
            "By bounds and shape, 28.5 m",
            "the same corner, woven",
            BLUE,
        ),
    ):
        layers = [near, woven["b3"].values, woven["b2"].values]
        axes.imshow(
            np.dstack([stretched(band)[corner] for band in layers]),
            interpolation="nearest",
        )
        bare(axes)
        titled(axes, title, note, colour)
    axes = panels[2]
    axes.axhspan(1e-4, 0.1, color="#d8e6f3", linewidth=0)
    axes.text(8500, 0.0013, "tolerance, 0.1 px", fontsize=8, color=BLUE, ha="right")
    for e, shade in ((1e-4, 0.5), (2e-4, 0.62), (5e-4, 0.75), (9e-4, 0.92)):
        axes.plot(away[1:], away[1:] * e, color=mpl.colormaps["Oranges"](shade), linewidth=1.3)
        axes.text(
            4300,
            4000 * e,
            f"{4000 * e:g}",
            fontsize=7.5,
            color=mpl.colormaps["Oranges"](shade),
            va="center",
        )
    axes.plot(
        away[1 : rows + 1],
        away[1 : rows + 1] * (claimed / true.step_y - 1),
        color=WRONG,
        linewidth=2,
    )
    axes.text(
        330,
        26,
        "the claimed 30 m: 18.5",
        fontsize=8,
        color=WRONG,
        ha="right",
        fontweight="bold",
    )
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(1, 9000),
        ylim=(1e-3, 60),
        xlabel="cells from the origin",
    )
    axes.set_ylabel("px off the lattice")
    axes.spines[["top", "right"]].set_visible(False)
    titled(
        axes,
        "Steps that differ by 1e\N{MINUS SIGN}4 to 9e\N{MINUS SIGN}4",
        "a shift halves what each is off at its end",
    )
    return figure


def stretched(values: np.ma.MaskedArray) -> np.ndarray:
    """Spread the middle 96 % of values over 0 to 1."""
    low, high = np.percentile(values.compressed(), [2, 98])
    return np.clip((values.filled(0).astype(float) - low) / (high - low), 0, 1)


PICTURES: dict[str, Callable[[Source], Figure]] = {
    "corner": corner,
    "south-up": south_up,
    "longitude": longitude,
    "resampling": resampling,
    "drift": drift,
}


def draw(url: str, database_url: str, folder: Path) -> list[Path]:
    """Draw every picture into a folder."""
    drawn: list[Path] = []
    with (
        rl.connect(url) as loom,
        psycopg.connect(database_url) as database,
        mpl.rc_context(STYLE),
    ):
        for name, picture in PICTURES.items():
            drawn.append(folder / f"corrections-{name}.png")
            picture(Source(loom, database)).savefig(drawn[-1], metadata={"Software": None})
    return drawn


def main() -> None:
    """Start a suite that is gone afterwards, and draw from it."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    with (
        tempfile.TemporaryDirectory() as logs,
        running_suite(Path(logs) / "rasterloom.log", "--throwaway") as suite,
    ):
        load(suite.database_url)
        with rl.connect(suite.url) as loom:
            loom.adopt()
        draw(suite.url, suite.database_url, folder)


if __name__ == "__main__":
    main()
