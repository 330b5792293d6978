"""A small old database: layers as three generations of code left them, and one whose table is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

import load
import psycopg
import psycopg.sql
import rasters

if TYPE_CHECKING:
    from collections.abc import Iterable

LAYERS = ("coads_sst_jan", "nc_pr_01", "nc_pr_10", "nc_tas_01", "nc_tas_07", "oisst_19811231")
LOST: LiteralString = """
    INSERT INTO resampled_datasets (name, target_crs, bounds, shape_height, shape_width, data_type, metadata)
    VALUES ('plants', 'EPSG:4326', '{-85,33,-74.875,37.125}', 33, 81, 'float32', '{}')"""


def make(server: str, name: str, layers: Iterable[str] = LAYERS) -> str:
    """Make a database of this name on the server, and give its URL."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
    url = psycopg.conninfo.make_conninfo(server, dbname=name)
    chosen = [raster for raster in rasters.read_all() if raster.name in set(layers)]
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        load.store(cursor, chosen, "made by the tests")
        cursor.execute(LOST)
    return url
