"""The sets of layers: made by formula, so that every cell of every answer can be checked.

A value is a whole number of hundredths computed from (layer, row, col) by integer
arithmetic, then divided by 100. Integers and one IEEE division give the same bits
in PostgreSQL and in numpy. The formula is a slope with noise on it, so that the
values compress about as well as measured ones do; 2 % are zeros; where a layer is
gappy, 10 % of its cells have no row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

CRS = "EPSG:4326"
CELLS_PER_DEGREE = 120  # 30 arc seconds
WEST, NORTH = -10.0, 80.0  # outer corner of the north-west cell

SEED_ROW, SEED_COL, SEED_LAYER = 73856093, 19349663, 83492791

Kind = Literal["LEGACY", "COORDINATE", "TILED"]


@dataclass(frozen=True)
class Lattice:
    """Rows and columns of cells, north up, in degrees.

    ``offset`` moves the origin by parts of a cell, x to the east and y to the south.
    """

    rows: int
    cols: int
    offset: tuple[float, float] = (0.0, 0.0)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(min_x, min_y, max_x, max_y), outer edges, as the catalog has them."""
        west = WEST + self.offset[0] / CELLS_PER_DEGREE
        north = NORTH - self.offset[1] / CELLS_PER_DEGREE
        return west, north - self.rows / CELLS_PER_DEGREE, west + self.cols / CELLS_PER_DEGREE, north

    @property
    def step(self) -> tuple[float, float]:
        """Width and height of a cell, from bounds and shape."""
        min_x, min_y, max_x, max_y = self.bounds
        return (max_x - min_x) / self.cols, (max_y - min_y) / self.rows

    def x(self, cols: NDArray[np.int64]) -> NDArray[np.float64]:
        """Centres of columns."""
        return self.bounds[0] + (cols + 0.5) * self.step[0]

    def y(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Centres of rows; row 0 is the north row."""
        return self.bounds[3] - (rows + 0.5) * self.step[1]

    def x_sql(self, col: str) -> str:
        """The same x in SQL, in double precision throughout."""
        return f"{self.bounds[0]!r}::float8 + ({col} + 0.5::float8) * {self.step[0]!r}::float8"

    def y_sql(self, row: str) -> str:
        """The same y in SQL."""
        return f"{self.bounds[3]!r}::float8 - ({row} + 0.5::float8) * {self.step[1]!r}::float8"


@dataclass(frozen=True)
class Layer:
    """One layer: where it is stored, how, and what its cells are."""

    name: str
    column: str
    table: str
    kind: Kind
    number: int  # seeds the formula
    lattice: Lattice
    gappy: bool = False
    chain: Literal["", "raw", "zstd"] = ""  # of a TILED layer

    def _hash(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.int64]:
        return (rows * SEED_ROW ^ cols * SEED_COL ^ np.int64(self.number * SEED_LAYER)) & 0x7FFFFFFF

    def values(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.float64]:
        """Values of cells, missing or not."""
        h = self._hash(rows, cols)
        slope = np.abs((rows * 2 + cols * 3 + self.number * 1000) % 20000 - 10000)
        return np.where(h // 32 % 50 == 0, 0, slope + h // 64 % 100 - 2000) / 100.0

    def missing(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether cells have no row in the table."""
        if not self.gappy:
            return np.zeros(rows.shape, bool)
        return self._hash(rows, cols) // 512 % 10 == 0

    def create_sql(self) -> str:
        """Statement that makes the table, without its rows."""
        if self.kind == "TILED":
            return (
                f"CREATE TABLE public.{self.table} (tile_row integer, tile_col integer, cells integer NOT NULL, "
                "min double precision, max double precision, valid bytea, data bytea)"
            )
        coordinates = "x_coord double precision, y_coord double precision, " if self.kind == "COORDINATE" else ""
        return (
            f"CREATE TABLE public.{self.table} (row_idx integer, col_idx integer, {coordinates}value double precision)"
        )

    def fill_sql(self) -> str:
        """Statement that writes the rows, in row-major order, as the old writers did."""
        coordinates = f"{self.lattice.x_sql('c')}, {self.lattice.y_sql('r')}, " if self.kind == "COORDINATE" else ""
        gaps = "WHERE h / 512 % 10 <> 0" if self.gappy else ""
        return f"""
            INSERT INTO public.{self.table}
            SELECT r, c, {coordinates}
                   (CASE WHEN h / 32 % 50 = 0 THEN 0
                         ELSE abs((r * 2 + c * 3 + {self.number * 1000}) % 20000 - 10000) + h / 64 % 100 - 2000
                    END)::float8 / 100.0::float8
            FROM generate_series(0, {self.lattice.rows - 1}) r
            CROSS JOIN generate_series(0, {self.lattice.cols - 1}) c
            CROSS JOIN LATERAL (SELECT (((r::bigint * {SEED_ROW}) # (c::bigint * {SEED_COL})
                                         # {self.number * SEED_LAYER}::bigint) & 2147483647)::integer AS h) hashed
            {gaps}"""

    @property
    def recipe(self) -> str:
        """Hash of all that makes the table; when it changes, the table is made anew."""
        recipe = self.create_sql() + self.fill_sql() + repr(self.lattice.bounds) + self.chain
        return hashlib.sha256(recipe.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class LayerSet:
    """Layers that are merged together; the first one's lattice is the reference."""

    name: str
    about: str
    layers: tuple[Layer, ...]

    @property
    def lattice(self) -> Lattice:
        """The reference lattice."""
        return self.layers[0].lattice

    @property
    def columns(self) -> list[str]:
        """Names of the value columns, in order."""
        return [layer.column for layer in self.layers]

    @property
    def cells(self) -> int:
        """Cells of the lattice."""
        return self.lattice.rows * self.lattice.cols

    def count_rows(self) -> int:
        """Rows of the answer: cells where any layer has a value."""
        if not all(layer.gappy for layer in self.layers):
            return self.cells
        kept = 0
        for start in range(0, self.cells, 1 << 20):
            rows, cols = np.divmod(np.arange(start, min(start + (1 << 20), self.cells)), self.lattice.cols)
            kept += int((~np.logical_and.reduce([layer.missing(rows, cols) for layer in self.layers])).sum())
        return kept

    @property
    def values(self) -> int:
        """Cells of all layers."""
        return self.cells * len(self.layers)

    def first(self, count: int) -> LayerSet:
        """The set of the first few layers."""
        return LayerSet(f"{self.name}/{count}", f"the first {count} of {self.name}", self.layers[:count])

    def only(self, index: int) -> LayerSet:
        """The set of one layer."""
        layer = self.layers[index]
        return LayerSet(f"{self.name}#{index}", f"{layer.column} of {self.name}", (layer,))


def _four(name: str, side: int) -> LayerSet:
    lattice = Lattice(side, side)
    apart = Lattice(side, side, offset=(0.3, 0.2))
    about = "two LEGACY, two COORDINATE, one of them 0.3/0.2 px off, one with 10 % missing"
    return LayerSet(
        name,
        f"4 layers of {side}×{side} cells: {about}",
        (
            Layer(f"elevation_{name}", "elevation", f"passthrough_elevation_{name}", "LEGACY", 1, lattice),
            Layer(f"birds_{name}", "birds", f"resampled_birds_{name}", "LEGACY", 2, lattice),
            Layer(f"climate_{name}", "climate", f"resampled_climate_{name}", "COORDINATE", 3, apart),
            Layer(f"soil_{name}", "soil", f"passthrough_soil_{name}", "COORDINATE", 4, lattice, gappy=True),
        ),
    )


def _tiled(name: str, side: int, chain: Literal["raw", "zstd"]) -> LayerSet:
    rows = _four(name, side)
    layers = tuple(
        replace(layer, name=f"{layer.name}_{chain}", table=f"tiles_{layer.name}_{chain}", kind="TILED", chain=chain)
        for layer in rows.layers
    )
    return LayerSet(f"{name}-{chain}", f"the layers of {name} as {chain} tiles", layers)


def _forty() -> LayerSet:
    lattice = Lattice(500, 500)
    return LayerSet(
        "40",
        "40 layers of 500×500 cells, LEGACY and COORDINATE by turns, every fourth with 10 % missing",
        tuple(
            Layer(
                f"month_{n:02}_40",
                f"month_{n:02}",
                f"resampled_month_{n:02}_40",
                "COORDINATE" if n % 2 == 0 else "LEGACY",
                100 + n,
                lattice,
                gappy=n % 4 == 0,
            )
            for n in range(1, 41)
        ),
    )


def _one(name: str, side: int) -> LayerSet:
    layer = Layer(f"relief_{name}", "relief", f"passthrough_relief_{name}", "LEGACY", 7, Lattice(side, side))
    return LayerSet(name, f"one LEGACY layer of {side}×{side} cells", (layer,))


SETS: Mapping[str, LayerSet] = MappingProxyType(
    {
        s.name: s
        for s in (
            _four("1m", 1000),
            _four("9m", 3000),
            _forty(),
            _one("100m", 10_000),
            _tiled("1m", 1000, "raw"),
            _tiled("1m", 1000, "zstd"),
            _tiled("9m", 3000, "raw"),
            _tiled("9m", 3000, "zstd"),
        )
    }
)


def find(name: str) -> LayerSet:
    """Give a set by its name; ``9m/2`` is the first two layers of 9m and ``9m#2`` its third alone."""
    base, _, count = name.partition("/")
    if count:
        return SETS[base].first(int(count))
    base, _, index = name.partition("#")
    return SETS[base].only(int(index)) if index else SETS[base]
