"""DuckDB reads the tables itself, by its postgres extension, and joins them."""

from __future__ import annotations

from pathlib import Path

import duckdb
import duckdb_extension_postgres_scanner
import pyarrow as pa

from bench.ways import Job
from bench.ways.sql_join import full_join


def _connection(job: Job) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    folder = Path(duckdb_extension_postgres_scanner.__file__).parent
    (extension,) = folder.glob(f"extensions/v{duckdb.__version__}/*.duckdb_extension")
    connection.load_extension(str(extension))
    connection.execute(f"ATTACH '{job.database_url}' AS pg (TYPE postgres, READ_ONLY)")
    return connection


def to_arrow(job: Job) -> pa.Table:
    return _connection(job).sql(full_join(job.layers, "pg.public.{table}")).to_arrow_table()


def to_parquet(job: Job) -> None:
    _connection(job).sql(f"COPY ({full_join(job.layers, 'pg.public.{table}')}) TO '{job.path}' (FORMAT parquet)")
