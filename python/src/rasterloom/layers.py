"""Layers: what the catalog knows about each stored raster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast, overload

from rasterloom._gen.grid.v1 import grid_pb2
from rasterloom._gen.layer.v1 import layer_pb2
from rasterloom._render import crs_name, html_table, number, text_table
from rasterloom.errors import FailedPrecondition, invalid, needs, no_such_name
from rasterloom.grid import Grid

if TYPE_CHECKING:
    import datetime

    from matplotlib.figure import Figure

    from rasterloom.connection import Connection

__all__ = ["Layer", "LayerList", "Problem"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing found about a layer.

    Attributes
    ----------
    code : str
        UPPER_SNAKE, stable.
    severity : str
        ``INFO``, ``WARNING`` or ``CRITICAL``.
    message : str
        One sentence with names and numbers.
    fields : dict of str to str
        The names and numbers of the sentence.
    fix : str
        What to do about it; may be empty.
    """

    code: str
    severity: str
    message: str
    fields: dict[str, str] = field(default_factory=dict[str, str])
    fix: str = ""

    @classmethod
    def from_proto(cls, message: layer_pb2.Problem) -> Problem:
        """Read a problem of the contract."""
        return cls(
            code=message.code,
            severity=severity_name(message.severity),
            message=message.message,
            fields=dict(message.fields),
            fix=message.fix,
        )


class _Source:
    """Where a layer was read from. A copy keeps it; what is pickled leaves it behind."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def __deepcopy__(self, _: object) -> _Source:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return type(None), ()


@dataclass(frozen=True, slots=True)
class Layer:
    """A dataset: one band on one grid.

    Attributes
    ----------
    name, band : str
        Name in the catalog, and of the band in its source.
    grid : Grid or None
        From the catalogued bounds and shape; None where they give no grid.
    format : str
        How the cells are stored: ``LEGACY``, ``COORDINATE``, ``WINDOWED``,
        ``TILED``, ``PARTIAL`` or ``INVALID``.
    table : str
        Where, as ``schema.name``; empty if nowhere.
    declared_type, stored_type : str
        numpy type of the source raster as catalogued, and of the stored values.
    nodata : float or None
        Value that means "no data", besides NULL, NaN and absence.
    registration : str
        Which point of a cell the stored coordinates name: ``CENTER``,
        ``UPPER_LEFT`` or ``UNSPECIFIED``.
    south_up : bool
        Whether stored rows run from south to north.
    has_indices, has_coordinates, has_key : bool
        Whether row_idx and col_idx are stored, whether x_coord and y_coord
        are, and whether a key forbids storing a cell twice.
    generation : int
        Counts changes of layout or content, from 1.
    estimated_rows : int
        Number of stored rows by the database's statistics; -1 if unknown. A
        row of a tiled layer is a tile.
    problems : tuple of Problem
        What was found about the layer.
    update_time : datetime.datetime or None
        When something about it last changed.
    """

    name: str
    band: str
    grid: Grid | None
    format: str
    table: str
    declared_type: str
    stored_type: str
    nodata: float | None
    registration: str
    south_up: bool
    has_indices: bool
    has_coordinates: bool
    has_key: bool
    generation: int
    estimated_rows: int
    problems: tuple[Problem, ...]
    update_time: datetime.datetime | None
    _source: _Source | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_proto(cls, message: layer_pb2.Layer, connection: Connection | None = None) -> Layer:
        """Read a layer of the contract; over ``connection``, its cells can be read."""
        return cls(
            name=message.name,
            band=message.band,
            grid=Grid.from_proto(message.grid) if message.HasField("grid") else None,
            format=layer_pb2.Format.Name(message.format).removeprefix("FORMAT_"),
            table=f"{message.table.schema}.{message.table.name}" if message.HasField("table") else "",
            declared_type=type_name(message.declared_type),
            stored_type=type_name(message.stored_type),
            nodata=message.nodata if message.HasField("nodata") else None,
            registration=grid_pb2.Registration.Name(message.registration).removeprefix("REGISTRATION_"),
            south_up=message.south_up,
            has_indices=message.has_indices,
            has_coordinates=message.has_coordinates,
            has_key=message.has_key,
            generation=message.generation,
            estimated_rows=message.estimated_rows,
            problems=tuple(Problem.from_proto(problem) for problem in message.problems),
            update_time=message.update_time.ToDatetime() if message.HasField("update_time") else None,
            _source=None if connection is None else _Source(connection),
        )

    def preview(
        self,
        *,
        extent: tuple[float, float, float, float] | None = None,
        pixels: int = 256,
        cells: int = 4_000_000,
    ) -> Figure:
        """Draw the layer, or what of it may be read for a glance.

        The server takes the nearest cell for each pixel, so little is sent.

        Parameters
        ----------
        extent : (min_x, min_y, max_x, max_y), optional
            The part to draw, in units of the CRS: cells with their centres in
            it. Default: all of it.
        pixels : int
            Largest number of pixels along each side.
        cells : int
            Largest number of cells to go through. Of a larger layer or extent,
            as many in the middle are drawn, and the title says so.

        Returns
        -------
        matplotlib.figure.Figure
            The colours span the 2nd to the 98th percentile of the values.

        Raises
        ------
        FailedPrecondition
            The layer has no grid, or came without a connection (it was
            pickled).
        OutOfRange
            No cell lies in the extent.

        Examples
        --------
        >>> picture = loom.layer("olinda-l7-b1").preview(pixels=100)
        >>> print(picture.axes[0].get_title(loc="left"))
        olinda-l7-b1
        352 x 349 cells of 28.5 x 28.5; one in 4 along each side
        """
        with needs("matplotlib", "a preview"):
            from rasterloom._preview import preview

        if self._source is None:
            raise FailedPrecondition(
                f"layer {self.name!r} came without a connection; loom.layer({self.name!r}) has one",
                reason="NOT_CONNECTED",
                fields={"layer": self.name},
            )
        return preview(self._source.connection, self, extent=extent, pixels=pixels, cells=cells)

    def __str__(self) -> str:
        lines = [f"{self.name}  ({self.format}, {self.table or 'no table'})"]
        if self.grid is not None:
            box = self.grid.bounds
            lines += [
                f"  grid      {self.grid.rows} x {self.grid.cols} cells of "
                f"{number(self.grid.step_x)} x {number(self.grid.step_y)}, {crs_name(self.grid.crs)}",
                f"  bounds    x {number(box.min_x)} to {number(box.max_x)}, "
                f"y {number(box.min_y)} to {number(box.max_y)}",
            ]
        nodata = "none" if self.nodata is None else f"{self.nodata:g}"
        lines.append(f"  values    {self.stored_type}, source {self.declared_type}, nodata {nodata}")
        lines += [f"  {p.severity.lower():<9} {p.code}: {p.message}" for p in self.problems]
        return "\n".join(lines)


class LayerList(Sequence[Layer]):
    """Layers as a list that prints as a table, here and in notebooks.

    Indexed by position, by name, or by a layer.

    Examples
    --------
    >>> layers = loom.layers()
    >>> layers["coads_sst_jan"].grid.shape
    (90, 180)
    >>> [layer.name for layer in layers if layer.format == "WINDOWED"][:2]
    ['nc_land', 'nc_tas_07']
    """

    def __init__(self, layers: Sequence[Layer], containing: str = "") -> None:
        self._layers = tuple(layers)
        self._containing = containing

    @overload
    def __getitem__(self, index: int | str | Layer) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> LayerList: ...
    def __getitem__(self, index: int | str | Layer | slice) -> Layer | LayerList:
        if isinstance(index, slice):
            return LayerList(self._layers[index])
        if isinstance(index, int):
            return self._layers[index]
        name = name_of(index, "index")
        for layer in self._layers:
            if layer.name == name:
                return layer
        raise no_such_name("layer", name, self.names)

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers)

    def __contains__(self, item: object) -> bool:
        return any(item in (layer, layer.name) for layer in self._layers)

    @property
    def names(self) -> list[str]:
        """Names of the layers."""
        return [layer.name for layer in self._layers]

    _HEADERS = ("layer", "format", "cells", "step", "crs", "type", "stored rows", "notes")

    def _rows(self) -> list[list[str]]:
        return [
            [
                layer.name,
                layer.format,
                f"{layer.grid.rows} x {layer.grid.cols}" if layer.grid else "",
                number(layer.grid.step_x) if layer.grid else "",
                crs_name(layer.grid.crs) if layer.grid else "",
                layer.declared_type if layer.declared_type != "unspecified" else layer.stored_type,
                _stored(layer),
                ", ".join(dict.fromkeys(p.code.lower() for p in layer.problems)),
            ]
            for layer in self._layers
        ]

    def __str__(self) -> str:
        if not self._layers and self._containing:
            return f"no layer has {self._containing!r} in its name; loom.layers() lists all"
        if not self._layers:
            return "no layers; loom.adopt() takes over an existing catalog"
        return text_table(self._HEADERS, self._rows(), right=("cells", "step", "stored rows"))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(self._HEADERS, self._rows(), caption=f"{len(self)} layers")


def _stored(layer: Layer) -> str:
    """Say how many rows a table has; those of tiles are no cells."""
    if layer.estimated_rows < 0:
        return ""
    unit = "" if layer.format != "TILED" else " tile" if layer.estimated_rows == 1 else " tiles"
    return f"~{layer.estimated_rows:,}{unit}"


def name_of(layer: object, parameter: str = "layer") -> str:
    """Give the name of a layer that is given by it, or as what :meth:`Loom.layer` gives."""
    name = layer.name if isinstance(layer, Layer) else layer
    if not isinstance(name, str):
        raise invalid(parameter, layer, "the name of a layer, or a Layer")
    return name


def names_of(layers: object) -> list[str]:
    """Give the names of one layer or several."""
    if isinstance(layers, (str, Layer)):
        return [name_of(layers)]
    if not isinstance(layers, Iterable) or isinstance(layers, Mapping):
        raise invalid("layers", cast("object", layers), "names of layers, or Layers")
    return [name_of(layer, "one of layers") for layer in cast("Iterable[object]", layers)]


def type_name(number: layer_pb2.DataType) -> str:
    """Name a type as numpy does."""
    return layer_pb2.DataType.Name(number).removeprefix("DATA_TYPE_").lower()


def severity_name(number: layer_pb2.Severity) -> str:
    """Name a severity."""
    return layer_pb2.Severity.Name(number).removeprefix("SEVERITY_")
