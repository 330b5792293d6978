"""A layer moved to other storage while somebody writes to it: Rasterloom, and what the old script does.

Each trial makes a table of its own, with the rows of a layer of a set, and drops
it afterwards. Time runs from the request to the moment when every row is copied,
indexed and verified; the old script verifies nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import psycopg

from bench.database import make_table
from bench.sets import CRS, Layer, LayerSet
from bench.trial import Result, cpu_seconds, peak_bytes
from bench.truth import check

if TYPE_CHECKING:
    import rasterloom as rl

WAIT_MS = 250
PACE_SECONDS = 0.005


@dataclass(frozen=True)
class How:
    """A way to move a layer. A new one is a line in ``WAYS`` and a function in ``measure``."""

    name: str
    title: str


WAYS = (
    How("loom", "Rasterloom, stored coordinates: copied, indexed, verified"),
    How("loom_tiled", "Rasterloom, tiles: made, verified cell by cell"),
    How("old_script", "the old script: ALTER TABLE and one UPDATE"),
)
BY_NAME = {way.name: way for way in WAYS}

ABOUT = (
    "One layer of row_idx, col_idx and value gets x_coord and y_coord, or becomes tiles, while a writer changes a\n"
    f"random cell every {PACE_SECONDS * 1000:.0f} ms, each in a transaction of its own. *Ratio* is the time over "
    "Rasterloom's stored coordinates. *A writer's longest wait* is the longest of its\n"
    "transactions in any run, by its own clock. *Right* compares every coordinate with the set's formula, of tiles "
    "every cell of a merge, and, for Rasterloom,\nthe table after a cut-over and after the rollback that follows."
)


class Writer:
    """Changes a random cell again and again, and notes how long it had to wait."""

    def __init__(self, url: str, layer: Layer) -> None:
        self.longest = 0.0
        self.writes = 0
        self._url, self._layer = url, layer
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._failure: BaseException | None = None

    def _write(self) -> None:
        rows, cols = self._layer.lattice.rows, self._layer.lattice.cols
        statement = f"UPDATE public.{self._layer.table} SET value = value WHERE row_idx = %s AND col_idx = %s"
        at = 1
        try:
            with psycopg.connect(self._url, autocommit=True) as connection:
                while not self._done.is_set():
                    at = at * 6364136223846793005 + 1442695040888963407 & 0xFFFFFFFFFFFFFFFF  # Knuth's MMIX
                    began = time.perf_counter()
                    connection.execute(statement, ((at >> 33) % rows, (at >> 13) % cols))
                    took = time.perf_counter() - began
                    self.longest = max(self.longest, took)
                    self.writes += 1
                    time.sleep(max(0, PACE_SECONDS - took))
        except psycopg.Error as failure:
            self._failure = failure

    @contextmanager
    def at_work(self) -> Iterator[Writer]:
        """Write during a block. A write that fails fails the trial."""
        self._thread.start()
        try:
            yield self
        finally:
            self._done.set()
            self._thread.join()
        if self._failure is not None:
            raise self._failure


def measure(name: str, layers: LayerSet, database_url: str, loom_url: str) -> Result:
    """Move the first layer of a set, which is stored by row and column alone."""
    original = layers.layers[0]
    if original.kind != "LEGACY":
        raise ValueError(f"{original.name} is {original.kind}, not LEGACY")
    layer = replace(original, name=f"moved_{original.name}", table=f"moved_{original.name}")
    used = cpu_seconds()
    if name == "old_script":
        result = _old_script(database_url, layer)
    else:
        result = _loom(database_url, loom_url, layer, "tiled" if name == "loom_tiled" else "stored")
    result.peak_bytes, result.cpu_seconds = peak_bytes(), cpu_seconds() - used
    return result


@contextmanager
def _table(url: str, layer: Layer) -> Iterator[psycopg.Connection]:
    """Make the table; it is dropped in the end."""
    with psycopg.connect(url, autocommit=True) as connection:
        make_table(url, layer)
        connection.execute("CHECKPOINT")  # of what was made, not while it is measured
        try:
            yield connection
        finally:
            connection.execute(f"DROP TABLE IF EXISTS public.{layer.table}")


def _old_script(url: str, layer: Layer) -> Result:
    with _table(url, layer) as connection:
        rows = _count(connection, layer)
        with Writer(url, layer).at_work() as writer:
            began = time.perf_counter()
            connection.execute(
                f"ALTER TABLE public.{layer.table} ADD x_coord double precision, ADD y_coord double precision"
            )
            connection.execute(
                f"UPDATE public.{layer.table} SET x_coord = {layer.lattice.x_sql('col_idx')}, "
                f"y_coord = {layer.lattice.y_sql('row_idx')}"
            )
            seconds = time.perf_counter() - began
        right, answer = _judge(connection, layer, rows)
        return Result(seconds=seconds, longest_wait_seconds=writer.longest, rows=rows, right=right, answer=answer)


def _loom(url: str, loom_url: str, layer: Layer, to: Literal["stored", "tiled"]) -> Result:
    import rasterloom as rl

    with rl.connect(loom_url) as loom:
        _clear(loom, layer)
        with _table(url, layer) as connection:
            rows, before = _count(connection, layer), _content(connection, layer)
            lattice = layer.lattice
            loom.register(
                layer.name, f"public.{layer.table}", bounds=lattice.bounds, shape=(lattice.rows, lattice.cols), crs=CRS
            )
            try:
                with Writer(url, layer).at_work() as writer:
                    began = time.time()
                    migration = loom.migrations.start(layer.name, to=to, progress=False)
                    verified = migration.wait()
                    # By the server's clock, which is ours too: it is not asked all the time.
                    seconds = verified.since.timestamp() - began
                    migration.cut_over()
                right, answer = _judge_tiles(loom, layer) if to == "tiled" else _judge(connection, layer, rows)
                if right and _content(connection, layer) != before:
                    right, answer = False, "no: the cut-over changed values"
                migration.rollback()
                if right and _content(connection, layer) != before:
                    right, answer = False, "no: the rollback changed values"
            finally:
                _clear(loom, layer)
        return Result(seconds=seconds, longest_wait_seconds=writer.longest, rows=rows, right=right, answer=answer)


def _clear(loom: rl.Loom, layer: Layer) -> None:
    """Undo what a trial, or one that was cut short, has left."""
    import rasterloom as rl

    for migration in loom.migrations.list(layer.name):
        if not migration.last.over:
            (migration.rollback if migration.last.state == "CUT_OVER" else migration.abort)()
    try:
        loom.drop(layer.name)
    except rl.NotFound:
        return


def _count(connection: psycopg.Connection, layer: Layer) -> int:
    row = connection.execute(f"SELECT count(*) FROM public.{layer.table}").fetchone()
    assert row is not None
    return int(row[0])


def _content(connection: psycopg.Connection, layer: Layer) -> object:
    """What the writer leaves alone: all values, whatever their order."""
    return connection.execute(
        "SELECT count(*), sum(hash_record_extended(ROW(row_idx, col_idx, float8send(value)), 7)) "
        f"FROM public.{layer.table}"
    ).fetchone()


def _judge_tiles(loom: rl.Loom, layer: Layer) -> tuple[bool, str]:
    alone = LayerSet(name=layer.name, about="", layers=(layer,))
    verdict = check(loom.merge({layer.column: layer.name}, progress=False).to_batches(), alone)
    return verdict.right, verdict.sentence()


def _judge(connection: psycopg.Connection, layer: Layer, rows: int) -> tuple[bool, str]:
    x, y = layer.lattice.x_sql("col_idx"), layer.lattice.y_sql("row_idx")
    row = connection.execute(
        f"SELECT count(*), count(*) FILTER (WHERE x_coord IS DISTINCT FROM {x} OR y_coord IS DISTINCT FROM {y}) "
        f"FROM public.{layer.table}"
    ).fetchone()
    assert row is not None
    if row[0] != rows:
        return False, f"no: {row[0]:,} rows instead of {rows:,}"
    return row[1] == 0, "yes" if row[1] == 0 else f"no: {row[1]:,} wrong coordinates"
