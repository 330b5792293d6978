"""Sending rasters to the server, as layers: window by window, in memory that stays flat.

The protocol is docs/ingest.md. ``python -m rasterloom ingest`` is this module
on the command line.
"""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa

from rasterloom import errors
from rasterloom._choices import DTYPES, text
from rasterloom._gen.schema.v1 import ingest_pb2, schema_pb2
from rasterloom._progress import progress_bar
from rasterloom._proof import ContentHash
from rasterloom._rasters import Band, Where, bands_of, name_part, refused
from rasterloom.layers import Layer, LayerList

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from numpy.typing import NDArray

    from rasterloom._choices import PixelPoint
    from rasterloom._progress import Progress
    from rasterloom._sink import FlightSink
    from rasterloom.connection import Connection
    from rasterloom.grid import Grid

__all__ = ["ingest"]

WINDOW_BYTES = 32 << 20
"""Values that are read at once; two such windows are in memory."""


def ingest(
    connection: Connection,
    source: Any,
    *,
    name: str,
    band: int | str | Sequence[int | str] | None = None,
    nodata: float | None = None,
    crs: str | None = None,
    bounds: tuple[float, float, float, float] | None = None,
    transform: Any = None,
    grid: Grid | None = None,
    registration: PixelPoint = "center",
    unscale: bool | None = None,
    replace: bool = False,
    same_grid_as: str = "",
    progress: Progress = "auto",
) -> LayerList:
    """Send a raster; see :meth:`rasterloom.Loom.ingest`."""
    text("name", name)
    wanted = [band] if isinstance(band, (int, str)) else None if band is None else list(band)
    where = Where(crs=crs, bounds=bounds, transform=transform, grid=grid, corner=registration == "upper_left")
    with bands_of(source, wanted, where, nodata, unscale) as bands:
        if not bands:
            raise refused("the raster has no band", "source")
        alone = len(bands) == 1
        specs = [
            ingest_pb2.IngestSpec(
                name=name if alone else f"{name}_{name_part(b.label)}",
                band=b.label,
                grid=b.grid.to_proto(),
                data_type=DTYPES[b.dtype],
                nodata=b.nodata,
                mode=ingest_pb2.INGEST_MODE_REPLACE if replace else ingest_pb2.INGEST_MODE_CREATE,
                same_grid_as=same_grid_as,
                idempotency_key=str(uuid.uuid4()),
            )
            for b in bands
        ]
        # All of them before the first cell is sent: what is refused is refused at once.
        plans = [_plan(connection, spec) for spec in specs]
        total = sum(b.grid.cells for b in bands)
        with progress_bar(progress, total=total, unit=" cells", unit_scale=True, desc="ingest") as bar:
            for b, spec, plan in zip(bands, specs, plans, strict=True):
                sink = connection.flight_source(connection.flight or plan.flight_uri).put(spec.SerializeToString())
                _send(b, sink, plan, bar.update)
    found = connection.call(
        connection.schema.BatchGetLayers,
        schema_pb2.BatchGetLayersRequest(names=[spec.name for spec in specs]),
        "schema",
    )
    return LayerList([Layer.from_proto(layer, connection) for layer in found.layers])


def _plan(connection: Connection, spec: ingest_pb2.IngestSpec) -> ingest_pb2.PlanIngestResponse:
    return connection.call(connection.ingests.PlanIngest, ingest_pb2.PlanIngestRequest(spec=spec), "schema")


def _send(band: Band, sink: FlightSink, plan: ingest_pb2.PlanIngestResponse, update: Any) -> None:
    """Send one band, and have it stored."""
    side = (plan.tile_rows, plan.tile_cols)
    value = pa.field("item", pa.from_numpy_dtype(np.dtype(band.dtype)), nullable=band.masked)
    fields = [
        pa.field("tile_row", pa.int32(), nullable=False),
        pa.field("tile_col", pa.int32(), nullable=False),
        pa.field("values", pa.list_(value, side[0] * side[1]), nullable=False),
    ]
    schema = pa.schema(fields)
    content = ContentHash(schema)
    block_bytes = side[0] * side[1] * np.dtype(band.dtype).itemsize + side[0] * side[1] // 8
    blocks = max(1, (plan.max_message_bytes - (64 << 10)) // block_bytes)
    with sink.begin(schema):
        for windows, cells in _ahead(_windows(band, side)):
            for batch in _batches(windows, schema, blocks):
                content.update(batch)
                sink.write(batch)
            update(cells)
        words = {"complete": True, "rows": content.rows, "hash": content.digest()}
        sink.close(json.dumps(words).encode())


class _Window:
    """Some tiles of one row of tiles: values (n, rows, cols), and where they are values."""

    def __init__(self, row: int, col: int, values: NDArray[Any], valid: NDArray[np.bool_] | None) -> None:
        self.row, self.col, self.values, self.valid = row, col, values, valid


def _windows(band: Band, side: tuple[int, int]) -> Generator[tuple[_Window, int]]:
    """Read a band from the north, one row of tiles after the other, cut into tiles."""
    rows, cols = band.grid.shape
    width = max(1, WINDOW_BYTES // (side[0] * side[1] * np.dtype(band.dtype).itemsize)) * side[1]
    for top in range(0, rows, side[0]):
        bottom = min(top + side[0], rows)
        for left in range(0, cols, width):
            right = min(left + width, cols)
            values, valid = band.read((top, bottom, left, right))
            if values.shape != (bottom - top, right - left):
                raise errors.DataLoss(
                    f"the raster gave {values.shape} values for a window of {(bottom - top, right - left)}",
                    reason="DATA_CORRUPT",
                )
            yield (
                _Window(
                    top // side[0],
                    left // side[1],
                    _tiles(np.ascontiguousarray(values, dtype=band.dtype), side),
                    None if valid is None else _tiles(valid, side),
                ),
                values.size,
            )


def _ahead(windows: Generator[tuple[_Window, int]]) -> Generator[tuple[_Window, int]]:
    """Read the next window while the one at hand is sent."""
    with ThreadPoolExecutor(1, thread_name_prefix="rasterloom-ingest") as reader:
        coming = reader.submit(next, windows, None)
        while (window := coming.result()) is not None:
            coming = reader.submit(next, windows, None)
            yield window


def _tiles(part: NDArray[Any], side: tuple[int, int]) -> NDArray[Any]:
    """Cut a window of one row of tiles into tiles, padded with zeros: (n, rows, cols)."""
    rows, cols = part.shape
    n = -(-cols // side[1])
    if (rows, cols) != (side[0], n * side[1]):
        padded = np.zeros((side[0], n * side[1]), dtype=part.dtype)
        padded[:rows, :cols] = part
        part = padded
    return np.ascontiguousarray(part.reshape(side[0], n, side[1]).swapaxes(0, 1))


def _batches(window: _Window, schema: pa.Schema, blocks: int) -> Generator[pa.RecordBatch]:
    """Cut tiles into record batches that fit into messages."""
    listed = cast("Any", schema).field("values").type
    for start in range(0, len(window.values), blocks):
        part = window.values[start : start + blocks]
        bits = None
        if window.valid is not None:
            bits = _buffer(np.packbits(window.valid[start : start + blocks].ravel(), bitorder="little"))
        values: Any = pa.Array.from_buffers(listed.value_type, part.size, [bits, _buffer(part)])
        places = np.arange(window.col + start, window.col + start + len(part), dtype=np.int32)
        yield pa.record_batch(
            [
                pa.array(np.full(len(part), window.row, dtype=np.int32)),
                pa.array(places),
                pa.Array.from_buffers(listed, len(part), [None], children=[values]),
            ],
            schema=schema,
        )


def _buffer(values: NDArray[Any]) -> pa.Buffer:
    """Give the memory of an array as a buffer, without a copy."""
    return pa.py_buffer(cast("Any", values))
