from __future__ import annotations

import pickle
from queue import SimpleQueue

import grpc
import pyarrow.flight as fl
import pytest
from google.rpc.error_details_pb2 import ErrorInfo

import rasterloom as rl
from rasterloom.stream import FlightSource

from .flight_server import refusing

KINDS = {
    grpc.StatusCode.INVALID_ARGUMENT: rl.InvalidArgument,
    grpc.StatusCode.NOT_FOUND: rl.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: rl.AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: rl.FailedPrecondition,
    grpc.StatusCode.OUT_OF_RANGE: rl.OutOfRange,
    grpc.StatusCode.RESOURCE_EXHAUSTED: rl.ResourceExhausted,
    grpc.StatusCode.ABORTED: rl.Aborted,
    grpc.StatusCode.UNAVAILABLE: rl.Unavailable,
    grpc.StatusCode.UNAUTHENTICATED: rl.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: rl.PermissionDenied,
    grpc.StatusCode.UNIMPLEMENTED: rl.Unimplemented,
    grpc.StatusCode.DEADLINE_EXCEEDED: rl.DeadlineExceeded,
    grpc.StatusCode.INTERNAL: rl.Internal,
    grpc.StatusCode.DATA_LOSS: rl.DataLoss,
}
INFO = ErrorInfo(reason="LAYER_NOT_FOUND", domain="rasterloom.dev", metadata={"layer": "birds"})
TEXT = "no layer “birds”; the nearest is “bird”"


@pytest.mark.parametrize("code", KINDS, ids=lambda code: code.name)
def test_both_protocols_raise_the_same(code: grpc.StatusCode) -> None:
    with refusing(code, TEXT, INFO) as address:
        with rl.connect(f"http://{address}") as loom, pytest.raises(rl.RasterloomError) as by_rpc:
            loom.layers()
        source = FlightSource(f"grpc://{address}", timeout=10)
        with pytest.raises(rl.RasterloomError) as by_info:
            source.flight_info(b"{}")
        with pytest.raises(rl.RasterloomError) as by_stream:
            list(source.read_endpoint(fl.Ticket(b"x"), 0, SimpleQueue()))
        source.close()
    for caught in (by_rpc, by_info, by_stream):
        error = caught.value
        assert type(error) is KINDS[code]
        assert (str(error), error.reason, error.fields) == (TEXT, "LAYER_NOT_FOUND", {"layer": "birds"})
        assert error.code == code.name.lower()


def test_another_domain_says_nothing() -> None:
    info = ErrorInfo(reason="LAYER_NOT_FOUND", domain="example.org")
    with (
        refusing(grpc.StatusCode.NOT_FOUND, "gone", info) as address,
        rl.connect(f"http://{address}") as loom,
        pytest.raises(rl.NotFound) as caught,
    ):
        loom.layers()
    assert caught.value.reason == ""


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNIMPLEMENTED, rl.Unimplemented),
        (grpc.StatusCode.UNAVAILABLE, rl.Unavailable),
        (grpc.StatusCode.INTERNAL, rl.Internal),
        (grpc.StatusCode.UNKNOWN, rl.RasterloomError),
    ],
)
def test_a_server_that_is_not_ours(code: grpc.StatusCode, kind: type[rl.RasterloomError]) -> None:
    with refusing(code, "hm", None) as address, rl.connect(f"http://{address}") as loom, pytest.raises(kind) as caught:
        loom.layers()
    assert type(caught.value) is kind
    assert caught.value.fields["url"] == f"http://{address}"


def test_nobody_there() -> None:
    with rl.connect("http://127.0.0.1:1") as loom, pytest.raises(rl.Unavailable) as caught:
        loom.merge(["birds"]).to_arrow()
    assert str(caught.value).startswith("no Rasterloom server answers at http://127.0.0.1:1: nothing listens there")
    assert caught.value.reason == "SERVER_UNREACHABLE"
    assert isinstance(caught.value, ConnectionError)
    source = FlightSource("grpc://127.0.0.1:1", timeout=10)
    with pytest.raises(rl.Unavailable, match=r"no Rasterloom server answers at grpc://127\.0\.0\.1:1"):
        source.flight_info(b"{}")
    source.close()


@pytest.mark.parametrize("url", ["127.0.0.1:7400", "ftp://127.0.0.1", "http://", "nonsense"])
def test_not_an_address(url: str) -> None:
    with pytest.raises(rl.InvalidArgument, match="is not the address of a server"):
        rl.connect(url)


def test_exceptions_travel_to_other_processes() -> None:
    error = rl.FailedPrecondition("too far apart", reason="RESIDUAL_TOO_LARGE", fields={"limit": "0.1"})
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(again), again.message, again.reason, again.fields) == (
        rl.FailedPrecondition,
        "too far apart",
        "RESIDUAL_TOO_LARGE",
        {"limit": "0.1"},
    )


@pytest.mark.parametrize(
    "options",
    [{"rows": "outer"}, {"coordinates": "lonlat"}, {"types": "float"}, {"extent": "all"}, {"extent": (1, 2, 3)}],
)
def test_options_are_checked_before_anything_is_asked(options: dict[str, object]) -> None:
    with rl.connect("http://127.0.0.1:1") as loom, pytest.raises(rl.InvalidArgument, match="must be") as caught:
        loom.merge(["birds"], **options)  # type: ignore[arg-type]
    assert caught.value.fields["field"] == next(iter(options))
