"""The plan of a merge: what it would do, before a cell is read."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from rasterloom._gen.merger.v1 import merger_pb2
from rasterloom._render import crs_name, html_table, number, size, text_table, wrapped
from rasterloom.grid import Grid, Relation, Vector, Window, window_from_proto
from rasterloom.layers import Layer, type_name

__all__ = ["Plan", "PlannedLayer", "Resampled"]


@dataclass(frozen=True, slots=True)
class Resampled:
    """What makes a resampled column: enough to make it again.

    Attributes
    ----------
    method : str
        ``"nearest"``, ``"bilinear"``, ``"cubic"``, ``"average"``, ``"mode"``,
        ``"min"``, ``"max"`` or ``"sum"``.
    explanation : str
        Why this method.
    ratio : Vector
        Step of the lattice over that of the layer: above 1 the lattice is the
        coarser.
    offset : Vector
        Where the north-west corner of the reference lattice lies on the layer,
        in pixels of the layer, to the east and to the south.
    min_share : float
        Least share of a cell's area that cells with a value must cover.
    widened : bool
        Whether bilinear or cubic take all cells under a kernel widened by the
        ratio, not the nearest 2 or 4 along each axis.
    version : int
        Of the rules: the same version makes the same bytes.
    """

    method: str
    explanation: str
    ratio: Vector
    offset: Vector
    min_share: float
    widened: bool
    version: int

    @classmethod
    def from_proto(cls, message: merger_pb2.Resampled) -> Resampled:
        """Read a receipt of the contract."""
        return cls(
            method=merger_pb2.Resampling.Name(message.method).removeprefix("RESAMPLING_").lower(),
            explanation=message.explanation,
            ratio=Vector(message.ratio_x, message.ratio_y),
            offset=Vector(message.offset_x, message.offset_y),
            min_share=message.min_share,
            widened=message.widened,
            version=message.version,
        )

    def __str__(self) -> str:
        return f"{self.method}, {number(self.ratio.x)} x {number(self.ratio.y)}"


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """What happens to one layer.

    Attributes
    ----------
    layer : Layer
        As catalogued.
    column : str
        Name of its column.
    type : str
        numpy type of its column.
    relation : Relation
        How it lies on the reference.
    resampled : Resampled or None
        How it is resampled; None where its cells are taken as they are.
    """

    layer: Layer
    column: str
    type: str
    relation: Relation
    resampled: Resampled | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """An EXPLAIN of a merge. Prints as a table, here and in notebooks.

    Attributes
    ----------
    reference : Grid
        The reference lattice.
    reference_layer : str
        The layer it comes from; empty for an explicit grid.
    reference_explanation : str
        Why this reference.
    window : Window
        The part of the reference lattice that the table covers.
    lattice : Grid
        The same as a grid.
    layers : tuple of PlannedLayer
        In column order.
    max_rows, max_bytes : int
        Largest possible number of rows, and size of the batches in bytes.
    peak_memory_bytes : int
        Memory that one stream needs in the server.
    endpoints : int
        Number of parts that can be read apart.
    warnings : tuple of str
        Things worth knowing before the merge.
    schema : pyarrow.Schema
        Of the merged table, with its metadata.
    flight_uri : str
        Address to read the table from.
    """

    reference: Grid
    reference_layer: str
    reference_explanation: str
    window: Window
    lattice: Grid
    layers: tuple[PlannedLayer, ...]
    max_rows: int
    max_bytes: int
    peak_memory_bytes: int
    endpoints: int
    warnings: tuple[str, ...]
    schema: pa.Schema
    flight_uri: str

    @classmethod
    def from_proto(cls, message: merger_pb2.PlanMergeResponse) -> Plan:
        """Read a plan of the contract."""
        return cls(
            reference=Grid.from_proto(message.reference),
            reference_layer=message.reference_layer,
            reference_explanation=message.reference_explanation,
            window=window_from_proto(message.window),
            lattice=Grid.from_proto(message.lattice),
            layers=tuple(
                PlannedLayer(
                    layer=Layer.from_proto(p.layer),
                    column=p.column,
                    type=type_name(p.type),
                    relation=Relation.from_proto(p.relation),
                    resampled=Resampled.from_proto(p.resampled) if p.HasField("resampled") else None,
                )
                for p in message.layers
            ),
            max_rows=message.max_rows,
            max_bytes=message.max_bytes,
            peak_memory_bytes=message.peak_memory_bytes,
            endpoints=message.endpoints,
            warnings=tuple(message.warnings),
            schema=pa.ipc.read_schema(pa.py_buffer(message.arrow_schema)),
            flight_uri=message.flight_uri,
        )

    _HEADERS = ("column", "type", "layer", "format", "verdict", "shift px, or resampled (x, y)")

    def _table(self) -> list[list[str]]:
        return [
            [
                p.column,
                p.type,
                p.layer.name,
                p.layer.format,
                p.relation.verdict,
                str(p.resampled or f"{number(p.relation.shift_pixels.x)}, {number(p.relation.shift_pixels.y)}"),
            ]
            for p in self.layers
        ]

    def _facts(self) -> list[list[str]]:
        box = self.lattice.bounds
        lattice = (
            f"{self.lattice.rows} x {self.lattice.cols} cells of {number(self.lattice.step_x)} x "
            f"{number(self.lattice.step_y)}, {crs_name(self.lattice.crs)}"
        )
        return [
            ["lattice", lattice],
            ["bounds", f"x {number(box.min_x)} to {number(box.max_x)}, y {number(box.min_y)} to {number(box.max_y)}"],
            ["rows", f"at most {self.max_rows:,} ({size(self.max_bytes)})"],
            ["server", f"{size(self.peak_memory_bytes)} of memory, {self.endpoints} endpoint(s)"],
        ]

    def __str__(self) -> str:
        lines = [f"{name:<9}{fact}" for name, fact in self._facts()]
        lines += ["", text_table(self._HEADERS, self._table())]
        lines += [wrapped(f"warning  {text}", " " * 9) for text in self.warnings]
        return "\n".join(lines)

    __repr__ = __str__

    def to_html(self, *, caption: str = "") -> str:
        """Write the plan as a notebook shows it, under a caption."""
        facts = [*self._facts(), *(["warning", text] for text in self.warnings)]
        return html_table(("plan", ""), facts, caption=caption) + html_table(self._HEADERS, self._table())

    def _repr_html_(self) -> str:
        return self.to_html()
