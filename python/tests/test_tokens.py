"""Tokens, shown to the real suite: services and Flight ask for the same one."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import psycopg
import pyarrow.flight as fl
import pytest

import rasterloom as rl

from .suite_fixtures import demo_suite

if TYPE_CHECKING:
    from collections.abc import Iterator

GRID = rl.Grid("EPSG:32633", rows=30, cols=20, origin_x=1000.0, origin_y=9000.0, step_x=10.0, step_y=10.0)


class Guarded(NamedTuple):
    """A suite that wants to know who asks, and who may ask."""

    url: str
    tokens: dict[str, str]


@pytest.fixture(scope="module")
def guarded(suite: demo_suite.Suite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """`rasterloom up --tokens` on a database of its own, beside the suite of the other tests."""
    folder = tmp_path_factory.mktemp("tokens")
    file = folder / "tokens"
    tokens = dict[str, str]()
    for name, role in (("alice", "reader"), ("olga", "operator")):
        command = [demo_suite.binary(), "token", "new", name, "--role", role, "--file", str(file)]
        tokens[name] = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        assert tokens[name] not in file.read_text()
    with psycopg.connect(suite.database_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE guarded")
    parts = psycopg.conninfo.conninfo_to_dict(suite.database_url) | {"dbname": "guarded"}
    url = psycopg.conninfo.make_conninfo(**parts)  # pyright: ignore[reportArgumentType]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RASTERLOOM_URL")
        arguments = ("--database-url", url, "--tokens", str(file))
        with demo_suite.running_suite(folder / "rasterloom.log", *arguments) as running:
            yield Guarded(running.url, tokens)


def test_what_a_token_opens(guarded: Guarded) -> None:
    values = np.arange(600, dtype="float32").reshape(30, 20)
    with rl.connect(guarded.url, token=lambda: guarded.tokens["olga"]) as operator:
        operator.ingest(values, name="counted", grid=GRID, progress=False)
    with rl.connect(guarded.url, token=guarded.tokens["alice"]) as reader:
        assert reader.layers().names == ["counted"]
        assert np.array_equal(reader.merge(["counted"], progress=False).to_numpy()["counted"], values)
        for change in (
            lambda: reader.drop("counted"),
            lambda: reader.ingest(values, name="mine", grid=GRID, progress=False),
            lambda: reader.migrations.start("counted"),
        ):
            with pytest.raises(rl.PermissionDenied) as refused:
                change()
            assert refused.value.reason == "PERMISSION_DENIED"
        assert reader.layers().names == ["counted"]


@pytest.mark.parametrize("token", ["wrong", None])
def test_services_stay_shut(guarded: Guarded, token: str | None) -> None:
    with rl.connect(guarded.url, token=token) as stranger:
        for ask in (stranger.layers, stranger.merge(["counted"], progress=False).to_arrow):
            with pytest.raises(rl.Unauthenticated) as caught:
                ask()
            assert caught.value.reason == "CREDENTIALS_INVALID"


def test_flight_asks_for_itself(guarded: Guarded) -> None:
    """Whoever knows the address, the request or somebody's ticket gets no cell by it."""

    def options(token: str | None) -> fl.FlightCallOptions:
        return fl.FlightCallOptions(headers=[] if token is None else [(b"authorization", f"Bearer {token}".encode())])

    with rl.connect(guarded.url, token=guarded.tokens["olga"]) as operator:
        if "counted" not in operator.layers():
            operator.ingest(np.zeros((30, 20)), name="counted", grid=GRID, progress=False)
        merge = operator.merge(["counted"])
        descriptor = fl.FlightDescriptor.for_command(merge.spec.SerializeToString())
        uri = merge.plan.flight_uri
    with fl.connect(uri) as client:
        info = client.get_flight_info(descriptor, options(guarded.tokens["olga"]))
        ticket = info.endpoints[0].ticket
        for token in (None, "wrong"):
            with pytest.raises(fl.FlightUnauthenticatedError):
                client.get_flight_info(descriptor, options(token))
            with pytest.raises(fl.FlightUnauthenticatedError):
                client.do_get(ticket, options(token)).read_all()
        with pytest.raises(fl.FlightUnauthorizedError):
            client.do_get(ticket, options(guarded.tokens["alice"])).read_all()
        assert client.do_get(ticket, options(guarded.tokens["olga"])).read_all().num_rows == 600
