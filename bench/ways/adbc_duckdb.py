"""ADBC reads two tables at a time; DuckDB joins what was read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import duckdb
import pyarrow as pa

from bench.ways import Job
from bench.ways.adbc_polars import read
from bench.ways.sql_join import full_join


def _connection(job: Job) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    with ThreadPoolExecutor(2) as pool:
        tables = pool.map(lambda layer: read(job, layer), job.layers.layers)
        for layer, table in zip(job.layers.layers, tables, strict=True):
            connection.register(layer.table, table)
    return connection


def to_arrow(job: Job) -> pa.Table:
    return _connection(job).sql(full_join(job.layers)).to_arrow_table()


def to_parquet(job: Job) -> None:
    _connection(job).sql(f"COPY ({full_join(job.layers)}) TO '{job.path}' (FORMAT parquet)")
