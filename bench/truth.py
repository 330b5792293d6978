"""Whether an answer is right: every cell of every row against the formula, bit for bit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from bench.sets import LayerSet


@dataclass
class Verdict:
    """What an answer holds, beside what it should."""

    rows: int = 0
    rows_expected: int = 0
    cells_twice: int = 0
    rows_off_lattice: int = 0
    ordered: bool = True
    coordinates_exact: bool = True
    # By column: cells that should have a value and have none; that have one and
    # should not; that have another value.
    lost: dict[str, int] = field(default_factory=dict)
    invented: dict[str, int] = field(default_factory=dict)
    wrong: dict[str, int] = field(default_factory=dict)
    zeros_lost: int = 0
    schema: str = ""  # what is wrong with the columns, if anything

    @property
    def right(self) -> bool:
        """Every cell once, every value the formula's."""
        return (
            not self.schema
            and self.rows == self.rows_expected
            and not self.cells_twice
            and not self.rows_off_lattice
            and not any([*self.lost.values(), *self.invented.values(), *self.wrong.values()])
        )

    def sentence(self) -> str:
        """What there is to say about the answer."""
        if self.schema:
            return f"no: {self.schema}"
        found = []
        if self.rows != self.rows_expected:
            found.append(f"{self.rows:,} rows instead of {self.rows_expected:,}")
        if self.cells_twice:
            found.append(f"{self.cells_twice:,} cells more than once")
        if self.rows_off_lattice:
            found.append(f"{self.rows_off_lattice:,} rows off the lattice")
        lost, invented, wrong = sum(self.lost.values()), sum(self.invented.values()), sum(self.wrong.values())
        if lost:
            every = "every zero" if lost == self.zeros_lost else f"{self.zeros_lost:,} of them zeros"
            found.append(f"{lost:,} values lost ({every})")
        if invented:
            found.append(f"{invented:,} values where there are none")
        if wrong:
            found.append(f"{wrong:,} wrong values")
        notes = ([] if self.ordered else ["unordered"]) + ([] if self.coordinates_exact else ["x, y rounded"])
        return ", ".join(["no: " + ", ".join(found) if found else "yes", *notes])


def check(batches: Iterable[pa.RecordBatch], layers: LayerSet) -> Verdict:
    """Compare an answer with the formula; columns are x, y and one per layer."""
    lattice = layers.lattice
    verdict = Verdict(rows_expected=layers.count_rows())
    for counts in (verdict.lost, verdict.invented, verdict.wrong):
        counts.update(dict.fromkeys(layers.columns, 0))
    min_x, _, _, max_y = lattice.bounds
    step_x, step_y = lattice.step
    xs, ys = lattice.x(np.arange(lattice.cols)), lattice.y(np.arange(lattice.rows))
    seen = np.zeros(layers.cells, bool)
    last = -1
    for batch in _pieces(batches):
        if batch.schema.names != ["x", "y", *layers.columns]:
            verdict.schema = f"columns {', '.join(batch.schema.names)}"
            return verdict
        if others := [f.name for f in batch.schema if f.type != pa.float64()]:
            verdict.schema = f"{', '.join(others)} are not float64"
            return verdict
        x, y = batch.column("x").to_numpy(zero_copy_only=False), batch.column("y").to_numpy(zero_copy_only=False)
        verdict.rows += len(x)
        with np.errstate(invalid="ignore"):
            cols = np.rint((x - min_x) / step_x - 0.5)
            rows = np.rint((max_y - y) / step_y - 0.5)
        inside = (cols >= 0) & (cols < lattice.cols) & (rows >= 0) & (rows < lattice.rows)
        cols, rows = np.where(inside, cols, 0).astype(np.int64), np.where(inside, rows, 0).astype(np.int64)
        dx, dy = np.abs(x - xs[cols]), np.abs(y - ys[rows])
        # Another way to write the same formula may differ in the last bit.
        verdict.coordinates_exact &= bool((dx[inside] <= 1e-13 * 360).all() and (dy[inside] <= 1e-13 * 360).all())
        inside &= (dx < step_x / 1000) & (dy < step_y / 1000)
        verdict.rows_off_lattice += int((~inside).sum())
        position = (rows * lattice.cols + cols)[inside]
        seen[position] = True
        if len(position):
            verdict.ordered &= bool(position[0] > last and (np.diff(position) > 0).all())
            last = position[-1]
        rows, cols = rows[inside], cols[inside]
        for layer in layers.layers:
            got = batch.column(layer.column).to_numpy(zero_copy_only=False)[inside]
            none, expected, absent = np.isnan(got), layer.values(rows, cols), layer.missing(rows, cols)
            lost = none & ~absent
            verdict.lost[layer.column] += int(lost.sum())
            verdict.zeros_lost += int((lost & (expected == 0)).sum())
            verdict.invented[layer.column] += int((absent & ~none).sum())
            verdict.wrong[layer.column] += int((~none & ~absent & (got != expected)).sum())
    verdict.cells_twice = verdict.rows - verdict.rows_off_lattice - int(seen.sum())
    return verdict


def _pieces(batches: Iterable[pa.RecordBatch], rows: int = 1 << 19) -> Iterable[pa.RecordBatch]:
    for batch in batches:
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)
