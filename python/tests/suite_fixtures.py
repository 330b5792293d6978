"""The suite that the tests talk to: the real one, on a database of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo"
sys.path.insert(0, str(DEMO))

import load  # noqa: E402
import suite as demo_suite  # noqa: E402

import rasterloom as rl  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the directory that the suite writes exports to."""
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="session")
def suite(exports: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[demo_suite.Suite]:
    """`rasterloom up` with the demo's layers. No program, no database: an error, never a skip."""
    folder = tmp_path_factory.mktemp("suite")
    given = {name: os.environ.pop(name, None) for name in ("RASTERLOOM_URL", "DATABASE_URL")}
    try:
        arguments = ("--throwaway", f"--merger-export-dir={exports}")
        with demo_suite.running_suite(folder / "rasterloom.log", *arguments) as running:
            load.load(running.database_url)
            os.environ["RASTERLOOM_URL"] = running.url
            yield running
    finally:
        os.environ.pop("RASTERLOOM_URL", None)
        os.environ.update({name: value for name, value in given.items() if value is not None})


@pytest.fixture(scope="session")
def loom(suite: demo_suite.Suite) -> Iterator[rl.Loom]:
    """A connection, the demo's catalog adopted."""
    with rl.connect(suite.url) as connection:
        connection.adopt()
        yield connection
