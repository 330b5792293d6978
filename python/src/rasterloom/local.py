"""A suite on this machine: found, or started for as long as it is used."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rasterloom import errors
from rasterloom._flight import is_loopback
from rasterloom._gen.schema.v1 import schema_pb2
from rasterloom.client import URL_VARIABLE, Loom
from rasterloom.connection import DEFAULT_URL, TOKEN_VARIABLE, Connection

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["LocalLoom", "local"]

BINARY_VARIABLE = "RASTERLOOM_BINARY"
START_SECONDS = 150.0
"""The first start may fetch a PostgreSQL."""
STOP_SECONDS = 45.0
ANSWER_SECONDS = 5.0
CALL_SECONDS = 60.0
SOCKETS = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
"""Where Linux says who listens where: address, state and user in columns 2, 4 and 8."""
LISTENING = "0A"


class LocalLoom(Loom):
    """A connection to a suite on this machine; made by :func:`local`.

    Attributes
    ----------
    url : str
        Where it answers.
    started : bool
        Whether this interpreter started it.
    """

    def __init__(self, url: str, suite: _Suite | None) -> None:
        super().__init__(_connection(url, CALL_SECONDS))
        self._suite = suite
        self.url = url
        self.started = suite is not None and suite.process is not None
        if suite is not None:
            suite.users.add(id(self))

    def close(self) -> None:
        """Close the connections; the last one stops a suite that this interpreter started, unless it is kept."""
        super().close()
        suite, self._suite = self._suite, None
        if suite is not None:
            suite.leave(id(self))

    def __reduce__(self) -> tuple[object, ...]:
        # A copy, or another process, uses the suite, and stops nothing.
        return Loom, (self._connection,)

    def stop(self) -> None:
        """Stop the suite, whoever started it by :func:`local`, and close the connections."""
        suite = self._suite
        if suite is None:
            raise errors.FailedPrecondition(
                f"the suite at {self.url} was not started by rl.local(), so it is not stopped by it",
                reason="NOT_OURS",
                fields={"url": self.url},
            )
        self._suite = None
        super().close()
        suite.stop()


def local(
    database_url: str | None = None, *, data_dir: str | os.PathLike[str] | None = None, keep: bool = False
) -> LocalLoom:
    """Connect to a suite on this machine, and start one where none runs.

    Without arguments, the suite at ``RASTERLOOM_URL`` (on this machine) is taken
    if one answers there, or, where that is not set, at
    ``http://127.0.0.1:7400``, unless it is another user's. Else, one that an
    earlier call started for the same database; else ``rasterloom up`` is
    started on free ports. The program is the one that the environment variable
    ``RASTERLOOM_BINARY`` names, or on the ``PATH``, or built in the checkout.

    Parameters
    ----------
    database_url : str, optional
        The PostgreSQL that has the layers. Default: the environment variable
        ``DATABASE_URL``, else one that the suite brings itself.
    data_dir : path, optional
        Where a PostgreSQL of the suite's own keeps its data. Default: a
        directory of the user's.
    keep : bool
        Leave the suite running when this interpreter ends, for the next one.

    Returns
    -------
    LocalLoom
        A :class:`Loom`. Leaving its ``with`` statement, or closing it, stops
        the suite, if this interpreter started it and nothing else here uses
        it; the end of the interpreter does, too.

    Raises
    ------
    NotFound
        There is no program to start, with reason ``PROGRAM_NOT_FOUND``.
    Unavailable
        It ended, or was not ready in time, with reason ``SUITE_NOT_STARTED``;
        the message has the end of its log.

    Examples
    --------
    >>> with rl.local() as loom:
    ...     print(loom.layer("coads_sst_jan").grid.shape)
    (90, 180)
    """
    if database_url is not None and data_dir is not None:
        raise errors.InvalidArgument(
            "data_dir is for a PostgreSQL of the suite's own, and database_url names another: give one of them",
            reason="INVALID_ARGUMENT",
            fields={"field": "data_dir"},
        )
    if database_url is None and data_dir is None:
        named = os.environ.get(URL_VARIABLE)
        chosen = named is not None and is_loopback(named)
        url = named if named is not None and chosen else DEFAULT_URL
        # Before anything is said to it: a token is not for another user.
        if (chosen or _may_be_ours(url)) and _answers(url):
            return LocalLoom(url, None)
    environment = _environment(database_url, data_dir)
    files = _files(environment)
    with _alone(files.with_suffix(".lock")):
        suite = _running(files) or _start(files, environment)
        if suite.process is None or keep:
            suite.kept = True
        return LocalLoom(suite.url, suite)


class _Suite:
    """A suite that :func:`local` started, here or in another interpreter."""

    def __init__(self, url: str, pid: int, process: subprocess.Popen[bytes] | None) -> None:
        self.url = url
        self.pid = pid
        self.process = process
        self.kept = False
        self.users = set[int]()
        self._owner = os.getpid()
        self._lock = threading.Lock()
        if process is not None:
            atexit.register(self._at_exit)

    def leave(self, user: int) -> None:
        with self._lock:
            self.users.discard(user)
            last = not self.users
        if last and not self.kept:
            self.stop()

    def stop(self) -> None:
        """End it in order; by force only one of our own, and only when it does not."""
        # A forked child has our memory, and nothing to stop.
        if os.getpid() != self._owner:
            return
        _started.pop(self.pid, None)
        if self.process is None:
            _stop_other(self.pid)
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        atexit.unregister(self._at_exit)

    def _at_exit(self) -> None:
        if not self.kept:
            self.stop()
        elif self.process is not None:
            self.process.returncode = 0  # it lives on, and Popen would complain


_started: dict[int, _Suite] = {}
"""Suites that this interpreter started, by their process ids."""


def _connection(url: str, timeout: float) -> Connection:
    token = os.environ.get(TOKEN_VARIABLE) or None
    return Connection(aligner=url, schema=url, merger=url, flight=None, token=token, tls=None, timeout=timeout)


def _may_be_ours(url: str) -> bool:
    """Whether what listens at an address of this machine may be taken for ours; warns where that is not sure."""
    listening = _listeners(urlsplit(url).port or 80)
    if listening is None:
        if _listens(url):
            warnings.warn(f"using the suite at {url}, which rl.local() did not start", stacklevel=3)
        return True
    if listening - {0, os.getuid()}:  # root's are those of containers
        warnings.warn(
            f"what listens at {url} is another user's, and is not used: {URL_VARIABLE}={url} would take it",
            stacklevel=3,
        )
        return False
    return True


def _listeners(port: int) -> set[int] | None:
    """Give the users whose processes listen on a port of this machine; None where the system does not tell."""
    found: set[int] | None = None
    for table in SOCKETS:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        found = found or set()
        for _, local, _, state, *_, uid in (line.split()[:8] for line in lines):
            if state == LISTENING and int(local.rpartition(":")[2], 16) == port:
                found.add(int(uid))
    return found


def _listens(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 80), ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


def _answers(url: str) -> bool:
    """Whether a suite answers at ``url``, and takes what we say of ourselves."""
    connection = _connection(url, ANSWER_SECONDS)
    try:
        connection.call(connection.schema.ListLayers, schema_pb2.ListLayersRequest(page_size=1), "schema")
    except errors.RasterloomError:
        return False
    finally:
        connection.close()
    return True


def _environment(database_url: str | None, data_dir: str | os.PathLike[str] | None) -> dict[str, str]:
    """Say by the environment which database it is: other users can read a command line."""
    environment = dict(os.environ)
    if database_url is not None:
        environment["DATABASE_URL"] = database_url
    if data_dir is not None:
        environment.pop("DATABASE_URL", None)
        environment["RASTERLOOM_DATA_DIR"] = str(Path(data_dir).resolve())
    if environment.get("DATABASE_URL"):
        environment.pop("RASTERLOOM_DATA_DIR", None)
    return environment


def _files(environment: dict[str, str]) -> Path:
    """Where the files of the suite for a database are, but for their suffixes: .json, .lock and .log."""
    names = ("DATABASE_URL", "RASTERLOOM_DATA_DIR", "XDG_DATA_HOME")
    which = hashlib.sha256(json.dumps([environment.get(name, "") for name in names]).encode()).hexdigest()[:16]
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = Path(state) / "rasterloom"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / f"local-{which}"


@contextmanager
def _alone(path: Path) -> Generator[None]:
    """Let one interpreter at a time look for a suite and start it; the others then find it."""
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _running(files: Path) -> _Suite | None:
    try:
        facts: dict[str, Any] = json.loads(files.with_suffix(".json").read_text())
    except (OSError, ValueError):
        return None
    pid, url = int(facts["pid"]), str(facts["url"])
    if not _answers(url):
        return None
    return _started.get(pid) or _Suite(url, pid, None)


def _start(files: Path, environment: dict[str, str]) -> _Suite:
    ready, log = files.with_suffix(".json"), files.with_suffix(".log")
    ready.unlink(missing_ok=True)
    command = [_binary(), "up", "--ready-file", str(ready), "--listen", "127.0.0.1:0", "--flight-listen", "127.0.0.1:0"]
    with log.open("wb") as output:
        log.chmod(0o600)
        # A session of its own: neither Ctrl-C nor the end of a terminal reaches it.
        process = subprocess.Popen(  # noqa: S603 - the program is the user's choice
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    suite = _Suite("", process.pid, process)
    try:
        suite.url = _wait(process, ready, log)
    except BaseException:
        suite.stop()
        raise
    _started[process.pid] = suite
    return suite


def _wait(process: subprocess.Popen[bytes], ready: Path, log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if ready.exists():
            return str(json.loads(ready.read_text())["url"])
        if process.poll() is not None:
            said = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
            raise errors.Unavailable(
                f"`rasterloom up` ended with code {process.returncode}:\n{said}",
                reason="SUITE_NOT_STARTED",
                fields={"exit_code": str(process.returncode), "log": str(log)},
            )
        time.sleep(0.05)
    raise errors.Unavailable(
        f"`rasterloom up` was not ready within {START_SECONDS:g} s; its log is {log}",
        reason="SUITE_NOT_STARTED",
        fields={"limit_seconds": f"{START_SECONDS:g}", "log": str(log)},
    )


def _stop_other(pid: int) -> None:
    """End a process that is no child of ours, and wait until it is gone."""
    deadline = time.monotonic() + STOP_SECONDS
    try:
        os.kill(pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.05)
    except ProcessLookupError:
        return
    raise errors.DeadlineExceeded(
        f"the suite (process {pid}) did not end within {STOP_SECONDS:g} s", fields={"pid": str(pid)}
    )


def _binary() -> str:
    if named := os.environ.get(BINARY_VARIABLE):
        found = shutil.which(named)
        where = f"where the environment variable {BINARY_VARIABLE} says it is, {named}"
    else:
        found = shutil.which("rasterloom")
        where = "on the PATH"
        checkout = Path(__file__).resolve().parents[3]
        if found is None and (checkout / "go.work").exists():
            found = shutil.which(checkout / ".bin" / "rasterloom")
            where += f" or at {checkout / '.bin' / 'rasterloom'}, where `make build` puts it"
    if found is None:
        raise errors.NotFound(
            f"there is no program `rasterloom` to start a suite with {where}; "
            f"{BINARY_VARIABLE} names another, and rl.connect(url) needs none",
            reason="PROGRAM_NOT_FOUND",
            fields={"program": os.environ.get(BINARY_VARIABLE) or "rasterloom"},
        )
    return found
