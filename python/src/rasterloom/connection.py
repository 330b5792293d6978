"""Channels to the services, and calls over them that raise the package's exceptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import grpc

from rasterloom import errors
from rasterloom._gen.aligner.v1 import aligner_pb2_grpc
from rasterloom._gen.merger.v1 import export_pb2_grpc, merger_pb2_grpc
from rasterloom._gen.schema.v1 import coordinates_pb2_grpc, schema_pb2_grpc
from rasterloom.stream import FlightSource, is_loopback

if TYPE_CHECKING:
    from collections.abc import Generator

    from google.protobuf.message import Message

    Request = TypeVar("Request", bound=Message)
    Response = TypeVar("Response", bound=Message)

__all__ = ["DEFAULT_URL", "Connection"]

DEFAULT_URL = "http://127.0.0.1:7400"
MAX_MESSAGE_BYTES = 64 << 20


class Connection:
    """What a :class:`Loom` and everything that it hands out talk through.

    Attributes
    ----------
    aligner, schema, coordinates, merger, exports
        Stubs of the contracts' services. Call them by :meth:`call` and
        :meth:`follow`.
    urls : tuple of str
        Where the services answer, each address once.

    Safe to use from several threads.
    """

    def __init__(self, *, aligner: str, schema: str, merger: str, flight: str | None, timeout: float) -> None:
        self._timeout = timeout
        self._flight = flight
        self._channels: dict[str, grpc.Channel] = {}
        self._sources: dict[str, FlightSource] = {}
        self.urls = tuple(dict.fromkeys((aligner, schema, merger)))
        self._places = {"aligner": aligner, "schema": schema, "merger": merger}
        self.aligner = aligner_pb2_grpc.AlignerServiceStub(self._channel(aligner))
        self.schema = schema_pb2_grpc.SchemaServiceStub(self._channel(schema))
        self.coordinates = coordinates_pb2_grpc.CoordinateServiceStub(self._channel(schema))
        self.merger = merger_pb2_grpc.MergerServiceStub(self._channel(merger))
        self.exports = export_pb2_grpc.ExportServiceStub(self._channel(merger))

    def close(self) -> None:
        """Close the channels."""
        for source in self._sources.values():
            source.close()
        for channel in self._channels.values():
            channel.close()

    def call(self, method: grpc.UnaryUnaryMultiCallable[Request, Response], request: Request, service: str) -> Response:
        """Ask ``service`` one question; its error is raised as one of ours."""
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise errors.from_rpc(error, self._places[service]) from None

    def follow(
        self, method: grpc.UnaryStreamMultiCallable[Request, Response], request: Request, service: str
    ) -> Generator[Response]:
        """Ask ``service`` something that it answers bit by bit; closing the generator ends the call."""
        call = method(request)
        try:
            yield from call
        except grpc.RpcError as error:
            raise errors.from_rpc(error, self._places[service]) from None
        finally:
            call.cancel()

    @property
    def flight(self) -> str | None:
        """Flight address that was given, if any; else plans tell it."""
        return self._flight

    def flight_source(self, uri: str) -> FlightSource:
        """Give the Flight server at an address."""
        if uri not in self._sources:
            self._sources[uri] = FlightSource(uri, self._timeout)
        return self._sources[uri]

    def _channel(self, url: str) -> grpc.Channel:
        if url not in self._channels:
            self._channels[url] = _open(url)
        return self._channels[url]


def _open(url: str) -> grpc.Channel:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise errors.InvalidArgument(
            f"{url!r} is not the address of a server: it should look like {DEFAULT_URL}",
            reason="INVALID_ARGUMENT",
            fields={"field": "url", "value": url},
        )
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    options: list[tuple[str, int]] = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
    if is_loopback(url):
        # An http_proxy in the environment is not for this machine.
        options.append(("grpc.enable_http_proxy", 0))
    if parts.scheme == "https":
        return grpc.secure_channel(f"{host}:{port}", grpc.ssl_channel_credentials(), options=options)
    return grpc.insecure_channel(f"{host}:{port}", options=options)
