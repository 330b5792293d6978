"""Reference results for the resampling tests: GDAL's, and exact ones.

A process that answers requests on standard input until it ends. A request is a
line of JSON and the values of the layer; the answer is a line of JSON and
arrays of float64 (rows, cols), NaN where a cell has no value:

- ``gdal``: what ``rasterio.warp.reproject`` makes of it. GDAL is told the exact
  ratio of the steps (XSCALE, YSCALE), which it otherwise estimates from the
  overlap, and to transform every point (tolerance 0).
- ``exact``: the documented rule with the places of cells as exact fractions and
  weights in float64, by plain matrices. It shares no code with what it judges.
- ``size`` (computed values only): the exact result for the magnitudes of values and weights: what
  differences of computed values are relative to, since signed ones may cancel.
- ``moved`` (computed values only): by how much the exact result changes when
  places change by what the coordinates of the two grids round to. GDAL goes
  from pixels to coordinates and back, so its places are no better than that.
- ``share``: the share of each cell's area that cells with a value cover.
- ``counted`` (mode only): the value that most cells touched have, each counting
  one whatever its overlap: the rule of GDAL before 3.11.
- ``linear`` and ``convolved`` (cubic only): both results that cubic may have,
  and ``tied``, 1 where a centre lies on that of a cell: which 16 cells are
  around it then hangs on rounding in GDAL.
- ``stretched`` (average only): GDAL's weights across the border of the layer,
  where the outermost cell also gets what lies outside of it.

Run with an interpreter that has rasterio and numpy.
"""

import json
import sys
import warnings
from fractions import Fraction
from math import ceil, floor

import numpy as np
import rasterio
from rasterio.transform import Affine
from rasterio.warp import Resampling, reproject

Grid = tuple[float, float, float, float]  # origin x, origin y, step x, step y


def affine(grid: Grid) -> Affine:
    """Return the geotransform of a north-up grid."""
    ox, oy, sx, sy = grid
    return Affine(sx, 0, ox, 0, -sy, oy)


def by_gdal(request: dict, values: np.ndarray) -> np.ndarray:
    """Resample by GDAL, to float64 with NaN for what is missing."""
    src, ref = request["src"], request["ref"]
    nodata = request["nodata"]
    out_type = np.dtype(request["out"])
    missing = np.nan if out_type.kind == "f" else request["out_nodata"]
    out = np.full(request["shape"], missing, out_type)
    reproject(
        values,
        out,
        src_transform=affine(src),
        dst_transform=affine(ref),
        src_crs=request["crs"],
        dst_crs=request["crs"],
        src_nodata=np.nan if nodata is None else nodata,
        dst_nodata=missing,
        resampling=Resampling[request["method"]],
        tolerance=0,
        XSCALE=repr(src[2] / ref[2]),
        YSCALE=repr(src[3] / ref[3]),
    )
    result = out.astype(np.float64)
    if out_type.kind != "f":
        result[out == missing] = np.nan
    return result


def tent(d: float) -> float:
    """Weight of linear interpolation at a distance."""
    return max(0.0, 1 - abs(d))


def keys(d: float) -> float:
    """Weight of Keys' cubic convolution, a = -0.5, at a distance."""
    d = abs(d)
    if d <= 1:
        return 1.5 * d**3 - 2.5 * d**2 + 1
    if d < 2:
        return -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return 0.0


def snap(place: Fraction, parts: int) -> Fraction:
    """Return the edge (parts 1) or half (parts 2) of a cell within 1e-10."""
    whole = Fraction(round(place * parts), parts)
    return whole if abs(place - whole) <= Fraction(1, 10**10) else place


class Axis:
    """One axis: where the cells of the lattice lie on those of the layer."""

    def __init__(self, offset: Fraction, ratio: Fraction, cells: int, out: int):
        self.cells = cells
        self.out = out
        self.ratio = ratio
        self.edges = [snap(offset + i * ratio, 1) for i in range(out + 1)]
        self.centres = [snap(offset + (i + Fraction(1, 2)) * ratio, 2) for i in range(out)]

    def holders(self) -> np.ndarray:
        """Return the cell that holds each centre, -1 for none."""
        held = [floor(c) for c in self.centres]
        return np.array([h if 0 <= h < self.cells else -1 for h in held])

    def overlaps(self, *, stretched: bool = False) -> np.ndarray:
        """Return the overlaps (out, cells), in pixels of the layer.

        With stretched the outermost cell counts for what lies beyond it.
        """
        w = np.zeros((self.out, self.cells))
        for i in range(self.out):
            left, right = self.edges[i], self.edges[i + 1]
            first, last = max(0, floor(left)), min(self.cells, ceil(right))
            for j in range(first, last):
                w[i, j] = min(right, j + 1) - max(left, j)
            if stretched and last - first > 1:
                w[i, first] = first + 1 - left
                w[i, last - 1] = right - (last - 1)
            elif stretched and first < self.cells and last >= 0:
                w[i, min(first, self.cells - 1)] = 1  # also where it only touches
        return w

    def kernel(self, weight, radius: int, scale: Fraction) -> np.ndarray:
        """Return the weights (out, cells) of a kernel, widened by 1/scale."""
        w = np.zeros((self.out, self.cells))
        for i, c in enumerate(self.centres):
            reach = radius / scale
            for j in range(max(0, floor(c - reach) - 1), min(self.cells, ceil(c + reach) + 1)):
                w[i, j] = weight(float((j + Fraction(1, 2) - c) * scale))
        return w

    def tied(self) -> np.ndarray:
        """Return whether each centre lies on the centre of a cell."""
        return np.array([(c - Fraction(1, 2)).denominator == 1 for c in self.centres])

    def inside(self) -> np.ndarray:
        """Return whether all 4 cells around each centre exist."""
        base = [floor(c - Fraction(1, 2)) for c in self.centres]
        return np.array([b - 1 >= 0 and b + 2 < self.cells for b in base])

    def four(self) -> np.ndarray:
        """Return (out, cells), 1 for the 4 cells around each centre."""
        w = np.zeros((self.out, self.cells))
        for i, c in enumerate(self.centres):
            b = floor(c - Fraction(1, 2))
            w[i, max(0, b - 1) : max(0, b + 3)] = 1
        return w


def axes(request: dict, shape: tuple[int, int]) -> tuple[Axis, Axis]:
    """Return the axes y and x."""
    src, ref = ([Fraction(v) for v in request[k]] for k in ("src", "ref"))
    rows, cols = request["shape"]
    dx, dy = (Fraction(float(v)) for v in request.get("shift", (0, 0)))
    y = Axis((src[1] - ref[1]) / src[3] + dy, ref[3] / src[3], shape[0], rows)
    x = Axis((ref[0] - src[0]) / src[2] + dx, ref[2] / src[2], shape[1], cols)
    return y, x


def ratio_of_sums(wy, wx, values, valid, least):
    """Return the weighted mean over valid cells, NaN where weights sum to least."""
    total = wy @ valid @ wx.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > least, (wy @ values @ wx.T) / total, np.nan)


def by_rule(request: dict, values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Resample by the documented rule."""
    method = request["method"]
    y, x = axes(request, values.shape)
    v = np.where(valid, values, 0).astype(np.float64)
    m = valid.astype(np.float64)
    hy, hx = y.holders(), x.holders()
    centred = (hy >= 0)[:, None] & (hx >= 0)[None, :] & valid[hy][:, hx]
    if method == "nearest":
        return np.where(centred, v[hy][:, hx], np.nan)
    if method in ("average", "sum"):
        wy, wx = y.overlaps(), x.overlaps()
        if method == "average":
            return ratio_of_sums(wy, wx, v, m, 0)
        return np.where(wy @ m @ wx.T > 0, wy @ v @ wx.T, np.nan)
    if method in ("bilinear", "cubic"):
        weight, radius = (tent, 1) if method == "bilinear" else (keys, 2)
        wide = 1 / x.ratio < Fraction(95, 100) or 1 / y.ratio < Fraction(95, 100)
        if wide:
            wy, wx = (a.kernel(weight, radius, min(Fraction(1), 1 / a.ratio)) for a in (y, x))
            return np.where(centred, ratio_of_sums(wy, wx, v, m, 1e-6), np.nan)
        one = Fraction(1)
        linear = ratio_of_sums(y.kernel(tent, 1, one), x.kernel(tent, 1, one), v, m, 0)
        if method == "cubic":
            whole = (y.four() @ m @ x.four().T > 15.5) & y.inside()[:, None] & x.inside()[None, :]
            linear = np.where(whole, y.kernel(keys, 2, one) @ v @ x.kernel(keys, 2, one).T, linear)
        return np.where(centred, linear, np.nan)
    return pick(method, y, x, values, valid, weighted=True)


def spans(weights: np.ndarray) -> list[tuple[int, int]]:
    """Return the range of cells with a weight, for each cell of the lattice."""
    some = weights > 0
    first = some.argmax(axis=1)
    return [(f, f + n) for f, n in zip(first.tolist(), some.sum(axis=1).tolist(), strict=True)]


def pick(method: str, y: Axis, x: Axis, values, valid, *, weighted: bool) -> np.ndarray:
    """Return min, max or mode of the cells touched."""
    out = np.full((y.out, x.out), np.nan)
    wy, wx = y.overlaps(), x.overlaps()
    columns = spans(wx)
    for r, (top, bottom) in enumerate(spans(wy)):
        for c, (left, right) in enumerate(columns):
            part = values[top:bottom, left:right][valid[top:bottom, left:right]]
            if not part.size:
                continue
            if method != "mode":
                out[r, c] = part.min() if method == "min" else part.max()
                continue
            area = np.outer(wy[r, top:bottom], wx[c, left:right])[valid[top:bottom, left:right]]
            counts: dict[float, float] = {}
            most = 0.0
            for value, weight in zip(part.tolist(), area.tolist(), strict=True):
                counts[value] = counts.get(value, 0.0) + (weight if weighted else 1)
                if counts[value] > most + 1e-9 or most == 0:
                    most, out[r, c] = counts[value], value
    return out


def answer(request: dict, payload: bytes) -> dict[str, np.ndarray]:
    """Return the arrays that a request asks for."""
    values = np.frombuffer(payload, request["dtype"]).reshape(request["src_shape"])
    nodata = request["nodata"]
    valid = ~np.isnan(values) if nodata is None else values != nodata
    magnitudes = np.abs(values.astype(np.float64))
    arrays = {"gdal": by_gdal(request, values), "exact": by_rule(request, values, valid)}
    y, x = axes(request, values.shape)
    share = y.overlaps() @ valid.astype(float) @ x.overlaps().T
    arrays["share"] = share / float(y.ratio * x.ratio)

    method = request["method"]
    if method in ("bilinear", "cubic", "average", "sum"):
        arrays["size"] = by_rule(request, magnitudes, valid)
        arrays["moved"] = np.zeros_like(arrays["exact"])
        if not np.allclose(arrays["exact"], arrays["gdal"], rtol=1e-10, atol=0, equal_nan=True):
            arrays["moved"] = moved(request, values, valid, arrays["exact"])
    if method == "cubic":
        scales = [min(Fraction(1), 1 / a.ratio) for a in (y, x)]
        wy, wx = (a.kernel(keys, 2, s) for a, s in zip((y, x), scales, strict=True))
        size = np.abs(wy) @ np.where(valid, magnitudes, 0) @ np.abs(wx).T * float(scales[0] * scales[1])
        arrays["size"] = np.fmax(size, np.abs(arrays["exact"]))
        one, v, m = Fraction(1), np.where(valid, values, 0).astype(float), valid.astype(float)
        arrays["linear"] = ratio_of_sums(y.kernel(tent, 1, one), x.kernel(tent, 1, one), v, m, 0)
        arrays["convolved"] = y.kernel(keys, 2, one) @ v @ x.kernel(keys, 2, one).T
        arrays["tied"] = np.maximum(y.tied()[:, None], x.tied()[None, :]).astype(float)
    if method == "average":
        w = (a.overlaps(stretched=True) for a in (y, x))
        arrays["stretched"] = ratio_of_sums(*w, np.where(valid, values, 0), valid.astype(float), 0)
    if method == "mode":
        arrays["counted"] = pick("mode", y, x, values, valid, weighted=False)
    return arrays


def moved(request: dict, values: np.ndarray, valid: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Return the largest change of the exact result for places rounded away."""
    src, ref = request["src"], request["ref"]
    (rows, cols), (out_rows, out_cols) = values.shape, request["shape"]
    xs = [src[0], src[0] + cols * src[2], ref[0], ref[0] + out_cols * ref[2]]
    ys = [src[1], src[1] - rows * src[3], ref[1], ref[1] - out_rows * ref[3]]
    dx, dy = (4 * np.spacing(max(map(abs, c))) for c in (xs, ys))
    change = np.zeros_like(exact)
    for sx, sy in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        shifted = request | {"shift": [sx * dx / src[2], sy * dy / src[3]]}
        change = np.fmax(change, np.abs(by_rule(shifted, values, valid) - exact))
    return change


def read_band(request: dict) -> tuple[dict, bytes]:
    """Return a band of a file: its grid, and its values with NaN for nodata."""
    with rasterio.open(request["path"]) as f:
        values = f.read(request["band"]).astype(np.float64)
        t = f.transform
        if f.nodata is not None:
            values[values == np.float64(f.nodata)] = np.nan
    north, step = t.f, -t.e
    if step < 0:  # south-up
        north, step, values = t.f + t.e * values.shape[0], t.e, values[::-1]
    grid = [t.c, north, t.a, step]
    return {"grid": grid, "shape": values.shape}, np.ascontiguousarray(values).tobytes()


def main() -> None:
    """Answer requests."""
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while line := stdin.readline():
        request = json.loads(line)
        payload = stdin.read(request["bytes"])
        if request["op"] == "read":
            head, body = read_band(request)
        else:
            arrays = answer(request, payload)
            head = {"names": list(arrays), "gdal": rasterio.__gdal_version__}
            body = b"".join(np.ascontiguousarray(a, np.float64).tobytes() for a in arrays.values())
        head["bytes"] = len(body)
        stdout.write(json.dumps(head).encode() + b"\n" + body)
        stdout.flush()


if __name__ == "__main__":
    main()
