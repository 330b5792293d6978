"""Golden answers of odc-geo, the best Python library on how two grids relate.

Makes pairs of grids (rotations aside: our grids have none), asks odc-geo how
they relate, and writes both. The aligner's tests re-tell every answer with
their own arithmetic.

    python test/golden/odcgeo.py            # write the file
    python test/golden/odcgeo.py --check    # fail if it would change
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from pathlib import Path

import odc.geo
from affine import Affine
from odc.geo.geobox import (
    GeoBox,
    geobox_intersection_conservative,
    geobox_union_conservative,
)
from odc.geo.overlap import compute_reproject_roi, native_pix_transform

FILE = Path(__file__).parents[2] / "services/aligner/internal/align/testdata/odcgeo.json"
SEED = 20260928
TOLERANCE_PIXELS = 0.1


def box(crs: str, x: float, y: float, step_x: float, step_y: float, rows: int, cols: int) -> GeoBox:
    """A north-up GeoBox from its outer north-west corner."""
    return GeoBox((rows, cols), Affine(step_x, 0, x, 0, -step_y, y), crs)


def grid(g: GeoBox, crs: str) -> dict:
    return {
        "crs": crs, "rows": g.shape[0], "cols": g.shape[1],
        "x": g.affine.c, "y": g.affine.f, "step_x": g.affine.a, "step_y": -g.affine.e,
    }


def window(roi) -> list[int]:
    """[row_start, row_stop, col_start, col_stop]"""
    return [roi[0].start, roi[0].stop, roi[1].start, roi[1].stop]


def answer(name: str, src: GeoBox, ref: GeoBox, src_crs: str, ref_crs: str) -> dict:
    case = {"name": name, "src": grid(src, src_crs), "ref": grid(ref, ref_crs)}
    info = compute_reproject_roi(src, ref, ttol=TOLERANCE_PIXELS)
    case["paste_ok"] = bool(info.paste_ok)
    linear = native_pix_transform(src, ref).linear
    if linear is None:
        return case
    # Pixel of the reference = ratio * pixel of the source + offset, edges at
    # whole numbers.
    case["linear"] = {"ratio_x": linear.a, "ratio_y": linear.e, "offset_x": linear.c, "offset_y": linear.f}
    if info.paste_ok and info.read_shrink == 1 and all(s.stop > s.start for s in info.roi_dst):
        case["roi_src"], case["roi_dst"] = window(info.roi_src), window(info.roi_dst)
    aligned = all(math.isclose(v, round(v), abs_tol=1e-9) for v in (linear.c, linear.f))
    if aligned and linear.a == 1 and linear.e == 1:
        back = ~ref.affine
        for key, joined in (
            ("union", geobox_union_conservative([ref, src])),
            ("intersection", geobox_intersection_conservative([ref, src])),
        ):
            col, row = back * (joined.affine.c, joined.affine.f)
            case[key] = [round(row), round(row) + joined.shape[0], round(col), round(col) + joined.shape[1]]
    return case


def cases() -> list[dict]:
    out = []
    rng = random.Random(SEED)
    utm = "EPSG:31985"

    # The drift ladder: odc-geo calls all four "paste".
    for e in (1e-4, 2e-4, 5e-4, 9e-4):
        out.append(answer(f"drift {e:g}", box(utm, 5e5, 9e6, 10 * (1 + e), 10, 100, 4000), box(utm, 5e5, 9e6, 10, 10, 100, 4000), utm, utm))

    # odc-geo's own cases (tests/test_overlap.py, tests/test_geobox.py) as grids:
    # the same box, a crop, a shift by whole and by parts of a pixel, zoom, a
    # box beside.
    base = box(utm, 288776.25, 9120760.75, 28.5, 28.5, 352, 349)
    for name, other in {
        "same": base,
        "crop": base[20:300, 13:200],
        "padded": base.pad(7),
        "shifted by whole pixels": base.translate_pix(17, -5),
        "shifted by a tenth": base.translate_pix(0.09, 0),
        "shifted by 0.3, -0.2": base.translate_pix(0.3, -0.2),
        "half the resolution": base.zoom_out(2),
        "a third of the resolution": base.zoom_out(3),
        "beside": base.translate_pix(400, 0),
        "flush on the left": base.left,
        "flush on the top": base.top,
        "quarter": base.translate_pix(174.5, 176),
    }.items():
        out.append(answer(name, other, base, utm, utm))
        if name != "same":
            out.append(answer(name + ", the other way", base, other, utm, utm))

    # One system by two texts, and two systems.
    lonlat = box("EPSG:4326", -180, 90, 0.5, 0.5, 360, 720)
    out.append(answer("CRS84 on 4326", box("OGC:CRS84", -180, 90, 0.5, 0.5, 360, 720), lonlat, "OGC:CRS84", "EPSG:4326"))
    out.append(answer("other CRS", box("EPSG:3857", 0, 0, 1000, 1000, 50, 50), box(utm, 5e5, 9e6, 1000, 1000, 50, 50), "EPSG:3857", utm))

    # Grids of one lattice and off it, at random.
    for i in range(60):
        step = rng.choice([0.1, 1.0, 10.0, 28.5, 89.994067, 1000 / 3])
        ref = box(utm, rng.randint(-9_000_000, 9_000_000) / 10, rng.randint(0, 99_000_000) / 10, step, step, rng.randint(1, 500), rng.randint(1, 500))
        dx, dy = rng.randint(-300, 300), rng.randint(-300, 300)
        if i % 3 == 1:
            dx, dy = dx + rng.choice([0.05, -0.04, 0.3, 0.45]), dy + rng.choice([0, 0.06, -0.35])
        moved = ref.translate_pix(dx, dy)
        scale = 1 + rng.choice([1e-5, -1e-4, 5e-4]) if i % 3 == 2 else 1
        src = box(utm, moved.affine.c, moved.affine.f, step * scale, step, rng.randint(1, 500), rng.randint(1, 500))
        out.append(answer(f"random {i}", src, ref, utm, utm))
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    args = parser.parse_args()
    text = json.dumps({"odc_geo": odc.geo.__version__, "seed": SEED, "tolerance_pixels": TOLERANCE_PIXELS, "cases": cases()}, indent=1) + "\n"
    if not args.check:
        FILE.write_text(text)
        return 0
    if FILE.read_text() != text:
        print(f"{FILE} is not what odc-geo {odc.geo.__version__} answers: run {Path(__file__).name}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
