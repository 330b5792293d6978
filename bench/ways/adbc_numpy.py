"""What an expert writes by hand: ADBC batches scattered into dense arrays, two tables at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
from adbc_driver_postgresql import dbapi

from bench.sets import Layer
from bench.ways import Job
from bench.ways.dense import Dense, table, write


def _scatter(job: Job, layer: Layer) -> Dense:
    lattice = job.layers.lattice
    dense = Dense.empty(job.layers)
    with dbapi.connect(job.database_url) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT row_idx, col_idx, value FROM {layer.table}")
        for batch in cursor.fetch_record_batch():
            rows, cols, values = (column.to_numpy(zero_copy_only=False) for column in batch.columns)
            position = rows.astype(np.int64) * lattice.cols + cols
            dense.values[position] = values
            dense.missing[position] = np.isnan(values)
    return dense


def _layers(job: Job) -> list[Dense]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda layer: _scatter(job, layer), job.layers.layers))


def to_arrow(job: Job) -> pa.Table:
    return table(job, _layers(job))


def to_parquet(job: Job) -> None:
    write(job, _layers(job))
