"""A reader of record batches that can be closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from rasterloom import errors

if TYPE_CHECKING:
    from collections.abc import Generator


class Reader(pa.RecordBatchStreamReader):
    """Gives what a generator of batches gives, and closes it.

    The close() of pyarrow's RecordBatchReader.from_batches reaches no generator,
    whose stream would stay open. Only readers of messages can be derived from,
    so that each batch is copied once, into one.
    """

    def __init__(self, schema: pa.Schema, batches: Generator[pa.RecordBatch]) -> None:
        self._messages = _Messages(schema, batches)
        super().__init__(self._messages)  # pyright: ignore[reportArgumentType] - a file, as far as it is read

    def close(self) -> None:
        """End the read."""
        super().close()
        self._messages.close()


class _Messages:
    """A file of messages that are made as they are read."""

    def __init__(self, schema: pa.Schema, batches: Generator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._message = schema.serialize()
        self.closed = False

    def read(self, size: int) -> pa.Buffer:
        """Give the next bytes; none at the end. They never go beyond a message, and nobody asks for that."""
        if self.closed:
            raise errors.FailedPrecondition("the reader was closed", reason="NOT_CONNECTED")
        if not self._message.size:
            batch = next(self._batches, None)
            if batch is None:
                return self._message
            self._message = batch.serialize()
        part, self._message = self._message.slice(0, size), self._message.slice(size)
        return part

    def close(self) -> None:
        """End the generator."""
        self.closed = True
        self._batches.close()
