"""Another by hand: psql copies in binary through a pipe, numpy decodes and scatters.

A row of two integers and a double is 30 bytes when nothing in it is NULL; the
tables of this benchmark hold no NULL, and a row that has one is refused.
"""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from bench.database import libpq_environment
from bench.sets import Layer
from bench.ways import Job
from bench.ways.dense import Dense, table, write

HEADER = 19  # signature, flags, length of the extension
ROW = np.dtype(
    [("fields", ">i2"), ("l1", ">i4"), ("row", ">i4"), ("l2", ">i4"), ("col", ">i4"), ("l3", ">i4"), ("value", ">f8")]
)
ROWS_A_READ = 1 << 16


def _scatter(job: Job, layer: Layer) -> Dense:
    lattice = job.layers.lattice
    dense = Dense.empty(job.layers)
    copy = f"COPY (SELECT row_idx, col_idx, value FROM {layer.table}) TO STDOUT (FORMAT binary)"
    with subprocess.Popen(
        ["psql", "-qX", "-c", copy], env=libpq_environment(job.database_url), stdout=subprocess.PIPE
    ) as psql:
        assert psql.stdout is not None
        psql.stdout.read(HEADER)
        while len(data := psql.stdout.read(ROW.itemsize * ROWS_A_READ)) >= ROW.itemsize:
            records = np.frombuffer(data, ROW, count=len(data) // ROW.itemsize)
            if (records["l3"] != 8).any():
                raise ValueError(f"{layer.table} has a NULL")
            position = records["row"].astype(np.int64) * lattice.cols + records["col"]
            values = records["value"].astype(np.float64)
            dense.values[position] = values
            dense.missing[position] = np.isnan(values)
    if psql.returncode:
        raise RuntimeError(f"psql ended with status {psql.returncode}")
    return dense


def _layers(job: Job) -> list[Dense]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda layer: _scatter(job, layer), job.layers.layers))


def to_arrow(job: Job) -> pa.Table:
    return table(job, _layers(job))


def to_parquet(job: Job) -> None:
    write(job, _layers(job))
