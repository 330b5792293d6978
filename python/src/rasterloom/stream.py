"""Reading a merged table by Arrow Flight: over several streams, on behind where one was cut, proved whole."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import math
import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.flight as fl

from rasterloom import errors
from rasterloom._arrow import dtype_of, fields_of
from rasterloom._flight import FlightServer
from rasterloom._proof import ContentHash, Trailer, incomplete
from rasterloom._sink import FlightSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rasterloom._flight import Reader
    from rasterloom.connection import TLS

__all__ = ["ContentHash", "FlightSource", "Trailer"]

PREFETCHED_BATCHES = 4
"""Batches read ahead of the consumer, per endpoint, however large they are."""
PREFETCHED_BYTES = 16 << 20
"""Small ones are read ahead up to this size, and up to four times as many."""
PARALLEL_ENDPOINTS = 4
"""Endpoints read at a time."""
READ_AHEAD_BYTES = 256 << 20
"""Largest size of the endpoints that wait for their turn in memory."""
MAX_FAILURES = 7
"""Times that a stream may be cut without a batch in between."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 3.0
"""Seconds before a stream that was cut goes on: four times as many after each failure. A server that starts
again has 16 s in all, and one that stays away is told of by then."""
PATIENCE = 20.0
"""Seconds after which nothing more is tried, where it takes long to find out that nobody answers."""

FORGOTTEN = ("TICKET_INVALID", "TICKET_EXPIRED")
"""Of a ticket from before the server started again, or of an endpoint that waited too long for its turn."""


class _Cut(Exception):
    """A stream that ended in the middle, by no word of the server's."""

    def __init__(self, fault: errors.RasterloomError) -> None:
        super().__init__(str(fault))
        self.fault = fault


AWAY = (errors.Unavailable, errors.DeadlineExceeded, _Cut)
"""What says that a stream may go on; a stream itself has no deadline, and only asking for the rest has."""


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
            raise incomplete(
                number,
                f"was cut after {self.received.rows:,} rows, and they cannot be proved to be what was sent",
                {"rows": str(self.received.rows), "sent": self.sent, "received": received},
            )


_Item = tuple[pa.RecordBatch, int] | BaseException | None


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
        self._server = FlightServer(uri, timeout, tls, headers)

    def close(self) -> None:
        """Close the connection."""
        self._server.close()

    def flight_info(self, command: bytes) -> fl.FlightInfo:
        """Ask for schema and endpoints of a merge."""
        return self._server.info(command)

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
        return FlightSink(self._server, command)

    def read_endpoint(
        self,
        ticket: fl.Ticket,
        number: int,
        opened: queue.SimpleQueue[Reader],
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
        rows = failures = 0
        patience_ends = 0.0
        cut: errors.RasterloomError | None = None
        while True:
            try:
                if cut is not None:
                    # In here, since a server that starts again refuses this as well.
                    ticket = self._resumed(ticket, number, last, info)
                for batch, now in self._read_stream(ticket, number, opened):
                    failures, last = 0, now
                    rows += batch.num_rows
                    yield batch, now.row
            except (errors.RasterloomError, _Cut) as error:
                cut = error.fault if isinstance(error, _Cut) else error
                begun = last is not None or number > 0
                forgotten = not failures and last is None and info is not None and cut.reason in FORGOTTEN
                if not begun or not (forgotten or isinstance(error, AWAY)):
                    raise cut from None
                if not failures:
                    patience_ends = time.monotonic() + PATIENCE
                pause = min(FIRST_PAUSE * 4**failures, LONGEST_PAUSE)
                failures += 1
                if failures > MAX_FAILURES or time.monotonic() > patience_ends or stop.wait(pause):
                    raise _gave_up(cut, number, rows) from None
            else:
                return

    def _read_stream(
        self, ticket: fl.Ticket, number: int, opened: queue.SimpleQueue[Reader]
    ) -> Iterator[tuple[pa.RecordBatch, _Last]]:
        """Read one stream to its end, and check that it is all of it."""
        reader, status = self._server.get(ticket)
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
                fault = self._server.fault(error, status)
                # gRPC's own word for a connection that ended in the middle.
                cut = isinstance(error, fl.FlightInternalError) and not fault.reason
                raise (_Cut(fault) if cut else fault) from error
            batch, metadata = chunk.data, chunk.app_metadata
            if batch is not None and batch.num_rows:
                if trailer is not None:
                    raise incomplete(number, "has rows after its trailer", {"batches": str(trailer.batches)})
                if content is None:
                    content = ContentHash(batch.schema)
                content.update(batch)
                batches += 1
                yield batch, _Last.parse(metadata, content)
            elif metadata is not None:
                trailer = Trailer.parse(metadata.to_pybytes()) or trailer
        self._check(number, trailer, content or ContentHash(reader.schema), batches)

    def _resumed(self, ticket: fl.Ticket, number: int, last: _Last | None, info: fl.FlightInfo | None) -> fl.Ticket:
        """Ask for a ticket for what comes behind a batch, or for all where there was none.

        Aborted, with reason LAYER_CHANGED, where that is not to be had any more.
        """
        if last is None:
            return ticket if info is None else self._again(info, number)
        last.check(number)
        try:
            return self._ticket_behind(ticket, last)
        except errors.RasterloomError as error:
            if info is None or error.reason not in FORGOTTEN:
                raise
        return self._ticket_behind(self._again(info, number), last)

    def _again(self, info: fl.FlightInfo, number: int) -> fl.Ticket:
        """Ask for the same flight anew, and give the ticket of the same endpoint."""
        again = self.flight_info(info.descriptor.command or b"")
        same = [e for e in again.endpoints if e.app_metadata == info.endpoints[number].app_metadata]
        if not again.schema.equals(info.schema, check_metadata=True) or len(same) != 1:
            raise errors.Aborted(
                "the stream was cut, and its layers changed since: read the table again", reason="LAYER_CHANGED"
            )
        return same[0].ticket

    def _ticket_behind(self, ticket: fl.Ticket, last: _Last) -> fl.Ticket:
        body = {
            "ticket": base64.b64encode(ticket.ticket).decode(),
            "after": {"row": last.row, "col": last.col},
        }
        answer = self._server.act("ResumeFlightEndpoint", body)
        return fl.FlightEndpoint.deserialize(answer).ticket

    def _check(self, number: int, trailer: Trailer | None, content: ContentHash, batches: int) -> None:
        if trailer is None:
            raise incomplete(
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
                raise incomplete(
                    number,
                    f"has {what} {got}, and the server sent {expected}",
                    {"what": what, "sent": str(expected), "received": str(got)},
                )


def _gave_up(fault: errors.RasterloomError, number: int, rows: int) -> errors.RasterloomError:
    """Say of a stream that was cut, and could not go on, how far it had come."""
    return type(fault)(
        f"the stream of endpoint {number} was cut after {rows:,} rows, and could not go on: {fault.message}",
        reason=fault.reason,
        fields=fault.fields | {"endpoint": str(number), "rows": str(rows)},
    )


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
        self._opened: queue.SimpleQueue[Reader] = queue.SimpleQueue()
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
        if isinstance(item, tuple) and self._batches.maxsize:
            self._batches.maxsize = _prefetched(item[0].nbytes)
        while not self._stop.is_set():
            try:
                self._batches.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False


def _prefetched(size: int) -> int:
    """Say how many batches of so many bytes are read ahead."""
    return max(PREFETCHED_BATCHES, min(PREFETCHED_BYTES // max(1, size), 4 * PREFETCHED_BATCHES))


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
