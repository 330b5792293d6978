"""Grids, and how they relate.

Axis order everywhere: (row, col) for indices, row 0 in the north and column 0
in the west; (x, y) for coordinates of the CRS, x to the east and y to the
north. Ranges are half-open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from rasterloom._gen.grid.v1 import grid_pb2

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOT_MEASURED = ("REPROJECT", "DISJOINT", "UNSPECIFIED")
"""Verdicts without a shift or a residual to speak of."""

__all__ = ["Bounds", "Grid", "Relation", "Vector", "Verdict", "Window"]

Verdict = Literal["IDENTICAL", "ALIGNED", "SHIFT", "RESAMPLE", "REPROJECT", "DISJOINT", "UNSPECIFIED"]
"""How a layer's cells reach the reference lattice.

``IDENTICAL``: the same lattice, origin and shape. ``ALIGNED``: apart by whole
cells. ``SHIFT``: one shift by a part of a cell brings every cell within the
tolerance. ``RESAMPLE``: another step, or a residual above the tolerance.
``REPROJECT``: another CRS. ``DISJOINT``: no cell in common.
"""


class Vector(NamedTuple):
    """A pair of measures along the axes of a grid."""

    x: float
    y: float


class Bounds(NamedTuple):
    """A box in units of the CRS: the outer edges of the outermost cells."""

    min_x: float
    min_y: float
    max_x: float
    max_y: float


class Window(NamedTuple):
    """A half-open range of rows and columns of a lattice; indices may be negative."""

    row_start: int
    row_stop: int
    col_start: int
    col_stop: int

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns.

        >>> rl.Window(2, 5, -1, 9).shape
        (3, 10)
        """
        return max(0, self.row_stop - self.row_start), max(0, self.col_stop - self.col_start)


@dataclass(frozen=True, slots=True)
class Grid:
    """A north-up lattice of equal cells.

    Parameters
    ----------
    crs : str
        Coordinate reference system as stored: an authority code
        (``"EPSG:4326"``), WKT or PROJJSON.
    rows, cols : int
        Shape.
    origin_x, origin_y : float
        Outer (north-west) corner of cell (0, 0), in units of the CRS.
    step_x, step_y : float
        Size of a cell in units of the CRS, both greater than 0.

    Examples
    --------
    >>> grid = rl.Grid("EPSG:4326", rows=2, cols=3, origin_x=10.0, origin_y=50.0, step_x=0.5, step_y=0.5)
    >>> grid.x
    array([10.25, 10.75, 11.25])
    >>> grid.y
    array([49.75, 49.25])
    >>> grid.bounds
    Bounds(min_x=10.0, min_y=49.0, max_x=11.5, max_y=50.0)
    """

    crs: str
    rows: int
    cols: int
    origin_x: float
    origin_y: float
    step_x: float
    step_y: float

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return self.rows, self.cols

    @property
    def cells(self) -> int:
        """Number of cells."""
        return self.rows * self.cols

    @property
    def bounds(self) -> Bounds:
        """Outer edges of the outermost cells, in units of the CRS."""
        return Bounds(
            min_x=self.origin_x,
            min_y=self.origin_y - self.step_y * self.rows,
            max_x=self.origin_x + self.step_x * self.cols,
            max_y=self.origin_y,
        )

    @property
    def x(self) -> NDArray[np.float64]:
        """Centres of the columns, west to east, shape (cols,), to the bit as the server computes them."""
        return self.origin_x + (np.arange(self.cols, dtype=np.float64) + 0.5) * self.step_x

    @property
    def y(self) -> NDArray[np.float64]:
        """Centres of the rows, north to south, shape (rows,), to the bit as the server computes them."""
        return self.origin_y - (np.arange(self.rows, dtype=np.float64) + 0.5) * self.step_y

    @classmethod
    def from_proto(cls, message: grid_pb2.Grid) -> Grid:
        """Read a grid of the contract."""
        return cls(
            crs=message.crs,
            rows=message.rows,
            cols=message.cols,
            origin_x=message.origin_x,
            origin_y=message.origin_y,
            step_x=message.step_x,
            step_y=message.step_y,
        )

    def to_proto(self) -> grid_pb2.Grid:
        """Write a grid for the contract."""
        return grid_pb2.Grid(
            crs=self.crs,
            rows=self.rows,
            cols=self.cols,
            origin_x=self.origin_x,
            origin_y=self.origin_y,
            step_x=self.step_x,
            step_y=self.step_y,
        )


@dataclass(frozen=True, slots=True)
class Relation:
    """How the grid of one layer lies on a reference lattice, from metadata alone.

    "Pixels" are cells of the reference. Pairs are (x, y): in map units y is
    positive to the north, in pixels to the south (rows count from the north).

    Attributes
    ----------
    layer : str
        Name of the layer.
    verdict : Verdict
        What has to be done with it.
    explanation : str
        The reason in words, with the measured numbers and the limits.
    offset : (int, int)
        Row and column of the reference lattice on which the layer's cell
        (0, 0) falls, whole turns of longitude taken out.
    shift, shift_pixels : Vector
        To be added to the layer's coordinates, in units of the CRS and in pixels.
    displacement_pixels : Vector
        Largest distance of the layer's cells from the lattice as stored, over
        the whole extent.
    residual_pixels : Vector
        Largest distance that remains anywhere once the shift is applied.
    position_error : Vector
        Largest distance between where a value was measured and where the
        merged table says it is, in units of the CRS.
    drift_per_1000 : Vector
        Pixels by which the layer runs away from the lattice in 1,000 cells.
    registration : str
        Which point of a cell the stored coordinates name: ``CENTER`` or ``UPPER_LEFT``.
    longitude_turns : int
        Whole turns of longitude added to the layer's x to reach the reference.
    turn_cols : int
        Columns of the reference in one turn of longitude, 0 if that is not a
        whole number or the CRS is not geographic.
    south_up : bool
        Whether the stored rows run from south to north.
    noise_pixels : Vector
        Bound of what the rounding of coordinates may have added to any number
        of pixels above.
    """

    layer: str
    verdict: Verdict
    explanation: str
    offset: tuple[int, int]
    shift: Vector
    shift_pixels: Vector
    displacement_pixels: Vector
    residual_pixels: Vector
    position_error: Vector
    drift_per_1000: Vector
    registration: str
    longitude_turns: int
    turn_cols: int
    south_up: bool
    noise_pixels: Vector

    @classmethod
    def from_proto(cls, message: grid_pb2.Relation) -> Relation:
        """Read a relation of the contract."""
        return cls(
            layer=message.layer,
            verdict=_verdict(message.verdict),
            explanation=message.explanation,
            offset=(message.offset_rows, message.offset_cols),
            shift=_vector(message.shift),
            shift_pixels=_vector(message.shift_pixels),
            displacement_pixels=_vector(message.displacement_pixels),
            residual_pixels=_vector(message.residual_pixels),
            position_error=_vector(message.position_error),
            drift_per_1000=_vector(message.drift_per_1000),
            registration=grid_pb2.Registration.Name(message.registration).removeprefix("REGISTRATION_"),
            longitude_turns=message.longitude_turns,
            turn_cols=message.turn_cols,
            south_up=message.south_up,
            noise_pixels=_vector(message.noise_pixels),
        )


def _vector(message: grid_pb2.Vector) -> Vector:
    return Vector(message.x, message.y)


_VERDICTS: dict[int, Verdict] = {
    grid_pb2.VERDICT_IDENTICAL: "IDENTICAL",
    grid_pb2.VERDICT_ALIGNED: "ALIGNED",
    grid_pb2.VERDICT_SHIFT: "SHIFT",
    grid_pb2.VERDICT_RESAMPLE: "RESAMPLE",
    grid_pb2.VERDICT_REPROJECT: "REPROJECT",
    grid_pb2.VERDICT_DISJOINT: "DISJOINT",
}


def _verdict(number: int) -> Verdict:
    return _VERDICTS.get(number, "UNSPECIFIED")


def window_from_proto(message: grid_pb2.Window) -> Window:
    """Read a window of the contract."""
    return Window(message.row_start, message.row_stop, message.col_start, message.col_stop)
