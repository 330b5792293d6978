"""Generated sets of layers, merged by the real suite and by numpy, compared cell by cell.

``RASTERLOOM_PROVE_SETS`` is the number of sets (300; ``make prove`` does 10,000),
``RASTERLOOM_PROVE_SEED`` the seed of a run to see again. A set is asked of one of
several servers on the same database, with bands of one row to all of them and
one to four connections: the answer must not depend on that.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
from dataclasses import dataclass, field
from math import ceil, floor
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest
import suite as demo_suite

import rasterloom as rl

from . import tiles
from .gdal import COMPUTED, METHODS, oracle, request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STEP = 10.0
TURN = 36  # columns of STEP degrees
NODATA = -9999.0
LARGEST = 900.0  # of the values; sums of signed ones cancel
TYPES = {"double precision": np.float64, "real": np.float32, "smallint": np.int16, "integer": np.int32}
# Tables with row_idx and col_idx, and where the coordinates are, if anywhere, of
# each cell's centre (0.5) or corner (0). "south" counts rows from the south. And
# tables of tiles, made by numcodecs.
STORAGES = ("keyed", "analysed", "unkeyed", "beside", "centres", "corners", "south", "south beside", "tiles")
KEYLESS = ("unkeyed", "centres", "corners")
SERVERS = (
    (),
    ("--merger-band-bytes=1", "--merger-connections=1"),
    ("--merger-band-bytes=20000", "--merger-connections=3"),
)


@dataclass(frozen=True)
class World:
    """Where the reference lattice lies."""

    crs: str
    west: float
    north: float
    turn: int  # columns in a turn of longitude; 0 where there is none


PLANE = World("EPSG:32633", 5000.0, 9000.0, 0)
GLOBE = World("EPSG:4326", -180.0, 80.0, TURN)


@dataclass
class Generated:
    """A layer as it is stored, and what it holds on the lattice of the first one."""

    name: str
    world: World
    grid: rl.Grid
    row: int  # of its north-west cell on the reference lattice
    col: int
    storage: str
    values: np.ndarray  # (rows, cols)
    held: np.ndarray  # bool, (rows, cols): the cell has a value
    method: str = ""  # how it is resampled; empty where its cells are those of the lattice
    again: dict[tuple[int, int], list[Any]] = field(default_factory=dict)  # stored values of cells, in stored order

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """North, south, west and east edge in cells of the lattice: exact, since they are parts of two."""
        box, at = self.grid.bounds, self.world
        edges = at.north - box.max_y, at.north - box.min_y, box.min_x - at.west, box.max_x - at.west
        return edges[0] / STEP, edges[1] / STEP, edges[2] / STEP, edges[3] / STEP

    @property
    def covers(self) -> tuple[int, int, int, int]:
        """The same of the cells of the lattice that can have a value."""
        if not self.method:
            return self.row, self.row + self.grid.rows, self.col, self.col + self.grid.cols
        north, south, west, east = self.extent
        if self.method in ("nearest", "bilinear", "cubic"):  # where centres lie on the layer
            return ceil(north - 0.5), ceil(south - 0.5), ceil(west - 0.5), ceil(east - 0.5)
        return floor(north), ceil(south), floor(west), ceil(east)

    def on(self, north: int, west: int, height: int, width: int) -> np.ma.MaskedArray:
        """Values on a window of the lattice."""
        out = np.ma.masked_all((height, width), np.float64 if self.method in COMPUTED else self.values.dtype)
        if self.method and height and width:
            at = self.world
            window = rl.Grid(at.crs, height, width, at.west + west * STEP, at.north - north * STEP, STEP, STEP)
            exact = oracle.by_rule(request(self.method, self.grid, window, self.values), self.values, self.held)
            has = ~np.isnan(exact)
            out[has] = exact[has].astype(out.dtype)
        elif not self.method:
            for r, c in zip(*np.nonzero(self.held), strict=True):
                i, j = r + self.row - north, c + self.col - west
                if self.world.turn:
                    j %= self.world.turn
                if 0 <= i < height and 0 <= j < width:
                    out[i, j] = self.values[r, c]
        return out

    def resolve(self, rule: str) -> None:
        """Take the values of cells that are stored twice by a rule."""
        for cell, stored in self.again.items():
            candidates = [v for v in stored if v is not None and v == v and v != NODATA]
            self.held[cell] = bool(candidates)
            if not candidates:
                continue
            if rule == "mean":
                total = 0.0
                for v in candidates:
                    total += v
                self.values[cell] = total / len(candidates)
            else:
                self.values[cell] = candidates[0 if rule == "first" else -1]

    @property
    def options(self) -> dict[str, Any]:
        """What the catalog has to be told of the storage."""
        if self.storage in ("centres", "corners"):
            return {"registration": "center" if self.storage == "centres" else "upper_left"}
        return {"south_up": True} if self.storage.startswith("south") else {}


def place(
    rng: np.random.Generator, world: World, reference: Generated | None
) -> tuple[int, int, int, int, tuple[float, float]]:
    """Shape of a layer, its north-west cell on the reference lattice, and how far off that it is stored."""
    first = reference is None
    shift: tuple[float, float] = (0.0, 0.0)
    if not first:
        shift = tuple(rng.choice([0.0, 0.25, -0.375], 2))  # exact in binary
    if world.turn:
        rows, row = int(rng.integers(1, 9)), 0 if first else int(rng.integers(0, 8))
        cols, col = (TURN, 0) if first else (int(rng.integers(1, TURN + 1)), int(rng.integers(-50, 51)))
        return rows, cols, row, col, (shift[0], abs(shift[1]))  # no latitude beyond the pole
    rows, cols = (int(n) for n in rng.integers(1, 30, 2))
    if rng.random() < 0.01:
        rows, cols = int(rng.integers(200, 500)), int(rng.integers(60, 120))  # more than a slice
    if reference is None:
        return rows, cols, 0, 0, shift
    row, col = (int(n) for n in rng.integers(-12, 13, 2))
    if rng.random() < 0.95:  # a layer that does not touch the reference is refused
        row = min(max(row, 1 - rows), reference.grid.rows - 1)
        col = min(max(col, 1 - cols), reference.grid.cols - 1)
    return rows, cols, row, col, shift


def generate(
    rng: np.random.Generator, world: World, name: str, reference: Generated | None, *, twice: bool
) -> tuple[Generated, list[str], list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """A layer, the statements that make its table around its rows, the rows, and those that come once it is known."""
    rows, cols, row, col, shift = place(rng, world, reference)
    method, step = "", (STEP, STEP)
    if reference and not world.turn and rng.random() < 0.3:
        method = str(rng.choice(METHODS))
        step = tuple(STEP * rng.choice([0.25, 0.625, 2.5, 4.0], 2))  # exact in binary, too
    grid = rl.Grid(
        world.crs, rows, cols, world.west + (col + shift[0]) * STEP, world.north - (row + shift[1]) * STEP, *step
    )
    sql, dtype = list(TYPES.items())[rng.integers(len(TYPES))]
    values = rng.integers(-900, 900, (rows, cols)).astype(dtype)
    if dtype is np.float64:
        values += rng.random((rows, cols))
    values[rng.random((rows, cols)) < 0.05] = 0
    kind = np.zeros((rows, cols), int)  # 1 absent, 2 NULL, 3 nodata, 4 NaN
    if rng.random() < 0.8:
        kind = rng.choice([0, 1, 2, 3, 4], (rows, cols), p=[0.8, 0.08, 0.04, 0.04, 0.04])
        kind[rng.random(rows) < 0.1] = 1
    storage = STORAGES[rng.integers(len(STORAGES))]
    layer = Generated(name, world, grid, row, col, storage, values, kind == 0, method)
    cells: list[tuple[int, int, Any]] = []
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
        cells.append((r, c, value))
    if storage in KEYLESS:
        cells = [cells[i] for i in rng.permutation(len(cells))]
    later: list[tuple[int, int, Any]] = []
    if storage in KEYLESS and twice and cells and not method:
        for i in {int(i) for i in rng.integers(0, len(cells), 3)}:
            r, c, value = cells[i]
            more: list[Any] = ([int(rng.integers(-900, 900))], [None, 7])[rng.integers(2)]
            later += [(r, c, v) for v in more]
            layer.again[r, c] = [value, *more]

    def stored(cells: list[tuple[int, int, Any]]) -> list[tuple[Any, ...]]:
        rows_stored: list[tuple[Any, ...]] = []
        for r, c, value in cells:
            center = float(grid.x[c]), float(grid.y[r])
            if storage in ("centres", "corners"):
                half = 0 if storage == "centres" else 0.5
                rows_stored.append((center[0] - half * grid.step_x, center[1] + half * grid.step_y, value))
                continue
            index = (rows - 1 - r if storage.startswith("south") else r, c)
            rows_stored.append((*index, *(center if storage.endswith("beside") else ()), value))
        return rows_stored

    if storage == "tiles":
        chain = str(rng.choice(tiles.CHAINS))
        statements = [
            f"DROP TABLE IF EXISTS public.{name}",
            f"CREATE TABLE public.{name} ({tiles.COLUMNS})",
            f"COMMENT ON TABLE public.{name} IS '{tiles.tiling(values, chain)}'",
        ]
        return layer, statements, tiles.tiles(values, layer.held, chain), []
    index = "row_idx int NOT NULL, col_idx int NOT NULL"
    columns = {
        "keyed": f"{index}, value {sql}, PRIMARY KEY (row_idx, col_idx)",
        "unkeyed": f"row_idx int, col_idx int, value {sql}",
        "beside": f"{index}, x_coord float8, y_coord float8, value {sql}, PRIMARY KEY (row_idx, col_idx)",
        "centres": f"x_coord float8, y_coord float8, value {sql}",
    }
    like = {"analysed": "keyed", "south": "keyed", "south beside": "beside", "corners": "centres"}
    statements = [
        f"DROP TABLE IF EXISTS public.{name}",
        f"CREATE TABLE public.{name} ({columns[like.get(storage, storage)]})",
    ]
    if storage in ("analysed", "beside", "south", "south beside"):
        statements.append(f"ANALYZE public.{name}")  # what has statistics may be read in slices
    return layer, statements, stored(cells), stored(later)


def expect(layers: list[Generated], extent: Any, rows: str) -> tuple[tuple[np.ndarray, ...], list[np.ma.MaskedArray]]:
    """The table by definition: rows and columns of the lattice, and the layers' values there."""
    edges = [g.covers for g in layers]
    if extent != "intersection":  # what covers no cell adds nothing
        edges = [e for e in edges if e[0] < e[1] and e[2] < e[3]]
    north, south, west, east = zip(*edges, strict=True)
    if extent == "intersection":
        window = max(north), min(south), max(west), min(east)
    elif extent == "reference":
        window = edges[0]
    elif layers[0].world.turn:
        window = min(north), max(south), *edges[0][2:]  # the first layer goes around
    else:
        window = min(north), max(south), min(west), max(east)
    if isinstance(extent, tuple):
        # Whole cells of the reference lattice: centres lie half a step inside.
        at = layers[0].world
        box = (
            round((at.north - extent[3]) / STEP),
            round((at.north - extent[1]) / STEP),
            round((extent[0] - at.west) / STEP),
            round((extent[2] - at.west) / STEP),
        )
        if rows == "every":
            window = box
        elif at.turn:
            window = max(box[0], window[0]), min(box[1], window[1]), box[2], box[3]
        else:
            window = max(box[0], window[0]), min(box[1], window[1]), max(box[2], window[2]), min(box[3], window[3])
    height, width = max(0, window[1] - window[0]), max(0, window[3] - window[2])
    on_lattice = [g.on(window[0], window[2], height, width) for g in layers]
    has = np.array([~np.ma.getmaskarray(v) for v in on_lattice])
    kept = {"any": has.any(0), "all": has.all(0), "reference": has[0], "every": np.ones((height, width), bool)}[rows]
    row, col = np.nonzero(kept)
    return (row + window[0], col + window[2]), [v[kept] for v in on_lattice]


def write(database: psycopg.Connection[Any], table: str, rows: list[tuple[Any, ...]]) -> None:
    with database.cursor().copy(f"COPY public.{table} FROM STDIN") as copy:
        for values in rows:
            copy.write_row(values)


@pytest.fixture
def looms(
    loom: rl.Loom, suite: demo_suite.Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[rl.Loom]]:
    """Give connections to servers of different settings on one database."""
    monkeypatch.delenv("RASTERLOOM_URL", raising=False)
    monkeypatch.setenv("DATABASE_URL", suite.database_url)
    with contextlib.ExitStack() as stack:
        others = []
        for number, arguments in enumerate(SERVERS[1:]):
            other = stack.enter_context(demo_suite.running_suite(tmp_path / f"{number}.log", *arguments))
            others.append(stack.enter_context(rl.connect(other.url)))
        yield [loom, *others]


def test_generated_sets_equal_numpy(looms: list[rl.Loom], suite: demo_suite.Suite) -> None:
    sets = int(os.environ.get("RASTERLOOM_PROVE_SETS", "300"))
    seed = int(os.environ.get("RASTERLOOM_PROVE_SEED", str(random.SystemRandom().randrange(2**32))))
    print(f"{sets} sets, RASTERLOOM_PROVE_SEED={seed}")
    cells = 0
    seen: collections.Counter[str] = collections.Counter()
    with psycopg.connect(suite.database_url, autocommit=True) as database:
        for number in range(sets):
            rng = np.random.default_rng([seed, number])
            world = GLOBE if rng.random() < 0.25 else PLANE
            twice = rng.random() < 0.3
            layers: list[Generated] = []
            try:
                for i in range(int(rng.integers(1, 5))):
                    reference = layers[0] if layers else None
                    layer, statements, stored, later = generate(rng, world, f"proof_{i}", reference, twice=twice)
                    for statement in statements[:2]:
                        database.execute(statement)
                    write(database, layer.name, stored)
                    for statement in statements[2:]:
                        database.execute(statement)
                    looms[0].register(
                        layer.name,
                        layer.name,
                        layer.grid,
                        dtype=layer.values.dtype.name,
                        nodata=NODATA,
                        **layer.options,
                    )
                    layers.append(layer)
                    write(database, layer.name, later)
                    seen[layer.storage] += 1
                    seen["resampled"] += bool(layer.method)
                seen["globe" if world.turn else "plane"] += 1
                loom = looms[rng.integers(len(looms))]
                compared, what = compare(loom, rng, layers, f"set {number} of seed {seed}")
                cells += compared
                seen[what] += 1
            except Exception as error:
                error.add_note(f"set {number} of seed {seed}")
                raise
            finally:
                for layer in layers:
                    looms[0].drop(layer.name)
        for i in range(4):
            database.execute(f"DROP TABLE IF EXISTS public.proof_{i}")
    print(f"{sets} sets, {cells} cells compared, 0 differ; {dict(sorted(seen.items()))}")
    assert cells > 0


def touches(a: Generated, b: Generated) -> bool:
    """Whether the extents of two layers have a part in common: whole cells of those that are not resampled."""
    north, south, west, east = zip(*(g.extent if a.method or b.method else g.covers for g in (a, b)), strict=True)
    return max(north) < min(south) and (bool(a.world.turn) or max(west) < min(east))


def compare(loom: rl.Loom, rng: np.random.Generator, layers: list[Generated], which: str) -> tuple[int, str]:
    """Merge the layers in a generated way; give the number of cells compared, and what came of it."""
    at = layers[0].world
    extent: Any = rng.choice(["union", "union" if at.turn else "intersection", "reference", "box"])
    rule = "error"
    repeated = any(g.again for g in layers)
    if repeated:
        floats = all(g.values.dtype.kind == "f" for g in layers)
        rule = str(rng.choice(["error", "first", "last", "mean" if floats else "last"]))
        if rule == "error":
            extent = "union"  # what is not read cannot be refused
        else:
            for g in layers:
                g.resolve(rule)
    if extent == "box":
        west, north = (int(n) for n in rng.integers(-15, 25, 2))
        east, south = west + int(rng.integers(1, 30)), north + int(rng.integers(1, 30))
        if at.turn:
            north, south = north % 8, north % 8 + 1 + south % 8
        extent = (at.west + west * STEP, at.north - south * STEP, at.west + east * STEP, at.north - north * STEP)
    rows: Any = rng.choice(["any", "all", "reference", "every"])
    order = rng.permutation(len(layers))
    which += (
        f": extent {extent}, rows {rows}, duplicates {rule}, layers "
        f"{[(g.name, g.storage, g.method, g.grid) for g in layers]}"
    )
    if not isinstance(extent, tuple):
        extent = str(extent)
    merge = loom.merge(
        [layers[i].name for i in order],
        reference="proof_0",
        resampling={g.name: g.method for g in layers if g.method},
        extent=extent,
        rows=str(rows),
        coordinates="both",
        duplicates=rule,
        batch_rows=int(rng.integers(1, 400)),
        progress=False,
    )
    (row, col), values = expect(layers, extent, str(rows))
    try:
        table = merge.to_arrow()
    except rl.RasterloomError as error:
        if error.reason == "DUPLICATE_CELL" and repeated and rule == "error":
            if not any(error.fields["layer"] == g.name and g.again for g in layers):
                raise AssertionError(which) from error
            return 0, "refused: a cell twice"
        # A window without a cell of any layer is refused, and so are layers
        # that do not touch the reference: never where cells were to come.
        apart = any(not touches(g, layers[0]) for g in layers)
        if error.reason != "DISJOINT" or not (apart or sum(v.count() for v in values) == 0):
            raise AssertionError(which) from error
        return 0, "refused: disjoint"
    assert not repeated or rule != "error", which
    assert np.array_equal(table["row"].to_numpy(), row), which
    assert np.array_equal(table["col"].to_numpy(), col), which
    assert np.array_equal(table["x"].to_numpy(), at.west + (col + 0.5) * STEP), which
    assert np.array_equal(table["y"].to_numpy(), at.north - (row + 0.5) * STEP), which
    for layer, want in zip(layers, values, strict=True):
        column = table[layer.name].combine_chunks()
        assert column.type == f"{want.dtype.name}".replace("float64", "double").replace("float32", "float"), which
        assert np.array_equal(column.is_null().to_numpy(zero_copy_only=False), np.ma.getmaskarray(want)), which
        got = column.drop_null().to_numpy()
        if layer.method in COMPUTED:
            assert np.allclose(got, want.compressed(), rtol=1e-9, atol=1e-9 * LARGEST), which
        else:
            assert np.array_equal(got, want.compressed()), which
    return len(row) * len(layers), f"compared: duplicates {rule}" if repeated else "compared"
