from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import rasterloom as rl

from .merged_table import table

SEED = 20261123
# Steps and origins where a sloppy way back from x, y to cells goes wrong.
LATTICES = [
    (20.0, 90.0, 2.0, 2.0),
    (288776.25000080315, 9120760.750028737, 28.49999999927449, 28.49999999927454),
    (-180.0, 90.0, 1 / 120, 1 / 120),
    (1e9, -1e9, 1e-3, 7e2),
]


def generated(rng: np.random.Generator, shape: tuple[int, int]) -> dict[str, np.ma.MaskedArray]:
    out = {}
    for dtype in (np.uint8, np.int16, np.int32, np.int64, np.float32, np.float64):
        values = rng.integers(0, 100, shape).astype(dtype)
        out[np.dtype(dtype).name] = np.ma.masked_array(values, rng.random(shape) < 0.4)
    out["whole"] = np.ma.masked_array(rng.integers(0, 255, shape).astype(np.uint8), np.zeros(shape, bool))
    return out


@pytest.mark.parametrize("origin", LATTICES)
@pytest.mark.parametrize("columns", ["xy", "row_col"])
def test_rows_go_back_to_their_cells(origin: tuple[float, float, float, float], columns: str) -> None:
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    for _ in range(20):
        row, col = (int(v) for v in rng.integers(-5000, 5000, 2))
        shape = tuple(int(v) for v in rng.integers(1, 40, 2))
        window = rl.Window(row, row + shape[0], col, col + shape[1])
        layers = generated(rng, shape)
        kept = ~np.logical_and.reduce([np.ma.getmaskarray(v) for v in layers.values()])
        merged = table(window, origin, layers, kept).drop_columns(["row", "col"] if columns == "xy" else ["x", "y"])
        arrays = rl.to_numpy(merged)
        assert list(arrays) == list(layers)
        for name, values in layers.items():
            assert arrays[name].dtype == values.dtype
            assert np.array_equal(arrays[name].mask, np.ma.getmaskarray(values))
            assert np.array_equal(arrays[name].compressed(), values.compressed())


def test_xarray_has_dims_types_and_facts() -> None:
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    window = rl.Window(-2, 5, 3, 14)
    layers = generated(rng, window.shape)
    merged = table(window, LATTICES[1], layers, np.ones(window.shape, bool))
    ds = rl.to_xarray(merged)
    assert dict(ds.sizes) == {"y": 7, "x": 11}
    # Coordinates of the dataset are those of the rows, to the bit.
    assert set(ds.x.values) == set(merged["x"].to_pylist())
    assert set(ds.y.values) == set(merged["y"].to_pylist())
    assert np.all(np.diff(ds.y) < 0)
    kinds = {name: str(variable.dtype) for name, variable in ds.items()}
    assert kinds == {
        "uint8": "float32",
        "int16": "float32",
        "int32": "float64",
        "int64": "float64",
        "float32": "float32",
        "float64": "float64",
        "whole": "uint8",
    }
    for name, values in layers.items():
        assert np.array_equal(np.isnan(ds[name]), np.ma.getmaskarray(values))
        assert np.array_equal(ds[name].values[~values.mask], values.compressed())
    assert ds.attrs == {"crs": "EPSG:4326", "reference": "a"}
    assert ds.int16.attrs["verdict"] == "IDENTICAL"


def test_parquet_keeps_the_lattice(tmp_path) -> None:
    window = rl.Window(0, 2, 0, 3)
    layers = {"a": np.ma.masked_array(np.arange(6.0).reshape(2, 3), np.eye(2, 3, dtype=bool))}
    merged = table(window, LATTICES[0], layers, np.ones((2, 3), bool))
    pq.write_table(merged, tmp_path / "a.parquet")
    again = pq.read_table(tmp_path / "a.parquet")
    assert rl.Lattice.of(again.schema) == rl.Lattice.of(merged.schema)
    assert rl.Lattice.of(merged.schema).cropped.shape == (2, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.replace_schema_metadata(None), "no rasterloom metadata"),
        (lambda t: t.replace_schema_metadata({"rasterloom": '{"version": 2}'}), "version 2"),
        (lambda t: t.drop_columns(["x", "y", "row", "col"]), "neither x and y nor row and col"),
        (lambda t: t.set_column(2, "row", pa.array([7] * t.num_rows, pa.int32())), "outside the window"),
    ],
)
def test_tables_that_have_no_lattice_are_refused(change, said: str) -> None:
    window = rl.Window(0, 2, 0, 3)
    layers = {"a": np.ma.masked_array(np.arange(6.0).reshape(2, 3), np.zeros((2, 3), bool))}
    merged = table(window, LATTICES[0], layers, np.ones((2, 3), bool))
    with pytest.raises(rl.InvalidArgument, match=said):
        rl.to_xarray(change(merged))


def test_a_layer_may_be_called_x_y_or_row() -> None:
    window = rl.Window(0, 2, 0, 3)
    layers = {"a": np.ma.masked_array(np.arange(6.0).reshape(2, 3), np.zeros((2, 3), bool))}
    merged = table(window, LATTICES[0], layers, np.ones((2, 3), bool)).drop_columns(["x", "y"])
    renamed = merged.rename_columns(["row", "col", "x"])
    facts = json.loads(merged.schema.metadata[b"rasterloom"])
    facts["layers"][0]["column"] = "x"
    arrays = rl.to_numpy(renamed.replace_schema_metadata({"rasterloom": json.dumps(facts)}))
    assert np.array_equal(arrays["x"], layers["a"])


@pytest.mark.parametrize("columns", [["x", "y"], ["x", "y", "row", "col"], ["row", "col"]])
def test_columns_of_layers_are_no_indices(columns: list[str]) -> None:
    """Layers called row and col have values, and no place of a cell."""
    window = rl.Window(0, 2, 0, 3)
    values = np.ma.masked_array(np.arange(6.0).reshape(2, 3), np.zeros((2, 3), bool))
    names = ("row", "col") if columns == ["x", "y"] else ("x", "y") if columns == ["row", "col"] else ("a", "b")
    merged = table(window, LATTICES[0], {"a": values, "b": values[::-1]}, np.ones((2, 3), bool))
    facts = json.loads(merged.schema.metadata[b"rasterloom"])
    for layer, name in zip(facts["layers"], names, strict=True):
        layer["column"] = name
    merged = merged.select([*columns, "a", "b"]).rename_columns([*columns, *names])
    merged = merged.replace_schema_metadata({"rasterloom": json.dumps(facts)})
    arrays = rl.to_numpy(merged)
    assert list(arrays) == list(names)
    assert np.array_equal(arrays[names[0]], values)
    assert np.array_equal(arrays[names[1]], values[::-1])
    if "x" in names:
        with pytest.raises(rl.InvalidArgument, match=r"needs the name '[xy]'.*; loom.merge\(\{column: layer\}\)"):
            rl.to_xarray(merged)
    else:
        assert np.array_equal(rl.to_xarray(merged)[names[0]], values)
