"""The main job of Rasterloom on real rasters, in half a minute.

Starts the suite (or uses the one at RASTERLOOM_URL), stores 35 real rasters the
way old code left them, adopts them, and weaves three tables, each compared
with numpy. Output: demo-output/.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import model
import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import rasterloom as rl
import rasters
from carolina import carolina as draw_carolina
from carolina import on_lattice
from gallery import gallery
from load import NotOurs, load
from picture import Field, before_and_after
from rich.console import Console
from rich.markup import escape
from suite import ROOT, Suite, SuiteError, running_suite

OUTPUT = ROOT / "demo-output"
Rasters = dict[str, np.ma.MaskedArray]
SST = ("coads_sst_jan", "oisst_19811231")

console = Console(highlight=False)


def main() -> int:
    """Tell the story; the exit code is 0 only when every comparison held."""
    OUTPUT.mkdir(exist_ok=True)
    began = time.monotonic()
    # The report of the alignment tells of the shift at length.
    warnings.simplefilter("ignore", rl.AlignmentWarning)
    try:
        if "RASTERLOOM_URL" not in os.environ:
            console.print("[dim]starting PostgreSQL, aligner, schema and merger; the first time takes longer[/]")
        with running_suite(OUTPUT / "rasterloom.log") as suite:
            differing = story(suite)
    except (SuiteError, NotOurs) as error:
        console.print(f"[bold red]The demo cannot go on:[/] {escape(str(error))}", soft_wrap=True)
        return 1
    except rl.RasterloomError as error:
        console.print(f"[bold red]{error.reason or error.code}:[/] {escape(error.message)}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
        return 130
    ending(differing, time.monotonic() - began)
    return 1 if differing else 0


def story(suite: Suite) -> int:
    """Load, adopt, align, merge, compare; returns the number of cells that differ from numpy."""
    with rl.connect(suite.url) as loom:
        heading("What years of use left in the database")
        store(suite)
        adoption = loom.adopt()
        say(f"Rasterloom adopted the catalog and changed nothing of it: {escape(str(adoption))}.")
        print_block(str(loom.layers()))

        heading("1. Two sea surface temperatures, half a cell apart")
        print_block(str(loom.align(SST)))
        sst, differing = weave(loom.merge(SST), OUTPUT / "sst.parquet", expected_sst)

        heading("2. Six Landsat bands, as the bytes they once were")
        bands = [f"olinda-l7-b{band}" for band in rasters.BANDS]
        olinda, more = weave(loom.merge(bands, types="declared"), OUTPUT / "olinda.parquet", expected_olinda)
        differing += more

        heading("3. North Carolina: 24 months of climate, height and land, of three resolutions")
        merge = north_carolina(loom)
        print_block("\n".join(merge.plan.warnings))
        carolina, more = weave(merge, OUTPUT / "north_carolina.parquet", expected_north_carolina)
        differing += more
        predicted, r2 = learn(OUTPUT / "north_carolina.parquet", carolina)

        with console.status("painting"):
            paint(loom.align(SST).relation(SST[1]), sst, carolina, olinda)
            paint_carolina(carolina, predicted, r2)
    return differing


def store(suite: Suite) -> None:
    """Put the rasters into the database, unless they are there."""
    if not suite.database_url:
        say("RASTERLOOM_URL is set and DATABASE_URL is not: taking the layers that are there.")
        return
    began = time.monotonic()
    with console.status("storing the rasters"):
        try:
            count = load(suite.database_url)
        except psycopg.Error as error:
            raise SuiteError(f"the rasters cannot be stored: {str(error).strip()}") from error
    if count:
        say(f"35 real rasters are now {count:,} pixel rows in 35 tables, in the formats of three generations of code "
            f"({time.monotonic() - began:.1f} s).")  # fmt: skip
    else:
        say("35 real rasters are there from an earlier run, as pixel rows in the formats of three generations of code.")


def north_carolina(loom: rl.Loom) -> rl.Merge:
    """Describe one table on the lattice of the climate: 24 months, height and land."""
    months = [f"nc_{variable}_{month:02d}" for variable in ("pr", "tas") for month in rasters.MONTHS]
    layers = {name: name for name in months} | {"elevation": "nc_relief", "land": "nc_land"}
    return loom.merge(
        layers,
        reference=months[0],
        extent="reference",
        rows="all",
        resampling={"elevation": "average", "land": "average"},
    )


def learn(path: Path, carolina: dict[str, Field]) -> tuple[Field, tuple[float, float]]:
    """Train the small model on the file, and print its scores; gives its predictions, and R² without and with."""
    table = pq.read_table(path)
    place, all_four = model.score(table, model.PLACE), model.score(table, (*model.PLACE, *model.RESAMPLED))
    say("A linear model of July's mean temperature; each block of one degree is predicted by one that never saw it:")
    for what, got in (("x and y alone", place), ("with height and land", all_four)):
        say(f"  {what:<22}R\N{SUPERSCRIPT TWO} [bold]{got.r2:.3f}[/], off by {got.error:.2f} \N{DEGREE SIGN}C")
    say(f"It finds {model.lapse_rate(table):+.1f} \N{DEGREE SIGN}C a kilometre of height.")
    positions = rl.Lattice.of(table.schema).positions(table)
    return on_lattice(carolina["elevation"], positions, all_four.predicted), (place.r2, all_four.r2)


def weave(merge: rl.Merge, path: Path, expected: Callable[[rl.Lattice], Rasters]) -> tuple[dict[str, Field], int]:
    """Merge into a Parquet file, read that file back and compare it with numpy."""
    began = time.monotonic()
    merge.to_parquet(path, overwrite=True)
    seconds = time.monotonic() - began
    table = pq.read_table(path)
    columns = len(table.column_names)
    say(
        f"[bold]{path.relative_to(ROOT)}[/]: {table.num_rows:,} rows, {columns} columns, "
        f"{path.stat().st_size / 1024:,.0f} KiB, in {seconds:.2f} s."
    )
    lattice = rl.Lattice.of(table.schema)
    differing = compare(table, lattice, expected(lattice))
    verdict = "[bold green]0 cells differ[/]" if not differing else f"[bold red]{differing:,} cells differ[/]"
    say(f"Checked against numpy on the source rasters: {verdict}.")
    arrays = rl.to_numpy(table)
    return {name: Field(lattice.x, lattice.y, values) for name, values in arrays.items()}, differing


def compare(table: pa.Table, lattice: rl.Lattice, expected: Rasters) -> int:
    """Count cells of the table that are not what numpy says: value, type, validity, place or order.

    Values are compared by their bits, and means of resampled columns to 1e-9 of the
    largest: numpy adds up in another order.
    """
    actual = rl.to_numpy(table)
    if list(actual) != list(expected):
        raise SuiteError(f"the table has the columns {list(actual)}, and should have {list(expected)}")
    resampled = {layer["column"] for layer in lattice.layers if "resampling" in layer}
    differing = 0
    any_value = np.zeros(lattice.window.shape, bool)
    for name, should in expected.items():
        valid, is_valid = ~np.ma.getmaskarray(should), ~np.ma.getmaskarray(actual[name])
        differing += int(np.count_nonzero(valid != is_valid))
        both = valid & is_valid
        left, right = should.data[both].astype(actual[name].dtype), actual[name].data[both]
        if name in resampled:
            close = np.isclose(left, right, rtol=0, atol=1e-9 * abs(left).max())
            differing += int(np.count_nonzero(~close))
        else:
            differing += int(np.count_nonzero(bits(left) != bits(right)))
        any_value |= valid
    positions = lattice.positions(table)
    if not np.array_equal(positions, np.flatnonzero(any_value)):
        differing += max(1, abs(len(positions) - int(any_value.sum())))
    return differing


def bits(values: np.ndarray) -> np.ndarray:
    """View values as whole numbers: equal bits, not equal numbers, since -0.0 is not 0.0."""
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")


def expected_sst(lattice: rl.Lattice) -> Rasters:
    """Place both on the lattice of COADS, OISST one degree to the east, around the globe where need be."""
    coads, oisst = rasters.coads(), rasters.oisst()
    lattice_x, lattice_y = lattice.x, lattice.y
    out: Rasters = {}
    for raster, shift in ((coads, 0.0), (oisst, 1.0)):
        placed = np.ma.masked_all(lattice.window.shape, raster.values.dtype)
        cols = ((raster.x + shift - (lattice_x[0] - 1)) % 360 / 2).astype(int)
        rows = np.searchsorted(-lattice_y, -raster.y)
        placed[np.ix_(rows, cols)] = raster.values
        out[raster.name] = placed
    return out


def expected_north_carolina(lattice: rl.Lattice) -> Rasters:
    """Take the climate as it is, and means of height and land over the area of each of its cells."""
    layers = [*rasters.north_carolina("pr", ""), *rasters.north_carolina("tas", "")]
    out = {raster.name: raster.values for raster in layers}
    sea = np.ma.getmaskarray(layers[0].values)
    for name, raster, turn in (("elevation", rasters.relief(), 360), ("land", rasters.land(), 0)):
        over_x = overlaps(lattice.x, lattice.grid.step_x, raster.x - turn, raster.step[0])
        over_y = overlaps(lattice.y, lattice.grid.step_y, raster.y, raster.step[1])
        sums = over_y @ raster.values.data.astype(float) @ over_x.T
        covered = np.maximum(np.outer(over_y.sum(1), over_x.sum(1)), np.finfo(float).tiny)
        out[name] = np.ma.masked_array(sums / covered, sea)
    return out


def overlaps(centres: np.ndarray, step: float, of: np.ndarray, of_step: float) -> np.ndarray:
    """Length that each cell of an axis shares with each cell of another: (len(centres), len(of))."""
    east = np.minimum(centres[:, None] + step / 2, of[None, :] + of_step / 2)
    west = np.maximum(centres[:, None] - step / 2, of[None, :] - of_step / 2)
    return np.maximum(east - west, 0)


def expected_olinda(_: rl.Lattice) -> Rasters:
    """Take the rasters as they are: one lattice."""
    return {raster.name: raster.values for raster in rasters.landsat()}


def paint(shift: rl.Relation, sst: dict[str, Field], carolina: dict[str, Field], olinda: dict[str, Field]) -> None:
    """Draw the first two pictures."""
    before_and_after(
        OUTPUT / "before-and-after.png",
        stored=(Field.of(rasters.coads()), Field.of(rasters.oisst())),
        woven=(sst[SST[0]], sst[SST[1]]),
        names=("COADS", "OISST"),
        shift=shift.shift,
        position_error=max(shift.position_error),
    )
    gallery(OUTPUT / "gallery.png", carolina, olinda)


def paint_carolina(woven: dict[str, Field], predicted: Field, r2: tuple[float, float]) -> None:
    """Draw height and land as stored and as woven, and the model."""
    relief = Field.of(rasters.relief())
    draw_carolina(
        OUTPUT / "north-carolina.png",
        {"elevation": Field(relief.x - 360, relief.y, relief.values), "land": Field.of(rasters.land())},
        {"elevation": woven["elevation"], "land": woven["land"], "temperature": woven[model.TARGET]},
        predicted,
        r2=r2,
    )


def ending(differing: int, seconds: float) -> None:
    """Say what there is to see, and what to try next."""
    heading("Look")
    for name, what in (
        ("before-and-after.png", "both temperatures on their own lattices, and on one"),
        ("gallery.png", "the columns of the other two tables"),
        ("north-carolina.png", "three resolutions on one lattice, and the model"),
        ("sst.parquet", "x, y, coads_sst_jan, oisst_19811231"),
        ("north_carolina.parquet", "x, y, 24 months, height and land"),
        ("olinda.parquet", "x, y and six bands"),
    ):
        console.print(f"  demo-output/[bold]{name:<24}[/]{what}", soft_wrap=True)
    heading("Try")
    console.print(
        "  .bin/rasterloom up                         the suite, until Ctrl-C; it has these layers\n"
        "  .bin/rasterloom align coads_sst_jan oisst_19811231\n"
        "  .venv/bin/python                           then:\n"
        "    >>> import rasterloom as rl\n"
        "    >>> loom = rl.connect()\n"
        "    >>> loom.merge(['coads_sst_jan', 'oisst_19811231'], rows='all').to_pandas().corr()\n"
        "  examples/north_carolina.ipynb              the third table and its model, step by step",
        soft_wrap=True,
    )
    if differing:
        console.print(f"\n[bold red]{differing:,} cells differ from numpy: this is a bug.[/]")
    console.print(f"\n[dim]{seconds:.0f} s in all[/]")


def heading(text: str) -> None:
    """Start a part of the story."""
    console.print(f"\n[bold cyan]{text}[/]")


def say(text: str) -> None:
    """Print a sentence, wrapped to the terminal."""
    console.print(text)


def print_block(text: str) -> None:
    """Print a table as it is."""
    console.print()
    console.print(text, markup=False, soft_wrap=True)
    console.print()


if __name__ == "__main__":
    sys.exit(main())
