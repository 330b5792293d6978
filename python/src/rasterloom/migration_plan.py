"""What a migration would do, and what stands in its way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rasterloom._render import html_table, size, wrapped

if TYPE_CHECKING:
    from rasterloom._gen.schema.v1 import migration_pb2

__all__ = ["Dependent", "MigrationPlan", "Refusal"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reason why a table cannot be migrated as it is.

    Attributes
    ----------
    code : str
        UPPER_SNAKE, stable.
    message, fix : str
        One sentence with names and counts, and what to do about it.
    count : int
        Number of what the message names; 0 where nothing is counted.
    """

    code: str
    message: str
    count: int
    fix: str


class Dependent(NamedTuple):
    """What hangs on the table, such as a ``"view"`` or an ``"index"``, and its name."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """What a migration would do.

    Attributes
    ----------
    layer : str
        Name of the layer.
    rows : int
        Its rows, counted.
    table_bytes : int
        Size of its table with the indexes.
    disk_bytes, wal_bytes : int
        About how much disk it takes until it is finalized, and how much
        write-ahead log it makes.
    disk_headroom_bytes : int or None
        Space on the disk for it; None where that is not known.
    seconds : float
        About how long it takes on an idle server.
    locks, notices : tuple of str
        What is locked, when and for how long at most; what one should know.
    dependents : tuple of Dependent
        What hangs on the table and is carried over.
    refusals : tuple of Refusal
        Why it cannot be done. Empty: it can.
    tiles : int
        The most tiles that there can be; 0 where none are made.
    rows_without_value : int
        Rows with NULL, NaN or nodata, which tiles do not tell from no row.
    """

    layer: str
    rows: int
    table_bytes: int
    disk_bytes: int
    wal_bytes: int
    disk_headroom_bytes: int | None
    seconds: float
    locks: tuple[str, ...]
    notices: tuple[str, ...]
    dependents: tuple[Dependent, ...]
    refusals: tuple[Refusal, ...]
    tiles: int = 0
    rows_without_value: int = 0

    @classmethod
    def from_proto(cls, message: migration_pb2.MigrationPlan) -> MigrationPlan:
        """Read a message of the contract."""
        return cls(
            layer=message.layer,
            rows=message.rows,
            table_bytes=message.table_bytes,
            disk_bytes=message.disk_bytes,
            wal_bytes=message.wal_bytes,
            disk_headroom_bytes=message.disk_headroom_bytes if message.HasField("disk_headroom_bytes") else None,
            seconds=message.estimate.ToTimedelta().total_seconds(),
            locks=tuple(message.locks),
            notices=tuple(message.notices),
            dependents=tuple(Dependent(d.kind, d.name) for d in message.dependents),
            refusals=tuple(Refusal(r.code, r.message, r.count, r.fix) for r in message.refusals),
            tiles=message.tiles,
            rows_without_value=message.rows_without_value,
        )

    @property
    def possible(self) -> bool:
        """Whether nothing stands in its way; the disk is compared when it is started."""
        return not self.refusals

    def _rows(self) -> list[list[str]]:
        left = "not known" if self.disk_headroom_bytes is None else f"{size(self.disk_headroom_bytes)} left"
        return [
            ["rows", f"{self.rows:,}, {size(self.table_bytes)} with indexes"],
            ["disk", f"about {size(self.disk_bytes)} until it is finalized, {left}"],
            ["log", f"about {size(self.wal_bytes)} of write-ahead log"],
            ["time", f"about {self.seconds:.1f} s on an idle server"],
            *(["locks", lock] for lock in self.locks),
            *(["carries", f"{d.kind} {d.name}"] for d in self.dependents),
            *(["note", notice] for notice in self.notices),
            *([r.code, f"{r.message}. To do: {r.fix}" if r.fix else r.message] for r in self.refusals),
        ]

    def _title(self) -> str:
        return f"migration of {self.layer}: {'possible' if self.possible else 'not possible as it is'}"

    def __str__(self) -> str:
        return "\n".join([self._title(), *(wrapped(f"  {name:<8} {text}", " " * 11) for name, text in self._rows())])

    def _repr_html_(self) -> str:
        return html_table(("", ""), self._rows(), caption=self._title())
