"""The judge must catch each kind of wrong answer, or no time means anything."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from bench.sets import Lattice, Layer, LayerSet
from bench.truth import check

LATTICE = Lattice(37, 41)
LAYERS = LayerSet(
    "test",
    "",
    (
        Layer("a", "a", "a", "LEGACY", 1, LATTICE),
        Layer("b", "b", "b", "COORDINATE", 4, LATTICE, gappy=True),
    ),
)


def answer() -> dict[str, np.ma.MaskedArray]:
    """The right answer, column by column."""
    rows, cols = np.divmod(np.arange(LAYERS.cells), LATTICE.cols)
    columns = {"x": LATTICE.x(cols), "y": LATTICE.y(rows)}
    masked = {name: np.ma.masked_array(values, np.zeros(len(values), bool)) for name, values in columns.items()}
    for layer in LAYERS.layers:
        masked[layer.column] = np.ma.masked_array(layer.values(rows, cols), layer.missing(rows, cols))
    return masked


def judged(columns: dict[str, np.ma.MaskedArray], batch_rows: int = 100):
    table = pa.table({name: pa.array(column.data, mask=column.mask) for name, column in columns.items()})
    return check(table.to_batches(max_chunksize=batch_rows), LAYERS)


def test_right_answer():
    verdict = judged(answer())
    assert verdict.right
    assert verdict.sentence() == "yes"
    assert verdict.rows == 37 * 41


def test_sets_have_zeros_and_gaps():
    columns = answer()
    assert (columns["a"] == 0).sum() > 10
    assert 0.05 < columns["b"].mask.mean() < 0.15


def test_any_order_is_right_and_told():
    order = np.random.default_rng(7).permutation(LAYERS.cells)
    verdict = judged({name: column[order] for name, column in answer().items()})
    assert verdict.right
    assert verdict.sentence() == "yes, unordered"


def test_lost_zeros_are_counted():
    columns = answer()
    zeros = columns["a"].data == 0
    columns["a"].mask = columns["a"].mask | zeros
    verdict = judged(columns)
    assert not verdict.right
    assert verdict.lost["a"] == verdict.zeros_lost == zeros.sum()
    assert "every zero" in verdict.sentence()


def test_value_where_there_is_none():
    columns = answer()
    columns["b"].mask = np.zeros(LAYERS.cells, bool)
    verdict = judged(columns)
    assert not verdict.right
    assert verdict.invented == {"a": 0, "b": int(answer()["b"].mask.sum())}


def test_last_bit_of_one_value():
    columns = answer()
    columns["a"][500] = np.nextafter(columns["a"].data[500], np.inf)
    verdict = judged(columns)
    assert not verdict.right
    assert verdict.wrong == {"a": 1, "b": 0}


def test_layer_one_column_off():
    columns = answer()
    columns["a"] = np.ma.masked_array(np.roll(columns["a"].data, 1), columns["a"].mask)
    assert not judged(columns).right


@pytest.mark.parametrize(
    ("take", "twice"),
    [(np.r_[0 : LAYERS.cells, 5], 1), (np.r_[0 : LAYERS.cells - 1, 5], 1), (np.r_[1 : LAYERS.cells], 0)],
    ids=["one more", "one instead of another", "one less"],
)
def test_each_cell_once(take: np.ndarray, twice: int):
    verdict = judged({name: column[take] for name, column in answer().items()})
    assert not verdict.right
    assert verdict.cells_twice == twice


def test_row_off_the_lattice():
    columns = answer()
    columns["x"][3] += LATTICE.step[0] * 0.3
    verdict = judged(columns)
    assert not verdict.right
    assert verdict.rows_off_lattice == 1


def test_rounded_coordinates_are_told():
    columns = answer()
    columns["x"] = np.ma.masked_array(columns["x"].data.round(6), columns["x"].mask)
    verdict = judged(columns)
    assert verdict.right
    assert "rounded" in verdict.sentence()


def test_other_columns_and_types():
    columns = answer()
    assert "columns" in judged({**columns, "c": columns["a"]}).sentence()
    assert "float64" in judged({**columns, "a": columns["a"].astype(np.float32)}).sentence()


def test_rows_that_no_layer_has():
    """A set whose every layer is gappy has fewer rows than cells, and each row must have a value."""
    gappy = LayerSet("gappy", "", (replace(LAYERS.layers[1], column="a"),))
    rows, cols = np.divmod(np.arange(gappy.cells), LATTICE.cols)
    kept = ~gappy.layers[0].missing(rows, cols)
    rows, cols = rows[kept], cols[kept]
    table = pa.table({"x": LATTICE.x(cols), "y": LATTICE.y(rows), "a": gappy.layers[0].values(rows, cols)})
    assert gappy.count_rows() == kept.sum() < gappy.cells
    assert check(table.to_batches(), gappy).right
