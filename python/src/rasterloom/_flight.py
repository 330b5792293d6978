"""A Flight server and the calls to it: who asks, by what way, and errors told as ours."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any, Protocol, cast

import grpc
import pyarrow as pa
import pyarrow.flight as fl

from rasterloom import errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from rasterloom.connection import TLS


class CallStatus(fl.ClientMiddleware):
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

    def start_call(self, info: object) -> CallStatus:  # noqa: ARG002
        status = CallStatus(self._headers())
        self._latest.status = status
        return status

    def latest(self) -> CallStatus | None:
        return getattr(self._latest, "status", None)


class Reader(Protocol):
    """A stream that comes."""

    schema: pa.Schema

    def read_chunk(self) -> fl.FlightStreamChunk:
        """Wait for the next message; StopIteration at the end."""
        ...

    def cancel(self) -> None:
        """End the call."""
        ...


class _Fork:
    """Whether this process was forked from one that had used Flight.

    Arrow's gRPC has threads that a forked child lacks: calls would wait for them forever.
    """

    used = False
    forked = False

    @classmethod
    def note(cls) -> None:
        """Remember in a child what its parent had done."""
        cls.forked = cls.forked or cls.used

    @classmethod
    def check(cls) -> None:
        """Refuse what would hang."""
        if cls.forked:
            raise errors.FailedPrecondition(
                "this process was forked after Arrow Flight had been used, which does not work in it any more: start "
                "workers by 'spawn' or 'forkserver', as by multiprocessing.get_context('spawn')",
                reason="FORKED",
            )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Fork.note)


class FlightServer:
    """A Flight server, as :class:`FlightSource` is given it.

    The short calls take ``timeout`` seconds at most. A stream may take as long
    as it takes; what is wrong with it in the middle is told by :meth:`fault`,
    with the status that came with the stream.
    """

    def __init__(self, uri: str, timeout: float, tls: TLS | None, headers: Callable[[], dict[str, str]]) -> None:
        _Fork.check()
        _Fork.used = True
        self.uri = uri
        self._short = fl.FlightCallOptions(timeout=timeout)
        self._tls = tls
        self._statuses = _CallStatuses(headers)
        # A server that starts again is found within a second; gRPC would look ever more rarely.
        options: list[tuple[str, int | str]] = [
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
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
        if not _Fork.forked:
            self._client.close()

    def info(self, command: bytes) -> fl.FlightInfo:
        """Ask for schema and endpoints of a merge."""
        _Fork.check()
        try:
            return self._client.get_flight_info(fl.FlightDescriptor.for_command(command), self._short)
        except pa.ArrowException as error:
            raise self.fault(error) from error

    def act(self, name: str, body: dict[str, Any]) -> bytes:
        """Ask for an action that has one result."""
        _Fork.check()
        try:
            (result,) = self._client.do_action(fl.Action(name, json.dumps(body).encode()), self._short)
        except pa.ArrowException as error:
            raise self.fault(error) from error
        return result.body.to_pybytes()

    def get(self, ticket: fl.Ticket) -> tuple[Reader, CallStatus | None]:
        """Open a stream of rows."""
        _Fork.check()
        try:
            reader = cast("Reader", self._client.do_get(ticket))
        except pa.ArrowException as error:
            raise self.fault(error) from error
        return reader, self._statuses.latest()

    def put(
        self, command: bytes, schema: pa.Schema
    ) -> tuple[fl.FlightStreamWriter, fl.FlightMetadataReader, CallStatus | None]:
        """Open a stream to the server."""
        _Fork.check()
        try:
            writer, answers = self._client.do_put(fl.FlightDescriptor.for_command(command), schema)
        except pa.ArrowException as error:
            raise self.fault(error) from error
        # Its types say that rows are answered; these are metadata alone.
        return writer, cast("fl.FlightMetadataReader", answers), self._statuses.latest()

    def fault(self, error: Exception, status: CallStatus | None = None) -> errors.RasterloomError:
        """Give the error of a call as ours; without a status, of the call that this thread began last."""
        status = status or self._statuses.latest()
        if status is not None and status.details is not None and (ours := errors.from_status(status.details)):
            return ours
        for kind, code in _CODES:
            if isinstance(error, kind):
                return errors.of_bare_status(code.value[0], _sentence(error), self.uri, self._tls)
        return errors.RasterloomError(
            f"the stream from {self.uri} failed: {_sentence(error)}", fields={"url": self.uri}
        )


_CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (fl.FlightUnavailableError, grpc.StatusCode.UNAVAILABLE),
    (fl.FlightTimedOutError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (fl.FlightCancelledError, grpc.StatusCode.CANCELLED),
    (fl.FlightUnauthenticatedError, grpc.StatusCode.UNAUTHENTICATED),
    (fl.FlightUnauthorizedError, grpc.StatusCode.PERMISSION_DENIED),
    (pa.ArrowNotImplementedError, grpc.StatusCode.UNIMPLEMENTED),
)
"""What pyarrow makes of codes, where that can be told back."""


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
