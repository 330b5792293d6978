"""Whatever is wrong around a program is one typed exception, with a reason and fields, and one line."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import numpy as np
import pandas as pd
import psycopg
import pytest
import suite as demo_suite
from rasterio.crs import CRS

import rasterloom as rl
from rasterloom._gen.aligner.v1 import aligner_pb2_grpc
from rasterloom._gen.merger.v1 import merger_pb2_grpc
from rasterloom._gen.schema.v1 import schema_pb2_grpc

SST = "coads_sst_jan"


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as door:
        address = f"127.0.0.1:{door.getsockname()[1]}"
    yield address


@contextlib.contextmanager
def web() -> Iterator[str]:
    """A web server that knows HTTP/1 only."""

    class Quiet(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@contextlib.contextmanager
def hangs_up() -> Iterator[str]:
    """A listener that hangs up on whoever says anything, as many do who do not understand."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    caller, _ = door.accept()
                    with caller:
                        caller.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{door.getsockname()[1]}"
        door.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextlib.contextmanager
def older() -> Iterator[str]:
    """A server that has the services, and none of today's calls."""
    server = grpc.server(ThreadPoolExecutor(2))
    schema_pb2_grpc.add_SchemaServiceServicer_to_server(schema_pb2_grpc.SchemaServiceServicer(), server)
    aligner_pb2_grpc.add_AlignerServiceServicer_to_server(aligner_pb2_grpc.AlignerServiceServicer(), server)
    merger_pb2_grpc.add_MergerServiceServicer_to_server(merger_pb2_grpc.MergerServiceServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


CALLS: dict[str, Callable[[rl.Loom], object]] = {
    "layers": lambda loom: loom.layers(),
    "align": lambda loom: loom.align([SST, "oisst_19811231"]),
    "plan": lambda loom: loom.plan([SST]),
    "merge": lambda loom: loom.merge([SST]).to_arrow(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("listens", "kind", "reason"),
    [
        (nobody, rl.Unavailable, "SERVER_UNREACHABLE"),
        (web, rl.Unavailable, "SERVER_UNREACHABLE"),
        (hangs_up, rl.Unavailable, "SERVER_UNREACHABLE"),
        (older, rl.Unimplemented, "NOT_OFFERED"),
    ],
)
def test_another_server(
    listens: Callable[[], contextlib.AbstractContextManager[str]],
    kind: type[rl.RasterloomError],
    reason: str,
    call: str,
) -> None:
    with listens() as address, rl.connect(f"http://{address}") as loom, pytest.raises(kind) as caught:
        CALLS[call](loom)
    assert type(caught.value) is kind
    assert caught.value.reason == reason
    assert address in caught.value.fields["url"]
    assert "\n" not in str(caught.value)


def test_a_connection_that_was_closed() -> None:
    for call in CALLS.values():
        with nobody() as address, rl.connect(f"http://{address}") as loom:
            pass
        with pytest.raises(rl.FailedPrecondition, match=f"{address} was closed") as caught:
            call(loom)
        assert caught.value.reason == "NOT_CONNECTED"


CELLS = np.zeros((2, 3))
HERE = {"crs": "EPSG:4326", "bounds": (0, 0, 3, 2)}


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda loom: loom.layer(3), "name is 3, and must be the name of a layer, or a Layer"),
        (lambda loom: loom.layers([SST]), "containing is ['coads_sst_jan'], and must be a text"),
        (lambda loom: loom.drop(None), "name is None, and must be"),
        (lambda loom: loom.merge(3), "layers is 3, and must be names of layers, or Layers"),
        (lambda loom: loom.merge([SST, 3]), "one of layers is 3, and must be"),
        (lambda loom: loom.merge({3: SST}), "a column is 3, and must be a text"),
        (lambda loom: loom.merge({"a": [SST]}), "layer is ['coads_sst_jan'], and must be"),
        (lambda loom: loom.align({"a": SST}), "layers is {'a': 'coads_sst_jan'}, and must be"),
        (lambda loom: loom.merge([SST], reference=3), "reference is 3, and must be"),
        (lambda loom: loom.merge([SST], resampling=None), "resampling is None, and must be a method, or {column"),
        (lambda loom: loom.merge([SST], tolerance="0.1"), "tolerance is '0.1', and must be a number"),
        (lambda loom: loom.merge([SST], min_share=[1]), "min_share is [1], and must be a number"),
        (lambda loom: loom.merge([SST], batch_rows=1.5), "batch_rows is 1.5, and must be a whole number"),
        (lambda loom: loom.migrations.plan(3), "layer is 3, and must be"),
        (lambda _: rl.connect(7400), "7400 is not the address of a server"),
        (lambda _: rl.connect(timeout="5"), "timeout is '5', and must be a number"),
        (lambda _: rl.connect(timeout=0), "timeout is 0, and must be a number of seconds above 0"),
        (lambda _: rl.to_xarray(pd.DataFrame()), "DataFrame'>, and must be a pyarrow.Table"),
        (lambda _: rl.to_numpy({}), "table is <class 'dict'>, and must be a pyarrow.Table"),
        (lambda loom: loom.ingest(CELLS, name=3, **HERE), "name is 3, and must be a text"),
        (lambda loom: loom.ingest(CELLS, name="a", crs=4326), 'crs is 4326, and must be a text, such as "EPSG:4326"'),
        (lambda loom: loom.ingest(CELLS, name="a", crs=CRS.from_epsg(4326)), "and must be a text, such as"),
        (lambda loom: loom.register("a", "b", crs=4326), "crs is 4326, and must be a text"),
        (lambda loom: loom.register("a", "b", bounds=(1, 2), shape=(1, 1)), "bounds is (1, 2), and must be (min_x"),
        (lambda loom: loom.register("a", "b", bounds=(1, 2, 3, 4), shape=3), "shape is 3, and must be (rows, cols)"),
        (lambda loom: loom.register(3, "b"), "name is 3, and must be a text"),
        (lambda loom: loom.check(SST, tolerance="0.1", coordinates=True), "tolerance is '0.1', and must be a number"),
        (lambda loom: loom.ingest(CELLS, name="a", nodata="none", **HERE), "nodata is 'none', and must be a number"),
        (lambda loom: loom.ingest(CELLS, name="a", crs="", bounds=(1, 2)), "bounds is (1, 2), and must be (min_x"),
        (lambda loom: loom.ingest(CELLS, name="a", crs="", transform=(1, 2)), "transform is (1, 2), and must be"),
        (lambda loom: loom.ingest(CELLS, name="a", grid="EPSG:4326"), "grid is 'EPSG:4326', and must be a Grid"),
        (lambda loom: loom.ingest(np.zeros((0, 5)), name="a", **HERE), "has (0, 5) cells: it must have one at least"),
        (
            lambda loom: loom.ingest(CELLS, name="a", transform=(1, 0, 0, 0, -1, 2), **HERE),
            "bounds and transform each say where the raster lies: give one of them",
        ),
        (
            lambda loom: loom.ingest(CELLS, name="a", crs="EPSG:3857", grid=rl.Grid("EPSG:4326", 2, 3, 0, 2, 1, 1)),
            "the grid has the CRS 'EPSG:4326', and crs is 'EPSG:3857': give one of them",
        ),
    ],
)
def test_what_an_argument_must_be(ask: Callable[[rl.Loom], object], said: str) -> None:
    """Before anything is asked, and never an error of what we are made of."""
    with nobody() as address, rl.connect(f"http://{address}") as loom, pytest.raises(rl.InvalidArgument) as caught:
        ask(loom)
    assert said in str(caught.value)
    assert caught.value.fields["field"]


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """A listener that takes a caller and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        yield f"127.0.0.1:{door.getsockname()[1]}"


@pytest.mark.parametrize("listens", [nobody, silent, older])
def test_a_notebook_shows_a_merge_whatever_answers(
    listens: Callable[[], contextlib.AbstractContextManager[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rl.merge, "NOTEBOOK_PATIENCE", 0.2)
    with listens() as address, rl.connect(f"http://{address}") as loom:
        merge = loom.merge(["<b>", SST])
        shown = merge._repr_html_()
    assert "&lt;Merge of &lt;b&gt;, coads_sst_jan; not read yet&gt;" in shown
    assert "no plan" in shown
    assert address in shown
    assert "was closed" in merge._repr_html_()


def test_a_notebook_shows_a_merge_whatever_its_token_does() -> None:
    def nowhere() -> str:
        raise KeyError("the vault is away")

    with nobody() as address, rl.connect(f"http://{address}", token=nowhere) as loom:
        assert "the vault is away" in loom.merge([SST])._repr_html_()


def test_the_port_of_postgresql(suite: demo_suite.Suite) -> None:
    """PostgreSQL itself: the suite's own listens on a socket of the file system, which is put behind a port."""
    with psycopg.connect(suite.database_url) as connection:
        path = f"{connection.info.host}/.s.PGSQL.{connection.info.port}"
    assert path.startswith("/")
    with (
        postgres_behind_a_port(path) as address,
        rl.connect(f"http://{address}") as loom,
        pytest.raises(rl.Unavailable) as caught,
    ):
        loom.layers()
    assert caught.value.reason == "SERVER_UNREACHABLE"
    assert "\n" not in str(caught.value)


@contextlib.contextmanager
def postgres_behind_a_port(path: str) -> Iterator[str]:
    """Hand what comes to a port on to a socket of the file system, and back."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def hand(source: socket.socket, to: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(4096):
                    to.sendall(data)
                to.shutdown(socket.SHUT_WR)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    caller, _ = door.accept()
                    with caller, socket.socket(socket.AF_UNIX) as server:
                        server.connect(path)
                        there = threading.Thread(target=hand, args=(caller, server), daemon=True)
                        there.start()
                        hand(server, caller)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{door.getsockname()[1]}"
        door.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("ask", "kind", "reason", "fields"),
    [
        (lambda loom: loom.layer("coads_sst_jna"), rl.NotFound, "LAYER_NOT_FOUND",
         {"layer": "coads_sst_jna", "nearest": SST}),
        (lambda loom: loom.align([SST, "coads_sst_jna"]), rl.NotFound, "LAYER_NOT_FOUND",
         {"layer": "coads_sst_jna", "nearest": SST}),
        (lambda loom: loom.merge([SST, "coads_sst_jna"]).to_arrow(), rl.NotFound, "LAYER_NOT_FOUND",
         {"layer": "coads_sst_jna", "nearest": SST}),
        (lambda loom: loom.merge([SST, SST]).to_arrow(), rl.InvalidArgument, "LAYER_REPEATED", {"layer": SST}),
        (lambda loom: loom.align([SST]), rl.InvalidArgument, "INVALID_ARGUMENT", {}),
        (lambda loom: loom.align([SST, "oisst_19811231"], tolerance=0.7), rl.InvalidArgument, "INVALID_ARGUMENT",
         {"value": "0.7", "limit": "0.5"}),
        (lambda loom: loom.merge([SST, "nc_tas_01"]).plan, rl.FailedPrecondition, "RESIDUAL_TOO_LARGE",
         {"layer": "nc_tas_01"}),
        (lambda loom: loom.merge([SST, "olinda_dem"]).plan, rl.FailedPrecondition, "CRS_MISMATCH", {}),
        (lambda loom: loom.adopt("public.nothing"), rl.NotFound, "CATALOG_NOT_FOUND", {}),
        (lambda loom: loom.migrations.get("m999999"), rl.NotFound, "MIGRATION_NOT_FOUND", {}),
    ],
)  # fmt: skip
def test_what_the_server_refuses(
    loom: rl.Loom,
    ask: Callable[[rl.Loom], object],
    kind: type[rl.RasterloomError],
    reason: str,
    fields: dict[str, str],
) -> None:
    with pytest.raises(kind) as caught:
        ask(loom)
    assert type(caught.value) is kind
    assert caught.value.reason == reason
    assert {name: caught.value.fields.get(name) for name in fields} == fields
    assert "\n" not in str(caught.value)


def test_an_existing_file_and_no_folder(loom: rl.Loom, tmp_path: Path) -> None:
    there = tmp_path / "there.parquet"
    there.write_text("mine")
    with pytest.raises(FileExistsError, match=r"there\.parquet exists; overwrite=True replaces it"):
        loom.merge([SST]).to_parquet(there)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        loom.merge([SST]).to_parquet(tmp_path / "none" / "a.parquet")
    with pytest.raises(OSError, match=r"a\.parquet"):
        loom.merge([SST]).to_parquet("/proc/a.parquet")
    assert there.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [there]


FULL = """
import resource, signal, sys
import rasterloom as rl
# A file that may not grow is to a program what a disk without room is.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))
try:
    rl.connect(sys.argv[1]).merge(["coads_sst_jan", "oisst_19811231"]).to_parquet(sys.argv[2])
except OSError as error:
    print(type(error).__name__, error.errno, str(error).count("\\n"), sys.argv[2] in str(error))
"""


def test_no_room_for_the_file(suite: demo_suite.Suite, loom: rl.Loom, tmp_path: Path) -> None:
    """A disk that fills up ends in OSError, and nothing is left."""
    assert loom.layers()
    target = tmp_path / "full.parquet"
    said = subprocess.run(
        [sys.executable, "-c", FULL, suite.url, str(target)], capture_output=True, text=True, check=True
    )
    assert said.stdout.split()[0] == "OSError", said
    assert said.stdout.split()[2:] == ["0", "True"], said
    assert list(tmp_path.iterdir()) == []


FORKED = """
import os, sys
import rasterloom as rl
loom = rl.connect(sys.argv[1])
merge = loom.merge(["coads_sst_jan"])
merge.to_arrow()
for read in (merge.to_arrow, rl.connect(sys.argv[1]).merge(["coads_sst_jan"]).to_arrow, loom.close):
    child = os.fork()
    if not child:
        try:
            print(read())
        except rl.FailedPrecondition as error:
            print(error.reason, error)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
merge.to_arrow()
"""


def test_a_forked_child_is_told_at_once(suite: demo_suite.Suite, loom: rl.Loom) -> None:
    """Arrow's calls would wait forever in it; the parent goes on."""
    assert loom.layers()
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, suite.url],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout.splitlines()  # fmt: skip
    assert [line.split(" ", 4)[:4] for line in said] == [["FORKED", "this", "process", "was"]] * 2 + [["None"]]
    assert "'spawn' or 'forkserver'" in said[0]
