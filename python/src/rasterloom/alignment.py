"""The alignment report: how a set of layers fits together."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from rasterloom._gen.aligner.v1 import aligner_pb2
from rasterloom._render import html_table, number, text_table, wrapped
from rasterloom.errors import needs, no_such_name
from rasterloom.grid import NOT_MEASURED, Grid, Relation
from rasterloom.layers import name_of, severity_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    from rasterloom.layers import Layer

__all__ = ["AlignmentReport", "Issue"]


@dataclass(frozen=True, slots=True)
class Issue:
    """One finding.

    Attributes
    ----------
    code : str
        UPPER_SNAKE, stable.
    severity : str
        ``INFO``, ``WARNING`` or ``CRITICAL``.
    layer : str
        The layer it is about; empty when about the set as a whole.
    message : str
        One sentence with names and numbers.
    values : dict of str to float
        The numbers of the sentence.
    fixable : bool
        Whether the merge, or a migration, can mend it.
    fix : str
        How.
    """

    code: str
    severity: str
    layer: str
    message: str
    values: dict[str, float]
    fixable: bool
    fix: str


@dataclass(frozen=True, slots=True)
class AlignmentReport:
    """How layers lie on one reference lattice, from metadata alone.

    Prints as a table with findings, here and in notebooks.

    Attributes
    ----------
    reference : Grid
        The reference lattice.
    reference_layer : str
        The layer it comes from; empty for an explicit grid.
    reference_explanation : str
        Why this reference.
    relations : tuple of Relation
        One per layer, in request order.
    issues : tuple of Issue
        Findings, worst first.
    strategy : str
        ``MERGE``, ``SHIFT``, ``RESAMPLE``, ``REPROJECT`` or ``EXCLUDE``.
    recommendation : str
        The strategy in words.
    union, intersection : Grid or None
        Lattice that holds every cell of every layer that can be merged, and
        the one that all of them cover; None where there is none.
    tolerance_pixels : float
        Largest residual that counts as a shift, in pixels of the reference.
    grids : dict of str to Grid
        Each layer's own grid, for :meth:`plot`.
    """

    reference: Grid
    reference_layer: str
    reference_explanation: str
    relations: tuple[Relation, ...]
    issues: tuple[Issue, ...]
    strategy: str
    recommendation: str
    union: Grid | None
    intersection: Grid | None
    tolerance_pixels: float
    grids: dict[str, Grid] = field(repr=False, default_factory=dict[str, Grid])

    @classmethod
    def from_proto(cls, message: aligner_pb2.AnalyzeAlignmentResponse, grids: Mapping[str, Grid]) -> AlignmentReport:
        """Read a report of the contract; ``grids`` are the layers' own."""
        return cls(
            reference=Grid.from_proto(message.reference),
            reference_layer=message.reference_layer,
            reference_explanation=message.reference_explanation,
            relations=tuple(Relation.from_proto(r) for r in message.relations),
            issues=tuple(
                Issue(
                    code=i.code,
                    severity=severity_name(i.severity),
                    layer=i.layer,
                    message=i.message,
                    values=dict(i.values),
                    fixable=i.fixable,
                    fix=i.fix,
                )
                for i in message.issues
            ),
            strategy=aligner_pb2.Strategy.Name(message.strategy).removeprefix("STRATEGY_"),
            recommendation=message.recommendation,
            union=_overlap(message.union),
            intersection=_overlap(message.intersection),
            tolerance_pixels=message.tolerance_pixels,
            grids=dict(grids),
        )

    @property
    def mergeable(self) -> bool:
        """Whether the layers can be merged as they are, shifts included."""
        return self.strategy in ("MERGE", "SHIFT")

    def relation(self, layer: str | Layer) -> Relation:
        """Give the relation of one layer, KeyError if it is not in the report."""
        name = name_of(layer)
        for relation in self.relations:
            if relation.layer == name:
                return relation
        raise no_such_name("layer", name, [relation.layer for relation in self.relations])

    def to_dict(self) -> dict[str, Any]:
        """Give the report as plain values, ready for JSON."""
        return asdict(self)

    def plot(self, *, cells: int = 4) -> Figure:
        """Draw the lattices over each other at a zoom where cells show.

        Parameters
        ----------
        cells : int
            Number of reference cells along each side of the picture.

        Returns
        -------
        matplotlib.figure.Figure
            One panel per way of lying on the reference; layers with the same
            relation share one. An arrow is the shift.
        """
        with needs("matplotlib", "plot"):
            from rasterloom._plot import plot_alignment

        return plot_alignment(self, cells=cells)

    _HEADERS = ("layer", "verdict", "shift px (x, y)", "shift (x, y)", "residual px", "position error", "notes")

    def _table(self) -> list[list[str]]:
        rows: list[list[str]] = []
        for r in self.relations:
            notes: list[str] = []
            if r.layer == self.reference_layer:
                notes.append("reference")
            if r.longitude_turns:
                notes.append(f"{r.longitude_turns:+d} turn of longitude")
            if r.registration == "UPPER_LEFT":
                notes.append("stored by corner")
            if r.south_up:
                notes.append("south-up")
            measures = [_pair(r.shift_pixels), _pair(r.shift), number(max(r.residual_pixels)), _pair(r.position_error)]
            if r.verdict in NOT_MEASURED:
                measures = ["", "", "", ""]
            rows.append([r.layer, r.verdict, *measures, ", ".join(notes)])
        return rows

    def _head(self) -> str:
        named = f"layer {self.reference_layer!r}" if self.reference_layer else "an explicit grid"
        return (
            f"{self.reference.rows} x {self.reference.cols} cells of "
            f"{number(self.reference.step_x)} x {number(self.reference.step_y)} of {named}"
        )

    def __str__(self) -> str:
        lines = [wrapped(f"strategy   {self.strategy}: {self.recommendation}", " " * 11)]
        lines.append(f"reference  {self._head()}")
        if self.reference_explanation:
            lines.append(wrapped(f"           {self.reference_explanation}", " " * 11))
        lines += ["", text_table(self._HEADERS, self._table(), right=("residual px",))]
        if self.issues:
            lines.append("")
        for issue in self.issues:
            text = f"{issue.severity.lower():<9}{issue.code}: {issue.message}"
            if issue.fix:
                text += f" -> {issue.fix}"
            lines.append(wrapped(text, " " * 9))
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        found = [[i.severity.lower(), i.code, i.layer, i.message, i.fix] for i in self.issues]
        parts = [
            html_table(("strategy", "recommendation"), [[self.strategy, self.recommendation]]),
            html_table(self._HEADERS, self._table(), caption=f"Reference: {self._head()}"),
        ]
        if found:
            parts.append(html_table(("severity", "code", "layer", "finding", "fix"), found, caption="Findings"))
        return "".join(parts)


def _pair(pair: tuple[float, float]) -> str:
    if not any(pair):
        return "0"
    return f"{number(pair[0])}, {number(pair[1])}"


def _overlap(message: aligner_pb2.Overlap) -> Grid | None:
    return Grid.from_proto(message.grid) if message.cells > 0 else None
