"""The demo's comparison with numpy must notice what it is there to notice."""

from __future__ import annotations

import zipfile

import demo
import dump
import load
import numpy as np
import psycopg
import pyarrow as pa
import pytest
import rasters
import suite as demo_suite

import rasterloom as rl

from .merged_table import table


@pytest.fixture(scope="module")
def coads() -> tuple[pa.Table, dict[str, np.ma.MaskedArray]]:
    values = rasters.coads().values
    window = rl.Window(0, 90, 0, 180)
    kept = ~np.ma.getmaskarray(values)
    merged = table(window, (20.0, 90.0, 2.0, 2.0), {"sst": values}, kept).drop_columns(["row", "col"])
    return merged, {"sst": values}


def compare(merged: pa.Table, expected: dict[str, np.ma.MaskedArray]) -> int:
    return demo.compare(merged, rl.Lattice.of(merged.schema), expected)


def with_values(merged: pa.Table, values: pa.Array) -> pa.Table:
    return merged.set_column(2, "sst", values)


def test_equal_is_equal(coads: tuple[pa.Table, dict[str, np.ma.MaskedArray]]) -> None:
    assert compare(*coads) == 0


def test_rasters_are_stored_once_and_never_over_a_catalog_of_others(suite: demo_suite.Suite) -> None:
    assert load.load(suite.database_url) == 0
    name = "somebody_elses"
    with psycopg.connect(suite.database_url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
    theirs = psycopg.conninfo.make_conninfo(suite.database_url, dbname=name)
    with psycopg.connect(theirs) as connection:
        connection.execute("CREATE TABLE resampled_datasets AS SELECT 1 AS id")
    with pytest.raises(load.NotOurs, match="does not touch it"):
        load.load(theirs)
    with psycopg.connect(theirs) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (1,)
        connection.execute("DROP TABLE resampled_datasets")
    assert [load.load(theirs), load.load(theirs)] == [1_431_271, 0]
    with psycopg.connect(theirs) as connection:
        connection.execute("COMMENT ON TABLE resampled_datasets IS 'rasterloom demo of another day'")
    assert load.load(theirs) == 1_431_271


@pytest.mark.parametrize("at", [0, 5000, -1])
def test_one_bit_is_noticed(coads: tuple[pa.Table, dict[str, np.ma.MaskedArray]], at: int) -> None:
    merged, expected = coads
    values = merged["sst"].to_numpy().copy()
    values[at] = np.nextafter(values[at], np.float32(100))
    assert compare(with_values(merged, pa.array(values)), expected) == 1


def test_a_lost_value_a_lost_row_and_a_wrong_order_are_noticed(
    coads: tuple[pa.Table, dict[str, np.ma.MaskedArray]],
) -> None:
    merged, expected = coads
    mask = np.zeros(merged.num_rows, bool)
    mask[17] = True
    assert compare(with_values(merged, pa.array(merged["sst"].to_numpy(), mask=mask)), expected) == 1
    assert compare(merged.slice(1), expected) >= 1
    swapped = merged.take([1, 0, *range(2, merged.num_rows)])
    assert compare(swapped, expected) >= 1
    assert compare(pa.concat_tables([merged, merged.slice(0, 1)]), expected) >= 1


def test_the_shifted_layer_is_placed_by_longitude() -> None:
    """Every OISST cell lands on the COADS cell whose centre is one degree east of its own."""
    window = rl.Window(0, 90, 0, 180)
    some = {"a": np.ma.masked_array(np.zeros(window.shape), np.zeros(window.shape, bool))}
    merged = table(window, (20.0, 90.0, 2.0, 2.0), some, np.ones(window.shape, bool))
    placed = demo.expected_sst(rl.Lattice.of(merged.schema))["oisst_19811231"]
    source = rasters.oisst()
    assert placed.count() == source.values.count()
    coads_x = rasters.coads().x
    for column in (0, 9, 10, 11, 90, 179):
        there = np.argmin(abs((coads_x - source.x[column] - 1 + 180) % 360 - 180))
        assert np.ma.allequal(placed[:, there], source.values[:, column])
        assert np.array_equal(np.ma.getmaskarray(placed)[:, there], np.ma.getmaskarray(source.values)[:, column])


def test_the_program_brings_along_what_the_demo_stores() -> None:
    """The archive in the program has the tables that load.py would write from the rasters of data/, byte for byte."""
    with zipfile.ZipFile(dump.ARCHIVE) as archive:
        stored = {name: archive.read(name) for name in archive.namelist()}
    assert len(stored) == 31
    assert stored == dump.entries()
