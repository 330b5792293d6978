"""Exports: merged tables that the server writes as Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast, overload

from rasterloom import errors
from rasterloom._gen.merger.v1 import export_pb2
from rasterloom._progress import BAR, progress_bar
from rasterloom._render import html_table, size, text_table

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from datetime import datetime

    from rasterloom._progress import Progress
    from rasterloom.connection import Connection

__all__ = ["Export", "ExportList", "ExportPart", "ExportStatus", "Exports"]

State = Literal["QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"]


@dataclass(frozen=True, slots=True)
class ExportPart:
    """One Parquet file of an export.

    Attributes
    ----------
    file : str
        Its name, in the directory of the export.
    rows, bytes : int
        Its rows, and its size.
    sha256 : str
        Its SHA-256, in hex.
    """

    file: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ExportStatus:
    """An export as it stood when the server was asked.

    Attributes
    ----------
    state : str
        ``"QUEUED"``, ``"RUNNING"``, ``"SUCCEEDED"``, ``"FAILED"`` or ``"CANCELLED"``.
    phase : str
        What a running one does: ``"WAITING"`` for memory or connections,
        ``"WRITING"``, ``"PUBLISHING"``; else empty.
    rows, bytes : int
        What was written so far.
    fraction : float
        Part of the lattice gone through, from 0 to 1.
    parts : tuple of ExportPart
        The files, north to south; empty unless it succeeded.
    warnings : tuple of str
        Things worth knowing about the merge.
    ended : datetime, optional
        When it was over.
    """

    state: State
    phase: str
    rows: int
    bytes: int
    fraction: float
    parts: tuple[ExportPart, ...]
    warnings: tuple[str, ...]
    ended: datetime | None

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("SUCCEEDED", "FAILED", "CANCELLED")

    @classmethod
    def from_proto(cls, message: export_pb2.Export) -> ExportStatus:
        """Read a message of the contract."""
        phase = export_pb2.ExportPhase.Name(message.phase).removeprefix("EXPORT_PHASE_")
        return cls(
            state=cast("State", export_pb2.ExportState.Name(message.state).removeprefix("EXPORT_STATE_")),
            phase="" if phase == "UNSPECIFIED" else phase,
            rows=message.rows,
            bytes=message.bytes,
            fraction=message.fraction,
            parts=tuple(ExportPart(part.file, part.rows, part.bytes, part.sha256) for part in message.manifest.parts),
            warnings=tuple(message.warnings),
            ended=message.end_time.ToDatetime() if message.HasField("end_time") else None,
        )


class Export:
    """An export on the server; made by :meth:`Merge.export` and :meth:`Exports.get`.

    It goes on whether or not anybody waits for it.

    Attributes
    ----------
    id : str
        Its id, good for as long as the server remembers it.
    name : str
        Name of the file or directory on the server.
    last : ExportStatus
        How it stood when the server was last asked.
    """

    def __init__(self, connection: Connection, message: export_pb2.Export, progress: Progress = "auto") -> None:
        self._connection = connection
        self._progress: Progress = progress
        self.id = message.id
        self.name = message.name
        self.last = ExportStatus.from_proto(message)

    def __repr__(self) -> str:
        return f"<Export {self.name!r}, {self.last.state}, {self.id}>"

    def status(self) -> ExportStatus:
        """Ask how it stands.

        Raises
        ------
        NotFound
            The server was started again since, or has forgotten it.
        """
        request = export_pb2.GetExportRequest(id=self.id)
        answer = self._connection.call(self._connection.exports.GetExport, request, "merger")
        return self._saw(answer.export)

    def watch(self) -> Iterator[ExportStatus]:
        """Follow it: its status at once, whenever it changed, and at last when it is over."""
        with closing(self._messages()) as messages:
            for message in messages:
                yield self._saw(message)

    def wait(self) -> ExportStatus:
        """Wait until it is over, with a progress bar.

        Ctrl-C ends the waiting, not the export: see :meth:`cancel`.

        Returns
        -------
        ExportStatus
            It succeeded; ``parts`` says what is there.

        Raises
        ------
        RasterloomError
            It failed: ``reason`` says why, such as ``DISK_FULL``.
        Cancelled
            It was cancelled.
        """
        last: export_pb2.Export | None = None
        with (
            closing(self._messages()) as messages,
            progress_bar(self._progress, total=100, desc=self.name, bar_format=BAR) as bar,
        ):
            for last in messages:
                self._saw(last)
                bar.update(100 * last.fraction - bar.n)
                bar.set_postfix_str(f"{last.rows:,} rows, {last.bytes / 2**20:.1f} MiB")
        if last is None:
            raise errors.Internal(f"the server says nothing about export {self.id}")
        if last.state == export_pb2.EXPORT_STATE_FAILED:
            failure = last.failure
            raise errors.of_code(failure.code, failure.message, reason=failure.reason, fields=failure.fields)
        if last.state == export_pb2.EXPORT_STATE_CANCELLED:
            raise errors.Cancelled(f"export {self.name!r} was cancelled; nothing of it is left", fields={"id": self.id})
        return self.last

    def cancel(self) -> ExportStatus:
        """End it, and remove what it wrote.

        Raises
        ------
        FailedPrecondition
            It is published, or has failed, with reason ``EXPORT_STATE``.
        """
        request = export_pb2.CancelExportRequest(id=self.id)
        answer = self._connection.call(self._connection.exports.CancelExport, request, "merger")
        return self._saw(answer.export)

    def _messages(self) -> Generator[export_pb2.Export]:
        request = export_pb2.WatchExportRequest(id=self.id)
        with closing(self._connection.follow(self._connection.exports.WatchExport, request, "merger")) as answers:
            for answer in answers:
                yield answer.export

    def _saw(self, message: export_pb2.Export) -> ExportStatus:
        self.last = ExportStatus.from_proto(message)
        return self.last


class ExportList(Sequence[Export]):
    """Exports as a list that prints as a table, here and in notebooks."""

    def __init__(self, exports: Sequence[Export]) -> None:
        self._exports = tuple(exports)

    @overload
    def __getitem__(self, index: int) -> Export: ...
    @overload
    def __getitem__(self, index: slice) -> ExportList: ...
    def __getitem__(self, index: int | slice) -> Export | ExportList:
        if isinstance(index, slice):
            return ExportList(self._exports[index])
        return self._exports[index]

    def __len__(self) -> int:
        return len(self._exports)

    _HEADERS = ("export", "state", "rows", "size", "done", "id")

    def _rows(self) -> list[list[str]]:
        return [
            [
                export.name,
                export.last.state,
                f"{export.last.rows:,}",
                size(export.last.bytes),
                f"{export.last.fraction:.0%}",
                export.id,
            ]
            for export in self._exports
        ]

    def __str__(self) -> str:
        if not self._exports:
            return "no exports; merge.export(name) starts one"
        return text_table(self._HEADERS, self._rows(), right=("rows", "size", "done"))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(self._HEADERS, self._rows(), caption=f"{len(self)} exports")


class Exports:
    """The exports of a server: ``loom.exports``. Start one by :meth:`Merge.export`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __repr__(self) -> str:
        return f"<Exports of {', '.join(self._connection.urls)}>"

    def list(self, *, limit: int = 100) -> ExportList:
        """List exports, the newest first.

        Parameters
        ----------
        limit : int
            Largest number of them.

        Examples
        --------
        >>> done = loom.merge(["nc_pr_01"]).export("january.parquet").wait()
        >>> newest = loom.exports.list(limit=1)[0]
        >>> newest.name, newest.last.state, newest.last.rows == done.rows
        ('january.parquet', 'SUCCEEDED', True)
        """
        request = export_pb2.ListExportsRequest(limit=limit)
        answer = self._connection.call(self._connection.exports.ListExports, request, "merger")
        return ExportList([Export(self._connection, message) for message in answer.exports])

    def get(self, id: str, *, progress: Progress = "auto") -> Export:  # noqa: A002
        """Give one export, to watch, wait for or cancel.

        Parameters
        ----------
        id : str
            Its id, as ``export.id`` had it.
        progress : bool or "auto"
            Whether :meth:`Export.wait` shows a progress bar.

        Raises
        ------
        NotFound
            The server knows no export of that id.
        """
        request = export_pb2.GetExportRequest(id=id)
        answer = self._connection.call(self._connection.exports.GetExport, request, "merger")
        return Export(self._connection, answer.export, progress)
