"""rl.local(): a suite started, shared, kept and stopped, each a real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

import rasterloom as rl

if TYPE_CHECKING:
    import suite as demo_suite

local_suite = sys.modules["rasterloom.local"]  # rl.local is the function
LISTENING = "0A"
BINARY = Path(__file__).resolve().parents[2] / ".bin" / "rasterloom"


@pytest.fixture
def database(suite: demo_suite.Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database that no suite serves yet, on the server of the tests; nothing of the user's is touched."""
    name = f"local_{os.getpid()}_{tmp_path.name}".replace("-", "_")
    with psycopg.connect(suite.database_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')  # pyright: ignore[reportCallIssue,reportArgumentType]
    monkeypatch.setenv("RASTERLOOM_BINARY", str(BINARY))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("RASTERLOOM_URL")
    parts = psycopg.conninfo.conninfo_to_dict(suite.database_url)
    return psycopg.conninfo.make_conninfo(**(parts | {"dbname": name}))


def ready_files(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "state" / "rasterloom").glob("*.json"))


def test_one_is_started_shared_and_stopped_by_the_last(database: str, tmp_path: Path) -> None:
    with rl.local(database) as first:
        assert first.started
        assert len(first.layers()) == 0
        with rl.local(database) as second:
            assert second.url == first.url
        assert len(first.layers()) == 0
        assert len(ready_files(tmp_path)) == 1
        assert database not in ready_files(tmp_path)[0].with_suffix(".log").read_text()
        url = first.url
    assert ready_files(tmp_path) == []
    with rl.connect(url) as gone, pytest.raises(rl.Unavailable):
        gone.layers()


def test_it_ends_with_the_interpreter_unless_it_is_kept(database: str, tmp_path: Path) -> None:
    program = (
        "import sys, rasterloom as rl\n"
        "loom = rl.local(sys.argv[1], keep=sys.argv[2] == 'keep')\n"
        "print(loom.url, loom.started)"
    )

    def run(how: str) -> list[str]:
        command = [sys.executable, "-W", "error", "-c", program, database, how]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=240).stdout.split()

    url, started = run("end")
    assert started == "True"
    assert ready_files(tmp_path) == []
    url, started = run("keep")
    assert started == "True"
    try:
        assert run("end") == [url, "False"]
    finally:
        with rl.local(database) as kept:
            assert (kept.url, kept.started) == (url, False)
            kept.stop()
    assert ready_files(tmp_path) == []


def test_one_that_died_is_started_anew(database: str, tmp_path: Path) -> None:
    first = rl.local(database)
    said = ready_files(tmp_path)[0].read_text()
    first.close()
    ready = next((tmp_path / "state" / "rasterloom").glob("*.log")).with_suffix(".json")
    ready.write_text(said)  # as a killed one leaves it
    with rl.local(database) as second:
        assert second.started
        assert len(second.layers()) == 0


def test_one_that_answers_is_taken(suite: demo_suite.Suite) -> None:
    with rl.local() as loom:
        assert (loom.url, loom.started) == (suite.url, False)
        with pytest.raises(rl.FailedPrecondition, match="was not started by"):
            loom.stop()
    with rl.connect(suite.url) as still:
        still.layers()


@pytest.fixture
def at_the_usual_place(suite: demo_suite.Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The suite of the tests, where one is looked for; none can be started in its place."""
    monkeypatch.setattr(local_suite, "DEFAULT_URL", suite.url)
    monkeypatch.delenv("RASTERLOOM_URL")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("RASTERLOOM_BINARY", str(tmp_path / "missing"))
    return suite.url


def test_our_own_at_the_usual_place_is_taken(at_the_usual_place: str) -> None:
    with rl.local() as loom:
        assert loom.url == at_the_usual_place


def test_that_of_another_user_is_not(at_the_usual_place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = f":{int(at_the_usual_place.rpartition(':')[2]):04X} "
    heading, *lines = Path("/proc/net/tcp").read_text().splitlines()
    (ours,) = (line for line in lines if port in line and f" {LISTENING} " in line)
    words = ours.split()
    assert words[7] == str(os.getuid())
    sockets = tmp_path / "tcp"
    sockets.write_text("\n".join([heading, " ".join([*words[:7], str(os.getuid() + 1), *words[8:]])]))
    monkeypatch.setattr(local_suite, "SOCKETS", (sockets,))
    said = "another user's, and is not used: RASTERLOOM_URL="
    with pytest.warns(UserWarning, match=said) as told, pytest.raises(rl.NotFound):
        rl.local()
    assert told[0].filename == __file__
    monkeypatch.setenv("RASTERLOOM_URL", at_the_usual_place)
    with rl.local() as loom:
        assert not loom.started


def test_where_nobody_says_whose_it_is_that_is_told(at_the_usual_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_suite, "SOCKETS", ())
    with (
        pytest.warns(UserWarning, match=f"using the suite at {at_the_usual_place}, which rl.local"),
        rl.local() as loom,
    ):
        assert loom.url == at_the_usual_place


def test_why_none_starts(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(rl.InvalidArgument):
        rl.local(database, data_dir=tmp_path)
    file = tmp_path / "file"
    file.write_text("no directory")
    with pytest.raises(rl.Unavailable, match="ended with code") as ended:
        rl.local(data_dir=file)
    assert ended.value.reason == "SUITE_NOT_STARTED"
    assert Path(ended.value.fields["log"]).exists()
    monkeypatch.setenv("RASTERLOOM_BINARY", str(tmp_path / "missing"))
    with pytest.raises(rl.NotFound, match="RASTERLOOM_BINARY") as named:
        rl.local(database)
    assert named.value.reason == "PROGRAM_NOT_FOUND"
