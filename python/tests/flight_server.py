"""A Flight server that sends what it is told to, faults included.

For what the real merger does not do: end early, lie about its rows, fail with
every code.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import pyarrow as pa
import pyarrow.flight as fl
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from rasterloom.stream import ContentHash

if TYPE_CHECKING:
    from collections.abc import Iterator

Message = tuple[pa.RecordBatch, bytes]


def trailer(schema: pa.Schema, batches: list[pa.RecordBatch], changes: dict[str, object]) -> Message:
    """The message that ends a whole endpoint, with some of its facts changed."""
    content = ContentHash(schema)
    for batch in batches:
        content.update(batch)
    facts = {
        "complete": True,
        "rows": content.rows,
        "batches": len(batches),
        "hash": content.digest(),
        "layers": [],
    } | changes
    return empty(schema), json.dumps(facts).encode()


def empty(schema: pa.Schema) -> pa.RecordBatch:
    """A batch without rows."""
    return pa.RecordBatch.from_arrays([pa.array([], f.type) for f in schema], schema=schema)


@dataclass
class Script:
    """What the server sends: per endpoint its messages, and an error after them, if any."""

    schema: pa.Schema
    endpoints: list[list[Message]]
    failure: Exception | None = None
    opened: list[bytes] = field(default_factory=list)


class ScriptedFlight(fl.FlightServerBase):
    """Plays a script."""

    def __init__(self, script: Script, scheme: str = "grpc", **options: Any) -> None:
        super().__init__(f"{scheme}://127.0.0.1:0", **options)
        self.script = script

    def get_flight_info(self, context: object, descriptor: fl.FlightDescriptor) -> fl.FlightInfo:  # noqa: ARG002
        endpoints = [fl.FlightEndpoint(str(i).encode(), []) for i in range(len(self.script.endpoints))]
        return fl.FlightInfo(self.script.schema, descriptor, endpoints, -1, -1)

    def do_get(self, context: object, ticket: fl.Ticket) -> fl.FlightDataStream:  # noqa: ARG002
        self.script.opened.append(ticket.ticket)
        return fl.GeneratorStream(self.script.schema, self._messages(int(ticket.ticket)))

    def _messages(self, endpoint: int) -> Iterator[Message]:
        yield from self.script.endpoints[endpoint]
        if self.script.failure:
            raise self.script.failure


@contextmanager
def scripted(script: Script, scheme: str = "grpc", **options: Any) -> Iterator[str]:
    """Serve a script; gives the address. ``options`` are Flight's, for TLS and the like."""
    with ScriptedFlight(script, scheme, **options) as server:
        yield f"{scheme}://127.0.0.1:{server.port}"


@contextmanager
def refusing(code: grpc.StatusCode, message: str, info: error_details_pb2.ErrorInfo | None) -> Iterator[str]:
    """Serve a gRPC server that answers every call with one status; gives its host:port."""
    status = status_pb2.Status(code=code.value[0], message=message)
    if info is not None:
        detail = any_pb2.Any()
        detail.Pack(info)
        status.details.append(detail)

    def refuse(_: bytes, context: grpc.ServicerContext) -> bytes:
        if info is not None:
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(code, message)
        raise AssertionError

    def refuse_stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield refuse(request, context)

    class Everything(grpc.GenericRpcHandler):
        def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            if call.method.endswith(("DoGet", "DoAction", "ListFlights")):
                return grpc.unary_stream_rpc_method_handler(refuse_stream)
            return grpc.unary_unary_rpc_method_handler(refuse)

    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, handlers=[Everything()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()
