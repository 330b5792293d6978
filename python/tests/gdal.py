"""The oracle of the resampling tests in Go: GDAL's results, and exact ones."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    import rasterloom as rl

_path = Path(__file__).resolve().parents[2] / "test" / "golden" / "resample" / "oracle.py"
_spec = importlib.util.spec_from_file_location("resample_oracle", _path)
assert _spec is not None
assert _spec.loader is not None
oracle = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = oracle
_spec.loader.exec_module(oracle)

NODATA = -32768
COMPUTED = ("bilinear", "cubic", "average", "sum")
METHODS = ("nearest", "bilinear", "cubic", "average", "mode", "min", "max", "sum")


def request(method: str, src: rl.Grid, ref: rl.Grid, values: np.ndarray) -> dict[str, Any]:
    """Ask the oracle for a layer with NaN (floats) or NODATA (int16) where cells are missing."""
    whole = values.dtype.kind == "i"
    return {
        "method": method,
        "src": [float(v) for v in (src.origin_x, src.origin_y, src.step_x, src.step_y)],
        "ref": [float(v) for v in (ref.origin_x, ref.origin_y, ref.step_x, ref.step_y)],
        "crs": ref.crs,
        "shape": [ref.rows, ref.cols],
        "src_shape": list(values.shape),
        "dtype": values.dtype.str,
        "nodata": NODATA if whole else None,
        "out": "float64" if method in COMPUTED else values.dtype.name,
        "out_nodata": NODATA,
    }
