"""ADBC reads two tables at a time; polars joins."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import cast

import polars as pl
import pyarrow as pa
from adbc_driver_postgresql import dbapi

from bench.sets import Layer
from bench.ways import Job


def read(job: Job, layer: Layer) -> pa.Table:
    """Read a table's cells."""
    with dbapi.connect(job.database_url) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT row_idx, col_idx, value FROM {layer.table}")
        return cursor.fetch_arrow_table()


def join(job: Job, frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Join frames of (row_idx, col_idx, value) outer, and add x and y."""
    lattice = job.layers.lattice
    (min_x, _, _, max_y), (step_x, step_y) = lattice.bounds, lattice.step
    named = (
        frame.rename({"value": layer.column}).lazy() for frame, layer in zip(frames, job.layers.layers, strict=True)
    )
    return (
        reduce(lambda left, right: left.join(right, on=["row_idx", "col_idx"], how="full", coalesce=True), named)
        .select(
            (min_x + (pl.col("col_idx") + 0.5) * step_x).alias("x"),
            (max_y - (pl.col("row_idx") + 0.5) * step_y).alias("y"),
            *job.layers.columns,
        )
        .collect()
    )


def _frame(job: Job) -> pl.DataFrame:
    with ThreadPoolExecutor(2) as pool:
        tables = pool.map(lambda layer: read(job, layer), job.layers.layers)
        return join(job, (cast("pl.DataFrame", pl.from_arrow(table)) for table in tables))


def to_arrow(job: Job) -> pa.Table:
    return _frame(job).to_arrow()


def to_parquet(job: Job) -> None:
    _frame(job).write_parquet(job.path)
