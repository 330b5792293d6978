"""The suite under test: one process, watched from outside while it works."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.database import await_file

SAMPLE_SECONDS = 0.02
_number = itertools.count(1)
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Watched:
    """What the server used while a trial ran."""

    idle_bytes: int = 0  # resident before
    peak_bytes: int = 0  # largest resident size during it
    cpu_seconds: float = 0.0
    samples: list[tuple[float, int]] = field(default_factory=list)  # (seconds, resident bytes)


@dataclass(frozen=True)
class Suite:
    """A running suite."""

    pid: int
    url: str

    @contextmanager
    def watch(self) -> Iterator[Watched]:
        """Watch the server during a block."""
        watched = Watched(idle_bytes=self._status("VmRSS"))
        # 5 resets VmHWM, the largest resident size, to the present one.
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        used, began, done = self._cpu(), time.monotonic(), threading.Event()

        def sample() -> None:
            while not done.wait(SAMPLE_SECONDS):
                watched.samples.append((time.monotonic() - began, self._status("VmRSS")))

        sampler = threading.Thread(target=sample, daemon=True)
        sampler.start()
        try:
            yield watched
        finally:
            done.set()
            sampler.join()
            watched.peak_bytes = self._status("VmHWM")
            watched.cpu_seconds = self._cpu() - used

    def _status(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise ProcessLookupError(f"the server (process {self.pid}) has ended")

    def _cpu(self) -> float:
        # The second field is a name in parentheses, which may hold spaces.
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def running(binary: Path, database_url: str, work: Path) -> Iterator[Suite]:
    """Run the suite on a database, as it comes, without any setting of ours, and adopt the catalog."""
    import rasterloom as rl

    # Several may run at a time.
    ready, log_path = work / f"suite-{next(_number)}.ready.json", work / "suite.log"
    ready.unlink(missing_ok=True)
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [binary, "up", "--listen", "127.0.0.1:0", "--flight-listen", "127.0.0.1:0", "--ready-file", ready],
            env=dict(os.environ) | {"DATABASE_URL": database_url},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        said = json.loads(await_file(ready, process, log_path))
        with rl.connect(said["url"]) as loom:
            adoption = loom.adopt()
        if adoption.invalid:
            raise RuntimeError(f"the suite cannot read the benchmark's own tables: {adoption}")
        yield Suite(int(said["pid"]), said["url"])
    finally:
        process.terminate()
        process.wait(60)
