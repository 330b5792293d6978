"""Resampling kernels and rasterio's reproject, in turn: millions of output cells per second of CPU time.

    .venv/bin/python bench/resampling.py [rounds]

Both get float32 in windows of 128 rows of 2048 output cells, at a third, one and 3.1577 cells of
the layer to a side of a cell of the lattice; ours also with a fifth of each row missing. The
medians of all rounds are printed, and the ratio to rasterio's.
"""

from __future__ import annotations

import re
import resource
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from rasterio.transform import Affine
from rasterio.warp import Resampling, reproject

ROOT = Path(__file__).resolve().parents[1]
METHODS = ("nearest", "bilinear", "cubic", "average", "mode")
RATIOS = {"0.333": 1 / 3, "1": 1.0, "3.16": 3.1577}
ROWS, COLS = 128, 2048
NOISE = 1.25  # of one run to the next on a shared machine
LINE = re.compile(r"BenchmarkBand/(\w+)/ratio=([\d.]+)/missing=(\w+)\S*\s.*?([\d.]+) Mcells/CPU-s")

Rates = dict[tuple[str, str, str], list[float]]


def ours(into: Rates) -> None:
    """Run the Go benchmark once."""
    pattern = f"Band/({'|'.join(METHODS)})/"
    command = [
        "go",
        "test",
        "-run",
        "^$",
        "-bench",
        pattern,
        "-benchtime",
        "0.3s",
        "./services/merger/internal/resample",
    ]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for method, ratio, missing, rate in LINE.findall(said):
        into[method, ratio, "a fifth missing" if missing == "true" else "none missing"].append(float(rate))


def rasterios(into: Rates) -> None:
    """Do the same by rasterio, on one thread."""
    rng = np.random.default_rng(1)
    for name, ratio in RATIOS.items():
        source = (100 * rng.random((int(ROWS * ratio) + 10, int(COLS * ratio) + 10))).astype(np.float32)
        target = np.full((ROWS, COLS), np.nan)
        for method in METHODS:
            before = resource.getrusage(resource.RUSAGE_SELF)
            reproject(
                source,
                target,
                # Not at 0, 0: GDAL takes a step of 1 from there for no georeference.
                src_transform=Affine(1, 0, 1000, 0, -1, 1000),
                dst_transform=Affine(ratio, 0, 1003.3, 0, -ratio, 996.7),
                src_crs="EPSG:32633",
                dst_crs="EPSG:32633",
                resampling=Resampling[method],
                num_threads=1,
                tolerance=0.125,
                XSCALE=repr(1 / ratio),
                YSCALE=repr(1 / ratio),
            )
            after = resource.getrusage(resource.RUSAGE_SELF)
            seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
            if np.isnan(target).any() or not 30 < target.mean() < 70:
                raise RuntimeError(f"rasterio did nothing for {method} at {name}")
            into[method, name, "rasterio"].append(ROWS * COLS / 1e6 / max(seconds, 1e-6))


def main() -> int:
    """Print the table; the exit code is 1 where ours is the slower anywhere."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    rates: Rates = defaultdict(list)
    for _ in range(rounds):
        rasterios(rates)
        ours(rates)
    print(f"{'method':<10}{'ratio':>7}{'none missing':>14}{'a fifth missing':>17}{'rasterio':>10}{'times':>8}")
    slower: list[str] = []
    for method in METHODS:
        for ratio in RATIOS:
            none, fifth, peer = (
                statistics.median(rates[method, ratio, kind])
                for kind in ("none missing", "a fifth missing", "rasterio")
            )
            if min(none, fifth) < peer / NOISE:
                slower.append(f"{method} at {ratio}")
            print(f"{method:<10}{ratio:>7}{none:>14.1f}{fifth:>17.1f}{peer:>10.1f}{none / peer:>8.1f}")
    print("slower than rasterio: " + (", ".join(slower) or "none"))
    return int(bool(slower))


if __name__ == "__main__":
    sys.exit(main())
