"""Arrow's integration scenarios, and cut streams, asked of the real server from pyarrow."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.flight as fl
import pytest

import rasterloom as rl
from rasterloom.stream import FlightSource

if TYPE_CHECKING:
    from collections.abc import Iterator

LAYERS = ["coads_sst_jan", "oisst_19811231"]


@pytest.fixture(scope="module")
def address(loom: rl.Loom) -> str:
    """Flight address of the suite."""
    return loom.plan(LAYERS).flight_uri


@pytest.fixture
def client(address: str) -> Iterator[fl.FlightClient]:
    """A plain Flight client."""
    with fl.FlightClient(address, generic_options=[("grpc.enable_http_proxy", 0)]) as plain:
        yield plain


def command(**options: object) -> fl.FlightDescriptor:
    """A merge of the two sea surface temperatures."""
    spec = {"layers": [{"name": name} for name in LAYERS]} | options
    return fl.FlightDescriptor.for_command(json.dumps(spec).encode())


def field(number: int, body: bytes) -> bytes:
    """A field of a protobuf message: Arrow's Python has no messages for actions."""
    size, length = len(body), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + body


def act(client: fl.FlightClient, name: str, message: Any) -> bytes:
    """Do an action on a flight or an endpoint."""
    (result,) = client.do_action(fl.Action(name, field(1, message.serialize())))
    return result.body.to_pybytes()


def test_ordered(client: fl.FlightClient) -> None:
    info = client.get_flight_info(command(endpoints=3))
    assert info.ordered
    assert len(info.endpoints) == 3
    y = [v for e in info.endpoints for v in client.do_get(e.ticket).read_all()["y"].to_pylist()]
    assert y == sorted(y, reverse=True)


def test_app_metadata(client: fl.FlightClient) -> None:
    info = client.get_flight_info(command(endpoints=2, batchRows=500))
    assert json.loads(info.app_metadata)["max_rows"] > 0
    for endpoint in info.endpoints:
        rows = json.loads(endpoint.app_metadata)
        batches = [json.loads(chunk.app_metadata.to_pybytes()) for chunk in client.do_get(endpoint.ticket)]
        assert batches[-1]["complete"] is True
        assert [b["sequence"] for b in batches[:-1]] == list(range(len(batches) - 1))
        assert all(rows["row_start"] <= b["row"] < rows["row_stop"] for b in batches[:-1])


def test_expiration_time_list_actions(client: fl.FlightClient) -> None:
    names = [action.type for action in client.list_actions()]
    assert names == ["CancelFlightInfo", "RenewFlightEndpoint", "ResumeFlightEndpoint"]


def test_expiration_time_renew_flight_endpoint(client: fl.FlightClient) -> None:
    endpoint = client.get_flight_info(command()).endpoints[0]
    time.sleep(1.1)  # expiry is kept in whole seconds
    renewed = fl.FlightEndpoint.deserialize(act(client, "RenewFlightEndpoint", endpoint))
    assert renewed.expiration_time.as_py() > endpoint.expiration_time.as_py()
    assert client.do_get(renewed.ticket).read_all() == client.do_get(endpoint.ticket).read_all()


def test_expiration_time_cancel_flight_info(client: fl.FlightClient) -> None:
    info = client.get_flight_info(command(endpoints=2))
    for _ in range(2):
        assert act(client, "CancelFlightInfo", info) == b"\x08\x01"  # CANCEL_STATUS_CANCELLED
    for endpoint in info.endpoints:
        with pytest.raises(pa.ArrowException, match="was cancelled"):
            client.do_get(endpoint.ticket).read_all()


@pytest.mark.parametrize(
    ("name", "body", "error"),
    [
        ("dance", b"", NotImplementedError),
        ("CancelFlightInfo", b"\xff\x01", pa.ArrowInvalid),
        ("RenewFlightEndpoint", b"", pa.ArrowInvalid),
    ],
)
def test_bad_actions(client: fl.FlightClient, name: str, body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        list(client.do_action(fl.Action(name, body)))


@dataclass
class Cut:
    """Where connections are cut, in bytes from the server, what the last one let through, and how many were cut.

    After the first one was cut, ``away`` more are hung up on, as by a server that starts again.
    """

    uri: str
    away: int = 0
    limit: int = 1 << 40
    counted: int = 0
    cuts: int = 0


@contextlib.contextmanager
def cutting(address: str) -> Iterator[Cut]:
    """Forward connections to the server; each ends after so many bytes."""
    host, port = address.removeprefix("grpc://").split(":")
    door = socket.create_server(("127.0.0.1", 0))
    cut = Cut(f"grpc://127.0.0.1:{door.getsockname()[1]}")

    def up(inner: socket.socket, outer: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := inner.recv(1 << 16):
                outer.sendall(data)

    def down(inner: socket.socket, outer: socket.socket) -> None:
        left = cut.limit
        cut.counted = 0
        with contextlib.suppress(OSError):
            while left > 0 and (data := outer.recv(min(left, 1 << 16))):
                inner.sendall(data)
                left -= len(data)
                cut.counted += len(data)
        cut.cuts += left <= 0
        for end in (inner, outer):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                inner = door.accept()[0]
                if cut.cuts and cut.away:
                    cut.away -= 1
                    inner.close()
                    continue
                outer = socket.create_connection((host, int(port)))
                threading.Thread(target=up, args=(inner, outer), daemon=True).start()
                threading.Thread(target=down, args=(inner, outer), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield cut
    finally:
        door.close()


def test_cut_streams_are_never_short(address: str, client: fl.FlightClient) -> None:
    seed = random.randrange(1 << 32)  # noqa: S311 - places to cut at
    print(f"seed {seed}")
    rng = random.Random(seed)  # noqa: S311
    info = client.get_flight_info(command(batchRows=500))
    ticket = info.endpoints[0].ticket
    whole = client.do_get(ticket).read_all()

    def ours(plain: fl.FlightClient, uri: str) -> int:
        del plain
        source = FlightSource(uri, timeout=10)
        try:
            return sum(batch.num_rows for batch in source.batches(info))
        finally:
            source.close()

    readers = {
        "read_all": lambda plain, _: plain.do_get(ticket).read_all().num_rows,
        "to_reader": lambda plain, _: sum(b.num_rows for b in plain.do_get(ticket).to_reader()),
        "rasterloom": ours,
    }
    with cutting(address) as cut:
        options: list[tuple[str, int | str]] = [("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)]
        for name, read in readers.items():
            cut.limit = 1 << 40
            with fl.FlightClient(cut.uri, generic_options=options) as plain:
                assert read(plain, cut.uri) == whole.num_rows
            size = cut.counted
            short = failed = complete = 0
            before = cut.cuts
            for _ in range(20):
                cut.limit = rng.randrange(size * 9 // 10)  # short of the trailer, whatever the preface took
                try:
                    with fl.FlightClient(
                        cut.uri, generic_options=[*options, ("grpc.use_local_subchannel_pool", 1)]
                    ) as plain:
                        rows = read(plain, cut.uri)
                except (pa.ArrowException, rl.RasterloomError, OSError):
                    failed += 1
                else:
                    short += rows < whole.num_rows
                    complete += rows == whole.num_rows
            print(f"{name}: 20 streams cut, {failed} failed, {complete} complete, {short} short ones accepted")
            assert short == 0
            # Each was cut at least once. Our client may have gone on behind its
            # last whole batch, as it should; the others have to fail.
            assert cut.cuts - before >= 20
            assert failed + complete == 20
            if name != "rasterloom":
                assert failed == 20
