"""From dense arrays of whole layers to one table: the second half of the ways by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bench.sets import LayerSet
from bench.ways import Job

ROWS_AT_ONCE = 64  # rows of the lattice


@dataclass(frozen=True)
class Dense:
    """A layer as flat arrays over the reference lattice, row-major."""

    values: NDArray[np.float64]
    missing: NDArray[np.bool_]

    @classmethod
    def empty(cls, layers: LayerSet) -> Self:
        """All missing."""
        return cls(np.empty(layers.cells), np.ones(layers.cells, bool))


def _batches(job: Job, dense: Sequence[Dense]) -> Iterator[pa.RecordBatch]:
    """Rows where any layer has a value, some rows of the lattice at a time."""
    lattice = job.layers.lattice
    xs = lattice.x(np.arange(lattice.cols))
    for top in range(0, lattice.rows, ROWS_AT_ONCE):
        bottom = min(top + ROWS_AT_ONCE, lattice.rows)
        part = slice(top * lattice.cols, bottom * lattice.cols)
        absent = [layer.missing[part] for layer in dense]
        columns = [np.tile(xs, bottom - top), np.repeat(lattice.y(np.arange(top, bottom)), lattice.cols)]
        columns += [layer.values[part] for layer in dense]
        kept = ~np.logical_and.reduce(absent)
        if not kept.all():
            columns, absent = [c[kept] for c in columns], [a[kept] for a in absent]
        masks = [None, None, *(a if a.any() else None for a in absent)]
        arrays = [pa.array(column, mask=mask) for column, mask in zip(columns, masks, strict=True)]
        yield pa.record_batch(arrays, names=["x", "y", *job.layers.columns])


def table(job: Job, dense: Sequence[Dense]) -> pa.Table:
    """The table in memory."""
    return pa.Table.from_batches(_batches(job, dense))


def write(job: Job, dense: Sequence[Dense]) -> None:
    """The table as a Parquet file, with the settings that pay for measured values."""
    names = ["x", "y", *job.layers.columns]
    with pq.ParquetWriter(
        job.path,
        pa.schema([(name, pa.float64()) for name in names]),
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
        use_byte_stream_split=names,
    ) as writer:
        for batch in _batches(job, dense):
            writer.write_batch(batch)
