"""Tiles made by numcodecs, as docs/tiles.md specifies them."""

from __future__ import annotations

import json
from typing import Any

import numcodecs
import numpy as np

SIDE = 256
COLUMNS = (
    "tile_row int, tile_col int, cells int, min float8, max float8, valid bytea, data bytea, "
    "PRIMARY KEY (tile_row, tile_col)"
)
CRC = numcodecs.CRC32C(location="end")
CHAINS = ("raw", "zstd", "shuffled")


def tiling(values: np.ndarray, chain: str) -> str:
    """Give the metadata of the Zarr array that the tiles are."""
    codecs: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    if chain == "shuffled":
        codecs.append({"name": "numcodecs.shuffle", "configuration": {"elementsize": values.dtype.itemsize}})
    if chain != "raw":
        codecs.append({"name": "zstd", "configuration": {"level": 3, "checksum": False}})
    array = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(values.shape),
        "data_type": values.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [SIDE, SIDE]}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": "NaN" if values.dtype.kind == "f" else 0,
        "codecs": [*codecs, {"name": "crc32c"}],
        "attributes": {"rasterloom_tiles": 1},
    }
    return json.dumps(array)


def tiles(values: np.ndarray, held: np.ndarray, chain: str) -> list[tuple[Any, ...]]:
    """Give the rows of the table; tiles where nothing is held are absent."""
    out: list[tuple[Any, ...]] = []
    for row, col in np.ndindex(*(-(-n // SIDE) for n in values.shape)):
        window = np.s_[row * SIDE : (row + 1) * SIDE, col * SIDE : (col + 1) * SIDE]
        part, mask = values[window], held[window]
        if not mask.any():
            continue
        fill = np.nan if values.dtype.kind == "f" else 0
        whole, bits = np.full((SIDE, SIDE), fill, values.dtype), np.zeros((SIDE, SIDE), bool)
        whole[: part.shape[0], : part.shape[1]] = np.where(mask, part, values.dtype.type(fill))
        bits[: part.shape[0], : part.shape[1]] = mask
        data: Any = whole.tobytes()
        if chain == "shuffled":
            data = numcodecs.Shuffle(values.dtype.itemsize).encode(data)
        if chain != "raw":
            data = numcodecs.Zstd(level=3).encode(data)
        valid = None if mask.all() else bytes(CRC.encode(np.packbits(bits, bitorder="little").tobytes()))
        low, high = float(part[mask].min()), float(part[mask].max())
        out.append((row, col, int(mask.sum()), low, high, valid, bytes(CRC.encode(bytes(data)))))
    return out
