"""Layers as tables of tiles, written by numcodecs as docs/tiles.md specifies."""

from __future__ import annotations

import json
from typing import Any

import numcodecs
import numpy as np
import psycopg
from psycopg import sql

from bench.sets import Layer

SIDE = 256
CRC = numcodecs.CRC32C(location="end")
ZSTD = numcodecs.Zstd(level=1)


def fill(connection: psycopg.Connection[Any], layer: Layer) -> None:
    """Write the tiles of a layer into its table, which is empty, and say how they are read."""
    name = sql.Identifier("public", layer.table)
    connection.execute(sql.SQL("ALTER TABLE {} ALTER COLUMN data SET STORAGE EXTERNAL").format(name))
    connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(name, _tiling(layer)))
    with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(name)) as copy:
        copy.set_types(["int4", "int4", "int4", "float8", "float8", "bytea", "bytea"])
        for row, col in np.ndindex(-(-layer.lattice.rows // SIDE), -(-layer.lattice.cols // SIDE)):
            copy.write_row(_tile(layer, row, col))


def _tiling(layer: Layer) -> str:
    codecs: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    if layer.chain == "zstd":
        codecs.append({"name": "zstd", "configuration": {"level": 1, "checksum": False}})
    return json.dumps(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [layer.lattice.rows, layer.lattice.cols],
            "data_type": "float64",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [SIDE, SIDE]}},
            "chunk_key_encoding": {"name": "default"},
            "fill_value": "NaN",
            "codecs": [*codecs, {"name": "crc32c"}],
            "attributes": {"rasterloom_tiles": 1},
        }
    )


def _tile(layer: Layer, row: int, col: int) -> tuple[Any, ...]:
    rows, cols = np.mgrid[row * SIDE : (row + 1) * SIDE, col * SIDE : (col + 1) * SIDE].astype(np.int64)
    inside = (rows < layer.lattice.rows) & (cols < layer.lattice.cols)
    held = inside & ~layer.missing(rows, cols)
    values = np.where(held, layer.values(rows, cols), np.nan)
    data = values.tobytes()
    if layer.chain == "zstd":
        data = bytes(ZSTD.encode(data))
    valid = None
    if held.sum() < inside.sum():
        valid = bytes(CRC.encode(np.packbits(held, bitorder="little").tobytes()))
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return row, col, int(held.sum()), low, high, valid, bytes(CRC.encode(data))
