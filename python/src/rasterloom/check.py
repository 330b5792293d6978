"""Checks: what a layer's table looks like now, and whether its coordinates can be trusted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from rasterloom._gen.grid.v1 import grid_pb2
from rasterloom._render import html_table, number, text_table
from rasterloom.errors import no_such_name
from rasterloom.grid import Vector
from rasterloom.layers import Layer, Problem, name_of

if TYPE_CHECKING:
    from rasterloom._gen.schema.v1 import coordinates_pb2

__all__ = ["CheckList", "CoordinateCheck", "CoordinateError", "LayerCheck"]


@dataclass(frozen=True, slots=True)
class CoordinateError:
    """A stored row whose coordinates are not where they should be.

    Attributes
    ----------
    row, col : int or None
        Indices as stored, else of the nearest cell; None where neither is known.
    x, y : float or None
        Stored coordinates; None where missing.
    expected : Vector or None
        The grid's; None where the cell is not known.
    """

    row: int | None
    col: int | None
    x: float | None
    y: float | None
    expected: Vector | None


@dataclass(frozen=True, slots=True)
class CoordinateCheck:
    """Every stored coordinate of a layer against its grid.

    Attributes
    ----------
    rows, exact : int
        Rows read, and those whose coordinates are right to the last bit.
    wrong : int
        Rows that are off, missing or outside.
    off, missing, outside : int
        Rows farther off than the tolerance, NaN or infinite; without x or y;
        without a cell of the grid.
    largest_error_pixels : Vector
        Largest error along x and y, of finite coordinates.
    registration : str
        Which point of a cell most rows name: ``CENTER``, ``UPPER_LEFT`` or
        ``UNSPECIFIED``.
    south_up : bool
        Whether most rows run from the south.
    offenders : tuple of CoordinateError
        The first wrong rows in the order of the table, at most 100.
    problems : tuple of Problem
        What is wrong, in sentences.
    tolerance : float
        How far off a coordinate might be, in pixels.
    """

    rows: int
    exact: int
    wrong: int
    off: int
    missing: int
    outside: int
    largest_error_pixels: Vector
    registration: str
    south_up: bool
    offenders: tuple[CoordinateError, ...]
    problems: tuple[Problem, ...]
    tolerance: float

    @classmethod
    def from_proto(cls, message: coordinates_pb2.CoordinateValidation) -> CoordinateCheck:
        """Read a comparison of the contract."""
        return cls(
            rows=message.rows,
            exact=message.exact,
            wrong=message.wrong,
            off=message.off,
            missing=message.missing,
            outside=message.outside,
            largest_error_pixels=Vector(message.largest_error_pixels.x, message.largest_error_pixels.y),
            registration=grid_pb2.Registration.Name(message.registration_found).removeprefix("REGISTRATION_"),
            south_up=message.south_up_found,
            offenders=tuple(_offender(offender) for offender in message.offenders),
            problems=tuple(Problem.from_proto(problem) for problem in message.problems),
            tolerance=message.tolerance_pixels,
        )


def _offender(message: coordinates_pb2.CoordinateOffender) -> CoordinateError:
    return CoordinateError(
        row=message.row if message.HasField("row") else None,
        col=message.col if message.HasField("col") else None,
        x=message.x if message.HasField("x") else None,
        y=message.y if message.HasField("y") else None,
        expected=Vector(message.expected.x, message.expected.y) if message.HasField("expected") else None,
    )


@dataclass(frozen=True, slots=True)
class LayerCheck:
    """What was found of one layer.

    Attributes
    ----------
    layer : Layer
        As it is now, with its problems; the catalog is unchanged.
    rows_read : int
        Rows that were looked at: a sample, or all.
    coordinates : CoordinateCheck or None
        None where it was not asked for, or no coordinates are stored.
    """

    layer: Layer
    rows_read: int
    coordinates: CoordinateCheck | None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that was found, of the layer and of its coordinates."""
        return self.layer.problems + (self.coordinates.problems if self.coordinates else ())

    @property
    def ok(self) -> bool:
        """Whether there is no critical problem and no wrong coordinate."""
        return all(p.severity != "CRITICAL" for p in self.problems) and not (
            self.coordinates and self.coordinates.wrong
        )


class CheckList(Sequence[LayerCheck]):
    """Checks of layers as a list that prints as a table, here and in notebooks.

    Indexed by position, by name, or by a layer.
    """

    def __init__(self, checks: Sequence[LayerCheck]) -> None:
        self._checks = tuple(checks)

    @overload
    def __getitem__(self, index: int | str | Layer) -> LayerCheck: ...
    @overload
    def __getitem__(self, index: slice) -> CheckList: ...
    def __getitem__(self, index: int | str | Layer | slice) -> LayerCheck | CheckList:
        if isinstance(index, slice):
            return CheckList(self._checks[index])
        if isinstance(index, int):
            return self._checks[index]
        name = name_of(index, "index")
        for check in self._checks:
            if check.layer.name == name:
                return check
        raise no_such_name("layer", name, [check.layer.name for check in self._checks])

    def __len__(self) -> int:
        return len(self._checks)

    def __iter__(self) -> Iterator[LayerCheck]:
        return iter(self._checks)

    @property
    def ok(self) -> bool:
        """Whether all are."""
        return all(check.ok for check in self)

    _HEADERS = ("layer", "ok", "format", "rows read", "wrong", "largest error px", "problems")

    def _rows(self) -> list[list[str]]:
        rows: list[list[str]] = []
        for check in self:
            found = check.coordinates
            rows.append(
                [
                    check.layer.name,
                    "yes" if check.ok else "NO",
                    check.layer.format,
                    f"{check.rows_read:,}",
                    f"{found.wrong:,}" if found else "",
                    number(max(found.largest_error_pixels)) if found else "",
                    ", ".join(dict.fromkeys(p.code.lower() for p in check.problems)),
                ]
            )
        return rows

    def __str__(self) -> str:
        if not self._checks:
            return "no layers to check"
        return text_table(self._HEADERS, self._rows(), right=("rows read", "wrong", "largest error px"))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(self._HEADERS, self._rows(), caption=f"{len(self)} layers checked")
