"""Layers registered, checked and dropped, on the real suite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest

import rasterloom as rl

if TYPE_CHECKING:
    from collections.abc import Iterator

    import suite as demo_suite

ROWS, COLS = 7, 5
GRID = rl.Grid("EPSG:32633", rows=ROWS, cols=COLS, origin_x=1000.0, origin_y=2000.0, step_x=10.0, step_y=10.0)


@pytest.fixture
def database(suite: demo_suite.Suite) -> Iterator[psycopg.Connection[Any]]:
    """The suite's database, with a table of coordinates that no catalog lists."""
    with psycopg.connect(suite.database_url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS public.loose, public.bare")
        connection.execute(
            "CREATE TABLE public.loose (row_idx int, col_idx int, x_coord float8, y_coord float8, value real,"
            " PRIMARY KEY (row_idx, col_idx))"
        )
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO public.loose VALUES (%s, %s, %s, %s, %s)",
                [(r, c, float(GRID.x[c]), float(GRID.y[r]), r * 10 + c) for r in range(ROWS) for c in range(COLS)],
            )
        connection.execute("CREATE TABLE public.bare AS SELECT row_idx, col_idx, value FROM public.loose")
        yield connection
        connection.execute("DROP TABLE public.loose, public.bare")


@pytest.fixture
def registered(loom: rl.Loom, database: psycopg.Connection[Any]) -> Iterator[rl.Layer]:  # noqa: ARG001
    yield loom.register("loose", "loose", GRID, band="b1", dtype="uint8", nodata=-1.0)
    loom.drop("loose")


def test_a_registered_layer_is_one_like_any_other(loom: rl.Loom, registered: rl.Layer) -> None:
    assert registered == loom.layer("loose")
    assert (registered.format, registered.table, registered.band) == ("COORDINATE", "public.loose", "b1")
    assert (registered.declared_type, registered.stored_type, registered.nodata) == ("uint8", "float32", -1.0)
    assert (registered.registration, registered.grid) == ("CENTER", GRID)
    box = GRID.bounds
    by_shape = loom.register(
        "loose", "public.loose", bounds=box, shape=(ROWS, COLS), crs=GRID.crs, band="b1", dtype="uint8", nodata=-1
    )
    assert by_shape == registered
    by_resolution = loom.register(
        "loose", "loose", bounds=box, resolution=10, crs=GRID.crs, band="b1", dtype="uint8", nodata=-1
    )
    assert by_resolution == registered
    table = loom.merge(["loose"], progress=False).to_arrow()
    values = np.add.outer(np.arange(ROWS) * 10, np.arange(COLS)).astype("float32").ravel()
    assert np.array_equal(table["loose"].to_numpy(), values)
    assert np.array_equal(table["x"].to_numpy(), np.tile(GRID.x, ROWS))


def test_check_counts_and_names(loom: rl.Loom, database: psycopg.Connection[Any], registered: rl.Layer) -> None:
    checks = loom.check("loose", scan=True, coordinates=True)
    found = checks["loose"].coordinates
    assert found is not None
    assert (checks.ok, found.rows, found.exact, found.wrong, found.registration) == (True, 35, 35, 0, "CENTER")
    database.execute("UPDATE loose SET x_coord = x_coord + 2.5 WHERE row_idx = 3 AND col_idx = 1")
    database.execute("UPDATE loose SET y_coord = NULL WHERE row_idx = 2 AND col_idx = 4")
    database.execute("UPDATE loose SET y_coord = 'nan' WHERE row_idx = 6 AND col_idx = 0")
    checks = loom.check(["loose"], coordinates=True)
    found = checks[0].coordinates
    assert found is not None
    assert not checks.ok
    assert (found.exact, found.wrong, found.off, found.missing) == (32, 3, 2, 1)
    assert found.largest_error_pixels == (0.25, 0.0)
    assert [(o.row, o.col) for o in found.offenders] == [(2, 4), (3, 1), (6, 0)]
    assert (found.offenders[0].y, found.offenders[1].x) == (None, 1017.5)
    assert found.offenders[1].expected == (1015.0, 1965.0)
    assert {p.code for p in found.problems} == {"COORDINATES_OFF_GRID", "COORDINATES_HALF_FILLED"}
    assert "coordinates_off_grid" in str(checks)
    assert "<table>" in checks._repr_html_()
    assert loom.layer("loose") == registered
    # A flipped bit is nothing to a tolerance, and is found without one.
    database.execute("UPDATE loose SET x_coord = 1005.0000000000001 WHERE row_idx = 0 AND col_idx = 0")
    exact = loom.check("loose", coordinates=True, tolerance=0)[0].coordinates
    assert exact is not None
    assert (exact.off, exact.offenders[0].x) == (3, 1005.0000000000001)


def test_every_layer_of_the_demo_can_be_checked(loom: rl.Loom) -> None:
    checks = loom.check(coordinates=True)
    assert len(checks) == 35
    assert {check.layer.name: check.problems for check in checks if not check.ok} == {}
    compared = [check.coordinates for check in checks if check.coordinates]
    assert len(compared) == sum(check.layer.has_coordinates for check in checks) > 0
    assert all(found.rows > 0 and found.wrong == 0 for found in compared)


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        ({"name": "a;b"}, rl.InvalidArgument, "INVALID_ARGUMENT"),
        ({"table": "nothing"}, rl.NotFound, "TABLE_NOT_FOUND"),
        ({"table": "pg_catalog.pg_class"}, rl.PermissionDenied, "DATABASE_PERMISSION"),
        ({"name": "coads_sst_jan"}, rl.AlreadyExists, "LAYER_EXISTS"),
        ({"shape": (6, 5)}, rl.FailedPrecondition, "CELL_OFF_GRID"),
        ({"registration": "upper_left"}, rl.FailedPrecondition, "LAYER_UNREADABLE"),
        ({"south_up": True}, rl.FailedPrecondition, "LAYER_UNREADABLE"),
        ({"registration": "middle"}, rl.InvalidArgument, "INVALID_ARGUMENT"),
        ({"dtype": "complex64"}, rl.InvalidArgument, "INVALID_ARGUMENT"),
        ({"resolution": float("nan")}, rl.InvalidArgument, "INVALID_GRID"),
        ({"bounds": (1.0, 2.0, 3.0)}, rl.InvalidArgument, "INVALID_ARGUMENT"),
    ],
)
def test_what_cannot_be_registered(
    loom: rl.Loom,
    database: psycopg.Connection[Any],  # noqa: ARG001
    change: dict[str, Any],
    kind: type[rl.RasterloomError],
    reason: str,
) -> None:
    request = {"name": "loose", "table": "loose", "bounds": GRID.bounds, "shape": (ROWS, COLS), "crs": GRID.crs}
    with pytest.raises(kind) as caught:
        loom.register(**(request | change))
    assert caught.value.reason == reason
    assert "loose" not in loom.layers()


def test_drop_minds_generations(loom: rl.Loom, database: psycopg.Connection[Any]) -> None:  # noqa: ARG001
    dry = loom.register("bare", "bare", GRID, dry_run=True)
    assert "bare" not in loom.layers()
    layer = loom.register("bare", "bare", GRID)
    assert layer.format == dry.format == "LEGACY"
    with pytest.raises(rl.Aborted) as caught:
        loom.drop("bare", generation=layer.generation + 1)
    assert caught.value.fields["generation"] == str(layer.generation)
    assert loom.drop("bare", generation=layer.generation) == layer
    with pytest.raises(rl.NotFound):
        loom.drop("bare")
    assert loom.register("bare", "bare", GRID).generation == layer.generation + 1
    loom.drop("bare")
