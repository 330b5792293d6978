"""What no program can beat: how fast PostgreSQL gives its rows, Flight carries them, Parquet takes them.

Each is measured on the tables of a set, in a child process like every way, and
answers with seconds, rows and bytes.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from bench.database import libpq_environment
from bench.sets import Layer, LayerSet
from bench.trial import Result, cpu_seconds, peak_bytes

BATCH_ROWS = 1 << 16
# A quiet NaN that no layer holds stands for NULL: string_agg leaves NULLs out.
SENTINEL = r"'\x7ff80000000000ff'::bytea"


@dataclass(frozen=True)
class Limit:
    """What the report says about a limit."""

    name: str
    title: str
    command: str = ""  # a program that it needs


LIMITS = (
    Limit("scan", "sequential scan inside the server, one process"),
    Limit("copy_one", "COPY binary of (row, col, value), one connection", command="psql"),
    Limit("copy_two", "COPY binary, two connections, halves by ctid", command="psql"),
    Limit("tiles_one", "COPY binary of tiles, one connection", command="psql"),
    Limit("tiles_two", "COPY binary of tiles, two connections", command="psql"),
    Limit("packed_one", "rows packed by the server (string_agg), one connection"),
    Limit("packed_two", "rows packed by the server, two connections"),
    Limit("flight", "Flight loopback from pyarrow's C++ server, read and dropped, the second time"),
    Limit("flight_table", "Flight loopback from pyarrow's C++ server, read into a table by a new process"),
    Limit("parquet_zstd", "pyarrow Parquet write: zstd 1, byte stream split, no dictionary"),
    Limit("parquet_plain", "pyarrow Parquet write: uncompressed, no dictionary"),
    Limit("parquet_default", "pyarrow Parquet write: defaults (snappy, dictionary)"),
)
BY_NAME = {limit.name: limit for limit in LIMITS}


def available(limit: Limit) -> bool:
    """Whether the program that the limit needs is here."""
    return not limit.command or shutil.which(limit.command) is not None


def measure(name: str, layers: LayerSet, database_url: str, work: Path) -> Result:
    """Measure a limit on a set."""
    if name.startswith("parquet_"):
        return _parquet(name, layers, work)
    if name.startswith("flight"):
        return _flight(layers, keep=name == "flight_table")
    return {
        "scan": _scan,
        "copy_one": _copy,
        "copy_two": _copy_halves,
        "tiles_one": _tiles,
        "tiles_two": _tiles_halves,
        "packed_one": _packed,
        "packed_two": _packed_halves,
    }[name](layers, database_url)


def _timed(work: Callable[[], tuple[int, int]]) -> Result:
    """Time what gives a number of rows and of bytes."""
    idle, used, began = peak_bytes(), cpu_seconds(), time.perf_counter()
    rows, size = work()
    seconds = time.perf_counter() - began
    return Result(
        seconds=seconds,
        peak_bytes=peak_bytes(),
        idle_bytes=idle,
        cpu_seconds=cpu_seconds() - used,
        rows=rows,
        bytes=size,
    )


def _scan(layers: LayerSet, url: str) -> Result:
    def work() -> tuple[int, int]:
        rows = 0
        with psycopg.connect(url) as connection:
            connection.execute("SET max_parallel_workers_per_gather = 0")
            for layer in layers.layers:
                answer = connection.execute(f"SELECT count(value) FROM {layer.table}").fetchone()
                assert answer is not None
                rows += answer[0]
        return rows, 0

    return _timed(work)


def _copying(rows: int, url: str, queries: list[str], connections: int) -> Result:
    """Time psql as it throws the rows of queries away, over so many connections."""

    def copy(query: str) -> None:
        command = ["psql", "-qX", "-c", f"COPY ({query}) TO STDOUT (FORMAT binary)"]
        with subprocess.Popen(command, env=libpq_environment(url), stdout=subprocess.DEVNULL) as psql:
            if psql.wait():
                raise RuntimeError(f"psql ended with status {psql.returncode}")

    def work() -> tuple[int, int]:
        with ThreadPoolExecutor(connections) as pool:
            list(pool.map(copy, queries))
        return rows, 0

    return _timed(work)


def _tiles(layers: LayerSet, url: str) -> Result:
    queries = [f"SELECT * FROM {layer.table} ORDER BY tile_row, tile_col" for layer in layers.layers]
    return _copying(_stored(layers), url, queries, 1)


def _tiles_halves(layers: LayerSet, url: str) -> Result:
    queries = [f"SELECT * FROM {layer.table} ORDER BY tile_row, tile_col" for layer in layers.layers]
    return _copying(_stored(layers), url, queries, 2)


def _stored(layers: LayerSet) -> int:
    """Rows of the tables."""
    total = 0
    for layer in layers.layers:
        for rows, cols in _blocks(layer):
            total += int((~layer.missing(rows, cols)).sum())
    return total


def _blocks(layer: Layer) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of all cells, row-major, a batch at a time."""
    cells = layer.lattice.rows * layer.lattice.cols
    for start in range(0, cells, BATCH_ROWS):
        yield np.divmod(np.arange(start, min(start + BATCH_ROWS, cells)), layer.lattice.cols)


def _copy(layers: LayerSet, url: str) -> Result:
    rows = _stored(layers)
    queries = [f"SELECT row_idx, col_idx, value FROM {layer.table}" for layer in layers.layers]
    return _copying(rows, url, queries, 1)


def _copy_halves(layers: LayerSet, url: str) -> Result:
    rows = _stored(layers)
    queries: list[str] = []
    with psycopg.connect(url) as connection:
        for layer in layers.layers:
            answer = connection.execute("SELECT pg_relation_size(%s::regclass) / 8192 / 2", (layer.table,)).fetchone()
            assert answer is not None
            queries += [
                f"SELECT row_idx, col_idx, value FROM {layer.table} WHERE ctid {side} '({answer[0]},0)'::tid"
                for side in ("<", ">=")
            ]
    return _copying(rows, url, queries, 2)


def _pack(url: str, parts: list[tuple[Layer, int, int]], connections: int) -> tuple[int, int]:
    # Here, so that a report can be written, and tested, without the driver.
    from adbc_driver_postgresql import dbapi

    def read(part: tuple[Layer, int, int]) -> int:
        layer, start, stop = part
        with dbapi.connect(url) as connection, connection.cursor() as cursor:
            # A limit is what can be had: in the order of the key, without a sort
            # and without a compiler.
            for setting in ("jit", "enable_sort", "enable_seqscan"):
                cursor.execute(f"SET {setting} = off")
            cursor.execute(
                f"""SELECT row_idx, string_agg(coalesce(float8send(value), {SENTINEL}), ''::bytea)
                    FROM (SELECT row_idx, value FROM {layer.table}
                          WHERE row_idx >= {start} AND row_idx < {stop} ORDER BY row_idx, col_idx) cells
                    GROUP BY row_idx"""
            )
            return sum(batch.column(1).buffers()[2].size for batch in cursor.fetch_record_batch())

    with ThreadPoolExecutor(connections) as pool:
        size = sum(pool.map(read, parts))
    return size // 8, size


def _packed(layers: LayerSet, url: str) -> Result:
    parts = [(layer, 0, layer.lattice.rows) for layer in layers.layers]
    return _timed(lambda: _pack(url, parts, 1))


def _packed_halves(layers: LayerSet, url: str) -> Result:
    parts = [
        (layer, start, stop)
        for layer in layers.layers
        for middle in [layer.lattice.rows // 2]
        for start, stop in ((0, middle), (middle, layer.lattice.rows))
    ]
    return _timed(lambda: _pack(url, parts, 2))


def answer_table(layers: LayerSet) -> pa.Table:
    """The right answer, from the formula."""
    lattice = layers.lattice
    batches = []
    for rows, cols in _blocks(layers.layers[0]):
        columns = [pa.array(lattice.x(cols)), pa.array(lattice.y(rows))]
        columns += [pa.array(layer.values(rows, cols), mask=layer.missing(rows, cols)) for layer in layers.layers]
        batches.append(pa.record_batch(columns, names=["x", "y", *layers.columns]))
    return pa.Table.from_batches(batches)


def _parquet(name: str, layers: LayerSet, work: Path) -> Result:
    table = answer_table(layers)
    options = {
        "parquet_zstd": {
            "compression": "zstd",
            "compression_level": 1,
            "use_dictionary": False,
            "use_byte_stream_split": table.column_names,
        },
        "parquet_plain": {"compression": "none", "use_dictionary": False},
        "parquet_default": {},
    }[name]
    path = work / f"{name}.parquet"

    def write() -> tuple[int, int]:
        with pq.ParquetWriter(path, table.schema, **options) as writer:
            writer.write_table(table, row_group_size=1 << 20)
        return table.num_rows, table.nbytes

    try:
        result = _timed(write)
        result.answer = f"file of {path.stat().st_size / 1e6:,.0f} MB"
        return result
    finally:
        path.unlink(missing_ok=True)


def _flight(layers: LayerSet, *, keep: bool) -> Result:
    """Read the answer from a C++ server.

    A process that keeps what it reads has each page given to it by the system, which costs
    it as much as the reading; one that drops it is given the same pages again and again.
    """
    import pyarrow.flight as fl

    # Spawned, not forked: gRPC does not survive a fork.
    context = get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=_serve, args=(there, layers.name), daemon=True)
    server.start()
    try:
        port = here.recv()
        uri = f"grpc://127.0.0.1:{port}"
        if keep:

            def read_all() -> tuple[int, int]:
                with fl.connect(uri) as client:
                    table = client.do_get(fl.Ticket(b"all")).read_all()
                return table.num_rows, table.nbytes

            with fl.connect(uri) as client:  # what the server has to do once
                client.do_get(fl.Ticket(b"one row")).read_all()
            return _timed(read_all)
        with fl.connect(uri) as client:

            def read() -> tuple[int, int]:
                rows = size = 0
                for chunk in client.do_get(fl.Ticket(b"all")):
                    rows += chunk.data.num_rows
                    size += chunk.data.nbytes
                return rows, size

            read()
            return _timed(read)
    finally:
        server.terminate()
        server.join()


def _serve(pipe: Connection, name: str) -> None:
    import pyarrow.flight as fl

    from bench.sets import find

    table = answer_table(find(name))

    class Server(fl.FlightServerBase):
        def do_get(self, context: fl.ServerCallContext, ticket: fl.Ticket) -> fl.RecordBatchStream:  # noqa: ARG002
            return fl.RecordBatchStream(table if ticket.ticket == b"all" else table.slice(0, 1))

    with Server("grpc://127.0.0.1:0") as server:
        pipe.send(server.port)
        server.serve()
