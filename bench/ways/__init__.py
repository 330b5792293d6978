"""Ways to get one table out of four, each as its practitioners write it.

A way is a module with ``to_arrow(job)``, which gives a table in memory, and
``to_parquet(job)``, which writes ``job.path``. Both start from nothing but the
names of the tables and the reference lattice: connecting is part of the time,
importing libraries is not. Columns are x, y and one per layer; missing is null.

Every way but Rasterloom and odc-geo takes a cell's row and column for its place
and never looks at the bounds of its layer. They are right here only because the
one layer that is off is off by less than half a pixel.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import pyarrow as pa

from bench.sets import LayerSet


@dataclass(frozen=True)
class Job:
    """What a way is asked to do."""

    layers: LayerSet
    database_url: str
    path: Path  # of the Parquet file
    geotiffs: Path  # folder of the layers as GeoTIFFs
    loom_url: str = ""


class Way(Protocol):
    """A module of this package."""

    def to_arrow(self, job: Job) -> pa.Table:
        """Give the table in memory."""
        ...

    def to_parquet(self, job: Job) -> None:
        """Write the table to ``job.path``."""
        ...


@dataclass(frozen=True)
class Peer:
    """What the report says about a way."""

    name: str  # of its module
    title: str
    source: str = "row tables"
    by_hand: bool = False  # a scatter that an expert wrote for the purpose
    old: bool = False  # the habit that all of this replaces
    command: str = ""  # a program that it needs


PEERS = (
    Peer("pandas_join", "the old pipeline: pandas, join on rounded x, y", old=True),
    Peer("sql_join", "one SQL full outer join, read by ADBC"),
    Peer("connectorx_polars", "ConnectorX + polars"),
    Peer("adbc_polars", "ADBC + polars"),
    Peer("adbc_duckdb", "ADBC + DuckDB join"),
    Peer("adbc_numpy", "ADBC + numpy scatter, 2 threads", by_hand=True),
    Peer("psql_numpy", "psql COPY binary + numpy scatter, 2 connections", by_hand=True, command="psql"),
    Peer("duckdb_postgres", "DuckDB with its postgres extension"),
    Peer("geotiff_numpy", "rasterio + numpy, deflate GeoTIFFs", source="GeoTIFF"),
    Peer("geotiff_odc", "odc-geo, deflate GeoTIFFs", source="GeoTIFF"),
)
LOOM = Peer("loom", "Rasterloom")
BY_NAME = {peer.name: peer for peer in (*PEERS, LOOM)}


def module(name: str) -> Way:
    """Import a way."""
    return cast("Way", importlib.import_module(f"bench.ways.{name}"))
