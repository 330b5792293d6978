"""Layers of other resolutions, merged by the real suite and resampled by GDAL, compared cell by cell.

``RASTERLOOM_PROVE_PAIRS`` is the number of generated pairs (12), ``RASTERLOOM_PROVE_SEED``
the seed of a run to see again. No cell may differ from exact arithmetic by more than 1e-9,
and none from GDAL but by a reason that docs/resampling.md lists, with its evidence.
"""

from __future__ import annotations

import collections
import math
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psycopg
import pyarrow.compute as pc
import pytest
import rasterio
import rasters

import rasterloom as rl

from .gdal import COMPUTED, METHODS, NODATA, oracle, request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    import suite as demo_suite

TOLERANCE = 1e-9
GLOBAL_RELIEF = Path(__file__).resolve().parents[2] / "test" / "golden" / "resample" / "etopo20_north.tif"
STORED = {"float32": "real", "int16": "smallint"}


@pytest.fixture
def database(suite: demo_suite.Suite) -> Iterator[psycopg.Connection]:
    with psycopg.connect(suite.database_url, autocommit=True) as connection:
        yield connection


def store(loom: rl.Loom, database: psycopg.Connection, name: str, grid: rl.Grid, values: np.ndarray) -> None:
    """Store a layer with NaN or NODATA as absent, NULL or nodata, in turn."""
    database.execute(f"DROP TABLE IF EXISTS public.{name}")
    database.execute(
        f"CREATE TABLE public.{name} (row_idx int NOT NULL, col_idx int NOT NULL, value {STORED[values.dtype.name]}, "
        "PRIMARY KEY (row_idx, col_idx))"
    )
    missing = np.isnan(values) if values.dtype.kind == "f" else values == NODATA
    with database.cursor().copy(f"COPY public.{name} FROM STDIN") as copy:
        for row, col in np.ndindex(values.shape):
            value = values[row, col].item()
            if missing[row, col]:
                if (row + col) % 3 == 0:
                    continue
                value = None if (row + col) % 3 == 1 else NODATA
            copy.write_row((row, col, value))
    loom.register(name, name, grid, dtype=values.dtype.name, nodata=NODATA)


def merged(loom: rl.Loom, name: str, ref: rl.Grid, method: str, min_share: float = 0) -> np.ndarray:
    """Resample a layer onto a lattice by the suite: float64, NaN where there is no value."""
    merge = loom.merge(
        {"v": name},
        reference=ref,
        extent="reference",
        rows="every",
        coordinates="row_col",
        resampling={"v": method},
        min_share=min_share,
        progress=False,
    )
    table = merge.to_arrow()
    assert table.num_rows == ref.rows * ref.cols
    return table["v"].to_numpy().astype(np.float64).reshape(ref.shape)


def differing(a: np.ndarray, b: np.ndarray, size: np.ndarray | float) -> np.ndarray:
    """Cells where only one has a value, or where values differ by more than the tolerance."""
    with np.errstate(invalid="ignore"):
        apart = ~(np.abs(a - b) <= TOLERANCE * np.maximum(np.maximum(np.abs(a), np.abs(b)), size))
    return apart & ~(np.isnan(a) & np.isnan(b))


class Comparison:
    """How many cells were compared, and how they compare with GDAL's."""

    def __init__(self) -> None:
        self.cells = self.values = 0
        self.reasons: collections.Counter[str] = collections.Counter()

    def add(self, got: np.ndarray, asked: dict[str, Any], values: np.ndarray, which: str) -> None:
        self.cells += got.size
        self.values += int(np.count_nonzero(~np.isnan(got)))
        method = asked["method"]
        valid = ~np.isnan(values) if values.dtype.kind == "f" else values != NODATA
        want = {"exact": oracle.by_rule(asked, values, valid), "gdal": oracle.by_gdal(asked, values)}
        if not any(differing(got, each, 0).any() for each in want.values()):
            return
        # What differences are relative to, and evidence of their reasons.
        want = oracle.answer(asked, values.tobytes())
        size = want["size"] if method in COMPUTED else 0
        wrong = differing(got, want["exact"], size)
        assert not wrong.any(), f"{which}, {method}: {wrong.sum()} cells differ from the exact result"
        left = differing(got, want["gdal"], size)
        for reason, explained in reasons(got, want, method, size).items():
            self.reasons[reason] += int(np.count_nonzero(left & explained))
            left &= ~explained
        assert not left.any(), f"{which}, {method}: {left.sum()} cells differ from GDAL's without a listed reason"

    def __str__(self) -> str:
        listed = ", ".join(f"{n} {reason}" for reason, n in self.reasons.items() if n) or "none"
        return f"{self.cells:,} cells, {self.values:,} values: 0 differ from exact arithmetic; from GDAL: {listed}"


def reasons(
    got: np.ndarray, want: dict[str, np.ndarray], method: str, size: np.ndarray | float
) -> dict[str, np.ndarray]:
    """Give the reasons that docs/resampling.md lists, with the cells for which there is evidence of them."""
    gdal = want["gdal"]

    def is_it(name: str) -> np.ndarray:
        return ~differing(want[name].astype(np.float32), gdal.astype(np.float32), size)

    out: dict[str, np.ndarray] = {}
    if method == "average":
        out["average across the border"] = ~differing(want["stretched"], gdal, size)
    if method in ("mode", "min", "max", "average"):
        out["touched outside"] = np.isnan(got) & (want["share"] < TOLERANCE)
    if method == "mode":
        out["mode by count"] = is_it("counted") | (want["counted"] == -1)
    if method == "sum":
        out["sliver of a sum"] = np.isnan(got) & (np.abs(gdal) < TOLERANCE)
    if method == "cubic":
        either = ~differing(want["linear"], gdal, size) | ~differing(want["convolved"], gdal, size)
        out["cubic on a centre"] = (want["tied"] == 1) & either
    if method in COMPUTED:
        with np.errstate(invalid="ignore"):
            # Where a value is far smaller than those around it, GDAL's rounding of
            # places shows: 1e-17 of a mask of ones, for instance, where we say 0.
            least = 1e-14 * np.nanmax(np.abs(gdal), initial=0)
            out["place rounded by GDAL"] = np.abs(got - gdal) <= np.maximum(want["moved"], least)
    return out


def generate(rng: np.random.Generator) -> tuple[rl.Grid, rl.Grid, np.ndarray]:
    """A layer and a lattice that meet: ratios from 1/10 to 8, any offset, cells missing singly and in a lump."""
    rows, cols = (int(n) for n in rng.integers(5, 30, 2))
    step_x, step_y = 10 * rng.uniform(0.5, 2, 2)
    src = rl.Grid("EPSG:32633", rows, cols, float(rng.integers(1000)), float(rng.integers(1000)), step_x, step_y)
    ratio = 2 ** rng.uniform(-3.3, 3, 2)
    ref_x, ref_y = step_x * ratio[0], step_y * ratio[0] * rng.uniform(0.7, 1.3)
    width, height = step_x * cols, step_y * rows
    ref = rl.Grid(
        src.crs,
        int(1 + min(30, height / ref_y * rng.uniform(0.4, 1.3))),
        int(1 + min(40, width / ref_x * rng.uniform(0.4, 1.3))),
        src.origin_x + width * rng.uniform(-0.3, 0.3),
        src.origin_y - height * rng.uniform(-0.3, 0.3),
        ref_x,
        ref_y,
    )
    values = rng.uniform(1, 121, (rows, cols)).astype(rng.choice(["float32", "int16"]))
    coarse = rng.random((rows, cols)) < 0.5
    values[coarse] = np.floor(values[coarse] / 40)
    if rng.random() < 0.75:
        missing = rng.random((rows, cols)) < 0.04
        row, col, lump = int(rng.integers(rows)), int(rng.integers(cols)), int(rng.integers(12))
        missing[row : row + lump, col : col + lump] = True
        values[missing] = np.nan if values.dtype.kind == "f" else NODATA
    return src, ref, values


def test_generated_pairs_equal_gdal(loom: rl.Loom, database: psycopg.Connection) -> None:
    pairs = int(os.environ.get("RASTERLOOM_PROVE_PAIRS", "12"))
    seed = int(os.environ.get("RASTERLOOM_PROVE_SEED", str(random.SystemRandom().randrange(2**32))))
    print(f"{pairs} pairs, RASTERLOOM_PROVE_SEED={seed}")
    compared = Comparison()
    for number in range(pairs):
        rng = np.random.default_rng([seed, number, 8])
        src, ref, values = generate(rng)
        which = f"pair {number} of seed {seed}: {src} onto {ref}"
        store(loom, database, "pair", src, values)
        try:
            for method in rng.choice(METHODS, 3, replace=False):
                try:
                    got = merged(loom, "pair", ref, method)
                except rl.OutOfRange:
                    got = np.full(ref.shape, np.nan)  # no cell of the lattice can have a value
                asked = request(method, src, ref, values)
                compared.add(got, asked, values, which)
                if np.isnan(got).all():
                    continue
                least = rng.uniform(0.05, 0.95)
                y, x = oracle.axes(asked, values.shape)
                valid = ~np.isnan(values) if values.dtype.kind == "f" else values != NODATA
                share = y.overlaps() @ valid.astype(float) @ x.overlaps().T / float(y.ratio * x.ratio)
                sure = np.abs(share - least) > 1e-6
                enough = np.where(share >= least, got, np.nan)
                shared = merged(loom, "pair", ref, method, least)
                assert np.array_equal(shared[sure], enough[sure], equal_nan=True), f"{which}, share {least}"
        finally:
            loom.drop("pair")
    print(compared)
    assert compared.values > 100 * pairs


def raster_of(name: str) -> rasters.Raster:
    return {r.name: r for r in rasters.read_all()}[name]


def grid_of(raster: rasters.Raster, turns: int = 0) -> rl.Grid:
    rows, cols = raster.values.shape
    west, _, _, north = raster.bounds
    return rl.Grid(raster.crs, rows, cols, west + 360 * turns, north, *raster.step)


REAL = {
    "Landsat 28.5 m to DEM 90 m": ("olinda-l7-b4", "olinda_dem", 0, (40, 111)),
    "DEM 90 m to Landsat 28.5 m": ("olinda_dem", "olinda-l7-b4", 0, (12, 349)),
    "relief 5' to climate 1/8°": ("nc_relief", "nc_tas_07", -1, (33, 81)),
    'land mask 30" to climate 1/8°': ("nc_land", "nc_tas_07", 0, (33, 81)),
    "climate 1/8° to relief 5'": ("nc_tas_07", "nc_relief", 1, (30, 139)),
}


@pytest.mark.parametrize("pair", REAL)
def test_real_pairs_equal_gdal(loom: rl.Loom, pair: str) -> None:
    name, lattice, turns, (rows, cols) = REAL[pair]
    raster = raster_of(name)
    ref = grid_of(raster_of(lattice))
    ref = replace(ref, rows=min(rows, ref.rows), cols=min(cols, ref.cols))
    values = raster.values.astype(np.float64).filled(np.nan)
    src = grid_of(raster, turns)
    compared = Comparison()
    for method in METHODS:
        compared.add(merged(loom, name, ref, method), request(method, src, ref, values), values, pair)
    print(f"{pair}: {compared}")


@pytest.mark.parametrize("west", [-180.0, 0.0, 100.3])
def test_a_globe_has_no_seam(loom: rl.Loom, west: float) -> None:
    """COADS counts longitudes from 20 to 380; a lattice that counts otherwise has no gap where either begins."""
    raster = raster_of("coads_sst_jan")
    ref = rl.Grid("EPSG:4326", 7, 1080, west, 20.0, 1 / 3, 1 / 3)
    thrice = np.hstack([raster.values.astype(np.float64).filled(np.nan)] * 3)
    src = replace(grid_of(raster, -1), cols=thrice.shape[1])
    compared = Comparison()
    for method in METHODS:
        got = merged(loom, raster.name, ref, method)
        compared.add(got, request(method, src, ref, thrice), thrice, f"the globe from {west}")
    print(f"the globe from {west}: {compared}")


@pytest.mark.parametrize("west", [-180.0, 0.0, 20.0])
def test_relief_of_the_globe_has_no_seam(loom: rl.Loom, database: psycopg.Connection, west: float) -> None:
    """Relief of a third of a degree from 0 to 360, onto 2 degrees that begin elsewhere: every cell has a value."""
    with rasterio.open(GLOBAL_RELIEF) as file:
        values = np.roll(file.read(1, window=((0, 24), (0, 1080))), 60, axis=1)  # from 20 to 380
    assert not (values < -12_000).any()
    src = rl.Grid("EPSG:4326", 24, 1080, 0.0, 60.0, 1 / 3, 1 / 3)
    ref = rl.Grid("EPSG:4326", 4, 180, west, 60.0, 2.0, 2.0)
    thrice = np.hstack([values] * 3)
    # GDAL takes three turns side by side for degrees of one globe, and halves what a sum has twice.
    around = replace(src, crs="EPSG:32633", origin_x=-360.0, cols=thrice.shape[1])
    plain = replace(ref, crs="EPSG:32633")
    compared = Comparison()
    store(loom, database, "relief20", src, values)
    try:
        for method in METHODS:
            got = merged(loom, "relief20", ref, method)
            assert not np.isnan(got).any(), f"{method}: a gap"
            compared.add(got, request(method, around, plain, thrice), thrice, f"relief from {west}")
        joined = loom.merge(
            {"sea": "coads_sst_jan", "relief": "relief20"}, reference="coads_sst_jan", resampling="auto"
        )
        assert [p.resampled.method for p in joined.plan.layers if p.resampled] == ["average"]
        table = joined.to_arrow()
        north = pc.and_(pc.less(table["y"], 60), pc.greater(table["y"], 52))
        assert table.filter(north)["relief"].null_count == 0
    finally:
        loom.drop("relief20")
    print(f"relief onto 2 degrees from {west}: {compared}")
    assert compared.values == 4 * 180 * len(METHODS)


def test_five_hundred_to_one(loom: rl.Loom) -> None:
    """A lattice so coarse that the layer under one of its rows is not held at once."""
    rng = np.random.default_rng(500)
    src = rl.Grid("EPSG:32633", 700, 4700, 7.0, -11.0, 1.0, 1.0)
    ref = rl.Grid("EPSG:32633", 2, 10, 0.0, 0.0, 500.0, 500.0)
    classes = rng.integers(1, 41, (src.rows, src.cols))
    values = (classes / 7).astype(np.float32)
    values[rng.random(values.shape) < 0.02] = np.nan
    valid = ~np.isnan(values)
    loom.ingest(values, name="fine", grid=src, nodata=NODATA, progress=False)
    compared = Comparison()
    try:
        got = {method: merged(loom, "fine", ref, method) for method in METHODS}
    finally:
        loom.drop("fine", delete_tiles=True)
    for method in ("nearest", "average", "min", "max", "sum"):
        compared.add(got[method], request(method, src, ref, values), values, "500 to one")
    # GDAL takes minutes for the rest.
    for method in ("bilinear", "cubic"):
        exact = oracle.by_rule(request(method, src, ref, values), values, valid)
        assert not differing(got[method], exact, 0).any(), method
    for (row, col), value in np.ndenumerate(got["mode"]):
        under = slice(max(0, 500 * row - 11), 500 * row + 489), slice(max(0, 500 * col - 7), 500 * col + 493)
        counts = np.bincount(classes[under][valid[under]])
        assert counts[round(value * 7)] == counts.max(), f"mode of row {row}, column {col}"
    print(f"500 to one: {compared}")
    assert compared.values > 4 * 20


def test_sums_conserve_totals(loom: rl.Loom, database: psycopg.Connection) -> None:
    rng = np.random.default_rng(8)
    conserved = 0
    for number in range(16):
        src, ref, values = generate(rng)
        store(loom, database, "total", src, values)
        try:
            table = loom.merge({"v": "total"}, reference=ref, resampling="count", progress=False).to_arrow()
        except rl.OutOfRange:
            continue  # the layer does not touch the lattice
        finally:
            loom.drop("total")
        kept = values[~np.isnan(values)] if values.dtype.kind == "f" else values[values != NODATA]
        total, handed = math.fsum(kept.tolist()), math.fsum(table["v"].drop_null().to_pylist())
        assert abs(handed - total) <= 1e-12 * total, f"pair {number}: {src} onto {ref}"
        conserved += 1
    print(f"{conserved} totals conserved to 1e-12")
    assert conserved >= 8


def test_what_cannot_be_resampled(loom: rl.Loom) -> None:
    layers = {"rain": "nc_pr_01", "sea": "coads_sst_jan"}
    with pytest.raises(rl.InvalidArgument, match="neither a column nor a layer"):
        loom.merge(layers, resampling={"rains": "mode"})
    with pytest.raises(rl.InvalidArgument, match="resampling is 'bicubic'"):
        loom.merge(layers, resampling="bicubic")  # pyright: ignore[reportArgumentType]
    with pytest.raises(rl.FailedPrecondition) as caught:
        loom.merge(layers, reference="nc_pr_01").to_arrow()
    assert caught.value.fields["methods"] == "bilinear,nearest,sum"
    with pytest.raises(rl.InvalidArgument) as caught_share:
        _ = loom.merge(layers, reference="nc_pr_01", resampling={"sea": "continuous"}, min_share={"sea": 1.5}).plan
    assert caught_share.value.fields["field"] == "min_share"
    with pytest.raises(rl.InvalidArgument) as caught_legacy, pytest.warns(DeprecationWarning, match="use_legacy_merge"):
        loom.merge(layers, reference="nc_pr_01", resampling="mode", use_legacy_merge=True).to_arrow()
    assert caught_legacy.value.fields["field"] == "resampling"


def test_auto_says_what_it_chose(loom: rl.Loom) -> None:
    layers = {"rain": "nc_pr_01", "land": "nc_land", "height": "nc_relief"}
    plan = loom.merge(layers, reference="nc_pr_01", resampling="auto").plan
    by_name = {p.column: p.resampled for p in plan.layers}
    assert by_name["rain"] is None
    land, height = by_name["land"], by_name["height"]
    assert land is not None
    assert height is not None
    assert (land.method, height.method) == ("mode", "mode")
    assert "taken for classes" in height.explanation
    plan = loom.merge(layers, reference="nc_pr_01", resampling={"height": "continuous", "land": "count"}).plan
    assert [p.resampled.method for p in plan.layers if p.resampled] == ["sum", "average"]
    assert "resampled" in str(plan)
    receipts = [layer.get("resampling") for layer in rl.Lattice.of(plan.schema).layers]
    assert [r and r["method"] for r in receipts] == [None, "sum", "average"]
