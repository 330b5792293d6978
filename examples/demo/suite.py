"""Starts `rasterloom up` for as long as the demo needs it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 150  # the first start may fetch a PostgreSQL
STOP_SECONDS = 45


class SuiteError(Exception):
    """The suite cannot be started; the message says why and what to do."""


@dataclass(frozen=True)
class Suite:
    """Where everything answers."""

    url: str
    database_url: str
    started: bool


@contextmanager
def running_suite(log: Path, *arguments: str) -> Iterator[Suite]:
    """Use the suite at RASTERLOOM_URL, or start one of our own and stop it at the end.

    Our own listens on free ports, so that it is in nobody's way. Its database
    stays on the disk: the next start finds the layers again.
    """
    if url := os.environ.get("RASTERLOOM_URL"):
        yield Suite(url=url, database_url=os.environ.get("DATABASE_URL", ""), started=False)
        return
    with tempfile.TemporaryDirectory(prefix="rasterloom-") as folder, log.open("w") as output:
        ready = Path(folder) / "ready.json"
        command = [binary(), "up", "--ready-file", str(ready)]
        command += ["--listen", "127.0.0.1:0", "--flight-listen", "127.0.0.1:0", *arguments]
        # A group of its own: Ctrl-C reaches the demo alone, which then stops the suite in order.
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, process_group=0)
        try:
            facts = wait_until_ready(process, ready, log)
            yield Suite(url=facts["url"], database_url=facts["database_url"], started=True)
        finally:
            stop(process)


def binary() -> str:
    """Find the program: the one built in this checkout, else the one installed."""
    built = ROOT / ".bin" / "rasterloom"
    found = str(built) if built.exists() else shutil.which("rasterloom")
    if not found:
        raise SuiteError(f"there is no program at {built}: `make build` makes it")
    return found


def wait_until_ready(process: subprocess.Popen[bytes], ready: Path, log: Path) -> dict[str, str]:
    """Wait for the file that the suite writes once every service answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if ready.exists():
            return json.loads(ready.read_text())
        if process.poll() is not None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
            raise SuiteError(f"`rasterloom up` ended with code {process.returncode}:\n{tail}")
        time.sleep(0.05)
    raise SuiteError(f"`rasterloom up` was not ready after {START_SECONDS} s; its log is {log}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the suite in order; by force only when it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
