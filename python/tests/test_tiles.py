"""The code of docs/tiles.md, run as it is printed there, against the suite."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest
from psycopg import sql

import rasterloom as rl

if TYPE_CHECKING:
    import suite as demo_suite

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tiles.md"
ROWS, COLS = 300, 530


def page() -> dict[str, Any]:
    """Give what the page's code defines."""
    defined: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, defined)  # noqa: S102 (the page itself)
    return defined


def raster(dtype: str, seed: int) -> np.ma.MaskedArray:
    """Make values with holes, whole tiles of them and single ones."""
    rng = np.random.default_rng(seed)
    values = np.round(rng.normal(100, 30, (ROWS, COLS))).astype(dtype)
    values = np.ma.masked_array(values, rng.random((ROWS, COLS)) < 0.1)
    values[:256, 256:512] = np.ma.masked
    values[256:, :256].mask = False
    values[5, :7] = 0
    return values


@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "uint8"])
def test_tiles_written_and_read_without_us(loom: rl.Loom, suite: demo_suite.Suite, tmp_path: Path, dtype: str) -> None:
    code = page()
    values, name = raster(dtype, len(dtype)), f"tiles_{dtype}"
    with psycopg.connect(suite.database_url, autocommit=True) as connection:
        code["write_tiles"](connection, "public", name, values, tmp_path / "written")
        bounds = (0, 0, 10.0 * COLS, 10.0 * ROWS)
        layer = loom.register(name, f"public.{name}", crs="EPSG:32633", bounds=bounds, shape=(ROWS, COLS))
        assert (layer.format, str(layer.stored_type), layer.has_key) == ("TILED", dtype, True)

        # Through the merger: what zarr-python encoded, we decode.
        table = loom.merge([name], coordinates="row_col", rows="any").to_arrow()
        assert table.num_rows == values.count()
        merged = np.ma.masked_all((ROWS, COLS), dtype)
        merged[table["row"].to_numpy(), table["col"].to_numpy()] = table[name].to_numpy()
        assert str(table.schema.field(name).type) == {"float64": "double", "float32": "float"}.get(dtype, dtype)
        assert np.array_equal(merged.mask, values.mask)
        assert np.array_equal(merged.compressed(), values.compressed())

        # And as the page reads them.
        read = code["read_tiles"](connection, name)
        assert np.array_equal(read.mask, values.mask)
        assert np.array_equal(read.compressed(), values.compressed())
        array = code["tiles_to_zarr"](connection, name, tmp_path / "read")
        assert np.array_equal(array[...][~values.mask], values.compressed())

        # A wrong checksum is told with the name of the tile.
        flip = sql.SQL(
            "UPDATE {} SET data = set_byte(data, 7, get_byte(data, 7) # 1) WHERE (tile_row, tile_col) = (1, 0)"
        )
        connection.execute(flip.format(sql.Identifier("public", name)))
        with pytest.raises(rl.RasterloomError, match="tile_row 1, tile_col 0") as caught:
            loom.merge([name]).to_arrow()
        assert caught.value.reason == "DATA_CORRUPT"
        with pytest.raises(rl.InvalidArgument, match="not a table of tiles of ours"):
            loom.drop(name, delete_tiles=True)
        loom.drop(name)
