"""Generated sets of layers, merged by the real suite and by numpy, compared cell by cell.

``RASTERLOOM_PROVE_SETS`` is the number of sets (300; ``make prove`` does 10,000),
``RASTERLOOM_PROVE_SEED`` the seed of a run to see again.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg

import rasterloom as rl

if TYPE_CHECKING:
    import suite as demo_suite

STEP = 10.0
NODATA = -9999.0
TYPES = {"double precision": np.float64, "real": np.float32, "smallint": np.int16, "integer": np.int32}
STORAGES = ("keyed", "analysed", "unkeyed", "beside", "centres")


@dataclass
class Generated:
    """A layer as it is stored, and what it holds on the lattice of the first one."""

    name: str
    grid: rl.Grid
    row: int  # of its north-west cell on the reference lattice
    col: int
    values: np.ndarray  # (rows, cols)
    held: np.ndarray  # bool, (rows, cols): the cell has a value


def generate(rng: np.random.Generator, name: str, *, first: bool) -> tuple[Generated, list[str], list[tuple[Any, ...]]]:
    """A layer, the statements that make its table around its rows, and the rows."""
    rows, cols = (int(n) for n in rng.integers(1, 30, 2))
    row, col = (0, 0) if first else (int(n) for n in rng.integers(-12, 13, 2))
    shift = (0.0, 0.0) if first else tuple(rng.choice([0.0, 0.25, -0.375], 2))  # exact in binary
    grid = rl.Grid("EPSG:32633", rows, cols, 5000 + (col + shift[0]) * STEP, 9000 - (row + shift[1]) * STEP, STEP, STEP)
    sql, dtype = list(TYPES.items())[rng.integers(len(TYPES))]
    values = rng.integers(-900, 900, (rows, cols)).astype(dtype)
    if dtype is np.float64:
        values += rng.random((rows, cols))
    values[rng.random((rows, cols)) < 0.05] = 0
    held = np.ones((rows, cols), bool)
    kind = np.zeros((rows, cols), int)  # 1 absent, 2 NULL, 3 nodata, 4 NaN
    if rng.random() < 0.8:
        kind = rng.choice([0, 1, 2, 3, 4], (rows, cols), p=[0.8, 0.08, 0.04, 0.04, 0.04])
        kind[rng.random(rows) < 0.1] = 1
        held = kind == 0
    storage = STORAGES[rng.integers(len(STORAGES))]
    stored: list[tuple[Any, ...]] = []
    for r, c in np.ndindex(rows, cols):
        if kind[r, c] == 1:
            continue
        value: Any = values[r, c].item()
        if kind[r, c] == 2:
            value = None
        elif kind[r, c] == 3 or (kind[r, c] == 4 and dtype in (np.int16, np.int32)):
            value = int(NODATA)
        elif kind[r, c] == 4:
            value = float("nan")
        place: tuple[Any, ...] = (r, c)
        if storage == "beside":
            place = (r, c, float(grid.x[c]), float(grid.y[r]))
        elif storage == "centres":
            place = (float(grid.x[c]), float(grid.y[r]))
        stored.append((*place, value))
    if storage in ("unkeyed", "centres"):
        stored = [stored[i] for i in rng.permutation(len(stored))]
    index = "row_idx int NOT NULL, col_idx int NOT NULL"
    columns = {
        "keyed": f"{index}, value {sql}, PRIMARY KEY (row_idx, col_idx)",
        "analysed": f"{index}, value {sql}, PRIMARY KEY (row_idx, col_idx)",
        "unkeyed": f"row_idx int, col_idx int, value {sql}",
        "beside": f"{index}, x_coord float8, y_coord float8, value {sql}, PRIMARY KEY (row_idx, col_idx)",
        "centres": f"x_coord float8, y_coord float8, value {sql}",
    }[storage]
    statements = [f"DROP TABLE IF EXISTS public.{name}", f"CREATE TABLE public.{name} ({columns})"]
    if storage in ("analysed", "beside"):
        statements.append(f"ANALYZE public.{name}")  # what has statistics may be read in slices
    return Generated(name, grid, row, col, values, held), statements, stored


def expect(layers: list[Generated], extent: Any, rows: str) -> tuple[tuple[np.ndarray, ...], list[np.ma.MaskedArray]]:
    """The table by definition: rows and columns of the lattice, and the layers' values there."""
    edges = [(g.row, g.row + g.grid.rows, g.col, g.col + g.grid.cols) for g in layers]
    north, south, west, east = zip(*edges, strict=True)
    if extent == "intersection":
        window = max(north), min(south), max(west), min(east)
    elif extent == "reference":
        window = edges[0]
    else:
        window = min(north), max(south), min(west), max(east)
    if isinstance(extent, tuple):
        # Whole cells of the reference lattice: centres lie half a step inside.
        box = (
            round((9000 - extent[3]) / STEP),
            round((9000 - extent[1]) / STEP),
            round((extent[0] - 5000) / STEP),
            round((extent[2] - 5000) / STEP),
        )
        if rows == "every":
            window = box
        else:
            window = max(box[0], window[0]), min(box[1], window[1]), max(box[2], window[2]), min(box[3], window[3])
    height, width = max(0, window[1] - window[0]), max(0, window[3] - window[2])
    on_lattice = []
    for g in layers:
        out = np.ma.masked_all((height, width), g.values.dtype)
        for r, c in zip(*np.nonzero(g.held), strict=True):
            i, j = r + g.row - window[0], c + g.col - window[2]
            if 0 <= i < height and 0 <= j < width:
                out[i, j] = g.values[r, c]
        on_lattice.append(out)
    has = np.array([~np.ma.getmaskarray(v) for v in on_lattice])
    kept = {"any": has.any(0), "all": has.all(0), "reference": has[0], "every": np.ones((height, width), bool)}[rows]
    row, col = np.nonzero(kept)
    return (row + window[0], col + window[2]), [v[kept] for v in on_lattice]


def test_generated_sets_equal_numpy(loom: rl.Loom, suite: demo_suite.Suite) -> None:
    sets = int(os.environ.get("RASTERLOOM_PROVE_SETS", "300"))
    seed = int(os.environ.get("RASTERLOOM_PROVE_SEED", str(random.SystemRandom().randrange(2**32))))
    print(f"{sets} sets, RASTERLOOM_PROVE_SEED={seed}")
    cells = 0
    with psycopg.connect(suite.database_url, autocommit=True) as database:
        for number in range(sets):
            rng = np.random.default_rng([seed, number])
            layers = []
            try:
                for i in range(int(rng.integers(1, 5))):
                    layer, statements, stored = generate(rng, f"proof_{i}", first=i == 0)
                    for statement in statements[:2]:
                        database.execute(statement)
                    with database.cursor().copy(f"COPY public.{layer.name} FROM STDIN") as copy:
                        for values in stored:
                            copy.write_row(values)
                    for statement in statements[2:]:
                        database.execute(statement)
                    indices = "row_idx" in statements[1]
                    loom.register(
                        layer.name,
                        layer.name,
                        layer.grid,
                        dtype=layer.values.dtype.name,
                        nodata=NODATA,
                        **({} if indices else {"registration": "center"}),
                    )
                    layers.append(layer)
                cells += compare(loom, rng, layers, f"set {number} of seed {seed}")
            finally:
                for layer in layers:
                    loom.drop(layer.name)
        for i in range(4):
            database.execute(f"DROP TABLE IF EXISTS public.proof_{i}")
    print(f"{sets} sets, {cells} cells compared, 0 differ")
    assert cells > 0


def touches(a: Generated, b: Generated) -> bool:
    """Whether the extents of two layers have a cell in common."""
    return (
        a.row < b.row + b.grid.rows
        and b.row < a.row + a.grid.rows
        and a.col < b.col + b.grid.cols
        and b.col < a.col + a.grid.cols
    )


def compare(loom: rl.Loom, rng: np.random.Generator, layers: list[Generated], which: str) -> int:
    """Merge the layers in a generated way, and give the number of cells that were compared."""
    extent: Any = rng.choice(["union", "intersection", "reference", "box"])
    if extent == "box":
        west, north = (int(n) for n in rng.integers(-15, 25, 2))
        east, south = west + int(rng.integers(1, 30)), north + int(rng.integers(1, 30))
        extent = (5000 + west * STEP, 9000 - south * STEP, 5000 + east * STEP, 9000 - north * STEP)
    rows: Any = rng.choice(["any", "all", "reference", "every"])
    order = rng.permutation(len(layers))
    which += f": extent {extent}, rows {rows}, layers {[(g.name, g.grid) for g in layers]}"
    if not isinstance(extent, tuple):
        extent = str(extent)
    merge = loom.merge(
        [layers[i].name for i in order],
        reference="proof_0",
        extent=extent,
        rows=str(rows),
        coordinates="both",
        batch_rows=int(rng.integers(1, 400)),
        progress=False,
    )
    (row, col), values = expect(layers, extent, str(rows))
    try:
        table = merge.to_arrow()
    except rl.RasterloomError as error:
        # A window without a cell of any layer is refused, and so are layers
        # that do not touch the reference: never where cells were to come.
        apart = any(not touches(g, layers[0]) for g in layers)
        if error.reason != "DISJOINT" or not (apart or sum(v.count() for v in values) == 0):
            raise AssertionError(which) from error
        return 0
    assert np.array_equal(table["row"].to_numpy(), row), which
    assert np.array_equal(table["col"].to_numpy(), col), which
    assert np.array_equal(table["x"].to_numpy(), 5000 + (col + 0.5) * STEP), which
    assert np.array_equal(table["y"].to_numpy(), 9000 - (row + 0.5) * STEP), which
    for layer, want in zip(layers, values, strict=True):
        column = table[layer.name].combine_chunks()
        assert column.type == f"{want.dtype.name}".replace("float64", "double").replace("float32", "float"), which
        assert np.array_equal(column.is_null().to_numpy(zero_copy_only=False), np.ma.getmaskarray(want)), which
        assert np.array_equal(column.drop_null().to_numpy(), want.compressed()), which
    return len(row) * len(layers)
