"""No database: the same layers as deflate GeoTIFFs on disk, read by rasterio on two threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import rasterio
from rasterio.transform import from_origin

from bench.sets import CRS, Layer
from bench.ways import Job
from bench.ways.dense import Dense, table, write

NODATA = -9999.0


def make(layer: Layer, folder: Path) -> Path:
    """Write a layer as a GeoTIFF, if it is not there."""
    path = folder / f"{layer.name}-{layer.recipe}.tif"
    if not path.exists():
        lattice = layer.lattice
        rows, cols = np.divmod(np.arange(lattice.rows * lattice.cols), lattice.cols)
        data = np.where(layer.missing(rows, cols), NODATA, layer.values(rows, cols)).reshape(lattice.rows, lattice.cols)
        part = path.with_suffix(".part")
        with rasterio.open(
            part, "w", driver="GTiff", height=lattice.rows, width=lattice.cols, count=1, dtype="float64", crs=CRS,
            transform=from_origin(lattice.bounds[0], lattice.bounds[3], *lattice.step), nodata=NODATA,
            compress="deflate", tiled=True, blockxsize=256, blockysize=256,
        ) as file:  # fmt: skip
            file.write(data, 1)
        part.rename(path)
    return path


def _layers(job: Job) -> list[Dense]:
    def read(layer: Layer) -> Dense:
        with rasterio.open(make(layer, job.geotiffs)) as file:
            values = file.read(1).ravel()
        return Dense(values, values == NODATA)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(read, job.layers.layers))


def to_arrow(job: Job) -> pa.Table:
    return table(job, _layers(job))


def to_parquet(job: Job) -> None:
    write(job, _layers(job))
