"""Merged tables made here, as docs/flight.md describes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import rasterloom as rl


def table(
    window: rl.Window, origin: tuple[float, float, float, float], layers: dict[str, np.ma.MaskedArray], kept: np.ndarray
) -> pa.Table:
    """A merged table of the cells in ``kept``, bool of the window's shape."""
    rows, cols = np.nonzero(kept)
    row, col = rows + window.row_start, cols + window.col_start
    columns = {
        "x": pa.array(origin[0] + (col + 0.5) * origin[2]),
        "y": pa.array(origin[1] - (row + 0.5) * origin[3]),
        "row": pa.array(row.astype(np.int32)),
        "col": pa.array(col.astype(np.int32)),
    }
    for name, values in layers.items():
        columns[name] = pa.array(values.data[kept], mask=np.ma.getmaskarray(values)[kept])
    facts = {
        "version": 1,
        "crs": "EPSG:4326",
        "grid": dict(zip(("origin_x", "origin_y", "step_x", "step_y"), origin, strict=True)) | {"rows": 9, "cols": 9},
        "window": window._asdict(),
        "reference": "a",
        "rows_kept": "ANY",
        "layers": [{"name": name, "column": name, "verdict": "IDENTICAL"} for name in layers],
    }
    return pa.table(columns).replace_schema_metadata({"rasterloom": json.dumps(facts)})
