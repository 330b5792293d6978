"""Getting in: addresses, certificates, tokens, and what is said when it does not work."""

from __future__ import annotations

import contextlib
import copy
import pickle
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
import trustme

import rasterloom as rl
from rasterloom._gen.schema.v1 import schema_pb2, schema_pb2_grpc

from .flight_server import Script, scripted
from .test_stream import SCHEMA, batch, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "let-me-in"  # noqa: S105


class Doorkeeper(schema_pb2_grpc.SchemaServiceServicer):
    """Has no layers, and only for those who bring the token."""

    def ListLayers(  # noqa: N802
        self,
        request: schema_pb2.ListLayersRequest,  # noqa: ARG002
        context: grpc.ServicerContext,
    ) -> schema_pb2.ListLayersResponse:
        if dict(context.invocation_metadata()).get("authorization") != f"Bearer {TOKEN}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no")
        return schema_pb2.ListLayersResponse()


class Papers:
    """A certificate authority and what it signed, as files."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca, self.certificate, self.key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        ours = authority.issue_cert("127.0.0.1", "localhost")
        ours.cert_chain_pems[0].write_to_path(str(self.certificate))
        ours.private_key_pem.write_to_path(str(self.key))


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


@contextlib.contextmanager
def doorkeeper(papers: Papers | None = None, *, ask: bool = False) -> Iterator[str]:
    """Serve the doorkeeper, encrypted where there are papers; gives host:port."""
    server = grpc.server(__import__("concurrent.futures").futures.ThreadPoolExecutor(2))
    schema_pb2_grpc.add_SchemaServiceServicer_to_server(Doorkeeper(), server)
    if papers is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        pair = (papers.key.read_bytes(), papers.certificate.read_bytes())
        port = server.add_secure_port(
            "127.0.0.1:0", grpc.ssl_server_credentials([pair], papers.ca.read_bytes() if ask else None, ask)
        )
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_the_token_goes_with_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    with doorkeeper() as address:
        url = f"http://{address}"
        with rl.connect(url) as nobody, pytest.raises(rl.Unauthenticated, match=r"rl\.connect\(token=…\)") as caught:
            nobody.layers()
        assert caught.value.reason == "UNAUTHENTICATED"
        with rl.connect(url, token="wrong") as stranger, pytest.raises(rl.Unauthenticated):  # noqa: S106
            stranger.layers()
        for token in (TOKEN, lambda: TOKEN):
            with rl.connect(url, token=token) as known:
                assert len(known.layers()) == 0
        monkeypatch.setenv("RASTERLOOM_TOKEN", TOKEN)
        with rl.connect(url) as known:
            assert len(known.layers()) == 0
            assert TOKEN not in repr(known)


def test_a_token_is_not_sent_in_the_open_unsaid() -> None:
    with pytest.warns(UserWarning, match=r"the token goes to http://rasters\.example\.org unencrypted"):
        rl.connect("http://rasters.example.org", token=TOKEN).close()


def test_certificates(papers: Papers) -> None:
    with doorkeeper(papers) as address:
        url = f"https://{address}"
        for tls in (str(papers.ca), papers.ca, rl.TLS(ca=papers.ca)):
            with rl.connect(url, tls=tls, token=TOKEN) as loom:
                assert len(loom.layers()) == 0
        for tls in (None, True):
            with rl.connect(url, tls=tls) as loom, pytest.raises(rl.Unavailable, match="certificate is not trusted"):
                loom.layers()
    with doorkeeper(papers, ask=True) as address:
        url = f"https://{address}"
        ours = rl.TLS(ca=papers.ca, certificate=papers.certificate, key=papers.key)
        with rl.connect(url, tls=ours, token=TOKEN) as loom:
            assert len(loom.layers()) == 0
        with rl.connect(url, tls=papers.ca) as loom, pytest.raises(rl.Unavailable, match="a certificate of ours"):
            loom.layers()


@pytest.mark.parametrize(
    ("url", "tls", "said"),
    [
        ("http://localhost", True, "begins with https://"),
        ("https://localhost", False, "tls=False"),
        ("https://localhost", rl.TLS, "needs its key"),
    ],
)
def test_contradictions(url: str, tls: object, said: str, papers: Papers) -> None:
    with pytest.raises(rl.InvalidArgument, match=said):
        rl.connect(url, tls=rl.TLS(certificate=papers.certificate) if tls is rl.TLS else tls)  # type: ignore[arg-type]


def test_tables_come_encrypted_and_with_the_token(papers: Papers) -> None:
    import pyarrow.flight as fl

    class Guard(fl.ServerMiddlewareFactory):
        def start_call(self, info: object, headers: dict[str, list[str]]) -> None:  # noqa: ARG002
            if headers.get("authorization") != [f"Bearer {TOKEN}"]:
                raise fl.FlightUnauthenticatedError("no")

    pair = (papers.certificate.read_bytes(), papers.key.read_bytes())
    options = {
        "tls_certificates": [pair],
        "verify_client": True,
        "root_certificates": papers.ca.read_bytes(),
        "middleware": {"guard": Guard()},
    }
    script = Script(SCHEMA, [whole([batch(0, 5)])])
    ours = rl.TLS(ca=papers.ca, certificate=papers.certificate, key=papers.key)
    with scripted(script, "grpc+tls", **options) as uri:
        with rl.connect("http://127.0.0.1:1", flight=uri) as loom:
            table = loom.merge(["birds"])
            with pytest.raises(rl.Unavailable, match="certificate is not trusted"):
                table.to_arrow()
        for token, kind in (("wrong", rl.Unauthenticated), (TOKEN, None)):
            with rl.connect("https://127.0.0.1:1", flight=uri, tls=ours, token=token) as loom:
                if kind is None:
                    assert loom.merge(["birds"]).to_arrow().num_rows == 5
                else:
                    with pytest.raises(kind):
                        loom.merge(["birds"]).to_arrow()


class OldWeb(BaseHTTPRequestHandler):
    """A web server that knows HTTP/1 only."""

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def old_web() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), OldWeb) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def free() -> str:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return f"127.0.0.1:{door.getsockname()[1]}"


def failure(loom: rl.Loom) -> rl.RasterloomError:
    """The error of a first call, in one line."""
    with loom, pytest.raises(rl.RasterloomError) as caught:
        loom.merge(["birds"], progress=False).to_arrow()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    return caught.value


def test_the_wrong_door(loom: rl.Loom, papers: Papers) -> None:
    """Each mistake of an address gives the right exception, and a sentence that names the mistake."""
    plan = loom.plan(["nc_pr_01"])
    services, flight = re.search(r"http://(\S+)>", repr(loom))[1], plan.flight_uri.removeprefix("grpc://")  # type: ignore[index]
    nobody = free()
    with old_web() as web, doorkeeper(papers) as secure:
        for what, connection, kind, said in (
            ("nobody", rl.connect(f"http://{nobody}"), rl.Unavailable, "nothing listens there"),
            ("nobody", rl.connect(f"https://{nobody}"), rl.Unavailable, "nothing listens there"),
            ("the port of Flight", rl.connect(f"http://{flight}"), rl.Unimplemented, "does not offer this call"),
            ("a web server", rl.connect(f"http://{web}"), rl.Unavailable, "does not speak gRPC"),
            ("TLS to a plain port", rl.connect(f"https://{services}"), rl.Unavailable, "begins with http://"),
            ("plain to a TLS port", rl.connect(f"http://{secure}"), rl.Unavailable, "begins with https://"),
            ("no such name", rl.connect("http://rasters.invalid"), rl.Unavailable, "no machine is known"),
            (
                "Flight where the services answer",
                rl.connect(f"http://{services}", flight=f"grpc://{services}"),
                rl.Unimplemented,
                "does not offer this call",
            ),
            (
                "Flight from nobody",
                rl.connect(f"http://{services}", flight=f"grpc://{nobody}"),
                rl.Unavailable,
                "nothing listens there",
            ),
            (
                "TLS to plain Flight",
                rl.connect(f"http://{services}", flight=f"grpc+tls://{flight}"),
                rl.Unavailable,
                "begins with grpc://",
            ),
        ):
            error = failure(connection)
            print(f"{what}: {error}")
            assert isinstance(error, kind), (what, type(error), error)
            assert said in str(error), (what, str(error))


def test_no_token_is_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process says itself who it is; a copy is the same connection."""
    loom = rl.connect("http://127.0.0.1:1", token=TOKEN, timeout=3)
    merge = loom.merge(["birds"])
    for thing in (loom, merge, loom.exports, loom.migrations):
        sent = pickle.dumps(thing)
        assert TOKEN.encode() not in sent
        for variable, token in (("", None), ("theirs", "theirs")):
            monkeypatch.setenv("RASTERLOOM_TOKEN", variable)
            again = pickle.loads(sent)  # noqa: S301
            assert type(again) is type(thing)
            assert again._connection.urls == ("http://127.0.0.1:1",)
            assert (again._connection._token, again._connection._timeout) == (token, 3)
        for copied in (copy.copy(thing), copy.deepcopy(thing)):
            assert copied._connection is loom._connection
    assert pickle.loads(pickle.dumps(merge)).spec == copy.deepcopy(merge).spec == merge.spec  # noqa: S301
    local = rl.LocalLoom("http://127.0.0.1:1", None)
    assert type(pickle.loads(pickle.dumps(local))) is rl.Loom  # noqa: S301
