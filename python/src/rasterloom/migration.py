"""Migrations: a layer's table gets stored coordinates, or becomes tiles, while it is read and written."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Literal, TypeVar, cast, overload

from rasterloom import errors
from rasterloom._gen.schema.v1 import migration_pb2
from rasterloom._progress import BAR, progress_bar
from rasterloom._render import html_table, text_table, wrapped
from rasterloom.layers import name_of
from rasterloom.migration_plan import MigrationPlan
from rasterloom.migration_status import MigrationStatus

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from datetime import timedelta

    import grpc
    from google.protobuf.message import Message

    from rasterloom._progress import Progress
    from rasterloom.connection import Connection
    from rasterloom.layers import Layer

    Request = TypeVar("Request", bound=Message)
    _Changed = TypeVar(
        "_Changed",
        migration_pb2.PauseMigrationResponse,
        migration_pb2.ResumeMigrationResponse,
        migration_pb2.CutOverResponse,
        migration_pb2.RollbackResponse,
        migration_pb2.FinalizeResponse,
        migration_pb2.AbortMigrationResponse,
    )

__all__ = ["Migration", "MigrationList", "Migrations"]

NEXT = {"VERIFIED": "cut_over() or abort()", "CUT_OVER": "finalize(drop_old_table=True) or rollback()"}
"""What an operator may do where a migration waits."""

Target = Literal["stored", "tiled"]
"""What a migration makes of a table: coordinates beside the cells, or tiles."""


class Migration:
    """A migration on the server; made by :meth:`Migrations.start` and :meth:`Migrations.get`.

    It goes on whether or not anybody watches. Calls that change it say which
    state they have seen (``last``): when it has moved since, they raise
    :class:`Aborted` with reason ``MIGRATION_CHANGED``, and :meth:`status` looks
    again.

    Attributes
    ----------
    id : str
        Its id, such as ``"m17"``.
    layer, table : str
        The layer, and the table that it works on, as ``schema.name``.
    to : str
        What it makes: ``"stored"`` coordinates, or ``"tiled"``.
    in_place : bool
        Whether the table itself gets the columns.
    sql_view : bool
        Whether finalizing leaves a view under the table's name; of tiles only.
    last : MigrationStatus
        How it stood when the server was last asked.
    """

    def __init__(self, connection: Connection, message: migration_pb2.Migration, progress: Progress = "auto") -> None:
        self._connection = connection
        self._progress: Progress = progress
        self.id = message.id
        self.layer = message.layer
        self.table = f"{message.table.schema}.{message.table.name}"
        self.to: Target = "tiled" if message.level == migration_pb2.MIGRATION_LEVEL_TILED else "stored"
        self.in_place = message.in_place
        self.sql_view = message.tiles.sql_view
        self.last = self._saw(message)

    def __repr__(self) -> str:
        return f"<Migration {self.id} of {self.layer!r}, {_state(self.last)}>"

    def _rows(self) -> list[list[str]]:
        last = self.last
        rows = [
            [
                "table",
                f"{self.table}{', in place' if self.in_place else ''}{', to tiles' if self.to == 'tiled' else ''}",
            ],
            ["state", f"{_state(last)} since {last.since:%Y-%m-%d %H:%M:%S} UTC"],
            ["copied", f"{last.rows_copied:,} of {last.rows_total:,} rows, {last.fraction:.0%}"],
        ]
        if last.verification is not None:
            found = last.verification
            what, also = "rows", f"{found.wrong_coordinates} wrong coordinates"
            if self.to == "tiled":
                what, also = "cells", f"{found.tiles:,} tiles, {found.rows_without_value:,} rows without a value"
            rows.append(
                [
                    "verified",
                    f"{found.old_rows:,} and {found.new_rows:,} {what}, {len(found.differing)} named that differ, "
                    f"{also}, in {found.seconds:.1f} s",
                ]
            )
        if last.failure is not None:
            rows.append([last.failure.reason, last.failure.message])
        if last.waiting is not None:
            rows.append(["waits", f"{last.waiting.reason} {last.waiting.message}"])
        if following := _next(last):
            rows.append(["next", following])
        return rows

    def __str__(self) -> str:
        lines = [f"{self.id} of {self.layer}"]
        return "\n".join([*lines, *(wrapped(f"  {name:<9} {text}", " " * 12) for name, text in self._rows())])

    def _repr_html_(self) -> str:
        return html_table(("", ""), self._rows(), caption=f"{self.id} of {self.layer}")

    def status(self) -> MigrationStatus:
        """Ask how it stands."""
        request = migration_pb2.GetMigrationRequest(id=self.id)
        self.last = self._saw(
            self._connection.call(self._connection.migrations.GetMigration, request, "schema").migration
        )
        return self.last

    def watch(self) -> Iterator[MigrationStatus]:
        """Follow it: its status at once, whenever it changed, until it waits for somebody or is over."""
        request = migration_pb2.WatchMigrationRequest(id=self.id)
        with closing(self._connection.follow(self._connection.migrations.WatchMigration, request, "schema")) as answers:
            for answer in answers:
                remaining = answer.remaining.ToTimedelta() if answer.HasField("remaining") else None
                self.last = self._saw(answer.migration, answer.rows_per_second, remaining)
                yield self.last

    def wait(self) -> MigrationStatus:
        """Wait until it waits for somebody or is over, with a progress bar.

        Ctrl-C ends the waiting, not the migration: see :meth:`pause`.

        Returns
        -------
        MigrationStatus
            Such as ``"VERIFIED"``, or one that somebody paused.

        Raises
        ------
        FailedPrecondition
            A step failed: ``reason`` and ``fields`` say why, such as
            ``DISK_FULL``. :meth:`resume` tries it again.
        """
        with (
            closing(cast("Generator[MigrationStatus]", self.watch())) as statuses,
            progress_bar(self._progress, total=100, desc=f"{self.id} {self.layer}", bar_format=BAR) as bar,
        ):
            for status in statuses:
                bar.update(100 * status.fraction - bar.n)
                speed = f", {status.rows_per_second:,.0f} rows/s" if status.rows_per_second else ""
                bar.set_postfix_str(f"{_state(status)}, {status.rows_copied:,} rows{speed}")
        if self.last.condition == "FAILED" and (failure := self.last.failure) is not None:
            raise errors.FailedPrecondition(failure.message, reason=failure.reason, fields=failure.fields)
        return self.last

    def pause(self) -> MigrationStatus:
        """Stop it where it is; writes to the table are captured all the same."""
        request = migration_pb2.PauseMigrationRequest(id=self.id, etag=self._etag)
        return self._changed(self._connection.migrations.PauseMigration, request)

    def resume(self) -> MigrationStatus:
        """Let it go on, paused or failed."""
        request = migration_pb2.ResumeMigrationRequest(id=self.id, etag=self._etag)
        return self._changed(self._connection.migrations.ResumeMigration, request)

    def cut_over(self) -> MigrationStatus:
        """Give the table's name to the new table, or have the layer read from its tiles.

        Takes milliseconds; can be undone.

        Raises
        ------
        FailedPrecondition
            It is not verified, with reason ``MIGRATION_STATE``.
        Unavailable
            The locks were not had, with reason ``TABLE_BUSY``; nothing changed.
        """
        request = migration_pb2.CutOverRequest(id=self.id, etag=self._etag)
        return self._changed(self._connection.migrations.CutOver, request)

    def rollback(self) -> MigrationStatus:
        """Give the name, or the layer, back to the old table, which has every write."""
        request = migration_pb2.RollbackRequest(id=self.id, etag=self._etag)
        return self._changed(self._connection.migrations.Rollback, request)

    def finalize(
        self, *, drop_old_table: bool = False, drop_name: bool = False, lose_writes: bool = False
    ) -> MigrationStatus:
        """Compare once more and drop the old table: the only step without a way back.

        Parameters
        ----------
        drop_old_table : bool
            Must be True: says that this is meant.
        drop_name : bool
            Must be True for tiles without ``sql_view``: nothing has the table's
            name from then on, and SQL that names it fails. Also where somebody
            dropped the table, of which no view can be left.
        lose_writes : bool
            Accepts, where somebody dropped the table while tiles lagged behind
            it, that what was written to these tiles last is lost.

        Raises
        ------
        InvalidArgument
            Nobody said ``drop_old_table=True``, or ``drop_name=True`` where that
            is needed.
        FailedPrecondition
            Something hangs on the table by now that would be lost, or tiles lagged
            behind a table that somebody dropped, with reason ``MIGRATION_REFUSED``.
        DataLoss
            The tables differ; nothing was dropped.
        """
        request = migration_pb2.FinalizeRequest(
            id=self.id,
            etag=self._etag,
            drop_old_table=drop_old_table,
            drop_name=drop_name,
            lose_writes=lose_writes,
        )
        return self._changed(self._connection.migrations.Finalize, request)

    def abort(self) -> MigrationStatus:
        """Give it up before its cut-over; nothing is left of it."""
        request = migration_pb2.AbortMigrationRequest(id=self.id, etag=self._etag)
        return self._changed(self._connection.migrations.AbortMigration, request)

    def _changed(self, method: grpc.UnaryUnaryMultiCallable[Request, _Changed], request: Request) -> MigrationStatus:
        # Comparing and locking take as long as the table is large, and busy.
        with progress_bar(self._progress, desc=f"{self.id} {self.layer}", bar_format="{desc} waits {elapsed}") as bar:
            answer = self._connection.call(method, request, "schema", patience=None, waiting=bar.refresh)
        self.last = self._saw(answer.migration)
        return self.last

    def _saw(
        self, message: migration_pb2.Migration, rows_per_second: float = 0.0, remaining: timedelta | None = None
    ) -> MigrationStatus:
        self._etag = message.etag
        return MigrationStatus.from_proto(message, rows_per_second, remaining)


class MigrationList(Sequence[Migration]):
    """Migrations as a list that prints as a table, here and in notebooks."""

    def __init__(self, migrations: Sequence[Migration]) -> None:
        self._migrations = tuple(migrations)

    @overload
    def __getitem__(self, index: int) -> Migration: ...
    @overload
    def __getitem__(self, index: slice) -> MigrationList: ...
    def __getitem__(self, index: int | slice) -> Migration | MigrationList:
        if isinstance(index, slice):
            return MigrationList(self._migrations[index])
        return self._migrations[index]

    def __len__(self) -> int:
        return len(self._migrations)

    _HEADERS = ("migration", "layer", "state", "rows", "since (UTC)", "next")

    def _rows(self) -> list[list[str]]:
        return [
            [
                m.id,
                m.layer,
                _state(m.last),
                f"{m.last.rows_total:,}",
                f"{m.last.since:%Y-%m-%d %H:%M:%S}",
                _next(m.last),
            ]
            for m in self._migrations
        ]

    def __str__(self) -> str:
        if not self._migrations:
            return "no migrations; loom.migrations.start(layer) starts one"
        return text_table(self._HEADERS, self._rows(), right=("rows",))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(self._HEADERS, self._rows(), caption=f"{len(self)} migrations")


class Migrations:
    """The migrations of a server: ``loom.migrations``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __repr__(self) -> str:
        return f"<Migrations of {', '.join(self._connection.urls)}>"

    def plan(
        self,
        layer: str | Layer,
        *,
        to: Target = "stored",
        in_place: bool = False,
        sql_view: bool = False,
        declared_type: bool = False,
        rows_per_second: int | None = None,
        disk_headroom: int | None = None,
    ) -> MigrationPlan:
        """Say what a migration would do and what stands in its way. Changes nothing.

        Parameters
        ----------
        layer : str or Layer
            The layer, or its name.
        to : {"stored", "tiled"}
            What to make of it: ``x_coord`` and ``y_coord`` beside the cells, or
            tiles, which are read much faster and take much less space.
        in_place : bool
            Give the columns to the table itself, where the disk has no room for
            a second one. Slower, and the table grows. Not for tiles.
        sql_view : bool
            Leave a view under the table's name in the end, for reading by SQL.
            The tiles are then not compressed. For tiles only.
        declared_type : bool
            Store values in the layer's declared type, if it holds all of them
            exactly. Default: in the type of the table, so that merges give the
            same columns as before. For tiles only.
        rows_per_second : int, optional
            Copy at most so many rows a second.
        disk_headroom : int, optional
            Free space on the server's disk, in bytes. Default: measured, where
            the service runs on the machine of the database.

        Examples
        --------
        >>> plan = loom.migrations.plan("nc_pr_01")
        >>> plan.possible, plan.rows
        (True, 2080)
        """
        request = migration_pb2.PlanMigrationRequest(
            spec=_spec(layer, to, in_place, sql_view, declared_type, rows_per_second), disk_headroom_bytes=disk_headroom
        )
        answer = self._connection.call(self._connection.migrations.PlanMigration, request, "schema", patience=None)
        return MigrationPlan.from_proto(answer.plan)

    def start(
        self,
        layer: str | Layer,
        *,
        to: Target = "stored",
        in_place: bool = False,
        sql_view: bool = False,
        declared_type: bool = False,
        rows_per_second: int | None = None,
        disk_headroom: int | None = None,
        key: str | None = None,
        progress: Progress = "auto",
    ) -> Migration:
        """Start a migration. It copies and verifies, then waits for :meth:`Migration.cut_over`.

        Parameters
        ----------
        layer, to, in_place, sql_view, declared_type, rows_per_second, disk_headroom
            As in :meth:`plan`.
        key : str, optional
            Names this request for ever: the same key never starts a second
            migration. Default: a new one.
        progress : bool or "auto"
            Whether :meth:`Migration.wait` shows a progress bar.

        Raises
        ------
        NotFound
            There is no such layer.
        FailedPrecondition
            The table cannot be migrated as it is, with reason
            ``MIGRATION_REFUSED``; :meth:`plan` has all reasons.
        AlreadyExists
            The table has a live migration, with reason ``MIGRATION_EXISTS``.
        ResourceExhausted
            The disk has too little space, with reason ``DISK_FULL``.
        """
        request = migration_pb2.StartMigrationRequest(
            spec=_spec(layer, to, in_place, sql_view, declared_type, rows_per_second),
            idempotency_key=key or f"python-{uuid.uuid4()}",
            disk_headroom_bytes=disk_headroom,
        )
        answer = self._connection.call(self._connection.migrations.StartMigration, request, "schema", patience=None)
        return Migration(self._connection, answer.migration, progress)

    def get(self, id: str, *, progress: Progress = "auto") -> Migration:  # noqa: A002
        """Give one migration.

        Parameters
        ----------
        id : str
            Its id, such as ``"m17"``.
        progress : bool or "auto"
            Whether :meth:`Migration.wait` shows a progress bar.

        Raises
        ------
        NotFound
            There is none, with reason ``MIGRATION_NOT_FOUND``.
        """
        request = migration_pb2.GetMigrationRequest(id=id)
        answer = self._connection.call(self._connection.migrations.GetMigration, request, "schema")
        return Migration(self._connection, answer.migration, progress)

    def list(self, layer: str | Layer = "", *, limit: int = 100) -> MigrationList:
        """List migrations, the newest first.

        Parameters
        ----------
        layer : str or Layer
            Only those of this layer. Default: all.
        limit : int
            Largest number of them, at most 1,000.
        """
        request = migration_pb2.ListMigrationsRequest(layer=name_of(layer), limit=limit)
        answer = self._connection.call(self._connection.migrations.ListMigrations, request, "schema")
        return MigrationList([Migration(self._connection, message) for message in answer.migrations])


def _spec(
    layer: str | Layer, to: Target, in_place: bool, sql_view: bool, declared_type: bool, rows_per_second: int | None
) -> migration_pb2.MigrationSpec:
    levels = {"stored": migration_pb2.MIGRATION_LEVEL_STORED, "tiled": migration_pb2.MIGRATION_LEVEL_TILED}
    if to not in levels:
        raise errors.invalid("to", to, f"one of {', '.join(map(repr, levels))}")
    tiles = migration_pb2.TileOptions(sql_view=sql_view, declared_type=declared_type)
    return migration_pb2.MigrationSpec(
        layer=name_of(layer),
        level=levels[to],
        rows_per_second_limit=rows_per_second or 0,
        in_place=in_place,
        tiles=tiles if sql_view or declared_type else None,
    )


def _state(status: MigrationStatus) -> str:
    return status.state if status.condition == "RUNNING" else f"{status.state}, {status.condition}"


def _next(status: MigrationStatus) -> str:
    if status.over:
        return ""
    if status.condition != "RUNNING":
        return "resume() or abort()" if status.state != "CUT_OVER" else "resume() or rollback()"
    return NEXT.get(status.state, "wait()")
