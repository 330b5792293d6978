"""Sending a stream of cells by Arrow Flight."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from rasterloom import errors

if TYPE_CHECKING:
    from collections.abc import Generator

    from rasterloom._flight import FlightServer


class FlightSink:
    """One stream to a server (DoPut), as docs/ingest.md has it.

    ``with sink.begin(schema):`` around the writing; leaving it without
    :meth:`close` cancels the stream, and nothing is stored.
    """

    def __init__(self, server: FlightServer, command: bytes) -> None:
        self._server = server
        self._command = command
        self.result: dict[str, Any] = {}

    @contextlib.contextmanager
    def begin(self, schema: pa.Schema) -> Generator[FlightSink]:
        """Open the stream."""
        self._writer, self._reader, self._status = self._server.put(self._command, schema)
        try:
            yield self
        finally:
            with contextlib.suppress(pa.ArrowException):  # what was wrong has been said
                self._writer.close()

    def write(self, batch: pa.RecordBatch) -> None:
        """Send a batch."""
        try:
            self._writer.write_batch(batch)
        except pa.ArrowException as error:
            raise self._failure(error) from error

    def close(self, words: bytes) -> None:
        """Close the stream with these words, and wait until all of it is stored."""
        try:
            self._writer.write_metadata(pa.py_buffer(words))
            self._writer.done_writing()
            answer: Any = cast("Any", self._reader).read()
            if answer is not None:
                self.result = json.loads(answer.to_pybytes())
            self._writer.close()
        except pa.ArrowException as error:
            raise self._failure(error) from error
        if not self.result:
            raise errors.IncompleteStream("the server ended the stream without a result", reason="INCOMPLETE_STREAM")

    def _failure(self, error: Exception) -> errors.RasterloomError:
        # A write that fails says no more than that; the end of the call has the status.
        try:
            self._writer.close()
        except pa.ArrowException as end:
            error = end
        return self._server.fault(error, self._status)
