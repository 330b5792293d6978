"""What proves that a stream is whole: its trailer, and the hash of its rows.

The protocol is docs/flight.md: every endpoint ends with a batch without rows
that carries a trailer. Nothing is handed out as a whole table without it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import xxhash

from rasterloom import errors
from rasterloom._arrow import arrays_of, dtype_of, fields_of


@dataclass(frozen=True, slots=True)
class Trailer:
    """What the server says about an endpoint once all of it is sent.

    Attributes
    ----------
    rows, batches : int
        Rows of the endpoint, and batches that have rows.
    hash : str
        ``xxh3-128:`` and 32 hex digits; see docs/flight.md.
    cells : dict of str to int
        Values that are not null, per column.
    """

    rows: int
    batches: int
    hash: str
    cells: dict[str, int]

    @classmethod
    def parse(cls, metadata: bytes) -> Trailer | None:
        """Read the app_metadata of a message; None when it is no trailer."""
        try:
            facts: Any = json.loads(metadata)
            if facts.get("complete") is not True:
                return None
            return cls(
                rows=int(facts["rows"]),
                batches=int(facts["batches"]),
                hash=str(facts["hash"]),
                cells={str(layer["name"]): int(layer["cells"]) for layer in facts.get("layers", [])},
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


class ContentHash:
    """Hash of the rows of an endpoint, whatever batches they are cut into.

    Examples
    --------
    >>> table = pa.table({"x": [1.0, 2.0], "birds": pa.array([7, None], pa.uint8())})
    >>> whole, halves = ContentHash(table.schema), ContentHash(table.schema)
    >>> for batch in table.to_batches():
    ...     whole.update(batch)
    >>> for batch in table.to_batches(max_chunksize=1):
    ...     halves.update(batch)
    >>> whole.digest() == halves.digest()
    True
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._columns = [_ColumnHash.of(field) for field in fields_of(schema)]
        self.rows = 0

    def update(self, batch: pa.RecordBatch) -> None:
        """Add the rows of a batch."""
        rows = batch.num_rows
        if not rows:
            return
        self.rows += rows
        for column, array in zip(self._columns, arrays_of(batch), strict=True):
            column.update(array, rows)

    def digest(self) -> str:
        """Give the hash as the trailer writes it."""
        text = f"rasterloom 1 {self.rows}\n" + "".join(column.line() for column in self._columns)
        return "xxh3-128:" + xxhash.xxh3_128_hexdigest(text.encode())


class _ColumnHash:
    """Hashes of one column's values and validity."""

    def __init__(self, name: str, dtype: np.dtype[Any], nullable: bool) -> None:
        self._name = name
        self._dtype = dtype
        self._values = xxhash.xxh3_128()
        self._validity = xxhash.xxh3_128() if nullable else None

    @classmethod
    def of(cls, field: pa.Field[Any]) -> _ColumnHash:
        """Begin the hash of a column; one of fixed-size lists counts as a column of their values."""
        listed: Any = field.type  # pyright: ignore[reportUnknownMemberType]
        if isinstance(listed, pa.FixedSizeListType):
            listed = cast("Any", listed)
            return cls(field.name, np.dtype(listed.value_type.to_pandas_dtype()), listed.value_field.nullable)
        return cls(field.name, dtype_of(field), field.nullable)

    def update(self, array: pa.Array[Any], rows: int) -> None:
        if isinstance(array, pa.FixedSizeListArray):
            listed = cast("Any", array)
            array, rows = listed.flatten(), rows * int(listed.type.list_size)
        bits, values = array.buffers()[:2]
        start, width = array.offset, self._dtype.itemsize
        if values is not None:
            self._values.update(memoryview(values)[start * width : (start + rows) * width])
        if self._validity is None:
            return
        if bits is None:
            self._validity.update(bytes([1]) * rows)
        else:
            flags = np.unpackbits(np.frombuffer(memoryview(bits), np.uint8), bitorder="little")
            self._validity.update(flags[start : start + rows].tobytes())

    def line(self) -> str:
        validity = self._validity.hexdigest() if self._validity is not None else "-"
        return f"{self._dtype.name} {self._values.hexdigest()} {validity} {self._name}\n"


def incomplete(number: int, what: str, fields: dict[str, str]) -> errors.IncompleteStream:
    """Say what is wrong with the stream of endpoint ``number``."""
    return errors.IncompleteStream(
        f"the stream of endpoint {number} {what}; nothing of it was kept",
        reason="INCOMPLETE_STREAM",
        fields={"endpoint": str(number)} | fields,
    )
