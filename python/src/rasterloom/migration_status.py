"""How a migration stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from rasterloom import errors
from rasterloom._gen.schema.v1 import migration_pb2

if TYPE_CHECKING:
    from datetime import datetime, timedelta

__all__ = ["DifferingRow", "MigrationStatus", "Verification"]

State = Literal[
    "PLANNED",
    "CAPTURING",
    "BACKFILLING",
    "INDEXED",
    "SYNCED",
    "VERIFIED",
    "CUT_OVER",
    "FINALIZED",
    "ROLLED_BACK",
    "ABORTED",
]
Condition = Literal["RUNNING", "PAUSED", "FAILED"]


class DifferingRow(NamedTuple):
    """A cell that is not the same in both tables.

    ``difference`` is ``"missing"``, ``"added"``, ``"changed"``, ``"coordinates"``
    or, of a tile, named by its first cell, ``"unreadable"``.
    """

    row: int
    col: int
    difference: str


@dataclass(frozen=True, slots=True)
class Verification:
    """A comparison of every row of both tables in one snapshot.

    Attributes
    ----------
    old_rows, new_rows : int
        Rows of the old and the new table; cells with a value of tiles.
    old_hash, new_hash : str
        Hash of all bits of all their rows.
    wrong_coordinates : int
        Rows whose coordinates are not the grid's to the last bit.
    off_grid : int
        Rows that writers stored outside of the grid since the plan.
    differing : tuple of DifferingRow
        Rows that differ, at most 100.
    seconds : float
        Time it took.
    rows_without_value : int
        Rows with NULL, NaN or nodata, which tiles do not tell from no row.
    tiles, lagging_tiles : int
        Tiles that were compared, and how many of them had been written to at the
        moment, and were made anew and compared apart.
    """

    old_rows: int
    new_rows: int
    old_hash: str
    new_hash: str
    wrong_coordinates: int
    off_grid: int
    differing: tuple[DifferingRow, ...]
    seconds: float
    rows_without_value: int = 0
    tiles: int = 0
    lagging_tiles: int = 0

    @classmethod
    def from_proto(cls, message: migration_pb2.Verification) -> Verification:
        """Read a message of the contract."""
        return cls(
            old_rows=message.old_rows,
            new_rows=message.new_rows,
            old_hash=message.old_hash,
            new_hash=message.new_hash,
            wrong_coordinates=message.wrong_coordinates,
            off_grid=message.off_grid,
            differing=tuple(DifferingRow(d.row, d.col, d.difference) for d in message.differing),
            seconds=message.elapsed.ToTimedelta().total_seconds(),
            rows_without_value=message.rows_without_value,
            tiles=message.tiles,
            lagging_tiles=message.lagging_tiles,
        )


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """A migration as it stood when the server was asked.

    Attributes
    ----------
    state : str
        How far it has come: ``"PLANNED"``, ``"CAPTURING"``, ``"BACKFILLING"``,
        ``"INDEXED"``, ``"SYNCED"``, ``"VERIFIED"`` (waits for a cut-over),
        ``"CUT_OVER"``, ``"FINALIZED"``, ``"ROLLED_BACK"`` or ``"ABORTED"``.
    condition : str
        ``"RUNNING"`` (or waiting), ``"PAUSED"`` or ``"FAILED"``.
    failure : RasterloomError or None
        Why it failed, with reason and fields.
    waiting : RasterloomError or None
        Why it does not move just now, though it runs: a table that somebody has
        locked, with whom, or no worker that has taken it up.
    rows_total, rows_copied : int
        Rows found when planning, and copied so far.
    fraction : float
        Part of the copying that is done, from 0 to 1.
    notes_pending : int
        About how many writes made meanwhile wait to be applied.
    rows_per_second : float
        Speed of the copying over the last seconds; 0 where nothing is copied,
        and where it was not watched.
    remaining : timedelta or None
        About how long the copying still takes, where that can be said.
    verification : Verification or None
        The newest comparison of both tables.
    created, since : datetime
        When it was started, and when it reached its state; UTC.
    """

    state: State
    condition: Condition
    failure: errors.RasterloomError | None
    waiting: errors.RasterloomError | None
    rows_total: int
    rows_copied: int
    fraction: float
    notes_pending: int
    rows_per_second: float
    remaining: timedelta | None
    verification: Verification | None
    created: datetime
    since: datetime

    @property
    def over(self) -> bool:
        """Whether nothing more can happen."""
        return self.state in ("FINALIZED", "ROLLED_BACK", "ABORTED")

    @classmethod
    def from_proto(
        cls, message: migration_pb2.Migration, rows_per_second: float = 0.0, remaining: timedelta | None = None
    ) -> MigrationStatus:
        """Read a message of the contract."""
        state = migration_pb2.MigrationState.Name(message.state).removeprefix("MIGRATION_STATE_")
        condition = migration_pb2.MigrationCondition.Name(message.condition).removeprefix("MIGRATION_CONDITION_")
        failure, waiting = message.failure, message.waiting
        return cls(
            state=cast("State", state),
            condition=cast("Condition", condition),
            failure=errors.RasterloomError(failure.message, reason=failure.reason, fields=failure.fields)
            if message.HasField("failure")
            else None,
            waiting=errors.RasterloomError(waiting.message, reason=waiting.reason, fields=waiting.fields)
            if message.HasField("waiting")
            else None,
            rows_total=message.rows_total,
            rows_copied=message.rows_copied,
            fraction=message.fraction_copied,
            notes_pending=message.notes_pending,
            rows_per_second=rows_per_second,
            remaining=remaining,
            verification=Verification.from_proto(message.verification) if message.HasField("verification") else None,
            created=message.create_time.ToDatetime(),
            since=message.state_time.ToDatetime(),
        )
