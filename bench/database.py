"""The database of the benchmark: a server of its own, and the sets in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from bench import machine, tiles
from bench.narrate import tell
from bench.sets import CRS, Layer, LayerSet

SETTINGS = {
    # A quarter of the memory, as PostgreSQL's documentation recommends.
    "shared_buffers": f"{max(1, machine.memory_bytes() // 4 >> 30)}GB",
    # The sets can be made again, so nothing is written twice for them.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "16GB",
    "synchronous_commit": "off",
}
CATALOG = "resampled_datasets"
LOADERS = 2  # tables that are made at the same time


@contextmanager
def own_server(binary: Path, data_dir: Path) -> Iterator[str]:
    """Run a PostgreSQL of our own, by the suite that brings one; gives its URL."""
    with _keeper(binary, data_dir) as url:
        if not _needs_restart(url):
            yield url
            return
    with _keeper(binary, data_dir) as url:
        yield url


@contextmanager
def _keeper(binary: Path, data_dir: Path) -> Iterator[str]:
    """Run the suite for the sake of its database only."""
    ready = data_dir.parent / "database.ready.json"
    ready.unlink(missing_ok=True)
    log = (data_dir.parent / "database.log").open("wb")
    with log:
        process = subprocess.Popen(
            [binary, "up", "--listen", "127.0.0.1:0", "--flight-listen", "127.0.0.1:0",
             "--data-dir", data_dir, "--ready-file", ready],
            env={k: v for k, v in os.environ.items() if k != "DATABASE_URL"},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield json.loads(await_file(ready, process, Path(log.name)))["database_url"]
    finally:
        process.terminate()
        process.wait(60)


def await_file(path: Path, process: subprocess.Popen[bytes], log: Path, seconds: float = 240) -> str:
    """Wait for a file that a process writes when it is ready."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if path.exists():
            return path.read_text()
        if process.poll() is not None:
            break
        time.sleep(0.02)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
    sys.exit(f"rasterloom up did not become ready (status {process.poll()}); its log ends with:\n{tail}")


def _needs_restart(url: str) -> bool:
    """Give the server our settings; whether it has to start again for them."""
    with psycopg.connect(url, autocommit=True) as connection:
        changed = False
        for name, value in SETTINGS.items():
            row = connection.execute(f"SHOW {name}").fetchone()
            assert row is not None
            if row[0] != value:
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
                changed = True
        return changed


def load(url: str, sets: list[LayerSet]) -> None:
    """Make the layers that are not there yet, and the catalog that names them."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"""CREATE TABLE IF NOT EXISTS public.{CATALOG} (
                    id serial PRIMARY KEY, name text NOT NULL UNIQUE, source_path text,
                    target_resolution double precision, target_crs text, bounds double precision[4],
                    shape_height integer, shape_width integer,
                    data_type text, resampling_method text, band_name text, data_table_name text,
                    metadata jsonb, created_at timestamp DEFAULT now())"""
        )
        there = {
            name: (recipe, present)
            for name, recipe, present in connection.execute(
                f"""SELECT name, metadata->>'recipe', to_regclass('public.' || data_table_name) IS NOT NULL
                    FROM public.{CATALOG}"""
            )
        }
    missing = [layer for s in sets for layer in s.layers if there.get(layer.name) != (layer.recipe, True)]
    if missing:
        cells = sum(layer.lattice.rows * layer.lattice.cols for layer in missing)
        tell(f"making {len(missing)} tables of {cells / 1e6:,.1f} M cells in all")
        began = time.monotonic()
        with ThreadPoolExecutor(LOADERS) as pool:
            for number, layer in enumerate(pool.map(lambda layer: _make(url, layer), missing), 1):
                if len(missing) <= 8 or number % 10 == 0:
                    tell(f"  {number} of {len(missing)}: {layer.table}, {time.monotonic() - began:.0f} s")


def make_table(url: str, layer: Layer) -> None:
    """Make the table of a layer, as a table in use is."""
    with psycopg.connect(url) as connection:
        connection.execute(f"DROP TABLE IF EXISTS public.{layer.table}")
        connection.execute(layer.create_sql())
        # In the transaction that made the table, at wal_level minimal, rows skip the log.
        if layer.kind == "TILED":
            tiles.fill(connection, layer)
        else:
            connection.execute(layer.fill_sql())
        key = "tile_row, tile_col" if layer.kind == "TILED" else "row_idx, col_idx"
        connection.execute("SET LOCAL maintenance_work_mem = '1GB'")
        connection.execute(f"ALTER TABLE public.{layer.table} ADD PRIMARY KEY ({key})")
    with psycopg.connect(url, autocommit=True) as connection:
        # What a table in use has: hint bits, visibility map, statistics.
        connection.execute(f"VACUUM (FREEZE, ANALYZE) public.{layer.table}")


def _make(url: str, layer: Layer) -> Layer:
    make_table(url, layer)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"""INSERT INTO public.{CATALOG} (name, source_path, target_resolution, target_crs, bounds, shape_height,
                    shape_width, data_type, resampling_method, band_name, data_table_name, metadata)
                VALUES (%s, %s, %s, %s, %s, %s, %s, 'float64', 'none', 'band_1', %s, %s)
                ON CONFLICT (name) DO UPDATE SET target_resolution = excluded.target_resolution,
                    target_crs = excluded.target_crs, bounds = excluded.bounds, shape_height = excluded.shape_height,
                    shape_width = excluded.shape_width, data_table_name = excluded.data_table_name,
                    metadata = excluded.metadata""",
            (
                layer.name, f"{layer.name}.tif", layer.lattice.step[0], CRS, list(layer.lattice.bounds),
                layer.lattice.rows, layer.lattice.cols, layer.table,
                json.dumps({"passthrough": layer.table.startswith("passthrough_"), "recipe": layer.recipe}),
            ),
        )  # fmt: skip
    return layer


def warm(url: str, sets: list[LayerSet]) -> None:
    """Read every table and index once, so that nobody is the one to read the disk."""

    def read(layer: Layer) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            if layer.kind == "TILED":
                connection.execute(f"SELECT count(md5(data)) FROM public.{layer.table}")
                return
            connection.execute(f"SELECT count(value) FROM public.{layer.table}")
            connection.execute("SET enable_seqscan = off")
            connection.execute(f"SELECT count(row_idx) FROM public.{layer.table}")

    with ThreadPoolExecutor(LOADERS) as pool:
        list(pool.map(read, [layer for s in sets for layer in s.layers]))


def libpq_environment(url: str) -> dict[str, str]:
    """The environment for a program such as psql, so that no password is on its command line."""
    names = {"user": "PGUSER", "password": "PGPASSWORD", "host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE"}
    parts = conninfo_to_dict(url)
    return dict(os.environ) | {names[key]: str(value) for key, value in parts.items() if key in names}


def facts(url: str) -> dict[str, str]:
    """What of the server matters for speed."""
    with psycopg.connect(url) as connection:
        names = [
            "server_version",
            "shared_buffers",
            "work_mem",
            "max_parallel_workers_per_gather",
            "fsync",
            "wal_level",
        ]
        rows = {name: connection.execute(f"SHOW {name}").fetchone() for name in names}
        return {name: row[0] for name, row in rows.items() if row is not None}
