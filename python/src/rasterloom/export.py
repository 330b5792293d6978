"""Exports: merged tables that the server writes as Parquet files."""

from __future__ import annotations

import sys
import warnings
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from rasterloom import errors
from rasterloom._gen.merger.v1 import export_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from rasterloom.client import Loom
    from rasterloom.merge import Progress

__all__ = ["Export", "ExportPart", "ExportStatus"]

BAR = "{desc} {percentage:3.0f} %|{bar}| {postfix}"

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
    """An export on the server; made by :meth:`Merge.export`.

    It goes on whether or not anybody waits for it.

    Attributes
    ----------
    id : str
        Its id, good for as long as the server remembers it.
    name : str
        Name of the file or directory on the server.
    """

    def __init__(self, loom: Loom, message: export_pb2.Export, progress: Progress = "auto") -> None:
        self._loom = loom
        self._progress: Progress = progress
        self.id = message.id
        self.name = message.name

    def __repr__(self) -> str:
        return f"<Export {self.name!r}, {self.id}>"

    def status(self) -> ExportStatus:
        """Ask how it stands.

        Raises
        ------
        NotFound
            The server was started again since, or has forgotten it.
        """
        return ExportStatus.from_proto(self._loom.get_export(self.id))

    def watch(self) -> Iterator[ExportStatus]:
        """Follow it: its status at once, whenever it changed, and at last when it is over."""
        with closing(self._loom.watch_export(self.id)) as messages:
            for message in messages:
                yield ExportStatus.from_proto(message)

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
        wanted = self._progress
        shown = wanted if isinstance(wanted, bool) else sys.stderr.isatty() or "ipykernel" in sys.modules
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tqdm warns where a notebook lacks widgets
            from tqdm.auto import tqdm
        last: export_pb2.Export | None = None
        with (
            closing(self._loom.watch_export(self.id)) as messages,
            tqdm(total=100, desc=self.name, disable=not shown, bar_format=BAR) as bar,
        ):
            for last in messages:
                bar.update(100 * last.fraction - bar.n)
                bar.set_postfix_str(f"{last.rows:,} rows, {last.bytes / 2**20:.1f} MiB")
        if last is None:
            raise errors.Internal(f"the server says nothing about export {self.id}")
        if last.state == export_pb2.EXPORT_STATE_FAILED:
            failure = last.failure
            raise errors.of_code(failure.code, failure.message, reason=failure.reason, fields=failure.fields)
        if last.state == export_pb2.EXPORT_STATE_CANCELLED:
            raise errors.Cancelled(f"export {self.name!r} was cancelled; nothing of it is left", fields={"id": self.id})
        return ExportStatus.from_proto(last)

    def cancel(self) -> ExportStatus:
        """End it, and remove what it wrote.

        Raises
        ------
        FailedPrecondition
            It is published, or has failed, with reason ``EXPORT_STATE``.
        """
        return ExportStatus.from_proto(self._loom.cancel_export(self.id))
