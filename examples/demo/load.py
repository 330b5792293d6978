"""Stores the rasters the way years of use leave them in a database.

A catalog `resampled_datasets` and a table per layer, written by three
generations of code with three ideas of how a pixel table looks, each with its
own idea of what a missing cell is. Nothing here knows Rasterloom: this is what
it meets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import psycopg
from psycopg import sql
from rasters import DATA, Raster, read_all

CATALOG = "resampled_datasets"
CREATE_CATALOG = f"""CREATE TABLE public.{CATALOG} (
    id SERIAL PRIMARY KEY, name TEXT NOT NULL UNIQUE, source_path TEXT,
    target_resolution DOUBLE PRECISION, target_crs TEXT, bounds DOUBLE PRECISION[],
    shape_height INTEGER, shape_width INTEGER, data_type TEXT, resampling_method TEXT,
    band_name TEXT, data_table_name TEXT, metadata JSONB, created_at TIMESTAMP DEFAULT now())"""
WINDOW = 64  # rows and columns that the windowed writer stores at a time
SEED = 19990101  # of the one table whose rows lie in no order

Writer = Literal["legacy", "coordinate", "windowed"]
Missing = Literal["absent", "null", "nan", "nodata"]


@dataclass(frozen=True)
class Habit:
    """How some past code stored a layer."""

    writer: Writer
    missing: Missing = "absent"
    passthrough: bool = False  # the prefix of a legacy table: passthrough_ or resampled_
    storage_table: str = ""  # windowed: the table's name, if the catalog tells it
    south_up: bool = False  # row 0 is the south row, as in the file
    corner: bool = False  # x_coord, y_coord are the cell's upper-left corner
    indices: bool = True  # row_idx and col_idx are still there
    key: bool = True  # the table has a primary key, and its rows lie in order
    nodata: float | None = None
    target_resolution: float | None = None  # what the catalog claims, if not the truth
    extra: dict[str, object] = field(default_factory=dict)


def habit(name: str) -> Habit:
    """How the layer of this name was stored."""
    if name == "coads_sst_jan":
        return Habit("legacy")
    if name == "oisst_19811231":
        return Habit("coordinate", missing="nodata", nodata=-999.0, corner=True)
    if name == "nc_relief":
        return Habit("legacy", passthrough=True, nodata=-32768.0, target_resolution=1 / 12)
    if name == "nc_land":
        return Habit("windowed", storage_table="windowed_landmask")
    if name == "olinda_dem":
        return Habit("coordinate", target_resolution=90.0)
    kind, number = name.rsplit("_" if "_" in name else "-b", 1)
    n = int(number)
    if kind == "nc_pr":
        if n <= 6:
            return Habit("legacy", passthrough=True)
        if n <= 9:
            return Habit("legacy", passthrough=True, missing="null")
        if n == 10:
            return Habit("legacy", key=False)
        return Habit("legacy", missing="nodata", nodata=float(np.float32(1e20)))
    if kind == "nc_tas":
        # Written from xarray, which keeps the order of the file: south first.
        if n <= 5:
            return Habit("coordinate", south_up=True)
        if n == 6:
            return Habit("coordinate", indices=False)
        if n <= 9:
            return Habit("windowed", missing="nan", storage_table=f"windowed_store_{name}")
        return Habit("windowed", missing="null")
    return {
        1: Habit("legacy", passthrough=True),
        2: Habit("legacy"),
        3: Habit("coordinate"),
        4: Habit("coordinate", target_resolution=30.0),  # what everybody says a Landsat pixel is
        5: Habit("windowed", storage_table="windowed_olinda_band_5"),
        6: Habit("windowed"),
    }[n]


def table_name(raster: Raster, stored: Habit) -> str:
    """Name of the layer's table."""
    plain = raster.name.replace("-", "_")
    if stored.writer == "windowed":
        return stored.storage_table or f"windowed_{plain}"
    return f"{'passthrough' if stored.passthrough else 'resampled'}_{plain}"


class NotOurs(Exception):
    """The database has a catalog that the demo did not write."""


def load(database_url: str) -> int:
    """Store the rasters, once. Returns the number of cells stored, 0 if they were there.

    Everything happens in one transaction. A catalog that somebody else wrote is
    left alone: NotOurs.
    """
    mark = f"rasterloom demo {fingerprint()}"
    with psycopg.connect(database_url) as connection, connection.cursor() as cursor:
        found = cursor.execute(
            "SELECT obj_description(to_regclass(%s), 'pg_class'), to_regclass(%s) IS NOT NULL",
            (f"public.{CATALOG}",) * 2,
        ).fetchone()
        comment, exists = found or (None, False)
        if comment == mark:
            return 0
        if exists and not (comment or "").startswith("rasterloom demo "):
            raise NotOurs(f"the database has a table public.{CATALOG} already, and the demo does not touch it")
        return store(cursor, read_all(), mark)


def fingerprint() -> str:
    """Hash of the rasters and of this code: when it changes, tables are made anew."""
    digest = hashlib.sha256()
    for path in [*sorted(DATA.rglob("*.*")), Path(__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def store(cursor: psycopg.Cursor, rasters: list[Raster], mark: str) -> int:
    """Make the catalog and the tables; returns the number of cells stored."""
    cursor.execute(f"DROP TABLE IF EXISTS public.{CATALOG}")
    cursor.execute(CREATE_CATALOG)
    cursor.execute(sql.SQL("COMMENT ON TABLE public.{} IS {}").format(sql.Identifier(CATALOG), sql.Literal(mark)))
    cells = 0
    for raster in rasters:
        stored = habit(raster.name)
        cursor.execute(catalog_row(raster, stored))
        cells += store_cells(cursor, raster, stored)
    return cells


def catalog_row(raster: Raster, stored: Habit) -> sql.Composed:
    """Write down the statement that puts the layer into the catalog."""
    metadata: dict[str, object] = {"units": raster.unit}
    if stored.passthrough:
        metadata["passthrough"] = True
    if stored.nodata is not None:
        metadata["nodata"] = stored.nodata
    if stored.writer == "windowed":
        metadata["memory_aware"] = True
        if stored.storage_table:
            metadata["storage_table"] = stored.storage_table
    rows, cols = raster.values.shape
    row = (
        raster.name,
        raster.source,
        stored.target_resolution or raster.step[0],
        raster.crs,
        list(raster.bounds),
        rows,
        cols,
        raster.values.dtype.name,
        "none" if stored.passthrough else "bilinear",
        raster.band,
        None if stored.writer == "windowed" else table_name(raster, stored),
        json.dumps(metadata),
    )
    return sql.SQL(
        f"""INSERT INTO public.{CATALOG} (name, source_path, target_resolution, target_crs, bounds, shape_height,
            shape_width, data_type, resampling_method, band_name, data_table_name, metadata) VALUES ({{}})"""
    ).format(sql.SQL(", ").join(map(sql.Literal, row)))


def columns_of(stored: Habit) -> list[str]:
    """Name the columns of the layer's table, in their order."""
    columns = ["row_idx", "col_idx"] if stored.indices else []
    if stored.writer != "legacy":
        columns += ["x_coord", "y_coord"]
    return [*columns, "value"]


def create_table(raster: Raster, stored: Habit) -> sql.Composed:
    """Write down the statement that makes the layer's table."""
    types = {"row_idx": "INTEGER", "col_idx": "INTEGER"}
    body = [
        sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(types.get(column, "DOUBLE PRECISION")))
        for column in columns_of(stored)
    ]
    if stored.key and stored.indices:
        body.append(sql.SQL("PRIMARY KEY (row_idx, col_idx)"))
    name = sql.Identifier("public", table_name(raster, stored))
    return sql.SQL("CREATE TABLE {} ({})").format(name, sql.SQL(", ").join(body))


def store_cells(cursor: psycopg.Cursor, raster: Raster, stored: Habit) -> int:
    """Make the layer's table; returns its number of rows."""
    name = sql.Identifier("public", table_name(raster, stored))
    cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name))
    cursor.execute(create_table(raster, stored))
    records = cells(raster, stored)
    with cursor.copy(sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(name)) as stream:
        for part in binary_rows(records, columns_of(stored), null=stored.missing == "null"):
            stream.write(part)
    cursor.execute(sql.SQL("ANALYZE {}").format(name))
    return len(records)


def cells(raster: Raster, stored: Habit) -> np.ndarray:
    """Give the rows of the table in the order of the heap, with every column there could be."""
    values, mask = raster.values.data, np.ma.getmaskarray(raster.values)
    rows, cols = np.indices(values.shape)
    half = 0.0 if stored.corner else 0.5
    step_x, step_y = raster.step
    out = np.zeros(
        values.shape,
        [("row_idx", "i4"), ("col_idx", "i4"), ("x_coord", "f8"), ("y_coord", "f8"), ("value", "f8"), ("missing", "?")],
    )
    out["row_idx"] = values.shape[0] - 1 - rows if stored.south_up else rows
    out["col_idx"] = cols
    out["x_coord"] = raster.bounds[0] + (cols + half) * step_x
    out["y_coord"] = raster.bounds[3] - (rows + half) * step_y
    out["value"] = values
    out["missing"] = mask
    fill = {"nan": np.nan, "nodata": stored.nodata, "null": 0.0, "absent": 0.0}[stored.missing]
    out["value"][mask] = fill
    out = out[~mask] if stored.missing == "absent" else out.ravel()
    if not stored.key:
        np.random.default_rng(SEED).shuffle(out)
    elif stored.writer == "windowed":
        window_row, window_col = out["row_idx"] // WINDOW, out["col_idx"] // WINDOW
        out = out[np.lexsort((out["col_idx"], out["row_idx"], window_col, window_row))]
    elif stored.south_up:
        out = out[np.lexsort((out["col_idx"], out["row_idx"]))]
    return out


def binary_rows(records: np.ndarray, columns: list[str], *, null: bool) -> Iterator[bytes]:
    """Write rows as PostgreSQL's binary COPY format.

    One big-endian record per row: the number of fields, then each field's length
    and bytes. A NULL has length -1 and no bytes, so rows with one are written apart.
    """
    yield b"PGCOPY\n\xff\r\n\0" + bytes(8)
    missing = records["missing"] if null else np.zeros(len(records), bool)
    for part, with_value in ((records[~missing], True), (records[missing], False)):
        layout: list[tuple[str, str]] = [("fields", ">i2")]
        for name in columns:
            layout.append((f"{name}_length", ">i4"))
            if with_value or name != "value":
                layout.append((name, records.dtype[name].newbyteorder(">").str))
        packed = np.zeros(len(part), layout)
        packed["fields"] = len(columns)
        for name in columns:
            absent = name == "value" and not with_value
            packed[f"{name}_length"] = -1 if absent else records.dtype[name].itemsize
            if not absent:
                packed[name] = part[name]
        yield packed.tobytes()
    yield b"\xff\xff"


if __name__ == "__main__":
    import sys

    print(f"{load(sys.argv[1]):,} cells stored")
