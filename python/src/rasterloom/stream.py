"""Reading a merged table by Arrow Flight, and proving that it is whole.

The protocol is docs/flight.md: every endpoint ends with a batch without rows
that carries a trailer. Nothing is handed out as a whole table without it.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import math
import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.flight as fl
import xxhash

from rasterloom import errors
from rasterloom._arrow import arrays_of, dtype_of, fields_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from rasterloom.connection import TLS

__all__ = ["ContentHash", "FlightSource", "Trailer"]

PREFETCHED_BATCHES = 4
"""Batches read ahead of the consumer, per endpoint."""
PARALLEL_ENDPOINTS = 4
"""Endpoints read at a time."""
READ_AHEAD_BYTES = 256 << 20
"""Largest size of the endpoints that wait for their turn in memory."""
MAX_FAILURES = 5
"""Times that a stream may be cut without a batch in between."""


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


class _CallStatus(fl.ClientMiddleware):
    """Sends the headers of one call, and keeps its status details.

    pyarrow turns codes into a few exception classes and drops the details of
    the status; only the trailing headers still have them.
    """

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__()
        self._headers = headers
        self.details: bytes | None = None

    def sending_headers(self) -> dict[str, list[str] | list[bytes]]:
        return {name: [value] for name, value in self._headers.items()}

    def received_headers(self, headers: dict[str, list[Any]]) -> None:
        for value in headers.get(errors.STATUS_DETAILS, []):
            self.details = value if isinstance(value, bytes) else str(value).encode("latin-1")


class _CallStatuses(fl.ClientMiddlewareFactory):
    """Gives the thread that starts a call the status of that call."""

    def __init__(self, headers: Callable[[], dict[str, str]]) -> None:
        super().__init__()
        self._headers = headers
        self._latest = threading.local()

    def start_call(self, info: object) -> _CallStatus:  # noqa: ARG002
        status = _CallStatus(self._headers())
        self._latest.status = status
        return status

    def latest(self) -> _CallStatus | None:
        return getattr(self._latest, "status", None)


class _Cut(Exception):
    """A stream that ended in the middle, by no word of the server's."""

    def __init__(self, fault: errors.RasterloomError) -> None:
        super().__init__(str(fault))
        self.fault = fault


@dataclass(frozen=True, slots=True)
class _Last:
    """The last batch that arrived whole: where it ends, and what came up to it."""

    row: int
    col: int
    sent: str
    received: ContentHash

    @classmethod
    def parse(cls, metadata: pa.Buffer | None, received: ContentHash) -> _Last:
        try:
            facts: Any = json.loads(metadata.to_pybytes() if metadata is not None else b"{}")
            return cls(int(facts["last"]["row"]), int(facts["last"]["col"]), str(facts["hash"]), received)
        except (ValueError, TypeError, KeyError):
            return cls(0, 0, "", received)  # of a server that does not know how to go on

    def check(self, number: int) -> None:
        """Check that what came is what was sent: no trailer will say it of a stream that was cut."""
        if self.sent != (received := self.received.digest()):
            raise _incomplete(
                number,
                f"was cut after {self.received.rows:,} rows, and they cannot be proved to be what was sent",
                {"rows": str(self.received.rows), "sent": self.sent, "received": received},
            )


_Item = tuple[pa.RecordBatch, int] | BaseException | None


class _Reader(Protocol):
    schema: pa.Schema

    def read_chunk(self) -> fl.FlightStreamChunk: ...
    def cancel(self) -> None: ...


class FlightSource:
    """A Flight server to read merged tables from.

    Parameters
    ----------
    uri : str
        ``grpc://host:port`` or ``grpc+tls://host:port``.
    timeout : float
        Seconds to wait for the answer of GetFlightInfo. A stream may take as
        long as it takes.
    tls : TLS, optional
        For ``grpc+tls``.
    headers : callable
        Gives the headers of a call.
    """

    def __init__(
        self, uri: str, timeout: float, *, tls: TLS | None = None, headers: Callable[[], dict[str, str]] = dict
    ) -> None:
        self.uri = uri
        self._timeout = timeout
        self._tls = tls
        self._statuses = _CallStatuses(headers)
        options: list[tuple[str, int | str]] = []
        if is_loopback(uri):
            # An http_proxy in the environment is not for this machine.
            options.append(("grpc.enable_http_proxy", 0))
        ca, key, certificate = (pem.decode() if pem else None for pem in (tls.read() if tls else (None, None, None)))
        self._client = fl.FlightClient(
            uri,
            tls_root_certs=ca,
            cert_chain=certificate,
            private_key=key,
            middleware=[self._statuses],
            generic_options=options,
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def flight_info(self, command: bytes) -> fl.FlightInfo:
        """Ask for schema and endpoints of a merge."""
        try:
            return self._client.get_flight_info(
                fl.FlightDescriptor.for_command(command), fl.FlightCallOptions(timeout=self._timeout)
            )
        except pa.ArrowException as error:
            raise self._fault(error, self._statuses.latest()) from error

    def batches(self, info: fl.FlightInfo, reached: Callable[[int], object] | None = None) -> Iterator[pa.RecordBatch]:
        """Read the endpoints of a flight, in order, ahead of the consumer.

        Endpoints that fit in READ_AHEAD_BYTES are read several at a time. A
        stream that is cut goes on behind its last whole batch.

        Yields batches that have rows. Raises IncompleteStream when an endpoint
        does not end with a trailer that agrees with its rows. Leaving the loop
        early, Ctrl-C included, cancels what the server still does.

        ``reached`` is told the row of the lattice in which a batch ends, before it is yielded.
        """
        readers = [_EndpointReader(self, info, number) for number in range(len(info.endpoints))]
        # The next endpoint begins when all of the one before has arrived: a
        # stream that waits for its turn would look stalled to the server.
        for reader, following in itertools.pairwise(readers):
            reader.following = following
        try:
            for number, reader in enumerate(readers):
                reader.start()
                left = READ_AHEAD_BYTES
                for ahead in readers[number + 1 : number + PARALLEL_ENDPOINTS]:
                    left -= ahead.most_bytes
                    if left < 0:
                        break
                    # All of it fits in memory, so it never waits for its turn.
                    ahead.start(whole=True)
                for batch, row in reader:
                    if reached is not None:
                        reached(row)
                    yield batch
        finally:
            for reader in readers:  # in order: one that is stopped starts no other
                reader.cancel()

    def put(self, command: bytes) -> FlightSink:
        """Give what a stream of cells is sent by; nothing is sent yet."""
        return FlightSink(self._client, command, self._statuses, self._fault)

    def read_endpoint(
        self,
        ticket: fl.Ticket,
        number: int,
        opened: queue.SimpleQueue[_Reader],
        *,
        info: fl.FlightInfo | None = None,
        stop: threading.Event | None = None,
    ) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Read one endpoint, checked, over as many streams as it takes.

        Yields each batch with the row of the lattice in which it ends.
        ``opened`` receives each reader, to cancel it by; ``stop`` ends the
        waiting between streams. Where ``info`` is given, its flight is asked
        for again when the server no longer knows the ticket.
        """
        stop = stop or threading.Event()
        last: _Last | None = None
        failures = 0
        while True:
            try:
                for batch, now in self._read_stream(ticket, number, opened):
                    failures, last = 0, now
                    yield batch, now.row
            except (errors.Unavailable, _Cut) as cut:
                failures += 1
                if (last is None and number == 0) or failures > MAX_FAILURES or stop.is_set():
                    raise cut.fault if isinstance(cut, _Cut) else cut from None
                stop.wait(0.05 * 4**failures)
            else:
                return
            if last is not None:
                last.check(number)
                ticket = self._resumed(ticket, number, last, info)

    def _read_stream(
        self, ticket: fl.Ticket, number: int, opened: queue.SimpleQueue[_Reader]
    ) -> Iterator[tuple[pa.RecordBatch, _Last]]:
        """Read one stream to its end, and check that it is all of it."""
        try:
            reader = cast("_Reader", self._client.do_get(ticket))
        except pa.ArrowException as error:
            raise self._fault(error, self._statuses.latest()) from error
        status = self._statuses.latest()
        opened.put(reader)
        content: ContentHash | None = None
        batches = 0
        trailer: Trailer | None = None
        while True:
            try:
                chunk = reader.read_chunk()
            except StopIteration:
                break
            except pa.ArrowException as error:
                fault = self._fault(error, status)
                # gRPC's own word for a connection that ended in the middle.
                cut = isinstance(error, fl.FlightInternalError) and not fault.reason
                raise (_Cut(fault) if cut else fault) from error
            batch, metadata = chunk.data, chunk.app_metadata
            if batch is not None and batch.num_rows:
                if trailer is not None:
                    raise _incomplete(number, "has rows after its trailer", {"batches": str(trailer.batches)})
                if content is None:
                    content = ContentHash(batch.schema)
                content.update(batch)
                batches += 1
                yield batch, _Last.parse(metadata, content)
            elif metadata is not None:
                trailer = Trailer.parse(metadata.to_pybytes()) or trailer
        self._check(number, trailer, content or ContentHash(reader.schema), batches)

    def _resumed(self, ticket: fl.Ticket, number: int, last: _Last, info: fl.FlightInfo | None) -> fl.Ticket:
        """Ask for a ticket for what comes behind a batch.

        Aborted, with reason LAYER_CHANGED, where that is not to be had any more.
        """
        try:
            return self._ticket_behind(ticket, last)
        except errors.RasterloomError as error:
            if info is None or error.reason not in ("TICKET_INVALID", "TICKET_EXPIRED"):
                raise
        # The server started again, or it took too long: the same flight anew.
        again = self.flight_info(info.descriptor.command or b"")
        same = [e for e in again.endpoints if e.app_metadata == info.endpoints[number].app_metadata]
        if not again.schema.equals(info.schema, check_metadata=True) or len(same) != 1:
            raise errors.Aborted(
                "the stream was cut, and its layers changed since: read the table again", reason="LAYER_CHANGED"
            )
        return self._ticket_behind(same[0].ticket, last)

    def _ticket_behind(self, ticket: fl.Ticket, last: _Last) -> fl.Ticket:
        body = {
            "ticket": base64.b64encode(ticket.ticket).decode(),
            "after": {"row": last.row, "col": last.col},
        }
        action = fl.Action("ResumeFlightEndpoint", json.dumps(body).encode())
        try:
            (result,) = self._client.do_action(action, fl.FlightCallOptions(timeout=self._timeout))
        except pa.ArrowException as error:
            raise self._fault(error, self._statuses.latest()) from error
        return fl.FlightEndpoint.deserialize(result.body.to_pybytes()).ticket

    def _check(self, number: int, trailer: Trailer | None, content: ContentHash, batches: int) -> None:
        if trailer is None:
            raise _incomplete(
                number,
                f"ended after {content.rows:,} rows without saying that this is all",
                {"rows": str(content.rows)},
            )
        for what, expected, got in (
            ("rows", trailer.rows, content.rows),
            ("batches", trailer.batches, batches),
            ("hash", trailer.hash, content.digest()),
        ):
            if expected != got:
                raise _incomplete(
                    number,
                    f"has {what} {got}, and the server sent {expected}",
                    {"what": what, "sent": str(expected), "received": str(got)},
                )

    def _fault(self, error: Exception, status: _CallStatus | None) -> errors.RasterloomError:
        if status is not None and status.details is not None and (ours := errors.from_status(status.details)):
            return ours
        for kind, code in _CODES:
            if isinstance(error, kind):
                return errors.of_bare_status(code.value[0], _sentence(error), self.uri, self._tls)
        return errors.RasterloomError(
            f"the stream from {self.uri} failed: {_sentence(error)}", fields={"url": self.uri}
        )


class FlightSink:
    """One stream to a server (DoPut), as docs/ingest.md has it.

    ``with sink.begin(schema):`` around the writing; leaving it without
    :meth:`close` cancels the stream, and nothing is stored.
    """

    def __init__(
        self,
        client: fl.FlightClient,
        command: bytes,
        statuses: _CallStatuses,
        fault: Callable[[Exception, _CallStatus | None], errors.RasterloomError],
    ) -> None:
        self._client = client
        self._command = command
        self._statuses = statuses
        self._fault = fault
        self.result: dict[str, Any] = {}

    @contextlib.contextmanager
    def begin(self, schema: pa.Schema) -> Generator[FlightSink]:
        """Open the stream."""
        try:
            self._writer, self._reader = self._client.do_put(fl.FlightDescriptor.for_command(self._command), schema)
        except pa.ArrowException as error:
            raise self._fault(error, self._statuses.latest()) from error
        self._status = self._statuses.latest()
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
        return self._fault(error, self._status)


_CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (fl.FlightUnavailableError, grpc.StatusCode.UNAVAILABLE),
    (fl.FlightTimedOutError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (fl.FlightCancelledError, grpc.StatusCode.CANCELLED),
    (fl.FlightUnauthenticatedError, grpc.StatusCode.UNAUTHENTICATED),
    (fl.FlightUnauthorizedError, grpc.StatusCode.PERMISSION_DENIED),
    (pa.ArrowNotImplementedError, grpc.StatusCode.UNIMPLEMENTED),
)
"""What pyarrow makes of codes, where that can be told back."""


class _EndpointReader:
    """Reads one endpoint in a thread of its own, a few batches ahead.

    The consumer waits on a queue and not inside of gRPC, so that Ctrl-C is
    heard at once.
    """

    def __init__(self, source: FlightSource, info: fl.FlightInfo, number: int) -> None:
        self._source = source
        self._info = info
        self._number = number
        self._batches: queue.Queue[_Item] = queue.Queue(PREFETCHED_BATCHES)
        self._opened: queue.SimpleQueue[_Reader] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"rasterloom-endpoint-{number}", daemon=True)
        self._starting = threading.Lock()
        self._started = False
        self.most_bytes = _most_bytes(info, number)
        self.following: _EndpointReader | None = None

    def start(self, *, whole: bool = False) -> None:
        """Begin, unless it has; ``whole`` keeps all of it in memory if need be."""
        with self._starting:
            if self._started or self._stop.is_set():
                return
            self._started = True
            if whole:
                self._batches = queue.Queue()
            self._thread.start()

    def cancel(self) -> None:
        """Stop the call if it still runs, and wait for the thread."""
        with self._starting:
            self._stop.set()
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                self._opened.get(timeout=0.02).cancel()
            self._thread.join(0.02)

    def __iter__(self) -> Iterator[tuple[pa.RecordBatch, int]]:
        while (item := self._batches.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            for batch in self._source.read_endpoint(
                self._info.endpoints[self._number].ticket,
                self._number,
                self._opened,
                info=self._info,
                stop=self._stop,
            ):
                if not self._put(batch):
                    return
            if self.following is not None:
                self.following.start()
        except BaseException as error:  # noqa: BLE001 - raised again in the consumer's thread
            end = error
        self._put(end)

    def _put(self, item: _Item) -> bool:
        while not self._stop.is_set():
            try:
                self._batches.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False


def _incomplete(number: int, what: str, fields: dict[str, str]) -> errors.IncompleteStream:
    return errors.IncompleteStream(
        f"the stream of endpoint {number} {what}; nothing of it was kept",
        reason="INCOMPLETE_STREAM",
        fields={"endpoint": str(number)} | fields,
    )


def _most_bytes(info: fl.FlightInfo, number: int) -> float:
    """Largest size of an endpoint's batches; infinite where the server does not say."""
    try:
        rows: Any = json.loads(info.endpoints[number].app_metadata)
        facts: Any = json.loads((info.schema.metadata or {})[b"rasterloom"])
        window = facts["window"]
        cells = (rows["row_stop"] - rows["row_start"]) * (window["col_stop"] - window["col_start"])
        return cells * sum(dtype_of(field).itemsize + 1 / 8 for field in fields_of(info.schema))
    except (ValueError, TypeError, KeyError):
        return math.inf


def _sentence(error: Exception) -> str:
    """First part of a pyarrow message; the rest is gRPC's debug context."""
    return str(error).split(". gRPC client debug context:", 1)[0]


def is_loopback(uri: str) -> bool:
    """Whether an address names this machine.

    >>> is_loopback("http://127.0.0.1:7400"), is_loopback("https://rasters.example.org")
    (True, False)
    """
    from urllib.parse import urlsplit

    host = urlsplit(uri).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
