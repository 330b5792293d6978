"""Channels to the services, and calls over them that raise the package's exceptions."""

from __future__ import annotations

import math
import os
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urlsplit

import grpc

from rasterloom import errors
from rasterloom._flight import is_loopback
from rasterloom._gen.aligner.v1 import aligner_pb2_grpc
from rasterloom._gen.merger.v1 import export_pb2_grpc, merger_pb2_grpc
from rasterloom._gen.schema.v1 import coordinates_pb2_grpc, ingest_pb2_grpc, migration_pb2_grpc, schema_pb2_grpc
from rasterloom.stream import FlightSource

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from google.protobuf.message import Message

    Request = TypeVar("Request", bound=Message)
    Response = TypeVar("Response", bound=Message)

__all__ = ["DEFAULT_URL", "TLS", "Connection"]

DEFAULT_URL = "http://127.0.0.1:7400"
MAX_MESSAGE_BYTES = 64 << 20
TOKEN_VARIABLE = "RASTERLOOM_TOKEN"  # noqa: S105 - its name


@dataclass(frozen=True, slots=True)
class TLS:
    """Whom to trust, and who we are, on encrypted connections.

    Attributes
    ----------
    ca : str or path-like, optional
        File of certificates (PEM) that vouch for the servers. Default: those
        that gRPC comes with.
    certificate, key : str or path-like, optional
        Our own certificate chain and private key (PEM), for servers that ask
        clients for one.
    """

    ca: str | os.PathLike[str] | None = None
    certificate: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise errors.InvalidArgument(
                "a certificate of our own needs its key, and a key its certificate",
                reason="INVALID_ARGUMENT",
                fields={"field": "tls"},
            )

    @classmethod
    def of(cls, tls: bool | str | os.PathLike[str] | TLS | None) -> TLS | None:
        """Read what :func:`connect` takes. None: as the address says."""
        if isinstance(tls, TLS) or tls is None:
            return tls
        if isinstance(tls, bool):
            if not tls:
                raise errors.InvalidArgument(
                    "tls=False is not taken: an http:// address is not encrypted, and https:// always is",
                    reason="INVALID_ARGUMENT",
                    fields={"field": "tls"},
                )
            return cls()
        return cls(ca=tls)

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Give the contents of CA, key and certificate."""

        def content(path: str | os.PathLike[str] | None) -> bytes | None:
            return None if path is None else Path(path).read_bytes()

        return content(self.ca), content(self.key), content(self.certificate)


class Connection:
    """What a :class:`Loom` and everything that it hands out talk through.

    Safe to use from several threads. A copy is the same connection. What is
    pickled is where the services answer, and not the token: where it is
    unpickled, another connection is made, with the token of the environment
    variable ``RASTERLOOM_TOKEN``, if set.

    Parameters
    ----------
    aligner, schema, merger : str
        Where the services answer.
    flight : str, optional
        Where tables are read from; else plans tell it.
    token : str or callable, optional
        Sent with every call; a callable is asked for it each time.
    tls : TLS, optional
        For addresses that begin with ``https``, and ``grpc+tls``.
    timeout : float
        Seconds that one call may take.

    Attributes
    ----------
    aligner, schema, coordinates, ingests, migrations, merger, exports
        Stubs of the contracts' services. Call them by :meth:`call` and
        :meth:`follow`.
    urls : tuple of str
        Where the services answer, each address once.
    """

    def __init__(
        self,
        *,
        aligner: str,
        schema: str,
        merger: str,
        flight: str | None,
        token: str | Callable[[], str] | None,
        tls: TLS | None,
        timeout: float,
    ) -> None:
        self._timeout = timeout
        self._flight = flight
        self._token = token
        self._tls = tls
        self._channels: dict[str, grpc.Channel] = {}
        self._sources: dict[str, FlightSource] = {}
        self._closed = False
        self.urls = tuple(dict.fromkeys((aligner, schema, merger)))
        self._places = {"aligner": aligner, "schema": schema, "merger": merger}
        self.aligner = aligner_pb2_grpc.AlignerServiceStub(self._channel(aligner))
        self.schema = schema_pb2_grpc.SchemaServiceStub(self._channel(schema))
        self.coordinates = coordinates_pb2_grpc.CoordinateServiceStub(self._channel(schema))
        self.ingests = ingest_pb2_grpc.IngestServiceStub(self._channel(schema))
        self.migrations = migration_pb2_grpc.MigrationServiceStub(self._channel(schema))
        self.merger = merger_pb2_grpc.MergerServiceStub(self._channel(merger))
        self.exports = export_pb2_grpc.ExportServiceStub(self._channel(merger))

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return _reopen, (self._places, self._flight, self._tls, self._timeout)

    def close(self) -> None:
        """Close the channels."""
        self._closed = True
        for source in self._sources.values():
            source.close()
        for channel in self._channels.values():
            channel.close()

    def call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        service: str,
        *,
        patience: float | None = math.inf,
        waiting: Callable[[], object] | None = None,
    ) -> Response:
        """Ask ``service`` one question; its error is raised as one of ours.

        The answer may take ``timeout`` of the connection, and no longer than ``patience``, in seconds.
        None is for what takes as long as a table is large: there is no limit, and
        ``waiting`` is called now and then meanwhile.
        """
        self._check_open()
        limit = None if patience is None else min(self._timeout, patience)
        try:
            if waiting is None:
                return method(request, timeout=limit, metadata=self._metadata())
            answer = method.future(request, timeout=limit, metadata=self._metadata())
            try:
                while True:
                    with suppress(grpc.FutureTimeoutError):
                        return answer.result(timeout=0.5)
                    waiting()
            finally:
                answer.cancel()
        except grpc.RpcError as error:
            raise errors.from_rpc(error, self._places[service], self._tls) from None

    def follow(
        self, method: grpc.UnaryStreamMultiCallable[Request, Response], request: Request, service: str
    ) -> Generator[Response]:
        """Ask ``service`` something that it answers bit by bit; closing the generator ends the call."""
        self._check_open()
        call = method(request, metadata=self._metadata())
        try:
            yield from call
        except grpc.RpcError as error:
            raise errors.from_rpc(error, self._places[service], self._tls) from None
        finally:
            call.cancel()

    @property
    def flight(self) -> str | None:
        """Flight address that was given, if any; else plans tell it."""
        return self._flight

    def flight_source(self, uri: str) -> FlightSource:
        """Give the Flight server at an address."""
        self._check_open()
        if uri not in self._sources:
            self._warn_of_plaintext(uri)
            self._sources[uri] = FlightSource(uri, self._timeout, tls=self._tls, headers=self._headers)
        return self._sources[uri]

    def _check_open(self) -> None:
        if self._closed:
            raise errors.FailedPrecondition(
                f"the connection to {self.urls[0]} was closed: rl.connect() opens another",
                reason="NOT_CONNECTED",
                fields={"url": self.urls[0]},
            )

    def _headers(self) -> dict[str, str]:
        """Give the headers of a call."""
        if self._token is None:
            return {}
        token = self._token if isinstance(self._token, str) else self._token()
        return {"authorization": f"Bearer {token}"}

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return tuple(self._headers().items())

    def _warn_of_plaintext(self, url: str) -> None:
        if self._token is not None and urlsplit(url).scheme in ("http", "grpc", "grpc+tcp") and not is_loopback(url):
            warnings.warn(f"the token goes to {url} unencrypted: anybody on the way can read it", stacklevel=2)

    def _channel(self, url: str) -> grpc.Channel:
        if url not in self._channels:
            self._warn_of_plaintext(url)
            self._channels[url] = _open(url, self._tls)
        return self._channels[url]


def _reopen(places: dict[str, str], flight: str | None, tls: TLS | None, timeout: float) -> Connection:
    token = os.environ.get(TOKEN_VARIABLE) or None
    return Connection(**places, flight=flight, token=token, tls=tls, timeout=timeout)


def _open(url: str, tls: TLS | None) -> grpc.Channel:
    parts = urlsplit(str(url))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise errors.InvalidArgument(
            f"{url!r} is not the address of a server: it should look like {DEFAULT_URL}",
            reason="INVALID_ARGUMENT",
            fields={"field": "url", "value": str(url)},
        )
    if parts.scheme == "http" and tls is not None:
        raise errors.InvalidArgument(
            f"tls is given, and {url} is not encrypted: the address of an encrypted server begins with https://",
            reason="INVALID_ARGUMENT",
            fields={"field": "tls", "url": url},
        )
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    options: list[tuple[str, int]] = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
    if is_loopback(url):
        # An http_proxy in the environment is not for this machine.
        options.append(("grpc.enable_http_proxy", 0))
    if parts.scheme == "https":
        credentials = grpc.ssl_channel_credentials(*(tls or TLS()).read())
        return grpc.secure_channel(f"{host}:{port}", credentials, options=options)
    return grpc.insecure_channel(f"{host}:{port}", options=options)
