"""Migrations from Python, on the real suite: there, back, in place, and what is refused."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest

import rasterloom as rl

if TYPE_CHECKING:
    from collections.abc import Iterator

    import suite as demo_suite

ROWS, COLS = 300, 200
GRID = rl.Grid("EPSG:32633", rows=ROWS, cols=COLS, origin_x=1000.0, origin_y=9000.0, step_x=10.0, step_y=10.0)
VALUES = np.add.outer(np.arange(ROWS) * 1000, np.arange(COLS)).astype("float32")


@pytest.fixture
def database(suite: demo_suite.Suite) -> Iterator[psycopg.Connection[Any]]:
    """The suite's database, with a legacy table of 60,000 cells."""
    with psycopg.connect(suite.database_url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS public.moving")
        connection.execute(
            "CREATE TABLE public.moving (row_idx int, col_idx int, value real, PRIMARY KEY (row_idx, col_idx))"
        )
        connection.execute(
            "INSERT INTO public.moving SELECT r, c, r * 1000 + c"
            " FROM generate_series(0, %s) r, generate_series(0, %s) c",
            (ROWS - 1, COLS - 1),
        )
        yield connection
        connection.execute("DROP TABLE public.moving")


@pytest.fixture
def layer(loom: rl.Loom, database: psycopg.Connection[Any]) -> Iterator[rl.Layer]:  # noqa: ARG001
    yield loom.register("moving", "moving", GRID)
    for migration in loom.migrations.list("moving"):
        if migration.last.state == "CUT_OVER":
            migration.rollback()
        elif not migration.last.over:
            migration.abort()
    loom.drop("moving")


def values(loom: rl.Loom) -> np.ndarray:
    return loom.merge(["moving"], progress=False).to_arrow()["moving"].to_numpy().reshape(ROWS, COLS)


def test_there_and_back_and_there(
    loom: rl.Loom, database: psycopg.Connection[Any], layer: rl.Layer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert layer.format == "LEGACY"
    plan = loom.migrations.plan("moving")
    assert (plan.possible, plan.rows, plan.refusals) == (True, ROWS * COLS, ())
    assert plan.disk_bytes > 0
    assert "migration of moving: possible" in str(plan)
    assert "60,000" in plan._repr_html_()

    migration = loom.migrations.start("moving", key="there", progress=True)
    assert loom.migrations.start("moving", key="there").id == migration.id
    with pytest.raises(rl.AlreadyExists) as twice:
        loom.migrations.start("moving")
    assert twice.value.reason == "MIGRATION_EXISTS"
    done = migration.wait()
    assert (done.state, done.condition, done.fraction, done.over) == ("VERIFIED", "RUNNING", 1.0, False)
    assert "100 %" in capsys.readouterr().err
    found = done.verification
    assert found is not None
    assert (found.old_rows, found.new_rows, found.differing) == (ROWS * COLS, ROWS * COLS, ())
    assert found.old_hash == found.new_hash != ""
    assert "cut_over() or abort()" in str(migration)

    assert migration.cut_over().state == "CUT_OVER"
    assert loom.layer("moving").format == "COORDINATE"
    assert np.array_equal(values(loom), VALUES)
    database.execute("UPDATE moving SET value = -1 WHERE row_idx = 7 AND col_idx = 9")
    changed = VALUES.copy()
    changed[7, 9] = -1
    assert np.array_equal(values(loom), changed)
    assert migration.rollback().state == "ROLLED_BACK"
    assert loom.layer("moving").format == "LEGACY"
    assert np.array_equal(values(loom), changed)

    again = loom.migrations.start("moving")
    again.wait()
    again.cut_over()
    with pytest.raises(rl.InvalidArgument):
        again.finalize()
    assert again.finalize(drop_old_table=True).over
    assert np.array_equal(values(loom), changed)
    listed = loom.migrations.list("moving")
    assert [m.last.state for m in listed][:2] == ["FINALIZED", "ROLLED_BACK"]
    assert "FINALIZED" in str(listed)
    assert "<table>" in listed._repr_html_()
    assert "<table>" in listed[0]._repr_html_()
    assert loom.migrations.get(again.id).last.over


@pytest.mark.parametrize("in_place", [False, True])
def test_paused_resumed_and_given_up(loom: rl.Loom, layer: rl.Layer, in_place: bool) -> None:
    migration = loom.migrations.start("moving", rows_per_second=5000, in_place=in_place)
    assert migration.in_place == in_place
    with closing(migration.watch()) as statuses:  # pyright: ignore[reportArgumentType]
        for status in statuses:
            if status.state == "BACKFILLING":
                break
    stale = loom.migrations.get(migration.id)
    assert migration.pause().condition == "PAUSED"
    assert migration.wait().condition == "PAUSED"
    with pytest.raises(rl.Aborted) as caught:
        stale.pause()
    assert caught.value.reason == "MIGRATION_CHANGED"
    assert stale.status().condition == "PAUSED"
    with pytest.raises(rl.FailedPrecondition) as early:
        migration.cut_over()
    assert early.value.reason == "MIGRATION_STATE"
    assert migration.resume().condition == "RUNNING"
    migration.status()
    assert migration.abort().state == "ABORTED"
    assert loom.layer("moving") == layer
    assert np.array_equal(values(loom), VALUES)


def test_to_tiles_and_back_and_there(
    loom: rl.Loom, database: psycopg.Connection[Any], layer: rl.Layer, capsys: pytest.CaptureFixture[str]
) -> None:
    before = loom.merge(["moving"], progress=False).to_arrow()
    plan = loom.migrations.plan("moving", to="tiled")
    assert (plan.possible, plan.rows, plan.tiles, plan.rows_without_value) == (True, ROWS * COLS, 2, 0)
    migration = loom.migrations.start("moving", to="tiled", progress=True)
    assert (migration.to, migration.sql_view) == ("tiled", False)
    found = migration.wait().verification
    assert found is not None
    assert (found.old_rows, found.new_rows, found.tiles, found.differing) == (ROWS * COLS, ROWS * COLS, 2, ())
    assert found.old_hash == found.new_hash != ""
    assert "100 %" in capsys.readouterr().err
    assert "2 tiles" in str(migration)
    migration.cut_over()
    assert loom.layer("moving").format == "TILED"
    # The same table to the last bit, and its type.
    assert loom.merge(["moving"], progress=False).to_arrow().equals(before)
    # What SQL writes is read at once.
    database.execute("UPDATE moving SET value = -1 WHERE row_idx = 7 AND col_idx = 9")
    changed = VALUES.copy()
    changed[7, 9] = -1
    assert np.array_equal(values(loom), changed)
    # The existing catalog names the table still, and the layer stays tiles.
    assert migration.rollback().state == "ROLLED_BACK"
    assert loom.layer("moving").format == layer.format
    assert np.array_equal(values(loom), changed)

    again = loom.migrations.start("moving", to="tiled", sql_view=True)
    again.wait()
    again.cut_over()
    assert again.finalize(drop_old_table=True).over
    assert np.array_equal(values(loom), changed)
    seen = database.execute("SELECT row_idx, col_idx, value FROM moving ORDER BY 1, 2").fetchall()
    assert np.array_equal(np.array([v for _, _, v in seen], "float32").reshape(ROWS, COLS), changed)
    database.execute("DROP VIEW moving")
    database.execute("CREATE TABLE public.moving ()")  # for the fixture to drop


def test_tiles_without_a_name(loom: rl.Loom, database: psycopg.Connection[Any], layer: rl.Layer) -> None:
    assert layer.format == "LEGACY"
    migration = loom.migrations.start("moving", to="tiled")
    migration.wait()
    migration.cut_over()
    with pytest.raises(rl.InvalidArgument) as unsaid:
        migration.finalize(drop_old_table=True)
    assert unsaid.value.fields["field"] == "drop_name"
    migration.finalize(drop_old_table=True, drop_name=True)
    assert np.array_equal(values(loom), VALUES)
    with pytest.raises(psycopg.errors.UndefinedTable):
        database.execute("SELECT FROM moving")
    database.execute("CREATE TABLE public.moving ()")  # for the fixture to drop
    with pytest.raises(rl.InvalidArgument):
        loom.migrations.start("moving", to="tiled", in_place=True)
    with pytest.raises(rl.InvalidArgument):
        loom.migrations.plan("moving", to="zarr")  # pyright: ignore[reportArgumentType]


def test_what_is_refused(loom: rl.Loom, database: psycopg.Connection[Any], layer: rl.Layer) -> None:
    with pytest.raises(rl.NotFound) as nothing:
        loom.migrations.plan("movin")
    assert nothing.value.reason == "LAYER_NOT_FOUND"
    with pytest.raises(rl.NotFound) as unknown:
        loom.migrations.get("m999999")
    assert unknown.value.reason == "MIGRATION_NOT_FOUND"
    with pytest.raises(rl.ResourceExhausted) as full:
        loom.migrations.start("moving", disk_headroom=1000)
    assert full.value.reason == "DISK_FULL"
    database.execute("INSERT INTO moving VALUES (%s, 0, 1)", (ROWS + 5,))
    plan = loom.migrations.plan("moving")
    assert not plan.possible
    assert [(r.code, r.count) for r in plan.refusals] == [("OFF_GRID", 1)]
    assert "not possible" in str(plan)
    with pytest.raises(rl.FailedPrecondition) as refused:
        loom.migrations.start("moving")
    assert refused.value.reason == "MIGRATION_REFUSED"
    assert loom.layer("moving").table == layer.table
