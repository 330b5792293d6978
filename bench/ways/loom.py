"""Rasterloom, through its Python client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import rasterloom as rl

from bench.sets import CRS
from bench.ways import Job


def merge(loom: rl.Loom, job: Job) -> rl.Merge:
    """The merge that a user would write."""
    layers = job.layers.layers
    return loom.merge({layer.column: layer.name for layer in layers}, reference=layers[0].name, progress=False)


def to_arrow(job: Job) -> pa.Table:
    with rl.connect(job.loom_url) as loom:
        return merge(loom, job).to_arrow()


def to_parquet(job: Job) -> None:
    with rl.connect(job.loom_url) as loom:
        merge(loom, job).to_parquet(job.path, overwrite=True)


def batches(job: Job) -> Iterator[pa.RecordBatch]:
    """The stream itself, for what does not fit in memory and for the first batch."""
    with rl.connect(job.loom_url) as loom:
        yield from merge(loom, job).to_batches()


def ingest(job: Job, array: Any) -> None:
    """Store an array as a layer, in place of the one that an earlier trial left."""
    layer = job.layers.layers[0]
    with rl.connect(job.loom_url) as loom:
        loom.ingest(
            array, name=f"ingested_{layer.name}", crs=CRS, bounds=layer.lattice.bounds, replace=True, progress=False
        )


def ingested(job: Job) -> Iterator[pa.RecordBatch]:
    """Read that layer."""
    layer = job.layers.layers[0]
    with rl.connect(job.loom_url) as loom:
        yield from loom.merge({layer.column: f"ingested_{layer.name}"}, progress=False).to_batches()
