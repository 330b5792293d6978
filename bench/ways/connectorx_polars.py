"""ConnectorX reads each table over two connections; polars joins."""

from __future__ import annotations

from urllib.parse import quote

import connectorx as cx
import polars as pl
import pyarrow as pa
from psycopg.conninfo import conninfo_to_dict

from bench.ways import Job
from bench.ways.adbc_polars import join


def _url(job: Job) -> str:
    """The address as the Rust driver takes it: a socket's folder is a host, percent-encoded."""
    parts = conninfo_to_dict(job.database_url)
    user, password, host = (quote(str(parts.get(key) or ""), safe="") for key in ("user", "password", "host"))
    return f"postgresql://{user}:{password}@{host}:{parts.get('port', 5432)}/{parts['dbname']}"


def _frame(job: Job) -> pl.DataFrame:
    url = _url(job)
    return join(
        job,
        (
            cx.read_sql(
                url,
                f"SELECT row_idx, col_idx, value FROM {layer.table}",
                return_type="polars",
                partition_on="row_idx",
                partition_num=2,
                partition_range=(0, layer.lattice.rows - 1),
            )
            for layer in job.layers.layers
        ),
    )


def to_arrow(job: Job) -> pa.Table:
    return _frame(job).to_arrow()


def to_parquet(job: Job) -> None:
    _frame(job).write_parquet(job.path)
