"""One SQL statement joins all tables in the server; ADBC brings the result as Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
from adbc_driver_postgresql import dbapi

from bench.sets import LayerSet
from bench.ways import Job


def full_join(layers: LayerSet, table: str = "{table}") -> str:
    """The statement, for PostgreSQL and DuckDB alike."""
    joined = ""
    for n, layer in enumerate(layers.layers):
        source = f"(SELECT row_idx, col_idx, value AS {layer.column} FROM {table.format(table=layer.table)}) t{n}"
        joined += f"\n  FULL JOIN {source} USING (row_idx, col_idx)" if n else f"FROM {source}"
    x, y = layers.lattice.x_sql("col_idx"), layers.lattice.y_sql("row_idx")
    return f"SELECT {x} AS x, {y} AS y, {', '.join(layers.columns)}\n{joined}"


@contextmanager
def _reader(job: Job) -> Iterator[pa.RecordBatchReader]:
    with dbapi.connect(job.database_url) as connection, connection.cursor() as cursor:
        cursor.execute(full_join(job.layers))
        yield cursor.fetch_record_batch()


def to_arrow(job: Job) -> pa.Table:
    with _reader(job) as reader:
        return reader.read_all()


def to_parquet(job: Job) -> None:
    with _reader(job) as reader, pq.ParquetWriter(job.path, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
