"""No database: GeoTIFFs brought to the reference lattice by odc-geo, by what it knows of the grids."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import rasterio
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr, xr_reproject

from bench.sets import Layer
from bench.ways import Job
from bench.ways.dense import Dense, table, write
from bench.ways.geotiff_numpy import make


def _layers(job: Job) -> list[Dense]:
    with rasterio.open(make(job.layers.layers[0], job.geotiffs)) as file:
        reference = GeoBox.from_rio(file)

    def read(layer: Layer) -> Dense:
        with rasterio.open(make(layer, job.geotiffs)) as file:
            stored, nodata, box = file.read(1), file.nodata, GeoBox.from_rio(file)
        if box != reference:
            stored = xr_reproject(wrap_xr(stored, box, nodata=nodata), reference, resampling="nearest").to_numpy()
        values = np.ascontiguousarray(stored).ravel()
        return Dense(values, (values == nodata) | np.isnan(values))

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(read, job.layers.layers))


def to_arrow(job: Job) -> pa.Table:
    return table(job, _layers(job))


def to_parquet(job: Job) -> None:
    write(job, _layers(job))
