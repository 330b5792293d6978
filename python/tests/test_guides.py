"""The guides of docs/guides/, done from the first command to the last, on databases of their own."""

from __future__ import annotations

import os
import random
import re
import shlex
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import psycopg.sql
import pytest
import suite as demo_suite

import rasterloom as rl

from . import old_database
from .pages import DOCS, ROOT, console, prints, run

if TYPE_CHECKING:
    from collections.abc import Iterator

GUIDES = DOCS / "guides"


@contextmanager
def suite_on(database_url: str, folder: Path, *arguments: str) -> Iterator[demo_suite.Suite]:
    """`rasterloom up` on this database."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RASTERLOOM_URL", raising=False)
        patch.setenv("DATABASE_URL", database_url)
        with demo_suite.running_suite(folder / "rasterloom.log", *arguments) as running:
            yield running


def guide(name: str) -> str:
    """Give the text of a guide."""
    return (GUIDES / f"{name}.md").read_text()


def follow(text: str, folder: Path, **environment: str) -> int:
    """Do what a guide says, in its order; returns the number of commands."""
    commands = console(text)
    for command, expected in commands:
        done = run(command, folder=folder, **environment)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert prints(expected, done.stdout), f"{command}\nprints\n{done.stdout}"
    return len(commands)


def everything(database_url: str) -> Any:
    """Give all tables that are not ours, with their rows."""
    with psycopg.connect(database_url) as connection:
        tables = connection.execute(
            "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1"
        ).fetchall()
        rows = "SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM public.{} t"
        return [
            (*table, connection.execute(psycopg.sql.SQL(rows).format(psycopg.sql.Identifier(table[0]))).fetchone())
            for table in tables
        ]


def test_adopt(suite: demo_suite.Suite, tmp_path: Path) -> None:
    database = old_database.make(suite.database_url, "guide_adopt")
    before = everything(database)
    assert len(before) == len(old_database.LAYERS) + 1
    with suite_on(database, tmp_path) as running:
        assert follow(guide("adopt"), tmp_path, RASTERLOOM_URL=running.url) == 5
    assert everything(database) == before


class Writer(threading.Thread):
    """Writes random cells of a table, one a transaction, until it is told to stop."""

    def __init__(self, database_url: str) -> None:
        super().__init__(daemon=True)
        self.database_url = database_url
        self.written: dict[tuple[int, int], float] = {}
        self.count = 0
        self.at_work = threading.Event()
        self.done = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        chance = random.Random(17)  # noqa: S311 - which cell is no secret
        try:
            with psycopg.connect(self.database_url, autocommit=True) as connection:
                cells = connection.execute("SELECT row_idx, col_idx FROM passthrough_nc_pr_01").fetchall()
                while not self.done.is_set():
                    cell, value = chance.choice(cells), chance.random()
                    connection.execute(
                        "UPDATE passthrough_nc_pr_01 SET value = %s WHERE row_idx = %s AND col_idx = %s", (value, *cell)
                    )
                    self.written[cell] = value
                    self.count += 1
                    self.at_work.set()
        except Exception as error:  # noqa: BLE001 - told by the test
            self.error = error
            self.at_work.set()


def test_migrate_with_writers_on(suite: demo_suite.Suite, tmp_path: Path) -> None:
    database = old_database.make(suite.database_url, "guide_migrate", ["nc_pr_01"])
    with suite_on(database, tmp_path) as running:
        adopted = run("rasterloom layers adopt", RASTERLOOM_URL=running.url)
        assert adopted.returncode == 0, adopted.stderr
        writer = Writer(database)
        writer.start()
        try:
            assert writer.at_work.wait(60)
            begun = writer.count
            assert follow(guide("migrate"), tmp_path, RASTERLOOM_URL=running.url) == 9
        finally:
            writer.done.set()
            writer.join(60)
        assert writer.error is None
        assert writer.count > begun
        with psycopg.connect(database) as connection:
            now = connection.execute("SELECT row_idx, col_idx, value, x_coord FROM passthrough_nc_pr_01").fetchall()
    stored = {(row, col): value for row, col, value, _ in now}
    assert len(stored) == 2080
    assert {cell: stored[cell] for cell in writer.written} == writer.written
    assert all(x == -85 + (col + 0.5) * 0.125 for _, col, _, x in now)


class Apart:
    """The three services of deploy.md, each a process, on free ports of this machine."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.ports = {port: str(free_port()) for port in ("7410", "7420", "7421", "7430", "7431")}
        self.database_url = database_url
        self.running: list[subprocess.Popen[bytes]] = []
        self.health: list[tuple[subprocess.Popen[bytes], list[str]]] = []

    def here(self, text: str) -> str:
        """Put our ports, and an address that only this machine reaches, into a text."""
        text = re.sub(r"\b(74[0-9]{2})\b", lambda port: self.ports.get(port[1], port[1]), text)
        return text.replace("0.0.0.0:", "localhost:")

    def start(self, command: str) -> None:
        """Start what a line of the page starts, with the database of the test in the place of the page's."""
        words = shlex.split(self.here(command))
        environment = dict(os.environ)
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            user, password = re.findall(r"//(\w+):(\w+)@", value)[0]
            environment[name] = psycopg.conninfo.make_conninfo(self.database_url, user=user, password=password)
        program = str(ROOT / ".bin" / words[0])
        with (self.folder / f"{words[0]}.log").open("wb") as log:
            self.running.append(
                subprocess.Popen([program, *words[1:]], cwd=self.folder, env=environment, stdout=log, stderr=log)
            )
        asked = [program, "healthcheck", *flags(words, "--listen", "--tls-cert")]
        self.health.append((self.running[-1], asked))

    def wait(self) -> None:
        """Wait until each can work, which it says when it is asked."""
        for process, asked in self.health:
            deadline = time.monotonic() + 120
            while subprocess.run(asked, cwd=self.folder, capture_output=True, check=False).returncode != 0:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self.folder / f"{Path(asked[0]).name}.log").read_text())
                time.sleep(0.1)

    def stop(self) -> None:
        """End what was started."""
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.wait(60)


def flags(words: list[str], *names: str) -> list[str]:
    """Take these flags, with their values, out of a command."""
    return [part for name in names for part in (name, words[words.index(name) + 1])]


def free_port() -> int:
    """Give a port that nobody listens on now."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def test_deploy_and_secure(suite: demo_suite.Suite, tmp_path: Path) -> None:
    database = old_database.make(suite.database_url, "gis")
    page = guide("deploy")
    roles = next(line for line in page.splitlines() if line.startswith("rasterloom sql roles")).partition(" | ")[0]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE ROLE legacy_app")
        for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
            change = psycopg.sql.SQL("ALTER TABLE public.{} OWNER TO legacy_app")
            connection.execute(change.format(psycopg.sql.Identifier(name)))
        connection.execute(run(roles).stdout)  # pyright: ignore[reportArgumentType,reportCallIssue]
        connection.execute("ALTER ROLE rasterloom_schema PASSWORD 'secret'")
        connection.execute("ALTER ROLE rasterloom_merger PASSWORD 'secret'")
    apart = Apart(tmp_path, database)
    before, after = apart.here(page).split("**The services.**")
    services = re.findall(r"^(?:\S+=\S+ )?(?:aligner|schema|merger) --.*$", page, re.MULTILINE)
    assert len(services) == 3
    assert follow(before, tmp_path) == 5
    try:
        for line in services:
            apart.start(line)
        apart.wait()
        assert follow(after, tmp_path) == 1
        (program,) = re.findall(r"```python\n(.*?)```", after, re.DOTALL)
        names: dict[str, Any] = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            exec(program, names)  # noqa: S102 - what the page says
        with names["loom"] as loom:
            assert names["table"].num_rows > 10_000
            with pytest.raises(rl.PermissionDenied):
                loom.migrations.start("nc_pr_01")
        services_are = {
            f"RASTERLOOM_{name}_URL": apart.here(f"https://localhost:{port}")
            for name, port in (("ALIGNER", "7410"), ("SCHEMA", "7420"), ("MERGER", "7430"))
        }
        # The roles of the page may do all that a migration needs.
        moving = "rasterloom migrate start nc_pr_01 --watch && rasterloom migrate cutover nc_pr_01 && {} nc_pr_01"
        with_operator = {"RASTERLOOM_CA": "client.pem", "RASTERLOOM_TOKEN_FILE": "olga.token", **services_are}
        for end in ("rasterloom migrate rollback", "rasterloom migrate finalize --drop-old-table"):
            moved = run(moving.format(end), folder=tmp_path, **with_operator)
            assert moved.returncode == 0, moved.stderr
        assert follow(guide("secure"), tmp_path, RASTERLOOM_CA="client.pem", **services_are) == 5
        assert "alice" not in (tmp_path / "tokens").read_text()
    finally:
        apart.stop()


def test_compose_is_started_as_its_file_says() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    block = guide("deploy").split("## Compose")[1].split("```sh\n")[1].split("```")[0]
    for line in block.splitlines():
        assert f"#   {line}" in compose


SHOWN = [
    (page.name, line)
    for page in sorted(GUIDES.glob("*.md"))
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if re.match(r"(?:[A-Z_]+=\S+ )*(?:rasterloom|aligner|schema|merger) ", line)
]


@pytest.mark.parametrize(("page", "line"), SHOWN, ids=range(len(SHOWN)))
def test_what_is_shown_can_be_typed(page: str, line: str) -> None:
    """A command that is shown and not run is one that the program understands, and so are its flags."""
    command = re.split(r" \| | > |&", line)[0]
    done = run(f"{command} --help")
    assert done.returncode == 0, f"{page}: {line}\n{done.stderr}"
