from __future__ import annotations

import contextlib
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING

import grpc
import pyarrow.flight as fl
import pytest
from google.rpc.error_details_pb2 import ErrorInfo

import rasterloom as rl
from rasterloom._gen.schema.v1 import migration_pb2, migration_pb2_grpc
from rasterloom.errors import no_such_name
from rasterloom.stream import FlightSource

from .flight_server import refusing

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@pytest.mark.parametrize(
    ("reason", "fields", "hint"),
    [
        ("DUPLICATE_CELL", {}, "duplicates='first', 'last' or 'mean'"),
        ("RESIDUAL_TOO_LARGE", {}, "resampling={column: 'average'}"),
        ("NARROWING_LOSS", {}, "types='stored'"),
        ("LAYER_EXISTS", {}, "replace=True"),
        ("CRS_MISMATCH", {"crs": "EPSG:4326", "reference_crs": "(none)"}, "loom.register or loom.ingest with crs="),
    ],
)
def test_what_helps_in_python_is_said(reason: str, fields: dict[str, str], hint: str) -> None:
    error = rl.FailedPrecondition("it is so", reason=reason, fields=fields)
    assert str(error).startswith("it is so; ")
    assert hint in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301
    assert error.message == "it is so"
    assert str(rl.FailedPrecondition("it is so", reason="CRS_MISMATCH", fields={"crs": "EPSG:4326"})) == "it is so"


def test_names_that_are_not_there_are_answered_by_those_that_are() -> None:
    error = no_such_name("layer", "Sst", ["elevation", "oisst", "ssl", "sst_jan", "tt"])
    assert str(error) == "there is no layer 'Sst' here: sst_jan, oisst, ssl, tt, elevation"
    assert isinstance(error, KeyError)
    assert isinstance(error, rl.NotFound)
    assert str(no_such_name("layer", "a", [f"b{i}" for i in range(9)])).endswith("b0, b1, b2, b3, b4 and 4 more")
    assert str(no_such_name("layer", "a", [])) == "there is no layer 'a' here, and no other"


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("pandas", lambda merge: merge.to_pandas()),
        ("polars", lambda merge: merge.to_polars()),
        ("duckdb", lambda merge: merge.to_duckdb()),
        ("xarray", lambda merge: merge.to_xarray()),
        ("rasterio", lambda _: rl.connect("http://127.0.0.1:1").ingest("a.tif", name="a")),
    ],
)
def test_a_package_that_is_missing(package: str, use, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said before anything is read, in one way."""
    monkeypatch.setitem(sys.modules, package, None)
    with rl.connect("http://127.0.0.1:1") as loom, pytest.raises(rl.NotInstalled) as caught:
        use(loom.merge(["birds"]))
    assert isinstance(caught.value, ImportError)
    assert str(caught.value).endswith(f" needs {package}: pip install {package}")
    assert caught.value.fields == {"package": package}


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


class SlowFinalizer(migration_pb2_grpc.MigrationServiceServicer):
    """Takes longer to finalize than others may take to answer, or says that it may not."""

    def __init__(self, refuses: str = "") -> None:
        self.refuses = refuses

    def GetMigration(  # noqa: N802
        self,
        request: migration_pb2.GetMigrationRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> migration_pb2.GetMigrationResponse:
        return migration_pb2.GetMigrationResponse(migration=migration_pb2.Migration(id=request.id))

    def Finalize(  # noqa: N802
        self, request: migration_pb2.FinalizeRequest, context: grpc.ServicerContext
    ) -> migration_pb2.FinalizeResponse:
        if self.refuses:
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, self.refuses)
        gone = threading.Event()
        context.add_callback(gone.set)
        gone.wait(1.0)
        return migration_pb2.FinalizeResponse(
            migration=migration_pb2.Migration(id=request.id, state="MIGRATION_STATE_FINALIZED")
        )


@contextlib.contextmanager
def finalizing(finalizer: SlowFinalizer) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    migration_pb2_grpc.add_MigrationServiceServicer_to_server(finalizer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def test_a_table_of_any_size_is_finalized() -> None:
    with finalizing(SlowFinalizer()) as url, rl.connect(url, timeout=0.3) as loom:
        assert loom.migrations.get("m1").finalize(drop_old_table=True).state == "FINALIZED"


def test_whose_limit_it_was_is_told() -> None:
    limit = "the call took longer than the 60ms that this server allows (--call-time)"
    with (
        finalizing(SlowFinalizer(refuses=limit)) as url,
        rl.connect(url) as loom,
        pytest.raises(rl.DeadlineExceeded, match=r"ended the call: .*--call-time"),
    ):
        loom.migrations.get("m1").finalize(drop_old_table=True)


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
