"""One measurement, in a process of its own so that its peak memory is its own.

The parent calls :func:`run`; the child is ``python -m bench.trial``, told what to
do by one environment variable and answering in one line of JSON. What is timed
begins after the imports and ends when the table, or the closed file, is there.
Peak memory is read before the answer is checked.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.sets import find

Task = Literal["arrow", "parquet", "stream", "first", "verify", "limit", "migrate", "ingest"]
VARIABLE = "BENCH_TRIAL"
# They choose kernels for another machine than this one and slow numpy down.
UNWANTED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


@dataclass(frozen=True)
class Place:
    """Where things are, for every trial of a run."""

    database_url: str
    work: Path  # for files that are written
    geotiffs: Path
    loom_url: str = ""


@dataclass
class Result:
    """What one trial measured.

    ``seconds`` of a task, ``peak_bytes`` of the process with what it holds by
    importing, ``cpu_seconds`` of the process and its children. ``right`` is None
    where there is no answer to check.
    """

    seconds: float = 0.0
    first_seconds: float | None = None
    peak_bytes: int = 0
    idle_bytes: int = 0
    cpu_seconds: float = 0.0
    rows: int = 0
    bytes: int = 0
    longest_wait_seconds: float | None = None  # of somebody who writes meanwhile
    right: bool | None = None
    answer: str = ""
    error: str = ""


def run(name: str, task: Task, layers: str, place: Place, timeout: float) -> Result:
    """Run a trial in a child process."""
    environment = {k: v for k, v in os.environ.items() if k not in UNWANTED}
    told = {"name": name, "task": task, "layers": layers, **{k: str(v) for k, v in dataclasses.asdict(place).items()}}
    # Not on the command line: the address of the database has a password in it.
    environment[VARIABLE] = json.dumps(told)
    with subprocess.Popen(
        [sys.executable, "-m", "bench.trial"],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as child:  # fmt: skip
        try:
            out, err = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            _end(child)
            return Result(error=f"not finished in {timeout:,.0f} s")
        except BaseException:
            _end(child)
            raise
    lines = out.strip().splitlines()
    if child.returncode or not lines:
        last = err.strip().splitlines()[-1:] or [f"status {child.returncode}"]
        return Result(error=last[0])
    return Result(**json.loads(lines[-1]))


def _end(child: subprocess.Popen[str]) -> None:
    """End a child and what it started, such as psql."""
    os.killpg(child.pid, 9)
    child.wait()


def peak_bytes() -> int:
    """Largest resident size of this process so far."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except FileNotFoundError:
        pass
    # Elsewhere; not used on Linux, where it also counts the parent before exec.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def cpu_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def _main() -> None:
    told: dict[str, str] = json.loads(os.environ.pop(VARIABLE))
    name, task, layers = told["name"], told["task"], find(told["layers"])
    if task == "limit":
        from bench import limits

        result = limits.measure(name, layers, told["database_url"], Path(told["work"]))
    elif task == "migrate":
        from bench import migration

        result = migration.measure(name, layers, told["database_url"], told["loom_url"])
    else:
        from bench import ways

        job = ways.Job(
            layers=layers,
            database_url=told["database_url"],
            path=Path(told["work"]) / f"{name}-{layers.name.replace('/', '-')}.parquet",
            geotiffs=Path(told["geotiffs"]),
            loom_url=told["loom_url"],
        )
        result = TASKS[task](ways.module(name), job)
    print(json.dumps(dataclasses.asdict(result)), flush=True)


def _measured(work: Callable[[], Any]) -> tuple[Any, Result]:
    gc.collect()
    idle, used, began = peak_bytes(), cpu_seconds(), time.perf_counter()
    answer = work()
    seconds = time.perf_counter() - began
    return answer, Result(seconds=seconds, peak_bytes=peak_bytes(), idle_bytes=idle, cpu_seconds=cpu_seconds() - used)


def _judge(result: Result, batches: Iterator[Any], job: Any) -> Result:
    from bench.truth import check

    verdict = check(batches, job.layers)
    result.rows, result.right, result.answer = verdict.rows, verdict.right, verdict.sentence()
    return result


def _arrow(way: Any, job: Any) -> Result:
    table, result = _measured(lambda: way.to_arrow(job))
    result.bytes = table.nbytes
    return _judge(result, iter(table.to_batches()), job)


def _parquet(way: Any, job: Any) -> Result:
    import pyarrow.parquet as pq

    job.path.unlink(missing_ok=True)
    try:
        _, result = _measured(lambda: way.to_parquet(job))
        result.bytes = job.path.stat().st_size
        with pq.ParquetFile(job.path) as file:
            return _judge(result, file.iter_batches(1 << 19), job)
    finally:
        job.path.unlink(missing_ok=True)


def _stream(way: Any, job: Any) -> Result:
    """Read to the end and keep nothing."""

    def work() -> tuple[int, int, float]:
        began, rows, size, first = time.perf_counter(), 0, 0, 0.0
        for batch in way.batches(job):
            first = first or time.perf_counter() - began
            rows += batch.num_rows
            size += batch.nbytes
        return rows, size, first

    (rows, size, first), result = _measured(work)
    result.rows, result.bytes, result.first_seconds = rows, size, first
    expected = job.layers.count_rows()
    result.right = rows == expected
    result.answer = "yes, by the count" if result.right else f"no: {rows:,} rows instead of {expected:,}"
    return result


def _first(way: Any, job: Any) -> Result:
    """Read one batch, from connecting on, and stop."""

    def work() -> tuple[int, Any]:
        stream = way.batches(job)
        return next(stream).num_rows, stream

    (rows, stream), result = _measured(work)
    stream.close()
    result.rows, result.first_seconds, result.right = rows, result.seconds, rows > 0
    return result


def _verify(way: Any, job: Any) -> Result:
    """Compare every cell of a stream; its time means nothing."""
    return _judge(Result(), way.batches(job), job)


def _ingest(way: Any, job: Any) -> Result:
    """Send a layer from an array in a file, then compare every cell of it."""
    import numpy as np

    (layer,) = job.layers.layers
    lattice, path = layer.lattice, job.path.with_suffix(".npy")
    try:
        array = np.lib.format.open_memmap(path, "w+", np.float64, (lattice.rows, lattice.cols))
        for start in range(0, lattice.rows, 256):
            rows, cols = np.mgrid[start : min(start + 256, lattice.rows), 0 : lattice.cols].astype(np.int64)
            values = layer.values(rows, cols)
            values[layer.missing(rows, cols)] = np.nan
            array[start : start + 256] = values
        array.flush()
        _, result = _measured(lambda: way.ingest(job, np.load(path, mmap_mode="r")))
    finally:
        path.unlink(missing_ok=True)
    result.bytes = lattice.rows * lattice.cols * 8
    return _judge(result, way.ingested(job), job)


TASKS: dict[str, Callable[[Any, Any], Result]] = {
    "arrow": _arrow,
    "parquet": _parquet,
    "stream": _stream,
    "first": _first,
    "verify": _verify,
    "ingest": _ingest,
}

if __name__ == "__main__":
    _main()
