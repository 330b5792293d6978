"""Pictures of layers: what is drawn is what is stored, and no more is read than was said."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import rasterloom as rl


def drawn(figure: object) -> np.ma.MaskedArray:
    return np.ma.masked_invalid(figure.axes[0].images[0].get_array().astype(float))  # type: ignore[attr-defined]


def test_a_small_layer_is_drawn_cell_by_cell(loom: rl.Loom) -> None:
    layer = loom.layer("coads_sst_jan")
    figure = layer.preview()
    picture = drawn(figure)
    stored = loom.merge([layer.name], progress=False, extent="reference").to_numpy()[layer.name]
    assert picture.shape == stored.shape == (90, 180)
    assert np.array_equal(picture.mask, np.ma.getmaskarray(stored))
    assert np.array_equal(picture.compressed(), stored.astype(float).compressed())
    assert layer.grid is not None
    box = layer.grid.bounds
    assert figure.axes[0].images[0].get_extent() == [box.min_x, box.max_x, box.min_y, box.max_y]


def test_it_is_thinned_out_by_whole_cells(loom: rl.Loom) -> None:
    layer = loom.layer("olinda-l7-b1")
    stored = loom.merge([layer.name], progress=False, extent="reference").to_numpy()[layer.name].astype(float)
    # Of 3 x 3 cells the one in the middle is the nearest.
    picture = drawn(layer.preview(pixels=118))
    assert picture.shape == (117, 116)
    assert np.array_equal(picture.filled(-1), stored[1::3, 1::3][:117, :116].filled(-1))


def test_no_more_is_read_than_was_said(loom: rl.Loom) -> None:
    layer = loom.layer("olinda-l7-b1")
    stored = loom.merge([layer.name], progress=False, extent="reference").to_numpy()[layer.name].astype(float)
    figure = layer.preview(cells=2500)
    assert "50 x 50 of them" in figure.axes[0].get_title(loc="left")
    assert np.array_equal(drawn(figure).filled(-1), stored[151:201, 149:199].filled(-1))
    assert layer.grid is not None
    x, y = layer.grid.x - layer.grid.step_x / 4, layer.grid.y - layer.grid.step_y / 4
    box = (float(x[10]), float(y[29]), float(x[40]), float(y[19]))
    part = layer.preview(extent=box)
    assert loom.merge([layer.name], rows="every", extent=box, progress=False).to_arrow().num_rows == 300
    assert drawn(part).shape == (10, 30)
    assert np.array_equal(drawn(part).filled(-1), stored[20:30, 10:40].filled(-1))


def test_what_has_no_picture(loom: rl.Loom) -> None:
    layer = loom.layer("coads_sst_jan")
    with pytest.raises(rl.OutOfRange, match="no cell of layer"):
        layer.preview(extent=(1000, 0, 1010, 5))
    with pytest.raises(rl.InvalidArgument):
        layer.preview(pixels=0)
    assert copy.deepcopy(layer).preview(pixels=20).axes
    sent = pickle.loads(pickle.dumps(layer))  # noqa: S301
    assert sent == layer
    with pytest.raises(rl.FailedPrecondition, match="came without a connection"):
        sent.preview()
